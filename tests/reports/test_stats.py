"""Statistics against values computed by hand, against SciPy and statsmodels, and coverage by simulation."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from reports import stats
from tracking.store.predictions import mcnemar


def test_wilson_by_hand() -> None:
    # 8 of 10: z = 1.959964, z² = 3.841459. Middle (0.8 + 0.1920729) / 1.3841459 = 0.716738,
    # half 1.959964 / 1.3841459 * sqrt(0.016 + 0.00960365) = 0.226577.
    low, high = stats.wilson(0.8, 10)
    assert (float(low), float(high)) == (pytest.approx(0.490162, abs=1e-5), pytest.approx(0.943318, abs=1e-5))


def test_wilson_at_the_ends_and_where_there_is_nothing() -> None:
    low, high = stats.wilson([0.0, 1.0, 1.2, math.nan, 0.5], [10, 10, 10, 10, 0])
    # None of ten: 0 to z² / (10 + z²) = 0.277533.
    assert (low[0], high[0]) == (0.0, pytest.approx(0.277533, abs=1e-5))
    assert (low[1], high[1]) == (pytest.approx(1 - 0.277533, abs=1e-5), 1.0)
    assert np.isnan(low[2:]).all() and np.isnan(high[2:]).all()


@given(st.integers(1, 5000), st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    theirs = scipy.stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    low, high = stats.wilson(right / n, n)
    assert (float(low), float(high)) == (pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9))


def test_t_interval_by_hand() -> None:
    # Three seeds 0.95, 0.96, 0.97: t(2; 0.975) = 4.302653, 4.302653 * 0.01 / sqrt(3) = 0.0248414.
    low, high = stats.t_interval(0.96, 0.01, 3)
    assert (float(low), float(high)) == (pytest.approx(0.9351586), pytest.approx(0.9848414))
    assert np.isnan(stats.t_interval(0.96, 0.01, 1)[0])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8, unique=True))
def test_t_interval_is_scipys(values: list[float]) -> None:
    spread = float(np.std(values, ddof=1))
    if spread < 1e-9:
        return
    theirs = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), spread / math.sqrt(len(values)))
    ours = stats.t_interval(np.mean(values), spread, len(values))
    assert [float(v) for v in ours] == pytest.approx(list(theirs), rel=1e-6, abs=1e-9)


def test_welch_by_hand() -> None:
    # Means 3 points apart, variances 0.0001 and 0.0004 over 4 seeds each: t = 0.03 / sqrt(0.000125) = 2.683282,
    # freedom 0.000125² / (0.000025² / 3 + 0.0001² / 3) = 4.411765; 2 * P(T > t) = 0.0495.
    assert stats.welch((0.95, 0.01, 4), (0.92, 0.02, 4)) == pytest.approx(0.0495, abs=5e-4)
    assert math.isnan(stats.welch((0.95, math.nan, 1), (0.92, 0.02, 4)))
    assert math.isnan(stats.welch((0.95, 0.0, 3), (0.92, 0.0, 3)))


seeds = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=2, max_size=6, unique=True)


@given(seeds, seeds)
def test_welch_is_scipys(first: list[float], second: list[float]) -> None:
    theirs = scipy.stats.ttest_ind(first, second, equal_var=False).pvalue
    ours = stats.welch(*((float(np.mean(x)), float(np.std(x, ddof=1)), len(x)) for x in (first, second)))
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (3, 5)])
def test_welch_keeps_its_level(counts: tuple[int, int]) -> None:
    generator = np.random.Generator(np.random.PCG64(4))
    rejected = 0
    for _ in range(4000):
        sides = [generator.normal(0.95, spread, n) for n, spread in zip(counts, (0.01, 0.02), strict=True)]
        rejected += stats.welch(*((x.mean(), x.std(ddof=1), len(x)) for x in sides)) < 0.05
    assert 0.01 < rejected / 4000 < 0.07


def test_mcnemar_wilson_and_holm_are_statsmodels() -> None:
    if "REPORTS_PANDAS_MAJOR" not in os.environ:  # `make test-reports` has installed it
        pytest.importorskip("statsmodels")
    from statsmodels.stats import contingency_tables
    from statsmodels.stats.multitest import multipletests
    from statsmodels.stats.proportion import proportion_confint

    theirs = contingency_tables.mcnemar([[50, 9], [3, 20]], exact=True)
    ours = mcnemar([True] * 59 + [False] * 23, [True] * 50 + [False] * 9 + [True] * 3 + [False] * 20)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert [float(v) for v in stats.wilson(0.9, 50)] == pytest.approx(proportion_confint(45, 50, method="wilson"))
    p = [0.001, 0.2, 0.011, 0.04, 0.9]
    assert stats.holm(p).tolist() == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_paired_scores_must_be_of_the_same_pictures() -> None:
    with pytest.raises(ValueError, match="both must be"):
        stats.paired_bootstrap([], [])


def test_holm_by_hand() -> None:
    # 0.01 * 3, 0.03 * 2, max(0.06, 0.04 * 1); NaN is neither counted nor changed.
    assert stats.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    with_gap = stats.holm([0.01, math.nan, 0.8])
    assert with_gap[[0, 2]].tolist() == pytest.approx([0.02, 0.8]) and np.isnan(with_gap[1])
    assert stats.holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert stats.holm([]).size == 0


def test_bootstrap_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    first, second = np.arange(40) % 3 > 0, np.arange(40) % 4 > 0
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    one = stats.paired_bootstrap(first, second, seed=3)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
    assert stats.paired_bootstrap(first, second, seed=3) == one
    assert stats.paired_bootstrap(first, second, seed=4) != one


def test_bootstrap_of_a_sure_difference_and_of_none() -> None:
    sure = stats.paired_bootstrap(np.ones(50), np.zeros(50))
    assert (sure.estimate, sure.low, sure.high) == (1.0, 1.0, 1.0)
    assert sure.p_value == pytest.approx(2 / 10_001)
    assert stats.paired_bootstrap(np.ones(50), np.ones(50)) == stats.Difference(0.0, 0.0, 0.0, 1.0)


def test_bootstrap_agrees_with_scipys_and_with_the_normal_limit() -> None:
    generator = np.random.Generator(np.random.PCG64(5))
    first, second = generator.random(500) < 0.93, generator.random(500) < 0.90
    ours = stats.paired_bootstrap(first, second)
    change = first.astype(float) - second
    theirs = scipy.stats.bootstrap((change,), np.mean, n_resamples=10_000, method="percentile", random_state=7)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.003)
    error = change.std() / math.sqrt(500)
    assert ours.high - ours.low == pytest.approx(2 * 1.959964 * error, rel=0.05)


@pytest.mark.parametrize(("share", "num_images"), [(0.5, 100), (0.9, 360), (0.97, 360), (0.99, 1000)])
def test_wilson_covers_the_truth_as_often_as_it_says(share: float, num_images: int) -> None:
    right = np.random.Generator(np.random.PCG64(1)).binomial(num_images, share, 20_000)
    low, high = stats.wilson(right / num_images, np.full(right.size, num_images))
    assert ((low <= share) & (share <= high)).mean() == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_t_interval_covers_the_truth_as_often_as_it_says(seeds: int) -> None:
    scores = np.random.Generator(np.random.PCG64(2)).normal(0.95, 0.01, (20_000, seeds))
    low, high = stats.t_interval(scores.mean(axis=1), scores.std(axis=1, ddof=1), np.full(20_000, seeds))
    assert ((low <= 0.95) & (0.95 <= high)).mean() == pytest.approx(0.95, abs=0.006)


def test_bootstrap_of_seeds_averaged_covers_the_truth() -> None:
    """Two recipes of three seeds each that are equally good on pictures of the kind; each trial draws 300 pictures."""
    generator = np.random.Generator(np.random.PCG64(6))
    covered, trials = 0, 400
    for trial in range(trials):
        hard = generator.random(300)
        sides = ((hard + 0.1 * generator.standard_normal((3, 300)) < 0.92).mean(axis=0) for _ in range(2))
        difference = stats.paired_bootstrap(*sides, seed=trial, resamples=1000)
        covered += difference.low <= 0 <= difference.high
    assert covered / trials == pytest.approx(0.95, abs=0.03)


def test_bootstrap_covers_the_truth_and_mcnemar_keeps_its_level() -> None:
    generator = np.random.Generator(np.random.PCG64(3))
    covered = rejected = 0
    trials = 400
    for trial in range(trials):
        hard = generator.random(300)
        first = hard + 0.1 * generator.standard_normal(300) < 0.92
        second = hard + 0.1 * generator.standard_normal(300) < 0.92
        difference = stats.paired_bootstrap(first, second, seed=trial, resamples=1000)
        covered += difference.low <= 0 <= difference.high
        rejected += mcnemar(first, second).p_value < 0.05
    assert covered / trials == pytest.approx(0.95, abs=0.03)
    assert rejected / trials <= 0.06


def test_calibration_by_hand() -> None:
    # Bin 0.5..0.6: two pictures, 0.55 sure, one right; bin 0.9..1: two pictures, 0.95 sure, both right.
    bins, error = stats.calibration([0.5, 0.6 - 1e-12, 0.9, 1.0], [True, False, True, True])
    assert bins == [(pytest.approx(0.55), 0.5, 2), (pytest.approx(0.95), 1.0, 2)]
    assert error == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
