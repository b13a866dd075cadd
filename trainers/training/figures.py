"""The two figures of a run as SVG files: learning curves and confusion matrix, drawn by the reports' charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from reports.document.document import Figure

Labels = npt.NDArray[np.int64]


def learning_curves(path: Path, history: Sequence[dict[str, Any]], title: str) -> None:
    """Loss and accuracy of both splits over the epochs. ``history`` is one dict of metric values an epoch."""
    from reports.charts import figures

    _save(figures.training(path.stem, history, title), path)


def confusion_matrix(path: Path, labels: Labels, predicted: Labels, names: Sequence[str], title: str) -> None:
    """Counts of label (N,) against prediction (N,); rows are what the picture is, shade is the share of the row."""
    from reports.charts import figures

    size = len(names)
    counts = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
    _save(figures.confusion(path.stem, counts.tolist(), [str(name) for name in names], "", title), path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(figure.svg + "\n", encoding="utf-8")
