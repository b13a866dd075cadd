"""Write scores to a run: metrics, per-picture predictions, learning curves and the test split's confusion matrix.

MXNet is loaded to save a network, not to record the scores of an ONNX copy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tracking import names
from tracking.models import package
from tracking.store import predictions
from trainers.data import Batches
from trainers.errors import room_for

if TYPE_CHECKING:
    from reports.document.document import Figure
    from tracking.run import Run
    from trainers.config import Config
    from trainers.data import Dataset, Split
    from trainers.training.scores import Scores

# How many pictures both runtimes are shown: enough to see a wrong graph, few enough to take no time.
_SHOWN, _SHOWN_LARGE, _LARGE_PX = 8, 2, 64
_CALIBRATED = 256  # pictures that the ranges of an int8 copy are measured on


def record(
    run: Run,
    context: str,
    split: Split,
    scores: Scores,
    class_names: Sequence[str],
    *,
    step: int,
    run_name: str,
    logged: Collection[tuple[str, int]] = (),
) -> None:
    """Log ``scores`` of the whole of ``split``; ``step`` is the epoch of the weights.

    ``logged`` are metrics, with their steps, that an earlier attempt has written: they are left out.

    ``context`` is the split's name, or for another data set a name of its own, with which metrics and file begin.

    Training logs validation accuracy and loss epoch by epoch; here the validation split adds only what it has not.
    """
    files = run.dir / "files"
    values: dict[str, float] = {names.num_images(context): scores.num_images}
    values |= {name(context): value for name, value in zip(names.BY_CLASS, scores.by_class, strict=True)}
    if context != "validation":
        values |= {names.accuracy(context): scores.accuracy, names.loss(context): scores.loss}
    if scores.top_k is not None and scores.top_k_accuracy is not None:
        values[names.top_k_accuracy(context, scores.top_k)] = scores.top_k_accuracy
    run.log_metrics({name: value for name, value in values.items() if (name, step) not in logged}, step=step)
    path = files / predictions.FOLDER / f"{context}.parquet"
    predictions.write(
        path,
        digests=split.image_digests,
        keys=split.keys,
        labels=split.labels,
        probabilities=scores.probabilities,
    )
    run.log_artifact(path, predictions.FOLDER)
    if context == "test":
        figure = files / "figures" / "confusion_matrix.svg"
        title = f"{run_name}: test accuracy {scores.accuracy:.4f} on {scores.num_images:,} pictures"
        confusion_matrix(figure, scores.labels, scores.predicted, class_names, title)
        run.log_artifact(figure, "figures")


def save(net: Any, folder: Path, config: Config, dataset: Dataset, epoch: int) -> dict[str, Any]:
    """Write the network as an MLflow model into ``folder``; the facts as ``model.json`` holds them.

    ``facts["onnx"]`` is how far the ONNX copy differs from MXNet on real validation pictures, or under ``problem`` why
    there is none. Raises DiskFull.
    """
    from trainers.networks import resnet, saved

    saved.save_model(net, folder, described(config, dataset, epoch))
    shown = _some(dataset.validation, config)
    measured = _some(dataset.validation, config, _CALIBRATED) if config.int8 else None
    with room_for(folder):
        written = package.package(
            folder,
            pictures=shown,
            ask=lambda pictures: net(resnet.to_array(pictures)).asnumpy(),
            calibration=measured,
        )
    facts: dict[str, Any] = written["metadata"]
    return facts


def described(config: Config, dataset: Dataset, epoch: int) -> dict[str, Any]:
    """What a picture goes through before the network, what its answers mean, and which epoch's weights these are."""
    from trainers.networks import resnet

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


def _some(split: Split, config: Config, most: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A few pictures from all over the split, (n, C, H, W) uint8, as the network is shown them."""
    count = min(len(split), most or (_SHOWN if max(config.shape[1:]) <= _LARGE_PX else _SHOWN_LARGE))
    few = split.take(np.linspace(0, len(split) - 1, count).astype(np.int64))
    batches = Batches(few, image_shape=config.shape, resize=config.resize, batch_size=count)
    images, _ = next(iter(batches.epoch(0)))
    return np.asarray(images, np.uint8)


def learning_curves(path: Path, history: Sequence[dict[str, Any]], title: str) -> None:
    """Loss and accuracy of both splits over the epochs. ``history`` is one dict of metric values an epoch."""
    from reports.charts import figures

    _save(figures.training(path.stem, history, title), path)


def confusion_matrix(
    path: Path,
    labels: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    class_names: Sequence[str],
    title: str,
) -> None:
    """Counts of label (N,) against prediction (N,); rows are what the picture is, shade is the share of the row."""
    from reports.charts import figures

    size = len(class_names)
    counts = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
    _save(figures.confusion(path.stem, counts.tolist(), [str(name) for name in class_names], "", title), path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(figure.svg + "\n", encoding="utf-8")
