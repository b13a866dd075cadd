"""One MLflow run as the receiver of events: each kind of event in MLflow's terms, nothing cut or dropped silently."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracking import names
from tracking.journal.checks import FILES, MAX_DATASET_NAME_LENGTH, Event, in_ascii, text_from
from tracking.journal.events import read
from tracking.store import artifacts
from tracking.store.connection import has_no_such_call, is_bad_value, is_refusal, kind, lacks_character
from tracking.store.logged_models import LoggedModels, is_model

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

MAX_PARAM_CHARACTERS = 6000
MAX_TAG_CHARACTERS = 8000
_SHOWN_CHARACTERS = 200
NOTE = "mlflow.note.content"
_MAX_PROBLEMS = 50
# What servers turned out not to know, by tracking URI: asked once in a process.
_LACKING: dict[str, set[str]] = {}
_TRIES = 5
_PER_CALL = {"metrics": 1000, "params": 100, "tags": 100}


class Target:
    """Writes events onto one run; sending the same events again changes nothing.

    ``attached``: the run was made by another program, so its status and times stay. ``problems`` lists in words what
    MLflow cannot hold, as does the run's tag; ``notes`` what this store holds otherwise than others.
    """

    def __init__(
        self, client: MlflowClient, run: Any, directory: Path, start: Event, *, attached: bool, tracking_uri: str
    ) -> None:
        self.run_id: str = run.info.run_id
        self.problems: list[str] = []
        self._spell: Callable[[str], str] = text_from
        self.notes: list[str] = []
        self._client = client
        self._directory = directory
        self._start = start
        self._attached = attached
        self._params: dict[str, str] = dict(run.data.params)
        self._noted: str = run.data.tags.get(names.REPLAY_PROBLEMS, "")
        self._artifact_uri: str = run.info.artifact_uri
        self._folder = artifacts.local_folder(self._artifact_uri)
        self._out_of_reach = self._folder is not None and not artifacts.is_reachable(self._folder, tracking_uri)
        self._models = LoggedModels(client, run)
        self._lacks = _LACKING.setdefault(tracking_uri, set())

    def send(self, events: list[Event]) -> None:
        """Write a batch: parameters, metrics and tags together, or one event of another kind.

        What cannot be taken over is noted and keeps nothing else out. Raises what concerns the store, not an event.
        """
        try:
            self._take(events)
        except Exception as error:
            if not is_refusal(error):
                raise
            parts = events if len(events) > 1 else _parts(events[0]) if lacks_character(error) else []
            if len(parts) > 1:
                for part in parts:
                    self.send([part])
                return
            if lacks_character(error) and events[0]["event"] != "artifact":  # its path is one of this machine
                events, self._spell = [_in_ascii(events[0])], in_ascii
            try:
                self._take_again(events)
            finally:
                self._spell = text_from
        for event in events:
            for fault in event.get("refused", ()):
                self._problem(fault)

    def _take(self, events: list[Event]) -> None:
        if events[0]["event"] in ("param", "metric", "tag"):
            self._log(events)
        else:
            [event] = events
            getattr(self, f"_on_{event['event']}", self._on_unknown)(event)

    def _take_again(self, events: list[Event]) -> None:
        error = _refusal(lambda: self._take(events))
        if error is not None:
            # The note goes to the same store: where that cannot be written either, it was not the event.
            what = f"{events[0]['event']} event of {events[0]['time_ms']} ms"
            self._problem(f"MLflow does not take the {what}: {_in_words(error)}")

    def _log(self, events: list[Event]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for event in events:
            for name, value in event["values"].items():
                if event["event"] == "metric":
                    metric = Metric(name, float(value), event["time_ms"], event["step"])
                    metrics.append(self._models.link(metric))
                elif event["event"] == "tag":
                    tags[name] = self._fitting("tags", name, value, MAX_TAG_CHARACTERS)
                else:
                    text = self._fitting("params", name, value, MAX_PARAM_CHARACTERS)
                    known = self._params.get(name, text)
                    if known != text and known == in_ascii(text):  # this database lacks a character of it
                        text = known
                    if known != text:
                        self._problem(f"parameter {name} is {self._params[name]!r} and was given as {text!r} later")
                    elif params.setdefault(name, text) != text:
                        self._problem(f"parameter {name} is {params[name]!r} and was given as {text!r} later")
        self._batch(
            metrics=metrics,
            params=[Param(k, v) for k, v in params.items()],
            tags=[RunTag(k, v) for k, v in tags.items()],
        )
        self._params.update(params)

    def _batch(self, **kinds: list[Any]) -> None:
        log_in_parts(self._client, self.run_id, self._refused, **kinds)

    def _on_start(self, event: Event) -> None:
        """The run was made or found before; only tags that were too long for that are logged here."""
        if _in_ascii(event) != _in_ascii(self._start):
            self._problem(f"a second run, {event['journal_id']}, starts in this journal; it is taken as the same")
            return
        if self._noted and not self._attached:  # whatever is still so is found again
            self._noted = ""
            self._client.delete_tag(self.run_id, names.REPLAY_PROBLEMS)
        if any(not fits(value) for value in event["tags"].values()):
            self._log([{**event, "event": "tag", "values": event["tags"]}])

    def _on_damaged(self, event: Event) -> None:
        self._problem(event["why"])

    def _on_unknown(self, event: Event) -> None:
        self._problem(f"event {event['event']!r} is unknown to this version")

    def _on_status(self, event: Event) -> None:
        if self._attached:
            self._describe(None)
            return
        if event["status"] == "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
            for tag in {names.STATUS_REASON, names.ERROR_TYPE} & set(self._client.get_run(self.run_id).data.tags):
                self._client.delete_tag(self.run_id, tag)  # it says why an earlier attempt ended
            return
        if event.get("reason"):
            self._set_tag(names.STATUS_REASON, event["reason"])
        self._describe(event["status"])
        self._client.set_terminated(self.run_id, event["status"], event["end_time_ms"])

    def _describe(self, status: str | None) -> None:
        """Write the run's description, or with ``status`` None bring ours up to date; a person's own stays."""
        run = self._client.get_run(self.run_id)
        known = run.data.tags.get(NOTE, "")
        if (known and not _is_ours(known)) or (not known and status is None):
            return
        note = _described(run.data, status or run.info.status)
        if note and note != known:
            self._set_tag(NOTE, note)

    def _on_dataset(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, digest, context = text_from(event["name"]), text_from(event["digest"]), event["context"]
        if len(name) > MAX_DATASET_NAME_LENGTH:
            self._problem(f"the {context} data set's name has {len(name)} characters; its beginning is kept")
            name = name[:MAX_DATASET_NAME_LENGTH]
        for known in self._client.get_run(self.run_id).inputs.dataset_inputs:
            same = (known.dataset.name, known.dataset.digest) == (name, digest)
            if same and all(tag.value != context for tag in known.tags):
                name = f"{name} ({context})"  # MLflow keeps one context for a dataset in a run
                break
        source_type, source = _source(text_from(event["source"]))
        profile = {"num_rows": event["num_images"], **{k: event[k] for k in ("num_images", "num_classes")}}
        dataset = Dataset(
            name=name,
            digest=digest,
            source_type=source_type,
            source=json.dumps(source),
            profile=json.dumps({**profile, **event.get("profile", {})}),
        )
        tag = InputTag("mlflow.data.context", context)
        given = [DatasetInput(dataset, [tag])]
        if self._takes("datasets", lambda: self._client.log_inputs(self.run_id, datasets=given)):
            self._models.note_dataset(context, name, digest)
        else:
            self._set_tag(f"{context}_dataset_digest", digest)

    def _on_artifact(self, event: Event) -> None:
        source = self._directory / event["path"]
        if not os.path.lexists(source):
            time.sleep(0.1)  # a folder that is being replaced is away for a moment
        with artifacts.readable(source, self._directory / FILES) as (found, faults):
            for fault in faults:
                self._problem(f"artifact {fault}")
            if found is None:
                return
            may_link = bool(event.get("placed")) and found == source
            if is_model(found) and not event["artifact_path"] and not self._out_of_reach:
                self._log_model(found, may_link=may_link)
            else:
                self._upload(found, event["artifact_path"], may_link=may_link)

    def _log_model(self, folder: Path, *, may_link: bool) -> None:
        """A model and, with the epoch it is of, the scores that were logged before it."""
        made: list[tuple[str, int]] = []
        if not self._takes("logged models", lambda: made.append(self._models.upload(folder, self._params))):
            self._upload(folder, "", may_link=may_link)
            note = "the server knows no logged models (MLflow before 3.0): a run's model is kept among its artifacts"
            self.notes = [note]
            return
        [(model_id, step)] = made
        if self._models.is_kept_twice:
            self.notes = [
                "models are on this disk twice, with the journals and with MLflow's artifacts: the two are not on one"
                " file system, or it knows no hard links"
            ]
        self._log([e for e, _ in read(self._directory) if e["event"] == "metric" and e["step"] == step])
        if self._attached:  # the scores are in the run's own journal, which may be elsewhere
            self._batch(metrics=self._models.scores(step))
        self._models.finish(model_id, step)

    def _takes(self, what: str, call: Callable[[], object]) -> bool:
        """Make a call that older servers do not know; False where this one does not, as a tag then says."""
        for _ in range(0 if what in self._lacks else 2):
            try:
                call()
                return True
            except Exception as error:
                if not has_no_such_call(error):
                    raise
            self._client.get_run(self.run_id)  # a proxy without its server says the same of every call
        self._lacks.add(what)
        self._set_tag(names.SERVER_LACKS, ", ".join(sorted(self._lacks)))
        return False

    def _upload(self, source: Path, folder: str, *, may_link: bool) -> None:
        if self._out_of_reach:
            self._problem(
                f"artifacts stay in {self._directory}: the server keeps them in a folder of its own machine,"
                f" {self._folder}; start it with --serve-artifacts"
            )
        elif self._folder is not None:
            artifacts.copy(source, self._folder / folder / source.name, may_link=may_link)
        else:
            if source.is_dir():
                folder = f"{folder}/{source.name}".lstrip("/")
                self._client.log_artifacts(self.run_id, str(source), folder)
            else:
                self._client.log_artifact(self.run_id, str(source), folder or None)
            artifacts.check_arrived(source, f"{self._artifact_uri}/{folder}", self._client.tracking_uri)

    def _fitting(self, folder: str, name: str, value: str, limit: int) -> str:
        """The value as MLflow can hold it; one that is too long becomes an artifact and its beginning points there."""
        value = text_from(value)
        if len(value) <= limit:
            return value
        file = f"{_file_stem(name)}.txt"
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / file).write_text(value, encoding="utf-8")
            self._upload(Path(scratch) / file, folder, may_link=False)
        return self._spell(f"{value[:_SHOWN_CHARACTERS]}… ({len(value)} characters, all in artifact {folder}/{file})")

    def _problem(self, text: str) -> None:
        if text in self.problems or len(self.problems) > _MAX_PROBLEMS:
            return
        if len(self.problems) == _MAX_PROBLEMS:
            text = f"and more than these {_MAX_PROBLEMS}"
        self.problems.append(text)
        if text not in self._noted.splitlines():
            self._noted = f"{self._noted}\n{text}".lstrip("\n")
            self._set_tag(names.REPLAY_PROBLEMS, self._noted)

    def _refused(self, text: str, cause: Exception) -> None:
        if lacks_character(cause):  # written otherwise, by ``send``
            raise cause
        self._problem(text)

    def _set_tag(self, name: str, value: str) -> None:
        fitting = self._fitting("tags", name, value, MAX_TAG_CHARACTERS)
        # Explicitly now: MLFLOW_ENABLE_ASYNC_LOGGING would report success before anything is written.
        spelled(lambda text: self._client.set_tag(self.run_id, name, text(fitting), synchronous=True))


def spelled(write: Callable[[Callable[[str], str]], T]) -> T:
    """``write`` with texts as they are, or in ASCII where the database lacks a character of them."""
    try:
        return write(text_from)
    except Exception as error:
        if not lacks_character(error):
            raise
        return write(in_ascii)


def log_in_parts(
    client: MlflowClient, run_id: str, refused: Callable[[str, Exception], None], **kinds: list[Any]
) -> None:
    """Log ``metrics``, ``params`` and ``tags``, as many as MLflow takes at once; what is ``refused``, and why."""
    while any(kinds.values()):
        part = {k: v[: _PER_CALL[k]] for k, v in kinds.items()}
        kinds = {k: v[_PER_CALL[k] :] for k, v in kinds.items()}
        try:
            client.log_batch(run_id, **part, synchronous=True)
        except Exception as error:
            if not is_refusal(error):
                raise
            single = [{k: [value]} for k, values in part.items() for value in values]
            # One refused value must not keep the rest, nor the run's end, out of the store.
            for one in single:
                cause = _refusal(functools.partial(client.log_batch, run_id, **one, synchronous=True))
                if cause is not None:
                    refused(f"MLflow does not take {str(one)[:300]}: {_in_words(cause)}", cause)


def _refusal(call: Callable[[], object]) -> Exception | None:
    """Why the store does not take something for good; None where it took it. Raises what concerns the store.

    A sick server's errors look like refusals, and to give up at the first would cost a run its values.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            call()
            return None
        except Exception as error:
            if not is_refusal(error):
                raise
            if tries_left == 0 or is_bad_value(error):
                return error
    return None


