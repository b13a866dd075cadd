"""Rules over what a training says while it goes on: its epochs, its signs of life, the load of its machine.

Signals go in, findings come out; nothing is asked and nothing is written here. The same for a run of this machine and
for a job elsewhere, whose journal, log and machine metrics arrive later. Times are seconds since 1970.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tracking import names
from tracking.errors import TrackingError
from tracking.errors.words import money, nearest
from tracking.journal.events import Position, read
from tracking.journal.system import PREFIX

_OF_EPOCHS = (
    *(names.TRAIN_ACCURACY, names.TRAIN_LOSS, names.VALIDATION_ACCURACY, names.VALIDATION_LOSS),
    names.NEVER_PREDICTED,
)
_KEPT_S = 1800.0  # of the machine's load
_STALE_S = 300.0
_HELD_S = 120.0  # a load that is measured often has to last so long
_SILENT_S = 120.0  # the shortest silence that says anything
_UNKNOWN_SILENT_S = 900.0  # the same until a whole epoch has shown how long its pauses are
_ROOM_MB = 20_000.0  # a disk with more left is not filling, whatever its share


# Rule → what to do about it.
_ADVICE = {
    "nan": "Stop it, and take a --learning-rate ten times smaller.",
    "rising-loss": "Stop it, and take a smaller --learning-rate.",
    "chance": "Stop it; try another --learning-rate (--find-lr suggests one), and check the labels.",
    "overfitting": "The best epoch is kept, so it may be stopped; --augmentation-type, --weight-decay or"
    " --early-stopping help next time.",
    "never-predicted": "Check that training has pictures of each; --class-weights balanced helps rare ones.",
    "stuck": "Look at the log's last lines; stop it, and resume from the last epoch.",
    "gpu-idle": "Check in the log that it trains on the GPU; if what is left needs none, a machine without one will"
    " do.",
    "input-bound": "Pack smaller pictures (RecordIO, --resize), use less augmentation, or a machine with more"
    " processors for each GPU.",
    "disk": "Keep fewer checkpoints (--checkpoint-frequency), or give more --volume-gb next time.",
}
RULES = tuple(_ADVICE)


class Finding(NamedTuple):
    """What a rule found, and since when."""

    rule: str
    since_s: float
    what: str

    def text(self, usd_per_hour: float | None = None) -> str:
        """All of it in a line, with what to do; ``usd_per_hour`` is what the machines cost meanwhile."""
        since = time.strftime("%H:%M:%S", time.localtime(self.since_s))
        cost = "" if usd_per_hour is None else f" The job costs {money(usd_per_hour)} an hour."
        return f"{self.rule} since {since}: {self.what}.{cost} {_ADVICE[self.rule]}"


@dataclass(kw_only=True)
class Signals:
    """What is known of one training by now.

    ``since_s`` is when its machine began, or began anew; ``sign_s`` is the last batch or epoch, ``gap_s`` the longest
    silence between two of them, ``is_scored`` whether its best epoch is known. ``load``: the machine's metrics of the
    last half hour, without ``system/``.
    """

    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    ended_s: dict[int, float] = field(default_factory=dict)
    load: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    num_classes: int = 0
    num_epochs: int = 0
    since_s: float = 0.0
    first_s: float = 0.0
    sign_s: float = 0.0
    gap_s: float = 0.0
    is_scored: bool = False
    _position: Position = field(default_factory=Position)

    def follow(self, directory: Path) -> None:
        """Take what is new in a run's journal; one that cannot be read now says nothing new."""
        try:
            for event, position in read(directory, self._position):
                self._position = position
                self.take(event)
        except TrackingError:
            return

    def take(self, event: Mapping[str, Any]) -> None:
        """An event of a journal."""
        at_s, values = (event.get("time_ms") or 0) / 1000, event.get("values", {})
        if event["event"] == "param":
            self._set(values.get("num_classes"), values.get("epochs"))
        elif event["event"] == "dataset":
            self._set(event.get("num_classes"), None)
        elif event["event"] == "status" and event["status"] == "RUNNING":
            self.since_s = max(self.since_s, at_s)
        elif event["event"] == "metric":
            load = {key.removeprefix(PREFIX): float(v) for key, v in values.items() if key.startswith(PREFIX)}
            found = {key: float(values[key]) for key in _OF_EPOCHS if key in values}
            if load:
                self.load.append((at_s, load))
                self.load = [one for one in self.load if one[0] > at_s - _KEPT_S]
            self.is_scored = self.is_scored or names.BEST_EPOCH in values
            if found and not self.is_trained:
                self.epochs.setdefault(int(event["step"]), {}).update(found)
                self.ended_s[int(event["step"])] = at_s
                self.beat(at_s)

    def beat(self, at_s: float) -> None:
        """A batch or an epoch was done: training goes on."""
        if self.sign_s and self.sign_s >= self.since_s:
            self.gap_s = max(self.gap_s, at_s - self.sign_s)
        elif not self.first_s or self.first_s < self.since_s:
            self.first_s = at_s
        self.sign_s = max(self.sign_s, at_s)

    def _set(self, num_classes: Any, num_epochs: Any) -> None:
        self.num_classes = int(num_classes) if str(num_classes).isdecimal() else self.num_classes
        self.num_epochs = int(num_epochs) if str(num_epochs).isdecimal() else self.num_epochs

    @property
    def is_trained(self) -> bool:
        """Whether its last epoch is done; what comes is scoring and saving."""
        last = self.epochs.get(self.num_epochs, {})
        return self.is_scored or names.VALIDATION_ACCURACY in last or names.VALIDATION_LOSS in last

    def curve(self, key: str) -> list[float]:
        """A metric's values, epoch by epoch."""
        return [row[key] for _, row in sorted(self.epochs.items()) if key in row]

    def loads(self, key: str) -> list[tuple[float, float]]:
        """Time and value of the machine's load since training began; of several GPUs their mean."""
        found = []
        for at_s, row in self.load:
            values = [v for name, v in row.items() if name == key or (name.startswith("gpu_") and name.endswith(key))]
            if values and at_s >= self.since_s:
                found.append((at_s, sum(values) / len(values)))
        return found


