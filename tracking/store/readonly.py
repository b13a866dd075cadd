"""An sqlite file opened so that nothing in it changes, and sqlite's errors with what to do.

The standard library alone.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from tracking.errors import StoreError, StoreUnreachable

WAIT_S = 20.0
# What sqlite keeps beside a database while it is written, and what a killed program leaves there.
SIDECARS = ("-journal", "-wal", "-shm")
_MLFLOW = {"alembic_version", "experiments", "runs"}


def sqlite_path(uri: str) -> Path | None:
    """The file behind an sqlite URI; None for every other kind and for a database in memory."""
    scheme, found, name = uri.partition(":///")
    name = unquote(name.partition("?")[0]) if "?" in name else name
    if not found or scheme.partition("+")[0].lower() != "sqlite" or name in ("", ":memory:"):
        return None
    return Path(name)


def connect(path: Path, wait_s: float | None = None) -> sqlite3.Connection:
    """A connection that cannot write, without a transaction of its own accord.

    A program that is killed within a commit leaves a journal, by which sqlite takes back what was half written. Until
    then no program can read the file, so it is done here, as every program that may write does at its first look: what
    the store holds stays the same, what was never committed goes. (A copy of file and journal to read from could be
    torn by another program that undoes the write meanwhile.) Nothing else is ever written.

    Raises StoreError, and StoreUnreachable where others keep it locked for longer than ``wait_s`` seconds
    (None: ``WAIT_S``).
    """
    wait_s = WAIT_S if wait_s is None else wait_s
    path = path.resolve()  # the journal is beside the file, not beside a link to it
    try:
        try:
            return _open(path, _mode(path), wait_s)
        except sqlite3.OperationalError as error:
            if not _is_interrupted(str(error)):
                raise
            take_back(path, wait_s)
            return _open(path, _mode(path), wait_s)
    except sqlite3.Error as error:
        raise in_words(path, str(error)) from error


def take_back(path: Path, wait_s: float | None = None) -> None:
    """Let sqlite undo the commit that a killed program never finished; not in another program's database."""
    wait_s = WAIT_S if wait_s is None else wait_s
    try:
        with closing(_open(path, "immutable=1", wait_s)) as peek:
            tables = {row[0] for row in peek.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError:  # torn by the same commit
        tables = set()
    if tables and not tables & _MLFLOW:
        raise StoreError(
            f"{path} is another program's database ({listed(tables)}), which was stopped while it wrote; nothing was"
            " changed; point MLFLOW_TRACKING_URI at the store"
        )
    _open(path, "mode=rw", wait_s).close()


def in_words(path: Path, text: str) -> StoreError:
    """The error for sqlite's message about a file, with what to do."""
    if path.is_dir():
        return StoreError(f"{path} is a folder; point MLFLOW_TRACKING_URI at the store, an sqlite file in it")
    if "locked" in text:
        return StoreUnreachable(locked(path))
    if "not a database" in text:
        return StoreError(
            f"{path} is not an sqlite database but another kind of file; point MLFLOW_TRACKING_URI elsewhere"
        )
    if _is_interrupted(text):
        return StoreError(
            f"a program was stopped while it wrote {path}; a user who may write there opens it once, which undoes"
            f" that write: `python -m tracking sync`, or `sqlite3 {path} .tables`"
        )
    if "unable to open" in text:
        why = "no permission to read it" if path.exists() else "it is not there"
        return StoreError(f"cannot open {path}: {why}")
    if "malformed" in text:
        return StoreError(f"{path} is damaged ({text}); bring back a copy, or save the rest: `sqlite3 {path} .recover`")
    return StoreError(f"{path} cannot be read: {text}")


def locked(path: str | Path) -> str:
    """The message for a file that another program has locked."""
    return (
        f"{path} is locked by another program, such as a backup or an open sqlite shell (`fuser {path}` shows which);"
        " nothing is wrong with it: it can be used again when that program is done"
    )


def listed(names: set[str]) -> str:
    """The first few names of a database's tables."""
    first = sorted(names)[:4]
    return "tables " + ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


def _mode(path: Path) -> str:
    """How to open a file so that it and its folder stay as they are."""
    try:
        with path.open("rb") as file:
            is_wal = file.read(20)[18:] == b"\2\2"
    except OSError:
        is_wal = False
    if not is_wal or Path(f"{path}-wal").exists():
        return "mode=ro"
    # A read-only connection to such a store leaves -wal and -shm behind; one that may write takes them away again.
    # (`mlflow migrate-filestore` makes such stores.)
    return "mode=rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "immutable=1"


def _open(path: Path, mode: str, wait_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=wait_s, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = true")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_interrupted(text: str) -> bool:
    return "readonly database" in text
