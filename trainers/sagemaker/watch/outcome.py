"""What a watcher reports: news while a job runs (Listener), and how it ended (Outcome)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trainers.launch.job import State
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
