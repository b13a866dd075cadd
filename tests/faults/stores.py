"""Runs beside stores in a mood, and stores that many make at once: training never waits, and nothing is lost."""

from __future__ import annotations

import ctypes
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from tests.faults.moods import ANSWERS, Mood, ask, control, relay, say, wipe
from tests.faults.oracle import compare
from tests.faults.points import Place, Program
from tests.support.postgres import binaries, mlflow_server, postgres
from tests.support.stores import made_database
from tests.tracking.store.test_logged_models import model_folder
from tracking import run as tracked
from tracking.__main__ import main as tracking

STEPS, MAKERS = 40, 16
SERVICES = ExitStack()  # what was started; ``main`` ends it
# Where stores are: the address of the relay and of PostgreSQL's database, and what belongs to them.
_uri: dict[str, str] = {}
_path: dict[str, Path] = {}


def _scratch(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-"))
    folder.chmod(0o755)
    SERVICES.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


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
    folder = _scratch("server")
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


SERVER_MOODS = {
    word: Mood(begin=lambda _, word=word: say(_path["mood"], word), end=lambda _: say(_path["mood"]))
    for word in ANSWERS
} | {"restarted empty": Mood(begin=_come_back_empty)}

# ---- an sqlite file


def _store(place: Place) -> Path:
    return place.work / "store" / "mlflow.db"


def _reset_file(place: Place) -> None:
    folder = place.work / "store"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    if place.fault == "disk full" and not os.path.ismount(folder):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
        if done.returncode == 0:
            SERVICES.callback(subprocess.run, ["umount", str(folder)], capture_output=True)
    elif place.fault != "disk full" and os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)
    shutil.copy(made_database(), _store(place))


def _lock(place: Place) -> None:
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)"
    code += "; c.execute('BEGIN EXCLUSIVE'); print(flush=True); sys.stdin.read()"
    line = [sys.executable, "-S", "-c", code, str(_store(place))]
    other = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline()
    _others.append(other)


def _unlock(_: Place) -> None:
    while _others:
        _others.pop().communicate()


_others: list[subprocess.Popen[bytes]] = []


def _fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as stream:
        for size in (65536, 4096, 1):
            try:
                while stream.write(b"x" * size):
                    pass
            except OSError:
                continue


