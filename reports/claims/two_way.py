"""How sure a mean over seeds and pictures is: the variance of a table of hits, seeds in rows, pictures in columns.

Seeds and pictures are both samples, of the trainings a recipe allows and of the pictures it will meet, so the variance
of the grand mean has a part of each. It is estimated by the analysis of variance with random effects (Searle 1971)::

    variance = MS_seeds / KN  +  (MS_pictures - MS_rest) / KN

The first part has few degrees of freedom, the second many. The quantile that belongs to their sum weighs those of
Student's t by the parts (Cochran and Cox 1957): simulated, it covers 94 to 98 % where Satterthwaite's covers 87.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
# A variance below this is rounding: of scores in 0..1 no smaller one comes from fewer than a billion pictures.
ROUNDING = 1e-18


@dataclass(frozen=True)
class Parts:
    """A variance as a sum: ``sizes`` (p, ...) of its parts and their degrees of freedom, of the same shape."""

    sizes: Floats
    freedom: Floats

    @property
    def variance(self) -> Floats:
        return np.asarray(self.sizes.sum(axis=0))

    def quantile(self, tail: ArrayLike) -> Floats:
        """How many standard errors leave ``tail`` of the probability above them."""
        t = -special.stdtrit(self.freedom, np.asarray(tail, dtype=np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            mixed = (self.sizes * t).sum(axis=0) / self.variance
        return np.where(self.variance > ROUNDING, mixed, np.nan)

    def p_value(self, difference: ArrayLike) -> Floats:
        """Two-sided, of a difference with this variance: where its quantile is the difference, by bisection."""
        d = np.abs(np.asarray(difference, dtype=np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = d / np.sqrt(self.variance)
        # On a log scale: p values of 1e-12 are told from 1e-13.
        low, high = np.full(d.shape, -60.0), np.zeros(d.shape)
        for _ in range(32):
            middle = (low + high) / 2
            above = self.quantile(np.exp(middle) / 2) > errors
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        p = np.exp((low + high) / 2)
        known = ~np.isnan(self.variance) & ~np.isnan(d)
        certain = np.where(d > 1e-9, 0.0, 1.0)
        return np.where(known, np.where(self.variance > ROUNDING, p, certain), np.nan)


def by_cluster(hits: Floats, clusters: NDArray[np.int64] | None) -> Floats:
    """``hits`` (K, N) -> (K, C): one column a cluster, so that pictures of one source count as one draw.

    The rows' means stay; a cluster's column is its sum of deviations, scaled as the ratio estimator has it.
    """
    if clusters is None:
        return hits
    count = int(clusters.max()) + 1
    sizes = np.bincount(clusters, minlength=count)
    middle = hits.mean()
    sums = np.stack([np.bincount(clusters, row, count) for row in hits])
    away = (sums - sizes * middle) * count / hits.shape[1]
    return np.asarray(middle + away)


def residual(hits: Floats) -> Floats:
    """What neither the seed nor the picture explains: (K, N) -> (K, N), of sum zero along both."""
    return np.asarray(hits - hits.mean(axis=1, keepdims=True) - hits.mean(axis=0) + hits.mean())


def variance(hits: Floats) -> Parts:
    """The parts, seeds then pictures, of the variance of the mean of ``hits`` (K, N).

    Five wrong pictures among many tell their variance no better than ten of any kind: two degrees of freedom each.
    """
    k, n = hits.shape
    each = hits.mean(axis=0)
    pictures = each.var(ddof=1) / n if n > 1 else np.nan
    rare = np.maximum((each.mean() - each) * (1 if each.mean() > 0.5 else -1), 0)
    worth = rare.sum() ** 2 / (rare**2).sum() if rare.any() else n
    freedom = max(min(n - 1.0, 2 * worth), 1.0)
    if k == 1:
        return Parts(np.array([0.0, pictures]), np.array([1.0, freedom]))
    rest = (residual(hits) ** 2).sum() / max((k - 1) * (n - 1), 1) / (k * n)
    seeds = hits.mean(axis=1).var(ddof=1) / k
    sizes = np.array([seeds if seeds > ROUNDING else 0.0, max(pictures - rest, 0.0)])
    return Parts(sizes, np.array([k - 1.0, freedom]))


def score_interval(mean: float, parts: Parts, most: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share with this variance: at the number of pictures a plain sample would need for it.

    ``most`` is the largest such number: all answers given, seeds times pictures. Never outside 0..1.
    """
    if np.isnan(mean) or not most > 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    least = mean * (1 - mean) / most
    sizes = parts.sizes
    if not parts.variance > max(least, ROUNDING):
        # Chance made the seeds more alike than independent answers are.
        sizes = np.array([*sizes[:-1], max(least, ROUNDING) - sizes[:-1].sum()])
    whole = Parts(sizes, parts.freedom)
    t = float(whole.quantile(tail))
    n = min(mean * (1 - mean) / float(whole.variance), most) if 0 < mean < 1 else most
    middle = (mean + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * np.sqrt(mean * (1 - mean) / n + t * t / (4 * n * n))
    low = 0.0 if mean <= 0 else max(0.0, middle - half)
    high = 1.0 if mean >= 1 else min(1.0, middle + half)
    return float(low), float(high)


def answers(hits: Floats) -> float:
    """How many independent answers ``hits`` (K, N) can be worth: all, or where all agree one a picture."""
    return float(hits.size if 0 < hits.mean() < 1 else hits.shape[1])
