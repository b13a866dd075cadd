"""A job's health on the wire: CloudWatch's metrics as MLflow's, rules that strike, ``--stop-on``, permissions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws.fake import FakeSageMaker, Plan
from tests.support.aws.launches import CONFIG, account, launched, launcher, metrics, statuses, tags
from tests.support.inbox import Inbox
from tests.support.inbox import inbox_fixture as inbox_fixture
from tests.trainers.sagemaker.watch.test_watch import door
from tracking import names
from tracking.journal import Journal
from trainers.launch.watching import notify
from trainers.sagemaker.job import ledger
from trainers.sagemaker.watch.events import EventLog
from trainers.sagemaker.watch.health import Health
from trainers.sagemaker.watch.many_jobs import watch_many
from trainers.sagemaker.watch.outcome import Silent, ending

GPU, CPU = "system/gpu_0_utilization_percentage", "system/cpu_utilization_percentage"


def busy(at_s: float) -> dict[str, float]:
    """One GPU of four processors' machine, well used."""
    load = {"GPUUtilization": 93.0, "CPUUtilization": 180.0, "DiskUtilization": 21.0, "MemoryUtilization": 40.0}
    return {**load, "GPUMemoryUtilization": 77.0}


class Ears(Silent):
    """Remembers what is said of each job."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}

    def say(self, entry: ledger.Entry, text: str) -> None:
        self.said.setdefault(str(entry.run_name), []).append(text)


@dataclass
class Watched:
    fake: FakeSageMaker
    entries: dict[str, ledger.Entry]
    outcomes: dict[str, Any]
    said: dict[str, list[str]]
    messages: list[dict[str, Any]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Five jobs, each watched from its beginning to its end."""
    root = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch, account(root / "aws", patch) as fake:
        fake.plan("*", Plan(epoch_s=120))
        asked = {"busy": (), "idle": (), "stopped": ("gpu-idle",), "full": ("disk",), "pair": ()}
        entries, ears = dict[str, ledger.Entry](), Ears()
        for name, rules in asked.items():
            pair = {"instance_count": 2, "instance_type": "ml.g4dn.12xlarge"} if name == "pair" else {}
            entry = launched(fake, root / "journals", replace(CONFIG, run_name=name), **pair)
            entries[name] = entry.changed(stop_on=list(rules))
            fake.load[f"{entry.name}/algo-1"] = busy
        load = {name: f"{entry.name}/algo-1" for name, entry in entries.items()}
        fake.load[load["idle"]] = fake.load[load["stopped"]] = lambda at_s: {**busy(at_s), "GPUUtilization": 2.0}
        fake.load[load["full"]] = lambda at_s: {**busy(at_s), "DiskUtilization": 97.0}
        fake.load[load["pair"]] = lambda at_s: {"GPUUtilization": 400.0}
        fake.load[load["pair"].replace("algo-1", "algo-2")] = lambda at_s: {"GPUUtilization": 200.0}
        fake.fail_next("GetMetricData", 6, "500")
        denied = "not authorized to perform: sagemaker:StopTrainingJob"
        fake.refuse_next("StopTrainingJob", "AccessDeniedException", denied)
        inbox = Inbox()
        with notify.using([inbox.url]):
            outcomes = watch_many(list(entries.values()), aws=door(fake), listener=ears)
        inbox.close()
        yield Watched(fake, entries, dict(zip(entries, outcomes, strict=True)), ears.said, inbox.messages)


def test_a_job_s_load_is_in_its_run_and_a_healthy_one_hears_nothing(watched: Watched) -> None:
    entry = watched.entries["busy"]
    steps = [step for step, _ in metrics(entry.directory, GPU)]
    assert steps == list(range(steps[0], steps[0] + len(steps))) and len(steps) >= 5  # an outage lost no minute
    assert {value for _, value in metrics(entry.directory, GPU)} == {93.0}
    assert {value for _, value in metrics(entry.directory, CPU)} == {45.0}  # of 400
    assert names.FINDINGS not in tags(entry.directory)
    assert not [text for text in watched.said.get("busy", ()) if " since " in text]
    assert len(metrics(entry.directory, names.VALIDATION_ACCURACY)) == 3
    assert watched.fake.count("GetMetricData", "") < 5 * (3.2 * len(steps) + 4)


def test_an_idle_gpu_is_said_once_with_its_price(watched: Watched) -> None:
    said = [text for text in watched.said["idle"] if text.startswith("gpu-idle since")]
    assert len(said) == 1 and "2 % busy" in said[0] and "costs $0.74 an hour" in said[0]
    assert tags(watched.entries["idle"].directory)[names.FINDINGS] == said[0]
    assert watched.outcomes["idle"].state == "finished"


