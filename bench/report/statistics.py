"""What is said of many runs: mean, spread, intervals, ranks."""

from functools import cache
from math import comb, isnan

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mean(values: Floats) -> float:
    """The mean of the runs `[runs]`; NaN if one of them is NaN."""
    return float(np.mean(values))


def deviation(values: Floats) -> float:
    """The population standard deviation (divisor n, as in NATS-Bench's tables) of `[runs]`."""
    return float(np.std(values, ddof=0))


def ranks(means: list[float]) -> list[int]:
    """Competition ranks, the lowest mean first: 1, 2, 2, 4. NaN comes last.

    Means that agree to 12 decimals are tied: summing in another order moves the rest.
    """
    rounded = [float("inf") if isnan(value) else round(value, 12) for value in means]
    return [1 + sum(other < value for other in rounded) for value in rounded]


@cache
def _weights(runs: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """How much each run counts in each resample, `[resamples, runs]`: multinomial over runs."""
    drawn = np.random.default_rng(seed).integers(runs, size=(resamples, runs))
    cells = drawn + runs * np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=resamples * runs).reshape(resamples, runs)
    return (counts / runs).astype(np.float32)


def mean_band(
    values: Floats, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Percentile-bootstrap interval of the mean over runs, at every step.

    Strategies with equally many runs are resampled alike: with rows in the order of their
    seeds, run by run, so that bands of runs paired by seed are paired too. A single run has no
    interval: NaN.

    Args:
        values: of shape `[runs, steps]`.

    Returns:
        The lower and the upper ends, each of shape `[steps]`.
    """
    runs, steps = values.shape
    if runs < 2:
        return np.full(steps, np.nan), np.full(steps, np.nan)
    centre = values.mean(axis=0)
    rest = (values - centre).astype(np.float32)  # what float32 rounds is small then
    means = rest.T @ _weights(runs, resamples, seed).T
    means.sort(axis=1)  # vectorised in numpy, and twice as fast as `partition`
    rank = max(1, round((1 - level) / 2 * (resamples + 1)))
    return centre + means[:, rank - 1], centre + means[:, resamples - rank]


@cache
def median_ranks(runs: int, level: float = 0.95) -> tuple[int, int] | None:
    """One-based ranks of the order statistics that bound the median, exact, distribution-free.

    As many values lie below the median as a fair coin shows heads: the lower rank is the
    highest k with P(heads < k) ≤ (1 - level) / 2. None where not even the extremes suffice:
    at 95 %, below six runs.
    """
    below, rank = 0, 0
    for heads in range(runs):
        below += comb(runs, heads)
        if below / 2**runs > (1 - level) / 2:
            break
        rank = heads + 1
    return (rank, runs + 1 - rank) if rank else None


def median_band(values: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Order-statistic interval of the median over runs `[runs, steps]`; NaN if none exists."""
    runs, steps = values.shape
    ends = median_ranks(runs, level)
    if ends is None:
        return np.full(steps, np.nan), np.full(steps, np.nan)
    ordered = np.sort(values, axis=0)
    return ordered[ends[0] - 1], ordered[ends[1] - 1]
