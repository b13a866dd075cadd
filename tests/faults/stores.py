"""Runs beside stores in a mood, and stores that many make at once: training never waits, and nothing is lost."""

from __future__ import annotations

import ctypes
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from tests.faults.commands import ROWS, copied_once, prepare_copy
from tests.faults.moods import ANSWERS, Mood, ask, back_up, control, relay, say, wipe
from tests.faults.oracle import compare
from tests.faults.points import Place, Program, fill
from tests.faults.programs import may_end_by_signal
from tests.support.postgres import binaries, mlflow_server, postgres
from tests.support.stores import made_database
from tests.tracking.store.test_logged_models import model_folder
from tracking import run as tracked
from tracking.__main__ import main as tracking
from tracking.journal.files import remove

STEPS, MAKERS = 40, 16
SERVICES = ExitStack()  # what was started; ``main`` ends it
# Where stores are: the address of the relay and of PostgreSQL's database, and what belongs to them.
_uri: dict[str, str] = {}
_path: dict[str, Path] = {}


def _scratch(*, megabytes: int = 0) -> Path:
    """A folder; a small disk of its own, where that can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o755)
    SERVICES.callback(shutil.rmtree, folder, ignore_errors=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if megabytes and subprocess.run(mount, capture_output=True).returncode == 0:
        SERVICES.callback(subprocess.run, ["umount", "-l", str(folder)], capture_output=True)
    return folder


def _full(name: str) -> Mood:
    """The disk of that name has no byte left."""
    return Mood(
        begin=lambda _: fill(_path[name]),
        end=lambda _: (_path[name] / "filler").unlink(),
        is_ready=lambda _: os.path.ismount(_path[name]),
    )


def _log(uri: str) -> int:
    """A run with everything, shown in MLflow while it goes on."""
    os.environ.update(MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="0")
    with tracked.start("moody", experiment="exp", params={"lr": 0.1}, system_metrics=False, flush_s=2) as run:
        for step in range(1, STEPS + 1):
            run.log_metrics({"loss": 1 / step, "nan": float("nan")}, step=step)
            run.log_metrics({"accuracy": step / STEPS}, step=step)
            if step % 10 == 0:
                run.set_tags({"at": f"step {step}"})
                run.log_text("x" * 200 * step, f"notes/{step}.txt")
                run.log_dataset("train", name="d", digest=f"d{step}", source="/d", num_images=step, num_classes=2)
            if step == STEPS // 2:
                run.log_artifact(model_folder(Path("model")))
            if run._live is not None:
                run._live.look()  # what comes every two seconds
            time.sleep(0.025)
    return 0


def _bring_in(uri: str, *options: str) -> int:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    return tracking(["repair"]) | tracking(["sync", *options])


# ---- an MLflow server


def serve() -> str | None:
    """A server with an sqlite file, and the relay in front of it; the same for every point."""
    folder = _scratch()
    shutil.copy(made_database(), folder / "server.db")
    address = SERVICES.enter_context(mlflow_server(f"sqlite:///{folder}/server.db", folder / "artifacts"))
    _path.update(server=folder / "server.db", artifacts=folder / "artifacts", mood=folder / "mood")
    _uri["server"] = SERVICES.enter_context(relay(int(address.rpartition(":")[2]), folder / "mood"))
    return None


def _come_back_empty(_: Place) -> None:
    say(_path["mood"], "down")
    time.sleep(0.2)
    wipe(_path["server"])
    say(_path["mood"])


def _come_back_older(place: Place) -> None:
    say(_path["mood"], "down")
    time.sleep(0.2)
    back_up(_older(place), _path["server"])
    say(_path["mood"])


def _older(place: Place) -> Path:
    return place.base / "older.db"


SERVER_MOODS = {
    word: Mood(begin=lambda _, word=word: say(_path["mood"], word), end=lambda _: say(_path["mood"]))
    for word in ANSWERS
} | {
    "restarted empty": Mood(begin=_come_back_empty),
    "put back": Mood(begin=lambda place: back_up(_path["server"], _older(place)), end=_come_back_older),
}

# ---- an sqlite file


def open_folder() -> None:
    """The place of the file: its journals are elsewhere."""
    _path["folder"] = _scratch(megabytes=4)
    _uri["sqlite"] = f"sqlite:///{_path['folder']}/mlflow.db"


def _file() -> Path:
    return _path["folder"] / "mlflow.db"


def _reset_file(_: Place) -> None:
    for path in _path["folder"].iterdir():
        remove(path)
    shutil.copy(made_database(), _file())


def _lock(_: Place) -> None:
    _held.append(sqlite3.connect(_file(), timeout=60, isolation_level=None))
    _held[0].execute("BEGIN EXCLUSIVE")


_held: list[sqlite3.Connection] = []


def _as_any_user(_: Place) -> int:
    """Without root's right to write what is read-only."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0 or os.geteuid() != 0
    return _log(_uri["sqlite"])


