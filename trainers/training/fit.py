"""The training loop: a generator that yields one record per epoch and knows neither tracking nor launchers.

SGD, NAG, Adam and RMSProp as SageMaker's built-in image classification means them; learning rate steps in epochs;
the checkpoint of the best validation accuracy; early stopping; resumption to the very same weights.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking import names
from tracking.errors.words import plural
from trainers.errors import BadInput, TrainerError, TrainingDiverged
from trainers.networks import backend
from trainers.networks.group import ALONE, Group
from trainers.networks.saved import save_arrays
from trainers.training import scores
from trainers.training.steps import checkpoints
from trainers.training.steps.optimizers import learning_rate
from trainers.training.steps.recipe import Learner

if TYPE_CHECKING:
    from trainers.config import Config
    from trainers.data import Batches, Split
    from trainers.networks.resnet import Classifier

mx = backend.load()

_PROGRESS_EVERY_S = 0.1
_EXPLODED = 10  # times the first loss
# Settings that must not change between a run and its continuation; more epochs are welcome.
_FACTS = (
    "num_layers resnet_version num_classes image_shape mini_batch_size optimizer learning_rate lr_scheduler_step"
    " lr_scheduler_factor momentum weight_decay beta_1 beta_2 eps gamma precision_dtype seed augmentation_type"
).split() + [name.key for name in names.RECIPE]


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch. Accuracies are fractions; ``images_per_s`` counts the time of training alone, data included."""

    epoch: int  # from 1
    train_accuracy: float
    train_loss: float
    validation_accuracy: float
    validation_loss: float
    epoch_learning_rate: float
    images_per_s: float
    epoch_time_s: float
    is_best: bool
    validation_never_predicted: int  # classes with some validation pictures that are the answer to none
    top_k: int | None = None
    train_top_k_accuracy: float | None = None
    validation_top_k_accuracy: float | None = None
    exploded: str = ""  # what to say of a loss that grew instead of falling

    def values(self) -> dict[str, Any]:
        """The record under the vocabulary's names, with ``epoch`` and ``is_best``."""
        values = asdict(self)
        k = values.pop("top_k")
        del values["exploded"]
        for split in ("train", "validation"):
            share = values.pop(f"{split}_top_k_accuracy")
            if k is not None:
                values[names.top_k_accuracy(split, k)] = share
        return values


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """How far an epoch is: means over its first ``images`` pictures."""

    epoch: int
    batch: int  # from 1
    num_batches: int
    images: int
    loss: float
    accuracy: float
    images_per_s: float


def training_batches(split: Split, config: Config, group: Group = ALONE) -> Batches:
    """A split as training takes it: augmented, in another order each epoch, whole ones, of each the worker's share."""
    from trainers.data import Batches

    return Batches(
        split,
        image_shape=config.shape,
        resize=config.resize,
        batch_size=config.mini_batch_size,
        augmentation=config.augmentation_type,
        shuffle=True,
        seed=config.seed,
        last="discard",
        share=(group.rank, group.size),
        scaled=config.decode == "scaled",
    )


