"""Jobs in a queue of AWS Batch: submitted once, followed through waiting, attempts and ends, billed for all of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.aws.batch import Queue
from tests.support.aws.fake import FakeSageMaker, Plan
from tests.support.aws.launches import CONFIG, account, launched, launcher, metrics, options, statuses, tags
from tracking import names
from trainers.errors import BadConfig
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.job import ledger, submit
from trainers.sagemaker.job.launcher import SageMakerJob
from trainers.sagemaker.watch.many_jobs import watch_many
from trainers.sagemaker.watch.one_job import JobWatch
from trainers.sagemaker.watch.outcome import Outcome

pytestmark = pytest.mark.slow
NO_MACHINE = Plan(fails_in="Starting")
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    with account(tmp_path / "fake", monkeypatch) as fake:
        fake.batch.queues["gpus"] = Queue(name="gpus")
        yield fake


def queued(fake: FakeSageMaker, root: Path, **changes: object) -> ledger.Entry:
    return launched(fake, root, queue="gpus", **changes)


def test_a_queued_job_waits_trains_and_is_collected_under_its_own_name(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.batch.queues["gpus"].most = 0
    entry = queued(fake, tmp_path / "journals")
    assert entry.queue == {"name": "gpus"} and entry.queue_job and not entry.arn and not fake.jobs
    job = SageMakerJob(launcher(fake, tmp_path).aws, entry)
    assert job.state() == "waiting" and list(job.logs()) == []
    fake.batch.queues["gpus"].most = 1
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws)
    (training,) = fake.jobs.values()
    assert outcome is not None and (outcome.name, outcome.state) == (entry.name, "finished")
    assert outcome.billable_s == training.billable_s and outcome.cost_usd == pytest.approx(
        training.billable_s / 3600 * 0.7364
    )
    assert training.name.startswith("AWSBatchcats-") and training.name != entry.name
    found = tags(entry.directory)
    assert (found[names.JOB_NAME], found[names.JOB_ARN]) == (entry.name, training.arn)
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == [(e, v) for e, _, v in training.truth]
    assert [status for status, _ in statuses(entry.directory)] == ["FINISHED"] and fake.batch.faults == []


@pytest.mark.parametrize("refuses", [False, True])
def test_a_submission_whose_answer_was_lost_is_found_again(fake: FakeSageMaker, tmp_path: Path, refuses: bool) -> None:
    """By its token within minutes, whether Batch answers again or refuses; later by its name and tags."""
    fake.batch.refuses_tokens = refuses
    where = launcher(fake, tmp_path / "journals", queue="gpus")
    entry, journal = where.record(where.plan(CONFIG))
    journal.close()
    fake.fail_next("SubmitServiceJob", 1, "lost")
    first = submit.send(where.aws, entry)
    assert len(fake.batch.jobs) == 1 and fake.count("SubmitServiceJob") == 2
    assert first.queue_job == fake.batch.jobs[0].id
    again = submit.send(where.aws, entry)
    fake.clock.sleep(fake.batch.token_s + 1)
    late = submit.send(where.aws, entry)
    assert first.queue_job == again.queue_job == late.queue_job and len(fake.batch.jobs) == 1
    assert submit.stop(where.aws, entry).queue_job == first.queue_job  # found although nothing was kept of it


def test_a_job_of_the_same_name_is_another_one(fake: FakeSageMaker, tmp_path: Path) -> None:
    """Two people launch the same settings in the same second."""
    one, two = (launcher(fake, tmp_path / who, queue="gpus") for who in ("ann", "bob"))
    plans = [where.plan(CONFIG) for where in (one, two)]
    assert plans[0].name == plans[1].name
    ids = set()
    for where, plan in zip((one, two), plans, strict=True):
        entry, journal = where.record(plan)
        journal.close()
        fake.clock.sleep(700)
        ids.add(submit.send(where.aws, entry).queue_job)
    assert len(ids) == len(fake.batch.jobs) == 2


def test_the_submission_holds_the_request_priority_share_and_rules(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.batch.queues["gpus"].policy = "arn:aws:batch:us-east-1:123456789012:scheduling-policy/fair"
    entry = queued(fake, tmp_path, queue_priority=7, queue_share="vision", tags={"team": "cats"})
    sent = fake.batch.jobs[0].request
    payload = json.loads(sent["serviceRequestPayload"])
    assert payload == {key: value for key, value in entry.request.items() if key != "Tags"}
    assert payload["CheckpointConfig"]["S3Uri"] == f"s3://bucket-one/jobs/{entry.name}/checkpoints/"
    assert (sent["schedulingPriority"], sent["shareIdentifier"], sent["clientToken"]) == (7, "vision", entry.journal_id)
    assert sent["tags"][names.JOURNAL_ID] == entry.journal_id and sent["tags"]["team"] == "cats"
    rules = [(rule["action"], rule["onStatusReason"]) for rule in sent["retryStrategy"]["evaluateOnExit"]]
    assert sent["retryStrategy"]["attempts"] == 3 and rules[-1] == ("EXIT", "*") and len(rules) <= 5


def test_capacity_errors_and_aws_own_faults_are_followed_to_the_attempt_that_trains(
    fake: FakeSageMaker, tmp_path: Path
) -> None:
    """Two launches without a machine, one that AWS breaks off after an epoch, one that trains on: one run, its bill."""
    broken = Plan(fails_in="Training", fails_after_epochs=1, failure=INTERNAL)
    fake.batch.launches = dict(enumerate([NO_MACHINE, NO_MACHINE, broken])).get
    entry = queued(fake, tmp_path / "journals", instance_type="ml.p3.2xlarge,ml.g4dn.xlarge")
    fake.without_capacity = {"ml.p3.2xlarge"}
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws, poll_s=60)
    assert outcome is not None and outcome.state == "finished" and len(fake.batch.order) == 4
    kept = list(fake.jobs.values())  # of those without a machine only the last
    assert [job.billable_s > 0 for job in kept] == [False, True, True]
    billed = sum(job.billable_s for job in kept)
    assert outcome.billable_s == billed and outcome.cost_usd == pytest.approx(billed / 3600 * 0.7364)
    found = tags(entry.directory)
    assert found[names.INSTANCE_TYPE] == "ml.g4dn.xlarge" and found[names.JOB_ARN] == kept[-1].arn
    assert {step for step, _ in metrics(entry.directory, names.VALIDATION_ACCURACY)} == {1, 2, 3}


@pytest.mark.parametrize(
    ("launch", "state", "kind", "words"),
    [
        (Plan(fails_in="Training", failure="AlgorithmError: broken pipe"), "failed", "algorithm", "broken pipe"),
        (
            Plan(fails_in="Starting", failure="ClientError: the image does not exist"),
            "failed",
            "image",
            "does not exist",
        ),
    ],
)
def test_other_failures_are_not_tried_again(
    fake: FakeSageMaker, tmp_path: Path, launch: Plan, state: str, kind: str, words: str
) -> None:
    fake.batch.launches = lambda number: launch
    entry = queued(fake, tmp_path / "journals")
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws, poll_s=60)
    assert outcome is not None and (outcome.state, outcome.kind) == (state, kind) and words in outcome.reason
    assert len(fake.batch.order) == 1


def test_a_request_that_sagemaker_refuses_ends_the_run_with_its_words(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.has_preferences = False
    entry = queued(fake, tmp_path / "journals", instance_type="ml.p3.2xlarge,ml.g4dn.xlarge")
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws, poll_s=60)
    assert outcome is not None and outcome.state == "failed" and "InstancePreferences is not" in outcome.reason
    assert (outcome.billable_s, outcome.cost_usd) == (0.0, 0.0) and metrics(entry.directory, names.COST_USD) == [(0, 0)]


@pytest.mark.parametrize("after_s", [0, 200, 400])
def test_a_stopped_job_ends_in_the_queue_while_it_starts_and_while_it_trains(
    fake: FakeSageMaker, tmp_path: Path, after_s: int
) -> None:
    fake.batch.launches = lambda number: NO_MACHINE if number == 0 and after_s == 200 else None
    fake.batch.queues["gpus"].most = 1 if after_s else 0
    entry = queued(fake, tmp_path / "journals")
    fake.clock.sleep(after_s)
    aws, said = launcher(fake, tmp_path).aws, list[str]()
    submit.stop(aws, entry)
    (outcome,) = watch_many([entry], aws=aws, poll_s=60)
    assert outcome is not None and (outcome.state, outcome.kind) == ("killed", "stopped")
    assert (outcome.billable_s or 0) == sum(job.billable_s for job in fake.jobs.values())
    assert [status for status, _ in statuses(entry.directory)] == ["KILLED"]
    submit.stop(aws, entry, on_ended=said.append)
    assert said == ["it is FAILED in the queue"]


def test_what_an_attempt_cost_counts_where_the_job_ends_before_the_next_one(
    fake: FakeSageMaker, tmp_path: Path
) -> None:
    fake.batch.launches = lambda number: Plan(fails_in="Training", failure=INTERNAL)
    fake.batch.retry_s = 3600.0
    entry = queued(fake, tmp_path / "journals")
    aws, watch = launcher(fake, tmp_path).aws, None
    while not fake.batch.jobs[0].attempts:
        watch = watch or JobWatch(entry, aws)
        watch.poll()
        fake.batch.queues["gpus"].most = 0 if fake.jobs else 1
        fake.clock.sleep(30)
    assert watch is not None
    watch.poll()
    assert watch.phase == "queued"
    watch.close()
    submit.stop(aws, entry)
    (outcome,) = watch_many([ledger.load(entry.directory) or entry], aws=aws, poll_s=60)
    (paid,) = fake.jobs.values()
    assert outcome is not None and outcome.state == "killed" and paid.billable_s > 0
    assert outcome.billable_s == paid.billable_s
    assert outcome.cost_usd == pytest.approx(paid.billable_s / 3600 * 0.7364)


def test_a_job_that_batch_has_forgotten_is_found_at_sagemaker(fake: FakeSageMaker, tmp_path: Path) -> None:
    """The laptop was off for longer than Batch keeps what has ended."""
    fake.batch.forget_s = 7 * 86_400.0
    entry = queued(fake, tmp_path / "journals")
    fake.clock.sleep(3600)
    fake.clock.sleep(8 * 86_400)
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws)
    assert outcome is not None and outcome.state == "finished" and outcome.billable_s == 266
    assert len(metrics(entry.directory, names.VALIDATION_ACCURACY)) == 3


def test_a_deleted_training_job_leaves_a_cost_that_is_not_known(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = queued(fake, tmp_path / "journals")
    fake.clock.sleep(10)
    fake.clock.sleep(3600)
    fake.jobs.clear()
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws)
    assert outcome is not None and (outcome.state, outcome.cost_usd) == ("finished", None)
    assert metrics(entry.directory, names.COST_USD) == []


def test_a_repeated_launch_goes_on_with_the_job_recorded_for_this_queue(fake: FakeSageMaker, tmp_path: Path) -> None:
    root = tmp_path / "journals"
    where = launcher(fake, root, queue="gpus")
    entry, journal = where.record(where.plan(CONFIG))
    journal.close()
    again, journal = where.record(where.plan(CONFIG))
    journal.close()
    other, journal = launcher(fake, root).record(launcher(fake, root).plan(CONFIG))
    journal.close()
    assert again.directory == entry.directory != other.directory and other.queue is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queue_priority": 3}, "--queue-priority needs --queue"),
        ({"queue_share": "a"}, "--queue-share needs --queue"),
        ({"queue": "gpus", "queue_priority": 10_000}, "--queue-priority 10000 is out of range: 0 to 9999"),
        ({"queue": "gpus", "spot": True, "instance_type": "ml.g5.xlarge,ml.p3.2xlarge"}, "takes one --instance-type"),
    ],
)
def test_what_goes_with_no_queue_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        options(**changes)


def test_the_higher_priority_goes_first_where_the_queue_has_shares(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.batch.queues["gpus"] = Queue(name="gpus", most=0, policy="arn:aws:batch:us-east-1:1:scheduling-policy/fair")
    entries = [
        launched(fake, tmp_path, replace(CONFIG, run_name=f"p{n}"), queue="gpus", queue_priority=n, queue_share="a")
        for n in (1, 5, 3)
    ]
    fake.batch.queues["gpus"].most = 1
    outcomes = watch_many(entries, aws=launcher(fake, tmp_path).aws, poll_s=60)
    assert [name.partition("-")[0] for name in fake.batch.order] == ["p5", "p3", "p1"]
    assert {outcome.state for outcome in outcomes if outcome is not None} == {"finished"}


class Loads(dict[str, object]):
    """Every machine of a training job that Batch made is busy."""

    def get(self, host: str, default: object = None) -> object:  # type: ignore[override]
        return (lambda at_s: {"GPUUtilization": 93.0}) if host.startswith("AWSBatchcats") else default


def test_the_load_of_a_queued_jobs_machine_is_read(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.load = Loads()  # type: ignore[assignment]
    entry = queued(fake, tmp_path / "journals")
    watch_many([entry], aws=launcher(fake, tmp_path).aws)
    assert {value for _, value in metrics(entry.directory, "system/gpu_0_utilization_percentage")} == {93.0}


def test_jobs_that_wait_are_not_counted_as_if_they_ran(fake: FakeSageMaker, tmp_path: Path) -> None:
    """Four jobs of 2 cents under 17 cents: were each thought to run until it is stopped, none would be let run."""
    fake.plan("*", Plan(epoch_s=5.0))
    fake.batch.queues["gpus"].most = 1
    entries = [launched(fake, tmp_path, replace(CONFIG, run_name=f"r{n}"), queue="gpus") for n in range(4)]
    outcomes = watch_many(entries, aws=launcher(fake, tmp_path).aws, poll_s=60, max_cost_usd=0.17)
    assert [outcome.state for outcome in outcomes if outcome is not None] == ["finished"] * 4


class Killed(BaseException):
    """The process is gone; what is on the disk and at AWS stays."""


class Mortal(Aws):
    """Dies at a call of Batch's, before it is heard or before its answer is."""

    lives: Iterator[int] = iter(())

    def call(self, service: str, operation: str, **arguments: object) -> object:  # type: ignore[override]
        left = next(self.lives, 1) if service == "batch" else 1
        if left == 0:
            raise Killed
        answer = super().call(service, operation, **arguments)  # type: ignore[arg-type]
        if left < 0:
            raise Killed
        return answer


