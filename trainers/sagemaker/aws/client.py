"""Calls to AWS: clients made when needed, calls at a pace AWS allows, patience, errors that say what to do.

Enters: a service, an operation, its arguments. Leaves: AWS's answer, or one of ``trainers.sagemaker.errors``.
Endpoints, credentials and regions are boto3's business (``AWS_ENDPOINT_URL_SAGEMAKER``, ``AWS_PROFILE``, …).
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from tracking.errors.redaction import hidden
from trainers.sagemaker import errors

# Calls a second. ListTrainingJobs has a quota of 2 that cannot be raised; the others' are not published, so these are
# what leaves room for the console and for a second terminal.
RATES_PER_S: Mapping[str, float] = {
    "ListTrainingJobs": 1.5,
    "DescribeTrainingJob": 4.0,
    "CreateTrainingJob": 1.0,
    "StopTrainingJob": 2.0,
    "GetLogEvents": 8.0,
    "DescribeLogStreams": 4.0,
    "GetMetricData": 10.0,
    "SubmitServiceJob": 2.5,  # AWS Batch takes 5 for all of an account
    "DescribeServiceJob": 4.0,
}
_SLOWEST = 8.0  # how many times slower than its rate a throttled operation may become
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_MOST_EMPTY_PAGES = 100
# A listing's token in the answer and in the next question, where it is not NextToken.
_TOKENS = {
    "logs": ("nextToken", "nextToken"),
    "batch": ("nextToken", "nextToken"),
    "s3": ("NextContinuationToken", "ContinuationToken"),
    "iam": ("Marker", "Marker"),
}
_LONGEST_WORDS = 1200  # AWS's own refusals may name many faults
_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
}
_DOWN = {"InternalFailure", "InternalServerError", "InternalError", "ServiceUnavailable", "ServiceUnavailableException"}
_SKEWED = {"RequestTimeTooSkewed", "RequestInTheFuture"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "403"}
_REJECTED = {
    "ValidationException",
    "ValidationError",
    "SerializationException",
    "InvalidParameterException",
    "ClientException",  # AWS Batch's
}
_MISSING = {"ResourceNotFound", "ResourceNotFoundException", "NoSuchBucket", "NoSuchKey", "NoSuchEntity", "404"}
_MISSING |= {"RepositoryNotFoundException", "ImageNotFoundException"}


class Clock(Protocol):
    """Time as the watcher sees it; tests bring their own."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def sleep(self, seconds: float) -> None:
        """Come back after so many seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Come back after so many seconds."""
        time.sleep(seconds)


class Pace:
    """Spaces the calls of each operation; a throttled one is slowed down and recovers call by call. Thread-safe."""

    def __init__(self, clock: Clock, rates_per_s: Mapping[str, float] = RATES_PER_S) -> None:
        self._clock, self._rates = clock, rates_per_s
        self._guard = threading.Lock()
        self._free_at: dict[str, float] = {}
        self._slower: dict[str, float] = {}

    def wait(self, operation: str) -> None:
        """Return when the next call of ``operation`` may be made."""
        rate = self._rates.get(operation)
        if rate is None:
            return
        with self._guard:
            now = self._clock.now()
            start = max(now, self._free_at.get(operation, now))
            # A clock that was set back must not hold us up.
            start = min(start, now + 60.0)
            self._free_at[operation] = start + self._slower.get(operation, 1.0) / rate
        if start > now:
            self._clock.sleep(start - now)

    def throttled(self, operation: str) -> None:
        """AWS found us too fast."""
        with self._guard:
            self._slower[operation] = min(_SLOWEST, self._slower.get(operation, 1.0) * 2)

    def answered(self, operation: str) -> None:
        """AWS answered."""
        with self._guard:
            if operation in self._slower:
                self._slower[operation] = max(1.0, self._slower[operation] * 0.9)