def fit(
    net: Classifier,
    train: Batches,
    validation: Batches,
    config: Config,
    *,
    state_dir: Path,
    on_batch: Callable[[BatchProgress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
) -> Iterator[EpochRecord]:
    """Train ``net`` and yield a record after each epoch; a state found in ``state_dir`` is continued.

    ``train`` must leave out a last batch that isn't full. ``on_batch`` hears about ten times a second how it goes.
    ``stop`` is asked at every batch: when it says True the generator ends there, with the state of the last whole
    epoch kept. A record is yielded after its epoch's state is on disk. ``load_best`` then gives ``net`` the weights
    that validation chose. The other workers of ``group``, which has assembled, train along by ``follow``.
    Raises TrainingDiverged, DiskFull, WorkerLost, and BadInput when the state belongs to other settings.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    learner = Learner(net, config, train.labels, group)
    facts = {name: getattr(config, name) for name in _FACTS}
    if config.lr_scheduler == "cosine":
        facts["epochs"] = config.epochs
    rows: list[dict[str, Any]] = []

    state = checkpoints.load(state_dir)
    if state is not None:
        _check_same(state.facts, facts, state_dir)
        checkpoints.restore(state, state_dir, net, learner.trainer)
        rows = list(state.history)
    _begin_alike(learner, net, rows)

    for epoch in range(len(rows) + 1, config.epochs + 1):
        if stop() or early_stop([row[names.VALIDATION_ACCURACY] for row in rows], config):
            return
        started = time.perf_counter()
        group.send(str(epoch).encode())
        tally = _Tally(epoch, config, len(train), on_batch, group)
        rate = _train(learner, net, train, tally, stop)
        if rate is None:
            return
        trained_s = time.perf_counter() - started

        seen = scores.score(learner.graph, validation, config.top_k)
        best = all(seen.accuracy > row[names.VALIDATION_ACCURACY] for row in rows)
        if best:
            checkpoints.save_best(state_dir, epoch, net)
        if config.checkpoint_frequency is not None and epoch % config.checkpoint_frequency == 0:
            save_arrays(state_dir / "checkpoints" / f"epoch-{epoch:04d}.params", net.collect_params())
        record = EpochRecord(
            epoch=epoch,
            train_accuracy=tally.accuracy,
            train_loss=tally.loss,
            validation_accuracy=seen.accuracy,
            validation_loss=seen.loss,
            epoch_learning_rate=rate,
            images_per_s=tally.images / trained_s,
            epoch_time_s=time.perf_counter() - started,
            is_best=best,
            validation_never_predicted=seen.never_predicted,
            top_k=seen.top_k,
            train_top_k_accuracy=tally.top_k_accuracy,
            validation_top_k_accuracy=seen.top_k_accuracy,
            exploded=tally.exploded,
        )
        rows.append(record.values())
        checkpoints.save(state_dir, net, learner.trainer, rows, facts)
        yield record


def follow(net: Classifier, train: Batches, config: Config, group: Group) -> None:
    """Train along with worker 0, by this worker's share. Raises Released when it ends the run, else as ``fit``."""
    learner = Learner(net, config, train.labels, group)
    _begin_alike(learner, net, [])
    while True:
        epoch = int(group.receive())
        _train(learner, net, train, _Tally(epoch, config, len(train), None, group), lambda: False)


def _begin_alike(learner: Learner, net: Classifier, rows: list[dict[str, Any]]) -> None:
    """Give all workers the weights and the optimizer's memory of worker 0. Raises TrainerError."""
    group = learner.group
    if group.size == 1:
        return
    with tempfile.TemporaryDirectory(prefix="worker-") as place:
        folder = Path(place)
        if group.rank:
            (folder / "state-0000.npz").write_bytes(group.receive())
            state = checkpoints.load(folder)
            assert state is not None
            checkpoints.restore(state, folder, net, learner.trainer)
        else:
            checkpoints.save(folder, net, learner.trainer, rows, {})
            group.send(next(folder.iterdir()).read_bytes())
    _check_alike(net, group, "before the first step")


def _check_alike(net: Classifier, group: Group, when: str) -> None:
    if group.size > 1 and not group.agrees(checkpoints.digest(net)):
        raise TrainerError(f"The workers' weights are not the same {when}. Resume from the last whole epoch.")


def _train(learner: Learner, net: Classifier, train: Batches, tally: _Tally, stop: Callable[[], bool]) -> float | None:
    """One epoch; the learning rate at its end, None where ``stop`` ended it."""
    rate, epoch = 0.0, tally.epoch
    learner.begin(epoch)
    for number, (images, labels) in enumerate(train.epoch(epoch)):
        if stop():
            learner.group.call(backend.wait_for_all)
            return None
        rate = learning_rate(learner.config, epoch, (number + 0.5) / tally.num_batches)
        learner.trainer.set_learning_rate(rate)
        logits = learner.step(images, labels, epoch, number)
        # MXNet runs asynchronously: this waits for the previous step while the next batch is prepared.
        tally.add(logits, labels)
    tally.finish()
    learner.end()
    tally.total()
    _check_alike(net, learner.group, f"after epoch {epoch}")
    return rate


def history(state_dir: Path) -> list[dict[str, Any]]:
    """The epochs that the state in ``state_dir`` has done, as ``EpochRecord.values`` gives them; maybe none."""
    state = checkpoints.load(state_dir)
    return [] if state is None else state.history


def load_best(net: Classifier, state_dir: Path) -> int:
    """Give ``net`` the weights that validation chose; their epoch. Raises TrainerError when there are none."""
    epoch = checkpoints.best_epoch(history(state_dir))
    checkpoints.load_best(state_dir, epoch, net)
    return epoch


def early_stop(accuracies: list[float], config: Config) -> str:
    """Why early stopping ends training after the validation ``accuracies`` of the epochs so far; "" where it does not.

    An epoch improves when its gain over the best one before, divided by that best, is above zero and no smaller than
    the tolerance. Training ends once the minimum of epochs is done and as many as the patience in a row did not
    improve.
    """
    done = len(accuracies)
    if not config.early_stopping or not config.early_stopping_min_epochs <= done < config.epochs:
        return ""
    best, waited = 0.0, 0
    for accuracy in accuracies:
        gain = accuracy - best
        waited = 0 if gain > 0 and gain >= config.early_stopping_tolerance * best else waited + 1
        best = max(best, accuracy)
    if waited < config.early_stopping_patience:
        return ""
    least = f" of {config.early_stopping_tolerance:.3g} of the best or more" if config.early_stopping_tolerance else ""
    return (
        f"after epoch {done} of {config.epochs}: validation accuracy has made no gain{least} in"
        f" {plural(waited, 'epoch')}; the best is {best:.4f}, of epoch {1 + accuracies.index(best) if best else 1}"
    )


class _Tally:
    """An epoch's running loss and accuracy from logits that are still being computed."""

    def __init__(
        self,
        epoch: int,
        config: Config,
        num_batches: int,
        on_batch: Callable[[BatchProgress], None] | None,
        group: Group,
    ) -> None:
        self.group = group
        self.epoch, self.config, self.num_batches, self.on_batch = epoch, config, num_batches, on_batch
        self.top_k, self._first = config.top_k, 0.0
        self.batch = self.images = self._right = self._right_in_k = 0
        self._loss = 0.0
        self._waiting: tuple[list[Any], Any] | None = None
        self._started = time.perf_counter()
        self._told = 0.0
        self.exploded = ""

    def add(self, logits: list[Any], labels: np.ndarray[Any, Any]) -> None:
        """Take note of a step, and count the one before it. Raises TrainingDiverged."""
        self.finish()
        self._waiting = logits, labels

    def finish(self) -> None:
        """Count the step that is still open. Raises TrainingDiverged."""
        if self._waiting is None:
            return
        parts, labels = self._waiting
        self._waiting = None
        logits = np.concatenate(self.group.call(lambda: [part.asnumpy() for part in parts]))
        self.batch += 1
        losses = -scores.log_softmax(logits)[np.arange(len(labels)), labels]
        if not np.isfinite(losses).all():
            raise TrainingDiverged(
                f"The loss is no longer a number at step {self.batch} of {self.num_batches} of epoch {self.epoch}."
                f" Usually the learning rate is too high: {_advice(self.config)}; with adam and rmsprop an --eps near 0"
                " does the same."
            )
        if not self._first:  # no less than that of a network that knows nothing yet: a resumed one begins low
            self._first = max(float(losses.mean()), math.log(logits.shape[1]))
        elif losses.mean() > _EXPLODED * self._first and not self.exploded:
            self.exploded = (
                f"the loss has grown to {losses.mean():.3g}, over {_EXPLODED} times its first, at step {self.batch} of"
                f" {self.num_batches} of epoch {self.epoch}: {_advice(self.config)}"
            )
        rank = scores.ranks(logits, labels)
        self.images += len(labels)
        self._loss += float(losses.sum())
        self._right += int((rank == 0).sum())
        if self.top_k is not None:
            self._right_in_k += int((rank < self.top_k).sum())
        self._tell()

    def total(self) -> None:
        """Make the sums those of all workers."""
        sums = self.group.total(np.array([self._loss, self.images, self._right, self._right_in_k], np.float64))
        self._loss = float(sums[0])
        self.images, self._right, self._right_in_k = map(int, sums[1:])

    @property
    def loss(self) -> float:
        return self._loss / self.images

    @property
    def accuracy(self) -> float:
        return self._right / self.images

    @property
    def top_k_accuracy(self) -> float | None:
        return None if self.top_k is None else self._right_in_k / self.images

    def _tell(self) -> None:
        now = time.perf_counter()
        if self.on_batch is None or (now - self._told < _PROGRESS_EVERY_S and self.batch < self.num_batches):
            return
        self._told = now
        images = self.images * self.group.size  # the others are as far
        rate = images / (now - self._started)
        self.on_batch(
            BatchProgress(
                epoch=self.epoch,
                batch=self.batch,
                num_batches=self.num_batches,
                images=images,
                loss=self.loss,
                accuracy=self.accuracy,
                images_per_s=rate,
            )
        )


def _advice(config: Config) -> str:
    return f"try --learning-rate {config.learning_rate / 10:.2g}, or see what --find-lr suggests"


def _check_same(kept: dict[str, Any], wanted: dict[str, Any], state_dir: Path) -> None:
    changed = [f"{name} was {kept.get(name)}, is {value}" for name, value in wanted.items() if kept.get(name) != value]
    if changed:
        raise BadInput(
            f"{state_dir} holds the state of other settings: {'; '.join(changed)}. Resume with the same ones, or start"
            " a new run."
        )
