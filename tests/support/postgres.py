"""A PostgreSQL server of the tests' own, from Debian's binaries; and an ``mlflow server`` over any store."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

INSTALL = "apt-get install postgresql"


def binaries() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``: Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server; yields the URI of its empty database. Skips without binaries, unless CI_REQUIRE_POSTGRES=1."""
    folder = binaries()
    if folder is None:
        message = f"PostgreSQL is not installed: {INSTALL}"
        if os.environ.get("CI_REQUIRE_POSTGRES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    quiet: dict[str, Any] = {"cwd": home, "check": True, "stdout": subprocess.DEVNULL, "timeout": 120, **who}
    data, port = home / "data", free_port()
    start = f"-p {port} -h 127.0.0.1 -k {home} -F"
    try:
        subprocess.run(
            [
                folder / "initdb",
                "-D",
                data,
                "-A",
                "trust",
                "-U",
                "tester",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
            **quiet,
        )
        subprocess.run([folder / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", start, "start"], **quiet)
        try:
            yield f"postgresql+psycopg2://tester@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([folder / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def made(server: str, name: str, template: str = "template1", *, encoding: str = "") -> str:
    """Make a database, empty or as a copy of one that nobody uses any more; its URI."""
    import psycopg2

    base = server.rpartition("/")[0]
    connection = psycopg2.connect(f"{base}/template1".replace("+psycopg2", ""))
    connection.autocommit = True  # a database cannot be made within a transaction
    try:
        with connection.cursor() as cursor:
            if template != "template1":
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (template,))
            how = f"template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'" if encoding else template
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {how}")
    finally:
        connection.close()
    return f"{base}/{name}"


@contextmanager
def mlflow_server(store_uri: str, artifacts: Path, python: Path | str = sys.executable) -> Iterator[str]:
    """An MLflow server over a store, of the environment of ``python``; yields its address once it answers."""
    port = free_port()
    with subprocess.Popen(
        [
            *(python, "-m", "mlflow", "server", "--backend-store-uri", store_uri, "--port", str(port)),
            *("--host", "127.0.0.1", "--artifacts-destination", str(artifacts), "--workers", "1"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={
            **os.environ,
            "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Else it starts eight more interpreters, which judge language models and nothing here.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "OMP_NUM_THREADS": "1",
        },
    ) as server:
        try:
            _wait(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, 15)


def _wait(address: str, server: subprocess.Popen[bytes], limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        assert server.poll() is None, "the MLflow server ended at once"
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no answer from {address} after {limit_s:.0f} s")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
    return port
