"""Workers that train one run together: gradients go through MXNet's ``dist_sync``, all else through worker 0.

MXNet's store waits without end for a worker that is gone. So each worker keeps a connection to worker 0, which says
when it is lost, and whatever waits for the store does so on a thread of its own, which is then left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from trainers.errors import BadData, TrainerError, WorkerLost
from trainers.networks import backend

T = TypeVar("T")
MEET_S = 900.0  # machines download their data before they start
_BEAT_S, _SILENT_S = 5.0, 60.0
_POLL_S, _LEAVE_S = 0.2, 5.0
_STATISTICS = 1_000_000  # keys of the store from here on; the weights' count from 0


class Released(Exception):
    """Worker 0 has ended the run; there is nothing left to do."""


class Alone:
    """A run of one worker: what several do together is nothing here."""

    rank, size = 0, 1
    store: Any = None

    def call(self, work: Callable[[], T]) -> T:
        """Do what may wait for other workers. Raises WorkerLost when one of them is gone."""
        return work()

    def assemble(self, digest: str, state: Path | None) -> None:
        """Wait for all workers, which must have the same pictures, and give them worker 0's ``state``."""

    def begin(self, epoch: int) -> None:
        """Have the others train ``epoch`` as well."""

    def total(self, values: list[float]) -> list[float]:
        """The sums over all workers."""
        return values

    def average(self, arrays: list[Any]) -> None:
        """Put the means over all workers into MXNet arrays."""

    def close(self) -> None:
        """Let the others go."""


ALONE = Alone()


