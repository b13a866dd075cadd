"""The rules on curves and loads that were recorded, and on each fault they are for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tracking import names
from trainers.launch.watching import rules
from trainers.launch.watching.rules import Signals, judge

START = 1_000_000.0
# Recorded: the built-in's public notebook on two classes; ResNet-20 on digits here at learning rates 0.05, 0.2, 1e-7.
TWO_CLASSES = (
    (0.375, 0.875, 0.9125, 0.975, 0.9375, 0.8875, 0.9875, 0.9625, 0.9875, 0.9625, 1, 1, 0.9625, 1, 1),
    (0.771, 0.886, 0.971, 0.943, 0.9, 0.943, 0.886, 0.943, 0.971, 0.9, 0.943, 0.943, 1, 0.971, 0.95),
)
DIGITS = (
    (0.542, 0.937, 0.97, 0.978, 0.986, 0.989, 0.998, 0.996, 0.998, 0.998, 1, 1),
    (0.397, 0.944, 0.916, 0.939, 0.888, 0.966, 0.972, 0.983, 0.983, 0.989, 0.994, 0.994),
    (1.436, 0.211, 0.093, 0.057, 0.048, 0.038, 0.012, 0.016, 0.01, 0.009, 0.004, 0.003),
    (8.288, 0.197, 0.31, 0.238, 0.326, 0.12, 0.13, 0.078, 0.069, 0.036, 0.032, 0.039),
)
FAST = (  # validation is at chance at first, since batch normalisation lags behind
    (0.431, 0.889, 0.941, 0.983, 0.976, 0.987, 0.989, 0.996, 0.998, 0.999, 1, 1),
    (0.106, 0.229, 0.291, 0.592, 0.642, 0.905, 0.978, 0.972, 0.994, 0.978, 0.994, 0.989),
    (1.831, 0.37, 0.179, 0.067, 0.077, 0.039, 0.037, 0.021, 0.008, 0.004, 0.002, 0.001),
    (149.137, 78.549, 11.604, 3.191, 1.822, 0.368, 0.074, 0.153, 0.028, 0.045, 0.023, 0.021),
)
COLD = (
    (0.095, 0.098, 0.096, 0.097, 0.098, 0.098),
    (0.095,) * 6,
    (3.763, 3.747, 3.757, 3.754, 3.749, 3.743),
    (3.725, 3.751, 3.759, 3.747, 3.746, 3.749),
)
KEYS = (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY, names.TRAIN_LOSS, names.VALIDATION_LOSS)


def trained(
    curves: Sequence[Sequence[float]], classes: int, *, missing: Sequence[float] = (), epochs: int = 30
) -> Signals:
    """A training that began at START and has done an epoch a minute."""
    signals = Signals(since_s=START)
    signals.take({"event": "param", "values": {"num_classes": str(classes), "epochs": str(epochs)}})
    for number, row in enumerate(zip(*curves, strict=True)):
        values = dict(zip(KEYS, row, strict=False))
        if missing:
            values[names.NEVER_PREDICTED] = missing[number]
        at_ms = int((START + 60 * (number + 1)) * 1000)
        signals.take({"event": "metric", "values": values, "step": number + 1, "time_ms": at_ms})
    return signals


def loaded(every_s: float, **load: Sequence[float]) -> Signals:
    """A training of which this load was measured since its first batch, a batch every five seconds."""
    signals = trained(TWO_CLASSES, 2)
    keys = {"gpu": "gpu_0_utilization_percentage", "cpu": "cpu_utilization_percentage", "disk": "disk_usage_percentage"}
    start = signals.sign_s
    for number in range(max(map(len, load.values()))):
        values = {f"system/{keys[key]}": series[number] for key, series in load.items()}
        at_s = start + number * every_s
        signals.take({"event": "metric", "values": values, "step": number, "time_ms": int(at_s * 1000)})
        for step in range(int(every_s // 5)):
            signals.beat(at_s + 5 * step)
    return signals


def found(signals: Signals, later_s: float = 5.0) -> list[str]:
    last_s = max([signals.sign_s, *(at_s for at_s, _ in signals.load)])
    return [finding.rule for finding in judge(signals, last_s + later_s)]


@pytest.mark.parametrize(("curves", "classes"), [(TWO_CLASSES, 2), (DIGITS, 10), (FAST, 10)])
def test_a_training_that_went_well_is_left_alone_at_each_of_its_epochs(
    curves: Sequence[Sequence[float]], classes: int
) -> None:
    for epoch in range(1, len(curves[0]) + 1):
        assert found(trained([curve[:epoch] for curve in curves], classes)) == []


def test_guessing_is_seen_after_three_epochs_or_a_tenth_of_them() -> None:
    assert found(trained([curve[:2] for curve in COLD], 10)) == []
    assert found(trained([curve[:3] for curve in COLD], 10)) == ["chance"]
    assert found(trained([curve[:3] for curve in COLD], 10, epochs=60)) == []
    always_one = ([0.62, 0.63, 0.62], [0.65] * 3)  # the commonest of two classes
    assert found(trained(always_one, 2)) == ["chance"]
    assert found(trained(([0.97, 1, 1], [1.0] * 3), 2)) == []
    slow = ([0.006, 0.011, 0.02], [0.007, 0.012, 0.021])  # of 257 classes: several times chance
    assert found(trained(slow, 257)) == []


def test_a_loss_that_is_no_number_or_rises_is_seen() -> None:
    worse = [list(curve) for curve in DIGITS]
    worse[2][6] = math.nan
    (finding,) = judge(trained(worse, 10), START + 721)
    assert finding.rule == "nan" and finding.since_s == START + 7 * 60 and "after epoch 7" in finding.what
    worse[2][6:] = [1.9, 2.3, 2.4, 2.5, 2.6, 2.7]
    assert "rising-loss" in found(trained([curve[:8] for curve in worse], 10))
    assert found(trained([curve[:7] for curve in worse], 10)) == []  # once may be a bump
    fell = ([0.6, 0.7, 0.8, 0.5, 0.5], [0.6, 0.7, 0.75, 0.5, 0.5])  # the built-in prints no loss
    assert found(trained(fell, 2)) == ["rising-loss"]


def test_overfitting_is_validation_that_gets_worse_while_training_improves() -> None:
    train = [0.3, 0.45, 0.58, 0.66, 0.74, 0.81, 0.87, 0.92, 0.95, 0.97]
    valid = [0.3, 0.44, 0.52, 0.55, 0.54, 0.52, 0.5, 0.47, 0.45, 0.44]
    assert found(trained((train, valid), 10)) == ["overfitting"]
    assert found(trained((train, [*valid[:4], *[0.55] * 6]), 10)) == []  # a gap alone is none
    assert found(trained((train[:6], valid[:6]), 10)) == []
    losses = [1.9, 1.6, 1.4, 1.35, 1.4, 1.55, 1.7, 1.9, 2.1, 2.3]
    flat = [*valid[:4], 0.55, 0.54, 0.55, 0.54, 0.545, 0.54]
    assert found(trained((train, flat, [2 - value for value in train], losses), 10)) == ["overfitting"]


def test_a_class_that_is_never_the_answer_is_seen_after_three_epochs_in_a_row() -> None:
    some = [curve[:6] for curve in DIGITS]
    assert found(trained(some, 10, missing=[4, 2, 0, 1, 1, 1])) == ["never-predicted"]
    assert found(trained(some, 10, missing=[4, 2, 1, 0, 1, 1])) == []


def test_an_idle_gpu_is_seen_in_minutes_and_in_seconds() -> None:
    assert found(loaded(60, gpu=[90, 93, 91, 92], cpu=[30] * 4)) == []
    assert found(loaded(60, gpu=[90, 93, 91, 40, 3], cpu=[30] * 5)) == ["gpu-idle"]
    assert found(loaded(60, gpu=[90, 93, 91, 92, 3], cpu=[30] * 5)) == []  # one minute, all at once
    assert found(loaded(60, gpu=[2, 2, 2], cpu=[30] * 3)) == ["gpu-idle"]  # it trains without
    assert found(loaded(10, gpu=[90] * 6 + [2] * 13, cpu=[30] * 19)) == ["gpu-idle"]
    assert found(loaded(10, gpu=[90] * 10 + [2] * 9, cpu=[30] * 19)) == []  # an evaluation on the processor


def test_a_gpu_that_waits_for_pictures_is_told_from_one_that_idles() -> None:
    assert found(loaded(60, gpu=[38, 35, 36], cpu=[97, 98, 97])) == ["input-bound"]
    assert found(loaded(60, gpu=[38, 35, 36], cpu=[40, 41, 40])) == []
    assert found(loaded(10, gpu=[38] * 14, cpu=[97] * 14)) == ["input-bound"]


def test_a_training_without_a_sign_of_life_is_stuck() -> None:
    signals = loaded(60, gpu=[90, 93, 91], cpu=[30] * 3)
    assert found(signals, later_s=100) == [] and found(signals, later_s=125) == ["stuck"]
    signals.gap_s = 200  # its pauses are longer
    assert found(signals, later_s=300) == [] and found(signals, later_s=405) == ["stuck"]
    still = loaded(60, gpu=[90, 93, 91], cpu=[30] * 3)
    for minute, gpu in ((3, 50.0), (4, 0.0)):
        at_ms = int((still.load[0][0] + 60 * minute) * 1000)
        values = {"system/gpu_0_utilization_percentage": gpu, "system/cpu_utilization_percentage": gpu / 3 + 1}
        still.take({"event": "metric", "values": values, "step": minute, "time_ms": at_ms})
    assert found(still, later_s=1) == ["stuck"]
    new = Signals(since_s=START)
    assert judge(new, START + 899) == [] and [one.rule for one in judge(new, START + 901)] == ["stuck"]


def test_a_disk_that_fills_is_seen_and_a_full_large_one_is_not() -> None:
    assert found(loaded(60, disk=[40, 46, 52, 58])) == ["disk"]
    assert found(loaded(60, disk=[10, 16, 22, 28])) == []  # data are unpacked
    assert found(loaded(60, disk=[88, 88, 88])) == [] and found(loaded(60, disk=[96, 96])) == ["disk"]
    large = loaded(60, disk=[96, 96])
    large.load[-1][1]["disk_available_megabytes"] = 400_000
    assert found(large) == []


def test_nothing_is_said_of_the_machine_once_the_last_epoch_is_done() -> None:
    signals = trained(TWO_CLASSES, 2, epochs=15)
    assert judge(signals, signals.sign_s + 5000) == []
    stopped = trained(TWO_CLASSES, 2)  # early
    best = {"event": "metric", "values": {names.BEST_EPOCH: 13}, "step": 13, "time_ms": int(stopped.sign_s * 1000)}
    assert judge(stopped, stopped.sign_s + 5000) != []
    stopped.take(best)
    assert judge(stopped, stopped.sign_s + 5000) == []


def test_what_came_before_an_interruption_is_no_silence() -> None:
    signals = loaded(60, gpu=[90, 93, 91], cpu=[30] * 3)
    signals.since_s = signals.sign_s + 7200  # spot took the machine back for two hours
    assert judge(signals, signals.since_s + 60) == []
    signals.beat(signals.since_s + 100)
    signals.beat(signals.since_s + 105)
    assert signals.gap_s <= 60


def test_a_finding_says_what_since_when_what_it_costs_and_what_to_do() -> None:
    (finding,) = judge(trained([curve[:3] for curve in COLD], 10), START + 300)
    text = finding.text(1.212)
    assert text.startswith("chance since ") and "validation accuracy of 0.095" in text
    assert "The job costs $1.21 an hour." in text and "--learning-rate" in text
    assert "costs" not in finding.text()


def test_the_rules_of_stop_on_are_read_and_misspelt_ones_named() -> None:
    faults: list[str] = []
    assert rules.parse("nan, overfitting,nan", faults) == ("nan", "overfitting") and not faults
    rules.parse("overfiting", faults)
    assert "Did you mean overfitting?" in faults[0] and "input-bound" in faults[0]
