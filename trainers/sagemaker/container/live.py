"""Inside the container: the run shown live in the MLflow run that the launcher began, where the container can reach it.

The run's own journal goes to S3 and is merged by the watcher. This thread follows it too, leaves out what the
launcher has said already, and replays the rest; both write the same rows, so nothing is there twice.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tracking.errors import TrackingError
from tracking.errors.redaction import hidden
from tracking.journal import Journal
from tracking.journal.checks import Event
from tracking.journal.events import Position, journals, read
from tracking.store import Store
from tracking.store.live import Live
from trainers.sagemaker.job.ledger import OWN, Entry
from trainers.sagemaker.watch.events import EventLog

_INTERVAL_S = 2.0


class Relay:
    """Follows the newest journal under ``root`` from ``start`` to ``finish``."""

    def __init__(
        self, root: Path, work: Path, *, tracking_uri: str, run_id: str, dataset: str, with_artifacts: bool = False
    ) -> None:
        """``dataset`` is the data as the user named it; ``work`` a folder for the copy that is replayed.

        ``with_artifacts``: the run's files as well, where they reach MLflow in no other way.
        """
        store = Store(tracking_uri, None, work)
        self._root, self._with_artifacts = root, with_artifacts
        self._journal = Journal.create(work, experiment=store.default_experiment, run_name=None, attach_run_id=run_id)
        entry = Entry(
            name="", kind=OWN, region="", profile=None, request={}, experiment="", dataset=dataset, directory=work
        )
        self._taker = EventLog(entry, self._journal, {}, known_params={"dataset": dataset})
        self._live = Live(self._journal.dir, store)
        self._position: dict[str, Position] = {}
        self._problem: str | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="relay", daemon=True)

    def start(self) -> None:
        """Begin; the run never waits for the server."""
        self._live.start()
        self._thread.start()

    def finish(self, timeout_s: float = 30.0) -> str | None:
        """Take over what is left; why it could not be, or None."""
        self._ending.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._problem = f"the run's journal was not read to its end within {timeout_s:g} s"
        self._journal.close()
        return self._live.finish(timeout_s) or self._problem

    def _follow(self) -> None:
        try:
            self._relay()
        except Exception as error:  # what is not relayed must not count as arrived
            self._problem = hidden(str(error))

    def _relay(self) -> None:
        while True:
            ending = self._ending.is_set()
            for directory in journals(self._root):
                for event, position in read(directory, self._position.get(directory.name)):
                    self._position[directory.name] = position
                    try:
                        self._take(directory, event)
                    except TrackingError as error:  # of one event; the others still come
                        self._problem = hidden(str(error))
            if ending:
                return
            self._ending.wait(_INTERVAL_S)

    def _take(self, directory: Path, event: Event) -> None:
        if event["event"] == "artifact" and self._with_artifacts:
            self._journal.artifact(directory / event["path"], event["artifact_path"])
        elif event["event"] not in ("start", "status", "artifact"):
            self._taker.take_event(event)
