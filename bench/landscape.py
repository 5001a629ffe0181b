"""What a space looks like in numbers: errors, effects of genes, landscape, fronts, signals.

Pure functions. An `ErrorOf` gives the errors of architectures `[n, genes]` as `[n]`, NaN where
none is known; lower is better throughout.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import Progress, silent
from bench.space import Architecture, Space

Floats = NDArray[np.float64]
Genes = NDArray[np.int64]
ErrorOf = Callable[[Genes], Floats]

LISTED = 100_000  # members; a larger space is sampled
DRAWN = 20_000  # members of such a sample
STARTS = 1_000  # of steepest descent there
WALKS, STEPS, LAGS = 500, 60, 20  # random walks, the steps of each, lags of the autocorrelation
RESAMPLES = 1_000  # of a bootstrap
SUBSAMPLE = 2_000  # pairs of a resample of rank correlations, which cost a sort each
QUANTILES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Members:
    """Members of a space: all of them in lexicographic order, or a uniform sample."""

    genes: Genes
    """Shape `[members, genes]`."""
    complete: bool


def members(space: Space) -> Members:
    """All members where there are up to `LISTED`, else `DRAWN` drawn uniformly."""
    if space.size <= LISTED:
        return Members(_array(list(space), space), True)
    rng = Random(0)
    return Members(_array([space.sample(rng) for _ in range(DRAWN)], space), False)


def _array(archs: Sequence[Architecture], space: Space) -> Genes:
    return np.array(archs, dtype=np.int64).reshape(len(archs), len(space.choices))


@dataclass(frozen=True)
class Classes:
    """How many of the members are different networks by `Space.canonical`."""

    met: int
    """Different ones among the members that were looked at."""
    looked_at: int
    estimate: float | None
    """Of the whole space: `met` where all were looked at, else Chao's lower bound; None where
    no class was met twice, which tells nothing."""


def isomorphism_classes(space: Space, of: Members, progress: Progress = silent) -> Classes:
    """Count classes; from a sample by the lower bound of Chao (Scandinavian Journal of
    Statistics, 1984), from those met once and twice.
    """
    archs: Iterable[list[int]] = progress(of.genes.tolist(), len(of.genes))
    seen = Counter(space.canonical(tuple(arch)) for arch in archs)
    if of.complete:
        return Classes(len(seen), len(of.genes), float(len(seen)))
    met = Counter(seen.values())
    if len(seen) == len(of.genes):
        return Classes(len(seen), len(of.genes), None)
    unseen = met[1] ** 2 / (2 * met[2]) if met[2] else met[1] * (met[1] - 1) / 2
    return Classes(len(seen), len(of.genes), min(len(seen) + unseen, float(space.size)))


@dataclass(frozen=True)
class Distribution:
    """Of the errors of architectures, each the mean over its training seeds."""

    count: int
    mean: float
    deviation: float
    """Population standard deviation over architectures."""
    quantiles: tuple[float, ...]
    """At `QUANTILES`."""
    repeated: int
    """Architectures with two training seeds or more."""
    noise: float
    """Standard deviation within an architecture: root of the mean variance (divisor S - 1)."""
    usual_noise: float
    """Median over architectures of the standard deviation (divisor S - 1) within them."""


def distribution(errors: NDArray[np.floating[Any]]) -> Distribution:
    """Describe errors `[architectures, seeds]`, NaN where a seed is missing."""
    from bench.table import mean_over_seeds

    values = errors.astype(np.float64)
    means = mean_over_seeds(errors.astype(np.float32))
    known = ~np.isnan(means)
    count = (~np.isnan(values)).sum(1)
    several = count > 1
    gaps = np.nan_to_num(values - means[:, None])[several]
    variances = (gaps**2).sum(1) / (count[several] - 1)
    nothing = float("nan")
    return Distribution(
        int(known.sum()),
        float(means[known].mean()),
        float(means[known].std()),
        tuple(np.quantile(means[known], QUANTILES).tolist()),
        int(several.sum()),
        float(np.sqrt(variances.mean())) if several.any() else nothing,
        float(np.sqrt(np.median(variances))) if several.any() else nothing,
    )


@dataclass(frozen=True)
class Effects:
    """Main effects of genes on the error."""

    effects: tuple[Floats, ...]
    """For each gene, of each value: mean error of the architectures with it, less the mean."""
    shares: Floats
    """Share of the variance that each gene explains alone."""
    together: float
    """Share that all genes explain together, without interactions."""
    exact: bool
    """A full product: the shares are the first-order terms of the functional ANOVA and add up
    to `together`. Else estimates, adjusted for the number of values."""


def main_effects(genes: Genes, errors: Floats, choices: Sequence[int]) -> Effects:
    """One-way effects, and the shares of variance that they explain.

    Over a full product they are the first-order terms of the functional ANOVA (Sobol', 1993;
    for algorithm settings Hutter et al., ICML 2014). Over other sets a gene's share is the
    correlation ratio Var(E[error | gene]) / Var(error) and the joint share is the R² of an
    additive least-squares fit, both with Ezekiel's adjustment (1 - (1 - R²)(n - 1)/(n - p - 1)).

    Args:
        genes: different architectures `[n, genes]`, or a sample of them.
        errors: `[n]`; NaN are left out.
    """
    known = ~np.isnan(errors)
    genes, errors = genes[known], errors[known]
    n = len(errors)
    centred = errors - errors.mean()
    total = float(centred @ centred)
    product = n == np.prod([float(c) for c in choices]) and len(np.unique(genes, axis=0)) == n
    effects, shares = [], []
    for gene, values in enumerate(choices):
        count = np.bincount(genes[:, gene], minlength=values)
        sums = np.bincount(genes[:, gene], weights=centred, minlength=values)
        effect: Floats = np.full(values, np.nan)
        np.divide(sums, count, out=effect, where=count > 0)
        effects.append(effect)
        explained = float(np.nansum(count * effect**2))
        shares.append(_share(explained, total, n, int((count > 0).sum()) - 1, product))
    offsets = np.cumsum([0, *choices[:-1]])
    one_hot = np.zeros((n, sum(choices)))
    one_hot[np.arange(n)[:, None], genes + offsets] = 1.0
    fit, _, rank, _ = np.linalg.lstsq(one_hot.T @ one_hot, one_hot.T @ centred, rcond=1e-10)
    rest = centred - one_hot @ fit
    together = _share(total - float(rest @ rest), total, n, int(rank) - 1, product)
    return Effects(tuple(effects), np.array(shares), together, bool(product))


def _share(explained: float, total: float, n: int, terms: int, exact: bool) -> float:
    if total <= 0:
        return float("nan")
    share = explained / total
    if exact:
        return share
    return 1 - (1 - share) * (n - 1) / (n - terms - 1) if n > terms + 1 else float("nan")


@dataclass(frozen=True)
class Autocorrelation:
    """Of the errors along random walks."""

    values: Floats
    """At lags 0 … `LAGS`."""
    low: Floats
    high: Floats
    """95 % percentile bootstrap interval over walks."""

    @property
    def length(self) -> float:
        """Weinberger's correlation length, -1 / ln r(1); NaN where r(1) is not in 0 … 1."""
        first = float(self.values[1])
        return -1 / float(np.log(first)) if 0 < first < 1 else float("nan")


