"""Facts of machines and the estimates that rest on them: disks, GPUs, time against AWS's public logs."""

from __future__ import annotations

import itertools
import re
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
    # 200 MB at 100 MB/s; 200 s for the image and its start, 1500 pictures packed at 400 a second; 5 x 1500 at 150.
    assert (guess.download_s, guess.start_s, guess.training_s, guess.upload_s) == (2.0, 203.75, 50.0, 25.0)
    assert guess.total_s == 280.75
    billed = guess.billed_by()
    moments = [billed[when] for when in ("create", "download", "start", "training", "end")]
    assert moments == [0, 2, 205.75, 230.75, 280.75]


# Public notebooks: 152 layers, 1,000 pictures of 32 px in batches of 32, 30 epochs; phase Training, and all billed.
UDACITY = [(234, 547), (227, 378), (244, 386), (216, 444), (226, 383), (190, 327), (221, 428)]


def _udacity() -> estimate.Estimate:
    config = Config(num_layers=152, image_shape="3,32,32", num_classes=2, epochs=30, mini_batch_size=32)
    return estimate.estimate(config, "ml.p3.2xlarge", num_train=1000, num_validation=200)


def test_small_pictures_do_not_make_a_deep_network_fast() -> None:
    assert all(billed / 1.5 < _udacity().total_s < billed * 1.5 for _, billed in UDACITY)


def test_finished_jobs_correct_the_estimate_and_narrow_it() -> None:
    guess = _udacity()
    double = [estimate.Bill(guess=guess, run_s=2 * guess.run_s, billed_s=2 * guess.total_s)] * 3
    learnt = estimate.learnt(guess, double)
    assert learnt.total_s == pytest.approx(2 * guess.total_s) and learnt.num_jobs == 3
    assert learnt.images_per_s < guess.images_per_s / 2  # the container starts as fast as ever
    assert estimate.learnt(guess, []) is guess and guess.spread == estimate.SPREAD
    spreads = [estimate.learnt(guess, double[:1] * count).spread for count in (1, 3, 10, 100)]
    assert spreads == sorted(spreads, reverse=True) and spreads[0] < estimate.SPREAD and spreads[-1] > 1
    rare = estimate.learnt(guess, [*double, estimate.Bill(guess=guess, run_s=1.0, billed_s=2.0)])
    assert rare.spread == estimate.SPREAD  # jobs that differ as much say little


def test_most_held_out_bills_are_in_the_interval() -> None:
    guess = _udacity()
    bills = [estimate.Bill(guess=guess, run_s=run_s, billed_s=billed_s) for run_s, billed_s in UDACITY]
    inside = []
    for held, bill in enumerate(bills):
        for known in itertools.combinations([one for one in range(len(bills)) if one != held], 3):
            learnt = estimate.learnt(guess, [bills[one] for one in known])
            inside.append(learnt.total_s / learnt.spread <= bill.billed_s <= learnt.total_s * learnt.spread)
    assert sum(inside) / len(inside) > 0.85  # 87 % of these seven; 91 % of all 13 of bench_estimate.py


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


@pytest.mark.parametrize("is_builtin", [True, False])
def test_every_type_of_the_api_is_priced_impossible_or_unknown(is_builtin: bool) -> None:
    import botocore.session

    from trainers.sagemaker.cost import pricing

    assert re.fullmatch(r"20\d\d-\d\d", pricing.TABLE_DATE)
    model = botocore.session.get_session().get_service_model("sagemaker")
    found: dict[str, list[str]] = {"priced": [], "impossible": [], "unknown": []}
    for kind in model.shape_for("TrainingInstanceType").enum:
        if instances.cannot(kind, is_builtin=is_builtin):
            found["impossible"].append(kind)
            continue
        try:
            pricing.price_per_hour("us-east-1", kind)
        except pricing.NoPrice as error:
            found["unknown"].append(kind)
            assert "no price is known" in str(error)
        else:
            found["priced"].append(kind)
            assert instances.find(kind) is not None  # or else its speed would be a guess
    for kind in ("ml.m5.large", "ml.trn1.2xlarge", "ml.p5.48xlarge" if not is_builtin else "ml.g6.xlarge"):
        assert kind in found["impossible"]
    # A new type of AWS appears here: look whether it can take a job, and what it costs.
    unknown = {"ml.p2.8xlarge", "ml.p2.16xlarge"} if is_builtin else {"ml.p4de.24xlarge", "ml.g6.16xlarge"}
    unknown |= set() if is_builtin else {f"ml.g6e.{size}xlarge" for size in ("", 2, 4, 8, 12, 16, 24, 48)}
    assert set(found["unknown"]) == unknown


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
