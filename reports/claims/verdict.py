"""Which configurations can be told apart, which ranks are possible, and whether one is a sole winner.

Every pair is tested: on the pictures both were tested on and over their seeds where the predictions are known
(:mod:`two_way`; equal seeds are paired), else over the seeds alone (Welch 1947). All pairs of a page are corrected
together (Holm 1979). The leader alone has a better way, checked first: it wins where it beats every other at the plain
level, because being first is verified by the two-sided test against the closest (Hung and Fithian 2019); then the
second may be verified below it, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports import stats
from reports.claims.two_way import ROUNDING, Floats, Parts, residual
from tracking.store.predictions import Predictions, common, mcnemar

LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One configuration's scores: ``seeds`` name its runs; ``hits`` (K, C) are its answers by picture or cluster.

    ``scores`` (K,) are the runs' own; ``hits`` is None where one of them has no predictions. ``pictures`` is how many
    a share is of: without predictions a single seed is judged as if it shared none of its mistakes with another.
    """

    seeds: tuple[Any, ...]
    scores: Floats
    hits: Floats | None = None
    answers: int = 0
    pictures: float = float("nan")

    @property
    def mean(self) -> float:
        return float(self.scores.mean() if self.hits is None else self.hits.mean())


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All tests between ``m`` entries, best first: ``[i, j]`` is about how much better entry i is than entry j.

    ``apart[i, j]``: i is better than j, more than chance. ``networks[i, j]``: one of the two has a single seed, so
    that the test is about these weights. ``smallest``: the smallest lead that these data would show four times in five.
    """

    difference: Floats
    low: Floats
    high: Floats
    p_value: Floats
    apart: NDArray[np.bool_]
    networks: NDArray[np.bool_]
    smallest: float

    @property
    def size(self) -> int:
        return len(self.difference)

    @property
    def first_alone(self) -> bool:
        """Whether the first is better than every other one; of weights where ``networks`` says so."""
        return self.size > 1 and bool(self.apart[0, 1:].all())

    @property
    def winner(self) -> bool:
        """Whether the first is the best setting: better than all others, and no single seed was asked."""
        return self.first_alone and not self.networks[0, 1:].any()

    @property
    def ranks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ranks that each entry may have."""
        return 1 + self.apart.sum(axis=0), self.size - self.apart.sum(axis=1)

    @property
    def tiers(self) -> NDArray[np.int64]:
        """1 for the first and what cannot be told from it; then the same for the best of the rest."""
        tier = np.zeros(self.size, dtype=np.int64)
        number = 0
        while (tier == 0).any():
            number += 1
            top = int(np.flatnonzero(tier == 0)[0])
            tier[~self.apart[top] & (tier == 0)] = number
        return tier


def judge(entries: Sequence[Entry], *, higher: bool = True) -> Judgement:
    """Test every pair of ``entries``, which are best first."""
    m = len(entries)
    sign = 1.0 if higher else -1.0
    means = np.array([e.mean for e in entries])
    difference = sign * (means[:, None] - means[None, :])
    parts = _parts(entries)
    above = np.triu_indices(m, 1)
    p = np.ones((m, m))
    p[above] = Parts(parts.sizes[(slice(None), *above)], parts.freedom[(slice(None), *above)]).p_value(
        difference[above]
    )
    p.T[above] = p[above]
    for i, j in _single(entries):
        if entries[i].answers == entries[i].hits.shape[1] and entries[j].answers == entries[j].hits.shape[1]:  # type: ignore[union-attr]
            p[i, j] = p[j, i] = mcnemar(entries[i].hits[0] > 0.5, entries[j].hits[0] > 0.5).p_value  # type: ignore[index]
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(parts.variance)
        half = np.where(errors**2 > 0, np.nan_to_num(parts.quantile(LEVEL / 2)) * errors, errors)
    corrected = np.full((m, m), np.nan)
    corrected[above] = stats.holm(p[above])
    corrected.T[above] = corrected[above]
    with np.errstate(invalid="ignore"):
        apart = (corrected < LEVEL) & (difference > 0)
        for i in range(m - 1):
            if not ((p[i, i + 1 :] < LEVEL) & (difference[i, i + 1 :] > 0)).all():
                break
            apart[i, i + 1 :] = True
    alone = np.array([len(e.seeds) < 2 for e in entries])
    return Judgement(
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=p,
        apart=apart,
        networks=alone[:, None] | alone[None, :],
        smallest=_smallest(parts, int((~apart[0, 1:]).sum())),
    )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """How much better the first network is on ``num_images`` pictures, with its interval and McNemar's exact p value.

    ``only_first`` and ``only_second`` count the pictures that one of them alone gets right.
    """

    num_images: int
    difference: float
    low: float
    high: float
    p_value: float
    only_first: int
    only_second: int


