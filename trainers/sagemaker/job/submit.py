"""CreateTrainingJob or SubmitServiceJob exactly once, StopTrainingJob or TerminateServiceJob at any time.

A request that was already sent is recognised by the journal's id among the job's tags, so a launcher may die between
the call and its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tracking import names
from trainers.sagemaker import errors
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.job import ledger, queue
from trainers.sagemaker.job.request import types_of

QUOTA_PAUSE_S = 60.0


def send(aws: Aws, entry: ledger.Entry) -> ledger.Entry:
    """CreateTrainingJob, unless it has been done; the entry as taken. Raises QuotaReached, AwsError, Rejected."""
    if entry.queue is not None and entry.submitted_ms is None:
        return queue.send(aws, entry)
    while entry.submitted_ms is None:
        try:
            answer = aws.call("sagemaker", "CreateTrainingJob", **entry.request)
        except errors.NameTaken:
            found = _is_ours(aws, entry)
            if found is None:  # another job has the name
                entry = entry.renamed()
                continue
            answer = found
        except errors.Rejected as error:
            if "InstancePreferences" not in str(error) or "InstancePreferences" not in entry.request["ResourceConfig"]:
                raise
            # An account, or a boto3, that does not have them yet: one machine after the other, then.
            entry = replace(entry, fallback=types_of(entry.request)).on_next_type()
            continue
        entry = entry.changed(arn=answer["TrainingJobArn"], submitted_ms=int(aws.clock.now() * 1000))
    return entry


def send_when_possible(
    aws: Aws, entry: ledger.Entry, *, on_news: Callable[[str], None] = lambda text: None
) -> ledger.Entry:
    """``send``, and while the account's quota is used up, again. Raises QuotaReached where waiting cannot help."""
    while True:
        try:
            return send(aws, entry)
        except errors.QuotaReached as error:
            if error.is_hopeless:
                raise
            on_news(f"{entry.name} waits: {error.quota or 'the quota'} is used up ({error.used} of {error.limit})")
            aws.clock.sleep(QUOTA_PAUSE_S)


def stop(aws: Aws, entry: ledger.Entry, *, on_ended: Callable[[str], None] = lambda why: None) -> ledger.Entry:
    """Ask a job to end; of one that has ended ``on_ended`` gets AWS's words.

    The entry as it is then is returned: not submitted, if there is no such job.

    One whose sending had no answer may be there all the same, so AWS is asked. Raises AwsError.
    """
    if entry.queue is not None:
        if entry.submitted_ms is None:
            job_id = queue.find(aws, entry)
            if not job_id:
                return entry
            entry = entry.changed(queue_job=job_id, submitted_ms=int(aws.clock.now() * 1000))
        if why := queue.end(aws, entry):
            on_ended(why)
        return entry
    if entry.submitted_ms is None:
        try:
            found = _is_ours(aws, entry)
        except errors.NotFound:
            found = None
        if found is None:
            return entry
        entry = entry.changed(arn=found["TrainingJobArn"], submitted_ms=int(aws.clock.now() * 1000))
    try:
        aws.call("sagemaker", "StopTrainingJob", TrainingJobName=entry.name)
    except errors.Rejected as error:
        if "in status" not in str(error):
            raise
        on_ended(str(error))
    return entry


def _is_ours(aws: Aws, entry: ledger.Entry) -> dict[str, Any] | None:
    """The answer to the request that we sent before, if the job of this name is the one."""
    described: dict[str, Any] = aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName=entry.name)
    try:
        pages = aws.pages("sagemaker", "ListTags", ResourceArn=described["TrainingJobArn"])
        tags = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        ours = tags.get(names.JOURNAL_ID) == entry.journal_id
    except errors.NotAllowed as error:
        if error.has_expired:
            raise
        ours = _facts(described) == _facts(entry.request)
    return described if ours else None


def _facts(request: Mapping[str, Any]) -> tuple[Any, ...]:
    """What identifies a launch where tags cannot be read: its text, its inputs, where its output goes.

    No more of each than that: AWS's answer also holds defaults that were not asked for.
    """
    sources = [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in request.get("InputDataConfig", [])]
    return request.get("HyperParameters", {}), sources, request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
