"""What the journals of a study's runs say, while they train and afterwards. Only read, so any process may look."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from tracking import names
from tracking.errors import TrackingError
from tracking.journal.events import Position, journals, read
from trainers.launch.progress.table import Row


@dataclass
class Followed:
    """What a run's journal says so far, read on from where the last look ended."""

    directory: Path
    position: Position = field(default_factory=Position)
    values: dict[int, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    status: str = ""
    reason: str = ""
    first_ms: int = 0
    last_ms: int = 0
    epoch_ms: int = 0
    took_ms: int = 0
    _num_findings: int = 0

    def findings(self) -> list[str]:
        """What the rules found since this was last asked."""
        found = str(self.tags.get(names.FINDINGS, "")).splitlines()
        new, self._num_findings = found[self._num_findings :], len(found)
        return new

    def look(self) -> Followed:
        """Read what is new."""
        for event, position in read(self.directory, self.position):
            self.position = position
            if moment := event.get("time_ms") or 0:
                goes_on = event["event"] == "status" and event["status"] == "RUNNING"  # nothing ran before it
                self.took_ms += max(0, moment - self.last_ms) if self.last_ms and not goes_on else 0
                self.first_ms = self.first_ms or moment
                self.last_ms = moment
            match event["event"]:
                case "metric":
                    value = float(event["values"].get(names.VALIDATION_ACCURACY, "nan"))
                    if value == value:
                        self.values[int(event["step"])] = value
                        self.epoch_ms = moment
                    self.metrics |= {key: float(value) for key, value in event["values"].items()}
                case "tag":
                    self.tags |= event["values"]
                case "status":
                    self.status, self.reason = event["status"], event.get("reason") or ""
        return self

    @property
    def time_s(self) -> float:
        """How long it took, or has taken so far; the time between two attempts does not count."""
        billed = self.metrics.get(names.BILLABLE_TIME_S, self.took_ms / 1000)
        return self.metrics.get(names.TOTAL_TIME_S, billed)

    def cost_usd(self, usd_per_hour: float | None) -> float | None:
        """What it cost, by its own account or by the hour."""
        known = self.metrics.get(names.COST_USD)
        return known if known is not None else None if usd_per_hour is None else self.time_s / 3600 * usd_per_hour

    def score(self) -> float | None:
        """What the run is chosen by: the pictures it held out, else the best epoch's validation accuracy."""
        held_out = self.metrics.get(names.accuracy(names.FOLD))
        if held_out is not None:
            return held_out
        best = self.metrics.get(names.BEST_VALIDATION_ACCURACY)
        return best if best is not None else max(self.values.values(), default=None)

    def row(self, name: str, state: str, epochs: int | None, usd_per_hour: float | None = None) -> Row:
        """The run's row in a table; what is left counts the time since the last epoch."""
        epoch, left_s = max(self.values, default=0), None
        if state == "running" and epochs is not None and 0 < epoch < epochs:
            each_s = self.metrics.get(names.EPOCH_TIME_S) or (self.epoch_ms - self.first_ms) / 1000 / epoch
            left_s = max(0.0, (epochs - epoch) * each_s - (time.time() - self.epoch_ms / 1000))
        return Row(
            name=name,
            state=state,
            epoch=epoch,
            epochs=epochs,
            score=self.score(),
            images_per_s=self.metrics.get(names.IMAGES_PER_S),
            left_s=left_s,
            cost_usd=self.cost_usd(usd_per_hour),
        )


class Journals:
    """The journals of one study's runs, by the key of the planned run; each is read as far as its tags once."""

    def __init__(self, root: Path, study: str) -> None:
        self._root, self._study = root, study
        self._known: set[Path] = set()
        self._by_key: dict[str, tuple[int, Path]] = {}

    def find(self, key: str) -> Path | None:
        """The newest journal of this planned run; with the key "" that of the study's own run."""
        for directory in journals(self._root) if self._root.is_dir() else ():
            if directory in self._known:
                continue
            try:
                found = _study_key(directory)
            except TrackingError:  # one that cannot be read is none of the others' matter
                found = ("", "", 0)
            if found is not None:
                self._known.add(directory)
                study, run, began_ms = found
                if study == self._study:
                    self._by_key[run] = max(self._by_key.get(run, (0, directory)), (began_ms, directory))
        return self._by_key[key][1] if key in self._by_key else None

    def others(self, keys: Collection[str]) -> int:
        """How many runs of the study there are with other settings than these."""
        self.find("")
        return len(self._by_key.keys() - set(keys) - {""})


def _study_key(directory: Path) -> tuple[str, str, int] | None:
    """The study and the planned run that a journal's tags name, and when it began; None where it says nothing yet."""
    tags: dict[str, str] = {}
    ended, began_ms = False, 0
    for number, (event, _) in enumerate(read(directory)):
        began_ms = began_ms or event.get("time_ms") or 0
        if event["event"] == "tag":
            tags |= event["values"]
        ended = ended or event["event"] == "status" and event.get("status") != "RUNNING"
        if names.STUDY in tags and (names.STUDY_RUN in tags or tags.get(names.REPORT) == "study"):
            return str(tags[names.STUDY]), str(tags.get(names.STUDY_RUN, "")), began_ms
        if number > 200:
            break
    return ("", "", 0) if ended else None
