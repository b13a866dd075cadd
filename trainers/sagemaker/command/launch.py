"""``--on sagemaker`` and ``--on sagemaker-builtin``: check, show the price, ask once, launch, watch, rank.

Enters: a Config or a Study, and how to launch it. Leaves: an exit code; from ``submit`` a job.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tracking import names
from tracking.errors import TrackingError
from tracking.errors.words import money, plural
from trainers.config import Config
from trainers.config import study as studies
from trainers.config.checks import flag
from trainers.config.search import Search
from trainers.config.study import PlannedRun, Study
from trainers.errors import BadConfig, BadInput, TrainerError
from trainers.launch.parent import StudyRun
from trainers.launch.study import StudyPlan, ended, grown, show_leaderboard
from trainers.sagemaker.cost import pricing

if TYPE_CHECKING:
    from tracking.journal import Journal
    from tracking.store import Store
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.job.launcher import Plan, SageMakerJob, SageMakerLauncher
    from trainers.sagemaker.job.ledger import Entry
    from trainers.sagemaker.options import JobOptions
    from trainers.sagemaker.watch.one_job import JobWatch

_SAMPLES = 5
_KINDS = ("sagemaker", "sagemaker-builtin")
_LAUNCHING = ("rehearse", "yes", "force", "detach", "compare_instances")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How jobs are launched: the place (``sagemaker`` or ``sagemaker-builtin``), the machine, and the answers ahead."""

    kind: str
    job: JobOptions
    dry_run: bool = False
    rehearse: bool = False
    yes: bool = False
    force: bool = False
    detach: bool = False
    again: bool = False
    compare_instances: bool = False
    parallel: int = 1
    max_time_s: float | None = None
    poll_s: float = 15.0
    leaderboard: Path | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that only make sense for a job in the cloud."""
    from trainers.sagemaker import options

    options.add_flags(parser)
    job = parser.add_argument_group("launching a job")
    job.add_argument(
        "--rehearse", action="store_true", help="run the job here first, on a few batches of the real data"
    )
    job.add_argument(
        "--compare-instances", action="store_true", help="print time and price of the run on each machine, and end"
    )
    job.add_argument("--yes", action="store_true", help="launch without asking")
    job.add_argument("--force", action="store_true", help="launch although the preflight found errors")
    job.add_argument(
        "--poll", metavar="S", type=float, default=15.0, help="look at the jobs every so often (default 15 s)"
    )
    job.add_argument("--detach", action="store_true", help="launch and leave; python -m trainers.jobs watch picks up")


def flags() -> tuple[str, ...]:
    """The flags of a job in the cloud, as attributes of the parsed arguments."""
    from trainers.sagemaker import options

    return (*options.flags(), *_LAUNCHING)


def foreign(arguments: argparse.Namespace) -> list[str]:
    """Faults of a local run that was given a job's flags, which it would ignore."""
    given = [key for key in flags() if getattr(arguments, key, None)]
    if arguments.study and "max_cost" in given:
        given.remove("max_cost")  # of a search
    return [f"{flag(key)} is for --on sagemaker or --on sagemaker-builtin." for key in given]


def options_of(arguments: argparse.Namespace) -> LaunchOptions:
    """The parsed command line's options, over the ``[sagemaker]`` table of its file. Raises BadConfig."""
    from trainers.sagemaker import options

    file = Path(arguments.config) if arguments.config else None
    if arguments.study:
        file = studies.studies().get(arguments.study) or Path(arguments.study)
    return LaunchOptions(
        kind=arguments.on,
        job=replace(options.read(arguments, file), stop_on=arguments.stop_on),
        dry_run=arguments.dry_run,
        rehearse=arguments.rehearse,
        yes=arguments.yes,
        force=arguments.force,
        detach=arguments.detach,
        again=arguments.again,
        compare_instances=arguments.compare_instances,
        parallel=arguments.parallel,
        max_time_s=arguments.max_time_s,
        poll_s=arguments.poll,
        leaderboard=Path(arguments.leaderboard) if arguments.leaderboard else None,
    )


def submit(config: Config, options: JobOptions, kind: str = "sagemaker", *, force: bool = False) -> SageMakerJob:
    """Launch one job and return it; ``job.wait()`` blocks until it has ended.

    ``kind`` is ``sagemaker`` (our image) or ``sagemaker-builtin``. The call does not ask before it spends money:
    ``options.max_cost_usd`` is the limit. The preflight's findings go to standard error; ``force`` launches although
    they hold errors. Raises BadInput for wrong settings and such errors, AwsError where AWS refuses.
    ``python -m trainers.jobs watch`` logs the job to MLflow.
    """
    from trainers.sagemaker.command import consent, setup

    options = setup.completed(options)
    launcher = _launcher(options, kind, _store(options))
    seen = consent.preflight([launcher.plan(config, dry=True)], launcher, options.max_cost_usd)
    if seen.has_errors and not force:
        raise BadInput(
            "the preflight found errors (on standard error): fix them, or launch all the same with force=True."
        )
    return send(launcher, launcher.plan(config))


