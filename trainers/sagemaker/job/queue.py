"""A job in an AWS Batch queue: submitted once, described in the form of DescribeTrainingJob's answer, ended.

For each attempt Batch makes a training job under a name of its own (``AWSBatch…``); while the job waits there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tracking import names
from trainers.sagemaker import errors
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.job import ledger
from trainers.sagemaker.options import JobOptions

TYPE = "SAGEMAKER_TRAINING"
MOST_PAYLOAD_BYTES = 10 * 1024
QUEUED = "Queued"  # beside AWS's secondary statuses
_WAITING, _ENDED = ("SUBMITTED", "PENDING", "RUNNABLE"), ("SUCCEEDED", "FAILED")
_STARTED = ("SCHEDULED", "STARTING", "RUNNING")
# A fault of AWS's own is worth another attempt, which goes on from the checkpoint; AWS itself spells it in both ways.
# Waiting for capacity is Batch's own matter and counts as no attempt.
_RETRY = {
    "attempts": 3,
    "evaluateOnExit": [
        {"action": "RETRY", "onStatusReason": "Received status from SageMaker: InternalServerError*"},
        {"action": "RETRY", "onStatusReason": "Received status from SageMaker:InternalServerError*"},
        {"action": "EXIT", "onStatusReason": "*"},
    ],
}
_TOKEN_S = 600.0  # how long a client token is relied on; after that the queue is searched first
_DAY_S = 86_400.0  # no two clocks are further apart
_LOOKS, _PAUSE_S = 3, 2.0  # a job just submitted may not be listed for a moment


def asked(options: JobOptions) -> dict[str, Any] | None:
    """The queue that a job is to wait in, its priority and share there; None without one."""
    if options.queue is None:
        return None
    found = {"name": options.queue, "priority": options.queue_priority, "share": options.queue_share}
    return {key: value for key, value in found.items() if value is not None}


def payload(request: Mapping[str, Any]) -> str:
    """CreateTrainingJob's request as Batch passes it on. Its tags are the service job's, which Batch hands on."""
    return json.dumps({key: value for key, value in request.items() if key != "Tags"}, separators=(",", ":"))


def submission(entry: ledger.Entry) -> dict[str, Any]:
    """SubmitServiceJob's request. The training job's own limits hold, so the attempts have no timeout of their own."""
    assert entry.queue is not None
    made = {
        "jobName": entry.name,
        "jobQueue": entry.queue["name"],
        "serviceJobType": TYPE,
        "serviceRequestPayload": payload(entry.request),
        "retryStrategy": _RETRY,
        "tags": {tag["Key"]: tag["Value"] for tag in entry.request["Tags"]},
        "clientToken": entry.journal_id,
    }
    more = {"schedulingPriority": entry.queue.get("priority"), "shareIdentifier": entry.queue.get("share")}
    return made | {key: value for key, value in more.items() if value is not None}


def send(aws: Aws, entry: ledger.Entry) -> ledger.Entry:
    """SubmitServiceJob, unless it has been done; the entry as taken. Raises AwsError, Rejected.

    Batch knows a submission again by its token; after ten minutes, or where it refuses the second one, by its name
    and the journal's id among its tags.
    """
    is_late = aws.clock.now() - entry.created_ms / 1000 > _TOKEN_S
    job_id = find(aws, entry) if is_late else ""
    if not job_id:
        try:
            job_id = aws.call("batch", "SubmitServiceJob", **submission(entry))["jobId"]
        except errors.Rejected:
            for _ in range(_LOOKS):
                job_id = find(aws, entry)
                if job_id:
                    break
                aws.clock.sleep(_PAUSE_S)
            else:
                raise
    return entry.changed(queue_job=job_id, submitted_ms=int(aws.clock.now() * 1000))


def find(aws: Aws, entry: ledger.Entry) -> str:
    """Batch's id of the job, if it has been submitted; "" otherwise. Raises AwsError."""
    assert entry.queue is not None
    named = [{"name": "JOB_NAME", "values": [entry.name]}]
    for page in aws.pages("batch", "ListServiceJobs", jobQueue=entry.queue["name"], filters=named):
        for job in page["jobSummaryList"]:
            if job["jobName"] == entry.name:
                tags = aws.call("batch", "DescribeServiceJob", jobId=job["jobId"]).get("tags", {})
                if tags.get(names.JOURNAL_ID) == entry.journal_id:
                    return str(job["jobId"])
    return ""


def requests(aws: Aws) -> Iterator[dict[str, Any]]:
    """CreateTrainingJob's requests of all jobs that wait or run in the account's queues. Raises AwsError."""
    for page in aws.pages("batch", "DescribeJobQueues"):
        for queue in page["jobQueues"]:
            if queue.get("jobQueueType") != TYPE:
                continue
            for status in (*_WAITING, *_STARTED):
                for jobs in aws.pages("batch", "ListServiceJobs", jobQueue=queue["jobQueueArn"], jobStatus=status):
                    for job in jobs["jobSummaryList"]:
                        found = aws.call("batch", "DescribeServiceJob", jobId=job["jobId"])
                        yield json.loads(found["serviceRequestPayload"])


def end(aws: Aws, entry: ledger.Entry) -> str:
    """Ask the job to end, its training job included; where it has ended, what Batch says of it. Raises AwsError."""
    job = aws.call("batch", "DescribeServiceJob", jobId=entry.queue_job)
    if job["status"] in _ENDED:
        return f"it is {job['status']} in the queue"
    aws.call("batch", "TerminateServiceJob", jobId=entry.queue_job, reason="stopped on request")
    return ""


