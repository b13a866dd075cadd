"""The write side people use: ``with tracking.start_run(...) as run:``. How the block is left decides the run's status.

Standard library alone; MLflow comes in only with ``live``, in a thread of its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, SupportsFloat

from tracking import names
from tracking.errors import StoreError, StoreUnreachable, TrackingError
from tracking.errors.redaction import hidden, public
from tracking.journal import Journal
from tracking.journal.events import one_line, read, verdict
from tracking.journal.files import cannot_write
from tracking.journal.origin import origin
from tracking.store.live import import_distutils

if TYPE_CHECKING:
    from tracking.journal.system import Sampler
    from tracking.store import Store
    from tracking.store.live import Live

SYNC = "python -m tracking sync"
_entered: ContextVar[tuple[Run, ...]] = ContextVar("entered", default=())
# What people write who know another tool, or an older version of this one, and what it is here.
_ELSEWHERE = {
    "log": "log_metrics({name: value}, step=1)",
    "log_metric": "log_metrics({name: value}, step=1)",
    "metrics": "log_metrics",
    "log_param": "log_params({name: value})",
    "log_hyperparams": "log_params(vars(args))",
    "config": "log_params({name: value})",
    "params": "log_params",
    "set_tag": "set_tags({name: value})",
    "tags": "set_tags",
    "log_artifacts": "log_artifact(folder)",
    "artifact": "log_artifact",
    "log_image": "log_artifact(path)",
    "log_dict": "log_text(json.dumps(values), 'values.json')",
    "text": "log_text",
    "dataset": "log_dataset",
    "log_input": "log_dataset",
    "end_run": "finish()",
    "end": "finish()",
    "info": "run_id",
    "id": "run_id",
}


class Run:
    """A run being written; every method returns in microseconds, files aside.

    Raises TrackingError for what MLflow would refuse later, JournalError when the disk does not take it.
    """

    def __init__(
        self, journal: Journal, store: Store | None, flush_s: float, sampler: Sampler | None, parent: Run | None
    ) -> None:
        """Use ``start``, ``resume`` or ``attach``."""
        self.status = "RUNNING"
        self.earlier_s = 0.0
        self._journal = journal
        self._store = store
        self._flush_s = flush_s
        self._sampler = sampler
        self._params: dict[str, str] = {}
        self._last_step: dict[str, int] = {}
        self._live: Live | None = None
        if store is not None or sampler is not None:
            import_distutils()
        if store is not None:
            from tracking.store.live import Live

            self._live = Live(journal.dir, store, after=None if parent is None else parent._live)
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
    def run_id(self) -> str:
        """MLflow's id. Waits until there is one, at most as long as for MLflow at the end of the run.

        Raises StoreError where there will be none, StoreUnreachable where there is none yet.
        """
        if self._live is None:
            raise StoreError(
                f"run {self.journal_id} is written to its journal alone (live=False), so it has no id in MLflow;"
                f" {_sync_line()} makes it there"
            )
        end = time.monotonic() + self._flush_s
        self._live.look()
        while (found := self.mlflow_run_id) is None:
            following, error = self._live.is_following(), self._live.error
            if following and time.monotonic() < end:
                time.sleep(0.02)
                continue
            why = f": {hidden(str(error))}" if error else ""
            assert self._store is not None
            raise (StoreUnreachable if following else StoreError)(
                f"run {self.journal_id} has no id in MLflow yet, after {self._flush_s:g} s{why}\nnothing is lost, its"
                f" journal is {self.dir}; bring it in later with: {_sync_line()}"
            )
        return found

    @property
    def mlflow_run_id(self) -> str | None:
        """``run_id`` without waiting: None until MLflow has the run."""
        if self._store is None:
            return None
        from tracking.journal.progress import replayed_as

        return replayed_as(self.dir, self._store.public_uri)

    def log_params(self, values: Mapping[str, object]) -> None:
        """Log parameters. One value each, for good: TrackingError where a name already has another."""
        journal = self._writable("log_params", values, "learning_rate")
        text = {name: str(value) for name, value in values.items() if value is not None}
        changed = [f"{k}: {self._params[k]!r}, now {v!r}" for k, v in text.items() if self._params.get(k, v) != v]
        if changed:
            raise TrackingError(f"a run's parameters never change: {'; '.join(changed)}; start another run")
        journal.params(text)
        self._params.update(text)

    def log_metrics(self, values: Mapping[str, SupportsFloat], step: int | None = None) -> None:
        """Log numbers, or scalars of NumPy, MXNet, PyTorch and the like, of one step.

        Epochs count from 1, the state before training is 0. Without ``step`` it is the one after the last of these
        metrics, 0 where there is none.
        """
        journal = self._writable("log_metrics", values, "validation_accuracy")
        if step is None:
            step = max((self._last_step.get(name, -1) for name in values), default=-1) + 1
        journal.metrics(values, step=step)
        self._last_step.update(dict.fromkeys(values, step))

    def set_tags(self, values: Mapping[str, object]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self._writable("set_tags", values, "author").tags(values)

    def log_dataset(
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
        self._writable().dataset(
            context=context,
            name=name,
            digest=digest,
            source=source,
            num_images=num_images,
            num_classes=num_classes,
            profile=profile,
        )

    def log_artifact(self, path: str | Path, artifact_path: str | None = None, *, move: bool = False) -> Path:
        """Keep a file or folder with the run, in the folder ``artifact_path``; returns where it is now."""
        return self._writable().artifact(path, artifact_path or "", move=move)

    def log_text(self, text: str, artifact_file: str) -> Path:
        """Keep a text as the artifact ``artifact_file``, such as ``notes/first.txt`` (UTF-8)."""
        if not isinstance(text, str):
            raise TrackingError(f"log_text takes text, not {type(text).__name__}; json.dumps(values) makes text of it")
        return self._keep(
            artifact_file, lambda path: path.write_text(text, encoding="utf-8", errors="backslashreplace")
        )

    def log_figure(self, figure: Any, artifact_file: str) -> Path:
        """Keep a Matplotlib or Plotly figure as ``artifact_file``; the ending, as in curve.svg, is the format."""
        kind = type(figure).__name__
        ending = Path(artifact_file).suffix
        write = getattr(figure, "savefig", None) or getattr(
            figure, "write_html" if ending == ".html" else "write_image", None
        )
        if write is None:
            raise TrackingError(
                f"log_figure takes a Matplotlib or Plotly figure, not {kind}; of a plot give its .figure"
            )
        if not ending:
            raise TrackingError(f"figure {artifact_file!r}: give the name an ending, such as .svg or .png")

        def draw(path: Path) -> None:
            try:
                write(path)
            except OSError:
                raise
            except Exception as error:  # each library raises what it likes
                raise TrackingError(f"figure {artifact_file}: {one_line(error)}") from error

        return self._keep(artifact_file, draw)

    def log_model(self, model: Any, name: str = "model", **saving: Any) -> Path:
        """Keep a classifier of pictures as the run's model ``name``; the rest goes to ``tracking.save_model``.

        Returns the model's folder. Raises ModelError.
        """
        from tracking.models import facts, gluon

        journal, folder = self._writable(), self.dir / "files" / name
        if folder.exists():
            raise TrackingError(f"this run has {name!r} already; give the model another name")
        gluon.save_model(model, folder, **saving)
        known = facts.read_facts(folder)
        values = {names.MODEL_SIZE_BYTES: (folder / facts.WEIGHTS).stat().st_size}
        if problem := known["onnx"].get("problem"):
            self.set_tags({names.ONNX_PROBLEM: problem})
        elif known["onnx"].get("num_images"):
            values[names.ONNX_MAX_DIFFERENCE] = known["onnx"]["max_difference"]
        self.log_metrics(values, step=known.get("epoch") or 0)
        return journal.artifact(folder)

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
            try:
                self._journal.close()
            finally:
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

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            here = f"; here it is run.{_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise AttributeError(f"a run has no {name!r}{here}", name=name, obj=self)

    def _writable(self, method: str = "", values: object = None, example: str = "") -> Journal:
        """The journal. Raises TrackingError once the run has ended, and where ``values`` are no dict."""
        if self.status != "RUNNING":
            raise TrackingError(
                f"run {self.journal_id} has ended ({self.status}): log inside its block, or open it again with"
                f" tracking.resume_run({str(self.dir)!r})"
            )
        if method and not isinstance(values, Mapping):
            raise TrackingError(f"{method} takes a dict, as {method}({{{example!r}: 0.1}}), not {values!r:.80}")
        return self._journal

    def _keep(self, artifact_file: str, write: Callable[[Path], object]) -> Path:
        """Have an artifact written and keep it."""
        journal, target = self._writable(), Path(artifact_file)
        if not target.name:
            raise TrackingError(f"{artifact_file!r} is no name of an artifact; give one, such as 'notes.txt'")
        try:
            with tempfile.TemporaryDirectory(dir=self.dir, prefix=".text-") as scratch:
                whole = Path(scratch) / target.name
                write(whole)
                return journal.artifact(whole, str(target.parent), move=True)
        except OSError as error:
            raise cannot_write(self.dir / target, error) from error

    def _write_down(self, error: BaseException, reason: str) -> None:
        self.set_tags({names.ERROR_TYPE: type(error).__name__, names.STATUS_REASON: reason})
        self.log_text(hidden("".join(traceback.format_exception(error))), "traceback.txt")

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
    run_name: str | None = None,
    *,
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
    experiment: str | None = None,
    root: Path | None = None,
    live: bool | Store | None = True,
    flush_s: float | None = None,
    system_metrics: bool = True,
    parent: Run | str | None = None,
) -> Run:
    """Begin a run; ``params`` and ``tags`` are logged at once.

    ``root`` is the journals' folder (default: the store's). ``live`` shows it in MLflow while it goes on, True meaning
    the store of this directory; False or None writes the journal only. On the way out MLflow gets ``flush_s`` seconds
    to catch up. ``parent`` is the run this one belongs to, or its journal id. Raises StoreError before anything is
    written where the store is known to be wrong.
    """
    for method, values in (("params", params), ("tags", tags)):
        if values is not None and not isinstance(values, Mapping):
            raise TrackingError(f"{method} is a dict, not {values!r:.80}")
    store, live_store = _stores(live)
    experiment = experiment or store.default_experiment
    journal = Journal.create(
        root or store.journals,
        experiment=experiment,
        run_name=None if run_name is None else str(run_name),
        parent=parent.journal_id if isinstance(parent, Run) else parent,
        tags=origin(),
    )
    run = _run(journal, live_store, flush_s, system_metrics, 0, parent if isinstance(parent, Run) else None)
    try:
        run.log_params(params or {})
        run.set_tags(tags or {})
    except TrackingError as error:
        run.finish("FAILED", one_line(error))
        raise
    return run


def resume(
    directory: Path,
    *,
    live: bool | Store | None = True,
    flush_s: float | None = None,
    system_metrics: bool = True,
) -> Run:
    """Go on with a run whose process is gone; it is RUNNING again and counts how often it was resumed.

    ``earlier_s`` is then the time that all earlier attempts took, each from its first event to its last.
    """
    _, live_store = _stores(live)
    journal = Journal.reopen(directory)
    params: dict[str, str] = {}
    last_step: dict[str, int] = {}
    num_resumed, step = 0, -1
    earlier_ms, former_ms = 0, None
    for event, _ in read(journal.dir):
        begins = former_ms is None or (event["event"], event.get("status")) == ("status", "RUNNING")
        earlier_ms += 0 if begins else max(0, event["time_ms"] - former_ms)
        former_ms = event["time_ms"] or former_ms
        if event["event"] == "param":
            params |= event["values"]
        elif event["event"] == "metric" and not any(name.startswith("system/") for name in event["values"]):
            last_step |= dict.fromkeys(event["values"], event["step"])
        elif event["event"] == "tag" and names.RESUMED in event["values"]:
            count = event["values"][names.RESUMED]
            num_resumed = int(count) if count.isdecimal() else num_resumed
        elif event["event"] == "metric":
            step = max(step, event["step"])
    journal.status("RUNNING")
    journal.tags({names.RESUMED: num_resumed + 1})
    run = _run(journal, live_store, flush_s, system_metrics, step + 1)
    run._params, run._last_step = params, last_step
    run.earlier_s = earlier_ms / 1000
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


def _run(
    journal: Journal,
    store: Store | None,
    flush_s: float | None,
    system_metrics: bool,
    step: int,
    parent: Run | None = None,
) -> Run:
    from tracking.store.live import FLUSH_S

    sampler = None
    if system_metrics:
        from tracking.journal.system import Sampler

        sampler = Sampler(journal, first_step=step)
    return Run(journal, store, FLUSH_S if flush_s is None else flush_s, sampler, parent)


def _sync_line() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return f"MLFLOW_TRACKING_URI={public(uri)} {SYNC}" if uri else SYNC