def send(launcher: SageMakerLauncher, plan: Plan) -> SageMakerJob:
    """Record a planned job and send it, waiting for quota if need be. Raises AwsError, NoCredentials."""
    from trainers.sagemaker.job.launcher import SageMakerJob

    entry, journal = launcher.record(plan)
    return SageMakerJob(launcher.aws, _launch(entry, journal, launcher))


def run(work: Config | Study, options: LaunchOptions) -> int:
    """Launch a run or a study; the exit code. Raises BadInput and KeyboardInterrupt."""
    if options.compare_instances:
        from trainers.sagemaker.command import consent

        if isinstance(work, Study):
            raise BadInput("--compare-instances is about one run; leave --study out.")
        print(consent.compared(work, options.job.region or pricing.TABLE_REGION, is_builtin="builtin" in options.kind))
        return 0
    if not options.rehearse:
        from trainers.sagemaker.command import setup

        options = replace(options, job=setup.completed(options.job))
    if isinstance(work, Study) and work.search is not None:
        return _search(work, work.search, options)
    plan = StudyPlan.of(work)
    _check_sources(plan, options)
    if options.rehearse:
        from trainers.sagemaker import rehearsal

        return rehearsal.run(plan.config(plan.left[0]), options.job)
    store = _store(options.job)
    under_way: list[Entry] = []
    if isinstance(work, Study) and not options.again:
        under_way = leave_out_started(work, plan, store)
        print(
            f"{plural(len(work.runs), 'run')}, {len(plan.done)} already done, {len(under_way)} under way",
            file=sys.stderr,
        )
        if work.repeat is not None and not under_way:
            work, plan = grown(work, plan, store)
    launcher = None
    may_grow = isinstance(work, Study) and work.repeat is not None and bool(under_way) and not options.dry_run
    if plan.left or may_grow:
        launcher = _launcher(options.job, options.kind, store, count=len(plan.left) if options.detach else 1)
    if plan.left and launcher is not None:
        code = _checked(plan, launcher, options)
        if code is not None:
            return code
    elif options.dry_run:
        print("[]")  # nothing is left to launch
        return 0
    if plan.study is None or options.detach or not (plan.left or under_way):
        return _rounds(plan, under_way, launcher, store, options)
    with StudyRun(plan.study, store) as whole:
        plan.parent = whole.journal_id
        code = _rounds(plan, under_way, launcher, store, options)
        whole.conclude()
    return code


def _rounds(
    plan: StudyPlan, going: list[Entry], launcher: SageMakerLauncher | None, store: Store, options: LaunchOptions
) -> int:
    board = options.leaderboard
    return in_rounds(plan, going, launcher, store, detach=options.detach, poll_s=options.poll_s, leaderboard=board)


def _search(study: Study, search: Search, options: LaunchOptions) -> int:
    """A study whose runs are chosen while it goes on: a sample of what it may choose is checked and priced."""
    from trainers.launch import plan as planning
    from trainers.launch.sampler import num_begun

    if options.detach:
        raise BadInput(f"--study {study.name} --detach: each trial is chosen by this command. Leave --detach out.")
    draw, sample, faults = random.Random(search.seed), list[PlannedRun](), list[str]()
    for _ in range(_SAMPLES):
        try:
            for config in search.configs(planning.drawn(search, draw)):
                name = f"sample {len(sample) + 1}"
                sample.append(PlannedRun(name, replace(config, run_name=name)))
        except BadConfig as error:
            faults += error.faults
    if not sample:
        raise BadConfig(list(dict.fromkeys(faults)))
    if options.rehearse:
        from trainers.sagemaker import rehearsal

        return rehearsal.run(sample[0].config, options.job)
    store = _store(options.job)
    left = max(0, search.trials - num_begun(study.name, search, store))
    launcher = _launcher(options.job, options.kind, store)
    if search.needs_cost and launcher.plan(sample[0].config, dry=True).price is None:
        raise BadInput(f"[search] needs the cost of a job, and no price is known of {options.job.instance_type}.")
    each = len(search.configs({}))
    if left:
        plan = StudyPlan(study, sample[: max(each, left * each)])
        code = _checked(plan, launcher, options, count=left * each)
        if code is not None:
            return code
    elif options.dry_run:
        print("[]")
        return 0
    from trainers.sagemaker.command import search as searching

    code = searching.run(
        study, launcher, store, slots=options.parallel, poll_s=options.poll_s, max_time_s=options.max_time_s
    )
    print()
    show_leaderboard(study, store, options.leaderboard)
    return code


