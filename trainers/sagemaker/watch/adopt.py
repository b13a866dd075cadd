"""A job that was launched elsewhere, taken over: described by AWS, written down as if it had been launched here."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracking import names
from tracking.errors import JournalError
from tracking.journal import Journal
from trainers.errors import BadInput
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.errors import AwsError, NotAllowed, NotFound, Unreachable
from trainers.sagemaker.job import ledger, phases, request

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
    tags = _tags(aws, described["TrainingJobArn"])
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
