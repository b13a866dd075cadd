"""One run from its config to its test score: the composer that every launcher ends in.

What the user gave is checked before a run is recorded; from then on whatever happens ends in a run that says so.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking import run as tracked
from tracking.errors.words import duration, plural
from tracking.journal.events import journals
from trainers.config import Config
from trainers.config.checks import devices_of, local_faults
from trainers.config.text import build, from_toml
from trainers.errors import BadConfig, BadData, BadInput, TrainerError, WorkerLost
from trainers.training.interruption import Interrupted, Interruption, interruptible
from trainers.training.terminal import Tee

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.data import Dataset, Overlap
    from trainers.training.sources import Source

LOCAL = {names.LAUNCHER: "local"}
# The settings that decide which pictures are in which split.
DATA = ("dataset", "image_root", "split_seed", "validation_fraction", "test_fraction", "pretext", "group", "fold")
Opened = dict[tuple[Any, ...], "Dataset"]
# What looks after a run while it is open; ``trainers.launch.watching.local`` has one.
Watcher = Callable[[tracked.Run, Interruption], AbstractContextManager[object]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended. ``run_id`` is MLflow's, None while the tracking server has not been reached.

    ``scores`` by their names in MLflow; ``reason`` says why a run did not finish, ``said`` is the last line of one
    that did.
    """

    journal_id: str
    run_id: str | None
    status: str
    exit_code: int
    scores: Mapping[str, float]
    reason: str = ""
    said: str = ""


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
    watch: Watcher = lambda run, asked: nullcontext(),
) -> Outcome:
    """Train, evaluate and log one run.

    ``live`` False writes the journal only (a cloud job needs no tracking server). ``state_dir`` is where the resumable
    state is kept (default: beside the journal); a state found there is picked up. ``quiet`` prints the result and
    errors alone; the run's log has the rest. Raises BadInput before a run is recorded; afterwards failures are recorded
    and printed, and the Outcome has the exit code.
    """
    store = store or _default_store()
    with interruptible("No run was made yet; the same command starts it again.") as asked:
        store.check(config.experiment or store.default_experiment)
        prepared = prepare(config, store)
        asked.check()
        config = prepared.config
        if not quiet:
            print(f"run     {config.run_name}  (experiment {config.experiment}, {store.public_uri})")
        shown = store if live else None

        def opened() -> tracked.Run:
            return tracked.start(
                root=store.journals,
                experiment=config.experiment,
                run_name=config.run_name,
                live=shown,
                parent=config.tags.get(names.STUDY_PARENT),
            )

        return _recorded(
            opened, prepared, asked, {**tags, **config.tags}, state_dir=state_dir, store=shown, quiet=quiet, watch=watch
        )


def resume(
    run_id: str,
    *,
    store: Store | None = None,
    live: bool = True,
    quiet: bool = False,
    watch: Watcher = lambda run, asked: nullcontext(),
) -> Outcome:
    """Go on with a run that was interrupted or killed, to the same weights as if it had not been.

    ``run_id`` is MLflow's, its beginning, or the journal's. Raises BadInput when the run is done or its state is gone.
    """
    store = store or _default_store()
    with interruptible(f"The run is as it was; the same command, --resume {run_id}, goes on with it.") as asked:
        store.check()
        directory, config = interrupted_run(run_id, store)
        prepared = prepare(config, store)
        asked.check()
        shown = store if live else None
        if not quiet:
            print(f"run     {prepared.config.run_name}, {_from(directory, prepared.config.epochs)}")
        return _recorded(
            lambda: tracked.resume(directory, live=shown),
            prepared,
            asked,
            {},
            state_dir=None,
            store=shown,
            quiet=quiet,
            watch=watch,
        )


def run_or_go_on(config: Config, store: Store) -> tuple[Path, int]:
    """Carry out the one run that ``store.journals`` is for, where a machine may be taken away; its journal, exit code.

    What an interruption left there is gone on with; a run that is finished is left as it is. MLflow is not spoken to.
    """
    former = [directory for directory in journals(store.journals) if (directory / "files" / "config.toml").is_file()]
    done = [directory for directory in former if tracked.ended(directory) == "FINISHED"]
    if done:  # the machine was taken back between the run's end and what follows it
        return done[0], 0
    going = [directory for directory in former if any((directory / "state").glob("state-*.npz"))]
    for directory in journals(store.journals):
        if directory not in going:  # broken off before its first epoch was kept: nothing to go on from
            shutil.rmtree(directory)
    if going:
        print(f"going on with run {going[0].name} after an interruption", flush=True)
        outcome = resume(going[0].name, store=store, live=False)
    else:
        outcome = run(config, store=store, live=False, tags={})
    return store.journals / outcome.journal_id, outcome.exit_code


