"""The figures of a space view, in the look of the other figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line
from matplotlib.ticker import LogLocator, MaxNLocator

from bench.landscape import (
    LAGS,
    Autocorrelation,
    Descents,
    DistanceCorrelation,
    Effects,
    Floats,
    RankCorrelation,
    pareto_front,
)
from bench.report.figures import COLOURS, _canvas, _log, look
from bench.report.layout import Layout, layout
from bench.report.leaderboard import clean
from bench.report.tables import UNKNOWN
from bench.report.units import Unit
from bench.space import Edge
from bench.words import many

WIDTH = 7.2  # inches, as all our figures
LETTER = 0.0078  # inches of an average letter, for each point of its size
ROW = 0.30  # inches between the rows of a drawing
PANELS = 6  # fronts in one figure
GENES = 30  # rows of a heat map


@dataclass(frozen=True)
class Words:
    """What stands around every figure of one view."""

    title: str
    quantity: str
    """The error in words, with its unit."""
    unit: Unit
    source: str
    """What every caption begins with: the source, and that it is a test metric where it is."""


def _colour(place: int) -> Any:
    return sns.color_palette("colorblind")[COLOURS[place]]


def _caption(figure: Figure, words: Words, *sentences: str) -> None:
    text = " ".join(filter(None, (words.source, *sentences)))
    caption = fill(clean(text).replace(" %", "\N{NO-BREAK SPACE}%"), 118)
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=8, color="0.35")


def _panels(rows: int, columns: int, height: float, **more: Any) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, **more).ravel().tolist()
    for axes in panels:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, panels


def errors(values: Floats, words: Words) -> Figure:
    """Histogram and cumulative distribution of the architectures' errors."""
    shown = np.sort(words.unit.scale * values[~np.isnan(values)])
    with look():
        figure, (left, right) = _panels(1, 2, 3.9)
        each = 100 / len(shown)
        bars, *_ = left.hist(shown, bins=60, weights=np.full(len(shown), each), color=_colour(0))
        left.set_ylim(0.6 * each, 1.5 * float(np.max(bars)))
        _log(left.yaxis, each, 100)
        left.set_ylabel("share of the architectures (%, log scale)")
        left.set_title(words.title)
        right.plot(
            shown,
            each * np.arange(1, len(shown) + 1),
            drawstyle="steps-post",
            lw=1.8,
            color=_colour(0),
        )
        wide = bool(shown[0] > 0 and shown[-1] / shown[0] > 3)
        if wide:
            _log(right.xaxis, shown[0], shown[-1])
        right.set_ylabel("share at this error or below (%)")
        right.set_ylim(0, 102)
        for axes in left, right:
            axes.axvline(shown[0], color="0.25", ls="--", lw=1.2, zorder=1)
        middle = float(np.median(shown))
        right.plot(middle, 50, marker="o", ms=5, color=_colour(0))
        right.annotate(
            f"median {middle:.4g}",
            (middle, 50),
            xytext=(7, -4),
            textcoords="offset points",
            fontsize=8.5,
            color="0.25",
        )
        left.set_xlabel(words.quantity)
        right.set_xlabel(words.quantity + (", log scale" if wide else ""))
        _caption(
            figure,
            words,
            f"{many(len(shown), 'architecture')}, each the mean over its training seeds.",
            f"Dashed: the lowest, {shown[0]:.4g}.",
        )
    return figure


def drawings(graphs: Sequence[tuple[str, Sequence[Edge]]], caption: str) -> Figure:
    """Graphs below each other, each under a heading of its own."""
    placed = [layout(edges, across=_across(edges)) for _, edges in graphs]
    heights = [ROW * max(plan.rows, 1.0) + 0.45 for plan in placed]
    note = fill(clean(caption), 98)
    below = 0.14 * (note.count("\n") + 1) + 0.15
    total = sum(heights) + below
    with look():
        figure = Figure(figsize=(WIDTH, total))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, total))
        axes.set_axis_off()
        top = total
        for (heading, edges), plan, height in zip(graphs, placed, heights, strict=True):
            axes.text(0.1, top - 0.1, clean(heading), va="top", weight="bold", fontsize=10)
            top -= height
            if edges:
                _draw_graph(axes, edges, plan, top + 0.08)
            else:
                axes.text(0.1, top + 0.1, "nothing is connected", fontsize=8.5, color="0.35")
        axes.text(0.07, 0.07, note, va="bottom", fontsize=8, color="0.35", linespacing=1.2)
    return figure


