# PYTHON_ARGCOMPLETE_OK
"""Train: ``python -m trainers.run``. The command line becomes a config or a study, a place to run it, an exit code.

Exit codes: 0 done, 1 the run failed, 2 bad input, 130 and 143 interrupted (Ctrl-C, SIGTERM).
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracking import __version__
from tracking.errors.program import program_parser, run_program
from tracking.errors.words import nearest
from trainers.config import Config, search
from trainers.config import study as studies
from trainers.config.checks import flag, local_faults
from trainers.config.study import Study
from trainers.config.text import add_flags, build, cast, given_flags, read_toml
from trainers.errors import BadConfig, BadInput
from trainers.launch.watching import notify, rules
from trainers.networks.group import leave
from trainers.ray import command as ray
from trainers.ray import job as ray_job
from trainers.sagemaker.command import launch
from trainers.training.interruption import end_with_launcher, interruptible

if TYPE_CHECKING:
    from trainers.training import experiment

Options = TypeVar("Options")
PLACES = ("local", "sagemaker", "sagemaker-builtin", "ray")
_BOARDS = (".md", ".html", ".csv", ".json")
_EXAMPLES = """
examples:
  python -m trainers.run --num-layers 44 --epochs 3 --dataset digits
  python -m trainers.run --preset imagenet-34-50 --dataset photos/ --epochs 10
  python -m trainers.run --study depths --dataset cifar10 --parallel 2
  python -m trainers.run --config old-run.toml --seed 1
  python -m trainers.run --resume 3f2a91c4

