"""Which store is meant, opening it safely, finding runs in it, and what is said when it cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from tests.support import ROOT
from tests.support.forked import Forked
from tests.support.stores import half_made, made_database, write_full_journal
from tracking.errors import RunNotFound, StoreError, StoreUnreachable, TrackingError
from tracking.store import Store, resolve, schema
from tracking.store import connection as border
from tracking.store.replay import replay


def change(database: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement, values)
        connection.commit()


def test_the_default_store_lies_in_mlruns_of_this_directory(workdir: Path) -> None:
    store = resolve()
    assert store.tracking_uri == f"sqlite:///{workdir}/mlruns/mlflow.db"
    assert store.artifact_root == workdir / "mlruns" / "artifacts"
    assert store.journals == workdir / "mlruns" / "journals"
    assert store.database == workdir / "mlruns" / "mlflow.db"
    assert store.default_experiment == "image-classification"
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "resolved", "artifacts"),
    [
        ("sqlite:///other/x.db", "sqlite:///{cwd}/other/x.db", "other/artifacts"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db", "/abs/artifacts"),
        ("sqlite:///mlruns/mlflow.db", "sqlite:///{cwd}/mlruns/mlflow.db", "mlruns/artifacts"),
        ("postgresql://me:secret@db.example/x", "postgresql://me:secret@db.example/x", "mlruns/artifacts"),
        ("https://mlflow.example", "https://mlflow.example", None),
        ("databricks", "databricks", None),
        ("arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x",) * 2 + (None,),
    ],
)
def test_the_environment_names_the_store(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, uri: str, resolved: str, artifacts: str | None
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    store = resolve()
    assert store.tracking_uri == resolved.format(cwd=workdir)
    assert store.artifact_root == (None if artifacts is None else workdir / artifacts)
    assert store.journals == workdir / "mlruns" / "journals"
    assert store.default_experiment == "theirs"


def test_a_password_is_never_shown() -> None:
    assert border.public("postgresql+psycopg2://me:s3cr:et%2F@db:5432/x") == "postgresql+psycopg2://me:***@db:5432/x"
    assert border.public("https://me:secret@mlflow.example") == "https://me:***@mlflow.example"
    assert border.public("https://mlflow.example/a@b") == "https://mlflow.example/a@b"


@pytest.mark.parametrize("uri", ["file://{}/runs", "file:runs", "./runs", "{}/runs"])
def test_a_file_store_is_refused_with_the_way_out(workdir: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(workdir))
    for use in (resolve().check, resolve().client):
        with pytest.raises(StoreError, match="is a folder that does not exist; a store's URI is sqlite:"):
            use()
    (workdir / "runs" / "0").mkdir(parents=True)
    way_out = f"python -m tracking copy {workdir}/runs sqlite:///{workdir}/runs/mlflow.db"
    for use in (resolve().check, resolve().client):
        with pytest.raises(StoreError, match=rf"is a file store.*{way_out}"):
            use()
    assert list(workdir.rglob("*")) == [workdir / "runs", workdir / "runs" / "0"]


def test_runs_in_the_old_layout_are_pointed_out_until_they_are_brought_over(workdir: Path) -> None:
    (workdir / "mlruns" / "0").mkdir(parents=True)
    (workdir / "mlruns" / "0" / "meta.yaml").write_text("")
    with pytest.raises(StoreError, match=r"old file layout.*tracking copy .*mlruns sqlite:"):
        resolve().check()
    shutil.copy(made_database(), workdir / "mlruns" / "mlflow.db")
    resolve().check()


def test_a_folder_that_was_deleted_is_said(workdir: Path) -> None:
    (workdir / "gone").mkdir()
    os.chdir(workdir / "gone")
    (workdir / "gone").rmdir()
    with pytest.raises(StoreError, match="current folder was deleted"):
        resolve()
    os.chdir(workdir)


def test_a_memory_store_is_refused(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("sqlite://", "sqlite:///:memory:"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(StoreError, match="is in memory"):
            resolve().check()


def test_a_folder_that_is_a_file_is_said(workdir: Path) -> None:
    (workdir / "mlruns").write_text("")
    for use in (resolve().check, resolve().client):
        with pytest.raises(StoreError, match=r"cannot write .*mlruns.*change its owner or permissions"):
            use()


def test_a_store_without_write_permission_is_said() -> None:
    code = """
