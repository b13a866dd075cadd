"""The runs of many jobs shown in MLflow while they go on: one thread and one client for all journals.

MLflow brings pandas, SciPy and more, 110 MB that replaying has no use for. Where many jobs are watched it is imported
as if it were ``mlflow-skinny``, its own edition for machines without them.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracking.errors.redaction import hidden
from trainers.sagemaker.job.ledger import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tracking.store import Store


_NOT_NEEDED = ("pandas", "numpy", "scipy", "pyarrow")


def import_lightly() -> None:
    """Import MLflow without the packages that it can do without; they stay importable for everybody else.

    For the main thread, before others run: for a moment nobody can import them. Where MLflow or one of them is there
    already nothing is to be saved.
    """
    if "mlflow" in sys.modules or any(name in sys.modules for name in _NOT_NEEDED):
        return
    sys.modules.update(dict.fromkeys(_NOT_NEEDED))  # type: ignore[arg-type]  # None: not importable
    try:
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    except ImportError:  # a version that cannot do without after all is imported as usual, later
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
            del sys.modules[name]
    finally:
        for name in _NOT_NEEDED:
            sys.modules.pop(name, None)


class LiveReplay:
    """A thread that replays the jobs' journals into MLflow, one after the other, with one client for all."""

    def __init__(self, store: Store, entries: Sequence[Entry]) -> None:
        self._store, self._entries = store, entries
        self._wake, self._ending = threading.Event(), False
        self.error = ""
        if len(entries) > 1:
            import_lightly()
        self._thread = threading.Thread(target=self._go_on, name="fleet-mlflow", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is news."""
        self._wake.set()

    def finish(self, timeout_s: float) -> str | None:
        """Take over what is left, for at most ``timeout_s``; None when all is in MLflow, else why not."""
        self._ending = True
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return f"{self._store.public_uri} took longer than {timeout_s:.0f} s"
        return self.error or None

    def _go_on(self) -> None:
        from tracking.store.replay import Replayer

        client: MlflowClient | None = None
        replayers: dict[str, Replayer] = {}
        sizes: dict[str, int] = {}
        while True:
            ending = self._ending
            self.error = ""
            try:
                client = client or self._store.client()
            except Exception as error:  # the journals wait; `python -m tracking sync` brings them in
                self.error = hidden(str(error))
            for entry in self._entries if client is not None else ():
                try:
                    size = sum(path.stat().st_size for path in entry.directory.glob("journal-*.jsonl"))
                    if sizes.get(entry.journal_id) == size:
                        continue
                    replayer = replayers.setdefault(entry.journal_id, Replayer(entry.directory, self._store, client))
                    replayer.advance()
                    sizes[entry.journal_id] = size
                except Exception as error:
                    self.error = hidden(str(error))
            if ending:
                return
            self._wake.wait(30.0)
            self._wake.clear()
