# PYTHON_ARGCOMPLETE_OK
"""Train: ``python -m trainers.run``. The command line becomes a config or a study, a place to run it, an exit code.

Exit codes: 0 done, 1 the run failed, 2 bad input, 130 and 143 interrupted (Ctrl-C, SIGTERM).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracking import __version__
from tracking.errors.program import program_parser, run_program
from tracking.words import nearest, plural
from trainers.config import Config
from trainers.config import study as studies
from trainers.config.checks import local_faults
from trainers.config.study import Study
from trainers.config.text import add_flags, build, cast, from_toml, given_flags, to_toml
from trainers.errors import BadConfig, BadInput
from trainers.sagemaker.command import launch

PLACES = ("local", "sagemaker", "sagemaker-builtin")
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
    return run_program("trainers.run", lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(argv: list[str]) -> int:
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.list:
        print(_listing(), end="")
        return 0
    faults = [_unknown(word, parser) for word in unknown if word.startswith("-")] or [
        f"{word!r} is not a flag; settings are given as --name VALUE." for word in unknown[:1]
    ]
    flags = _collect(faults, lambda: cast(given_flags(arguments)))
    base = _collect(faults, lambda: studies.preset(arguments.preset) if arguments.preset else {})
    file = _collect(faults, lambda: from_toml(Path(arguments.config)) if arguments.config else {})
    if arguments.parallel < 1:
        faults.append(f"--parallel {arguments.parallel} is out of range: 1 or more.")
    if arguments.leaderboard and Path(arguments.leaderboard).suffix.lower() not in _BOARDS:
        faults.append(f"--leaderboard {arguments.leaderboard}: the file's ending must be one of {', '.join(_BOARDS)}.")
    if arguments.leaderboard and not arguments.study:
        faults.append("--leaderboard is for --study; for all runs: python -m reports leaderboard --out FILE.")
    if arguments.study and (arguments.preset or arguments.config):
        faults.append("--study has its own presets and settings; give it without --preset and --config.")
    if arguments.resume and (arguments.study or arguments.preset or arguments.config or flags):
        faults.append("--resume uses the run's own settings; give it alone.")
    if arguments.on == "local":
        faults += launch.foreign(arguments)
    elif arguments.resume:
        faults.append(
            "--resume resumes a run of this machine. A job in the cloud resumes by itself; follow it with:"
            " python -m trainers.jobs watch JOB"
        )
    if faults:
        raise BadConfig(faults)
    if arguments.resume:
        return _resume(arguments)
    work = studies.load(arguments.study, flags) if arguments.study else build(base, file, flags)
    if arguments.on != "local":
        return launch.run(work, launch.options_of(arguments))
    if isinstance(work, Config):
        return _one(work, arguments)
    return _study(work, arguments)


def _one(config: Config, arguments: argparse.Namespace) -> int:
    _check_locally(config)
    if arguments.dry_run:
        print(_plan(config), end="")
        return 0
    from trainers.training import experiment

    return experiment.run(config, quiet=arguments.quiet).exit_code


def _resume(arguments: argparse.Namespace) -> int:
    from trainers.training import experiment

    return experiment.resume(arguments.resume, quiet=arguments.quiet).exit_code


def _study(study: Study, arguments: argparse.Namespace) -> int:
    for planned in study.runs:
        _check_locally(planned.config)
    if arguments.dry_run:
        print(f"{study.title}\n{plural(len(study.runs), 'run')}:")
        for planned in study.runs:
            after = f"  (after {planned.needs})" if planned.needs else ""
            print(f"  {planned.config.run_name}{after}")
        return 0
    from trainers.launch import local

    return local.run(
        study,
        parallel=arguments.parallel,
        again=arguments.again,
        leaderboard=Path(arguments.leaderboard) if arguments.leaderboard else None,
        quiet=arguments.quiet,
    )


def _check_locally(config: Config) -> None:
    """Everything that can be known before anything is loaded. Raises BadInput."""
    from trainers.data import catalog

    faults = local_faults(vars(config))
    try:
        name, _ = catalog.split_spec(config.dataset)
    except BadInput as error:
        raise BadConfig([*faults, str(error)]) from error
    if faults:
        raise BadConfig(faults)
    if name is not None:
        source = catalog.SOURCES[name]
        _with_native_shape(config, source)  # a depth that can't take the pictures is refused here
        classes = 4 if config.pretext else source.num_classes
        if config.num_classes not in (None, classes):
            raise BadConfig(
                [f"--num-classes {config.num_classes}: {config.dataset} has {classes}. Leave the flag out."]
            )


def _with_native_shape(config: Config, source: Any) -> Config:
    return config.with_shape(channels=source.channels, height=source.height, width=source.width)


def _plan(config: Config) -> str:
    """The settings a run would have, as far as they are known without reading the data; a file for --config."""
    from trainers.data import catalog

    name, _ = catalog.split_spec(config.dataset)
    lines = ["# What would run; this text is a file for --config. The data decides what is not here.\n"]
    if name is not None:
        config = _with_native_shape(config, catalog.SOURCES[name])
    lines += [f"# note: {note}\n" for note in config.notes()]
    return "".join(lines) + to_toml(config)


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
        "networks (--num-layers)",
        [
            ("small pictures, 8 to 64 px", depths(names.SMALL_IMAGE_DEPTHS)),
            ("large pictures, from 32 px", depths(names.LARGE_IMAGE_DEPTHS)),
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
    what.add_argument("--resume", metavar="RUN", help="resume an interrupted run (its id or name), to the same weights")
    what.add_argument("--list", action="store_true", help="data sets, networks, presets and studies")
    what.add_argument("--dry-run", action="store_true", help="check everything and print what would run")
    how = parser.add_argument_group("how to run it")
    how.add_argument("--on", choices=PLACES, default="local", help="where (default local)")
    how.add_argument("--parallel", metavar="N", type=int, default=1, help="runs of a study at the same time")
    how.add_argument("--again", action="store_true", help="run a study's runs although they were done before")
    how.add_argument(
        "--leaderboard",
        metavar="FILE",
        help="write the study's leaderboard there as well: FILE.md, .html, .csv or .json",
    )
    how.add_argument(
        "-q", "--quiet", action="store_true", help="print the result and errors only; the run's log has the rest"
    )
    add_flags(parser)
    launch.add_flags(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
