"""Finished training jobs of the account become runs: ``python -m trainers.jobs import --name-contains X --since D``.

Whoever launched them, they get what a watched job gets: parameters, the log's metrics, phases, cost, artifacts.
Importing again adds nothing; ListTrainingJobs is asked at its pace of under 2 a second.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tracking import names
from trainers.errors import BadInput, TrainerError
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.job import ledger, phases
from trainers.sagemaker.watch.adopt import adopt
from trainers.sagemaker.watch.many_jobs import watch_many

if TYPE_CHECKING:
    from tracking.store import Store

_TOGETHER = 50  # jobs that are read at a time
# A listing has been seen to go on with empty pages for ever.
_MOST_EMPTY_PAGES = 100
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([dhw])")
_UNIT_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True)
class Imported:
    """How many jobs were found, are new, were known, could not be read."""

    num_found: int = 0
    num_new: int = 0
    num_known: int = 0
    num_failed: int = 0


def finished(aws: Aws, *, name_contains: str | None = None, since_s: float | None = None) -> Iterator[tuple[str, str]]:
    """Name and ARN of the account's finished jobs, newest first. Raises AwsError."""
    asked: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
    if name_contains:
        asked["NameContains"] = name_contains
    if since_s is not None:
        asked["CreationTimeAfter"] = datetime.fromtimestamp(since_s, timezone.utc)
    empty = 0
    for page in aws.pages("sagemaker", "ListTrainingJobs", **asked):
        found = page.get("TrainingJobSummaries", [])
        empty = 0 if found else empty + 1
        if empty > _MOST_EMPTY_PAGES:
            raise TrainerError("ListTrainingJobs goes on with empty pages; narrow it with --since or --name-contains.")
        for job in found:
            if job["TrainingJobStatus"] in phases.ENDED:
                yield job["TrainingJobName"], job["TrainingJobArn"]


def import_jobs(
    aws: Aws,
    store: Store,
    *,
    name_contains: str | None = None,
    since_s: float | None = None,
    profile: str | None = None,
    experiment: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Imported:
    """Bring the finished jobs in that are not here yet. ``since_s``: seconds since 1970. Raises AwsError."""
    done = {entry.arn for entry in ledger.entries(store.root) if entry.ended}
    # Runs that another machine brought into the same store.
    done |= {run.data.tags[names.JOB_ARN] for run in store.runs(None, f"tags.{names.JOB_ARN} LIKE 'arn:%'")}
    half_done = {entry.arn: entry for entry in ledger.entries(store.root) if not entry.ended}
    num_found = num_known = num_new = num_failed = 0
    entries: list[ledger.Entry] = []
    for name, arn in finished(aws, name_contains=name_contains, since_s=since_s):
        num_found += 1
        if arn in done and arn not in half_done:
            num_known += 1
            continue
        if arn in half_done:
            entries.append(half_done[arn])
            continue
        try:
            wanted = experiment or store.default_experiment
            entries.append(adopt(aws, name, store.root, profile=profile, experiment=wanted))
        except TrainerError as error:  # deleted between the two calls, or not ours to read
            num_failed += 1
            say(f"{name}: not imported: {error}")
    for start in range(0, len(entries), _TOGETHER):
        part = entries[start : start + _TOGETHER]
        for entry, outcome in zip(part, watch_many(part, aws=aws, store=store), strict=True):
            if outcome is None:
                num_failed += 1
                say(f"{entry.name}: could not be read to its end; import again")
            else:
                num_new += 1
                cost = "" if outcome.cost_usd is None else f", {outcome.cost_usd:.2f} $"
                say(f"{entry.name}: {outcome.state}{cost}")
    return Imported(num_found, num_new, num_known, num_failed)


def read_since(text: str, now_s: float) -> float:
    """Seconds since 1970 of ``2026-11-01``, an ISO time (UTC where it names no zone), or ``30d``, ``12h`` ago."""
    match = _AGO.fullmatch(text.strip().lower())
    if match is not None:
        return now_s - float(match[1]) * _UNIT_S[match[2]]
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise BadInput(f"--since {text!r}: give a date such as 2026-11-01, or a time ago such as 30d, 12h.") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m trainers.jobs import`` beside region and profile."""
    parser.add_argument("--name-contains", metavar="X", help="only jobs with X in their name")
    parser.add_argument("--since", metavar="D", help="only jobs made since: a date, or 30d, 12h (default: all)")
    parser.add_argument(
        "--experiment", metavar="NAME", help="MLflow experiment (default: the job's tag, else the store's)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Import and say what was done; the exit code."""
    from tracking import store as stores

    aws = Aws(region=arguments.region, profile=arguments.profile, on_trouble=print)
    since_s = None if arguments.since is None else read_since(arguments.since, aws.clock.now())
    store = stores.resolve()
    done = import_jobs(
        aws,
        store,
        name_contains=arguments.name_contains,
        since_s=since_s,
        profile=arguments.profile,
        experiment=arguments.experiment,
        say=print,
    )
    print(
        f"{done.num_found} finished jobs found: {done.num_new} new, {done.num_known} known already,"
        f" {done.num_failed} not read; in {store.public_uri}"
    )
    return 1 if done.num_failed else 0
