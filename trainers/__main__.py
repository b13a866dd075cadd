# PYTHON_ARGCOMPLETE_OK
"""The programs of this package: ``python -m trainers`` lists them; ``python -m trainers run`` is ``trainers.run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from tracking import __version__
from tracking.errors.program import program_parser, run_program

PROGRAMS = {
    "run": ("trainers.run", "train: a run or a study, here or as jobs on SageMaker"),
    "evaluate": ("trainers.evaluate", "score tracked runs on test pictures"),
    "predict": ("trainers.predict", "classify pictures with a trained network"),
    "jobs": ("trainers.jobs", "watch, list, stop and import cloud jobs"),
    "data": ("trainers.data.__main__", "check, look at and pack pictures"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the programs; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in PROGRAMS:
        return int(import_module(PROGRAMS[words[0]][0]).main(words[1:]))
    return run_program("trainers", lambda: _list(words))


def _list(words: list[str]) -> int:
    parser = program_parser("trainers", __version__, description="Train image classifiers and log every run to MLflow.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (_, text) in PROGRAMS.items():
        commands.add_parser(name, help=text, add_help=False)
    parser.parse_args(words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
