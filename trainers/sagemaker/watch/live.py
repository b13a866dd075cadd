"""The runs of many jobs shown in MLflow while they go on: one thread and one client for all journals."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracking.errors.redaction import hidden
from trainers.sagemaker.job.ledger import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tracking.store import Store


class LiveReplay:
    """A thread that replays the jobs' journals into MLflow, one after the other, with one client for all."""

    def __init__(self, store: Store, entries: Sequence[Entry]) -> None:
        self._store, self._entries = store, list(entries)
        self._wake, self._ending = threading.Event(), False
        self.error = ""
        self._thread = threading.Thread(target=self._go_on, name="fleet-mlflow", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Show one run more."""
        self._entries.append(entry)

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
        try:
            self._follow()
        except Exception as error:  # else finish would say that all is in MLflow
            self.error = hidden(str(error))

    def _follow(self) -> None:
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
