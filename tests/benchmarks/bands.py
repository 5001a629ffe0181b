"""Lines with 95% confidence bands of 10 strategies × 500 runs × 1,000 steps, against seaborn's own.

Both draw with the same figure size. seaborn gets a frame that is already built, of one strategy,
and its time is multiplied by ten. `scipy.stats.bootstrap` stands beside for context.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from itertools import count

import measure
import numpy as np
import pandas
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import bootstrap

from bench.report.statistics import mean_band

STRATEGIES, RUNS = 10, 500
RESAMPLES = 1000  # seaborn's default


def make_runs(steps: int) -> list[NDArray[np.float64]]:
    """Made-up incumbents, `[runs, steps]` a strategy: they only fall."""
    rng = np.random.default_rng(0)
    return [
        np.minimum.accumulate(rng.random((RUNS, steps)), axis=1) * 0.1 + 0.05
        for _ in range(STRATEGIES)
    ]


def draw(plot: Callable[[Axes], object]) -> None:
    figure = Figure(figsize=(6.4, 4.8), dpi=100)
    plot(figure.subplots())
    figure.savefig(io.BytesIO(), format="png")


def ours(strategies: Sequence[NDArray[np.float64]], seed: int) -> None:
    def plot(axes: Axes) -> None:
        for runs in strategies:
            low, high = mean_band(runs, resamples=RESAMPLES, seed=seed)
            steps = np.arange(runs.shape[1])
            axes.plot(steps, runs.mean(axis=0))
            axes.fill_between(steps, low, high, alpha=0.2)

    draw(plot)


def main() -> None:
    options = measure.arguments(__doc__)
    warnings.filterwarnings("ignore")
    rounds = options.rounds or 5
    seeds = count()  # another one every time: no resampling weights are kept from before
    every = make_runs(100 if options.quick else 1000)
    one = every[0]
    steps = one.shape[1]
    frame = pandas.DataFrame({"step": np.tile(np.arange(steps), RUNS), "error": one.ravel()})

    def with_seaborn() -> float:
        def plot(axes: Axes) -> None:
            seaborn.lineplot(frame, x="step", y="error", ax=axes, seed=0)

        return STRATEGIES * measure.seconds(lambda: draw(plot))

    def with_ours() -> float:
        return measure.seconds(lambda: ours(every, next(seeds)))

    def band_only() -> float:
        return measure.seconds(lambda: mean_band(one, resamples=RESAMPLES, seed=next(seeds)))

    def with_scipy() -> float:
        def work() -> None:
            bootstrap(
                (one,), np.mean, axis=0, n_resamples=RESAMPLES, method="percentile", batch=20, rng=0
            )

        return measure.seconds(work)

    draw(lambda axes: axes.plot([0, 1]))
    ours(every[:1], next(seeds))
    peer, all_ten = measure.interleave(rounds, with_seaborn, with_ours)
    scipy_times, band = measure.interleave(rounds, with_scipy, band_only)
    size = f"× {RUNS} runs × {steps:,} steps"
    rows = [
        measure.Row(
            f"{STRATEGIES} strategies {size}, drawn, vs seaborn.lineplot", all_ten, peer, 100
        ),
        measure.Row(f"1 strategy {size}, band only, vs scipy.stats.bootstrap", band, scipy_times),
    ]
    notes = [
        f"seaborn: one strategy timed, {measure.median(peer) / STRATEGIES:.2f} s, "
        f"× {STRATEGIES}; its frame was built before; default error bars (95%, 1,000 resamples)",
        "ours: ten strategies in one figure; scipy: percentile method, 1,000 resamples",
    ]
    packages = ["numpy", "scipy", "pandas", "matplotlib", "seaborn"]
    measure.report("Confidence bands", rows, notes, packages, options.json)


if __name__ == "__main__":
    main()
