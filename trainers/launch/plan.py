"""``--plan``: what of a study would run, how long it takes and what it costs; nothing is trained and nothing written.

Times come from the study's own runs or others with the same network, pictures and batches; where there is none, the run
is measured for a moment as ``--dry-run`` does. A long study is thus planned as fast as a short one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors.words import duration, money, plural
from trainers.config import Config
from trainers.config.search import Range, Search
from trainers.config.study import Study
from trainers.errors import BadConfig
from trainers.launch.study import StudyPlan, grown

if TYPE_CHECKING:
    from tracking.store import Store

# Two runs that agree in these take about as long for an epoch.
_ALIKE = ("dataset", "num_layers", "image_shape", "mini_batch_size", "augmentation_type", "precision_dtype", "fold")
_SAMPLES = 20


def of_study(study: Study, store: Store, *, parallel: int, again: bool) -> str:
    """The plan of a study as text. Raises BadInput where one of its runs cannot work."""
    lines = [study.title]
    if study.search is not None:
        return "\n".join([*lines, *_of_search(study.search, study, store, parallel)]) + "\nNothing was written.\n"
    from trainers.launch.local import already_done

    plan = StudyPlan.of(study)
    if not again:
        plan.done = already_done(study, store)
    study, plan = grown(study, plan, store)
    left = {planned.key for planned in plan.left}
    times = _Times(store)
    seconds = []
    lines.append(f"{plural(len(study.runs), 'run')}, {len(study.runs) - len(left)} already done")
    for planned in study.runs:
        if planned.key in left:
            seconds.append(times.of(planned.config))
            said = "no estimate" if seconds[-1] is None else f"about {duration(seconds[-1])}"
            source = f"  (after {planned.needs})" if plan.source(planned) is not None else ""
            lines.append(f"  to run  {planned.config.run_name}  {said}{source}")
        else:
            lines.append(f"  done    {planned.config.run_name}")
    if study.repeat is not None:
        lines.append(
            f"then one seed more, again and again, for each configuration whose interval is wider than"
            f" {study.repeat.until_interval_points:g} points, up to {study.repeat.most_seeds} seeds"
        )
    lines.append(_total(seconds, parallel, None))
    return "\n".join(lines) + "\nNothing was written.\n"


def _of_search(search: Search, study: Study, store: Store, parallel: int) -> list[str]:
    from trainers.launch.sampler import num_begun

    begun = num_begun(study.name, search, store)
    left = max(0, search.trials - begun)
    lines = [f"{plural(search.trials, 'trial')}, {begun} already begun; {search.sampler} chooses among"]
    lines += [f"  {one.key}  {_words(one)}" for one in search.ranges]
    goals = " and ".join(search.objectives)
    lines.append(f"by {goals}" + (f"; pruner {search.pruner}" if search.pruner != "none" else ""))
    times, draw, sampled = _Times(store), random.Random(0), []
    for _ in range(min(left, _SAMPLES)):
        try:
            each = [times.of(config) for config in search.configs(drawn(search, draw))]
        except BadConfig:
            continue
        sampled.append(None if None in each else sum(one for one in each if one is not None))
    known = [one for one in sampled if one is not None]
    mean = [sum(known) / len(known)] * left if known else [None] * left
    lines.append(_total(mean, parallel, search.usd_per_hour))
    if search.pruner != "none" and known:
        lines.append("stopping hopeless trials makes it shorter")
    return lines


def _words(one: Range) -> str:
    when = "".join(f", when {other} is {' or '.join(map(str, wanted))}" for other, wanted in one.when.items())
    if one.choices:
        return ", ".join(map(str, one.choices)) + when
    how = ", log scale" if one.log else f", in steps of {one.step:g}" if one.step else ""
    return f"{one.low:g} to {one.high:g}{how}{when}"


def drawn(search: Search, draw: random.Random) -> dict[str, object]:
    """Values as a random search would choose them."""
    values: dict[str, object] = {}
    for one in search.ranges:
        if not one.is_active({**search.settings, **values}):
            continue
        points = one.points()
        if points:
            values[one.key] = draw.choice(points)
        elif one.log:
            value = one.low * (one.high / one.low) ** draw.random()
            values[one.key] = round(value) if one.whole else value
        else:
            values[one.key] = draw.uniform(one.low, one.high)
    return values


def _total(seconds: Sequence[float | None], parallel: int, usd_per_hour: float | None) -> str:
    known = [one for one in seconds if one is not None]
    if not seconds:
        return "nothing is left to run"
    if len(known) < len(seconds):
        return f"in all {plural(len(seconds), 'run')}; {len(seconds) - len(known)} without an estimate"
    beside = f", one after the other; --parallel {parallel} shares the cores among them" if parallel > 1 else ""
    cost = "costs nothing on this machine"
    if usd_per_hour is not None:
        cost = f"costs about {money(sum(known) / 3600 * usd_per_hour)}"
    return f"in all about {duration(sum(known))} for {plural(len(known), 'run')}{beside}; it {cost}"


class _Times:
    """Seconds of a run, by what an epoch of others like it took, else measured."""

    def __init__(self, store: Store) -> None:
        from trainers.launch.dry_run import DryRun

        self._dry = DryRun(store)
        self._measured: dict[tuple[str, ...], float | None] = {}
        seen: dict[tuple[str, ...], list[float]] = {}
        for run in _finished(store):
            epoch_s = run.data.metrics.get(names.EPOCH_TIME_S)
            if epoch_s is not None and epoch_s > 0:
                key = tuple(run.data.params.get(name, "None") for name in _ALIKE)
                seen.setdefault(key, []).append(epoch_s)
        self._epoch_s = {key: sum(each) / len(each) for key, each in seen.items()}

    def of(self, config: Config) -> float | None:
        """Seconds of the run; None where they cannot be known. Raises BadInput where it cannot work."""
        key = tuple(str(getattr(config, name)) for name in _ALIKE)
        given = [at for at, value in enumerate(key) if value != "None"]
        alike = [s for known, s in self._epoch_s.items() if all(known[at] == key[at] for at in given)]
        if alike:
            return config.epochs * sum(alike) / len(alike)
        if key not in self._measured:
            self._measured[key] = None
            if not config.initial.startswith("run:"):
                prepared = self._dry.prepare(config)
                whole = self._dry.seconds(prepared)
                self._measured[key] = None if whole is None else whole / config.epochs
        per_epoch = self._measured[key]
        return None if per_epoch is None else per_epoch * config.epochs


def _finished(store: Store) -> list[Any]:
    from tracking.errors import TrackingError

    try:
        return list(store.runs(None, "attributes.status = 'FINISHED'"))
    except TrackingError:
        return []
