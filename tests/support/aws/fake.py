"""A stateful SageMaker on the wire: an HTTP server that boto3 reaches through AWS_ENDPOINT_URL_SAGEMAKER.

It refuses what SageMaker refuses, walks jobs through their real states on a clock that tests own, throttles, loses
connections, and puts the real log lines into CloudWatch Logs. S3, logs, IAM and STS are moto's; calls to CloudWatch
Logs pass through here, so that they can be throttled and counted as well. ``python tests/support/aws/fake.py`` runs it
on its own and prints the variables to set.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.aws.api import Api
from tests.support.aws.batch import BATCH_PATHS, Batch
from tests.support.aws.host import Host, s3_parts
from tests.support.aws.jobs import Job, Plan
from tests.support.aws.rules import Refused
from tests.support.aws.s3_listing import tell_of_restored
from tests.support.aws.wire import Handler, Server
from tests.support.clock import ManualClock, ScaledClock

__all__ = ["FakeSageMaker", "Job", "ManualClock", "Plan", "ScaledClock", "running"]

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ACCOUNT = "123456789012"
RATES_PER_S = {
    "ListTrainingJobs": 2.0,
    "DescribeTrainingJob": 10.0,
    "CreateTrainingJob": 3.0,
    "SubmitServiceJob": 5.0,
    "Logs.GetLogEvents": 10.0,
    "Logs.DescribeLogStreams": 5.0,
}


class FakeSageMaker:
    """The server and everything that tests may set or look at."""

    def __init__(self, folder: Path, moto_url: str, clock: ManualClock | ScaledClock, **settings: Any) -> None:
        """``settings``: ``quotas`` (instance type → count), ``rates_per_s``, ``grace_s``, ``default`` (Plan)."""
        self.account, self.clock, self.moto_url = ACCOUNT, clock, moto_url
        self.s3, self.iam = _client("s3", "us-east-1", moto_url), _client("iam", "us-east-1", moto_url)
        self._streams: set[tuple[str, str]] = set()
        self.rates_per_s = {**RATES_PER_S, **settings.get("rates_per_s", {})}
        self.quotas: dict[str, int] = dict(settings.get("quotas", {}))
        self.default: Plan = settings.get("default", Plan())
        self.jobs: dict[tuple[str, str], Job] = {}
        self.has_preferences = True  # whether the account may give InstancePreferences
        self.without_capacity: set[str] = set()  # instance types that nobody gets now
        self.mlflow: dict[str, tuple[str, str]] = {}  # mlflow-app/NAME or mlflow-tracking-server/NAME → version, status
        self.calls: list[tuple[str, float, str]] = []  # operation, fake time, error code or ""
        # Host (JOB/algo-1) → its machine's load at a time, as CloudWatch's metrics have it: 0..100 % of one processor
        self.load: dict[str, Callable[[float], dict[str, float]]] = {}
        self.load_lag_s = 45.0  # from a minute's end to its values being there
        self.host = Host(folder, self, settings.get("grace_s", 30.0))
        self._plans: list[tuple[str, Plan]] = []
        self._faults: list[list[Any]] = []
        self.expired_keys: set[str] = set()  # access keys whose time is over, wherever they are used
        self._tokens: dict[str, tuple[float, float]] = {}
        self._lock = threading.RLock()
        self._api = Api(self)
        self.batch = Batch(self)
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._threads = [threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)]
        self._closed = threading.Event()
        if isinstance(clock, ManualClock):
            clock.listeners.append(self.tick)
        else:
            self._threads.append(threading.Thread(target=self._tick_on, daemon=True))
        for thread in self._threads:
            thread.start()

    # what tests set

    def plan(self, names: str, plan: Plan) -> None:
        """Jobs whose name matches the pattern ``names`` go this way."""
        self._plans.insert(0, (names, plan))

    def plan_for(self, name: str) -> Plan:
        return next((plan for names, plan in self._plans if fnmatch(name, names)), self.default)

    def fail_next(self, operations: str, times: int, how: str) -> None:
        """The next ``times`` calls that match go wrong: throttle, drop (not heard), 500, expired or denied.

        ``lost``: what was asked is done, but the answer does not arrive.
        """
        self._faults.append([operations, times, how])

    def refuse_next(self, operations: str, code: str, message: str) -> None:
        """The next call that matches is answered so, in AWS's own words."""
        self._faults.append([operations, 1, Refused(code, message)])

    def forgive(self) -> None:
        """No more of the faults that were to come."""
        self._faults.clear()

    # what tests see

    def job(self, name: str, region: str = "us-east-1") -> Job:
        with self._lock:
            return self.jobs[region, name]

    def count(self, operation: str, error: str | None = None) -> int:
        """How often an operation was called; ``error`` "" counts those that went well."""
        return sum(1 for name, _, code in list(self.calls) if name == operation and error in (None, code))

    def fastest_second(self, operation: str) -> int:
        """The most calls of an operation within one second of the fake's clock."""
        seconds = Counter(int(at) for name, at, _ in list(self.calls) if name == operation)
        return max(seconds.values(), default=0)

    # the world that jobs live in

    def now(self) -> float:
        return self.clock.now()

    def tick(self) -> None:
        """Bring every job up to now."""
        with self._lock:
            for job in list(self.jobs.values()):
                job.advance(self.now())
            self.batch.advance()

    def _tick_on(self) -> None:
        while not self._closed.wait(0.02):
            self.tick()

    def put(self, uri: str, content: bytes) -> None:
        """An object in S3, put there from inside: tests put thousands, and each request takes milliseconds."""
        from moto.s3.models import s3_backends

        s3_backends[self.account]["aws"].put_object(*s3_parts(uri), content)

    def log(self, region: str, stream: str, lines: list[tuple[float, str]]) -> None:
        """Lines of one stream in CloudWatch; group and stream appear with the first."""
        logs = _client("logs", region, self.moto_url)
        if (region, stream) not in self._streams:
            try:
                logs.create_log_group(logGroupName=LOG_GROUP)
            except logs.exceptions.ResourceAlreadyExistsException:
                pass
            logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
            self._streams.add((region, stream))
        events = [{"timestamp": int(at * 1000), "message": line or " "} for at, line in lines]
        logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)

    # answering

    def answer(self, operation: str, region: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one call of SageMaker or Batch, or Refused."""
        with self._lock:
            self.tick()
            is_heard = self.let_pass(operation)
            try:
                api = self.batch if operation in BATCH_PATHS.values() else self._api
                answer = api.answer(operation, region, request)
            except Refused as refusal:
                self.calls.append((operation, self.now(), refusal.code))
                raise
            self.calls.append((operation, self.now(), "" if is_heard else "lost"))
            if not is_heard:
                raise ConnectionError
            return answer

    def create(self, request: dict[str, Any], region: str) -> Job:
        """A training job as another service of AWS has it made."""
        self._api.answer("CreateTrainingJob", region, request)
        return self.jobs[region, request["TrainingJobName"]]

    def let_pass(self, operation: str, key: str = "") -> bool:
        """Raise Refused when the call is too fast or a fault is due; ConnectionError for a lost connection.

        ``key`` is the caller's access key. False where the answer is to be lost.
        """
        try:
            if key in self.expired_keys:
                raise _expired(operation)
            is_heard = self._fault(operation)
            self._throttle(operation)
            return is_heard
        except Refused as refusal:
            self.calls.append((operation, self.now(), refusal.code))
            raise
        except ConnectionError:
            self.calls.append((operation, self.now(), "lost"))
            raise

    def _fault(self, operation: str) -> bool:
        for fault in self._faults:
            if fault[1] > 0 and fnmatch(operation, fault[0]):
                fault[1] -= 1
                if isinstance(fault[2], Refused):
                    raise fault[2]
                if fault[2] == "lost":
                    return False
                if fault[2] == "drop":
                    raise ConnectionError
                raise {
                    "throttle": Refused("ThrottlingException", "Rate exceeded"),
                    "500": Refused("InternalFailure", "The request processing has failed.", 500),
                    "expired": _expired(operation),
                    "denied": Refused(
                        "AccessDeniedException",
                        f"User: arn:aws:iam::{ACCOUNT}:user/me is not authorized to perform: sagemaker:{operation}",
                    ),
                }[fault[2]]
        return True

    def _throttle(self, operation: str) -> None:
        """A bucket that holds one second's worth of calls."""
        rate = self.rates_per_s.get(operation)
        if rate is None:
            return
        now = self.now()
        left, since = self._tokens.get(operation, (rate, now))
        left = min(rate, left + (now - since) * rate)
        self._tokens[operation] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            raise Refused("ThrottlingException", "Rate exceeded")

    def close(self) -> None:
        """End the server and every process it started."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=10)
        self.host.close()


def _expired(operation: str) -> Refused:
    """S3 spells it in its own way."""
    if operation.startswith("S3."):
        return Refused("ExpiredToken", "The provided token has expired.")
    return Refused("ExpiredTokenException", "The security token included in the request is expired")


def environment(fake: FakeSageMaker, region: str = "us-east-1") -> dict[str, str]:
    """The variables that lead boto3 here, in this process or another."""
    return {
        "AWS_ENDPOINT_URL": fake.moto_url,
        "AWS_ENDPOINT_URL_SAGEMAKER": fake.url,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": fake.url,
        "AWS_ENDPOINT_URL_CLOUDWATCH": fake.url,
        "AWS_ENDPOINT_URL_BATCH": fake.url,
        "AWS_ENDPOINT_URL_PRICING": fake.url,  # where nobody may ask
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextmanager
def running(folder: Path, clock: ManualClock | ScaledClock | None = None, **settings: Any) -> Iterator[FakeSageMaker]:
    """A fake with an empty moto beside it, a bucket ``bucket-one`` and a role ``trainer`` that SageMaker may assume."""
    _read_models_once()
    host, port = _moto()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("POST", "/moto-api/reset")  # its state is the process's
    connection.getresponse().read()
    connection.close()
    fake = FakeSageMaker(folder, f"http://{host}:{port}", clock or ManualClock(), **settings)
    try:
        # Moto, boto3 and its models are a million objects, which each of Python's hunts for garbage looked through.
        gc.freeze()
        fake.s3.create_bucket(Bucket="bucket-one")
        trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        fake.iam.create_role(RoleName="trainer", AssumeRolePolicyDocument=document)
        yield fake
    finally:
        fake.close()


@cache
def _client(service: str, region: str, moto_url: str) -> Any:
    """The fake's own door to moto."""
    import boto3

    keys = {"aws_access_key_id": "fake", "aws_secret_access_key": "fake", "endpoint_url": moto_url}
    return boto3.client(service, region_name=region, **keys)


@cache
def _read_models_once() -> None:
    """boto3's models of AWS's services, megabytes of JSON each, are read once for all sessions of the process."""
    from botocore.loaders import Loader

    # Beside them which endpoints there are, which each session reads: a tenth of a second.
    for name in ("load_service_model", "load_data_with_path"):
        setattr(Loader, name, _remembered(getattr(Loader, name)))


def _remembered(read: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[tuple[Any, ...], Any] = {}

    def remembered(self: Any, *which: Any, **named: Any) -> Any:
        key = (*which, *sorted(named.items()))
        if key not in known:
            known[key] = read(self, *which, **named)
        return known[key]

    return remembered


@cache
def _moto() -> tuple[str, int]:
    """One moto for the process; it ends with it."""
    from moto.server import ThreadedMotoServer

    tell_of_restored()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    return host, port


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", type=float, default=1.0, help="fake seconds a second")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), ScaledClock(arguments.speed)) as fake,
    ):
        for name, value in environment(fake).items():
            print(f"export {name}={value}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
