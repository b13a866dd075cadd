"""The preflight of permissions: what IAM itself says the job's role and the caller may do, by its policy simulator.

Enters: the request, the caller, the client of AWS. Leaves: findings. The simulator knows a request's circumstances only
where they are given (``ContextEntries``); a denial that rests on others is said to be unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainers.data.check.rules import Finding
from trainers.errors import TrainerError
from trainers.sagemaker import errors
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.job.request import types_of
from trainers.sagemaker.preflight.data.facts import channels, some
from trainers.sagemaker.preflight.findings import finding, unasked

PATIENCE_S = 5.0
SERVICE = "sagemaker.amazonaws.com"


@dataclass(frozen=True)
class _Question:
    """May somebody do ``action`` on each of ``resources``? ``context``: key → value, or values of a list."""

    action: str
    resources: list[str]
    context: dict[str, str | list[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """IAM's decision on one resource; ``missing`` are context keys its policies ask about and that were not given."""

    action: str
    resource: str
    decision: str
    missing: tuple[str, ...]
    by_organization: bool  # its policies do not allow it, whatever the account's say

    @property
    def what(self) -> str:
        return f"{self.action} on {self.resource}"


def check(
    request: Mapping[str, Any], caller: str, account: str, region: str, aws: Aws, queue: str | None = None
) -> Iterator[Finding]:
    """Findings about the role, then about the caller (the ARN of GetCallerIdentity), who may launch into a queue."""
    role = str(request.get("RoleArn", ""))
    try:
        answers = _ask(role, _of_role(request, region), aws)
    except TrainerError as error:
        yield unasked("permissions-unchecked", f"what {role.rpartition('/')[2]} may do", error)
        if isinstance(error, errors.NotAllowed):
            return  # nor may the caller be asked about
    else:
        yield from _about_role(role, answers)
    if caller.endswith(":root"):
        return  # the account's owner; no policy of the account binds it
    try:
        answers = _ask(_principal(caller, aws), _of_caller(request, account, region, queue), aws)
    except TrainerError as error:
        yield unasked("permissions-unchecked", f"what {caller} may do", error)
    else:
        yield from _about_caller(caller, answers)


def _of_role(request: Mapping[str, Any], region: str) -> list[_Question]:
    s3 = f"arn:{_partition(request)}:s3:::"
    given, here = channels(request), {"aws:RequestedRegion": region}
    # A key that names a file is asked about as it is; other prefixes mean every key that begins so.
    read = {f"{s3}{c.bucket}/{c.prefix}{'' if _is_key(c.prefix) else '*'}" for c in given}
    questions = [_Question("s3:GetObject", sorted(read), {**here})]
    for bucket, prefix in sorted({(c.bucket, c.prefix) for c in given}):
        questions.append(_Question("s3:ListBucket", [s3 + bucket], {**here, "s3:prefix": prefix}))
    output = str(request.get("OutputDataConfig", {}).get("S3OutputPath", "")).removeprefix("s3://").rstrip("/")
    questions.append(_Question("s3:PutObject", [f"{s3}{output}/*"], {**here}))
    image = images.registry(str(request.get("AlgorithmSpecification", {}).get("TrainingImage", "")))
    if image is not None and not images.is_builtin(request["AlgorithmSpecification"]["TrainingImage"]):
        repository = f"arn:{_partition(request)}:ecr:{image.region}:{image.account}:repository/{image.repository}"
        questions.append(_Question("ecr:BatchGetImage", [repository], {"aws:RequestedRegion": image.region}))
    return [question for question in questions if question.resources]


def _of_caller(request: Mapping[str, Any], account: str, region: str, queue: str | None) -> list[_Question]:
    name = request.get("TrainingJobName", "")
    job = f"arn:{_partition(request)}:sagemaker:{region}:{account}:training-job/{name}"
    context: dict[str, str | list[str]] = {
        "aws:RequestedRegion": region,
        "sagemaker:InstanceTypes": list(types_of(request)),
    }
    network = request.get("VpcConfig", {})
    for key, values in (
        ("sagemaker:VpcSubnets", network.get("Subnets")),
        ("sagemaker:VpcSecurityGroupIds", network.get("SecurityGroupIds")),
    ):
        if values:
            context[key] = list(values)
    pass_role = _Question("iam:PassRole", [str(request.get("RoleArn", ""))], {"iam:PassedToService": SERVICE})
    if queue is None:
        return [pass_role, _Question("sagemaker:CreateTrainingJob", [job], context)]
    # Batch makes the training job, under a role of its own; its jobs are found and ended by the caller.
    batch, here = f"arn:{_partition(request)}:batch:{region}:{account}:", {"aws:RequestedRegion": region}
    places = {
        "SubmitServiceJob": queue if queue.startswith("arn:") else f"{batch}job-queue/{queue}",
        "TagResource": f"{batch}service-job/*",
        "DescribeServiceJob": f"{batch}service-job/*",
        "TerminateServiceJob": f"{batch}service-job/*",
        "ListServiceJobs": "*",
    }
    return [pass_role, *(_Question(f"batch:{action}", [where], {**here}) for action, where in places.items())]


