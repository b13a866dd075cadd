"""Ctrl-C and SIGTERM end a run cleanly: at a batch boundary while it trains, at once elsewhere.

The exit code is 128 + the signal's number, as a shell reports it: 130 for Ctrl-C, 143 for SIGTERM.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

LAUNCHER = "TRAINERS_LAUNCHER"  # the process with which this one is to end
_PR_SET_PDEATHSIG = 1


def end_with_launcher() -> None:
    """Where this process was started to end with its launcher: SIGTERM comes when that is gone, by the kernel."""
    launcher = os.environ.pop(LAUNCHER, "")
    if not launcher:
        return
    with suppress(OSError, AttributeError):  # another system than Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(launcher):
        raise Interrupted(signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The run was asked to end; ``exit_code`` is what the process should leave with.

    ``kept`` is a sentence for the user: what is kept, and how to go on.
    """

    def __init__(self, signum: int, kept: str = "") -> None:
        self.signum, self.kept = signum, kept
        self.exit_code = 128 + signum
        super().__init__(": ".join(part for part in (f"ended by {signal.Signals(signum).name}", kept) if part))


@contextmanager
def interruptible(kept: str) -> Iterator[Interruption]:
    """``Interruption``, whose exception says what is ``kept`` unless the code inside says it better."""
    try:
        with Interruption() as asked:
            yield asked
    except Interrupted as error:
        raise error if error.kept else Interrupted(error.signum, kept) from None


class Interruption:
    """``with Interruption() as asked:`` turns both signals into Interrupted; inside ``asked.deferred()`` they wait.

    Deferred code polls ``asked.pending`` and ends at a good place; a second Ctrl-C no longer waits. ``enough``, where
    somebody says why, ends the training there too, and the run goes on with what it has. All other code
    calls ``asked.check`` between its stages: what is raised inside a ``__del__``, such as an NDArray's, Python drops.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.enough = ""
        self.polled_s = 0.0
        self._deferring = False
        self._held: Callable[[], bool] = lambda: False
        self._former: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # handlers can be set nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, a signal sets ``pending``; on leaving, a pending one is raised."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        self.check()

    def hold(self, while_true: Callable[[], bool]) -> None:
        """No signal interrupts as long as ``while_true()``: only ``check`` raises. For what must not be left half."""
        self._held = while_true

    def pending(self) -> bool:
        """Whether a signal has come, or training is enough. ``polled_s`` is when that was last asked, at a batch."""
        self.polled_s = time.time()
        return self.signum is not None or bool(self.enough)

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        second, self.signum = self.signum is not None, signum
        if (not self._deferring or second) and not self._held():
            raise Interrupted(signum)
