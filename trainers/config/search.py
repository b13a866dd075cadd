"""``[search]`` of a study's file: ranges, who chooses among them, what counts as better, and when to stop.

Everything is checked here, without Optuna: unknown words, values out of range, pairs that do not go together.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tracking import names
from tracking.errors.words import nearest
from trainers.config.checks import flag
from trainers.config.config import Config
from trainers.config.text import FIELDS, build, cast
from trainers.errors import BadConfig

SAMPLERS = ("tpe", "random", "grid", "cmaes")
PRUNERS = ("none", "median", "hyperband", "wilcoxon")
OBJECTIVES = (names.VALIDATION_ACCURACY, names.COST_USD)
# Wilcoxon's test of fewer than 4 pairs is never under Optuna's threshold of 0.1, and after the last nothing is left.
LEAST_PAIRS = 5
_KEYS = (
    "sampler objective max_cost_usd pruner trials seed seeds folds let_run usd_per_hour max_cost max_time space".split()
)
_RANGE = ("low", "high", "log", "step", "choice", "when")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True)
class Range:
    """What one setting may be: ``choices``, or the numbers from ``low`` to ``high``, whole ones where ``whole``.

    ``when`` maps other settings of the search to the values with which this one counts.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Whether the settings chosen so far leave this one with an effect."""
        return all(values.get(other) in wanted for other, wanted in self.when.items())

    def points(self) -> tuple[Any, ...] | None:
        """Every value, where they can be counted."""
        if self.choices:
            return self.choices
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            return None
        count = int((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + number * step for number in range(count)]
        return tuple(round(value) if self.whole else round(value, 12) for value in values)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A study whose runs are chosen one after the other, each by what the earlier ones scored.

    ``settings`` hold for all; ``overrides`` (flags) over them. ``seeds`` or ``folds`` make one trial several runs,
    whose scores are averaged. ``let_run`` is the share of hopeless trials that go on, to see how often that was wrong.
    """

    ranges: tuple[Range, ...]
    settings: Mapping[str, Any]
    overrides: Mapping[str, Any]
    sampler: str = "tpe"
    objectives: tuple[str, ...] = (names.VALIDATION_ACCURACY,)
    max_cost_usd: float | None = None
    pruner: str = "none"
    trials: int = 30
    seed: int = 0
    seeds: tuple[int, ...] = ()
    folds: int = 0
    let_run: float = 0.1
    usd_per_hour: float | None = None
    max_total_usd: float | None = None
    max_time_s: float | None = None

    @property
    def needs_cost(self) -> bool:
        """Whether a trial's price decides something."""
        return names.COST_USD in self.objectives or self.max_cost_usd is not None or self.max_total_usd is not None

    def steps(self, values: Mapping[str, Any]) -> int:
        """How many values a whole trial reports: epochs, or runs where it has several."""
        runs = max(1, len(self.seeds)) * max(1, self.folds)
        return runs if runs > 1 else int(values.get("epochs") or self.configs({})[0].epochs)

    @property
    def fingerprint(self) -> str:
        """8 hex digits; equal as long as one trial can be compared with another."""
        kept = {key: value for key, value in vars(self).items() if key not in _MAY_CHANGE}
        kept["ranges"] = [(one.key, one.choices) for one in self.ranges]
        text = json.dumps(kept, sort_keys=True, default=lambda value: dict(value) if value else {})
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def configs(self, values: Mapping[str, Any]) -> list[Config]:
        """The runs of one trial. Raises BadConfig where the values do not go together."""
        one = build(cast(self.settings), cast(values), self.overrides)
        parts: list[dict[str, Any]] = [{}]
        if self.seeds:
            parts = [{"seed": seed} for seed in self.seeds]
        if self.folds:
            parts = [{**part, "fold": f"{n}/{self.folds}"} for part in parts for n in range(1, self.folds + 1)]
        return [build(_plain(one), part) for part in parts]

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination once, without the settings that have no effect in it."""
        seen: set[str] = set()
        for combination in itertools.product(*(one.points() or () for one in self.ranges)):
            values: dict[str, Any] = {}
            for one, value in zip(self.ranges, combination, strict=True):
                if one.is_active({**self.settings, **values}):
                    values[one.key] = value
            if (key := repr(values)) not in seen:
                seen.add(key)
                yield values


_MAY_CHANGE = ("trials", "max_total_usd", "max_time_s", "sampler", "seed", "pruner", "let_run", "max_cost_usd")


def read(table: Mapping[str, Any], settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> Search:
    """The search of a file's ``[search]`` and ``[settings]``. Raises BadConfig with every fault."""
    faults = [
        f"[search] {key!r} is none of {', '.join(_KEYS)}.{nearest(key, _KEYS)}" for key in table if key not in _KEYS
    ]
    faults += [
        f"[settings] {key} is a list: with [search] a list of values belongs into [search.space]."
        for key, value in settings.items()
        if isinstance(value, list)
    ]
    space = table.get("space")
    if not isinstance(space, Mapping) or not space:
        raise BadConfig(
            [
                *faults,
                "[search] has no [search.space], such as learning_rate = { low = 0.001, high = 0.3, log = true }.",
            ]
        )
    ranges = []
    for key, given in space.items():
        try:
            ranges.append(_range(str(key).replace("-", "_"), given))
        except BadConfig as error:
            faults += error.faults
    values: dict[str, Any] = {
        "objectives": _objectives(table, faults),
        "sampler": _choice(table, "sampler", SAMPLERS, faults),
        "pruner": _choice(table, "pruner", PRUNERS, faults),
        "seeds": _seeds(table, faults),
        "max_time_s": seconds(table["max_time"], "[search] max_time", faults) if "max_time" in table else None,
    }
    for key, (kind, low, high, name) in _NUMBERS.items():
        if key in table:
            values[name] = _number(table, key, kind, low, high, faults)
    ordered = _in_order(ranges, settings, faults)
    if faults:
        raise BadConfig(faults)
    search = Search(ranges=ordered, settings=settings, overrides=overrides, **values)
    if search.sampler == "grid" and "trials" not in table and all(one.points() for one in ordered):
        search = Search(**{**vars(search), "trials": sum(1 for _ in search.grid())})
    faults = [*_at_odds(search), *_corners(search)]
    if faults:
        raise BadConfig(list(dict.fromkeys(faults)))
    return search


