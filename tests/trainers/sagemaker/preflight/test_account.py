"""The preflight against an account on the wire: what is well passes, what would fail is found, with code and cost."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.aws.account import BUILTIN, CODE, OWN, ROLE, World, build, codes, picture, preflight, quotas, trust
from tests.support.aws.answers import product
from trainers.config import Config
from trainers.data.check import rules
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.job import request
from trainers.sagemaker.job.request import Channel
from trainers.sagemaker.preflight import examine
from trainers.sagemaker.preflight import findings as all_findings
from trainers.sagemaker.preflight import request as preflight_request
from trainers.sagemaker.preflight.data import local


def test_a_sound_job_has_neither_errors_nor_warnings(account: World) -> None:
    report = examine.examine(*build(account.put_records()), account.aws)
    assert codes(report.findings) == []
    # What may not be asked is said: writing to the output, and simulated permissions.
    assert set(codes(report.findings, "unchecked")) == {"output-unchecked", "permissions-unchecked"}
    assert report.facts["train"].num_images == 12 and report.facts["validation"].num_images == 6
    assert report.price is not None and report.price.source == "table"
    assert report.usd is not None and report.usd_at_most == pytest.approx(3 * report.usd)


def test_a_sound_list_job_has_none_either(account: World) -> None:
    assert codes(preflight(account, account.put_listed(), replace(BUILTIN, resize=32))) == []


def test_nothing_in_the_account_changes(account: World) -> None:
    channels = account.put_records()
    before = [o["Key"] for o in account.fake.s3.list_objects_v2(Bucket="bucket-one")["Contents"]]
    preflight(account, channels)
    assert [o["Key"] for o in account.fake.s3.list_objects_v2(Bucket="bucket-one")["Contents"]] == before
    assert account.fake.jobs == {}
    assert {operation for operation, _, _ in account.fake.calls} <= {"DescribeTrainingJob", "ListTrainingJobs"}


def test_every_code_has_a_rule_and_every_rule_is_used() -> None:
    package = Path(all_findings.__file__).parent.parent  # limits.py of the built-in has codes too
    text = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.name != "findings.py")
    unknown = [code for code in re.findall(r'\bfinding\(\s*"([a-z-]+)"', text) if code not in all_findings.RULES]
    assert unknown == []
    own = all_findings.RULES.keys() - rules.RULES.keys()
    assert [code for code in own if f'"{code}"' not in text and code.count("-missing") == 0] == []


def test_every_finding_has_a_rule_and_every_rule_is_documented_once() -> None:
    """The codes of data are all in docs/data.md, the others in docs/sagemaker.md and docs/queue.md."""
    pages = {
        name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("data", "sagemaker", "queue")
    }
    listed = [code for text in pages.values() for code in re.findall(r"^\| `([a-z0-9-]+)` \| ", text, re.M)]
    assert [code for code in all_findings.RULES if listed.count(code) != 1] == []
    text = "".join(pages.values())
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` (\| (?:error|warning|unchecked|note) \|.*)", text, re.M))
    for code, rule in all_findings.RULES.items():
        if code in rules.RULES:
            continue
        why = rule.why or "what is known beforehand"
        said = rows[code].split(" | ")
        assert (said[0], *said[2:]) == (f"| {rule.severity}", why, f"{rule.fix or '–'} |"), code
        assert rule.severity == "note" or (rule.why and rule.fix), code
        assert rule.severity not in ("unchecked", "note") or rule.when == "", code


# Account


def test_without_credentials_one_finding_says_so(account: World, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = account.put_records()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    built, config, options = build(channels)
    found = examine.run(built, config, options, Aws(region="us-east-1", clock=account.fake.clock))
    assert codes(found) == ["credentials"]
    assert codes(found, "unchecked") == []


@pytest.mark.parametrize(
    ("role", "code"),
    [
        ("arn:aws:iam::123456789012:role/nobody", "role-missing"),
        ("arn:aws:iam::123456789012:role/lambda", "role-trust"),
        ("arn:aws:iam::999999999999:role/trainer", "role-account"),
    ],
)
def test_roles_that_the_job_cannot_take_on(account: World, role: str, code: str) -> None:
    if role.endswith("lambda"):
        account.fake.iam.create_role(RoleName="lambda", AssumeRolePolicyDocument=trust("lambda.amazonaws.com"))
    assert codes(preflight(account, account.put_records(), role=role)) == [code]


def test_permissions_that_iam_denies_are_found(account: World) -> None:
    account.answers.decisions = {"s3:GetObject": "explicitDeny", "s3:PutObject": "implicitDeny"}
    found = preflight(account, account.put_records())
    assert codes(found, "error") == ["role-permission"]
    assert codes(found, "warning") == ["role-permission"]
    assert f"s3:GetObject on arn:aws:s3:::bucket-one/{account.folder}/train/*" in found[0].what
    assert "unless the bucket's own policy lets it" in found[1].what


def test_a_caller_who_may_not_hand_on_the_role_is_told(account: World) -> None:
    account.answers.decisions = {"iam:PassRole": "implicitDeny"}
    found = preflight(account, account.put_records())
    assert codes(found) == ["pass-role"]
    assert found[0].fix == "Ask for iam:PassRole."


S3 = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"], "Resource": "*"}
LAUNCH = {"Effect": "Allow", "Action": "sagemaker:*", "Resource": "arn:aws:sagemaker:*:*:training-job/*"}
PASS = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/*"}
# AWS's managed policy AmazonSageMakerFullAccess has this condition, and so have most that are written by hand.
MANAGED = {**PASS, "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}}
CALLER = "arn:aws:sts::123456789012:user/moto"


def _allowed(account: World, role: list[Any], caller: list[Any], channels: list[Channel]) -> list[all_findings.Finding]:
    account.answers.policies = {ROLE: role, CALLER: caller}
    found = preflight(account, channels)
    return [f for f in found if f.code in ("pass-role", "role-permission", "permissions-unchecked")]


def test_a_role_that_may_be_handed_to_sagemaker_alone_is_no_false_alarm(account: World) -> None:
    channels = account.put_records()
    assert _allowed(account, [S3], [MANAGED, LAUNCH], channels) == []
    for_lambda = {**PASS, "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}}
    assert codes(_allowed(account, [S3], [for_lambda, LAUNCH], channels), "error") == ["pass-role"]
    assert codes(_allowed(account, [S3], [LAUNCH], channels), "error") == ["pass-role"]
    (found,) = _allowed(account, [S3], [PASS], channels)
    assert found.why == "launching needs sagemaker:CreateTrainingJob" and "training-job/job-1" in found.what


def test_a_denial_that_rests_on_what_the_simulator_is_not_told_is_unchecked(account: World) -> None:
    channels = account.put_records()
    by_tag = {**PASS, "Condition": {"StringEquals": {"aws:PrincipalTag/team": "vision"}}}
    (found,) = _allowed(account, [S3], [by_tag, LAUNCH], channels)
    assert (found.severity, found.code) == ("unchecked", "permissions-unchecked")
    assert "its policies ask about aws:PrincipalTag/team" in found.what and found.fix
    outside = {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}
    guarded = [S3, {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*", "Condition": outside}]
    (found,) = _allowed(account, guarded, [MANAGED, LAUNCH], channels)
    assert (found.severity, "aws:SourceVpce" in found.what) == ("unchecked", True)


def test_a_role_that_may_list_and_launch_only_what_the_job_needs_is_sound(account: World) -> None:
    """Least privilege: list one prefix, rent one kind of machine in one region."""
    channels, folder = account.put_records(), account.folder
    listing = {"StringLike": {"s3:prefix": [f"{folder}/train/*", f"{folder}/validation/*"]}}
    role = [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::bucket-one", "Condition": listing},
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::bucket-one/{folder}/*"},
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket-one/runs/*"},
    ]
    machines = {"ForAllValues:StringEquals": {"sagemaker:InstanceTypes": ["ml.g4dn.xlarge"]}}
    only = {**LAUNCH, "Condition": {**machines, "StringEquals": {"aws:RequestedRegion": "us-east-1"}}}
    assert _allowed(account, role, [MANAGED, only], channels) == []
    elsewhere = [*role[:2], {**role[2], "Resource": "arn:aws:s3:::bucket-one/other/*"}]
    (found,) = _allowed(account, elsewhere, [MANAGED, only], channels)
    assert found.severity == "warning" and "s3:PutObject on arn:aws:s3:::bucket-one/runs/*" in found.what


def test_a_role_without_any_permission_in_s3_stops_the_launch(account: World) -> None:
    channels = account.put_records()
    logs = {"Effect": "Allow", "Action": ["logs:*", "cloudwatch:*"], "Resource": "*"}
    (found,) = _allowed(account, [logs], [MANAGED, LAUNCH], channels)
    assert (found.severity, found.code) == ("error", "role-permission")
    assert "no permission in S3 at all" in found.what and "s3:PutObject" in found.fix


def test_what_the_organization_forbids_no_bucket_s_policy_can_grant(account: World) -> None:
    channels = account.put_records()
    account.answers.organization_allows = False
    found = _allowed(account, [S3], [MANAGED, LAUNCH], channels)
    assert codes(found, "error") == ["role-permission"] * 3 + ["pass-role"] * 2
    assert not any("own policy" in f.what for f in found)


def test_a_list_that_is_a_key_is_asked_about_as_it_is(account: World) -> None:
    channels, folder = account.put_listed(), account.folder
    channels[2] = replace(channels[2], s3_uri=f"{channels[2].s3_uri}train.lst")
    names = [f"{folder}/{name}" for name in ("train/*", "validation/*", "train_lst/train.lst", "validation_lst/*")]
    reads = {**S3, "Action": "s3:GetObject", "Resource": [f"arn:aws:s3:::bucket-one/{name}" for name in names]}
    rest = {**S3, "Action": ["s3:PutObject", "s3:ListBucket"]}
    assert _allowed(account, [reads, rest], [MANAGED, LAUNCH], channels) == []


def test_a_notebook_whose_own_role_launches_the_job(account: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Role and caller are one; the caller's name is the session's, which leaves the role's path out."""
    trusted, path = trust("sagemaker.amazonaws.com"), "/service-role/"
    account.fake.iam.create_role(RoleName="studio", Path=path, AssumeRolePolicyDocument=trusted)
    role = "arn:aws:iam::123456789012:role/service-role/studio"
    call = Aws.call

    def as_studio(self: Aws, service: str, operation: str, **arguments: Any) -> Any:
        if operation == "GetCallerIdentity":
            return {"Account": ROLE[13:25], "Arn": "arn:aws:sts::123456789012:assumed-role/studio/SageMaker"}
        return call(self, service, operation, **arguments)

    monkeypatch.setattr(Aws, "call", as_studio)
    account.answers.policies = {role: [S3, LAUNCH]}
    found = preflight(account, account.put_records(), role=role)
    assert codes(found) == ["pass-role"]
    account.answers.policies = {role: [S3, LAUNCH, MANAGED]}
    found = preflight(account, account.put_records(), role=role)
    assert codes(found) == [] and "permissions-unchecked" not in codes(found, "unchecked")


