"""Finished jobs of the account, whoever launched them, become runs once: with their logs and bills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws.account import BUILTIN, World, build, world
from tests.support.aws.batch import Queue
from tests.support.aws.fake import Plan
from tests.support.aws.launches import launched, metrics
from tracking import names
from tracking.store import Store
from trainers import jobs
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.watch import adopt as history
from trainers.sagemaker.watch.many_jobs import watch_many


@pytest.fixture
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as account:
        yield account


def _launch(account: World, *names: str, num_machines: int = 1, leave_out: tuple[str, ...] = (), **plan: Any) -> None:
    """By hand, as the console would, without the hyperparameters of ``leave_out``."""
    channels = account.put_records()
    for name in names:
        account.fake.plan(name, Plan(epoch_s=10.0, **plan))
        built, _, _ = build(channels, replace(BUILTIN, epochs=3))
        del built["Tags"]
        built["ResourceConfig"]["InstanceCount"] = num_machines
        for key in leave_out:
            built["HyperParameters"].pop(key, None)
        account.aws.call("sagemaker", "CreateTrainingJob", **{**built, "TrainingJobName": name})


def _let_pass(account: World, seconds: float = 3600.0) -> None:
    account.fake.clock.sleep(seconds)


def test_finished_jobs_become_runs_with_metrics_cost_and_log(account: World, store: Store) -> None:
    _launch(account, "signs-1", "signs-2", "other-1")
    _launch(account, "signs-bad", fails_in="Training", failure="ClientError: Invalid lst file, exit code: 2")
    _let_pass(account)
    _launch(account, "signs-running")
    _let_pass(account, 60.0)
    said: list[str] = []
    done = history.import_jobs(account.aws, store, name_contains="signs", say=said.append)
    assert done == history.Imported(num_found=3, num_new=3)
    runs = {run.info.run_name: run for run in store.runs()}
    assert runs.keys() == {"signs-1", "signs-2", "signs-bad"}
    run, job = runs["signs-1"], account.fake.job("signs-1")
    assert run.info.status == "FINISHED" and runs["signs-bad"].info.status == "FAILED"
    assert run.data.params["num_layers"] == "20" and run.data.params["epochs"] == "3"
    history_of = store.client().get_metric_history(run.info.run_id, "validation_accuracy")
    assert [(m.step, m.value) for m in history_of] == [(epoch, validation) for epoch, _, validation in job.truth]
    billed = job.describe()["BillableTimeInSeconds"]
    assert run.data.metrics["billable_time_s"] == billed
    assert run.data.metrics["cost_usd"] == pytest.approx(billed * 0.7364 / 3600)
    assert run.data.tags["job_arn"] == job.arn and "table of 2026-09" in run.data.tags["price"]
    assert run.info.start_time == int(job.created * 1000)
    assert [f.path for f in store.client().list_artifacts(run.info.run_id)] == ["log.txt"]
    assert any(line.startswith("signs-1: finished, $0.0") for line in said)


def test_importing_again_adds_nothing_here_or_elsewhere(account: World, store: Store, workdir: Path) -> None:
    _launch(account, "signs-1", "signs-2")
    _let_pass(account)
    assert history.import_jobs(account.aws, store).num_new == 2
    before = {run.info.run_id: run.data.to_dictionary() for run in store.runs()}
    assert history.import_jobs(account.aws, store) == history.Imported(num_found=2, num_known=2)
    # Another machine that logs to the same store has no journals of these jobs.
    elsewhere = replace(store, journals=workdir / "elsewhere")
    assert history.import_jobs(account.aws, elsewhere) == history.Imported(num_found=2, num_known=2)
    assert {run.info.run_id: run.data.to_dictionary() for run in store.runs()} == before


def test_serverless_jobs_are_left_out_and_settled_ones_not_waited_for(account: World, store: Store) -> None:
    _launch(account, "tuned-1", serverless=True)
    _launch(account, *(f"signs-{number}" for number in range(4)), bill_lag_s=1e9)
    _let_pass(account)
    before_s = account.fake.clock.now()
    said: list[str] = []
    done = history.import_jobs(account.aws, store, say=said.append)
    assert done == history.Imported(num_found=5, num_new=4, num_serverless=1)
    assert account.fake.clock.now() - before_s < 10  # all that passes is the pace of calls
    assert not any("tuned" in text for text in said) and sum(1 for _ in store.runs()) == 4
    assert history.import_jobs(account.aws, store) == history.Imported(num_found=5, num_known=4, num_serverless=1)


def test_a_job_that_came_in_from_its_description_is_known(account: World, store: Store, workdir: Path) -> None:
    from tracking.__main__ import main

    _launch(account, "signs-1", "signs-2")
    _let_pass(account)
    described = account.aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName="signs-1")
    (workdir / "job.json").write_text(json.dumps(described, default=str), encoding="utf-8")
    assert main(["import", "job.json"]) == 0
    assert history.import_jobs(account.aws, store) == history.Imported(num_found=2, num_new=1, num_known=1)
    assert sorted(run.info.run_name for run in store.runs()) == ["signs-1", "signs-2"]
    assert main(["import", "job.json"]) == 0 and len(list(store.runs())) == 2


def test_the_attempts_of_a_queued_job_are_its_run_and_no_others(account: World, store: Store) -> None:
    account.put("data/train/train.rec", b"pictures")
    account.put("data/validation/validation.rec", b"pictures")
    account.fake.batch.queues["gpus"] = Queue(name="gpus")
    broken = Plan(fails_in="Training", failure="InternalServerError: We encountered an internal error.")
    account.fake.batch.launches = dict(enumerate([broken])).get
    entry = launched(account.fake, store.journals, queue="gpus")
    for _ in range(8):
        _let_pass(account, 600.0)
    done = history.import_jobs(account.aws, store)
    assert len(account.fake.jobs) == 2 and done == history.Imported(num_found=2, num_new=1, num_known=1)
    assert history.import_jobs(account.aws, store) == history.Imported(num_found=2, num_known=2)
    (run,) = store.runs()
    assert run.info.status == "FINISHED" and run.data.tags[names.JOB_NAME] == entry.name


def test_an_import_that_was_stopped_is_gone_on_with(account: World, store: Store) -> None:
    from trainers.sagemaker.watch.adopt import adopt

    _launch(account, "signs-1")
    _let_pass(account)
    adopt(account.aws, "signs-1", store.journals, profile=None, experiment="signs")  # and killed
    assert history.import_jobs(account.aws, store).num_new == 1
    (run,) = store.runs()
    assert run.info.status == "FINISHED" and "cost_usd" in run.data.metrics


def test_many_jobs_stay_within_the_listing_s_rate(account: World, store: Store) -> None:
    _launch(account, *(f"job-{number}" for number in range(12)))
    _let_pass(account)
    for _ in range(7):
        assert len(list(history.finished(account.aws))) == 12
    assert account.fake.fastest_second("ListTrainingJobs") <= 2
    assert account.fake.count("ListTrainingJobs", "ThrottlingException") == 0


def test_since_leaves_older_jobs_out(account: World, store: Store) -> None:
    _launch(account, "old-1")
    _let_pass(account, 7200.0)
    _launch(account, "new-1")
    _let_pass(account, 3000.0)
    now_s = account.fake.clock.now()
    assert [name for name, _ in history.finished(account.aws, since_s=now_s - 3600)] == ["new-1"]
    assert [name for name, _ in history.finished(account.aws)] == ["new-1", "old-1"]


def test_a_job_that_may_not_be_read_is_said_and_left(account: World, store: Store) -> None:
    _launch(account, "signs-1")
    _let_pass(account)
    account.fake.fail_next("DescribeTrainingJob", 1, "denied")
    said: list[str] = []
    done = history.import_jobs(account.aws, store, say=said.append)
    assert (done.num_failed, done.num_new) == (1, 0)
    assert "signs-1: not imported: DescribeTrainingJob: User: arn:aws:iam" in said[0]
    assert history.import_jobs(account.aws, store).num_new == 1


def test_the_command_line(
    account: World, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _launch(account, "signs-1")
    _let_pass(account)
    # The command's own door sleeps on the machine's clock; the test's must not.
    monkeypatch.setattr(history, "Aws", lambda **kwargs: Aws(**{**kwargs, "clock": account.fake.clock}))
    assert jobs.main(["import", "--name-contains", "signs", "--since", "30d", "--region", "us-east-1"]) == 0
    out = capsys.readouterr().out
    assert "1 finished jobs found: 1 new, 0 known already, 0 not read" in out
    assert jobs.main(["import", "--since", "yesterday", "--region", "us-east-1"]) == 2
    assert "--since 'yesterday'" in capsys.readouterr().err


@pytest.mark.parametrize(("keeper", "late_s"), [(1, 0.0), (2, 0.0), (1, 70.0), (2, 70.0)])
def test_of_two_machines_the_curve_is_that_of_the_one_whose_model_is_kept(
    keeper: int, late_s: float, account: World, tmp_path: Path
) -> None:
    _launch(account, "pair", num_machines=2, keeper=keeper, second_lag_s=late_s)
    entry = history.adopt(account.aws, "pair", tmp_path, profile=None, experiment="pets")
    watch_many([entry], aws=account.aws)
    epochs = [(epoch, score) for epoch, _, score in account.fake.job("pair").truth]
    assert metrics(entry.directory, "validation_accuracy") == epochs
    other = f"_algo-{3 - keeper}"
    assert metrics(entry.directory, f"validation_accuracy{other}") == [
        (epoch, pytest.approx(score - 0.01)) for epoch, score in epochs
    ]
    best = max(account.fake.job("pair").truth, key=lambda row: row[2])
    assert metrics(entry.directory, "best_epoch") == [(3, best[0])]
    for name in ("images_per_s", f"images_per_s{other}"):
        assert metrics(entry.directory, name) == [(epoch, pytest.approx(114.166)) for epoch in (1, 2, 3)]


def test_settings_that_the_job_was_not_given_come_from_its_log(account: World, store: Store) -> None:
    _launch(account, "signs-1", leave_out=("num_layers", "optimizer", "momentum"))
    _let_pass(account)
    history.import_jobs(account.aws, store)
    (run,) = store.runs()
    # The algorithm's own; momentum is 0 in its configuration and something else in its training: that is left open.
    assert run.data.params["num_layers"] == "152" and run.data.params["epochs"] == "3"
    assert "momentum" not in run.data.params