_GPU, _CPU, _DISK = "_utilization_percentage", "cpu_utilization_percentage", "disk_usage_percentage"


def _low(found: list[tuple[float, float]], signals: Signals, now_s: float, most: float) -> float | None:
    """Since when a load has been ``most`` or less, None where it is not.

    What is measured every minute counts once a whole minute is low and the one before was disturbed; what is measured
    more often has to last.
    """
    found = [one for one in found if one[0] > signals.first_s - 60 and now_s - one[0] < _STALE_S]
    if len(found) < 2 or not signals.first_s:
        return None
    if found[-1][0] - found[-2][0] >= 30:
        usual = median(value for _, value in found[:-2]) if len(found) > 3 else 100.0
        if found[-1][1] > most or found[-2][1] > max(most, 0.85 * usual):
            return None
        return found[-2][0] if found[-2][1] <= most else found[-1][0]
    recent = [one for one in found if one[0] > max(found[-1][0] - _HELD_S, signals.first_s)]
    is_long = bool(recent) and recent[-1][0] - recent[0][0] >= _HELD_S - 30
    return recent[0][0] if is_long and all(value <= most for _, value in recent) else None


def _nan(signals: Signals, now_s: float) -> Iterator[Finding]:
    for epoch, row in signals.epochs.items():
        bad = [key for key, value in row.items() if not math.isfinite(value)]
        if bad:
            yield Finding(
                "nan", signals.ended_s[epoch], f"{bad[0]} is no number after epoch {epoch}: the weights have diverged"
            )
            return