Settings come from the defaults, then --preset, then --config, then the flags. Every run is logged to MLflow: see
`python -m tracking ui` and `python -m reports leaderboard`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises for what the user did."""
    return leave(run_program("trainers.run", lambda: _main(list(sys.argv[1:] if argv is None else argv))))


def _main(argv: list[str]) -> int:
    end_with_launcher()
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.list:
        print(_listing(), end="")
        return 0
    with notify.using(arguments.notify):
        return _run(arguments, unknown, parser)


def _run(arguments: argparse.Namespace, unknown: list[str], parser: argparse.ArgumentParser) -> int:
    faults = [_unknown(word, parser) for word in unknown if word.startswith("-")] or [
        f"{word!r} is not a flag; settings are given as --name VALUE." for word in unknown[:1]
    ]
    flags = _each(faults, given_flags(arguments))
    base = _collect(faults, lambda: studies.preset(arguments.preset) if arguments.preset else {})
    file = _collect(faults, lambda: read_toml(Path(arguments.config)) if arguments.config else {})
    file.pop("sagemaker", None)
    file = _each(faults, file, f"{arguments.config}: ")
    if arguments.parallel < 1:
        faults.append(f"--parallel {arguments.parallel} is out of range: 1 or more.")
    if arguments.leaderboard and Path(arguments.leaderboard).suffix.lower() not in _BOARDS:
        faults.append(f"--leaderboard {arguments.leaderboard}: the file's ending must be one of {', '.join(_BOARDS)}.")
    if arguments.leaderboard and not arguments.study:
        faults.append("--leaderboard is for --study; for all runs: python -m reports leaderboard --out FILE.")
    if arguments.plan and not arguments.study and arguments.folds is None:
        faults.append("--plan is for --study; for a single run: --dry-run.")
    if arguments.status and not arguments.study and arguments.folds is None:
        faults.append("--status is for --study; for jobs: python -m trainers.jobs list; for runs: tracking ui.")
    if arguments.status and (arguments.plan or arguments.dry_run):
        faults.append(f"--status and {'--plan' if arguments.plan else '--dry-run'}: give one of the two.")
    if arguments.folds is not None and (arguments.study or arguments.resume):
        faults.append("--folds makes a study of its own; give it without --study and --resume.")
    if arguments.study and (arguments.preset or arguments.config):
        faults.append("--study has its own presets and settings; give it without --preset and --config.")
    if arguments.resume and (arguments.study or arguments.preset or arguments.config or flags):
        faults.append("--resume uses the run's own settings; give it alone.")
    _limits(arguments, faults)
    arguments.stop_on = rules.parse(arguments.stop_on, faults)
    if arguments.find_lr and (arguments.study or arguments.resume or arguments.folds or arguments.on != "local"):
        faults.append("--find-lr tries one run's settings on this machine; give it without --study, --folds and --on.")
    if arguments.status and not faults:
        return _status(arguments, [base, file, flags])
    if arguments.on == "local":
        faults += launch.foreign(arguments)
    elif arguments.resume:
        faults.append(
            "--resume resumes a run of this machine. A job in the cloud resumes by itself; follow it with:"
            " python -m trainers.jobs watch JOB"
        )
    if arguments.on != "local" and arguments.plan:
        faults.append("--plan is for --on local; for jobs, --dry-run shows time and price.")
    if arguments.on == "ray":
        return _on_ray(arguments, faults + ray.faults(arguments), [base, file, flags])
    faults += ray_job.foreign(arguments)
    if arguments.on != "local":
        return _elsewhere(arguments, faults, [base, file, flags])
    with interruptible("Nothing was begun; the same command starts again."):
        if arguments.resume:
            return _resume(arguments, faults)
        if arguments.study or arguments.folds is not None:
            return _study(arguments, faults, [base, file, flags])
        return _one(arguments, faults, [base, file, flags])


def _status(arguments: argparse.Namespace, layers: list[dict[str, Any]]) -> int:
    from tracking import store
    from trainers.launch.progress.status import Status
    from trainers.sagemaker.watch import console

    work = _several(arguments, layers)
    assert work is not None
    Status(work, store.resolve(), console.recorded).print()
    return 0


def _limits(arguments: argparse.Namespace, faults: list[str]) -> None:
    """What ends a search: no further trial begins then."""
    arguments.max_time_s = None
    if arguments.max_time is not None:
        arguments.max_time_s = search.seconds(arguments.max_time, "--max-time", faults)
    if arguments.max_cost is not None and arguments.on == "local" and arguments.study:
        try:
            arguments.max_cost_usd = float(arguments.max_cost)
        except ValueError:
            faults.append(f"--max-cost {arguments.max_cost} is not a number.")


def _elsewhere(arguments: argparse.Namespace, faults: list[str], layers: list[dict[str, Any]]) -> int:
    def options_of(arguments: argparse.Namespace) -> launch.LaunchOptions:
        options = launch.options_of(arguments)
        faults.extend(options.job.missing() if faults else [])
        return options

    work, options = _both(arguments, faults, layers, options_of)
    return launch.run(work, options)


def _on_ray(arguments: argparse.Namespace, faults: list[str], layers: list[dict[str, Any]]) -> int:
    work, options = _both(arguments, faults, layers, ray_job.read)
    return ray.run(
        work,
        options,
        dry_run=arguments.dry_run,
        detach=arguments.detach,
        again=arguments.again,
        poll_s=arguments.poll,
        leaderboard=Path(arguments.leaderboard) if arguments.leaderboard else None,
    )


def _both(
    arguments: argparse.Namespace,
    faults: list[str],
    layers: list[dict[str, Any]],
    options_of: Callable[[argparse.Namespace], Options],
) -> tuple[Config | Study, Options]:
    """What is to be trained and how its place is used. Raises BadConfig with the faults of both and ``faults``."""
    work: Config | Study | None = None
    options: Options | None = None
    try:
        work = _several(arguments, layers) or build(*layers)
    except BadConfig as error:
        faults += error.faults
    try:
        options = options_of(arguments)
    except BadConfig as error:
        faults += error.faults
    if faults or work is None or options is None:
        raise BadConfig(list(dict.fromkeys(faults)))
    return work, options


def _one(arguments: argparse.Namespace, faults: list[str], layers: list[dict[str, Any]]) -> int:
    config = _sound(faults, layers)
    faults += _local_faults(config)
    if arguments.dry_run:
        from tracking import store
        from trainers.launch import dry_run

        print(dry_run.one(config, store.resolve(), faults), end="")
        return 0
    if faults:
        raise BadConfig(faults)
    if arguments.find_lr:
        from tracking import store
        from trainers.training import find_lr

        find_lr.suggest(config, store.resolve())
        return 0
    from trainers.training import experiment

    return _told(experiment.run(config, quiet=arguments.quiet, watch=_watch(arguments)))


def _resume(arguments: argparse.Namespace, faults: list[str]) -> int:
    if faults:
        raise BadConfig(faults)
    if arguments.dry_run:
        from tracking import store
        from trainers.launch import dry_run

        print(dry_run.resumed(arguments.resume, store.resolve()), end="")
        return 0
    from trainers.training import experiment

    return _told(experiment.resume(arguments.resume, quiet=arguments.quiet, watch=_watch(arguments)))


def _watch(arguments: argparse.Namespace) -> experiment.Watcher:
    from trainers.launch.watching import local

    return local.watcher(arguments.stop_on)


def _told(outcome: experiment.Outcome) -> int:
    """Tell people how a run ended, unless they ended it; its exit code."""
    if outcome.exit_code not in (130, 143):
        state = "failed" if outcome.exit_code else "finished"
        kind: notify.Kind = "failure" if outcome.exit_code else "success"
        notify.tell(f"run {(outcome.run_id or outcome.journal_id)[:8]}: {state}", outcome.reason or outcome.said, kind)
    return outcome.exit_code


def _several(arguments: argparse.Namespace, layers: list[dict[str, Any]]) -> Study | None:
    """The study that was asked for; None for a single run."""
    if arguments.study:
        return studies.load(arguments.study, layers[-1])
    return None if arguments.folds is None else studies.folds(build(*layers), arguments.folds)


def _study(arguments: argparse.Namespace, faults: list[str], layers: list[dict[str, Any]]) -> int:
    work = None
    try:
        work = _several(arguments, layers)
        assert work is not None
        for config in [planned.config for planned in work.runs] if work.search is None else work.search.configs({})[:1]:
            faults += _local_faults(config)
    except BadConfig as error:
        faults += [*error.faults, *_local_faults(_sound([], layers))]
    limits = [key for key in ("max_time", "max_cost") if getattr(arguments, key) is not None]
    if work is not None and work.search is None:
        faults += [f"{flag(key)} ends a search, and this study has no [search]." for key in limits]
    if faults or work is None:
        raise BadConfig(list(dict.fromkeys(faults)))
    if arguments.plan or (arguments.dry_run and work.search is not None):
        from tracking import store
        from trainers.launch import plan

        print(plan.of_study(work, store.resolve(), parallel=arguments.parallel, again=arguments.again), end="")
        return 0
    if arguments.dry_run:
        from tracking import store
        from trainers.launch import dry_run

        print(dry_run.study(work, store.resolve(), parallel=arguments.parallel, again=arguments.again), end="")
        return 0
    from trainers.launch import local

    return local.run(
        work,
        parallel=arguments.parallel,
        again=arguments.again,
        leaderboard=Path(arguments.leaderboard) if arguments.leaderboard else None,
        quiet=arguments.quiet,
        stop_on=arguments.stop_on,
        max_cost_usd=getattr(arguments, "max_cost_usd", None),
        max_time_s=arguments.max_time_s,
    )


def _sound(faults: list[str], layers: list[dict[str, Any]]) -> Config:
    """The config of what is in order; the faults of the rest join the others. So data are looked at all the same."""
    try:
        return build(*layers)
    except BadConfig as error:
        faults += error.faults
        words = " ".join(error.faults).replace(":", " ").split()
    try:
        return build(*({key: value for key, value in layer.items() if flag(key) not in words} for layer in layers))
    except BadConfig:
        return Config(dataset=next((layer["dataset"] for layer in layers[::-1] if "dataset" in layer), "digits"))


def _local_faults(config: Config) -> list[str]:
    """Everything that can be known before anything is loaded."""
    from trainers.data import catalog, groups

    faults = local_faults(vars(config))
    try:
        name, _ = catalog.split_spec(config.dataset)
        if config.group is not None:
            groups.Group.parse(config.group)
    except BadInput as error:
        return [*faults, str(error)]
    if name is not None:
        source = catalog.SOURCES[name]
        try:
            # A depth that can't take the pictures is refused here.
            config.with_shape(channels=source.channels, height=source.height, width=source.width)
        except BadConfig as error:
            faults += error.faults
        classes = 4 if config.pretext else source.num_classes
        if config.num_classes not in (None, classes):
            faults.append(f"--num-classes {config.num_classes}: {config.dataset} has {classes}. Leave the flag out.")
    return faults


def _listing() -> str:
    from tracking import names
    from trainers.data import catalog

    def block(title: str, rows: list[tuple[str, str]]) -> list[str]:
        width = max(len(left) for left, _ in rows)
        return [title, *(f"  {left:{width}}  {right}" for left, right in rows), ""]

    def depths(values: tuple[int, ...]) -> str:
        return ", ".join(map(str, values)) + " layers"

    lines = block(
        "data sets (--dataset NAME or a path)",
        [(source.name, f"{source.description}; {source.origin}") for source in catalog.SOURCES.values()]
        + [("PATH", catalog.FORMS)],
    )
    lines += block(
        "networks (--num-layers, --network)",
        [
            ("small pictures, 8 to 64 px", depths(names.SMALL_IMAGE_DEPTHS)),
            ("large pictures, from 32 px", depths(names.LARGE_IMAGE_DEPTHS)),
            ("--network, from 32 px", ", ".join(names.ZOO)),
        ],
    )
    lines += block(
        "presets (--preset)",
        [(name, ", ".join(f"{k} {v}" for k, v in values.items())) for name, values in studies.presets().items()],
    )
    lines += block(
        "studies (--study)",
        [(name, str(studies.read_title(path))) for name, path in studies.studies().items()],
    )
    return "\n".join(lines)


def _each(faults: list[str], values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """The values that can be read, one by one, so that one fault does not hide another."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _collect(faults, functools.partial(cast, {key: value}, where))
    return out


