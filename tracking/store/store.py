"""The store of runs: which MLflow store is meant, opening it safely, and finding runs in it.

MLflow is imported when a store is opened, not before: resolving and checking one is free.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.errors import RunNotFound, StoreError, StoreUnreachable, TrackingError
from tracking.journal.events import journals, read
from tracking.journal.files import whole_file
from tracking.store import address, connection, moved, readonly, schema
from tracking.store.readonly import sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

DEFAULT_EXPERIMENT = "image-classification"
PAGE = 1000
# How long a run that begins waits for a store that is locked; its journal needs none.
BRIEFLY_S = 2.0
# MLflow's pages show such an experiment as trained models, not as traces of language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


@dataclass(frozen=True)
class Store:
    """An MLflow store and the journals beside it.

    ``artifact_root`` is where experiments made here keep artifacts, None where the server decides. ``journals`` is the
    folder of the journals.
    """

    tracking_uri: str
    artifact_root: Path | None
    journals: Path

    @property
    def default_experiment(self) -> str:
        """The experiment meant when none is named: MLFLOW_EXPERIMENT_NAME, else image-classification."""
        return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT

    @property
    def database(self) -> Path | None:
        """The sqlite file, or None for another kind of store."""
        return sqlite_path(self.tracking_uri)

    @property
    def public_uri(self) -> str:
        """The tracking URI without a password, fit for a screen or a file."""
        return connection.public(self.tracking_uri)

    def check(self, experiment: str | None = None, *, will_write: bool = True) -> str | None:
        """Raise StoreError for everything that can be found wrong without MLflow and without the network.

        A file store, an old ``./mlruns``, a folder that cannot be written, a store of another MLflow version, another
        program's file; artifacts of ``experiment`` in the place where a copied store was before. Returns what to say of
        a store that is only locked just now. Without ``will_write`` its folder need not be writable, and is not made.
        """
        address.check(self.tracking_uri)
        path = self.database
        if path is None:
            return None
        if will_write:
            connection.check_writable(path)
        try:
            found = schema.look(self.tracking_uri, BRIEFLY_S)
        except StoreUnreachable as error:
            return str(error)
        if fault := schema.fault(self.tracking_uri, found):
            raise StoreError(fault)
        if experiment is not None and schema.state(found) == "ready":
            moved.check_experiment(path, experiment)
        return None

    def client(self) -> MlflowClient:
        """Open the store, making it where there is none; no other process can be in between.

        Another version's store is never upgraded, nor are tables put into another program's database. Raises StoreError
        (what ``check`` finds, and what MLflow itself says), StoreUnreachable.
        """
        uri, path = self.tracking_uri, self.database
        connection.check_reachable(uri)
        with connection.translated(uri):
            if connection.kind(uri) not in connection.DATABASES:
                self.check()
            elif self._look() != "ready":
                self.check()
                with connection.opening(uri) if path is None else connection.locked(path):
                    # The process that held the lock before may have made it.
                    if self._look() == "absent" and path is not None:
                        _make(path)
                    return connection.open_client(uri)
            return connection.open_client(uri)

    def make(self) -> None:
        """Make the sqlite file where there is none, also beside the file store of an older MLflow."""
        if (path := self.database) is not None and not path.exists():
            connection.check_writable(path)
            with connection.locked(path):
                if not path.exists():
                    _make(path)

    def _is_there(self) -> bool:
        """Whether there is a store to read; reading makes none. Raises StoreError as ``client``."""
        return connection.kind(self.tracking_uri) not in connection.DATABASES or self._look() == "ready"

    def _look(self) -> schema.State:
        """Whether the store is there or is to be made. Raises StoreError for what may not be written to."""
        address.check(self.tracking_uri)
        found = schema.look(self.tracking_uri)
        if fault := schema.fault(self.tracking_uri, found):
            raise StoreError(fault)
        return schema.state(found)

    def experiment_id(self, name: str | None = None, *, create: bool = True) -> str:
        """The id of an experiment, None being the default one.

        Raises StoreError when it is deleted, or absent and not to be made.
        """
        name = name or self.default_experiment
        if not create and not self._is_there():
            raise StoreError(schema.unreadable(self.tracking_uri, schema.Look({}, ())))
        client = self.client()
        with connection.translated(self.tracking_uri):
            found = client.get_experiment_by_name(name)
            if found is None and create:
                found = self._create_experiment(client, name)
        if found is None:
            there = ", ".join(sorted(e.name for e in client.search_experiments())) or "none"
            raise StoreError(f"no experiment {name!r} in {self.public_uri}; there are: {there}")
        if found.lifecycle_stage != "active":
            raise StoreError(
                f"experiment {name!r} is deleted in {self.public_uri}; bring it back with `mlflow experiments restore"
                f" --experiment-id {found.experiment_id}` or choose another name"
            )
        if create:
            moved.check(self.tracking_uri, found.artifact_location)
        return str(found.experiment_id)

    def runs(self, experiment_ids: Sequence[str] | None = None, filter: str = "") -> Iterator[MlflowRun]:
        """Every active run of the experiments (None: all), newest first, however many; none without a store."""
        if not self._is_there():
            return
        client = self.client()
        with connection.translated(self.tracking_uri):
            if experiment_ids is None:
                experiment_ids = [e.experiment_id for e in _pages(client.search_experiments)]
            if experiment_ids:
                yield from _pages(client.search_runs, list(experiment_ids), filter)

    def find_run(self, id_or_prefix: str) -> MlflowRun:
        """The run with this MLflow id or journal id, the only one whose id begins so (at least 4 characters), or the
        only one with this name.

        Raises RunNotFound, and TrackingError when several match.
        """
        found = dict[str, Any]()
        for wanted in connection.run_filters(id_or_prefix):
            found = {run.info.run_id: run for run in self.runs(None, wanted)}
            if found:
                break
        if not found:
            raise RunNotFound(
                f"no run {id_or_prefix!r} in {self.public_uri}: give an id, at least 4 characters of its beginning, or"
                " a name; `python -m reports leaderboard` lists the runs"
            )
        if len(found) > 1:
            listed = ", ".join(sorted(found)[:5])
            raise TrackingError(f"{id_or_prefix!r} could be {len(found)} runs: {listed}; give the whole id of one")
        return next(iter(found.values()))

    def journal_dir(self, run_id: str) -> Path:
        """The journal a run was written to, by MLflow's id, the journal's id, the beginning of either, or its name.

        Works without MLflow as long as the journal is here. Raises RunNotFound, and TrackingError for several.
        """
        from tracking.journal.progress import replayed_as

        found = [d for d in journals(self.journals) if run_id in (d.name, replayed_as(d, self.public_uri))]
        if not found and len(run_id) >= 4:
            found = [
                d
                for d in journals(self.journals)
                if d.name.startswith(run_id) or (replayed_as(d, self.public_uri) or "").startswith(run_id)
            ]
        found = found or [d for d in journals(self.journals) if _run_name(d) == run_id]
        found = [d for d in found if not _is_attached(d)]
        if not found:
            raise RunNotFound(f"no journal of run {run_id!r} in {self.journals}; it was written elsewhere")
        if len(found) > 1:
            listed = ", ".join(d.name for d in found[:5])
            raise TrackingError(f"{run_id!r} could be {len(found)} journals: {listed}; give the whole id of one")
        return found[0]

    def _create_experiment(self, client: MlflowClient, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        location = None
        if self.artifact_root is not None:
            folder = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:60] or "experiment"
            location = (self.artifact_root / folder).as_uri()
        try:
            client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
        return client.get_experiment_by_name(name)


def resolve(directory: Path | None = None, uri: str = "") -> Store:
    """The store of this URI; else MLFLOW_TRACKING_URI's, else sqlite in ``mlruns/`` of ``directory`` (the current one).

    Journals are always in ``mlruns/journals`` of the directory. Nothing is opened or made.
    """
    try:
        folder = (directory or Path.cwd()).absolute() / "mlruns"
    except FileNotFoundError:
        raise StoreError("the current folder was deleted; change to another one") from None
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{folder / 'mlflow.db'}"
    path = sqlite_path(uri)
    artifacts: Path | None = folder / "artifacts" if connection.kind(uri) in connection.DATABASES else None
    if path is not None:
        path = path.absolute()
        artifacts = path.parent / "artifacts"
        if uri.partition(":")[0].lower() in ("sqlite", "sqlite+pysqlite"):  # `check` refuses other drivers
            uri = f"sqlite:///{path}"
    return Store(uri, artifacts, folder / "journals")


def _run_name(directory: Path) -> str | None:
    """The name that a journal begins with; an empty or unreadable one has none."""
    try:
        first = next(read(directory), None)
    except TrackingError:
        return None
    return None if first is None else first[0].get("run_name")


def _is_attached(directory: Path) -> bool:
    """Whether a journal only adds to a run that another one was written for."""
    start = next((event for event, _ in read(directory)), {})
    return bool(start.get("attach_run_id"))


def _make(path: Path) -> None:
    """Make the tables in a file beside ``path``, then give it the name; the store's lock is held.

    MLflow's migrations take seconds, and a process killed during them would leave a broken store.
    """
    with whole_file(path) as part:
        for end in ("", *readonly.SIDECARS):
            Path(f"{part}{end}").unlink(missing_ok=True)  # a killed process left it
        with connection.quiet():
            connection.open_client(f"sqlite:///{part}").search_experiments(max_results=1)
        if path.exists():
            readonly.take_back(path)  # what an interrupted write left beside an empty file would go into the new store


def _pages(ask: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = ask(*arguments, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