def _permit(bits: int) -> None:
    _file().chmod(0o444 | bits)
    _path["folder"].chmod(0o555 | bits)


def _overwrite(beginning: bytes) -> None:
    with _file().open("r+b") as stream:
        stream.write(beginning)


FILE_MOODS = {
    "locked": Mood(begin=_lock, end=lambda _: _held.pop().close(), may_be_first=False),
    "disk full": _full("folder"),
    "read-only": Mood(begin=lambda _: _permit(0), end=lambda _: _permit(0o200), may_be_first=False),
    "damaged": Mood(
        begin=lambda _: _overwrite(b"\0" * 16), end=lambda _: _overwrite(b"SQLite format 3\0"), may_be_first=False
    ),
    "deleted": Mood(begin=lambda _: _file().unlink()),
    "put back": Mood(
        begin=lambda place: back_up(_file(), _older(place)), end=lambda place: shutil.move(_older(place), _file())
    ),
}

# ---- PostgreSQL


def start_postgres() -> str | None:
    """A server; the program is a user like others, its database is on a small disk of its own."""
    if binaries() is None:
        return "PostgreSQL is not installed"
    if "admin" not in _uri:
        admin = _uri["admin"] = SERVICES.enter_context(postgres())
        data = _path["data"] = Path(ask(admin, "SHOW data_directory")[0][0])
        disk = _path["disk"] = _scratch(megabytes=48)
        os.chown(disk, data.stat().st_uid, data.stat().st_gid)
        ask(admin, "CREATE ROLE logger LOGIN", f"CREATE TABLESPACE small OWNER logger LOCATION '{disk}'")
        _uri["postgres"] = _made("runs")
    return None


