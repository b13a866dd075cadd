"""The terminal output for jobs under way: one job's phases and log lines, or many jobs in one live table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tracking import names
from tracking.errors import TrackingError
from tracking.errors.words import duration, money, plural
from trainers.errors import TrainerError
from trainers.launch.progress.follow import Followed
from trainers.launch.progress.table import LiveTable, Row
from trainers.sagemaker.aws.logs import Line
from trainers.sagemaker.job import ledger
from trainers.sagemaker.job.ledger import Entry
from trainers.sagemaker.job.phases import Phase
from trainers.sagemaker.watch.outcome import Outcome, ending

if TYPE_CHECKING:
    from tracking.journal import Journal
    from tracking.store import Store
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.watch.many_jobs import Fleet, WatchedJob
    from trainers.sagemaker.watch.one_job import JobWatch


def follow(
    entries: Sequence[Entry],
    *,
    store: Store,
    poll_s: float,
    aws: Aws | None = None,
    journals: Mapping[str, Journal] | None = None,
    with_log: bool = True,
    watch_of: Callable[..., JobWatch] | None = None,
) -> list[Outcome | None]:
    """Watch jobs to their end on the terminal; the outcome of each, which is printed as well.

    ``aws``, ``journals``, ``watch_of``: as ``many_jobs.watch_many``. ``with_log``: print a single job's log.
    """
    from trainers.sagemaker.watch.many_jobs import watch_many

    how: dict[str, Any] = {"aws": aws, "journals": dict(journals or {}), "store": store, "poll_s": poll_s}
    how |= {} if watch_of is None else {"watch_of": watch_of}
    try:
        if len(entries) == 1:
            outcomes = watch_many(entries, listener=OneJob(with_log=with_log), **how)
        else:
            with ManyJobs() as view:
                outcomes = watch_many(entries, listener=view, on_round=view.draw, **how)
    except KeyboardInterrupt:
        now = [ledger.load(entry.directory) or entry for entry in entries]
        named = " ".join(entry.name for entry in now if entry.submitted_ms is not None and not entry.ended)
        if named:
            print(
                f"\n{'The jobs go' if ' ' in named else 'The job goes'} on. Watch again: python -m trainers.jobs watch"
                f" {named}\nTo end: python -m trainers.jobs stop {named}"
            )
        if any(entry.submitted_ms is None and not entry.ended for entry in now):
            print(not_launched([entry for entry in now if not entry.ended]))
        raise
    for entry, outcome in zip(entries, outcomes, strict=True):
        print(ending(entry, outcome))
    return outcomes


def all_finished(outcomes: Sequence[Outcome | None]) -> bool:
    """Whether every job did what it was launched for."""
    return all(outcome is not None and outcome.state == "finished" for outcome in outcomes)


def not_launched(entries: Sequence[Entry]) -> str:
    """What to do about the jobs among these that are recorded and not launched."""
    named = " ".join(entry.name for entry in entries if entry.submitted_ms is None)
    return (
        f"Recorded but not launched: {named}. To launch, repeat the same command, or:"
        f" python -m trainers.jobs watch {named}\nTo drop: python -m trainers.jobs stop {named}"
    )


class OneJob:
    """Prints phases with the time they began, and the log as it comes."""

    def __init__(self, *, with_log: bool = True, out: TextIO | None = None) -> None:
        self._with_log, self._out = with_log, out or sys.stdout
        self._former: Phase | None = None

    def lines(self, entry: Entry, lines: Sequence[Line]) -> None:
        """The log's lines as they are."""
        if self._with_log:
            for line in lines:
                self._print(f"  {line.text.rstrip()}".replace("#011", "\t"))

    def phase(self, entry: Entry, phase: Phase) -> None:
        """``12:03:10 downloading  Downloading input data  (starting took 2 min 10 s)``."""
        took = ""
        if self._former is not None and self._former.name != phase.name:
            took = f"  ({self._former.name} took {duration(phase.start_s - self._former.start_s)})"
        if self._former is None or self._former.name != phase.name:
            self._former = phase
        moment = time.strftime("%H:%M:%S", time.localtime(phase.start_s))
        self._print(f"{moment} {phase.name:<12} {phase.message}{took}")

    def say(self, entry: Entry, text: str) -> None:
        """News in a sentence."""
        self._print(f"{time.strftime('%H:%M:%S')} {text}")

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class ManyJobs:
    """``with ManyJobs() as view:`` one table in a terminal, the news above it; elsewhere a line for every change."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._table = LiveTable(out)
        self._shown: dict[str, str] = {}
        self._followed: dict[str, Followed] = {}
        self.said: dict[str, str] = {}

    def __enter__(self) -> ManyJobs:
        self._table.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._table.__exit__()

    def lines(self, entry: Entry, lines: Sequence[Line]) -> None:
        """Too many to show; ``python -m trainers.jobs logs`` has them."""

    def phase(self, entry: Entry, phase: Phase) -> None:
        """In the table."""

    def say(self, entry: Entry, text: str) -> None:
        """Said with the next change."""
        self.said[entry.journal_id] = text

    def draw(self, fleet: Fleet) -> None:
        """Show the state of all jobs; for ``on_round``."""
        rows = [self._row(job) for job in fleet.jobs]
        for job, row in zip(fleet.jobs, rows, strict=True):
            note = _note(job, self.said.get(job.entry.journal_id, ""))
            state = f"{row.name}: {row.state}" + (f", {note}" if note else "")
            if self._shown.get(job.entry.journal_id) != state and (note or not self._table.is_live):
                self._shown[job.entry.journal_id] = state
                spent = "" if row.cost_usd is None else f" ({money(row.cost_usd)})"
                self._table.say(f"{time.strftime('%H:%M:%S')} {state}{spent}")
        over = sum(job.is_over for job in fleet.jobs)
        self._table.draw(rows, f"{over} of {plural(len(rows), 'job')} ended · {money(fleet.cost_usd())} so far")

    def _row(self, job: WatchedJob) -> Row:
        watch, entry = job.watch, job.entry
        if watch.outcome is not None:
            state: str = watch.outcome.state
        else:
            state = "waiting" if entry.submitted_ms is None else watch.phase or "launched"
        name, cost_usd = entry.run_name or entry.name, watch.cost_usd()
        followed = self._followed.setdefault(entry.journal_id, Followed(entry.directory))
        try:
            row = followed.look().row(name, "running" if state == "training" else state, epochs_of(entry))
        except TrackingError:
            row = Row(name=name, state=state)
        rate = watch.progress.get(names.IMAGES_PER_S, row.images_per_s)
        return replace(row, state=state, cost_usd=cost_usd, images_per_s=rate)


def epochs_of(entry: Entry) -> int | None:
    """How many epochs a job was asked for."""
    asked = str(entry.request.get("HyperParameters", {}).get("epochs", ""))
    return int(asked) if asked.isdecimal() else None


def _note(job: WatchedJob, said: str) -> str:
    outcome = job.watch.outcome
    if outcome is not None:
        return f"{outcome.kind}: {outcome.reason}" if outcome.kind else ""
    return job.trouble or ("" if said == "launched" or job.entry.submitted_ms is None else said)


def recorded(directory: Path) -> str:
    """How the job of a journal is as far as this machine knows, AWS not asked; "" where the journal is no job's."""
    try:
        entry = ledger.load(directory)
    except TrainerError:
        return ""
    if entry is None:
        return ""
    return entry.ended or ("waiting" if entry.submitted_ms is None else "unwatched")
