"""A job's state, and runs on this machine in a process of their own, which gets its config as a TOML file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from trainers.config import Config
from trainers.config.text import to_toml
from trainers.networks import backend
from trainers.training.interruption import LAUNCHER

State = Literal["waiting", "running", "finished", "failed", "killed"]
ENDED: tuple[State, ...] = ("finished", "failed", "killed")


def wait_for_end(
    state: Callable[[], State],
    timeout_s: float | None,
    *,
    poll_s: float,
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> State:
    """Ask for a job's state until it has ended, or ``timeout_s`` is over; the state then."""
    until = None if timeout_s is None else now() + timeout_s
    while (current := state()) not in ENDED:
        left = poll_s if until is None else until - now()
        if left <= 0:
            return current
        sleep(min(poll_s, left))
    return current


class LocalJob:
    """A run in a process of its own on this machine."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def id(self) -> str:
        """The process id."""
        return str(self._process.pid)

    def state(self) -> State:
        """Running until the process ends; then its exit code decides."""
        code = self._process.poll()
        if code is None:
            return "running"
        if code == 0:
            return "finished"
        return "killed" if code < 0 or code in (130, 143) else "failed"

    def wait(self, timeout_s: float | None = None) -> State:
        """Block until the process has ended, or the time is over."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        return self.state()

    def cancel(self) -> None:
        """Send SIGTERM: the run keeps its last checkpoint and is marked KILLED."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End at once what has not ended, with every process that it started."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own, see LocalLauncher
            self._process.wait()

    def why(self) -> str:
        """The last line it printed."""
        return next((line for line in reversed(list(self.logs())) if line.strip()), f"see {self.log}")

    def logs(self) -> Iterator[str]:
        """The lines of the process's standard output and error so far."""
        if self.log.exists():
            yield from self.log.read_text(encoding="utf-8", errors="replace").splitlines()


class LocalLauncher:
    """Runs each config as ``python -m trainers.run --config FILE`` with its share of the cores."""

    def __init__(self, folder: Path, *, num_threads: int | None = None) -> None:
        """``folder`` receives each run's config and log; ``num_threads`` is each process's share.

        With ``ends_with_launcher`` a run is ended as by SIGTERM when this process is gone, however that came.
        ``stop_on`` are the rules that end a training.
        """
        self.folder = folder
        self.num_threads = num_threads
        self.ends_with_launcher = False
        self.stop_on: tuple[str, ...] = ()
        folder.mkdir(parents=True, exist_ok=True)

    def submit(self, config: Config, resume: str = "", lock: int | None = None) -> LocalJob:
        """Start the run, or go on with the one whose id is ``resume``; its output goes to a file beside its config.

        The process keeps the descriptor ``lock`` open as long as it lives.
        """
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{len(list(self.folder.glob('*.toml'))):03d}"
        config_file, log = self.folder / f"{stem}.toml", self.folder / f"{stem}.log"
        config_file.write_text(to_toml(config), encoding="utf-8")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if self.ends_with_launcher:
            environment[LAUNCHER] = str(os.getpid())
        if self.num_threads is not None:
            environment |= dict.fromkeys(backend.VARIABLES, str(self.num_threads))
        what = ["--resume", resume] if resume else ["--config", str(config_file)]
        what += ["--stop-on", ",".join(self.stop_on)] if self.stop_on else []
        argv = [sys.executable, "-m", "trainers.run", *what]
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches the launcher alone, which then asks each job to end.
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                pass_fds=() if lock is None else (lock,),
            )
        return LocalJob(process, log)
