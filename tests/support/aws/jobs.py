"""One training job of the fake: what will happen to it (Plan), and its life from Starting to its end.

The order of states, their messages and the built-in algorithm's log lines are those of real jobs.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.aws import builtin
from tests.support.aws.rules import BUILTIN, types_of

ENDED = ("Completed", "Failed", "Stopped")
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)


@dataclass(frozen=True)
class Plan:
    """What will happen to a job, times in seconds of the fake's clock."""

    pending_s: float = 0.0
    starting_s: float = 130.0
    downloading_s: float = 30.0
    image_s: float = 40.0  # the image is pulled while the status says Training
    epoch_s: float = 60.0
    uploading_s: float = 15.0
    log_lag_s: float = 5.0  # from printing a line to finding it in CloudWatch
    keeper: int = 1  # of several machines, the one that saves; the others print scores of their own
    second_lag_s: float = 0.0  # how much later the other machines' streams are found
    fails_in: str = ""  # Starting, Downloading or Training
    failure: str = ""
    fails_after_epochs: int = 1
    interrupted_after_s: tuple[float, ...] = ()  # seconds of training after which spot takes the machine back
    interrupted_on: str = ""  # own image: a pattern of the log line on which it does, once
    spot_wait_s: float = 120.0
    never_starts: bool = False
    bill_lag_s: float = 0.0  # from the end to the billed seconds being told
    disk_mb: int = 0  # own image: /opt/ml/checkpoints and /opt/ml/model share so much
    no_network: bool = False  # own image
    serverless: bool = False  # not made by a request with machines, as the console makes them
    best_rate: float | None = None  # the learning rate that scores best; of each decade beside it 0.2 is lost


