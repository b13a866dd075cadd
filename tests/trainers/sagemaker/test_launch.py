"""``python -m trainers.run --on sagemaker-builtin`` end to end against the fake: check, ask, launch, watch, rank."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.aws.fake import FakeSageMaker, ManualClock, Plan, ScaledClock
from tests.support.aws.launches import CONFIG, ROLE, account, launcher, options
from tests.support.pictures import class_folders
from tests.support.stores import make_store
from tracking import names
from tracking.store import resolve
from trainers import jobs, run
from trainers.config import study as studies
from trainers.errors import BadConfig, BadInput
from trainers.sagemaker.command import search
from trainers.sagemaker.command.launch import submit
from trainers.sagemaker.rehearsal import some_of_each
from trainers.sagemaker.watch.many_jobs import Fleet

pytestmark = pytest.mark.slow

QUICK = Plan(starting_s=20, downloading_s=10, image_s=10, epoch_s=20, uploading_s=5, log_lag_s=1)
JOB = [
    "--on=sagemaker-builtin",
    f"--role={ROLE}",
    "--output=s3://bucket-one/jobs",
    "--region=us-east-1",
    "--train=s3://bucket-one/data/train/",
    "--validation=s3://bucket-one/data/validation/",
    "--num-layers=18",
    "--image-shape=3,224,224",
    "--num-classes=2",
    "--num-training-samples=640",
    "--epochs=2",
    "--poll=0.1",
]


@pytest.fixture
def fake(tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    make_store(workdir)
    with account(tmp_path / "fake", monkeypatch, ScaledClock(240.0), default=QUICK) as fake:
        yield fake


def test_a_dry_run_prints_the_request_and_sends_nothing(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run.main([*JOB, "--dry-run"])
    captured = capsys.readouterr()
    request = json.loads(captured.out)
    assert request["HyperParameters"]["num_layers"] == "18" and request["RoleArn"] == ROLE
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] > 0
    assert code in (0, 2) and captured.err.strip()
    assert not fake.jobs


def test_preflight_errors_stop_the_launch(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    """The fake's channels hold no RecordIO, which costs minutes of a rented machine to find out there."""
    assert run.main([*JOB, "--yes"]) == 2
    assert "--force" in capsys.readouterr().err
    assert not fake.jobs


