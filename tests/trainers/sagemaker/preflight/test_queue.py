"""What the preflight finds of a queue of AWS Batch, and of the leave to use it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.aws.account import World, codes, one, preflight
from tests.support.aws.batch import Queue

POLICY = "arn:aws:batch:us-east-1:123456789012:scheduling-policy/fair"


@pytest.mark.parametrize(
    ("queue", "options", "code", "words"),
    [
        ({}, {}, "queue-room", "gpus lets 4 machines run at once; asked for are 1 × 1"),
        ({}, {"queue": "cpus"}, "queue-missing", "there is no job queue cpus in us-east-1"),
        ({"kind": "ECS"}, {}, "queue-type", "gpus is of type ECS, not SAGEMAKER_TRAINING"),
        ({"state": "DISABLED"}, {}, "queue-state", "queue gpus is DISABLED and VALID"),
        ({"status": "INVALID"}, {}, "queue-state", "queue gpus is ENABLED and INVALID: no machines"),
        ({"environment_state": "DISABLED"}, {}, "queue-state", "service environment gpus-machines is DISABLED"),
        ({"policy": POLICY}, {}, "queue-share", "gpus has the scheduling policy fair, and --queue-share is not given"),
        ({}, {"queue_share": "vision"}, "queue-share", "gpus has no scheduling policy, and --queue-share is vision"),
        ({"most": 1}, {"instance_count": 2}, "queue-capacity", "gpus lets 1 machines run at once, and the job wants 2"),
    ],
)
def test_what_would_keep_jobs_in_the_queue_is_found(
    account: World, queue: dict[str, Any], options: dict[str, Any], code: str, words: str
) -> None:
    account.fake.batch.queues = {"gpus": Queue(name="gpus", reason="no machines" if "status" in queue else "", **queue)}
    found = preflight(account, account.put_records(), **{"queue": "gpus", **options})
    assert [words in f.what for f in found if f.code == code] == [True]
    others = {"queue-missing", "queue-type", "queue-state", "queue-share", "queue-capacity"} - {code}
    assert not others & set(codes(found)) and account.fake.jobs == {} and account.fake.batch.jobs == []


def test_a_queue_that_may_not_be_asked_about_is_unchecked(account: World) -> None:
    account.fake.batch.queues = {"gpus": Queue(name="gpus")}
    account.fake.fail_next("DescribeServiceEnvironments", 1, "denied")
    assert "queue-unchecked" in codes(preflight(account, account.put_records(), queue="gpus"), "unchecked")


def test_a_request_too_large_for_batch_is_found_before_it_is_sent(account: World) -> None:
    account.fake.batch.queues = {"gpus": Queue(name="gpus")}
    long = account.put_records()
    found = preflight(account, long, queue="gpus", output=f"s3://bucket-one/{'o' * 900}")
    assert "queue-payload" not in codes(found)
    many = [type(long[0])(f"more{n}", f"s3://bucket-one/{'x' * 900}/") for n in range(12)]
    assert "10,240 are the most" in one(preflight(account, [*long, *many], queue="gpus"), "queue-payload").what


def test_the_caller_is_asked_about_for_batch_in_place_of_sagemaker(account: World) -> None:
    """Batch's own role makes the training job: who launches needs no leave for that, but to use the queue."""
    account.fake.batch.queues = {"gpus": Queue(name="gpus")}
    account.answers.decisions = {
        "sagemaker:CreateTrainingJob": "implicitDeny",
        "batch:SubmitServiceJob": "implicitDeny",
    }
    found = [f.what for f in preflight(account, account.put_records(), queue="gpus") if f.code == "pass-role"]
    (what,) = found
    assert what.endswith("may not batch:SubmitServiceJob on arn:aws:batch:us-east-1:123456789012:job-queue/gpus")
    asked = {form["ActionNames.member.1"] for name, form in account.answers.calls if name.startswith("Simulate")}
    verbs = ("SubmitServiceJob", "DescribeServiceJob", "ListServiceJobs", "TerminateServiceJob", "TagResource")
    assert {f"batch:{verb}" for verb in verbs} | {"iam:PassRole"} <= asked
