"""``tracking copy`` and ``tracking prune``, stopped and called again; their end is what an undisturbed call makes."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.faults.oracle import Verdict
from tests.faults.points import Place, Program
from tests.faults.programs import content, may_end_by_signal, write_journals
from tests.support.stores import make_store
from tests.tracking.store.test_logged_models import model_folder
from tracking.__main__ import main as tracking
from tracking.journal import Journal

# Everything that a run has in MLflow, but where its files are.
ROWS = {
    "runs": "run_uuid, name, status, start_time, end_time, lifecycle_stage",
    "params": "run_uuid, key, value",
    "tags": "run_uuid, key, value",
    "metrics": "run_uuid, key, step, timestamp, value, is_nan",
    "latest_metrics": "run_uuid, key, step, timestamp, value, is_nan",
    "datasets": "name, digest, dataset_source, dataset_profile",
    "inputs": "source_type, destination_type, destination_id",
    "input_tags": "name, value",
    "logged_models": "model_id, source_run_id, name, status, lifecycle_stage",
    "logged_model_params": "model_id, param_key, param_value",
    "logged_model_metrics": "model_id, metric_name, metric_step, metric_value, run_id",
}


def _rows(database: Path) -> Counter[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return Counter(
            (table, *row)
            for table, columns in ROWS.items()
            for row in connection.execute(f"SELECT {columns} FROM {table}")
        )


def _compared(was: Counter[Any], now: Counter[Any], changed: Iterable[Any] = ()) -> Verdict:
    """Lost is what is not there, doubled what is there too often or should not be; ``changed`` is lost as well."""
    lost, more, changed = was - now, now - was, sorted(changed)
    why = f"lost {list(lost)[:5]}; more {list(more)[:5]}; changed {changed[:5]}" if lost or more or changed else ""
    return Verdict(lost=lost.total() + len(changed), doubled=more.total(), num_events=was.total(), why=why)


def _files(folder: Path) -> Counter[tuple[str, str]]:
    return Counter(content(folder).items())


# ---- copy


def prepare_copy(place: Place) -> None:
    """Three runs with everything, all in the store; one belongs to another."""
    write_journals(place)
    assert tracking(["sync"]) == 0


def copy(place: Place) -> int:
    """Into a store that is yet to be made."""
    may_end_by_signal(place)
    return tracking(["copy", "sqlite:///mlruns/mlflow.db", "sqlite:///copied/mlflow.db"])


def copied_once(place: Place, target: Path = Path("copied/mlflow.db")) -> Verdict:
    """Each run is there once and whole, with its files; the source is byte for byte as it was.

    ``target``: an sqlite file, or what a database holds as one; the files are in ``copied``.
    """
    was, now = content(place.base / "template" / "mlruns"), content(place.work / "mlruns")
    changed = {name for name in was | now if was.get(name) != now.get(name)}
    there = _rows(place.work / target)
    there = Counter({row: n for row, n in there.items() if row[0] != "tags" or row[2] != "copied_from"})
    files = [_files(next((place.work / folder).rglob("artifacts"))) for folder in ("mlruns", "copied")]
    return _compared(_rows(place.database) + files[0], there + files[1], changed)


# ---- prune


def prepare_prune(place: Place) -> None:
    """Runs of 1970 that may go, of which some failed; what stays is young, the best, or not in the store."""
    make_store(place.work)
    for number, status in enumerate(("FINISHED", "FAILED") * 2 + ("KILLED",)):
        _write(f"old {number}", status, 1_000, 0.1)
    for name, at, score in (("best", 1_000, 0.9), ("young", int(time.time() * 1000), 0.2)):
        _write(name, "FINISHED", at, score)
    assert tracking(["sync"]) == 0
    _write("late", "FINISHED", 1_000, 0.3)


def _write(name: str, status: str, at: int, score: float) -> None:
    journal = Journal.create(Path("mlruns/journals"), experiment="exp", run_name=name, start_time_ms=at, tags={})
    journal.params({"dataset": "digits"}, time_ms=at)
    journal.metrics({"test_accuracy": score}, step=1, time_ms=at)
    journal.artifact(model_folder(Path(name) / "model"), time_ms=at)
    (journal.dir / "state").mkdir()
    (journal.dir / "state" / "state-0001.npz").write_bytes(b"s" * 20_000)
    journal.status(status, reason="made up", end_time_ms=at + 5, time_ms=at + 5)
    journal.close()


def prune(place: Place) -> int:
    """Free the space of what ended long ago."""
    may_end_by_signal(place)
    return tracking(["prune", "--older-than", "90d", "--yes"])


def prune_again(place: Place) -> int:
    """Once more, and bring in what was not in the store yet."""
    return tracking(["prune", "--older-than", "90d", "--yes"]) | tracking(["sync"])


def pruned_only(place: Place) -> Verdict:
    """The journals of old runs are gone, and all of the failed ones; everything else is as it was, and one came in."""
    template, here = place.base / "template" / "mlruns", place.work / "mlruns"
    rows, found = _rows(template / "mlflow.db"), _rows(place.database)
    owner = {row[1]: row[1] for row in found if row[0] == "runs"}
    owner |= {row[1]: row[2] for row in found if row[0] == "logged_models"}  # of a run or model: the run
    names = {row[1]: row[2] for row in found if row[0] == "runs"}
    failed = {row[1] for row in rows if row[0] == "runs" and row[3] != "FINISHED"}
    gone = {one for one, run_id in owner.items() if run_id in failed}
    gone |= {row[3] for row in rows if row[0] == "tags" and row[2] == "journal_id" and names[row[1]][:3] == "old"}
    late = {one for one, run_id in owner.items() if names[run_id] == "late"}

    def marked(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*row[:-1], "deleted") if row[0] in ("runs", "logged_models") and row[1] in gone else row

    def files(folder: Path) -> Counter[tuple[str, str]]:
        own = {"mlflow.db", ".mlflow.db.lock", "replay.json", "replay.lock", "lock"}
        left_out = own | late
        return Counter(one for one in content(folder).items() if not left_out & set(Path(one[0]).parts))

    was = Counter({marked(row): count for row, count in rows.items()})
    was += Counter(one for one in files(template) if not gone & set(Path(one[0]).parts))
    now = Counter({row: count for row, count in found.items() if not late & set(row)}) + files(here)
    verdict = _compared(was, now)
    runs = [(row[3], row[-1]) for row in found if row[0] == "runs" and row[1] in late]
    if runs != [("FINISHED", "active")]:
        verdict.wrong, verdict.why = 1, f"{verdict.why}; the run that was not in the store: {runs}"
    return verdict


COMMANDS = {
    "copy": Program(
        prepare=prepare_copy,
        act=copy,
        recover=copy,
        judge=copied_once,
        share=1.0,
        cost=1.5,
        size_mb=12,
        must_succeed=True,
    ),
    "prune": Program(
        prepare=prepare_prune,
        act=prune,
        recover=prune_again,
        judge=pruned_only,
        share=1.0,
        size_mb=6,
        must_succeed=True,
    ),
}
