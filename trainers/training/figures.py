"""The two figures of a run: learning curves and confusion matrix, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
_TRAIN, _VALIDATION = "#8a8f98", "#1f5fbf"


def learning_curves(path: Path, history: Sequence[dict[str, Any]], title: str) -> None:
    """Loss and accuracy of both splits over the epochs. ``history`` is one dict of metric values an epoch."""
    figure, (left, right) = _figure(9, 3.4, 2)
    epochs = [row["epoch"] for row in history]
    for axes, what in ((left, "loss"), (right, "accuracy")):
        for split, colour in (("train", _TRAIN), ("validation", _VALIDATION)):
            values = [row[f"{split}_{what}"] for row in history]
            axes.plot(epochs, values, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=split)
        axes.set_xlabel("epoch")
        axes.set_title(what, loc="left", fontsize=10)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25, linewidth=0.6)
    best = max(history, key=lambda row: (row["validation_accuracy"], -row["epoch"]))
    right.axvline(best["epoch"], color=_VALIDATION, linewidth=0.8, linestyle=":")
    right.set_title(
        f"accuracy   best validation {best['validation_accuracy']:.3f} at epoch {best['epoch']}",
        loc="left",
        fontsize=10,
    )
    left.legend(frameon=False, fontsize=9)
    _save(figure, path, title)


def confusion_matrix(path: Path, labels: Labels, predicted: Labels, names: Sequence[str], title: str) -> None:
    """Counts of label (N,) against prediction (N,); rows are what the picture is, shade is the share of the row."""
    size = len(names)
    counts = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(14.0, max(4.2, 0.42 * size + 1.6))
    figure, axes = _figure(side, side, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= 40:
        ticks = list(range(size))
        axes.set_xticks(
            ticks, [str(name) for name in names], rotation=90 if max(map(len, names)) > 3 else 0, fontsize=8
        )
        axes.set_yticks(ticks, [str(name) for name in names], fontsize=8)
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if shares[row, column] > 0.55 else "#333333",
            )
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    _save(figure, path, title)


def _figure(width: float, height: float, columns: int) -> tuple[Any, Any]:
    # matplotlib's object interface: pyplot would pick a window system and keep global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns)
    for one in np.atleast_1d(axes):
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
