"""The results of a finished job as metrics and tags of its run: times, billing, cost, machine, image, model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tracking import names
from tracking.journal.events import read
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import is_s3, split_s3
from trainers.sagemaker.cost import pricing
from trainers.sagemaker.errors import NotAllowed, NotFound
from trainers.sagemaker.job import ledger, phases
from trainers.sagemaker.job.phases import End
from trainers.sagemaker.watch.events import best
from trainers.sagemaker.watch.outcome import Outcome

STATE_FILE = "watch.json"
_JUST_NOW_S = 3600.0


def facts(
    entry: ledger.Entry,
    description: Mapping[str, Any],
    state: dict[str, Any],
    cost: pricing.Cost | None,
    price: pricing.Price | None,
    model_uri: str,
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and tags of the job's end; what AWS did not say is left out."""
    end = phases.end(description)
    assert end is not None
    metrics = phases.times(description, end.end_s)
    if cost is not None:
        metrics |= {names.BILLABLE_TIME_S: float(cost.billable_s), names.COST_USD: cost.usd}
        if cost.spot_saving is not None:
            metrics[names.SPOT_SAVING] = min(1.0, max(0.0, cost.spot_saving))
    elif description.get("BillableTimeInSeconds") is not None:
        metrics[names.BILLABLE_TIME_S] = float(description["BillableTimeInSeconds"])
    elif "TrainingStartTime" not in description:
        metrics |= {names.BILLABLE_TIME_S: 0.0, names.COST_USD: 0.0}  # no machine was ever had
    kept = kept_usd_at_most(description, price)
    if kept:
        metrics[names.WARM_POOL_COST_USD_AT_MOST] = kept
    if entry.kind == ledger.BUILTIN:
        # Our own trainer says these itself.
        metrics[names.TOTAL_TIME_S] = end.end_s - phases.seconds(description["CreationTime"])
        found = best(state)
        if found is not None:
            metrics |= {names.BEST_EPOCH: float(found[0]), names.BEST_VALIDATION_ACCURACY: found[1]}
    tags = {**origin(entry, description), names.JOB_PHASE: end.secondary}
    if price is not None:
        tags[names.PRICE] = str(price)
    if model_uri:
        tags[names.MODEL_URI] = model_uri
    return metrics, tags


def kept_usd_at_most(description: Mapping[str, Any], price: pricing.Price | None) -> float:
    """What the kept machine may cost from now on, unless another job takes it over; 0 where none is kept."""
    kept_s = description.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds", 0)
    pool = description.get("WarmPoolStatus", {})
    if not kept_s or price is None or pool.get("Status") in (None, "Reused", "Terminated"):
        return 0.0
    left_s = max(0, kept_s - pool.get("ResourceRetainedBillableTimeInSeconds", 0))
    return pricing.cost_usd(left_s, phases.instances(description)[1], price.usd)


def origin(entry: ledger.Entry, description: Mapping[str, Any]) -> dict[str, str]:
    """Tags that say which job on which machines this run was."""
    kind, count = phases.instances(description)
    tags = {
        names.JOB_NAME: entry.name,
        names.JOB_ARN: str(description.get("TrainingJobArn", entry.arn)),
        names.REGION: entry.region,
        names.INSTANCE_TYPE: kind,
        names.INSTANCE_COUNT: str(count),
        names.IMAGE_URI: str(description.get("AlgorithmSpecification", {}).get("TrainingImage", "")),
    }
    return {key: value for key, value in tags.items() if value}


def price_of(entry: ledger.Entry, description: Mapping[str, Any]) -> pricing.Price | None:
    """The price that the launch wrote down, or the shipped one of the machine that the job got instead."""
    kind = phases.instances(description)[0] if description else entry.instance_type
    if entry.price is not None and kind == entry.instance_type:
        return pricing.Price(**entry.price)
    try:
        return pricing.price_per_hour(entry.region, kind)
    except pricing.NoPrice:
        return None


def has_status(directory: Path, status: str) -> bool:
    """Whether the journal already ends so: a watcher died after writing it."""
    last = None
    for event, _ in read(directory):
        if event["event"] == "status":
            last = event["status"]
    return last == status


def stored_outcome(entry: ledger.Entry) -> Outcome | None:
    """How the job ended as far as it is recorded here, without asking AWS."""
    try:
        kept = json.loads((entry.directory / STATE_FILE).read_text(encoding="utf-8")).get("outcome")
    except (OSError, ValueError):
        return None
    return None if kept is None else Outcome(**kept)


def model_uri(aws: Aws, description: Mapping[str, Any]) -> str:
    """Where the model is; "" when there is none. AWS names a place whether or not something was put there.

    Completed follows the upload, so a model of the last hour is there; a failed job's is not uploaded. Otherwise S3 is
    asked.
    """
    uri = str(description.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""))
    end = phases.end(description)
    if not is_s3(uri) or end is None or end.status == "FAILED":
        return ""
    if end.status == "FINISHED" and aws.clock.now() - end.end_s < _JUST_NOW_S:
        return uri
    bucket, key = split_s3(uri)
    try:
        aws.s3("HeadObject", Bucket=bucket, Key=key)
    except NotFound:
        return ""
    except NotAllowed as error:
        if error.has_expired:
            raise
        # Without permission to look: where it should be, if the job completed.
        return uri if description.get("TrainingJobStatus") == "Completed" else ""
    return uri


Kind = Literal[
    "data",
    "settings",
    "permission",
    "capacity",
    "quota",
    "disk",
    "memory",
    "machine",
    "image",
    "algorithm",
    "aws",
    "limit",
    "stopped",
]


