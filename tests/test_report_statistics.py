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
)

floats = st.floats(0, 1, allow_nan=False)


def test_mean_and_population_deviation():
    assert mean(np.array([1.0, 2.0, 6.0])) == 3
    assert deviation(np.array([1.0, 3.0])) == 1  # the sample's would be 1.414
    assert np.isnan(mean(np.array([1.0, np.nan])))  # nothing is skipped


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
    assert np.isnan(mean_band(np.zeros((1, 3)))).all()
    assert not np.isnan(median_band(np.zeros((6, 3)))).any()
    assert not np.isnan(mean_band(np.zeros((2, 3)))).any()


def test_mean_band_of_constant_runs_has_no_width():
    low, high = mean_band(np.full((20, 2), 0.3))
    assert low.tolist() == high.tolist() == [0.3, 0.3]


def test_mean_band_of_two_runs_is_known():
    """Both draws are the lower run in a quarter of the resamples: more than 2.5 %."""
    low, high = mean_band(np.array([[0.0], [1.0]]))
    assert (low[0], high[0]) == (0, 1)


def test_mean_band_agrees_with_scipy():
    """The two ends differ with a deviation of 0.027 standard errors of the mean: five of them."""
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).gamma(2, size=(200, 1))
    low, high = mean_band(values, resamples=20_000)
    peer = bootstrap(
        (values[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    error = values.std() / 200**0.5
    assert abs(low[0] - peer.low) < 0.14 * error
    assert abs(high[0] - peer.high) < 0.14 * error


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
        # 2,000 independent columns. A percentile bootstrap of 50 normal runs covers 94 % (it is
        # as if the t quantile were the normal one, and the divisor n): 2,000 Bernoulli trials at
        # 0.94 leave [0.92, 0.96] with probability below 4e-4.
        (mean_band, 50, 0.92, 0.96),
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
    assert deviation(one) == pytest.approx(deviation(other), abs=1e-12)
    np.testing.assert_array_equal(median_band(one[:, None]), median_band(other[:, None]))


@given(st.lists(st.lists(floats, min_size=3, max_size=3), min_size=2, max_size=30))
def test_a_mean_band_lies_within_its_runs(rows):
    values = np.array(rows)
    low, high = mean_band(values, resamples=200)
    assert (values.min(axis=0) - 1e-6 <= low).all()
    assert (low <= high).all()
    assert (high <= values.max(axis=0) + 1e-6).all()
