"""Stores and journals for the tracking tests; import the fixtures by name."""

from __future__ import annotations

import atexit
import functools
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tracking import store as stores
from tracking.journal import Journal
from tracking.store import Store


@functools.cache
def remember_tables() -> None:
    """What MLflow's migrations make in a new sqlite file is kept: they take seconds, and are the same each time."""
    from mlflow.store.db import utils

    make = utils._initialize_tables
    kept = sqlite3.connect(":memory:", check_same_thread=False)

    def remembered(engine: Any) -> None:
        if engine.dialect.name != "sqlite" or not engine.url.database:
            return make(engine)
        with closing(sqlite3.connect(engine.url.database)) as file:
            if kept.execute("SELECT 1 FROM sqlite_master").fetchone():
                return kept.backup(file)
            make(engine)
            file.backup(kept)

    utils._initialize_tables = functools.wraps(make)(remembered)


@functools.cache
def made_database() -> Path:
    """A fresh MLflow database, made once: its migrations take seconds."""
    from mlflow.store import db

    remember_tables()
    folder = Path(tempfile.mkdtemp(prefix="made-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Store(f"sqlite:///{folder}/mlflow.db", folder / "artifacts", folder / "journals").client()
    # MLflow reads each of its migrations whenever it opens a store, to find the last: 18 ms of each test.
    db.utils._get_latest_schema_revision = functools.cache(db.utils._get_latest_schema_revision)
    return folder / "mlflow.db"


@pytest.fixture(name="store")
def store_fixture(workdir: Path) -> Store:
    """The default store of an empty directory, made already."""
    return make_store(workdir)


@pytest.fixture(name="stored")
def stored_fixture(workdir: Path) -> Path:
    """An empty current directory but for the default store, made already."""
    make_store(workdir)
    return workdir


def make_store(folder: Path) -> Store:
    """The default store of a folder that has none: a copy, for tests that are not about how one is made."""
    (folder / "mlruns").mkdir()
    shutil.copy(made_database(), folder / "mlruns" / "mlflow.db")
    return stores.resolve(folder)


class Stopped(RuntimeError):
    """What a stopped replayer dies of."""


@dataclass(frozen=True)
class StoppingStore(Store):
    """A store whose client stops its user at one call, before or after it has taken effect.

    ``stop_at`` counts the client's calls from 0; ``after`` lets that call through first.
    """

    stop_at: int = -1
    after: bool = False

    def client(self) -> Any:
        return _StoppingClient(super().client(), self.stop_at, self.after)


class _StoppingClient:
    def __init__(self, client: Any, stop_at: int, after: bool) -> None:
        self._client, self._stop_at, self._after = client, stop_at, after
        self.num_calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            number, self.num_calls = self.num_calls, self.num_calls + 1
            if number == self._stop_at and not self._after:
                raise Stopped(name)
            result = method(*arguments, **named)
            if number == self._stop_at:
                raise Stopped(name)
            return result

        return call


def write_full_journal(store: Store, tmp_path: Path, *, num_epochs: int = 3) -> Path:
    """A journal with an event of every kind, ended; its directory."""
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "weights.bin").write_bytes(b"w" * 1000)
    journal = Journal.create(
        store.journals, experiment="exp", run_name="full", start_time_ms=1_000, tags={"mlflow.user": "ada"}
    )
    journal.params({"num_layers": 44, "learning_rate": 0.1}, time_ms=1_001)
    for epoch in range(1, num_epochs + 1):
        journal.metrics({"train_loss": 1 / epoch, "train_accuracy": float("nan")}, step=epoch, time_ms=1_000 * epoch)
        journal.tags({"epoch": epoch}, time_ms=1_000 * epoch + 1)
    journal.dataset(
        context="train", name="digits", digest="d1", source="/data", num_images=9, num_classes=3, time_ms=2_000
    )
    journal.artifact(tmp_path / "model", time_ms=3_000)
    journal.metrics({"test_accuracy": 0.5}, step=num_epochs, time_ms=9_000)
    journal.status("FAILED", reason="made up", end_time_ms=10_000, time_ms=10_000)
    journal.close()
    return journal.dir


def half_made(path: Path) -> None:
    """Leave at ``path`` what two programs that make a store at once leave: an early schema and a stray table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        columns = "experiment_id INTEGER, name TEXT, lifecycle_stage TEXT"
        connection.execute(f"CREATE TABLE experiments ({columns})")
        connection.execute("INSERT INTO experiments VALUES (0, 'Default', 'active')")
        connection.execute("CREATE TABLE runs (run_uuid TEXT, lifecycle_stage TEXT)")
        for table in ("metrics", "_alembic_tmp_metrics"):
            connection.execute(f"CREATE TABLE {table} (key TEXT, value FLOAT)")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('a8c4a736bde6')")
        connection.commit()
