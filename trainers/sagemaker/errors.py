"""Errors of AWS, one class for each decision a caller can make.

AwsError                AWS answered with an error, or not at all (exit code 1)
├── NotAllowed          the credentials lack a permission, or have expired
├── NotFound            no such job, bucket, role, log group
├── NameTaken           another job of this account has the name
├── QuotaReached        the account's limit; ``limit`` 0 will never pass, any other may once a job ends
├── Unreachable         no answer for longer than the caller wanted to wait
└── Rejected            the request is wrong (exit code 2)
NoCredentials           no credentials, or no region (exit code 2)
"""

from __future__ import annotations

import re

from trainers.errors import BadInput, TrainerError

_QUOTA = re.compile(
    r"service limit '(?P<quota>.+?)' is (?P<limit>[\d,.]+) \w+, with current utilization of (?P<used>[\d,.]+) \w+"
    r" and a request delta of (?P<wanted>[\d,.]+)"
)

# What AWS's services answer to keys whose time is over, each in its own spelling.
EXPIRED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidToken",
    "InvalidAccessKeyId",
)


class AwsError(TrainerError):
    """AWS answered with an error, or not at all. ``code`` is AWS's own, ``operation`` such as ``CreateTrainingJob``."""

    def __init__(self, message: str, *, code: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.code, self.operation = code, operation


class NotAllowed(AwsError):
    """The credentials lack a permission, or have expired."""

    @property
    def has_expired(self) -> bool:
        """Whether new keys of the same person will do."""
        return self.code in EXPIRED


class NotFound(AwsError):
    """What was asked for does not exist."""


class NameTaken(AwsError):
    """Another job of this account and region has the name."""


class QuotaReached(AwsError):
    """The account's limit is reached. ``limit``, ``used`` and ``wanted`` count instances; None where AWS named none."""

    def __init__(self, message: str, *, code: str = "", operation: str = "") -> None:
        found = _QUOTA.search(message)
        self.quota = found["quota"] if found else ""
        self.limit, self.used, self.wanted = (_count(found, key) for key in ("limit", "used", "wanted"))
        super().__init__(message, code=code, operation=operation)

    @property
    def is_hopeless(self) -> bool:
        """Whether waiting cannot help: the request alone is more than the limit."""
        return self.limit is not None and self.wanted is not None and self.wanted > self.limit


class Unreachable(AwsError):
    """No usable answer for longer than the caller wanted to wait."""


class Rejected(AwsError, BadInput):
    """AWS finds the request wrong."""


class NoCredentials(BadInput):
    """No credentials, or no region to ask in."""


def _count(found: re.Match[str] | None, key: str) -> int | None:
    return int(float(found[key].replace(",", ""))) if found else None
