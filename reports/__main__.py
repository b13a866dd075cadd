"""``python -m reports``: argv -> a page on standard output or in a file; exit code 0, 1 or 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    _common(board, ("md", "html", "csv", "json"))
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
    board.add_argument("--against", type=Path, metavar="FILE.json", help="show what changed since a saved leaderboard")
    board.add_argument("--log", action="store_true", help="keep the page in MLflow too, in the experiment 'reports'")

    compare = commands.add_parser("compare", help="two runs or more side by side, on the same pictures")
    compare.set_defaults(make=_compare)
    _common(compare, ("md", "html", "json"))
    compare.add_argument("runs", nargs="+", metavar="RUN", help="run id, or its beginning")

    run = commands.add_parser("run", help="one run's card")
    run.set_defaults(make=_run)
    _common(run, ("md", "html", "json"))
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


def _format(asked: argparse.Namespace) -> str:
    """What --format says, else --out's ending, else markdown."""
    from reports.errors import ReportError

    if asked.format:
        return str(asked.format)
    ending = asked.out.suffix.lstrip(".").lower() if asked.out else ""
    if ending and ending not in asked.formats:
        raise ReportError(f"--out {asked.out}: no format is called {ending!r}; legal are {', '.join(asked.formats)}")
    return ending or "md"


def _leaderboard(asked: argparse.Namespace) -> None:
    from reports.board import export as render
    from reports.board.frame import leaderboard

    format = _format(asked)
    board = leaderboard(
        asked.store,
        asked.experiment,
        filter=asked.filter,
        metric=asked.metric,
        by=asked.by,
        columns=asked.columns,
        best=asked.best,
        at_step=asked.at_step,
        top=asked.top,
    ).board
    if asked.log:
        from reports.board.export import keep

        print(f"kept as run {keep(board)[:8]} in the experiment 'reports'", file=sys.stderr)
    if asked.against is not None:
        from reports.board import changes

        _emit(changes.render(board, asked.against, format), asked.out)
    elif asked.out is not None:
        render.write(board, asked.out, format)
    else:
        _emit(render.render(board, format), None)


def _compare(asked: argparse.Namespace) -> None:
    from reports.runs import comparison

    _document(asked, comparison.compare(asked.runs, asked.store))


def _run(asked: argparse.Namespace) -> None:
    from reports.runs import card

    _document(asked, card.run_card(asked.run, asked.store))


def _document(asked: argparse.Namespace, made: Any) -> None:
    """Show a page that has a ``document`` and a ``data``."""
    from reports.board import export as render
    from reports.document import json_text

    format = _format(asked)
    if format == "json":
        _emit(json_text.dumps(made.data), asked.out)
    elif asked.out is not None:
        render.write_document(made.document, asked.out, format)
    elif format == "html":
        from reports.document.html import render as as_html

        _emit(as_html(made.document), None)
    else:
        from reports.document.markdown import render as as_markdown

        _emit(as_markdown(made.document), None)


def _emit(page: str, out: Path | None) -> None:
    from reports.board.export import save

    if out is not None:
        save(out, page)
    else:
        sys.stdout.write(page)
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
