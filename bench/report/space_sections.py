"""The parts of a space view: what is said, tabled and drawn, and from which numbers."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from bench import landscape
from bench.data import Progress
from bench.landscape import Floats, Genes
from bench.report.leaderboard import clean, metric_label
from bench.report.space_numbers import Numbers
from bench.report.tables import UNKNOWN
from bench.space import Architecture, Space
from bench.words import many

if TYPE_CHECKING:  # seaborn takes seconds to import
    from matplotlib.figure import Figure

    from bench.report.space_figures import Words

BEST = 3  # cells that are drawn
LISTED_OPTIMA = 10
TEST = "this is a test metric: a view of it may not guide a search"
KNOWN = 0.9  # share of the members that a table must know before a landscape is described


@dataclass(frozen=True)
class Section:
    """A part of a view: sentences, a table, figures."""

    title: str
    sentences: Sequence[str] = ()
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figures: Mapping[str, Callable[[], "Figure"]] = field(default_factory=dict)


def heading(space: Space, numbers: Numbers) -> str:
    """Space, data set and metric."""
    return f"{space.name} · {numbers.dataset} · {metric_label(numbers.metric)}"


def of_space(
    space: Space, alone: bool, tables: Sequence[str], progress: Progress
) -> Iterator[Section]:
    """What can be said without a table."""
    of = landscape.members(space)
    classes = landscape.isomorphism_classes(space, of, progress)
    if of.complete:
        counted = f"{classes.met:,} isomorphism classes, counted over all members"
    elif classes.estimate is None:
        counted = (
            f"isomorphism classes too many to estimate: {classes.looked_at:,} members drawn "
            "uniformly are all different"
        )
    else:
        counted = (
            f"{classes.met:,} isomorphism classes met among {classes.looked_at:,} members drawn "
            f"uniformly; by Chao's lower bound there are {classes.estimate:,.3g} or more"
        )
    sentences = [
        f"{_count(space.size)} members, {_count(space.networks)} networks that a table tells apart",
        counted,
        f"{len(space.choices)} genes",
    ]
    example = space.sample(Random(0))
    if alone:
        sentences += [f"for example {space.to_string(example)}", *tables]
    vocabulary: dict[tuple[str, ...], list[str]] = {}
    for name, values in space.labels():
        vocabulary.setdefault(tuple(values), []).append(name)
    rows = [
        ["; ".join(_some(names, 6)), str(len(values)), ", ".join(_some(values))]
        for values, names in vocabulary.items()
    ]

    def drawing() -> "Figure":
        from bench.report.space_figures import drawings

        caption = f"Space {space.name}: a member drawn uniformly, {space.to_string(example)}."
        return drawings([(f"{space.name} · an example", space.graph(example))], caption)

    yield Section(
        "Space",
        sentences,
        ["genes", "values each", "values"],
        rows,
        {"example": drawing} if alone else {},
    )


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**12 else f"{number:.3g}".replace("e+", " × 10^")


def _some(names: Sequence[str], most: int = 12) -> list[str]:
    return [*names] if len(names) <= most else [*names[: most - 2], "…", names[-1]]


def of_numbers(space: Space, numbers: Numbers, progress: Progress) -> Iterator[Section]:
    """What a table adds."""
    from bench.report import space_figures as draw

    words = draw.Words(
        clean(heading(space, numbers)),
        f"{metric_label(numbers.metric)}{numbers.unit.axis}",
        numbers.unit,
        f"Table {numbers.table} ({numbers.digest[:12]}), {numbers.dataset}, schedule "
        f"{numbers.schedule}, epoch {numbers.epoch}."
        + (f" {TEST[0].upper()}{TEST[1:]}." if "test" in numbers.metric else ""),
    )
    errors, order = numbers.errors, numbers.keys

    def error_of(genes: Genes) -> Floats:
        keys = space.keys(genes)
        place = np.searchsorted(order, keys).clip(max=len(order) - 1)
        found: Floats = np.where(order[place] == keys, errors[numbers.rows[place]], np.nan)
        return found

    yield _error_section(numbers, words)
    yield _best_section(space, numbers, words)
    if np.nanmin(errors) == np.nanmax(errors):
        yield Section("Effects and landscape", ["none: every architecture has the same error"])
        yield Section("Table", _provenance(numbers))
        return
    of = landscape.members(space)
    at = error_of(of.genes)
    share = float((~np.isnan(at)).mean())
    if share >= KNOWN or (of.complete and share > 0):
        whose = (
            f"all {len(at):,} members" if of.complete else f"{len(at):,} members drawn uniformly"
        )
        if share < 1:
            whose += f", of which the table knows {100 * share:.1f} %"
        yield _effect_section(space, of.genes, at, whose, words)
    else:
        whose = f"the {len(errors):,} rows of the table, which need not be a fair sample"
        yield _effect_section(space, numbers.genes, errors, whose, words)
    if share >= KNOWN:
        yield from _landscape_sections(space, of, at, error_of, numbers, words, progress)
    else:
        yield Section(
            "Landscape",
            [
                f"not described: the table knows {100 * share:.3g} % of the members"
                f"{'' if of.complete else ' of a uniform sample'}, and walks and descents need "
                "nearly all of them"
            ],
        )
    if numbers.costs:
        yield _front_section(space, numbers, words)
    if numbers.signals:
        yield _signal_section(numbers, words, progress)
    yield Section("Table", _provenance(numbers))


def _provenance(numbers: Numbers) -> list[str]:
    facts = [
        f"table {numbers.table}, SHA-256 {numbers.digest}",
        f"data set {numbers.dataset}, schedule {numbers.schedule}, {metric_label(numbers.metric)} "
        f"at epoch {numbers.epoch}, the last with numbers; means over training seeds",
    ]
    if "test" in numbers.metric:
        facts.append(TEST)
    return facts + [f"{key}: {value}" for key, value in numbers.provenance.items() if value]


def _error_section(numbers: Numbers, words: "Words") -> Section:
    from bench.report import space_figures as draw

    found = landscape.distribution(numbers.seeds)
    names = ("lowest", "1 %", "10 %", "25 %", "median", "75 %", "90 %", "99 %", "highest")
    seeds = f"{found.repeated:,} of {found.count:,} architectures have several training seeds"
    if found.repeated:
        seeds += (
            f"; standard deviation within an architecture {_plain(numbers, found.noise)} "
            f"(root of the mean variance), {_plain(numbers, found.usual_noise)} (median)"
        )
    return Section(
        "Errors",
        [
            f"{many(found.count, 'architecture', 'architectures')} with a number: "
            f"mean {_plain(numbers, found.mean)}, standard deviation "
            f"{_plain(numbers, found.deviation)}{numbers.unit.sign}",
            seeds,
        ],
        ["quantile", *names],
        [[words.quantity, *(_plain(numbers, value) for value in found.quantiles)]],
        {"errors": lambda: draw.errors(numbers.errors, words)},
    )


def _plain(numbers: Numbers, value: float) -> str:
    return numbers.unit.fine(float(value)) or UNKNOWN


def _best_section(space: Space, numbers: Numbers, words: "Words") -> Section:
    from bench.report import space_figures as draw

    order = np.lexsort((np.arange(len(numbers.errors)), numbers.errors)).tolist()
    first: dict[Hashable, int] = {}  # of each network: the same one drawn twice says nothing
    for row in order:
        if len(first) == BEST or numbers.errors[row] != numbers.errors[row]:
            break
        first.setdefault(space.canonical(tuple(numbers.genes[row].tolist())), row)
    best = list(first.values())
    archs: list[Architecture] = [tuple(numbers.genes[row].tolist()) for row in best]
    rows = []
    graphs = []
    for place, (row, arch) in enumerate(zip(best, archs, strict=True), 1):
        value = _plain(numbers, numbers.errors[row])
        known = numbers.seeds[row][~np.isnan(numbers.seeds[row])]
        each = ", ".join(_plain(numbers, float(seed)) for seed in known)
        rows.append([str(place), value, each, space.to_string(arch)])
        heading = f"{place} · {words.quantity} {value}"
        graphs.append((heading, space.graph(arch)))
    caption = (
        f"{words.source} The {len(best)} lowest means over training seeds, isomorphic cells once."
    )
    return Section(
        "Best cells",
        [],
        ["rank", f"mean {words.quantity}", "training seeds", "architecture"],
        rows,
        {"cells": lambda: draw.drawings(graphs, caption)},
    )


def _effect_section(
    space: Space, genes: Genes, errors: Floats, whose: str, words: "Words"
) -> Section:
    from bench.report import space_figures as draw

    found = landscape.main_effects(genes, errors, space.choices)
    labels = space.labels()
    rows = []
    for (name, values), effect, share in zip(labels, found.effects, found.shares, strict=True):
        low, high = int(np.nanargmin(effect)), int(np.nanargmax(effect))
        rows.append(
            [
                name,
                UNKNOWN if share != share else f"{100 * share:.1f}",
                f"{values[low]} ({words.unit.scale * effect[low]:+.4g})",
                f"{values[high]} ({words.unit.scale * effect[high]:+.4g})",
            ]
        )
    known = found.together == found.together
    kind = (
        "first-order functional ANOVA, exact"
        if found.exact
        else "an estimate: correlation ratios, adjusted for the number of values"
    )
    return Section(
        "Effects of genes",
        [
            f"over {whose}; share of the variance of the error: {kind}",
            "all genes together, without interactions, explain "
            + (f"{100 * found.together:.1f} %" if known else "a share that so few cannot tell"),
        ],
        ["gene", "share %", "best value", "worst value"],
        rows,
        {"effects": lambda: draw.effects(found, labels, words)},
    )


def _landscape_sections(
    space: Space,
    of: landscape.Members,
    at: Floats,
    error_of: landscape.ErrorOf,
    numbers: Numbers,
    words: "Words",
    progress: Progress,
) -> Iterator[Section]:
    from bench.report import space_figures as draw

    walk = landscape.walk_autocorrelation(space, error_of, progress=progress)
    lowest = float(np.nanmin(numbers.errors))
    optima = of.genes[at == lowest] if of.complete else numbers.genes[numbers.errors == lowest]
    distance = landscape.fitness_distance(of.genes, at, optima[:1_000])
    some = of.genes if of.complete else of.genes[: landscape.STARTS]
    starts = [tuple(arch) for arch in some.tolist()]
    descents = landscape.steepest_descent(space, error_of, starts, progress)
    whose = f"all {len(some):,}" if of.complete else f"{len(some):,} uniformly drawn"
    met = "" if of.complete else "at least "
    total = int(descents.basins.sum())
    distinct = landscape.distinct(descents.optima, space)
    rows = [
        [
            _plain(numbers, float(error)),
            f"{100 * basin / total:.2f}",
            space.to_string(arch),
        ]
        for arch, error, basin in zip(
            descents.optima[:LISTED_OPTIMA], descents.errors, descents.basins, strict=False
        )
    ]
    yield Section(
        "Landscape",
        [
            f"random walks: autocorrelation {walk.values[1]:.3f} after one step (95 % interval "
            f"{walk.low[1]:.3f} to {walk.high[1]:.3f}), correlation length "
            + (f"{walk.length:.2f} steps" if walk.length == walk.length else "not defined")
            + " (Weinberger, 1990)",
            f"fitness-distance correlation {distance.correlation:.3f} (Jones & Forrest, 1995); "
            "distance: genes that differ from the nearest of "
            f"{many(len(optima), 'member', 'members')} with the lowest error",
            f"steepest descent from {whose} members: "
            f"{met}{many(len(descents.optima), 'local optimum', 'local optima')}, "
            f"{many(distinct, 'different network', 'different networks')}; "
            f"{100 * descents.share_within(lowest):.2f} % of the starts reach the lowest error, "
            f"{descents.steps.mean():.2f} steps on average",
            "neighbours are those of the space; an optimum has no better one, equal ones may be",
        ],
        [f"{words.quantity} of the best local optima", "% of starts", "architecture"],
        rows,
        {
            "walk": lambda: draw.walk(walk, words),
            "distance": lambda: draw.distance(distance, words),
            "optima": lambda: draw.optima(descents, of.complete, words),
        },
    )


def _front_section(space: Space, numbers: Numbers, words: "Words") -> Section:
    from bench.report import space_figures as draw

    rows = []
    errors = numbers.errors
    costs = {name: values for name, values in numbers.costs.items() if not name.startswith("proxy")}
    for name, values in costs.items():
        front = landscape.pareto_front(values, errors)
        if not len(front):
            continue
        cheap, best = front[0], front[-1]
        rows.append(
            [
                draw.cost_label(name),
                str(len(front)),
                f"{_cost(values[cheap])} with {_plain(numbers, errors[cheap])}",
                f"{_cost(values[best])} with {_plain(numbers, errors[best])}",
            ]
        )
    if not rows:
        return Section("Pareto fronts", ["the table knows no cost but proxies"])
    return Section(
        "Pareto fronts",
        [f"{words.quantity} against what can be known without training"],
        ["cost", "architectures", "cheapest", "best"],
        rows,
        {"fronts": lambda: draw.fronts(costs, errors, words)},
    )


def _cost(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _signal_section(numbers: Numbers, words: "Words", progress: Progress) -> Section:
    from bench.report import space_figures as draw

    errors = numbers.errors
    tenth = landscape.best_tenth(errors)
    named = {
        draw.cost_label(name) if name in numbers.costs else name: values
        for name, values in numbers.signals.items()
    }
    found = {
        name: (
            landscape.rank_correlation(named[name], errors),
            landscape.rank_correlation(named[name][tenth], errors[tenth]),
        )
        for name in progress(named, len(named))
    }
    constant = [
        name for name, (whole, _) in found.items() if whole.spearman[0] != whole.spearman[0]
    ]
    found = dict(
        sorted(
            ((name, pair) for name, pair in found.items() if name not in constant),
            key=lambda item: -abs(item[1][0].spearman[0]),
        )
    )
    rows = [
        [
            name,
            f"{pair[0].pairs:,}",
            *(_interval(getattr(part, kind)) for part in pair for kind in ("spearman", "kendall")),
        ]
        for name, pair in found.items()
    ]
    sentences = [
        f"rank correlations with the final {metric_label(numbers.metric)}, with 95 % bootstrap "
        "intervals over architectures; negative: more of it goes with less error",
        f"the best tenth: {many(int(tenth.sum()), 'architecture', 'architectures')} by their "
        "final error",
    ]
    sentences += [f"of a single value, or of too few: {', '.join(constant)}"] if constant else []
    headers = [
        "signal",
        "pairs",
        "Spearman",
        "Kendall",
        "Spearman, best tenth",
        "Kendall, best tenth",
    ]
    figures = {"signals": lambda: draw.signals(found, words)} if found else {}
    return Section("Cheap signals", sentences, headers, rows, figures)


def _interval(ends: tuple[float, float, float]) -> str:
    if ends[0] != ends[0]:
        return UNKNOWN
    return f"{ends[0]:.3f} ({ends[1]:.3f} to {ends[2]:.3f})"