_NUMBERS: dict[str, tuple[type, float, float, str]] = {
    "trials": (int, 1, 100_000, "trials"),
    "seed": (int, 0, 2**31 - 1, "seed"),
    "folds": (int, 2, 100, "folds"),
    "let_run": (float, 0, 1, "let_run"),
    "max_cost_usd": (float, 0, 1e9, "max_cost_usd"),
    "max_cost": (float, 0, 1e9, "max_total_usd"),
    "usd_per_hour": (float, 0, 1e6, "usd_per_hour"),
}


def seconds(given: Any, what: str, faults: list[str]) -> float:
    """A time as ``90``, ``"90m"`` or ``"4h"``, in seconds; a fault joins the others."""
    text = str(given).strip()
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNIT_S else (text, "s")
    try:
        value = float(number) * _UNIT_S[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        faults.append(f"{what} {given!r} is no time: seconds, or 90m, 4h, 1d.")
    return value


def _plain(config: Config) -> dict[str, Any]:
    values = {key: getattr(config, key) for key in FIELDS}
    return {key: value for key, value in values.items() if key != "use_pretrained_model"}


def _number(table: Mapping[str, Any], key: str, kind: type, low: float, high: float, faults: list[str]) -> Any:
    value = table[key]
    legal = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if not legal or not low <= value <= high:
        what = "a whole number" if kind is int else "a number"
        faults.append(f"[search] {key} = {value!r} must be {what} from {low:g} to {high:g}.")
    return value


def _choice(table: Mapping[str, Any], key: str, legal: tuple[str, ...], faults: list[str]) -> str:
    value = str(table.get(key, legal[0]))
    if value not in legal:
        faults.append(f"[search] {key} = {value!r} is none of {', '.join(legal)}.{nearest(value, list(legal))}")
    return value


def _objectives(table: Mapping[str, Any], faults: list[str]) -> tuple[str, ...]:
    given = table.get("objective", names.VALIDATION_ACCURACY)
    each = [str(one) for one in given] if isinstance(given, list) else [str(given)]
    for one in each:
        if one.startswith("test"):
            faults.append(
                f"[search] objective {one!r}: a test score never chooses, since the chosen network's own would then be"
                f" too good. Take {names.VALIDATION_ACCURACY}; python -m trainers.evaluate tests the chosen one."
            )
        elif one not in OBJECTIVES:
            faults.append(
                f"[search] objective {one!r} is none of {', '.join(OBJECTIVES)}.{nearest(one, list(OBJECTIVES))}"
            )
    if names.VALIDATION_ACCURACY not in each and not faults:
        faults.append(f"[search] objective {given!r}: {names.VALIDATION_ACCURACY} is the first one, always.")
    if len(set(each)) != len(each):
        faults.append(f"[search] objective {given!r} names one twice.")
    return tuple(sorted(each, key=lambda one: one != names.VALIDATION_ACCURACY))


def _seeds(table: Mapping[str, Any], faults: list[str]) -> tuple[int, ...]:
    given = table.get("seeds", [])
    legal = isinstance(given, list) and all(type(one) is int and one >= 0 for one in given)
    if not legal or len(set(given)) != len(given):
        faults.append(f"[search] seeds = {given!r} must be a list of different whole numbers, such as [0, 1, 2].")
        return ()
    return tuple(given)


def _range(key: str, given: Any) -> Range:
    if key not in FIELDS or key in ("tags", "experiment", "run_name", "fold"):
        raise BadConfig([f"[search.space] {key} is not a setting to search.{nearest(key, list(FIELDS))}"])
    if isinstance(given, list):
        given = {"choice": given}
    if not isinstance(given, Mapping):
        raise BadConfig([f"[search.space] {key} = {given!r} is no range: a list, or {{ low = …, high = … }}."])
    where = f"[search.space] {key}"
    faults = [
        f"{where}: {word!r} is none of {', '.join(_RANGE)}.{nearest(word, list(_RANGE))}"
        for word in given
        if word not in _RANGE
    ]
    when = {
        str(other).replace("-", "_"): tuple(value) if isinstance(value, list) else (value,)
        for other, value in dict(given.get("when", {})).items()
    }
    if "choice" in given:
        choices = given["choice"]
        if not isinstance(choices, list) or not choices or len({repr(one) for one in choices}) != len(choices):
            faults.append(f"{where}: choice must be a list of different values.")
        if {"low", "high", "log", "step"} & given.keys():
            faults.append(f"{where} has both choice and a range; give one of the two.")
        if faults:
            raise BadConfig(faults)
        return Range(key=key, choices=tuple(cast({key: one})[key] for one in choices), when=when)
    name = names.PARAMS.get(key)
    if name is None or name.type not in (int, float):
        faults.append(f"{where} is no number: give a list of values.")
    low, high, step, log = given.get("low"), given.get("high"), given.get("step"), given.get("log", False)
    numbers = [one for one in (low, high, *([step] if step is not None else [])) if type(one) in (int, float)]
    if low is None or high is None:
        faults.append(f"{where} needs low and high, or a list of values.")
    elif len(numbers) != (2 if step is None else 3) or not isinstance(log, bool):
        faults.append(f"{where}: low, high and step are numbers, log is true or false.")
    elif not low < high:
        faults.append(f"{where}: low {low} must be less than high {high}.")
    elif log and low <= 0:
        faults.append(f"{where}: with log, low must be more than 0, not {low}.")
    elif log and step is not None:
        faults.append(f"{where}: log and step do not go together; give one of the two.")
    elif step is not None and step <= 0:
        faults.append(f"{where}: step must be more than 0.")
    elif name is not None and name.type is int and any(int(one) != one for one in numbers):
        faults.append(f"{where} is a whole number, and so are low, high and step.")
    if faults:
        raise BadConfig(faults)
    assert name is not None and low is not None and high is not None
    return Range(key=key, low=low, high=high, log=log, step=step, whole=name.type is int, when=when)


def _in_order(ranges: list[Range], settings: Mapping[str, Any], faults: list[str]) -> tuple[Range, ...]:
    """Each range after those it depends on."""
    known = {one.key: one for one in ranges}
    for one in ranges:
        for other, wanted in one.when.items():
            if other not in known and other not in settings:
                faults.append(f"[search.space] {one.key}: when names {other!r}, which is neither searched nor set.")
            elif other in known and not known[other].choices:
                faults.append(f"[search.space] {one.key}: when names {other!r}, which is no list of values.")
            elif other in known and (strange := [value for value in wanted if value not in known[other].choices]):
                faults.append(f"[search.space] {one.key}: {other} is never {strange[0]!r}.")
    out: list[Range] = []
    left = list(ranges)
    while left:
        ready = [one for one in left if not one.when.keys() & {other.key for other in left}]
        if not ready:
            faults.append(f"[search.space] when goes in a circle: {', '.join(one.key for one in left)}.")
            break
        out += ready
        left = [one for one in left if one not in ready]
    return tuple(out)


def _at_odds(search: Search) -> list[str]:
    """Settings of the search that do not go together."""
    faults = []
    endless = [one.key for one in search.ranges if one.points() is None]
    conditional = [one.key for one in search.ranges if one.when]
    if search.sampler == "grid" and endless:
        faults.append(f"[search] sampler grid: {endless[0]} has no end of values; give it a list, or a step.")
    if search.sampler == "cmaes" and (conditional or len(search.objectives) > 1):
        what = f"{conditional[0]} has a when" if conditional else "there are two objectives"
        faults.append(f"[search] sampler cmaes: {what}, which it cannot take; tpe can.")
    if search.sampler == "cmaes" and all(one.choices for one in search.ranges):
        faults.append(
            "[search] sampler cmaes is for numbers from low to high, and every range is a list; tpe takes both."
        )
    if search.pruner != "none" and len(search.objectives) > 1:
        faults.append("[search] pruner: with two objectives no trial is hopeless in both; leave the pruner out.")
    if search.pruner == "wilcoxon" and max(1, len(search.seeds)) * max(1, search.folds) < LEAST_PAIRS:
        faults.append(
            f"[search] pruner wilcoxon compares runs pair by pair: give folds = {LEAST_PAIRS} or more, or seeds."
        )
    searched = {one.key for one in search.ranges}
    for key, given in (("seed", search.seeds), ("fold", search.folds)):
        if given and (key in searched or key in search.settings or key in search.overrides):
            faults.append(f"{flag(key)}: [search] {key}s sets it for every trial; give one of the two.")
    for key in searched & search.overrides.keys():
        faults.append(f"{flag(key)} fixes what [search.space] searches; take one of the two out.")
    return faults


def _corners(search: Search) -> list[str]:
    """What is out of range at the ends of the ranges, each alone with the others in their middle."""
    faults: list[str] = []
    for one in search.ranges:
        met = {other: wanted[0] for other, wanted in one.when.items()}
        for value in one.choices or tuple(round(end) if one.whole else end for end in (one.low, one.high)):
            try:
                search.configs({**met, one.key: value})
            except BadConfig as error:
                faults += [f"[search.space] {one.key}: {fault}" for fault in error.faults]
    return faults
