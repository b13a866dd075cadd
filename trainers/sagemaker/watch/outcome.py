"""What a watcher reports: news while a job runs (Listener), and how it ended (Outcome)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tracking import names
from tracking.errors import TrackingError
from tracking.errors.words import duration, money
from trainers.launch.job import State
from trainers.launch.progress.follow import Followed
from trainers.sagemaker.aws.logs import Line
from trainers.sagemaker.job.ledger import Entry
from trainers.sagemaker.job.phases import Phase


class Listener(Protocol):
    """Receives what happens. Called from the watcher's threads, one job at a time."""

    def lines(self, entry: Entry, lines: Sequence[Line]) -> None:
        """New lines of the log."""

    def phase(self, entry: Entry, phase: Phase) -> None:
        """The job entered a phase, or AWS says something new about it."""

    def say(self, entry: Entry, text: str) -> None:
        """Anything else, in a sentence."""


class Silent:
    """Ignores everything."""

    def lines(self, entry: Entry, lines: Sequence[Line]) -> None:
        """Nothing."""

    def phase(self, entry: Entry, phase: Phase) -> None:
        """Nothing."""

    def say(self, entry: Entry, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended. ``advice`` says what to do about it; ``billable_s`` and ``cost_usd`` are None where unknown.

    ``kept_usd_at_most`` is what the machine that is kept for the next job may cost on top of ``cost_usd``.
    """

    name: str
    state: State
    reason: str
    kind: str = ""
    advice: str = ""
    billable_s: float | None = None
    cost_usd: float | None = None
    model_uri: str = ""
    kept_usd_at_most: float = 0.0


def ending(entry: Entry, outcome: Outcome | None) -> str:
    """How a job ended and what to do, in a few lines; the last names accuracy, cost, run and the next command."""
    if outcome is None:
        return f"{entry.name}: not watched to its end. Continue with: python -m trainers.jobs watch {entry.name}"
    billed = "" if outcome.billable_s is None else f", billed {duration(outcome.billable_s)}"
    cost = "cost unknown" if outcome.cost_usd is None else money(outcome.cost_usd)
    kept = ""
    if outcome.kept_usd_at_most:
        kept = f", and up to {money(outcome.kept_usd_at_most)} for the machine kept until the next job takes it"
    lines = [f"{entry.name}: {outcome.state}{billed}{'' if outcome.cost_usd is None else f', {cost}'}{kept}"]
    if outcome.reason:
        lines.append(f"  why: {outcome.reason}")
    if outcome.advice:
        lines.append(f"  what to do: {outcome.advice}")
    if outcome.model_uri:
        lines.append(f"  model: {outcome.model_uri}")
    accuracy, then = "no accuracy", f"python -m trainers.jobs logs {entry.name}"
    try:
        known = Followed(entry.directory).look()
    except TrackingError:
        known = Followed(entry.directory)
    test, run = known.metrics.get(names.TEST_ACCURACY), entry.journal_id[:8]
    if test is not None or known.score() is not None:
        accuracy = f"test {test:.4f}" if test is not None else f"best validation {known.score():.4f}"
        needs_test = test is None and bool(outcome.model_uri)
        then = f"python -m trainers.evaluate {run}" if needs_test else f"python -m reports run {run}"
    return "\n".join([*lines, f"  {accuracy} · {cost} · run {run} · next: {then}"])
