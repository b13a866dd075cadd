"""``--dry-run``: what would run, as far as it can be known without running it. Everything is read, nothing is written.

The same code prepares a run here and in earnest, so what would be refused then is refused now. The speed is measured on
the real network and the real pictures, for a few seconds.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking.errors.words import duration, plural, readable
from trainers.config import Config
from trainers.config.study import Study
from trainers.config.text import to_toml
from trainers.errors import BadConfig, BadInput, TrainerError
from trainers.launch.study import StudyPlan

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.data import Dataset
    from trainers.training.experiment import Prepared

_MEASURED_S = 2.0
_FORWARD = 3.0  # a forward pass against forward, backward and update
_CLASSES = 12
# What only matters to a job of the built-in algorithm.
_NOT_HERE = ("not-for-the-job", "unknown-form", "class-names-missing", "channel-neighbour", "channel-missing")
# Settings on which the speed depends, and the room, beside those that decide the pictures.
_SPEED = (
    "num_layers resnet_version network freeze image_shape resize augmentation_type mini_batch_size optimizer"
    " precision_dtype num_classes init"
).split()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Pictures a second of training and weights of the network; ``why_not`` where they are not known."""

    images_per_s: float | None = None
    num_parameters: int | None = None
    basis: str = ""
    why_not: str = ""


class DryRun:
    """Prepares runs one after the other; data and speed that several share are looked at once."""

    def __init__(self, store: Store) -> None:
        store.check(will_write=False)
        self.store = store
        self._opened: dict[Any, Dataset] = {}
        self._measured: dict[Any, Measured] = {}

    def prepare(self, config: Config, source: Config | None = None) -> Prepared:
        """As a run would be; ``source`` has the settings of a run of the study that is not trained yet."""
        from trainers.training import experiment

        return experiment.prepare(config, self.store, opened=self._opened, source_config=source)

    def faults(self, config: Config) -> list[str]:
        """What is wrong with the source of the weights, and with the data, whatever else is wrong."""
        from trainers.training import experiment

        faults = []
        for look in (
            lambda: experiment.source_of(config, self.store),
            lambda: experiment.load_data(config, opened=self._opened),
        ):
            try:
                look()
            except BadInput as error:
                faults += _faults_of(error)
        return faults

    def measure(self, prepared: Prepared) -> Measured:
        """Train for a moment on this run's own pictures. Raises BadInput where its settings cannot work."""
        from trainers.training import experiment

        key = tuple(getattr(prepared.config, name) for name in (*experiment.DATA, *_SPEED))
        if key not in self._measured:
            try:
                self._measured[key] = _measure(prepared)
            except BadInput:
                raise
            except TrainerError as error:
                self._measured[key] = Measured(why_not=str(error))
        return self._measured[key]

    def seconds(self, prepared: Prepared) -> float | None:
        """How long the run takes, measured; None where that cannot be known."""
        return _seconds(prepared, self.measure(prepared))

    def describe(self, prepared: Prepared) -> list[str]:
        """Lines about data, weights, time and disk of one run."""
        measured = self.measure(prepared)
        return [*data_lines(prepared), *_time_lines(prepared, measured), *_disk_lines(prepared, measured, self.store)]


def one(config: Config, store: Store, faults: list[str]) -> str:
    """What one run would be: a text that is also a file for --config. Raises BadConfig with ``faults`` and its own."""
    dry = DryRun(store)
    said = {fault.partition(":")[0] for fault in faults}  # the data may find again what their name gave away
    if faults := faults + [fault for fault in dry.faults(config) if fault.partition(":")[0] not in said]:
        raise BadConfig(faults)
    prepared = dry.prepare(config)
    lines = dry.describe(prepared)
    lines = [f"run     {prepared.config.run_name}  (experiment {prepared.config.experiment})", *lines]
    lines += [f"note: {note}" for note in prepared.config.notes()]
    # The names follow from the settings: kept in a file, they would stay when a setting changes.
    resolved = replace(prepared.config, run_name=config.run_name, experiment=config.experiment)
    head = "# What would run; this text is a file for --config. Nothing was written.\n"
    return head + "".join(f"# {line}\n" for line in lines) + to_toml(resolved)


