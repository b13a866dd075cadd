"""``python -m reports``: argv -> a page on standard output or in a file; exit code 0, 1 or 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

FORMATS = ("md", "csv", "json")


def parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    top = argparse.ArgumentParser(prog="python -m reports", description="Pages about the runs in an MLflow store.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    board = commands.add_parser("leaderboard", help="rank configurations over their seeds by test accuracy")
    board.add_argument("--store", metavar="URI", help="tracking URI (default: MLFLOW_TRACKING_URI, else ./mlruns)")
    board.add_argument(
        "--experiment", action="append", metavar="NAME", help="name or id; may be repeated (default: all)"
    )
    board.add_argument(
        "--filter", default="", metavar="TEXT", help="MLflow's filter, such as \"params.dataset = 'digits'\""
    )
    board.add_argument("--metric", default="test_accuracy", metavar="NAME", help="what ranks (default: %(default)s)")
    board.add_argument("--by", metavar="A,B", help="settings that make a row (default: the whole configuration)")
    board.add_argument("--columns", metavar="A,B", help="further parameters, metrics or tags to show")
    board.add_argument("--format", choices=FORMATS, help="default: by --out's ending, else md")
    board.add_argument("--out", metavar="FILE", type=Path, help="write there instead of to standard output")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    asked = parser().parse_args(argv)
    from reports.errors import ReportError
    from tracking.errors import TrackingError

    try:
        return leaderboard(asked)
    except (ReportError, TrackingError) as error:
        print(f"python -m reports: {error}", file=sys.stderr)
        return 2


def leaderboard(asked: argparse.Namespace) -> int:
    """The ``leaderboard`` command."""
    from reports.board import leaderboard_text

    format = asked.format or (
        asked.out.suffix.lstrip(".") if asked.out and asked.out.suffix.lstrip(".") in FORMATS else "md"
    )
    page = leaderboard_text(
        asked.store,
        asked.experiment,
        format,
        filter=asked.filter,
        metric=asked.metric,
        by=asked.by,
        columns=asked.columns,
    )
    if asked.out is None:
        sys.stdout.write(page)
    else:
        asked.out.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
