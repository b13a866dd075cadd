# PYTHON_ARGCOMPLETE_OK
"""``python -m reports``: argv -> a page in the terminal, on standard output or in a file; exit code 0, 1 or 2."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.board.frame import LeaderboardFrame
    from reports.document.report import Report

from tracking import __version__
from tracking.errors.program import program_parser, run_program

_EPILOG = """
examples:
  python -m reports leaderboard
  python -m reports leaderboard --filter "params.dataset = 'digits'" --by num_layers,init --out board.html
  python -m reports leaderboard --format json --out main.json
  python -m reports leaderboard --against main.json            what changed, for a pull request
  python -m reports leaderboard --watch                        again and again while a study runs
  python -m reports compare 3f2a91c4 88d0e1b2
  python -m reports run 3f2a91c4 --out card.html
  python -m reports study depths --out depths.html
  python -m reports cost --by month --since 90d
  python -m reports mistakes 3f2a91c4 --out mistakes.html --relabel relabel.csv
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
    way = board.add_mutually_exclusive_group()
    way.add_argument(
        "--lower-is-better",
        dest="higher_is_better",
        action="store_false",
        default=None,
        help="rank the lowest first (default: what is known of the metric, or guessed by its name)",
    )
    way.add_argument("--higher-is-better", action="store_true", default=None, help="rank the highest first")
    board.add_argument("--by", metavar="A,B", help="settings that make a row (default: the whole configuration)")
    board.add_argument("--columns", metavar="A,B", help="more parameters, metrics or tags to show")
    which = board.add_mutually_exclusive_group()
    which.add_argument("--best", default="", metavar="METRIC", help="take curves at the epoch where METRIC was best")
    which.add_argument("--at-step", type=int, metavar="N", help="take curves at epoch N (default: the last)")
    board.add_argument(
        "--top", type=_top, default=100, metavar="N", help="rows a page, 0 for all (default: %(default)s)"
    )
    board.add_argument(
        "--cluster",
        default="",
        metavar="SOURCE",
        help="pictures of one source count once: path:1, manifest.csv:COLUMN, or an expression",
    )
    board.add_argument("--against", type=Path, metavar="FILE.json", help="show what changed since a saved leaderboard")
    board.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="draw it again every so many seconds (default: 10) until Ctrl-C",
    )
    board.add_argument("--log", action="store_true", help="also keep the page in MLflow, in the experiment 'reports'")

    compare = commands.add_parser("compare", help="compare two runs or more, on the same pictures")
    compare.set_defaults(make=_compare)
    _common(compare, WITHOUT_CSV)
    compare.add_argument("runs", nargs="+", metavar="RUN", help="run id, its beginning, or the run's name")

    run = commands.add_parser("run", help="one run's card")
    run.set_defaults(make=_run)
    _common(run, WITHOUT_CSV)
    run.add_argument("run", metavar="RUN", help="run id, its beginning, or the run's name")

    whole = commands.add_parser("study", help="what a study says about its question")
    whole.set_defaults(make=_study)
    _common(whole, WITHOUT_CSV)
    whole.add_argument("study", metavar="NAME", help="the study's name: its file's without .toml")

    wrong = commands.add_parser("mistakes", help="pictures that are probably labelled wrong")
    wrong.set_defaults(make=_mistakes)
    _common(wrong, FORMATS)
    wrong.add_argument(
        "runs", nargs="+", metavar="RUN", help="run id, its beginning, or the run's name; all runs of --folds together"
    )
    wrong.add_argument("--split", default="", metavar="NAME", help="default: the fold held out, else test")
    wrong.add_argument("--top", type=_top, default=100, metavar="N", help="rows, 0 for all (default: %(default)s)")
    wrong.add_argument("--relabel", type=Path, metavar="FILE.csv", help="write all of them, for trainers.data pack")

    cost = commands.add_parser("cost", help="what jobs in the cloud cost: paid, wasted, saved")
    cost.set_defaults(make=_cost)
    _common(cost, FORMATS)
    cost.add_argument(
        "--by", default="experiment", metavar="WHAT", help="experiment (default), user, month, instance or tag:NAME"
    )
    cost.add_argument("--since", default="", metavar="D", help="only jobs since: a date, or 30d, 12h")
    cost.add_argument("--experiment", action="append", metavar="NAME", help="name or id; may be repeated")
    cost.add_argument("--filter", default="", metavar="TEXT", help="MLflow's filter language")
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
    command.add_argument(
        "--format", choices=formats, help="default: by --out's ending; drawn in a terminal, md in a pipe or file"
    )
    command.add_argument("--out", metavar="FILE", type=Path, help="write there instead of to standard output")
    command.set_defaults(formats=formats)


