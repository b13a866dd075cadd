"""A store on a real PostgreSQL, started for the occasion where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking_fixtures import Stopped, StoppingStore, write_full_journal

from tracking import run as tracked
from tracking.errors import StoreError
from tracking.replay import replay
from tracking.store import Store, resolve

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("initdb") is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL without data; its URI without a database."""
    pytest.importorskip("psycopg2")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = None
    if os.geteuid() == 0:  # which PostgreSQL refuses
        user = "postgres"
        try:
            shutil.chown(folder, user)
        except LookupError:
            shutil.rmtree(folder)
            pytest.skip("PostgreSQL does not run as root and there is no user postgres")
    name = user or pwd.getpwuid(os.geteuid()).pw_name
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "user": user, "timeout": 120}
    data = folder / "data"
    subprocess.run(["initdb", "-D", data, "-A", "trust", "-U", name, "--no-sync"], check=True, **quiet)
    options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
    subprocess.run(["pg_ctl", "-D", data, "-w", "-o", options, "start"], check=True, **quiet)
    try:
        yield f"postgresql+psycopg2://{name}@127.0.0.1:{port}"
    finally:
        subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def store(server: str, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/postgres")
    return resolve()


def test_runs_live_there_as_they_live_in_a_file(store: Store, tmp_path: Path) -> None:
    with tracked.start(experiment="exp", system_metrics=False, flush_s=120) as run:
        run.metrics({"loss": 0.5, "nan": float("nan")}, step=1)
        run.text("hello", "notes.txt")
    assert run.mlflow_run_id is not None
    found = store.find_run(run.mlflow_run_id[:8])
    assert (found.info.status, found.data.metrics["loss"]) == ("FINISHED", 0.5)
    assert (tmp_path / "mlruns" / "artifacts" / "exp" / run.mlflow_run_id / "artifacts" / "notes.txt").exists()
    for stop_at in (0, 1, 2, 4, 7):
        for after in (False, True):
            directory = write_full_journal(store, tmp_path)
            stopping = StoppingStore(store.tracking_uri, store.artifact_root, store.root, stop_at=stop_at, after=after)
            with pytest.raises(Stopped):
                replay(directory, stopping)
            replay(directory, store)
            [one] = store.runs(None, f"tags.journal_id = '{directory.name}'")
            history = store.client().get_metric_history(one.info.run_id, "train_accuracy")
            assert [(m.step, m.timestamp) for m in history] == [(1, 1_000), (2, 2_000), (3, 3_000)]
            assert (one.info.status, one.info.end_time) == ("FAILED", 10_000)


def test_several_processes_make_the_tables_at_once(server: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg2

    connection = psycopg2.connect(f"{server}/postgres".replace("+psycopg2", ""))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE several")
    finally:
        connection.close()
    code = "from tracking.store import resolve; s = resolve(); s.client().create_run(s.experiment_id('exp'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"{server}/several"}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/several")
    assert len(list(resolve().runs())) == 3


def test_a_database_of_another_version_is_said_with_the_way_out(server: str, store: Store) -> None:
    import psycopg2

    store.client()
    connection = psycopg2.connect(f"{server}/postgres".replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    finally:
        connection.close()
    # MLflow has the store open in this process, so its own check is asked here.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from tracking import border

    with (
        pytest.raises(StoreError, match=r"found version 451aebb31d03, but expected .*mlflow db upgrade postgresql"),
        border.translated(store.tracking_uri),
    ):
        SqlAlchemyStore(store.tracking_uri, "/nowhere")
