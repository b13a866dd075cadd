"""Preflight of 10,000 pictures with lists, and of a 1 GB record file: seconds, S3 requests, bytes.

Peer, measured in the same run: reading each object once, a request each, as a check that downloads would.
``python tests/benchmarks/bench_sagemaker_preflight.py [--objects N] [--gigabytes X]``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from trainers.sagemaker.preflight.report import Report

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.aws.account import BUILTIN, World, build, picture, records, world  # noqa: E402
from trainers.sagemaker.job import request  # noqa: E402
from trainers.sagemaker.job.request import Channel  # noqa: E402
from trainers.sagemaker.preflight import examine  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as account:
        examine.examine(*build(account.put_records()), account.aws)  # boto3's clients are made once
        _pictures(account, arguments.objects)
        _records(account, arguments.gigabytes)


def _store(account: World, key: str, data: bytes) -> None:
    """Into moto directly: sending 10,000 objects over its wire takes longer than all that is measured."""
    from moto.s3.models import s3_backends

    s3_backends[account.fake.account]["aws"].put_object("bucket-one", key, data)


def _pictures(account: World, count: int) -> None:
    account.fresh()
    data = [picture(number, (64, 64, 3), ".jpg") for number in range(100)]
    rows = []
    for number in range(count):
        name = f"{'abc'[number % 3]}/{number:06d}.jpg"
        _store(account, f"big/train/{name}", data[number % 100] + number.to_bytes(4, "big"))
        rows.append(f"{number}\t{number % 3}\t{name}\n")
    account.put("big/train_lst/train.lst", "".join(rows).encode())
    listed = account.put_listed()
    channels = [replace(c, s3_uri=f"s3://bucket-one/big/{c.name}/") if "train" in c.name else c for c in listed]
    config = replace(BUILTIN, num_training_samples=count, resize=32)
    start = time.perf_counter()
    report = examine.examine(*build(channels, config), account.aws)
    taken_s = time.perf_counter() - start
    print(f"{count:,} pictures: {taken_s:.1f} s, {report.num_reads} S3 requests, {report.num_lists} listings beside,")
    print(f"  {report.num_bytes_read / 1e6:.1f} MB read, findings {_said(report)}")
    s3 = account.aws.client("s3")
    few = min(count, 500)
    start = time.perf_counter()
    for number in range(few):
        s3.get_object(Bucket="bucket-one", Key=f"big/train/{'abc'[number % 3]}/{number:06d}.jpg")["Body"].read()
    each_s = (time.perf_counter() - start) / few
    print(f"  reading each once: {count:,} requests, {each_s * count:.0f} s ({each_s * count / taken_s:.1f} x)")


def _records(account: World, gigabytes: float) -> None:
    account.fresh()
    block = records(2000, shape=(128, 128, 3))
    times = max(1, round(gigabytes * 1e9 / len(block)))
    validation = account.put_records()[1]
    _store(account, "huge/train/train.rec", block * times)
    channels = [Channel("train", "s3://bucket-one/huge/train/", request.RECORDIO), validation]
    config = replace(BUILTIN, num_training_samples=2000 * times)
    start = time.perf_counter()
    report = examine.examine(*build(channels, config), account.aws)
    taken_s = time.perf_counter() - start
    facts = report.facts["train"]
    print(f"a record file of {facts.num_bytes / 1e9:.2f} GB: {taken_s:.1f} s, {report.num_reads} S3 requests,")
    print(f"  {report.num_bytes_read / 1e6:.1f} MB read ({report.num_bytes_read / facts.num_bytes:.1%} of it),")
    print(f"  {facts.num_images:,} records estimated, {2000 * times:,} there, findings {_said(report)}")


def _said(report: Report) -> list[str]:
    return [finding.what for finding in report.findings if finding.severity in ("error", "warning")]


if __name__ == "__main__":
    main()
