"""``python -m trainers.jobs`` against the fake, on a clock that runs fast: watch, list, logs, stop, wait."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.aws.batch import Queue
from tests.support.aws.fake import FakeSageMaker, Plan, ScaledClock, environment
from tests.support.aws.launches import CONFIG, account, launcher, metrics
from tests.support.forked import Forked
from tests.support.stores import make_store
from tracking import names
from tracking.journal.files import is_held
from tracking.store import resolve
from trainers.jobs import main
from trainers.sagemaker.aws.client import SystemClock
from trainers.sagemaker.job import ledger, submit
from trainers.sagemaker.watch import console
from trainers.sagemaker.watch.many_jobs import Fleet

pytestmark = pytest.mark.slow

QUICK = Plan(starting_s=20, downloading_s=10, image_s=10, epoch_s=20, uploading_s=5, log_lag_s=1)
POLL = ("--poll", "0.1")


@pytest.fixture
def fake(tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    make_store(workdir)
    # The command line's clock is the machine's; the fake lives 60 seconds in each of its own.
    with account(tmp_path / "fake", monkeypatch, ScaledClock(240.0), default=QUICK) as fake:
        yield fake


def recorded(fake: FakeSageMaker, name: str = "cats", *, sent: bool = True, seed: int = 0) -> ledger.Entry:
    where = launcher(fake, resolve().journals)
    entry, journal = where.record(where.plan(replace(CONFIG, run_name=name, seed=seed)))
    journal.close()
    return submit.send(where.aws, entry) if sent else entry


def test_watch_shows_phases_log_and_cost_and_fills_mlflow(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = recorded(fake)
    assert main(["watch", entry.name[:8], *POLL]) == 0
    said = capsys.readouterr().out
    for words in (
        "starting     Starting the training job",
        "downloading  Downloading input data",
        "Epoch[2] Validation",
    ):
        assert words in said
    assert "(starting took 20s)" in said and f"{entry.name}: finished, billed 1m26s, $0.02" in said
    (run,) = resolve().runs()
    assert run.info.status == "FINISHED" and run.data.tags[names.JOB_NAME] == entry.name
    assert run.data.metrics[names.VALIDATION_ACCURACY] == fake.job(entry.name).truth[-1][2]
    assert main(["watch"]) == 0
    assert "no job is under way" in capsys.readouterr().out


def test_watch_answers_a_failure(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    told = "ClientError: The number of input images must be bigger or equal to the mini_batch_size."
    fake.plan("*", replace(QUICK, fails_in="Training", fails_after_epochs=0, failure=told))
    entry = recorded(fake)
    assert main(["watch", entry.name, "--quiet", *POLL]) == 1
    said = capsys.readouterr().out
    assert f"why: {told}" in said and "what to do: Fewer readable pictures than --mini-batch-size" in said


def test_a_watcher_that_is_killed_is_followed_by_another(fake: FakeSageMaker, tmp_path: Path) -> None:
    """SIGKILL in the middle, twice; the third sees the end, and the journal holds everything once."""
    fake.plan("*", replace(QUICK, epoch_s=60))
    entry = recorded(fake, sent=False)  # the first one even has to launch it
    words = ["-m", "trainers.jobs", "watch", entry.name, *POLL]
    env = {**os.environ, **environment(fake)}
    for epochs in (1, 2):
        process = Forked(*words, env=env)
        until = time.monotonic() + 60
        while len(metrics(entry.directory, names.VALIDATION_ACCURACY)) < epochs and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not is_held(entry.directory)
    last = Forked(*words, env=env)
    said, _ = last.communicate()
    assert last.returncode == 0, said
    assert len(fake.jobs) == 1
    truth = [(epoch, value) for epoch, _, value in fake.job(entry.name).truth]
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == truth and len(truth) == 3
    (run,) = resolve().runs()
    assert run.info.status == "FINISHED"
    history = resolve().client().get_metric_history(run.info.run_id, names.VALIDATION_ACCURACY)
    assert [(metric.step, metric.value) for metric in history] == truth


def test_list_tells_how_each_job_stands(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    fake.plan("stuck*", replace(QUICK, never_starts=True))
    ended, stuck, waiting = recorded(fake, "done"), recorded(fake, "stuck"), recorded(fake, "later", sent=False)
    assert main(["watch", ended.name, "--quiet", *POLL]) == 0
    capsys.readouterr()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"\s{2,}", line)[:3] for line in lines[1:]] == [
        [ended.name, "finished", lines[1].split("  ")[0] and re.split(r"\s{2,}", lines[1])[2]],
        [stuck.name, "waiting", "starting"],
        [waiting.name, "waiting", "not launched yet"],
    ]
    assert "1m26s" in lines[1] and "$0.02" in lines[1]
    calls = len(fake.calls)
    assert main(["list", "--offline"]) == 0 and len(fake.calls) == calls
    assert stuck.name in capsys.readouterr().out
    assert main(["list", "--account", "--limit", "1"]) == 0
    account = capsys.readouterr().out.splitlines()
    assert len(account) == 2 and account[1].startswith(stuck.name) and "InProgress" in account[1]


def test_a_damaged_file_keeps_no_other_job_out(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = recorded(fake, "good"), recorded(fake, "bad")
    written = (bad.directory / "job.json").read_text(encoding="utf-8")
    for text in ("{", "[]", '{"name": 3}', written.replace('"created_ms": ', '"created_ms": "x", "former": ')):
        (bad.directory / "job.json").write_text(text, encoding="utf-8")
        assert main(["list", "--offline"]) == 0
        said = capsys.readouterr()
        assert good.name in said.out and bad.name not in said.out
        assert f"{bad.directory / 'job.json'} cannot be read" in said.err
    assert main(["stop", bad.journal_id]) == 1
    assert "Bring it back" in capsys.readouterr().err


def test_logs_wait_and_stop(fake: FakeSageMaker, capsys: pytest.CaptureFixture[str]) -> None:
    fake.plan("stuck*", replace(QUICK, never_starts=True))
    assert main(["wait", recorded(fake, "stuck").name, "--timeout", "0.01", *POLL]) == 124
    entry = recorded(fake)
    assert main(["logs", entry.name, "--follow", *POLL]) == 0
    assert capsys.readouterr().out.count("Validation-accuracy") == 3
    assert main(["wait", entry.name, *POLL]) == 0
    assert main(["stop", entry.name]) == 0 and "nothing to stop: StopTrainingJob" in capsys.readouterr().out
    assert main(["watch", entry.name, "--quiet", *POLL]) == 0
    capsys.readouterr()
    assert (main(["stop", entry.name]), main(["wait", entry.name])) == (0, 0)
    assert capsys.readouterr().out == (
        f"{entry.name}: has ended: finished; there is nothing to stop\n{entry.name}: has ended: finished\n"
    )
    fake.plan("*", replace(QUICK, never_starts=True))
    other = recorded(fake, "dogs")
    assert main(["stop", other.name]) == 0 and main(["wait", other.name, *POLL]) == 1
    never = recorded(fake, "cows", sent=False)
    assert (main(["wait", never.name]), main(["logs", never.name])) == (1, 1)
    assert capsys.readouterr().err.count(f"{never.name}: is recorded and not launched. To launch: python -m") == 2
    assert main(["stop", never.name]) == 0
    loaded = ledger.load(never.directory)
    assert loaded is not None and loaded.ended == "killed" and never.name not in {name for _, name in fake.jobs}
    capsys.readouterr()
    lost = recorded(fake, "pigs", sent=False)
    submit.send(launcher(fake, resolve().journals).aws, lost)
    lost.save()  # AWS has taken it, the answer was lost
    assert main(["stop", lost.name]) == 0 and "asked to end" in capsys.readouterr().out
    assert fake.job(lost.name).status in ("Stopping", "Stopped")
    assert main(["watch", lost.name, *POLL]) == 1 and fake.job(lost.name).status == "Stopped"


def test_a_job_from_elsewhere_is_found_in_the_account(
    fake: FakeSageMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = recorded(fake)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["watch", entry.name, "--quiet", *POLL]) == 0
    (run,) = resolve().runs()
    assert run.data.tags[names.JOURNAL_ID] == entry.journal_id and run.data.params["num_layers"] == "18"
    assert main(["watch", "no-such-job"]) == 2
    assert "neither launched from here nor a training job in us-east-1" in capsys.readouterr().err


def test_a_stranger_s_job_is_spoken_to_without_becoming_a_run(
    fake: FakeSageMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.plan("*", replace(QUICK, never_starts=True))
    entry = recorded(fake)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["stop", entry.name]) == 0 and main(["wait", entry.name, *POLL]) == 1
    assert main(["logs", entry.name]) == 0 and list(ledger.entries(resolve().journals)) == []
    assert main(["stop", "no-such-job"]) == 1
    assert "no-such-job: StopTrainingJob: Requested resource not found" in capsys.readouterr().err


def test_without_aws_the_list_still_says_what_is_known(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = recorded(fake)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert main(["list"]) == 0
    assert re.search(rf"{entry.name}\s+\?\s+Unable to locate credentials", capsys.readouterr().out)


def test_without_the_tracking_server_nothing_is_lost(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = recorded(fake)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    assert main(["watch", entry.name, "--quiet", *POLL]) == 0
    assert "Nothing is lost; bring it in with: python -m tracking sync" in capsys.readouterr().err
    truth = [(epoch, value) for epoch, _, value in fake.job(entry.name).truth]
    assert metrics(entry.directory, names.VALIDATION_ACCURACY) == truth


def test_ctrl_c_leaves_the_jobs_running(fake: FakeSageMaker, workdir: Path) -> None:
    fake.plan("*", replace(QUICK, epoch_s=600))
    entry = recorded(fake)
    env = {**os.environ, **environment(fake)}
    process = Forked("-m", "trainers.jobs", "watch", entry.name, *POLL, env=env)
    for line in process.stdout:
        if "Docker entrypoint" in line:
            break
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130, said
    assert f"Watch again: python -m trainers.jobs watch {entry.name}" in said and "Traceback" not in said
    assert fake.job(entry.name).status == "InProgress" and not is_held(entry.directory)


def test_a_job_that_waits_for_quota_says_so_and_ctrl_c_says_what_is_true(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.quotas["ml.g4dn.xlarge"] = 1
    fake.plan("*", replace(QUICK, never_starts=True))
    running, waiting = recorded(fake), recorded(fake, "dogs", sent=False)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SystemClock, "sleep", lambda self, seconds: interrupted(seconds))
    assert main(["watch", waiting.name, *POLL]) == 130
    said = capsys.readouterr().out
    assert "waits for quota: ml.g4dn.xlarge for training job usage is 1, 1 in use. It is not launched yet" in said
    assert " on. Watch again" not in said and f"Recorded but not launched: {waiting.name}." in said
    assert main(["watch", running.name, waiting.name, *POLL]) == 130
    said = capsys.readouterr().out
    assert f"The job goes on. Watch again: python -m trainers.jobs watch {running.name}\n" in said


def test_faults_of_the_command_line(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, told in ((["frobnicate"], "legal are watch, list"), (["logs"], "required: JOB")):
        assert main(argv) == 2
        assert told in capsys.readouterr().err
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "no jobs\n"


def test_help_needs_neither_boto3_nor_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('boto3', 'botocore', 'mlflow', 'mxnet', 'rich', 'pandas')));"
        "from trainers.jobs import main; main(['watch', '--help'])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "seconds between looks" in done.stdout, done.stderr


def test_the_table_of_many_jobs(tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    with account(tmp_path / "fake", monkeypatch, default=QUICK) as fake:
        entries = [recorded(fake, f"cats-{seed}", seed=seed) for seed in range(2)]
        where = launcher(fake, resolve().journals)
        with console.ManyJobs(out) as view:
            Fleet(entries, lambda entry: where.aws, listener=view, poll_s=5, on_round=view.draw).run()
    said = out.getvalue()
    for name in ("cats-0", "cats-1"):
        assert f"{name}: finished ($0.02)" in said and f"{name}: training" in said and f"{name}: starting" in said


def test_the_verbs_follow_a_job_in_a_queue(
    fake: FakeSageMaker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """While it waits there is no training job, which is said; then it is watched under its own name."""
    fake.batch.queues["gpus"] = Queue(name="gpus", most=0)
    where = launcher(fake, resolve().journals, queue="gpus")
    entries = []
    for seed in range(2):
        entry, journal = where.record(where.plan(replace(CONFIG, run_name=f"cats-{seed}", seed=seed)))
        journal.close()
        entries.append(submit.send(where.aws, entry))
    first, second = (entry.name for entry in entries)
    assert main(["list"]) == 0
    assert "queued: RUNNABLE in gpus; there is no training job yet" in capsys.readouterr().out
    assert main(["logs", first]) == 0 and "is in the queue and has no training job now" in capsys.readouterr().err
    assert main(["wait", first, "--timeout", "0", *POLL]) == 124
    assert main(["stop", second]) == 0 and f"{second}: asked to end" in capsys.readouterr().out
    assert (
        main(["stop", second]) == 0 and "there is nothing to stop: it is FAILED in the queue" in capsys.readouterr().out
    )
    assert main(["wait", second, *POLL]) == 1 and f"{second}: killed" in capsys.readouterr().out
    fake.batch.queues["gpus"].most = 1
    assert main(["wait", first, *POLL]) == 0 and f"{first}: finished" in capsys.readouterr().out
    assert main(["logs", first]) == 0 and "Epoch[2] Validation-accuracy" in capsys.readouterr().out
    assert main(["watch", *POLL]) == 1
    said = capsys.readouterr().out
    assert "RUNNABLE" not in said and f"{second}: killed, billed 0.0s, $0.00" in said and f"{first}: finished" in said
    assert {run.info.status for run in resolve().runs()} == {"FINISHED", "KILLED"} and len(fake.jobs) == 1