def _made(name: str) -> str:
    ask(_uri["admin"], f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    ask(_uri["admin"], f"CREATE DATABASE {name} OWNER logger TABLESPACE small")
    return _uri["admin"].replace("tester@", "logger@").rpartition("/")[0] + f"/{name}"


def _reset_postgres(_: Place) -> None:
    tables = {name for (name,) in ask(_uri["postgres"], "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    if tables:
        emptied = ", ".join(sorted(tables - {"alembic_version", "experiments", "workspaces"}))
        ask(_uri["postgres"], f"TRUNCATE {emptied} CASCADE", "DELETE FROM experiments WHERE experiment_id <> 0")


_ENDED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'logger'"


def _altered(what: str, begin: str, end: str) -> Mood:
    """Something that new connections meet; those that there are end."""
    return Mood(
        begin=lambda _: ask(_uri["admin"], f"ALTER {what} {begin}", _ENDED),
        end=lambda _: ask(_uri["admin"], f"ALTER {what} {end}"),
    )


def _stop(_: Place) -> None:
    control(_path["data"], "-m", "immediate", "stop")


def _start(_: Place) -> None:
    port = _uri["admin"].rpartition(":")[2].partition("/")[0]
    control(_path["data"], "-o", f"-p {port} -h 127.0.0.1 -k {_path['data'].parent} -F", "start")


POSTGRES_MOODS = {
    "restarted": Mood(begin=lambda place: (_stop(place), _start(place))),
    "stopped": Mood(begin=_stop, end=_start),
    "connections ended": Mood(begin=lambda _: ask(_uri["admin"], _ENDED)),
    "no connection left": _altered("ROLE logger", "CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
    "login refused": _altered("ROLE logger", "NOLOGIN", "LOGIN"),
    "database closed": _altered("DATABASE runs", "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
    "disk full": _full("disk"),
}


def _as_sqlite(place: Place, uri: str) -> Path:
    """What the oracle compares with, out of a PostgreSQL."""
    copy = place.base / "copy.db"
    shutil.copy(made_database(), copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table in ROWS:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            quoted = ", ".join(f'"{column}"' for column in columns)
            rows = ask(uri, f"SELECT {quoted} FROM {table}")
            connection.executemany(f"INSERT INTO {table} ({quoted}) VALUES ({', '.join('?' * len(columns))})", rows)
    return copy


def _copy(place: Place) -> int:
    """As from a file to the team's server; the files go into a folder of their own."""
    may_end_by_signal(place)
    Path("copied").mkdir(exist_ok=True)
    os.chdir("copied")
    return tracking(["copy", f"sqlite:///{place.database}", _uri["copied"]])


# ---- a store that many make at once


def _make_at_once(uri: str) -> int:
    """Sixteen programs begin a run each, in a folder that has no store."""
    from mlflow.store.db import utils

    utils._initialize_tables = getattr(utils._initialize_tables, "__wrapped__", utils._initialize_tables)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    reading, writing = os.pipe()
    pids = []
    for number in range(MAKERS):
        pids.append(os.fork())
        if pids[-1]:
            continue
        code = 1
        try:
            os.close(writing)
            os.read(reading, 1)  # until all are there
            with tracked.start(f"maker {number}", experiment="exp", system_metrics=False, flush_s=120) as run:
                for step in range(5):
                    run.log_metrics({"loss": step}, step=step)
            code = 0 if run.mlflow_run_id else 3
        finally:
            os._exit(code)
    os.close(writing)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def _file_here(place: Place) -> Path:
    return place.work / "store" / "mlflow.db"


AT_ONCE = {f"{MAKERS} at once": Mood(begin=lambda _: None)}

STORES = {
    "server": Program(
        needs=serve,
        reset=lambda _: (say(_path["mood"]), wipe(_path["server"])),
        act=lambda _: _log(_uri["server"]),
        recover=lambda place: _bring_in(_uri["server"], *["--all"] * (place.fault in ("restarted empty", "put back"))),
        judge=lambda place: compare(place.oracle, _path["server"], artifacts=_path["artifacts"]),
        moods=SERVER_MOODS,
        share=1.6,
        cost=6.0,
    ),
    "sqlite": Program(
        needs=open_folder,
        reset=_reset_file,
        act=_as_any_user,
        recover=lambda place: _bring_in(_uri["sqlite"], *["--all"] * (place.fault in ("deleted", "put back"))),
        judge=lambda place: compare(place.oracle, _file()),
        moods=FILE_MOODS,
        share=0.5,
        cost=5.0,
    ),
    "PostgreSQL": Program(
        needs=start_postgres,
        reset=_reset_postgres,
        act=lambda _: _log(_uri["postgres"]),
        recover=lambda _: _bring_in(_uri["postgres"]),
        judge=lambda place: compare(place.oracle, _as_sqlite(place, _uri["postgres"])),
        moods=POSTGRES_MOODS,
        share=0.7,
        cost=6.0,
    ),
    "copy to PostgreSQL": Program(
        needs=start_postgres,
        prepare=prepare_copy,
        reset=lambda _: _uri.update(copied=_made("copied")),
        act=_copy,
        recover=_copy,
        judge=lambda place: copied_once(place, _as_sqlite(place, _uri["copied"])),
        faults=("kill -9", "SIGTERM", "os._exit", "out of memory"),
        share=0.4,
        cost=3.0,
        must_succeed=True,
    ),
    "makers, sqlite": Program(
        act=lambda place: _make_at_once(f"sqlite:///{_file_here(place)}"),
        recover=lambda place: _bring_in(f"sqlite:///{_file_here(place)}"),
        judge=lambda place: compare(place.oracle, _file_here(place)),
        moods=AT_ONCE,
        share=0.04,
        cost=20.0,
    ),
    "makers, PostgreSQL": Program(
        needs=start_postgres,
        reset=lambda _: _uri.update(made=_made("made")),
        act=lambda _: _make_at_once(_uri["made"]),
        recover=lambda _: _bring_in(_uri["made"]),
        judge=lambda place: compare(place.oracle, _as_sqlite(place, _uri["made"])),
        moods=AT_ONCE,
        share=0.04,
        cost=25.0,
    ),
}
