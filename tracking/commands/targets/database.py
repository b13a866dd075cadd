"""Whole runs into the tables of an SQLite or PostgreSQL store, with the ids they had.

MLflow's API cannot choose a run's id. So where the database has exactly the tables and columns that the installed
MLflow would make, rows are inserted as its own ``migrate-filestore`` does: through MLflow's table definitions, all rows
of some runs in one transaction. A copy that is killed leaves whole runs only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tracking import names
from tracking.errors import StoreUnreachable, TrackingError
from tracking.frame.rows import Row, Rows
from tracking.frame.tables import Unsuitable, connect
from tracking.store import Store, artifacts, schema

Fetch = Callable[[str], AbstractContextManager[Path | None]]

_TABLES = (
    *("runs", "params", "tags", "metrics", "latest_metrics", "datasets", "inputs", "input_tags"),
    *("logged_models", "logged_model_params", "logged_model_tags", "logged_model_metrics"),
)


@dataclass(frozen=True)
class Home:
    """An experiment of the target: its id, and the folder or URI of its artifacts."""

    experiment_id: str
    location: str


@dataclass(frozen=True)
class Known:
    """What the target has of a run: its id there, and its status; ``deleted`` where someone deleted it."""

    run_id: str
    status: str
    is_copy: bool


class Unplaced(Exception):
    """The files of a run could not be brought over; the message says why."""

    def __init__(self, run_id: str, why: str) -> None:
        super().__init__(why)
        self.run_id = run_id


class Database:
    """The target of a copy, written by SQL."""

    keeps_ids = True
    read_by = "sql"
    num_at_once = 200

    def __init__(self, store: Store) -> None:
        self.problems: list[str] = []
        from mlflow.store.tracking.dbmodels.models import Base

        self._uri = store.tracking_uri
        self._tables: dict[str, Any] = {name: Base.metadata.tables[name] for name in _TABLES}
        path = store.database
        if path is None:
            self._engine = schema.server_engine(self._uri)
        else:
            self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 60}, poolclass=sa.NullPool)

    @staticmethod
    def fault(store: Store) -> str:
        """Why this database is not written by SQL; empty where it may be."""
        from mlflow.store.tracking.dbmodels.models import Base

        try:
            with connect(store.tracking_uri) as (_, found):
                for name in _TABLES:
                    if set(found.columns.get(name, ())) != set(Base.metadata.tables[name].columns.keys()):
                        return f"its table {name} is not as the installed MLflow makes it"
        except Unsuitable as reason:
            return str(reason)
        return ""

    def known(self, experiments: list[str]) -> dict[str, Known]:
        """The runs that are there, whatever their experiment, by their id and by that of the run they are a copy of."""
        runs, tags = self._tables["runs"].c, self._tables["tags"].c
        origin = sa.and_(tags.run_uuid == runs.run_uuid, tags.key == names.COPIED_FROM)
        wanted = sa.select(runs.run_uuid, runs.status, runs.lifecycle_stage, tags.value)
        with schema.reading(self._uri), self._engine.connect() as connection:
            rows = connection.execute(
                wanted.select_from(sa.outerjoin(runs.run_uuid.table, tags.key.table, origin))
            ).all()
        found: dict[str, Known] = {}
        for run_id, status, stage, former in rows:
            one = Known(run_id, status if stage == "active" else stage, former is not None)
            found |= {run_id: one} | ({former: one} if former else {})
        return found

    def write(self, rows: Rows, home: Home, origins: dict[str, str], fetch: Fetch, leave: bool) -> Counter[str]:
        """Insert the rows, files first; how many rows of each table, and how many ``files``."""
        got = rows.tables
        count = Counter({name: len(some) for name, some in got.items()})
        for run in got["runs"]:
            target = _below(home, run["run_uuid"], "artifacts")
            run["artifact_uri"] = self._placed(run["run_uuid"], run["artifact_uri"], target, fetch, leave, count)
        for model in got["logged_models"]:
            target = _below(home, "models", model["model_id"], "artifacts")
            former = model["artifact_location"]
            model["artifact_location"] = self._placed(model["source_run_id"], former, target, fetch, leave, count)
        for name, some in got.items():
            for row in some if "experiment_id" in self._tables[name].columns else ():
                row["experiment_id"] = int(home.experiment_id)
        got["tags"] += [
            {"run_uuid": run["run_uuid"], "key": names.COPIED_FROM, "value": origins[run["run_uuid"]]}
            for run in got["runs"]
            if origins[run["run_uuid"]] not in {t["value"] for t in got["tags"] if t["key"] == names.COPIED_FROM}
        ]
        with schema.reading(self._uri), self._engine.begin() as connection:
            self._put(connection, "runs", got["runs"], renew=True)
            self._put(connection, "params", got["params"])
            self._put(connection, "tags", got["tags"], renew=True)
            self._put_datasets(connection, got)
            self._put(connection, "logged_models", got["logged_models"], renew=True)
            for name in ("inputs", "input_tags", "logged_model_params", "logged_model_tags", "logged_model_metrics"):
                self._put(connection, name, got[name])
            for part in rows.points:
                count["metrics"] += len(part)
                self._put(connection, "metrics", part)
            self._put(connection, "latest_metrics", got["latest_metrics"], renew=True)
        return count

    def _placed(self, run_id: str, former: str, target: str, fetch: Fetch, leave: bool, count: Counter[str]) -> str:
        """Bring the files of a run or model to their new place, unless they stay where they are; the place."""
        if leave:
            return former
        try:
            with fetch(former) as folder:
                count.update(put(folder, target, self._uri))
        except StoreUnreachable:
            raise
        except (TrackingError, OSError) as error:
            raise Unplaced(run_id, str(error)) from error
        return target

    def _put_datasets(self, connection: sa.Connection, got: dict[str, list[Row]]) -> None:
        """A data set is there once in an experiment, by its name and digest, under whichever id."""
        table = self._tables["datasets"]
        self._put(connection, "datasets", got["datasets"])
        named = {row["name"] for row in got["datasets"]}
        wanted = sa.select(table.c.experiment_id, table.c.name, table.c.digest, table.c.dataset_uuid)
        rows = connection.execute(wanted.where(table.c.name.in_(named))).all() if named else ()
        ids = {tuple(row[:3]): row[3] for row in rows}
        new = {r["dataset_uuid"]: ids[r["experiment_id"], r["name"], r["digest"]] for r in got["datasets"]}
        for row in got["inputs"]:
            row["source_id"] = new.get(row["source_id"], row["source_id"])
        for row in got["logged_model_metrics"]:
            row["dataset_uuid"] = new.get(row["dataset_uuid"], row["dataset_uuid"])

    def _put(self, connection: sa.Connection, name: str, rows: list[Row], *, renew: bool = False) -> None:
        """Insert rows; of those that are there already nothing changes, unless they are to be renewed."""
        from sqlalchemy.dialects import postgresql, sqlite

        if not rows:
            return
        table = self._tables[name]
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
        columns = [column for column in table.columns.keys() if column in rows[0]]
        keys = [column.name for column in table.primary_key]
        if renew:
            others = {column: insert.excluded[column] for column in columns if column not in keys}
            statement = insert.on_conflict_do_update(index_elements=keys, set_=others)
        else:
            statement = insert.on_conflict_do_nothing()
        if connection.dialect.name != "sqlite":
            statement = statement.returning(table.c[keys[0]])  # so SQLAlchemy sends many rows in a statement
        connection.execute(statement, [{column: row[column] for column in columns} for row in rows])


def put(folder: Path | None, target: str, tracking_uri: str) -> Counter[str]:
    """Bring a folder's files to an artifact URI: how many ``files`` and ``bytes``. No link out of it is followed."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if folder is None:
        return Counter()
    with artifacts.readable(folder, folder) as (found, _):
        inside = [] if found is None else [path for path in sorted(found.rglob("*")) if path.is_file()]
        local = artifacts.local_folder(target)
        if found is not None and inside and local is None:
            get_artifact_repository(target, tracking_uri=tracking_uri).log_artifacts(str(found))
            artifacts.check_arrived(found, target, tracking_uri)
        for path in inside if local is not None else ():
            assert local is not None and found is not None
            there = local / path.relative_to(found)
            if not (there.is_file() and _looks(there) == _looks(path)):  # from a copy that was stopped
                artifacts.copy(path, there, may_link=False)
        return Counter(files=len(inside), bytes=sum(path.stat().st_size for path in inside))


def _looks(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _below(home: Home, *parts: str) -> str:
    from mlflow.utils.uri import append_to_uri_path

    return str(append_to_uri_path(home.location, *parts))
