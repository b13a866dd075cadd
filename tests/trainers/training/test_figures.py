"""The two figures of a run: readable files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from trainers.training import record as figures


def drawn(path: Path) -> str:
    """The text of an SVG file."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and float(root.attrib["width"]) > 150
    return path.read_text(encoding="utf-8")


def test_both_figures_say_what_they_show(tmp_path: Path) -> None:
    history = [
        {"epoch": e, "train_loss": 1 / e, "validation_loss": 2 / e, "train_accuracy": 0.5, "validation_accuracy": e / 4}
        for e in (1, 2, 3)
    ]
    curves, matrix = tmp_path / "deep" / "curves.svg", tmp_path / "matrix.svg"
    figures.learning_curves(curves, history, "a run <1>")
    figures.confusion_matrix(matrix, np.array([0, 1, 1]), np.array([0, 1, 0]), ("cat", "dog"), "a run")
    assert "best validation 75.0 % at epoch 3" in drawn(curves) and ">a run &lt;1&gt;<" in drawn(curves)
    assert "validation loss 2 after epoch 1, 0.6667 after epoch 3" in drawn(curves)
    # Two lines in each of the two panels.
    assert drawn(curves).count("<path") == 4
    assert "a run: 2 of 3 right. Most frequent: dog predicted as cat once." in drawn(matrix)
    assert "<title>dog predicted as cat: 1 of 2</title>" in drawn(matrix)


def test_one_epoch_a_lost_loss_and_many_classes_can_be_drawn(tmp_path: Path) -> None:
    row = {"epoch": 1, "train_loss": np.nan, "validation_loss": 2, "train_accuracy": 0.5, "validation_accuracy": 0.25}
    figures.learning_curves(tmp_path / "one.svg", [row], "one epoch")
    assert drawn(tmp_path / "one.svg").count("<circle") == 3
    for size in (100, 1000):
        labels = np.arange(size)
        names = [f"class {n}" for n in range(size)]
        figures.confusion_matrix(tmp_path / f"{size}.svg", labels, labels[::-1], names, "many")
        # The background, the paper and a cell for each pair that occurs: the file stays small.
        assert drawn(tmp_path / f"{size}.svg").count("<rect") == size + 2
