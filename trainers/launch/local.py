"""Carry out a study: what is done is left alone, sources come first, several run at a time if asked."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import names
from trainers.config.study import PlannedRun, Study
from trainers.errors import BadInput, TrainerError
from trainers.launch.job import ENDED, LocalJob, LocalLauncher
from trainers.launch.study import Progress, _ready, _source_failed, config_of
from trainers.terminal import duration
from trainers.training.interruption import Interrupted, Interruption

if TYPE_CHECKING:
    from tracking.store import Store

_POLL_S = 0.5


def run(study: Study, *, parallel: int = 1, again: bool = False, leaderboard: Path | None = None) -> int:
    """Train what is left of the study and print its leaderboard; the exit code.

    A run that fails does not stop the others. Ctrl-C ends the run under way and the study; the same command goes on.
    """
    from tracking import store as stores

    store = stores.resolve()
    started, progress = time.monotonic(), Progress()
    if not again:
        progress.done = _ended(study, store, "FINISHED")
        progress.broken_off = {
            key: run_id
            for key, run_id in _ended(study, store, "KILLED").items()
            if key not in progress.done and _can_go_on(run_id, store)
        }
    left = [planned for planned in study.runs if planned.key not in progress.done]
    print(f"study {study.name}: {study.title}\n{len(study.runs)} runs, {len(progress.done)} already done")
    code = 0
    try:
        isolated = parallel > 1 or _needs_processes(left)
        (_in_processes if isolated else _in_this_process)(study, left, progress, store, parallel)
    except Interrupted as error:
        code = error.exit_code
        print(f"{error}: {len(progress.done)} of {len(study.runs)} runs are done; the same command goes on from here.")
    if not code:
        code = 1 if progress.failed else 0
    for name, reason in progress.failed.items():
        print(f"not done: {name}: {reason}", file=sys.stderr)
    if progress.done:
        print(f"\n{len(progress.done)} of {len(study.runs)} runs done in {duration(time.monotonic() - started)}\n")
        _report(study, store, leaderboard)
    return code


def _in_this_process(study: Study, left: list[PlannedRun], progress: Progress, store: Store, parallel: int) -> None:
    from trainers.training import experiment

    with Interruption() as asked:
        for number, planned in enumerate(left, start=1):
            if _source_failed(planned, study, progress):
                continue
            print(f"\n[{number}/{len(left)}] {planned.config.run_name}")
            broken_off = progress.broken_off.get(planned.key)
            try:
                if broken_off is not None:
                    print(f"goes on with run {broken_off[:8]}")
                    outcome = experiment.resume(broken_off, store=store)
                else:
                    outcome = experiment.run(config_of(planned, study, progress.done), store=store)
            except (BadInput, TrainerError) as error:
                progress.failed[str(planned.config.run_name)] = str(error)
                continue
            _give_back_memory()
            if outcome.exit_code in (130, 143):
                raise Interrupted(outcome.exit_code - 128)
            _note(planned, outcome.exit_code, outcome.run_id or outcome.journal_id, progress)
            asked.check()


def _give_back_memory() -> None:
    """Let go of the former run's network: Gluon's blocks are cycles, and glibc keeps what was freed."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library; it gives back by itself or not at all
        pass


def _in_processes(study: Study, left: list[PlannedRun], progress: Progress, store: Store, parallel: int) -> None:
    """Up to ``parallel`` processes, each with its share of the cores."""
    from trainers.networks import backend

    threads = max(1, backend.physical_cores() // parallel)
    launcher = LocalLauncher(store.journals.parent / "jobs", num_threads=threads)
    waiting, running = list(left), dict[str, tuple[PlannedRun, LocalJob, float]]()
    with Interruption() as asked:
        try:
            while waiting or running:
                for planned in [p for p in waiting if len(running) < parallel and _ready(p, study, progress)]:
                    if len(running) >= parallel:
                        break
                    waiting.remove(planned)
                    job = launcher.submit(config_of(planned, study, progress.done))
                    running[planned.key] = (planned, job, time.monotonic())
                    print(f"start  {planned.config.run_name}  (process {job.id}, log {job.log})", flush=True)
                for planned in [p for p in waiting if _source_failed(p, study, progress)]:
                    waiting.remove(planned)
                for key, (planned, job, since) in list(running.items()):
                    if job.state() in ENDED:
                        del running[key]
                        _after(planned, study, job, since, progress, store)
                if running:
                    next(iter(running.values()))[1].wait(_POLL_S)
                asked.check()
        finally:
            for _, job, _ in running.values():
                job.cancel()
            for _, job, _ in running.values():
                job.wait(120)


def _after(planned: PlannedRun, study: Study, job: LocalJob, since: float, progress: Progress, store: Store) -> None:
    took = duration(time.monotonic() - since)
    found = _ended(replace(study, runs=(planned,)), store, "FINISHED").get(planned.key, "")
    print(f"{job.state():6} {planned.config.run_name}  after {took}", flush=True)
    if job.state() == "finished":
        _note(planned, 0, found, progress)
    else:
        lines = [line for line in job.logs() if line.strip()]
        progress.failed[str(planned.config.run_name)] = lines[-1] if lines else f"see {job.log}"


def _note(planned: PlannedRun, code: int, run_id: str, progress: Progress) -> None:
    if code == 0 and run_id:
        progress.done[planned.key] = run_id
    else:
        progress.failed[str(planned.config.run_name)] = "failed; its log in MLflow says why"


def _needs_processes(left: list[PlannedRun]) -> bool:
    """The number of threads holds for a whole process, so runs that differ in it can't share one."""
    return len({planned.config.num_threads for planned in left}) > 1


def _ended(study: Study, store: Store, status: str) -> dict[str, str]:
    """Key -> newest run id of the study's runs with this status; empty while the tracking server can't be reached."""
    from tracking.errors import TrackingError

    keys = {planned.key for planned in study.runs}
    try:
        found = list(store.runs(None, f"tags.{names.STUDY} = '{study.name}' and attributes.status = '{status}'"))
    except TrackingError as error:
        print(f"cannot tell which runs are done: {error}", file=sys.stderr)
        return {}
    ended: dict[str, str] = {}
    for one in sorted(found, key=lambda run: -(run.info.start_time or 0)):
        key = one.data.tags.get(names.STUDY_RUN, "")
        if key in keys:
            ended.setdefault(key, str(one.info.run_id))
    return ended


def _can_go_on(run_id: str, store: Store) -> bool:
    """Whether the state of an interrupted run is still on this machine."""
    from tracking.errors import TrackingError

    try:
        return any((store.journal_dir(run_id) / "state").glob("state-*"))
    except TrackingError:
        return False


def _report(study: Study, store: Store, path: Path | None) -> None:
    import reports

    only = f"tags.{names.STUDY} = '{study.name}'"
    print(reports.leaderboard_text(store, filter=only))
    if path is not None:
        path.write_text(reports.leaderboard_text(store, filter=only), encoding="utf-8")
        print(f"written to {path}")