def leave_out_started(study: Study, plan: StudyPlan, store: Store, kinds: Collection[str] = _KINDS) -> list[Entry]:
    """Take out of the plan what is done (in MLflow or the ledger) and what is under way; those jobs of ``kinds``."""
    from trainers.sagemaker.job import ledger

    keys = {planned.key for planned in study.runs}
    ours = [(entry, key_of(entry)) for entry in ledger.entries(store.journals) if study_of(entry) == study.name]
    ours = [(entry, key) for entry, key in ours if key in keys]
    finished = {key: entry.journal_id for entry, key in ours if entry.ended == "finished"}
    plan.done = {**ended(study, store, "FINISHED"), **finished}
    going = [(entry, key) for entry, key in ours if not entry.ended]
    plan.leave_out({key for _, key in going})
    return [entry for entry, key in going if key not in plan.done and entry.kind in kinds]


def key_of(entry: Entry) -> str:
    """Which run of its study a job is."""
    return entry.tags.get(names.STUDY_RUN, "")


def study_of(entry: Entry) -> str:
    """The name of a job's study; "" for none."""
    return entry.tags.get(names.STUDY, "")


def _check_sources(plan: StudyPlan, options: LaunchOptions) -> None:
    """Refuse a study whose runs start from one another where that cannot be done. Raises BadInput."""
    later = ", ".join(str(planned.config.run_name) for planned in plan.left if plan.source(planned) is not None)
    if not later or plan.study is None:
        return
    if options.kind == "sagemaker-builtin":
        raise BadInput(
            f"--study {plan.study.name} on {options.kind}: {later} start from another run of the study, and the"
            " built-in takes no weights of this project. Take --on sagemaker."
        )
    if options.detach:
        raise BadInput(
            f"--study {plan.study.name} --detach: {later} start from another run of the study and are launched only"
            " after it, by this command. Leave --detach out."
        )


def _store(options: JobOptions) -> Store:
    """The tracking store, reached; raises BadConfig where the options lack what every job needs."""
    from tracking import store as stores
    from tracking.store import connection

    missing = options.missing()
    if missing:
        raise BadConfig(missing)
    store = stores.resolve()
    store.check()
    if remark := connection.server_remark(store.tracking_uri):
        _news(f"note: {remark}")
    return store


def _launcher(options: JobOptions, kind: str, store: Store, count: int = 1) -> SageMakerLauncher:
    """``count``: detached jobs, whose costs no watcher adds up; each gets its share of ``max_cost_usd``."""
    from trainers.sagemaker.job.launcher import SageMakerLauncher
    from trainers.sagemaker.job.request import tracking_environment

    environment, why_not = tracking_environment(os.environ, in_vpc=bool(options.subnet))
    if kind == "sagemaker" and why_not:
        _news(f"note: {why_not}")
    max_cost_usd = options.max_cost_usd
    if max_cost_usd is not None and count > 1:
        options = replace(options, max_cost_usd=max_cost_usd / count)
        share = f"each of the {count} jobs may cost {money(max_cost_usd / count)} at most"
        _news(f"note: detached jobs are not watched, so {share}")
    return SageMakerLauncher(
        options,
        kind,
        store.journals,
        experiment=store.default_experiment,
        environment=environment,
        max_cost_usd=max_cost_usd,
        on_news=_news,
    )


def _news(text: str) -> None:
    print(text, file=sys.stderr)


def _checked(plan: StudyPlan, launcher: SageMakerLauncher, options: LaunchOptions, count: int = 0) -> int | None:
    """The preflight and the question; the exit code where nothing is to be launched, None where it is.

    ``count``: so many jobs like those of the plan are asked for; a search ends by itself once its money is spent.
    """
    from trainers.sagemaker.command import consent

    max_cost_usd = options.job.max_cost_usd
    jobs = [launcher.plan(plan.config(planned), dry=True, awaited=plan.waits(planned)) for planned in plan.left]
    seen = consent.preflight(jobs, launcher, None if count else max_cost_usd)
    if options.dry_run:
        requests = [job.request for job in jobs]
        print(json.dumps(requests[0] if len(requests) == 1 else requests, indent=2))
        return 2 if seen.has_errors else 0
    if seen.has_errors and not options.force:
        print("nothing was launched; fix the errors above, or launch all the same with --force", file=sys.stderr)
        return 2
    if plan.study is not None and plan.study.repeat is not None:
        _news(f"[repeat] may launch more like these, up to {plan.study.repeat.most_seeds} seeds of each configuration")
    if count:
        _news(f"a sample of {plural(len(jobs), 'job')} was looked at; all {count} are priced by it")
        jobs, seen = list(islice(cycle(jobs), count)), seen.of(count)
    if not options.yes and not consent.consent(jobs, seen, launcher.options, max_cost_usd):
        print("nothing was launched")
        return 0
    return None


