"""Workers that train one run together: gradients go through MXNet's ``dist_sync``, all else through worker 0.

MXNet waits without end for a worker that is gone. So each keeps a connection to worker 0, and does what may wait for
the others on a thread, which is left behind when that connection ends. As a program, this is a server of that store.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainers.config import Config
from trainers.config.text import to_toml
from trainers.errors import BadData, TrainerError, WorkerLost
from trainers.networks import backend

T = TypeVar("T")
LISTEN = "TRAINERS_LISTEN"
MEET_S = 900.0  # machines download their data before they start
_POLL_S, _LEAVE_S, _UNREACHABLE_S = 0.1, 5.0, 60
_DATA, _FAILED, _END = b"d", b"f", b"e"
_HELLO = 16  # bytes of a worker's first words


class Released(Exception):
    """Worker 0 has ended the run; there is nothing left to do."""


class Group:
    """A run's workers, as one of them sees them; this class itself is a run's only one, for which all is nothing."""

    rank, size = 0, 1
    store: Any = None
    is_joined = False  # whether this process ever was one of several; MXNet can join once

    def __init__(self) -> None:
        self._lines: dict[int, connection.Connection] = {}
        self._inbox: dict[int, deque[bytes]] = defaultdict(deque)
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    def call(self, work: Callable[[], T]) -> T:
        """Do what may wait for other workers. Raises what ``check`` raises."""
        if self.size == 1:
            return work()
        done: Future[T] = Future()

        def act() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=act, daemon=True).start()
        while not wait([done], _POLL_S).done:
            self.check()
        return done.result()

    def check(self) -> None:
        """Raises WorkerLost where a worker or a server is gone, and TrainerError with what a worker failed with."""
        for role, process in self._servers.items():
            if process.poll() is not None:
                raise WorkerLost(f"The {role} of worker {self.rank} ended with exit code {process.returncode}.")
        for rank, line in self._lines.items():
            while line.poll():
                try:
                    message = line.recv_bytes()
                except (EOFError, OSError) as error:
                    raise WorkerLost(f"{self._name(rank)} was lost: its connection ended.") from error
                if message[:1] == _FAILED:
                    raise TrainerError(f"{self._name(rank)} failed: {message[1:].decode(errors='replace')}")
                if message == _END:
                    raise Released
                self._inbox[rank].append(message[1:])

    def _name(self, rank: int) -> str:
        return f"Worker {rank} of {self.size}"

    def send(self, data: bytes, kind: bytes = _DATA) -> None:
        """To all others, or to worker 0. That one is gone is noticed by who waits for its answer."""
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.send_bytes(kind + data)

    def receive(self, rank: int = 0) -> bytes:
        """The next message of another worker. Raises what ``check`` raises, and Released at the run's end."""
        self.check()
        while not self._inbox[rank]:
            connection.wait(self._lines.values(), _POLL_S)
            self.check()
        return self._inbox[rank].popleft()

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums over all workers, the same in each."""
        for rank in self._lines:
            values = values + np.frombuffer(self.receive(rank))
        self.send(values.tobytes())
        return values

    def agrees(self, digest: str) -> bool:
        """Whether all workers have the same, of which each gives the hexadecimal digest."""
        number = float(int(digest[:12], 16))
        return bool(self.total(np.array([number]))[0] == self.size * number)

    def _compare(self, digest: str) -> None:
        if not self.agrees(digest):
            raise BadData("The workers do not have the same training pictures. Give all of them all.")

    def _join(self, address: str, environment: dict[str, str]) -> None:
        """Start this worker's servers and open the store. ``address`` is where the others reach this machine."""
        if Group.is_joined:
            raise TrainerError("This process has been a worker before, and MXNet joins once. Start another process.")
        Group.is_joined = True
        atexit.register(lambda: leave(1 if hasattr(sys, "last_value") else 0))
        os.environ.pop("PORT", None)  # MXNet would listen there, each process on the same
        os.environ.update(environment, DMLC_ROLE="worker", DMLC_NODE_HOST=address)
        for role in ("server",) if self.rank else ("scheduler", "server"):
            self._servers[role] = subprocess.Popen(
                [sys.executable, "-m", "trainers.networks.group"],
                stdin=subprocess.PIPE,  # it ends with this process
                env={**os.environ, "DMLC_ROLE": role, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        mx = backend.load()
        self.store = self.call(lambda: mx.kv.create("dist_sync"))

    def close(self) -> None:
        """Let the others go. The store is left as it is: to free it is to wait for all workers."""
        if self.store is not None:
            self.store.handle = ctypes.c_void_p(None)
        for process in self._servers.values():
            process.kill()
            process.wait()
        for line in self._lines.values():
            line.close()


ALONE = Group()


class Leader(Group):
    """Worker 0, which has the run. The others connect to ``host`` and ``port`` and are given ``config``, a text."""

    def __init__(self, size: int, config: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self.size, self._config = size, config
        self._listener = socket.create_server((host, port))
        self._listener.settimeout(_POLL_S)
        self.port: int = self._listener.getsockname()[1]
        self._local: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, program: Sequence[str]) -> None:
        """Start the other workers on this machine: ``program HOST:PORT RANK``."""
        for rank in range(1, self.size):
            command = [*program, f"127.0.0.1:{self.port}", str(rank)]
            # A session of its own: Ctrl-C reaches worker 0 alone, which lets the others go.
            self._local[rank] = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def assemble(self, digest: str) -> None:
        """Wait for all workers, and open the store with them. ``digest`` is that of the training pictures.

        Raises WorkerLost, and BadData where a worker has other pictures.
        """
        deadline, address = time.monotonic() + MEET_S, ""
        while missing := sorted(set(range(1, self.size)) - self._lines.keys()):
            self.check()
            for rank in missing:
                if rank in self._local and (code := self._local[rank].poll()) is not None:
                    raise WorkerLost(f"{self._name(rank)} did not start: it ended with exit code {code}.")
            if time.monotonic() > deadline:
                raise WorkerLost(f"{self._name(missing[0])} did not come within {MEET_S:.0f} s.")
            with contextlib.suppress(TimeoutError):
                came, _ = self._listener.accept()
                address = self._greet(came) or address
        self._compare(digest)
        with socket.create_server((address, 0)) as free:
            port = free.getsockname()[1]
        environment = {
            "DMLC_PS_ROOT_URI": address,  # a number: MXNet cannot listen on a name
            "DMLC_PS_ROOT_PORT": str(port),
            "DMLC_NUM_WORKER": str(self.size),
            "DMLC_NUM_SERVER": str(self.size),
        }
        self.send(json.dumps(environment).encode())
        self._join(address, environment)

    def _greet(self, came: socket.socket) -> str:
        """The address that a worker came to; "" where it is none of this run."""
        with came:
            came.settimeout(_LEAVE_S)
            try:
                rank = int(came.recv(_HELLO, socket.MSG_WAITALL).decode().removeprefix("worker "))
            except (OSError, ValueError):
                return ""
            if rank not in {*range(1, self.size)} - self._lines.keys():
                return ""
            address = str(came.getsockname()[0])
            self._lines[rank] = _line(came)
        self._lines[rank].send_bytes(_DATA + json.dumps([self.size, self._config]).encode())
        return address

    def close(self) -> None:
        """As ``Group.close``."""
        self._listener.close()
        self.send(b"", _END)
        super().close()
        for process in self._local.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVE_S)
            process.kill()
            process.wait()


class Follower(Group):
    """A worker that trains along. ``config`` is the text of the run's settings."""

    def __init__(self, host: str, port: int, rank: int) -> None:
        super().__init__()
        came = _connect(host, port)
        self._address = str(came.getsockname()[0])
        came.sendall(f"worker {rank}".ljust(_HELLO).encode())
        self._lines[0] = _line(came)
        self.rank = rank
        self.size, self.config = json.loads(self.receive())

    def assemble(self, digest: str) -> None:
        """As ``Leader.assemble``."""
        self._compare(digest)
        self._join(self._address, json.loads(self.receive()))

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """As ``Group.total``."""
        self.send(values.tobytes())
        return np.frombuffer(self.receive())

    def fail(self, why: str) -> None:
        """Say why this worker ends."""
        self.send(why.encode(), _FAILED)


@contextmanager
def together(config: Config, digest: str) -> Iterator[Group]:
    """All workers of a run, of which this process is worker 0; the others end with the block.

    They are processes of this machine, or come to the address and port that the environment's ``TRAINERS_LISTEN`` says.
    ``digest`` is that of the training pictures.
    """
    if config.workers is None:
        yield ALONE
        return
    host, _, port = os.environ.get(LISTEN, "127.0.0.1:0").rpartition(":")
    leader = Leader(config.workers, to_toml(config), host=host, port=int(port))
    try:
        if LISTEN not in os.environ:
            leader.start([sys.executable, "-m", "trainers.launch.worker"])
        leader.assemble(digest)
        yield leader
    finally:
        leader.close()


def leave(code: int) -> int:
    """The exit code of a program that may have been in a group. Where it was, the process ends here.

    What MXNet does at the end of a process waits for the other workers, and aborts where they are gone.
    """
    if Group.is_joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def serve() -> None:
    """Be the scheduler or a server of MXNet's store, as the environment says, until standard input ends."""
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
    library, store = backend.c_library(), ctypes.c_void_p()
    # Called with an optimizer by workers that leave updating the weights to the server; ours do not.
    controller = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    code = library.MXKVStoreCreate(b"dist", ctypes.byref(store)) or library.MXKVStoreRunServer(store, controller, None)
    os._exit(-code)


def _connect(host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + MEET_S
    while True:
        try:
            return socket.create_connection((host, port), timeout=_LEAVE_S)
        except OSError as error:
            if time.monotonic() > deadline:
                raise WorkerLost(f"Worker 0 at {host}:{port} cannot be reached ({error}).") from error
            time.sleep(_POLL_S)


def _line(came: socket.socket) -> connection.Connection:
    """A connection that carries messages, and ends when the other machine is out of reach for a minute."""
    came.settimeout(None)
    came.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (
        ("KEEPIDLE", 20),
        ("KEEPINTVL", 10),
        ("KEEPCNT", 4),
        ("USER_TIMEOUT", 1000 * _UNREACHABLE_S),
    ):
        came.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{option}"), seconds)
    return connection.Connection(came.detach())


if __name__ == "__main__":
    serve()