def _shown(node: str) -> str:
    return clean(node.split("#")[0])


def _across(edges: Sequence[Edge]) -> int:
    """How many nodes fit beside each other."""
    longest = max((len(_shown(node)) for edge in edges for node in edge[:2]), default=1)
    return max(2, int((WIDTH - 0.2) / (LETTER * 8 * longest + 0.4)))


def _draw_graph(axes: Axes, edges: Sequence[Edge], plan: Layout, bottom: float) -> None:
    names = {node: _shown(node) for node in plan.nodes}
    longest = max(map(len, names.values()))
    ends = 0.2 + LETTER * 8 * longest  # half a node at either side, and a margin
    step = min((WIDTH - ends) / max(plan.layers - 1, 1), max(1.35, LETTER * 8 * longest + 0.5))
    size = float(np.clip((step - 0.3) / (LETTER * longest), 4.5, 8.5))
    left = (WIDTH - step * (plan.layers - 1)) / 2

    def at(place: tuple[float, float]) -> tuple[float, float]:
        return left + step * place[0], bottom + ROW * (place[1] + 0.5)

    half = {node: 0.07 + LETTER * size * len(name) / 2 for node, name in names.items()}
    for (source, target, label), route, middle in zip(edges, plan.routes, plan.labels, strict=True):
        points = [at(place) for place in route]
        way = int(np.sign(points[-1][0] - points[0][0]))  # -1 in the rows that go back
        if way:
            points[0] = (points[0][0] + way * half[source], points[0][1])
            points[-1] = (points[-1][0] - way * (half[target] + 0.01), points[-1][1])
        else:
            points[0] = (points[0][0], points[0][1] - 0.11)
            points[-1] = (points[-1][0], points[-1][1] + 0.12)
        axes.add_patch(
            FancyArrowPatch(
                path=_smooth(points), arrowstyle="-|>", mutation_scale=8, color="0.45", lw=1.0
            )
        )
        if label:
            _label(axes, at(middle), clean(label), step)
    for node, place in plan.nodes.items():
        x, y = at(place)
        box = FancyBboxPatch(
            (x - half[node] + 0.04, y - 0.07),
            2 * half[node] - 0.08,
            0.14,
            boxstyle="round,pad=0.04",
            fc=(*_colour(0), 0.18),
            ec=_colour(0),
            lw=1.1,
            zorder=3,
        )
        axes.add_patch(box)
        axes.text(x, y, names[node], ha="center", va="center_baseline", fontsize=size, zorder=4)


def _smooth(points: Sequence[tuple[float, float]]) -> Line:
    """A line through the points that is level at each."""
    vertices, codes = [points[0]], [Line.MOVETO]
    for (x, y), (to_x, to_y) in pairwise(points):
        if x == to_x:
            vertices.append((to_x, to_y))
            codes.append(Line.LINETO)
            continue
        middle = (x + to_x) / 2
        vertices += [(middle, y), (middle, to_y), (to_x, to_y)]
        codes += [Line.CURVE4] * 3
    return Line(vertices, codes)


def _label(axes: Axes, place: tuple[float, float], label: str, step: float) -> None:
    """On white, in two lines if it is long, no wider than two layers."""
    lines = _lines(label, step, 7.5)
    widest = LETTER * max(map(len, lines))
    axes.text(
        *place,
        "\n".join(lines),
        ha="center",
        va="center",
        fontsize=float(np.clip(1.05 * step / widest, 4.5, 7.5 if len(lines) == 1 else 6.5)),
        linespacing=0.9,
        zorder=2,
        bbox={"fc": "white", "ec": "none", "pad": 0.8},
    )