def judge_pair(first: Predictions, second: Predictions) -> Pair | None:
    """The test of the leaderboard for two networks on the pictures of both; None without any in common."""
    a, b = (one.hits for one in common([first, second]))
    if not len(a):
        return None
    entries = [
        Entry(seeds=(None,), scores=np.array([hits.mean()]), hits=hits[None].astype(np.float64), answers=len(hits))
        for hits in (a, b)
    ]
    judged = judge(entries)
    return Pair(
        num_images=len(a),
        difference=float(judged.difference[0, 1]),
        low=float(judged.low[0, 1]),
        high=float(judged.high[0, 1]),
        p_value=float(judged.p_value[0, 1]),
        only_first=int((a & ~b).sum()),
        only_second=int((b & ~a).sum()),
    )


def _smallest(parts: Parts, rivals: int) -> float:
    """The lead that is found four times in five: over each of ``rivals`` that cannot be told from the first.

    A spread of few seeds may be small by luck, so it is taken as large as it may be, four times in five. One degree of
    freedom, two configurations of the same two seeds, says too little of it: infinity.
    """
    rivals = max(rivals, 1)
    known = Parts(parts.sizes[:, 0, 1 : 1 + rivals], parts.freedom[:, 0, 1 : 1 + rivals])
    if ((known.freedom[:2] <= 1) & (known.sizes[:2] > 0)).any():
        return float("inf")
    careful = Parts(known.sizes * known.freedom / special.chdtri(known.freedom, POWER), known.freedom)
    with np.errstate(invalid="ignore"):
        reach = known.quantile(LEVEL / 2) + special.ndtri(1 - (1 - POWER) / rivals)
        leads = reach * np.sqrt(careful.variance)
    leads = leads[~np.isnan(leads)]
    return float(leads.max()) if len(leads) else float("nan")


