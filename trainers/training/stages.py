"""The stages of one run, in order: describe, build, train, evaluate; each writes what it learns to the journal."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tracking import names
from tracking.errors.words import plural
from tracking.journal.events import read
from tracking.models.facts import INT8, ONNX
from trainers.config import Config
from trainers.config.text import to_toml
from trainers.data import Batches, Dataset, Overlap, Split
from trainers.errors import DiskFull, TrainerError
from trainers.networks import backend, resnet, saved, weights
from trainers.networks.group import together
from trainers.training import environment, fit, scores
from trainers.training import record as record_scores
from trainers.training import record as run_model
from trainers.training import terminal as progress
from trainers.training.environment import OtherLoad
from trainers.training.interruption import Interruption
from trainers.training.scores import Scores, score
from trainers.training.steps import checkpoints

if TYPE_CHECKING:
    from tracking.run import Run
    from trainers.training.sources import Source

_EVALUATION_BATCH = 256
# Beside the checkpoints: the model and its ONNX copy; where MLflow keeps them on the same disk they have a second name.
_COPIES_OF_THE_MODEL = 2


class Stages:
    """One run between the opening and the closing of its journal."""

    def __init__(
        self,
        run: Run,
        config: Config,
        dataset: Dataset,
        *,
        overlaps: list[Overlap],
        alike: Mapping[str, str] | None,
        source: Source | None,
        state_dir: Path | None,
        asked: Interruption,
    ) -> None:
        self.run, self.config, self.dataset = run, config, dataset
        self.overlaps, self.alike, self.source, self.asked = overlaps, alike, source, asked
        self.state_dir = state_dir if state_dir is not None else run.dir / "state"
        self.files = run.dir / "files"
        self.started, self._others = time.monotonic(), OtherLoad()
        # What an earlier attempt has logged is not logged again: a score has one value at a step.
        self._logged = {
            (name, event["step"])
            for event, _ in read(run.dir)
            if event["event"] == "metric"
            for name in event["values"]
        }

    def carry_out(self, terminal: TextIO, tags: Mapping[str, str]) -> dict[str, float]:
        """All stages; the most important scores. Raises Interrupted."""
        self.describe(tags)
        self.asked.check()
        net = self.build()
        self.asked.check()
        with environment.Neighbours(self.config.num_threads or 1, backend.Throttle()):
            history = self.train(net, terminal)
            results = self.evaluate(net, history)
        self.asked.check()
        took_s = self.run.earlier_s + time.monotonic() - self.started
        self._log({names.TOTAL_TIME_S: took_s}, len(history))
        self.asked.hold(lambda: True)  # without its state a run must end as finished
        shutil.rmtree(self.state_dir, ignore_errors=True)  # the model is kept; the state is three times its size
        return results

    def describe(self, tags: Mapping[str, str]) -> None:
        """Everything known before training: settings, data, origin."""
        config, run = self.config, self.run
        run.log_params(config.params())
        run.set_tags({names.FINGERPRINT: config.fingerprint(), **tags})
        if config.pretext:
            run.set_tags({names.PRETEXT: config.pretext})
        for context, split in self.dataset.splits.items():
            run.log_dataset(
                context=context,
                name=self.dataset.name,
                digest=split.digest,
                source=self.dataset.source,
                num_images=len(split),
                num_classes=len(self.dataset.class_names),
            )
            run.set_tags({f"{context}_dataset_digest": split.digest})
        if self.dataset.test is not None:
            shared = [one for one in self.overlaps if (one.split_a, one.split_b) == ("train", "test")]
            leaked = sum(len(one.keys_b) for one in shared)
            alike = "unknown" if self.alike is None else str(len(self.alike))
            run.set_tags({names.TEST_OVERLAP: str(leaked), names.TEST_NEAR_OVERLAP: alike})
        run.log_text(to_toml(config), "config.toml")
        run.log_text(json.dumps(environment.environment(config.num_threads or 1), indent=1), "environment.json")
        self._say_heading()

    def build(self) -> Any:
        """The network with its initial weights."""
        config = self.config
        net, label = initial_network(config, self.source)
        num_parameters = resnet.num_parameters(net)
        self.run.set_tags({names.INIT_LABEL: label})
        self._log({names.NUM_PARAMETERS: num_parameters}, 0)
        print(f"net     {config.network_name}, {label}, {num_parameters / 1e6:.2f} M weights")
        print(
            f"train   {plural(config.epochs, 'epoch')} in batches of {config.mini_batch_size}, {config.optimizer},"
            f" learning rate {config.learning_rate:g}, seed {config.seed}, {config.num_threads} thread(s)"
            f" on {', '.join(map(str, backend.contexts(config.devices)))}"
            + (f" of each of {config.workers} workers" if config.workers else "")
        )
        for note in (*config.notes(), self._others.note(config.num_threads or 1)):
            if note:
                print(f"note: {note}")
        print(flush=True)
        self._check_room(num_parameters)
        return net

    def train(self, net: Any, terminal: TextIO) -> list[dict[str, Any]]:
        """Fit; one row of metric values an epoch. The network holds the best checkpoint's weights afterwards."""
        config = self.config
        validation = self._batches(self.dataset.validation)
        history, said = self._former_epochs(), False
        with (
            together(config, self.dataset.train.digest) as group,
            progress.Progress(config.epochs, terminal=terminal) as shown,
            self.asked.deferred(),
        ):
            records = fit.fit(
                net,
                fit.training_batches(self.dataset.train, config, group),
                validation,
                config,
                state_dir=self.state_dir,
                on_batch=shown.batch,
                stop=self.asked.pending,
                group=group,
            )
            for record in records:
                row = record.values()
                self._log_epoch(row)
                if config.keep_model == "all" and record.epoch % (config.checkpoint_frequency or 1) == 0:
                    self._save_model(net, record.epoch, f"model-epoch-{record.epoch:04d}")
                history.append(row)
                shown.epoch(row)
                if record.exploded and not said:
                    print(f"warning: {record.exploded}", flush=True)
                    said = True
        if not history and self.asked.enough:
            raise TrainerError(f"training ended {self.asked.enough} Not one epoch was whole.")
        if why := self.asked.enough or fit.early_stop([row[names.VALIDATION_ACCURACY] for row in history], config):
            print(f"stopped early {why}")
            self.run.set_tags({names.STOPPED_EARLY: why})
        return history

    def _former_epochs(self) -> list[dict[str, Any]]:
        """The epochs a resumed run has done; one kept but not logged when it was killed is logged."""
        history = fit.history(self.state_dir)
        for row in history:
            self._log_epoch(row)
        return history

    def _log_epoch(self, row: dict[str, Any]) -> None:
        numbers = {key: value for key, value in row.items() if key not in ("epoch", "is_best") and value is not None}
        self._log(numbers, row["epoch"])

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log_metrics({k: v for k, v in values.items() if (k, step) not in self._logged}, step=step)

    def evaluate(self, net: Any, history: list[dict[str, Any]]) -> dict[str, float]:
        """Save the best checkpoint as the run's model, score it, and draw the two figures."""
        config, run = self.config, self.run
        best = max(history, key=lambda row: (row[names.VALIDATION_ACCURACY], -row["epoch"]))
        fit.load_best(net, self.state_dir)
        epoch = int(best["epoch"])
        results = {names.BEST_VALIDATION_ACCURACY: float(best[names.VALIDATION_ACCURACY])}
        trained_s = sum(row[names.EPOCH_TIME_S] for row in history)
        self._log({**results, names.BEST_EPOCH: epoch, names.TRAINING_TIME_S: trained_s}, epoch)
        if config.keep_model == "none":
            print("note: no model is kept (--keep-model none): nothing can be evaluated, predicted or promoted with it")
        else:
            self._log(self._save_model(net, epoch, "model"), epoch)
        figure = self.files / "figures" / "learning_curves.svg"
        run_model.learning_curves(figure, history, str(config.run_name))
        run.log_artifact(figure, "figures")
        self._score(net, "validation", self.dataset.validation, epoch)
        if self.dataset.held_out is not None:
            self._score(net, names.FOLD, self.dataset.held_out, epoch)
        if config.int8 and (self.files / "model" / INT8).is_file():
            self._score_integers(epoch)
        if self.dataset.test is not None and not config.no_test:
            test = self._score(net, "test", self.dataset.test, epoch)
            results[names.TEST_ACCURACY] = test.accuracy
        return results

    def _score(self, net: Any, context: str, split: Split, epoch: int) -> Scores:
        """Every picture of the split once."""
        self.asked.check()
        result = score(net, self._batches(split))
        self._record(context, split, result, epoch)
        return result

    def _record(self, context: str, split: Split, result: Scores, epoch: int) -> None:
        classes, run_name = self.dataset.class_names, str(self.config.run_name)
        record_scores.record(
            self.run, context, split, result, classes, step=epoch, run_name=run_name, logged=self._logged
        )

    def _score_integers(self, epoch: int) -> None:
        """The int8 copy, another network, on validation and test pictures: scores of names of their own."""
        config = self.config
        scorer = scores.scorer(self.files / "model", "onnx-int8", config.num_threads or 0)
        for context, split in self.dataset.splits.items():
            if context == "train" or (context == "test" and config.no_test):
                continue
            self.asked.check()
            result, name = scorer(self._batches(split)), f"{context}-{names.INT8}"
            self.run.set_tags({names.dataset_digest(name): split.digest})
            self._record(name, split, result, epoch)
            print(f"int8    {context} {result.accuracy:.4f}")

    def _save_model(self, net: Any, epoch: int, name: str) -> dict[str, float]:
        """The network as the run's model ``name``; its metrics."""
        folder = self.files / name
        facts = run_model.save(net, folder, self.config, self.dataset, epoch)
        known, integers = facts["onnx"], facts.get("int8", {})
        values: dict[str, float] = {names.MODEL_SIZE_BYTES: (folder / saved.WEIGHTS).stat().st_size}
        if "problem" in known:
            print(f"note: {name} has no ONNX copy: {known['problem']}")
            self.run.set_tags({names.ONNX_PROBLEM: known["problem"]})
        else:
            values[names.ONNX_MAX_DIFFERENCE] = known["max_difference"]
            values[names.ONNX_SIZE_BYTES] = (folder / ONNX).stat().st_size
        if "problem" in integers:
            print(f"note: {name} has no int8 copy: {integers['problem']}")
        elif integers:
            values[names.INT8_SIZE_BYTES] = (folder / INT8).stat().st_size
        self.run.log_artifact(folder)
        return values

    def _batches(self, split: Split) -> Batches:
        config = self.config
        return Batches(split, image_shape=config.shape, resize=config.resize, batch_size=_EVALUATION_BATCH)

    def _say_heading(self) -> None:
        config, data = self.config, self.dataset
        counts = " · ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
        task = f", {config.pretext} pretext" if config.pretext else ""
        counts += "" if data.held_out is None else f" · {len(data.held_out):,} held out (fold {config.fold})"
        print(f"data    {data.name}{task}: {counts} pictures, {len(data.class_names)} classes, {config.image_shape}")
        for note in data.notes:
            print(f"note: {note}")
        if self.overlaps:
            print(f"note: {_say_overlaps(self.overlaps)}")

    def _check_room(self, num_parameters: int) -> None:
        """Refuse to start what cannot be kept. Raises DiskFull."""
        need, _ = room(self.config, num_parameters)
        self.state_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.state_dir).free
        if free < need:
            raise DiskFull(
                f"{self.state_dir} has {free / 2**20:,.0f} MiB left, this run needs about {need / 2**20:,.0f} MiB for"
                " checkpoints and model. Free some space, or train a smaller network."
            )


