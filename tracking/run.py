"""The write side people use: ``with tracking.run.start(...) as run:``. How the block is left decides the run's status.

Standard library alone; MLflow comes in only with ``live``, in a thread of its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsFloat

from tracking import names
from tracking.errors import TrackingError
from tracking.errors.redaction import hidden, public
from tracking.journal import Journal
from tracking.journal.events import read, verdict
from tracking.journal.files import cannot_write
from tracking.journal.origin import origin
from tracking.store.live import import_distutils

if TYPE_CHECKING:
    from tracking.journal.system import Sampler
    from tracking.store import Store
    from tracking.store.live import Live

SYNC = "python -m tracking sync"
_entered: ContextVar[tuple[Run, ...]] = ContextVar("entered", default=())


class Run:
    """A run being written; every method returns in microseconds, files aside.

    Raises TrackingError for what MLflow would refuse later, JournalError when the disk does not take it.
    """

    def __init__(self, journal: Journal, store: Store | None, flush_s: float, sampler: Sampler | None) -> None:
        """Use ``start``, ``resume`` or ``attach``."""
        self.status = "RUNNING"
        self._journal = journal
        self._store = store
        self._flush_s = flush_s
        self._sampler = sampler
        self._params: dict[str, str] = {}
        self._live: Live | None = None
        if store is not None or sampler is not None:
            import_distutils()
        if store is not None:
            from tracking.store.live import Live

            self._live = Live(journal.dir, store)
            self._live.start()
        if sampler is not None:
            sampler.start()

    @property
    def dir(self) -> Path:
        """The run's directory; what is in its ``files/`` may be logged without a copy."""
        return self._journal.dir

    @property
    def journal_id(self) -> str:
        """The run's own id, given at once."""
        return self._journal.journal_id

    @property
    def mlflow_run_id(self) -> str | None:
        """MLflow's id, None until a replayer has made the run there."""
        if self._store is None:
            return None
        from tracking.journal.progress import replayed_as

        return replayed_as(self.dir, self._store.public_uri)

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters. One value each, for good: TrackingError where a name already has another."""
        text = {name: str(value) for name, value in values.items() if value is not None}
        changed = [f"{k}: {self._params[k]!r}, now {v!r}" for k, v in text.items() if self._params.get(k, v) != v]
        if changed:
            raise TrackingError(f"a run's parameters never change: {'; '.join(changed)}; start another run")
        self._journal.params(text)
        self._params.update(text)

    def metrics(self, values: Mapping[str, SupportsFloat], *, step: int) -> None:
        """Log metrics of one step (epochs count from 1, the state before training is 0)."""
        self._journal.metrics(values, step=step)

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self._journal.tags(values)

    def dataset(
        self,
        context: str,
        *,
        name: str,
        digest: str,
        source: str,
        num_images: int,
        num_classes: int,
        profile: Mapping[str, Any] | None = None,
    ) -> None:
        """Log the data of one split: ``context`` is train, validation or test."""
        self._journal.dataset(
            context=context,
            name=name,
            digest=digest,
            source=source,
            num_images=num_images,
            num_classes=num_classes,
            profile=profile,
        )

    def artifact(self, path: str | Path, artifact_path: str = "", *, move: bool = False) -> Path:
        """Keep a file or folder with the run, under ``artifact_path``; returns where it is now."""
        return self._journal.artifact(path, artifact_path, move=move)

    def text(self, text: str, name: str, artifact_path: str = "") -> Path:
        """Keep a text as the artifact ``name`` (UTF-8)."""
        folder = Path(artifact_path) / name
        try:
            with tempfile.TemporaryDirectory(dir=self.dir, prefix=".text-") as scratch:
                whole = Path(scratch) / folder.name
                whole.write_text(text, encoding="utf-8", errors="backslashreplace")
                return self._journal.artifact(whole, str(folder.parent), move=True)
        except OSError as error:
            raise cannot_write(self.dir / name, error) from error

    def finish(self, status: str = "FINISHED", reason: str = "") -> None:
        """End the run; once it has ended, ending it again changes nothing."""
        if self.status != "RUNNING":
            return
        if self._sampler is not None:
            self._sampler.stop()
        try:
            self._journal.status(status, reason=reason)
            self.status = status
        finally:
            self._journal.close()
            self._flush()

    def __enter__(self) -> Run:
        _entered.set((*_entered.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _entered.set(tuple(run for run in _entered.get() if run is not self))
        if self.status != "RUNNING":
            return
        status, reason = verdict(error)
        reason = hidden(reason)
        try:
            if error is not None and status == "FAILED" and not isinstance(error, SystemExit):
                self._write_down(error, reason)
        except TrackingError as second:
            # The block's own error is the one to raise; this one is printed and the status still written.
            print(f"tracking: {second}", file=sys.stderr)
        try:
            self.finish(status, reason)
        except TrackingError as second:
            if error is None:
                raise
            print(f"tracking: {second}", file=sys.stderr)

    def _write_down(self, error: BaseException, reason: str) -> None:
        self.tags({names.ERROR_TYPE: type(error).__name__, names.STATUS_REASON: reason})
        self.text(hidden("".join(traceback.format_exception(error))), "traceback.txt")

    def _flush(self) -> None:
        if self._live is None:
            return
        assert self._store is not None
        try:
            why = self._live.finish(self._flush_s)
        except KeyboardInterrupt:
            self._say_kept("interrupted while MLflow was brought up to date")
            raise
        for remark in self._live.remarks:
            print(f"tracking: {remark}", file=sys.stderr)
        if why is not None:
            self._say_kept(why)

    def _say_kept(self, why: str) -> None:
        print(
            f"tracking: not all of this run is in MLflow yet: {why}\n"
            f"tracking: nothing is lost, its journal is {self.dir}; bring it in later with: {_sync_line()}",
            file=sys.stderr,
        )


def active() -> Run | None:
    """The innermost run whose ``with`` block the caller is in; None outside of one."""
    return next((run for run in reversed(_entered.get()) if run.status == "RUNNING"), None)


def start(
    *,
    experiment: str | None = None,
    run_name: str | None = None,
    root: Path | None = None,
    live: bool | Store | None = True,
    flush_s: float | None = None,
    system_metrics: bool = True,
    parent: str | None = None,
) -> Run:
    """Begin a run.

    ``root`` is the journals' folder (default: the store's). ``live`` shows it in MLflow while it goes on, True meaning
    the store of this directory; False or None writes the journal only. On the way out MLflow gets ``flush_s`` seconds
    to catch up. ``parent`` is the journal id of the run this one belongs to. Raises StoreError before anything is
    written where the store is known to be wrong.
    """
    store, live_store = _stores(live)
    experiment = experiment or store.default_experiment
    journal = Journal.create(
        root or store.journals, experiment=experiment, run_name=run_name, parent=parent, tags=origin()
    )
    return _run(journal, live_store, flush_s, system_metrics, 0)


def resume(
    directory: Path,
    *,
    live: bool | Store | None = True,
    flush_s: float | None = None,
    system_metrics: bool = True,
) -> Run:
    """Go on with a run whose process is gone; it is RUNNING again and counts how often it was resumed."""
    _, live_store = _stores(live)
    journal = Journal.reopen(directory)
    params: dict[str, str] = {}
    num_resumed, step = 0, -1
    for event, _ in read(journal.dir):
        if event["event"] == "param":
            params |= event["values"]
        elif event["event"] == "tag" and names.RESUMED in event["values"]:
            count = event["values"][names.RESUMED]
            num_resumed = int(count) if count.isdecimal() else num_resumed
        elif event["event"] == "metric" and any(name.startswith("system/") for name in event["values"]):
            step = max(step, event["step"])
    journal.status("RUNNING")
    journal.tags({names.RESUMED: num_resumed + 1})
    run = _run(journal, live_store, flush_s, system_metrics, step + 1)
    run._params = params
    return run


def attach(
    run_id: str,
    *,
    root: Path | None = None,
    live: bool | Store | None = True,
    flush_s: float | None = None,
) -> Run:
    """Write onto an existing MLflow run without touching its status, start and end."""
    store, live_store = _stores(live)
    journal = Journal.create(
        root or store.journals, experiment=store.default_experiment, run_name=None, attach_run_id=run_id
    )
    return _run(journal, live_store, flush_s, False, 0)


def ended(directory: Path) -> str | None:
    """How the run of this journal ended: FINISHED, FAILED, KILLED, or None when it says nothing of an end."""
    status = None
    for event, _ in read(directory):
        if event["event"] == "status":
            status = event["status"] if event["status"] != "RUNNING" else None
    return status


def _stores(live: bool | Store | None) -> tuple[Store, Store | None]:
    """The store this run belongs to, and the one to show it in at once."""
    from tracking.store import Store, resolve

    store = live if isinstance(live, Store) else resolve()
    if not live:
        return store, None
    if locked := store.check():
        print(
            f"tracking: {locked}\n"
            f"tracking: the run goes on in its journal; what MLflow lacks when it ends comes in with: {_sync_line()}",
            file=sys.stderr,
        )
    return store, store


def _run(journal: Journal, store: Store | None, flush_s: float | None, system_metrics: bool, step: int) -> Run:
    from tracking.store.live import FLUSH_S

    sampler = None
    if system_metrics:
        from tracking.journal.system import Sampler

        sampler = Sampler(journal, first_step=step)
    return Run(journal, store, FLUSH_S if flush_s is None else flush_s, sampler)


def _sync_line() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return f"MLFLOW_TRACKING_URI={public(uri)} {SYNC}" if uri else SYNC
