"""MLflow's tables as the read side knows them, and the one connection for reading a database.

It opens read-only and asks first what the database is. Whatever has the columns that are read is read, whichever MLflow
made it; anything else is refused in a sentence. Nothing is created, upgraded or changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from tracking.errors import StoreError
from tracking.store import connection as border
from tracking.store import readonly, schema
from tracking.store.readonly import sqlite_path

_meta = sa.MetaData()
_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "text": sa.String(),
    "integer": sa.BigInteger(),
    "float": sa.Float(),
    "boolean": sa.Boolean(),
}


def _table(name: str, *more: str) -> sa.Table:
    """A table with the columns that are read, of the types they have there."""
    columns = (*{**schema.REQUIRED, **schema.INPUTS, **schema.MODELS}[name], *more)
    return sa.Table(name, _meta, *(sa.Column(c, _TYPES[schema.type_of(name, c)]) for c in columns))


EXPERIMENTS = _table("experiments", "workspace")
RUNS = _table("runs")
PARAMS = _table("params")
TAGS = _table("tags")
LATEST = _table("latest_metrics")
METRICS = _table("metrics")
INPUTS = _table("inputs")
DATASETS = _table("datasets")
INPUT_TAGS = _table("input_tags")
MODELS = _table("logged_models")


class Unsuitable(Exception):
    """The store cannot be read this way; the message says why."""


@contextmanager
def connect(uri: str) -> Iterator[tuple[sa.Connection, schema.Look]]:
    """A read-only connection and its tables, within one transaction: all queries see the same moment.

    Raises StoreError for what is no store that can be read, Unsuitable where only MLflow knows what is meant.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise StoreError(schema.unreadable(uri, schema.Look({}, ())))
    border.check_reachable(uri)
    with schema.reading(uri):
        engine = (
            schema.server_engine(uri)
            if path is None
            else sa.create_engine("sqlite://", creator=lambda: readonly.connect(path), poolclass=sa.NullPool)
        )
        with engine.connect() as connection:
            if path is not None:
                # MLflow sets the same, so that LIKE means the same.
                connection.exec_driver_sql("PRAGMA case_sensitive_like = true")
                # In KiB. SQLite's own 2 MB make it read the pages of a large store over and over.
                connection.exec_driver_sql("PRAGMA cache_size = -65536")
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            found = schema.look_through(lambda sql: connection.exec_driver_sql(sql).all(), engine.dialect.name)
            if not found.has(schema.REQUIRED) and schema.state(found) not in ("ready", "newer"):
                raise StoreError(schema.unreadable(uri, schema.look(uri)))
            _demand(found, schema.REQUIRED)
            if "workspace" in found.columns["experiments"]:
                other = sa.select(EXPERIMENTS.c.workspace).where(EXPERIMENTS.c.workspace != "default").limit(1)
                if connection.execute(other).first() is not None:
                    raise Unsuitable("it has workspaces, and only MLflow knows which one is yours")
            yield connection, found


def has(found: schema.Look, group: schema.Tables) -> bool:
    """Whether a store has tables that came later, such as those of datasets. Raises Unsuitable where it has them
    otherwise.
    """
    if any(table in found.columns for table in group):
        _demand(found, group)
        return True
    return False


def _demand(found: schema.Look, wanted: schema.Tables) -> None:
    if faults := found.faults(wanted):
        raise Unsuitable(", ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else ""))
