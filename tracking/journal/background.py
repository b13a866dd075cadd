"""Work beside a run, in a thread that the run neither waits for nor fails by."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable


def in_background(work: Callable[[], None]) -> threading.Event:
    """Have ``work`` done in a thread of its own; the event is set once it is over, or where no thread can be made.

    Not by ``threading.Thread``: where memory runs out while the thread begins, its ``start`` waits forever.
    """
    over = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            over.set()

    try:
        _thread.start_new_thread(run, ())
    except (RuntimeError, MemoryError):  # no room for its stack, or as many threads as the machine allows
        over.set()
    return over