def study(work: Study, store: Store, *, parallel: int, again: bool) -> str:
    """What each run of a study would be. Raises BadConfig with the faults of all."""
    from trainers.launch.local import already_done, trained_on

    dry, plan, faults = DryRun(store), StudyPlan.of(work), dict[str, None]()
    if not again:
        plan.done = already_done(work, store)
    ready: dict[str, Prepared] = {}
    lines = [work.title, trained_on(work), f"{plural(len(work.runs), 'run')}, {len(plan.done)} already done:"]
    seconds: list[float | None] = []
    threads = {planned.config.num_threads for planned in work.runs}
    shared: list[str] = []
    for planned in work.runs:
        source = plan.source(planned)
        config = plan.config(planned)
        if len(threads) > 1:  # each such run has a process of its own
            config = replace(config, num_threads=None)
        lines += ["", f"{config.run_name}" + (f"  (after {source.config.run_name})" if source is not None else "")]
        if source is not None and source.name not in ready:
            continue  # its source has a fault
        try:
            prepared = dry.prepare(config, None if source is None else ready[source.name].config)
            measured = dry.measure(prepared)
        except BadInput as error:
            faults |= dict.fromkeys(f"{config.run_name}: {fault}" for fault in _faults_of(error))
            continue
        ready.setdefault(planned.name, prepared)
        about = data_lines(prepared)
        lines += ["  " + line for line in about if line not in shared]
        shared = about  # said once where the next run has the same
        lines.append("  " + _settings(prepared.config))
        lines += ["  " + line for line in _time_lines(prepared, measured)]
        lines += ["  " + line for line in _disk_lines(prepared, measured, store)]
        lines += [f"  note: {note}" for note in prepared.config.notes()]
        if planned.key in plan.done:
            lines.append(f"  done already: run {plan.done[planned.key][:8]}")
        else:
            seconds.append(_seconds(prepared, measured))
    if faults:
        raise BadConfig(list(faults))
    known = [value for value in seconds if value is not None]
    if seconds and len(known) == len(seconds):
        beside = f", one after the other; --parallel {parallel} shares the cores among them" if parallel > 1 else ""
        lines += ["", f"in all about {duration(sum(known))} for {plural(len(known), 'run')}{beside}"]
    return "\n".join(lines) + "\nNothing was written.\n"


def _settings(resolved: Config) -> str:
    """The resolved settings that are not the defaults."""
    hidden = ("dataset", "run_name", "experiment", "tags", "use_pretrained_model")
    words = [
        f"{known.name} {getattr(resolved, known.name)}"
        for known in fields(resolved)
        if known.name not in hidden and getattr(resolved, known.name) not in (known.default, None)
    ]
    return f"set     {'; '.join(words)}; the rest as in --help"


def data_lines(prepared: Prepared) -> list[str]:
    """Form, counts, classes, and what the fast check of data finds."""
    from trainers.data import catalog

    config, dataset = prepared.config, prepared.dataset
    name, path = catalog.split_spec(config.dataset)
    counts = " · ".join(f"{len(split):,} {context}" for context, split in dataset.splits.items())
    form = catalog.SOURCES[name].origin if name is not None else _form(path)
    lines = [
        f"data    {dataset.name} ({form}): {counts} pictures, {len(dataset.class_names)} classes, {config.image_shape}"
    ]
    number = Counter(dataset.train.labels.tolist())
    shown = [f"{known}: {number[at]:,}" for at, known in enumerate(dataset.class_names[:_CLASSES])]
    more = len(dataset.class_names) - len(shown)
    lines.append(f"        training pictures of each class: {', '.join(shown)}{f', … {more} more' if more else ''}")
    lines += [f"note: {note}" for note in dataset.notes]
    if prepared.overlaps:
        lines.append(f"note: {plural(len(prepared.overlaps), 'picture')} in more than one split")
    if name is None and path is not None:
        lines += _findings(path, config)
    return lines


def _form(path: Path | None) -> str:
    from trainers.data.readers.layouts import form_of

    assert path is not None
    return form_of(path).value


def _findings(path: Path, config: Config) -> list[str]:
    from trainers.data.check.check import Job, check

    root = None if config.image_root is None else Path(config.image_root).expanduser()
    job = Job(num_classes=config.num_classes, image_shape=config.shape, resize=config.resize)
    found = [one for one in check([path], job, image_root=root, fast=True).findings if one.code not in _NOT_HERE]
    lines = [f"check   {one.level} {one.code}: {one.what}; {one.fix}" for one in found]
    whole = f"python -m trainers.data check {path} also decodes every picture"
    return lines + [f"check   {'the above' if found else 'nothing found'} by the headers alone; {whole}"]


