"""A store whose writer was killed, or that another program holds locked, is not a damaged store."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from reports.__main__ import main as reports
from tests.support import ROOT
from tests.support.stores import made_database, make_store
from tracking import frame
from tracking import run as tracked
from tracking.__main__ import main as tracking
from tracking.errors import StoreError, StoreUnreachable
from tracking.journal import Journal
from tracking.store import Store, readonly, resolve, schema
from tracking.store.replay import Replayer

Captured = pytest.CaptureFixture[str]

# A small cache makes sqlite write changed pages into the file before the commit, as a large commit does.
_WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 5")
for statement in sys.argv[2:]:
    connection.execute(statement)
os.kill(os.getpid(), signal.SIGKILL)
"""
_ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"


def killed_in_a_commit(database: Path, *statements: str) -> None:
    """Have a program change the database and be killed before its commit is done."""
    done = subprocess.run([sys.executable, "-c", _WRITER, str(database), *statements])
    assert done.returncode == -9
    assert Path(f"{database}-journal").stat().st_size > 512


def tracked_run(store: Store) -> str:
    client = store.client()
    run = client.create_run(store.experiment_id("exp"), run_name="whole")
    client.log_param(run.info.run_id, "note", "as it was")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


@pytest.fixture
def interrupted(workdir: Path) -> Store:
    """A store with one run, and a second writer killed while it rewrote everything."""
    store = make_store(workdir)
    run_id = tracked_run(store)
    assert store.database is not None
    killed_in_a_commit(
        store.database,
        f"INSERT INTO params (run_uuid, key, value) {_ROWS} SELECT '{run_id}', 'p' || i, hex(zeroblob(200)) FROM n",
        "UPDATE params SET value = 'torn'",
    )
    return store


def test_a_reader_reads_what_was_committed(interrupted: Store, capsys: Captured) -> None:
    runs = frame.load(interrupted)
    assert runs["params.note"].tolist() == ["as it was"] and "params.p1" not in runs.columns
    assert not Path(f"{interrupted.database}-journal").exists()
    assert reports(["leaderboard"]) == 0


def test_a_link_to_a_store_is_as_good(interrupted: Store, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(str(interrupted.database))
    assert frame.load(f"sqlite:///{tmp_path}/link.db")["params.note"].tolist() == ["as it was"]


def test_a_command_goes_on_with_what_was_committed(interrupted: Store, capsys: Captured) -> None:
    assert tracking(["sync"]) == 0
    assert tracking(["repair"]) == 0
    assert capsys.readouterr().err == ""
    with tracked.start(system_metrics=False, experiment="exp") as run:
        run.log_metrics({"loss": 0.5}, step=1)
    assert capsys.readouterr().err == ""
    assert sorted(frame.load(interrupted)["status"]) == ["FINISHED", "FINISHED"]
    with closing(sqlite3.connect(str(interrupted.database))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_reader_that_may_not_write_says_what_takes_the_write_back(interrupted: Store) -> None:
    code = """
import os, sys
from tracking import frame
from tracking.errors import StoreError
frame.load(sys.argv[2])  # imports what another user may not
if os.geteuid() == 0:  # root may write anywhere
    os.setgid(65534)
    os.setuid(65534)
try:
    frame.load(sys.argv[1])
except StoreError as error:
    print(error)
"""
    root = ROOT
    place = Path("/tmp") / f"interrupted-{os.getpid()}"
    place.mkdir()
    try:
        for end in ("", "-journal"):
            shutil.copy(f"{interrupted.database}{end}", place / f"theirs.db{end}")
            (place / f"theirs.db{end}").chmod(0o444)
        place.chmod(0o555)
        before = {p.name: p.read_bytes() for p in place.iterdir()}
        done = subprocess.run(
            [sys.executable, "-c", code, f"sqlite:///{place}/theirs.db", f"sqlite:///{made_database()}"],
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
        )
        assert done.stdout.startswith(f"a program was stopped while it wrote {place}/theirs.db"), done.stderr
        assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    finally:
        place.chmod(0o755)
        shutil.rmtree(place)


def test_another_programs_interrupted_write_is_left_to_that_program(workdir: Path, capsys: Captured) -> None:
    path = workdir / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.executemany("INSERT INTO bookmarks VALUES (?)", [("x" * 400,)] * 500)
        connection.commit()
    killed_in_a_commit(path, "UPDATE bookmarks SET url = 'y' || url")
    before = {p.name: p.read_bytes() for p in workdir.iterdir()}
    for act in (lambda: frame.load(f"sqlite:///{path}"), lambda: schema.look(f"sqlite:///{path}")):
        with pytest.raises(StoreError, match=r"another program's database \(tables bookmarks\).*nothing was changed"):
            act()
    assert {p.name: p.read_bytes() for p in workdir.iterdir()} == before


def test_a_killed_writer_in_wal_mode_loses_nothing_it_committed(workdir: Path) -> None:
    store = make_store(workdir)
    run_id = tracked_run(store)
    code = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = wal")
connection.execute("INSERT INTO params (run_uuid, key, value) VALUES (?, 'late', 'committed')", [sys.argv[2]])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(store.database), run_id]).returncode == -9
    database = Path(str(store.database))
    before = database.read_bytes(), Path(f"{database}-wal").read_bytes()
    assert frame.load(store)["params.late"].tolist() == ["committed"]
    assert (database.read_bytes(), Path(f"{database}-wal").read_bytes()) == before
    store.check()
    tracked_run(store)
    assert len(frame.load(store)) == 2


