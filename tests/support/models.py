"""Networks with settled statistics and real photographs for the tests of saved models."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

# Depth, version, input: every family of trainers/networks/resnet.py, basic and bottleneck blocks, colour and grey.
FAMILIES = (
    (20, "v1", (3, 28, 28)),
    (20, "v2", (3, 28, 28)),
    (20, "v1", (1, 28, 28)),
    (18, "v1", (3, 32, 32)),
    (18, "v2", (3, 32, 32)),
    (18, "v1b", (3, 32, 32)),
    (50, "v1", (3, 32, 32)),
    (50, "v2", (3, 32, 32)),
    (50, "v1b", (3, 32, 32)),
)
CLASS_NAMES = ["cat", "dog", "naïve owl", "4"]


@functools.cache
def photographs() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two real photographs, (427, 640, 3) uint8, that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    return china, flower


def crops(count: int, shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.uint8]:
    """(count, H, W, C) uint8: pieces of the photographs."""
    channels, height, width = shape
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        photo = photographs()[number % 2]
        top, left = (
            int(rng.integers(0, have - want)) for have, want in zip(photo.shape[:2], (height, width), strict=True)
        )
        found.append(photo[top : top + height, left : left + width, :channels])
    return np.ascontiguousarray(np.stack(found))


@functools.cache
def network(num_layers: int, version: str, shape: tuple[int, int, int], num_classes: int = 4, thin: bool = True) -> Any:
    """A network whose batch statistics fit photographs, so that its answers are moderate, as a trained one's are.

    ``thin``: an eighth of the channels where the zoo leaves them open, so that a test writes megabytes and not hundreds
    of them; the graph is the same.
    """
    from trainers.networks import resnet, weights

    with ExitStack() as patches:
        if thin:
            patches.enter_context(patch.object(resnet, "_BASIC_WIDTHS", [8, 8, 16, 32, 64]))
            patches.enter_context(patch.object(resnet, "_BOTTLENECK_WIDTHS", [8, 32, 64, 128, 256]))
        net = resnet.build(num_layers, num_classes, shape, version)
    weights.initialise(net, "scratch", seed=1)
    _set_momentum(net, 0)  # one batch is all the statistics
    pictures = resnet.to_array(crops(16, shape, seed=9).transpose(0, 3, 1, 2))
    with resnet.mx.autograd.train_mode():
        net(pictures).wait_to_read()
    _set_momentum(net, 0.9)
    scale = 4 / float(abs(net(pictures)).max().asscalar())
    net.head.weight.set_data(net.head.weight.data() * scale)
    return net


def _set_momentum(net: Any, momentum: float) -> None:
    from trainers.networks import resnet

    def change(block: Any) -> None:
        if isinstance(block, resnet.mx.gluon.nn.BatchNorm):
            block._kwargs["momentum"] = momentum

    net.apply(change)
    net.hybridize(static_alloc=True, static_shape=True)  # forgets the graph with the former one


def ask(net: Any, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The network's logits for (N, H, W, C) uint8."""
    from trainers.networks import resnet

    answer: NDArray[np.float32] = net(resnet.to_array(pictures.transpose(0, 3, 1, 2))).asnumpy()
    return answer


def probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax (N, K) in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def by_class(table: Any, class_names: list[str]) -> NDArray[np.float64]:
    """The column ``probabilities`` of an answer as (N, K)."""
    return np.array([[row[name] for name in class_names] for row in table["probabilities"]])


def save(net: Any, path: Path, **how: Any) -> Path:
    """Save a network as a model, with real pictures."""
    from tracking.models import gluon

    pictures = crops(4, net.shape).transpose(0, 3, 1, 2)
    gluon.save_model(net, path, **{"class_names": CLASS_NAMES, "pictures": pictures, **how})
    return path


@functools.cache
def saved_model(num_layers: int, version: str, shape: tuple[int, int, int]) -> Path:
    """The same network, saved once for all tests; nobody writes to it."""
    folder = Path(tempfile.mkdtemp(prefix="saved-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return save(network(num_layers, version, shape), folder / "model", epoch=7)
