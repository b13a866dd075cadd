"""How much better the best of many looks than it is: what choosing by the very score that is shown adds to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reports.claims.two_way import ROUNDING, Floats

MOST_DRAWS = 2000
MOST_NUMBERS = 200_000


def flattery(means: ArrayLike, variances: ArrayLike, *, shared: float = 0.0) -> float:
    """By how much the highest of ``means`` (K,) overstates its own, by a parametric bootstrap; NaN where unknown.

    ``variances`` (K,) are those of the means, of which the part ``shared`` comes from pictures that are hard for all
    and moves every mean alike. The bootstrap starts from means drawn together as far as chance alone explains their
    differences (empirical Bayes): started from the means as they are, it would add chance to chance.
    """
    mean, variance = np.asarray(means, dtype=np.float64), np.asarray(variances, dtype=np.float64) * (1 - shared)
    known = ~np.isnan(mean) & ~np.isnan(variance)
    mean, variance = mean[known], variance[known]
    if len(mean) < 2:
        return float("nan")
    centre, seen = mean.mean(), mean.var(ddof=1)
    chance = min(1.0, float(variance.mean()) / seen) if seen > ROUNDING else 1.0
    start = centre + (1 - chance) * (mean - centre)
    shape = (max(50, min(MOST_DRAWS, MOST_NUMBERS // len(mean))), len(mean))
    draws = start + np.sqrt(variance) * np.random.Generator(np.random.PCG64(0)).standard_normal(shape)
    best = draws.argmax(axis=1)
    return float((draws.max(axis=1) - start[best]).mean())


def shared_part(columns: Floats) -> float:
    """The mean correlation of several configurations' answers over the pictures: ``columns`` (m, N) -> 0..1."""
    each = columns[columns.var(axis=1) > 0]
    if len(each) < 2:
        return 0.0
    between = np.corrcoef(each)
    return float(np.clip((between.sum() - len(each)) / (len(each) * (len(each) - 1)), 0, 1))
