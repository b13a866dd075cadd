"""What a study still has to do: which runs are done, ready, waiting or failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tracking import names
from trainers.config import Config
from trainers.config.study import PlannedRun, Study

if TYPE_CHECKING:
    pass


@dataclass
class Progress:
    """What became of a study's runs: key -> run id of those done and of those broken off, reasons of the failed."""

    done: dict[str, str] = field(default_factory=dict)
    broken_off: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def config_of(planned: PlannedRun, study: Study, done: dict[str, str]) -> Config:
    """The planned config with the study's tags, and the source's id in place of its name."""
    tags = {names.STUDY: study.name, names.STUDY_RUN: planned.key, **planned.config.tags}
    source = next((other for other in study.runs if other.name == planned.needs), None)
    init = planned.config.init if source is None else f"run:{done[source.key]}"
    return replace(planned.config, init=init, tags=tags)


def _ready(planned: PlannedRun, study: Study, progress: Progress) -> bool:
    source = next((other for other in study.runs if other.name == planned.needs), None)
    return source is None or source.key in progress.done


def _source_failed(planned: PlannedRun, study: Study, progress: Progress) -> bool:
    source = next((other for other in study.runs if other.name == planned.needs), None)
    if source is None or source.key in progress.done or str(source.config.run_name) not in progress.failed:
        return False
    progress.failed[str(planned.config.run_name)] = f"its source {planned.needs!r} was not trained"
    return True