def _single(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    known = [i for i, e in enumerate(entries) if e.hits is not None and len(e.seeds) == 1]
    return [(i, j) for i in known for j in known if i < j]


def _parts(entries: Sequence[Entry]) -> Parts:
    """The variance of every difference: the seeds' part of either side, or of the pairs, and the pictures'."""
    m = len(entries)
    entries = [_in_order(e) for e in entries]
    seeds = [e.scores if e.hits is None else e.hits.mean(axis=1) for e in entries]
    k = np.array([len(s) for s in seeds], dtype=np.float64)
    means = np.array([s.mean() for s in seeds])
    # Scores near 0 and 1 vary less.
    shares = bool(((means >= 0) & (means <= 1)).all())
    scale = np.maximum(means * (1 - means), 1e-6) if shares else np.ones(m)
    spread = np.array([s.var(ddof=1) if len(s) > 1 else 0.0 for s in seeds])
    trust, pooled, total = _prior(spread / scale, k - 1)
    own, freedom = _moderate(spread, k - 1, pooled * scale, trust, total)
    lacking = np.array([e.hits is None for e in entries])
    count = np.array([e.answers if e.hits is not None else e.pictures for e in entries], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        bound = np.where(shares, np.maximum(means * (1 - means), 1 / count) / count, np.nan)
    own = np.where(k > 1, own / k, 0.0)
    sizes, free = np.zeros((3, m, m)), np.ones((3, m, m))
    sizes[0], sizes[1] = own[:, None], own[None, :]
    free[0], free[1] = freedom[:, None], freedom[None, :]
    pictures, rest = _pictures(entries, free)
    for members in _same_seeds(entries):
        if len(members) < 2:
            continue
        grid, size = np.ix_(members, members), float(k[members[0]])
        table = np.stack([seeds[i] for i in members])
        covariance = np.cov(table)
        one = np.diag(covariance)
        each = one[:, None] + one[None, :] - 2 * covariance
        covariance = covariance / np.sqrt(scale[members][:, None] * scale[members][None, :])
        g = len(members)
        block = (np.trace(covariance) - (covariance.sum() - np.trace(covariance)) / (g - 1)) / g
        prior = max(block, 0.0) * (scale[members][:, None] + scale[members][None, :])
        both, degrees = _moderate(each, np.full(each.shape, size - 1), prior, trust, (g - 1) * (size - 1))
        sizes[0][grid], sizes[1][grid], free[0][grid] = both / size, 0, degrees
    # What the seeds' part has of single answers is not counted twice; the pictures alone are the least there is.
    sizes[2] = np.maximum(pictures - rest, np.maximum(pictures - sizes[0] - sizes[1], 0))
    # Seeds of equal scores say as little as one.
    silent = (k < 2)[:, None] | (k < 2)[None, :] | (own[:, None] + own[None, :] < ROUNDING)
    unpaired = (lacking[:, None] | lacking[None, :]) & silent
    sizes[2][unpaired] = (bound[:, None] + bound[None, :])[unpaired]
    free[2][unpaired] = 1e9
    for part in sizes:
        np.fill_diagonal(part, 0)
    sizes[sizes < ROUNDING] = 0
    return Parts(sizes, free)


def _in_order(entry: Entry) -> Entry:
    """The entry with its runs by seed, so that those of equal seeds are at equal places."""
    order = sorted(range(len(entry.seeds)), key=lambda at: str(entry.seeds[at]))
    return replace(
        entry,
        seeds=tuple(entry.seeds[at] for at in order),
        scores=entry.scores[order],
        hits=None if entry.hits is None else entry.hits[order],
    )


def _same_seeds(entries: Sequence[Entry]) -> list[list[int]]:
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, entry in enumerate(entries):
        if len(entry.seeds) > 1 and None not in entry.seeds and entry.hits is not None:
            groups.setdefault(entry.seeds, []).append(i)
    return list(groups.values())


def _prior(spread: Floats, freedom: Floats) -> tuple[float, float, float]:
    """What the page says about how much seeds differ: the worth of the pooled variance in degrees of freedom, the
    pooled variance, and how many degrees it has.

    The more the configurations' variances differ, beyond what so few seeds explain, the less it is worth.
    """
    several = freedom > 0
    total = float(freedom[several].sum())
    if not total:
        return 0.0, 0.0, 0.0
    pooled = float((freedom * spread)[several].sum() / total)
    if not pooled > ROUNDING:
        return total, pooled, total
    wide = float(((spread[several] / pooled - 1) ** 2).mean())
    beyond = (wide + 1) / (1 + 2 / (total / several.sum())) - 1
    return min(2 / beyond, total) if beyond > 0 else total, pooled, total


def _moderate(spread: Floats, freedom: Floats, prior: Floats, trust: float, most: float) -> tuple[Floats, Floats]:
    """A variance of few seeds joined with the page's (Smyth 2004), never below its own; its degrees of freedom."""
    known = np.maximum(freedom, 1)
    trust = min(trust, most)
    joined = (trust * prior + freedom * spread) / (trust + known)
    return np.maximum(joined, spread), np.maximum(np.minimum(trust + known, most), known)


def _pictures(entries: Sequence[Entry], free: Floats) -> tuple[Floats, Floats]:
    """The variance of every difference over pictures, and what of it is in the seeds' part already."""
    m = len(entries)
    pictures, rest = np.zeros((m, m)), np.zeros((m, m))
    known = [(i, e.hits) for i, e in enumerate(entries) if e.hits is not None]
    if not known:
        return pictures, rest
    places = [i for i, _ in known]
    grid = np.ix_(places, places)
    n = known[0][1].shape[1]
    covariance = np.atleast_2d(np.cov(np.stack([hits.mean(axis=0) for _, hits in known]))) / n
    one = np.diag(covariance)
    pictures[grid] = np.maximum(one[:, None] + one[None, :] - 2 * covariance, 0)
    free[2] = max(n - 1.0, 1.0)
    left = {i: residual(hits) for i, hits in known if len(hits) > 1}
    size = {i: (r**2).sum() / ((len(r) - 1) * max(n - 1, 1)) / (len(r) * n) for i, r in left.items()}
    single = np.array([size.get(i, 0.0) for i in range(m)])
    rest[:] = single[:, None] + single[None, :]
    for members in _same_seeds(entries):
        flat = np.stack([left[i].ravel() for i in members])
        k = len(left[members[0]])
        cross = flat @ flat.T / ((k - 1) * max(n - 1, 1)) / (k * n)
        square = np.diag(cross)
        rest[np.ix_(members, members)] = square[:, None] + square[None, :] - 2 * cross
    return pictures, rest
