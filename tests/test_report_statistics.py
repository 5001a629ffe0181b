"""Intervals and ranks against known answers, and their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.statistics import (
    deviation,
    mean,
    mean_band,
    median_band,
    median_ranks,
    ranks,
    t_quantile,
)

floats = st.floats(0, 1, allow_nan=False)


def test_mean_and_population_deviation():
    assert mean(np.array([1.0, 2.0, 6.0])) == 3
    assert deviation(np.array([1.0, 3.0])) == 1  # the sample's would be 1.414
    assert np.isnan(mean(np.array([1.0, np.nan])))  # nothing is skipped
    assert np.isnan(deviation(np.array([1.0])))  # no spread can be told of one


def test_ranks_are_shared_by_ties_and_nan_is_last():
    assert ranks([0.3, 0.1, 0.3, 0.2]) == [3, 1, 3, 2]
    assert ranks([0.1 + 0.2, 0.3]) == [1, 1]
    assert ranks([float("nan"), 0.5]) == [2, 1]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (500, (228, 273)),
        (100, (40, 61)),
        (30, (10, 21)),
        (10, (2, 9)),
        (6, (1, 6)),
        (5, None),
        (1, None),
    ],
)
def test_median_ranks(runs, expected):
    assert median_ranks(runs) == expected


def test_median_ranks_cover_exactly_and_one_step_in_would_not():
    from scipy.stats import binom

    for runs in range(6, 400, 7):
        low, high = median_ranks(runs)
        assert low + high == runs + 1
        assert 1 - 2 * binom.cdf(low - 1, runs, 0.5) >= 0.95
        assert 1 - 2 * binom.cdf(low, runs, 0.5) < 0.95


def test_median_band_reads_order_statistics():
    values = np.add.outer(np.random.default_rng(0).permutation(100), [0.0, 1000.0])
    low, high = median_band(values)
    assert low.tolist() == [39, 1039]  # rank 40 of 0 … 99
    assert high.tolist() == [60, 1060]


def test_no_band_where_no_interval_exists():
    assert np.isnan(median_band(np.zeros((5, 3)))).all()
    assert np.isnan(mean_band(np.zeros((4, 3)))).all()
    assert not np.isnan(median_band(np.zeros((6, 3)))).any()
    assert not np.isnan(mean_band(np.zeros((5, 3)))).any()


def test_mean_band_of_constant_runs_has_no_width():
    low, high = mean_band(np.full((20, 2), 0.3))
    assert low.tolist() == high.tolist() == [0.3, 0.3]


@pytest.mark.parametrize("probability", [0.025, 0.9, 0.95, 0.975])
def test_t_quantiles_agree_with_scipy(probability):
    from scipy.stats import t

    for freedom in range(4, 300):
        assert abs(t_quantile(probability, freedom) - t.ppf(probability, freedom)) < 1e-2


def test_mean_band_is_a_stretched_percentile_interval():
    """The two ends differ with a deviation of 0.027 standard errors of the mean: five of them."""
    from scipy.stats import bootstrap, norm, t

    values = np.random.default_rng(1).gamma(2, size=(200, 1))
    low, high = mean_band(values, resamples=20_000)
    peer = bootstrap(
        (values[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    error, centre = values.std() / 200**0.5, values.mean()
    stretch = (200 / 199) ** 0.5 * t.ppf(0.975, 199) / norm.ppf(0.975)
    assert abs(low[0] - centre - stretch * (peer.low - centre)) < 0.14 * error
    assert abs(high[0] - centre - stretch * (peer.high - centre)) < 0.14 * error


def test_mean_band_of_five_runs_is_known():
    """All five draws are the one run in 1 of 3,125 resamples; four or more in 21: below 2.5 %.

    Three or more in 181: so the upper percentile is 3 / 5, and the lower 0.
    """
    low, high = mean_band(np.array([[0.0], [0.0], [0.0], [0.0], [1.0]]))
    stretch = (5 / 4) ** 0.5 * t_quantile(0.975, 4) / 1.959964
    assert low[0] == pytest.approx(0.2 - 0.2 * stretch, abs=1e-6)
    assert high[0] == pytest.approx(0.2 + 0.4 * stretch, abs=1e-6)


def test_mean_band_keeps_its_digits_far_from_zero():
    values = np.random.default_rng(3).normal(size=(50, 4))
    near, far = mean_band(values), mean_band(values + 1e6)
    np.testing.assert_allclose(np.array(far) - 1e6, near, atol=1e-6)


def test_mean_band_is_paired_run_by_run():
    """Equal up to a constant for every run: equal bands up to that constant."""
    values = np.random.default_rng(4).random((40, 5))
    np.testing.assert_allclose(
        np.array(mean_band(values + 0.5)) - 0.5, mean_band(values), atol=1e-7
    )


@pytest.mark.parametrize(
    ("band", "runs", "lowest", "highest"),
    [
        # 2,000 independent columns. The coverage of 5, 10 and 50 normal runs is 0.9445, 0.9455 and
        # 0.9507 (100,000 columns): 2,000 Bernoulli trials leave these ranges with probability
        # below 2e-4. A plain percentile interval covers 0.85, 0.90 and 0.94.
        (mean_band, 5, 0.924, 0.965),
        (mean_band, 10, 0.925, 0.966),
        (mean_band, 50, 0.931, 0.971),
        # Ranks 18 and 33 of 50 cover 96.72 % exactly; leaving [0.951, 0.983]: below 1e-4.
        (median_band, 50, 0.951, 0.983),
    ],
)
def test_coverage(band, runs, lowest, highest):
    values = np.random.default_rng(5).normal(size=(runs, 2000))
    low, high = band(values)
    covered = np.mean((low <= 0) & (high >= 0))
    assert lowest < covered < highest


@pytest.mark.parametrize("band", [mean_band, median_band])
def test_coverage_sees_a_band_that_is_too_narrow(band):
    values = np.random.default_rng(5).normal(size=(50, 2000))
    low, high = band(values, level=0.85)
    assert np.mean((low <= 0) & (high >= 0)) < 0.92


@given(st.lists(floats, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_order_of_runs_moves_no_statistic(values, random):
    shuffled = random.sample(values, len(values))
    one, other = np.array(values), np.array(shuffled)
    assert mean(one) == pytest.approx(mean(other), abs=1e-15)
    assert deviation(one) == pytest.approx(deviation(other), abs=1e-12, nan_ok=True)
    np.testing.assert_array_equal(median_band(one[:, None]), median_band(other[:, None]))


@given(st.lists(st.lists(floats, min_size=3, max_size=3), min_size=5, max_size=30))
def test_a_mean_band_lies_about_its_runs(rows):
    """At most as far beyond them as the widest stretch, that of five runs, carries it."""
    values = np.array(rows)
    low, high = mean_band(values, resamples=200)
    centre = values.mean(axis=0)
    assert (1.6 * (values.min(axis=0) - centre) - 1e-6 <= low - centre).all()
    assert (low <= high).all()
    assert (high - centre <= 1.6 * (values.max(axis=0) - centre) + 1e-6).all()
