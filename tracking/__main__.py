# PYTHON_ARGCOMPLETE_OK
"""``python -m tracking``: bring journals into MLflow, repair, promote models, open MLflow's pages.

A subcommand is a module or class: ``NAME``, ``HELP``, ``add_arguments(parser)`` and ``run(arguments) -> exit code``
listed in COMMANDS; it imports what is heavy inside ``run``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from tracking import __version__
from tracking.commands import copy, import_file, log_model, promote, prune, relocate, repair, sync, ui
from tracking.errors.program import program_parser, run_program

COMMANDS: tuple[Any, ...] = (
    sync,
    import_file,
    repair,
    relocate,
    copy,
    prune,
    log_model,
    promote,
    promote.Demote,
    ui,
)

EPILOG = """\
examples:
  python -m tracking ui                    open the pages of this directory's runs
  python -m tracking sync                  upload runs logged while the server was unreachable
  python -m tracking repair                after a crash: close runs that died without reporting a status
  python -m tracking promote RUN --name M  give a run's model the alias champion, if it is better
  python -m tracking copy ./mlruns sqlite:////new/mlflow.db
                                           bring the runs of another store, or of an old file store, here
  python -m tracking COMMAND --help        everything about one command

The store is the one MLFLOW_TRACKING_URI names, else mlruns/mlflow.db in the current directory; journals are in
mlruns/journals. Exit codes: 0 done, 1 something could not be done, 2 bad input, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    return run_program("tracking", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    top = program_parser(
        "tracking",
        __version__,
        description="Bring journals into MLflow, repair what was left behind, promote models, open MLflow's pages.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        parser = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(parser)
        parser.set_defaults(command=command)
    parsed = top.parse_args(arguments)
    return int(parsed.command.run(parsed))


if __name__ == "__main__":
    sys.exit(main())