def _measure(prepared: Prepared) -> Measured:
    """A few seconds of training; the first batch, which also builds the graph, does not count."""
    from trainers.data import Batches
    from trainers.networks import resnet, weights
    from trainers.training import fit

    config, dataset = prepared.config, prepared.dataset
    train = fit.training_batches(dataset.train, config)
    some = Batches(dataset.validation.take(np.arange(1)), image_shape=config.shape, resize=config.resize, batch_size=1)
    net = resnet.build_for(config)
    model_dir = None if prepared.source is None else prepared.source.model_dir
    is_here = config.initial != "imagenet" and (model_dir is not None or not config.initial.startswith("run:"))
    weights.initialise(net, config.initial if is_here else "scratch", seed=config.seed, model_dir=model_dir)
    num_parameters = resnet.num_parameters(net)
    seen: list[tuple[float, int]] = []

    def on_batch(progress: fit.BatchProgress) -> None:
        seen.append((time.perf_counter(), progress.images))

    def enough() -> bool:
        return len(seen) > 1 and seen[-1][0] - seen[0][0] > _MEASURED_S

    with tempfile.TemporaryDirectory(prefix="dry-run-") as folder:
        brief = replace(config, epochs=1, early_stopping=False, checkpoint_frequency=None)
        for _ in fit.fit(net, train, some, brief, state_dir=Path(folder), on_batch=on_batch, stop=enough):
            pass
    if len(seen) < 2:
        why = f"an epoch has {plural(len(train), 'batch')} only, too few to measure the speed"
        return Measured(num_parameters=num_parameters, why_not=why)
    took_s, images = seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]
    rate = images / took_s
    basis = f"{rate:,.0f} pictures/s with {config.num_threads} thread(s), measured now on {images:,} pictures"
    return Measured(images_per_s=rate, num_parameters=num_parameters, basis=basis)


def _seconds(prepared: Prepared, measured: Measured) -> float | None:
    """Training, a validation after each epoch, and the scores of the model at the end."""
    if measured.images_per_s is None:
        return None
    config, counts = prepared.config, {name: len(split) for name, split in prepared.dataset.splits.items()}
    trained = counts["train"] // config.mini_batch_size * config.mini_batch_size
    tested = 0 if config.no_test else counts.get("test", 0)
    scored = counts["validation"] * (config.epochs + 1) + tested
    return (config.epochs * trained + scored / _FORWARD) / measured.images_per_s


def _time_lines(prepared: Prepared, measured: Measured) -> list[str]:
    seconds, epochs = _seconds(prepared, measured), prepared.config.epochs
    if seconds is None:
        return [f"time    no estimate: {measured.why_not}"]
    early = "; early stopping may end it sooner" if prepared.config.early_stopping else ""
    return [f"time    about {duration(seconds)} for {plural(epochs, 'epoch')} and the scores: {measured.basis}{early}"]


def _disk_lines(prepared: Prepared, measured: Measured, store: Store) -> list[str]:
    from trainers.training import stages

    if measured.num_parameters is None:
        return [f"disk    no estimate: {measured.why_not}"]
    config, place = prepared.config, store.journals
    need, stays = stages.room(config, measured.num_parameters)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    words = f"disk    up to {readable(need)} while it trains, {readable(stays)} afterwards; {readable(free)} are free"
    if free < need:
        raise BadInput(f"{place} has {readable(free)} left, this run needs about {readable(need)}. Free some space.")
    return [words]


def _faults_of(error: BadInput) -> list[str]:
    return error.faults if isinstance(error, BadConfig) else [str(error)]


def resumed(run_id: str, store: Store) -> str:
    """What going on with an interrupted run would be. Raises BadInput where it cannot go on."""
    from trainers.training import experiment

    directory, config = experiment.interrupted_run(run_id, store)
    kept = experiment.epochs_kept(directory / "state")
    dry = DryRun(store)
    lines = dry.describe(dry.prepare(config))
    head = f"run     {config.run_name} goes on after epoch {kept} of {config.epochs}; the time below is of all of them"
    return "\n".join([head, *lines, "Nothing was written.", ""])