def test_a_damaged_file_is_no_events_fault(store: Store) -> None:
    """Nor is it noted as one when the file is whole again: a copy was put back, or a network disk is well."""
    database = Path(str(store.database))
    journal = Journal.create(store.journals, experiment="exp", run_name="damaged")
    replayer = Replayer(journal.dir, store)
    replayer.advance()
    journal.dataset(context="test", name="digits", digest="d1", source="/d", num_images=9, num_classes=3)
    journal.status("FINISHED")
    journal.close()
    with database.open("r+b") as stream:
        stream.write(b"\0" * 16)
    with pytest.raises(StoreError, match="is not an sqlite database"):
        replayer.advance()
    with database.open("r+b") as stream:
        stream.write(b"SQLite format 3\0")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 1")  # so that who has it open reads it again
    outcome = replayer.advance()
    assert (outcome.status, outcome.problems) == ("FINISHED", [])
    assert [one.digest for one in frame.inputs(store, outcome.run_id)] == ["d1"]


@contextmanager
def locked_by_another(database: Path) -> Iterator[None]:
    """Another process holds the file alone, as a backup does."""
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
    line = [sys.executable, "-c", code, str(database)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        yield
        other.communicate("")


def test_a_run_begins_while_the_store_is_locked_and_comes_in_later(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("tracking.store.store.BRIEFLY_S", 0.1)
    monkeypatch.setattr(readonly, "WAIT_S", 0.1)
    database = Path(str(store.database))
    with locked_by_another(database):
        with tracked.start(experiment="exp", system_metrics=False, flush_s=0.1) as run:
            said = capsys.readouterr().err
            assert f"{database} is locked by another program" in said and "nothing is wrong with it" in said
            assert "the run goes on in its journal" in said and "python -m tracking sync" in said
            run.log_metrics({"loss": 0.5}, step=1)
        said = capsys.readouterr().err
        assert "not all of this run is in MLflow yet" in said and "bring it in later with" in said
        for command, words in ((reports, ["leaderboard"]), (tracking, ["sync"]), (tracking, ["repair"])):
            assert command(words) in (1, 2)
            said = capsys.readouterr().err
            assert f"{database} is locked by another program" in said, words
            assert "move" not in said and "elsewhere" not in said and said.count("\n") == 1
    assert tracking(["sync"]) == 0
    assert frame.load(store)["metrics.loss"].tolist() == [0.5]


def test_a_short_lock_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readonly, "WAIT_S", 0.1)
    with locked_by_another(Path(str(store.database))), pytest.raises(StoreUnreachable):
        resolve().client()
    monkeypatch.undo()
    with subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            " c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep(0.5)",
            str(store.database),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        assert len(frame.load(store)) == 0
