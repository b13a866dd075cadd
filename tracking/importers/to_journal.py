"""Runs made elsewhere and written down by hand or by another tool: notes, CSV, JSON become journals like any other.

Enters: a file. Leaves: ``Result`` for each run in it, and by ``bring_in`` a journal each, whose id follows from the
place in the file, so that importing twice makes one run and an edited file brings only what is new.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import names
from tracking.errors import JournalError, TrackingError
from tracking.importers.result import Reading, Result, storable
from tracking.journal import Journal
from tracking.journal.events import now_ms, read, segment_path
from tracking.journal.files import cannot_write, remove
from tracking.store import connection

if TYPE_CHECKING:
    from tracking.store import Store

_AS_TABLE = "write it as CSV: pandas.DataFrame(…).to_csv('history.csv')"
_EVENTS = "an event file of TensorBoard; give its scalars as a table with the columns epoch and val_acc (or another)"
# How files begin that are no text, what they are, and what to do.
_NO_TEXT = {
    b"PK\x03\x04": "a workbook or another zip archive; save the sheet as CSV UTF-8",
    b"\x93NUMPY": f"an array of NumPy; {_AS_TABLE}",
    # Windows' € alone is a text.
    **dict.fromkeys((b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"), f"a pickle, never loaded here; {_AS_TABLE}"),
    b"PAR1": "a Parquet file; write it as CSV: pandas.read_parquet('FILE').to_csv('results.csv')",
    b"\x89HDF": f"an HDF5 file; {_AS_TABLE}",
    b"SQLite format 3": "a database; MLflow's: `mlflow experiments csv --experiment-id 0 --filename runs.csv` with"
    " MLFLOW_TRACKING_URI=sqlite:///FILE",
}
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")  # a text has none
# What is larger takes minutes, or a gigabyte of memory, before it is understood.
MAX_NOTES_BYTES = 2 * 2**20
MAX_BYTES = {**dict.fromkeys((".csv", ".tsv"), 16 * 2**20), **dict.fromkeys((".json", ".jsonl"), 8 * 2**20)}
_MAX_RUN_NAME = 250  # what PostgreSQL's table of runs takes


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a result is to the store, and its journal's directory (None: nothing to replay).

    ``what``: ``new``; ``changed`` since it was imported; ``halfway``: that import was stopped; ``known``, as run
    ``run_id`` of ``experiment``; ``deleted``: the store's user deleted the run.
    """

    result: Result
    what: str
    directory: Path | None = None
    run_id: str = ""
    experiment: str = ""


def read_file(path: Path) -> Reading:
    """The runs of a file, by its suffix: ``.csv`` ``.tsv``, ``.json`` ``.jsonl``, else notes, or a table by its head.

    Raises TrackingError where nothing of it can be understood, with every line that cannot.
    """
    from tracking.importers import json_files, notes, tables

    try:
        size, most = path.stat().st_size, MAX_BYTES.get(path.suffix.lower(), MAX_NOTES_BYTES)
        if size > most:
            raise TrackingError(
                f"{path} has {size:,} bytes; files of this kind are read up to {most:,}: give it in parts"
            )
        data = path.read_bytes()
        changed_ms = path.stat().st_mtime_ns // 1_000_000
    except OSError as error:
        raise TrackingError(f"{path}: {error.strerror or error}; give a file of notes, CSV or JSON") from error
    text, remarks = _text(data, path)
    name, suffix = storable(path.name), path.suffix.lower()
    if suffix in (".csv", ".tsv") or (suffix not in (".json", ".jsonl") and tables.is_table(text)):
        reading = tables.read_csv(text, name)
    elif suffix in (".json", ".jsonl") or re.match(r'\s{0,100}\{\s{0,100}"[^"\n]{0,250}"\s{0,9}:', text):
        first = text.lstrip().partition("\n")[0].rstrip()
        lines = suffix != ".json" and first.startswith("{") and first.endswith("}")
        reading = json_files.read_json(text, name, lines=suffix == ".jsonl" or lines)
    else:
        reading = notes.read_notes(text, name)
    remarks += reading.remarks
    if not reading.results:
        listed = "".join(f"\n  - {remark}" for remark in remarks)
        raise TrackingError(f"{path} holds no run that could be read{':' if remarks else ''}{listed}")
    return Reading(tuple(_dated(result, changed_ms) for result in reading.results), remarks)


def _text(data: bytes, path: Path) -> tuple[str, tuple[str, ...]]:
    """The file's text, in UTF-8, UTF-16 with a mark (Excel's "Unicode text") or else Windows' Western European."""
    kind = next((kind for mark, kind in _NO_TEXT.items() if data.startswith(mark)), None)
    if kind is not None or "tfevents" in path.name:
        raise TrackingError(f"{path} is {kind or _EVENTS}")
    try:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return storable(data.decode(encoding)), ()
    except UnicodeDecodeError as error:
        with suppress(UnicodeDecodeError):
            text = data.decode("cp1252")
            if encoding != "utf-16" and not _CONTROLS.search(text):
                return text, (f"{storable(path.name)}: not UTF-8, so it was read as Windows-1252",)
        raise TrackingError(f"{path} is not UTF-8 text ({error}); save it as such") from error


