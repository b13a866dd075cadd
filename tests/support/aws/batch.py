"""AWS Batch's service jobs: queues with a service environment, jobs by priority, attempts as SageMaker's training jobs.

As its guide has it: the payload is passed on unread; a training job is called ``AWSBatch``, the job's name and a hash;
after a capacity error the job waits again without an attempt being counted, and the attempt before is deleted.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import botocore.session

from tests.support.aws.jobs import ENDED, Job, Plan
from tests.support.aws.rules import Refused, faults_of

OPERATIONS = (
    "SubmitServiceJob",
    "DescribeServiceJob",
    "ListServiceJobs",
    "TerminateServiceJob",
    "DescribeJobQueues",
    "DescribeServiceEnvironments",
)
NO_CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Unable to provision requested compute resources"
_PREFIX = "Received status from SageMaker:"


@cache
def model() -> Any:
    """Batch's API model as botocore ships it."""
    return botocore.session.get_session().get_service_model("batch")


BATCH_PATHS = {model().operation_model(name).http["requestUri"]: name for name in OPERATIONS}


def refused(message: str) -> Refused:
    return Refused("ClientException", message)


@dataclass(kw_only=True)
class Queue:
    """A queue and its one service environment."""

    name: str
    most: int = 4
    kind: str = "SAGEMAKER_TRAINING"
    state: str = "ENABLED"
    status: str = "VALID"
    reason: str = ""
    environment_state: str = "ENABLED"
    policy: str = ""  # ARN of a fair share policy: jobs need a share, and priorities count


@dataclass(kw_only=True)
class ServiceJob:
    """A job in a queue. ``training`` is what its newest attempt runs as."""

    id: str
    region: str
    request: dict[str, Any]
    created: float
    status: str = "SUBMITTED"
    reason: str = ""
    not_before: float = 0.0
    is_terminated: bool = False
    training: Job | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)  # those that ended
    tried: int = 0
    stopped: float | None = None

    @property
    def payload(self) -> dict[str, Any]:
        return dict(json.loads(self.request["serviceRequestPayload"]))

    @property
    def size(self) -> int:
        return int(self.payload["ResourceConfig"].get("InstanceCount", 1))

    @property
    def arn(self) -> str:
        return f"arn:aws:batch:{self.region}:123456789012:service-job/{self.id}"