def _ask(who: str, questions: list[_Question], aws: Aws) -> list[_Answer]:
    """IAM's decision on each resource of each question. Raises AwsError."""
    answers: list[_Answer] = []
    for question in questions:
        entries = [
            {
                "ContextKeyName": key,
                "ContextKeyValues": [value] if isinstance(value, str) else value,
                "ContextKeyType": "string" if isinstance(value, str) else "stringList",
            }
            for key, value in question.context.items()
        ]
        answer = aws.call(
            "iam",
            "SimulatePrincipalPolicy",
            patience_s=PATIENCE_S,
            PolicySourceArn=who,
            ActionNames=[question.action],
            ResourceArns=question.resources,
            ContextEntries=entries,
        )
        for result in answer.get("EvaluationResults", []):
            answers += _decisions(result, question.action)
    return answers


def _decisions(result: Mapping[str, Any], action: str) -> Iterator[_Answer]:
    """A result is about all of an action's resources, with the single ones below it; in older answers about one."""
    by_organization = result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False
    whole = {**result, "EvalResourceDecision": result.get("EvalDecision")}
    for one in result.get("ResourceSpecificResults") or [whole]:
        missing = tuple(one.get("MissingContextValues") or result.get("MissingContextValues") or ())
        yield _Answer(
            action=action,
            resource=str(one.get("EvalResourceName", "*")),
            decision=str(one.get("EvalResourceDecision")),
            missing=missing,
            by_organization=by_organization,
        )


def _denied(answers: list[_Answer]) -> list[_Answer]:
    """What is not allowed; resources of the same answer together."""
    alike: dict[_Answer, list[str]] = {}
    for answer in answers:
        if answer.decision != "allowed":
            alike.setdefault(replace(answer, resource=""), []).append(answer.resource)
    return [replace(answer, resource=some(resources)) for answer, resources in alike.items()]


def _about_role(role: str, answers: list[_Answer]) -> Iterator[Finding]:
    s3 = [answer for answer in answers if answer.action.startswith("s3:")]
    if all(a.decision == "implicitDeny" and not a.missing and not a.by_organization for a in s3) and s3:
        yield finding(
            "role-permission",
            f"{role} has no permission in S3 at all: not {some([answer.what for answer in s3])}",
            fix="Give the role s3:GetObject, s3:ListBucket and s3:PutObject on data and output;"
            " if the buckets' own policies let it, --force launches.",
        )
        answers = [answer for answer in answers if answer not in s3]
    for answer in _denied(answers):
        what = f"{role} may not {answer.what}"
        if answer.missing:
            yield _unknown(role, answer)
        elif answer.decision == "explicitDeny" or answer.by_organization:
            yield finding("role-permission", what)
        else:
            owner = "bucket" if answer.action.startswith("s3:") else "repository"
            yield finding("role-permission", f"{what}, unless the {owner}'s own policy lets it", severity="warning")


def _about_caller(caller: str, answers: list[_Answer]) -> Iterator[Finding]:
    for answer in _denied(answers):
        if answer.missing:
            yield _unknown(caller, answer)
        else:
            why = f"launching needs {answer.action}" if answer.action != "iam:PassRole" else ""
            yield finding("pass-role", f"{caller} may not {answer.what}", fix=f"Ask for {answer.action}.", why=why)


def _unknown(who: str, answer: _Answer) -> Finding:
    return finding(
        "permissions-unchecked",
        f"whether {who} may {answer.what}: its policies ask about {some(answer.missing)}",
        why="IAM's simulator does not know what the real request will say",
        fix="Be sure that the conditions of the policy hold.",
    )


def _principal(caller: str, aws: Aws) -> str:
    """IAM's name of a caller: the role behind an assumed one, whose path the caller's own name leaves out."""
    parts = caller.split(":", 5)
    if len(parts) != 6 or not parts[5].startswith("assumed-role/"):
        return caller
    name = parts[5].split("/")[1]
    try:
        return str(aws.call("iam", "GetRole", patience_s=PATIENCE_S, RoleName=name)["Role"]["Arn"])
    except errors.AwsError:
        return f"{parts[0]}:{parts[1]}:iam::{parts[4]}:role/{name}"


def _is_key(prefix: str) -> bool:
    return "." in prefix.rpartition("/")[2]


def _partition(request: Mapping[str, Any]) -> str:
    role = str(request.get("RoleArn", ""))
    return role.split(":")[1] if role.count(":") >= 5 else "aws"
