"""Runs made elsewhere and written down by hand or by another tool: notes, CSV, JSON become journals like any other.

Enters: a file. Leaves: ``Result`` for each run in it, and by ``bring_in`` a journal each, whose id follows from the
place in the file, so that importing twice makes one run and an edited file brings only what is new.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import names
from tracking.disk import is_held
from tracking.errors import TrackingError
from tracking.events import journals, read
from tracking.journal import Journal

if TYPE_CHECKING:
    from tracking.store import Store

MISSING = ("", "?", "-", "--", "n/a", "na", "none", "null", "tbd", "unknown", "missing")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Score:
    """One score: ``written`` as it stands in the file, ``value`` as it was read (None: it was not), ``remark`` why so.

    ``remark`` is empty where the two say the same.
    """

    written: str
    value: float | None
    remark: str = ""


@dataclass(frozen=True)
class Result:
    """One run as a file tells it. ``key`` is its identity in the file, ``place`` where it stands, for people.

    ``series`` are metrics with more than one value: metric → (step, value) pairs. Times are milliseconds, None where
    nothing is known of them; ``noted_ms`` is when the file was last changed.
    """

    key: str
    place: str
    run_name: str
    params: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str = "FINISHED"
    start_ms: int | None = None
    end_ms: int | None = None
    noted_ms: int = 0

    @property
    def journal_id(self) -> str:
        """The same for the same run in the same file, wherever that lies."""
        return hashlib.sha256(f"import {self.key}".encode()).hexdigest()[:32]

    @property
    def digest(self) -> str:
        """12 hex digits of everything that was read."""
        parts = [self.params, {k: s.written for k, s in self.scores.items()}, self.series, self.tags, self.status]
        text = json.dumps([dict(p) if isinstance(p, Mapping) else p for p in parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def flags(self) -> list[str]:
        """What was read otherwise than written, a few words each."""
        return [f"{metric} {score.remark}" for metric, score in self.scores.items() if score.remark]


@dataclass(frozen=True)
class Reading:
    """What a file gave: runs, and remarks about what was not taken over."""

    results: tuple[Result, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brought:
    """What became of a result: ``new``, ``changed`` or ``known``, and its journal's directory (None: nothing to do)."""

    result: Result
    what: str
    directory: Path | None


def read_file(path: Path) -> Reading:
    """The runs of a file, by its suffix: ``.csv`` ``.tsv``, ``.json`` ``.jsonl``, anything else is notes.

    Raises TrackingError with every line that cannot be understood.
    """
    from tracking import history_notes, history_tables

    try:
        text = path.read_text(encoding="utf-8-sig")
        changed_ms = path.stat().st_mtime_ns // 1_000_000
    except OSError as error:
        raise TrackingError(f"{path}: {error.strerror or error}; give a file of notes, CSV or JSON") from error
    except UnicodeDecodeError as error:
        raise TrackingError(f"{path} is no text in UTF-8 ({error}); save it as such") from error
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        reading = history_tables.read_csv(text, path.name)
    elif suffix in (".json", ".jsonl"):
        reading = history_tables.read_json(text, path.name, lines=suffix == ".jsonl")
    else:
        reading = history_notes.read_notes(text, path.name)
    if not reading.results:
        told = "; ".join(reading.remarks)
        raise TrackingError(f"{path} holds no run that could be read{f' ({told})' if told else ''}")
    return Reading(tuple(_dated(result, changed_ms) for result in reading.results), reading.remarks)


def read_score(text: str) -> Score:
    """A share of pictures as people write it: 0.994, 99.4 %, 99,4, 994 where 0.994 is meant, ? where it is missing."""
    written = text.strip()
    if written.lower() in MISSING:
        return Score(written, None)
    bare = written.rstrip("%").strip().replace(",", ".")
    if not _NUMBER.fullmatch(bare):
        return Score(written, None, f"{written!r} was not read: it is no number")
    value = float(bare)
    if written.endswith("%"):
        if 0 <= value <= 100:
            return Score(written, float(f"{value / 100:.12g}"))
    elif 0 <= value <= 1:
        return Score(written, value)
    elif 1 < value <= 100:
        read_as = float(f"{value / 100:.12g}")
        return Score(written, read_as, f"{written} was read as {read_as:g}, since it can only mean percent")
    elif bare.isdigit():
        read_as = float(f"0.{bare}")
        return Score(written, read_as, f"{written} was read as {read_as:g}, since a share is at most 1")
    return Score(written, None, f"{written} was not read: no share of pictures is that")


