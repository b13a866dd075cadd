"""The results of a finished job as metrics and tags of its run: times, billing, cost, machine, image, model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracking import names
from tracking.journal.events import read
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import is_s3, split_s3
from trainers.sagemaker.cost import pricing
from trainers.sagemaker.errors import NotAllowed, NotFound
from trainers.sagemaker.job import ledger, phases
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
    kind = phases.instances(description)[0] or entry.instance_type
    if kind in entry.prices:
        return pricing.Price(**entry.prices[kind])
    if entry.price is not None and kind == entry.instance_type:
        return pricing.Price(**entry.price)
    try:
        return pricing.price_per_hour(entry.region, kind)
    except pricing.NoPrice:
        return None


def cost(entry: ledger.Entry, attempts: Sequence[Mapping[str, Any]]) -> pricing.Cost | None:
    """The cost of the last of a job's attempts with what those before it were billed, each at its machine's price."""
    billed = [
        found
        for one in attempts
        if (price := price_of(entry, one)) is not None and (found := pricing.job_cost(one, price)) is not None
    ]
    if len(billed) < 2:
        return billed[0] if billed else None
    return replace(
        billed[-1],
        training_usd=sum(one.training_usd for one in billed),
        warm_pool_usd=sum(one.warm_pool_usd for one in billed),
        billable_s=sum(one.billable_s for one in billed),
    )


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
