"""``python -m trainers.jobs setup``: what an account lacks for its first job, with the least policies and commands.

Nothing is changed but with ``--create``, after everything was shown and confirmed: the role and the bucket. What of a
job's settings the account or a SageMaker notebook can say is filled in by ``completed``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainers.errors import BadInput, TrainerError
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import is_legal, split_s3
from trainers.sagemaker.cost.instances import SMALLEST_GPU
from trainers.sagemaker.errors import AwsError, NoCredentials, NotFound
from trainers.sagemaker.options import JobOptions, default_output
from trainers.sagemaker.preflight.account import quotas

METADATA = Path("/opt/ml/metadata/resource-metadata.json")  # only in SageMaker's notebooks and Studio
_PATIENCE_S = 5.0
ROLE = "image-classification-tracking"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options beside region and profile."""
    parser.add_argument("--role", metavar="NAME", help=f"the jobs' role (default: the notebook's, else {ROLE})")
    parser.add_argument(
        "--output", metavar="S3_URI", help="default: s3://sagemaker-REGION-ACCOUNT/image-classification"
    )
    parser.add_argument("--instance-type", default=SMALLEST_GPU, metavar="TYPE", help="default: %(default)s")
    parser.add_argument("--create", action="store_true", help="make role and bucket, after a question")


def completed(options: JobOptions) -> JobOptions:
    """The options with a role's name made its ARN; in a SageMaker notebook its role, region and bucket for unset ones.

    Raises NoCredentials, AwsError.
    """
    notebook = _notebook()
    options = replace(options, region=options.region or _notebook_region())
    role = options.role or notebook.get("ExecutionRoleArn")
    if options.region is not None and (role and ":" not in role or notebook and not role):
        aws = Aws(region=options.region, profile=options.profile)
        caller = str(aws.call("sts", "GetCallerIdentity", patience_s=_PATIENCE_S)["Arn"])
        if not role and ":assumed-role/" in caller:
            role = caller.split("/")[1]
        role = _arn_of(role, caller, aws) if role else None
    options = replace(options, role=role)
    if notebook and options.output is None and options.region and options.account:
        options = replace(options, output=default_output(options.region, options.account))
    return options


def _notebook() -> dict[str, Any]:
    """What SageMaker wrote down of the notebook that this runs in; empty elsewhere."""
    try:
        found = json.loads(METADATA.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and str(found.get("ResourceArn", "")).count(":") >= 5 else {}


def _arn_of(role: str, caller: str, aws: Aws) -> str:
    """IAM knows a role's path; where it may not be asked, the roles that SageMaker's console makes have one."""
    try:
        return str(aws.call("iam", "GetRole", patience_s=_PATIENCE_S, RoleName=role.rpartition("/")[2])["Role"]["Arn"])
    except AwsError:
        path = "service-role/" if role.startswith("AmazonSageMaker-ExecutionRole-") else ""
        _, partition, _, _, account, _ = caller.split(":", 5)
        return f"arn:{partition}:iam::{account}:role/{path}{role}"


def role_policy(output: str, account: str, region: str, partition: str = "aws") -> dict[str, Any]:
    """The least that a job's role needs for data and results under ``output``."""
    s3, under, place = *_places(output, partition), f"{region}:{account}"
    repository = f"arn:{partition}:ecr:{place}:repository/{images.OWN_REPOSITORY}"
    logs = f"arn:{partition}:logs:{place}:log-group:/aws/sagemaker/TrainingJobs*"
    return _policy(
        (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], under + "*"),
        (["s3:ListBucket"], s3),
        (
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
            logs,
        ),
        (["cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"], "*"),
        (["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"], repository),
    )


