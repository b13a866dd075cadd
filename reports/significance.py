"""Is one configuration better than another, judged on the same pictures?

One seed each: McNemar's exact test. Several: a bootstrap over the pictures of the share of seeds that get each right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports import stats
from reports.document import text
from tracking.frame.query import HasUri
from tracking.store.predictions import Predictions, common, load, mcnemar

LEVEL = 0.05
MOST_SEEDS = 10


@dataclass(frozen=True)
class Verdict:
    """A paired test's outcome on ``num_images`` pictures.

    ``only_first`` and ``only_second`` are counts of pictures for one seed each (McNemar), None where several seeds were
    averaged (bootstrap over the pictures).
    """

    num_images: int
    difference: stats.Difference
    only_first: int | None = None
    only_second: int | None = None

    @property
    def significant(self) -> bool:
        return self.difference.p_value < LEVEL

    def words(self, what: str = "seeds") -> str:
        """``exact McNemar test on the same 360 pictures: 9 that only the first gets right, 5 only the second, p = …``.

        ``what`` was averaged: seeds, or runs.
        """
        p = text.p_value(self.difference.p_value)
        if self.only_first is not None:
            return (
                f"exact McNemar test on the same {text.plural(self.num_images, 'picture')}: {self.only_first} that only"
                f" the first gets right, {self.only_second} only the second, {p}"
            )
        low, high = text.points(self.difference.low), text.points(self.difference.high)
        return (
            f"paired bootstrap over the same {text.plural(self.num_images, 'picture')}, {what} averaged: between {low}"
            f" and {high} points, {p}"
        )


def compare(first: Sequence[Predictions], second: Sequence[Predictions]) -> Verdict | None:
    """The verdict on two configurations from their seeds' predictions; None without pictures in common."""
    if not first or not second:
        return None
    paired = common([*first, *second])
    hits = [one.hits for one in paired]
    num_images = len(hits[0])
    if num_images == 0:
        return None
    a, b = (np.mean(part, axis=0) for part in (hits[: len(first)], hits[len(first) :]))
    difference = stats.paired_bootstrap(a, b)
    if len(first) > 1 or len(second) > 1:
        return Verdict(num_images, difference)
    exact = mcnemar(hits[0], hits[1])
    judged = stats.Difference(difference.estimate, difference.low, difference.high, exact.p_value)
    return Verdict(num_images, judged, exact.only_first, exact.only_second)


def of_row(store: HasUri, row: pd.Series[Any], artifact_uris: dict[str, Any], split: str) -> list[Predictions] | None:
    """The predictions of every run that counts of a configuration (of ten at most); None where one of them has none."""
    counted = [run for run in row["run_ids"] if run not in row["repeats"]]
    found = [load(store.tracking_uri, artifact_uris.get(run), split) for run in counted[:MOST_SEEDS]]
    return [f for f in found if f is not None] if all(f is not None for f in found) else None