class Job:
    """A job's facts and the actions still to come. ``world`` gives time, S3, logs and the container host."""

    def __init__(self, world: Any, region: str, request: dict[str, Any], plan: Plan) -> None:
        self.world, self.region, self.request, self.plan = world, region, request, plan
        self.name = request["TrainingJobName"]
        self.arn = f"arn:aws:sagemaker:{region}:{world.account}:training-job/{self.name}"
        self.created = self.modified = world.now()
        self.status, self.secondary, self.failure = "InProgress", "Starting", ""
        self.transitions: list[dict[str, Any]] = []
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.active_s = 0.0
        self.attempt = 0
        self.selected = ""  # the machine that it got
        self.keep_alive_s = request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0)
        self.is_builtin = bool(BUILTIN.match(request["AlgorithmSpecification"].get("TrainingImage", "")))
        self.printed: list[tuple[float, float, str, str]] = []  # due, time, stream, line
        self.truth: list[tuple[int, float, float]] = []  # epoch from 1, train and validation accuracy as printed
        self._actions: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0
        self._busy_since: float | None = None
        self._stream = ""
        limits = request.get("StoppingCondition", {})
        self.max_runtime_s = limits.get("MaxRuntimeInSeconds", 86_400)
        if "MaxWaitTimeInSeconds" in limits:
            self._at(self.created + limits["MaxWaitTimeInSeconds"], lambda t: self._cut("MaxWaitTimeExceeded", t))
        self._begin(self.created)

    def advance(self, now: float) -> None:
        """Carry out everything that is due."""
        while self._actions and self._actions[0][0] <= now and self.status not in ENDED:
            time_s, _, action = heapq.heappop(self._actions)
            action(time_s)
        self._flush(now)

    def stop(self, now: float) -> None:
        """StopTrainingJob."""
        self._cut("Stopped", now)

    def _at(self, time_s: float, action: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._actions, (time_s, self._number, action))

    def _enter(self, secondary: str, message: str, now: float) -> None:
        if self.transitions:
            self.transitions[-1].setdefault("EndTime", now)
        self.transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        self.secondary, self.modified = secondary, now

    def _begin(self, now: float) -> None:
        """From waiting for a machine to the first line of the log."""
        plan, self._stream = self.plan, ""
        self.attempt += 1
        self._enter("Starting", "Starting the training job", now)
        ready = now + plan.starting_s
        if plan.pending_s:
            self._at(now, lambda t: self._enter("Pending", "Training job waiting for capacity", t))
            ready += plan.pending_s
        if plan.never_starts:
            return
        resources = self.request["ResourceConfig"]
        there = [kind for kind in types_of(resources) if kind not in self.world.without_capacity]
        if not there:
            if self.request.get("EnableManagedSpotTraining"):
                return  # until MaxWaitTimeInSeconds
            self._at(ready - 1, lambda t: self._end("Failed", "Failed", t, NO_CAPACITY))
            return
        self._at(now + plan.pending_s + 2, lambda t: setattr(self, "selected", there[0]))
        self._at(now + plan.pending_s + 2, lambda t: self._enter("Starting", "Launching requested ML instances", t))
        if plan.fails_in == "Starting":
            self._at(ready - 1, lambda t: self._end("Failed", "Failed", t, plan.failure or NO_CAPACITY))
            return
        self._at(
            now + plan.pending_s + plan.starting_s / 2,
            lambda t: self._enter("Starting", "Preparing the instances for training", t),
        )
        self._at(ready, self._download)

    def _download(self, now: float) -> None:
        plan, self._busy_since = self.plan, now
        self.started_at = now if self.started_at is None else self.started_at
        self._at(now + self.max_runtime_s - self.active_s, lambda t: self._cut("MaxRuntimeExceeded", t))
        self._enter("Downloading", "Downloading input data", now)
        if plan.fails_in == "Downloading":
            self._at(now + plan.downloading_s, lambda t: self._end("Failed", "Failed", t, plan.failure))
            return
        self._at(
            now + plan.downloading_s,
            lambda t: self._enter("Training", "Downloading the training image", t),
        )
        self._at(now + plan.downloading_s + plan.image_s, self._train)

    def _train(self, now: float) -> None:
        self._enter("Training", "Training image download completed. Training in progress.", now)
        if not self.is_builtin:
            self.world.host.start(self)
            self._at(now, self._look)
            return
        plan, epochs = self.plan, int(self.request["HyperParameters"].get("epochs", 30))
        first = len(self.truth)  # the built-in checkpoints by itself and goes on after an interruption
        last = min(epochs, plan.fails_after_epochs) if plan.fails_in == "Training" else epochs
        self._at(now, lambda t: self.print(builtin.head(self.request, t), t))
        for number in range(first, last):
            self._at(now + (number - first + 1) * plan.epoch_s, lambda t, n=number: self._epoch(n, t))  # type: ignore[misc]
        done = now + (last - first) * plan.epoch_s + 1
        if self.attempt <= len(plan.interrupted_after_s):
            self._at(now + plan.interrupted_after_s[self.attempt - 1], self._interrupt)
        if plan.fails_in == "Training":
            self._at(done, lambda t: self._fail_in_training(t))
        else:
            self._at(done, lambda t: self._upload("Completed", "Completed", t))

    def _epoch(self, number: int, now: float) -> None:
        train = 1 - 0.95 * math.exp(-0.3 * (number + 1))
        if self.plan.best_rate is not None:
            rate = float(self.request["HyperParameters"]["learning_rate"])
            train *= max(0.1, 1 - 0.2 * abs(math.log10(rate / self.plan.best_rate)))
        train = round(train, 6)
        validation = round(train - 0.02 * (1 + number % 3), 6)
        best = max((v for _, _, v in self.truth), default=-1.0)
        self.truth.append((number + 1, train, validation))
        machines = self.request["ResourceConfig"].get("InstanceCount", 1)
        for machine in range(1, machines + 1):
            keeps = machine == self.plan.keeper
            score = validation if keeps else round(validation - 0.01, 6)
            is_best = keeps and validation > best
            self.print(builtin.epoch(number, train, score, is_best, self.plan.epoch_s, now), now, machine)

    def _fail_in_training(self, now: float) -> None:
        self.print([f"{builtin.stamp(now, 'ERROR')} Customer Error: {self.plan.failure}"], now)
        self._upload("Failed", "Failed", now, self.plan.failure)

    def _interrupt(self, now: float) -> None:
        """Spot takes the machine back; the job waits for another."""
        self._actions = []
        self._pause(now)
        self._enter("Interrupted", "Spot instance was interrupted", now)
        limits = self.request.get("StoppingCondition", {})
        if "MaxWaitTimeInSeconds" in limits:
            self._at(self.created + limits["MaxWaitTimeInSeconds"], lambda t: self._cut("MaxWaitTimeExceeded", t))
        self._at(now + self.plan.spot_wait_s, self._begin)

    def _look(self, now: float) -> None:
        """See how the container is doing; ``world.host`` runs it."""
        word = self.world.host.look(self)
        if word is None:
            self._at(max(now, self.world.now()) + 0.01, self._look)
        elif word == "interrupted":
            self._interrupt(self.world.now())
        elif word == "":
            self._upload("Completed", "Completed", self.world.now())
        else:
            self._upload("Failed", "Failed", self.world.now(), word)

    def _cut(self, secondary: str, now: float) -> None:
        """Stopping: by the user or by a limit."""
        self._actions = []
        running = self._busy_since is not None
        self.status = "Stopping"
        self._enter("Stopping", "Stopping the training job", now)
        if running and not self.is_builtin:
            self.world.host.stop(self)
            self._at(now, lambda t: self._wait_for_stop(secondary, t))
        elif running:
            self._at(now + 10, lambda t: self._upload("Stopped", secondary, t))
        else:
            self._at(now + 5, lambda t: self._end("Stopped", secondary, t))

    def _wait_for_stop(self, secondary: str, now: float) -> None:
        if self.world.host.look(self) is None:
            self._at(max(now, self.world.now()) + 0.01, lambda t: self._wait_for_stop(secondary, t))
        else:
            self._upload("Stopped", secondary, self.world.now())

    def _upload(self, status: str, secondary: str, now: float, failure: str = "") -> None:
        if status != "Stopped":
            self._enter("Uploading", "Uploading generated training model", now)
        if not self.is_builtin:
            self.world.host.upload(self, with_model=status != "Failed")
        elif status != "Failed" and self.truth:
            self.world.put(self.artifact_uri, builtin.archive(self))
        self._at(now + self.plan.uploading_s, lambda t: self._end(status, secondary, t, failure))

    def _pause(self, now: float) -> None:
        if self._busy_since is not None:
            self.active_s += now - self._busy_since
            self._busy_since = None

    def _end(self, status: str, secondary: str, now: float, failure: str = "") -> None:
        self._pause(now)
        self._actions = []
        self.status, self.failure = status, failure[:1024]
        words = {
            "Completed": "Training job completed",
            "Failed": "Training job failed",
            "Stopped": "Training job stopped",
            "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
            "MaxWaitTimeExceeded": "Training job exceeded MaxWaitTimeInSeconds provided",
        }
        self._enter(secondary, words[secondary], now)
        self.transitions[-1]["EndTime"] = now
        self.ended_at = now

    def print(self, lines: list[str], now: float, machine: int = 1) -> None:
        """Put lines on a container's standard output."""
        if not self._stream:
            self._stream = f"{self.name}/algo-1-{int(now)}"
        stream, lag_s = self._stream, self.plan.log_lag_s
        if machine > 1:
            stream, lag_s = stream.replace("/algo-1-", f"/algo-{machine}-"), lag_s + self.plan.second_lag_s
        self.printed += [(now + lag_s, now, stream, line) for line in lines]

    def _flush(self, now: float) -> None:
        ready = [entry for entry in self.printed if entry[0] <= now]
        if ready:
            self.printed = [entry for entry in self.printed if entry[0] > now]
            for stream in dict.fromkeys(entry[2] for entry in ready):
                self.world.log(self.region, stream, [(t, line) for _, t, s, line in ready if s == stream])

    @property
    def artifact_uri(self) -> str:
        return f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output/model.tar.gz"

    @property
    def training_s(self) -> int:
        return round(self.active_s)

    @property
    def billable_s(self) -> int:
        return round(self.active_s * (0.3 if self.request.get("EnableManagedSpotTraining") else 1.0))

    def describe(self) -> dict[str, Any]:
        """DescribeTrainingJob's answer."""
        answer = {key: value for key, value in self.request.items() if key != "Tags"}
        answer |= {
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self.secondary,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "SecondaryStatusTransitions": self.transitions,
            "ModelArtifacts": {"S3ModelArtifacts": self.artifact_uri},
            "StoppingCondition": {"MaxRuntimeInSeconds": 86_400, **self.request.get("StoppingCondition", {})},
            "ProfilingStatus": "Disabled",
        }
        if self.selected and "InstancePreferences" in self.request["ResourceConfig"]:
            count = self.request["ResourceConfig"].get("InstanceCount", 1)
            chosen = {"SelectedInstanceType": self.selected, "SelectedInstanceCount": count}
            answer["ResourceConfig"] = {**self.request["ResourceConfig"], **chosen}
        if self.started_at is not None:
            answer["TrainingStartTime"] = self.started_at
        if self.ended_at is not None:
            answer["TrainingEndTime"] = self.ended_at
            if self.world.now() - self.ended_at >= self.plan.bill_lag_s:
                answer["TrainingTimeInSeconds"], answer["BillableTimeInSeconds"] = self.training_s, self.billable_s
        if self.plan.serverless:
            for key in ("ResourceConfig", "AlgorithmSpecification", "HyperParameters"):
                answer.pop(key, None)
            model = "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/llama/1.0.0"
            answer["ServerlessJobConfig"] = {"BaseModelArn": model, "JobType": "FineTuning", "AcceptEula": True}
        if self.failure:
            answer["FailureReason"] = self.failure
        if self.keep_alive_s:
            ended = self.status in ENDED
            answer["WarmPoolStatus"] = {"Status": "Available" if ended else "InUse"}
            if ended and self.ended_at is not None:
                answer["WarmPoolStatus"]["ResourceRetainedBillableTimeInSeconds"] = round(
                    min(self.world.now() - self.ended_at, self.keep_alive_s)
                )
        if self.is_builtin and self.truth:
            answer["FinalMetricDataList"] = [
                {"MetricName": name, "Value": self.truth[-1][column], "Timestamp": self.modified}
                for column, name in ((1, "train:accuracy"), (2, "validation:accuracy"))
            ]
        return answer

    def summary(self) -> dict[str, Any]:
        """One entry of ListTrainingJobs."""
        described = self.describe()
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime")
        more = ("TrainingJobStatus", "SecondaryStatus", "WarmPoolStatus")
        return {key: described[key] for key in (*keys, *more) if key in described}
