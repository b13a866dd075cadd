"""An AWS account on the wire for tests: moto, the SageMaker fake, what moto lacks, and small data sets in S3."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.support.aws import fake as fake_sagemaker
from tests.support.aws.answers import Answers, answering
from trainers.config import Config
from trainers.data.check.rules import Finding
from trainers.data.formats import image_record, recordio
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.job import request
from trainers.sagemaker.job.request import Channel
from trainers.sagemaker.options import JobOptions
from trainers.sagemaker.preflight import examine

ROLE = f"arn:aws:iam::{fake_sagemaker.ACCOUNT}:role/trainer"
OPTIONS: dict[str, Any] = {"role": ROLE, "output": "s3://bucket-one/runs", "region": "us-east-1"}
BUILTIN = Config(
    num_classes=3, num_training_samples=12, num_layers=20, image_shape="3,28,28", mini_batch_size=4, epochs=2
)
OWN = Config(num_layers=20, image_shape="3,28,28", mini_batch_size=4)
CODE = "s3://bucket-one/code/abc/code.tar.gz"


class World:
    """The account. ``aws`` is the door that the code under test gets."""

    def __init__(self, fake: fake_sagemaker.FakeSageMaker, answers: Answers) -> None:
        self.fake, self.answers = fake, answers
        self.aws = Aws(region="us-east-1", clock=fake.clock)
        self.number = 0
        self.fresh()

    def fresh(self) -> None:
        """For the next test: no jobs, nothing allowed but a quota of 2, a folder nobody used."""
        self.number += 1
        self.folder = f"data-{self.number}"
        self.fake.jobs.clear()
        self.fake.calls.clear()
        self.answers.calls.clear()
        self.answers.decisions = self.answers.policies = None
        self.answers.organization_allows = True
        self.answers.table = {"ListServiceQuotas": quotas({"ml.g4dn.xlarge for training job usage": 2.0})}

    def put(self, key: str, data: bytes, bucket: str = "bucket-one") -> None:
        """An object."""
        self.fake.put(f"s3://{bucket}/{key}", data)

    def put_records(self, shape: tuple[int, ...] = (28, 28, 3)) -> list[Channel]:
        """12 training and 6 validation pictures of 3 classes, as the built-in wants them."""
        prefix = self.folder
        self.put(f"{prefix}/train/train.rec", records(12, shape=shape))
        self.put(f"{prefix}/validation/validation.rec", records(6, shape=shape, first=100))
        return [
            Channel(name, f"s3://bucket-one/{prefix}/{name}/", request.RECORDIO) for name in ("train", "validation")
        ]

    def put_listed(self, lists: dict[str, str] | None = None) -> list[Channel]:
        """12 and 6 pictures in folders a, b, c, and their lists (or the ones given)."""
        prefix = self.folder
        for split, count, first in (("train", 12, 0), ("validation", 6, 100)):
            rows = []
            for number in range(count):
                name = f"{'abc'[number % 3]}/{number}.png"
                self.put(f"{prefix}/{split}/{name}", picture(first + number))
                rows.append(f"{number}\t{number % 3}.000000\t{name}\n")
            text = (lists or {}).get(split, "".join(rows))
            self.put(f"{prefix}/{split}_lst/{split}.lst", text.encode(errors="surrogateescape"))
        names = ("train", "validation", "train_lst", "validation_lst")
        return [Channel(name, f"s3://bucket-one/{prefix}/{name}/", request.IMAGE) for name in names]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """An account with a bucket and a role; the price list may not be asked, nor permissions simulated.

    One for many tests (``World.fresh`` between them): making boto3's clients takes longer than a test.
    """
    with (
        fake_sagemaker.running(folder) as fake,
        answering(fake.moto_url) as answers,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in {**fake_sagemaker.environment(fake), **answers.environment()}.items():
            environment.setenv(name, value)
        yield World(fake, answers)


@pytest.fixture(name="shared", scope="module")
def shared_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One account for a file of tests."""
    with world(tmp_path_factory.mktemp("world")) as account:
        yield account


@pytest.fixture(name="account")
def account_fixture(shared: World) -> World:
    """The file's account, as if new."""
    shared.fresh()
    return shared


@pytest.fixture(name="account")
def account_with_image_fixture(shared: World) -> World:
    """The same with an image of ours and a job's sources."""
    shared.fresh()
    shared.put(CODE.removeprefix("s3://bucket-one/"), b"x")
    shared.answers.table["DescribeImages"] = {"imageDetails": []}
    return shared


def build(
    channels: Sequence[Channel], config: Config = BUILTIN, *, code_uri: str | None = None, **options: Any
) -> tuple[dict[str, Any], Config, JobOptions]:
    """Request, config and options of a job."""
    given = JobOptions(**{**OPTIONS, **options})
    return request.build(config, given, channels, job_name="job-1", code_uri=code_uri), config, given


def preflight(account: World, channels: Sequence[Channel], config: Config = BUILTIN, **options: Any) -> list[Finding]:
    """What the preflight finds of a job."""
    return examine.run(*build(channels, config, **options), account.aws)


def one(found: Sequence[Finding], code: str) -> Finding:
    """The first finding of a code, which must be there."""
    assert code in codes(found), [(f.code, f.what) for f in found]
    return next(f for f in found if f.code == code)


def codes(findings: Sequence[Finding], *severities: str) -> list[str]:
    """Codes of the findings, of some severities or of errors and warnings."""
    wanted = severities or ("error", "warning")
    return [finding.code for finding in findings if finding.severity in wanted]


def picture(number: int, shape: tuple[int, ...] = (28, 28, 3), kind: str = ".png") -> bytes:
    """A picture like no other, encoded."""
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    good, data = cv2.imencode(kind, pixels)
    assert good
    return bytes(data.tobytes())


def records(
    count: int, *, shape: tuple[int, ...] = (28, 28, 3), first: int = 0, labels: Sequence[float] = (0, 1, 2)
) -> bytes:
    """A RecordIO file of ``count`` pictures whose labels go round."""
    file = io.BytesIO()
    for number in range(count):
        payload = image_record.pack_image(0, number, picture(first + number, shape))
        header = np.frombuffer(payload[:24], np.uint8).copy()
        header[4:8] = np.frombuffer(np.float32(labels[number % len(labels)]).tobytes(), np.uint8)
        recordio.write(file, header.tobytes() + payload[24:])
    return file.getvalue()


def quotas(values: dict[str, float]) -> dict[str, Any]:
    """ListServiceQuotas' answer."""
    return {"Quotas": [{"QuotaName": name, "Value": value} for name, value in values.items()]}


def trust(service: str) -> str:
    """A role's trust policy."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
