"""What state an sqlite store is in, told without importing MLflow: absent, half made, of another version, ready."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sqlite3
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Literal

from tracking.errors import StoreError

State = Literal["absent", "half-made", "older", "newer", "ready"]

_REVISION = re.compile(r"^(down_revision|revision)\s*(?::[^=]+)?=\s*(.+)$", re.MULTILINE)
_QUOTED = re.compile(r"['\"]([0-9a-f]+)['\"]")


def state(path: Path) -> State:
    """Look at the file; nothing is written. Raises StoreError where it cannot be read as a database."""
    if not path.exists():
        return "absent"
    revision, tables, num_runs = _look(path)
    if not tables:
        return "absent"
    known, head = revisions()
    if revision == head and not any(table.startswith("_alembic_tmp_") for table in tables):
        return "ready"
    if revision is not None and revision not in known:
        return "newer"
    # Several processes that make one store at once, or one that is killed while it does, leave it like this for good.
    # A store that was ever whole holds at least one run or is as good as empty.
    return "half-made" if not num_runs else "older"


def fault(path: Path) -> str | None:
    """What is wrong with the store at ``path`` and what to do, or None where it is ready or not there yet."""
    found = state(path)
    if found in ("absent", "ready"):
        return None
    if found == "half-made":
        return (
            f"the store {path} was left half made (several programs made it at once, or one was stopped);"
            " it holds no run: `python -m tracking repair` puts a whole one in its place"
        )
    have, want = revision(path), revisions()[1]
    installed = importlib.metadata.version("mlflow")
    made = f"the store {path} has schema {have}, the installed MLflow {installed} wants {want}"
    if found == "newer":
        return f"{made}: a newer MLflow made it; `pip install --upgrade mlflow`"
    return f"{made}: an older MLflow made it; copy the file, then `mlflow db upgrade sqlite:///{path}`"


def revision(path: Path) -> str | None:
    """The schema revision written in the store."""
    return _look(path)[0]


@lru_cache(maxsize=1)
def revisions() -> tuple[frozenset[str], str]:
    """Every schema revision the installed MLflow knows, and the newest; read from its migration scripts' text."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise StoreError("MLflow is not installed; `pip install mlflow`")
    known: set[str] = set()
    parents: set[str] = set()
    for script in (Path(spec.origin).parent / "store" / "db_migrations" / "versions").glob("*.py"):
        for name, value in _REVISION.findall(script.read_text(encoding="utf-8")):
            (known if name == "revision" else parents).update(_QUOTED.findall(value))
    heads = known - parents
    if len(heads) != 1:
        raise StoreError(f"the installed MLflow has {len(heads)} newest schemas instead of one; reinstall mlflow")
    return frozenset(known), heads.pop()


def set_aside(path: Path) -> Path:
    """Rename a store out of the way, keeping it; returns its new path."""
    for number in range(1, 1000):
        target = path.with_name(f"{path.name}.broken-{number}")
        if not target.exists():
            path.rename(target)
            return target
    raise StoreError(f"{path.parent} holds 999 broken stores already; remove some")


def _look(path: Path) -> tuple[str | None, frozenset[str], int]:
    """Revision, table names and number of runs."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
            ask = connection.execute
            tables = frozenset(row[0] for row in ask("SELECT name FROM sqlite_master WHERE type='table'"))
            rows = ask("SELECT version_num FROM alembic_version").fetchall() if "alembic_version" in tables else []
            num_runs = ask("SELECT count(*) FROM runs").fetchone()[0] if "runs" in tables else 0
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} cannot be read as an sqlite store: {error}; move it away or point MLFLOW_TRACKING_URI elsewhere"
        ) from error
    return (rows[0][0] if rows else None), tables, num_runs
