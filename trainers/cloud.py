"""``--on sagemaker`` and ``--on sagemaker-builtin``: check, show the price, ask once, launch, watch, rank.

Enters: the parsed command line. Leaves: an exit code. Everything about AWS is in ``trainers.sagemaker``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from trainers import study as studies
from trainers.config import Config
from trainers.config_text import build
from trainers.errors import BadConfig, BadInput
from trainers.progress import duration

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.sagemaker.launcher import Plan, SageMakerLauncher
    from trainers.sagemaker.ledger import Entry
    from trainers.sagemaker.options import JobOptions
    from trainers.sagemaker.preflight import Report


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

    options = job_options.read(arguments, Path(arguments.config) if arguments.config else None)
    configs, study = _configs(arguments, flags, base, file)
    if arguments.rehearse:
        from trainers import rehearsal

        return rehearsal.run(configs[0])
    missing = options.missing()
    if missing:
        raise BadConfig(missing)
    store = stores.resolve()
    store.check()
    launcher = _launcher(options, arguments.on, store, study)
    plans = [launcher.plan(config, dry=True) for config in configs]
    report, errors = _preflight(plans, launcher, options)
    if arguments.dry_run:
        requests = [plan.request for plan in plans]
        print(json.dumps(requests[0] if len(requests) == 1 else requests, indent=2))
        return 2 if errors else 0
    if errors and not arguments.force:
        print("nothing was launched; mend what is found above, or go on with --force", file=sys.stderr)
        return 2
    if not arguments.yes and not _consent(plans, report, options):
        print("nothing was launched")
        return 0
    return _launch(configs, launcher, store, arguments, study)


def _configs(
    arguments: argparse.Namespace, flags: Mapping[str, Any], base: Mapping[str, Any], file: Mapping[str, Any]
) -> tuple[list[Config], studies.Study | None]:
    if not arguments.study:
        return [build(base, file, flags)], None
    study = studies.load(arguments.study, flags)
    needing = [planned.config.run_name for planned in study.runs if planned.needs is not None]
    if needing:
        raise BadInput(
            f"--study {study.name} on {arguments.on}: {', '.join(map(str, needing))} start from another run of the"
            " study; jobs start at the same time. Train the source first and name it with --init run:<id>."
        )
    tagged = [
        replace(planned.config, tags={names.STUDY: study.name, names.STUDY_RUN: planned.key, **planned.config.tags})
        for planned in study.runs
    ]
    return tagged, study


def _launcher(options: JobOptions, place: str, store: Store, study: studies.Study | None) -> SageMakerLauncher:
    from trainers.sagemaker.launcher import SageMakerLauncher
    from trainers.sagemaker.request import tracking_environment

    environment, why_not = tracking_environment(os.environ)
    if place == "sagemaker" and why_not:
        print(f"note: {why_not}", file=sys.stderr)
    return SageMakerLauncher(
        options,
        place,
        store.journals,
        experiment=store.default_experiment,
        environment=environment,
        on_news=lambda text: print(text, file=sys.stderr),
    )


def _preflight(plans: list[Plan], launcher: SageMakerLauncher, options: JobOptions) -> tuple[Report, bool]:
    """Findings on standard error, so that a dry run's JSON stands alone on standard output; one job speaks for all."""
    from trainers.sagemaker import findings, preflight
    from trainers.sagemaker.options import CHANNELS, is_s3

    given = {name: str(getattr(options, name)) for name in CHANNELS if getattr(options, name) is not None}
    # What is not in S3 yet can't be looked at there; its files are looked at here.
    pending = {"data", "code", *(name for name in CHANNELS if not is_s3(given.get(name, "")))}
    local = [Path(path).expanduser() for path in given.values() if not is_s3(path)]
    if is_s3(plans[0].config.dataset):
        pending.discard("data")
    elif not given:
        local = _data_here(plans[0].config)
    report = None
    seen: list[Any] = []
    for plan in plans:
        one = preflight.examine(
            plan.request,
            plan.config,
            options,
            launcher.aws,
            num_jobs=len(plans),
            pending=pending,
            local=local,
            counts=_counts(plan, options),
        )
        local = []  # the data is the same for all jobs: looked at once
        seen += [finding for finding in one.findings if finding not in seen]
        report = report or one
    assert report is not None
    print(findings.render(seen), file=sys.stderr)
    return report, findings.has_errors(seen)


