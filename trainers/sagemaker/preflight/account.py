"""The preflight of the account: who asks, the role, the buckets, the image, the name, the quotas.

Enters: the request and the client of AWS. Leaves: findings. What may not be asked is said to be unchecked, never
assumed; nothing is changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import chain
from typing import Any

from trainers.data.check.rules import Finding
from trainers.errors import TrainerError
from trainers.sagemaker import errors
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.objects import Objects
from trainers.sagemaker.aws.uri import split_s3
from trainers.sagemaker.job import queue as queues
from trainers.sagemaker.job.request import types_of
from trainers.sagemaker.preflight import permissions
from trainers.sagemaker.preflight.data.facts import channels
from trainers.sagemaker.preflight.findings import finding, short, unasked
from trainers.sagemaker.preflight.permissions import PATIENCE_S, SERVICE


def check(
    request: Mapping[str, Any],
    aws: Aws,
    objects: Objects,
    *,
    region: str,
    is_builtin: bool,
    num_jobs: int = 1,
    fallback: Sequence[str] = (),
    queue: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Everything that AWS can be asked about the account. Without credentials one finding says so.

    ``queue``: as in the ledger's ``Entry``.
    """
    try:
        caller = aws.call("sts", "GetCallerIdentity", patience_s=PATIENCE_S)
    except TrainerError as error:
        return [finding("credentials", short(error))]
    role = str(request.get("RoleArn", ""))
    questions: list[Callable[[], Iterator[Finding]]] = [
        lambda: _role(role, str(caller["Account"]), aws),
        lambda: permissions.check(
            request, str(caller["Arn"]), str(caller["Account"]), region, aws, queue["name"] if queue else None
        ),
        lambda: _buckets(request, region, objects),
        lambda: _name(request, aws),
        lambda: _quotas(request, aws, num_jobs, fallback),
    ]
    if queue is not None:
        questions.append(lambda: _queue(request, aws, queue, num_jobs))
    if not is_builtin:
        questions += [lambda: _image(request, aws), lambda: _tracking_server(request, aws)]
    with ThreadPoolExecutor(max_workers=len(questions)) as pool:
        return [finding for answer in pool.map(lambda question: list(question()), questions) for finding in answer]


def _role(role: str, account: str, aws: Aws) -> Iterator[Finding]:
    owner = role.split(":")[4] if role.count(":") >= 5 else ""
    if owner and owner != account:
        yield finding("role-account", f"{role} is not of account {account}, which the credentials are of")
        return
    try:
        answer = aws.call("iam", "GetRole", patience_s=PATIENCE_S, RoleName=role.rpartition("/")[2])
    except errors.NotFound:
        yield finding("role-missing", f"there is no role {role}")
        return
    except TrainerError as error:
        yield unasked("role-unchecked", role, error)
        return
    if answer["Role"].get("Arn", role) != role:  # a role's path is part of its name
        yield finding("role-missing", f"there is no role {role}, but {answer['Role']['Arn']}")
        return
    policy = answer["Role"].get("AssumeRolePolicyDocument", {})
    policy = json.loads(policy) if isinstance(policy, str) else policy
    if not any(_trusts(statement) for statement in _several(policy.get("Statement", []))):
        yield finding("role-trust", f"{role} does not trust {SERVICE}")


