"""Give an alias back to the version that had it before; where there was none, take it away."""

from __future__ import annotations

import argparse

from tracking.store import resolve

NAME = "demote"
HELP = "give an alias back to who had it before"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``demote``."""
    parser.add_argument("--name", required=True, metavar="MODEL", help="name of the registered model")
    parser.add_argument("--alias", default="champion", help="default champion")


def run(arguments: argparse.Namespace) -> int:
    """Demote and say who has the alias now."""
    from tracking.registry import promote

    store = resolve()
    store.check()
    move = promote.demote(store, arguments.name, arguments.alias)
    if move.version is None:
        print(f"{move.name}@{move.alias} is no longer set: version {move.former} had it, and {move.why}")
    else:
        print(f"{move.name}@{move.alias} is version {move.version} again, no longer version {move.former}")
    return 0
