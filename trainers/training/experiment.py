"""One run from its config to its test score: the composer that every launcher ends in.

What the user gave is checked before a run is recorded; from then on whatever happens ends in a run that says so.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking import run as tracked
from trainers.config import Config
from trainers.config.checks import local_faults
from trainers.config.text import build, from_toml
from trainers.errors import BadConfig, BadData, BadInput, TrainerError
from trainers.training.interruption import Interrupted, Interruption
from trainers.training.terminal import Tee

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.data import Dataset, Overlap
    from trainers.training.sources import Source

LOCAL = {names.LAUNCHER: "local"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended. ``run_id`` is MLflow's, None while the tracking server has not been reached.

    ``scores`` by their names in MLflow; ``reason`` says why a run did not finish.
    """

    journal_id: str
    run_id: str | None
    status: str
    exit_code: int
    scores: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True)
class Prepared:
    """What was found good before the run is recorded."""

    config: Config
    dataset: Dataset
    overlaps: list[Overlap]
    source: Source | None
    alike: Mapping[str, str] | None


def run(
    config: Config,
    *,
    store: Store | None = None,
    live: bool = True,
    tags: Mapping[str, str] = LOCAL,
    state_dir: Path | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train, evaluate and log one run.

    ``live`` False writes the journal only (a cloud job needs no tracking server). ``state_dir`` is where the resumable
    state is kept (default: beside the journal); a state found there is picked up. ``quiet`` prints the result and
    errors alone; the run's log has the rest. Raises BadInput before a run is recorded; afterwards failures are recorded
    and printed, and the Outcome has the exit code.
    """
    store = store or _default_store()
    store.check()
    with Interruption() as asked:
        prepared = prepare(config, store)
        asked.check()
        config = prepared.config
        if not quiet:
            print(f"run     {config.run_name}  (experiment {config.experiment}, {store.public_uri})")
        opened = tracked.start(
            root=store.journals,
            experiment=config.experiment,
            run_name=config.run_name,
            live=store if live else None,
        )
        shown = store if live else None
        return _recorded(
            opened, prepared, asked, {**tags, **config.tags}, state_dir=state_dir, store=shown, quiet=quiet
        )


def resume(run_id: str, *, store: Store | None = None, live: bool = True, quiet: bool = False) -> Outcome:
    """Go on with a run that was interrupted or killed, to the same weights as if it had not been.

    ``run_id`` is MLflow's, its beginning, or the journal's. Raises BadInput when the run is done or its state is gone.
    """
    store = store or _default_store()
    store.check()
    directory = store.journal_dir(run_id)
    config_file = directory / "files" / "config.toml"
    if tracked.ended(directory) == "FINISHED":
        raise BadInput(f"--resume {run_id}: this run is finished. Start a new one with --config {config_file}.")
    if not (directory / "state").is_dir() or not config_file.is_file():
        raise BadInput(f"--resume {run_id}: it was ended before its first epoch was kept. Start it anew.")
    with Interruption() as asked:
        prepared = prepare(build(from_toml(config_file)), store)
        asked.check()
        shown = store if live else None
        return _recorded(
            tracked.resume(directory, live=shown), prepared, asked, {}, state_dir=None, store=shown, quiet=quiet
        )


def prepare(config: Config, store: Store) -> Prepared:
    """Fix the threads, read the data, find the source of the weights; the config with everything filled in.

    Raises BadInput, with every fault of the settings in one message.
    """
    from trainers.networks import backend

    faults = local_faults(vars(config))
    if faults:
        raise BadConfig(faults)
    num_threads = backend.prepare(config.num_threads)
    dataset, resolved = load_data(replace(config, num_threads=num_threads))
    overlaps = _overlaps(dataset, resolved)
    alike = _alike(dataset, resolved)
    source = None
    if resolved.initial.startswith("run:"):
        from trainers.training import sources

        source = sources.find(resolved.initial.removeprefix("run:"), store)
        resolved = _like_source(resolved, config, source)
    named = replace(
        resolved,
        run_name=resolved.run_name or run_name(resolved),
        experiment=resolved.experiment or store.default_experiment,
    )
    return Prepared(named, dataset, overlaps, source, alike)


def load_data(config: Config) -> tuple[Dataset, Config]:
    """The data, and the config with what the data decides filled in. Raises BadInput."""
    from trainers import data

    dataset = data.open_dataset(
        config.dataset,
        image_root=config.image_root,
        split_seed=config.split_seed,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        pretext=config.pretext,
        group=config.group,
        fold=config.held_out,
    )
    facts = dataset.facts
    resolved = config.resolve(
        num_classes=facts.num_classes,
        num_training_samples=facts.num_training_samples,
        channels=facts.channels,
        height=facts.height,
        width=facts.width,
    )
    return dataset, resolved


def run_name(config: Config) -> str:
    """``digits-44-scratch-30ep-s0``: what distinguishes runs at a glance."""
    init = config.initial
    if init not in ("scratch", "imagenet"):
        init = "transfer"
    task = f"-{config.pretext}" if config.pretext else ""
    task += f"-fold{config.fold.replace('/', 'of')}" if config.fold else ""
    return f"{Path(config.dataset).name}{task}-{config.num_layers}-{init}-{config.epochs}ep-s{config.seed}"


def _default_store() -> Store:
    from tracking.store import store

    return store.resolve()


def _overlaps(dataset: Dataset, config: Config) -> list[Overlap]:
    """Pictures that two splits share. Raises BadData when the test split is not what it should be: unseen."""
    from trainers import data

    overlaps = data.find_overlap(dataset)
    leaked = [overlap for overlap in overlaps if (overlap.split_a, overlap.split_b) == ("train", "test")]
    if leaked and not config.allow_overlap:
        shown = "; ".join(f"{one.keys_b[0]} is {one.keys_a[0]}" for one in leaked[:3])
        raise BadData(
            f"{len(leaked)} of the {len(dataset.test or ())} test pictures of {config.dataset} are among the training"
            f" pictures ({shown}{'; …' if len(leaked) > 3 else ''}), so the test score would flatter. Take them out of"
            " one of the two, or go on with --allow-overlap; the run then says so."
        )
    learned = set(dataset.train.sources or ())
    for name, split in dataset.splits.items() - {("train", dataset.train)}:
        shared = sorted(learned & set(split.sources or ()))
        if shared and not config.allow_overlap:
            raise BadData(
                f"{len(shared)} source(s) of {config.dataset} (--group {config.group}) are in both train and {name}"
                f" ({', '.join(shared[:3])}{', …' if len(shared) > 3 else ''}), so the {name} score would flatter."
                " Split anew, or go on with --allow-overlap."
            )
    return overlaps


def _alike(dataset: Dataset, config: Config) -> dict[str, str] | None:
    """Test pictures that look like training pictures, with the key of one; None where nothing can be compared.

    Raises BadData where --strict forbids them.
    """
    from trainers.data.check.near import near_test_pictures

    alike = near_test_pictures(dataset)
    if not alike:
        return alike
    shown = "; ".join(f"{test} looks like {train}" for test, train in list(alike.items())[:3])
    said = (
        f"{len(alike)} of the {len(dataset.test or ())} test pictures of {config.dataset} look like training pictures"
        f" ({shown}{'; …' if len(alike) > 3 else ''}), so the test score may flatter. To list them:"
        f" python -m trainers.data check {shlex.quote(config.dataset)}"
    )
    if config.strict:
        raise BadData(f"{said}. Take them out of one of the two, or go on without --strict; the run then says so.")
    print(f"warning: {said}", file=sys.stderr)
    return alike


def _like_source(resolved: Config, asked: Config, source: Source) -> Config:
    """Depth, version and shape of the network the weights come from, unless the user asked for another."""
    theirs = source.config
    values: dict[str, Any] = {}
    for key in ("num_layers", "image_shape"):
        if getattr(asked, key) is None:
            values[key] = getattr(theirs, key)
    if asked.resnet_version == Config.resnet_version:
        values["resnet_version"] = theirs.resnet_version
    like = replace(resolved, **values)
    wrong = [
        f"--{key.replace('_', '-')} {getattr(like, key)}: the network of --init {like.init} has {getattr(theirs, key)}."
        for key in ("num_layers", "resnet_version")
        if getattr(like, key) != getattr(theirs, key)
    ]
    if like.shape[0] != theirs.shape[0]:
        wrong.append(f"--image-shape {like.image_shape}: the network of --init {like.init} takes {theirs.image_shape}.")
    if wrong:
        raise BadConfig(wrong)
    return like


def _recorded(
    opened: AbstractContextManager[tracked.Run],
    prepared: Prepared,
    asked: Interruption,
    tags: Mapping[str, str],
    *,
    state_dir: Path | None,
    store: Store | None,
    quiet: bool,
) -> Outcome:
    """Everything that happens between the opening and the closing of a run's journal."""
    from trainers.training.stages import Stages

    code, reason, scores = 0, "", dict[str, float]()
    try:
        with opened as run:
            log = run.dir / "files" / "log.txt"
            try:
                with Tee(log, quiet=quiet) as tee:
                    stages = Stages(
                        run,
                        prepared.config,
                        prepared.dataset,
                        overlaps=prepared.overlaps,
                        alike=prepared.alike,
                        source=prepared.source,
                        state_dir=state_dir,
                        asked=asked,
                    )
                    scores = stages.carry_out(tee.terminal, tags)
            finally:
                run.artifact(log)
    except Interrupted as error:
        code, reason = error.exit_code, str(error)
        print(f"{error}. Go on from the last whole epoch with: python -m trainers.run --resume {_short(run)}")
    except BadInput as error:  # found only now, such as weights that don't fit
        code, reason = 2, str(error)
        print(f"trainers.run: {error}", file=sys.stderr)
    except TrainerError as error:
        code, reason = 1, str(error)
        print(f"trainers.run: {error}", file=sys.stderr)
    if not code:
        _say_end(run, scores)
    if store is not None:
        print_page(run, store)
    return Outcome(
        journal_id=run.journal_id,
        run_id=run.mlflow_run_id,
        status=run.status,
        exit_code=code,
        scores=scores,
        reason=reason,
    )


def _say_end(run: tracked.Run, scores: Mapping[str, float]) -> None:
    said = [f"validation {scores[names.BEST_VALIDATION_ACCURACY]:.4f}"]
    if names.TEST_ACCURACY in scores:
        said.append(f"test {scores[names.TEST_ACCURACY]:.4f}")
    print(f"\ndone    {', '.join(said)} · run {_short(run)}")


def print_page(run: tracked.Run, store: Store) -> None:
    """Where MLflow shows the run: its address on a server, else what opens the pages."""
    from tracking.errors.redaction import address
    from tracking.journal.progress import progress

    known = progress(run.dir, store.public_uri)
    if known.run_id is None:
        return
    # Without the last part MLflow 3 shows its pages for language models.
    page = f"/#/experiments/{known.experiment_id}/runs/{known.run_id}?workflowType=machine_learning"
    if store.tracking_uri.startswith(("http://", "https://")):
        print(f"page    {address(store.tracking_uri).rstrip('/')}{page}")
    else:
        print(f"page    http://127.0.0.1:5000{page} (after: python -m tracking ui)")


def _short(run: tracked.Run) -> str:
    return (run.mlflow_run_id or run.journal_id)[:8]
