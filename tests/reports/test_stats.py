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


def test_holm_by_hand() -> None:
    # 0.01 * 3, 0.03 * 2, max(0.06, 0.04 * 1); NaN is neither counted nor changed.
    assert stats.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    with_gap = stats.holm([0.01, math.nan, 0.8])
    assert with_gap[[0, 2]].tolist() == pytest.approx([0.02, 0.8]) and np.isnan(with_gap[1])
    assert stats.holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert stats.holm([]).size == 0


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


def test_mcnemar_keeps_its_level() -> None:
    generator = np.random.Generator(np.random.PCG64(3))
    rejected, trials = 0, 400
    for _ in range(trials):
        hard = generator.random(300)
        first = hard + 0.1 * generator.standard_normal(300) < 0.92
        second = hard + 0.1 * generator.standard_normal(300) < 0.92
        rejected += mcnemar(first, second).p_value < 0.05
    assert rejected / trials <= 0.06


def test_calibration_by_hand() -> None:
    # Bin 0.5..0.6: two pictures, 0.55 sure, one right; bin 0.9..1: two pictures, 0.95 sure, both right.
    bins, error = stats.calibration([0.5, 0.6 - 1e-12, 0.9, 1.0], [True, False, True, True])
    assert bins == [(pytest.approx(0.55), 0.5, 2), (pytest.approx(0.95), 1.0, 2)]
    assert error == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
