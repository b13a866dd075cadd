"""Carry out a study: what is done is left alone, sources come first, several run at a time if asked."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors import TrackingError
from tracking.errors.words import duration, plural
from tracking.journal.files import is_held
from trainers.config import Config
from trainers.config.study import PlannedRun, Study
from trainers.errors import TrainerError
from trainers.launch.claims import Claims
from trainers.launch.job import ENDED, LocalJob, LocalLauncher
from trainers.launch.parent import StudyRun
from trainers.launch.progress.follow import Followed, Journals
from trainers.launch.progress.table import LiveTable, Row
from trainers.launch.study import StudyPlan, ended, grown, show_leaderboard
from trainers.launch.watching import notify
from trainers.training.interruption import Interrupted, Interruption

if TYPE_CHECKING:
    from tracking.store import Store

_POLL_S = 0.5
_ENDING_S = 120.0


def run(
    study: Study,
    *,
    parallel: int = 1,
    again: bool = False,
    leaderboard: Path | None = None,
    quiet: bool = False,
    stop_on: tuple[str, ...] = (),
    max_cost_usd: float | None = None,
    max_time_s: float | None = None,
) -> int:
    """Train what is left of the study and print its leaderboard; the exit code.

    A run that fails does not stop the others. ``stop_on``: the rules that end a training. ``max_cost_usd`` and
    ``max_time_s`` end a search. Raises Interrupted: Ctrl-C ends the runs under way and the study, and the same command
    goes on.
    """
    from tracking import store as stores

    store = stores.resolve()
    if study.search is not None:
        return _search(study, store, parallel, leaderboard, stop_on, max_cost_usd, max_time_s)
    started, plan = time.monotonic(), replace(StudyPlan.of(study), stop_on=stop_on)
    try:
        with Interruption() as asked, Claims(study.name, store) as claims:
            if not again:
                plan.done = already_done(study, store)
            study, plan = grown(study, plan, store)
            print(f"study {study.name}: {study.title}\n{trained_on(study)}")
            print(f"{plural(len(study.runs), 'run')}, {len(plan.done)} already done")
            if plan.left:
                with StudyRun(study, store) as whole:
                    while plan.left:
                        plan.parent = whole.journal_id
                        _carry_out(study, plan, store, asked, claims, parallel=parallel, again=again, quiet=quiet)
                        study, plan = grown(study, plan, store)
                    _close(study, plan, store, leaderboard, started)
                    whole.conclude()
            else:
                _close(study, plan, store, leaderboard, started)
    except Interrupted as error:
        done = f"{len(plan.done)} of {plural(len(study.runs), 'run')} {'is' if len(plan.done) == 1 else 'are'} done"
        raise Interrupted(error.signum, f"{done}; the same command resumes the study.") from None
    return 1 if plan.failed else 0


def _close(study: Study, plan: StudyPlan, store: Store, leaderboard: Path | None, started: float) -> None:
    for name, reason in plan.failed.items():
        print(f"not done: {name}: {reason}", file=sys.stderr)
    if plan.done:
        took = duration(time.monotonic() - started)
        print(f"\n{len(plan.done)} of {len(study.runs)} runs done in {took}\n")
        _report(study, plan.done, store, leaderboard)


def _search(
    study: Study,
    store: Store,
    parallel: int,
    leaderboard: Path | None,
    stop_on: tuple[str, ...],
    max_cost_usd: float | None,
    max_time_s: float | None,
) -> int:
    """Carry out a study that searches, each run in a process of its own; the exit code."""
    from trainers.launch import search as searching

    assert study.search is not None
    searching.refuse_costs(study.search, max_cost_usd)
    print(f"study {study.name}: {study.title}\ntrials: {searching.dashboard(store)}")
    launcher = _launcher(store, parallel, study.search.trials, stop_on)
    place = searching.LocalPlace(launcher, parallel, store)
    tally = searching.Tally()
    try:
        with Interruption() as asked, searching.alone(study, store), StudyRun(study, store) as whole:
            view = LiveTable()
            loop = searching.Searching(
                study,
                place,
                store,
                max_cost_usd=max_cost_usd,
                max_time_s=max_time_s,
                parent=whole.journal_id,
                check=asked.check,
                view=view,
            )
            try:
                with view:
                    tally = loop.run()
            finally:
                _end(place.running())
            if tally.why_ended:
                print(f"no further trial began: {tally.why_ended}")
            whole.conclude(loop.trials())
            if leaderboard is not None:
                show_leaderboard(study, store, leaderboard)
    except Interrupted as error:
        raise Interrupted(error.signum, "the same command goes on with its trials.") from None
    return 1 if tally.failed and not tally.trained else 0


def _carry_out(
    study: Study,
    plan: StudyPlan,
    store: Store,
    asked: Interruption,
    claims: Claims,
    *,
    parallel: int,
    again: bool,
    quiet: bool,
) -> None:
    broken_off = dict[str, str]()
    if not again:
        broken_off = {k: run_id for k, run_id in _ended(study, store, "KILLED").items() if _can_go_on(run_id, store)}
    if parallel > 1 or _needs_processes(plan.left):
        _in_processes(study, plan, broken_off, store, asked, claims, parallel)
    else:
        _in_this_process(study, plan, broken_off, store, asked, claims, quiet)


def _claimed(
    study: Study, plan: StudyPlan, broken_off: dict[str, str], store: Store, claims: Claims, most: int
) -> Iterator[PlannedRun]:
    """Up to ``most`` runs that are ready and this launcher's; what other launchers have ended is noted."""
    for planned in plan.ready():
        if most < 1 or planned not in plan.left:
            continue
        verdict = claims.take(planned.key)
        if verdict == "held":
            continue
        plan.left.remove(planned)
        if verdict == "mine":
            finished = _take_over(planned, study, broken_off, store) if planned.key in claims.taken_over else None
            if finished is None:
                most -= 1
                yield planned
            else:
                plan.done[planned.key] = finished
                _end_claim(planned, plan, claims)
            continue
        result, machine = claims.result(planned.key)
        if verdict == "done":
            plan.done[planned.key] = result
        else:
            plan.fail(planned, f"failed on {machine}")


