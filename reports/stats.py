"""Intervals of one score, many tests, what choosing the best adds, calibration.

Arrays in, numbers out; scores are in 0..1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
MOST_DRAWS = 2000
MOST_NUMBERS = 200_000


def wilson(share: ArrayLike, num_images: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval (Wilson 1927) of a share of ``num_images`` pictures; NaN where either is missing.

    ``share`` and ``num_images``: ``(n,)`` or scalars. Returns lows and highs of the same shape. A share outside 0..1
    has no interval (NaN).
    """
    p, n = np.broadcast_arrays(np.asarray(share, dtype=np.float64), np.asarray(num_images, dtype=np.float64))
    legal = (p >= 0) & (p <= 1) & (n > 0)
    p, n = np.where(legal, p, np.nan), np.where(legal, n, np.nan)
    z = float(special.ndtri(0.5 + level / 2))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and 1 the formula's end is exact; only rounding would miss it.
    low = np.where(p == 0, 0.0, np.maximum(middle - half, 0.0))
    high = np.where(p == 1, 1.0, np.minimum(middle + half, 1.0))
    return np.where(legal, low, np.nan), np.where(legal, high, np.nan)


def t_interval(mean: ArrayLike, spread: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Student's interval of the mean of ``n`` seeds with sample standard deviation ``spread``; NaN for fewer than two.

    All ``(k,)`` or scalars. Not clipped: the caller knows the legal range.
    """
    m, s, count = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (mean, spread, n)))
    enough = count >= 2
    safe = np.where(enough, count, 2.0)
    half = special.stdtrit(safe - 1, 0.5 + level / 2) * s / np.sqrt(safe)
    return np.where(enough, m - half, np.nan), np.where(enough, m + half, np.nan)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction (Holm 1979) of ``(m,)`` p values, in their order; NaN stays NaN, uncounted."""
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    adjusted = np.full(p.shape, np.nan)
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if order.size else steps
    return adjusted


def flattery(means: ArrayLike, variances: ArrayLike, *, shared: float = 0.0) -> float:
    """By how much the best of ``means`` (K,) overstates its own: what choosing by the score that is shown adds to it.

    By a parametric bootstrap; NaN where unknown. ``variances`` (K,) are those of the means, of which the part
    ``shared`` comes from pictures that are hard for all and moves every mean alike. The bootstrap starts from means
    drawn together as far as chance alone explains their differences (empirical Bayes): started from the means as they
    are, it would add chance to chance.
    """
    mean, variance = np.asarray(means, dtype=np.float64), np.asarray(variances, dtype=np.float64) * (1 - shared)
    known = ~np.isnan(mean) & ~np.isnan(variance)
    mean, variance = mean[known], variance[known]
    if len(mean) < 2:
        return float("nan")
    centre, seen = mean.mean(), mean.var(ddof=1)
    chance = min(1.0, float(variance.mean()) / seen) if seen > 1e-18 else 1.0
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


def calibration(
    probability: ArrayLike, hits: ArrayLike, bins: int = 10
) -> tuple[list[tuple[float, float, int]], float]:
    """Reliability of the predicted class's probability: per bin (mean probability, share right, pictures), and the
    expected calibration error (Naeini 2015).

    ``probability`` and ``hits``: ``(N,)``. Bins of equal width over 0..1, empty ones left out.
    """
    p, h = np.asarray(probability, dtype=np.float64), np.asarray(hits, dtype=np.float64)
    index = np.clip(np.floor(p * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums, rights = np.bincount(index, p, bins), np.bincount(index, h, bins)
    rows = [(float(sums[i] / n), float(rights[i] / n), int(n)) for i, n in enumerate(counts) if n]
    error = sum(abs(mean - right) * n for mean, right, n in rows) / max(p.size, 1)
    return rows, float(error)
