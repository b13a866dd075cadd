"""What a database is, without importing MLflow: no store yet, half made, of another version, ready, another's.

A store is known by the columns that are read, their names and their types, not by its schema's revision: MLflow adds
tables and columns with nearly every release, and has never changed these. Nothing is written.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tracking.errors import StoreError
from tracking.store import connection as border
from tracking.store import readonly
from tracking.store.readonly import SIDECARS, listed, sqlite_path

if TYPE_CHECKING:
    import sqlalchemy as sa

State = Literal["absent", "half-made", "older", "newer", "ready", "other"]

Tables = dict[str, tuple[str, ...]]
# The columns every store has that can be read, since MLflow 1.
REQUIRED: Tables = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "runs": (
        *("run_uuid", "name", "status", "start_time", "end_time", "artifact_uri", "experiment_id", "lifecycle_stage"),
        "user_id",
    ),
    "params": ("run_uuid", "key", "value"),
    "tags": ("run_uuid", "key", "value"),
    "latest_metrics": ("run_uuid", "key", "value", "is_nan"),
    "metrics": ("run_uuid", "key", "value", "is_nan", "step", "timestamp"),
}
# What later ones have; where none of a group's tables is there, no run has any of it.
INPUTS: Tables = {
    "inputs": ("input_uuid", "source_id", "destination_type", "destination_id"),
    "datasets": ("dataset_uuid", "name", "digest", "dataset_source", "dataset_profile"),
    "input_tags": ("input_uuid", "name", "value"),
}
MODELS: Tables = {
    "logged_models": ("model_id", "source_run_id", "artifact_location", "lifecycle_stage", "creation_timestamp_ms"),
}

_WHOLE_NUMBERS = ("start_time", "end_time", "experiment_id", "creation_timestamp_ms", "step", "timestamp")
# How a database declares a column of each type: sqlite as it was written (or as it shortens that in a table made from
# a query), PostgreSQL in its own words.
_DECLARED = {
    "text": re.compile(r".*(char|text|clob).*"),
    "integer": re.compile(r"(big|medium|small|tiny)?int(eger)?[248]?(\(\d+\))?"),
    "float": re.compile(r"(float|double|real).*"),
    "boolean": re.compile(r"bool(ean)?|num|int"),
}
_REVISION = re.compile(r"^(down_revision|revision)\s*(?::[^=]+)?=\s*(.+)$", re.MULTILINE)
_QUOTED = re.compile(r"['\"]([0-9a-f]+)['\"]")
_TABLE = re.compile(r"__tablename__\s*=\s*['\"](\w+)")
_UNFINISHED = "_alembic_tmp_"
_COLUMNS_HERE = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = "
# Every table and view that an unqualified name may mean, with its columns and their types; PostgreSQL's without those
# of extensions.
_COLUMNS = {
    "sqlite": "SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c"
    " WHERE m.type IN ('table', 'view')",
    "postgresql": "SELECT t.relname, c.attname, format_type(c.atttypid, NULL) FROM pg_class t"
    " JOIN pg_namespace n ON n.oid = t.relnamespace"
    " JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped"
    " WHERE n.nspname = ANY (current_schemas(false)) AND t.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS"
    " (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = t.oid AND d.deptype = 'e')",
    "mysql": _COLUMNS_HERE + "DATABASE()",
    "mssql": _COLUMNS_HERE + "SCHEMA_NAME()",
}


@dataclass(frozen=True)
class Look:
    """What a database holds: its tables and views, of each the columns with their types, and its schema's revisions.

    ``has_default``: the experiment is there that MLflow makes when it opens a store without.
    ``is_blank``: there are MLflow's tables alone, and in them nothing but what MLflow puts there itself.
    """

    columns: dict[str, dict[str, str]]
    revisions: tuple[str, ...]
    has_default: bool = False
    is_blank: bool = False

    def has(self, wanted: Tables) -> bool:
        """Whether all of these columns are there."""
        return not self.missing(wanted)

    def missing(self, wanted: Tables) -> list[str]:
        """Which of these tables and columns are not there."""
        tables = [table for table in wanted if table not in self.columns]
        columns = [f"{t}.{c}" for t in wanted if t not in tables for c in wanted[t] if c not in self.columns[t]]
        return tables + columns

    def faults(self, wanted: Tables) -> list[str]:
        """What keeps these columns from being read, each in words: not there, or of another type."""
        absent = self.missing(wanted)
        there = [(t, c, self.columns[t][c]) for t in wanted for c in wanted[t] if c in self.columns.get(t, ())]
        return [f"it has no {name}" for name in absent] + [
            f"its {table}.{column} is {declared} instead of {type_of(table, column)}"
            for table, column, declared in there
            if declared and not _DECLARED[type_of(table, column)].fullmatch(declared.lower())
        ]


def type_of(table: str, column: str) -> str:
    """The type of a column that is read: ``text``, ``integer``, ``float`` or ``boolean``."""
    if column == "value" and table in ("metrics", "latest_metrics"):
        return "float"
    return "boolean" if column == "is_nan" else "integer" if column in _WHOLE_NUMBERS else "text"


def look(uri: str, wait_s: float | None = None) -> Look:
    """Look at a database. Raises StoreError where it cannot be read, StoreUnreachable where it does not answer."""
    path = sqlite_path(uri)
    if path is None:
        return _look_at_server(uri)
    if not path.exists():
        return Look({}, ())
    with closing(readonly.connect(path, wait_s)) as connection:

        def ask(sql: str) -> Sequence[Any]:
            return connection.execute(sql).fetchall()

        try:
            found = look_through(ask, "sqlite")
            return replace(found, is_blank=_is_blank(ask, found.columns))
        except sqlite3.Error as error:
            raise readonly.in_words(path, str(error)) from error


def look_through(ask: Callable[[str], Sequence[Any]], dialect: str) -> Look:
    """Columns and revisions, through a connection: ``ask`` gives the rows of a statement."""
    columns: dict[str, dict[str, str]] = {}
    for table, column, declared in ask(_COLUMNS[dialect]):
        columns.setdefault(str(table), {})[str(column)] = str(declared)
    has_revision = "version_num" in columns.get("alembic_version", ())
    revisions = [str(row[0]) for row in ask("SELECT version_num FROM alembic_version")] if has_revision else []
    has_id = "experiment_id" in columns.get("experiments", ())
    has_default = has_id and bool(ask("SELECT 1 FROM experiments WHERE experiment_id = '0'"))
    return Look(columns, tuple(revisions), has_default)


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Raise a database driver's errors, while it is read, as ours."""
    import sqlalchemy as sa

    path = sqlite_path(uri)
    try:
        with border.translated(uri) if path is None else nullcontext():
            yield
    except sa.exc.DBAPIError as error:
        text = str(error.orig).strip() or type(error.orig).__name__
        if path is not None:
            raise readonly.in_words(path, text) from error
        is_away = isinstance(error, sa.exc.OperationalError)
        advice = "; look at that server, or correct MLFLOW_TRACKING_URI" if is_away else ""
        raise StoreError(f"{border.public(uri)} cannot be read: {text.splitlines()[0]}{advice}") from error


