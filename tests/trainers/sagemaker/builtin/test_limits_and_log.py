"""The built-in algorithm: its cross-constraints become faults, its real log lines become events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trainers.config import Config
from trainers.sagemaker.builtin import limits, log

SOUND = Config(
    num_classes=257, num_training_samples=15_420, num_layers=18, image_shape="3,224,224", mini_batch_size=128
)


def _codes(config: Config, **machines: int) -> list[str]:
    return [fault.code for fault in limits.faults(config, **machines)]


def test_the_public_example_s_settings_have_no_fault() -> None:
    assert _codes(SOUND, num_gpus=1) == []
    assert _codes(replace(SOUND, use_pretrained_model=1, init=None)) == []
    assert _codes(Config(num_classes=10, num_training_samples=500, num_layers=44, image_shape="1,28,28")) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"num_classes": None}, "num-classes-missing"),
        ({"num_training_samples": None}, "num-training-samples-missing"),
        ({"num_layers": None}, "network-open"),
        ({"image_shape": None}, "network-open"),
        ({"image_shape": "3,32,32", "num_layers": 44}, "depth-image-size"),
        ({"image_shape": "3,112,112", "use_pretrained_model": 1, "init": None}, "pretrained-image-size"),
        ({"mini_batch_size": 15_421}, "batch-too-large"),
        ({"top_k": 257}, "top-k"),
        ({"epochs": 3, "checkpoint_frequency": 4}, "checkpoint-frequency"),
        ({"use_weighted_loss": 1}, "weighted-loss"),
        ({"precision_dtype": "bfloat16"}, "precision"),
        ({"seed": 1}, "setting-foreign"),
        ({"resnet_version": "v2"}, "setting-foreign"),
        ({"pretext": "rotation"}, "setting-foreign"),
        ({"init": "run:0123"}, "init-foreign"),
        ({"resize": 224}, "resize-equal"),
    ],
)
def test_what_the_algorithm_cannot_do(change: dict[str, Any], code: str) -> None:
    assert _codes(replace(SOUND, **change)) == [code]


@pytest.mark.parametrize(
    "change",
    [
        {"top_k": 256},
        {"mini_batch_size": 15_420},
        {"epochs": 4, "checkpoint_frequency": 4},
        {"multi_label": 1, "use_weighted_loss": 1},
        {"precision_dtype": "float16"},
        {"resize": 225},
        {"image_shape": "3,32,32"},
        {"image_shape": "3,28,28", "num_layers": 110},
    ],
)
def test_what_lies_just_inside_the_limits(change: dict[str, Any]) -> None:
    assert _codes(replace(SOUND, **change)) == []


def test_every_gpu_needs_a_picture_and_machines_need_a_way_to_agree() -> None:
    assert _codes(replace(SOUND, mini_batch_size=7), num_gpus=8) == ["batch-below-gpus"]
    assert _codes(replace(SOUND, mini_batch_size=8), num_gpus=8) == []
    assert _codes(SOUND, num_instances=2) == ["kv-store-open"]
    assert _codes(replace(SOUND, kv_store="dist_sync"), num_instances=2) == []


def test_guesses_are_told_from_certainties() -> None:
    certain = {fault.code: fault.certain for fault in limits.faults(replace(SOUND, resize=224, top_k=257))}
    assert certain == {"resize-equal": False, "top-k": True}


STAMP = "[06/17/2021 23:33:59 INFO 139686210139968] "


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            "Epoch[0] Batch [20]#011Speed: 114.166 samples/sec#011accuracy=0.005580#011top_k_accuracy_2=0.011161",
            {
                "event": "progress",
                "epoch": 1,
                "batch": 20,
                "images_per_s": 114.166,
                "values": {"train_accuracy": 0.00558, "train_top2_accuracy": 0.011161},
            },
        ),
        (
            "Epoch[12] Batch [40]\tSpeed: 99.5 samples/sec\taccuracy=0.5",
            {"event": "progress", "epoch": 13, "batch": 40, "images_per_s": 99.5, "values": {"train_accuracy": 0.5}},
        ),
        ("Epoch[0] Train-accuracy=0.025911", {"event": "metric", "step": 1, "values": {"train_accuracy": 0.025911}}),
        (
            "Epoch[0] Train-top_k_accuracy_5=0.042513",
            {"event": "metric", "step": 1, "values": {"train_top5_accuracy": 0.042513}},
        ),
        ("Epoch[0] Time cost=102.214", {"event": "metric", "step": 1, "values": {"epoch_training_time_s": 102.214}}),
        (
            "Epoch[9] Validation-accuracy=0.056723",
            {"event": "metric", "step": 10, "values": {"validation_accuracy": 0.056723}},
        ),
        (
            "Epoch[99] Validation-accuracy=1e-05",
            {"event": "metric", "step": 100, "values": {"validation_accuracy": 1e-5}},
        ),
        (
            "Storing the best model with validation accuracy: 0.056723",
            {"event": "best", "validation_accuracy": 0.056723},
        ),
        (
            'Saved checkpoint to "/opt/ml/model/image-classification-0010.params"',
            {"event": "checkpoint", "epoch": 10, "file": "image-classification-0010.params"},
        ),
        (
            "Final configuration: {'num_layers': '18', 'momentum': 0, 'top_k': ''}",
            {"event": "configuration", "values": {"num_layers": "18", "momentum": "0"}},
        ),
        (
            "Epoch[0] Train-cross-entropy=2.297981",
            {"event": "metric", "step": 1, "values": {"train_loss": 2.297981}},
        ),
        (
            "Epoch[8] Validation-nll-loss=inf",
            {"event": "metric", "step": 9, "values": {"validation_loss": float("inf")}},
        ),
        (
            "Epoch[6] Batch [20-40]    Speed: inf samples/sec    accuracy=0.500000    cross-entropy=0.7",
            {"event": "progress", "epoch": 7, "batch": 40, "values": {"train_accuracy": 0.5, "train_loss": 0.7}},
        ),
        ("Docker entrypoint called with argument(s): train", None),
        ("checkpoint_frequency not set, will store the best model", None),
        ("num_layers: 18", {"event": "parameters", "values": {"num_layers": "18"}}),
        ("image resize size: 224", {"event": "parameters", "values": {"resize": "224"}}),
        ("augmentation_type: None", None),
        ("data type: <type 'numpy.float32'>", None),
        ("Epoch[x] nonsense", None),
        ("Final configuration: {broken", None),
        ("Final configuration: {__import__('os').system('false'): 1}", None),
        ("", None),
    ],
)
def test_real_log_lines(line: str, event: dict[str, Any] | None) -> None:
    assert list(log.log_events(STAMP + line)) == ([] if event is None else [event])


def test_errors_in_the_log() -> None:
    line = "[03/26/2019 23:53:55 ERROR 140566459864896] Customer Error: Mismatch between number of labels in the data"
    (event,) = log.log_events(line)
    assert event == {
        "event": "error",
        "text": "Customer Error: Mismatch between number of labels in the data",
    }


def test_colours_and_glued_messages_are_read_as_if_each_stood_alone() -> None:
    line = (
        f"2020-07-14 22:21:21 Uploading - Uploading generated training model\x1b[34m{STAMP}Epoch[7] Train-accuracy=0.5"
        f"\x1b[0m{STAMP}Epoch[7] Time cost=8.095[0m#033[34m{STAMP}Final configuration: {{u'top_k': u'2'}}#033[0m"
    )
    events = list(log.log_events(line))
    assert [event["values"] for event in events] == [
        {"train_accuracy": 0.5},
        {"epoch_training_time_s": 8.095},
        {"top_k": "2"},
    ]


@pytest.mark.parametrize(
    "before",
    [
        "",  # a line alone, as a book shows it
        "16:14:06 " + STAMP,  # the CloudWatch console's own time
        "car-1f/algo-3-1581317035 2020-02-10 07:10:06.61 +0000 UTC " + STAMP,  # kubectl smlogs
        "2022-09-14 11:48:53 Training - Downloading the training image..........\x1b[34m" + STAMP,
        "algo-1-g4d94_1  | " + STAMP,
    ],
)
def test_a_line_counts_whatever_a_program_put_before_it(before: str) -> None:
    (event,) = log.log_events(f"{before}Epoch[7] Validation-accuracy=0.880992\x1b[0m")
    assert (event["step"], event["values"]) == (8, {"validation_accuracy": 0.880992})


def test_the_last_scores_come_from_the_metrics_of_whole_epochs() -> None:
    def item(name: str, value: float) -> dict[str, Any]:
        return {"MetricName": name, "Value": value}

    listed = [item("train:accuracy:epoch", 0.9), item("train:accuracy", 0.8), item("validation:cross-entropy", 0.4)]
    assert log.final_metrics([*listed, item("CPUUtilization", 90.0)]) == {"train_accuracy": 0.9, "validation_loss": 0.4}


@pytest.mark.parametrize("word", ["nan", "-nan", "NaN"])
def test_a_score_that_is_no_number_is_kept_as_one(word: str) -> None:
    (event,) = log.log_events(STAMP + f"Epoch[3] Train-accuracy={word}")
    assert event["values"]["train_accuracy"] != event["values"]["train_accuracy"]


def test_the_first_of_the_best_epochs_is_the_one_that_is_kept() -> None:
    assert log.best_epoch({1: 0.5, 2: 0.7, 3: 0.7, 10: 0.6}) == (2, 0.7)
    assert log.best_epoch({}) is None
    assert log.best_epoch({1: float("nan"), 2: 0.1}) == (2, 0.1)


def test_an_accuracy_agrees_with_the_log_within_a_batch_of_pictures() -> None:
    # 119 batches of 128 are 15,232 pictures; the set has 15,187, so 45 of them count twice.
    assert limits.agrees(0.0560, 0.056723, mini_batch_size=128, num_images=15_187)
    assert not limits.agrees(0.0700, 0.056723, mini_batch_size=128, num_images=15_187)
    assert limits.agrees(0.5, 0.5, mini_batch_size=1, num_images=10_000)