def bring_in(results: Sequence[Result], store: Store, *, experiment: str) -> Iterator[Imported]:
    """Write the journal of each result that the store lacks, or has otherwise, under ``store.journals``.

    All are checked and written aside before the first one takes its place, so a refused import leaves nothing. Replay
    each one before asking for the next. Raises TrackingError.
    """
    results = _distinct(results)
    store.client()  # whatever is wrong with the store is said before a folder is made
    try:
        store.journals.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(store.journals, error) from error
    with connection.locked(store.journals / "import"):
        for left in store.journals.glob(".import-*"):  # an import that was killed; a living one holds the lock
            remove(left)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=store.journals) as scratch:
            plans = [_plan(result, store, experiment, Path(scratch)) for result in results]
            any_new = any(plan.what == "new" for plan in plans)
            experiment_id = _experiment_id(store, experiment) if any_new else ""
            for plan in plans:
                run_id = _deleted_run(plan.result, store, experiment_id) if plan.what == "new" else None
                if run_id is not None:
                    yield Imported(result=plan.result, what="deleted", run_id=run_id)
                elif plan.directory is None:
                    yield plan
                else:
                    yield replace(plan, directory=_put(plan.directory, store.journals))


def _distinct(results: Sequence[Result]) -> list[Result]:
    """Each run once, one known by its id as the last file has it. Raises TrackingError where two files of one name
    describe another run differently.
    """
    seen: dict[str, Result] = {}
    for result in results:
        other = seen.setdefault(result.journal_id, result)
        if result.former_key:
            seen[result.journal_id] = result
        elif other.digest != result.digest:
            raise TrackingError(
                f"{other.place} and {result.place} are files of one name that describe {result.run_name!r} differently;"
                " a run is known by its file's name: rename one of the files"
            )
    return list(seen.values())


def _plan(result: Result, store: Store, experiment: str, scratch: Path) -> Imported:
    """What the store needs of a result, as a journal in ``scratch``."""
    found = (run for key in result.journal_ids for run in store.runs(None, f"tags.{names.JOURNAL_ID} = '{key}'"))
    known = next(found, None)
    if known is None:
        return Imported(result=result, what="new", directory=_write(result, scratch, experiment))
    experiment = store.client().get_experiment(known.info.experiment_id).name
    if known.info.status == "RUNNING":  # an import that was stopped halfway
        return Imported(result=result, what="halfway", directory=_write(result, scratch, experiment))
    if known.data.tags.get(names.IMPORT_DIGEST) == result.digest:
        return Imported(result=result, what="known", run_id=known.info.run_id, experiment=experiment)
    directory = _write(result, scratch, experiment, known.info.run_id)
    return Imported(result=result, what="changed", directory=directory)


def _experiment_id(store: Store, experiment: str) -> str:
    """Its id; it is made where absent. Raises StoreError for a deleted one, TrackingError for a name MLflow refuses."""
    from mlflow.exceptions import MlflowException

    try:
        return store.experiment_id(experiment)
    except MlflowException as error:
        if not connection.is_bad_value(error):
            raise
        raise TrackingError(f"experiment {experiment[:80]!r}: {error.message}") from error


def _deleted_run(result: Result, store: Store, experiment_id: str) -> str | None:
    """The run that this result became in the experiment, if it was deleted since."""
    from mlflow.entities import ViewType

    with connection.translated(store.tracking_uri):
        journal = f"tags.{names.JOURNAL_ID} = '{result.journal_id}'"
        found = store.client().search_runs([experiment_id], journal, ViewType.DELETED_ONLY, max_results=1)
    return str(found[0].info.run_id) if found else None


def _put(written: Path, journals: Path) -> Path:
    """Give a journal its place among the others, unless the very same is there: that one knows which stores have it."""
    directory = journals / written.name
    if segment_path(directory, 1).exists():
        try:
            if list(read(directory)) == list(read(written)):
                return directory
        except JournalError:
            pass  # damaged: the new one replaces it
    remove(directory)
    return written.rename(directory)


def _write(result: Result, folder: Path, experiment: str, run_id: str | None = None) -> Path:
    """The result as a journal; onto an existing run without the status it has."""
    start_ms = result.start_ms
    assert start_ms is not None, "read_file dates every result"
    end_ms = result.end_ms if result.end_ms is not None else start_ms
    # A corrected score counts from now on: of two values at a step MLflow shows the later.
    said_ms = end_ms if run_id is None else max(end_ms, now_ms())
    journal = Journal.create(
        folder,
        experiment=experiment,
        run_name=result.run_name[:_MAX_RUN_NAME],
        attach_run_id=run_id,
        start_time_ms=start_ms,
        journal_id=result.journal_id if run_id is None else f"{result.journal_id}-{result.digest}",
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
    return journal.dir


def _tags(result: Result) -> dict[str, str]:
    written = {names.as_written(metric): score.written for metric, score in result.scores.items() if score.written}
    flagged = {names.FLAGGED: "; ".join(result.flags)} if result.flags else {}
    return {
        names.LAUNCHER: "import",
        **result.tags,
        **written,
        **flagged,
        names.JOURNAL_ID: result.journal_id,  # a table that MLflow exported brings another run's
        names.IMPORTED_FROM: result.place,
        names.IMPORT_DIGEST: result.digest,
    }


def _dated(result: Result, changed_ms: int) -> Result:
    """With a time: MLflow wants one. Where the file names none, it is when the file was last changed."""
    start_ms = result.start_ms if result.start_ms is not None else result.end_ms
    return replace(result, start_ms=max(changed_ms, 0) if start_ms is None else start_ms)
