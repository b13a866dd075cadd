"""A job that was launched elsewhere, taken over: described by AWS, recorded as if it had been launched here."""

from __future__ import annotations

import argparse
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import JournalError
from tracking.errors.program import moment
from tracking.errors.words import money
from tracking.journal import Journal
from trainers.errors import BadInput, TrainerError
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.errors import AwsError, NotAllowed, NotFound, Unreachable
from trainers.sagemaker.job import ledger, phases, request
from trainers.sagemaker.watch.many_jobs import watch_many

if TYPE_CHECKING:
    from tracking.store import Store

_KEPT = (
    "HyperParameters",
    "AlgorithmSpecification",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "StoppingCondition",
    "CheckpointConfig",
    "EnableManagedSpotTraining",
)


class Serverless(BadInput):
    """A job of SageMaker's model customization, which is none of this project's kind."""


def adopt(aws: Aws, name: str, root: Path, *, profile: str | None, experiment: str) -> ledger.Entry:
    """The ledger's entry for the account's job ``name``, its journal begun under ``root``.

    A job that this package launched keeps its journal's id, so that on a shared server it stays one run. Raises
    BadInput where there is no such job, AwsError.
    """
    try:
        described: dict[str, Any] = aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName=name)
    except NotFound:
        raise BadInput(
            f"{name!r}: neither launched from here nor a training job in {aws.region}. `python -m trainers.jobs list"
            " --account` lists those there are; --region and --profile say where to look."
        ) from None
    if "ServerlessJobConfig" in described:
        raise Serverless(f"{name} is a serverless job: it tunes a foundation model, on no machine of its own.")
    tags = _tags(aws, described["TrainingJobArn"])
    known = ledger.load(root / tags[names.JOURNAL_ID]) if tags.get(names.JOURNAL_ID) else None
    if known is not None and known.queue is not None:  # an attempt of a job that was queued from here
        return known
    builtin = images.is_builtin(described.get("AlgorithmSpecification", {}).get("TrainingImage", ""))
    created_ms = int(phases.seconds(described["CreationTime"]) * 1000)
    experiment, run_name = tags.get("experiment") or experiment, tags.get("run_name") or name
    begin = functools.partial(Journal.create, root, experiment=experiment, run_name=run_name, start_time_ms=created_ms)
    try:
        journal = begin(journal_id=tags.get(names.JOURNAL_ID) or _own_id(described))
    except JournalError:  # that one is here, but says nothing of a job
        journal = begin()
    kept = {key: described[key] for key in _KEPT if key in described}
    entry = ledger.Entry(
        name=name,
        kind=ledger.BUILTIN if builtin else ledger.OWN,
        region=aws.region,
        profile=profile,
        request={"TrainingJobName": name, **kept},
        experiment=experiment,
        run_name=run_name,
        dataset=_dataset(described),
        created_ms=created_ms,
        arn=described["TrainingJobArn"],
        submitted_ms=created_ms,
        directory=journal.dir,
    ).save()
    journal.params(_params(entry), time_ms=created_ms)
    own = {key: tags[key] for key in (names.FINGERPRINT, names.STUDY, names.STUDY_RUN) if key in tags}
    journal.tags({names.LAUNCHER: entry.kind, names.JOB_NAME: name, **own}, time_ms=created_ms)
    journal.close()
    return entry


def _own_id(described: Mapping[str, Any]) -> str:
    """The same on every machine that takes this job over, so that on a shared server it stays one run."""
    identity = f"{described['TrainingJobArn']} {phases.seconds(described['CreationTime']):.0f}"
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _tags(aws: Aws, arn: str) -> dict[str, str]:
    try:
        pages = aws.pages("sagemaker", "ListTags", ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    except AwsError as error:
        if isinstance(error, Unreachable) or (isinstance(error, NotAllowed) and error.has_expired):
            raise
        return {}  # without leave to read tags it is a run of its own


def _dataset(described: Mapping[str, Any]) -> str:
    for channel in described.get("InputDataConfig", []):
        if channel["ChannelName"] in ("train", "data"):
            return str(channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", ""))
    return ""


def _params(entry: ledger.Entry) -> dict[str, Any]:
    """The job's settings in our words; those of a foreign image as far as they are known here."""
    values = dict(entry.request.get("HyperParameters", {}))
    if entry.kind == ledger.OWN:
        try:
            values = {key: str(value) for key, value in request.config_from(values).params().items()}
        except BadInput:
            pass
    params = {key: value for key, value in values.items() if key in names.PARAMS}
    return {**params, **({"dataset": entry.dataset} if entry.dataset else {})}


_TOGETHER = 50  # jobs that are read at a time


@dataclass(frozen=True, kw_only=True)
class Imported:
    """How many jobs were found, are new, were known, could not be read, are serverless and left out."""

    num_found: int = 0
    num_new: int = 0
    num_known: int = 0
    num_failed: int = 0
    num_serverless: int = 0


def finished(aws: Aws, *, name_contains: str | None = None, since_s: float | None = None) -> Iterator[tuple[str, str]]:
    """Name and ARN of the account's finished jobs, newest first. Raises AwsError."""
    asked: dict[str, Any] = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
    if name_contains:
        asked["NameContains"] = name_contains
    if since_s is not None:
        asked["CreationTimeAfter"] = datetime.fromtimestamp(since_s, timezone.utc)
    for page in aws.pages("sagemaker", "ListTrainingJobs", **asked):
        for job in page.get("TrainingJobSummaries", []):
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
    here = list(ledger.entries(store.journals, say))
    done = {entry.arn for entry in here if entry.ended}
    # Runs that another machine brought into the same store.
    done |= {run.data.tags[names.JOB_ARN] for run in store.runs(None, f"tags.{names.JOB_ARN} LIKE 'arn:%'")}
    half_done = {entry.arn: entry for entry in here if not entry.ended}
    num_found = num_known = num_new = num_failed = num_serverless = 0
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
            entry = adopt(aws, name, store.journals, profile=profile, experiment=wanted)
            if entry.ended or entry in entries:
                num_known += 1
            else:
                entries.append(entry)
        except Serverless:
            num_serverless += 1
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
                cost = "" if outcome.cost_usd is None else f", {money(outcome.cost_usd)}"
                say(f"{entry.name}: {outcome.state}{cost}")
    return Imported(
        num_found=num_found,
        num_new=num_new,
        num_known=num_known,
        num_failed=num_failed,
        num_serverless=num_serverless,
    )


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
    since_s = None if arguments.since is None else moment(arguments.since, aws.clock.now())
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
    left_out = f", {done.num_serverless} serverless left out" if done.num_serverless else ""
    print(
        f"{done.num_found} finished jobs found: {done.num_new} new, {done.num_known} known already,"
        f" {done.num_failed} not read{left_out}; in {store.public_uri}"
    )
    return 1 if done.num_failed else 0
