"""What jobs may cost together: the ceilings that were written down at their launch, held by whoever watches them.

Enters: watched jobs and the ledger beside them. Leaves: the jobs that must be stopped now, before their money is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainers.sagemaker.cost import pricing
from trainers.sagemaker.job import ledger
from trainers.sagemaker.job.request import BILLED_BESIDE_S
from trainers.sagemaker.watch.end import stored_outcome

if TYPE_CHECKING:
    from trainers.sagemaker.watch.many_jobs import Watched

_STOPPING_S = 180.0  # a stopped job is billed until its container has ended and its model is saved


class Budgets:
    """The ceilings of some jobs; ``max_cost_usd`` is one more, for all of them together."""

    def __init__(self, jobs: Sequence[Watched], max_cost_usd: float | None = None) -> None:
        """Jobs launched together and not watched here are looked up in the ledger and counted as well."""
        self._groups: dict[str, tuple[float, list[Watched]]] = {}
        if max_cost_usd is not None:
            self._groups[""] = (max_cost_usd, list(jobs))
        for job in jobs:
            if job.entry.budget is not None:
                known = self._groups.setdefault(job.entry.budget["id"], (float(job.entry.budget["usd"]), []))
                known[1].append(job)
        here = {job.entry.journal_id for job in jobs}
        self._elsewhere: dict[str, list[ledger.Entry]] = {}
        for root in {job.entry.directory.parent for job in jobs if job.entry.budget is not None}:
            for entry in ledger.entries(root):
                if entry.budget is not None and entry.budget["id"] in self._groups and entry.journal_id not in here:
                    self._elsewhere.setdefault(entry.budget["id"], []).append(entry)

    def spent(self, now_s: float, next_look_s: float) -> Iterator[tuple[float, list[Watched]]]:
        """Each ceiling (USD) that would be passed by the time the next look has stopped its jobs, and those jobs."""
        for key, (usd, jobs) in self._groups.items():
            left = [job for job in jobs if not job.is_over and not job.cancelled]
            if not left:
                continue
            so_far = sum(job.watch.cost_usd() or 0.0 for job in jobs)
            so_far += sum(_at_most_usd(entry, now_s) for entry in self._elsewhere.get(key, ()))
            if so_far + sum(_ahead_usd(job, next_look_s) for job in left) >= usd:
                yield usd, left


def _ahead_usd(job: Watched, next_look_s: float) -> float:
    """What a running job costs until it has been stopped, the machine that is kept for the next one included."""
    entry = job.entry
    if entry.price is None or entry.submitted_ms is None or job.watch.has_ended:
        return 0.0
    kept_s = float(entry.request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds", 0))
    return pricing.cost_usd(next_look_s + _STOPPING_S + kept_s, entry.num_instances, entry.price["usd"])


def _at_most_usd(entry: ledger.Entry, now_s: float) -> float:
    """What a job that is not watched here has cost, or can have cost by now."""
    outcome = stored_outcome(entry)
    if outcome is not None:
        return outcome.cost_usd or 0.0
    if entry.submitted_ms is None or entry.price is None:
        return 0.0
    limit_s = entry.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", float("inf")) + BILLED_BESIDE_S
    billed_s = min(max(0.0, now_s - entry.submitted_ms / 1000), limit_s)
    return pricing.cost_usd(round(billed_s), entry.num_instances, entry.price["usd"])