def _rising_loss(signals: Signals, now_s: float) -> Iterator[Finding]:
    """The training loss, or where there is none the training accuracy, got much worse and stays so."""
    losses, accuracies = signals.curve(names.TRAIN_LOSS), signals.curve(names.TRAIN_ACCURACY)
    what = ""
    if len(losses) >= 3 and all(map(math.isfinite, losses)):
        best = min(losses[:-2])
        if min(losses[-2:]) > 1.3 * best + 0.1 and losses[-1] > 0.98 * losses[-2]:
            what = f"the training loss rose from {best:.3g} to {losses[-1]:.3g}"
    elif len(accuracies) >= 3 and not losses:
        best, chance = max(accuracies[:-2]), _chance(signals)
        if best - chance >= 0.15 and max(accuracies[-2:]) - chance < 0.4 * (best - chance):
            what = f"the training accuracy fell from {best:.3f} to {accuracies[-1]:.3f}"
    if what:
        yield Finding("rising-loss", _since_epoch(signals, -2), f"{what} and stays there")


def _chance(signals: Signals) -> float:
    return 1 / signals.num_classes if signals.num_classes else 0.0


def _chance_level(signals: Signals, now_s: float) -> Iterator[Finding]:
    """After three epochs, and a tenth of all, nothing was learned."""
    train, valid = signals.curve(names.TRAIN_ACCURACY), signals.curve(names.VALIDATION_ACCURACY)
    least, chance = max(3, math.ceil(signals.num_epochs / 10)), _chance(signals)
    if not chance or len(valid) < least or not all(map(math.isfinite, (*train, *valid))):
        return
    level = chance + min(0.5 * chance, 0.05 * (1 - chance))
    latest = [sum(curve[-3:]) / 3 for curve in (train, valid) if len(curve) >= 3]
    is_constant = len(set(valid)) == 1 and valid[0] < 0.95 and bool(train) and train[-1] <= valid[-1] + 0.1
    if max(latest) <= level or is_constant:
        words = "has not changed since the first epoch" if is_constant else f"is that of guessing ({chance:.3g})"
        yield Finding(
            "chance",
            _since_epoch(signals, 0),
            f"after {len(valid)} epochs the validation accuracy of {valid[-1]:.3f} {words}",
        )


def _overfitting(signals: Signals, now_s: float) -> Iterator[Finding]:
    """Training goes on to improve while validation, accuracy or loss, got worse for three epochs and by its noise."""
    train, valid = signals.curve(names.TRAIN_ACCURACY), signals.curve(names.VALIDATION_ACCURACY)
    losses = signals.curve(names.VALIDATION_LOSS)
    if len(valid) < 6 or len(train) != len(valid) or not all(map(math.isfinite, (*train, *valid, *losses))):
        return
    best, fell, noise = _fallen(valid)
    is_worse = fell >= max(0.03, 2 * noise) and train[-1] - valid[-1] >= 0.1
    if len(losses) == len(valid) and not is_worse and fell >= 0:
        best, rose, noise = _fallen([-value for value in losses])
        is_worse = rose >= max(0.25 * min(losses), 0.05, 2 * noise) and train[-1] - valid[-1] >= 0.05
    if is_worse and train[-1] - train[best] >= 0.02:
        yield Finding(
            "overfitting",
            _since_epoch(signals, best),
            f"training accuracy rose to {train[-1]:.3f}, validation has been getting worse since epoch {best + 1}",
        )


def _fallen(values: list[float]) -> tuple[int, float, float]:
    """Where the mean of three was highest, how far it has fallen since, and how much the values jump by themselves."""
    smooth = [sum(values[i - 2 : i + 1]) / 3 for i in range(2, len(values))]
    best = max(range(len(smooth) - 3), key=lambda i: smooth[i])
    jumps = [abs(b - a) for a, b in zip(values, values[1:], strict=False)]
    return best + 1, smooth[best] - smooth[-1], median(jumps)