def _data_here(config: Config) -> list[Path]:
    """The data set's path on this machine; none for one that comes by its name."""
    from trainers.data import catalog

    name, path = catalog.split_spec(config.dataset)
    return [path] if path is not None and name is None else []


def _counts(plan: Plan, options: JobOptions) -> dict[str, int]:
    """Split -> number of pictures, where the data set lies here; the estimate of time and price rests on it."""
    from trainers import experiment
    from trainers.sagemaker.options import is_s3

    if plan.datasets:
        return {str(known["context"]): int(known["num_images"]) for known in plan.datasets}
    if options.train is not None or is_s3(plan.config.dataset):
        return {}
    dataset, _ = experiment.load_data(plan.config)
    return {name: len(split) for name, split in dataset.splits.items()}


def _consent(plans: list[Plan], report: Report, options: JobOptions) -> bool:
    """Ask once, with the price. Raises BadInput where nobody can answer."""
    count = "1 job" if len(plans) == 1 else f"{len(plans)} jobs"
    lines = [f"{count} on {options.instance_count} × {options.instance_type}" + (", spot" if options.spot else "")]
    if report.price is not None:
        lines.append(f"price     {report.price}")
    if report.estimate is not None and report.usd is not None:
        lines.append(
            f"estimate  {duration(report.estimate.total_s)} billed, ${report.usd * len(plans):.2f} in all"
            f" (at most ${(report.usd_at_most or 0) * len(plans):.2f} if it is as far off as it may be)"
        )
    lines.append(f"limit     {duration(options.max_runtime_s)} a job")
    print("\n".join(lines), file=sys.stderr)
    if not sys.stdin.isatty():
        raise BadInput("nobody is here to agree to the cost; give --yes to launch without being asked.")
    return input("Launch? [y/N] ").strip().lower() in ("y", "yes")


def _launch(
    configs: list[Config],
    launcher: SageMakerLauncher,
    store: Store,
    arguments: argparse.Namespace,
    study: studies.Study | None,
) -> int:
    from trainers.sagemaker import console, sending
    from trainers.sagemaker.fleet import watch_many

    entries: list[Entry] = []
    journals = {}
    for config in configs:
        entry, journal = launcher.record(launcher.plan(config))
        entries.append(entry)
        journals[entry.journal_id] = journal
    if arguments.detach:
        for entry in entries:
            journals[entry.journal_id].close()
            sent = sending.send_when_possible(launcher.aws, entry, on_news=lambda text: print(text, file=sys.stderr))
            print(f"launched {sent.name}; watch it with: python -m trainers.jobs watch {sent.name}")
        return 0
    how: dict[str, Any] = {
        "aws": launcher.aws,
        "journals": journals,
        "store": store,
        "max_cost_usd": launcher.options.max_cost_usd,
        "poll_s": arguments.poll,
    }
    try:
        if len(entries) == 1:
            outcomes = watch_many(entries, listener=console.OneJob(), **how)
        else:
            with console.ManyJobs() as view:
                outcomes = watch_many(entries, listener=view, on_round=view.draw, **how)
    except KeyboardInterrupt:
        print(f"\nThe jobs go on. Watch again: python -m trainers.jobs watch {' '.join(e.name for e in entries)}")
        raise
    for entry, outcome in zip(entries, outcomes, strict=True):
        print(console.ending(entry, outcome))
    if study is not None:
        import reports

        text = reports.leaderboard_text(store, filter=f"tags.{names.STUDY} = '{study.name}'")
        print(f"\n{text}")
        if arguments.leaderboard:
            Path(arguments.leaderboard).write_text(text, encoding="utf-8")
    return 0 if all(outcome is not None and outcome.state == "finished" for outcome in outcomes) else 1
