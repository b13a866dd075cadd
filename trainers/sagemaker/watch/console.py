"""The terminal output for jobs under way: one job's phases and log lines, or many jobs in one live table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from tracking import names
from tracking.errors.program import drawn
from tracking.errors.words import duration, harmless, money
from trainers.sagemaker.aws.logs import Line
from trainers.sagemaker.job import ledger
from trainers.sagemaker.job.ledger import Entry
from trainers.sagemaker.job.phases import Phase
from trainers.sagemaker.watch.outcome import Outcome

if TYPE_CHECKING:
    from tracking.journal import Journal
    from tracking.store import Store
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.watch.many_jobs import Fleet, WatchedJob
    from trainers.sagemaker.watch.one_job import JobWatch

_COLUMNS = ("job", "phase", "time", "epoch", "validation", "cost", "")


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
    """``with ManyJobs() as view:`` a table that is redrawn on a terminal; elsewhere a line for every change."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._live: Any = None
        self._shown: dict[str, str] = {}
        self.said: dict[str, str] = {}

    def __enter__(self) -> ManyJobs:
        if self._out.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=drawn(self._out)), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def lines(self, entry: Entry, lines: Sequence[Line]) -> None:
        """Too many to show; ``python -m trainers.jobs logs`` has them."""

    def phase(self, entry: Entry, phase: Phase) -> None:
        """In the table."""

    def say(self, entry: Entry, text: str) -> None:
        """In the table's last column."""
        self.said[entry.journal_id] = text

    def draw(self, fleet: Fleet) -> None:
        """Show the state of all jobs; for ``on_round``."""
        rows = [row(job, self.said.get(job.entry.journal_id, "")) for job in fleet.jobs]
        if self._live is not None:
            self._live.update(self._table(rows, fleet), refresh=True)
            return
        for job, cells in zip(fleet.jobs, rows, strict=True):
            state = f"{cells[0]}: {cells[1]}" + (f", {cells[-1]}" if cells[-1] else "")
            if self._shown.get(job.entry.journal_id) != state:
                self._shown[job.entry.journal_id] = state
                spent = f" ({cells[5]})" if cells[5] else ""
                print(f"{time.strftime('%H:%M:%S')} {state}{spent}", file=self._out, flush=True)

    def _table(self, rows: Sequence[Sequence[str]], fleet: Fleet) -> Any:
        from rich.markup import escape
        from rich.table import Table

        over = sum(job.is_over for job in fleet.jobs)
        table = Table(title=f"{over} of {len(fleet.jobs)} jobs ended · {money(fleet.cost_usd())} so far")
        for column in _COLUMNS:
            table.add_column(column, justify="right" if column in ("time", "epoch", "validation", "cost") else "left")
        for cells in rows:
            table.add_row(*(escape(harmless(cell)) for cell in cells))
        return table


def row(job: WatchedJob, said: str = "") -> tuple[str, ...]:
    """A job's cells, in the order of the table's columns."""
    watch = job.watch
    progress, outcome, cost = watch.progress, watch.outcome, watch.cost_usd()
    epochs = job.entry.request.get("HyperParameters", {}).get("epochs", "?")
    phase: str
    accuracy = progress.get(names.VALIDATION_ACCURACY)
    if outcome is not None:
        phase, note = outcome.state, f"{outcome.kind}: {outcome.reason}" if outcome.kind else ""
    elif job.entry.submitted_ms is None:
        phase, note = "waiting", job.trouble
    else:
        phase, note = watch.phase or "launched", job.trouble or (said if said != "launched" else "")
    return (
        job.entry.run_name or job.entry.name,
        phase,
        duration(watch.billed_s()) if watch.billed_s() else "",
        f"{progress['epoch']}/{epochs}" if "epoch" in progress else "",
        f"{accuracy:.4f}" if accuracy is not None else "",
        "" if cost is None else money(cost),
        note[:100],
    )


def ending(entry: Entry, outcome: Outcome | None) -> str:
    """How a job ended and what to do, in a few lines."""
    if outcome is None:
        return f"{entry.name}: not watched to its end. Continue with: python -m trainers.jobs watch {entry.name}"
    billed = "" if outcome.billable_s is None else f", billed {duration(outcome.billable_s)}"
    cost = "" if outcome.cost_usd is None else f", {money(outcome.cost_usd)}"
    if outcome.kept_usd_at_most:
        cost += f", and up to {money(outcome.kept_usd_at_most)} for the machine kept until the next job takes it"
    lines = [f"{entry.name}: {outcome.state}{billed}{cost}"]
    if outcome.reason:
        lines.append(f"  why: {outcome.reason}")
    if outcome.advice:
        lines.append(f"  what to do: {outcome.advice}")
    if outcome.model_uri:
        lines.append(f"  model: {outcome.model_uri}")
    return "\n".join(lines)
