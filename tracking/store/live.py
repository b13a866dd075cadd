"""Replay while the run goes on: a thread that follows the journal and never makes the run wait.

MLflow is imported in that thread. When the store does not answer it tries again, ever more rarely; the journal waits.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors import StoreUnreachable, TrackingError
from tracking.errors.redaction import hidden
from tracking.journal.background import in_background
from tracking.journal.files import is_exhausted

if TYPE_CHECKING:
    from tracking.store.store import Store

INTERVAL_S = 2.0
MAX_BACKOFF_S = 60.0
FLUSH_S = 30.0


class Live:
    """Follows one journal from ``start`` to ``finish``; ``after`` follows that of the run this one belongs to."""

    def __init__(
        self, directory: Path, store: Store, *, interval_s: float = INTERVAL_S, after: Live | None = None
    ) -> None:
        self._directory = directory
        self._store = store
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._ending = False
        self._after = after
        self._made = threading.Event()  # MLflow has the run, or will not have it by this thread
        self._over: threading.Event | None = None
        self.run_id: str | None = None
        self.error: Exception | None = None
        self.remarks: list[str] = []  # what the store could not hold, or holds otherwise

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._over = in_background(self._follow)
        if self._over.is_set() and not self._made.is_set():
            self.error = StoreUnreachable("no thread can be started that follows the run")
            self._made.set()

    def look(self) -> None:
        """Have it look for what is new now; returns at once."""
        self._wake.set()

    def is_following(self) -> bool:
        """Whether it has neither ended nor given up."""
        return self._over is not None and not self._over.is_set()

    def finish(self, timeout_s: float = FLUSH_S) -> str | None:
        """Take over what is left, for at most ``timeout_s``; None when all is in MLflow, else why not."""
        self._ending = True
        self._wake.set()
        if self._over is not None and not self._over.wait(timeout_s):
            why = f" ({hidden(str(self.error))})" if self.error else ""
            return f"{self._store.public_uri} took longer than {timeout_s:g} s{why}"
        return hidden(str(self.error)) if self.error else None

    def _follow(self) -> None:
        try:
            self._advance()
        except Exception as error:  # finish says that not all is in MLflow
            self.error = error
        finally:
            self._made.set()

    def _advance(self) -> None:
        from tracking.store.replay import Replayer

        # MLflow is told of the run a new one belongs to when that is made, so that one has to be there.
        while self._after is not None and self._after.error is None and not self._after._made.wait(0.1):
            pass
        replayer = Replayer(self._directory, self._store)
        failures = 0
        while True:
            ending = self._ending  # before advancing: what is written until now is then surely taken over
            try:
                outcome = replayer.advance()
                self.remarks = [*outcome.problems, *outcome.notes]
                failures, self.error = 0, None
            except Exception as error:
                self.error = error
                failures += 1
                if isinstance(error, TrackingError) and not isinstance(error, StoreUnreachable):
                    if not is_exhausted(error.__cause__):  # what this process has none left of may come back
                        return
            self.run_id = replayer.run_id
            if self.run_id is not None:
                self._made.set()
            # A store that has not answered before will not in the last moment: the run need not wait for it.
            if ending and (self.error is None or failures > 1):
                return
            self._wake.wait(min(self._interval_s * 2**failures, MAX_BACKOFF_S) if not ending else 1.0)
            self._wake.clear()


def import_distutils() -> None:
    """Have setuptools' finder do its work before a second thread imports anything; about 0.1 s, once."""
    if "distutils" in sys.modules or not any(_is_setuptools(finder) for finder in sys.meta_path):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.10 and 3.11 say that distutils is going away
        try:
            importlib.import_module("distutils")
        except ImportError:  # Python 3.12 with a setuptools that brings none
            pass


def _is_setuptools(finder: object) -> bool:
    kind = finder if isinstance(finder, type) else type(finder)
    return kind.__module__ == "_distutils_hack"
