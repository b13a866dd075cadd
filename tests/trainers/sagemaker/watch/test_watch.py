"""Watching: every way a job can end, every way a watcher can be disturbed; each thing in the journal once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws.fake import FakeSageMaker, Plan
from tests.support.aws.launches import CONFIG, account, launched, launcher, metrics, statuses, tags
from tracking import names
from tracking.journal.events import read
from tracking.store import Store
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.logs import LogReader
from trainers.sagemaker.errors import AwsError, Rejected, Unreachable
from trainers.sagemaker.job import ledger, phases
from trainers.sagemaker.watch.live import LiveReplay
from trainers.sagemaker.watch.many_jobs import watch_many
from trainers.sagemaker.watch.one_job import JobWatch
from trainers.sagemaker.watch.outcome import Silent

pytestmark = pytest.mark.slow


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    with account(tmp_path / "fake", monkeypatch) as fake:
        yield fake


class Heard(Silent):
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.log: list[str] = []
        self.phases: list[str] = []

    def lines(self, entry: ledger.Entry, lines: Any) -> None:
        self.log += [line.text for line in lines]

    def phase(self, entry: ledger.Entry, phase: phases.Phase) -> None:
        self.phases.append(phase.name)

    def say(self, entry: ledger.Entry, text: str) -> None:
        self.said.append(text)


def door(fake: FakeSageMaker) -> Aws:
    return Aws(region="us-east-1", clock=fake.clock)


def validation(fake: FakeSageMaker, name: str) -> list[tuple[int, float]]:
    return [(epoch, value) for epoch, _, value in fake.job(name).truth]


def test_a_job_that_goes_well(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry, heard = launched(fake, tmp_path / "journals"), Heard()
    (outcome,) = watch_many([entry], aws=door(fake), listener=heard)
    assert outcome is not None and outcome.state == "finished"
    # Downloading 30 + image 40 + 3 epochs of 60 + 1 + upload 15 seconds, at $0.7364 an hour.
    assert outcome.billable_s == 266 and outcome.cost_usd == pytest.approx(266 / 3600 * 0.7364)
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name)
    assert metrics(entry.directory, names.TRAIN_ACCURACY) == [(e, t) for e, t, _ in fake.job(entry.name).truth]
    best = max(fake.job(entry.name).truth, key=lambda row: row[2])
    assert metrics(entry.directory, names.BEST_EPOCH) == [(3, best[0])]
    assert metrics(entry.directory, names.BEST_VALIDATION_ACCURACY) == [(3, best[2])]
    for phase, seconds in (("starting", 130), ("downloading", 30), ("training", 221), ("uploading", 15)):
        assert metrics(entry.directory, f"{phase}_s") == [(3, seconds)]
    assert metrics(entry.directory, names.BILLABLE_TIME_S) == [(3, 266)]
    assert statuses(entry.directory) == [("FINISHED", "")]
    found = tags(entry.directory)
    assert found[names.LAUNCHER] == "sagemaker-builtin" and found[names.INSTANCE_TYPE] == "ml.g4dn.xlarge"
    assert found[names.MODEL_URI] == f"s3://bucket-one/jobs/{entry.name}/output/model.tar.gz"
    assert found[names.JOB_ARN].endswith(f"training-job/{entry.name}") and "table of" in found[names.PRICE]
    log = (entry.directory / "files" / "log.txt").read_text().splitlines()
    assert log == [line.replace("#011", "\t") for line in heard.log] and len(log) > 15
    assert "\tSpeed: 114.166 samples/sec\t" in "\n".join(log)
    assert list(dict.fromkeys(heard.phases)) == ["starting", "downloading", "training", "uploading"]


def test_lines_after_the_last_status_are_not_lost(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.plan("*", Plan(log_lag_s=45, epoch_s=20))
    entry = launched(fake, tmp_path / "journals")
    watch_many([entry], aws=door(fake))
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name)


def test_a_bill_that_follows_the_end_is_not_missed(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.plan("*", Plan(bill_lag_s=25))
    entry = launched(fake, tmp_path / "journals")
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and outcome.billable_s == 266
    assert metrics(entry.directory, names.BILLABLE_TIME_S) == [(3, 266)]
    fake.plan("*", Plan(bill_lag_s=600))
    (outcome,) = watch_many([launched(fake, tmp_path / "journals")], aws=door(fake), poll_s=60)
    assert outcome is not None and outcome.billable_s == 266


def test_a_kept_machine_s_cost_is_bounded_in_the_run(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals", keep_alive_min=30)
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and outcome.cost_usd is not None
    waited_s = outcome.cost_usd * 3600 / 0.7364 - 266  # billed since the end, up to the last look
    assert 0 < waited_s < 120
    assert outcome.kept_usd_at_most == pytest.approx((1800 - waited_s) * 0.7364 / 3600)
    assert metrics(entry.directory, names.WARM_POOL_COST_USD_AT_MOST) == [(3, outcome.kept_usd_at_most)]


@pytest.mark.parametrize(
    ("plan", "state", "status", "kind", "told"),
    [
        (
            Plan(
                fails_in="Training",
                fails_after_epochs=0,
                failure="ClientError: Unable to start training. Empty .rec file in train channel., exit code: 2",
            ),
            "failed",
            "FAILED",
            "data",
            "packer found no picture",
        ),
        (Plan(fails_in="Starting"), "failed", "FAILED", "capacity", "no such machine free"),
        (
            Plan(fails_in="Downloading", failure="ClientError: Data download failed: Access Denied (403 Forbidden)"),
            "failed",
            "FAILED",
            "permission",
            "role may not",
        ),
        (
            Plan(fails_in="Training", failure="AlgorithmError: , exit code: 1"),
            "failed",
            "FAILED",
            "algorithm",
            "log's last lines",
        ),
        (
            Plan(fails_in="Training", failure="AlgorithmError: [Errno 28] No space left on device, exit code: 1"),
            "failed",
            "FAILED",
            "disk",
            "--volume-gb",
        ),
        (
            Plan(
                fails_in="Training",
                failure="InternalServerError: We encountered an internal error. Please try again.",
            ),
            "failed",
            "FAILED",
            "aws",
            "Start the job again",
        ),
    ],
)
def test_failures_are_sorted_and_answered(
    fake: FakeSageMaker, tmp_path: Path, plan: Plan, state: str, status: str, kind: str, told: str
) -> None:
    fake.plan("*", plan)
    entry = launched(fake, tmp_path / "journals")
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and (outcome.state, outcome.kind) == (state, kind)
    assert told in outcome.advice and outcome.model_uri == ""
    ((written, reason),) = statuses(entry.directory)
    assert written == status and told in reason and outcome.reason in reason
    assert tags(entry.directory)[names.FAILURE_KIND] == kind
    if kind == "capacity":  # no machine, no bill
        assert metrics(entry.directory, names.COST_USD) == [(0, 0)]


def test_a_time_limit_stops_but_keeps_the_model(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals", max_runtime_s=180)
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and (outcome.state, outcome.kind) == ("killed", "limit")
    assert outcome.reason == "stopped at its time limit of 180 s" and outcome.model_uri.endswith("model.tar.gz")
    assert statuses(entry.directory)[0][0] == "KILLED"
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name) != []


def test_a_job_stopped_on_request(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals")
    watch, aws = JobWatch(entry, door(fake)), door(fake)
    fake.clock.sleep(20)
    watch.poll()
    aws.call("sagemaker", "StopTrainingJob", TrainingJobName=entry.name)
    while watch.outcome is None:
        fake.clock.sleep(15)
        watch.poll()
    assert (watch.outcome.state, watch.outcome.kind, watch.outcome.reason) == (
        "killed",
        "stopped",
        "stopped on request",
    )
    assert "No model was left" in watch.outcome.advice and watch.outcome.model_uri == ""


def test_spot_comes_back_and_saves_money(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.plan("*", Plan(interrupted_after_s=(70.0,)))
    entry, heard = launched(fake, tmp_path / "journals", spot=True), Heard()
    (outcome,) = watch_many([entry], aws=door(fake), listener=heard)
    assert outcome is not None and outcome.state == "finished"
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name)
    assert metrics(entry.directory, "interrupted_s") == [(3, 120)]
    ((_, saving),) = metrics(entry.directory, names.SPOT_SAVING)
    assert saving == pytest.approx(0.7, abs=0.01)
    assert "interrupted" in heard.phases
    assert sum("Docker entrypoint" in line for line in heard.log) == 2  # both attempts' streams were read


def test_spot_that_never_starts(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.plan("*", Plan(never_starts=True))
    entry = launched(fake, tmp_path / "journals", spot=True, max_runtime_s=600, max_wait_s=900)
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and (outcome.state, outcome.kind) == ("killed", "limit")
    assert "spot capacity" in outcome.reason and metrics(entry.directory, names.COST_USD) == [(0, 0)]


@pytest.mark.parametrize("how", ["throttle", "drop", "500", "expired"])
def test_disturbances_are_waited_out(fake: FakeSageMaker, tmp_path: Path, how: str) -> None:
    entry = launched(fake, tmp_path / "journals")
    aws = door(fake)
    fake.fail_next("DescribeTrainingJob", 7, how)
    fake.fail_next("Logs.*", 7, how)
    (outcome,) = watch_many([entry], aws=aws)
    assert outcome is not None and outcome.state == "finished"
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name)


def test_expired_keys_are_waited_out_at_every_stage(
    fake: FakeSageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits to be launched, runs, is stopped, and while its model is looked for: one job, and it ends well."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    where, heard = launcher(fake, tmp_path / "journals"), Heard()
    entry, journal = where.record(where.plan(replace(CONFIG, epochs=300)))
    stages = ("CreateTrainingJob", "DescribeTrainingJob", "Logs.GetLogEvents", "StopTrainingJob", "S3.HEAD")
    for operation in stages:
        fake.fail_next(operation, 3, "expired")
    how: dict[str, Any] = {"journals": {entry.journal_id: journal}, "listener": heard, "max_cost_usd": 0.50}
    (outcome,) = watch_many([entry], aws=where.aws, **how)
    assert outcome is not None and (outcome.state, len(fake.jobs)) == ("killed", 1)
    assert outcome.model_uri and (outcome.cost_usd or 1) <= 0.50
    assert [status for status, _ in statuses(entry.directory)] == ["KILLED"]
    for operation in stages:
        assert fake.count(operation, "ExpiredToken" if "S3" in operation else "ExpiredTokenException") == 3
    assert sum("renew them. It is not launched yet; trying again." in text for text in heard.said) == 1
    assert [text for text in heard.said if "max-cost" in text] == ["stopped: --max-cost $0.5 would be passed"]


def test_a_job_that_another_process_gave_up_is_not_launched(fake: FakeSageMaker, tmp_path: Path) -> None:
    """Nor one that it holds: it may be sending it at this moment."""
    where, heard = launcher(fake, tmp_path / "journals"), Heard()
    entry, journal = where.record(where.plan(CONFIG))
    assert watch_many([entry], aws=where.aws, listener=heard) == [None]
    assert "not launched yet, and no longer tried" in heard.said[-1] and "being written by process" in heard.said[-1]
    JobWatch(entry, where.aws, journal=journal).abandon("not launched: stopped before", "stopped")
    (outcome,) = watch_many([entry], aws=where.aws)
    assert outcome is not None and outcome.state == "killed" and not fake.jobs


@pytest.mark.parametrize(
    ("code", "message", "ends"),
    [
        ("ValidationException", "Requested image 1.dkr.ecr.us-east-1.amazonaws.com/x:1 not found.", "failed"),
        ("AccessDeniedException", "User: x is not authorized to perform: sagemaker:CreateTrainingJob", "failed"),
        ("OptInRequired", "The AWS Access Key Id needs a subscription for the service", ""),
        ("UnrecognizedClientException", "The security token included in the request is invalid.", "finished"),
        ("InvalidSignatureException", "Signature expired: 20261126T101500Z is now earlier than …", "finished"),
    ],
)
def test_a_refused_launch_ends_its_run_only_where_nothing_else_can_come_of_it(
    fake: FakeSageMaker, tmp_path: Path, code: str, message: str, ends: str
) -> None:
    """And it keeps no other job waiting, nor one that runs unwatched."""
    where = launcher(fake, tmp_path / "journals")
    entries = []
    for epochs in (2, 3):
        entry, journal = where.record(where.plan(replace(CONFIG, epochs=epochs)))
        journal.close()
        entries.append(entry)
    fake.refuse_next("CreateTrainingJob", code, message)
    first, second = watch_many(entries, aws=where.aws)
    assert (first.state if first is not None else "") == ends
    assert second is not None and second.state == "finished" and len(fake.jobs) == 1 + (ends == "finished")
    kept = ledger.load(entries[0].directory)
    assert kept is not None and kept.ended == ends


def test_without_leave_to_read_the_log_the_job_is_still_watched(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry, heard = launched(fake, tmp_path / "journals"), Heard()
    fake.fail_next("Logs.*", 1000, "denied")
    (outcome,) = watch_many([entry], aws=door(fake), listener=heard)
    assert outcome is not None and outcome.state == "finished" and outcome.billable_s == 266
    assert sum("The log cannot be read" in text for text in heard.said) == 1
    # What SageMaker itself read from the log: the last scores, of no known epoch.
    last = fake.job(entry.name).truth[-1]
    assert metrics(entry.directory, names.TRAIN_ACCURACY) == [(0, last[1])]
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == [(0, last[2])]


def test_without_leave_to_look_at_all_it_says_so(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry, heard = launched(fake, tmp_path / "journals"), Heard()
    fake.fail_next("DescribeTrainingJob", 1000, "denied")
    (outcome,) = watch_many([entry], aws=door(fake), listener=heard)
    assert outcome is None and "not authorized to perform: sagemaker:DescribeTrainingJob" in heard.said[-1]
    assert statuses(entry.directory) == []  # it may well be running


def test_a_job_that_sagemaker_does_not_know(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals")
    del fake.jobs["us-east-1", entry.name]
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and outcome.state == "killed" and "no longer knows" in outcome.reason
    assert outcome.cost_usd is None and metrics(entry.directory, names.COST_USD) == []  # it may have run for hours
    found = tags(entry.directory)
    assert (found[names.FAILURE_KIND], found[names.ADVICE]) == ("stopped", "Launch it anew.")


def test_the_last_attempt_of_a_spot_job_is_read_however_short_and_late(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.plan("*", Plan(interrupted_after_s=(20.0,), epoch_s=10, log_lag_s=150, downloading_s=5, image_s=5))
    entry, heard = launched(fake, tmp_path / "journals", replace(CONFIG, epochs=6), spot=True), Heard()
    watch_many([entry], aws=door(fake), listener=heard)
    assert len(validation(fake, entry.name)) == 6
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name)
    assert sum("Docker entrypoint" in line for line in heard.log) == 2


def test_a_log_that_never_shows_the_last_epoch_is_not_waited_for_longer_than_some_minutes(
    fake: FakeSageMaker, tmp_path: Path
) -> None:
    fake.plan("*", Plan(log_lag_s=1e6))
    entry = launched(fake, tmp_path / "journals")
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and outcome.state == "finished"
    ended_s = fake.job(entry.name).ended_at
    assert ended_s is not None and fake.clock.now() - ended_s < 360


def test_a_log_whose_tokens_keep_changing_does_not_hold_the_watcher(
    fake: FakeSageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a listing of streams: each answer says that there is more, and has nothing."""
    entry, aws = launched(fake, tmp_path / "journals"), door(fake)
    call, count = aws.call, iter(range(10**9))

    def restless(service: str, operation: str, **arguments: Any) -> Any:
        if operation == "GetLogEvents" and fake.clock.now() - fake.job(entry.name).created > 500:
            return {"events": [], "nextForwardToken": f"f/{next(count)}", "nextBackwardToken": "b/0"}
        return call(service, operation, **arguments)

    monkeypatch.setattr(aws, "call", restless)
    (outcome,) = watch_many([entry], aws=aws)
    assert outcome is not None and outcome.state == "finished" and next(count) < 5000
    monkeypatch.setattr(aws, "call", lambda *which, **what: {"logStreams": [], "nextToken": f"t{next(count)}"})
    with pytest.raises(AwsError, match="empty pages without end"):
        list(aws.pages("logs", "DescribeLogStreams"))