def _top(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value}: a number of rows, 0 for all")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value}: a number of seconds above 0")
    return value


def _leaderboard(asked: argparse.Namespace) -> None:
    from reports.board import export

    if asked.watch is not None:
        _watch(asked)
        return
    format = _format(asked)
    frame = _frame(asked)
    if asked.log:
        print(f"kept as run {export.keep(frame.board)[:8]} in the experiment 'reports'", file=sys.stderr)
    _show(asked, _report(frame, asked), format)


def _frame(asked: argparse.Namespace) -> LeaderboardFrame:
    from reports.board.frame import leaderboard

    return leaderboard(
        asked.store,
        asked.experiment,
        filter=asked.filter,
        metric=asked.metric,
        by=asked.by,
        columns=asked.columns,
        best=asked.best,
        at_step=asked.at_step,
        top=asked.top,
        higher_is_better=asked.higher_is_better,
        cluster=asked.cluster,
    )


def _report(frame: LeaderboardFrame, asked: argparse.Namespace) -> Report:
    from reports.board import changes

    return frame.report if asked.against is None else changes.report(frame.board, asked.against)


def _watch(asked: argparse.Namespace) -> None:
    """Draw the page again and again on a screen of its own; after Ctrl-C the last one stays in the terminal."""
    from rich.console import Console, Group
    from rich.live import Live

    from reports.document import terminal
    from reports.document.document import Document, Paragraph
    from tracking.errors.errors import UsageError, UserError
    from tracking.errors.program import drawn

    if asked.out or asked.format or asked.log or not sys.stdout.isatty():
        raise UsageError("--watch draws in a terminal: give it without --out, --format and --log, and not into a pipe")
    console = Console(file=drawn(sys.stdout), highlight=False)
    page = Document("Leaderboard", [Paragraph("Reading …")])
    try:
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                try:
                    frame = _frame(asked)
                    page = _report(frame, asked).make_document(False)
                    running = f"; {len(frame.board.running)} running" if len(frame.board.running) else ""
                except UserError as error:  # the first run may not have begun, a server may be back soon
                    page, running = Document("Leaderboard", [Paragraph(str(error), "warning")]), ""
                status = f"[dim]{time.strftime('%H:%M:%S')}, every {asked.watch:g} s{running}. Ctrl-C ends.[/dim]"
                live.update(Group(status, terminal.draw(page, console.width)), refresh=True)
                time.sleep(asked.watch)
    except KeyboardInterrupt:
        terminal.show(page, console)


def _compare(asked: argparse.Namespace) -> None:
    from reports.runs.comparison import compare

    format = _format(asked)
    _show(asked, compare(asked.runs, asked.store), format)


def _run(asked: argparse.Namespace) -> None:
    from reports.runs.card import run_card

    format = _format(asked)
    _show(asked, run_card(asked.run, asked.store), format)


def _study(asked: argparse.Namespace) -> None:
    from reports.runs.study_answer import study

    format = _format(asked)
    _show(asked, study(asked.study, asked.store), format)


def _mistakes(asked: argparse.Namespace) -> None:
    from reports.runs.mistakes import mistakes

    format = _format(asked)
    report = mistakes(asked.runs, asked.store, split=asked.split, top=asked.top)
    if asked.relabel is not None:
        report.save(asked.relabel, "csv")
        print(f"{len(report.data['mistakes'])} labels to look at: {asked.relabel}", file=sys.stderr)
    _show(asked, report, format)


def _cost(asked: argparse.Namespace) -> None:
    from reports.runs.costs import costs

    format = _format(asked)
    _show(asked, costs(asked.store, asked.experiment, by=asked.by, since=asked.since, filter=asked.filter), format)


def _format(asked: argparse.Namespace) -> str:
    """What --format says, else --out's ending, empty for a terminal; decided before a large store is read."""
    from reports.document.report import format_of

    drawn = asked.out is None and sys.stdout.isatty()
    return asked.format or ("" if drawn else format_of(asked.out, asked.formats))


def _show(asked: argparse.Namespace, report: Report, format: str) -> None:
    if asked.out is not None:
        report.save(asked.out, format)
    elif not format:
        from reports.document import terminal

        terminal.show(report.make_document(False))
    else:
        sys.stdout.write(report.to_text(format))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
