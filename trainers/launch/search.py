"""Carry out a study that searches: ask for a trial, train it, watch its journal, stop it where it is hopeless, tell.

The same loop for every place: a ``Place`` starts runs, says how they are and ends them; what they score comes from
their journals. A search that was ended goes on with the trials it had: each counts once, and resumes where it can.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tracking import names
from tracking import run as tracked
from tracking.errors import TrackingError
from tracking.errors.words import duration, money, plural
from tracking.journal.files import is_held, writer
from tracking.journal.progress import replayed_as
from trainers.config import Config
from trainers.config.search import Search
from trainers.config.study import PlannedRun, Study
from trainers.errors import BadConfig, TrainerError, TrainingDiverged
from trainers.launch.job import ENDED, LocalJob, LocalLauncher, State
from trainers.launch.progress.follow import Followed, Journals
from trainers.launch.progress.table import LiveTable, Row
from trainers.launch.sampler import Chooser, End, Trial, public_url
from trainers.launch.study import StudyPlan
from trainers.launch.watching import notify

if TYPE_CHECKING:
    from tracking.store import Store


_POLL_S = 0.5
_STATES: dict[End, str] = {"complete": "finished", "pruned": "pruned", "failed": "failed"}


class SearchJob(Protocol):
    """One run of a trial, wherever it is."""

    def state(self) -> State:
        """How it is now."""

    def cancel(self) -> None:
        """Ask it to end; what it has is kept."""

    def why(self) -> str:
        """Why it failed, in a line."""


class Place(Protocol):
    """Where runs are carried out."""

    slots: int
    attempts: int  # so often is a run started whose process is killed before it came any further

    def submit(self, config: Config, former: Path | None) -> SearchJob:
        """Start a run; ``former`` is the journal of one that was broken off."""

    def under_way(self, key: str, former: Path | None) -> SearchJob | None:
        """The run with this key that a search which is gone has started and that still goes on."""

    def close(self, directory: Path) -> None:
        """Write down the end of a run that is over, where its process was killed before it could."""

    def wait(self) -> None:
        """Let some time pass, and look at all jobs again."""


@dataclass
class _Under:
    """A trial under way: its runs to come, the one that is training now, and the scores so far."""

    trial: Trial
    left: list[PlannedRun]
    several: bool = False
    taken_over: bool = False
    job: SearchJob | None = None
    planned: PlannedRun | None = None
    followed: Followed | None = None
    scores: list[float] = field(default_factory=list)
    cost_usd: float = 0.0
    time_s: float = 0.0
    attempts: int = 0
    epochs: int = 0


@dataclass
class Tally:
    """What a search did in this call and before."""

    trained: int = 0
    pruned: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    spent_usd: float = 0.0
    why_ended: str = ""


class Searching:
    """The loop of one search."""

    def __init__(
        self,
        study: Study,
        place: Place,
        store: Store,
        *,
        max_cost_usd: float | None = None,
        max_time_s: float | None = None,
        parent: str | None = None,
        check: Callable[[], None] = lambda: None,
        view: LiveTable | None = None,
    ) -> None:
        """After ``max_cost_usd`` and ``max_time_s`` no further trial begins. ``check`` may raise to end the search now.

        ``parent`` is the journal id of the study's own run; ``view`` shows the trials of this call.
        """
        assert study.search is not None
        self.study, self.search, self.place, self.store = study, study.search, place, store
        self._plan = StudyPlan.of(study, parent)
        self._journals = Journals(store.journals, study.name)
        self._chooser = Chooser(study.name, study.search, store)
        self._check, self._view = check, view or LiveTable()
        self._rows: dict[int, Row] = {}
        self._former = 0
        limits = [one for one in (max_cost_usd, self.search.max_total_usd) if one is not None]
        self._max_usd = min(limits, default=None)
        times = [one for one in (max_time_s, self.search.max_time_s) if one is not None]
        self._max_s = min(times, default=None)
        self._under: list[_Under] = []
        self._began = time.monotonic()
        self.tally = Tally()

    def run(self) -> Tally:
        """Train until the trials, the money or the time are used up."""
        trials = self._chooser.trials()
        self.tally.spent_usd = sum(float(one.user_attrs.get("cost_usd") or 0.0) for one in trials)
        trials = [one for one in trials if one.state.name != "FAIL"]  # another one is tried in its place
        self._former = sum(trial.state.is_finished() for trial in trials)
        self._say(f"{plural(self.search.trials, 'trial')}, {self._former} already done")
        self._under = [self._begin(trial, taken_over=True) for trial in self._chooser.under_way()]
        begun, asking = len(trials), True
        while True:
            while asking and len(self._under) < self.place.slots and begun < self.search.trials and self._may_begin():
                trial = self._chooser.ask()
                if trial is None:
                    asking = False
                    break
                begun += 1
                self._under.append(self._begin(trial))
                self._check()
            for under in list(self._under):
                self._step(under)
                if under in self._under:
                    self._rows[under.trial.number] = self._row(under)
            if self._view.is_live:
                self._view.draw(list(self._rows.values()), self._title())
            if not self._under and (not asking or begun >= self.search.trials or not self._may_begin()):
                return self.tally
            if any(one.job is not None for one in self._under):
                self.place.wait()
            self._check()

    def jobs(self) -> Iterator[SearchJob]:
        """What is under way now."""
        return (one.job for one in self._under if one.job is not None)

    def _may_begin(self) -> bool:
        spent = self.tally.spent_usd + sum(one.cost_usd + self._running_usd(one) for one in self._under)
        if self._max_usd is not None and spent >= self._max_usd:
            self.tally.why_ended = f"{money(spent)} of {money(self._max_usd)} are spent"
            return False
        took = time.monotonic() - self._began
        if self._max_s is not None and took >= self._max_s:
            self.tally.why_ended = f"{duration(took)} of {duration(self._max_s)} have passed"
            return False
        return True

    def _running_usd(self, under: _Under) -> float:
        return 0.0 if under.followed is None else under.followed.cost_usd(self.search.usd_per_hour) or 0.0

    def _begin(self, trial: Trial, *, taken_over: bool = False) -> _Under:
        try:
            configs = self.search.configs(trial.values)
        except BadConfig as error:
            under = _Under(trial, [])
            self._end(under, "failed", "; ".join(error.faults))
            return under
        name, runs = trial_name(trial.number, trial.values), []
        for config in configs:
            part = f", seed {config.seed}" if self.search.seeds else ""
            part += f", fold {config.fold}" if config.fold else ""
            tags = {**config.tags, names.TRIAL: str(trial.number)}
            runs.append(PlannedRun(name, replace(config, run_name=f"{name}{part}", tags=tags)))
        trial.note(runs=[run.key for run in runs])
        return _Under(trial, runs, several=len(runs) > 1, taken_over=taken_over)

    def _step(self, under: _Under) -> None:
        """Look at a trial once: start its next run, report its values, end it."""
        if under.job is None:
            if not under.left:
                self._finish(under)
            elif not any(
                other is not under and other.planned and other.planned.key == under.left[0].key for other in self._under
            ):
                self._start(under)
            return
        if under.followed is None and under.planned is not None:
            if (directory := self._journals.find(under.planned.key)) is not None:
                under.followed = Followed(directory)
                if isinstance(under.job, _Adopted):
                    under.job.directory = directory
        state = under.job.state()
        if under.followed is not None:
            under.followed.look()
            if under.planned is not None and isinstance(self.place, LocalPlace):  # jobs have a watcher that does
                notify.tell_findings(str(under.planned.config.run_name), under.followed.findings())
            if not under.several:
                self._report(under, under.followed.values)
        if state not in ENDED:
            return
        job, under.job = under.job, None
        if under.followed is not None and under.followed.look().status == "FINISHED":
            state = "finished"  # also of a process that was killed after that
        if state == "finished" and under.followed is not None and under.planned is not None:
            self._scored(under)
        elif under.trial.stopped:
            self._end(under, "pruned")
        elif state != "killed" or not self._again(under):
            self._end(under, "failed", job.why(), under.followed)

    def _again(self, under: _Under) -> bool:
        """Put a run whose process was killed back in line, unless it keeps being killed before it comes any further."""
        epochs = 0 if under.followed is None else len(under.followed.values)
        under.attempts = 1 if epochs > under.epochs else under.attempts + 1
        under.epochs = max(epochs, under.epochs)
        if under.attempts >= self.place.attempts or under.planned is None:
            return False
        under.left.insert(0, under.planned)
        return True

    def _start(self, under: _Under) -> None:
        planned = under.left[0]
        former, job = self._journals.find(planned.key), None
        known = None if former is None else Followed(former).look()
        if known is None or known.status != "FINISHED":
            job = self.place.under_way(planned.key, former)
            if under.trial.stopped and job is None:
                if known is not None:
                    under.planned, under.followed = planned, known
                return self._end(under, "pruned")
        under.planned, under.followed = under.left.pop(0), known
        if job is None and known is not None and known.status == "FINISHED":
            # Trained before, by this study: counted again, not trained again.
            if not under.several:
                for step in sorted(known.values):
                    self._chooser.report(under.trial, step, known.values[step])
            return self._scored(under)
        over = ("FAILED", "KILLED") if self.place.attempts == 1 else ("FAILED",)
        if job is None and known is not None and known.status in over and under.taken_over:
            return self._end(under, "failed", known.reason or "it failed", known)
        under.taken_over = under.taken_over and under.several
        if job is not None:
            self._say(f"goes on {planned.config.run_name}")
            under.job = job
            if under.trial.stopped:
                job.cancel()
            return
        under.followed = None
        config = self._plan.config(planned)
        self._say(f"start  {config.run_name}" + (f"  (goes on from {former.name[:8]})" if former is not None else ""))
        under.job = self.place.submit(config, former)

    def _report(self, under: _Under, values: dict[int, float]) -> None:
        for step in sorted(values):
            hopeless = not under.trial.stopped and self._chooser.report(under.trial, step, values[step])
            if hopeless and under.job is not None and under.planned is not None:
                self._say(f"stop   {under.planned.config.run_name}  hopeless after step {step}")
                under.job.cancel()

    def _scored(self, under: _Under) -> None:
        """One run of the trial is done."""
        assert under.followed is not None and under.planned is not None
        score = under.followed.score()
        under.cost_usd += under.followed.cost_usd(self.search.usd_per_hour) or 0.0
        under.time_s += under.followed.time_s
        if score is None or score != score:
            under.followed = None
            self._end(under, "failed", "it has no validation accuracy")
            return
        under.scores.append(score)
        step = len(under.scores)
        under.followed, under.attempts, under.epochs = None, 0, 0
        if under.several and self._chooser.report(under.trial, step, score):
            self._say(f"stop   trial {under.trial.number}  hopeless after {plural(step, 'run')}")
        if not under.left:
            self._finish(under)

    def _finish(self, under: _Under) -> None:
        if under.scores:
            self._end(under, "complete")
        else:  # it could not begin, and was counted as failed
            self._under.remove(under)

    def _end(self, under: _Under, end: End, why: str = "", run: Followed | None = None) -> None:
        trial = under.trial
        if under in self._under:
            self._under.remove(under)
        if under.followed is not None and end != "complete":
            under.cost_usd += under.followed.cost_usd(self.search.usd_per_hour) or 0.0
            under.time_s += under.followed.time_s
        self.tally.spent_usd += under.cost_usd
        trial.note(time_s=round(under.time_s, 3), steps=len(trial.reported), cost_usd=under.cost_usd or None)
        name = _name(under)
        mean = sum(under.scores) / len(under.scores) if under.scores else None
        row = replace(self._rows.get(trial.number) or self._row(under), state=_STATES[end], left_s=None)
        self._rows[trial.number] = row if mean is None else replace(row, score=mean)
        directory = self._journals.find(under.planned.key) if under.planned else None
        if directory is not None and end != "complete":
            self.place.close(directory)
        if mean is not None and end == "complete":
            self.tally.trained += 1
            values = [mean if one == names.VALIDATION_ACCURACY else under.cost_usd for one in self.search.objectives]
            limit = self.search.max_cost_usd
            self._chooser.tell(trial, "complete", values, None if limit is None else under.cost_usd - limit)
            self._say(f"done   {name}  validation {mean:.4f} after {duration(under.time_s)}")
        elif end == "pruned":
            self.tally.pruned += 1
            self._chooser.tell(trial, "pruned")
            self._mark(under, directory)
        else:
            self.tally.failed[name] = why
            trial.note(why=why[:500])
            # The sampler learns that a choice diverges; of what failed for another reason it learns nothing.
            diverged = run is not None and run.tags.get(names.ERROR_TYPE) == TrainingDiverged.__name__
            self._chooser.tell(trial, "pruned" if diverged and len(self.search.objectives) == 1 else "failed")
            print(f"not done: {name}: {why}", file=sys.stderr)
            if isinstance(self.place, LocalPlace):
                notify.tell(f"study {self.study.name}: {name} failed", why, "failure")

    def _mark(self, under: _Under, directory: Path | None) -> None:
        """Say on the stopped run why it ended."""
        if directory is None:
            return
        step = max(under.trial.reported, default=0)
        why = f"by the search after step {step} of {self.search.steps(under.trial.values)}: others were better by then"
        from tracking.store.replay import replay

        try:
            run_id = replayed_as(directory, self.store.public_uri) or replay(directory, self.store).run_id
            with tracked.attach(run_id, root=self.store.journals, live=self.store) as run:
                run.set_tags({names.STOPPED_EARLY: why})
        except TrackingError as error:
            print(f"note: {error}", file=sys.stderr)

    def trials(self) -> list[dict[str, Any]]:
        """Every trial in plain values: what a report needs to know of them."""
        return self._chooser.summary()

    def _say(self, text: str) -> None:
        self._view.say(text)

    def _row(self, under: _Under) -> Row:
        """How a trial is that has not ended: its run of the moment."""
        name, now = _name(under), under.followed
        if now is None or under.planned is None:
            return Row(name=name, state="starting")
        return now.row(name, "running", under.planned.config.epochs, self.search.usd_per_hour)

    def _title(self) -> str:
        tally, took = self.tally, duration(time.monotonic() - self._began)
        ended = tally.trained + tally.pruned + len(tally.failed)
        best = max((row.score for row in self._rows.values() if row.score is not None), default=None)
        parts = [f"{self._former + ended} of {plural(self.search.trials, 'trial')} ended", took]
        parts += [f"best {best:.4f}"] if best is not None else []
        parts += [f"{money(tally.spent_usd)} so far"] if tally.spent_usd else []
        return " · ".join(parts)


class LocalPlace:
    """Processes on this machine, each with its share of the cores.

    Each inherits a lock of its run's key, so that a search which begins before the process has a journal finds it.
    """

    attempts = 3

    def __init__(self, launcher: LocalLauncher, slots: int, store: Store) -> None:
        self.slots, self._launcher, self._store = slots, launcher, store
        self.jobs: list[LocalJob] = []

    def submit(self, config: Config, former: Path | None) -> SearchJob:
        """Start the run, or resume it where its state is kept."""
        resume = former.name if former is not None and any((former / "state").glob("state-*.npz")) else ""
        if former is not None and not resume:
            self.close(former)
        with _locked(self._lock(config.tags[names.STUDY_RUN])) as lock:
            job = self._launcher.submit(config, resume, lock)
        self.jobs.append(job)
        return job

    def under_way(self, key: str, former: Path | None) -> SearchJob | None:
        """The process with this key that an earlier search has started, where it lives."""
        found = _Adopted(self._lock(key), former)
        return found if found.state() not in ENDED else None

    def close(self, directory: Path) -> None:
        """As KILLED."""
        close_dead(directory, self._store)

    def running(self) -> list[LocalJob]:
        """The processes that have not ended."""
        return [job for job in self.jobs if job.state() not in ENDED]

    def wait(self) -> None:
        """Until something has ended, half a second at most."""
        self.jobs = self.running()
        if self.jobs:
            self.jobs[0].wait(_POLL_S)
        else:
            time.sleep(_POLL_S)

    def _lock(self, key: str) -> Path:
        return self._launcher.folder / f"{key}.lock"


def close_dead(directory: Path, store: Store) -> None:
    """End the run of a process that is gone without a word, and that is not gone on with."""
    if tracked.ended(directory) is None and not is_held(directory):
        with tracked.resume(directory, live=store, system_metrics=False) as dead:
            dead.finish("KILLED", "its process was killed, and the study does not go on with it")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The descriptor of a lock, held by this process and those that inherit it. Raises BlockingIOError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


class _Adopted:
    """A run that a search which is gone has started and that still goes on."""

    def __init__(self, lock: Path, directory: Path | None) -> None:
        self._lock, self.directory = lock, directory

    def state(self) -> State:
        """``killed`` once its process is gone: its journal then says how it ended."""
        try:
            with _locked(self._lock):
                held = self.directory is not None and is_held(self.directory)
        except BlockingIOError:
            held = True
        return "running" if held else "killed"

    def cancel(self) -> None:
        """Ask the process that holds the journal to end."""
        pid = None if self.directory is None else writer(self.directory).get("pid")
        if isinstance(pid, int) and self.directory is not None and is_held(self.directory):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    def why(self) -> str:
        """Where its log is."""
        return "its process is gone" if self.directory is None else f"see {self.directory / 'files' / 'log.txt'}"


@contextlib.contextmanager
def alone(study: Study, store: Store) -> Iterator[None]:
    """Let no other process of this machine carry out the same search meanwhile. Raises TrainerError where one does."""
    folder = store.journals.parent / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder / f"study-{hashlib.sha256(study.name.encode()).hexdigest()[:16]}.lock"):
            yield
    except BlockingIOError:
        raise TrainerError(
            f"another process carries out study {study.name} here; wait for it, or end it and give the command again."
        ) from None


def _name(under: _Under) -> str:
    return str(under.planned.config.run_name) if under.planned else f"trial {under.trial.number}"


def trial_name(number: int, values: Mapping[str, Any]) -> str:
    """``trial 3: learning_rate 0.01, optimizer adam``."""
    return f"trial {number}: {', '.join(f'{key} {_word(value)}' for key, value in values.items())}"


def _word(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def refuse_costs(search: Search, max_cost_usd: float | None = None) -> None:
    """Raise BadConfig where a trial's price decides something and nothing here has one."""
    if (search.needs_cost or max_cost_usd is not None) and search.usd_per_hour is None:
        raise BadConfig(
            [
                "[search] needs the cost of a run, and runs on this machine have no price:"
                " give usd_per_hour, or --on sagemaker."
            ]
        )


def dashboard(store: Store) -> str:
    """The command that shows the trials."""
    return f"optuna-dashboard {public_url(store)}"
