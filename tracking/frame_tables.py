"""MLflow's tables as the read side knows them, and a read-only connection to a store that has them.

Only stores whose schema is one of ``KNOWN_REVISIONS`` are read so; ``Unsuitable`` says why another is not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from tracking.frame import sqlite_path

# Alembic's revision of the schema -> the MLflow that made it. The tables below are the same in all of them.
KNOWN_REVISIONS = {"dc11669786a5": "3.17"}

_meta = sa.MetaData()


def _table(name: str, *columns: str) -> sa.Table:
    numbers = ("start_time", "end_time", "experiment_id", "creation_timestamp_ms")
    types: dict[str, sa.types.TypeEngine[Any]] = {c: sa.BigInteger() for c in numbers}
    return sa.Table(name, _meta, *(sa.Column(c, types.get(c, sa.String())) for c in columns))


EXPERIMENTS = _table("experiments", "experiment_id", "name", "lifecycle_stage", "workspace")
RUNS = _table(
    "runs",
    *("run_uuid", "name", "status", "start_time", "end_time", "artifact_uri", "experiment_id", "lifecycle_stage"),
    "user_id",
)
PARAMS = _table("params", "run_uuid", "key", "value")
TAGS = _table("tags", "run_uuid", "key", "value")
LATEST = sa.Table(
    "latest_metrics",
    _meta,
    sa.Column("run_uuid", sa.String()),
    sa.Column("key", sa.String()),
    sa.Column("value", sa.Float()),
    sa.Column("is_nan", sa.Boolean()),
)
METRICS = sa.Table(
    "metrics",
    _meta,
    sa.Column("run_uuid", sa.String()),
    sa.Column("key", sa.String()),
    sa.Column("step", sa.BigInteger()),
    sa.Column("timestamp", sa.BigInteger()),
    sa.Column("value", sa.Float()),
    sa.Column("is_nan", sa.Boolean()),
)
INPUTS = _table("inputs", "input_uuid", "source_id", "destination_type", "destination_id")
DATASETS = _table("datasets", "dataset_uuid", "name", "digest")
MODELS = _table(
    "logged_models", "model_id", "source_run_id", "artifact_location", "lifecycle_stage", "creation_timestamp_ms"
)
INPUT_TAGS = _table("input_tags", "input_uuid", "name", "value")


class Unsuitable(Exception):
    """The store cannot be read this way; the message says why."""


def suits(uri: str) -> bool:
    """Whether the URI names a kind of database that is read here."""
    return sqlite_path(uri) is not None or uri.startswith(("postgresql://", "postgresql+"))


@contextmanager
def connect(uri: str) -> Iterator[sa.Connection]:
    """A read-only connection within one transaction, so that all queries see the same moment. Raises Unsuitable."""
    path = sqlite_path(uri)
    if path is not None:

        def open_file() -> sqlite3.Connection:
            return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None)

        engine = sa.create_engine("sqlite://", creator=open_file, poolclass=sa.NullPool)
    else:
        engine = sa.create_engine(uri, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            if path is not None:
                # MLflow sets the same, so that LIKE means the same.
                connection.exec_driver_sql("PRAGMA case_sensitive_like = true")
                connection.exec_driver_sql("PRAGMA busy_timeout = 20000")
                # In KiB. SQLite's own 2 MB make it read the pages of a large store over and over.
                connection.exec_driver_sql("PRAGMA cache_size = -65536")
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            _check_schema(connection)
            yield connection
    except sa.exc.DBAPIError as error:
        raise Unsuitable(f"the database said: {str(error.orig).strip()}") from error
    finally:
        engine.dispose()


def _check_schema(connection: sa.Connection) -> None:
    try:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    except sa.exc.DBAPIError as error:
        raise Unsuitable("it has no MLflow schema") from error
    if len(found) != 1 or found[0] not in KNOWN_REVISIONS:
        known = ", ".join(f"{r} (MLflow {v})" for r, v in KNOWN_REVISIONS.items())
        raise Unsuitable(f"its schema revision is {' '.join(map(str, found)) or 'empty'}, known is {known}")
    other = sa.select(EXPERIMENTS.c.workspace).where(EXPERIMENTS.c.workspace != "default").limit(1)
    if connection.execute(other).first() is not None:
        raise Unsuitable("it has workspaces, and only MLflow knows which one is yours")
