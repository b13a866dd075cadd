"""A study that searches, with jobs as its runs: each is launched, watched, and stopped at AWS where it is hopeless.

What a job scores comes from its journal, which the watcher writes from the built-in's log or the container's events.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.config import Config
from trainers.config.study import Study
from trainers.launch import search as searching
from trainers.launch.job import State
from trainers.launch.parent import StudyRun
from trainers.launch.search import Searching, SearchJob
from trainers.sagemaker.job import ledger
from trainers.sagemaker.watch.many_jobs import Fleet, WatchedJob

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.sagemaker.job.launcher import SageMakerLauncher
    from trainers.sagemaker.job.ledger import Entry
    from trainers.sagemaker.job.phases import Phase

_WORKERS = 4


def run(
    study: Study, launcher: SageMakerLauncher, store: Store, *, slots: int, poll_s: float, max_time_s: float | None
) -> int:
    """Search with up to ``slots`` jobs at a time; the exit code. Interrupting leaves the jobs running."""
    assert study.search is not None
    print(f"study {study.name}: {study.title}\ntrials: {searching.dashboard(store)}")
    with searching.alone(study, store), StudyRun(study, store) as whole, ThreadPoolExecutor(_WORKERS, "watch") as pool:
        place = JobPlace(launcher, store, pool, slots=slots, poll_s=poll_s)
        loop = Searching(
            study,
            place,
            store,
            max_cost_usd=launcher.options.max_cost_usd,
            max_time_s=max_time_s,
            parent=whole.journal_id,
        )
        patience_s = 5.0
        try:
            tally = loop.run()
            patience_s = 60.0
            if tally.why_ended:
                print(f"no further trial began: {tally.why_ended}")
        except KeyboardInterrupt:
            going = " ".join(job.entry.name for job in place.fleet.jobs if not job.is_over)
            if going:
                print(
                    "\nThe jobs under way go on; the same command goes on with the search."
                    f"\nTo end them: python -m trainers.jobs stop {going}"
                )
            raise
        finally:
            place.fleet.close(patience_s)
        whole.conclude(loop.trials())
    return 1 if tally.failed and not tally.trained else 0


class JobPlace:
    """SageMaker, as the place where a search's runs are carried out."""

    attempts = 1  # AWS itself starts a job again that lost its machine; one that was stopped is not wanted

    def __init__(
        self, launcher: SageMakerLauncher, store: Store, pool: ThreadPoolExecutor, *, slots: int, poll_s: float
    ) -> None:
        self.slots, self._launcher, self._store, self._pool = slots, launcher, store, pool
        self.fleet = Fleet([], lambda entry: launcher.aws, listener=_News(), store=store, poll_s=poll_s)

    def submit(self, config: Config, former: Path | None) -> SearchJob:
        """Launch the run as a job; ``former`` never became one, or was ended for good."""
        if former is not None:
            searching.close_dead(former, self._store)
        entry, journal = self._launcher.record(self._launcher.plan(config))
        return _Watched(self.fleet, self.fleet.add(entry, self._launcher.aws, journal))

    def under_way(self, key: str, former: Path | None) -> SearchJob | None:
        """The job of an earlier search that is still to be watched to its end."""
        entry = None if former is None else ledger.load(former)
        if entry is None or entry.ended:
            return None
        return _Watched(self.fleet, self.fleet.add(entry, self._launcher.aws))

    def close(self, directory: Path) -> None:
        """The watcher has done so, or another one will."""

    def wait(self) -> None:
        """Send what waits, look at all jobs that are due."""
        self.fleet.step(self._pool)


class _Watched:
    """One job of the search."""

    def __init__(self, fleet: Fleet, job: WatchedJob) -> None:
        self._fleet, self._job = fleet, job

    def state(self) -> State:
        """``running`` until everything about it is in its journal."""
        outcome = self._job.watch.outcome
        if outcome is not None:
            return outcome.state
        return "failed" if self._job.given_up else "running"

    def cancel(self) -> None:
        """Stop it at AWS; it keeps the model and the log it has, and is billed until then."""
        self._fleet.stop([self._job])

    def why(self) -> str:
        """What AWS says, and what to do about it."""
        outcome = self._job.watch.outcome
        said = self._job.trouble if outcome is None else f"{outcome.reason} {outcome.advice}".strip()
        return said or f"see python -m trainers.jobs logs {self._job.entry.name}"


class _News:
    """What is said of single jobs goes to standard error."""

    def lines(self, entry: Entry, lines: object) -> None:
        """In the run's log."""

    def phase(self, entry: Entry, phase: Phase) -> None:
        """In MLflow."""

    def say(self, entry: Entry, text: str) -> None:
        """A sentence."""
        print(f"{entry.run_name or entry.name}: {text}", file=sys.stderr)
