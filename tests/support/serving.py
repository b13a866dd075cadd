"""A model behind MLflow's own server: ``mlflow models serve`` as a process of its own, on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_S, ANSWER_S = 180, 60


class Server:
    """Where the model answers; ``ask`` returns the status and the decoded answer."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, payload: Any, content_type: str = "application/json") -> tuple[int, Any]:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        request = urllib.request.Request(f"{self.url}/invocations", body, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_alive(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/ping", timeout=ANSWER_S) as answer:
            return bool(answer.status == 200)


@contextlib.contextmanager
def serve(model: Path | str, **environment: str) -> Iterator[Server]:
    """Serve a model until the block is left; the whole process group is ended by its id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # MLflow starts uvicorn by its name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            str(model),
            "-p",
            str(port),
            "--env-manager",
            "local",
        ],
        env={**os.environ, "PATH": path, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    end = threading.Timer(START_S, os.killpg, (process.pid, signal.SIGKILL))
    end.start()
    said: list[str] = []
    drain: threading.Thread | None = None
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "Uvicorn running on" in line:
                break
        else:
            raise AssertionError("the server did not start:\n" + "".join(said))
        end.cancel()
        drain = threading.Thread(target=process.stdout.read)  # a full pipe would stop the server
        drain.start()
        yield Server(port)
    finally:
        end.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        if drain is not None:
            drain.join(timeout=30)
        assert process.stdout is not None
        process.stdout.close()