def test_the_log_holds_each_line_once_when_reading_it_anew_is_interrupted(
    fake: FakeSageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that has expired: from the beginning, past what is known, which takes several pages."""
    lines = [{"timestamp": number, "message": f"line {number}"} for number in range(40)]
    aws, refusals = door(fake), iter(("old", "down"))

    def call(service: str, operation: str, **arguments: Any) -> Any:
        if operation == "DescribeLogStreams":
            return {"logStreams": [{"logStreamName": "job/algo-1-1"}]}
        token = arguments.get("nextToken", "f/0")
        if token == "f/old" and next(refusals, "") == "old":
            raise Rejected("The specified nextToken is invalid.")
        start = int(token.removeprefix("f/"))
        if start == 10 and next(refusals, "") == "down":
            raise Unreachable("no answer")
        return {"events": lines[start : start + 10], "nextForwardToken": f"f/{min(start + 10, len(lines))}"}

    monkeypatch.setattr(aws, "call", call)
    reader = LogReader(aws, "job", {"streams": {"job/algo-1-1": {"token": "f/old", "read": 30}}})
    with pytest.raises(Unreachable):
        list(reader.read(drain=True))
    assert [line.text for page in reader.read(drain=True) for line in page] == [f"line {n}" for n in range(30, 40)]


def test_a_watcher_killed_at_any_moment(fake: FakeSageMaker, tmp_path: Path) -> None:
    """Its state is as old as can be at every pick-up: nothing is lost, nothing is there twice."""
    entry = launched(fake, tmp_path / "journals")
    state = entry.directory / "watch.json"
    former, aws = None, door(fake)
    for _ in range(60):
        watch = JobWatch(entry, aws)
        watch.poll()
        if watch.outcome is not None:
            break
        watch.close()
        now = state.read_text()
        if former is None:
            state.unlink()  # killed before it could say how far it was
        else:
            state.write_text(former)  # killed after the journal was written, before the state was
        former = now
        fake.clock.sleep(13)
    else:
        raise AssertionError("the job never ended")
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name)
    assert [status for status, _ in statuses(entry.directory)] == ["FINISHED"]
    assert len(metrics(entry.directory, names.BILLABLE_TIME_S)) == 1
    log = (entry.directory / "files" / "log.txt").read_text()
    assert log.count("Docker entrypoint") == 1 and log.count("Validation-accuracy") == 3


def test_a_watcher_killed_while_it_finishes(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals")
    (first,) = watch_many([entry], aws=door(fake))
    state = entry.directory / "watch.json"
    values = json.loads(state.read_text())
    del values["outcome"]  # all was written but the last word
    state.write_text(json.dumps(values))
    before = sum(event["event"] == "metric" for event, _ in read(entry.directory))
    (again,) = watch_many([entry], aws=door(fake))
    assert again == first
    assert sum(event["event"] == "metric" for event, _ in read(entry.directory)) == before
    assert len(statuses(entry.directory)) == 1


def test_a_closed_laptop(fake: FakeSageMaker, tmp_path: Path) -> None:
    """The log's token is good for a day; afterwards the log is read anew, and what is known is passed over."""
    entry = launched(fake, tmp_path / "journals")
    watch = JobWatch(entry, door(fake))
    for _ in range(20):
        fake.clock.sleep(15)
        watch.poll()
    watch.close()
    state = entry.directory / "watch.json"
    values = json.loads(state.read_text())
    (stream,) = values["streams"].values()
    assert stream["read"] > 0
    stream["token"] = "f/expired"
    state.write_text(json.dumps(values))
    fake.clock.sleep(3600)
    (outcome,) = watch_many([entry], aws=door(fake))
    assert outcome is not None and outcome.state == "finished"
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == validation(fake, entry.name)
    assert (entry.directory / "files" / "log.txt").read_text().count("Validation-accuracy") == 3


def test_two_watchers_do_not_write_one_journal(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry, heard = launched(fake, tmp_path / "journals"), Heard()
    watch = JobWatch(entry, door(fake))
    watch.poll()
    (outcome,) = watch_many([entry], aws=door(fake), listener=heard)
    assert outcome is None and "is being written by process" in heard.said[-1]
    watch.close()


def test_an_ended_job_is_not_asked_about_again(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals")
    (first,) = watch_many([entry], aws=door(fake))
    calls = len(fake.calls)
    loaded = ledger.load(entry.directory)
    assert loaded is not None and loaded.ended == "finished"
    (again,) = watch_many([loaded], aws=door(fake))
    assert again == first and len(fake.calls) == calls


def test_the_params_are_those_of_the_launch(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals")
    params: dict[str, str] = {}
    for event, _ in read(entry.directory):
        params |= event["values"] if event["event"] == "param" else {}
    # What the algorithm has no setting for (the seed, how data of this machine are split) is none of its parameters.
    foreign = ("seed", "resnet_version", "split_seed", "validation_fraction", "test_fraction")
    assert params == {key: str(value) for key, value in CONFIG.params().items() if key not in foreign} | {
        "dataset": "s3://bucket-one/data/train/"
    }


def test_statuses_that_do_not_exist_yet_count_as_under_way() -> None:
    described = {
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Levitating",
        "SecondaryStatusTransitions": [{"Status": "Levitating", "StartTime": 10.0, "StatusMessage": ""}],
    }
    assert phases.state(described) == "running" and phases.end(described) is None
    assert [phase.name for phase in phases.phases(described)] == ["levitating"]
    assert phases.times(described, 20.0) == {}


def test_billed_so_far_leaves_out_waiting() -> None:
    def at(status: str, start: float, end: float | None) -> dict[str, Any]:
        return {"Status": status, "StartTime": start, "StatusMessage": "", **({} if end is None else {"EndTime": end})}

    described = {
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Training",
        "SecondaryStatusTransitions": [
            at("Starting", 0, 100),
            at("Downloading", 100, 130),
            at("Training", 130, 200),
            at("Interrupted", 200, 260),
            at("Starting", 260, 300),
            at("Training", 300, None),
        ],
    }
    assert phases.billed_s(described, 350.0) == 30 + 70 + 50
    assert phases.times(described, 350.0)["starting_s"] == 140


def test_runs_whose_follower_died_are_not_said_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tracking.store.replay", None)
    live = LiveReplay(Store(f"sqlite:///{tmp_path}/mlflow.db", None, tmp_path), [])
    assert "tracking.store.replay" in (live.finish(60) or "")
