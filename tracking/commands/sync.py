"""Upload runs logged while the tracking server was unreachable, or elsewhere: journals that MLflow does not have.

Without DIR every journal of this directory is brought up to date; those that another store has in full already are
left out. What is in MLflow already is never written twice, so it may be called at any time, also while runs go on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tracking.errors import StoreUnreachable, TrackingError
from tracking.errors.words import plural
from tracking.journal.checks import text_from
from tracking.journal.events import journals, strangers
from tracking.journal.files import is_held
from tracking.store import Store, connection, resolve, schema

NAME = "sync"
HELP = "upload runs logged while the tracking server was unreachable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``sync``."""
    parser.add_argument("dir", nargs="*", type=Path, metavar="DIR", help="a journal, or a folder of journals")
    parser.add_argument("--all", action="store_true", help="also look whether MLflow still has what it was given")


def run(arguments: argparse.Namespace) -> int:
    """Sync and print what was done."""
    store = resolve()
    store.check()
    if connection.kind(store.tracking_uri) in connection.DATABASES:
        schema.look(store.tracking_uri)  # else each journal would say what is wrong with the address
    else:
        connection.check_reachable(store.tracking_uri)
    num_failed = 0 if arguments.dir else name_strangers(store)
    code = bring_in(_chosen(arguments.dir, store), store, everything=arguments.all or bool(arguments.dir))
    return 1 if num_failed else code


def name_strangers(store: Store) -> int:
    """Report on stderr what is among the journals and is not a readable one; returns how many there are."""
    found = strangers(store.journals)
    for path, fault in found:
        say(f"{path.name} is left alone: {fault}")
    return len(found)


def bring_in(directories: Iterable[Path], store: Store, *, everything: bool) -> int:
    """Replay the journals, a line each on stdout; the exit code: 1 where not all of them could be taken over.

    ``everything``: also those that this store, or another, is known to have; it is looked whether that is still so.
    """
    # A line for each run on a server would drown ours.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from tracking.journal.progress import is_done, is_elsewhere
    from tracking.store.replay import replay

    num_new = num_done = num_elsewhere = num_failed = 0
    dead = []
    notes: dict[str, None] = {}
    for directory in directories:
        try:
            if not everything and is_done(directory, store.public_uri):
                num_done += 1
                continue
            if not everything and is_elsewhere(directory, store.public_uri):
                num_elsewhere += 1
                continue
            outcome = replay(directory, store, look=everything)
            if outcome.status in (None, "RUNNING") and not is_held(directory):
                dead.append(directory)
        except StoreUnreachable:
            raise
        except TrackingError as error:
            num_failed += 1
            say(f"{directory.name}: {error}")
            continue
        except Exception as error:  # an error in this one must not keep the next one out
            num_failed += 1
            say(f"{directory.name}: {type(error).__name__}: {error}")
            continue
        status = outcome.status or "RUNNING"
        if outcome.num_events:
            num_new += 1
            count = plural(outcome.num_events, "event")
            print(f"{text_from(directory.name[:8])}  ->  run {outcome.run_id}  {count}  {status}")
        else:
            num_done += 1
        num_failed += bool(outcome.problems)
        for problem in outcome.problems:
            say(f"{directory.name[:8]}: {problem}")
        notes |= dict.fromkeys(outcome.notes)
    when = "already" if everything or not num_done else "before (--all looks again)"
    print(f"{num_new} brought up to date, {num_done} were {when}, in {store.public_uri}")
    for note in notes:
        print(f"note: {note}")
    if num_elsewhere:
        print(f"{num_elsewhere} left out: another store has them; name their directories to bring them here as well")
    if dead:
        print(f"{len(dead)} ended without a word; `python -m tracking repair` closes them as KILLED")
    return 1 if num_failed else 0


def say(text: str) -> None:
    """Say something on stderr, whatever is in it: names come from other people's disks."""
    print(f"tracking: {text_from(text)}", file=sys.stderr)


def _chosen(asked: list[Path], store: Store) -> list[Path]:
    """The journal directories meant. Raises TrackingError for one that holds none."""
    if not asked:
        return journals(store.journals)
    found: list[Path] = []
    for directory in asked:
        inside = [directory] if directory in journals(directory.parent) else journals(directory)
        if not inside:
            raise TrackingError(f"{directory} holds no journal; give a directory such as {store.journals}/<journal id>")
        found += inside
    return found
