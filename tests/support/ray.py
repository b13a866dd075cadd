"""Ray's dashboard as far as jobs go, at the wire: answers as Ray 2.60 gave them, ends that a test decides.

A job whose test wants it is really run: its command, with its environment, in the folder of its sources.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_TAKEN = "Traceback (most recent call last):\n  …\nValueError: Job with submission_id {} already exists. Please use a"
DIED = "Job supervisor actor died: The actor died because its node has died. Node Id: 46aa15eb"


class FakeRay:
    """The cluster: ``jobs`` by submission id, ``packages`` by name. ``refuse`` answers the next requests instead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, bytes] = {}
        self.logs: dict[str, str] = {}
        self.headers: list[dict[str, str]] = []
        self.refuse: list[tuple[int, str]] = []
        self.loses_answers = 0
        self.address = ""

    def end(self, name: str, status: str = "SUCCEEDED", message: str = "", **facts: Any) -> None:
        """The job ends; its node's id and times as Ray gives them."""
        now_ms = int(time.time() * 1000)
        self.jobs[name] |= {"status": status, "message": message, "end_time": now_ms, "driver_node_id": "46aa", **facts}

    def lose(self, name: str) -> None:
        """The job's node dies."""
        self.end(name, "FAILED", DIED, error_type="JOB_SUPERVISOR_ACTOR_DIED")

    def run(self, name: str) -> int:
        """Run a job here, from the sources that were sent, to its end."""
        job = self.jobs[name]
        package = job["runtime_env"]["working_dir"].removeprefix("gcs://")
        place = self.folder / package
        with zipfile.ZipFile(io.BytesIO(self.packages[package])) as archive:
            archive.extractall(place)
        words = job["entrypoint"].replace("python", sys.executable, 1).split()
        variables = {**os.environ, **job["runtime_env"]["env_vars"], "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
        job["status"] = "RUNNING"
        done = subprocess.run(words, cwd=place, env=variables, capture_output=True, text=True, timeout=300)
        self.logs[name] = done.stdout + done.stderr
        error = {"error_type": "JOB_ENTRYPOINT_COMMAND_ERROR"} if done.returncode else {}
        status = "FAILED" if done.returncode else "SUCCEEDED"
        self.end(name, status, f"exit code {done.returncode}", driver_exit_code=done.returncode, **error)
        return done.returncode

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        """What Ray answers."""
        if self.refuse:
            return self.refuse.pop(0)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "version"]:
            return 200, json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "b7f4", "session_name": "s"})
        if parts[:3] == ["api", "packages", "gcs"]:
            if method == "PUT":
                self.packages[parts[3]] = body
            there = parts[3] in self.packages
            return (200, "") if there else (404, f"Package gcs://{parts[3]} does not exist")
        if method == "POST" and path == "/api/jobs/":
            return self._submitted(json.loads(body))
        if path == "/api/jobs/":
            return 200, json.dumps(list(self.jobs.values()))
        name = parts[2]
        if name not in self.jobs:
            return 404, f"Job {name} does not exist"
        if parts[3:] == ["logs"]:
            return 200, json.dumps({"logs": self.logs.get(name, "")})
        if parts[3:] == ["stop"]:
            self.end(name, "STOPPED", "Job was intentionally stopped.")
            return 200, json.dumps({"stopped": True})
        return 200, json.dumps(self.jobs[name])

    def _submitted(self, body: dict[str, Any]) -> tuple[int, str]:
        name = body["submission_id"]
        if name in self.jobs:
            return 500, _TAKEN.format(name) + " different submission_id.\n.\n"
        if not isinstance(body["entrypoint_num_cpus"], (int, float)):
            return 400, "Traceback\nTypeError: entrypoint_num_cpus must be a number, got <class 'str'>\n"
        empty = dict.fromkeys(("error_type", "end_time", "driver_node_id", "driver_exit_code"))
        message = "Job has not started yet. It may be waiting for resources (CPUs, GPUs, memory) to become available."
        started = {"status": "PENDING", "message": message, "start_time": int(time.time() * 1000)}
        self.jobs[name] = {**body, **empty, **started, "type": "SUBMISSION"}
        if self.loses_answers:
            self.loses_answers -= 1
            return 504, "upstream request timeout"
        return 200, json.dumps({"job_id": name, "submission_id": name})


@contextmanager
def running(folder: Path) -> Iterator[FakeRay]:
    """A cluster that answers on loopback."""
    fake = FakeRay(folder)

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            fake.headers.append(dict(self.headers.items()))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, text = fake.answer(self.command, self.path, body)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = _do

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        fake.address = ""