def _lines(text: str, room: float, size: float) -> list[str]:
    """Text of this size in the room, inches, or else broken at its middlemost underscore."""
    if len(text) * LETTER * size <= room or "_" not in text[1:-1]:
        return [text]
    breaks = [at for at, letter in enumerate(text[:-1], 1) if letter == "_"]
    middle = min(breaks, key=lambda at: abs(at - len(text) / 2))
    return [text[:middle], text[middle:]]


def effects(found: Effects, labels: Sequence[tuple[str, Sequence[str]]], words: Words) -> Figure:
    """Mean error of each value of each gene, less the mean; and the shares of variance.

    Of more than `GENES` genes those that explain most are drawn.
    """
    genes = np.sort(np.nan_to_num(found.shares).argsort(kind="stable")[-GENES:]).tolist()
    drawn = [labels[gene] for gene in genes]
    columns = _columns(drawn)
    grid = np.full((len(genes), len(columns)), np.nan)
    for row, (gene, (_, values)) in enumerate(zip(genes, drawn, strict=True)):
        for place, value in enumerate(values):
            column = columns.index(value) if value in columns else place
            grid[row, column] = words.unit.scale * found.effects[gene][place]
    with look():
        ratios = (3 if len(columns) < 6 else 5, 1.3)
        height = max(0.34 * len(genes), 1.2) + 2.0
        figure, (left, right) = _panels(1, 2, height, sharey=True, width_ratios=ratios)
        _heat_map(figure, left, grid, columns)
        left.set_yticks(range(len(genes)), [clean(name) for name, _ in drawn], fontsize=8.5)
        left.set_title(words.title)
        unit = " (percentage points)" if words.unit.scale == 100 else ""
        left.set_xlabel(f"mean error with the value, less the mean{unit}")
        _share_bars(right, found.shares[genes])
        kind = "exact" if found.exact else "an estimate"
        together = "not known" if np.isnan(found.together) else f"{100 * found.together:.1f} %"
        left_out = len(labels) - len(genes)
        _caption(
            figure,
            words,
            "Blue is better. Right: share of the variance of the error that each gene explains",
            f"alone ({kind}); all together, without interactions: {together}.",
            f"Left out: {many(left_out, 'gene')}, explaining less than these." if left_out else "",
        )
    return figure


def _heat_map(figure: Figure, axes: Axes, grid: Floats, columns: Sequence[str]) -> None:
    """Blue below zero and red above, with the numbers where there is room for them."""
    widest = float(np.nanmax(np.abs(grid))) or 1.0
    digits = int(np.clip(2 - np.floor(np.log10(widest)), 0, 5))
    image = axes.imshow(
        np.ma.masked_invalid(grid), cmap="RdBu_r", vmin=-widest, vmax=widest, aspect="auto"
    )
    if len(columns) <= 9:
        for (row, column), number in np.ndenumerate(grid):
            if not np.isnan(number):
                colour = "white" if abs(number) > 0.6 * widest else "0.15"
                text = f"{number:+.{digits}f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    room = 3.9 / len(columns)  # inches
    broken = [_lines(name, room, 8.5) for name in columns]
    turned = max(len(line) for lines in broken for line in lines) * 8.5 * LETTER > room
    axes.set_xticks(
        range(len(columns)),
        columns if turned else ["\n".join(lines) for lines in broken],
        rotation=40 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor" if turned else "default",
        fontsize=8.5,
    )
    if len(columns) > 15 and all(name.isdigit() for name in columns):
        axes.set_xticks(range(0, len(columns), 5), columns[::5], rotation=0, ha="center")
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, aspect=30)
    bar.ax.tick_params(labelsize=8)