def _as_any_user(place: Place) -> int:
    """Without root's right to write what is read-only."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0 or os.geteuid() != 0
    return _log(f"sqlite:///{_store(place)}")


def _permit(place: Place, bits: int) -> None:
    _store(place).chmod(0o444 | bits)
    _store(place).parent.chmod(0o555 | bits)


def _overwrite(path: Path, beginning: bytes) -> None:
    with path.open("r+b") as stream:
        stream.write(beginning)


FILE_MOODS = {
    "locked": Mood(begin=_lock, end=_unlock),
    "disk full": Mood(
        begin=lambda place: _fill(place.work / "store"),
        end=lambda place: (place.work / "store" / "filler").unlink(),
        is_ready=lambda place: os.path.ismount(place.work / "store"),
    ),
    "read-only": Mood(
        begin=lambda place: _permit(place, 0), end=lambda place: _permit(place, 0o200), may_be_first=False
    ),
    "damaged": Mood(
        begin=lambda place: _overwrite(_store(place), b"\0" * 16),
        end=lambda place: _overwrite(_store(place), b"SQLite format 3\0"),
        may_be_first=False,
    ),
    "deleted": Mood(begin=lambda place: _store(place).unlink()),
}

# ---- PostgreSQL


def start_postgres() -> str | None:
    """A server; the program is a user like others, its database is on a disk of its own where that can be mounted."""
    if binaries() is None:
        return "PostgreSQL is not installed"
    if "admin" in _uri:
        return None
    admin = _uri["admin"] = SERVICES.enter_context(postgres())
    data = _path["data"] = Path(ask(admin, "SHOW data_directory")[0][0])
    disk = _path["disk"] = data.parent / "disk"
    disk.mkdir()
    if (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)], capture_output=True).returncode
        == 0
    ):
        SERVICES.callback(subprocess.run, ["umount", "-l", str(disk)], capture_output=True)
    os.chown(disk, data.stat().st_uid, data.stat().st_gid)
    ask(admin, "CREATE ROLE logger LOGIN", f"CREATE TABLESPACE small OWNER logger LOCATION '{disk}'")
    _uri["postgres"] = _made("runs")
    from mlflow import MlflowClient

    pid = os.fork()
    if not pid:  # MLflow makes its tables, and keeps connections
        try:
            MlflowClient(tracking_uri=_uri["postgres"]).search_experiments()
            os._exit(0)
        finally:
            os._exit(1)
    return None if os.waitpid(pid, 0)[1] == 0 else "MLflow could not make its tables"


def _made(name: str) -> str:
    ask(_uri["admin"], f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    ask(_uri["admin"], f"CREATE DATABASE {name} OWNER logger TABLESPACE small")
    return _uri["admin"].replace("tester@", "logger@").rpartition("/")[0] + f"/{name}"


def _reset_postgres(_: Place) -> None:
    uri = _uri["postgres"]
    tables = [name for (name,) in ask(uri, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    kept = {"alembic_version", "experiments", "workspaces"}
    ask(
        uri,
        f"TRUNCATE {', '.join(sorted(set(tables) - kept))} CASCADE",
        "DELETE FROM experiments WHERE experiment_id <> 0",
    )


def _end_connections(_: Place) -> None:
    ask(_uri["admin"], "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'logger'")


def _altered(begin: str, end: str) -> Mood:
    """Something that new connections meet; those that there are end."""

    def alter(place: Place) -> None:
        _end_connections(place)
        for _ in range(100):
            try:
                ask(_uri["admin"], begin)
                break
            except Exception:  # a program that has just connected again
                _end_connections(place)
        _end_connections(place)

    return Mood(begin=alter, end=lambda _: ask(_uri["admin"], end))


def _stop(_: Place) -> None:
    control(_path["data"], "-m", "immediate", "stop")


def _start(_: Place) -> None:
    port = _uri["admin"].rpartition(":")[2].partition("/")[0]
    control(_path["data"], "-o", f"-p {port} -h 127.0.0.1 -k {_path['data'].parent} -F", "start")


POSTGRES_MOODS = {
    "restarted": Mood(begin=lambda place: (_stop(place), _start(place))),
    "stopped": Mood(begin=_stop, end=_start),
    "connections ended": Mood(begin=_end_connections),
    "no connection left": _altered("ALTER ROLE logger CONNECTION LIMIT 0", "ALTER ROLE logger CONNECTION LIMIT -1"),
    "login refused": _altered("ALTER ROLE logger NOLOGIN", "ALTER ROLE logger LOGIN"),
    "database away": _altered("ALTER DATABASE runs RENAME TO away", "ALTER DATABASE away RENAME TO runs"),
    "disk full": Mood(
        begin=lambda _: _fill(_path["disk"]),
        end=lambda _: (_path["disk"] / "filler").unlink(),
        is_ready=lambda _: os.path.ismount(_path["disk"]),
    ),
}


def _as_sqlite(place: Place, uri: str) -> Path:
    """What the oracle compares with, out of a PostgreSQL."""
    copy = place.base / "copy.db"
    shutil.copy(made_database(), copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table in ("runs", "params", "tags", "metrics", "datasets", "inputs", "logged_models"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            quoted = ", ".join(f'"{column}"' for column in columns)
            rows = ask(uri, f"SELECT {quoted} FROM {table}")
            connection.executemany(f"INSERT INTO {table} ({quoted}) VALUES ({', '.join('?' * len(columns))})", rows)
    return copy


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


AT_ONCE = {f"{MAKERS} at once": Mood(begin=lambda _: None)}

STORES = {
    "server": Program(
        prepare=lambda _: None,
        needs=serve,
        reset=lambda _: (say(_path["mood"]), wipe(_path["server"])),
        act=lambda _: _log(_uri["server"]),
        recover=lambda place: _bring_in(_uri["server"], *["--all"] * (place.fault == "restarted empty")),
        judge=lambda place: compare(place.oracle, _path["server"], artifacts=_path["artifacts"]),
        moods=SERVER_MOODS,
        faults=tuple(SERVER_MOODS),
        share=1.6,
        cost=6.0,
        must_succeed=True,
    ),
    "sqlite": Program(
        prepare=lambda _: None,
        reset=_reset_file,
        act=_as_any_user,
        recover=lambda place: _bring_in(f"sqlite:///{_store(place)}", *["--all"] * (place.fault == "deleted")),
        judge=lambda place: compare(place.oracle, _store(place)),
        moods=FILE_MOODS,
        faults=tuple(FILE_MOODS),
        share=0.5,
        cost=5.0,
        must_succeed=True,
    ),
    "PostgreSQL": Program(
        prepare=lambda _: None,
        needs=start_postgres,
        reset=_reset_postgres,
        act=lambda _: _log(_uri["postgres"]),
        recover=lambda _: _bring_in(_uri["postgres"]),
        judge=lambda place: compare(place.oracle, _as_sqlite(place, _uri["postgres"])),
        moods=POSTGRES_MOODS,
        faults=tuple(POSTGRES_MOODS),
        share=0.7,
        cost=6.0,
        must_succeed=True,
    ),
    "makers, sqlite": Program(
        prepare=lambda _: None,
        act=lambda place: _make_at_once(f"sqlite:///{_store(place)}"),
        recover=lambda place: _bring_in(f"sqlite:///{_store(place)}"),
        judge=lambda place: compare(place.oracle, _store(place)),
        moods=AT_ONCE,
        faults=tuple(AT_ONCE),
        share=0.04,
        cost=20.0,
        must_succeed=True,
    ),
    "makers, PostgreSQL": Program(
        prepare=lambda _: None,
        needs=start_postgres,
        reset=lambda _: _uri.update(made=_made("made")),
        act=lambda _: _make_at_once(_uri["made"]),
        recover=lambda _: _bring_in(_uri["made"]),
        judge=lambda place: compare(place.oracle, _as_sqlite(place, _uri["made"])),
        moods=AT_ONCE,
        faults=tuple(AT_ONCE),
        share=0.04,
        cost=25.0,
        must_succeed=True,
    ),
}