def _take_over(planned: PlannedRun, study: Study, broken_off: dict[str, str], store: Store) -> str | None:
    """End what a launcher that died left of a run, and resume it where its state is here; its id if it is finished."""
    from tracking.commands.repair import close
    from tracking.store.replay import replay

    one = replace(study, runs=(planned,))
    directory = Journals(store.journals, study.name).find(planned.key)
    until = time.monotonic() + _ENDING_S
    while directory is not None and is_held(directory) and time.monotonic() < until:
        time.sleep(0.1)  # its process ends as its launcher is gone
    try:
        if directory is not None:
            close(directory, anywhere=True)
            replay(directory, store)
        for run_id in _ended(one, store, "RUNNING").values():  # on a machine that is gone
            store.client().set_terminated(run_id, "KILLED")
    except TrackingError as error:
        print(f"{planned.config.run_name}: what is left of its former run: {error}", file=sys.stderr)
    finished = _ended(one, store, "FINISHED").get(planned.key)
    if finished is not None:
        return finished
    broken_off |= {key: run_id for key, run_id in _ended(one, store, "KILLED").items() if _can_go_on(run_id, store)}
    return None


def _end_claim(planned: PlannedRun, plan: StudyPlan, claims: Claims) -> None:
    run_id = plan.done.get(planned.key)
    claims.end(planned.key, "failed" if run_id is None else "done", run_id or "")


def _in_this_process(
    study: Study,
    plan: StudyPlan,
    broken_off: dict[str, str],
    store: Store,
    asked: Interruption,
    claims: Claims,
    quiet: bool,
) -> None:
    """One run after the other; sources come before what starts from them."""
    from trainers.launch.watching.local import watcher
    from trainers.training import experiment

    count, watch = len(plan.left), watcher(plan.stop_on)
    while plan.left:
        planned = next(_claimed(study, plan, broken_off, store, claims, 1), None)
        if planned is None:  # the others are other launchers', or start from theirs
            time.sleep(_POLL_S)
            asked.check()
            continue
        number = count - len(plan.left)
        print(f"\n[{number}/{count}] {planned.config.run_name}")
        former = broken_off.get(planned.key)
        try:
            if former is not None:
                print(f"resuming run {former[:8]}")
                outcome = experiment.resume(former, store=store, quiet=quiet, watch=watch)
            else:
                outcome = experiment.run(plan.config(planned), store=store, quiet=quiet, watch=watch)
        except TrainerError as error:
            plan.fail(planned, str(error))
            _end_claim(planned, plan, claims)
            continue
        _give_back_memory(number == 1)
        if outcome.status == "FINISHED" or outcome.exit_code not in (130, 143):
            _note(plan, planned, outcome.exit_code, outcome.run_id or outcome.journal_id, outcome.reason)
            _end_claim(planned, plan, claims)
        if outcome.exit_code in (130, 143):
            raise Interrupted(outcome.exit_code - 128)
        asked.check()