def _collect(faults: list[str], make: Any) -> dict[str, Any]:
    """Call ``make``; its faults join the others, so that one message says them all."""
    try:
        return dict(make())
    except BadConfig as error:
        faults += error.faults
        return {}


def _unknown(word: str, parser: argparse.ArgumentParser) -> str:
    name = word.partition("=")[0]
    return f"{name} is not a flag.{nearest(name, sorted(parser._option_string_actions))} See --help."


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        "trainers.run",
        __version__,
        usage="%(prog)s [--dataset DATA] [--num-layers N] [--epochs N] [any other setting] [--on PLACE]",
        description="Train an image classifier, log everything to MLflow, test it once.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--preset", metavar="NAME", help="start from a known configuration (see --list)")
    what.add_argument("--config", metavar="FILE.toml", help="settings from a file, such as a former run's config.toml")
    what.add_argument(
        "--study", metavar="NAME|FILE.toml", help="many runs; finished ones are skipped, interrupted ones resume"
    )
    what.add_argument("--folds", metavar="K", type=int, help="K runs; each holds a part of the training pictures out")
    what.add_argument("--resume", metavar="RUN", help="resume an interrupted run (its id or name), to the same weights")
    what.add_argument("--list", action="store_true", help="data sets, networks, presets and studies")
    what.add_argument(
        "--find-lr", action="store_true", help="suggest a learning rate in under a minute; record nothing"
    )
    what.add_argument("--dry-run", action="store_true", help="check everything and print what would run")
    what.add_argument("--plan", action="store_true", help="a study: what would run, how long, what it costs")
    what.add_argument(
        "--status", action="store_true", help="a study: how its runs are now, from another terminal as well"
    )
    how = parser.add_argument_group("how to run it")
    how.add_argument("--on", choices=PLACES, default="local", help="where (default local)")
    how.add_argument("--parallel", metavar="N", type=int, default=1, help="runs of a study at the same time")
    how.add_argument("--max-time", metavar="TIME", help="a search begins no trial after it: seconds, or 90m, 4h, 1d")
    how.add_argument("--again", action="store_true", help="run a study's runs although they were done before")
    how.add_argument(
        "--leaderboard",
        metavar="FILE",
        help="write the study's leaderboard there as well: FILE.md, .html, .csv or .json",
    )
    how.add_argument(
        "--stop-on", metavar="RULE,…", help=f"end a training that one finds at fault: {', '.join(rules.RULES)}"
    )
    how.add_argument(
        "--notify",
        metavar="URL",
        action="append",
        help=f"send messages there by Apprise; repeatable, or in the variable {notify.VARIABLE}",
    )
    how.add_argument(
        "-q", "--quiet", action="store_true", help="print the result and errors only; the run's log has the rest"
    )
    add_flags(parser)
    launch.add_flags(parser)
    ray_job.add_flags(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