class Aws:
    """One account and region, asked as one profile. Safe to share between threads."""

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        clock: Clock | None = None,
        on_trouble: Callable[[str], None] = lambda message: None,
    ) -> None:
        """``on_trouble`` gets, in a sentence, what a call waits for: throttling, a dead network, expired keys."""
        self.clock: Clock = SystemClock() if clock is None else clock
        self.pace = Pace(self.clock)
        self.profile = profile
        self.on_trouble = on_trouble
        self._region = region
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        self._guard = threading.Lock()

    @property
    def region(self) -> str:
        """The region asked. Raises NoCredentials when none is set."""
        region = self._region or self._boto_session().region_name
        if region is None:
            raise errors.NoCredentials(
                "no AWS region: give --region, set AWS_DEFAULT_REGION, or name one in ~/.aws/config."
            )
        return str(region)

    def client(self, service: str) -> Any:
        """The boto3 client of a service, such as ``s3``. S3's retries by itself; the others are called by ``call``."""
        from botocore.config import Config

        region, session = self.region, self._boto_session()
        with self._guard:
            if service not in self._clients:
                attempts = 10 if service == "s3" else 1
                config = Config(
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    connect_timeout=5,
                    read_timeout=60 if service == "s3" else 20,
                    max_pool_connections=16,
                    tcp_keepalive=True,
                )
                self._clients[service] = session.client(service, region_name=region, config=config)
            return self._clients[service]

    def call(self, service: str, operation: str, *, patience_s: float | None = 120.0, **arguments: Any) -> Any:
        """Call ``operation`` (``DescribeTrainingJob``) of ``service`` and return AWS's answer.

        Throttling, outages and a dead network are waited out for ``patience_s`` seconds (None: as long as it takes, for
        expired credentials too); then Unreachable is raised. Every other error is raised at once.
        """
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError  # a proxy's page instead of AWS's answer

        given_up_at = None if patience_s is None else self.clock.now() + patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            self.pace.wait(operation)
            try:
                answer = getattr(self.client(service), xform_name(operation))(**arguments)
            except (ClientError, BotoCoreError, ResponseParserError, RuntimeError) as error:
                translated = self.failed(error, operation)
                if isinstance(error, ClientError) and _code(error) in _THROTTLED:
                    self.pace.throttled(operation)
                has_expired = isinstance(translated, errors.NotAllowed) and translated.has_expired
                if not isinstance(translated, errors.Unreachable) and not (has_expired and patience_s is None):
                    raise translated from error
                # Spread out, so that many waiting processes don't all come back at once.
                nap_s = pause_s * (0.5 + random.random() / 2)
                if given_up_at is not None and self.clock.now() + nap_s > given_up_at:
                    raise translated from error
                self.on_trouble(str(translated))
                self.clock.sleep(nap_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            else:
                self.pace.answered(operation)
                return answer

    def pages(
        self, service: str, operation: str, *, patience_s: float | None = 120.0, **arguments: Any
    ) -> Iterator[Any]:
        """Every page of a listing, by its token, each at the operation's pace.

        A listing has been seen to continue with empty pages and new tokens without end: AwsError is raised then.
        """
        answers, asks = _TOKENS.get(service, ("NextToken", "NextToken"))
        token: dict[str, str] = {}
        num_empty = 0
        while True:
            page = self.call(service, operation, patience_s=patience_s, **arguments, **token)
            yield page
            if not page.get(answers) or (service == "s3" and not page.get("IsTruncated")):
                return
            num_empty = 0 if any(isinstance(part, list) and part for part in page.values()) else num_empty + 1
            if num_empty >= _MOST_EMPTY_PAGES or token == {asks: page[answers]}:
                raise errors.AwsError(
                    f"{operation}: AWS continues with empty pages without end; try again, or ask for less.",
                    operation=operation,
                )
            token = {asks: page[answers]}

    def s3(self, operation: str, **arguments: Any) -> Any:
        """Call ``operation`` (``HeadObject``) of S3, which retries by itself. Raises AwsError."""
        from boto3.exceptions import Boto3Error
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client("s3"), xform_name(operation))(**arguments)
        except (Boto3Error, BotoCoreError, ClientError, RuntimeError) as error:
            raise self.failed(error, operation) from error

    def read_object(self, bucket: str, key: str, span: str | None = None) -> bytes:
        """An object of S3, or the bytes of it that ``span`` (``bytes=0-99``) names. Raises AwsError."""
        from botocore.exceptions import BotoCoreError

        answer = self.s3("GetObject", Bucket=bucket, Key=key, **({} if span is None else {"Range": span}))
        try:
            return bytes(answer["Body"].read())
        except BotoCoreError as error:  # the connection broke on the way
            raise self.failed(error, "GetObject") from error

    def failed(self, error: Exception, operation: str) -> Exception:
        """A botocore error as one of ours; after one about the credentials the next call looks for new ones."""
        translated = translate(error, operation)
        has_expired = isinstance(translated, errors.NotAllowed) and translated.has_expired
        if has_expired or isinstance(translated, errors.NoCredentials):
            # New keys in a file are seen by a new session only.
            with self._guard:
                self._clients.clear()
                self._session = None
        return translated

    def _boto_session(self) -> Any:
        try:
            import boto3
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise errors.NoCredentials(
                "SageMaker needs boto3: pip install 'image-classification-tracking[sagemaker]'"
            ) from error
        with self._guard:
            if self._session is None:
                try:
                    self._session = boto3.Session(profile_name=self.profile, region_name=self._region)
                except BotoCoreError as error:  # an unknown profile
                    raise errors.NoCredentials(f"{error}: give --profile one of ~/.aws/config") from error
            return self._session


