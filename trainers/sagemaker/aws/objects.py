"""Objects in S3: listings and pieces of objects, counted and within a limit, for the preflight; pictures of a prefix.

Enters: buckets and keys. Leaves: names, sizes and bytes, or ``AwsError``. Nothing is ever written.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainers.data.pictures.pictures import MAX_FILE_BYTES
from trainers.data.readers.folder import PICTURE_SUFFIXES
from trainers.data.readers.loose import OTHER_SUFFIXES, LeftOut, Loose, refused
from trainers.errors import BadConfig
from trainers.sagemaker import errors
from trainers.sagemaker.aws.client import Aws, translate
from trainers.sagemaker.aws.uri import split_s3

PATIENCE_S = 10.0
_KEPT_BYTES = 64 * 2**20
MAX_READS = 30
_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")  # GLACIER_IR is read at once


@dataclass(frozen=True)
class Object:
    """One object: ``etag`` is the MD5 of its bytes where it was sent in one piece.

    ``archive`` names the storage class of one that cannot be read now: archived and not restored; else empty.
    """

    key: str
    size: int
    etag: str
    archive: str = ""

    @property
    def suffix(self) -> str:
        """``.jpg`` of ``train/cat/1.JPG``, in lower case; empty where there is none."""
        name = self.key.rpartition("/")[2].lower()
        dot = name.rfind(".")
        return name[dot:] if dot > 0 else ""


class ReadsSpent(errors.AwsError):
    """The preflight's reads are used up; what is left stays unchecked."""


class Objects:
    """Reads at most ``max_reads`` times, listings not counted. Safe to share between threads.

    What was read or listed is kept (up to 64 MiB), so that a study's jobs look at their data once.
    """

    def __init__(self, aws: Aws, max_reads: int = MAX_READS) -> None:
        self._aws = aws
        self._left = max_reads
        self._guard = threading.Lock()
        self.num_lists = self.num_reads = self.num_bytes_read = 0
        self._listed: dict[tuple[str, str], list[Object]] = {}
        self._pieces: dict[tuple[str, str, int, int | None], bytes] = {}

    def listing(self, bucket: str, prefix: str) -> list[Object]:
        """Every object whose key begins with ``prefix``, markers of empty folders left out. Raises AwsError."""
        if (bucket, prefix) in self._listed:
            return self._listed[bucket, prefix]
        found: list[Object] = []
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "OptionalObjectAttributes": ["RestoreStatus"]}
        for page in self._aws.pages("s3", "ListObjectsV2", patience_s=PATIENCE_S, **asked):
            with self._guard:
                self.num_lists += 1
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):
                    etag = item.get("ETag", "").strip('"')
                    found.append(Object(item["Key"], item["Size"], etag, _archive(item)))
        self._listed[bucket, prefix] = found
        return found

    def read(self, bucket: str, key: str, start: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``start``, all the rest for None. Raises AwsError, ReadsSpent beyond the limit."""
        from botocore.exceptions import BotoCoreError, ClientError

        if (bucket, key, start, length) in self._pieces:
            return self._pieces[bucket, key, start, length]
        self._spend()
        asked: dict[str, str] = {}
        if start or length is not None:
            asked["Range"] = f"bytes={start}-" + ("" if length is None else str(start + length - 1))
        answer = self._aws.call("s3", "GetObject", patience_s=PATIENCE_S, Bucket=bucket, Key=key, **asked)
        try:
            data: bytes = answer["Body"].read()
        except (ClientError, BotoCoreError) as error:  # the line broke in the middle of the answer
            raise translate(error, "GetObject") from error
        with self._guard:
            self.num_bytes_read += len(data)
            if self.num_bytes_read <= _KEPT_BYTES:
                self._pieces[bucket, key, start, length] = data
        return data

    def region(self, bucket: str) -> str:
        """The region a bucket is in. Raises NotFound, NotAllowed."""
        self._spend()
        answer = self._aws.call("s3", "HeadBucket", patience_s=PATIENCE_S, Bucket=bucket)
        region = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "")
        return str(region)

    def _spend(self) -> None:
        with self._guard:
            if not self._left:
                raise ReadsSpent("the preflight reads no more objects than it may; the rest is unchecked")
            self._left -= 1
            self.num_reads += 1


def pictures(uri: str, aws: Aws, left_out: LeftOut) -> Iterator[Loose]:
    """The pictures whose keys begin as ``uri`` does, in S3's order, by their names; as ``loose.pictures`` of folders.

    Raises NoCredentials; everything else that cannot be read is a picture whose ``read`` raises.
    """
    try:
        bucket, prefix = split_s3(uri)
        found = Objects(aws).listing(bucket, prefix)
    except (errors.AwsError, BadConfig) as error:
        yield refused(uri, str(error))
        return
    if not found:
        yield refused(uri, "no object's key begins so")
    for one in found:
        name = f"s3://{bucket}/{one.key}"
        hidden = any(part.startswith(".") for part in one.key.removeprefix(prefix).split("/"))
        if one.key != prefix and (hidden or one.suffix not in (*PICTURE_SUFFIXES, *OTHER_SUFFIXES)):
            left_out.add(name)
        elif one.suffix in (".lst", ".rec"):
            yield refused(name, f"lists and records are read from a disk; copy it: aws s3 cp {name} .")
        elif one.archive:
            yield refused(name, f"archived in {one.archive}; restore it first")
        elif one.size > MAX_FILE_BYTES:
            yield refused(name, f"{one.size:,} bytes is too much for a picture")
        else:
            yield Loose(name, functools.partial(aws.read_object, bucket, one.key))


def _archive(item: Mapping[str, Any]) -> str:
    """The storage class of a listed object that has to be restored before it can be read; else empty."""
    kept = str(item.get("StorageClass", ""))
    restored = item.get("RestoreStatus", {})
    is_there = "RestoreExpiryDate" in restored and not restored.get("IsRestoreInProgress")
    return kept if kept in _ARCHIVES and not is_there else ""
