"""The rules over 200 simulated jobs: faults found, false alarms, how long until the first word.

    python tests/benchmarks/bench_rules.py             # both halves
    python tests/benchmarks/bench_rules.py --miss      # and each miss, false alarm and late word of the first half

Half of the jobs have a fault at a known moment, half have none. The first 100 were used to choose the rules' numbers,
the other 100 were not. The curves are those of public logs of the built-in and of runs recorded here, made
longer, noisier and slower. Everything arrives as it does in the cloud: log lines as text and read by the same parser,
a container's journal with S3's delay, CloudWatch's minutes 30 to 60 s after their end; the watcher looks every 15 s.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.aws import builtin
from tracking import names
from trainers.launch.watching.rules import RULES, Signals, judge
from trainers.sagemaker.builtin import log

# (train, validation) accuracy by epoch. Public logs: the built-in's notebooks on Caltech-256 (their beginnings), a
# transfer to two classes; recorded here: ResNet-20 on digits at learning rates 0.05, 0.01, 0.2 and 1.
TWO_CLASSES = list(
    zip(
        (0.375, 0.875, 0.9125, 0.975, 0.9375, 0.8875, 0.9875, 0.9625, 0.9875, 0.9625, 1, 1, 0.9625, 1, 1),
        (0.771, 0.886, 0.971, 0.943, 0.9, 0.943, 0.886, 0.943, 0.971, 0.9, 0.943, 0.943, 1, 0.971, 0.95),
        strict=True,
    )
)
DIGITS = [
    list(zip(train, valid, strict=True))
    for train, valid in (
        (
            (0.542, 0.937, 0.97, 0.978, 0.986, 0.989, 0.998, 0.996, 0.998, 0.998, 1, 1),
            (0.397, 0.944, 0.916, 0.939, 0.888, 0.966, 0.972, 0.983, 0.983, 0.989, 0.994, 0.994),
        ),
        (
            (0.287, 0.603, 0.784, 0.876, 0.894, 0.911, 0.937, 0.946, 0.958, 0.953, 0.954, 0.969),
            (0.335, 0.603, 0.765, 0.771, 0.754, 0.944, 0.927, 0.933, 0.95, 0.966, 0.933, 0.933),
        ),
        (
            (0.431, 0.889, 0.941, 0.983, 0.976, 0.987, 0.989, 0.996, 0.998, 0.999, 1, 1),
            (0.106, 0.229, 0.291, 0.592, 0.642, 0.905, 0.978, 0.972, 0.994, 0.978, 0.994, 0.989),
        ),
        (
            (0.139, 0.23, 0.412, 0.51, 0.651, 0.69, 0.704, 0.805),
            (0.162, 0.296, 0.547, 0.441, 0.464, 0.564, 0.788, 0.631),
        ),
    )
]
CALTECH = [(0.0259, 0.0567), (0.0893, 0.1139), (0.161, 0.17), (0.23, 0.21), (0.3, 0.26), (0.36, 0.29), (0.42, 0.32)]
BASES = [(2, TWO_CLASSES), (257, CALTECH), *((10, curve) for curve in DIGITS)]
POLL_S, LONGEST_S = 15.0, 7200.0
MACHINE = ("gpu-idle", "input-bound", "stuck", "disk")
CURVES = ("nan", "rising-loss", "chance", "overfitting", "never-predicted")


@dataclass
class Job:
    """One simulated job: what arrives when, and when its fault began."""

    place: str  # builtin, own or local
    fault: str
    classes: int
    epochs: int
    onset_s: float = math.inf
    arrivals: list[tuple[float, Callable[[Signals], None]]] = field(default_factory=list)
    end_s: float = 0.0


def curve(dice: random.Random, base: list[tuple[float, float]], epochs: int) -> list[list[float]]:
    """A public curve's trend made as long as the job, with that curve's own noise: accuracies, losses, a count."""
    smooth = []
    for at in range(len(base)):
        near = base[max(0, at - 1) : at + 2]
        smooth.append([sum(row[i] for row in near) / len(near) for i in (0, 1)])
    noise = [[base[at][i] - smooth[at][i] for i in (0, 1)] for at in range(1, len(base))]
    scale, rows = dice.uniform(0.3, 1.2), []
    for epoch in range(epochs):
        low, part = divmod(epoch * (len(base) - 1) / max(1, epochs - 1), 1)
        high = min(int(low) + 1, len(base) - 1)
        trend = [smooth[int(low)][i] * (1 - part) + smooth[high][i] * part for i in (0, 1)]
        train, valid = (min(1.0, max(0.0, trend[i] + scale * dice.choice(noise)[i])) for i in (0, 1))
        losses = [-math.log(max(0.02, 0.9 * value + 0.09)) for value in (train, valid)]
        rows.append([train, valid, *losses, 0.0])
    return rows


def simulate(seed: int, fault: str) -> Job:
    """A job of one of three places, with a fault or ""; the same for the same seed."""
    dice = random.Random(seed * 7919 + RULES.index(fault) if fault else seed)
    place = dice.choice(("builtin", "builtin", "own", "local"))
    if fault == "never-predicted":  # the built-in says nothing of classes while it trains
        place = dice.choice(("own", "local"))
    classes, base = dice.choice(BASES)
    if fault in ("rising-loss", "overfitting"):
        classes, base = dice.choice([one for one in BASES if one[0] != 257])
    epochs = dice.randint(8, 30)
    epoch_s = dice.choice((20.0, 60.0, 150.0)) * dice.uniform(0.7, 1.4)
    job = Job(place, fault, classes, epochs)
    rows = curve(dice, base, epochs)
    start = dice.uniform(60, 240)
    ends = [start + epoch_s * (number + 1) for number in range(epochs)]
    at = dice.randint(2, epochs - 4)
    validation_s = epoch_s * dice.uniform(0.1, 0.3)
    if fault == "nan":
        for row in rows[at:]:
            row[0 if place == "builtin" else 2] = math.nan
        job.onset_s = ends[at]
    elif fault == "rising-loss":
        best = rows[at - 1]
        for step, row in enumerate(rows[at:]):
            row[2] = best[2] * (1.6 + 0.5 * step) + 0.5 + 0.1 * step
            row[0], row[1] = 1 / classes + dice.uniform(0, 0.02), 1 / classes
            row[3] = row[2]
        job.onset_s = ends[at + 1]  # by definition: a second epoch that stays bad
    elif fault == "chance":
        flat = dice.random() < 0.5
        for row in rows:
            row[0] = max(0.0, 1 / classes + dice.gauss(0, 0.1 / classes))
            row[1] = 1 / classes if flat else max(0.0, 1 / classes + dice.gauss(0, 0.1 / classes))
            row[2] = row[3] = math.log(classes) * dice.uniform(0.99, 1.01)
        job.onset_s = ends[max(3, math.ceil(epochs / 10)) - 1]
    elif fault == "overfitting":
        at = dice.randint(3, max(3, epochs - 9))
        job.epochs = epochs = max(epochs, at + 9)
        rows += [list(rows[-1]) for _ in range(epochs - len(rows))]
        ends = [start + epoch_s * (number + 1) for number in range(epochs)]
        first, top = 1 / classes + 0.15, 1 / classes + 0.4
        for number, row in enumerate(rows):
            past, part = max(0, number - at), min(1.0, number / at)
            row[0] = min(0.999, first + (top - first) * part + 0.03 * past) + dice.gauss(0, 0.003)
            row[1] = first + (top - first) * part - 0.02 * past + dice.gauss(0, 0.006)
            row[2] = -math.log(max(0.02, min(0.99, row[0])))
            row[3] = -math.log(top) * (1 + (0.14 * past if past else 0.03 * (at - number))) + dice.gauss(0, 0.005)
        job.onset_s = ends[min(at + 4, epochs - 1)]  # by definition: worse for some epochs
    elif fault == "never-predicted":
        for row in rows[at:]:
            row[4] = float(dice.randint(1, 2))
        job.onset_s = ends[max(at + 2, 2, math.ceil(epochs / 10) - 1)]
    if not fault or fault in MACHINE:
        for row in rows[: dice.randint(0, 2)]:
            row[4] = 1.0  # at first a class is often missing, which is no fault
    job.end_s = min(LONGEST_S, ends[-1] + dice.uniform(20, 120))
    never = fault == "gpu-idle" and dice.random() < 0.4  # it never uses the GPU; or it stops at some moment
    moment = start if never else dice.uniform(ends[1] + 30, max(ends[1] + 31, min(ends[-2], ends[1] + 1500)))
    if fault in MACHINE:
        job.onset_s = moment
        # It lasts long enough for a fault to matter.
        lasts_s = 1200 if fault == "disk" else 400
        job.epochs = epochs = max(epochs, math.ceil((moment + lasts_s - start) / epoch_s))
        rows += [list(rows[-1]) for _ in range(epochs - len(rows))]
        ends = [start + epoch_s * (number + 1) for number in range(epochs)]
        job.end_s = ends[-1] + 60
    stops_s = moment if fault == "stuck" else math.inf
    spins = fault == "stuck" and dice.random() < 0.3  # it waits in a loop: the machine looks busy
    _signs(job, dice, rows, start, ends, validation_s, stops_s)
    _load(job, dice, start, ends, moment, spins, validation_s)
    job.arrivals.sort(key=lambda one: one[0])
    return job


def _signs(
    job: Job,
    dice: random.Random,
    rows: list[list[float]],
    start: float,
    ends: list[float],
    validation_s: float,
    stops_s: float,
) -> None:
    """Epochs and batches, as their place shows them."""
    lag = {"builtin": lambda: dice.uniform(3, 15), "own": lambda: dice.uniform(5, 40), "local": lambda: 0.0}[job.place]
    params = {"event": "param", "time_ms": 0, "values": {"num_classes": str(job.classes), "epochs": str(job.epochs)}}
    job.arrivals.append((0.0, lambda signals: signals.take(params)))
    every_s = dice.uniform(3, 25)
    former = start
    for number, end in enumerate(ends):
        train, valid, _, _, missing = rows[number]
        batch = former + every_s
        while batch < end - validation_s and job.place != "own":
            if batch < stops_s:
                line = f"Epoch[{number}] Batch [20]\tSpeed: 114.2 samples/sec\taccuracy={train:.6f}"
                job.arrivals.append((batch + lag(), _line(line, batch) if job.place == "builtin" else _beat(batch)))
            batch += every_s
        former = end
        if end >= stops_s:
            continue
        if job.place == "builtin":
            for line in builtin.epoch(number, train, valid, False, end - former, end):
                job.arrivals.append((end + lag(), _line(line, end)))
            continue
        keys = (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY, names.TRAIN_LOSS, names.VALIDATION_LOSS)
        values = {**dict(zip(keys, rows[number], strict=False)), names.NEVER_PREDICTED: missing}
        job.arrivals.append((end + lag(), _metric(values, number + 1, end)))


def _load(
    job: Job,
    dice: random.Random,
    start: float,
    ends: list[float],
    moment: float,
    spins: bool,
    validation_s: float,
) -> None:
    """What the machine does, every second, and what a minute's mean or a sample each 10 s says of it."""
    has_gpu = job.place != "local" or job.fault in ("gpu-idle", "input-bound") or dice.random() < 0.5
    gpu, cpu = dice.uniform(62, 98), dice.uniform(15, 60)
    disk, grows = dice.uniform(10, 70), dice.uniform(3, 9) if job.fault == "disk" else 0.0
    if job.fault == "disk":  # by definition: half full, and full within a quarter of an hour
        job.onset_s = moment + max(0.0, 50 - disk, 100 - 15 * grows - disk) / grows * 60
    # A checkpoint is written at each epoch's end.
    pause_s = min(30.0, 0.25 * (ends[1] - ends[0])) * dice.random() if dice.random() < 0.5 else 0.0

    def at(second: float) -> dict[str, float]:
        epoch_end = next((end for end in ends if end > second), ends[-1])
        busy = start <= second < ends[-1] and not epoch_end - pause_s < second
        now = {"gpu": gpu * dice.uniform(0.9, 1.02) if busy else 1.0, "cpu": cpu * dice.uniform(0.85, 1.15)}
        now["cpu"] = now["cpu"] if second >= start - 60 else 8.0
        past = second - moment
        if past >= 0 and job.fault == "gpu-idle":
            now["gpu"] = dice.uniform(0, 4)
        elif past >= 0 and job.fault == "input-bound":
            now["gpu"], now["cpu"] = dice.uniform(18, 45), dice.uniform(92, 100)
        elif past >= 0 and job.fault == "stuck":
            now["gpu"], now["cpu"] = (100.0, dice.uniform(12, 30)) if spins else (0.0, dice.uniform(0.2, 2.5))
        full = disk + (grows * past / 60 if past > 0 else 0) + (0.02 * second / 60 if job.fault != "disk" else 0)
        now["disk"] = min(100.0, full)
        return now

    words = {"cpu": "cpu_utilization_percentage", "disk": "disk_usage_percentage"}
    if has_gpu:
        words["gpu"] = "gpu_0_utilization_percentage"
    seconds, minute, step = [], dice.uniform(0, 60), 0
    period = 60 if job.place == "builtin" else 10
    second = 0.0
    while second < job.end_s:
        seconds.append(at(second))
        second += 2.0
        if second % period < 2.0:
            mean = {word: sum(one[key] for one in seconds) / len(seconds) for key, word in words.items()}
            last = {word: seconds[-1][key] for key, word in words.items()}
            lag = {"builtin": 30 + minute / 2, "own": 5 + minute / 2, "local": 0.0}[job.place]
            begun = second - period if job.place == "builtin" else second
            values = {f"system/{word}": value for word, value in (mean if job.place == "builtin" else last).items()}
            job.arrivals.append((second + lag, _metric(values, step, begun)))
            seconds, step = [], step + 1