def initial_network(config: Config, source: Source | None, init: str | None = None) -> tuple[Any, str]:
    """A run's network with its first weights (``init`` instead of the settings'), on its devices; what they are."""
    devices, model_dir = backend.contexts(config.devices), None if source is None else source.model_dir
    net = resnet.build_for(config)
    with devices[0]:
        loaded = weights.initialise(net, init or config.initial, seed=config.seed, model_dir=model_dir)
    if len(devices) > 1:
        net.collect_params().reset_ctx(devices)
    return net, str(loaded["label"]) if source is None else source.label


def room(config: Config, num_parameters: int) -> tuple[int, int]:
    """Bytes that a run takes at most while it trains, and those that stay: its models, each with its ONNX copy."""
    every = config.checkpoint_frequency
    kept = config.epochs // every if every else 0
    models = {"none": 0, "all": 1 + config.epochs // (every or 1)}.get(config.keep_model or "best", 1)
    stays = 4 * num_parameters * _COPIES_OF_THE_MODEL * models
    return checkpoints.peak_bytes(num_parameters, config.optimizer) + 4 * num_parameters * kept + stays, stays


def _say_overlaps(overlaps: list[Overlap]) -> str:
    pairs: dict[tuple[str, str], int] = {}
    for overlap in overlaps:
        pair = (overlap.split_a, overlap.split_b)
        pairs[pair] = pairs.get(pair, 0) + 1
    return "; ".join(f"{plural(count, 'picture')} in both {a} and {b}" for (a, b), count in pairs.items())
