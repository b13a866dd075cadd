"""The first job's account: what is missing is said, made after a yes alone, and the policies cover the code's calls."""

from __future__ import annotations

import builtins
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import boto3
import botocore
import botocore.session
import pytest

from tests.support import ROOT
from tests.support.aws.account import World, quotas
from trainers import jobs
from trainers.sagemaker.command import setup
from trainers.sagemaker.options import JobOptions

OUTPUT = "s3://sagemaker-us-east-1-123456789012/image-classification"
# Calls that need another permission than the one of their name, or none.
_PERMISSION = {"HeadBucket": "ListBucket", "HeadObject": "GetObject", "ListObjectsV2": "ListBucket"}
_PERMISSION |= {"DeleteObjects": "DeleteObject"}
_OF_SETUP = {"iam:CreateRole", "iam:PutRolePolicy"}
_OF_SETUP |= {"s3:CreateBucket", "s3:PutPublicAccessBlock", "s3:PutBucketEncryption"}


def test_the_policy_for_callers_allows_every_call_of_the_code_and_no_others() -> None:
    named = re.compile(r'"(sagemaker|batch|logs|cloudwatch|iam|ecr|pricing|service-quotas|s3)",\s*"([A-Z]\w+)"')
    calls = set()
    for path in (ROOT / "trainers" / "sagemaker").rglob("*.py"):
        source = path.read_text()
        calls |= {f"{place.replace('-', '')}:{_PERMISSION.get(name, name)}" for place, name in named.findall(source)}
        calls |= {f"s3:{_PERMISSION.get(name, name)}" for name in re.findall(r's3\("([A-Z]\w+)"', source)}
    policy = setup.caller_policy(OUTPUT, "123456789012", "us-east-1", "trainer")
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    # A job with tags needs AddTags, of Batch TagResource; upload_fileobj and download_file are PutObject and GetObject.
    made = calls - _OF_SETUP - {"s3:DownloadFile"}
    assert made | {"sagemaker:AddTags", "batch:TagResource", "iam:PassRole", "s3:PutObject", "s3:GetObject"} == allowed


def test_the_policies_stand_in_the_docs() -> None:
    page = (ROOT / "docs" / "sagemaker.md").read_text(encoding="utf-8")
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    account = ("s3://my-bucket/runs", "123456789012", "us-east-1")
    assert shown == [setup.TRUST, setup.role_policy(*account), setup.caller_policy(*account, "trainer")]