def _line(text: str, at_s: float) -> Callable[[Signals], None]:
    def take(signals: Signals) -> None:
        for event in log.log_events(text):
            if event["event"] == "metric":
                signals.take({**event, "time_ms": int(at_s * 1000)})
            if event["event"] in ("metric", "progress"):
                signals.beat(at_s)

    return take


def _beat(at_s: float) -> Callable[[Signals], None]:
    return lambda signals: signals.beat(at_s)


def _metric(values: dict[str, float], step: int, at_s: float) -> Callable[[Signals], None]:
    event = {"event": "metric", "values": values, "step": step, "time_ms": int(at_s * 1000)}
    return lambda signals: signals.take(event)


def watch(job: Job) -> dict[str, float]:
    """Rule → when it was first said, by a watcher that looks every 15 s (here: 10 s) until the job's end."""
    signals, said, todo = Signals(since_s=1.0), dict[str, float](), list(job.arrivals)
    now, place = 0.0, 0
    while now < job.end_s + 60:
        now += 10.0 if job.place == "local" else POLL_S
        while place < len(todo) and todo[place][0] <= now:
            todo[place][1](signals)
            place += 1
        if now <= job.end_s:
            for finding in judge(signals, now):
                said.setdefault(finding.rule, now)
    return said


def main() -> None:
    """Print found, false alarms and delays of both halves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--miss", action="store_true")
    arguments = parser.parse_args()
    for title, seeds in (("chosen on", range(100)), ("set aside", range(1000, 1100))):
        found, delays, alarms = Counter[str](), list[float](), 0
        asked = Counter[str]()
        for seed in seeds:
            fault = RULES[seed // 2 % len(RULES)] if seed % 2 else ""
            job = simulate(seed, fault)
            said = watch(job)
            # What a fault brings with it is no false alarm: a diverged training is at chance, a stuck one idle.
            belongs = {"": set(), "nan": {"chance", "rising-loss"}, "rising-loss": {"chance", "overfitting"}}
            belongs |= {"stuck": {"gpu-idle"}, "gpu-idle": {"stuck"}, "chance": {"never-predicted"}}
            others = {rule for rule in said if rule != fault} - belongs.get(fault, set())
            early = fault in said and said[fault] < job.onset_s - 60
            alarms += bool(others) or early
            asked[fault] += 1
            if fault and fault in said:
                found[fault] += 1
                delays.append(max(0.0, said[fault] - job.onset_s))
            late = fault in said and said[fault] > job.onset_s + 180
            if arguments.miss and title == "chosen on" and (late or others or early or (fault and fault not in said)):
                print(f"  {seed} {job.place} fault {fault or '-'} at {job.onset_s:.0f} said {said} end {job.end_s:.0f}")
        faulty = sum(count for fault, count in asked.items() if fault)
        within = sum(delay <= 180 for delay in delays) / len(delays)
        delays.sort()
        print(
            f"{title}: {sum(found.values())} of {faulty} faults found ({sum(found.values()) / faulty:.1%}), false"
            f" alarms in {alarms} of {len(seeds)} jobs ({alarms / len(seeds):.1%}); first word after"
            f" {delays[len(delays) // 2]:.0f} s (median), {delays[int(len(delays) * 0.95)]:.0f} s (95 %),"
            f" {delays[-1]:.0f} s at most, {within:.0%} within 180 s"
        )


if __name__ == "__main__":
    main()
