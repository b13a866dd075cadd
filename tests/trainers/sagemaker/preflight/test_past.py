"""The estimate learns from finished jobs: the account's as AWS describes them, ours as their journals say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.aws.account import BUILTIN, World, account_fixture, build, shared_fixture
from tests.support.aws.fake import Plan
from tracking import names
from tracking.journal import Journal
from tracking.journal.events import segment_path
from trainers.sagemaker.job import ledger
from trainers.sagemaker.preflight import examine

__all__ = ["account_fixture", "shared_fixture"]


def _run(account: World, name: str, config: object = BUILTIN, kind: str = "ml.g4dn.xlarge") -> None:
    made, _, _ = build(account.put_records(), config, instance_type=kind)  # type: ignore[arg-type]
    account.aws.call("sagemaker", "CreateTrainingJob", **{**made, "TrainingJobName": name})


def _estimate(account: World, root: Path | None = None, **changes: object):  # type: ignore[no-untyped-def]
    report = examine.examine(*build(account.put_records(), replace(BUILTIN, **changes)), account.aws, root=root)  # type: ignore[arg-type]
    assert report.estimate is not None
    return report.estimate, next(f.what for f in report.findings if f.code == "estimate")


def test_finished_jobs_of_the_account_are_learnt_from(account: World) -> None:
    account.fake.plan("*", Plan(downloading_s=100, image_s=0, epoch_s=600, uploading_s=100))
    for number in range(3):
        _run(account, f"like-{number}")
    _run(account, "deeper", replace(BUILTIN, num_layers=110))
    _run(account, "elsewhere", kind="ml.p3.2xlarge")
    _run(account, "stops-early", replace(BUILTIN, early_stopping=True))
    account.fake.clock.sleep(5000)
    _run(account, "under-way")
    guess, said = _estimate(account)
    assert guess.num_jobs == 3 and "learnt from 3 finished jobs" in said
    assert guess.total_s == pytest.approx(2 * 600 + 200, rel=0.02)
    more, _ = _estimate(account, epochs=20)  # ten times the epochs, not ten times the pulling of the image
    assert 7 * guess.total_s < more.total_s < 9 * guess.total_s


def test_journals_are_learnt_from_and_those_who_may_not_ask_get_a_guess(account: World, tmp_path: Path) -> None:
    account.fake.fail_next("ListTrainingJobs", 9, "denied")
    assert _estimate(account)[0].num_jobs == 0
    for number in range(5):
        made, _, _ = build(account.put_records())
        journal = Journal.create(tmp_path, experiment="e", run_name="r")
        values = {"training_s": 700.0, names.BILLABLE_TIME_S: 300.0, names.SPOT_SAVING: 0.7}
        if number == 3:
            values["interrupted_s"] = 60.0  # more than one attempt is in its seconds
        journal.metrics({names.VALIDATION_ACCURACY: 0.5}, step=2)
        journal.metrics({"system/cpu": 0.5}, step=99)  # no epoch
        journal.metrics(values, step=2)
        journal.tags({names.INSTANCE_TYPE: "ml.g4dn.xlarge"})
        journal.close()
        if number == 4:
            segment_path(journal.dir, 1).write_bytes(b"\0\1 torn")
        given = {"kind": ledger.BUILTIN, "region": "us-east-1", "profile": None, "experiment": "e"}
        ledger.Entry(name=f"j-{number}", request=made, ended="finished", directory=journal.dir, **given).save()  # type: ignore[arg-type]
    account.fake.calls.clear()
    guess, _ = _estimate(account, tmp_path)
    assert guess.num_jobs == 3 and guess.total_s == pytest.approx(1000)  # as on demand: 300 s are 30 %
    assert not account.fake.count("ListTrainingJobs")  # three are enough
    account.fake.forgive()


def test_without_a_number_of_pictures_the_same_data_have_to_be_meant(account: World) -> None:
    channels = account.put_records()
    made, config, options = build(channels, BUILTIN)
    del made["HyperParameters"]["num_training_samples"]  # as of our own trainer
    for number in range(3):
        account.aws.call("sagemaker", "CreateTrainingJob", **{**made, "TrainingJobName": f"own-{number}"})
    account.fake.clock.sleep(5000)
    odd = {"num_training_samples": "0", "mini_batch_size": "many", "epochs": "0"}
    for name, hyper in (("odd-1", odd), ("odd-2", {**made["HyperParameters"], "mini_batch_size": "many"})):
        foreign = {**made, "TrainingJobName": name, "HyperParameters": {**made["HyperParameters"], **hyper}}
        account.aws.call("sagemaker", "CreateTrainingJob", **foreign)
        account.fake.clock.sleep(5000)
    same = examine.examine(made, config, options, account.aws).estimate
    other = examine.examine(*build([]), account.aws).estimate
    assert same is not None and same.num_jobs == 4 and other is not None and other.num_jobs == 0