class Batch:
    """The queues of the account. Tests set ``launches``: the plan of the n-th training job, None for the fake's own."""

    def __init__(self, fake: Any) -> None:
        self.fake = fake
        self.queues: dict[str, Queue] = {}
        self.jobs: list[ServiceJob] = []
        self.launches: Callable[[int], Plan | None] = lambda number: None
        self.retry_s, self.token_s, self.forget_s = 60.0, 8 * 3600.0, float("inf")
        self.refuses_tokens = False  # a second submission of a token, in place of the first one's answer
        self.order: list[str] = []  # jobs' names as they were launched
        self.faults: list[str] = []  # what CreateTrainingJob's model finds wrong with payloads
        self._number = 0

    def answer(self, operation: str, region: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer, or Refused."""
        faults = faults_of(operation, request, model())
        if faults:
            raise refused("; ".join(faults))
        result: dict[str, Any] = getattr(self, f"_{operation}")(region, request)
        return result

    # time

    def advance(self) -> None:
        """Bring every job up to now."""
        for job in self.jobs:
            self._follow(job)
        for queue in self.queues.values():
            mine = [job for job in self.jobs if self._queue(job.request["jobQueue"]) is queue]
            free = queue.most - sum(job.size for job in mine if job.training is not None)
            by_priority = (lambda job: -job.request.get("schedulingPriority", 0)) if queue.policy else (lambda job: 0)
            for job in sorted(mine, key=by_priority):
                if job.status == "SUBMITTED":
                    job.status = "RUNNABLE"
                if job.status == "RUNNABLE" and job.not_before <= self.fake.now() and job.size <= free:
                    free -= job.size
                    self._launch(job)

    def _launch(self, job: ServiceJob) -> None:
        payload = job.payload
        name = f"AWSBatch{payload['TrainingJobName'][:23].rstrip('-')}{uuid.uuid4().hex}"
        plan = self.launches(self._number)
        self._number += 1
        if plan is not None:
            self.fake.plan(name, plan)
        tags = [{"Key": key, "Value": value} for key, value in job.request.get("tags", {}).items()]
        self.order.append(job.request["jobName"])
        try:
            job.training = self.fake.create({**payload, "TrainingJobName": name, "Tags": tags}, job.region)
        except Refused as refusal:
            self._attempt_over(job, "", f"{refusal.code}: {refusal.message}")
        else:
            job.status, job.reason = "SCHEDULED", ""

    def _follow(self, job: ServiceJob) -> None:
        training = job.training
        if training is None:
            return
        if training.status not in ENDED:
            words = {"Downloading": "STARTING", "Training": "RUNNING", "Uploading": "RUNNING"}
            job.status = words.get(training.secondary, job.status)
        elif training.status == "Completed":
            self._close(job, "SUCCEEDED", f"{_PREFIX} Training job completed")
        elif training.failure.startswith("CapacityError") and not job.is_terminated:
            former = [attempt for attempt in job.attempts if attempt["statusReason"] == NO_CAPACITY]
            for attempt in former[-1:]:
                self.fake.jobs.pop((job.region, attempt["serviceResourceId"]["value"].rpartition("/")[2]), None)
            self._keep(job, training.arn, NO_CAPACITY)
            job.status, job.reason = "RUNNABLE", NO_CAPACITY
            job.not_before = self.fake.now() + self.retry_s
        else:
            self._attempt_over(job, training.arn, training.failure or f"Training job {training.status.lower()}")

    def _attempt_over(self, job: ServiceJob, arn: str, why: str) -> None:
        reason = f"{_PREFIX} {why}"
        job.tried += 1
        retry = job.request.get("retryStrategy", {"attempts": 1})
        actions = [
            rule["action"]
            for rule in retry.get("evaluateOnExit", [{"action": "RETRY", "onStatusReason": "*"}])
            if _fits(rule["onStatusReason"], reason)
        ]
        if not job.is_terminated and actions[:1] == ["RETRY"] and job.tried < retry["attempts"]:
            self._keep(job, arn, reason)
            job.status, job.reason = "RUNNABLE", reason
        else:
            self._close(job, "FAILED", job.reason if job.is_terminated else reason, arn)

    def _keep(self, job: ServiceJob, arn: str, reason: str) -> None:
        known = {"serviceResourceId": {"name": "TrainingJobArn", "value": arn}} if arn else {}
        job.attempts.append({**known, "statusReason": reason})
        job.training = None

    def _close(self, job: ServiceJob, status: str, reason: str, arn: str = "") -> None:
        self._keep(job, job.training.arn if job.training is not None else arn, reason)
        job.status, job.reason, job.stopped = status, reason, self.fake.now()

    # the operations

    def _queue(self, name: str) -> Queue:
        queue = self.queues.get(name.rpartition("/")[2])
        if queue is None:
            raise refused(f"Job queue {name} not found.")
        return queue

    def _SubmitServiceJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(request["jobQueue"])
        if queue.state != "ENABLED" or queue.kind != "SAGEMAKER_TRAINING":
            raise refused(f"Job queue {queue.name} cannot take service jobs.")
        if bool(queue.policy) != ("shareIdentifier" in request):
            raise refused("shareIdentifier goes with a fair share scheduling policy, and only with one.")
        if len(request["serviceRequestPayload"].encode()) > 10 * 1024:
            raise refused("serviceRequestPayload is larger than 10 KiB.")
        payload = json.loads(request["serviceRequestPayload"])
        self.faults += [f"{request['jobName']}: {fault}" for fault in faults_of("CreateTrainingJob", payload)]
        self.faults += [f"{request['jobName']}: unknown {key}" for key in payload if key not in _members()]
        now = self.fake.now()
        for job in self.jobs:
            if job.request["clientToken"] == request["clientToken"] and now - job.created < self.token_s:
                if self.refuses_tokens or job.request != request:
                    raise refused("A request with this clientToken has been received before.")
                break
        else:
            job = ServiceJob(id=str(uuid.uuid4()), region=region, request=request, created=now)
            self.jobs.append(job)
        return {"jobArn": job.arn, "jobName": request["jobName"], "jobId": job.id}

    def _find(self, job_id: str) -> ServiceJob:
        for job in self.jobs:
            is_kept = job.stopped is None or self.fake.now() - job.stopped < self.forget_s
            if is_kept and job_id in (job.id, job.arn):
                return job
        raise refused(f"Service job {job_id} does not exist.")

    def _DescribeServiceJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self._find(request["jobId"])
        answer = {
            **self._summary(job),
            "jobQueue": f"arn:aws:batch:{region}:123456789012:job-queue/{job.request['jobQueue']}",
        }
        answer |= {key: job.request[key] for key in ("serviceRequestPayload", "retryStrategy", "tags")}
        current = [] if job.training is None else [{"serviceResourceId": _resource(job.training.arn)}]
        return {**answer, "attempts": [*job.attempts, *current]}

    def _summary(self, job: ServiceJob) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "jobArn": job.arn,
            "jobId": job.id,
            "jobName": job.request["jobName"],
            "serviceJobType": job.request["serviceJobType"],
            "status": job.status,
            "createdAt": int(job.created * 1000),
            "startedAt": 0,
        }
        known = [one["serviceResourceId"]["value"] for one in job.attempts if "serviceResourceId" in one]
        newest = job.training.arn if job.training is not None else (known or [""])[-1]
        answer |= {"latestAttempt": {"serviceResourceId": _resource(newest)}} if newest else {}
        answer |= {"statusReason": job.reason} if job.reason else {}
        answer |= {"isTerminated": True} if job.is_terminated else {}
        return answer | ({} if job.stopped is None else {"stoppedAt": int(job.stopped * 1000)})

    def _ListServiceJobs(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(request["jobQueue"])
        jobs = [job for job in self.jobs if self._queue(job.request["jobQueue"]) is queue]
        (wanted,) = [one["values"][0].lower() for one in request.get("filters", [])] or [""]
        if wanted:
            jobs = [job for job in jobs if _fits(wanted, job.request["jobName"].lower())]
        else:
            jobs = [job for job in jobs if job.status == request.get("jobStatus", "RUNNING")]
        start, size = int(request.get("nextToken") or 0), request.get("maxResults", 100)
        more = {"nextToken": str(start + size)} if start + size < len(jobs) else {}
        return {"jobSummaryList": [self._summary(job) for job in jobs[start : start + size]], **more}

    def _TerminateServiceJob(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        job = self._find(request["jobId"])
        if job.stopped is None:
            job.is_terminated, job.reason = True, request["reason"]
            if job.training is None:
                self._close(job, "FAILED", request["reason"])
            elif job.training.status not in (*ENDED, "Stopping"):
                job.training.stop(self.fake.now())
        return {}

    def _DescribeJobQueues(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        place = f"arn:aws:batch:{region}:123456789012"
        found = [self.queues[name] for name in request.get("jobQueues", self.queues) if name in self.queues]
        return {
            "jobQueues": [
                {
                    "jobQueueName": queue.name,
                    "jobQueueArn": f"{place}:job-queue/{queue.name}",
                    "state": queue.state,
                    "status": queue.status,
                    "statusReason": queue.reason,
                    "priority": 1,
                    "computeEnvironmentOrder": [],
                    "jobQueueType": queue.kind,
                    "serviceEnvironmentOrder": [
                        {"order": 1, "serviceEnvironment": f"{place}:service-environment/{queue.name}-machines"}
                    ],
                    **({"schedulingPolicyArn": queue.policy} if queue.policy else {}),
                }
                for queue in found
            ]
        }

    def _DescribeServiceEnvironments(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        names = [arn.rpartition("/")[2].removesuffix("-machines") for arn in request["serviceEnvironments"]]
        return {
            "serviceEnvironments": [
                {
                    "serviceEnvironmentName": f"{name}-machines",
                    "serviceEnvironmentArn": f"arn:aws:batch:{region}:123456789012:service-environment/{name}-machines",
                    "serviceEnvironmentType": "SAGEMAKER_TRAINING",
                    "state": self.queues[name].environment_state,
                    "status": "VALID",
                    "capacityLimits": [{"maxCapacity": self.queues[name].most, "capacityUnit": "NUM_INSTANCES"}],
                }
                for name in names
            ]
        }


def _fits(pattern: str, text: str) -> bool:
    """Only a star at the end stands for anything."""
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _resource(arn: str) -> dict[str, str]:
    return {"name": "TrainingJobArn", "value": arn}


@cache
def _members() -> frozenset[str]:
    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob")
    return frozenset(shape.input_shape.members)
