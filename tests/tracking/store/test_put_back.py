"""A store put back from an older copy: ``sync --all`` finds what it lacks; where it has all, nothing changes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.stores import make_store
from tests.tracking.store.test_logged_models import model_folder
from tracking import run as tracked
from tracking.__main__ import main as tracking
from tracking.run import Run
from tracking.store import Store

STEPS: tuple[Callable[[Run], object], ...] = (
    lambda run: run.log_params({"depth": 20}),
    lambda run: run.log_metrics({"loss": 0.5, "nan": float("nan")}, step=1),
    lambda run: run.set_tags({"at": "one"}),
    lambda run: run.log_dataset("train", name="d", digest="d1", source="/d", num_images=3, num_classes=2),
    lambda run: run.log_text("all", "notes.txt"),
    lambda run: run.log_artifact(model_folder(Path("model"))),
    lambda run: run.log_metrics({"loss": 0.25}, step=2),
    lambda run: run.log_metrics({"accuracy": 0.75}, step=2),
)
_TABLES = ("runs", "params", "tags", "metrics", "latest_metrics", "datasets", "inputs", "logged_models")


@pytest.fixture
def store(workdir: Path) -> Store:
    return make_store(workdir)


def backup(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(str(store.database))) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def content(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Every row, without the ids that are made anew."""
    with closing(sqlite3.connect(f"file:{store.database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in _TABLES}

    def kept(row: sqlite3.Row) -> Iterator[object]:
        for key in row.keys():
            if not key.endswith(("uuid", "_id", "timestamp_ms")) and "location" not in key and "uri" not in key:
                yield row[key]

    return {table: sorted(tuple(map(str, kept(row))) for row in found) for table, found in rows.items()}


def logged(store: Store) -> Run:
    with tracked.start("run", experiment="exp", live=None, system_metrics=False) as run:
        for log in STEPS:
            log(run)
    assert tracking(["sync"]) == 0
    return run


def test_whatever_it_lacks_comes_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    logged(store)
    before = content(store)
    model = "DELETE FROM logged_models; DELETE FROM logged_model_params;"
    for gone in (
        "DELETE FROM metrics WHERE step = 1 AND is_nan = 0",
        "DELETE FROM metrics WHERE key = 'accuracy'; DELETE FROM latest_metrics WHERE key = 'accuracy'",
        "DELETE FROM params",
        "DELETE FROM tags WHERE key = 'at'",
        "DELETE FROM inputs WHERE source_type = 'DATASET'; DELETE FROM datasets",
        f"{model} DELETE FROM inputs WHERE source_type = 'RUN_OUTPUT'",
        "UPDATE runs SET status = 'RUNNING', end_time = NULL",
    ):
        with closing(sqlite3.connect(str(store.database))) as connection, connection:
            connection.executescript(gone)
        assert content(store) != before
        assert tracking(["sync"]) == 0
        assert content(store) != before
        assert tracking(["sync", "--all"]) == 0
        assert content(store) == before, gone
    capsys.readouterr()
    assert tracking(["sync", "--all"]) == 0
    assert "0 brought up to date, 1 were already" in capsys.readouterr().out


def test_put_back_while_the_run_goes_on(store: Store, workdir: Path) -> None:
    """It has what came before and after; a run that began in between has none there."""
    with tracked.start("run", experiment="exp", live=None, system_metrics=False) as run:
        for number, log in enumerate(STEPS):
            if number == 2:
                assert tracking(["sync"]) == 0
                backup(store, workdir / "older.db")
            if number == 5:
                other = logged(store)
                shutil.copy(workdir / "older.db", str(store.database))
            log(run)
    assert tracking(["sync"]) == 0
    assert {found.info.run_name for found in store.runs()} == {"run"} and other.journal_id
    assert tracking(["sync", "--all"]) == 0
    found = content(store)
    assert [len(found[table]) for table in ("runs", "metrics", "logged_models")] == [2, 8, 2]
    for state in (workdir / "mlruns" / "journals").glob("*/replay.json"):
        state.unlink()
    assert tracking(["sync"]) == 0
    assert content(store) == found


def test_a_person_s_changes_stay_where_nothing_is_lacking(store: Store) -> None:
    with tracked.start("run", experiment="exp", tags={"at": "zero"}, system_metrics=False) as run:
        run.log_metrics({"loss": 0.5}, step=1)
    client = store.client()
    client.set_tag(run.run_id, "at", "a person's")
    client.set_tag(run.run_id, "mlflow.note.content", "a person's")
    before = content(store)
    assert tracking(["sync", "--all"]) == 0
    assert content(store) == before