def test_with_40_percent_of_launches_refused_and_the_launcher_killed_no_job_is_lost_or_doubled(
    fake: FakeSageMaker, tmp_path: Path
) -> None:
    """tests/benchmarks/bench_queue.py does so with 100 jobs and processes."""
    chance, root, count = random.Random(4), tmp_path / "journals", 6
    fake.batch.queues["gpus"].most = 3

    def launches(number: int) -> Plan | None:
        fake.without_capacity = {"ml.p3.2xlarge"} if chance.random() < 0.5 else set()
        return NO_MACHINE if chance.random() < 0.4 else None

    fake.batch.launches = launches
    aws, kills = Mortal(region="us-east-1", clock=fake.clock), 0
    # 0: it dies before this call, -1: once AWS has answered it.
    aws.lives = iter([1, 0, 1, -1, 1, 1, 0, -1, 1, 1, *[1] * 20, 0, *[1] * 20, -1, *[1] * 20, 0])
    configs = [replace(CONFIG, run_name=f"cats-{seed}", seed=seed) for seed in range(count)]
    outcomes: list[Outcome | None] = []
    while not outcomes:
        where = launcher(fake, root, queue="gpus", instance_type="ml.p3.2xlarge,ml.g4dn.xlarge")
        where.aws = aws
        try:
            sent = {entry.run_name for entry in ledger.entries(root) if entry.submitted_ms is not None}
            for config in configs:
                if config.run_name not in sent:
                    entry, journal = where.record(where.plan(config))
                    JobWatch(entry, aws, journal=journal).launch()
            outcomes = watch_many([entry for entry in ledger.entries(root) if not entry.ended], aws=aws, poll_s=120)
        except Killed:
            kills += 1
    assert kills == 7 and len(fake.batch.order) > count and fake.batch.faults == []
    assert len(fake.batch.jobs) == len({job.request["clientToken"] for job in fake.batch.jobs}) == count
    entries = list(ledger.entries(root))
    assert len(entries) == count and {entry.ended for entry in entries} == {"finished"}
    usd, types = {"ml.p3.2xlarge": 3.825, "ml.g4dn.xlarge": 0.7364}, set()
    for entry in entries:
        (paid,) = [job for job in fake.jobs.values() if job.arn == entry.arn]
        types.add(paid.selected)
        assert tags(entry.directory)[names.INSTANCE_TYPE] == paid.selected
        assert metrics(entry.directory, names.COST_USD)[0][1] == pytest.approx(
            paid.billable_s / 3600 * usd[paid.selected]
        )
        assert [status for status, _ in statuses(entry.directory)] == ["FINISHED"]
    assert types == set(usd)