import os
from tracking.errors import StoreError
from tracking.store import resolve
if os.geteuid() == 0:  # root may write anywhere
    os.setgid(65534)
    os.setuid(65534)
try:
    resolve().check()
except StoreError as error:
    print(error)
"""
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which another user may not enter
        database = Path(folder).resolve() / "mlruns" / "mlflow.db"
        database.parent.mkdir()
        shutil.copy(made_database(), database)
        database.chmod(0o444)
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert done.stdout.startswith(f"cannot write {database}: no write permission; change its owner"), done.stderr


def test_a_read_only_database_is_said_when_it_is_written(store: Store, tmp_path: Path) -> None:
    class ReadOnly(Store):
        def client(self) -> Any:
            return _Refusing(super().client())

    class _Refusing:
        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

        def create_run(self, *_: Any, **__: Any) -> Any:
            from mlflow.exceptions import MlflowException

            raise MlflowException("(sqlite3.OperationalError) attempt to write a readonly database")

    refusing = ReadOnly(store.tracking_uri, store.artifact_root, store.journals)
    with pytest.raises(StoreError, match=r"cannot write .*mlflow.db: no write permission; change its owner"):
        replay(write_full_journal(store, tmp_path), refusing)


def test_a_store_of_an_older_mlflow_is_said_with_both_versions(store: Store) -> None:
    _, head = schema.revisions()
    database = store.database
    assert database is not None
    store.client().create_run(store.experiment_id("exp"))
    change(database, "UPDATE alembic_version SET version_num = '451aebb31d03'")
    for use in (store.check, store.client):
        with pytest.raises(
            StoreError, match=f"schema 451aebb31d03.*wants {head}.*mlflow db upgrade sqlite:///{database}"
        ):
            use()


def test_a_store_of_a_newer_mlflow_is_said(store: Store) -> None:
    database = store.database
    assert database is not None
    change(database, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(StoreError, match="a newer MLflow made it, or .*`pip install --upgrade mlflow`"):
        store.client()


def test_mlflows_own_words_on_another_version_are_translated() -> None:
    from mlflow.exceptions import MlflowException

    with (
        pytest.raises(
            StoreError, match=r"found version a, but expected b.*mlflow db upgrade postgresql://me:\*\*\*@db/x"
        ),
        border.translated("postgresql://me:secret@db/x"),
    ):
        raise MlflowException("Detected out-of-date database schema (found version a, but expected b). Take a backup")


def test_the_newest_schema_read_from_text_is_the_one_mlflow_uses(store: Store) -> None:
    database = store.database
    assert database is not None
    found = schema.look(store.tracking_uri)
    assert found.revisions == (schema.revisions()[1],) and found.is_blank
    assert schema.state(found) == "ready"
    assert schema.state(schema.look(f"sqlite:///{database.with_name('none.db')}")) == "absent"
    database.with_name("empty.db").touch()
    assert schema.state(schema.look(f"sqlite:///{database.with_name('empty.db')}")) == "absent"


def test_a_file_that_is_no_database_is_said(workdir: Path) -> None:
    (workdir / "mlruns").mkdir()
    (workdir / "mlruns" / "mlflow.db").write_text("no database at all, but long enough to look at" * 10)
    with pytest.raises(StoreError, match="is not an sqlite database but another kind of file"):
        resolve().check()


def test_a_half_made_store_is_said(workdir: Path) -> None:
    half_made(workdir / "mlruns" / "mlflow.db")
    for use in (resolve().check, resolve().client):
        with pytest.raises(StoreError, match=r"left half made.*`python -m tracking repair`"):
            use()


def test_several_processes_make_one_store_at_once(workdir: Path) -> None:
    code = """