def walk_autocorrelation(
    space: Space, error_of: ErrorOf, *, walks: int = WALKS, progress: Progress = silent
) -> Autocorrelation:
    """Random walks from uniform starts, each step to a uniform neighbour (Weinberger,
    Biological Cybernetics 63, 1990); mean and variance are those of all walks together.
    """
    rng = Random(0)
    path: list[Architecture] = []
    for _ in progress(range(walks), walks):
        here = space.sample(rng)
        for _ in range(STEPS):
            path.append(here)
            around = list(space.neighbours(here))
            here = around[int(rng.random() * len(around))]
    errors = error_of(_array(path, space)).reshape(walks, STEPS)
    centred = errors - np.nanmean(errors)
    products = [centred[:, : STEPS - lag] * centred[:, lag:] for lag in range(LAGS + 1)]
    counts = np.array([(~np.isnan(one)).sum(1) for one in products], dtype=np.float64).T
    sums = np.array([np.nansum(one, axis=1) for one in products]).T
    drawn = np.random.default_rng(0).multinomial(walks, np.full(walks, 1 / walks), RESAMPLES)
    many = _correlations(drawn @ sums, drawn @ counts)
    low, high = np.nanquantile(many, (0.025, 0.975), axis=0)
    return Autocorrelation(_correlations(sums.sum(0), counts.sum(0)), low, high)


