"""How good a network is on a split: every picture once, exactly N of them, computed from its logits.

The arithmetic is NumPy's in float64, shared by training (per batch) and evaluation (whole splits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracking.models.facts import INT8, ONNX
from trainers.errors import BadData, BadInput, TrainingDiverged
from trainers.networks import backend


class Pictures(Protocol):
    """What scoring needs of ``trainers.data.Batches``."""

    batch_size: int

    def epoch(self, number: int) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]: ...


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A split's scores. ``top_k_accuracy`` is None where there are no more than k classes: it would always be 1."""

    accuracy: float
    loss: float  # mean cross-entropy, nats
    num_images: int
    top_k: int | None
    top_k_accuracy: float | None
    probabilities: NDArray[np.float32]  # (N, K)
    labels: NDArray[np.int64]  # (N,)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest class of each picture ``(N,)``; of equal ones the lowest."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def never_predicted(self) -> int:
        """How many classes with five pictures or more are the answer to none."""
        num_classes = self.probabilities.shape[1]
        labelled, answered = (np.bincount(a, minlength=num_classes) for a in (self.labels, self.predicted))
        return int(((labelled >= 5) & (answered == 0)).sum())

    @property
    def by_class(self) -> tuple[float, float, float]:
        """Balanced accuracy, macro-F1, and the accuracy of always answering the commonest class.

        As in scikit-learn: the mean recall of the classes that are labelled, the mean F1 of those that are labelled or
        predicted.
        """
        num_classes = self.probabilities.shape[1]
        labelled, answered = (np.bincount(a, minlength=num_classes) for a in (self.labels, self.predicted))
        right = np.bincount(self.labels[self.labels == self.predicted], minlength=num_classes)
        either = labelled + answered > 0
        recall = right[labelled > 0] / labelled[labelled > 0]
        f1 = 2 * right[either] / (labelled + answered)[either]
        return float(recall.mean()), float(f1.mean()), float(labelled.max() / self.num_images)


def score(net: Any, batches: Pictures, top_k: int | None = 5) -> Scores:
    """Run every picture of ``batches`` through ``net`` (raw pixels to logits) once and score the answers.

    Raises BadData for an empty split or labels the network has no output for, TrainingDiverged for logits that are
    no numbers.
    """
    logits: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.int64]] = []
    waiting = None  # one batch is computed while the next is prepared
    for images, batch_labels in batches.epoch(0):
        answer = net(_padded(images, batches.batch_size, whole=not labels))
        if waiting is not None:
            logits.append(waiting.asnumpy()[: len(labels[-1])])
        waiting = answer
        labels.append(batch_labels)
    if waiting is None:
        raise BadData("There is not one picture to score: the split is empty.")
    logits.append(waiting.asnumpy()[: len(labels[-1])])
    backend.wait_for_all()
    return of_logits(np.concatenate(logits), np.concatenate(labels), top_k)


def score_arrays(network: Callable[[NDArray[Any]], NDArray[Any]], batches: Pictures, top_k: int | None = 5) -> Scores:
    """As ``score``, for a network that takes and gives NumPy arrays, such as an ONNX copy."""
    answers = [(network(images), labels) for images, labels in batches.epoch(0)]
    if not answers:
        raise BadData("There is not one picture to score: the split is empty.")
    logits, labels = zip(*answers, strict=True)
    return of_logits(np.concatenate(logits), np.concatenate(labels), top_k)


def of_logits(logits: NDArray[Any], labels: NDArray[np.int64], top_k: int | None = 5) -> Scores:
    """Scores of logits ``(N, K)`` against labels ``(N,)``; errors as ``score``."""
    num_images, num_classes = logits.shape
    if labels.min() < 0 or labels.max() >= num_classes:
        raise BadData(f"Labels run from {labels.min()} to {labels.max()}, but the network has {num_classes} classes.")
    log_probabilities = log_softmax(logits)
    if not np.isfinite(log_probabilities).all():
        row = int(np.flatnonzero(~np.isfinite(log_probabilities).all(axis=1))[0])
        raise TrainingDiverged(
            f"The network's answer to picture {row + 1} of {num_images} is not a number: its weights have diverged."
            " A smaller --learning-rate usually helps."
        )
    rank = ranks(logits, labels)
    k = top_k if top_k is not None and top_k < num_classes else None
    return Scores(
        accuracy=float((rank == 0).mean()),
        loss=float(-log_probabilities[np.arange(num_images), labels].mean()),
        num_images=num_images,
        top_k=k,
        top_k_accuracy=None if k is None else float((rank < k).mean()),
        probabilities=np.exp(log_probabilities).astype(np.float32),
        labels=labels,
    )


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Logarithm of the class probabilities ``(N, K)``, computed so that large logits don't overflow."""
    with np.errstate(invalid="ignore"):  # infinities become NaN, which the callers look for
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def ranks(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes rank before the right one, ``(N,)``; among equal logits the lower class ranks first."""
    own = logits[np.arange(len(labels)), labels][:, None]
    lower = np.arange(logits.shape[1])[None, :] < labels[:, None]
    return ((logits > own) | ((logits == own) & lower)).sum(axis=1)  # type: ignore[no-any-return]


def _padded(images: NDArray[Any], batch_size: int, whole: bool) -> Any:
    """A batch as an MXNet array; a short last one is filled up with black pictures.

    Equal shapes keep MXNet's compiled plan, and a picture's answer doesn't depend on how many came with it. ``whole``
    is a lone batch, which has no other shape to match.
    """
    from trainers.networks.resnet import to_array

    short = batch_size - len(images)
    if short > 0 and not whole:
        filler = np.zeros((short, *images.shape[1:]), dtype=images.dtype)
        images = np.concatenate([images, filler])
    return to_array(images)


RUNTIMES = ("auto", "mxnet", "onnx", "onnx-int8")


def scorer(model_dir: Path, runtime: str = "auto", num_threads: int = 0) -> Callable[[Pictures], Scores]:
    """A function that scores pictures with the saved network.

    ``auto`` takes the ONNX copy where there is one and onnxruntime is installed. Raises BadInput when the runtime
    asked for cannot be had.
    """
    from trainers.networks import saved

    saved.read_meta(model_dir)
    if runtime == "onnx-int8" and not (model_dir / INT8).is_file():
        raise BadInput("--runtime onnx-int8: this model has no int8 copy; train it with --int8.")
    if runtime.startswith("onnx") or (runtime == "auto" and (model_dir / ONNX).is_file()):
        from tracking.models.serving.files import DamagedModel, check
        from tracking.models.serving.runtime import Network, OnnxNetwork, load

        try:
            network: Network
            if runtime == "onnx-int8":
                check(model_dir, INT8)
                network = OnnxNetwork(model_dir / INT8, num_threads)
            else:
                network = load(model_dir, "onnx", num_threads)
            return lambda batches: score_arrays(network, batches)
        except DamagedModel as error:
            raise BadInput(f"{error}") from error
        except ImportError as error:
            if runtime != "auto":
                raise BadInput(f"--runtime {runtime}: {error}") from error
    net, _ = saved.load_model(model_dir)
    return lambda batches: score(net, batches)
