"""One step of training: pictures and labels in, weights changed, logits out; with what the settings make of labels.

Whatever is drawn follows from the seed, the epoch and the step alone, so that a resumed run draws the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainers.networks import backend
from trainers.networks.resnet import to_array
from trainers.training.steps.optimizers import trainer_for

if TYPE_CHECKING:
    from trainers.config import Config
    from trainers.networks.resnet import Classifier

mx = backend.load()
_MIXED = 1  # apart from the draws of the augmentation, which have the same seed, epoch and step


class Learner:
    """A network and what changes it. ``graph`` computes what the network does, in the settings' precision."""

    def __init__(self, net: Classifier, config: Config, labels: NDArray[np.int64]) -> None:
        """``labels`` are those of the training split, whose counts ``--class-weights balanced`` goes by."""
        self.config = config
        self.trainer = trainer_for(net, config)
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
        mx.random.seed(int(np.random.default_rng([self.config.seed, epoch]).integers(2**31)))

    def step(self, images: NDArray[Any], labels: NDArray[np.int64], epoch: int, number: int) -> Any:
        """Change the weights by one batch; its logits, of the state before."""
        pixels, targets = self._mixed(images, labels, epoch, number)
        frozen = self._body is not None and epoch < (self.config.unfreeze_epoch or epoch + 1)
        features = self._body(to_array(pixels)) if frozen and self._body is not None else None
        with mx.autograd.record():
            logits = self.graph(to_array(pixels)) if features is None else self._head(features)
            loss = self._loss(logits, to_array(targets))
        loss.backward()
        self.trainer.step(len(labels), ignore_stale_grad=frozen)
        return logits

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
