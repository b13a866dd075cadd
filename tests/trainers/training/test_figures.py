"""The two figures of a run: readable files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import image

from trainers.training import figures


def test_both_figures_are_pictures(tmp_path: Path) -> None:
    history = [
        {"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e, "train_accuracy": 0.5, "validation_accuracy": e / 4}
        for e in (1, 2, 3)
    ]
    curves, matrix = tmp_path / "deep" / "curves.png", tmp_path / "matrix.png"
    figures.learning_curves(curves, history, "a run")
    figures.confusion_matrix(matrix, np.array([0, 1, 1]), np.array([0, 1, 0]), ("cat", "dog"), "a run")
    for path in (curves, matrix):
        pixels = image.imread(path)
        assert min(pixels.shape[:2]) > 300 and pixels[..., :3].std() > 0.05


def test_one_epoch_and_many_classes_can_be_drawn(tmp_path: Path) -> None:
    row = {"epoch": 1, "train_loss": 1, "validation_loss": 2, "train_accuracy": 0.5, "validation_accuracy": 0.25}
    figures.learning_curves(tmp_path / "one.png", [row], "one epoch")
    labels = np.arange(100)
    figures.confusion_matrix(tmp_path / "many.png", labels, labels[::-1], [f"class {n}" for n in range(100)], "many")
    assert (tmp_path / "many.png").stat().st_size > 5000
