"""The two figures of a run and the predictions file: right numbers in them, and readable files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import image
from pyarrow import parquet

from trainers.training import figures, record


class FakeSplit:
    labels = np.array([0, 1, 2])
    keys = ["a", "b", "c"]
    image_digests = ["d0", "d1", "d2"]

    def __len__(self) -> int:
        return 3


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


def test_predictions_hold_one_row_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "p" / "test.parquet"
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.0, 0.1, 0.9]], np.float32)
    record.write_predictions(path, FakeSplit(), probabilities)  # type: ignore[arg-type]
    table = parquet.read_table(path).to_pydict()
    assert table["predicted"] == [0, 0, 2] and table["label"] == [0, 1, 2] and table["key"] == ["a", "b", "c"]
    np.testing.assert_allclose(table["probability"], [0.7, 0.6, 0.9], rtol=1e-6)
