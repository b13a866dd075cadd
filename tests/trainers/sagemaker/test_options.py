"""Job options: where they come from, which wins, and that every fault comes in one message."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from trainers.errors import BadConfig
from trainers.sagemaker import options
from trainers.sagemaker.aws.uri import split_s3
from trainers.sagemaker.options import JobOptions

ROLE = "arn:aws:iam::123456789012:role/service-role/trainer"


def _flags(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_flags(parser)
    return parser.parse_args(argv)


def test_flags_win_over_the_table_and_the_table_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        f'epochs = 3\n[sagemaker]\nrole = "{ROLE}"\nregion = "eu-west-1"\nmax_cost = 2.5\nspot = true\n'
        'subnet = ["subnet-1"]\nsecurity-group = "sg-1"\n[sagemaker.tags]\nteam = "vision"\n'
    )
    environment = {"AWS_REGION": "us-west-2", "AWS_PROFILE": "work", "HOME": str(tmp_path)}
    got = options.read(_flags("--region", "us-east-1", "--max-runtime", "90m"), file, environment)
    assert got == JobOptions(
        role=ROLE,
        region="us-east-1",
        profile="work",
        max_runtime_s=5400,
        max_cost_usd=2.5,
        spot=True,
        subnet=("subnet-1",),
        security_group=("sg-1",),
        tags={"team": "vision"},
    )
    assert options.read(None, file, environment).region == "eu-west-1"
    assert options.read(None, None, environment).region == "us-west-2"


@pytest.mark.parametrize(
    ("profile", "region"), [(None, "eu-north-1"), ("default", "eu-north-1"), ("work", "ap-south-1"), ("other", None)]
)
def test_the_region_is_found_in_aws_own_file(tmp_path: Path, profile: str | None, region: str | None) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nregion = eu-north-1\n[profile work]\nregion = ap-south-1\noutput = json\n"
    )
    environment = {"HOME": str(tmp_path)} | ({"AWS_PROFILE": profile} if profile else {})
    assert options.read(None, None, environment).region == region


def test_the_config_file_may_lie_elsewhere_or_be_broken(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere"
    file.write_text("[default]\nregion = eu-north-1\n")
    assert options.read(None, None, {"AWS_CONFIG_FILE": str(file)}).region == "eu-north-1"
    file.write_text("no section\n")
    assert options.read(None, None, {"AWS_CONFIG_FILE": str(file)}).region is None


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("2 d", 172_800)])
def test_times_are_seconds_or_carry_a_unit(text: str, seconds: int) -> None:
    assert options.read(_flags("--max-runtime", text), None, {"HOME": "/nowhere"}).max_runtime_s == seconds


def test_nothing_bigger_than_the_smallest_gpu_and_always_a_limit() -> None:
    default = JobOptions()
    assert (default.instance_type, default.instance_count, default.max_runtime_s) == ("ml.g4dn.xlarge", 1, 14_400)
    assert not default.spot and default.keep_alive_min is None


def test_every_unreadable_value_comes_in_one_message(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[sagemaker]\nregoin = "us-east-1"\ninstance_count = "two"\n')
    with pytest.raises(BadConfig) as caught:
        options.read(_flags("--max-runtime", "soon", "--max-cost", "much", "--spot", "perhaps"), file, {})
    text = str(caught.value)
    assert len(caught.value.faults) == 5
    assert "regoin is not a setting. Did you mean region?" in text
    assert "--instance-count two is not a whole number" in text
    assert "--max-runtime soon is not a time" in text
    assert "--max-cost much is not an amount" in text
    assert "--spot perhaps is not true or false" in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"role": "my trainer"}, "--role 'my trainer' must have the form NAME or arn:aws:iam"),
        ({"role": "arn:aws:iam::12:role/x"}, "--role"),
        ({"output": "bucket/prefix"}, "--output 'bucket/prefix' must have the form s3://"),
        ({"region": "Frankfurt"}, "--region"),
        ({"instance_type": "g4dn.xlarge"}, "--instance-type 'g4dn.xlarge' must have the form ml.g4dn.xlarge"),
        ({"instance_count": 0}, "--instance-count 0 is out of range"),
        ({"keep_alive_min": 61}, "--keep-alive 61 is out of range: 0 to 60"),
        ({"max_runtime_s": 59}, "--max-runtime 59 is out of range"),
        ({"max_runtime_s": 28 * 86400 + 1}, "--max-runtime"),
        ({"max_cost_usd": 0.0}, "--max-cost 0 must be more than nothing"),
        ({"max_cost_usd": float("nan")}, "--max-cost nan"),
        ({"spot": True, "keep_alive_min": 5}, "--keep-alive and --spot exclude one another"),
        ({"max_wait_s": 9000}, "--max-wait needs --spot"),
        ({"spot": True, "max_runtime_s": 7200, "max_wait_s": 3600}, "--max-wait 3600 s must be at least"),
        ({"subnet": ("subnet-1",)}, "--subnet and --security-group go together"),
        ({"train": "s3:/bucket/train"}, "--train 's3:/bucket/train' must have the form"),
        ({"train": ""}, "--train is empty"),
        ({"train_lst": "a.lst", "validation_lst": "b.lst"}, "--train-lst needs --train"),
        ({"train": "a", "train_lst": "a.lst"}, "--train-lst and --validation-lst go together"),
        ({"volume_gb": 0}, "--volume-gb 0 is out of range"),
    ],
)
def test_illegal_values_are_refused_in_words(values: dict[str, object], said: str) -> None:
    with pytest.raises(BadConfig) as caught:
        JobOptions(**values)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_what_is_missing_is_asked_for_by_name() -> None:
    assert [fault.split()[0] for fault in JobOptions().missing()] == ["--role", "--output", "--region"]
    named = JobOptions(role="trainer", output="s3://bucket/x", region="us-east-1")  # as no command leaves it
    assert "give its ARN" in named.missing()[0]
    assert JobOptions(role=ROLE, output="s3://bucket-one", region="us-east-1").missing() == []
    assert JobOptions(role=ROLE).account == "123456789012"


def test_a_table_gives_the_options(tmp_path: Path) -> None:
    given = JobOptions(
        role=ROLE,
        output="s3://bucket-one/runs",
        region="us-east-1",
        profile="work",
        spot=True,
        max_wait_s=20_000,
        max_cost_usd=3.0,
        subnet=("subnet-1", "subnet-2"),
        security_group=("sg-1",),
        tags={"team": "vision"},
        train="s3://bucket-one/train/",
    )
    file = tmp_path / "run.toml"
    file.write_text(
        f"""
        [sagemaker]
        role = "{ROLE}"
        output = "s3://bucket-one/runs"
        region = "us-east-1"
        profile = "work"
        spot = true
        max_wait_s = 20000
        max_cost_usd = 3.0
        subnet = ["subnet-1", "subnet-2"]
        security_group = ["sg-1"]
        train = "s3://bucket-one/train/"
        [sagemaker.tags]
        team = "vision"
        """
    )
    assert options.read(None, file, {}) == given


def test_a_table_that_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("sagemaker = true\n")
    with pytest.raises(BadConfig, match="is not a table"):
        options.read(None, file, {})


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://bucket-one", ("bucket-one", "")),
        ("s3://bucket-one/", ("bucket-one", "")),
        ("s3://bucket.one/a/b/", ("bucket.one", "a/b/")),
    ],
)
def test_s3_uris_are_split(uri: str, parts: tuple[str, str]) -> None:
    assert split_s3(uri) == parts


def test_s3_uris_of_other_forms_are_refused() -> None:
    for uri in ("bucket/key", "s3://", "https://bucket/key"):
        with pytest.raises(BadConfig):
            split_s3(uri)
    with pytest.raises(BadConfig, match="must have the form s3://bucket/prefix"):
        options.JobOptions(output="s3://Bucket/key")


def test_options_and_requests_need_the_standard_library_alone() -> None:
    code = (
        "import sys\nfrom trainers.sagemaker import options\nfrom trainers.sagemaker.job import request\n"
        "from trainers.sagemaker.cost import pricing\nfrom trainers.sagemaker.builtin import limits\n"
        "heavy = {'boto3', 'botocore', 'mxnet', 'mlflow', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = str(ROOT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
