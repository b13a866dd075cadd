"""Re-point artifacts after a store was copied or renamed: MLflow records absolute paths, which name the old place.

Shows what would change; --yes does it, and writes a file by which --undo takes it back. Only locations whose files are
in this store's folder are changed; others are, when --from and --to name their folders. No file is moved.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tracking.errors import StoreError, TrackingError
from tracking.errors.words import plural
from tracking.journal.files import whole_file
from tracking.store import Store, connection, moved, resolve, schema

NAME = "relocate"
HELP = "re-point artifacts after a store was copied or renamed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``relocate``."""
    parser.add_argument("--from", dest="old", type=Path, metavar="OLD", help="the folder that locations begin with now")
    parser.add_argument("--to", dest="new", type=Path, metavar="NEW", help="the folder that takes its place")
    parser.add_argument("--yes", action="store_true", help="do it")
    parser.add_argument("--undo", type=Path, metavar="FILE", help="take back what FILE says was changed")


def run(arguments: argparse.Namespace) -> int:
    """Show or make the changes; 1 where locations stay that lead nowhere."""
    import sqlalchemy as sa

    if (arguments.old is None) != (arguments.new is None):
        raise TrackingError("give --from and --to together: the old folder and the new one")
    store = resolve()
    connection.check_reachable(store.tracking_uri)
    if connection.kind(store.tracking_uri) not in ("sqlite", "postgresql"):
        raise TrackingError(f"{store.public_uri} is no database; run this where the server's database is")
    found = schema.look(store.tracking_uri)
    if not found.has(schema.REQUIRED):
        raise StoreError(schema.unreadable(store.tracking_uri, found))
    path = store.database
    engine = schema.server_engine(store.tracking_uri) if path is None else sa.create_engine(f"sqlite:///{path}")
    with schema.reading(store.tracking_uri), engine.begin() as database:
        if arguments.undo is not None:
            changes, num_lost = _taken_back(arguments.undo), 0
        else:
            rows = _rows(database, found)
            given = [] if arguments.old is None else [moved.Move(arguments.old.absolute(), arguments.new.absolute())]
            changes, num_lost = _changes(store, rows, given)
        if changes and arguments.yes and path is not None:
            connection.check_writable(path)
        for change in changes if arguments.yes else ():
            _apply(database, change)
        if arguments.yes and changes and arguments.undo is None:
            undo = store.journals.parent / f"relocated-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json"
            undo.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(undo) as part:
                part.write_text(json.dumps({"store": store.public_uri, "changes": changes}, indent=1), encoding="utf-8")
            print(f"to take it back: python -m tracking relocate --undo {undo} --yes")
    engine.dispose()
    what = "changed" if arguments.yes else "would be changed; --yes does it"
    print(f"{plural(len(changes), 'location')} in {store.public_uri} {what}" if changes else "nothing to re-point")
    if num_lost:
        print(f"{plural(num_lost, 'location')} of no folder that is there; --from OLD --to NEW re-points them")
    return 1 if num_lost else 0


def _rows(database: Any, found: schema.Look) -> list[dict[str, Any]]:
    import sqlalchemy as sa

    rows = []
    for table, column, keys in moved.COLUMNS:
        if {column, *keys} <= set(found.columns.get(table, ())):
            wanted: Any = sa.select(*map(sa.column, (*keys, column))).select_from(sa.table(table))
            for *key, value in database.execute(wanted.where(sa.column(column).is_not(None))):
                rows.append(
                    {"table": table, "column": column, "key": dict(zip(keys, key, strict=True)), "old": str(value)}
                )
    return rows


def _changes(store: Store, rows: list[dict[str, Any]], given: list[moved.Move]) -> tuple[list[dict[str, Any]], int]:
    """The rows to change, with their ``new`` value; and how many others lead nowhere."""
    # The longest first: a run's id in it is surer than an experiment's name.
    locations = sorted({row["old"] for row in rows}, key=len, reverse=True)
    found = given or moved.moves(store.tracking_uri, locations)
    changes = []
    num_lost = 0
    for row in rows:
        new = moved.target(row["old"], found)
        if new is not None and new != row["old"]:
            changes.append({**row, "new": new})
        elif row["table"] in ("runs", "logged_models"):
            num_lost += moved.leads_nowhere(row["old"], (store.artifact_root or store.journals).parent)
    for move in found:
        num = sum(move.of(change["old"]) is not None for change in changes)
        print(f"{move.old}  ->  {move.new}  {plural(num, 'location')}")
    return changes, num_lost


def _taken_back(file: Path) -> list[dict[str, Any]]:
    try:
        changes = json.loads(file.read_text(encoding="utf-8"))["changes"]
        return [{**change, "old": change["new"], "new": change["old"]} for change in changes]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(f"{file} is no file of `relocate`: {error}") from error


def _apply(database: Any, change: dict[str, Any]) -> None:
    """Write one location, unless another program changed it meanwhile."""
    import sqlalchemy as sa

    if (change["table"], change["column"], tuple(change["key"])) not in moved.COLUMNS:
        raise TrackingError(f"{change['table']}.{change['column']} is no place of locations")
    table = sa.table(change["table"], *map(sa.column, (change["column"], *change["key"])))
    where = [table.c[key] == value for key, value in change["key"].items()]
    database.execute(
        sa.update(table)
        .where(*where, table.c[change["column"]] == change["old"])
        .values({change["column"]: change["new"]})
    )
