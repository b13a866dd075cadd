"""S3 URIs: ``s3://bucket/key``."""

from __future__ import annotations

import re

from trainers.errors import BadConfig

_S3_URI = re.compile(r"s3://([^/]+)(?:/(.*))?", re.DOTALL)
# What S3 accepts for a new bucket; old buckets may have other names.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_s3(path: str) -> bool:
    """Whether a data path is in S3 rather than on this machine's disk."""
    return path.lower().startswith("s3:")


def is_legal(uri: str) -> bool:
    """Whether a job's setting may have this URI: the form and a bucket name that S3 accepts today."""
    match = _S3_URI.fullmatch(uri)
    return match is not None and _BUCKET.fullmatch(match[1]) is not None


def split_s3(uri: str) -> tuple[str, str]:
    """``("bucket", "key/prefix")`` of an S3 URI. Raises BadConfig for any other text."""
    match = _S3_URI.fullmatch(uri)
    if match is None:
        raise BadConfig([f"{uri!r} is not an S3 URI, such as s3://bucket/prefix/."])
    return match[1], match[2] or ""
