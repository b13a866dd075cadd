"""What the leaderboard claims, against known truth: simulated studies, the shares of them in which a claim is right.

``python tests/benchmarks/bench_claims.py [--studies 1000]`` prints four tables and returns 1 where a limit is missed:
how often an interval covers the truth, how often a winner is announced among equals, how often a gap as large as the
smallest these data can show is found, how much selection flatters; and the time of the tests of a large page.

A network of a recipe answers picture i rightly with a probability whose logit is the recipe's level, plus the picture's
ease, plus the seed's luck, plus what only this seed finds hard in this picture.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reports.claims import two_way
from reports.claims.selection import flattery
from reports.claims.verdict import Entry, judge

Floats = NDArray[np.float64]
ACCURACIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


@dataclass(frozen=True)
class World:
    """Standard deviations of the logit: of the pictures' ease, the seeds' luck, and what is of both alone."""

    name: str
    pictures: float
    seeds: float
    both: float

    def level(self, accuracy: float) -> float:
        """The recipe's level whose accuracy over all pictures and seeds is ``accuracy``, by bisection."""
        total = np.sqrt(self.pictures**2 + self.seeds**2 + self.both**2)
        ease = special.ndtri((np.arange(2000) + 0.5) / 2000) * total
        low, high = -40.0, 60.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if special.expit(middle + ease).mean() < accuracy else (low, middle)
        return (low + high) / 2

    def study(self, random: np.random.Generator, levels: Floats, seeds: int, pictures: int) -> Floats:
        """Answers ``(recipes, seeds, pictures)`` of recipes on the same pictures."""
        shape = (len(levels), seeds, pictures)
        logit = levels[:, None, None] + self.pictures * random.standard_normal(pictures)
        logit = logit + self.seeds * random.standard_normal(shape[:2])[:, :, None]
        if self.both:
            logit = logit + self.both * random.standard_normal(shape)
        return np.asarray(random.random(shape) < special.expit(logit), dtype=np.float64)


REAL = World("pictures and seeds differ", 3.0, 0.4, 1.0)
ALIKE = World("seeds alike", 3.0, 0.0, 1.0)
COINS = World("coins", 0.0, 0.0, 0.0)


def coverage(world: World, accuracy: float, seeds: int, pictures: int, studies: int) -> float:
    """The share of studies whose interval holds the recipe's accuracy; of one seed, that of these weights."""
    random = np.random.Generator(np.random.PCG64([seeds, pictures, round(accuracy * 1000)]))
    level = np.array([world.level(accuracy)])
    covered = 0
    for _ in range(studies):
        if seeds == 1:
            # These weights: what is their own luck is theirs for good.
            world_of_weights = World("", float(np.hypot(world.pictures, world.both)), 0.0, 0.0)
            (hits,) = world_of_weights.study(random, level, 1, pictures)
            total = np.sqrt(world.pictures**2 + world.both**2)
            ease = special.ndtri((np.arange(2000) + 0.5) / 2000) * total
            truth = float(special.expit(level[0] + ease).mean())
        else:
            (hits,) = world.study(random, level, seeds, pictures)
            truth = accuracy
        low, high = interval(hits)
        covered += low <= truth <= high
    return covered / studies


def interval(hits: Floats) -> tuple[float, float]:
    """The interval of a row of the leaderboard, from its answers (K, N)."""
    mean = float(hits.mean())
    return two_way.score_interval(mean, two_way.variance(hits), two_way.answers(hits))


def entries(hits: Floats, *, paired: bool = True) -> list[Entry]:
    """The answers of recipes as the leaderboard has them, best first."""
    found = [
        Entry(
            seeds=tuple((0 if paired else at, seed) for seed in range(len(one))),
            scores=one.mean(axis=1),
            hits=one,
            answers=one.shape[1],
        )
        for at, one in enumerate(hits)
    ]
    return sorted(found, key=lambda e: -e.mean)


def winners(world: World, recipes: int, seeds: int, pictures: int, studies: int, accuracy: float = 0.9) -> float:
    """The share of studies of equal recipes in which one is called the winner."""
    random = np.random.Generator(np.random.PCG64([recipes, seeds, pictures]))
    levels = np.full(recipes, world.level(accuracy))
    called = [judge(entries(world.study(random, levels, seeds, pictures))).winner for _ in range(studies)]
    return float(np.mean(called))


