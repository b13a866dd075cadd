"""Intervals of one score, the correction of many tests, calibration. Arrays in, numbers out; scores are in 0..1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]


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