def describe(aws: Aws, entry: ledger.Entry, patience_s: float | None = 120.0) -> dict[str, Any]:
    """What AWS says of the job. ``TrainingJobArn`` is the newest attempt's, "" while there is none.

    Raises NotFound where neither Batch nor SageMaker knows it, AwsError.
    """
    job_id = entry.queue_job or find(aws, entry)
    if not job_id:
        raise errors.NotFound(f"{entry.name} is not in the queue.", operation="ListServiceJobs")
    try:
        job = aws.call("batch", "DescribeServiceJob", patience_s=patience_s, jobId=job_id)
    except (errors.NotFound, errors.Rejected):
        # Batch forgets a job some time after its end; SageMaker does not.
        return _training(aws, entry.arn, patience_s) or _search(aws, entry)
    status = job["status"]
    found = {} if status in _WAITING else _training(aws, _arn(job.get("latestAttempt", {})), patience_s)
    if status == "FAILED" and job.get("isTerminated") and found.get("TrainingJobStatus") == "Failed":
        return _ended(job)  # it was ended while it waited for its next attempt
    if status in _ENDED:
        return found or _ended(job, is_bill_known="latestAttempt" not in job)
    # A failed attempt may be followed by another one: Batch says when it was the last.
    return found if found.get("TrainingJobStatus") not in (None, "Failed", "Stopped") else _waiting(job)


def former_attempts(aws: Aws, entry: ledger.Entry, newest: str) -> list[dict[str, Any]]:
    """The training jobs of all attempts but the one with the ARN ``newest``, as far as they are there."""
    try:
        job = aws.call("batch", "DescribeServiceJob", jobId=entry.queue_job)
    except (errors.NotFound, errors.Rejected):
        return []
    preempted = job.get("preemptionSummary", {}).get("recentPreemptedAttempts", [])
    arns = dict.fromkeys(_arn(attempt) for attempt in [*job.get("attempts", []), *preempted])
    return [found for arn in arns if arn != newest and (found := _training(aws, arn, 120.0))]


def _arn(attempt: Mapping[str, Any]) -> str:
    return str(attempt.get("serviceResourceId", {}).get("value", ""))


def _training(aws: Aws, arn: str, patience_s: float | None) -> dict[str, Any]:
    """DescribeTrainingJob's answer; empty where there is no such job."""
    if not arn:
        return {}
    try:
        name = arn.rpartition("/")[2]
        return dict(aws.call("sagemaker", "DescribeTrainingJob", patience_s=patience_s, TrainingJobName=name))
    except errors.NotFound:
        return {}


def _search(aws: Aws, entry: ledger.Entry) -> dict[str, Any]:
    """The job's newest attempt, known by its tags."""
    # What Batch puts before and behind the name leaves room for 23 letters of it.
    wanted: dict[str, Any] = {"NameContains": f"AWSBatch{entry.name[:8]}", "MaxResults": 100}
    wanted |= {"SortBy": "CreationTime", "SortOrder": "Descending"}
    for page in aws.pages(
        "sagemaker", "ListTrainingJobs", CreationTimeAfter=entry.created_ms / 1000 - _DAY_S, **wanted
    ):
        for job in page["TrainingJobSummaries"]:
            pages = aws.pages("sagemaker", "ListTags", ResourceArn=job["TrainingJobArn"])
            if {"Key": names.JOURNAL_ID, "Value": entry.journal_id} in [tag for tags in pages for tag in tags["Tags"]]:
                return _training(aws, job["TrainingJobArn"], 120.0)
    raise errors.NotFound(f"AWS Batch no longer knows {entry.name}.", operation="DescribeServiceJob")


def _waiting(job: Mapping[str, Any]) -> dict[str, Any]:
    since_s, reason = job["createdAt"] / 1000, job.get("statusReason", "")
    tail = "the last attempt's training job has ended" if "latestAttempt" in job else "there is no training job yet"
    words = f"{job['status']} in {job['jobQueue'].rpartition('/')[2]}{reason and f' ({reason})'}; {tail}"
    return {
        "TrainingJobArn": "",
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": QUEUED,
        "CreationTime": since_s,
        "SecondaryStatusTransitions": [{"Status": QUEUED, "StartTime": since_s, "StatusMessage": words}],
    }


def _ended(job: Mapping[str, Any], *, is_bill_known: bool = True) -> dict[str, Any]:
    """The end of a job whose training job never was, or is not there any more."""
    said = [job.get("statusReason"), *(attempt.get("statusReason") for attempt in reversed(job.get("attempts", [])))]
    reason = (
        next(filter(None, said), "AWS Batch gave no reason").removeprefix("Received status from SageMaker:").strip()
    )
    is_stopped = job.get("isTerminated") and "JobStateTimeLimit" not in reason
    status = "Completed" if job["status"] == "SUCCEEDED" else "Stopped" if is_stopped else "Failed"
    created_s = job["createdAt"] / 1000
    return {
        "TrainingJobArn": "",
        "CreationTime": created_s,
        **({"BillableTimeInSeconds": 0} if is_bill_known else {"TrainingStartTime": created_s}),
        "TrainingJobStatus": status,
        "SecondaryStatus": status,
        "FailureReason": reason,
        "TrainingEndTime": job.get("stoppedAt", job["createdAt"]) / 1000,
    }