def fits(tag: str) -> bool:
    """Whether MLflow holds a tag's value as it is."""
    return len(tag) <= MAX_TAG_CHARACTERS and text_from(tag) == tag


_NOTE_PARAMS = ("dataset", "num_layers", "optimizer", "learning_rate", "mini_batch_size", "epochs", "seed")


def _described(data: Any, status: str) -> str:
    """The run in a few lines of markdown: score, settings, duration; empty where nothing of it is known."""

    def share(value: float) -> str:
        return f"{100 * value:.1f} %" if 0 <= value <= 1 else f"{value:g}"

    def quoted(value: str) -> str:
        return f"`{' '.join(value.replace('`', chr(39)).split())[:_SHOWN_CHARACTERS] or ' '}`"

    lines = []
    metrics, tags = data.metrics, data.tags
    if status != "FINISHED":
        reason = tags.get(names.STATUS_REASON, "")
        lines.append(f"**{status.capitalize()}**{f': {quoted(reason)}' if reason else ''}")
    if (test := metrics.get(names.TEST_ACCURACY)) is not None:
        images = metrics.get(names.num_images("test"))
        on = f" on {images:,.0f} pictures" if images is not None and math.isfinite(images) else ""
        lines.append(f"**{share(test)} test accuracy**{on}")
    if (best := metrics.get(names.BEST_VALIDATION_ACCURACY)) is not None:
        epoch = metrics.get(names.BEST_EPOCH, math.nan)
        lines.append(f"{share(best)} validation accuracy{f' at epoch {epoch:.0f}' if math.isfinite(epoch) else ''}")
    settings = [(names.PARAMS[key].title, data.params[key]) for key in _NOTE_PARAMS if key in data.params]
    if names.INIT_LABEL in tags:
        settings.insert(2, ("init", tags[names.INIT_LABEL]))
    if not lines and not settings:
        return ""
    lines += [", ".join(f"{title} {quoted(value)}" for title, value in settings)] if settings else []
    if math.isfinite(seconds := metrics.get(names.TOTAL_TIME_S, math.nan)):
        lines.append(f"{seconds:,.0f} s in all" if seconds >= 1 else "less than a second in all")
    text = "\n".join(f"- {line}" for line in lines)
    return f"{text}\n\n{_mark(text)}"


