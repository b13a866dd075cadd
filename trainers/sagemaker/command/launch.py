"""``--on sagemaker`` and ``--on sagemaker-builtin``: check, show the price, ask once, launch, watch, rank.

Enters: the parsed command line. Leaves: an exit code. Everything about AWS is in ``trainers.sagemaker``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import TrackingError
from trainers.config import Config
from trainers.config import study as studies
from trainers.config.study import PlannedRun, Study
from trainers.config.text import build
from trainers.errors import BadConfig, BadInput, TrainerError

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.sagemaker.job.launcher import SageMakerLauncher
    from trainers.sagemaker.job.ledger import Entry
    from trainers.sagemaker.options import JobOptions
    from trainers.sagemaker.watch.outcome import Outcome

_LAUNCHING = ("rehearse", "yes", "force", "detach")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that only make sense for a job in the cloud."""
    from trainers.sagemaker import options

    options.add_flags(parser)
    job = parser.add_argument_group("launching a job")
    job.add_argument(
        "--rehearse", action="store_true", help="run the job here first, on a few batches of the real data"
    )
    job.add_argument("--yes", action="store_true", help="launch without asking")
    job.add_argument("--force", action="store_true", help="launch although the preflight found errors")
    job.add_argument(
        "--poll", metavar="S", type=float, default=15.0, help="look at the jobs every so often (default 15 s)"
    )
    job.add_argument("--detach", action="store_true", help="launch and leave; python -m trainers.jobs watch picks up")


def foreign(arguments: argparse.Namespace) -> list[str]:
    """Faults of a local run that was given a job's flags: they would be ignored, and somebody thinks they are not."""
    from trainers.sagemaker import options

    given = [key for key in (*options.flags(), *_LAUNCHING) if getattr(arguments, key, None)]
    return [f"--{key.replace('_', '-')} is for --on sagemaker or --on sagemaker-builtin." for key in given]


def main(
    arguments: argparse.Namespace, flags: Mapping[str, Any], base: Mapping[str, Any], file: Mapping[str, Any]
) -> int:
    """Carry out the command line for a place in the cloud; raises BadInput and KeyboardInterrupt."""
    from tracking import store as stores
    from trainers.sagemaker import options as job_options

    if arguments.resume:
        raise BadInput(
            "--resume goes on with a run of this machine. A job in the cloud goes on by itself; follow it with:"
            " python -m trainers.jobs watch JOB"
        )
    options = job_options.read(arguments, _settings_file(arguments))
    batch = plan_study(arguments, flags, base, file)
    if arguments.rehearse:
        from trainers.sagemaker import rehearsal

        return rehearsal.run(batch.config(batch.left[0]), options)
    missing = options.missing()
    if missing:
        raise BadConfig(missing)
    store = stores.resolve()
    store.check()
    if batch.study is not None and not arguments.again:
        without_finished(batch, store)
        done, going = len(batch.done), len(batch.under_way)
        print(f"{len(batch.study.runs)} runs, {done} already done, {going} under way", file=sys.stderr)
    launcher = None
    if batch.left:
        launcher = _launcher(options, arguments, store, len(batch.left))
        code = _checked(batch, launcher, arguments, options.max_cost_usd)
        if code is not None:
            return code
    elif arguments.dry_run:
        print("[]")  # nothing is left to launch
        return 0
    return _launch(batch, launcher, store, arguments)


def _settings_file(arguments: argparse.Namespace) -> Path | None:
    """The file that may have a ``[sagemaker]`` table: the config's or the study's."""
    if arguments.config:
        return Path(arguments.config)
    return None if not arguments.study else studies.studies().get(arguments.study) or Path(arguments.study)


def _launcher(options: JobOptions, arguments: argparse.Namespace, store: Store, count: int) -> SageMakerLauncher:
    """For ``count`` jobs. With ``--detach`` nobody adds up their costs, so each gets its share of ``--max-cost``."""
    from trainers.sagemaker.cost.pricing import dollars
    from trainers.sagemaker.job.launcher import SageMakerLauncher
    from trainers.sagemaker.job.request import tracking_environment

    environment, why_not = tracking_environment(os.environ, in_vpc=bool(options.subnet))
    if arguments.on == "sagemaker" and why_not:
        print(f"note: {why_not}", file=sys.stderr)
    max_cost_usd = options.max_cost_usd
    if arguments.detach and max_cost_usd is not None and count > 1:
        options = replace(options, max_cost_usd=max_cost_usd / count)
        share = f"each of the {count} jobs may cost {dollars(max_cost_usd / count)} at most"
        print(f"note: nobody watches with --detach, so {share}", file=sys.stderr)
    return SageMakerLauncher(
        options,
        arguments.on,
        store.journals,
        experiment=store.default_experiment,
        environment=environment,
        max_cost_usd=max_cost_usd,
        on_news=lambda text: print(text, file=sys.stderr),
    )


