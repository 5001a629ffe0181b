"""Final values, ranked, and the words that stand beside them."""

import unicodedata
from dataclasses import dataclass, replace

import numpy as np

from bench.report.curves import read_out
from bench.report.frame import MEASURED, CellRuns, Comparison, spans
from bench.report.statistics import Floats, mean, mean_band, ranks

EXPLANATION = (
    "± is the population standard deviation over runs; "
    "CI is a 95 % expanded-percentile bootstrap interval of the mean; ranks are by the mean"
)

TEST_SIGNAL = (
    "the strategies' signal is a test score, as this benchmark publishes no other: "
    "the values and the regret shown here are optimistic"
)


@dataclass(frozen=True)
class Row:
    """The final values of one strategy."""

    rank: int | None
    """By the mean of the primary metric; None where something is missing or was cut short."""
    label: str
    runs: CellRuns
    finals: dict[str, Floats]
    """Of each reported metric, the primary one first: fractions or losses, shape `[runs]`."""
    interval: tuple[float, float]
    """Of the mean of the primary metric."""
    evaluations: float
    """Mean over runs."""


@dataclass(frozen=True)
class Board:
    """The leaderboard of one comparison, the best first."""

    comparison: Comparison
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    """What the reader must know: what the values rest on, missing and left-out seeds, runs cut
    short, unknown values."""


def board(comparison: Comparison) -> Board:
    """Read every run out at its end and rank the strategies by their means.

    Without a seed that all strategies have there are no rows.
    """
    remarks = [*caveats(comparison), *comparison.missing, *comparison.left_out]
    if not len(comparison.seeds):
        return Board(comparison, (), (*remarks, "no seed is shared by all strategies"))
    protocol, budget = comparison.protocol, comparison.budget
    if budget.clock in MEASURED or protocol.overhead == "charged":
        remarks.append("a measured clock decides: these runs cannot be repeated exactly")
    primary = protocol.report[0]
    rows = []
    for label, runs in zip(comparison.labels, comparison.cells, strict=True):
        readings = runs.clocks[budget.clock]
        finals = {
            metric: read_out(protocol.read_out, budget.limit, readings, values, runs.starts)
            for metric, values in runs.values.items()
        }
        low, high = mean_band(finals[primary][:, None])
        evaluations = mean(runs.clocks["evaluations"][runs.starts[1:] - 1])
        rows.append(Row(None, label, runs, finals, (float(low[0]), float(high[0])), evaluations))
    means = [mean(row.finals[primary]) for row in rows]
    unknown = [
        f"{row.label}: the {metric_label(metric)} of some runs is not known"
        for row in rows
        for metric in protocol.report
        if np.isnan(row.finals[metric]).any()
    ]
    stopped = _stopped(comparison)
    incomplete = bool(comparison.missing) or bool(np.isnan(means).any())
    if incomplete:
        remarks.append("ranks are withheld until nothing is missing")
    elif stopped:
        remarks.append("ranks are withheld: not every run could spend its budget")
    withheld = incomplete or bool(stopped)
    ranked = sorted(zip(ranks(means), rows, strict=True), key=lambda pair: pair[0])
    return Board(
        comparison,
        tuple(replace(row, rank=None if withheld else rank) for rank, row in ranked),
        (*remarks, *stopped, *unknown),
    )


def _stopped(comparison: Comparison) -> list[str]:
    """A sentence for every strategy with runs that `max_trials` ended, and not the budget.

    A run whose last trial reached the budget ended there, whatever it counted.
    """
    most, budget = comparison.protocol.max_trials, comparison.budget
    sentences = []
    for label, runs in zip(comparison.labels, comparison.cells, strict=True):
        spent = runs.clocks[budget.clock][runs.starts[1:] - 1] >= budget.limit
        if count := int(((np.diff(runs.starts) >= most) & ~spent).sum()):
            sentences.append(
                f"{label}: {count} of {len(runs.seeds)} runs stopped at max_trials "
                f"({most:,}), before the budget was spent"
            )
    return sentences


def caveats(comparison: Comparison) -> list[str]:
    """Sentences that stand under every figure and table: a test signal, the objective's notes."""
    declared = comparison.protocol.test_signal == "declared"
    return [*([TEST_SIGNAL] if declared else []), *filter(None, [comparison.notes])]


def metric_label(metric: str) -> str:
    """`valid_error` in words; a validation value is never called a test."""
    words = metric.split("_")
    return " ".join("validation" if word in ("valid", "val") else word for word in words)


def clock_label(clock: str, amount: float | None = None) -> str:
    """A clock in words, with an amount of it if one is given."""
    words = clock.replace("_", " ")
    return words if amount is None else f"{amount:,.10g} {words}"


def heading(comparison: Comparison) -> str:
    """Space, dataset and budget, and what tells it from a twin in the same report."""
    budget = comparison.budget
    parts = [comparison.space, comparison.dataset, clock_label(budget.clock, budget.limit)]
    if comparison.workers > 1:
        parts.append(f"{comparison.workers} workers")
    return " · ".join((*parts, *comparison.apart))


def provenance(comparison: Comparison) -> str:
    """Protocol with its digest, and number of runs: what stands under every figure and table."""
    runs = len(comparison.seeds)
    protocol = comparison.protocol
    return (
        f"protocol {protocol.name} ({protocol.digest}) · {runs} run{'s'[: runs != 1]} a strategy, "
        f"seeds {spans(comparison.seeds.tolist())}"
    )


def notes(of: Board) -> list[str]:
    """The lines under a table."""
    objective = f"objective {of.comparison.objective}"
    line = f"{provenance(of.comparison)} · {objective} · {EXPLANATION}."
    return [line[0].upper() + line[1:], *of.remarks]


def clean(text: str) -> str:
    """Without control, direction and other invisible characters: they could forge a row."""
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
