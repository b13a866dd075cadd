"""Journal → MLflow run: idempotent and batched, in one go (``replay``) or as the journal grows (``Replayer.advance``).

Exactly once, however often and wherever it is stopped: the run is found again by its journal's id, metric rows carry
the journal's times and so equal themselves, everything else overwrites with the same. How far each store has the
journal is kept in ``replay.json`` beside it; only one process at a time replays a journal.

A store is sent nothing that a power cut could still remove from the journal. Where ``replay.json`` describes another
journal than this one (a cut removed its end and the run went on), all is compared again.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import JournalError, RunNotFound, StoreError
from tracking.journal.checks import Event, text_from
from tracking.journal.events import Position, beginning, checksum, read
from tracking.journal.files import cannot_write, flush, holder, open_own, sign, whole_file
from tracking.journal.progress import STATE_FILE, Progress, all_progress, progress, replayed_as
from tracking.store import moved
from tracking.store.connection import asked_once, translated
from tracking.store.logged_models import is_model
from tracking.store.mlflow_run import Target, fits, spelled

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tracking.store.store import Store

SAVE_S = 1.0
BUSY_S = 30.0
_MAX_RUN_NAME = 250
# Taken off where a run goes on after it had ended.
_PASSING = {names.STATUS_REASON, names.ERROR_TYPE}


@dataclass(kw_only=True)
class Outcome:
    """What a replay did: the run, how many events were new, whether the run has ended, what could not be taken over.

    ``notes``: what this store holds otherwise than others.
    """

    run_id: str
    num_events: int = 0
    status: str | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def replay(directory: Path, store: Store, client: MlflowClient | None = None, *, look: bool = False) -> Outcome:
    """Bring everything the journal holds now into the store. Raises StoreError, JournalError, RunNotFound.

    JournalError also where another process has been doing so for ``BUSY_S``. ``look``: begin anew where the store does
    not have what it was sent.
    """
    return Replayer(directory, store, client, look=look).advance(BUSY_S)


class Replayer:
    """Brings one journal into one store, as far as it goes each time ``advance`` is called."""

    def __init__(
        self, directory: Path, store: Store, client: MlflowClient | None = None, *, look: bool = False
    ) -> None:
        self._directory = Path(directory)
        self._look = look
        self._store = store
        self._client = client
        self._progress = Progress()
        self._target: Target | None = None
        self.run_id: str | None = None

    def advance(self, busy_s: float = math.inf) -> Outcome:
        """Take over the events that are new since the last time; waits ``busy_s`` for another process that does so."""
        with _alone(self._directory, busy_s), translated(self._store.tracking_uri):
            self._progress = progress(self._directory, self._store.public_uri)
            try:
                return self._advance()
            except BaseException:
                self._target = None  # what it remembers of the run may not be so
                raise

    def _advance(self) -> Outcome:
        if self._client is None:
            self._client = self._store.client()
        target = self._target = self._target or self._open()
        outcome = Outcome(run_id=target.run_id, status=self._progress.status, problems=target.problems)
        saved = time.monotonic()
        flushed = flush(self._directory, self._progress.position)
        try:
            for events, position in _batches(_until(flushed, read(self._directory, self._progress.position))):
                target.send(events)
                for event in events:
                    if event["event"] == "status":
                        outcome.status = self._progress.status = event["status"]
                self._progress.position = position
                outcome.num_events += len(events)
                if time.monotonic() - saved >= SAVE_S:
                    self._save()
                    saved = time.monotonic()
        finally:
            if outcome.num_events:
                self._save()
        outcome.notes = target.notes
        return outcome

    def _open(self) -> Target:
        """Find the run this journal became, or make it."""
        assert self._client is not None
        start = beginning(self._directory)
        run = None
        if start.get("attach_run_id"):
            run = _get_run(self._client, start["attach_run_id"])
            if run is None:
                raise RunNotFound(f"no run {start['attach_run_id']!r} in {self._store.public_uri} to write onto")
        elif self._progress.run_id is not None:
            run = _get_run(self._client, self._progress.run_id)
        if run is None:
            # Either this is the first time, or the store was made again, or the last replayer was stopped right after
            # it had made the run and before it could record it.
            experiment_id = spelled(lambda text: self._store.experiment_id(text(start["experiment"])))
            self._progress = Progress(experiment_id=experiment_id)
            run = self._find(start["journal_id"]) or spelled(lambda text: self._create(start, text))
        if run.info.lifecycle_stage != "active":
            raise StoreError(
                f"run {run.info.run_id} was deleted in {self._store.public_uri}; bring it back with"
                f" `mlflow runs restore --run-id {run.info.run_id}`, or remove its journal {self._directory}"
            )
        moved.check(self._store.tracking_uri, run.info.artifact_uri)
        attached = bool(start.get("attach_run_id"))
        sent = (event for event, _ in _until(self._progress.position, read(self._directory)))
        if self._look and _lacks(self._client, run, self._directory, sent, attached=attached):
            self._progress = Progress()
        self.run_id = self._progress.run_id = run.info.run_id
        self._progress.experiment_id = run.info.experiment_id
        self._save()
        uri = self._store.tracking_uri
        return Target(self._client, run, self._directory, start, attached=attached, tracking_uri=uri)

    def _find(self, journal_id: str) -> Any:
        from mlflow.entities import ViewType

        assert self._client is not None
        found = self._client.search_runs(
            [self._progress.experiment_id],
            f"tags.{names.JOURNAL_ID} = '{journal_id}'",
            run_view_type=ViewType.ALL,
            max_results=1,
        )
        return found[0] if found else None

    def _create(self, start: Event, text: Callable[[str], str]) -> Any:
        assert self._client is not None
        fitting = {text(name): text(value) for name, value in start["tags"].items() if fits(value)}
        tags = {**fitting, names.JOURNAL_ID: start["journal_id"]}
        if start.get("parent"):
            parent = replayed_as(self._directory.parent / start["parent"], self._store.public_uri)
            tags |= {"mlflow.parentRunId": parent} if parent else {}
        with asked_once():
            return self._client.create_run(
                self._progress.experiment_id,
                start_time=start["start_time_ms"],
                tags=tags,
                run_name=text(start.get("run_name") or "")[:_MAX_RUN_NAME] or None,
            )

    def _save(self) -> None:
        everything = {**all_progress(self._directory), self._store.public_uri: self._progress}
        stores = {
            uri: {
                "run_id": p.run_id,
                "experiment_id": p.experiment_id,
                "segment": p.position.segment,
                "offset": p.position.offset,
                "checksum": checksum(self._directory, p.position),
                "status": p.status,
            }
            for uri, p in everything.items()
        }
        path = self._directory / STATE_FILE
        try:
            with whole_file(path) as part:
                part.unlink(missing_ok=True)
                with open(open_own(part, os.O_WRONLY | os.O_EXCL), "w") as stream:
                    json.dump({"version": 1, "stores": stores}, stream, indent=1)
        except OSError as error:
            raise cannot_write(path, error) from error


def _lacks(client: MlflowClient, run: Any, directory: Path, events: Iterable[Event], *, attached: bool) -> bool:
    """Whether the run is without a point, a parameter, a tag, a data set, a model or the end that ``events`` tell of.

    Values are not compared, nor are files looked for. ``attached``: the run's status is another program's.
    """
    points: dict[str, array[int]] = {}  # step and time in turn: a run may have a million
    named: dict[str, set[str]] = {"param": set(), "tag": set()}
    digests: set[str] = set()
    models: set[str] = set()
    status = None
    for event in events:
        kind = event["event"]
        if kind == "metric":
            for key in event["values"]:
                points.setdefault(key, array("q")).extend((event["step"], event["time_ms"]))
        elif kind in named:
            named[kind] |= event["values"].keys()
        elif kind == "dataset":
            digests.add(text_from(event["digest"]))
        elif kind == "artifact" and not event["artifact_path"] and is_model(directory / event["path"]):
            models.add(event["path"])
        elif kind == "status" and not attached:
            status = event["status"]
    if status not in (None, run.info.status) or points.keys() - run.data.metrics.keys():
        return True
    if named["param"] - run.data.params.keys() or named["tag"] - _PASSING - run.data.tags.keys():
        return True
    if names.SERVER_LACKS not in run.data.tags:
        known = {given.dataset.digest for given in run.inputs.dataset_inputs} if run.inputs else set()
        if digests - known or len(models) > len(run.outputs.model_outputs if run.outputs else ()):
            return True
    for key, expected in points.items():
        found = client.get_metric_history(run.info.run_id, key)
        if set(zip(expected[::2], expected[1::2], strict=True)) - {(point.step, point.timestamp) for point in found}:
            return True
    return False


def _get_run(client: MlflowClient, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # there is none, nor could be
            raise
        return None


@contextmanager
def _alone(directory: Path, busy_s: float) -> Iterator[None]:
    """Keep every other replayer of this journal waiting; JournalError where another one has it for ``busy_s``."""
    path = directory / "replay.lock"
    try:
        fd = open_own(path, os.O_RDWR)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        end = time.monotonic() + busy_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise JournalError(
                        f"{holder(directory, path.name)} has been bringing it in for {busy_s:g} s; wait for it, or"
                        " continue or end it where it was stopped"
                    ) from None
                time.sleep(0.05)
        with suppress(OSError):  # a full disk; the name is not needed
            sign(fd)
        yield
    finally:
        os.close(fd)


def _until(end: Position, events: Iterator[tuple[Event, Position]]) -> Iterator[tuple[Event, Position]]:
    for event, position in events:
        if position > end:
            return
        yield event, position


def _json_length(value: object) -> int:
    text = str(value)
    return len(text) if text.isascii() else 6 * len(text)  # as \uXXXX


_LOGGED_TOGETHER = ("param", "metric", "tag")
# MLflow takes 1000 metrics, 100 parameters, 100 tags and 1 MB in one request.
_MAX_METRICS, _MAX_PARAMS, _MAX_TAGS, _MAX_CHARACTERS = 900, 90, 90, 500_000


def _batches(events: Iterator[tuple[Event, Position]]) -> Iterator[tuple[list[Event], Position]]:
    """Group parameters, metrics and tags into what MLflow takes at once; every other event comes alone."""
    batch: list[Event] = []
    size = {"metric": 0, "param": 0, "tag": 0, "characters": 0}
    limits = {"metric": _MAX_METRICS, "param": _MAX_PARAMS, "tag": _MAX_TAGS, "characters": _MAX_CHARACTERS}
    end = Position()
    for event, position in events:
        kind = event["event"]
        values = event["values"] if kind in _LOGGED_TOGETHER else {}
        added = {kind: len(values), "characters": sum(len(k) + _json_length(v) for k, v in values.items())}
        full = any(size[k] + n > limits[k] for k, n in added.items() if k in size)
        if batch and (full or kind not in _LOGGED_TOGETHER):
            yield batch, end
            batch, size = [], dict.fromkeys(size, 0)
        if kind not in _LOGGED_TOGETHER:
            yield [event], position
            continue
        batch.append(event)
        for k, n in added.items():
            size[k] += n
        end = position
    if batch:
        yield batch, end