def test_what_is_missing_is_said_and_made_after_a_yes(
    account: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = {"QuotaName": "ml.g4dn.xlarge for training job usage", "QuotaCode": "L-1", "Value": 0.0}
    account.answers.table["ListServiceQuotas"] = {"Quotas": []}  # never asked for: AWS's default alone is known
    account.answers.table["ListAWSDefaultServiceQuotas"] = {"Quotas": [limit]}
    assert jobs.main(["setup", "--region", "us-east-1"]) == 1
    said = capsys.readouterr().out
    assert "role/image-classification-tracking is missing" in said and "bucket     sagemaker-us-east-1-1234" in said
    assert "request-service-quota-increase --service-code sagemaker --quota-code L-1 --desired-value 1" in said
    model = botocore.session.get_session().get_service_model("service-quotas")
    members = model.operation_model("RequestServiceQuotaIncrease").input_shape.members
    (asked,) = [shlex.split(line) for line in said.splitlines() if "request-service-quota-increase" in line]
    assert {f"--{botocore.xform_name(name, '-')}" for name in members} >= {*asked[3:-2:2]}
    assert '"Service": "sagemaker.amazonaws.com"' in said and '"iam:PassRole"' in said
    lines = [shlex.split(line) for line in said.splitlines() if line.startswith("aws ")]
    assert [line[2] for line in lines] == [
        *("create-role", "put-role-policy", "create-bucket", "put-public-access-block", "put-bucket-encryption")
    ]
    assert json.loads(lines[0][lines[0].index("--assume-role-policy-document") + 1]) == setup.TRUST
    assert "image      image-classification-tracking:latest" in said
    account.answers.table["ListServiceQuotas"] = quotas({"ml.g4dn.xlarge for training job usage": 1.0})
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(builtins, "input", lambda words: "n")
    assert jobs.main(["setup", "--create", "--region", "us-east-1"]) == 1
    assert "nothing was made" in capsys.readouterr().out
    monkeypatch.setattr(builtins, "input", lambda words: "y")
    assert jobs.main(["setup", "--create", "--region", "us-east-1"]) == 0
    assert jobs.main(["setup", "--region", "us-east-1"]) == 0
    said = capsys.readouterr().out
    assert "done: CreateRole" in said and "role/image-classification-tracking is there" in said
    blocked = account.fake.s3.get_public_access_block(Bucket="sagemaker-us-east-1-123456789012")
    assert all(blocked["PublicAccessBlockConfiguration"].values())
    trusted = account.fake.iam.get_role(RoleName=setup.ROLE)["Role"]["AssumeRolePolicyDocument"]
    assert trusted == setup.TRUST


def test_without_credentials_the_first_thing_is_said(
    account: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert jobs.main(["setup", "--region", "us-east-1"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("credentials are missing: ") and "aws configure" in said


def test_an_image_that_is_not_there_is_said_with_what_makes_it(
    account: World, capsys: pytest.CaptureFixture[str]
) -> None:
    account.answers.table["DescribeImages"] = ("RepositoryNotFoundException", "The repository does not exist")
    jobs.main(["setup", "--region", "us-east-1"])
    assert "aws ecr create-repository --repository-name image-classification-tracking" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("role", "arn"),
    [
        ("trainer", "role/trainer"),  # IAM is asked
        ("with-path", "role/service-role/with-path"),
        ("no-such", "role/no-such"),  # the preflight says that it is missing
        ("AmazonSageMaker-ExecutionRole-1", "role/service-role/AmazonSageMaker-ExecutionRole-1"),
        ("arn:aws:iam::210987654321:role/other", "role/other"),
    ],
)
def test_a_roles_name_becomes_its_arn(account: World, role: str, arn: str) -> None:
    if role == "with-path":
        account.fake.iam.create_role(RoleName=role, Path="/service-role/", AssumeRolePolicyDocument="{}")
    options = setup.completed(JobOptions(role=role, region="us-east-1"))
    assert options.role is not None and options.role.endswith(f":{arn}") and options.output is None
    owner = role.split(":")[4] if ":" in role else "123456789012"
    assert options.account == owner
    assert f"--output s3://sagemaker-us-east-1-{owner}/image-classification" in options.missing()[0]


def test_in_a_notebook_that_does_not_name_its_role_it_is_the_callers(
    account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resource-metadata.json"
    monkeypatch.setattr(setup, "METADATA", path)
    path.write_text('{"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:notebook-instance/n"}')
    role = account.fake.iam.get_role(RoleName="trainer")["Role"]["Arn"]
    taken = boto3.client("sts", region_name="us-east-1").assume_role(RoleArn=role, RoleSessionName="SageMaker")[
        "Credentials"
    ]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", taken["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", taken["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", taken["SessionToken"])
    assert setup.completed(JobOptions()).role == role


@pytest.mark.parametrize(
    ("metadata", "role"),
    [
        ({"ResourceName": "n", "ExecutionRoleArn": "arn:aws:iam::123456789012:role/notebook"}, "notebook"),
        ({"AppType": "JupyterLab", "DomainId": "d-1", "SpaceName": "s"}, None),  # and the caller is a user
        ({}, None),
    ],
)
def test_a_sagemaker_notebook_says_role_region_and_bucket(
    account: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    metadata: dict[str, Any],
    role: str | None,
) -> None:
    path = tmp_path / "resource-metadata.json"
    monkeypatch.setattr(setup, "METADATA", path)
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:notebook-instance/n"
    path.write_text(json.dumps({"ResourceArn": arn, **metadata}))
    options = setup.completed(JobOptions())
    assert options.region == "eu-west-1" and (options.role or "").rpartition("/")[2] == (role or "")
    if role:
        assert options.output == "s3://sagemaker-eu-west-1-123456789012/image-classification"
    assert jobs.main(["setup"]) == 1
    said = capsys.readouterr().out
    assert f"role/{role or setup.ROLE} is " in said and "bucket     sagemaker-eu-west-1-123456789012" in said
    given = JobOptions(role="trainer", region="us-east-1", output="s3://bucket/x")
    assert setup.completed(given).output == "s3://bucket/x" and setup.completed(given).region == "us-east-1"
    for broken in ("", "[]", '{"ResourceArn": 3}', '{"AppType": "x"}'):
        path.write_text(broken)
        assert setup.completed(JobOptions()) == JobOptions()
