"""Register a run's model and give it an alias, if it is better than the model that has the alias now.

The validation score decides, on the same pictures; test scores are for reporting. With --significant the two models'
answers to the single pictures must differ by more than chance (McNemar's exact test, p < 0.05).
Then: mlflow.pyfunc.load_model("models:/NAME@ALIAS").
"""

from __future__ import annotations

import argparse
import sys

from tracking import names
from tracking.errors import ModelError
from tracking.store import resolve

NAME = "promote"
HELP = "give a run's model an alias, if it is better"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``promote``."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="run id, its beginning, or the run's name")
    parser.add_argument("--best", action="store_true", help="the finished run with the best score")
    parser.add_argument("--name", required=True, metavar="MODEL", help="name of the registered model")
    parser.add_argument("--alias", default="champion", help="default champion")
    parser.add_argument("--metric", default=names.VALIDATION_ACCURACY, help=f"default {names.VALIDATION_ACCURACY}")
    parser.add_argument("--significant", action="store_true", help="refuse when a paired test finds no difference")
    parser.add_argument("--experiment", metavar="NAME", help="with --best: of this experiment (default: the usual one)")
    parser.add_argument(
        "--dataset", metavar="DATA", help="with --best: only runs on this data set, as the leaderboard calls it"
    )
    parser.add_argument(
        "--force", action="store_true", help="move the alias regardless of the scores; the audit records it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Promote and print what replaced what; 1 when the challenger is refused."""
    from tracking.registry import candidates, promote

    if bool(arguments.run) == arguments.best:
        raise ModelError("name the model: a run's id, or --best.")
    promote.check_names(arguments.name, arguments.alias)
    store = resolve()
    store.check()
    if arguments.metric.startswith("test_"):
        print(
            "tracking: choosing by a test score biases that score; choose by a validation score",
            file=sys.stderr,
        )
    if arguments.best:
        challenger = candidates.best(
            store, experiment=arguments.experiment, dataset=arguments.dataset, metric=arguments.metric
        )
    else:
        challenger = candidates.candidate(store, arguments.run, arguments.metric)
    move = promote.promote(
        store,
        challenger,
        arguments.name,
        arguments.alias,
        significant=arguments.significant,
        force=arguments.force,
    )
    if not move.moved:
        print(f"{move.name}@{move.alias} stays version {move.former}: {move.why}")
        if move.version is not None:  # it is the challenger's
            return 0
        print(f"not promoted: {challenger}")
        return 1
    replaced = "" if move.former is None else f", replacing version {move.former}"
    print(f"{move.name}@{move.alias} is now version {move.version}{replaced}: {move.why}")
    print(f"promoted: {challenger}")
    return 0


class Demote:
    """Give an alias back to the version that had it before; where there was none, take it away."""

    NAME = "demote"
    HELP = "give an alias back to the version that had it before"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """The options of ``demote``."""
        parser.add_argument("--name", required=True, metavar="MODEL", help="name of the registered model")
        parser.add_argument("--alias", default="champion", help="default champion")

    @staticmethod
    def run(arguments: argparse.Namespace) -> int:
        """Demote and print which version has the alias now."""
        from tracking.registry import promote

        store = resolve()
        store.check()
        move = promote.demote(store, arguments.name, arguments.alias)
        if move.version is None:
            print(f"{move.name}@{move.alias} is no longer set: version {move.former} had it, and {move.why}")
        else:
            print(f"{move.name}@{move.alias} is version {move.version} again, no longer version {move.former}")
        return 0
