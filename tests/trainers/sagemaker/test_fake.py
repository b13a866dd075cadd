"""The fake itself: it refuses, walks, throttles and prints as SageMaker does, or what it proves is worth nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.support.aws.fake import LOG_GROUP, FakeSageMaker, ManualClock, Plan, environment, running

IMAGE = "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1"
ROLE = "arn:aws:iam::123456789012:role/trainer"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    with running(tmp_path / "fake", quotas={"ml.g4dn.xlarge": 2}) as fake:
        for name, value in environment(fake).items():
            monkeypatch.setenv(name, value)
        fake.put("s3://bucket-one/train/train.rec", b"pictures")
        yield fake


def client(service: str) -> Any:
    return boto3.client(service, config=Config(retries={"total_max_attempts": 1}))


def request(name: str, **changes: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket-one/train/"}
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {"epochs": "3", "num_classes": "2", "num_training_samples": "8"},
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket-one/output"},
        "ResourceConfig": {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **changes,
    }


def refusal(call: Any, *args: Any, **kwargs: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(*args, **kwargs)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def states(described: dict[str, Any]) -> list[str]:
    seen = [transition["Status"] for transition in described["SecondaryStatusTransitions"]]
    return [state for state, before in zip(seen, [None, *seen], strict=False) if state != before]


def test_a_job_walks_to_its_end_and_leaves_model_and_log(fake: FakeSageMaker) -> None:
    sagemaker, logs = client("sagemaker"), client("logs")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):  # before the account's first job
        logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix="job-a/")
    sagemaker.create_training_job(**request("job-a"))
    described = sagemaker.describe_training_job(TrainingJobName="job-a")
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("InProgress", "Starting")
    assert "TrainingStartTime" not in described and "BillableTimeInSeconds" not in described
    fake.clock.sleep(130 + 30 + 40 + 60)
    described = sagemaker.describe_training_job(TrainingJobName="job-a")
    assert described["SecondaryStatus"] == "Training"
    fake.clock.sleep(600)
    described = sagemaker.describe_training_job(TrainingJobName="job-a")
    assert described["TrainingJobStatus"] == "Completed"
    assert states(described) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    # From Downloading on: 30 + 40 + 3 epochs of 60 + 1 + 15 seconds.
    assert described["BillableTimeInSeconds"] == 30 + 40 + 180 + 1 + 15
    assert client("s3").head_object(Bucket="bucket-one", Key="output/job-a/output/model.tar.gz")["ContentLength"] > 0
    streams = logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix="job-a/")["logStreams"]
    page = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=streams[0]["logStreamName"], startFromHead=True)
    lines = [event["message"] for event in page["events"]]
    assert sum("Validation-accuracy" in line for line in lines) == 3


def test_log_lines_arrive_after_the_last_status(fake: FakeSageMaker) -> None:
    fake.plan("late", Plan(log_lag_s=60))
    sagemaker, logs = client("sagemaker"), client("logs")
    sagemaker.create_training_job(**request("late"))
    fake.clock.sleep(130 + 30 + 40 + 180 + 1 + 15 + 1)
    assert sagemaker.describe_training_job(TrainingJobName="late")["TrainingJobStatus"] == "Completed"

    def count() -> int:
        stream = logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix="late/")["logStreams"][0]
        page = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream["logStreamName"], startFromHead=True)
        return sum("Validation-accuracy" in event["message"] for event in page["events"])

    before = count()
    fake.clock.sleep(120)
    assert (before, count()) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"TrainingJobName": "bad_name"}, "ValidationException", "regular expression pattern"),
        ({"TrainingJobName": "ends-"}, "ValidationException", "regular expression pattern"),
        ({"TrainingJobName": "x" * 64}, "ValidationException", "length less than or equal to 63"),
        ({"RoleArn": "arn:aws:iam::123456789012:role/nobody"}, "ValidationException", "Could not assume role"),
        ({"Tags": [{"Key": "a|b", "Value": "c"}]}, "ValidationException", "regular expression pattern"),
        ({"HyperParameters": {"k": "v" * 2501}}, "ValidationException", "length less than or equal to 2500"),
        ({"EnableManagedSpotTraining": True}, "ValidationException", "MaxWaitTimeInSeconds is required"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 2_592_001}}, "ValidationException", "2419200"),
        (
            {"ResourceConfig": {"InstanceType": "ml.c4.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}},
            "ValidationException",
            "Instance type ml.c4.2xlarge is not supported by algorithm image-classification; only GPU instances",
        ),
        (
            {"ResourceConfig": {"InstanceType": "ml.none", "InstanceCount": 1, "VolumeSizeInGB": 30}},
            "ValidationException",
            "enum value set",
        ),
        (
            {"ResourceConfig": {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 3, "VolumeSizeInGB": 30}},
            "ResourceLimitExceeded",
            "The account-level service limit 'ml.g4dn.xlarge for training job usage' is 2 Instances, with current",
        ),
    ],
)
def test_what_sagemaker_refuses_at_once(fake: FakeSageMaker, changes: dict[str, Any], code: str, told: str) -> None:
    got, message = refusal(client("sagemaker").create_training_job, **request("job", **changes) | changes)
    assert got == code and told in message
    assert not fake.jobs


def test_an_empty_prefix_is_refused_with_its_url(fake: FakeSageMaker) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket-one/nothing/"}
    channels = [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}]
    code, message = refusal(client("sagemaker").create_training_job, **request("job", InputDataConfig=channels))
    assert code == "ValidationException" and 'No S3 objects found under S3 URL "s3://bucket-one/nothing/"' in message


def test_names_are_taken_once_and_free_after_deletion(fake: FakeSageMaker) -> None:
    sagemaker = client("sagemaker")
    sagemaker.create_training_job(**request("one"))
    assert refusal(sagemaker.create_training_job, **request("one"))[0] == "ResourceInUse"
    assert refusal(sagemaker.delete_training_job, TrainingJobName="one")[0] == "ResourceInUse"
    sagemaker.stop_training_job(TrainingJobName="one")
    fake.clock.sleep(30)
    described = sagemaker.describe_training_job(TrainingJobName="one")
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert refusal(sagemaker.stop_training_job, TrainingJobName="one")[0] == "ValidationException"
    sagemaker.delete_training_job(TrainingJobName="one")
    assert refusal(sagemaker.describe_training_job, TrainingJobName="one")[0] == "ValidationException"
    sagemaker.create_training_job(**request("one"))


def test_the_listing_has_two_calls_a_second(fake: FakeSageMaker) -> None:
    sagemaker = client("sagemaker")
    sagemaker.list_training_jobs()
    sagemaker.list_training_jobs()
    assert refusal(sagemaker.list_training_jobs) == ("ThrottlingException", "Rate exceeded")
    fake.clock.sleep(0.5)
    sagemaker.list_training_jobs()


def test_the_listing_pages_filters_and_sorts(fake: FakeSageMaker) -> None:
    sagemaker = client("sagemaker")
    fake.quotas.clear()
    for name in ("run-a", "run-b", "other"):
        sagemaker.create_training_job(**request(name))
        fake.clock.sleep(1)
    page = sagemaker.list_training_jobs(NameContains="run", MaxResults=1, SortBy="Name", SortOrder="Descending")
    assert [entry["TrainingJobName"] for entry in page["TrainingJobSummaries"]] == ["run-b"]
    page = sagemaker.list_training_jobs(
        NameContains="run", MaxResults=1, SortBy="Name", SortOrder="Descending", NextToken=page["NextToken"]
    )
    assert [entry["TrainingJobName"] for entry in page["TrainingJobSummaries"]] == ["run-a"]
    assert "NextToken" not in page


def test_every_way_to_end(fake: FakeSageMaker) -> None:
    sagemaker = client("sagemaker")
    fake.quotas.clear()
    told = "ClientError: Unable to start training. Empty .rec file in train channel., exit code: 2"
    fake.plan("data", Plan(fails_in="Training", fails_after_epochs=0, failure=told))
    fake.plan("capacity", Plan(fails_in="Starting"))
    fake.plan("never", Plan(never_starts=True))
    spot = {"EnableManagedSpotTraining": True}
    limits = {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600}
    sagemaker.create_training_job(**request("data"))
    sagemaker.create_training_job(**request("capacity"))
    sagemaker.create_training_job(**request("long", StoppingCondition={"MaxRuntimeInSeconds": 120}))
    fake.clock.sleep(1)
    sagemaker.create_training_job(**request("never", StoppingCondition=limits, **spot))
    fake.clock.sleep(4000)
    ends = {}
    for name in ("data", "capacity", "long", "never"):
        described = sagemaker.describe_training_job(TrainingJobName=name)
        ends[name] = (described["TrainingJobStatus"], described["SecondaryStatus"])
        if name == "data":
            assert described["FailureReason"] == told and "Uploading" in states(described)
        if name == "capacity":
            assert described["FailureReason"].startswith("CapacityError: ") and "TrainingStartTime" not in described
    assert ends == {
        "data": ("Failed", "Failed"),
        "capacity": ("Failed", "Failed"),
        "long": ("Stopped", "MaxRuntimeExceeded"),
        "never": ("Stopped", "MaxWaitTimeExceeded"),
    }


def test_spot_interrupts_and_goes_on(fake: FakeSageMaker) -> None:
    sagemaker = client("sagemaker")
    fake.plan("spot", Plan(interrupted_after_s=(130.0,)))
    limits = {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    sagemaker.create_training_job(**request("spot", StoppingCondition=limits, EnableManagedSpotTraining=True))
    fake.clock.sleep(2000)
    described = sagemaker.describe_training_job(TrainingJobName="spot")
    assert described["TrainingJobStatus"] == "Completed"
    assert states(described)[:6] == ["Starting", "Downloading", "Training", "Interrupted", "Starting", "Downloading"]
    assert [epoch for epoch, _, _ in fake.job("spot").truth] == [1, 2, 3]
    assert described["BillableTimeInSeconds"] < described["TrainingTimeInSeconds"]


def test_connections_are_lost_and_errors_come_on_demand(fake: FakeSageMaker) -> None:
    sagemaker = client("sagemaker")
    fake.fail_next("ListTrainingJobs", 1, "drop")
    with pytest.raises(ConnectionClosedError):
        sagemaker.list_training_jobs()
    fake.fail_next("*", 1, "denied")
    assert refusal(sagemaker.list_training_jobs)[0] == "AccessDeniedException"
    fake.clock.sleep(1)
    sagemaker.list_training_jobs()


def test_the_clock_stands_still_between_sleeps() -> None:
    clock = ManualClock()
    before = clock.now()
    assert clock.now() == before < time.time()
    clock.sleep(5)
    assert clock.now() == before + 5