def translate(error: Exception, operation: str) -> Exception:
    """A botocore error as one of ours."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions as boto

    if isinstance(error, Boto3Error) and isinstance(error.__context__, Exception):
        error = error.__context__  # of a transfer boto3 raises errors of its own around S3's
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoRegionError)):
        return errors.NoCredentials(f"{error}. Give --profile and --region, or set up AWS's own files or variables.")
    if isinstance(error, boto.ParamValidationError):
        return errors.Rejected(f"{operation}: {error}", code="ParamValidation", operation=operation)
    if isinstance(error, RuntimeError) and "expired" not in str(error):
        raise error  # botocore says so of keys that it renewed and that have expired again; the rest is not AWS's
    if not isinstance(error, boto.ClientError):
        kinds = ("TokenRetrievalError", "SSOError", "CredentialRetrievalError", "NoAuthTokenError", "LoginError")
        lapsed = tuple(getattr(boto, kind) for kind in kinds if hasattr(boto, kind))
        if isinstance(error, (RuntimeError, *lapsed)):
            return errors.NotAllowed(f"{operation}: {error}", code="ExpiredToken", operation=operation)
        return errors.Unreachable(f"{operation}: no answer from AWS ({_words(str(error))})", operation=operation)
    code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = _words(str(error.response.get("Error", {}).get("Message", "")) or code)
    kind: type[errors.AwsError] = errors.AwsError
    message = f"{operation}: {reason}"
    if code in _THROTTLED:
        kind, message = errors.Unreachable, f"{operation}: AWS asks us to be slower ({reason})"
    elif code in _SKEWED or "Signature expired" in reason:  # a laptop that woke up between signing and sending
        kind, message = errors.Unreachable, f"{operation}: AWS finds this machine's clock wrong ({reason})"
    elif code in _DOWN or status >= 500:
        kind, message = errors.Unreachable, f"{operation}: AWS has a fault of its own ({reason})"
    elif code in errors.EXPIRED or (code == "400" and operation.startswith("Head")):
        # S3 answers a HEAD without a body: expired keys are a bare 400.
        code = code if code in errors.EXPIRED else "ExpiredToken"
        kind, message = errors.NotAllowed, f"{operation}: credentials expired or unknown ({reason}); renew them."
    elif code in _DENIED:
        kind, message = errors.NotAllowed, f"{operation}: {reason}. Ask for the permission, or give another --profile."
    elif code == "ResourceInUse":
        kind = errors.NameTaken
    elif code in ("ResourceLimitExceeded", "ResourceLimitExceededException"):
        kind = errors.QuotaReached
    elif code in _MISSING or "not found" in reason.lower() or "could not find" in reason.lower():
        kind = errors.NotFound
    elif code in _REJECTED:
        kind = errors.Rejected
    return kind(message, code=code, operation=operation)


def _words(text: str) -> str:
    """An answer as it may go into a message: of a proxy's page its words, of everything else not too much."""
    text = hidden(text[:20_000])  # before it is cut short: half a secret is not known any more
    if "<html" in text.lower() or "<!doctype" in text.lower():
        plain = " ".join(
            re.sub(r"<(style|script).*?</\1\s*>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).split()
        )
        return f"a web page instead of AWS's answer, perhaps a proxy's: {plain[:120]}{'…' if len(plain) > 120 else ''}"
    return text if len(text) <= _LONGEST_WORDS else text[: _LONGEST_WORDS - 1] + "…"


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


class Clients:
    """One ``Aws`` for each region and profile."""

    def __init__(self) -> None:
        self._open: dict[tuple[str | None, str | None], Aws] = {}

    def of(self, region: str | None, profile: str | None) -> Aws:
        """The same one for the same two."""
        if (region, profile) not in self._open:
            self._open[region, profile] = Aws(region=region, profile=profile)
        return self._open[region, profile]
