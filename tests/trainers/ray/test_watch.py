"""Jobs of a cluster to every end they can have: each run ends once, a lost one goes on, nothing is there twice."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clock import ManualClock
from tests.support.ray import FakeRay, running
from tracking import names
from tracking.journal import Journal
from tracking.journal.events import journals, read
from tracking.store import resolve
from trainers.config import Config
from trainers.errors import BadConfig, BadInput
from trainers.ray.client import RayClient
from trainers.ray.job import RayLauncher, RayOptions
from trainers.ray.watch import MOST_LOSSES, RayWatch
from trainers.sagemaker.job import ledger
from trainers.sagemaker.watch.many_jobs import watch_many
from trainers.sagemaker.watch.outcome import Outcome

CONFIG = Config(num_layers=20, epochs=4, run_name="cats")
SERVER = {"MLFLOW_TRACKING_URI": "https://mlflow.example.com"}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRay]:
    with running(tmp_path / "cluster") as fake:
        yield fake


def launcher(fake: FakeRay, folder: Path, **environment: str) -> RayLauncher:
    options = RayOptions(address=fake.address, output=str(folder / "out"))
    client = RayClient(fake.address, clock=ManualClock())
    return RayLauncher(options, resolve(folder), client=client, environment=environment)


def recorded(fake: FakeRay, folder: Path, config: Config = CONFIG) -> ledger.Entry:
    where = launcher(fake, folder)
    entry, journal = where.record(where.plan(config))
    journal.close()
    return entry


def node(fake: FakeRay, name: str, first: int, last: int, status: str | None = "FINISHED") -> None:
    """What a run writes under --output in these epochs, beginning anew or going on."""
    job = fake.jobs[name]
    root = Path(job["runtime_env"]["env_vars"]["TRAINERS_OUTPUT"], "journals")
    former = journals(root)
    journal = Journal.reopen(former[0]) if former else Journal.create(root, experiment="x", run_name="cats")
    for epoch in range(first, last + 1):
        journal.metrics({names.VALIDATION_ACCURACY: epoch / 10}, step=epoch)
    if status is not None:
        journal.status(status, reason="" if status == "FINISHED" else "the loss is not a number")
    journal.close()
    job["status"] = "RUNNING"


def watched(fake: FakeRay, entry: ledger.Entry, play: Callable[[str, int], None]) -> Outcome | None:
    """The job's outcome; ``play(name, number)`` says what the cluster does with each submission."""
    client = RayClient(fake.address, clock=ManualClock())
    seen: list[str] = []

    def on_round(_: object) -> None:
        for name in [name for name in fake.jobs if name not in seen]:
            seen.append(name)
            play(name, len(seen))

    how = functools.partial(RayWatch, client=client)
    (outcome,) = watch_many([entry], on_round=on_round, watch_of=lambda entry, aws, **kw: how(entry, **kw), poll_s=1)
    return outcome


def epochs(entry: ledger.Entry) -> list[int]:
    return [event["step"] for event, _ in read(entry.directory) if event["event"] == "metric"]


def statuses(entry: ledger.Entry) -> list[str]:
    return [event["status"] for event, _ in read(entry.directory) if event["event"] == "status"]