from tracking.store import resolve
store = resolve()
store.client().create_run(store.experiment_id("exp"))
"""
    processes = [Forked("-c", code) for _ in range(3)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, said
    assert "".join(said) == ""
    store = resolve()
    assert len(list(store.runs())) == 3
    assert [e.name for e in store.client().search_experiments()] == ["exp", "Default"]


def test_a_forked_process_opens_connections_of_its_own(store: Store) -> None:
    used: list[object] = []

    @event.listens_for(Pool, "checkout")
    def note(connection: object, *_: object) -> None:
        used.append(connection)

    try:
        store.client().search_experiments()
        former = list(used)
        assert former
        used.clear()
        pid = os.fork()
        if not pid:
            with suppress(BaseException):
                store.client().search_experiments()
                os._exit(0 if used and not any(one is old for one in used for old in former) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        store.client().search_experiments()
        assert used and all(any(one is old for old in former) for one in used)
    finally:
        event.remove(Pool, "checkout", note)


def test_odd_characters_in_the_path_are_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b's 50% ü#1"
    (folder / "mlruns").mkdir(parents=True)
    monkeypatch.chdir(folder)
    shutil.copy(made_database(), folder / "mlruns" / "mlflow.db")
    store = resolve()
    run_id = replay(write_full_journal(store, tmp_path), store).run_id
    assert (folder / "mlruns" / "artifacts" / "exp" / run_id / "artifacts" / "model" / "weights.bin").exists()
    assert [f.path for f in store.client().list_artifacts(run_id, "model")] == ["model/weights.bin"]
    assert store.client().download_artifacts(run_id, "model/weights.bin").endswith("weights.bin")


def test_experiments_keep_their_artifacts_under_their_name(store: Store) -> None:
    client = store.client()
    for name, folder in (("plain", "plain"), ("a/b: c", "a-b-c"), ("../..", "experiment"), ("tiefe–深", "tiefe-深")):
        first = store.experiment_id(name)
        assert store.experiment_id(name) == first
        location = client.get_experiment(first).artifact_location
        assert client.get_experiment(first).tags["mlflow.experimentKind"] == "custom_model_development"
        assert location == (store.journals.parent / "artifacts" / folder).as_uri()
    with pytest.raises(StoreError, match="no experiment 'other' in sqlite.*; there are: ../.., Default, a/b: c, plain"):
        store.experiment_id("other", create=False)


def test_runs_are_paged_through(store: Store) -> None:
    client = store.client()
    experiment = store.experiment_id("exp")
    run = client.create_run(experiment)
    database = store.database
    assert database is not None
    with closing(sqlite3.connect(database)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        names = ", ".join(c for c in columns if c != "run_uuid")
        connection.executemany(
            f"INSERT INTO runs (run_uuid, {names}) SELECT ?, {names} FROM runs WHERE run_uuid = ?",
            [(f"{n:032x}", run.info.run_id) for n in range(1_200)],
        )
        connection.commit()
    assert len({r.info.run_id for r in store.runs([experiment])}) == 1_201
    assert len(list(store.runs([experiment], "attributes.status = 'FINISHED'"))) == 0
    assert list(store.runs([])) == []


def test_runs_are_found_by_id_journal_and_beginning(store: Store, tmp_path: Path) -> None:
    directory = write_full_journal(store, tmp_path)
    run_id = replay(directory, store).run_id
    for text in (run_id, run_id[:6], directory.name, directory.name[:6], "full"):
        assert store.find_run(text).info.run_id == run_id
        assert store.journal_dir(text) == directory
    for find in (store.find_run, store.journal_dir):
        with pytest.raises(RunNotFound, match="zzzz"):
            find("zzzz")
    for text in ("a'b--", 'it\'s "so"', "ful", "f%"):
        with pytest.raises(RunNotFound, match="at least 4"):
            store.find_run(text)
    with pytest.raises(RunNotFound):
        store.journal_dir(run_id[:3])


@pytest.mark.parametrize("name", ["it's full", 'a "full" one', "naïve 42", "-x"])
def test_a_name_that_two_runs_have_is_refused(name: str, store: Store) -> None:
    from tracking.journal import Journal

    first = Journal.create(store.journals, experiment="exp", run_name=name).dir
    run_id = replay(first, store).run_id
    assert (store.find_run(name).info.run_id, store.journal_dir(name)) == (run_id, first)
    replay(Journal.create(store.journals, experiment="exp", run_name=name).dir, store)
    for find in (store.find_run, store.journal_dir):
        with pytest.raises(TrackingError, match="could be 2"):
            find(name)


def test_a_beginning_that_fits_several_is_said(store: Store, tmp_path: Path) -> None:
    from tracking.journal import Journal

    for number in (1, 2):
        journal = Journal.create(store.journals, experiment="exp", run_name=None, journal_id=f"same{number}")
        replay(journal.dir, store)
    with pytest.raises(TrackingError, match="'same' could be 2 runs"):
        store.find_run("same")
    with pytest.raises(TrackingError, match="'same' could be 2 journals: same1, same2"):
        store.journal_dir("same")


def test_nobody_listening_is_said_at_once(workdir: Path) -> None:
    for uri in ("http://127.0.0.1:1", "postgresql+psycopg2://me:secret@127.0.0.1:1/x"):
        store = Store(uri, None, workdir)
        with pytest.raises(StoreUnreachable, match="nothing answers at .*start the server or correct") as caught:
            store.client()
        assert "secret" not in str(caught.value)


def test_behind_a_proxy_the_address_itself_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(StoreUnreachable, match=r"no answer from http://mlflow.invalid: .*[Pp]roxy"):
        border.check_reachable("http://mlflow.invalid")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(StoreUnreachable):
        border.check_reachable("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("(sqlite3.OperationalError) database or disk is full", StoreUnreachable, "the disk is full; make room"),
        ("(sqlite3.OperationalError) database is locked", StoreUnreachable, "mlflow.db is locked by another program"),
        ("(sqlite3.DatabaseError) database disk image is malformed", StoreError, "/x/mlflow.db is damaged"),
        ("API request to /x failed with exception Max retries exceeded with url", StoreUnreachable, "no answer"),
        ("API request to endpoint /x failed with error code 503 != 200.", StoreUnreachable, "no answer"),
        ("API request to endpoint /x failed with error code 401 != 200.", StoreError, "check user, password"),
        ('FATAL:  password authentication failed for user "me"', StoreError, "check user, password"),
        ("unable to open database file", StoreError, "no write permission"),
        ("The filesystem tracking backend (e.g., './mlruns') is in maintenance mode", StoreError, "tracking copy"),
    ],
)
def test_foreign_errors_are_said_in_our_words(text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as caught, border.translated("sqlite:////x/mlflow.db"):
        raise RuntimeError(text)
    assert type(caught.value) is kind
    with pytest.raises(RuntimeError, match="something else"), border.translated("sqlite:////x/mlflow.db"):
        raise RuntimeError("something else")


def test_a_driver_that_is_not_installed_is_named() -> None:
    with (
        pytest.raises(StoreError, match="needs the driver psycopg, which is not installed"),
        border.translated("postgresql://me@db/x"),
    ):
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")


def test_whoever_makes_a_store_can_be_killed_at_any_moment(workdir: Path) -> None:
    """MLflow's migrations take seconds; killed among them, the next one finds nothing and makes the store again."""
    code = "from tracking.store import resolve; print('go', flush=True); resolve().client()"
    maker = Forked("-c", code)
    deadline = time.monotonic() + 120
    while not any((workdir / "mlruns").glob("mlflow.db*")):
        assert maker.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    maker.kill()
    maker.communicate()
    store = resolve()
    store.check()
    assert store.experiment_id("after")
    assert not list((workdir / "mlruns").glob("*.part*"))
