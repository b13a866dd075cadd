"""Bring runs in that were made elsewhere: training notes, a CSV or a JSON file.

Each result in the file becomes a run with its settings and its scores, as read and as written; a score that is
impossible as written (994) is read (0.994) and flagged, one that is missing stays missing. What was not understood is
listed, line by line or cell by cell, and keeps nothing else out. Importing a file again adds nothing, importing an
edited one adds what is new; a refused import leaves nothing behind. `python -m trainers.jobs
import` imports the finished SageMaker jobs of an AWS account.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors import StoreUnreachable, TrackingError
from tracking.store import resolve

if TYPE_CHECKING:
    from tracking.importers.result import Result

_MOST = 10  # remarks of a kind that are printed
NAME = "import"
HELP = "bring in results from notes, CSV or JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``import``."""
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="notes (.txt, .md), .csv, .tsv, .json, .jsonl"
    )
    parser.add_argument("--experiment", metavar="NAME", help="MLflow experiment (default: the store's)")
    parser.add_argument(
        "--all-remarks", action="store_true", help=f"print every remark, not the first {_MOST} of a kind"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be imported, and write nothing")


def run(arguments: argparse.Namespace) -> int:
    """Import and print what was done."""
    from tracking.importers import to_journal

    if not arguments.files:
        raise TrackingError("nothing to import: give a file of notes, CSV or JSON")
    readings = [to_journal.read_file(path) for path in arguments.files]
    results = [result for reading in readings for result in reading.results]
    for remark in _shortened([remark for reading in readings for remark in reading.remarks], arguments.all_remarks):
        print(f"tracking: {remark}", file=sys.stderr)
    if arguments.dry_run:
        for result in results:
            _say(result, "would be imported")
        return 0
    return _bring_in(results, arguments.experiment)


def _shortened(remarks: list[str], everything: bool) -> list[str]:
    """The first remarks of each kind (alike but for quoted words and numbers), and how many more there are."""
    counts: dict[str, int] = {}
    out = []
    for remark in remarks:
        kind = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "", remark)
        counts[kind] = counts.get(kind, 0) + 1
        if everything or counts[kind] <= _MOST:
            out.append(remark)
    more = sum(max(0, count - _MOST) for count in counts.values())
    if more and not everything:
        out.append(f"{more:,} more remarks like these; --dry-run --all-remarks prints them all")
    return out


def _bring_in(results: list[Result], experiment: str | None) -> int:
    from tracking.importers import to_journal
    from tracking.store import replay

    store = resolve()
    experiment = experiment or store.default_experiment
    counts = {"new": 0, "changed": 0, "known": 0}
    elsewhere: set[str] = set()
    num_failed = 0
    for brought in to_journal.bring_in(results, store, experiment=experiment):
        if brought.what == "deleted":
            num_failed += 1
            print(
                f"tracking: {brought.result.place}: run {brought.run_id} was deleted; to have it back:"
                f" mlflow runs restore --run-id {brought.run_id}",
                file=sys.stderr,
            )
            continue
        if brought.directory is None:
            counts["known"] += 1
            elsewhere |= {brought.experiment} - {experiment}
            continue
        try:
            outcome = replay.replay(brought.directory, store)
        except StoreUnreachable as error:
            raise StoreUnreachable(f"{error}; import again when it answers") from error
        except TrackingError as error:
            num_failed += 1
            print(f"tracking: {brought.result.place}: {error}", file=sys.stderr)
            continue
        counts["changed" if brought.what == "changed" else "new"] += 1
        _say(brought.result, f"{'more of' if brought.what == 'changed' else 'new'} run {outcome.run_id[:8]}")
        for problem in outcome.problems:
            print(f"tracking: {problem}", file=sys.stderr)
    where = f" (in experiment {', '.join(sorted(elsewhere))})" if elsewhere else ""
    print(
        f"{counts['new']} new, {counts['changed']} changed, {counts['known']} known already{where},"
        f" in {store.public_uri}"
    )
    return 1 if num_failed else 0


def _say(result: Result, what: str) -> None:
    scores = ", ".join(
        f"{metric} {'missing' if score.value is None else format(score.value, 'g')}"
        for metric, score in result.scores.items()
    )
    print(f"{result.place}: {result.run_name}: {what}" + (f" ({scores})" if scores else ""))
    for flag in result.flags:
        print(f"  flagged: {flag}")