def interrupted_run(run_id: str, store: Store) -> tuple[Path, Config]:
    """The journal and the settings of a run that can go on. Raises BadInput where it cannot."""
    directory = store.journal_dir(run_id)
    config_file = directory / "files" / "config.toml"
    if tracked.ended(directory) == "FINISHED":
        raise BadInput(f"--resume {run_id}: this run is finished. Start a new one with --config {config_file}.")
    if not epochs_kept(directory / "state") or not config_file.is_file():
        raise BadInput(f"--resume {run_id}: it was ended before its first epoch was kept. Start it anew.")
    return directory, build(from_toml(config_file))


def _from(directory: Path, epochs: int) -> str:
    """Where a run goes on."""
    from trainers.training import fit

    done = len(fit.history(directory / "state"))
    return f"from epoch {done + 1} of {epochs}" if done < epochs else f"all {epochs} epochs are trained"


def epochs_kept(state_dir: Path) -> int:
    """How many whole epochs a run can go on from."""
    numbers = (path.stem.removeprefix("state-") for path in state_dir.glob("state-*.npz"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def prepare(
    config: Config, store: Store, *, opened: Opened | None = None, source_config: Config | None = None
) -> Prepared:
    """Find the source of the weights, fix the threads, read the data; the config with everything filled in.

    ``opened`` keeps what was read for the next call. ``source_config`` are the settings of a source that is not trained
    yet. Raises BadInput, with every fault of the settings in one message.
    """
    from trainers.data.batches import share_of
    from trainers.networks import backend
    from trainers.networks.group import LISTEN

    faults = local_faults(vars(config))
    if faults:
        raise BadConfig(faults)
    source = source_of(config, store) if source_config is None else None
    kind, numbers = devices_of(config.devices or "cpu") or ("", ())
    workers = config.workers or 1
    here = 1 if LISTEN in os.environ else workers
    num_threads = backend.prepare(config.num_threads, shares=here * (len(numbers) if kind == "cpu" else 1))
    count = len(backend.contexts(config.devices)) if config.devices is not None else 1
    if min(len(share_of(config.mini_batch_size, which, workers)) for which in range(workers)) < count:
        size = f"--mini-batch-size {config.mini_batch_size}"
        raise BadConfig([f"{size} is less than a picture for each device of each worker ({workers} x {count})."])
    dataset, resolved = load_data(replace(config, num_threads=num_threads), opened=opened)
    overlaps = _overlaps(dataset, resolved)
    alike = _alike(dataset, resolved)
    if source is not None or source_config is not None:
        resolved = _like_source(resolved, config, source_config if source is None else source.config)
    named = replace(
        resolved,
        run_name=resolved.run_name or run_name(resolved),
        experiment=resolved.experiment or store.default_experiment,
    )
    return Prepared(named, dataset, overlaps, source, alike)


def source_of(config: Config, store: Store) -> Source | None:
    """The run that the first weights come from, if it is one. Raises BadInput where it is not there."""
    if not config.initial.startswith("run:"):
        return None
    from trainers.training import sources

    try:
        return sources.find(config.initial.removeprefix("run:"), store)
    except BadInput as error:
        raise BadInput(f"--init {config.initial}: {error}") from error


def load_data(config: Config, *, opened: Opened | None = None) -> tuple[Dataset, Config]:
    """The data, and the config with what the data decides filled in. Raises BadInput."""
    from trainers import data

    how = {key: getattr(config, key) for key in DATA} | {"fold": config.held_out}
    dataset = None if opened is None else opened.get(tuple(how.values()))
    if dataset is None:
        dataset = data.open_dataset(**{"spec" if key == "dataset" else key: value for key, value in how.items()})
    if opened is not None:
        opened[tuple(how.values())] = dataset
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
    kind = config.network or config.num_layers
    return f"{Path(config.dataset).name}{task}-{kind}-{init}-{config.epochs}ep-s{config.seed}"


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


def _like_source(resolved: Config, asked: Config, theirs: Config | None) -> Config:
    """Depth, version and shape of the network the weights come from, unless the user asked for another."""
    assert theirs is not None
    values: dict[str, Any] = {}
    if asked.num_layers is None and asked.network is None:
        values = {"num_layers": theirs.num_layers, "network": theirs.network}
    if asked.image_shape is None:
        values["image_shape"] = theirs.image_shape
    if asked.resnet_version == Config.resnet_version:
        values["resnet_version"] = theirs.resnet_version
    like = replace(resolved, **values)
    wrong = [
        f"--{key.replace('_', '-')} {getattr(like, key)}: the network of --init {like.init} has {getattr(theirs, key)}."
        for key in ("num_layers", "resnet_version")
        if getattr(like, key) != getattr(theirs, key)
    ]
    if like.network != theirs.network:
        wrong = [
            f"--init {like.init} is {theirs.network_name}, this run asks for {like.network_name}; they must match."
        ]
    if like.shape[0] != theirs.shape[0]:
        wrong.append(f"--image-shape {like.image_shape}: the network of --init {like.init} takes {theirs.image_shape}.")
    if wrong:
        raise BadConfig(wrong)
    return like


def _recorded(
    opened: Callable[[], tracked.Run],
    prepared: Prepared,
    asked: Interruption,
    tags: Mapping[str, str],
    *,
    state_dir: Path | None,
    store: Store | None,
    quiet: bool,
    watch: Watcher,
) -> Outcome:
    """Everything that happens between the opening and the closing of a run's journal."""
    from trainers.networks import backend
    from trainers.training.stages import Stages

    code, reason, said, scores, began_s = 0, "", "", dict[str, float](), time.monotonic()
    try:
        with _ended_whole(opened, asked) as run:
            log = run.dir / "files" / "log.txt"
            try:
                with Tee(log, quiet=quiet) as tee, watch(run, asked), backend.contexts(prepared.config.devices)[0]:
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
                run.log_artifact(log)
        asked.check()
    except Interrupted as error:
        code, reason = error.exit_code, str(error)
        print(f"{error}: {_what_is_kept(run, state_dir or run.dir / 'state')}")
    except BadInput as error:  # found only now, such as weights that don't fit
        code, reason = 2, str(error)
        print(f"trainers.run: {error}", file=sys.stderr)
    except TrainerError as error:
        code, reason = 1, str(error)
        print(f"trainers.run: {error}", file=sys.stderr)
        if isinstance(error, WorkerLost):
            print(f"kept    {_what_is_kept(run, state_dir or run.dir / 'state')}", file=sys.stderr)
    if not code and run.mlflow_run_id and (run.dir / "files" / "model").is_dir():
        print(f"\nmodel   runs:/{run.mlflow_run_id}/model")
    if store is not None:
        print_page(run, store)
    if not code:
        said = _last_line(run, scores, run.earlier_s + time.monotonic() - began_s)
        print(f"done    {said}")
    return Outcome(
        journal_id=run.journal_id,
        run_id=run.mlflow_run_id,
        status=run.status,
        exit_code=code,
        scores=scores,
        reason=reason,
        said=said,
    )


@contextmanager
def _ended_whole(opened: Callable[[], tracked.Run], asked: Interruption) -> Iterator[tracked.Run]:
    """The run's own ``with`` block, which no signal enters or leaves half: none stays RUNNING, with its lock."""
    asked.hold(lambda: True)
    try:
        with opened() as run:
            asked.hold(lambda: False)
            try:
                asked.check()
                yield run
            finally:
                asked.hold(lambda: run.status == "RUNNING")  # until its end is on the disk; MLflow may take a while
    finally:
        asked.hold(lambda: True)  # what is left is to say how it ended


def _what_is_kept(run: tracked.Run, state_dir: Path) -> str:
    if run.status == "FINISHED":
        return f"run {_short(run)} is finished, and its model and scores are kept."
    if kept := epochs_kept(state_dir):
        whole = f"{plural(kept, 'whole epoch')} {'is' if kept == 1 else 'are'} kept"
        return f"{whole}; go on from there with: python -m trainers.run --resume {_short(run)}"
    return "no epoch was whole yet, so there is nothing to go on from; the same command starts again."


def _last_line(run: tracked.Run, scores: Mapping[str, float], took_s: float) -> str:
    """Accuracy, what it cost here, the run and the next command."""
    said = [f"best validation {scores[names.BEST_VALIDATION_ACCURACY]:.4f}"]
    if names.TEST_ACCURACY in scores:
        said.append(f"test {scores[names.TEST_ACCURACY]:.4f}")
    return f"{', '.join(said)} · {duration(took_s)} · run {_short(run)} · next: python -m reports run {_short(run)}"


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
