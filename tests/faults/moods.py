"""What stores do to those who use them, for a while: a relay in front of an MLflow server, a file, a PostgreSQL.

Each mood is one that people have reported: pages of proxies in place of answers, answers that get lost after the work
was done, a server that comes back empty, databases that are locked, full, away or have no connection left.
"""

from __future__ import annotations

import http.client
import http.server
import os
import random
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.support.postgres import binaries

_WELL, _FOR_PROXIES = "well", 2_000
_OF_A_HOP = ("host", "connection", "content-length", "transfer-encoding")
# Status, kind and body of what comes in place of the server's own answer.
_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"
PAGES = {
    "429": (429, "application/json", '{"error_code": "RESOURCE_EXHAUSTED", "message": "Too many requests."}'),
    "500": (500, "application/json", '{"error_code": "INTERNAL_ERROR", "message": "made by the test"}'),
    "502 page": (502, "text/html", _PAGE.format("502 Bad Gateway")),
    "503": (503, "text/html", _PAGE.format("503 Service Temporarily Unavailable")),
    "404 page": (404, "text/html", _PAGE.format("404 Not Found")),
    "403 page": (403, "text/html", _PAGE.format("403 Forbidden")),
    "login page": (200, "text/html", "<!DOCTYPE html><html><title>Sign in</title><form action=/login></form></html>"),
}
_SICK = ("502 page", "login page", "lost answer", "404 page", "half an answer", "500", "429")
ANSWERS = ("down", "silent", "slow", *PAGES, "413 page", "half an answer", "lost answer", "every other answer")


@dataclass(frozen=True)
class Mood:
    """``begin`` and ``end`` are called beside the program; ``may_be_first``: also before it has begun."""

    begin: Callable[[Any], object]
    end: Callable[[Any], object] = lambda _: None
    may_be_first: bool = True
    is_ready: Callable[[Any], bool] = lambda _: True


class _Relay(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mood: Path
    inner: int

    def _answer(self) -> None:
        body = self._body()
        mood, _, where = self.mood.read_text().partition(" @ ")
        if mood == "every other answer":
            mood = random.choice((*_SICK, *[_WELL] * len(_SICK)))
        is_file = mood == "413 page" and not where and "/artifacts" in self.path  # a file that is too large stays so
        if is_file or not self.path.partition("?")[0].endswith(where):
            mood = _WELL
        while mood == "silent" == self.mood.read_text():
            time.sleep(0.05)
        if mood == "slow":
            time.sleep(1.5)
        if mood == "413 page" and len(body) > _FOR_PROXIES:
            self._send(413, "text/html", _PAGE.format("413 Request Entity Too Large").encode())
        elif mood in PAGES:
            self._send(PAGES[mood][0], PAGES[mood][1], PAGES[mood][2].encode())
        elif mood in ("down", "silent"):
            self.close_connection = True
        else:
            with closing(http.client.HTTPConnection("127.0.0.1", self.inner)) as inner:
                kept = {k: v for k, v in self.headers.items() if k.lower() not in _OF_A_HOP}
                inner.request(self.command, self.path, body, kept)
                answer = inner.getresponse()
                got = answer.read()
            if mood == "lost answer":  # what was asked is done
                self.close_connection = True
            else:
                kind = answer.headers.get("Content-Type", "")
                self._send(answer.status, kind, got, half=mood == "half an answer")

    def _body(self) -> bytes:
        if "Transfer-Encoding" not in self.headers:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, status: int, kind: str, body: bytes, *, half: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = self.close_connection or half

    def log_message(self, *_: object) -> None:
        """Not into the table."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Programs that are gone before their answer."""


@contextmanager
def relay(inner: int, mood: Path) -> Iterator[str]:
    """An address in front of a server's port, in a process of its own; the file says which mood it is in."""
    mood.write_text(_WELL)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
    pid = os.fork()
    if not pid:
        try:
            _Relay.mood, _Relay.inner = mood, inner
            while True:
                if mood.read_text() == "down":  # nothing listens
                    time.sleep(0.01)
                    continue
                with _Server(("127.0.0.1", port), _Relay) as server:
                    server.timeout = 0.01
                    while mood.read_text() != "down":
                        server.handle_request()
        finally:
            os._exit(0)
    try:
        for _ in range(600):  # until it listens
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def say(mood: Path, word: str = _WELL) -> None:
    """Have the relay change its mood, at once for every request after this one."""
    part = mood.with_suffix(".part")
    part.write_text(word)
    part.rename(mood)


def wipe(database: Path) -> None:
    """Empty MLflow's tables, as a new database has them."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(set(tables) - {"alembic_version", "experiments", "workspaces"}):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM experiments WHERE experiment_id != 0")


def back_up(database: Path, to: Path) -> None:
    """Make the second the same as the first, whoever has it open."""
    with closing(sqlite3.connect(database, timeout=60)) as source, closing(sqlite3.connect(to, timeout=60)) as target:
        source.backup(target)


# ---- PostgreSQL


def ask(uri: str, *statements: str) -> list[Any]:
    """Carry statements out, each by itself; the rows of the last."""
    with sa.create_engine(uri, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        found = [connection.exec_driver_sql(one) for one in statements][-1]
        return list(found.all()) if found.returns_rows else []


def control(data: Path, *words: str) -> None:
    """``pg_ctl`` as the server's own user."""
    owner = data.stat().st_uid
    who: dict[str, Any] = {"user": owner, "group": data.stat().st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    line = [str(binaries()) + "/pg_ctl", "-D", str(data), "-w", "-l", str(data.parent / "log"), *words]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, cwd=data.parent, timeout=60, **who)
