"""Programs in processes forked from one that has imported MLflow and MXNet already, which saves each of them seconds.

Such a process has an id, a folder, an environment and signals of its own, and ends as Python ends. What it does not
show is how a program begins: what it imports, and what libraries read from the environment while they are loaded.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.preloaded"])


class Forked:
    """As ``subprocess.Popen([sys.executable, *words], …)`` with text from stdout and stderr in one pipe."""

    def __init__(self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """``words``: ``-m MODULE …`` or ``-c CODE …``, maybe after ``-W FILTER``."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(Path(__file__).parents[2])  # where the server finds what it imports first
            forkserver.ensure_running()
        reader, writer = _CONTEXT.Pipe(duplex=False)
        self.stdout = open(os.dup(reader.fileno()), encoding="utf-8", errors="replace")
        arguments = (words, dict(os.environ if env is None else env), str(cwd or Path.cwd()), writer)
        self._process = _CONTEXT.Process(target=_main, args=arguments)
        self._process.start()
        reader.close()
        writer.close()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal's number where one ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """``returncode``."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once there is one."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float = 120) -> tuple[str, None]:
        """All that it still prints; it is killed after ``timeout`` seconds."""
        killer = threading.Timer(timeout, self.kill)
        killer.start()
        with self.stdout:
            said = self.stdout.read()
        killer.cancel()
        self.wait(timeout)
        return said, None

    def send_signal(self, signum: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _main(words: tuple[str, ...], environment: dict[str, str], folder: str, writer: Connection) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number in (1, 2):
        os.dup2(writer.fileno(), number)
    writer.close()
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8") for number in (1, 2))
    if words[0] == "-W":
        warnings.simplefilter(words[1])  # type: ignore[arg-type]
        words = words[2:]
    how, what, *rest = words
    code: object = 0
    try:
        if how == "-m":
            sys.argv = [what, *rest]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv = [how, *rest]
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.exit(code)