class _Line:
    """A connection that carries JSON messages with bytes after them; silence for a minute is the other's end."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(_SILENT_S)
        self.connection, self._file = connection, connection.makefile("rb")
        self._lock = threading.Lock()
        self.inbox: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue()
        self.gone = ""

    def send(self, message: Mapping[str, Any], data: bytes = b"") -> None:
        with contextlib.suppress(OSError), self._lock:  # that it is gone is noticed by who reads
            self.connection.sendall(json.dumps({**message, "bytes": len(data)}).encode() + b"\n" + data)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next message. Raises OSError or ValueError at the other's end."""
        while (line := self._file.readline()) == b"\n":
            continue
        message = json.loads(line)
        return message, self._file.read(message["bytes"])

    def attend(self) -> None:
        """Read into ``inbox`` and send signs of life, each on a thread, until the other is gone."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                self.inbox.put(self.receive())
        except TimeoutError:
            self.gone = f"no sign of life for {_SILENT_S:.0f} s"
        except (OSError, ValueError):
            self.gone = "its connection ended"
        self.close()

    def _beat(self) -> None:
        while not self.gone:
            with contextlib.suppress(OSError), self._lock:
                self.connection.sendall(b"\n")
            time.sleep(_BEAT_S)

    def close(self) -> None:
        self.gone = self.gone or "it was closed"
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
        self.connection.close()
        self._file.close()


class Group(Alone):
    """One of several workers, each a process of its own; a process is in one group in its life, as MXNet demands."""

    is_joined = False  # whether this process ever was
    _has_statistics = False

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue()
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        threading.Thread(target=self._work, daemon=True).start()

    def check(self) -> None:
        """Raises WorkerLost where a worker or a server is gone."""
        for role, process in self._servers.items():
            if process.poll() is not None:
                raise WorkerLost(f"The {role} of worker {self.rank} ended with exit code {process.returncode}.")

    def call(self, work: Callable[[], T]) -> T:
        """As ``Alone.call``; the work is done on another thread, which a lost worker leaves waiting."""
        done: Future[T] = Future()
        self._jobs.put((work, done))
        while not wait([done], _POLL_S).done:
            self.check()
        return done.result()

    def _work(self) -> None:
        while True:
            work, done = self._jobs.get()
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

    def average(self, arrays: list[Any]) -> None:
        """As ``Alone.average``."""
        keys = list(range(_STATISTICS, _STATISTICS + len(arrays)))

        def work() -> None:
            if not self._has_statistics:
                self.store.init(keys, arrays)
            self.store.pushpull(keys, arrays, out=arrays)
            for array in arrays:
                array /= self.size
                array.wait_to_read()

        self.call(work)
        self._has_statistics = True

    def _join(self, address: str, environment: Mapping[str, str]) -> None:
        """Start this worker's servers and open the store. ``address`` is where the others reach this machine."""
        os.environ.pop("PORT", None)  # MXNet would listen there, each process on the same
        os.environ.update(environment, DMLC_ROLE="worker", DMLC_NODE_HOST=address)
        for role in ("server",) if self.rank else ("scheduler", "server"):
            self._servers[role] = subprocess.Popen(
                [sys.executable, "-m", "trainers.networks.group"],
                stdin=subprocess.PIPE,  # it ends with this process
                env={**os.environ, "DMLC_ROLE": role, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        mx, Group.is_joined = backend.load(), True
        self.store = self.call(lambda: mx.kv.create("dist_sync"))

    def close(self) -> None:
        """As ``Alone.close``. The store is left as it is: to free it is to wait for all workers."""
        if self.store is not None:
            self.store.handle = ctypes.c_void_p(None)
        servers, self._servers = self._servers, {}
        for process in servers.values():
            _end(process, 0.0)


class Leader(Group):
    """Worker 0, which has the run; ``config`` is the text of its settings."""

    def __init__(self, size: int, config: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(0, size)
        self._listener = socket.create_server((host, port), backlog=size)
        self._config = config
        self._lines: dict[int, _Line] = {}
        self._local: dict[int, subprocess.Popen[bytes]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def start(self, program: Sequence[str]) -> None:
        """Start the other workers on this machine: ``program ADDRESS RANK``."""
        self._folder = tempfile.TemporaryDirectory(prefix="workers-")
        host, port = self._listener.getsockname()[:2]
        for rank in range(1, self.size):
            with self._log(rank).open("wb") as log:
                # A session of its own: Ctrl-C reaches worker 0 alone, which lets the others go.
                self._local[rank] = subprocess.Popen(
                    [*program, f"{host}:{port}", str(rank)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def _log(self, rank: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"worker-{rank}.log"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._greet, args=(_Line(connection),), daemon=True).start()

    def _greet(self, line: _Line) -> None:
        try:
            rank = line.receive()[0]["worker"]
        except (OSError, ValueError, LookupError, TypeError):
            return line.close()  # none of ours
        if rank in self._lines or rank not in range(1, self.size):
            return line.close()
        line.send({"config": self._config, "size": self.size})
        self._lines[rank] = line
        line.attend()
        return None

    def check(self) -> None:
        """As ``Group.check``. Raises the other worker's error, if it has said one."""
        for rank, line in list(self._lines.items()):
            if line.gone:
                said = next((message for message, _ in list(line.inbox.queue) if "failed" in message), None)
                if said is not None:
                    raise TrainerError(f"Worker {rank} of {self.size} failed: {said['failed']}")
                raise WorkerLost(f"Worker {rank} of {self.size} was lost: {line.gone}{self._last(rank)}.")
        for rank, process in self._local.items():
            if rank not in self._lines and process.poll() is not None:
                raise WorkerLost(f"Worker {rank} of {self.size} did not start{self._last(rank)}.")
        super().check()

    def _last(self, rank: int) -> str:
        """Its exit code and the last line it printed, where it is on this machine."""
        if rank not in self._local:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._local[rank].wait(_LEAVE_S)
        lines = self._log(rank).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
        return f" (exit code {self._local[rank].poll()}{last})"

    def _receive(self, rank: int) -> dict[str, Any]:
        while True:
            try:
                message = self._lines[rank].inbox.get(timeout=_POLL_S)[0]
            except queue.Empty:
                self.check()
                continue
            if "failed" in message:
                raise TrainerError(f"Worker {rank} of {self.size} failed: {message['failed']}")
            return message

    def _send(self, message: Mapping[str, Any], data: bytes = b"") -> None:
        for line in self._lines.values():
            line.send(message, data)

    def assemble(self, digest: str, state: Path | None) -> None:
        """As ``Alone.assemble``. Raises BadData where a worker has other pictures."""
        deadline = time.monotonic() + MEET_S
        while len(self._lines) < self.size - 1:
            self.check()
            if time.monotonic() > deadline:
                missing = sorted(set(range(1, self.size)) - self._lines.keys())
                raise WorkerLost(f"Worker {missing[0]} of {self.size} did not come within {MEET_S:.0f} s.")
            time.sleep(_POLL_S / 10)
        for rank in range(1, self.size):
            if self._receive(rank)["ready"] != digest:
                raise BadData(f"Worker {rank} of {self.size} has other training pictures than worker 0. All need all.")
        address = self._lines[1].connection.getsockname()[0]
        environment = {
            "DMLC_PS_ROOT_URI": address,  # a number: MXNet cannot listen on a name
            "DMLC_PS_ROOT_PORT": str(_free_port(address)),
            "DMLC_NUM_WORKER": str(self.size),
            "DMLC_NUM_SERVER": str(self.size),
        }
        kept = b"" if state is None else state.read_bytes()
        self._send({"environment": environment, "state": "" if state is None else state.name}, kept)
        self._join(address, environment)

    def begin(self, epoch: int) -> None:
        """As ``Alone.begin``."""
        self._send({"epoch": epoch})

    def total(self, values: list[float]) -> list[float]:
        """As ``Alone.total``."""
        rows = [self._receive(rank)["values"] for rank in range(1, self.size)]
        return [sum(column) for column in zip(values, *rows, strict=True)]

    def close(self) -> None:
        """As ``Alone.close``."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self._send({"end": True})
        local, self._local = self._local, {}
        for process in local.values():
            _end(process, _LEAVE_S)
        for line in self._lines.values():
            line.close()
        super().close()
        if self._folder is not None:
            self._folder.cleanup()


class Follower(Group):
    """A worker that trains along. ``config`` is the text of the run's settings."""

    def __init__(self, host: str, port: int, rank: int) -> None:
        self._line = _Line(_connect(host, port))
        self._line.send({"worker": rank})
        greeting = self._line.receive()[0]
        super().__init__(rank, greeting["size"])
        self.config: str = greeting["config"]
        self._ended = False
        self._line.attend()

    def check(self) -> None:
        """As ``Group.check``. Raises Released when worker 0 has ended the run."""
        if any("end" in message for message, _ in list(self._line.inbox.queue)):
            raise Released
        if self._line.gone:
            raise WorkerLost(f"Worker 0 was lost: {self._line.gone}.")
        super().check()

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        while True:
            try:
                message, data = self._line.inbox.get(timeout=_POLL_S)
            except queue.Empty:
                self.check()
                continue
            if "end" in message:
                raise Released
            return message, data

    def assemble(self, digest: str, state: Path | None) -> None:
        """As ``Alone.assemble``; worker 0's state is written to the folder ``state``."""
        assert state is not None
        self._line.send({"ready": digest})
        message, data = self._receive()
        if message["state"]:
            (state / Path(message["state"]).name).write_bytes(data)
        self._join(self._line.connection.getsockname()[0], message["environment"])

    def epochs(self) -> Iterator[int]:
        """The epochs to train, as worker 0 begins them. Raises Released at the end."""
        while True:
            yield int(self._receive()[0]["epoch"])

    def total(self, values: list[float]) -> list[float]:
        """As ``Alone.total``; the sums are worker 0's to know."""
        self._line.send({"values": values})
        return values

    def fail(self, why: str) -> None:
        """Say why this worker ends."""
        self._line.send({"failed": why})


def leave(code: int) -> int:
    """The exit code of a program that may have been in a group. Where it was, the process ends here.

    What MXNet does at the end of a process waits for the other workers, and aborts where they are gone.
    """
    if Group.is_joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _connect(host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + MEET_S
    while True:
        try:
            return socket.create_connection((host, port), timeout=_SILENT_S)
        except OSError as error:
            if time.monotonic() > deadline:
                raise WorkerLost(f"Worker 0 at {host}:{port} cannot be reached ({error}).") from error
            time.sleep(_POLL_S)


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
        return
    process.kill()
    process.wait()


if __name__ == "__main__":
    backend.serve()
