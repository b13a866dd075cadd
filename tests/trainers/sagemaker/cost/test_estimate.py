"""Facts of machines and the estimates that rest on them: disks, GPUs, time against AWS's public logs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainers.config import Config
from trainers.sagemaker.cost import estimate, instances

# AWS's public example: Caltech-256, 18 layers, 15,420 pictures to train on, 15,187 to validate, one V100.
CALTECH = Config(
    num_layers=18, image_shape="3,224,224", epochs=5, mini_batch_size=128, num_classes=257, num_training_samples=15_420
)


@pytest.mark.parametrize(("epochs", "billed_s"), [(5, 782), (2, 428)])
def test_the_estimate_is_within_its_spread_of_public_jobs(epochs: int, billed_s: int) -> None:
    config = replace(CALTECH, epochs=epochs)
    guess = estimate.estimate(config, "ml.p3.2xlarge", num_train=15_420, num_validation=15_187, num_bytes=1_200_000_000)
    assert billed_s / estimate.SPREAD < guess.total_s < billed_s * estimate.SPREAD


def test_phases_add_up_and_money_is_spent_in_their_order() -> None:
    guess = estimate.estimate(CALTECH, "ml.p3.2xlarge", num_train=1500, num_bytes=200_000_000, is_listed=True)
    # 200 MB at 100 MB/s; 60 s for the image and 1500 pictures packed at 400 a second; 5 x 1500 at 150 a second.
    assert (guess.download_s, guess.start_s, guess.training_s, guess.upload_s) == (2.0, 63.75, 50.0, 60.0)
    assert guess.total_s == 175.75
    billed = guess.billed_by()
    assert [billed[when] for when in ("create", "download", "start", "training", "end")] == [0, 2, 65.75, 90.75, 175.75]


def test_larger_machines_are_not_slower_and_cpus_are_slow() -> None:
    rates = [
        estimate.images_per_s(CALTECH, kind)
        for kind in ("ml.m5.xlarge", "ml.g4dn.xlarge", "ml.g5.12xlarge", "ml.p4d.24xlarge")
    ]
    assert rates == sorted(rates) and rates[0] < rates[1] / 5
    assert estimate.images_per_s(replace(CALTECH, num_layers=152), "ml.g4dn.xlarge") < rates[1]


def test_disk_counts_checkpoints_and_packed_copies() -> None:
    # 11.7 million weights of 4 bytes; the best epoch kept: one set, two beside while saving, one in the archive.
    weights = 46_800_000
    assert estimate.model_bytes(CALTECH) == weights
    assert estimate.disk_bytes(CALTECH, 1000) == 1000 + 4 * weights
    assert estimate.disk_bytes(CALTECH, 1000, is_listed=True) == 2000 + 4 * weights
    every = replace(CALTECH, epochs=10, checkpoint_frequency=2)
    assert estimate.disk_bytes(every, 0) == (5 + 2 + 5) * weights
    assert estimate.model_bytes(replace(CALTECH, precision_dtype="float16")) == weights // 2


@pytest.mark.parametrize(
    ("kind", "own_disk"),
    [
        ("ml.g4dn.xlarge", True),
        ("ml.g5.2xlarge", True),
        ("ml.g6.xlarge", True),
        ("ml.p4d.24xlarge", True),
        ("ml.p3dn.24xlarge", True),
        ("ml.p5.48xlarge", True),
        ("ml.c5d.xlarge", True),
        ("ml.m5d.large", True),
        ("ml.p2.xlarge", False),
        ("ml.p3.8xlarge", False),
        ("ml.c5.xlarge", False),
        ("ml.m5.large", False),
    ],
)
def test_machines_with_a_disk_of_their_own(kind: str, own_disk: bool) -> None:
    assert instances.has_own_disk(kind) == own_disk


def test_gpus_and_what_mxnet_for_cuda_11_drives() -> None:
    counts = {kind: instances.find(kind) for kind in ("ml.g4dn.12xlarge", "ml.g5.48xlarge", "ml.p3.16xlarge")}
    assert [machine.num_gpus for machine in counts.values() if machine] == [4, 8, 8]
    kinds = (
        "p2.xlarge",
        "p3.2xlarge",
        "g4dn.xlarge",
        "g5.xlarge",
        "p4d.24xlarge",
        "g6.xlarge",
        "p5.48xlarge",
        "g7.2xlarge",
    )
    driven = {kind: gpu.runs_our_code for kind in kinds if (gpu := instances.gpu(f"ml.{kind}")) is not None}
    assert [kind for kind, runs in driven.items() if not runs] == ["p2.xlarge", "p5.48xlarge", "g7.2xlarge"]
    assert len(driven) == len(kinds)


def test_every_accelerated_type_of_the_api_is_known_by_its_family() -> None:
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    kinds = model.shape_for("TrainingInstanceType").enum
    unknown = [
        kind
        for kind in kinds
        if not instances.is_cpu(kind) and not instances.gpu(kind) and not instances.other_accelerator(kind)
    ]
    assert unknown == []
    assert not [kind for kind in kinds if instances.is_cpu(kind) and instances.gpu(kind)]


def test_types_without_gpu_and_types_nobody_knows() -> None:
    assert instances.is_cpu("ml.m5.large") and instances.is_cpu("ml.c5.xlarge") and instances.is_cpu("ml.t3.medium")
    assert not instances.is_cpu("ml.trn1.2xlarge") and not instances.is_cpu("ml.g5.xlarge")
    assert instances.find("ml.m5.large") is None and instances.find("g5.xlarge") is None
    assert instances.find("ml.x9.huge") is None and instances.family("nonsense") == ""


def test_the_default_machine_is_the_cheapest_gpu_that_can_do_it() -> None:
    from trainers.sagemaker.cost import pricing

    usable = [
        kind
        for kind in pricing._USD_PER_HOUR
        if (machine := instances.find(kind)) is not None
        and machine.gpu.runs_our_code
        and instances.family(kind) in instances.BUILTIN_FAMILIES
    ]
    prices = {kind: pricing.price_per_hour("us-east-1", kind).usd for kind in usable}
    assert min(prices, key=lambda kind: prices[kind]) == instances.SMALLEST_GPU
