"""``python -m reports``: argv -> a page on standard output or in a file; exit code 0, 1 or 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.document.report import Report

from tracking import __version__
from tracking.errors.program import program_parser, run_program

_EPILOG = """
examples:
  python -m reports leaderboard
  python -m reports leaderboard --filter "params.dataset = 'digits'" --by num_layers,init --out board.html
  python -m reports leaderboard --format json --out main.json
  python -m reports leaderboard --against main.json            what changed, for a pull request
  python -m reports compare 3f2a91c4 88d0e1b2
  python -m reports run 3f2a91c4 --out card.html
"""


def parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    from reports.document.report import FORMATS, WITHOUT_CSV

    top = program_parser(
        "reports",
        __version__,
        description="Pages about the runs in an MLflow store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    board = commands.add_parser("leaderboard", help="rank configurations over their seeds by test accuracy")
    board.set_defaults(make=_leaderboard)
    _common(board, FORMATS)
    board.add_argument(
        "--experiment", action="append", metavar="NAME", help="name or id; may be repeated (default: all)"
    )
    board.add_argument(
        "--filter", default="", metavar="TEXT", help="MLflow's filter language, such as \"params.dataset = 'digits'\""
    )
    board.add_argument("--metric", default="test_accuracy", metavar="NAME", help="what ranks (default: %(default)s)")
    board.add_argument("--by", metavar="A,B", help="settings that make a row (default: the whole configuration)")
    board.add_argument("--columns", metavar="A,B", help="more parameters, metrics or tags to show")
    which = board.add_mutually_exclusive_group()
    which.add_argument("--best", default="", metavar="METRIC", help="take curves at the epoch where METRIC was best")
    which.add_argument("--at-step", type=int, metavar="N", help="take curves at epoch N (default: the last)")
    board.add_argument(
        "--top", type=_top, default=100, metavar="N", help="rows a page, 0 for all (default: %(default)s)"
    )
    board.add_argument(
        "--cluster", default="", metavar="SOURCE", help="pictures of one source count once: path:1, or an expression"
    )
    board.add_argument("--against", type=Path, metavar="FILE.json", help="show what changed since a saved leaderboard")
    board.add_argument("--log", action="store_true", help="also keep the page in MLflow, in the experiment 'reports'")

    compare = commands.add_parser("compare", help="compare two runs or more, on the same pictures")
    compare.set_defaults(make=_compare)
    _common(compare, WITHOUT_CSV)
    compare.add_argument("runs", nargs="+", metavar="RUN", help="run id, or its beginning")

    run = commands.add_parser("run", help="one run's card")
    run.set_defaults(make=_run)
    _common(run, WITHOUT_CSV)
    run.add_argument("run", metavar="RUN", help="run id, or its beginning")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises for what the user did."""
    return run_program("reports", lambda: _act(argv), broken_pipe=0)


def _act(argv: Sequence[str] | None) -> int:
    asked = parser().parse_args(argv)
    make: Callable[[argparse.Namespace], None] = asked.make
    make(asked)
    return 0


def _common(command: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    command.add_argument("--store", metavar="URI", help="tracking URI (default: MLFLOW_TRACKING_URI, else ./mlruns)")
    command.add_argument("--format", choices=formats, help="default: by --out's ending, else md")
    command.add_argument("--out", metavar="FILE", type=Path, help="write there instead of to standard output")
    command.set_defaults(formats=formats)


def _top(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value}: a number of rows, 0 for all")
    return value


def _leaderboard(asked: argparse.Namespace) -> None:
    from reports.board import changes, export
    from reports.board.frame import leaderboard

    format = _format(asked)
    frame = leaderboard(
        asked.store,
        asked.experiment,
        filter=asked.filter,
        metric=asked.metric,
        by=asked.by,
        columns=asked.columns,
        best=asked.best,
        at_step=asked.at_step,
        top=asked.top,
        cluster=asked.cluster,
    )
    if asked.log:
        print(f"kept as run {export.keep(frame.board)[:8]} in the experiment 'reports'", file=sys.stderr)
    _show(asked, frame.report if asked.against is None else changes.report(frame.board, asked.against), format)


def _compare(asked: argparse.Namespace) -> None:
    from reports.runs.comparison import compare

    format = _format(asked)
    _show(asked, compare(asked.runs, asked.store), format)


def _run(asked: argparse.Namespace) -> None:
    from reports.runs.card import run_card

    format = _format(asked)
    _show(asked, run_card(asked.run, asked.store), format)


def _format(asked: argparse.Namespace) -> str:
    """What --format says, else --out's ending; decided before a large store is read."""
    from reports.document.report import format_of

    return asked.format or format_of(asked.out, asked.formats)


def _show(asked: argparse.Namespace, report: Report, format: str) -> None:
    if asked.out is not None:
        report.save(asked.out, format)
    else:
        sys.stdout.write(report.to_text(format))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
