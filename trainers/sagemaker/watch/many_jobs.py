"""Many jobs in one loop: sent as quota allows, looked at in turn within AWS's rates, shown in MLflow as they go.

Jobs run at AWS: a watcher that dies loses nothing, and another one continues.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracking import names
from tracking.errors import TrackingError
from tracking.journal import Journal
from trainers.errors import TrainerError
from trainers.launch.watching import notify
from trainers.sagemaker.aws.client import RATES_PER_S, Aws, Clients
from trainers.sagemaker.cost import pricing
from trainers.sagemaker.errors import AwsError, NoCredentials, NotAllowed, QuotaReached, Unreachable
from trainers.sagemaker.job import ledger, submit
from trainers.sagemaker.job.request import BILLED_BESIDE_S
from trainers.sagemaker.watch.end import stored_outcome
from trainers.sagemaker.watch.live import LiveReplay
from trainers.sagemaker.watch.one_job import SETTLE_S, JobWatch
from trainers.sagemaker.watch.outcome import Listener, Outcome, Silent, ending

if TYPE_CHECKING:
    from tracking.store import Store

POLL_S = 15.0
_WORKERS = 4  # an answer takes a quarter of a second, so these do 16 calls a second; each costs memory
# Describe and logs together may take this share of the rate that we allow ourselves.
_USED_SHARE = 0.8
_WAITS = "waits for quota"
_FLUSH_S, _INTERRUPTED_FLUSH_S = 60.0, 5.0


@dataclass(kw_only=True)
class WatchedJob:
    """One job of a fleet. ``trouble`` says why it could not be looked at; ``given_up``: it will not be again.

    ``is_said``: a message said how it ended, or nobody waits for one.
    """

    watch: JobWatch
    due_s: float = 0.0
    trouble: str = ""
    given_up: bool = False
    cancelled: bool = False
    is_said: bool = False
    ended_noticed_s: float | None = field(default=None)

    @property
    def entry(self) -> ledger.Entry:
        """The job's current line in the ledger."""
        return self.watch.entry

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do."""
        return self.watch.outcome is not None or self.given_up


class Fleet:
    """Jobs that are watched together; ``step`` does what is due, ``run`` goes on until all are over."""

    def __init__(
        self,
        entries: Sequence[ledger.Entry],
        aws_of: Callable[[ledger.Entry], Aws],
        *,
        listener: Listener | None = None,
        journals: dict[str, Journal] | None = None,
        store: Store | None = None,
        poll_s: float = POLL_S,
        max_cost_usd: float | None = None,
        on_round: Callable[[Fleet], None] = lambda fleet: None,
        watch_of: Callable[..., JobWatch] = JobWatch,
    ) -> None:
        """``journals`` are those still open since the launch, by journal id. ``store`` shows the runs while they go on.

        ``poll_s`` between two looks at a job; all other waiting keeps its proportion to it. ``max_cost_usd`` holds for
        all jobs together, beside what was recorded at their launch: before it is spent the running ones are
        stopped, the waiting ones not sent. ``on_round`` is called after each round, to draw.
        ``watch_of`` makes the watch of an entry, as ``JobWatch`` does.
        """
        self.listener: Listener = Silent() if listener is None else listener
        opened = journals or {}
        self._poll_s, self._on_round, self._watch_of = poll_s, on_round, watch_of
        self._quota_pause_s = submit.QUOTA_PAUSE_S * poll_s / POLL_S
        self.jobs = [self._watched(entry, aws_of(entry), opened.get(entry.journal_id)) for entry in entries]
        self._max_cost_usd = max_cost_usd
        self._budgets = Budgets(self.jobs, max_cost_usd)
        self._clock = self.jobs[0].watch.aws.clock if self.jobs else None
        self._shower = LiveReplay(store, [job.entry for job in self.jobs]) if store is not None else None

    def _watched(self, entry: ledger.Entry, aws: Aws, journal: Journal | None) -> WatchedJob:
        settle_s = SETTLE_S * self._poll_s / POLL_S
        watch = self._watch_of(entry, aws, journal=journal, listener=self.listener, settle_s=settle_s)
        return WatchedJob(watch=watch, is_said=bool(entry.ended))

    def add(self, entry: ledger.Entry, aws: Aws, journal: Journal | None = None) -> WatchedJob:
        """Watch one job more from the next round on."""
        job = self._watched(entry, aws, journal)
        self.jobs.append(job)
        if not self._budgets.add(job):
            self._budgets = Budgets(self.jobs, self._max_cost_usd)
        self._clock = aws.clock
        if self._shower is not None:
            self._shower.add(entry)
        return job

    @property
    def interval_s(self) -> float:
        """Seconds between two looks at a job: more of them when the rate would not do otherwise."""
        running = sum(not job.is_over for job in self.jobs)
        return max(self._poll_s, running / (RATES_PER_S["DescribeTrainingJob"] * _USED_SHARE))

    def run(self) -> list[Outcome | None]:
        """Watch until all jobs are over; the outcome of each, None where it had to be given up."""
        patience_s = _INTERRUPTED_FLUSH_S
        try:
            with ThreadPoolExecutor(min(_WORKERS, max(1, len(self.jobs))), "watch") as pool:
                while not all(job.is_over for job in self.jobs):
                    self.step(pool)
            patience_s = _FLUSH_S
        finally:
            self.close(patience_s)
        return [job.watch.outcome for job in self.jobs]

    def step(self, pool: ThreadPoolExecutor) -> None:
        """Look at every job that is due, then wait for the next one."""
        assert self._clock is not None
        self._send_waiting()
        now = self._clock.now()
        due = [job for job in self.jobs if not job.is_over and job.entry.submitted_ms is not None and job.due_s <= now]
        for _ in pool.map(self._look, due):
            pass
        self._hold_budgets()
        self._tell_ends()
        if self._shower is not None:
            self._shower.wake()
        self._on_round(self)
        waiting = [job.due_s for job in self.jobs if not job.is_over]
        if waiting:
            self._clock.sleep(max(0.05, min(min(waiting) - self._clock.now(), self.interval_s)))

    def cost_usd(self) -> float:
        """Money spent so far by all jobs whose price is known."""
        return sum(job.watch.cost_usd() or 0.0 for job in self.jobs)

    def stop(self, jobs: Sequence[WatchedJob] | None = None) -> None:
        """Ask jobs to end, all by default; those not sent yet will not be."""
        for job in self.jobs if jobs is None else jobs:
            if job.is_over or job.cancelled:
                continue
            try:
                job.watch.stop()
                if job.entry.submitted_ms is None:
                    job.watch.abandon("not launched: stopped while it waited", "stopped")
            except (AwsError, NoCredentials) as error:
                self.listener.say(job.entry, f"not stopped yet: {error}")
                continue
            job.cancelled = True

    def close(self, patience_s: float = 0.0) -> None:
        """Let go of every journal and give MLflow ``patience_s`` to catch up. The jobs go on."""
        for job in self.jobs:
            job.watch.close()
        why = None if self._shower is None else self._shower.finish(patience_s)
        if why is not None:
            print(
                f"Not all of this is in MLflow yet: {why}. Nothing is lost; bring it in with: python -m tracking sync",
                file=sys.stderr,
            )

    def _send_waiting(self) -> None:
        """Send what has not been sent, as far as the quota goes: after the first refusal the others wait as well."""
        assert self._clock is not None
        full: set[tuple[str, str]] = set()
        for job in self.jobs:
            entry = job.entry
            if entry.submitted_ms is not None or job.is_over or job.due_s > self._clock.now():
                continue
            machine = (entry.region, entry.instance_type)
            if machine in full:
                job.due_s = self._clock.now() + self._quota_pause_s
                job.trouble = job.trouble or f"{_WAITS}, as another job does"
                continue
            try:
                job.watch.open()
                if job.watch.outcome is not None:  # another process gave it up
                    continue
                job.watch.send()
                if job.trouble.startswith(_WAITS):
                    notify.tell(f"{entry.run_name or entry.name}: quota granted", "It is launched.")
                job.trouble, job.due_s = "", self._clock.now()
                self.listener.say(job.entry, "launched")
            except AwsError as error:
                if job.watch.refused(error):
                    self.listener.say(job.entry, str(error))
                elif isinstance(error, QuotaReached):
                    full.add(machine)
                    job.due_s = self._clock.now() + self._quota_pause_s
                    waits = f"{_WAITS}: {error.quota or 'the limit'} is {error.limit}, {error.used} in use"
                    if job.trouble != waits:
                        self.listener.say(entry, f"{waits}. It is not launched yet; trying again.")
                    job.trouble = waits
                elif isinstance(error, (Unreachable, NotAllowed)):
                    self._later(job, str(error))
                else:
                    self._give_up(job, str(error))
            except (TrackingError, TrainerError, OSError) as error:
                self._give_up(job, str(error))

    def _look(self, job: WatchedJob) -> None:
        assert self._clock is not None
        try:
            job.watch.poll()
            job.trouble = ""
            job.due_s = self._clock.now() + self.interval_s
            if job.watch.has_ended and job.ended_noticed_s is None:
                job.ended_noticed_s = self._clock.now()
                self._quota_is_free()
        except Unreachable as error:
            self._later(job, str(error))
        except (NotAllowed, NoCredentials) as error:
            # Keys run out and are renewed while a job goes on; a job that was never readable is given up at once.
            if job.watch.description or (isinstance(error, NotAllowed) and error.has_expired):
                self._later(job, str(error))
            else:
                self._give_up(job, str(error))
        except (TrackingError, TrainerError, OSError) as error:
            self._give_up(job, str(error))

    def _later(self, job: WatchedJob, why: str) -> None:
        assert self._clock is not None
        if job.trouble != why:
            state = "It is not launched yet" if job.entry.submitted_ms is None else "The job continues"
            self.listener.say(job.entry, f"{why} {state}; trying again.")
        job.trouble, job.due_s = why, self._clock.now() + self.interval_s

    def _give_up(self, job: WatchedJob, why: str) -> None:
        job.trouble, job.given_up = why, True
        job.watch.close()
        state = "not launched yet, and no longer tried" if job.entry.submitted_ms is None else "no longer watched"
        self.listener.say(job.entry, f"{state}: {why}")

    def _quota_is_free(self) -> None:
        for job in self.jobs:
            if job.entry.submitted_ms is None:
                job.due_s = 0.0

    def _tell_ends(self) -> None:
        """A message for each job that has ended; of a study's, which has one at its end, those that failed alone."""
        for job in self.jobs:
            if not job.is_over or job.is_said:
                continue
            job.is_said, outcome = True, job.watch.outcome
            state = "no longer watched" if outcome is None else outcome.state
            if state in ("failed", "no longer watched") or names.STUDY not in job.entry.tags:
                text = f"{job.trouble}\n{ending(job.entry, outcome)}" if outcome is None else ending(job.entry, outcome)
                kind: notify.Kind = "success" if state == "finished" else "failure"
                notify.tell(f"{job.entry.run_name or job.entry.name}: {state}", text, kind)

    def _hold_budgets(self) -> None:
        assert self._clock is not None
        for usd, jobs in self._budgets.spent(self._clock.now(), self.interval_s):
            self.stop(jobs)
            for job in jobs:
                if job.cancelled:
                    self.listener.say(job.entry, f"stopped: --max-cost ${usd:g} would be passed")


