"""What a study still has to do, for every place: which of its runs are done, ready, waiting or failed."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import names
from trainers.config import Config
from trainers.config.study import PlannedRun, Study

if TYPE_CHECKING:
    from tracking.store import Store


@dataclass
class StudyPlan:
    """``left`` are the runs still to start, ``done`` maps key → run id, ``failed`` maps a run's name → the reason.

    A single run is a plan without a study.
    """

    study: Study | None
    left: list[PlannedRun]
    done: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, work: Config | Study) -> StudyPlan:
        """All runs of a study, or the one run of a config."""
        return cls(None, [PlannedRun("", work)]) if isinstance(work, Config) else cls(work, list(work.runs))

    def source(self, planned: PlannedRun) -> PlannedRun | None:
        """The run of the study that ``planned`` starts from."""
        runs = () if self.study is None else self.study.runs
        return next((other for other in runs if other.name == planned.needs), None)

    def config(self, planned: PlannedRun) -> Config:
        """The run's settings with the study's tags; where its source is done, the source's id replaces its name."""
        if self.study is None:
            return planned.config
        tags = {names.STUDY: self.study.name, names.STUDY_RUN: planned.key, **planned.config.tags}
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