def state(found: Look) -> State:
    """What a database is to the installed MLflow."""
    tables = found.columns
    if not tables:
        return "absent"
    known, head = revisions()
    if found.is_blank and (not found.revisions or any(table.startswith(_UNFINISHED) for table in tables)):
        # Several processes that make one store at once, or one that is killed while it does, leave it like this.
        return "half-made"
    if found.revisions == (head,) and (found.has(REQUIRED) or _mlflow_tables() <= {*tables, "sqlite_sequence"}):
        return "ready"
    if len(found.revisions) == 1 and {"experiments", "runs"} <= set(tables):
        if found.revisions[0] in known - {head}:
            return "older"
        if found.revisions[0] not in known and {"run_uuid", "experiment_id"} <= set(tables["runs"]):
            return "newer"
    return "other"


def unreadable(uri: str, found: Look) -> str:
    """Why the runs in a database that lacks required columns cannot be read, and what to do."""
    where = _shown(uri)
    is_what = state(found)
    if is_what == "absent" or (is_what == "half-made" and sqlite_path(uri) is None):
        return f"no store at {where}: nothing has been tracked there yet, or MLFLOW_TRACKING_URI points elsewhere"
    if is_what == "half-made":
        return _half_made(where)
    if is_what == "older":
        lacks = ", ".join(found.missing(REQUIRED)[:3])
        return (
            f"the store {where} lacks {lacks}: an MLflow older than 1.0 made it, or an upgrade of it was stopped;"
            f" copy it, then `mlflow db upgrade {_upgraded(uri)}` with the copy's name"
        )
    return _other(where, found)


def fault(uri: str, found: Look) -> str | None:
    """Why the installed MLflow may not write to a database and what to do; None where it may, or may make a store."""
    is_what, where = state(found), _shown(uri)
    path = sqlite_path(uri)
    if is_what == "absent" and path is not None and not path.exists():
        left = [f"{path.resolve()}{end}" for end in SIDECARS if Path(f"{path.resolve()}{end}").exists()]
        # sqlite would write what is in there into any new store of that name.
        return f"{left[0]} is there without its database {path}; put that back, or move both away" if left else None
    # A server takes a half-made store as it was before a step, so MLflow can go on with it; a file is left within one.
    if is_what in ("absent", "ready") or (is_what == "half-made" and path is None):
        return None
    if is_what == "half-made":
        return _half_made(where)
    if is_what == "other":
        return _other(where, found)
    installed = importlib.metadata.version("mlflow")
    made = f"the store {where} has schema {found.revisions[0]}, the installed MLflow {installed} wants {revisions()[1]}"
    reading = "" if found.faults(REQUIRED) else "; `python -m reports` reads it as it is"
    if is_what == "newer":
        return (
            f"{made}: a newer MLflow made it, or another program that shares the database wrote its own there{reading};"
            " to write to it, `pip install --upgrade mlflow`, or give MLflow a database of its own"
        )
    upgrade = f"copy it, then `mlflow db upgrade {_upgraded(uri)}`; its own MLflow cannot open it after that"
    if found.is_blank:
        upgrade += "; if that fails, `python -m tracking repair`"
    return f"{made}: an older MLflow made it{reading}; to write to it, {upgrade}"


