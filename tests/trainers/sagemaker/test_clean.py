"""Uploads that no job refers to: what a job of the account or a journal uses stays; nothing goes without --yes."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.support.aws.account import BUILTIN, World, account_fixture, build, shared_fixture
from tests.support.aws.batch import Queue
from tracking.journal import Journal
from trainers import jobs
from trainers.sagemaker.job import ledger, queue
from trainers.sagemaker.job.request import Channel

__all__ = ["account_fixture", "shared_fixture"]
QUEUES = {"gpus": queue.TYPE, "others": "EKS"}
OLD, PLACE = datetime(2024, 1, 1, tzinfo=timezone.utc), "runs/uploads/"


@pytest.fixture(name="uploads")
def uploads_fixture(account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Uploads of 2024, of which the account's job, an ended one, and a recorded one use one each, and a new one."""
    from moto.s3.models import s3_backends

    account.fake.rates_per_s.clear()  # its clock stands still while the command runs
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    for name in ("data/running/data.tar", "records/ended/train/train.rec", "data/waits/data.tar", "code/left/c.tar.gz"):
        account.put(PLACE + name, b"x" * 1000)
    account.put(PLACE + "records/left/train/train.rec", b"x" * 5000)
    account.put(PLACE + "records/left/validation/validation.rec", b"x" * 5000)
    account.put(PLACE + "notes/mine.txt", b"not sent by this package")
    account.put("runs/uploads2/data/other/data.tar", b"x")
    for key in s3_backends["123456789012"]["aws"].buckets["bucket-one"].keys.values():
        key.last_modified = OLD.replace(tzinfo=None)
    account.put(PLACE + "data/new/data.tar", b"x")
    return account


def _request(name: str, uri: str) -> dict[str, object]:
    made, _, _ = build([Channel("train", f"s3://bucket-one/{PLACE}{uri}")], BUILTIN)
    return {**made, "TrainingJobName": name}


def _left(account: World) -> set[str]:
    listed = account.fake.s3.list_objects_v2(Bucket="bucket-one", Prefix="runs/uploads")["Contents"]
    return {one["Key"].removeprefix(PLACE) for one in listed}


def test_what_no_job_refers_to_is_listed_and_goes_with_a_yes_alone(
    uploads: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uploads.aws.call("sagemaker", "CreateTrainingJob", **_request("ended", "records/ended/train/"))
    uploads.fake.clock.sleep(5000)
    uploads.aws.call("sagemaker", "CreateTrainingJob", **_request("running", "data/running/"))
    journal = Journal.create(tmp_path / "mlruns" / "journals", experiment="e", run_name="r")
    journal.close()
    ledger.Entry(
        name="waits",
        kind=ledger.BUILTIN,
        region="us-east-1",
        profile=None,
        request=_request("waits", "data/waits/"),
        experiment="e",
        directory=journal.dir,
    ).save()
    before = _left(uploads)
    assert jobs.main(["clean", "--region", "us-east-1"]) == 0  # where the last job here puts its output
    said = capsys.readouterr().out
    assert "10.0 kB  2024-01-01  s3://bucket-one/runs/uploads/records/left/\n" in said
    assert "2 uploads of 6 under s3://bucket-one/runs/uploads/" in said and "11.0 kB, under $0.01 a month" in said
    assert "cannot be undone" in said and _left(uploads) == before
    assert jobs.main(["clean", "--region", "us-east-1", "--output", "s3://bucket-one/runs/", "--yes"]) == 0
    assert "removed 3 objects" in capsys.readouterr().out
    assert {key.partition("/")[2].partition("/")[0] for key in before - _left(uploads)} == {"left"}
    assert jobs.main(["clean", "--region", "us-east-1", "--yes"]) == 0
    assert "0 uploads of 4" in capsys.readouterr().out


def test_a_job_that_waits_in_a_queue_keeps_its_upload(uploads: World, capsys: pytest.CaptureFixture[str]) -> None:
    uploads.fake.batch.queues = {name: Queue(name=name, most=0, kind=kind) for name, kind in QUEUES.items()}
    submitted = {
        "jobName": "elsewhere",
        "jobQueue": "gpus",
        "serviceJobType": queue.TYPE,
        "serviceRequestPayload": queue.payload(_request("elsewhere", "records/left/")),
        "clientToken": "x" * 8,
    }
    uploads.aws.call("batch", "SubmitServiceJob", **submitted, retryStrategy={"attempts": 1}, tags={"a": "b"})
    assert jobs.main(["clean", "--region", "us-east-1", "--output", "s3://bucket-one/runs", "--yes"]) == 0
    assert {key for key in _left(uploads) if "/left/" in key} == {
        f"records/left/{split}/{split}.rec" for split in ("train", "validation")
    }


def test_where_jobs_may_not_be_listed_or_are_elsewhere_nothing_goes(
    uploads: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _left(uploads)
    asked = ["clean", "--output", "s3://bucket-one/runs", "--yes", "--region"]
    uploads.fake.fail_next("ListTrainingJobs", 1, "denied")
    assert jobs.main([*asked, "us-east-1"]) == 1
    uploads.fake.s3.create_bucket(Bucket="bucket-eu", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert jobs.main(["clean", "--output", "s3://bucket-eu/x", "--yes", "--region", "us-east-1"]) == 2
    said = capsys.readouterr().err
    assert "not authorized" in said and "is in eu-west-1" in said and _left(uploads) == before
