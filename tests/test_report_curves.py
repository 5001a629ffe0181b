"""Step functions and final read-outs of hand-made runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.curves import POSITIONS, at, positions, read_out

# Two runs: three trials ending at 1, 3, 7 and two ending at 2, 4.
READINGS = np.array([1.0, 3.0, 7.0, 2.0, 4.0])
VALUES = np.array([0.5, 0.4, 0.1, 0.6, 0.2])
STARTS = np.array([0, 3, 5])


def test_at_is_a_step_function_that_holds():
    matrix = at(READINGS, VALUES, STARTS, np.array([2.0, 2.9, 3.0, 4.0, 6.9, 7.0, 99.0]))
    assert matrix.tolist() == [
        [0.5, 0.5, 0.4, 0.4, 0.4, 0.1, 0.1],
        [0.6, 0.6, 0.6, 0.2, 0.2, 0.2, 0.2],
    ]


def test_at_knows_nothing_before_the_first_trial():
    assert np.isnan(at(READINGS, VALUES, STARTS, np.array([1.5]))[1]).all()


def test_at_takes_the_last_of_trials_that_cost_nothing():
    readings = np.array([1.0, 1.0, 1.0])
    assert at(readings, VALUES[:3], np.array([0, 3]), np.array([1.0])) == [[0.1]]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 100))
def test_at_agrees_with_a_loop(steps, x):
    readings = np.cumsum(steps).astype(float)
    values = np.arange(len(steps), dtype=float)
    expected = [value for reading, value in zip(readings, values, strict=True) if reading <= x]
    found = at(readings, values, np.array([0, len(steps)]), np.array([float(x)]))[0, 0]
    assert found == expected[-1] if expected else np.isnan(found)


def test_positions_start_where_all_have_begun_and_end_at_the_limit():
    xs = positions([(READINGS, STARTS)], limit=10.0, whole=False)
    assert (xs[0], xs[-1], len(xs)) == (2, pytest.approx(10), POSITIONS)
    np.testing.assert_allclose(xs[1:] / xs[:-1], xs[1] / xs[0])


def test_positions_on_another_clock_end_with_the_shortest_run():
    xs = positions([(READINGS, STARTS)], limit=None, whole=False)
    assert xs[-1] == pytest.approx(4)


def test_positions_of_a_count_are_whole():
    runs = [(np.arange(1, 6), np.array([0, 5]))]
    assert positions(runs, limit=5.0, whole=True).tolist() == [1, 2, 3, 4, 5]
    xs = positions(runs, limit=50_000.0, whole=True)
    assert (xs == np.round(xs)).all()
    assert (xs[0], xs[-1]) == (1, 50_000)
    assert len(np.unique(xs)) == len(xs) <= POSITIONS


@pytest.mark.parametrize(
    ("readings", "limit", "expected"),
    [
        ([0.0, 0.0], 5.0, [5.0]),  # nothing costs anything
        ([9.0, 9.0], 5.0, [9.0]),  # the first trial crosses the budget
        ([3.0, 3.0], None, [3.0]),
    ],
)
def test_positions_without_extent(readings, limit, expected):
    runs = [(np.array(readings), np.array([0, 2]))]
    assert positions(runs, limit=limit, whole=False).tolist() == expected


def test_positions_have_no_zero():
    runs = [(np.array([0.0, 2.0, 8.0]), np.array([0, 3]))]
    xs = positions(runs, limit=8.0, whole=False)
    assert (xs[0], xs[-1]) == (2, pytest.approx(8))


def test_read_out_step_is_the_last_incumbent():
    assert read_out("step", 5.0, READINGS, VALUES, STARTS).tolist() == [0.1, 0.2]


def test_read_out_linear_interpolates_and_extrapolates():
    first, second = read_out("linear", 5.0, READINGS, VALUES, STARTS)
    assert first == pytest.approx(0.4 + (0.1 - 0.4) * (5 - 3) / (7 - 3))
    assert second == pytest.approx(0.6 + (0.2 - 0.6) * (5 - 2) / (4 - 2))  # beyond the last


def test_read_out_linear_takes_the_nearest_two_even_on_one_side():
    readings, starts = np.array([1.0, 8.0, 9.0, 20.0]), np.array([0, 4])
    values = np.array([0.9, 0.5, 0.4, 0.1])
    assert read_out("linear", 10.0, readings, values, starts)[0] == pytest.approx(0.3)


def test_read_out_linear_of_a_single_trial_or_moment():
    alone, starts = np.array([3.0]), np.array([0, 1])
    assert read_out("linear", 5.0, alone, np.array([0.7]), starts).tolist() == [0.7]
    together, starts = np.array([1.0, 4.0, 4.0]), np.array([0, 3])
    assert read_out("linear", 5.0, together, VALUES[:3], starts).tolist() == [0.1]


@given(st.floats(1, 50), st.floats(-1, 1), st.floats(-1, 1))
def test_read_out_linear_is_exact_on_a_line(limit, slope, level):
    readings = np.array([1.0, 4.0, 6.0, 13.0])
    values = level + slope * readings
    found = read_out("linear", limit, readings, values, np.array([0, 4]))[0]
    assert found == pytest.approx(level + slope * limit, abs=1e-9)