def _correlations(sums: Floats, counts: Floats) -> Floats:
    """Autocovariances over the variance, from sums and counts of products at every lag."""
    with np.errstate(invalid="ignore", divide="ignore"):
        covariances = sums / counts
        correlations: Floats = covariances / covariances[..., :1]
    return correlations


@dataclass(frozen=True)
class DistanceCorrelation:
    """Of the error with the distance to the nearest optimum."""

    correlation: float
    """Pearson's; 1 leads straight to the optimum, 0 says nothing about where it is."""
    distances: Genes
    """Those that occur, ascending."""
    shares: Floats
    """Share of the architectures at each distance."""
    quartiles: Floats
    """Quartiles of the error at each distance, shape `[distances, 3]`."""


def fitness_distance(genes: Genes, errors: Floats, optima: Genes) -> DistanceCorrelation:
    """Fitness-distance correlation (Jones & Forrest, ICGA 1995); the distance is the number of
    genes that differ from the nearest of the `optima` `[k, genes]`.
    """
    known = ~np.isnan(errors)
    genes, errors = genes[known], errors[known]
    distance = np.full(len(genes), genes.shape[1], dtype=np.int64)
    for optimum in optima:
        np.minimum(distance, (genes != optimum).sum(1), out=distance)
    there = np.unique(distance)
    at = [errors[distance == one] for one in there]
    return DistanceCorrelation(
        _pearson(errors, distance.astype(np.float64)),
        there,
        np.array([len(some) for some in at]) / len(errors),
        np.array([np.quantile(some, (0.25, 0.5, 0.75)) for some in at]),
    )