def test_stop_on_ends_the_job_which_keeps_its_model_and_says_why(watched: Watched) -> None:
    outcome = watched.outcomes["stopped"]
    assert outcome.state == "killed" and outcome.model_uri
    ((status, reason),) = statuses(watched.entries["stopped"].directory)
    assert status == "KILLED" and reason.startswith("stopped by --stop-on gpu-idle: the GPU is 2 % busy")
    # One of the two stops was refused at first.
    assert watched.outcomes["full"].reason.startswith("stopped by --stop-on disk: the disk is 97 % full")
    assert watched.fake.count("StopTrainingJob", "") == 2 and watched.fake.count("StopTrainingJob") == 3


def test_people_hear_once_of_each_finding_and_each_end(watched: Watched) -> None:
    heard = {message["title"]: message for message in watched.messages}
    ends = {f"{name}: {outcome.state}" for name, outcome in watched.outcomes.items()}
    assert set(heard) == ends | {"idle: gpu-idle", "stopped: gpu-idle", "full: disk"}
    assert len(watched.messages) == len(heard)
    assert heard["busy: finished"]["message"] == ending(watched.entries["busy"], watched.outcomes["busy"])
    assert heard["stopped: killed"]["type"] == "failure" and "2 % busy" in heard["stopped: killed"]["message"]


def test_a_job_that_ended_before_it_was_watched_has_its_load_too(watched: Watched, tmp_path: Path) -> None:
    fake = watched.fake
    entry = launched(fake, tmp_path / "journals")
    fake.load[f"{entry.name}/algo-1"] = busy
    fake.clock.sleep(3600)
    watch_many([entry], aws=door(fake))
    assert len(metrics(entry.directory, GPU)) >= 5


def test_several_machines_are_one_curve_of_their_mean(watched: Watched) -> None:
    values = metrics(watched.entries["pair"].directory, "system/gpu_utilization_percentage")
    assert {value for _, value in values} == {75.0}


def test_the_last_line_names_accuracy_cost_run_and_the_next_command(watched: Watched) -> None:
    entry = watched.entries["busy"]
    last = ending(entry, watched.outcomes["busy"]).splitlines()[-1]
    run = entry.journal_id[:8]
    best = metrics(entry.directory, names.BEST_VALIDATION_ACCURACY)[0][1]
    assert last == f"  best validation {best:.4f} · $0.09 · run {run} · next: python -m trainers.evaluate {run}"


def test_without_the_permission_the_watch_goes_on_and_a_granted_quota_is_a_message(
    watched: Watched, tmp_path: Path, inbox: Inbox
) -> None:
    fake = watched.fake
    before = len(fake.calls)
    entry, ears = launched(fake, tmp_path / "journals"), Ears()
    where = launcher(fake, tmp_path / "journals")
    waits, journal = where.record(where.plan(replace(CONFIG, run_name="waits")))
    journal.close()
    fake.quotas["ml.g4dn.xlarge"] = 1
    fake.refuse_next("GetMetricData", "AccessDenied", "User is not authorized to perform: cloudwatch:GetMetricData")
    with notify.using([inbox.url]):
        outcomes = watch_many([entry, waits], aws=door(fake), listener=ears)
    assert [outcome.state for outcome in outcomes if outcome] == ["finished"] * 2
    asked = [at_s for name, at_s, _ in fake.calls[before:] if name == "GetMetricData"]
    assert sum(at_s < fake.job(entry.name).ended_at for at_s in asked) == 1  # of the first job no more
    assert sorted(inbox.titles) == ["cats: finished", "waits: finished", "waits: quota granted"]
    (said,) = [text for text in ears.said["cats"] if "cloudwatch:GetMetricData" in text]
    assert said.startswith("The machine's load cannot be read")


def test_what_the_container_measures_itself_is_not_there_twice(watched: Watched, tmp_path: Path) -> None:
    fake = watched.fake
    entry = launched(fake, tmp_path / "journals")
    fake.load[f"{entry.name}/algo-1"] = busy
    fake.clock.sleep(900)
    journal = Journal.reopen(entry.directory)
    state: dict[str, Any] = {"own_load": [CPU]}
    health = Health(door(fake), entry, state, journal=journal, listener=Silent())
    health.measure(fake.job(entry.name).describe(), EventLog(entry, journal, state))
    journal.close()
    assert len(metrics(entry.directory, GPU)) >= 5 and not metrics(entry.directory, CPU)