def caller_policy(output: str, account: str, region: str, role: str, partition: str = "aws") -> dict[str, Any]:
    """The least that people need who launch and watch jobs; a test holds it against the calls that the code makes."""
    s3, under, place = *_places(output, partition), f"{region}:{account}"
    job = f"arn:{partition}:sagemaker:{place}:training-job/*"
    repository = f"arn:{partition}:ecr:{place}:repository/{images.OWN_REPOSITORY}"
    mlflow = f"arn:{partition}:sagemaker:{place}:mlflow-"
    role_arn = f"arn:{partition}:iam::{account}:role/{role}"
    log_group = f"arn:{partition}:logs:{place}:log-group:/aws/sagemaker/TrainingJobs"
    batch = f"arn:{partition}:batch:{place}:"
    queued = f"{batch}service-job/*"
    jobs = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "ListTags", "AddTags")
    servers = ("DescribeMlflowTrackingServer", "DescribeMlflowApp")
    return _policy(
        ([f"sagemaker:{name}" for name in jobs], job),
        (["sagemaker:ListTrainingJobs", "pricing:GetProducts", "cloudwatch:GetMetricData"], "*"),
        (["servicequotas:ListServiceQuotas", "servicequotas:ListAWSDefaultServiceQuotas"], "*"),
        ([f"sagemaker:{name}" for name in servers], mlflow + "*"),
        (["iam:PassRole"], role_arn, {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}),
        (["iam:GetRole", "iam:SimulatePrincipalPolicy"], role_arn),
        (["s3:GetObject", "s3:PutObject"], under + "*"),
        (["s3:DeleteObject"], under + "uploads/*"),
        (["s3:ListBucket"], s3),
        (["logs:DescribeLogStreams", "logs:GetLogEvents"], log_group + ":*"),
        (["ecr:BatchGetImage", "ecr:DescribeImages"], repository),
        ([f"batch:{name}" for name in ("DescribeJobQueues", "DescribeServiceEnvironments", "ListServiceJobs")], "*"),
        (["batch:SubmitServiceJob"], f"{batch}job-queue/*"),
        ([*(f"batch:{do}ServiceJob" for do in ("Submit", "Describe", "Terminate")), "batch:TagResource"], queued),
    )


def run(arguments: argparse.Namespace) -> int:
    """Say what is there and what is missing; 0 where a job of the built-in lacks nothing. Raises BadInput."""
    aws = Aws(region=arguments.region or _notebook_region(), profile=arguments.profile)
    try:
        caller = aws.call("sts", "GetCallerIdentity", patience_s=_PATIENCE_S)
        known = completed(JobOptions(region=arguments.region, profile=arguments.profile))
    except (NoCredentials, AwsError) as error:
        print(
            f"credentials are missing: {error}\n\nTo make some: aws configure, or aws configure sso and aws sso login"
        )
        return 1
    account, partition = str(caller["Account"]), str(caller["Arn"]).split(":")[1]
    output = arguments.output or default_output(aws.region, account)
    if not is_legal(output):
        raise BadInput(f"--output {output!r} must have the form s3://bucket/prefix.")
    role, bucket = (arguments.role or known.role or ROLE).rpartition("/")[2], split_s3(output)[0]
    print(f"you        {caller['Arn']}, region {aws.region}")
    policy = role_policy(output, account, aws.region, partition)
    role_arn = _arn_of(role, str(caller["Arn"]), aws)
    lacks_role = _missing("role", role_arn, lambda: aws.call("iam", "GetRole", patience_s=_PATIENCE_S, RoleName=role))
    lacks_bucket = _missing("bucket", bucket, lambda: aws.s3("HeadBucket", Bucket=bucket))
    lacks_quota = _lacks_quota(aws, arguments.instance_type)
    _say_image(aws, account)
    if lacks_role:
        print(f"\nThe role's trust:\n{json.dumps(TRUST, indent=1)}\nThe role's policy:\n{json.dumps(policy, indent=1)}")
    if lacks_bucket:
        print(f"\nThe bucket {bucket}: private, encrypted, in {aws.region}.")
    yours = caller_policy(output, account, aws.region, role, partition)
    print(f"\nThe policy for people who launch jobs:\n{json.dumps(yours, indent=1)}")
    steps = [*(_role_steps(role, policy) if lacks_role else []), *(_bucket_steps(bucket, aws) if lacks_bucket else [])]
    if steps:
        print("\nWhat makes them:")
        print("\n".join(_as_command(*step, region=aws.region) for step in steps))
    if arguments.create and steps:
        if not sys.stdin.isatty() or input("\nMake what is missing? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was made")
            return 1
        for service, operation, values in steps:
            if service == "s3":
                aws.s3(operation, **values)
            else:
                aws.call(service, operation, **values)
            print(f"done: {operation}")
        lacks_role = lacks_bucket = False
    elif steps:
        print("\nTo have that done: python -m trainers.jobs setup --create")
    print(f"\nThen: python -m trainers.run --on sagemaker-builtin --role {role_arn} --output {output} …")
    return 1 if lacks_role or lacks_bucket or lacks_quota else 0


