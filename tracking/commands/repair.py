"""Repair what a killed program left behind.

Runs that died without reporting a status are closed as KILLED, their end being the last thing they wrote. A store that
was left half made (several programs made it at once, or one was stopped) is put aside and made again from the journals:
an sqlite file with MLflow's tables alone and nothing in them, which MLflow cannot finish either. Everything else stays.
"""

from __future__ import annotations

import argparse
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from tracking.commands.sync import bring_in, name_strangers, say
from tracking.errors import StoreError, StoreUnreachable, TrackingError
from tracking.journal import Journal
from tracking.journal.checks import DAMAGED, Event
from tracking.journal.events import beginning, journals, read
from tracking.journal.files import is_held, writer
from tracking.store import Store, address, connection, readonly, resolve, schema

NAME = "repair"
HELP = "close runs that died without reporting a status"
# A program that makes a store without our lock (MLflow's own) needs a few seconds for it.
SETTLED_S = 30.0
_STUMBLED = re.compile(r"already exists|duplicate column|no such (table|column|constraint|index)", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``repair``."""
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument(
        "--anywhere",
        action="store_true",
        help="also close runs that were written on another machine; make sure that they are not running there",
    )


def run(arguments: argparse.Namespace) -> int:
    """Repair and print what was done."""
    store = resolve()
    made_anew = _mend_store(store, arguments.dry_run)
    closed, num_failed = [], name_strangers(store)
    for directory in journals(store.journals):
        try:
            if close(directory, arguments.dry_run, arguments.anywhere):
                closed.append(directory)
        except TrackingError as error:
            num_failed += 1
            say(f"{directory.name}: {error}")
    if not made_anew and not closed:
        print("nothing to repair" if not num_failed else "nothing that could be repaired")
        if num_behind := _count_behind(store):
            print(f"{num_behind} not wholly in {store.public_uri}; `python -m tracking sync` brings them in")
    elif not arguments.dry_run:
        store.check()
        num_failed += bring_in(journals(store.journals) if made_anew else closed, store, everything=True)
    return 1 if num_failed else 0


def _count_behind(store: Store) -> int:
    """How many journals have more than the store; those that cannot be read are named elsewhere."""
    from tracking.journal.progress import is_done, is_elsewhere

    num_behind = 0
    for directory in journals(store.journals):
        try:
            num_behind += not (
                is_held(directory) or is_done(directory, store.public_uri) or is_elsewhere(directory, store.public_uri)
            )
        except TrackingError:
            continue
    return num_behind


def _mend_store(store: Store, dry_run: bool) -> bool:
    """Put a half-made sqlite store aside; whether there was one. Others that cannot be used are reported and left."""
    address.check(store.tracking_uri)
    path = store.database
    if path is None:
        return False
    try:
        found = schema.look(store.tracking_uri)
    except StoreUnreachable:
        raise
    except StoreError as error:
        print(f"tracking: left as it is: {error}", file=sys.stderr)
        return False
    is_what = schema.state(found)
    if is_what != "half-made" and not (is_what == "older" and found.is_blank and _is_within_a_step(path)):
        if fault := schema.fault(store.tracking_uri, found):
            print(f"tracking: left as it is: {fault}", file=sys.stderr)
        return False
    age_s = time.time() - path.stat().st_mtime
    if age_s < SETTLED_S:
        raise StoreError(f"{path} is half made, but was written {age_s:.0f} s ago: someone may be at it; wait a minute")
    if dry_run:
        print(f"would put {path} aside and make it again")
        return True
    with connection.locked(path, timeout_s=5.0):
        print(f"half-made store put aside: {schema.set_aside(path)}")
    return True


def _is_within_a_step(path: Path) -> bool:
    """Whether MLflow was stopped within a step of making a store: on a copy it stumbles over what is there already."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        with closing(readonly.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        line = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{copy}"]
        done = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stumbled = _STUMBLED.search(done.stderr)
    return done.returncode != 0 and stumbled is not None


def close(directory: Path, dry_run: bool = False, anywhere: bool = False) -> bool:
    """Write KILLED at the end of a journal that has no writer any more; returns whether that was so."""
    if is_held(directory):
        return False
    last: Event = beginning(directory)
    status = None
    for event, _ in read(directory):
        last = event if event["event"] != DAMAGED else last
        status = event["status"] if event["event"] == "status" else status
    if status not in (None, "RUNNING"):
        return False
    owner = writer(directory)
    host, pid = owner.get("host", "an unknown machine"), owner.get("pid", "?")
    if host != socket.gethostname() and not anywhere:
        print(
            f"{directory.name[:8]}  left open: it was written on {host} and may be running there; --anywhere closes it"
        )
        return False
    when = datetime.fromtimestamp(last["time_ms"] / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    reason = f"process {pid} on {host} ended without a word; last written at {when}"
    print(f"{directory.name[:8]}  {'would be ' if dry_run else ''}KILLED: {reason}")
    if not dry_run:
        journal = Journal.reopen(directory)
        try:
            journal.status("KILLED", reason=reason, end_time_ms=last["time_ms"], time_ms=last["time_ms"])
        finally:
            journal.close()
    return True