def _half_made(where: str) -> str:
    return (
        f"the store {where} was left half made (several programs made it at once, or one was stopped);"
        " it holds no run: `python -m tracking repair` puts a whole one in its place"
    )


def _other(where: str, found: Look) -> str:
    if not {"experiments", "runs"} <= set(found.columns):
        return (
            f"{where} is not an MLflow store but another program's database ({listed(set(found.columns))}); nothing was"
            " changed; point MLFLOW_TRACKING_URI at the store, or at a new file or empty database"
        )
    lacks = ", ".join(found.missing(REQUIRED)[:3]) or "a single revision in alembic_version"
    return (
        f"{where} cannot be used as an MLflow store: it lacks {lacks}; nothing was changed; point"
        " MLFLOW_TRACKING_URI at the store, or bring back a copy of it"
    )


def _shown(uri: str) -> str:
    return str(sqlite_path(uri) or border.public(uri))


def _upgraded(uri: str) -> str:
    path = sqlite_path(uri)
    return border.public(uri) if path is None else f"sqlite:///{path.absolute()}"


@lru_cache(maxsize=1)
def revisions() -> tuple[frozenset[str], str]:
    """Every schema revision the installed MLflow knows, and the newest; read from its migration scripts' text."""
    known: set[str] = set()
    parents: set[str] = set()
    for script in (_mlflow() / "store" / "db_migrations" / "versions").glob("*.py"):
        for name, value in _REVISION.findall(script.read_text(encoding="utf-8")):
            (known if name == "revision" else parents).update(_QUOTED.findall(value))
    heads = known - parents
    if len(heads) != 1:
        raise StoreError(f"the installed MLflow has {len(heads)} newest schemas instead of one; reinstall mlflow")
    return frozenset(known), heads.pop()


def set_aside(path: Path) -> Path:
    """Rename a store out of the way with what belongs to it, keeping it; returns its new path."""
    for number in range(1, 1000):
        target = path.with_name(f"{path.name}.broken-{number}")
        if not target.exists():
            path.rename(target)
            for end in SIDECARS:
                if Path(f"{path}{end}").exists():
                    Path(f"{path}{end}").rename(f"{target}{end}")
            return target
    raise StoreError(f"{path.parent} holds 999 broken stores already; remove some")


def _look_at_server(uri: str) -> Look:
    border.check_reachable(uri)
    with reading(uri):
        engine = server_engine(uri)
        # No lock is kept from one question to the next: a program that makes the tables meanwhile needs all of them.
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:

            def ask(sql: str) -> Sequence[Any]:
                return connection.exec_driver_sql(sql).all()

            found = look_through(ask, engine.dialect.name)
            is_blank = engine.dialect.name == "postgresql" and _is_blank(ask, found.columns)
            return replace(found, is_blank=is_blank)


def server_engine(uri: str) -> sa.Engine:
    """An engine for a database server that gives up after some seconds, unless the URI says when."""
    import sqlalchemy as sa

    key = {
        "psycopg2": "connect_timeout",
        "psycopg": "connect_timeout",
        "pymysql": "connect_timeout",
        "pg8000": "timeout",
    }
    try:
        driver = sa.make_url(uri).get_dialect().driver
    except sa.exc.ArgumentError as error:
        raise StoreError(f"{border.public(uri)} is no database's address: {error}") from error
    limit = {key[driver]: int(border.PROBE_TIMEOUT_S)} if driver in key and key[driver] not in uri else {}
    return sa.create_engine(uri, poolclass=sa.NullPool, connect_args=limit)


def _is_blank(ask: Callable[[str], Sequence[Any]], columns: dict[str, dict[str, str]]) -> bool:
    tables = {table.removeprefix(_UNFINISHED): found for table, found in columns.items()}
    first = {"experiments": ("experiment_id", "name", "lifecycle_stage"), "runs": ("run_uuid", "lifecycle_stage")}
    if "experiments" not in tables or not set(tables) <= _mlflow_tables():
        return False
    if any(not set(wanted) <= set(tables.get(table, wanted)) for table, wanted in first.items()):
        return False
    theirs = {
        "alembic_version": "false",
        "experiments": "experiment_id <> '0' OR name <> 'Default'",
        "workspaces": "name <> 'default'",
    }
    return not any(
        ask(f'SELECT 1 FROM "{table}" WHERE {theirs.get(table.removeprefix(_UNFINISHED), "true")} LIMIT 1')
        for table in columns
    )


@lru_cache(maxsize=1)
def _mlflow_tables() -> frozenset[str]:
    """The names of MLflow's tables, read from its models' text."""
    texts = [path.read_text(encoding="utf-8") for path in (_mlflow() / "store").glob("*/dbmodels/*.py")]
    return frozenset({"alembic_version", "sqlite_sequence", *(name for text in texts for name in _TABLE.findall(text))})


def _mlflow() -> Path:
    spec = importlib.util.find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise StoreError("MLflow is not installed; `pip install mlflow`")
    return Path(spec.origin).parent