def test_permissions_granted_leave_nothing_unchecked(account: World) -> None:
    account.answers.decisions = {}
    assert codes(preflight(account, account.put_records()), "unchecked") == ["output-unchecked"]
    asked = {
        form["ActionNames.member.1"]: form["PolicySourceArn"]
        for name, form in account.answers.calls
        if "Action" in form
    }
    assert asked["s3:GetObject"] == ROLE and asked["iam:PassRole"] != ROLE


def test_a_bucket_that_is_not_there(account: World) -> None:
    channels = account.put_records()
    channels[1] = replace(channels[1], s3_uri="s3://bucket-none/validation/")
    assert "bucket-missing" in codes(preflight(account, channels))


def test_a_bucket_in_another_region(account: World) -> None:
    account.fake.s3.create_bucket(Bucket="bucket-west", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    found = preflight(account, account.put_records(), output="s3://bucket-west/runs")
    assert codes(found) == ["bucket-region"]
    assert "bucket-west is in us-west-2, the job in us-east-1" in found[0].what


def test_a_name_that_is_taken(account: World) -> None:
    built, config, options = build(account.put_records())
    account.aws.client("sagemaker").create_training_job(**built)
    assert codes(examine.run(built, config, options, account.aws)) == ["name-taken"]


def test_quotas_are_asked_by_name(account: World) -> None:
    channels = account.put_records()
    account.answers.table["ListServiceQuotas"] = quotas({"ml.g4dn.xlarge for training job usage": 0.0})
    found = preflight(account, channels)
    assert codes(found) == ["quota"]
    assert "is 0 in this account, 1 needed" in found[0].what
    spot = "ml.g4dn.xlarge for spot training job usage"
    account.answers.table["ListServiceQuotas"] = quotas({"ml.g4dn.xlarge for training job usage": 0.0, spot: 1.0})
    assert codes(preflight(account, channels, spot=True)) == []
    account.answers.table["ListServiceQuotas"] = quotas({"ml.g4dn.xlarge for training job usage": 1.0})
    assert "quota-unchecked" in codes(preflight(account, channels, spot=True), "unchecked")
    # Never asked for, so that AWS knows its default alone.
    account.answers.table["ListAWSDefaultServiceQuotas"] = quotas({spot: 0.0})
    assert codes(preflight(account, channels, spot=True)) == ["quota"]


def test_a_study_is_told_how_many_run_at_a_time(account: World) -> None:
    built = build(account.put_records())
    found = examine.run(*built, account.aws, num_jobs=8)
    assert codes(found) == ["quota"] and found[0].severity == "warning"
    assert "is 2, for 8 jobs: 2 at a time" in found[0].what


def test_a_warm_pool_needs_a_quota_of_its_own(account: World) -> None:
    account.answers.table["ListServiceQuotas"] = quotas(
        {"ml.g4dn.xlarge for training job usage": 2.0, "ml.g4dn.xlarge for training warm pool usage": 0.0}
    )
    assert codes(preflight(account, account.put_records(), keep_alive_min=10)) == ["warm-pool-quota"]


def test_quotas_that_may_not_be_asked_are_said_to_be_unchecked(account: World) -> None:
    del account.answers.table["ListServiceQuotas"]
    found = preflight(account, account.put_records())
    assert codes(found) == []
    assert "quota-unchecked" in codes(found, "unchecked")


def test_our_own_image_must_be_in_the_registry(account: World) -> None:
    account.put("code/abc/code.tar.gz", b"x")
    config = Config(num_layers=20, image_shape="3,28,28")
    account.answers.table["DescribeImages"] = ("RepositoryNotFoundException", "The repository does not exist")
    assert "image-missing" in codes(preflight(account, [], config, code_uri=CODE))
    account.answers.table["DescribeImages"] = ("AccessDeniedException", "not authorized")
    assert "image-unchecked" in codes(preflight(account, [], config, code_uri=CODE), "unchecked")
    account.answers.table["DescribeImages"] = {"imageDetails": [{"imageDigest": "sha256:0"}]}
    assert codes(preflight(account, [], config, code_uri=CODE)) == []
    elsewhere = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1"
    assert codes(preflight(account, [], config, code_uri=CODE, image=elsewhere)) == ["image-region"]


# Request, machine, settings


@pytest.mark.parametrize(
    ("kind", "own", "code"),
    [
        ("ml.c5.2xlarge", False, "instance-cpu"),
        ("ml.m5.large", False, "instance-cpu"),
        ("ml.m5.large", True, "instance-no-driver"),
        ("ml.g6.xlarge", False, "instance-family"),
        ("ml.p4d.24xlarge", False, "instance-family"),
        ("ml.trn1.2xlarge", False, "instance-family"),
        ("ml.g6.xlarge", True, None),
        ("ml.g6e.xlarge", True, None),
        ("ml.gr6.4xlarge", True, None),
        ("ml.g6f.xlarge", True, None),
        ("ml.p5.48xlarge", True, "instance-cuda"),
        ("ml.p5en.48xlarge", True, "instance-cuda"),
        ("ml.p6-b200.48xlarge", True, "instance-cuda"),
        ("ml.p6e-gb200.36xlarge", True, "instance-cuda"),
        ("ml.g7.2xlarge", True, "instance-cuda"),
        ("ml.g7e.2xlarge", True, "instance-cuda"),
        ("ml.trn1.2xlarge", True, "instance-cuda"),
        ("ml.trn2.48xlarge", True, "instance-cuda"),
        ("ml.inf2.xlarge", True, "instance-cuda"),
        ("ml.p2.xlarge", True, "instance-cuda"),
        ("ml.p4d.24xlarge", True, None),
        ("ml.p4de.24xlarge", True, None),
        ("ml.g4dn.xlarge", True, None),
        ("ml.g5.xlarge", True, None),
        ("ml.p3.2xlarge", True, None),
        ("ml.g5.xlarge", False, None),
        ("ml.p3.2xlarge", False, None),
    ],
)
def test_machines_that_the_algorithm_or_cuda_refuse(kind: str, own: bool, code: str | None) -> None:
    channels = (
        [] if own else [Channel(name, "s3://bucket-one/t/", request.RECORDIO) for name in ("train", "validation")]
    )
    built, config, _ = build(channels, BUILTIN, instance_type=kind, code_uri=CODE if own else None)
    found = preflight_request.check(built, config, region="us-east-1", is_builtin=not own)
    assert [c for c in codes(found) if c.startswith("instance")] == ([code] if code else [])
    assert "instance-unknown" not in codes(found, "unchecked")


def test_a_gpu_newer_than_the_wheel_is_noted_where_its_code_runs_all_the_same(account: World) -> None:
    own: dict[str, Any] = {"config": Config(num_layers=20, image_shape="3,28,28"), "code_uri": CODE}
    (note,) = (f for f in preflight(account, [], instance_type="ml.g6.xlarge", **own) if f.code == "instance-untried")
    assert note.severity == "note" and "its L4 has compute capability 8.9" in note.what
    assert "code for 5.0, 6.0, 7.0, 8.0, 8.6 and no PTX" in note.what
    (error,) = (f for f in preflight(account, [], instance_type="ml.g7e.2xlarge", **own) if f.code == "instance-cuda")
    assert "its RTX PRO 6000 has compute capability 12.0" in error.what and error.severity == "error"
    (error,) = (f for f in preflight(account, [], instance_type="ml.trn1.2xlarge", **own) if f.code == "instance-cuda")
    assert "Trainium" in error.what and error.severity == "error"
    assert "instance-untried" not in codes(preflight(account, [], instance_type="ml.g5.xlarge", **own), "note")


def test_what_another_image_holds_is_its_owner_s_to_know(account: World) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    found = preflight(account, [], Config(num_layers=20), code_uri=CODE, instance_type="ml.p5.48xlarge", image=image)
    assert "instance-cuda" in codes(found, "warning") and "instance-cuda" not in codes(found, "error")


def test_an_image_of_one_s_own_may_train_on_a_cpu(account: World) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    found = preflight(account, [], Config(num_layers=20), code_uri=CODE, instance_type="ml.m5.large", image=image)
    assert "instance-slow" in codes(found, "warning")


def test_a_type_nobody_knows_is_unchecked(account: World) -> None:
    built, config, options = build([], Config(num_layers=20, image_shape="3,28,28"), code_uri=CODE)
    built["ResourceConfig"]["InstanceType"] = "ml.x9.huge"
    found = examine.run(built, config, options, account.aws)
    assert {"instance-unknown", "price-unknown"} <= set(codes(found, "unchecked"))
    assert "request-limit" in codes(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"TrainingJobName": "bad_name"}, "TrainingJobName 'bad_name' has not the form"),
        ({"TrainingJobName": "a" * 64}, "TrainingJobName has 64 characters, at most 63 are legal"),
        ({"HyperParameters": {"epochs": "1" * 2501}}, "HyperParameters[epochs] has 2501 characters, at most 2500"),
        ({"HyperParameters": {f"h{n}": "1" for n in range(101)}}, "HyperParameters has 101 items, at most 100"),
        ({"Tags": [{"Key": f"k{n}", "Value": ""} for n in range(51)]}, "Tags has 51 items, at most 50"),
        ({"Tags": [{"Key": "a,b", "Value": "1"}]}, "Tags[0].Key 'a,b' has not the form"),
        ({"Tags": [{"Key": "a"}]}, "Tags[0].Value is missing"),
        ({"RoleArn": None}, "RoleArn is missing"),
        ({"Environment": {"1X": "1"}}, "Environment name '1X' has not the form"),
        ({"Nonsense": 1}, "Nonsense is no field of the request"),
        ({"RetryStrategy": {"MaximumRetryAttempts": 31}}, "RetryStrategy.MaximumRetryAttempts is 31, at most 30"),
    ],
)
def test_limits_of_the_api_are_checked_before_it_is_called(account: World, change: dict[str, Any], said: str) -> None:
    built, config, options = build(account.put_records())
    found = examine.run({**built, **change}, config, options, account.aws)
    assert any(f.code == "request-limit" and said in f.what for f in found), [f.what for f in found]