class Launcher(Protocol):
    """What ``in_rounds`` needs of a launcher."""

    aws: Aws
    on_news: Callable[[str], None]

    def plan(self, config: Config) -> Any:
        """Make a job ready."""

    def record(self, plan: Any) -> tuple[Entry, Journal]:
        """Record a job that is ready, before it is sent."""


def in_rounds(
    plan: StudyPlan,
    going: list[Entry],
    launcher: Launcher | None,
    store: Store,
    *,
    detach: bool,
    poll_s: float,
    leaderboard: Path | None,
    watch_of: Callable[..., JobWatch] | None = None,
) -> int:
    """Round by round: what is ready is launched and watched to its end, then what starts from it; the exit code."""
    from trainers.sagemaker.watch import console

    good, study = True, plan.study
    while going or plan.ready():
        journals: dict[str, Journal] = {}
        ready = plan.ready()
        if launcher is not None:
            # All data are in S3 before the first job is recorded: a failure until then leaves no trace.
            for job in [launcher.plan(plan.config(planned)) for planned in ready]:
                entry, journal = launcher.record(job)
                journals[entry.journal_id] = journal
                going.append(entry)
        plan.left = [planned for planned in plan.left if planned not in ready]
        _name_unsent(store, [entry.journal_id for entry in going])
        if detach:
            return _send_all(going, journals, launcher, watch_of)
        aws = launcher.aws if launcher is not None and all(_is_here(entry, launcher) for entry in going) else None
        outcomes = console.follow(going, store=store, poll_s=poll_s, aws=aws, journals=journals, watch_of=watch_of)
        good = good and console.all_finished(outcomes)
        for entry, outcome in zip(going, outcomes, strict=True):
            if outcome is not None and outcome.state == "finished":
                plan.done[key_of(entry)] = entry.journal_id
            elif study is not None and study.repeat is not None:
                plan.failed[str(entry.run_name)] = "" if outcome is None else outcome.reason
        going = []
        if study is not None and study.repeat is not None and not plan.left:
            study, plan = grown(study, plan, store)
    for planned in plan.left:
        print(f"{planned.config.run_name}: not launched, its source {planned.needs!r} was not trained")
    if plan.study is not None:
        print()
        show_leaderboard(plan.study, store, leaderboard)
    return 0 if good and not plan.left else 1


def _is_here(entry: Entry, launcher: Launcher) -> bool:
    """Whether the launcher's own connection is the job's."""
    return not entry.region or launcher.aws.region == entry.region


def _launch(
    entry: Entry,
    journal: Journal | None,
    launcher: Launcher | None,
    watch_of: Callable[..., JobWatch] | None = None,
) -> Entry:
    """Send one recorded job; the entry as AWS took it. One that AWS refuses for good has ended afterwards."""
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.watch.one_job import JobWatch

    here = launcher is not None and _is_here(entry, launcher)
    aws = launcher.aws if launcher is not None and here else Aws(region=entry.region, profile=entry.profile)
    watch = (watch_of or JobWatch)(entry, aws, journal=journal)
    return watch.launch(_news if launcher is None else launcher.on_news)


def _send_all(
    entries: list[Entry],
    journals: Mapping[str, Journal],
    launcher: Launcher | None,
    watch_of: Callable[..., JobWatch] | None,
) -> int:
    """Send what was not sent. What AWS refuses is over; what it could not take now is kept for the next command."""
    from trainers.sagemaker.job import ledger
    from trainers.sagemaker.watch import console

    code = 0
    for number, entry in enumerate(entries):
        if entry.submitted_ms is not None:
            print(f"{entry.name} is under way")
            continue
        try:
            sent = _launch(entry, journals.get(entry.journal_id), launcher, watch_of)
            print(f"launched {sent.name}; watch it with: python -m trainers.jobs watch {sent.name}")
        except (TrackingError, TrainerError, KeyboardInterrupt) as error:
            code = 2 if isinstance(error, BadInput) else 1
            now = ledger.load(entry.directory)
            if isinstance(error, TrackingError) or (now is not None and now.ended):
                print(f"trainers.run: {entry.name} is not launched: {error}", file=sys.stderr)
                continue
            print(console.not_launched(entries[number:]), file=sys.stderr)
            for journal in journals.values():
                journal.close()
            raise
    return code


def _name_unsent(store: Store, meant: Collection[str]) -> None:
    """Name the recorded jobs of earlier launches that are not launched yet."""
    from tracking.journal.files import is_held
    from trainers.sagemaker.job import ledger
    from trainers.sagemaker.watch import console

    left = [e for e in ledger.unsent(store.journals) if e.journal_id not in meant and not is_held(e.directory)]
    if left:
        print(f"note: left by an earlier launch. {console.not_launched(left)}", file=sys.stderr)
