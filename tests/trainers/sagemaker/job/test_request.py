"""CreateTrainingJob requests: pinned by golden files, legal by the API's own model, back to the same config."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import GOLDEN
from tracking.errors import StoreError
from tracking.store import Store
from trainers.config import Config
from trainers.errors import BadConfig, BadInput
from trainers.sagemaker.aws import images
from trainers.sagemaker.cost import pricing
from trainers.sagemaker.job import request
from trainers.sagemaker.job.request import Channel
from trainers.sagemaker.options import JobOptions
from trainers.sagemaker.preflight import request as preflight_request

ROLE = "arn:aws:iam::123456789012:role/trainer"
BASE: dict[str, Any] = {"role": ROLE, "output": "s3://bucket-one/runs/", "region": "us-east-1"}
TRANSFER = Config(
    num_classes=43,
    num_training_samples=39_209,
    num_layers=34,
    image_shape="3,224,224",
    epochs=50,
    use_pretrained_model=1,
    learning_rate=0.01,
    resize=256,
    top_k=5,
    run_name="signs, transfer",
    tags={"study": "depths"},
)
SCRATCH = Config(num_classes=43, num_training_samples=39_209, num_layers=44, image_shape="3,28,28", early_stopping=True)
RECORDS = [
    Channel("train", "s3://bucket-one/signs/train", request.RECORDIO),
    Channel("validation", "s3://bucket-one/signs/validation/", request.RECORDIO),
]
LISTED = [
    Channel("train", "s3://bucket-one/signs/train/", request.IMAGE),
    Channel("validation", "s3://bucket-one/signs/validation/", request.IMAGE),
    Channel("train_lst", "s3://bucket-one/signs/train_lst/train.lst", request.IMAGE),
    Channel("validation_lst", "s3://bucket-one/signs/validation_lst/", request.IMAGE),
]


def _cases() -> dict[str, dict[str, Any]]:
    own = Config(num_layers=44, image_shape="3,28,28", epochs=30, seed=7, experiment="signs", tags={"a b": "ü=1"})
    full = JobOptions(
        **{**BASE, "region": "eu-west-1"},
        instance_type="ml.p3.2xlarge",
        instance_count=2,
        spot=True,
        max_runtime_s=7200,
        volume_gb=50,
        subnet=("subnet-1",),
        security_group=("sg-1", "sg-2"),
        kms_key="alias/models",
        tags={"team": "vision"},
    )
    code = "s3://bucket-one/runs/code/0123abcd.tar.gz"
    return {
        "sagemaker_builtin_recordio": request.build(
            TRANSFER, JobOptions(**BASE), RECORDS, job_name="transfer-34-20261123-101112-000"
        ),
        "sagemaker_builtin_list_spot_vpc": request.build(SCRATCH, full, LISTED, job_name="scratch-44"),
        "sagemaker_own": request.build(
            own,
            JobOptions(**BASE, keep_alive_min=10, max_cost_usd=1.0),
            [Channel("train", "s3://bucket-one/data/5f3c/")],
            job_name="own-44",
            code_uri=code,
            environment={"MLFLOW_TRACKING_URI": "https://mlflow.example.com", "MLFLOW_RUN_ID": "0f" * 16},
        ),
        "sagemaker_own_image": request.build(
            own,
            JobOptions(**BASE, image="123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:2"),
            [],
            job_name="x",
            code_uri=code,
        ),
    }


@pytest.mark.parametrize("name", list(_cases()))
def test_requests_are_the_golden_ones(name: str) -> None:
    assert _cases()[name] == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", list(_cases()))
def test_requests_are_legal_by_the_api_model(name: str) -> None:
    built = _cases()[name]
    shape = (
        botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    )
    report = botocore.validate.ParamValidator().validate(built, shape)  # type: ignore[attr-defined]
    assert not report.has_errors(), report.generate_report()
    assert [
        f
        for f in preflight_request.check(built, TRANSFER, region="us-east-1", is_builtin=True)
        if f.code == "request-limit"
    ] == []


def test_the_same_input_gives_the_same_request() -> None:
    assert _cases() == _cases()


def test_a_prefix_gets_its_slash_and_a_file_does_not() -> None:
    built = request.build(TRANSFER, JobOptions(**BASE), LISTED, job_name="a")
    uris = [c["DataSource"]["S3DataSource"]["S3Uri"] for c in built["InputDataConfig"]]
    assert uris[2] == "s3://bucket-one/signs/train_lst/train.lst"
    assert all(uri.endswith("/") for uri in (uris[0], uris[1], uris[3]))


def test_an_augmented_manifest_goes_through_a_framed_pipe() -> None:
    channel = Channel("train", "s3://bucket-one/train.manifest", request.RECORDIO, ("source-ref", "class"))
    built = request.build(TRANSFER, JobOptions(**BASE), [channel], job_name="a")["InputDataConfig"][0]
    assert (built["InputMode"], built["RecordWrapperType"]) == ("Pipe", "RecordIO")
    source = built["DataSource"]["S3DataSource"]
    assert source["S3DataType"] == "AugmentedManifestFile"
    assert source["AttributeNames"] == ["source-ref", "class"]


def test_machines_with_a_disk_of_their_own_get_no_volume_and_no_key() -> None:
    def resources(kind: str) -> dict[str, Any]:
        options = JobOptions(**BASE, instance_type=kind, kms_key="alias/k", volume_gb=80)
        built = request.build(TRANSFER, options, RECORDS, job_name="a")
        assert built["OutputDataConfig"]["KmsKeyId"] == "alias/k"
        return dict(built["ResourceConfig"])

    assert resources("ml.g4dn.xlarge") == {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1}
    assert resources("ml.g5.xlarge") == {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}
    assert resources("ml.p3.2xlarge")["VolumeSizeInGB"] == 80
    assert resources("ml.p3.2xlarge")["VolumeKmsKeyId"] == "alias/k"


def test_the_cost_ceiling_shortens_the_run_time() -> None:
    # $1 buys 4888 s at $0.7364/h; 320 s are kept for what is billed beside the training.
    options = JobOptions(**BASE, max_cost_usd=1.0)
    built = request.build(TRANSFER, options, RECORDS, job_name="a")
    assert built["StoppingCondition"] == {"MaxRuntimeInSeconds": 4888 - 320}
    kept = JobOptions(**BASE, max_cost_usd=1.0, keep_alive_min=20)
    assert request.capped(kept).max_runtime_s == 4888 - 320 - 1200
    live = pricing.Price(usd=1.4728, source="live", date="2026-11-02", region="us-east-1")  # twice the table's
    assert request.capped(options, live).max_runtime_s == 2444 - 320
    assert request.capped(JobOptions(**BASE, max_cost_usd=1.0, max_runtime_s=600)).max_runtime_s == 600
    assert request.capped(JobOptions(**BASE)).max_runtime_s == 14_400


def test_a_ceiling_that_pays_for_no_minute_says_what_would() -> None:
    with pytest.raises(BadConfig, match=r"--max-cost 0.02: at \$0.74/h .* Give at least 0.08"):
        request.build(TRANSFER, JobOptions(**BASE, max_cost_usd=0.02), RECORDS, job_name="a")
    assert request.capped(JobOptions(**BASE, max_cost_usd=0.08)).max_runtime_s >= 60


def test_spot_waits_longer_than_it_runs() -> None:
    built = request.build(TRANSFER, JobOptions(**BASE, spot=True, max_runtime_s=1000), RECORDS, job_name="a")
    assert built["StoppingCondition"] == {"MaxRuntimeInSeconds": 1000, "MaxWaitTimeInSeconds": 4600}
    assert built["CheckpointConfig"] == {"S3Uri": "s3://bucket-one/runs/a/checkpoints/"}
    given = JobOptions(**BASE, spot=True, max_runtime_s=1000, max_wait_s=2000)
    assert request.build(TRANSFER, given, RECORDS, job_name="a")["StoppingCondition"]["MaxWaitTimeInSeconds"] == 2000


def test_account_facts_that_are_missing_are_asked_for() -> None:
    with pytest.raises(BadConfig, match="--output"):
        request.build(TRANSFER, JobOptions(role=ROLE, region="us-east-1"), RECORDS, job_name="a")


def test_a_region_without_the_algorithm_is_refused() -> None:
    with pytest.raises(BadInput, match="--region mx-central-1: AWS publishes no image"):
        request.build(TRANSFER, JobOptions(**{**BASE, "region": "mx-central-1"}), RECORDS, job_name="a")


def test_china_has_a_domain_of_its_own() -> None:
    assert (
        images.builtin_image("cn-north-1") == "390948362332.dkr.ecr.cn-north-1.amazonaws.com.cn/image-classification:1"
    )
    assert images.is_builtin(images.builtin_image("cn-north-1"))
    assert not images.is_builtin(images.own_image("123456789012", "us-east-1"))


@given(
    config=st.builds(
        Config,
        num_layers=st.sampled_from([None, 20, 44]),
        epochs=st.integers(1, 500),
        learning_rate=st.floats(0, 1),
        eps=st.floats(0, 1),
        early_stopping=st.booleans(),
        lr_scheduler_step=st.sampled_from([None, "10,20"]),
        init=st.sampled_from([None, "scratch"]),
        resnet_version=st.sampled_from(["v1", "v2"]),
        experiment=st.sampled_from([None, "a b"]),
        run_name=st.sampled_from([None, "-x=1"]),
        allow_overlap=st.booleans(),
        seed=st.integers(0, 2**31 - 1),
        tags=st.dictionaries(st.text(min_size=1, max_size=5).filter(str.strip), st.text(max_size=5), max_size=3),
    )
)
def test_our_container_reads_back_the_config_that_was_sent(config: Config) -> None:
    sent = request.hyperparameters(config)
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in sent.items())
    assert request.config_from(json.loads(json.dumps(sent))) == config


def test_what_only_this_machine_knows_is_not_sent() -> None:
    config = Config(num_threads=2, image_root="/home/me/pictures")
    assert not {"num_threads", "image_root"} & request.hyperparameters(config).keys()


def test_job_names_are_legal_and_distinct() -> None:
    long = Config(run_name="ein sehr langer Name, mit Umlauten äöü und_Strichen!", num_layers=44)
    names = [request.job_name(long, 1_790_000_000.0, number) for number in range(3)]
    names += [request.job_name(Config(run_name="___"), 0.0), request.job_name(Config(num_layers=20), 5e9, 999)]
    assert len(set(names)) == 5
    for name in names:
        assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name), name
    assert names[0].startswith("ein-sehr-langer-Name-mit-") and names[0].endswith("-20260921-141320-000")


def test_channels_that_are_in_s3_already() -> None:
    options = JobOptions(train="s3://bucket-one/t/", validation="local/folder", test="s3://bucket-one/e/")
    assert request.s3_channels(options, builtin=True) == [Channel("train", "s3://bucket-one/t/", request.RECORDIO)]
    assert [c.name for c in request.s3_channels(options, builtin=False)] == ["train", "test"]
    listed = JobOptions(
        train="s3://bucket-one/t/",
        validation="s3://bucket-one/v/",
        train_lst="s3://bucket-one/tl/",
        validation_lst="local.lst",
    )
    assert [(c.name, c.content_type) for c in request.s3_channels(listed, builtin=True)] == [
        ("train", request.IMAGE),
        ("validation", request.IMAGE),
        ("train_lst", request.IMAGE),
    ]


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "sqlite:///mlruns/mlflow.db",
        "file:///srv/mlruns",
        "mlruns",
        "http://localhost:5000",
        "http://127.0.0.1:5000",
        "http://laptop:5000",
        "http://laptop.local:5000",
        "http://192.168.1.2:5000",
        "http://10.0.0.7:5000",
        "http://[fd00::1]:5000",
        "https://me:secret@mlflow.example.com",
    ],
)
def test_addresses_only_this_machine_sees_are_not_handed_on(uri: str) -> None:
    handed, why = request.tracking_environment({"MLFLOW_TRACKING_URI": uri}, "0f" * 16)
    assert handed == {} and why
    assert "secret" not in why


def test_addresses_of_a_network_are_handed_to_jobs_in_it() -> None:
    uri = {"MLFLOW_TRACKING_URI": "http://10.0.0.7:5000"}
    assert request.tracking_environment(uri, in_vpc=True) == (uri, "")
    assert request.tracking_environment({"MLFLOW_TRACKING_URI": "http://localhost:5000"}, in_vpc=True)[0] == {}


def test_a_server_of_sagemaker_s_asks_for_its_plugin(tmp_path: Path) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/mine"
    if importlib.util.find_spec("sagemaker_mlflow") is not None:
        pytest.skip("the plugin is installed")
    with pytest.raises(StoreError, match=r"pip install 'image-classification-tracking\[sagemaker-mlflow\]'"):
        Store(arn, None, tmp_path).client()


@pytest.mark.parametrize(
    "uri", ["https://mlflow.example.com/x", "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/mine"]
)
def test_servers_that_the_job_can_reach_are_handed_on_with_the_run(uri: str) -> None:
    handed, why = request.tracking_environment(
        {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "signs"}, "0f" * 16
    )
    assert handed == {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "signs", "MLFLOW_RUN_ID": "0f" * 16}
    assert why == ""
