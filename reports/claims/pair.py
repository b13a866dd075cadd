"""Is one network better than another on the pictures both were tested on? The test of the leaderboard, for two runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.claims.verdict import Entry, judge
from reports.document import text
from tracking.store.predictions import Predictions, common


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How much better the first is on ``num_images`` pictures, with its interval and McNemar's exact p value.

    ``only_first`` and ``only_second`` count the pictures that one of them alone gets right.
    """

    num_images: int
    difference: float
    low: float
    high: float
    p_value: float
    only_first: int
    only_second: int

    def words(self) -> str:
        """``exact McNemar test on the same 360 pictures: 9 that only the first gets right, 5 only …, p = …``."""
        return (
            f"exact McNemar test on the same {text.plural(self.num_images, 'picture')}: {self.only_first} that only"
            f" the first gets right, {self.only_second} only the second, {text.p_value(self.p_value)}"
        )


def compare(first: Predictions, second: Predictions) -> Verdict | None:
    """The verdict on two networks; None without pictures in common."""
    a, b = (one.hits for one in common([first, second]))
    if not len(a):
        return None
    entries = [
        Entry(seeds=(None,), scores=np.array([hits.mean()]), hits=hits[None].astype(np.float64), answers=len(hits))
        for hits in (a, b)
    ]
    judged = judge(entries)
    return Verdict(
        num_images=len(a),
        difference=float(judged.difference[0, 1]),
        low=float(judged.low[0, 1]),
        high=float(judged.high[0, 1]),
        p_value=float(judged.p_value[0, 1]),
        only_first=int((a & ~b).sum()),
        only_second=int((b & ~a).sum()),
    )