def power(world: World, recipes: int, seeds: int, pictures: int, studies: int) -> tuple[float, float]:
    """The median smallest lead of studies of equal recipes, and how often a gap of the size stated is then found."""
    random = np.random.Generator(np.random.PCG64([recipes, seeds, pictures, 1]))
    level, found, stated = world.level(0.7), 0, []
    for _ in range(studies):
        equal = judge(entries(world.study(random, np.full(recipes, level), seeds, pictures)))
        stated.append(equal.smallest)
        gap = np.full(recipes, level)
        gap[0] = world.level(min(0.7 + equal.smallest, 0.9999))
        hits = world.study(random, gap, seeds, pictures)
        found += judge(entries(hits)).winner and hits[0].mean() > hits[1:].mean(axis=(1, 2)).max()
    return float(np.median(stated)), found / studies


def flattered(recipes: int, studies: int) -> tuple[float, float]:
    """How much better the best of equal networks on 360 pictures looks than it is, and what is said: in points."""
    random = np.random.Generator(np.random.PCG64(recipes))
    means = random.binomial(360, 0.95, (studies, recipes)) / 360
    said = [flattery(m, m * (1 - m) / 360) for m in means[: max(studies // 10, 20)]]
    return float(100 * (means.max(axis=1) - 0.95).mean()), float(100 * np.mean(said))


def large_page() -> float:
    """Seconds for the intervals and all tests of 30 recipes, 10 seeds, 10,000 pictures."""
    random = np.random.Generator(np.random.PCG64(1))
    hits = (random.random((30, 10, 10_000)) < 0.9).astype(np.float64)
    begun = time.perf_counter()
    judge(entries(hits))
    for one in hits:
        interval(one)
    return time.perf_counter() - begun


def main() -> int:
    """Simulate and print; returns 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    missed: list[str] = []
    for world in (REAL, ALIKE, COINS):
        print(f"\nThe interval covers the truth, {world.name}: % of {studies} studies, accuracy {ACCURACIES}")
        for pictures in (50, 360, 2000, 10_000):
            for seeds in (1, 2, 3, 5, 10):
                count = max(20, min(studies, round(studies * 20_000 / (pictures * seeds))))
                shares = [100 * coverage(world, a, seeds, pictures, count) for a in ACCURACIES]
                print(f"  {pictures:6,} pictures, {seeds:2} seeds  " + " ".join(f"{s:5.1f}" for s in shares))
    print(f"\nA winner among equal recipes: % of {studies} studies (at most 5)")
    for recipes in (2, 20):
        for pictures in (360, 2000):
            count = studies if recipes * pictures < 10_000 else max(studies // 4, 20)
            shares = [100 * winners(REAL, recipes, seeds, pictures, count) for seeds in (1, 2, 3, 5)]
            print(f"  {recipes:2} recipes, {pictures:5,} pictures, 1, 2, 3, 5 seeds  {shares}")
            missed += [f"{recipes} recipes, {pictures} pictures" for s in shares if s > 5 + 200 * (0.05 / count) ** 0.5]
    print("\nThe smallest lead these data can show, and how often a gap of that size is found (at least 80 %)")
    for recipes in (2, 5, 20):
        for seeds in (3, 5, 10):
            smallest, found = power(REAL, recipes, seeds, 360, max(20, studies // 5))
            said = f"{100 * smallest:5.1f} points  {100 * found:.0f} %"
            print(f"  {recipes:2} recipes, 360 pictures, {seeds:2} seeds  {said}")
    print("\nThe best of equal networks, 360 pictures, looks better than it is by, and the page says: points")
    for recipes in (20, 100):
        print(f"  {recipes:3} networks  {flattered(recipes, studies)}")
    took = large_page()
    print(f"\n30 recipes, 10 seeds, 10,000 pictures: {took:.2f} s (at most 5)")
    missed += ["time"] if took > 5 else []
    print(f"MISSED: {', '.join(missed)}" if missed else "all limits kept")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