def _mark(text: str) -> str:
    """Not shown by MLflow; with its hash it says that the description is still the one written here."""
    return f"<!-- written by the run: {hashlib.sha256(text.encode()).hexdigest()[:16]} -->"


def _is_ours(note: str) -> bool:
    text, _, mark = note.rpartition("\n\n")
    return mark == _mark(text)


def _file_stem(name: str) -> str:
    """A file's name for a parameter or tag, another one for each."""
    stem = name.replace("/", "_")[:50]  # of four bytes each at most, and file systems take 255
    return stem if stem == name else f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _parts(event: Event) -> list[Event]:
    """An event for each of its values."""
    values = event.get("values") or {}
    return [{**event, "values": {name: value}} for name, value in values.items()]


def _in_ascii(given: Any) -> Any:
    """An event, or a part of one, with its texts in ASCII."""
    if isinstance(given, dict):
        # No name has a backslash in MLflow.
        return {in_ascii(key).replace("\\", "_"): _in_ascii(value) for key, value in given.items()}
    if isinstance(given, list):
        return [_in_ascii(value) for value in given]
    return in_ascii(given) if isinstance(given, str) else given


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}" if str(error) else type(error).__name__


def _source(source: str) -> tuple[str, dict[str, Any]]:
    """MLflow's kind of dataset source and its description."""
    scheme = kind(source)
    if scheme == "s3":
        return "s3", {"uri": source}
    if scheme in ("http", "https"):
        return "http", {"url": source}
    return "local", {"uri": source}