def _share_bars(axes: Axes, shares: Floats) -> None:
    """A bar and a number in percent for each gene; one whose share is not known has no bar."""
    percent = 100 * np.nan_to_num(shares)
    axes.barh(range(len(shares)), percent, color=_colour(0), height=0.6)
    for row, share in enumerate(percent.tolist()):
        axes.annotate(
            UNKNOWN if np.isnan(shares[row]) else f"{share:.1f}",
            (max(share, 0), row),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xlim(min(0, percent.min()), max(percent.max(), 1) * 1.35)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(axis="y", labelleft=False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("variance\nexplained (%)")


def _columns(labels: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """The values' names, if they are few, else their numbers."""
    names = list(dict.fromkeys(value for _, values in labels for value in values))
    most = max(len(values) for _, values in labels)
    if len(names) <= max(18, most):
        return [clean(name) for name in names]
    return [str(number) for number in range(most)]


def walk(found: Autocorrelation, words: Words) -> Figure:
    """Autocorrelation of the error along random walks."""
    lags = np.arange(LAGS + 1)
    with look():
        figure, axes = _canvas(WIDTH, 4.2)
        axes.fill_between(lags, found.low, found.high, color=_colour(0), alpha=0.2, lw=0)
        axes.plot(lags, found.values, marker="o", ms=4, lw=1.8, color=_colour(0), label="walks")
        if found.length == found.length:
            decay = np.exp(-lags / found.length)
            label = f"exp(-lag / {found.length:.2f})"
            axes.plot(lags, decay, color=_colour(1), ls="dashed", lw=1.4, label=label)
        axes.axhline(0, color="0.5", lw=0.8)
        axes.set_xlim(0, LAGS)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("lag (steps to a uniformly drawn neighbour)")
        axes.set_ylabel("autocorrelation of the error")
        axes.set_title(words.title)
        axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="0.9")
        _caption(
            figure,
            words,
            "Random walks from uniform starts, with a 95 % bootstrap band over walks; dashed: the",
            "decay that the first lag implies (Weinberger, 1990).",
        )
    return figure


def distance(found: DistanceCorrelation, words: Words) -> Figure:
    """The error at each distance from the nearest optimum."""
    quartiles = words.unit.scale * found.quartiles
    with look():
        figure, axes = _canvas(WIDTH, 4.2)
        axes.vlines(
            found.distances, quartiles[:, 0], quartiles[:, 2], color=_colour(0), lw=5, alpha=0.35
        )
        axes.plot(found.distances, quartiles[:, 1], marker="o", ms=6, lw=1.4, color=_colour(0))
        axes.margins(y=0.12)
        for there, share in zip(found.distances, found.shares, strict=True):
            axes.annotate(
                f"{100 * share:.2g} %",
                (there, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8,
                color="0.35",
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("distance (genes that differ from the nearest optimum)")
        axes.set_ylabel(words.quantity)
        axes.set_title(words.title)
        _caption(
            figure,
            words,
            "Medians and quartiles; on top the share of architectures at each distance.",
            f"Fitness-distance correlation {found.correlation:.3f} (Jones & Forrest, 1995).",
        )
    return figure


def optima(found: Descents, exact: bool, words: Words) -> Figure:
    """Local optima by their error and the share of starts that end there."""
    shares = 100 * found.basins / found.basins.sum()
    shown = words.unit.scale * found.errors
    with look():
        figure, axes = _canvas(WIDTH, 4.2)
        lowest = found.errors == found.errors[0]
        style: dict[str, Any] = {"ls": "", "alpha": 0.6}
        axes.plot(shown[~lowest], shares[~lowest], marker="o", ms=6, color=_colour(0), **style)
        axes.plot(shown[lowest], shares[lowest], marker="D", ms=8, color=_colour(1), **style)
        axes.margins(0.08, 0.15)
        if shares.max() > shares.min():
            _log(axes.yaxis, shares.min(), shares.max())
        axes.set_ylabel("share of the starts that end there\n(%, log scale)")
        axes.set_xlabel(words.quantity)
        axes.set_title(words.title)
        starts = f"all {found.basins.sum():,}" if exact else f"{found.basins.sum():,} drawn"
        _caption(
            figure,
            words,
            f"Steepest descent from {starts} architectures ends in {len(found.optima):,} local",
            "optima, a point each; diamond: the lowest error.",
        )
    return figure


def fronts(columns: Mapping[str, Floats], values: Floats, words: Words) -> Figure:
    """The error against what each architecture costs, with the Pareto front."""
    shown_costs = min(len(columns), PANELS)
    across = min(shown_costs, 3 if shown_costs > 4 else 2)
    down = -(-shown_costs // across)
    with look():
        figure, panels = _panels(down, across, 2.4 + 2.0 * down if down > 1 else 4.2, sharey=True)
        shown = words.unit.scale * values
        chosen = sorted(columns, key=_customary)[:shown_costs]
        found = {name: pareto_front(columns[name], values) for name in chosen}
        top = float(np.nanquantile(shown, 0.95))
        low = float(np.nanmin(shown))
        for place, (name, axes) in enumerate(zip(chosen, panels, strict=False)):
            costs, front = columns[name], found[name]
            axes.plot(
                costs, shown, ls="", marker=".", ms=2.5, color="0.6", alpha=0.35, mew=0,
                rasterized=True,
            )  # fmt: skip
            axes.plot(
                costs[front], shown[front], drawstyle="steps-post", marker="o", ms=4, lw=1.6,
                color=_colour(1),
            )  # fmt: skip
            lowest, highest = float(np.nanmin(costs)), float(np.nanmax(costs))
            log = lowest > 0 and highest / lowest > 5
            if log:
                _log(axes.xaxis, lowest, highest)
                if highest / lowest > 50:  # 2 and 5 between the powers have no room here
                    axes.xaxis.set_major_locator(LogLocator())
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(axis="x", labelsize=8.5)
            label = cost_label(name) + (", log scale" if log else "")
            axes.set_xlabel(fill(label, 72 // across), fontsize=9)
            if top > low:
                axes.set_ylim(low - 0.06 * (top - low), top + 0.02 * (top - low))
            if place % across == 0:
                axes.set_ylabel(words.quantity)
        for axes in panels[shown_costs:]:
            axes.set_visible(False)
        panels[0].set_title(words.title)
        above = int((shown > top).sum())
        hidden = sum(int((shown[front] > top).sum()) for front in found.values())
        _caption(
            figure,
            words,
            "Orange: the Pareto front, architectures than which none is both cheaper and better.",
            f"{many(above, 'architecture has', 'architectures have')} higher errors than are drawn"
            f"{f', {hidden} of a front among them' * bool(hidden)}."
            if above
            else "",
            f"Drawn are {shown_costs} of {len(columns)} costs."
            if shown_costs < len(columns)
            else "",
        )
    return figure


def _customary(name: str) -> tuple[int, str]:
    """Parameters first, then operations, then what some machine measured."""
    kinds = ("parameters", "flops", "latency", "energy", "memory")
    place = next((i for i, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))
    return place, name


def cost_label(name: str) -> str:
    """A visible column in words, with the unit where the table fixes one."""
    units = {"latency": " (s)", "flops": " (multiply-adds)"}
    unit = next((unit for start, unit in units.items() if name.startswith(start)), "")
    return clean(name.replace("_", " ")) + unit


def signals(found: Mapping[str, tuple[RankCorrelation, RankCorrelation]], words: Words) -> Figure:
    """Rank correlations of cheap signals with the final error: over all, in the best tenth."""
    places = np.arange(len(found))
    with look():
        figure, panels = _panels(1, 2, 2.1 + 0.42 * len(found), sharey=True)
        for axes, title, part in zip(panels, ("all", "the best tenth"), (0, 1), strict=True):
            for shift, colour, kind in (-0.19, 0, "spearman"), (0.19, 1, "kendall"):
                ends = np.array([getattr(pair[part], kind) for pair in found.values()])
                axes.barh(
                    places + shift, ends[:, 0], height=0.36, color=_colour(colour), alpha=0.75,
                    label="Spearman" if kind == "spearman" else "Kendall",
                )  # fmt: skip
                axes.hlines(places + shift, ends[:, 1], ends[:, 2], color="0.2", lw=1.3)
            axes.axvline(0, color="0.4", lw=0.8)
            axes.set_xlim(-1.04, 1.04)
            axes.set_xlabel(f"rank correlation, {title}")
            axes.grid(visible=False, axis="y")
        panels[0].set_yticks(places, [clean(name) for name in found], fontsize=8.5)
        panels[0].set_ylim(len(found) - 0.4, -0.6)
        figure.suptitle(words.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        panels[1].legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.2
        )
        _caption(
            figure,
            words,
            "Bars: coefficients against the final error; lines: 95 % bootstrap intervals over",
            "architectures. Negative: more of it goes with less error.",
        )
    return figure