def _checked(
    batch: Batch, launcher: SageMakerLauncher, arguments: argparse.Namespace, max_cost_usd: float | None
) -> int | None:
    """The preflight and the question; the exit code where nothing is to be launched, None where it is."""
    from trainers.sagemaker.command import consent

    plans = [launcher.plan(batch.config(planned), dry=True, awaited=batch.waits(planned)) for planned in batch.left]
    seen = consent.preflight(plans, launcher, max_cost_usd)
    if arguments.dry_run:
        requests = [plan.request for plan in plans]
        print(json.dumps(requests[0] if len(requests) == 1 else requests, indent=2))
        return 2 if seen.has_errors else 0
    if seen.has_errors and not arguments.force:
        print("nothing was launched; mend what is found above, or go on with --force", file=sys.stderr)
        return 2
    if not arguments.yes and not consent.consent(plans, seen, launcher.options, max_cost_usd):
        print("nothing was launched")
        return 0
    return None


def _launch(batch: Batch, launcher: SageMakerLauncher | None, store: Store, arguments: argparse.Namespace) -> int:
    """Round by round: what is ready is launched and watched to its end, then what starts from it."""
    going, good = list(batch.under_way), True
    while going or batch.ready():
        journals, ready = {}, batch.ready()
        if launcher is not None:
            # All data are in S3 before the first job is written down: what fails until then leaves nothing.
            for plan in [launcher.plan(batch.config(planned)) for planned in ready]:
                entry, journal = launcher.record(plan)
                journals[entry.journal_id] = journal
                going.append(entry)
        batch.left = [planned for planned in batch.left if planned not in ready]
        _say_unsent(store, [entry.journal_id for entry in going])
        if arguments.detach:
            return _send(going, journals, launcher)
        outcomes = _watch(going, journals, launcher, store, arguments)
        good = good and all(outcome is not None and outcome.state == "finished" for outcome in outcomes)
        batch.note(going, outcomes)
        going = []
    for planned in batch.left:
        print(f"{planned.config.run_name}: not launched, its source {planned.needs!r} was not trained")
    if batch.study is not None:
        import reports

        text = reports.leaderboard_text(store, filter=f"tags.{names.STUDY} = '{batch.study.name}'")
        print(f"\n{text}")
        if arguments.leaderboard:
            Path(arguments.leaderboard).write_text(text, encoding="utf-8")
    return 0 if good and not batch.left else 1


def _send(entries: list[Entry], journals: Mapping[str, Any], launcher: SageMakerLauncher | None) -> int:
    """Send what was not sent. What AWS refuses is over; what it could not take now is kept for the next command."""
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.job.launcher import launch
    from trainers.sagemaker.watch.one_job import JobWatch

    code = 0
    for number, entry in enumerate(entries):
        if entry.submitted_ms is not None:
            print(f"{entry.name} is under way")
            continue
        here = launcher is not None and launcher.aws.region == entry.region
        aws = launcher.aws if launcher is not None and here else Aws(region=entry.region, profile=entry.profile)
        watch = JobWatch(entry, aws, journal=journals.get(entry.journal_id))
        try:
            sent = launch(watch, lambda text: print(text, file=sys.stderr))
            print(f"launched {sent.name}; watch it with: python -m trainers.jobs watch {sent.name}")
        except (TrackingError, TrainerError, KeyboardInterrupt) as error:
            code = 2 if isinstance(error, BadInput) else 1
            if isinstance(error, TrackingError) or watch.outcome is not None:
                print(f"trainers.run: {entry.name} is not launched: {error}", file=sys.stderr)
                continue
            print(_kept(entries[number:]), file=sys.stderr)
            for journal in journals.values():
                journal.close()
            raise
    return code


def _kept(entries: Sequence[Entry]) -> str:
    """What becomes of jobs that are written down and not launched."""
    named = " ".join(entry.name for entry in entries if entry.submitted_ms is None)
    return (
        f"Not launched, but written down: {named}. To launch that, give the same command again, or:"
        f" python -m trainers.jobs watch {named}\nTo drop it: python -m trainers.jobs stop {named}"
    )


def _say_unsent(store: Store, meant: Collection[str]) -> None:
    """Name the jobs of earlier launches that are still to be launched: whoever watches all of them launches these."""
    from tracking.journal.files import is_held
    from trainers.sagemaker.job import ledger

    left = [e for e in ledger.unsent(store.journals) if e.journal_id not in meant and not is_held(e.directory)]
    if left:
        print(f"note: left by an earlier launch. {_kept(left)}", file=sys.stderr)


