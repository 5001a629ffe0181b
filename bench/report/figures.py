"""Anytime curves and final values of a comparison, drawn from aggregates with seaborn's look.

No pyplot and no global state: figures are objects of their own, drawn by Agg.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from bench.report.curves import COUNTS, at, positions
from bench.report.leaderboard import (
    Board,
    Row,
    caveats,
    clean,
    clock_label,
    heading,
    metric_label,
    provenance,
)
from bench.report.statistics import FEWEST, mean_band, median_band
from bench.report.units import unit

Center = Literal["mean", "median"]

COLOURS = (0, 1, 2, 4, 9, 3, 7, 8, 5, 6)  # neighbours further apart than in seaborn's order
DASHES = ("solid", "dashed", "dotted", "dashdot")  # from the eleventh strategy on
LOOK: dict[Any, Any] = {
    "axes.edgecolor": "0.35",
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "font.size": 10,
    "grid.color": "0.9",
    "legend.fontsize": 9,
    "svg.hashsalt": "nas-arena",  # equal figures, equal bytes
    "text.parse_math": False,  # a dollar in a name is a dollar
}


@contextmanager
def look() -> Iterator[None]:
    """Seaborn's white grid, while it lasts."""
    with mpl.rc_context({**sns.axes_style("whitegrid"), **LOOK}):
        yield


