"""A run's model: the trained network, what a picture goes through before it, and its ONNX copy with the proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking.models import package
from trainers.data import Batches
from trainers.errors import DiskFull
from trainers.networks import resnet, saved

if TYPE_CHECKING:
    from trainers.config import Config
    from trainers.data import Dataset, Split

# How many pictures both runtimes are shown: enough to see a wrong graph, few enough to take no time.
_SHOWN, _SHOWN_LARGE, _LARGE_PX = 8, 2, 64


def save(net: Any, folder: Path, config: Config, dataset: Dataset, epoch: int) -> dict[str, Any]:
    """Write the network as an MLflow model into ``folder``; the facts as ``model.json`` holds them.

    ``facts["onnx"]`` tells how far the ONNX copy lies from MXNet on real validation pictures, or under ``problem`` why
    there is none. Raises DiskFull.
    """
    saved.save_model(net, folder, described(config, dataset, epoch))
    shown = _some(dataset.validation, config)
    try:
        written = package.package(folder, pictures=shown, ask=lambda pictures: net(resnet.to_array(pictures)).asnumpy())
    except OSError as error:
        if saved.is_disk_full(error):
            raise DiskFull(f"No room left to write {folder}. Free some space and go on with --resume.") from error
        raise
    facts: dict[str, Any] = written["metadata"]
    return facts


def described(config: Config, dataset: Dataset, epoch: int) -> dict[str, Any]:
    """What a picture goes through before the network, what its answers mean, and which epoch's weights these are."""
    own = dataset.train.pictures.own
    native = dataset.facts.height, dataset.facts.width
    mean, std = resnet.normalisation(config.shape[0])
    return {
        "class_names": list(map(str, dataset.class_names)),
        "resize": config.resize,
        # Bundled pictures are scaled to the network's size, whatever their own; a user's are cropped.
        "fit": "crop" if own or config.resize else "squash",
        "native_size": None if None in native else list(native),
        "interpolation": "linear" if own else "area",
        "normalisation": {"mean": mean.round(6).tolist(), "std": std.round(6).tolist(), "where": "inside the graph"},
        "epoch": epoch,
        "dataset": config.dataset,
    }


def _some(split: Split, config: Config) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A few pictures from all over the split, (n, C, H, W) uint8, as the network is shown them."""
    count = min(len(split), _SHOWN if max(config.shape[1:]) <= _LARGE_PX else _SHOWN_LARGE)
    few = split.take(np.linspace(0, len(split) - 1, count).astype(np.int64))
    batches = Batches(few, image_shape=config.shape, resize=config.resize, batch_size=count)
    images, _ = next(iter(batches.epoch(0)))
    return np.asarray(images, np.uint8)