def test_a_job_is_not_launched_unless_somebody_agrees(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([*JOB, "--force"]) == 2  # nobody at the keyboard
    captured = capsys.readouterr()
    assert "--yes" in captured.err and "estimate" in captured.err
    assert not fake.jobs


def test_a_launched_job_becomes_a_run_with_its_cost(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([*JOB, "--yes", "--force", "--run-name=cats"]) == 0
    said = capsys.readouterr().out
    assert "Training" in said or "training" in said
    (logged,) = resolve().runs()
    assert logged.info.status == "FINISHED" and logged.data.params["num_layers"] == "18"
    assert logged.data.metrics[names.COST_USD] > 0 and logged.data.tags[names.LAUNCHER] == "sagemaker-builtin"
    assert names.TEST_ACCURACY not in logged.data.metrics


def test_a_job_is_submitted_from_python(fake: FakeSageMaker) -> None:
    with pytest.raises(BadInput, match="the preflight found errors"):
        submit(CONFIG, options(), "sagemaker-builtin")
    assert not fake.jobs
    job = submit(CONFIG, options(), "sagemaker-builtin", force=True)
    assert job.wait(poll_s=0.1) == "finished" and [name for _, name in fake.jobs] == [job.id]
    with pytest.raises(BadConfig, match="--role is needed"):
        submit(CONFIG, options(role=None))


def test_a_study_becomes_jobs_and_ends_with_the_leaderboard(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.toml").write_text("[[runs]]\nname = 'cats'\nlearning_rate = [0.1, 0.01]\n")
    assert run.main([*JOB, "--yes", "--force", "--study=two.toml", "--leaderboard=board.md"]) == 0
    assert len(fake.jobs) == 2
    assert "# Leaderboard" in Path("board.md").read_text()
    assert {one.data.tags[names.STUDY] for one in resolve().runs()} == {"two"}


def test_a_study_goes_on_where_it_was(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    """What is done is not paid for again, what is under way is followed; the file's own table names the account."""
    account = f"[sagemaker]\nrole = '{ROLE}'\noutput = 's3://bucket-one/jobs'\nregion = 'us-east-1'\n"
    Path("two.toml").write_text(account + "[[runs]]\nname = 'cats'\nlearning_rate = [0.1, 0.01]\n")
    job = [word for word in JOB if not word.startswith(("--role", "--output", "--region"))]
    argv = [*job, "--yes", "--force", "--study=two.toml"]
    assert run.main([*argv, "--detach", "--max-cost=1"]) == 0
    assert "each of the 2 jobs may cost $0.50 at most" in capsys.readouterr().err
    # Half a dollar at 0.7364 an hour is 2444 s, less 320 s for all that is billed beside the training.
    assert {job.max_runtime_s for job in fake.jobs.values()} == {2444 - 320}
    assert run.main(argv) == 0
    captured = capsys.readouterr()
    assert "2 runs, 0 already done, 2 under way" in captured.err and len(fake.jobs) == 2
    assert run.main([*argv, "--dry-run"]) == 0 and json.loads(capsys.readouterr().out) == []
    assert captured.out.count("finished, billed") == 2 and "# Leaderboard" in captured.out
    assert run.main(argv) == 0
    assert "2 runs, 2 already done, 0 under way" in capsys.readouterr().err and len(fake.jobs) == 2
    assert run.main([*argv, "--again", "--dry-run"]) == 2  # the fake's data are no records
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_a_study_of_different_runs_is_priced_run_by_run(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.toml").write_text("[[runs]]\nname = 'short'\nepochs = 10\n[[runs]]\nname = 'long'\nepochs = 100\n")
    job = [word for word in JOB if not word.startswith(("--epochs", "--num-training"))]
    assert run.main([*job, "--num-training-samples=100000", "--force", "--study=two.toml", "--max-cost=2"]) == 2
    said = capsys.readouterr().err
    (short,) = re.findall(r"short: about .* billed, \$([\d.]+)", said)
    (long,) = re.findall(r"long: about .* billed, \$([\d.]+)", said)
    assert float(long) > 5 * float(short)
    (total,) = re.findall(r"estimate .* billed, \$([\d.]+) in all", said)
    assert float(total) == pytest.approx(float(short) + float(long), abs=0.02)
    assert f"all 2 jobs are estimated at ${total}, --max-cost is $2.00" in said


def test_runs_that_start_from_another_wait_for_it_or_are_refused(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.toml").write_text("[[runs]]\nname = 'first'\n[[runs]]\nname = 'second'\ninit = 'run:first'\n")
    assert run.main([*JOB, "--study=two.toml", "--dry-run"]) == 2
    assert "second start from another run of the study, and the built-in takes no weights" in capsys.readouterr().err
    own = ["--on=sagemaker", f"--role={ROLE}", "--output=s3://bucket-one/jobs", "--region=us-east-1", "--num-layers=20"]
    assert run.main([*own, "--study=two.toml", "--detach", "--yes"]) == 2
    assert "Leave --detach out" in capsys.readouterr().err
    run.main([*own, "--study=two.toml", "--dry-run"])
    first, second = json.loads(capsys.readouterr().out)
    assert [channel["ChannelName"] for channel in first["InputDataConfig"]] == ["code"]
    assert [channel["ChannelName"] for channel in second["InputDataConfig"]] == ["init", "code"]
    assert not fake.jobs


def test_going_on_with_a_run_of_this_machine_is_refused(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--on=sagemaker", "--resume=0123abcd"]) == 2
    assert "python -m trainers.jobs watch" in capsys.readouterr().err


def test_detached_jobs_go_on_without_us(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([*JOB, "--yes", "--force", "--detach"]) == 0
    assert "python -m trainers.jobs watch" in capsys.readouterr().out
    assert len(fake.jobs) == 1


def test_a_detached_launch_that_was_refused_is_paid_once(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys that expired: repeated, watched or both, whichever comes first."""
    argv = [*JOB, "--yes", "--force", "--detach"]
    fake.fail_next("CreateTrainingJob", 2, "expired")
    for _ in range(2):
        assert run.main(argv) == 1
        said = capsys.readouterr().err
        (name,) = re.findall(r"python -m trainers.jobs watch (\S+)", said)
        assert "Recorded but not launched" in said and "renew them" in said
    assert run.main(argv) == 0
    assert f"launched {name};" in capsys.readouterr().out
    assert jobs.main(["watch", "--poll=0.1", "--quiet"]) == 0
    assert len(fake.jobs) == 1 and [one.info.status for one in resolve().runs()] == ["FINISHED"]
    fake.fail_next("CreateTrainingJob", 1, "expired")
    assert run.main(argv) == 1
    assert run.main([*argv, "--epochs=3"]) == 0  # something else: the other is named
    assert "note: left by an earlier launch. Recorded but not launched" in capsys.readouterr().err
    assert len(fake.jobs) == 2
    assert jobs.main(["watch", "--poll=0.1", "--quiet"]) == 0 and len(fake.jobs) == 3
    fake.fail_next("CreateTrainingJob", 1, "denied")
    assert run.main(argv) == 1
    assert "is not launched: CreateTrainingJob: User" in capsys.readouterr().err
    assert jobs.main(["watch", "--poll=0.1"]) == 0 and len(fake.jobs) == 3  # that one is over


def test_a_study_that_was_refused_is_launched_by_the_next_command(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.toml").write_text("[[runs]]\nname = 'cats'\nlearning_rate = [0.1, 0.01, 0.001]\n")
    argv = [*JOB, "--yes", "--force", "--study=two.toml"]
    fake.fail_next("CreateTrainingJob", 1, "denied")
    assert run.main([*argv, "--detach"]) == 1 and len(fake.jobs) == 2  # one that is refused keeps no other out
    fake.fail_next("CreateTrainingJob", 1, "expired")
    assert run.main([*argv, "--detach"]) == 1 and len(fake.jobs) == 2
    said = capsys.readouterr().err
    assert "1 already done" not in said and len(re.findall(r"watch (\S+)", said)) == 1
    assert run.main([*argv, "--detach"]) == 0 and len(fake.jobs) == 3
    assert run.main(argv) == 0 and len(fake.jobs) == 3


def test_a_jobs_flags_are_refused_for_a_local_run(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--spot", "--detach", "--dry-run"]) == 2
    assert "--spot is for --on sagemaker" in capsys.readouterr().err


def test_machines_are_compared_without_role_or_output(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--dataset", "digits", "--epochs", "2", "--compare-instances"]
    assert run.main(["--on", "sagemaker-builtin", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    usd = [float(line.split("$")[1].split()[0]) for line in lines[1:-3]]
    assert usd == sorted(usd) and any(line.startswith("ml.g4dn.xlarge ") for line in lines)
    assert not any(line.startswith("ml.g6.") for line in lines) and "ml.p2.8xlarge" in lines[-2]
    assert "(no GPU)" in lines[-1] and "at prices of 20" in lines[-3]
    assert run.main(["--on", "sagemaker", *given]) == 0 and "ml.g6.xlarge " in capsys.readouterr().out


def test_account_facts_that_are_missing_come_at_once(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(workdir / "none"))
    assert run.main(["--on=sagemaker", "--num-layers=20"]) == 2
    said = capsys.readouterr().err
    assert "--role" in said and "--output" in said and "--region" in said


def test_a_rehearsal_has_every_class() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 2)
    chosen = some_of_each(labels, 9)
    assert len(chosen) == 9 and set(labels[chosen]) == {0, 1, 2}
    assert list(np.bincount(labels[chosen])) == [4, 3, 2]


def test_a_rehearsal_reads_the_data_that_the_job_would(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["--on=sagemaker-builtin", "--rehearse", "--num-layers=20", "--train=photos", "--validation=digits"]
    assert run.main(argv) == 2
    assert "photos: there is no such file or folder" in capfd.readouterr().err


@pytest.mark.mxnet
def test_a_rehearsal_runs_the_container_on_a_few_batches(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["--on=sagemaker", "--rehearse", "--num-layers=20", "--dataset=digits", "--mini-batch-size=16"]
    assert run.main(argv) == 0
    assert "ran to its end" in capfd.readouterr().out
    assert not (workdir / "mlruns").exists()  # a rehearsal leaves no run behind


@pytest.mark.parametrize("form", ["data set", "channels", "cut"])
def test_test_pictures_seen_in_training_stop_the_launch_before_anything_is_uploaded(
    fake: FakeSageMaker, workdir: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """The container refuses them as well, minutes into a job that is paid for."""
    if form == "cut":  # copies of a class stay together; one under two labels may come apart
        class_folders(workdir / "p", per_class=20, classes=("cat",))
        (workdir / "p/dog").mkdir()
        for number in range(4, 8):
            shutil.copy(workdir / f"p/cat/{number:03}.png", workdir / f"p/dog/copy{number}.png")
    else:
        for start, split in enumerate(("train", "validation", "test")):
            class_folders(workdir / "p" / split, per_class=4, start=100 * start)
        shutil.copy(workdir / "p/train/cat/000.png", workdir / "p/test/cat/leak.png")
    given = [f"--{split}=p/{split}" for split in ("train", "validation", "test")]
    argv = ["--on=sagemaker", *JOB[1:4], "--num-layers=20", "--image-shape=3,28,28", "--resize=28"]
    argv += ["--mini-batch-size=4", *(given if form == "channels" else ["--dataset=p"])]
    s3 = fake.s3
    before = s3.list_objects_v2(Bucket="bucket-one")["KeyCount"]
    assert run.main([*argv, "--yes"]) == 2
    said = capsys.readouterr().err
    assert "test-overlap" in said and "--allow-overlap" in said
    assert form == "cut" or "leak.png" in said
    assert not fake.jobs and s3.list_objects_v2(Bucket="bucket-one")["KeyCount"] == before
    run.main([*argv, "--allow-overlap", "--dry-run"])
    assert "test-overlap" not in capsys.readouterr().err


SEARCH = """
title = "Which learning rate?"
[settings]
num_layers = 18
image_shape = "3,224,224"
num_classes = 2
num_training_samples = 640
epochs = 6
[search]
trials = 8
sampler = "random"
pruner = "median"
let_run = 0.2
seed = 1
[search.space]
learning_rate = { low = 0.0001, high = 1.0, log = true }
"""


def test_a_search_launches_jobs_and_stops_the_hopeless_ones_there(
    tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Values come from the built-in's log; a stopped job keeps what it had, and its cost counts."""
    make_store(workdir)
    Path("rates.toml").write_text(SEARCH)
    plan = replace(QUICK, best_rate=0.01, epoch_s=60)
    with account(tmp_path / "fake", monkeypatch, ManualClock(), default=plan) as fake:
        where = launcher(fake, resolve().journals)
        argv: dict[str, Any] = {"slots": 3, "poll_s": 15.0, "max_time_s": None}
        assert search.run(studies.load("rates.toml"), where, resolve(), **argv) == 0
        said = capsys.readouterr().out
        states = [job.status for job in fake.jobs.values()]
        stopped = states.count("Stopped")
        assert len(states) == 8 and stopped >= 2 and states.count("Completed") == 8 - stopped
        logged = list(resolve().runs())
        (whole,) = [one for one in logged if one.data.tags.get(names.REPORT) == "study"]
        inside = [one for one in logged if one.data.tags.get("mlflow.parentRunId") == whole.info.run_id]
        assert len(inside) == 8 and all(one.data.metrics[names.COST_USD] > 0 for one in inside)
        killed = [one for one in inside if one.info.status == "KILLED"]
        assert len(killed) == stopped and all(names.STOPPED_EARLY in one.data.tags for one in killed)
        assert all(0 < one.data.metrics[names.VALIDATION_ACCURACY] < 1 for one in killed), "with what it had"
        assert f"{stopped} of 8 trials were stopped early, which saved about" in said and " USD less" in said
        assert "The best for how much money" in said
        assert search.run(studies.load("rates.toml"), where, resolve(), **argv) == 0 and len(fake.jobs) == 8


def test_a_search_of_jobs_is_priced_by_a_sample_and_goes_on_with_those_under_way(
    fake: FakeSageMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rates.toml").write_text(SEARCH.replace("trials = 8", "trials = 4"))
    argv = [word for word in JOB if not word.startswith("--epochs")] + ["--study=rates.toml", "--parallel=2"]
    assert run.main([*argv, "--dry-run"]) == 2 and not fake.jobs  # the fake's data are no records
    assert len(json.loads(capsys.readouterr().out)) == 4, "a sample of what may be launched"
    looks = iter(range(100))
    step = Fleet.step

    def interrupted(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
        step(fleet, pool)
        if next(looks) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Fleet, "step", interrupted)
    argv += ["--yes", "--force"]
    assert run.main(argv) == 130 and len(fake.jobs) == 2
    captured = capsys.readouterr()
    assert "all 4 are priced by it" in captured.err and "the same command goes on with the search" in captured.out
    assert run.main(argv) == 0 and len(fake.jobs) == 4
    (whole,) = [one for one in resolve().runs() if one.data.tags.get(names.REPORT) == "study"]
    assert whole.info.status == "FINISHED"
    runs = [one for one in resolve().runs() if names.STUDY_RUN in one.data.tags]
    assert len(runs) == 4 and {one.info.status for one in runs} <= {"FINISHED", "KILLED"}


def test_seeds_are_repeated_as_jobs_until_the_interval_is_narrow(fake: FakeSageMaker) -> None:
    text = "seeds = [0]\n[[runs]]\nname = 'cats'\n[repeat]\nuntil_interval_points = 1\nmost_seeds = 5\n"
    Path("more.toml").write_text(text)
    assert run.main([*JOB, "--yes", "--force", "--study=more.toml"]) == 0
    assert len(fake.jobs) == 3, "three equal scores are known well enough"
