"""What is said of many runs: mean, spread, intervals, ranks."""

from functools import cache
from math import comb, isnan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST = 5  # runs; an interval of the mean of fewer would be a guess


def mean(values: Floats) -> float:
    """The mean of the runs `[runs]`; NaN if one of them is NaN."""
    return float(np.mean(values))


def deviation(values: Floats) -> float:
    """The population standard deviation (divisor n, as in NATS-Bench's tables) of `[runs]`.

    NaN for a single run, which tells nothing of a spread.
    """
    return float(np.std(values, ddof=0)) if len(values) > 1 else float("nan")


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


def t_quantile(probability: float, freedom: int) -> float:
    """Student's t by its Cornish-Fisher expansion; at 97.5 % within 0.01 from 4 degrees on."""
    z, v = NormalDist().inv_cdf(probability), freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


@cache
def _stretch(runs: int, level: float) -> float:
    """How much wider than the percentile interval one must be that covers at few runs."""
    upper = (1 + level) / 2
    return sqrt(runs / (runs - 1)) * t_quantile(upper, runs - 1) / NormalDist().inv_cdf(upper)


def mean_band(
    values: Floats, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Expanded-percentile bootstrap interval of the mean over runs, at every step.

    A percentile interval is as if the divisor were n and the t quantile the normal one; this
    one is stretched around the mean by both (Hesterberg, What Teachers Should Know About the
    Bootstrap, The American Statistician 2015). He moves the percentiles outwards instead; that
    would read the last few resamples, where they are noise.

    Strategies with equally many runs are resampled alike: with rows in the order of their
    seeds, run by run, so that bands of runs paired by seed are paired too. Below `FEWEST`
    runs there is no interval: NaN.

    Args:
        values: of shape `[runs, steps]`.

    Returns:
        The lower and the upper ends, each of shape `[steps]`.
    """
    runs, steps = values.shape
    if runs < FEWEST:
        return np.full(steps, np.nan), np.full(steps, np.nan)
    centre = values.mean(axis=0)
    rest = (values - centre).astype(np.float32)  # what float32 rounds is small then
    means = rest.T @ _weights(runs, resamples, seed).T
    means.sort(axis=1)  # vectorised in numpy, and twice as fast as `partition`
    rank = max(1, round((1 - level) / 2 * (resamples + 1)))
    stretch = _stretch(runs, level)
    return centre + stretch * means[:, rank - 1], centre + stretch * means[:, resamples - rank]


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