def test_a_job_that_goes_well(fake: FakeRay, tmp_path: Path) -> None:
    entry = recorded(fake, tmp_path)

    def play(name: str, number: int) -> None:
        node(fake, name, 1, 4)
        fake.logs[name] = "epoch 1\nepoch 2\n"
        fake.end(name, driver_exit_code=0)

    outcome = watched(fake, entry, play)
    assert outcome is not None and outcome.state == "finished"
    assert epochs(entry) == [1, 2, 3, 4] and statuses(entry) == ["FINISHED"]
    assert (entry.directory / "files" / "log.txt").read_text() == "epoch 1\nepoch 2\n"
    (job,) = fake.jobs.values()
    assert job["entrypoint"] == "python -m trainers.ray.node" and job["entrypoint_num_cpus"] == 1
    assert job["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""
    assert job["metadata"][names.JOURNAL_ID] == entry.journal_id


def test_a_job_whose_node_dies_twice_goes_on_and_has_each_epoch_once(fake: FakeRay, tmp_path: Path) -> None:
    entry = recorded(fake, tmp_path)

    def play(name: str, number: int) -> None:
        node(fake, name, *{1: (1, 2, None), 2: (3, 3, None), 3: (4, 4, "FINISHED")}[number])
        fake.lose(name) if number < 3 else fake.end(name)

    outcome = watched(fake, entry, play)
    assert outcome is not None and outcome.state == "finished" and len(fake.jobs) == 3
    assert epochs(entry) == [1, 2, 3, 4] and statuses(entry) == ["FINISHED"]
    assert len({job["runtime_env"]["env_vars"]["TRAINERS_OUTPUT"] for job in fake.jobs.values()}) == 1
    now = ledger.load(entry.directory)
    assert now is not None and now.name == list(fake.jobs)[-1] and now.ended == "finished"


def test_a_job_that_is_lost_again_and_again_is_given_up(fake: FakeRay, tmp_path: Path) -> None:
    entry = recorded(fake, tmp_path)
    outcome = watched(fake, entry, lambda name, number: fake.lose(name))
    assert outcome is not None and outcome.state == "failed" and outcome.kind == "node"
    assert "--memory" in outcome.advice and len(fake.jobs) == MOST_LOSSES + 1 and statuses(entry) == ["FAILED"]


def test_a_job_without_output_is_not_begun_anew(fake: FakeRay, tmp_path: Path) -> None:
    entry = recorded(fake, tmp_path)
    entry = entry.changed(request={**entry.request, "Output": ""})
    outcome = watched(fake, entry, lambda name, number: fake.lose(name))
    assert outcome is not None and outcome.state == "failed" and "with --output it would" in outcome.advice
    assert len(fake.jobs) == 1


def test_a_job_that_waits_for_room_is_submitted_as_often_as_ray_gives_it_up(fake: FakeRay, tmp_path: Path) -> None:
    entry = recorded(fake, tmp_path)

    def play(name: str, number: int) -> None:
        if number <= MOST_LOSSES + 2:
            why = "Job supervisor actor failed to start within 900.0 seconds."
            fake.end(name, "FAILED", why, driver_node_id=None, error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT")
        else:
            node(fake, name, 1, 4)
            fake.end(name)

    outcome = watched(fake, entry, play)
    assert outcome is not None and outcome.state == "finished" and len(fake.jobs) == MOST_LOSSES + 3


def test_a_head_that_forgot_everything_gets_job_and_sources_again(fake: FakeRay, tmp_path: Path) -> None:
    entry, lost = recorded(fake, tmp_path), list[str]()

    def play(name: str, number: int) -> None:
        if not lost:
            lost.append(name)
            node(fake, name, 1, 2, None)
            fake.jobs.clear()
            fake.packages.clear()
        else:
            node(fake, name, 3, 4)
            fake.end(name)

    outcome = watched(fake, entry, play)
    assert outcome is not None and outcome.state == "finished" and epochs(entry) == [1, 2, 3, 4]
    assert list(fake.jobs) != lost and len(fake.packages) == 1


@pytest.mark.parametrize(
    ("status", "facts", "state", "reason"),
    [
        ("FAILED", {"driver_exit_code": 1, "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR"}, "failed", "not a number"),
        ("FAILED", {"driver_exit_code": 143, "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR"}, "killed", ""),
        ("FAILED", {"message": "Job failed due to an application error, exit code 1"}, "failed", "not a number"),
        ("STOPPED", {"message": "Job was intentionally stopped."}, "killed", ""),
    ],
)
def test_a_job_that_ended_by_itself_is_not_submitted_again(
    fake: FakeRay, tmp_path: Path, status: str, facts: dict[str, object], state: str, reason: str
) -> None:
    entry = recorded(fake, tmp_path)

    def play(name: str, number: int) -> None:
        node(fake, name, 1, 2, "FAILED" if state == "failed" else "KILLED")
        fake.end(name, status, **facts)  # type: ignore[arg-type]

    outcome = watched(fake, entry, play)
    assert outcome is not None and outcome.state == state and reason in outcome.reason
    assert len(fake.jobs) == 1 and epochs(entry) == [1, 2] and len(statuses(entry)) == 1


def test_a_folder_that_the_node_did_not_share_is_said(fake: FakeRay, tmp_path: Path) -> None:
    outcome = watched(fake, recorded(fake, tmp_path), lambda name, number: fake.end(name, driver_exit_code=0))
    assert outcome is not None and outcome.state == "failed"
    assert "its journal is not in" in outcome.reason and "share" in outcome.advice


def test_an_error_before_the_run_is_shown_by_its_last_line(fake: FakeRay, tmp_path: Path) -> None:
    def play(name: str, number: int) -> None:
        fake.logs[name] = "Running entrypoint\n/bin/sh: python: not found\n"
        message = "Job entrypoint command failed with exit code 127, last available logs (truncated):\nRunning"
        fake.end(name, "FAILED", message, driver_exit_code=127, error_type="JOB_ENTRYPOINT_COMMAND_ERROR")

    outcome = watched(fake, recorded(fake, tmp_path), play)
    assert outcome is not None and outcome.reason.endswith("exit code 127: /bin/sh: python: not found")


def test_a_lost_answer_submits_once(fake: FakeRay, tmp_path: Path) -> None:
    fake.loses_answers = 1

    def play(name: str, number: int) -> None:
        node(fake, name, 1, 4)
        fake.end(name)

    outcome = watched(fake, recorded(fake, tmp_path), play)
    assert outcome is not None and outcome.state == "finished" and len(fake.jobs) == 1


def test_a_name_that_another_job_has_is_passed_over(fake: FakeRay, tmp_path: Path) -> None:
    entry = recorded(fake, tmp_path)
    client = RayClient(fake.address)
    client.submit({"entrypoint": "true", "submission_id": entry.name, "entrypoint_num_cpus": 1})
    sent = RayWatch(entry).send()
    assert sent.name != entry.name and list(fake.jobs) == [entry.name, sent.name]


def test_two_launchers_at_once_record_a_job_that_was_not_sent_once(fake: FakeRay, tmp_path: Path) -> None:
    first = recorded(fake, tmp_path)  # its launcher died here
    assert recorded(fake, tmp_path).journal_id == first.journal_id
    assert recorded(fake, tmp_path, Config(num_layers=20, epochs=5)).journal_id != first.journal_id


def test_a_job_launched_elsewhere_is_taken_over_with_its_run(fake: FakeRay, tmp_path: Path) -> None:
    config = Config(num_layers=20, epochs=4, tags={names.STUDY: "s", names.STUDY_RUN: "k"})
    there = tmp_path / "there"
    entry = RayWatch(recorded(fake, there, config)).send()
    (job,) = RayClient(fake.address).jobs()
    here = launcher(fake, tmp_path).adopted(job, job["metadata"])
    assert here is not None and here.journal_id == entry.journal_id and here.directory != entry.directory
    assert here.request["Output"] == entry.request["Output"]
    assert launcher(fake, tmp_path).adopted(job, job["metadata"]) is None  # it is here
    node(fake, entry.name, 1, 4)
    fake.end(entry.name)
    outcome = watched(fake, here, lambda name, number: None)
    assert outcome is not None and outcome.state == "finished" and epochs(here) == [1, 2, 3, 4] and len(fake.jobs) == 1


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "names no server"),
        ({"MLFLOW_TRACKING_URI": "sqlite:///x.db"}, "names no server"),
        ({"MLFLOW_TRACKING_URI": "http://localhost:5000"}, "only this machine sees"),
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}, "only this machine sees"),
        ({"MLFLOW_TRACKING_URI": "https://me:secret@mlflow.example.com"}, "holds a password"),
    ],
)
def test_a_run_whose_journal_could_not_come_back_is_refused(
    fake: FakeRay, workdir: Path, environment: dict[str, str], why: str
) -> None:
    options = RayOptions(address=fake.address)
    with pytest.raises(BadInput, match=f"{why}.*give --output") as error:
        RayLauncher(options, resolve(), environment=environment)
    assert "secret" not in str(error.value)
    RayLauncher(options, resolve(), environment=SERVER)
    assert not fake.jobs


def test_concurrent_watchers_are_kept_apart(fake: FakeRay, tmp_path: Path) -> None:
    entry = RayWatch(recorded(fake, tmp_path)).send()
    first = RayWatch(entry)
    first.poll()
    said: list[str] = []
    other = threading.Thread(target=lambda: said.append(str(watched(fake, entry, lambda name, number: None))))
    other.start()
    other.join(20)
    first.close()
    assert said == ["None"] and len(fake.jobs) == 1


def test_settings_that_would_not_do_are_named_together() -> None:
    import argparse

    from trainers.ray.job import read

    given = {"ray_address": "ray://x:10001", "cpus": "0", "gpus": "1.5", "memory": "much", "output": "here"}
    with pytest.raises(BadConfig) as error:
        read(argparse.Namespace(**given), {})
    assert len(error.value.faults) == 5
    good = {"ray_address": None, "cpus": "2", "gpus": "0.5", "memory": "1.5G", "output": "s3://bucket/prefix/"}
    good |= {"stop_on": ("nan",)}
    options = read(argparse.Namespace(**good), {})
    assert (options.cpus, options.gpus, options.memory_bytes) == (2, 0.5, 3 * 2**29)
    assert options.output == "s3://bucket/prefix" and options.stop_on == ("nan",)
