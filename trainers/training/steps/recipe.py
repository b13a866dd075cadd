"""One step of training: pictures and labels in, weights changed, logits out; with what the settings make of labels.

Whatever is drawn follows from the seed, the epoch and the step alone, so that a resumed run draws the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainers.networks import backend
from trainers.networks.group import ALONE, Group
from trainers.networks.resnet import to_array
from trainers.training.steps.optimizers import trainer_for

if TYPE_CHECKING:
    from trainers.config import Config
    from trainers.networks.resnet import Classifier

mx = backend.load()
_MIXED = 1  # apart from the draws of the augmentation, which have the same seed, epoch and step


class Learner:
    """A network and what changes it. ``graph`` computes what the network does, in the settings' precision."""

    def __init__(self, net: Classifier, config: Config, labels: NDArray[np.int64], group: Group = ALONE) -> None:
        """``labels`` are those of the training split, whose counts ``--class-weights balanced`` goes by.

        A batch is shared by the devices that the network is on, and by the workers of ``group``.
        """
        self.config, self.group = config, group
        self.trainer = trainer_for(net, config)
        parameters = net.collect_params()
        self.devices = next(iter(parameters.values())).list_ctx()
        self._learnt = {name: one for name, one in parameters.items() if one.grad_req != "null"}
        self._statistics = [p for name, p in parameters.items() if name.endswith(("running_mean", "running_var"))]
        # Gradients alone are kept in the store. Weights under the same keys, as Gluon's Trainer keeps them, may be
        # overwritten by the first gradients before each worker has them.
        self._store: Any = group.store or (mx.kv.create("device") if len(self.devices) > 1 else None)
        if self._store is not None:
            keys, arrays = list(self._learnt), [one.list_grad()[0] for one in self._learnt.values()]
            group.call(lambda: self._store.init(keys, arrays))
        self.graph = backend.computing_in(net, config.precision_dtype)
        self._head = net.head
        self._body = net.without_head() if config.freeze else None
        self._weights = class_weights(labels, net.num_classes) if config.class_weights else None
        self._soft = bool(config.label_smoothing or config.mixup or config.class_weights)
        self._num_classes = net.num_classes
        self._loss = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not self._soft)
        self._loss.hybridize()

    def begin(self, epoch: int) -> None:
        """Called before an epoch (from 1): layers that draw (dropout) draw the same whenever it is trained."""
        own = [self.group.rank] if self.group.rank else []
        mx.random.seed(int(np.random.default_rng([self.config.seed, epoch, *own]).integers(2**31)))

    def step(self, images: NDArray[Any], labels: NDArray[np.int64], epoch: int, number: int) -> list[Any]:
        """Change the weights by one batch, or this worker's share; its logits, of the state before, by device."""
        pixels, targets = self._mixed(images, labels, epoch, number)
        frozen = self._body is not None and epoch < (self.config.unfreeze_epoch or epoch + 1)
        given, wanted = self._shared(pixels), self._shared(targets)
        if frozen and self._body is not None:
            given = [self._body(part) for part in given]
        with mx.autograd.record():
            logits = [(self._head if frozen else self.graph)(part) for part in given]
            losses = [self._loss(answer, right) for answer, right in zip(logits, wanted, strict=True)]
        mx.autograd.backward(losses)
        if self._store is not None:
            learns = self._head.collect_params() if frozen else self._learnt
            for number, (key, parameter) in enumerate(learns.items()):
                self._store.pushpull(key, parameter.list_grad(), priority=-number)
        size = len(labels) if self.group.size == 1 else self.config.mini_batch_size  # of the whole batch
        self.trainer.update(size, ignore_stale_grad=frozen)
        return logits

    def end(self) -> None:
        """Called after an epoch: waits for its last step, and gives all devices and workers the same statistics.

        Each has normalised by those of its own share; the means over all are what the network is scored with.
        """
        self.group.call(backend.wait_for_all)
        if len(self.devices) == self.group.size == 1 or not self._statistics:
            return
        means = [np.mean([part.asnumpy() for part in one.list_data()], axis=0) for one in self._statistics]
        whole = self.group.total(np.concatenate(means, dtype=np.float64)) / self.group.size
        for parameter, mean in zip(
            self._statistics, np.split(whole, np.cumsum([len(mean) for mean in means])[:-1]), strict=True
        ):
            parameter.set_data(to_array(mean))

    def _shared(self, values: NDArray[Any]) -> list[Any]:
        parts = np.array_split(values, len(self.devices))
        return [to_array(part, device) for part, device in zip(parts, self.devices, strict=True)]

    def _mixed(
        self, images: NDArray[Any], labels: NDArray[np.int64], epoch: int, number: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Pictures and what the loss compares with: labels (B,), or a share of each class (B, K)."""
        if not self._soft:
            return images, labels
        smoothing = self.config.label_smoothing or 0.0
        targets = np.full((len(labels), self._num_classes), smoothing / self._num_classes, np.float32)
        targets[np.arange(len(labels)), labels] += 1 - smoothing
        if self._weights is not None:
            targets *= self._weights[labels][:, None]
        if self.config.mixup:  # Zhang 2018; the order is drawn already, so that its reverse is a random pairing
            rng = np.random.default_rng([self.config.seed, epoch, number, _MIXED])
            share = np.float32(rng.beta(self.config.mixup, self.config.mixup))
            share = max(share, 1 - share)
            images = share * images.astype(np.float32) + (1 - share) * images[::-1]
            targets = share * targets + (1 - share) * targets[::-1]
        return images, targets


def class_weights(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """(K,): what a picture of each class counts, so that all classes count alike and the mean over pictures is 1."""
    counts = np.bincount(labels, minlength=num_classes)
    return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