def _notebook_region() -> str | None:
    return str(_notebook().get("ResourceArn", ":::")).split(":")[3] or None


def _say_image(aws: Aws, account: str) -> None:
    """Our own image, which only ``--on sagemaker`` needs."""
    name = images.OWN_REPOSITORY
    asked = {"registryId": account, "repositoryName": name, "imageIds": [{"imageTag": "latest"}]}
    what = f"{name}:latest (for --on sagemaker alone)"
    if _missing("image", what, lambda: aws.call("ecr", "DescribeImages", patience_s=_PATIENCE_S, **asked)):
        print(f"           aws ecr create-repository --repository-name {name}; then build and push: docs/sagemaker.md")


def _places(output: str, partition: str) -> tuple[str, str]:
    """The ARN of the output's bucket, and what the ARNs of the objects under the output begin with."""
    bucket, prefix = split_s3(output)
    s3 = f"arn:{partition}:s3:::{bucket}"
    return s3, f"{s3}/{prefix.strip('/')}/" if prefix.strip("/") else f"{s3}/"


def _policy(*allowed: tuple[Any, ...]) -> dict[str, Any]:
    """Statements of actions, resource and perhaps a condition."""
    keys = ("Action", "Resource", "Condition")
    statements = [{"Effect": "Allow", **dict(zip(keys, statement, strict=False))} for statement in allowed]
    return {"Version": "2012-10-17", "Statement": statements}


def _missing(what: str, name: str, ask: Any) -> bool:
    """Whether it surely is not there; says so."""
    try:
        ask()
    except NotFound:
        print(f"{what:10} {name} is missing")
        return True
    except TrainerError as error:
        print(f"{what:10} {name}: not known: {error}")
        return False
    print(f"{what:10} {name} is there")
    return False


def _lacks_quota(aws: Aws, kind: str) -> bool:
    wanted = f"{kind} for training job usage"
    try:
        for quota in quotas(aws, _PATIENCE_S):
            if quota["QuotaName"] == wanted:
                print(f"quota      {wanted}: {quota['Value']:g}")
                if quota["Value"] < 1:
                    print(
                        "           aws service-quotas request-service-quota-increase --service-code sagemaker"
                        f" --quota-code {quota.get('QuotaCode', '?')} --desired-value 1 --region {aws.region}"
                    )
                return bool(quota["Value"] < 1)
        print(f"quota      AWS lists none called {wanted!r}")
    except TrainerError as error:
        print(f"quota      {wanted}: not known: {error}")
    return False


def _role_steps(role: str, policy: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Calls of AWS: service, operation, values."""
    trust, allowed = json.dumps(TRUST), json.dumps(policy)
    return [
        ("iam", "CreateRole", {"RoleName": role, "AssumeRolePolicyDocument": trust}),
        ("iam", "PutRolePolicy", {"RoleName": role, "PolicyName": ROLE, "PolicyDocument": allowed}),
    ]


def _bucket_steps(bucket: str, aws: Aws) -> list[tuple[str, str, dict[str, Any]]]:
    where = {"CreateBucketConfiguration": {"LocationConstraint": aws.region}} if aws.region != "us-east-1" else {}
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return [
        ("s3", "CreateBucket", {"Bucket": bucket, **where}),
        (
            "s3",
            "PutPublicAccessBlock",
            {"Bucket": bucket, "PublicAccessBlockConfiguration": dict.fromkeys(closed, True)},
        ),
        ("s3", "PutBucketEncryption", {"Bucket": bucket, "ServerSideEncryptionConfiguration": {"Rules": [rule]}}),
    ]


def _as_command(service: str, operation: str, values: dict[str, Any], region: str) -> str:
    """The same call as a line for a shell."""
    from botocore import xform_name

    words = ["aws", "s3api" if service == "s3" else service, xform_name(operation, "-")]
    for key, value in values.items():
        words += [f"--{xform_name(key, '-')}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join([*words, "--region", region])