@pytest.mark.parametrize(
    ("field", "change", "code"),
    [
        ("StoppingCondition", {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 50}, "spot-wait"),
        ("StoppingCondition", {}, "runtime-open"),
        ("Tags", [{"Key": "aws:team", "Value": "x"}], "tag-reserved"),
        ("Environment", {"MLFLOW_TRACKING_URI": "http://localhost:5000"}, "tracking-uri-local"),
        ("Environment", {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, "tracking-uri-local"),
        (
            "ResourceConfig",
            {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1, "VolumeKmsKeyId": "k"},
            "volume-key",
        ),
        (
            "ResourceConfig",
            {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1, "KeepAlivePeriodInSeconds": 60},
            "spot-warm-pool",
        ),
    ],
)
def test_rules_between_fields(account: World, field: str, change: Any, code: str) -> None:
    built, config, options = build(account.put_records(), spot=True)
    assert code in codes(examine.run({**built, field: change}, config, options, account.aws))


def test_what_cannot_be_looked_at_is_said(account: World) -> None:
    found = preflight(account, account.put_records(), subnet=("subnet-1",), security_group=("sg-1",), kms_key="k")
    assert {"vpc-unchecked", "kms-unchecked"} <= set(codes(found, "unchecked"))


def test_the_algorithm_s_faults_are_among_the_findings(account: World) -> None:
    config = replace(BUILTIN, num_layers=44, image_shape="3,32,32", num_classes=None, mini_batch_size=13)
    found = preflight(account, account.put_records(shape=(32, 32, 3)), config)
    assert set(codes(found)) == {"depth-image-size", "num-classes-missing", "batch-too-large", "fewer-than-batch"}


def test_what_the_data_say_mends_what_is_missing(account: World) -> None:
    config = replace(BUILTIN, num_classes=None, num_training_samples=None)
    fix = {f.code: f.fix for f in preflight(account, account.put_records(), config)}
    assert fix["num-training-samples-missing"] == "Give --num-training-samples 12."
    assert fix["num-classes-missing"] == "Give --num-classes 3: the labels go up to 2."


def test_one_path_of_this_machine_for_two_channels_is_no_validation(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture(len(name)))
    twice = [("train", tmp_path), ("validation", tmp_path / "cat" / "..")]
    assert "channel-overlap" in codes(local.check(twice, BUILTIN, is_builtin=True)[0])
    assert "channel-overlap" not in codes(local.check(twice[:1], BUILTIN, is_builtin=True)[0])


def test_no_answer_is_not_called_a_want_of_leave(account: World) -> None:
    account.answers.table["ListServiceQuotas"] = ("ServiceUnavailableException", "come back later")
    account.answers.table["DescribeImages"] = ("AccessDeniedException", "not for you")
    image = f"{ROLE[13:25]}.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    why = {f.code: f.why for f in preflight(account, [], code_uri=CODE, image=image)}
    assert (
        why["quota-unchecked"] == "AWS gave no answer" and why["image-unchecked"] == "the credentials here may not ask"
    )


def test_our_container_does_not_have_this_machine_s_weights(account: World, tmp_path: Path) -> None:
    weights = tmp_path / "mine.params"
    weights.write_bytes(b"")
    config = Config(num_layers=20, image_shape="3,28,28", init=str(weights))
    assert "init-local" in codes(preflight(account, [], config, code_uri=CODE))
    sent = [Channel("init", "s3://bucket-one/weights/")]
    assert "init-local" not in codes(preflight(account, sent, config, code_uri=CODE))


# Time, money, disk


def test_each_fault_says_what_the_job_would_have_cost_by_then(account: World) -> None:
    channels = account.put_listed(lists={"train": "0\t0\ta/0.png\n"})
    report = examine.examine(*build(channels, replace(BUILTIN, resize=32), role=ROLE + "x"), account.aws)
    by_code = {f.code: f for f in report.findings}
    assert by_code["role-missing"].cost_usd == 0.0
    assert report.estimate is not None and report.price is not None
    started_s = report.estimate.download_s + report.estimate.start_s
    assert by_code["fewer-than-batch"].cost_usd == pytest.approx(started_s * 0.7364 / 3600)
    text = all_findings.render(report.findings)
    assert "fewer-than-batch: train has 1, --mini-batch-size 4" in text
    assert "fails when the algorithm reads its input, $0.04 spent by then: " in text
    assert text.endswith("not launched; --force launches all the same\n")


def test_the_estimate_is_said_with_its_price(account: World) -> None:
    account.answers.table["GetProducts"] = {"PriceList": [product("ml.g4dn.xlarge", "us-east-1", "3.6")]}
    report = examine.examine(*build(account.put_records()), account.aws)
    note = next(f for f in report.findings if f.code == "estimate")
    assert note.severity == "note"
    assert "about 4 min billed, $0.23 ($0.08 to $0.68) at $3.60/h (AWS price list of 2026-11-02" in note.what
    assert "; no finished job like it" in note.what


def test_gpus_that_our_trainer_leaves_idle_are_said_with_what_they_cost(account: World) -> None:
    config = replace(BUILTIN, num_layers=152, image_shape="3,224,224", num_training_samples=100_000)
    report = examine.examine(*build([], config, code_uri=CODE, instance_type="ml.g5.12xlarge"), account.aws)
    (idle,) = (f for f in report.findings if f.code == "gpus-idle")
    assert report.usd is not None and f"${0.75 * report.usd:.2f} of the estimated ${report.usd:.2f}" in idle.what
    assert idle.severity == "warning" and "has 4 GPUs, our trainer uses 1" in idle.what
    assert "Give --devices gpu" in idle.fix and "or take ml.g5.xlarge" in idle.fix
    assert "gpus-idle" not in codes(preflight(account, [], BUILTIN, instance_type="ml.g5.12xlarge"))  # it uses all four
    # What is estimated is one GPU's speed.
    alone = examine.examine(*build([], config, code_uri=CODE, instance_type="ml.g5.16xlarge"), account.aws)
    assert report.estimate is not None and alone.estimate is not None
    assert report.estimate.images_per_s == alone.estimate.images_per_s


def test_devices_are_held_against_the_machine_s_gpus(account: World) -> None:
    def found(devices: str, size: int = 64) -> dict[str, str]:
        config = replace(BUILTIN, devices=devices, mini_batch_size=size, num_training_samples=100_000)
        told = preflight(account, [], config, code_uri=CODE, instance_type="ml.g5.12xlarge")
        return {f.code: f.what for f in told if f.code.startswith(("gpus", "batch"))}

    assert found("gpu") == found("0,1,2,3") == {}
    assert "our trainer uses 2 ($" in found("0,3")["gpus-idle"]
    assert found("3,4")["gpus-missing"] == "--devices 3,4: ml.g5.12xlarge has 4, from 0"
    assert "leaves some of the 4 GPUs" in found("gpu", 3)["batch-below-gpus"]


def test_machines_share_a_batch_and_small_shares_are_said(account: World) -> None:
    def found(count: int, **how: Any) -> dict[str, Any]:
        told = preflight(account, [], replace(BUILTIN, **how), code_uri=CODE, instance_count=count)
        return {f.code: f for f in told}

    small = found(2, mini_batch_size=16)["machines-idle"]
    assert small.severity == "note" and "each of the 2 x ml.g4dn.xlarge takes 8 of the 16" in small.what
    assert not {"machines-idle", "batch-below-gpus"} & found(2, mini_batch_size=32).keys()
    assert found(3, mini_batch_size=2)["batch-below-gpus"].severity == "error"
    assert "Give --instance-count 2" in found(1, workers=2)["setting-foreign"].fix
    assert found(2, kv_store="dist_async")["setting-foreign"].severity == "error"


def test_a_machine_that_is_kept_is_in_the_price_before_the_launch(account: World) -> None:
    report = examine.examine(*build(account.put_records(), keep_alive_min=30), account.aws)
    assert report.kept_usd_at_most == pytest.approx(0.7364 / 2)
    note = next(f for f in report.findings if f.code == "estimate")
    assert "the machine kept for 30 min costs up to $0.37 more" in note.what


def test_the_other_jobs_of_a_study_ask_nothing_twice(account: World) -> None:
    channels = account.put_records()
    first = examine.examine(*build(channels), account.aws)
    calls, asked = len(account.fake.calls), len(account.answers.calls)
    built, config, options = build(channels, replace(BUILTIN, num_classes=2))
    second = examine.examine(built, config, options, account.aws, former=first)
    assert (len(account.fake.calls), len(account.answers.calls)) == (calls, asked)
    assert second.num_reads == first.num_reads and second.price == first.price
    unchecked = [{f.what for f in report.findings if f.severity == "unchecked"} for report in (first, second)]
    assert unchecked[0] == unchecked[1] != set()  # what holds for all is said of all
    assert codes(first.findings) == [] and codes(second.findings) == [
        "label-out-of-range",
        "label-out-of-range",
    ]  # looked at anew


def test_findings_of_many_jobs_are_said_once_and_whose_they_are() -> None:
    batch, tag = all_findings.finding("batch-too-large", "7 of 3"), all_findings.finding("image-old", "an old one")
    merged = all_findings.merge({"a": [tag], "b": [batch, tag], "c": [batch, tag]})
    assert [(f.code, f.what) for f in merged] == [
        ("batch-too-large", "b and 1 more: 7 of 3"),
        ("image-old", "an old one"),
    ]


@pytest.mark.parametrize(("max_cost", "code"), [(0.8, "max-cost"), (2.0, "max-cost-tight"), (90.0, None)])
def test_a_run_beyond_its_ceiling_is_found(account: World, max_cost: float, code: str | None) -> None:
    # 12,000,000 pictures an epoch at 5,000 a second, five times, a bit for validation and 225 s beside: $2.58.
    config = replace(BUILTIN, num_training_samples=12_000_000, mini_batch_size=256, epochs=5)
    channels = [Channel("train", "s3://bucket-two/t/", request.RECORDIO)]
    found = examine.run(*build(channels, config, max_cost_usd=max_cost, max_runtime_s=86_400), account.aws)
    assert [c for c in codes(found) if c.startswith("max-")] == ([code] if code else [])


@pytest.mark.parametrize(
    ("max_runtime_s", "code"), [(3600, "max-runtime"), (10_000, "max-runtime-tight"), (86_400, None)]
)
def test_a_run_beyond_its_time_is_found(account: World, max_runtime_s: int, code: str | None) -> None:
    config = replace(BUILTIN, num_training_samples=12_000_000, mini_batch_size=256, epochs=5)
    found = examine.run(*build([], config, max_runtime_s=max_runtime_s), account.aws)
    assert [c for c in codes(found) if c.startswith("max-")] == ([code] if code else [])


@pytest.mark.parametrize(("volume_gb", "code"), [(2, "disk"), (3, "disk-tight"), (30, None)])
def test_the_disk_must_hold_data_and_every_checkpoint(account: World, volume_gb: int, code: str | None) -> None:
    # 18 layers are 47 MB; 5 checkpoints, 2 beside and 5 in the archive: 0.56 GB, and 2 GB for the system.
    config = replace(
        BUILTIN, num_layers=18, image_shape="3,224,224", resize=256, epochs=5, checkpoint_frequency=1, mini_batch_size=4
    )
    found = preflight(account, account.put_records(), config, instance_type="ml.p3.2xlarge", volume_gb=volume_gb)
    assert [c for c in codes(found) if c.startswith("disk")] == ([code] if code else [])
    if code:
        assert f"--volume-gb {4}" in next(f.fix for f in found if f.code == code)


def test_the_price_of_a_region_that_is_not_shipped_is_said_to_be_another_s(account: World) -> None:
    built, config, options = build([], region="sa-east-1")
    note = next(f for f in examine.run(built, config, options, account.aws) if f.code == "estimate")
    assert "no price of sa-east-1 is shipped, us-east-1's is used" in note.what


@pytest.mark.parametrize(
    ("server", "state", "code", "words"),
    [
        ("mlflow-tracking-server/lab", ("2.16.2", "Created"), "tracking-older", "runs MLflow 2.16.2; here is "),
        ("mlflow-tracking-server/lab", ("99.0.0", "Started"), "tracking-version", "runs MLflow 99.0.0; here is "),
        ("mlflow-app/app-ABC123", ("99.0.0", "Created"), "tracking-version", "runs MLflow 99.0.0; here is "),
        ("mlflow-tracking-server/lab", ("99.0.0", "Stopped"), "tracking-missing", "and it is Stopped"),
        ("mlflow-tracking-server/lab", None, "tracking-missing", "there is no arn:"),
    ],
)
def test_which_mlflow_is_behind_an_arn_is_asked_and_said(
    account: World, server: str, state: tuple[str, str] | None, code: str, words: str
) -> None:
    account.fake.mlflow = {} if state is None else {server: state}
    built, config, given = build([Channel("train", "s3://bucket-one/x/")], OWN, code_uri=CODE)
    built["Environment"] = {"MLFLOW_TRACKING_URI": f"arn:aws:sagemaker:us-east-1:123456789012:{server}"}
    found = examine.run(built, config, given, account.aws)
    assert any(f.code == code and words in f.what for f in found)