def _never_predicted(signals: Signals, now_s: float) -> Iterator[Finding]:
    counts, least = signals.curve(names.NEVER_PREDICTED), max(3, math.ceil(signals.num_epochs / 10))
    if len(counts) >= least and all(counts[-3:]) and not any(_chance_level(signals, now_s)):
        yield Finding(
            "never-predicted",
            _since_epoch(signals, -3),
            f"for three epochs {counts[-1]:g} of the classes with validation pictures was never the answer",
        )


def _since_epoch(signals: Signals, index: int) -> float:
    ends = [end for _, end in sorted(signals.ended_s.items())]
    return ends[max(-len(ends), min(index, len(ends) - 1))]


def _machine(signals: Signals, now_s: float) -> Iterator[Finding]:
    """Stuck, GPU idle or input-bound: the first that holds."""
    if signals.is_trained:
        return
    gpu, cpu = signals.loads(_GPU), signals.loads(_CPU)
    idle_s, still_s = _low(gpu, signals, now_s, 10), _low(cpu, signals, now_s, 5)
    silent_s = now_s - max(signals.sign_s, signals.since_s)
    is_still = still_s is not None and (idle_s is not None or not gpu) and silent_s > 60
    limit_s = max(_SILENT_S, 2 * signals.gap_s) if signals.epochs and signals.gap_s else _UNKNOWN_SILENT_S
    if signals.since_s and (is_still or silent_s > limit_s):
        does = "; neither processor nor GPU does anything" if is_still else ""
        yield Finding(
            "stuck",
            max(signals.sign_s, signals.since_s),
            f"no sign of training for {silent_s / 60:.0f} min, the longest pause was {signals.gap_s:.0f} s{does}",
        )
    elif idle_s is not None:
        yield Finding("gpu-idle", idle_s, f"the GPU is {gpu[-1][1]:.0f} % busy")
    elif (slow_s := _low(gpu, signals, now_s, 60)) is not None and cpu:
        if min(value for at_s, value in cpu if at_s > cpu[-1][0] - 60) >= 85:
            yield Finding(
                "input-bound",
                slow_s,
                f"the GPU is {gpu[-1][1]:.0f} % busy, and the processors, at {cpu[-1][1]:.0f} %, prepare pictures",
            )


def _disk(signals: Signals, now_s: float) -> Iterator[Finding]:
    used = signals.loads(_DISK)
    free_mb = signals.load[-1][1].get("disk_available_megabytes") if signals.load else None
    if len(used) < 2 or (free_mb is not None and free_mb > _ROOM_MB):
        return
    (last_s, now), recent = used[-1], [one for one in used if one[0] > used[-1][0] - 300]
    rise, took_s = now - recent[0][1], last_s - recent[0][0]
    left_s = (100 - now) / rise * took_s if rise > 0 else math.inf
    is_soon = now >= 50 and rise >= 3 and left_s <= 900
    if now >= 95 or is_soon or (now >= 85 and now - used[0][1] >= 3):
        soon = f" and full in {left_s / 60:.0f} min at this pace" if is_soon else ""
        yield Finding("disk", recent[0][0], f"the disk is {now:.0f} % full{soon}")


_CHECKS = (_nan, _rising_loss, _chance_level, _overfitting, _never_predicted, _machine, _disk)


def judge(signals: Signals, now_s: float) -> list[Finding]:
    """What is wrong with a training that is under way, by every rule."""
    return [finding for check in _CHECKS for finding in check(signals, now_s)]


def parse(text: str | None, faults: list[str]) -> tuple[str, ...]:
    """The rules of ``--stop-on RULE,…``; a sentence to ``faults`` for each that is none."""
    asked = tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
    for word in asked:
        if word not in RULES:
            faults.append(f"--stop-on {word} is not a rule.{nearest(word, RULES)} There are: {', '.join(RULES)}.")
    return asked