@dataclass(frozen=True)
class Failure:
    """What caused it, and in a sentence what to do."""

    kind: Kind
    advice: str


_PREFLIGHT = "`--dry-run` checks the data before a machine is rented."
# The first that matches counts, so the narrow ones come first.
_KNOWN: tuple[tuple[str, Failure], ...] = (
    (
        r"CapacityError|InsufficientInstanceCapacity|Unable to provision requested ML compute capacity",
        Failure(
            "capacity",
            "AWS has no such machine free just now. Try later, or another --instance-type or --region; nothing was"
            " billed for the wait.",
        ),
    ),
    (
        r"ResourceLimitExceeded|service limit '",
        Failure(
            "quota",
            "The account's quota for this machine is used up. Wait for other jobs to end, or ask for more in the"
            " Service Quotas console (SageMaker).",
        ),
    ),
    (
        r"No space left on device|DiskFull|disk (is )?full|ENOSPC|not enough (disk )?space",
        Failure(
            "disk",
            "The disk was too small for data, checkpoints and model. Give more --volume-gb, or a machine with a larger"
            " disk of its own.",
        ),
    ),
    (
        r"out of memory|OutOfMemory|cudaMalloc|Cannot allocate memory|exit code: 137",
        Failure("memory", "Out of memory. Take a smaller --mini-batch-size or a machine with more memory."),
    ),
    (
        r"Please use a GPU instance|only GPU instances are supported|no CUDA-capable device|CUDA driver version"
        r"|no kernel image is available",
        Failure(
            "machine",
            "The image needs a GPU that it was built for: take --instance-type ml.g4dn.xlarge, g5 or p3.",
        ),
    ),
    (
        r"CannotPullContainer|ImagePull|(?:repository|registry).{0,80}(?:not found|does not exist)|pull.{0,40}ECR",
        Failure(
            "image",
            "The container image could not be fetched. Check --image, that it is in the job's region, and that the"
            " role may read the registry.",
        ),
    ),
    (
        r"Access ?Denied|403 Forbidden|status code: 403|not authorized|Could not assume role|s3:ListBucket",
        Failure(
            "permission",
            "The job's role may not do this. Give the role leave for the bucket, key or image that is named.",
        ),
    ),
    (
        r"Empty \.rec file",
        Failure(
            "data",
            "A .rec file is empty: the packer found no picture, as with a wrong root folder. Pack it anew;"
            f" {_PREFLIGHT}",
        ),
    ),
    (
        r"bigger or equal to the mini_batch_size",
        Failure(
            "data",
            "Fewer readable pictures than --mini-batch-size: wrong paths in the list count as missing. Fix the paths,"
            f" or take smaller batches. {_PREFLIGHT}",
        ),
    ),
    (
        r"Invalid lst file",
        Failure("data", f"A list needs index, label and path, separated by tabs. Fix it; {_PREFLIGHT}"),
    ),
    (
        r"magic number|Unable to parse record|correct recordio format",
        Failure(
            "data",
            "What was read is not RecordIO of pictures: the prefix holds another file, or the content type is wrong"
            f" (application/x-recordio). {_PREFLIGHT}",
        ),
    ),
    (
        r"Got empty batch from pipe|AttributeNames",
        Failure("data", "The manifest's attribute names do not match the job's: picture first, then label."),
    ),
    (
        r"Mismatch between number of labels|label.{0,40}(?:out of range|num_classes)",
        Failure("data", f"Labels and --num-classes do not agree; labels run from 0 to one less. {_PREFLIGHT}"),
    ),
    (
        r"No S3 objects found|does not exist|NoSuchKey|NoSuchBucket|[Dd]ata download failed|failed to download",
        Failure("data", f"Data that the job was to read could not be read from S3. Check the paths; {_PREFLIGHT}"),
    ),
    (
        r"hyperparameter|ValidationError|num_layers|image_shape",
        Failure("settings", "A setting is not one that the algorithm takes. `--dry-run` names it."),
    ),
    (
        r"InternalServerError|We encountered an internal error|Internal Server Error",
        Failure("aws", "A fault at AWS. Start the job again."),
    ),
    (
        r"ClientError|Customer Error|Input Error|BadInput|BadConfig|BadData",
        Failure("data", f"The algorithm cannot work with what it was given: see the log's last lines. {_PREFLIGHT}"),
    ),
)
_OTHER = Failure(
    "algorithm",
    "The training program ended with an error: the log's last lines say which (`python -m trainers.jobs logs`).",
)
_COMPILED = [(re.compile(pattern), failure) for pattern, failure in _KNOWN]


def classify(reason: str) -> Failure:
    """What a FailureReason means."""
    return next((failure for pattern, failure in _COMPILED if pattern.search(reason)), _OTHER)


def failure_of(end: End, *, has_model: bool) -> Failure | None:
    """What is to be said about a job's end; None where all went well."""
    if end.status == "FINISHED":
        return None
    return classify(end.reason) if end.status == "FAILED" else of_stop(end.secondary, has_model=has_model)


def of_stop(secondary: str, *, has_model: bool) -> Failure:
    """What a Stopped job's secondary status means; ``has_model``: it left a model all the same."""
    kept = "The best model until then was kept." if has_model else "No model was left."
    if secondary == "MaxRuntimeExceeded":
        return Failure("limit", f"The time limit was reached. {kept} Give more with --max-runtime (or --max-cost).")
    if secondary == "MaxWaitTimeExceeded":
        return Failure("limit", f"Spot had no machine in time. {kept} Give more --max-wait, or leave out --spot.")
    return Failure("stopped", f"Stopped on request. {kept}")