def watch_many(
    entries: Sequence[ledger.Entry],
    *,
    aws: Aws | None = None,
    listener: Listener | None = None,
    journals: dict[str, Journal] | None = None,
    store: Store | None = None,
    poll_s: float = POLL_S,
    max_cost_usd: float | None = None,
    on_round: Callable[[Fleet], None] = lambda fleet: None,
    watch_of: Callable[..., JobWatch] = JobWatch,
) -> list[Outcome | None]:
    """Send what was not sent, watch all to the end; the outcome of each in the same order.

    ``aws`` is used for all jobs, without it each job's own region and profile. Interrupting leaves the jobs running.
    """
    clients = Clients()

    def client(entry: ledger.Entry) -> Aws:
        return clients.of(entry.region, entry.profile) if aws is None else aws

    fleet = Fleet(
        entries,
        client,
        listener=listener,
        journals=journals,
        store=store,
        poll_s=poll_s,
        max_cost_usd=max_cost_usd,
        on_round=on_round,
        watch_of=watch_of,
    )
    return fleet.run()


_STOPPING_S = 180.0  # a stopped job is billed until its container has ended and its model is saved


class Budgets:
    """The ceilings of some jobs; ``max_cost_usd`` is one more, for all of them together."""

    def __init__(self, jobs: Sequence[WatchedJob], max_cost_usd: float | None = None) -> None:
        """Jobs launched together and not watched here are looked up in the ledger and counted as well."""
        self._groups: dict[str, tuple[float, list[WatchedJob]]] = {}
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

    def add(self, job: WatchedJob) -> bool:
        """Count one job more; False where its ceiling is new, with jobs that are not known here."""
        if job.entry.budget is None:
            return "" not in self._groups
        known = self._groups.get(job.entry.budget["id"])
        if known is not None:
            known[1].append(job)
        return known is not None and "" not in self._groups

    def spent(self, now_s: float, next_look_s: float) -> Iterator[tuple[float, list[WatchedJob]]]:
        """Each ceiling (USD) that would be passed by the time the next look has stopped its jobs, and those jobs."""
        for key, (usd, jobs) in self._groups.items():
            left = [job for job in jobs if not job.is_over and not job.cancelled]
            if not left:
                continue
            so_far = sum(job.watch.cost_usd() or 0.0 for job in jobs)
            so_far += sum(_at_most_usd(entry, now_s) for entry in self._elsewhere.get(key, ()))
            if so_far + sum(_ahead_usd(job, next_look_s) for job in left) >= usd:
                yield usd, left


def _ahead_usd(job: WatchedJob, next_look_s: float) -> float:
    """What a running job costs until it has been stopped, the machine that is kept for the next one included."""
    entry = job.entry
    if entry.price is None or entry.submitted_ms is None or job.watch.has_ended or job.watch.phase == "queued":
        return 0.0
    kept_s = float(entry.request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds", 0))
    return pricing.cost_usd(next_look_s + _STOPPING_S + kept_s, entry.num_instances, entry.price["usd"])


def _at_most_usd(entry: ledger.Entry, now_s: float) -> float:
    """What a job that is not watched here has cost, or can have cost by now."""
    outcome = stored_outcome(entry)
    if outcome is not None and outcome.cost_usd is not None:
        return outcome.cost_usd
    if entry.submitted_ms is None or entry.price is None:
        return 0.0
    limit_s = entry.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", float("inf")) + BILLED_BESIDE_S
    billed_s = min(max(0.0, now_s - entry.submitted_ms / 1000), limit_s)
    return pricing.cost_usd(round(billed_s), entry.num_instances, entry.price["usd"])
