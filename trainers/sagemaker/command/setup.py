"""``python -m trainers.jobs setup``: what an account lacks for its first job, with the least policies and commands.

Nothing is changed but with ``--create``, after everything was shown and confirmed: the role and the bucket.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from trainers.errors import BadInput, TrainerError
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import is_legal, split_s3
from trainers.sagemaker.cost.instances import SMALLEST_GPU
from trainers.sagemaker.errors import NotFound

ROLE = "image-classification-tracking"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options beside region and profile."""
    parser.add_argument("--role", default=ROLE, metavar="NAME", help="the jobs' role (default: %(default)s)")
    parser.add_argument(
        "--output", metavar="S3_URI", help="default: s3://sagemaker-REGION-ACCOUNT/image-classification"
    )
    parser.add_argument("--instance-type", default=SMALLEST_GPU, metavar="TYPE", help="default: %(default)s")
    parser.add_argument("--create", action="store_true", help="make role and bucket, after a question")


def role_policy(output: str, account: str, region: str, partition: str = "aws") -> dict[str, Any]:
    """The least that a job's role needs for data and results under ``output``."""
    bucket, prefix = split_s3(output)
    s3, place = f"arn:{partition}:s3:::{bucket}", f"{region}:{account}"
    repository = f"arn:{partition}:ecr:{place}:repository/{images.OWN_REPOSITORY}"
    logs = f"arn:{partition}:logs:{place}:log-group:/aws/sagemaker/TrainingJobs*"
    return _policy(
        (["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"{s3}/{prefix.rstrip('/')}/*".replace("//*", "/*")),
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
    bucket, prefix = split_s3(output)
    s3, place = f"arn:{partition}:s3:::{bucket}", f"{region}:{account}"
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
        (["sagemaker:ListTrainingJobs", "servicequotas:ListServiceQuotas", "pricing:GetProducts"], "*"),
        ([f"sagemaker:{name}" for name in servers], mlflow + "*"),
        (["iam:PassRole", "iam:GetRole", "iam:SimulatePrincipalPolicy"], role_arn),
        (["s3:GetObject", "s3:PutObject"], f"{s3}/{prefix.rstrip('/')}/*".replace("//*", "/*")),
        (["s3:ListBucket"], s3),
        (["logs:DescribeLogStreams", "logs:GetLogEvents"], log_group + ":*"),
        (["ecr:BatchGetImage", "ecr:DescribeImages"], repository),
        ([f"batch:{name}" for name in ("DescribeJobQueues", "DescribeServiceEnvironments", "ListServiceJobs")], "*"),
        (["batch:SubmitServiceJob"], f"{batch}job-queue/*"),
        ([*(f"batch:{do}ServiceJob" for do in ("Submit", "Describe", "Terminate")), "batch:TagResource"], queued),
    )


def run(arguments: argparse.Namespace) -> int:
    """Say what is there and what is missing; 0 where nothing is. Raises BadInput, NoCredentials."""
    aws = Aws(region=arguments.region, profile=arguments.profile)
    caller = aws.call("sts", "GetCallerIdentity", patience_s=5.0)
    account, partition = str(caller["Account"]), str(caller["Arn"]).split(":")[1]
    output = arguments.output or f"s3://sagemaker-{aws.region}-{account}/image-classification"
    if not is_legal(output):
        raise BadInput(f"--output {output!r} must have the form s3://bucket/prefix.")
    role, bucket = arguments.role.rpartition("/")[2], split_s3(output)[0]
    print(f"you        {caller['Arn']}, region {aws.region}")
    role_arn, policy = (
        f"arn:{partition}:iam::{account}:role/{role}",
        role_policy(output, account, aws.region, partition),
    )
    lacks_role = _missing("role", role_arn, lambda: aws.call("iam", "GetRole", patience_s=5.0, RoleName=role))
    lacks_bucket = _missing("bucket", bucket, lambda: aws.s3("HeadBucket", Bucket=bucket))
    lacks_quota = _lacks_quota(aws, arguments.instance_type)
    if lacks_role:
        print(f"\nThe role's trust:\n{json.dumps(TRUST, indent=1)}\nThe role's policy:\n{json.dumps(policy, indent=1)}")
    if lacks_bucket:
        print(f"\nThe bucket {bucket}: private, encrypted, in {aws.region}.")
    yours = caller_policy(output, account, aws.region, role, partition)
    print(f"\nThe policy for people who launch jobs:\n{json.dumps(yours, indent=1)}")
    if arguments.create and (lacks_role or lacks_bucket):
        if not sys.stdin.isatty() or input("\nMake what is missing? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was made")
            return 1
        if lacks_role:
            _make_role(aws, role, policy)
        if lacks_bucket:
            _make_bucket(aws, bucket)
        lacks_role = lacks_bucket = False
    elif lacks_role or lacks_bucket:
        print("\nTo make role and bucket: python -m trainers.jobs setup --create")
    print(f"\nThen: python -m trainers.run --on sagemaker-builtin --role {role_arn} --output {output} …")
    return 1 if lacks_role or lacks_bucket or lacks_quota else 0


def _policy(*allowed: tuple[list[str], str]) -> dict[str, Any]:
    statements = [{"Effect": "Allow", "Action": actions, "Resource": resource} for actions, resource in allowed]
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
        for page in aws.pages("service-quotas", "ListServiceQuotas", patience_s=5.0, ServiceCode="sagemaker"):
            for quota in page.get("Quotas", []):
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


def _make_role(aws: Aws, role: str, policy: dict[str, Any]) -> None:
    aws.call("iam", "CreateRole", RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
    aws.call("iam", "PutRolePolicy", RoleName=role, PolicyName=ROLE, PolicyDocument=json.dumps(policy))
    print(f"made the role {role}")


def _make_bucket(aws: Aws, bucket: str) -> None:
    where = {"CreateBucketConfiguration": {"LocationConstraint": aws.region}} if aws.region != "us-east-1" else {}
    aws.s3("CreateBucket", Bucket=bucket, **where)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    aws.s3("PutPublicAccessBlock", Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    aws.s3("PutBucketEncryption", Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    print(f"made the bucket {bucket}")
