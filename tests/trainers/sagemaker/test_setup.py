"""The first job's account: what is missing is said, made after a yes alone, and the policies cover the code's calls."""

from __future__ import annotations

import builtins
import re
import sys

import pytest

from tests.support import ROOT
from tests.support.aws.account import World, quotas
from trainers import jobs
from trainers.sagemaker.command import setup

OUTPUT = "s3://sagemaker-us-east-1-123456789012/image-classification"
# Calls that need another permission than the one of their name, or none.
_PERMISSION = {"HeadBucket": "ListBucket", "HeadObject": "GetObject", "ListObjectsV2": "ListBucket"}
_OF_SETUP = {"iam:CreateRole", "iam:PutRolePolicy"}


def test_the_policy_for_callers_allows_every_call_of_the_code_and_no_others() -> None:
    named = re.compile(r'"(sagemaker|batch|logs|iam|ecr|pricing|service-quotas|s3)",\s*"([A-Z]\w+)"')
    calls = set()
    for path in (ROOT / "trainers" / "sagemaker").rglob("*.py"):
        source = path.read_text()
        calls |= {f"{place.replace('-', '')}:{_PERMISSION.get(name, name)}" for place, name in named.findall(source)}
        if path.name != "setup.py":
            calls |= {f"s3:{_PERMISSION.get(name, name)}" for name in re.findall(r's3\("([A-Z]\w+)"', source)}
    policy = setup.caller_policy(OUTPUT, "123456789012", "us-east-1", "trainer")
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    # A job with tags needs AddTags, of Batch TagResource; upload_fileobj and download_file are PutObject and GetObject.
    made = calls - _OF_SETUP - {"s3:DownloadFile"}
    assert made | {"sagemaker:AddTags", "batch:TagResource", "iam:PassRole", "s3:PutObject", "s3:GetObject"} == allowed


def test_what_is_missing_is_said_and_made_after_a_yes(
    account: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = {"QuotaName": "ml.g4dn.xlarge for training job usage", "QuotaCode": "L-1", "Value": 0.0}
    account.answers.table["ListServiceQuotas"] = {"Quotas": [limit]}
    assert jobs.main(["setup", "--region", "us-east-1"]) == 1
    said = capsys.readouterr().out
    assert "role/image-classification-tracking is missing" in said and "bucket     sagemaker-us-east-1-1234" in said
    assert "request-service-quota-increase --service-code sagemaker --quota-code L-1 --desired-value 1" in said
    assert '"Service": "sagemaker.amazonaws.com"' in said and '"iam:PassRole"' in said
    account.answers.table["ListServiceQuotas"] = quotas({"ml.g4dn.xlarge for training job usage": 1.0})
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(builtins, "input", lambda words: "n")
    assert jobs.main(["setup", "--create", "--region", "us-east-1"]) == 1
    assert "nothing was made" in capsys.readouterr().out
    monkeypatch.setattr(builtins, "input", lambda words: "y")
    assert jobs.main(["setup", "--create", "--region", "us-east-1"]) == 0
    assert jobs.main(["setup", "--region", "us-east-1"]) == 0
    said = capsys.readouterr().out
    assert "made the role" in said and "role/image-classification-tracking is there" in said
    blocked = account.fake.s3.get_public_access_block(Bucket="sagemaker-us-east-1-123456789012")
    assert all(blocked["PublicAccessBlockConfiguration"].values())
    trusted = account.fake.iam.get_role(RoleName=setup.ROLE)["Role"]["AssumeRolePolicyDocument"]
    assert trusted == setup.TRUST