def draw(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure as a file's content; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with look():
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def anytime(of: Board, clock: str | None = None, center: Center = "mean") -> Figure:
    """Regret of the incumbents against a clock, the budget's unless another is named.

    Where the optimum is not known, their error instead. Nothing is drawn of a board without
    rows.
    """
    comparison = of.comparison
    budget, primary = comparison.budget, comparison.protocol.report[0]
    clock = clock or budget.clock
    optimum, of_metric = comparison.optimum.get(primary), unit(primary)
    floor = of_metric.floor
    xs = positions(
        [(row.runs.clocks[clock], row.runs.starts) for row in of.rows],
        limit=budget.limit if clock == budget.clock else None,
        whole=clock in COUNTS,
    )
    with look():
        figure, axes = _canvas(7.2, 4.6)
        clipped = False
        for row, style in zip(of.rows, _styles(of), strict=True):
            matrix = at(row.runs.clocks[clock], row.runs.values[primary], row.runs.starts, xs)
            points = of_metric.scale * (matrix - (optimum or 0.0))
            if center == "mean":
                line, (low, high) = points.mean(axis=0), mean_band(points)
            else:
                line, (low, high) = np.median(points, axis=0), median_band(points)
            if optimum is not None:
                clipped |= bool(min(line.min(), np.nanmin(low, initial=np.inf)) < floor)
                line, low, high = (np.maximum(values, floor) for values in (line, low, high))
            marker = "o" if len(xs) == 1 else ""
            axes.plot(
                xs, line, drawstyle="steps-post", label=_ranked(row), lw=1.8, marker=marker, **style
            )
            if np.isfinite(low).all():
                axes.fill_between(
                    xs, low, high, step="post", color=style["color"], alpha=0.18, linewidth=0
                )
        _log(axes.xaxis, xs[0], xs[-1])
        words = metric_label(primary)
        if optimum is None:
            axes.set_ylabel(f"{words}{of_metric.axis}")
        else:
            _log(axes.yaxis, *axes.dataLim.intervaly)
            axes.set_ylabel(f"regret of the {words}\n({of_metric.regret}log scale)")
        axes.set_xlabel(f"{clock_label(clock)} (log scale)")
        axes.set_xlim(xs[0], xs[-1] if len(xs) > 1 else None)
        axes.set_title(clean(heading(comparison)))
        # Regret on two log scales falls from one corner to another: this one stays free.
        legend: dict[str, Any] = {"loc": "upper right" if optimum is None else "lower left"}
        axes.legend(**legend, frameon=True, framealpha=0.9, edgecolor="0.9")
        _mark_ends(axes, of.rows)
        band = _band_words(center, len(comparison.seeds))
        lowest = f"Values below {floor:g} are drawn at {floor:g}." if clipped else ""
        ranked = _rank_words(of, clock, center)
        _caption(figure, of, f"{band} of the incumbent's {words}.", lowest, ranked)
    return figure


def final(of: Board) -> Figure:
    """Every run's final value, the best strategy on top."""
    comparison = of.comparison
    primary = comparison.protocol.report[0]
    optimum, of_metric = comparison.optimum.get(primary), unit(primary)
    with look():
        figure, axes = _canvas(7.2, 1.7 + 0.45 * len(of.rows))
        for y, (row, style) in enumerate(zip(of.rows, _styles(of), strict=True)):
            _distribution(axes, y, of_metric.scale * row.finals[primary], style["color"])
        if optimum is not None:
            axes.axvline(of_metric.scale * optimum, color="0.25", ls="--", lw=1.2, zorder=1)
            axes.annotate(
                f"optimum {of_metric.coarse(optimum)}{of_metric.sign}",
                (of_metric.scale * optimum, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=8.5,
                color="0.25",
            )
        axes.set_yticks(range(len(of.rows)), [_ranked(row) for row in of.rows])
        axes.set_ylim(len(of.rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"final {metric_label(primary)}{of_metric.axis}, lower is better")
        axes.set_title(clean(heading(comparison)), pad=18)
        text = "Points: runs; box: quartiles and median; whiskers: 5 % to 95 %; diamond: mean."
        _caption(figure, of, text)
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _styles(of: Board) -> list[dict[str, Any]]:
    """For each row; by its label's place, so that ranks that change keep their colours."""
    palette = [sns.color_palette("colorblind")[i] for i in COLOURS]
    places = [of.comparison.labels.index(row.label) for row in of.rows]
    return [
        {"color": palette[place % 10], "linestyle": DASHES[place // 10 % len(DASHES)]}
        for place in places
    ]


def _mark_ends(axes: Axes, rows: Sequence[Row]) -> None:
    """Write each rank where its line ends, so that colours need not carry the figure alone."""
    axes.autoscale_view()
    to_height = axes.transData + axes.transAxes.inverted()
    last = [np.asarray(line.get_xydata(), dtype=float)[-1] for line in axes.lines]
    ends = to_height.transform(np.array(last))[:, 1].tolist()
    free = -1.0
    for end, line, row in sorted(zip(ends, axes.lines, rows, strict=True), key=lambda e: e[0]):
        free = max(end, free + 0.045)  # a line of text
        axes.annotate(
            str(row.rank or ""),
            (1, free),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            fontsize=9,
            fontweight="bold",
        )


def _ranked(row: Row) -> str:
    return clean(f"{row.rank}  {row.label}" if row.rank else row.label)


def _distribution(axes: Axes, y: float, values: NDArray[np.float64], color: Any) -> None:
    """Points, box and mean of the runs at height `y`, from quantiles of our own."""
    low, first, middle, third, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
    spread = 0.3 * (np.arange(len(values)) * 0.618034 % 1 - 0.5)  # even, and the same every time
    axes.plot(
        values,
        y + spread,
        ls="",
        marker=".",
        ms=5,
        color=color,
        alpha=float(np.clip(60 / len(values), 0.2, 0.7)),
        mew=0,
        rasterized=True,
    )
    box = Rectangle((first, y - 0.2), third - first, 0.4, fc=(*color, 0.35), ec=color, lw=1.3)
    axes.add_patch(box)
    axes.hlines([y, y], [low, third], [first, high], color=color, lw=1.3)
    axes.vlines(middle, y - 0.2, y + 0.2, color=color, lw=2)
    axes.plot(values.mean(), y, marker="D", ms=5, color="white", mec=color, mew=1.4, zorder=4)


def _log(axis: Axis, low: float, high: float) -> None:
    """A log scale with plain numbers, and some between the powers where there are few powers."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    few = high / low <= 1000
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_minor_locator(NullLocator() if few else LogLocator(subs="auto"))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def _short(value: float) -> str:
    """A tick: `0.05`, `2,000`, `20k`, `1M`."""
    for size, letter in (1e6, "M"), (1e3, "k"):
        if value >= max(size, 1e4):
            return f"{value / size:,.10g}{letter}"
    return f"{value:,.10g}"


def _band_words(center: Center, runs: int) -> str:
    if center == "mean":
        return (
            "Mean and 95 % bootstrap band"
            if runs >= FEWEST
            else f"Mean (below {FEWEST} runs there is no bootstrap band)"
        )
    return (
        "Median and 95 % order-statistic band"
        if runs > 5
        else "Median (below 6 runs no 95 % order-statistic band exists)"
    )


def _rank_words(of: Board, clock: str, center: Center) -> str:
    """Which order the rank numbers follow, where the lines may end in another."""
    if any(row.rank is None for row in of.rows):
        return ""
    if center == "median":
        return "The rank numbers are by the mean at the budget."
    return "" if clock == of.comparison.budget.clock else "The rank numbers are at the budget."


def _caption(figure: Figure, of: Board, *sentences: str) -> None:
    withheld = ""
    if of.comparison.missing:
        withheld = "Runs are missing: see the leaderboard."
    elif any(row.rank is None for row in of.rows):
        withheld = "Ranks are withheld: see the leaderboard."
    first = provenance(of.comparison)
    told = [
        f"{note[0].upper()}{note[1:].rstrip('.')}." for note in (first, *caveats(of.comparison))
    ]
    text = " ".join(filter(None, (told[0], *sentences, *told[1:], withheld)))
    caption = fill(clean(text).replace(" %", "\N{NO-BREAK SPACE}%"), 118)
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=8, color="0.35")
