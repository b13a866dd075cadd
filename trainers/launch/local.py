"""Carry out a study: what is done is left alone, sources come first, several run at a time if asked."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors import TrackingError
from tracking.errors.words import duration, plural
from trainers.config import Config
from trainers.config.study import PlannedRun, Study
from trainers.errors import TrainerError
from trainers.launch.job import ENDED, LocalJob, LocalLauncher
from trainers.launch.parent import StudyRun
from trainers.launch.study import StudyPlan, ended, grown, show_leaderboard
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
    max_cost_usd: float | None = None,
    max_time_s: float | None = None,
) -> int:
    """Train what is left of the study and print its leaderboard; the exit code.

    A run that fails does not stop the others. ``max_cost_usd`` and ``max_time_s`` end a search. Raises Interrupted:
    Ctrl-C ends the runs under way and the study, and the same command goes on.
    """
    from tracking import store as stores

    store = stores.resolve()
    if study.search is not None:
        return _search(study, store, parallel, leaderboard, max_cost_usd, max_time_s)
    started, plan = time.monotonic(), StudyPlan.of(study)
    try:
        with Interruption() as asked:
            if not again:
                plan.done = already_done(study, store)
            study, plan = grown(study, plan, store)
            print(f"study {study.name}: {study.title}\n{trained_on(study)}")
            print(f"{plural(len(study.runs), 'run')}, {len(plan.done)} already done")
            if plan.left:
                with StudyRun(study, store) as whole:
                    while plan.left:
                        plan.parent = whole.journal_id
                        _carry_out(study, plan, store, asked, parallel=parallel, again=again, quiet=quiet)
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
    max_cost_usd: float | None,
    max_time_s: float | None,
) -> int:
    """Carry out a study that searches, each run in a process of its own; the exit code."""
    from trainers.launch import search as searching
    from trainers.networks import backend

    assert study.search is not None
    searching.refuse_costs(study.search, max_cost_usd)
    print(f"study {study.name}: {study.title}\ntrials: {searching.dashboard(store)}")
    launcher = LocalLauncher(store.journals.parent / "jobs", num_threads=max(1, backend.physical_cores() // parallel))
    place = searching.LocalPlace(launcher, parallel, store)
    tally = searching.Tally()
    try:
        with Interruption() as asked, searching.alone(study, store), StudyRun(study, store) as whole:
            loop = searching.Searching(
                study,
                place,
                store,
                max_cost_usd=max_cost_usd,
                max_time_s=max_time_s,
                parent=whole.journal_id,
                check=asked.check,
            )
            try:
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
    study: Study, plan: StudyPlan, store: Store, asked: Interruption, *, parallel: int, again: bool, quiet: bool
) -> None:
    broken_off = dict[str, str]()
    if not again:
        broken_off = {k: run_id for k, run_id in _ended(study, store, "KILLED").items() if _can_go_on(run_id, store)}
    if parallel > 1 or _needs_processes(plan.left):
        _in_processes(study, plan, store, asked, parallel)
    else:
        _in_this_process(plan, broken_off, store, asked, quiet)


def _in_this_process(
    plan: StudyPlan, broken_off: Mapping[str, str], store: Store, asked: Interruption, quiet: bool
) -> None:
    """One run after the other; sources come before what starts from them."""
    from trainers.training import experiment

    count = len(plan.left)
    while plan.left:
        planned = plan.left.pop(0)
        number = count - len(plan.left)
        print(f"\n[{number}/{count}] {planned.config.run_name}")
        former = broken_off.get(planned.key)
        try:
            if former is not None:
                print(f"resuming run {former[:8]}")
                outcome = experiment.resume(former, store=store, quiet=quiet)
            else:
                outcome = experiment.run(plan.config(planned), store=store, quiet=quiet)
        except TrainerError as error:
            plan.fail(planned, str(error))
            continue
        _give_back_memory(number == 1)
        if outcome.status == "FINISHED" or outcome.exit_code not in (130, 143):
            _note(plan, planned, outcome.exit_code, outcome.run_id or outcome.journal_id)
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


def _in_processes(study: Study, plan: StudyPlan, store: Store, asked: Interruption, parallel: int) -> None:
    """Up to ``parallel`` processes, each with its share of the cores."""
    from trainers.networks import backend

    threads = max(1, backend.physical_cores() // parallel)
    launcher = LocalLauncher(store.journals.parent / "jobs", num_threads=threads)
    running: dict[str, tuple[PlannedRun, LocalJob, float]] = {}
    try:
        while plan.left or running:
            for planned in plan.ready()[: parallel - len(running)]:
                plan.left.remove(planned)
                asked.hold(lambda: True)  # a process that has started is in ``running``
                job = launcher.submit(plan.config(planned))
                running[planned.key] = (planned, job, time.monotonic())
                asked.hold(lambda: False)
                print(f"start  {planned.config.run_name}  (process {job.id}, log {job.log})", flush=True)
                asked.check()
            for key, (planned, job, since) in list(running.items()):
                if job.state() in ENDED:
                    del running[key]
                    _after(planned, study, job, since, plan, store)
            if running:
                next(iter(running.values()))[1].wait(_POLL_S)
            asked.check()
    finally:
        _end([job for _, job, _ in running.values()])


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


def _after(planned: PlannedRun, study: Study, job: LocalJob, since: float, plan: StudyPlan, store: Store) -> None:
    took = duration(time.monotonic() - since)
    print(f"{job.state():6} {planned.config.run_name}  after {took}", flush=True)
    if job.state() == "finished":
        _note(plan, planned, 0, _ended(replace(study, runs=(planned,)), store, "FINISHED").get(planned.key, ""))
    else:
        plan.fail(planned, job.why())


def _note(plan: StudyPlan, planned: PlannedRun, code: int, run_id: str) -> None:
    if code == 0 and run_id:
        plan.done[planned.key] = run_id
    else:
        plan.fail(planned, "failed; its log in MLflow says why")


def _needs_processes(left: list[PlannedRun]) -> bool:
    """The number of threads holds for a whole process, so runs that differ in it can't share one."""
    return len({planned.config.num_threads for planned in left}) > 1


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
