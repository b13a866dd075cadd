"""What the tests of launching and watching share: a fake account with data in it, and jobs launched there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws.answers import answering
from tests.support.aws.fake import FakeSageMaker, ManualClock, ScaledClock, environment, running
from tracking.journal.events import read
from trainers.config import Config
from trainers.sagemaker.aws.client import RATES_PER_S, Aws
from trainers.sagemaker.command.launch import send
from trainers.sagemaker.job import ledger, submit
from trainers.sagemaker.job.launcher import SageMakerJob, SageMakerLauncher
from trainers.sagemaker.options import JobOptions

ROLE = "arn:aws:iam::123456789012:role/trainer"
CONFIG = Config(
    num_layers=18, image_shape="3,224,224", num_classes=2, num_training_samples=640, epochs=3, run_name="cats"
)


@contextmanager
def account(
    folder: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock | ScaledClock | None = None, **settings: Any
) -> Iterator[FakeSageMaker]:
    """A fake that boto3 finds, with a train and a validation channel in its bucket; prices and quotas are secret."""
    if isinstance(clock, ScaledClock):  # calls are spaced on the machine's clock, which is the slower one
        for operation, rate in RATES_PER_S.items():
            monkeypatch.setitem(RATES_PER_S, operation, rate * 10)  # type: ignore[arg-type]
    with running(folder, clock, **settings) as fake, answering(fake.moto_url) as answers:
        for name, value in {**environment(fake), **answers.environment()}.items():
            monkeypatch.setenv(name, value)
        for split in ("train", "validation"):
            fake.put(f"s3://bucket-one/data/{split}/{split}.rec", b"pictures")
        yield fake


def options(**changes: Any) -> JobOptions:
    """Everything a job needs."""
    return JobOptions(
        **{
            "role": ROLE,
            "output": "s3://bucket-one/jobs",
            "region": "us-east-1",
            "train": "s3://bucket-one/data/train/",
            "validation": "s3://bucket-one/data/validation/",
            **changes,
        }
    )


def launcher(fake: FakeSageMaker, root: Path, kind: str = ledger.BUILTIN, **changes: Any) -> SageMakerLauncher:
    """A launcher on the fake's clock."""
    aws = Aws(region="us-east-1", clock=fake.clock)
    return SageMakerLauncher(options(**changes), kind, root, experiment="pets", aws=aws)


def submitted(where: SageMakerLauncher, config: Config = CONFIG) -> SageMakerJob:
    """A job that SageMaker has taken, or the error."""
    return send(where, where.plan(config))


def launched(fake: FakeSageMaker, root: Path, config: Config = CONFIG, **changes: Any) -> ledger.Entry:
    """A job of the built-in that SageMaker has taken."""
    where = launcher(fake, root, **changes)
    entry, journal = where.record(where.plan(config))
    journal.close()
    return submit.send(where.aws, entry)


def metrics(directory: Path, name: str) -> list[tuple[int, float]]:
    """Every value of a metric in a journal, in order, with its step."""
    return [
        (event["step"], event["values"][name])
        for event, _ in read(directory)
        if event["event"] == "metric" and name in event["values"]
    ]


def tags(directory: Path) -> dict[str, str]:
    """The tags of a journal, the last of each."""
    found: dict[str, str] = {}
    for event, _ in read(directory):
        found |= event["values"] if event["event"] == "tag" else event.get("tags", {})
    return found


def statuses(directory: Path) -> list[tuple[str, str]]:
    """Every status of a journal with its reason."""
    return [(event["status"], event["reason"]) for event, _ in read(directory) if event["event"] == "status"]