def bring_in(results: Sequence[Result], store: Store, *, experiment: str) -> Iterator[Brought]:
    """Write each result's journal under ``store.journals``, unless the store, or that folder, has it already.

    One that has changed since is written onto its run. Raises TrackingError.
    """
    for result in results:
        known = _known(result, store)
        if known is None:
            yield Brought(result, "new", _write(result, store, experiment, result.journal_id))
            continue
        digest, run_id = known
        if digest == result.digest:
            yield Brought(result, "known", None)
        elif run_id is None:
            raise TrackingError(
                f"{result.place}: it has changed since it was imported, but its run is in no store yet; call"
                " `python -m tracking sync` first"
            )
        else:
            journal_id = f"{result.journal_id}-{result.digest}"
            yield Brought(result, "changed", _write(result, store, experiment, journal_id, run_id))


def _known(result: Result, store: Store) -> tuple[str, str | None] | None:
    """Digest of what was imported last, and the MLflow run it is in; None when it never was."""
    for run in store.runs(None, f"tags.{names.JOURNAL_ID} = '{result.journal_id}'"):
        return run.data.tags.get(names.IMPORT_DIGEST, ""), str(run.info.run_id)
    directory = store.journals / result.journal_id
    if directory not in journals(store.journals) or is_held(directory):
        return None
    digest = ""
    for event, _ in read(directory):
        if event["event"] == "tag":
            digest = event["values"].get(names.IMPORT_DIGEST, digest)
    return digest, None


def _write(result: Result, store: Store, experiment: str, journal_id: str, run_id: str | None = None) -> Path:
    """The result as a journal; onto an existing run without status and parameters it has."""
    start_ms = result.start_ms
    assert start_ms is not None, "read_file dates every result"
    end_ms = result.end_ms if result.end_ms is not None else start_ms
    # A corrected score counts from when it was corrected: of two values at a step MLflow shows the later.
    said_ms = end_ms if run_id is None else max(end_ms, result.noted_ms)
    directory = store.journals / journal_id
    if directory in journals(store.journals):
        return directory  # written before, and not brought into MLflow then
    journal = Journal.create(
        store.journals,
        experiment=experiment,
        run_name=result.run_name,
        attach_run_id=run_id,
        start_time_ms=start_ms,
        journal_id=journal_id,
    )
    try:
        journal.params(result.params, time_ms=start_ms)
        for metric, pairs in result.series.items():
            for step, value in pairs:
                journal.metrics({metric: value}, step=step, time_ms=said_ms)
        step = int(result.params.get("epochs", "0"))
        values = {metric: score.value for metric, score in result.scores.items() if score.value is not None}
        journal.metrics(values, step=step, time_ms=said_ms)
        journal.tags(_tags(result), time_ms=said_ms)
        if run_id is None:
            journal.status(result.status, end_time_ms=end_ms, time_ms=end_ms)
    finally:
        journal.close()
    return directory


def _tags(result: Result) -> dict[str, str]:
    written = {names.as_written(metric): score.written for metric, score in result.scores.items() if score.written}
    flagged = {names.FLAGGED: "; ".join(result.flags)} if result.flags else {}
    return {
        names.LAUNCHER: "import",
        **result.tags,
        **written,
        **flagged,
        names.IMPORTED_FROM: result.place,
        names.IMPORT_DIGEST: result.digest,
    }


def _dated(result: Result, changed_ms: int) -> Result:
    """With a time: MLflow wants one. Where the file names none, it is when the file was last changed."""
    start_ms = result.start_ms if result.start_ms is not None else result.end_ms
    return replace(result, start_ms=changed_ms if start_ms is None else start_ms, noted_ms=changed_ms)
