"""The incumbent's reported metric as a function of a clock, and its final value.

Runs are ragged: the readings and values of all trials stand one after another, `[trials]`, and
`starts` `[runs + 1]` says where each run begins.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

POSITIONS = 1000  # more than a figure has pixels
COUNTS = ("evaluations", "epochs")  # clocks that read whole numbers

Readings = NDArray[Any]
Values = NDArray[np.float64]
Starts = NDArray[np.int64]


def positions(
    runs: Sequence[tuple[Readings, Starts]], *, limit: float | None, whole: bool
) -> NDArray[np.float64]:
    """Where to read the curves of a comparison: at most `POSITIONS` readings, log-spaced.

    They start where every run has its first trial. They end at `limit`, the budget's, where a
    run that stopped earlier holds its incumbent; on another clock, for which `limit` is None,
    at the smallest of the runs' last readings, so that no run is drawn beyond its end.

    Args:
        runs: readings and starts of each cell, at least one run in all.
        whole: the clock counts; then positions are whole numbers.
    """
    start = max(float(readings[starts[:-1]].max()) for readings, starts in runs)
    if limit is None:
        limit = min(float(readings[starts[1:] - 1].min()) for readings, starts in runs)
    if start <= 0:  # a first trial that costs nothing has no place on a log axis
        above = [float(readings[readings > 0].min(initial=np.inf)) for readings, _ in runs]
        start = min(*above, limit)
    end = max(limit, start)
    if whole:
        start, end = np.ceil(start), np.floor(end)
        if end - start < POSITIONS:
            return np.arange(start, max(end, start) + 1)
    if not 0 < start < end:
        return np.array([start])
    spaced = np.geomspace(start, end, POSITIONS)
    return np.unique(np.round(spaced)) if whole else spaced


def at(
    readings: Readings, values: Values, starts: Starts, xs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Each run's value after its last trial that had ended at `xs`, shape `[runs, len(xs)]`.

    Before its first trial a run has no incumbent: NaN.
    """
    matrix = np.empty((len(starts) - 1, len(xs)))
    for run, (first, stop) in enumerate(
        zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ):
        last = np.searchsorted(readings[first:stop], xs, side="right") - 1
        matrix[run] = values[first:stop][last]
        matrix[run, last < 0] = np.nan
    return matrix


def read_out(
    rule: Literal["step", "linear"],
    limit: float,
    readings: Readings,
    values: Values,
    starts: Starts,
) -> NDArray[np.float64]:
    """Each run's final value by the protocol's rule, shape `[runs]`.

    `step` is the last incumbent's, the trial that crossed the budget included where the
    protocol keeps it. `linear` draws a line through the two trials that ended nearest to
    `limit`, on either side or both on one, each valued by its incumbent, and reads it there
    (NATS-Bench, exps/NATS-Bench/draw-table.py, query_performance). Equally near: the earlier.
    Two that ended at the same moment, or a single one, make no line: then the later one's.

    Args:
        readings: of the budget's clock.
    """
    if rule == "step":
        return values[starts[1:] - 1]
    finals = np.empty(len(starts) - 1)
    for run, (first, stop) in enumerate(
        zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ):
        nearest = first + np.argsort(np.abs(readings[first:stop] - limit), kind="stable")[:2]
        a, b = nearest.min(), nearest.max()
        if readings[a] == readings[b]:
            finals[run] = values[b]
        else:
            share = (limit - readings[a]) / (readings[b] - readings[a])
            finals[run] = (1 - share) * values[a] + share * values[b]
    return finals
