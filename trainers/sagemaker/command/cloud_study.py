"""What a command line wants done in the cloud: one run, or a study's runs less those that are done or under way.

Enters: the parsed command line, the store, the ledger. Leaves: a ``Batch``. Runs that start from another run of the
study come in a later round, once its network is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tracking import names
from trainers.config import Config
from trainers.config import study as studies
from trainers.config.study import PlannedRun, Study
from trainers.config.text import build
from trainers.errors import BadInput

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.sagemaker.job.ledger import Entry
    from trainers.sagemaker.watch.outcome import Outcome


@dataclass
class Batch:
    """``left`` are the runs to launch, ``under_way`` jobs of the study launched before, ``done`` key → run id."""

    study: Study | None
    left: list[PlannedRun]
    under_way: list[Entry] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)

    def config(self, planned: PlannedRun) -> Config:
        """The run's settings with the study's tags, and its source's id in place of its name where that is known."""
        if self.study is None:
            return planned.config
        tags = {names.STUDY: self.study.name, names.STUDY_RUN: planned.key, **planned.config.tags}
        source = self.source(planned)
        init = planned.config.init if source is None else f"run:{self.done.get(source.key, planned.needs)}"
        return replace(planned.config, init=init, tags=tags)

    def source(self, planned: PlannedRun) -> PlannedRun | None:
        """The run of the study that ``planned`` starts from."""
        runs = () if self.study is None else self.study.runs
        return next((other for other in runs if other.name == planned.needs), None)

    def waits(self, planned: PlannedRun) -> bool:
        """Whether the network to start from is yet to be trained."""
        source = self.source(planned)
        return source is not None and source.key not in self.done

    def ready(self) -> list[PlannedRun]:
        """The runs that can be launched now."""
        return [planned for planned in self.left if not self.waits(planned)]

    def note(self, entries: Sequence[Entry], outcomes: Sequence[Outcome | None]) -> None:
        """Remember what is done now, and that nothing is under way any more."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            if outcome is not None and outcome.state == "finished":
                self.done[key_of(entry)] = entry.journal_id
        self.under_way = []


def of(
    arguments: argparse.Namespace, flags: Mapping[str, Any], base: Mapping[str, Any], file: Mapping[str, Any]
) -> Batch:
    """All that the command line names, whatever was done before. Raises BadInput."""
    if not arguments.study:
        return Batch(None, [PlannedRun("", build(base, file, flags))])
    study = studies.load(arguments.study, flags)
    batch = Batch(study, list(study.runs))
    later = [str(planned.config.run_name) for planned in study.runs if batch.source(planned) is not None]
    if later and arguments.on == "sagemaker-builtin":
        raise BadInput(
            f"--study {study.name} on {arguments.on}: {', '.join(later)} start from another run of the study, and the"
            " built-in takes no weights of this project. Take --on sagemaker."
        )
    if later and arguments.detach:
        raise BadInput(
            f"--study {study.name} --detach: {', '.join(later)} start from another run of the study, and nobody would"
            " be here to launch them once it is trained. Leave --detach out."
        )
    return batch


def less_the_done(batch: Batch, store: Store) -> None:
    """Take out what is done (MLflow says) and what is under way (the ledger says), as a study here does."""
    from trainers.sagemaker.job import ledger

    if batch.study is None:
        return
    by_key = {planned.key: planned for planned in batch.study.runs}
    entries = [(entry, _tags(entry)) for entry in ledger.entries(store.root)]
    ours = [
        (entry, tags.get(names.STUDY_RUN, "")) for entry, tags in entries if tags.get(names.STUDY) == batch.study.name
    ]
    batch.done = {key: entry.journal_id for entry, key in ours if entry.ended == "finished" and key in by_key}
    only = f"tags.{names.STUDY} = '{batch.study.name}' and attributes.status = 'FINISHED'"
    for run in store.runs(None, only):
        key = run.data.tags.get(names.STUDY_RUN, "")
        if key in by_key:
            batch.done.setdefault(key, str(run.info.run_id))
    batch.under_way = [entry for entry, key in ours if not entry.ended and key in by_key and key not in batch.done]
    going = {key for entry, key in ours if not entry.ended}
    batch.left = [planned for planned in batch.left if planned.key not in batch.done and planned.key not in going]


def key_of(entry: Entry) -> str:
    """Which run of its study a job is."""
    return _tags(entry).get(names.STUDY_RUN, "")


def _tags(entry: Entry) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in entry.request.get("Tags", [])}