def _trusts(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = ["*"] if principal == "*" else _several(principal.get("Service", []))
    actions = {str(action).lower() for action in _several(statement.get("Action", []))}
    return (
        statement.get("Effect") == "Allow"
        and (SERVICE in services or "*" in services)
        and bool(actions & {"sts:assumerole", "sts:*", "*"})
    )


def _buckets(request: Mapping[str, Any], region: str, objects: Objects) -> Iterator[Finding]:
    """Each bucket once: is it there, and in the job's region."""
    output = request.get("OutputDataConfig", {}).get("S3OutputPath", "")
    uses: dict[str, str] = {channel.bucket: channel.name for channel in channels(request)}
    if output:
        uses.setdefault(split_s3(output)[0], "output")
    for bucket, use in uses.items():
        try:
            found_region = objects.region(bucket)
        except errors.NotFound:
            yield finding("bucket-missing", f"{use}: there is no bucket {bucket}")
        except TrainerError as error:
            yield unasked("bucket-denied", f"{use}: bucket {bucket}", error)
        else:
            if found_region and found_region != region:
                yield finding("bucket-region", f"{use}: bucket {bucket} is in {found_region}, the job in {region}")
    if output:
        yield finding("output-unchecked", f"whether the role may write to {output}")


def _name(request: Mapping[str, Any], aws: Aws) -> Iterator[Finding]:
    name = request.get("TrainingJobName", "")
    try:
        aws.call("sagemaker", "DescribeTrainingJob", patience_s=PATIENCE_S, TrainingJobName=name)
    except errors.NotFound:
        return
    except TrainerError as error:
        yield unasked("name-unchecked", name, error)
    else:
        yield finding("name-taken", f"there is a job {name} already")


def _image(request: Mapping[str, Any], aws: Aws) -> Iterator[Finding]:
    image = request.get("AlgorithmSpecification", {}).get("TrainingImage", "")
    parts = images.registry(image)
    if parts is None:
        return  # said already, without asking
    identity = {"imageDigest": parts.digest} if parts.digest is not None else {"imageTag": parts.tag}
    try:
        aws.call(
            "ecr",
            "DescribeImages",
            patience_s=PATIENCE_S,
            registryId=parts.account,
            repositoryName=parts.repository,
            imageIds=[identity],
        )
    except errors.NotFound as error:
        yield finding("image-missing", f"{image}: {short(error)}")
    except TrainerError as error:
        yield unasked("image-unchecked", image, error)


def _tracking_server(request: Mapping[str, Any], aws: Aws) -> Iterator[Finding]:
    """The MLflow behind an ARN that the container will log to: is it there, is it running, and which version is it."""
    arn = request.get("Environment", {}).get("MLFLOW_TRACKING_URI", "")
    kind, _, name = arn.rpartition(":")[2].partition("/")
    if not arn.startswith("arn:"):
        return
    try:
        if kind == "mlflow-app":
            server = aws.call("sagemaker", "DescribeMlflowApp", patience_s=PATIENCE_S, Arn=arn)
        else:
            server = aws.call(
                "sagemaker", "DescribeMlflowTrackingServer", patience_s=PATIENCE_S, TrackingServerName=name
            )
    except errors.NotFound:
        yield finding("tracking-missing", f"there is no {arn}")
        return
    except TrainerError as error:
        yield unasked("tracking-unchecked", arn, error)
        return
    status = str(server.get("TrackingServerStatus") or server.get("Status") or "")
    version, here = str(server.get("MlflowVersion", "?")), metadata.version("mlflow")
    words = f"{arn} runs MLflow {version}; here is {here}"
    if status and not status.startswith(("Created", "Started", "Updated", "Maintenance")):
        yield finding("tracking-missing", f"{words}, and it is {status}")
    elif version.partition(".")[0] < here.partition(".")[0]:
        yield finding("tracking-older", words)
    else:
        yield finding("tracking-version", words)


def quotas(aws: Aws, patience_s: float) -> Iterator[Mapping[str, Any]]:
    """SageMaker's quotas, those of this account first; of one that was never raised AWS may know its default alone."""
    asked: dict[str, Any] = {"patience_s": patience_s, "ServiceCode": "sagemaker"}
    applied = aws.pages("service-quotas", "ListServiceQuotas", **asked)
    for page in chain(applied, aws.pages("service-quotas", "ListAWSDefaultServiceQuotas", **asked)):
        yield from page.get("Quotas", [])


def _quotas(request: Mapping[str, Any], aws: Aws, num_jobs: int, fallback: Sequence[str]) -> Iterator[Finding]:
    resources = request.get("ResourceConfig", {})
    count = resources.get("InstanceCount", 1)
    usage = "spot training job usage" if request.get("EnableManagedSpotTraining") else "training job usage"
    kinds = types_of(request) + tuple(fallback)
    wanted = {f"{kind} for {usage}": "quota" for kind in kinds}
    if resources.get("KeepAlivePeriodInSeconds"):
        wanted |= {f"{kind} for training warm pool usage": "warm-pool-quota" for kind in kinds}
    try:
        for quota in quotas(aws, PATIENCE_S):
            code = wanted.pop(quota["QuotaName"], None)
            if code is not None and quota["Value"] < count:
                yield finding(code, f"{quota['QuotaName']} is {quota['Value']:g} in this account, {count} needed")
            elif code == "quota" and quota["Value"] < count * num_jobs:
                at_once = int(quota["Value"] // count)
                yield finding(
                    code,
                    f"{quota['QuotaName']} is {quota['Value']:g}, for {num_jobs} jobs: {at_once} at a time",
                    severity="warning",
                    fix="Nothing need be done: the others wait for their turn.",
                    why="",
                )
            if not wanted:
                return
    except TrainerError as error:
        yield unasked("quota-unchecked", " and ".join(wanted), error)
        return
    yield from (finding("quota-unchecked", f"AWS lists no quota called {name!r}") for name in wanted)


def _queue(request: Mapping[str, Any], aws: Aws, asked: Mapping[str, Any], num_jobs: int) -> Iterator[Finding]:
    """The queue that the job is to wait in, and how many machines its service environment lets run at once."""
    name, share = asked["name"], asked.get("share")
    size = len(queues.payload(request).encode())
    if size > queues.MOST_PAYLOAD_BYTES:
        yield finding("queue-payload", f"the request has {size:,} bytes, {queues.MOST_PAYLOAD_BYTES:,} are the most")
    try:
        found = aws.call("batch", "DescribeJobQueues", patience_s=PATIENCE_S, jobQueues=[name])["jobQueues"]
        if not found:
            yield finding("queue-missing", f"there is no job queue {name} in {aws.region}")
            return
        order = [one["serviceEnvironment"] for one in found[0].get("serviceEnvironmentOrder", [])]
        answer = aws.call("batch", "DescribeServiceEnvironments", patience_s=PATIENCE_S, serviceEnvironments=order)
    except TrainerError as error:
        yield unasked("queue-unchecked", f"queue {name}", error)
        return
    kind, policy = found[0].get("jobQueueType", "ECS"), found[0].get("schedulingPolicyArn")
    if kind != queues.TYPE:
        yield finding("queue-type", f"{name} is of type {kind}, not {queues.TYPE}")
        return
    if bool(share) != bool(policy):
        has = f"has the scheduling policy {policy.rpartition('/')[2]}" if policy else "has no scheduling policy"
        yield finding("queue-share", f"{name} {has}, and --queue-share is {share or 'not given'}")
    parts = [(f"queue {name}", found[0])]
    parts += [(f"service environment {one['serviceEnvironmentName']}", one) for one in answer["serviceEnvironments"]]
    for what, one in parts:
        state, status, why = one.get("state", "ENABLED"), one.get("status", "VALID"), one.get("statusReason")
        if (state, status) != ("ENABLED", "VALID"):
            yield finding("queue-state", f"{what} is {state} and {status}" + (f": {why}" if why else ""))
    units, count = ("NUM_INSTANCES", *types_of(request)), int(request["ResourceConfig"]["InstanceCount"])
    limits = [limit for _, one in parts[1:] for limit in one["capacityLimits"] if limit.get("capacityUnit") in units]
    most = max((limit["maxCapacity"] for limit in limits), default=0)
    if most < count:
        yield finding("queue-capacity", f"{name} lets {most} machines run at once, and the job wants {count}")
    else:
        yield finding("queue-room", f"{name} lets {most} machines run at once; asked for are {num_jobs} × {count}")


def _several(value: Any) -> list[Any]:
    """IAM writes one item without its list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