def _pearson(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / scale if scale > 0 else float("nan")


@dataclass(frozen=True)
class Descents:
    """Where steepest descent ends."""

    optima: list[Architecture]
    """The local optima that were reached, by error, then lexicographically."""
    errors: Floats
    basins: NDArray[np.int64]
    """Starts that end in each."""
    steps: Floats
    """Steps from each start, shape `[starts]`."""

    def share_within(self, error: float) -> float:
        """Share of the starts that end at this error or below."""
        return float(self.basins[self.errors <= error].sum() / self.basins.sum())


def steepest_descent(
    space: Space,
    error_of: ErrorOf,
    starts: Sequence[Architecture],
    progress: Progress = silent,
) -> Descents:
    """From every start, go to the best neighbour as long as it is better than here.

    A local optimum has no neighbour that is better; equally good ones (a plateau) do not count
    against it. Of several best neighbours the first in the order of `Space.neighbours` is
    taken, and neighbours whose error is not known are passed over. Starts whose error is not
    known are left out.
    """
    known = ~np.isnan(error_of(_array(starts, space)))
    starts = [start for start, here in zip(starts, known.tolist(), strict=True) if here]
    onward: dict[Architecture, Architecture] = {}
    frontier = list(dict.fromkeys(starts))
    while frontier:
        blocks = range(0, len(frontier), 1_000)
        for block in progress(blocks, len(blocks)) if len(blocks) > 1 else blocks:
            some = frontier[block : block + 1_000]
            onward.update(zip(some, _best_neighbours(space, error_of, some), strict=True))
        frontier = [arch for arch in dict.fromkeys(onward.values()) if arch not in onward]
    ends: Counter[Architecture] = Counter()
    steps = []
    for start in starts:
        here, taken = start, 0
        while onward[here] != here:
            here, taken = onward[here], taken + 1
        ends[here] += 1
        steps.append(taken)
    optima = sorted(ends)
    errors = error_of(_array(optima, space))
    order = errors.argsort(kind="stable").tolist()
    return Descents(
        [optima[place] for place in order],
        errors[order],
        np.array([ends[optima[place]] for place in order], dtype=np.int64),
        np.array(steps, dtype=np.float64),
    )


def _best_neighbours(
    space: Space, error_of: ErrorOf, archs: Sequence[Architecture]
) -> list[Architecture]:
    """For each, its best neighbour if that is better, else itself."""
    around = [[arch, *space.neighbours(arch)] for arch in archs]
    flat = [arch for group in around for arch in group]
    errors = np.nan_to_num(error_of(_array(flat, space)), nan=np.inf)
    ends = np.cumsum([len(group) for group in around])
    return [
        group[int(errors[end - len(group) : end].argmin())]  # the first of equals: itself
        for group, end in zip(around, ends.tolist(), strict=True)
    ]


def pareto_front(costs: Floats, errors: Floats) -> NDArray[np.int64]:
    """Indices of those that no other beats in one and equals or beats in the other, by cost.

    Of architectures equal in both the first stands for all; NaN in either is left out.
    """
    known = np.flatnonzero(~np.isnan(costs) & ~np.isnan(errors))
    order = known[np.lexsort((known, errors[known], costs[known]))]
    best = np.minimum.accumulate(errors[order])
    first: NDArray[np.bool_] = np.r_[True, best[1:] < best[:-1]][: len(order)]
    return order[first]


@dataclass(frozen=True)
class RankCorrelation:
    """How a signal ranks architectures, against how the final error does."""

    pairs: int
    spearman: tuple[float, float, float]
    """The coefficient and the ends of its 95 % interval."""
    kendall: tuple[float, float, float]
    """Tau-b, likewise."""


def rank_correlation(signal: Floats, errors: Floats) -> RankCorrelation:
    """Spearman's rho and Kendall's tau-b, with bootstrap intervals over architectures.

    A resample has `SUBSAMPLE` pairs at most; its deviation is then narrowed by the root of
    resampled over all pairs (the m out of n bootstrap; Bickel, Götze & van Zwet, Statistica
    Sinica 1997). NaN where one of the two has a single value.
    """
    from scipy.stats import kendalltau, rankdata

    known = ~np.isnan(signal) & ~np.isnan(errors)
    x, y = signal[known], errors[known]
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        nothing = (float("nan"),) * 3
        return RankCorrelation(n, nothing, nothing)

    def spearman(x: Floats, y: Floats) -> float:
        return _pearson(rankdata(x), rankdata(y))

    def kendall(x: Floats, y: Floats) -> float:
        return float(kendalltau(x, y).statistic)

    size = min(n, SUBSAMPLE)
    rng = np.random.default_rng(0)
    draws = [rng.integers(n, size=size) for _ in range(RESAMPLES // 5)]
    found = []
    for measure in spearman, kendall:
        value = measure(x, y)
        many = np.array([measure(x[draw], y[draw]) for draw in draws])
        ends = np.nanquantile(many, (0.025, 0.975)) if not np.isnan(many).all() else many[:2]
        low, high = (value + (ends - value) * np.sqrt(size / n)).clip(-1, 1).tolist()
        found.append((value, low, high))
    return RankCorrelation(n, found[0], found[1])


def best_tenth(errors: Floats) -> NDArray[np.bool_]:
    """Which architectures are among the tenth with the lowest known errors."""
    limit = np.nanquantile(errors, 0.1)
    chosen: NDArray[np.bool_] = errors <= limit
    return chosen


def thinned(epochs: Sequence[int], most: int = 6) -> list[int]:
    """Up to `most` of ascending epochs: the last one, and those next to a half, a quarter, …"""
    if len(epochs) <= most:
        return list(epochs)
    wanted = [epochs[-1] / 2**power for power in range(most)]
    return sorted({min(epochs, key=lambda epoch: (abs(epoch - want), epoch)) for want in wanted})


def distinct(archs: Iterable[Architecture], space: Space) -> int:
    """How many different networks, by `Space.canonical`, there are among architectures."""
    return len({space.canonical(arch) for arch in archs})
