"""Databases of each MLflow since 1.30, and of one that is not there yet, are read by the columns in them."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import reports
from tests.support import GOLDEN
from tests.support.runs import new_store, trained
from tracking.errors import StoreError
from tracking.frame import frame
from tracking.store import schema

VERSIONS = ["1.30.1", "2.0.1", "2.9.2", "2.14.3", "2.22.0", "3.0.1", "3.5.1", "3.10.1", "3.17.2", "3.18.0"]


def changed(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(";".join(statements))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_store_of_any_version_is_read_by_sql_and_stays_as_it_is(tmp_path: Path, version: str) -> None:
    path = tmp_path / "theirs.db"
    changed(path, (GOLDEN / f"mlflow_store_{version}.sql").read_text())
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    uri, number = f"sqlite:///{path}", tuple(map(int, version.split(".")))
    runs = frame.load(uri)
    assert (runs.attrs["read_by"], runs.attrs["note"]) == ("sql", "")
    # The third run of those made later is deleted.
    assert sorted(runs["run_name"]) == ["depth-34", "depth-44"] and set(runs["status"]) == {"FINISHED"}
    assert sorted(runs["params.num_layers"]) == [34, 44] and sorted(runs["metrics.test_accuracy"]) == [0.91, 0.93]
    assert runs.attrs["nan"] == sorted((run, "metrics.odd") for run in runs["run_id"])
    ids = runs["run_id"].tolist()
    points = frame.histories(uri, ids, ["train_accuracy"])
    assert points[["step", "value"]].values.tolist() == [[1, 0.5], [2, 0.8]] * 2
    assert [one.digest for one in frame.inputs(uri, ids[0])] == (["d1"] if number >= (2, 4) else [])
    assert len(frame.models(uri, ids[0])) == (1 if number >= (3,) else 0)
    assert frame.load(uri, filter="params.num_layers = '44'")["run_name"].tolist() == ["depth-44"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before and list(tmp_path.iterdir()) == [path]


NEXT = (
    "CREATE TABLE prompt_budgets (id INTEGER PRIMARY KEY, run_uuid TEXT)",
    "CREATE TABLE agent_sessions (id TEXT)",
    "CREATE TABLE agent_turns (id TEXT, session JSONB)",
    "ALTER TABLE runs ADD COLUMN priority INTEGER",
    "ALTER TABLE metrics ADD COLUMN unit VARCHAR(20)",
    "UPDATE alembic_version SET version_num = '0123456789ab'",
)


def test_a_next_schema_is_read_by_sql_just_the_same(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    filler.run(**trained(), inputs={"test": "d1"})
    known = frame.load(filler.uri)
    changed(tmp_path / "mlflow.db", *NEXT)
    assert schema.state(schema.look(filler.uri)) == "newer"
    runs = frame.load(filler.uri)
    assert runs.attrs["read_by"] == "sql" and runs.attrs["note"] == "" and runs.equals(known)
    # What only MLflow could answer is not asked of one that would not know this store.
    with pytest.raises(StoreError, match="filter .* is left to MLflow; so MLflow has to be asked"):
        frame.load(filler.uri, filter="params.a = 5")


# How a next MLflow might move what is read; and what is said of it.
MOVED = {
    "ALTER TABLE latest_metrics RENAME TO current_metrics": "it has no latest_metrics",
    "ALTER TABLE runs RENAME COLUMN name TO run_name": "it has no runs.name",
    "ALTER TABLE metrics DROP COLUMN is_nan; ALTER TABLE metrics ADD COLUMN is_nan TEXT": (
        "its metrics.is_nan is TEXT instead of boolean"
    ),
    "ALTER TABLE runs DROP COLUMN end_time; ALTER TABLE runs ADD COLUMN end_time TIMESTAMP": (
        "its runs.end_time is TIMESTAMP instead of integer"
    ),
    "ALTER TABLE datasets RENAME COLUMN digest TO checksum": "it has no datasets.digest",
    "DROP TABLE input_tags": "it has no input_tags",
}


@pytest.mark.parametrize("statement", MOVED)
def test_what_a_next_schema_has_elsewhere_is_named(tmp_path: Path, statement: str) -> None:
    filler = new_store(tmp_path)
    filler.run(**trained(), inputs={"test": "d1"})
    # is_nan is part of a primary key, which a column that is dropped must not be.
    free = "CREATE TABLE free AS SELECT * FROM metrics; DROP TABLE metrics; ALTER TABLE free RENAME TO metrics"
    changed(tmp_path / "mlflow.db", *NEXT, *([free] if "metrics DROP" in statement else []), statement)
    with pytest.raises(StoreError) as caught:
        frame.load(filler.uri)
    said = (
        f"mlflow.db: {MOVED[statement]}; so MLflow has to be asked, and the one installed here does not know the schema"
    )
    assert f"{said} 0123456789ab: `pip install --upgrade mlflow`" in str(caught.value)


def test_mlflow_is_asked_where_it_knows_the_schema_and_the_page_says_why(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    filler.run(**trained(), inputs={"test": "d1"})
    known = frame.load(filler.uri)
    # MLflow itself does not mind how sqlite declares a column.
    changed(
        tmp_path / "mlflow.db",
        "CREATE TABLE other AS SELECT run_uuid, key, CAST(value AS TEXT) AS value, timestamp, step, is_nan FROM"
        " latest_metrics",
        "DROP TABLE latest_metrics",
        "ALTER TABLE other RENAME TO latest_metrics",
    )
    runs = frame.load(filler.uri)
    said = "read through MLflow, which is slower: its latest_metrics.value is TEXT instead of float"
    assert (runs.attrs["read_by"], runs.attrs["note"]) == ("api", said)
    assert runs["run_id"].tolist() == known["run_id"].tolist()
    assert said in reports.leaderboard_text(store=filler.uri)


def test_what_is_not_asked_for_may_be_missing(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    filler.run(**trained(), inputs={"test": "d1"})
    changed(tmp_path / "mlflow.db", *NEXT, "DROP TABLE input_tags")
    runs = frame.load(filler.uri, columns=["params.*", "metrics.test_accuracy"])
    assert runs.attrs["read_by"] == "sql" and runs["metrics.test_accuracy"].tolist() == [0.95]
