"""``python -m trainers.jobs clean``: uploads in S3 that no job refers to, with what they cost; ``--yes`` removes them.

A job refers to what its channels name: each job recorded here, launched or not, and each one that the account knows in
the bucket's region, wherever it was launched and however it ended, those that wait in a queue of AWS Batch included. A
job that waits unsent on another machine is not seen, so what is younger than 30 days stays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from tracking import store as stores
from tracking.errors.words import money, plural, readable
from trainers.errors import BadInput, TrainerError
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import is_legal, split_s3
from trainers.sagemaker.errors import NotFound
from trainers.sagemaker.job import ledger, queue
from trainers.sagemaker.options import default_output

_YOUNGEST = timedelta(days=30)
_LONGEST = timedelta(days=60)  # a job may wait for a machine and run for 28 days each
_USD_PER_GB_MONTH = 0.023  # S3 Standard in us-east-1, 2026-09
_AT_ONCE = 1000  # objects that one call removes


@dataclass
class Upload:
    """What was sent at once: every object under ``prefix``, a folder named by its content."""

    prefix: str
    newest: datetime
    num_bytes: int = 0
    keys: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options beside region and profile."""
    parser.add_argument("--output", metavar="S3_URI", help="the jobs' --output (default: that of the last job here)")
    parser.add_argument("--yes", action="store_true", help="remove them; this cannot be undone")


def run(arguments: argparse.Namespace) -> int:
    """List what no job refers to, or remove it; the exit code. Raises BadInput, AwsError where not all may be asked."""
    from trainers.sagemaker.aws.objects import Objects

    aws = Aws(region=arguments.region, profile=arguments.profile, on_trouble=print)
    here = list(ledger.entries(stores.resolve().journals))  # a damaged one stops: what it refers to is not known
    output = arguments.output or _last_output(here, aws)
    if not is_legal(output):
        raise BadInput(f"--output {output!r} must have the form s3://bucket/prefix.")
    bucket, prefix = split_s3(output.rstrip("/") + "/uploads/")
    region = Objects(aws).region(bucket)
    if region not in ("", aws.region):  # the jobs that read it are there
        raise BadInput(f"bucket {bucket} is in {region}, and so are the jobs that use it; give --region {region}.")
    every = _uploads(aws, bucket, prefix)
    before = datetime.now(timezone.utc) - _YOUNGEST
    old = {upload.prefix: upload for upload in every if upload.newest < before}
    left = _unreferred(old, bucket, aws, [entry.request for entry in here])
    for upload in left:
        print(f"{readable(upload.num_bytes):>10}  {upload.newest:%Y-%m-%d}  s3://{bucket}/{upload.prefix}")
    num_bytes = sum(upload.num_bytes for upload in left)
    cost = f"{readable(num_bytes)}, {money(num_bytes / 1e9 * _USD_PER_GB_MONTH)} a month"
    words = f"{plural(len(left), 'upload')} of {len(every)} under {output.rstrip('/')}/uploads/"
    print(f"{words} that no job refers to and that are older than {_YOUNGEST.days} days: {cost}")
    if not left:
        return 0
    if not arguments.yes:
        print("Nothing was removed. --yes removes them, which cannot be undone.")
        return 0
    left = _unreferred({upload.prefix: upload for upload in left}, bucket, aws, [])  # jobs launched meanwhile
    keys = [key for upload in left for key in upload.keys]
    failed = []
    for start in range(0, len(keys), _AT_ONCE):
        asked = {"Objects": [{"Key": key} for key in keys[start : start + _AT_ONCE]], "Quiet": True}
        failed += aws.s3("DeleteObjects", Bucket=bucket, Delete=asked).get("Errors", [])
    for one in failed:
        print(f"trainers.jobs: s3://{bucket}/{one['Key']} is still there: {one.get('Message')}", file=sys.stderr)
    print(f"removed {plural(len(keys) - len(failed), 'object')}")
    return 1 if failed else 0


def _last_output(here: list[ledger.Entry], aws: Aws) -> str:
    given = [entry.request["OutputDataConfig"]["S3OutputPath"] for entry in here if "OutputDataConfig" in entry.request]
    if given:
        return str(given[-1])
    return default_output(aws.region, str(aws.call("sts", "GetCallerIdentity")["Account"]))


def _uploads(aws: Aws, bucket: str, prefix: str) -> list[Upload]:
    """Every upload under ``prefix``: ``code/<digest>/…``, ``data/<digest>/…``, ``records/<digest>/…``."""
    found: dict[str, Upload] = {}
    for page in aws.pages("s3", "ListObjectsV2", Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            parts = item["Key"].removeprefix(prefix).split("/")
            if len(parts) < 3 or parts[0] not in ("code", "data", "records"):
                continue  # nothing that this package sends
            name = f"{prefix}{parts[0]}/{parts[1]}/"
            upload = found.setdefault(name, Upload(name, item["LastModified"]))
            upload.newest = max(upload.newest, item["LastModified"])
            upload.num_bytes += item["Size"]
            upload.keys.append(item["Key"])
    return sorted(found.values(), key=lambda upload: -upload.num_bytes)


def _unreferred(
    uploads: Mapping[str, Upload], bucket: str, aws: Aws, requests: Iterable[Mapping[str, Any]]
) -> list[Upload]:
    """Those that neither ``requests`` nor the account's jobs name.

    A job is younger than what was sent for it, unless that was sent once more, for another job, while it was waiting.
    """
    left = dict(uploads)
    for request in requests:
        _take_out(left, bucket, request)
    if not left:
        return []
    for waiting in queue.requests(aws):
        _take_out(left, bucket, waiting)
    if not left:
        return []
    since = min(upload.newest for upload in left.values()) - _LONGEST
    newest: dict[str, Any] = {
        "SortBy": "CreationTime",
        "SortOrder": "Descending",
        "CreationTimeAfter": since,
        "MaxResults": 100,
    }
    for page in aws.pages("sagemaker", "ListTrainingJobs", **newest):
        for job in page.get("TrainingJobSummaries", []):
            if not left:
                return []
            try:
                answer = aws.call("sagemaker", "DescribeTrainingJob", TrainingJobName=job["TrainingJobName"])
            except NotFound:
                continue  # deleted between the two calls
            _take_out(left, bucket, answer)
    return list(left.values())


def _take_out(left: dict[str, Upload], bucket: str, request: Mapping[str, Any]) -> None:
    for channel in request.get("InputDataConfig", []):
        uri = str(channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", ""))
        try:
            theirs, key = split_s3(uri)
        except TrainerError:
            continue
        for prefix in [prefix for prefix in left if theirs == bucket and _overlap(prefix, key)]:
            del left[prefix]


def _overlap(prefix: str, key: str) -> bool:
    """Whether a channel that reads all keys beginning with ``key`` reads something below ``prefix``."""
    return key.startswith(prefix.rstrip("/")) or prefix.startswith(key)
