"""What a job reports about itself, written to the run's journal: the built-in's log lines, our container's own events.

Everything keeps the time at which it happened, which identifies what was already recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tracking import names
from tracking.journal import Journal
from tracking.journal.checks import Event
from tracking.journal.events import read
from trainers.config.text import build, cast
from trainers.errors import BadInput
from trainers.sagemaker.builtin import log
from trainers.sagemaker.job.ledger import Entry

# Where the container sees its data (/opt/ml, or where that was moved); the journal has the path that the user gave.
_CONTAINER = re.compile(r"/ml/(work|input/data)/")
# The launcher's word counts for these, not the container's.
_LAUNCHERS_TAGS = (names.LAUNCHER, names.FINGERPRINT, names.JOURNAL_ID, names.STUDY, names.STUDY_RUN)


class EventLog:
    """Writes to ``journal`` and keeps in ``state`` what the end needs: accuracies, last step, artifacts to come."""

    def __init__(
        self, entry: Entry, journal: Journal, state: dict[str, Any], *, known_params: Mapping[str, str] | None = None
    ) -> None:
        """``known_params`` were written elsewhere and are left out here."""
        self._entry, self._journal, self._state = entry, journal, state
        self._params: dict[str, str] = dict(known_params or {})
        self._known: set[tuple[Any, ...]] = set()
        self._datasets: set[str] = set()
        self._artifacts: set[tuple[str, str]] = set()
        for event, _ in read(journal.dir):
            self._remember(event)

    def _remember(self, event: Event) -> None:
        if event["event"] == "param":
            self._params |= event["values"]
        elif event["event"] == "metric":
            self._known.add(_identity(event["values"], event["step"], event["time_ms"]))
        elif event["event"] == "dataset":
            self._datasets.add(event["context"])
        elif event["event"] == "artifact":
            self._artifacts.add((event["path"], event["artifact_path"]))

    def metrics(self, values: dict[str, float], *, step: int, time_ms: int) -> None:
        """Write metrics unless these very ones are there."""
        if values and _identity(values, step, time_ms) not in self._known:
            self._journal.metrics(values, step=step, time_ms=time_ms)

    def take_log_event(self, event: dict[str, Any], *, time_ms: int, machine: str = "") -> None:
        """Something that ``builtin.log.log_events`` found in a line of ``machine`` (``algo-1``; "" where it is the
        only one).

        Of several machines the run's curves are those of the one whose model is kept, which is known once it has
        saved; until then all wait. The others' have their machine's name behind theirs.
        """
        if machine and "keeper" not in self._state:
            self._state.setdefault("waiting", []).append([event, time_ms, machine])
            if event["event"] == "checkpoint":
                self._state["keeper"] = machine
                self._take_waiting()
            return
        ending = f"_{machine}" if machine and machine != self._state["keeper"] else ""
        if ending and event["event"] not in ("metric", "progress"):
            return
        progress = self._state.setdefault("progress", {})
        if event["event"] == "metric":
            self._take_settings(time_ms)
            if names.EPOCH_TRAINING_TIME_S in event["values"]:
                self._take_speed(event["step"], ending, time_ms)
            values = {name + ending: value for name, value in event["values"].items()}
            self.metrics(values, step=event["step"], time_ms=time_ms)
            self._see(event["step"], values)
        elif event["event"] == "progress":
            if "images_per_s" in event:
                # Batches between two lines are equally many: seconds a picture are what may be averaged.
                speed = self._state.setdefault("speed", {}).setdefault(ending, {"epoch": event["epoch"], "each_s": []})
                if speed["epoch"] != event["epoch"]:
                    speed |= {"epoch": event["epoch"], "each_s": []}
                speed["each_s"].append(1 / event["images_per_s"])
            if not ending:
                progress |= {key: event[key] for key in ("epoch", "images_per_s") if key in event}
        elif event["event"] == "checkpoint":
            self._state["saved_epoch"] = event["epoch"]
        elif event["event"] == "error":
            self._state["last_error"] = event["text"]
        elif event["event"] == "configuration":
            # Its momentum is 0 whatever is used; the list of what is used says more.
            known = {key: value for key, value in event["values"].items() if key != "momentum"}
            self._state["settings"] = {**known, **self._state.get("settings", {})}
        elif event["event"] == "parameters":
            self._state.setdefault("settings", {}).update(event["values"])

    def end_of_log(self, final: Mapping[str, float], time_ms: int) -> None:
        """Nothing more comes. ``final``: the last scores as AWS read them, for a job whose log is not readable."""
        if self._state.get("waiting"):  # no machine said that it saved
            self._state["keeper"] = min(machine for _, _, machine in self._state["waiting"])
            self._take_waiting()
        self._take_settings(time_ms)
        if not self._state.get("accuracies"):
            self.metrics(dict(final), step=int(self._state.get("last_step", 0)), time_ms=time_ms)

    def _take_waiting(self) -> None:
        for event, time_ms, machine in self._state.pop("waiting"):
            self.take_log_event(event, time_ms=time_ms, machine=machine)

    def _take_settings(self, time_ms: int) -> None:
        """What the log says the job was trained with, where it was not given."""
        found = self._state.pop("settings", {})
        together = {**found, **self._params}
        values = {}
        for key, text in found.items():
            name = names.PARAMS.get(key)
            if name is None or key in self._params:
                continue
            if name.used_with is not None:
                other, when = name.used_with
                if together.get(other) not in [str(value) for value in when]:
                    continue
            try:
                value = names.parse(name, text)
            except ValueError:
                continue
            if not name.choices or value in name.choices:
                values[key] = text
        self._journal.params(values, time_ms=time_ms)
        self._params |= values

    def _take_speed(self, epoch: int, ending: str, time_ms: int) -> None:
        speed = self._state.get("speed", {}).pop(ending, None)
        if speed is not None and speed["epoch"] == epoch:
            value = len(speed["each_s"]) / sum(speed["each_s"])
            self.metrics({names.IMAGES_PER_S + ending: value}, step=epoch, time_ms=time_ms)

    def take_event(self, event: Event) -> None:
        """An event of the container's journal."""
        kind, time_ms = event["event"], event["time_ms"]
        if kind == "metric":
            values = {name: float(value) for name, value in event["values"].items()}
            self.metrics(values, step=event["step"], time_ms=time_ms)
            self._see(event["step"], values)
        elif kind == "param":
            self._take_params(event["values"], time_ms)
        elif kind == "tag":
            tags = {
                k: v for k, v in event["values"].items() if k not in _LAUNCHERS_TAGS and not k.startswith("mlflow.")
            }
            self._journal.tags(tags, time_ms=time_ms)
        elif kind == "dataset" and event["context"] not in self._datasets:
            facts = {key: event[key] for key in ("context", "digest", "num_images", "num_classes")}
            source = str(event["source"])
            if self._entry.dataset and _CONTAINER.search(source):
                source = self._entry.dataset
            facts |= {"name": event["name"], "source": source, "profile": event.get("profile")}
            self._journal.dataset(**facts, time_ms=time_ms)
            self._datasets.add(event["context"])
        elif kind == "artifact":
            self._state.setdefault("artifacts", []).append([event["path"], event["artifact_path"], time_ms])

    def _take_params(self, values: dict[str, str], time_ms: int) -> None:
        """Those that the launcher did not know; with them the configuration is complete and gets its fingerprint."""
        self._journal.params({k: v for k, v in values.items() if k not in self._params}, time_ms=time_ms)
        self._params = {**values, **self._params}
        try:
            settings = {key: value for key, value in self._params.items() if key in names.PARAMS}
            settings.pop("use_pretrained_model", None)
            fingerprint = build(cast(settings)).fingerprint()
        except BadInput:
            return  # weights in a file that is not on this machine, for one
        self._journal.tags({names.FINGERPRINT: fingerprint}, time_ms=time_ms)

    def take_artifacts(self) -> None:
        """Hand over the files that the container's journal named, once they are here."""
        for path, folder, time_ms in self._state.get("artifacts", []):
            kept = self._journal.dir / path
            if (path, folder) not in self._artifacts and kept.exists():
                self._journal.artifact(kept, folder, time_ms=time_ms)
                self._artifacts.add((path, folder))

    def _see(self, step: int, values: dict[str, float]) -> None:
        progress = self._state.setdefault("progress", {})
        if names.VALIDATION_ACCURACY in values:
            self._state.setdefault("accuracies", {})[str(step)] = values[names.VALIDATION_ACCURACY]
            progress |= {"epoch": step, names.VALIDATION_ACCURACY: values[names.VALIDATION_ACCURACY]}
        if names.IMAGES_PER_S in values:
            progress[names.IMAGES_PER_S] = values[names.IMAGES_PER_S]
        if not any(name.startswith("system/") for name in values):
            self._state["last_step"] = max(step, self._state.get("last_step", 0))


def best(state: dict[str, Any]) -> tuple[int, float] | None:
    """The epoch with the best validation accuracy seen, and that accuracy."""
    return log.best_epoch({int(step): value for step, value in state.get("accuracies", {}).items()})


def _identity(values: dict[str, Any], step: int, time_ms: int) -> tuple[Any, ...]:
    return (time_ms, step, *sorted((name, str(float(value))) for name, value in values.items()))