def _give_back_memory(is_first: bool) -> None:
    """Let go of the former run's network: Gluon's blocks are cycles, and glibc keeps what was freed."""
    gc.collect()
    if is_first:
        gc.freeze()  # all that was imported: the next collection looks at a run's own objects alone
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library; it gives back by itself or not at all
        pass


def _launcher(store: Store, parallel: int, count: int, stop_on: tuple[str, ...]) -> LocalLauncher:
    """Starts processes that share the cores; says how."""
    from trainers.networks import backend

    cores, at_once = backend.physical_cores(), min(parallel, count)
    threads = max(1, cores // at_once)
    if at_once > 1:
        print(f"{at_once} at a time on {plural(cores, 'core')}, each with {plural(threads, 'thread')}")
    launcher = LocalLauncher(store.journals.parent / "jobs", num_threads=threads)
    launcher.stop_on = stop_on
    return launcher


def _in_processes(
    study: Study,
    plan: StudyPlan,
    broken_off: dict[str, str],
    store: Store,
    asked: Interruption,
    claims: Claims,
    parallel: int,
) -> None:
    """Up to ``parallel`` processes, each with its share of the cores."""
    launcher = _launcher(store, parallel, len(plan.left), plan.stop_on)
    launcher.ends_with_launcher = True
    begun = _Begun(study, plan, store)
    running = begun.running
    try:
        with LiveTable() as view:
            while plan.left or running:
                for planned in _claimed(study, plan, broken_off, store, claims, parallel - len(running)):
                    asked.hold(lambda: True)  # a process that has started is in ``running``
                    job = launcher.submit(plan.config(planned), resume=broken_off.get(planned.key, ""))
                    running[planned.key] = (planned, job, time.monotonic())
                    asked.hold(lambda: False)
                    view.say(f"start  {planned.config.run_name}  (process {job.id}, log {job.log})")
                    asked.check()
                for key, (planned, job, since) in list(running.items()):
                    begun.tell_findings(planned)
                    if job.state() in ENDED:
                        del running[key]
                        view.say(_after(planned, study, job, since, plan, store, begun.ended(planned, job)))
                        _end_claim(planned, plan, claims)
                if view.is_live:
                    view.draw(begun.rows(), begun.title())
                if running:
                    next(iter(running.values()))[1].wait(_POLL_S)
                elif plan.left:
                    time.sleep(_POLL_S)
                asked.check()
    finally:
        _end([job for _, job, _ in running.values()])


class _Begun:
    """What is known of the runs that one call has to do, from its processes and their journals."""

    def __init__(self, study: Study, plan: StudyPlan, store: Store) -> None:
        self.plan, self.todo = plan, list(plan.left)
        self.running: dict[str, tuple[PlannedRun, LocalJob, float]] = {}
        self._ended: dict[str, str] = {}
        self._journals = Journals(store.journals, study.name)
        self._followed: dict[str, Followed] = {}
        self._since = time.monotonic()

    def ended(self, planned: PlannedRun, job: LocalJob) -> Followed | None:
        """Note that a run has ended; its journal, where it has one."""
        self._ended[planned.key] = job.state()
        self.tell_findings(planned)
        return self._look(planned.key)

    def rows(self) -> list[Row]:
        """A row for each run."""
        return [self._row(planned) for planned in self.todo]

    def title(self) -> str:
        """How many have ended, the best so far, how long it goes on."""
        scores = [one.score() for key, one in self._followed.items() if self._ended.get(key) == "finished"]
        best = max((score for score in scores if score is not None), default=None)
        said = f"{len(self._ended)} of {plural(len(self.todo), 'run')} ended"
        said += "" if best is None else f" · best {best:.4f}"
        return f"{said} · {duration(time.monotonic() - self._since)}"

    def tell_findings(self, planned: PlannedRun) -> None:
        """Send what the rules found of a run."""
        if followed := self._look(planned.key):
            notify.tell_findings(str(planned.config.run_name), followed.findings())

    def _row(self, planned: PlannedRun) -> Row:
        name = str(planned.config.run_name)
        state = self._ended.get(planned.key)
        if state is None and planned.key not in self.running:
            return Row(name=name, state="failed" if name in self.plan.failed else "waiting")
        followed = self._look(planned.key) if state is None else self._followed.get(planned.key)
        if followed is None:
            return Row(name=name, state=state or "starting")
        return followed.row(name, state or "running", planned.config.epochs)

    def _look(self, key: str) -> Followed | None:
        if key not in self._followed:
            directory = self._journals.find(key)
            # An earlier run of the same settings has ended, and nothing writes to it.
            if directory is None or not (key in self._ended or is_held(directory)):
                return None
            self._followed[key] = Followed(directory)
        return self._followed[key].look()


def _end(jobs: list[LocalJob]) -> None:
    """Leave no process behind: each is asked to end, and is killed where that takes too long or is asked for again."""
    if not jobs:
        return
    count = plural(len(jobs), "run")
    print(f"ending {count}: the last whole epoch of each is kept (Ctrl-C again ends at once)", flush=True)
    try:
        for job in jobs:
            job.cancel()
        deadline = time.monotonic() + _ENDING_S
        for job in jobs:
            job.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for job in jobs:
            job.kill()


def _after(
    planned: PlannedRun,
    study: Study,
    job: LocalJob,
    since: float,
    plan: StudyPlan,
    store: Store,
    followed: Followed | None,
) -> str:
    """Note how a process ended; the line that says it."""
    if job.state() == "finished":
        run_id = _ended(replace(study, runs=(planned,)), store, "FINISHED").get(planned.key, "")
        if not run_id and followed is not None and followed.status == "FINISHED":
            run_id = _brought_in(followed.directory, store)
        _note(plan, planned, 0, run_id)
    else:
        plan.fail(planned, job.why())
    score = None if followed is None else followed.score()
    known = "" if score is None else f", validation {score:.4f}"
    return f"{job.state():6} {planned.config.run_name}  after {duration(time.monotonic() - since)}{known}"


def _brought_in(directory: Path, store: Store) -> str:
    """The id of a run whose process ended before MLflow had all of it, as on a busy machine: the rest is sent now."""
    from tracking.store.replay import replay

    try:
        return replay(directory, store).run_id
    except TrackingError as error:
        print(f"not all of it is in MLflow yet: {error}; bring it in with: python -m tracking sync", file=sys.stderr)
        return directory.name


def _note(plan: StudyPlan, planned: PlannedRun, code: int, run_id: str, reason: str = "") -> None:
    if code == 0 and run_id:
        plan.done[planned.key] = run_id
    else:
        plan.fail(planned, reason or "failed; its log in MLflow says why")


def _needs_processes(left: list[PlannedRun]) -> bool:
    """The number of threads holds for a whole process, so runs that differ in it can't share one; nor do workers."""
    return len({planned.config.num_threads for planned in left}) > 1 or any(one.config.workers for one in left)


def trained_on(study: Study) -> str:
    """Which data the runs learn from, and that it can be chosen."""
    datasets = list(dict.fromkeys(planned.config.dataset for planned in study.runs))
    change = "; --dataset DATA takes another" if datasets == [Config.dataset] else ""
    return f"trained on {', '.join(datasets)}{change}"


def already_done(study: Study, store: Store) -> dict[str, str]:
    """Key → id of the study's finished runs; none while the tracking server cannot be reached."""
    return _ended(study, store, "FINISHED")


def _ended(study: Study, store: Store, status: str) -> dict[str, str]:
    """The study's runs with this status; none while the tracking server cannot be reached."""
    try:
        return ended(study, store, status)
    except TrackingError as error:
        print(f"it is unknown which runs are done: {error}", file=sys.stderr)
        return {}


def _can_go_on(run_id: str, store: Store) -> bool:
    """Whether the state of an interrupted run is still on this machine."""
    from trainers.training import experiment

    try:
        return experiment.epochs_kept(store.journal_dir(run_id) / "state") > 0
    except TrackingError:
        return False


def _report(study: Study, done: Mapping[str, str], store: Store, path: Path | None) -> None:
    show_leaderboard(study, store, path)
    held_out = [run_id for planned in study.runs if planned.config.fold for run_id in [done.get(planned.key)] if run_id]
    if held_out:
        print(f"wrong labels among the pictures held out: python -m reports mistakes {' '.join(held_out)}")
    if path is not None:
        print(f"written to {path}")
