"""What a study still has to do, for every place: which of its runs are done, ready, waiting or failed."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import names
from trainers.config import Config
from trainers.config.study import PlannedRun, Study, repeated
from trainers.launch.watching import notify

if TYPE_CHECKING:
    from tracking.store import Store


@dataclass
class StudyPlan:
    """``left`` are the runs still to start, ``done`` maps key → run id, ``failed`` maps a run's name → the reason.

    A single run is a plan without a study. ``parent`` is the journal id of the study's own run. ``stop_on``: the rules
    that end a training.
    """

    study: Study | None
    left: list[PlannedRun]
    done: dict[str, str] = field(default_factory=dict)
    parent: str | None = None
    failed: dict[str, str] = field(default_factory=dict)
    stop_on: tuple[str, ...] = ()

    @classmethod
    def of(cls, work: Config | Study, parent: str | None = None) -> StudyPlan:
        """All runs of a study, or the one run of a config."""
        if isinstance(work, Config):
            return cls(None, [PlannedRun("", work)])
        return cls(work, list(work.runs), parent=parent)

    def source(self, planned: PlannedRun) -> PlannedRun | None:
        """The run of the study that ``planned`` starts from."""
        runs = () if self.study is None else self.study.runs
        return next((other for other in runs if other.name == planned.needs), None)

    def config(self, planned: PlannedRun) -> Config:
        """The run's settings with the study's tags; where its source is done, the source's id replaces its name."""
        if self.study is None:
            return planned.config
        tags = {names.STUDY: self.study.name, names.STUDY_RUN: planned.key, **planned.config.tags}
        if self.parent is not None:
            tags[names.STUDY_PARENT] = self.parent
        source = self.source(planned)
        init = planned.config.init if source is None else f"run:{self.done.get(source.key, planned.needs)}"
        return replace(planned.config, init=init, tags=tags)

    def waits(self, planned: PlannedRun) -> bool:
        """Whether the network to start from is not trained yet."""
        source = self.source(planned)
        return source is not None and source.key not in self.done

    def ready(self) -> list[PlannedRun]:
        """The runs that can start now."""
        return [planned for planned in self.left if not self.waits(planned)]

    def leave_out(self, under_way: Collection[str] = ()) -> None:
        """Remove what is done, and the runs with these keys, from ``left``."""
        self.left = [planned for planned in self.left if planned.key not in self.done and planned.key not in under_way]

    def fail(self, planned: PlannedRun, reason: str) -> None:
        """Note that a run failed, and give up the runs that start from it."""
        self.failed[str(planned.config.run_name)] = reason
        notify.tell(f"{planned.config.run_name}: failed", reason, "failure")
        for other in [other for other in self.left if self.source(other) == planned]:
            self.left.remove(other)
            self.fail(other, f"its source {other.needs!r} was not trained")


def ended(study: Study, store: Store, status: str) -> dict[str, str]:
    """Key → id of the newest run of each planned run that has this status in MLflow. Raises TrackingError."""
    keys = {planned.key for planned in study.runs}
    found = store.runs(None, f"tags.{names.STUDY} = '{study.name}' and attributes.status = '{status}'")
    newest: dict[str, str] = {}
    for run in sorted(found, key=lambda run: -(run.info.start_time or 0)):
        key = run.data.tags.get(names.STUDY_RUN, "")
        if key in keys:
            newest.setdefault(key, str(run.info.run_id))
    return newest


def grown(study: Study, plan: StudyPlan, store: Store) -> tuple[Study, StudyPlan]:
    """The study with the seeds that ``[repeat]`` still asks for, and its plan without what is done or failed.

    A configuration gets its next seed when all the former ones are done and the interval of their mean is too wide.
    """
    repeat, added = study.repeat, True
    while repeat is not None and added:
        added = False
        for same in _configurations(study):
            seeds = [planned.config.seed for planned in same]
            if len(seeds) >= repeat.most_seeds or any(planned.key not in plan.done for planned in same):
                continue
            scores = _scores([plan.done[planned.key] for planned in same], store)
            if len(scores) == len(same) and _width_points(scores) > repeat.until_interval_points:
                study = replace(study, runs=(*study.runs, repeated(study, same[0], max(seeds) + 1)))
                added = True
        if added:  # those that were trained before count, and may be enough
            plan.done |= ended(study, store, "FINISHED") if plan.done else {}
            if any(one.key not in plan.done for one in study.runs):
                break
    after = replace(plan, study=study, left=list(study.runs))
    after.leave_out()
    after.left = [planned for planned in after.left if str(planned.config.run_name) not in plan.failed]
    return study, after


def _configurations(study: Study) -> list[list[PlannedRun]]:
    """The runs that differ in nothing but the seed, pretext runs and sources aside."""
    sources = {planned.needs for planned in study.runs}
    groups: dict[str, list[PlannedRun]] = {}
    for planned in study.runs:
        if planned.config.pretext is None and planned.name not in sources:
            groups.setdefault(f"{planned.config.fingerprint()} {planned.needs}", []).append(planned)
    return list(groups.values())


def _scores(run_ids: list[str], store: Store) -> list[float]:
    found = [store.find_run(run_id).data.metrics.get(names.BEST_VALIDATION_ACCURACY) for run_id in run_ids]
    return [value for value in found if value is not None]


def _width_points(scores: list[float]) -> float:
    """How wide the 95 % interval of the mean is, in points; without end for fewer than three seeds."""
    from reports import stats

    if len(scores) < 3:
        return float("inf")
    mean = sum(scores) / len(scores)
    spread = (sum((one - mean) ** 2 for one in scores) / (len(scores) - 1)) ** 0.5
    low, high = stats.t_interval(mean, spread, len(scores))
    return float(high - low) * 100


def show_leaderboard(study: Study, store: Store, path: Path | None) -> None:
    """Print the page of a study's runs, drawn on a terminal, and write it to ``path`` in the format of its ending."""
    import reports
    from reports.document import terminal

    board = reports.leaderboard(store, filter=f"tags.{names.STUDY} = '{study.name}'")
    if sys.stdout.isatty():
        terminal.show(board.report.make_document(False))
    else:
        print(board.to_text())
    if path is not None:
        board.save(path)
