"""Open MLflow's pages on the store that is meant here, artifacts included.

Options after -- go to `mlflow server` as they are. Ctrl-C and SIGTERM end it, its server with it.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from tracking.errors import TrackingError, redaction
from tracking.store import Store, connection, resolve, schema
from tracking.store.connection import DATABASES, kind

NAME = "ui"
HELP = "open MLflow's pages on the right store"
STARTED_S = 120.0
ENDING_S = 10.0
# Without this MLflow 3 begins with its pages for language models; older versions ignore it.
TRAINING_PAGES = "/#/experiments?workflowType=machine_learning"
# MLflow's own accounts.
PASSWORDS = (
    "accounts with passwords: pip install 'mlflow[auth]', set MLFLOW_AUTH_ADMIN_PASSWORD and"
    " MLFLOW_FLASK_SERVER_SECRET_KEY, and end the command with: -- --app-name basic-auth"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``ui``."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--open", action="store_true", help="open a browser as soon as the pages are there")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="-- …", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; for a store that is a server already only print its address."""
    store = resolve()
    store.check()
    connection.check_reachable(store.tracking_uri)
    if kind(store.tracking_uri) in ("http", "https"):
        print(f"MLflow's pages are served by the tracking server: {store.public_uri}")
        if arguments.open:
            webbrowser.open(redaction.address(store.tracking_uri))  # a browser's command line is seen by others
        return 0
    _check_free(arguments.host, arguments.port)
    # MLflow's server makes its tables, or upgrades them, in whatever database it is given.
    if kind(store.tracking_uri) in DATABASES and schema.state(schema.look(store.tracking_uri)) != "ready":
        store.client()
    if not _is_loopback(arguments.host) and "--app-name" not in arguments.rest:
        print(f"note: everyone who reaches {arguments.host} may read, change and delete every run; {PASSWORDS}")
    url = f"http://{_shown(arguments.host)}:{arguments.port}"
    print(f"MLflow's pages on {store.public_uri} are coming up at {url} (Ctrl-C ends them)", flush=True)
    line = command(store, arguments.host, arguments.port, arguments.rest)
    with _server(line, environment(store)) as server:
        if _answers(server, arguments.host, arguments.port):
            print(f"ready: {url}{TRAINING_PAGES}", flush=True)
            if arguments.open:
                webbrowser.open(f"{url}{TRAINING_PAGES}")
        return server.wait()


class _Ended(KeyboardInterrupt):
    def __init__(self, signum: int) -> None:
        self.exit_code = 128 + signum
        name = signal.Signals(signum).name
        super().__init__(
            f"ended by {name}: the pages are closed, all runs are kept; the same command opens them again."
        )


@contextlib.contextmanager
def _server(line: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The server, which ends with this process: on Ctrl-C and SIGTERM, with its workers."""

    def end(signum: int, _: object) -> None:
        asked.append(signum)
        if server is not None and len(asked) == 1:  # once is enough: the server is being ended
            raise _Ended(signum)

    asked: list[int] = []
    server: subprocess.Popen[bytes] | None = None
    former = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    # A session of its own, so that it can be ended as a whole, and Ctrl-C does not reach its workers before us.
    server = subprocess.Popen(line, env=environment, start_new_session=True)
    try:
        if asked:
            raise _Ended(asked[0])
        yield server
    finally:
        for ending, patience_s in ((signal.SIGTERM, ENDING_S), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(server.pid, ending)
                server.wait(patience_s)
        for number, handler in former.items():
            signal.signal(number, handler)


def command(store: Store, host: str, port: int, rest: list[str]) -> list[str]:
    """The server's command line: artifacts read from where they are, one worker.

    The store is in ``environment``: a command line is seen by every user of the machine, passwords included.
    """
    root = store.artifact_root or Path.cwd() / "mlruns" / "artifacts"
    line = [sys.executable, "-m", "mlflow", "server"]
    line += ["--default-artifact-root", root.as_uri(), "--no-serve-artifacts"]
    line += ["--host", host, "--port", str(port), "--workers", "1"]
    return line + [word for word in rest if word != "--"]


def environment(store: Store) -> dict[str, str]:
    """The server's environment: this store, and no processes that judge language models, unless asked for.

    They are eight more interpreters, 1.4 GB and 24 s of processor time at every start.
    """
    return {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store.tracking_uri,
    }


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise TrackingError(
            f"cannot listen on {host} port {port}: {why}; choose another with --host or --port"
        ) from error


def _answers(server: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until the server takes connections; False when it ended or took too long."""
    end = time.monotonic() + STARTED_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((_shown(host), port), timeout=1):
            return True
        time.sleep(0.2)
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
