"""A split's predictions by class: counts, how many of each are found, how many of each claim are true."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports import stats
from reports.document import text
from reports.document.document import Column, Table
from reports.runs.predictions import Predictions


def confusion(predicted: Predictions, num_classes: int) -> NDArray[np.int64]:
    """``(K, K)`` counts: rows are labels, columns what was predicted."""
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (predicted.label, predicted.predicted), 1)
    return counts


def table(counts: NDArray[np.int64], classes: list[str]) -> Table:
    """One row a class: pictures, share found (recall) with Wilson's interval, share of claims true (precision)."""
    right, labelled, claimed = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall, precision = right / labelled, right / claimed
    low, high = stats.wilson(recall, labelled)
    names = [text.one_line(c) for c in classes[: len(counts)]]
    return Table(
        (
            Column("class", False, names),
            Column("pictures", True, [text.count(n) for n in labelled], labelled.tolist()),
            Column("found", True, [text.percent(r) for r in recall], recall.tolist()),
            Column("95 % interval", True, [text.interval(a, b) for a, b in zip(low, high, strict=True)], low.tolist()),
            Column("true when claimed", True, [text.percent(p) for p in precision], precision.tolist()),
            Column("mostly taken for", False, [_confused(row, i, names) for i, row in enumerate(counts)]),
        )
    )


def _confused(row: Any, own: int, names: list[str]) -> str:
    """``3 (5)``: the class it is most often taken for, and how often."""
    others = [(int(n), j) for j, n in enumerate(row) if j != own and n]
    if not others:
        return text.MISSING
    most, j = max(others, key=lambda o: (o[0], -o[1]))
    return f"{names[j]} ({most})"