def _watch(
    entries: list[Entry],
    journals: Mapping[str, Any],
    launcher: SageMakerLauncher | None,
    store: Store,
    arguments: argparse.Namespace,
) -> list[Outcome | None]:
    """To the end of all; what became of each is said as well as returned."""
    from trainers.sagemaker.job import ledger
    from trainers.sagemaker.watch import console
    from trainers.sagemaker.watch.many_jobs import watch_many

    how: dict[str, Any] = {"journals": dict(journals), "store": store, "poll_s": arguments.poll}
    if launcher is not None and {entry.region for entry in entries} == {launcher.aws.region}:
        how["aws"] = launcher.aws
    try:
        if len(entries) == 1:
            outcomes = watch_many(entries, listener=console.OneJob(), **how)
        else:
            with console.ManyJobs() as view:
                outcomes = watch_many(entries, listener=view, on_round=view.draw, **how)
    except KeyboardInterrupt:
        now = [ledger.load(entry.directory) or entry for entry in entries]
        print(f"\nThe jobs go on. Watch again: python -m trainers.jobs watch {' '.join(e.name for e in now)}")
        if any(entry.submitted_ms is None and not entry.ended for entry in now):
            print(_kept([entry for entry in now if not entry.ended]))
        raise
    for entry, outcome in zip(entries, outcomes, strict=True):
        print(console.ending(entry, outcome))
    return outcomes


@dataclass
class Batch:
    """``left`` are the runs to launch, ``under_way`` jobs of the study launched before, ``done`` key → run id."""

    study: Study | None
    left: list[PlannedRun]
    under_way: list[Entry] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)

    def config(self, planned: PlannedRun) -> Config:
        """The run's settings with the study's tags, and its source's id in place of its name where that is known."""
        if self.study is None:
            return planned.config
        tags = {names.STUDY: self.study.name, names.STUDY_RUN: planned.key, **planned.config.tags}
        source = self.source(planned)
        init = planned.config.init if source is None else f"run:{self.done.get(source.key, planned.needs)}"
        return replace(planned.config, init=init, tags=tags)

    def source(self, planned: PlannedRun) -> PlannedRun | None:
        """The run of the study that ``planned`` starts from."""
        runs = () if self.study is None else self.study.runs
        return next((other for other in runs if other.name == planned.needs), None)

    def waits(self, planned: PlannedRun) -> bool:
        """Whether the network to start from is yet to be trained."""
        source = self.source(planned)
        return source is not None and source.key not in self.done

    def ready(self) -> list[PlannedRun]:
        """The runs that can be launched now."""
        return [planned for planned in self.left if not self.waits(planned)]

    def note(self, entries: Sequence[Entry], outcomes: Sequence[Outcome | None]) -> None:
        """Remember what is done now, and that nothing is under way any more."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            if outcome is not None and outcome.state == "finished":
                self.done[key_of(entry)] = entry.journal_id
        self.under_way = []


def plan_study(
    arguments: argparse.Namespace, flags: Mapping[str, Any], base: Mapping[str, Any], file: Mapping[str, Any]
) -> Batch:
    """All that the command line names, whatever was done before. Raises BadInput."""
    if not arguments.study:
        return Batch(None, [PlannedRun("", build(base, file, flags))])
    study = studies.load(arguments.study, flags)
    batch = Batch(study, list(study.runs))
    later = [str(planned.config.run_name) for planned in study.runs if batch.source(planned) is not None]
    if later and arguments.on == "sagemaker-builtin":
        raise BadInput(
            f"--study {study.name} on {arguments.on}: {', '.join(later)} start from another run of the study, and the"
            " built-in takes no weights of this project. Take --on sagemaker."
        )
    if later and arguments.detach:
        raise BadInput(
            f"--study {study.name} --detach: {', '.join(later)} start from another run of the study, and nobody would"
            " be here to launch them once it is trained. Leave --detach out."
        )
    return batch


def without_finished(batch: Batch, store: Store) -> None:
    """Take out what is done (MLflow says) and what is under way (the ledger says), as a study here does."""
    from trainers.sagemaker.job import ledger

    if batch.study is None:
        return
    by_key = {planned.key: planned for planned in batch.study.runs}
    entries = [(entry, _tags(entry)) for entry in ledger.entries(store.journals)]
    ours = [
        (entry, tags.get(names.STUDY_RUN, "")) for entry, tags in entries if tags.get(names.STUDY) == batch.study.name
    ]
    batch.done = {key: entry.journal_id for entry, key in ours if entry.ended == "finished" and key in by_key}
    only = f"tags.{names.STUDY} = '{batch.study.name}' and attributes.status = 'FINISHED'"
    for run in store.runs(None, only):
        key = run.data.tags.get(names.STUDY_RUN, "")
        if key in by_key:
            batch.done.setdefault(key, str(run.info.run_id))
    batch.under_way = [entry for entry, key in ours if not entry.ended and key in by_key and key not in batch.done]
    going = {key for entry, key in ours if not entry.ended}
    batch.left = [planned for planned in batch.left if planned.key not in batch.done and planned.key not in going]


def key_of(entry: Entry) -> str:
    """Which run of its study a job is."""
    return _tags(entry).get(names.STUDY_RUN, "")


def _tags(entry: Entry) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in entry.request.get("Tags", [])}
