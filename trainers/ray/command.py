"""``--on ray``: check, launch, watch, rank. Enters: a Config or a Study and where to run it. Leaves: an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import names
from tracking.errors.words import plural
from trainers.config import Config
from trainers.config.checks import flag
from trainers.config.study import Study
from trainers.errors import BadInput
from trainers.launch.claims import Claims
from trainers.launch.study import StudyPlan
from trainers.launch.watching import notify
from trainers.ray.job import KIND, RayLauncher, RayOptions
from trainers.ray.watch import watch_of
from trainers.sagemaker.command import launch
from trainers.sagemaker.job import ledger

if TYPE_CHECKING:
    from tracking.store import Store

_TAKEN = ("output", "detach", "yes")  # flags of SageMaker's jobs that mean the same here


def faults(arguments: argparse.Namespace) -> list[str]:
    """Faults of a run on Ray that was given flags of SageMaker's jobs, which it would ignore."""
    given = [key for key in launch.flags() if key not in _TAKEN and getattr(arguments, key, None)]
    return [f"{flag(key)} is for --on sagemaker or --on sagemaker-builtin." for key in given]


def run(
    work: Config | Study,
    options: RayOptions,
    *,
    dry_run: bool = False,
    detach: bool = False,
    again: bool = False,
    poll_s: float = 15.0,
    leaderboard: Path | None = None,
) -> int:
    """Launch a run or a study; the exit code. Raises BadInput, AwsError and KeyboardInterrupt."""
    from tracking import store as stores

    if isinstance(work, Study) and (work.search is not None or work.repeat is not None):
        what = "[search]" if work.search is not None else "[repeat]"
        raise BadInput(f"{what} chooses runs while it goes on, which works with --on local alone so far.")
    store = stores.resolve()
    store.check()
    launcher = RayLauncher(options, store, on_news=_news)
    plan = StudyPlan.of(work)
    if detach and any(plan.waits(planned) for planned in plan.left):
        raise BadInput(
            "--detach: runs of this study start from others of it and are launched after them; leave it out."
        )
    if not dry_run:
        launcher.client.version()
    if options.output is None and not dry_run:
        store.client()  # without it nothing would come back
    if dry_run:
        if isinstance(work, Study) and not again:
            launch.leave_out_started(work, plan, store, (KIND,))
        jobs = [launcher.plan(plan.config(planned), dry=True).request["Job"] for planned in plan.left]
        print(json.dumps(jobs[0] if len(jobs) == 1 else jobs, indent=2))
        return 0
    with Claims(plan.study.name, store) if plan.study is not None else nullcontext() as claims:
        going: list[ledger.Entry] = []
        if isinstance(work, Study) and claims is not None:
            mine = {planned.key for planned in work.runs if claims.take(planned.key) == "mine"}
            if not again:
                adopt(work, mine, launcher, store)
                going = [e for e in launch.leave_out_started(work, plan, store, (KIND,)) if launch.key_of(e) in mine]
            others = [planned for planned in plan.left if planned.key not in mine]
            plan.left = [planned for planned in plan.left if planned.key in mine]
            _news(f"{plural(len(work.runs), 'run')}, {len(plan.done)} already done, {len(going)} under way")
            if others:
                _news(f"{plural(len(others), 'run')} more: another launcher of this study sees to them")
        code = launch.in_rounds(
            plan, going, launcher, store, detach=detach, poll_s=poll_s, leaderboard=leaderboard, watch_of=watch_of
        )
        if plan.study is not None and not detach:
            done = f"{len(plan.done)} of {plural(len(plan.study.runs), 'run')} done"
            notify.tell(f"study {plan.study.name}: ended", done, "failure" if code else "success")
        return code


def adopt(study: Study, keys: Collection[str], launcher: RayLauncher, store: Store) -> None:
    """Make entries here of a study's jobs that another machine launched and that go on, or ended well, without it.

    ``keys``: the runs that are this launcher's.
    """
    known = {entry.journal_id for entry in ledger.entries(store.journals)}
    for job in sorted(launcher.client.jobs(), key=lambda job: str(job["submission_id"])):
        about = job.get("metadata") or {}
        if about.get(names.STUDY) != study.name or about.get(names.STUDY_RUN) not in keys:
            continue
        if job.get("status") not in ("PENDING", "RUNNING", "SUCCEEDED") or about.get(names.JOURNAL_ID) in known:
            continue
        entry = launcher.adopted(job, about)
        if entry is not None:
            _news(f"{entry.name} was launched from elsewhere; it is watched from here now")


def _news(text: str) -> None:
    print(text, file=sys.stderr)
