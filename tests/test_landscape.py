"""Numbers on landscapes whose answers are known, and on the table that ships."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from bench import landscape
from bench.landscape import (
    LAGS,
    QUANTILES,
    Members,
    best_tenth,
    distinct,
    distribution,
    fitness_distance,
    isomorphism_classes,
    main_effects,
    members,
    pareto_front,
    rank_correlation,
    steepest_descent,
    thinned,
    walk_autocorrelation,
)
from bench.space import Space
from bench.table import mean_over_seeds, read_table, shipped_folder
from spaces.nb201.space import NB201

RNG = np.random.default_rng


class Box(Space):
    """A full product."""

    name = "box"

    def __init__(self, choices):
        self.choices = choices
        super().__init__()

    def to_string(self, arch):
        return ",".join(map(str, arch))

    def from_string(self, text):
        return tuple(map(int, text.split(",")))


class Sorted(Box):
    """Equal networks are those with the same genes in any order."""

    def canonical(self, arch):
        return tuple(sorted(arch))


BOX = Box((5,) * 4)
BEST = np.array([1, 2, 3, 4])


def distance(genes):
    """An additive landscape without local optima: every wrong gene costs 0.1."""
    return 0.1 + 0.1 * (genes != BEST).sum(1)


def random_errors(space, seed=0):
    """Errors without any structure, by architecture."""
    known = dict(zip(space, RNG(seed).random(space.size), strict=True))
    return lambda genes: np.array([known[tuple(arch)] for arch in genes.tolist()])


# ---------------------------------------------------------------------------- members, classes


def test_a_small_space_is_listed_and_a_large_one_sampled(monkeypatch):
    assert members(BOX).genes.tolist() == [list(arch) for arch in BOX]
    assert members(BOX).complete
    large = Box((10,) * 8)
    drawn = members(large)
    assert not drawn.complete
    assert drawn.genes.shape == (landscape.DRAWN, 8)
    np.testing.assert_array_equal(drawn.genes, members(large).genes)
    np.testing.assert_allclose(np.bincount(drawn.genes[:, 3]) / landscape.DRAWN, 0.1, atol=0.01)


def test_classes_are_counted_where_all_members_are_known():
    space = Sorted((4, 4, 4))
    found = isomorphism_classes(space, members(space))
    assert (found.met, found.looked_at, found.estimate) == (20, 64, 20.0)  # C(4 + 3 - 1, 3)


def test_classes_of_a_sample_have_chaos_lower_bound():
    space = Sorted((9, 9))
    drawn = Members(np.array([[0, 1], [1, 0], [2, 2], [3, 4], [5, 5], [6, 6], [6, 6]]), False)
    found = isomorphism_classes(space, drawn)
    assert found.met == 5
    assert found.estimate == 5 + 3**2 / (2 * 2)  # three met once, two met twice
    alone = isomorphism_classes(space, Members(drawn.genes[2:5], False))
    assert (alone.met, alone.estimate) == (3, None)
    thrice = Members(np.array([[0, 1]] * 3 + [[2, 2], [3, 3]]), False)
    assert isomorphism_classes(space, thrice).estimate == 3 + 2 * 1 / 2


def test_networks_are_told_apart_by_their_key():
    assert distinct([(0, 1, 2, 3), (0, 1, 2, 3), (1, 1, 2, 3)], BOX) == 2


# ---------------------------------------------------------------------------- errors


def test_distribution():
    nan = np.nan
    errors = np.array([[0.1, 0.3], [0.5, nan], [nan, nan], [0.2, 0.2]], np.float32)
    found = distribution(errors)
    assert (found.count, found.repeated) == (3, 2)
    assert found.mean == pytest.approx(0.3)
    assert found.deviation == pytest.approx(np.std([0.2, 0.5, 0.2]))
    assert found.quantiles == pytest.approx(np.quantile([0.2, 0.5, 0.2], QUANTILES))
    assert found.noise == pytest.approx(np.sqrt((0.02 + 0) / 2), rel=1e-5)
    assert found.usual_noise == pytest.approx(np.sqrt(0.01), rel=1e-5)


def test_one_seed_tells_no_noise():
    found = distribution(np.array([[0.1], [0.2]], np.float32))
    assert found.repeated == 0
    assert np.isnan([found.noise, found.usual_noise]).all()


# ---------------------------------------------------------------------------- effects


def additive(space, seed=0):
    rng = RNG(seed)
    parts = [rng.normal(size=n) for n in space.choices]
    genes = members(space).genes
    return genes, parts, sum(part[genes[:, i]] for i, part in enumerate(parts))


def test_additive_errors_are_all_main_effects():
    space = Box((3, 4, 2))
    genes, parts, errors = additive(space)
    found = main_effects(genes, errors, space.choices)
    variances = np.array([part.var() for part in parts])
    assert found.exact
    assert found.together == pytest.approx(1)
    np.testing.assert_allclose(found.shares, variances / variances.sum())
    for effect, part in zip(found.effects, parts, strict=True):
        np.testing.assert_allclose(effect, part - part.mean(), atol=1e-12)


def test_an_interaction_is_no_main_effect():
    space = Box((2, 2, 3))
    genes = members(space).genes
    found = main_effects(genes, (genes[:, 0] ^ genes[:, 1]).astype(float), space.choices)
    assert found.shares == pytest.approx([0, 0, 0], abs=1e-12)
    assert found.together == pytest.approx(0, abs=1e-12)


def test_shares_of_a_full_product_add_up_to_the_joint_share():
    space = Box((3, 4, 2))
    found = main_effects(members(space).genes, RNG(1).random(24), space.choices)
    assert found.exact
    assert found.shares.sum() == pytest.approx(found.together)
    assert 0 < found.together < 1


def test_a_sample_is_an_estimate_that_noise_does_not_inflate():
    space = Box((6,) * 6)
    genes = RNG(2).integers(6, size=(300, 6))
    noise = main_effects(genes, RNG(3).random(300), space.choices)
    assert not noise.exact
    assert abs(noise.together) < 0.1  # plain R² would be about 30 / 299
    signal = main_effects(genes, genes[:, 2] + 0.0, space.choices)
    assert signal.shares[2] == pytest.approx(1)
    assert signal.together == pytest.approx(1)


def test_unknown_errors_and_absent_values_are_left_out():
    space = Box((3, 4, 2))
    genes, _, errors = additive(space)
    errors[genes[:, 1] == 3] = np.nan
    found = main_effects(genes, errors, space.choices)
    assert not found.exact
    assert np.isnan(found.effects[1][3])
    assert not np.isnan(found.effects[1][:3]).any()
    assert found.together == pytest.approx(1)


def test_too_few_rows_give_no_share():
    found = main_effects(np.array([[0, 0], [1, 1]]), np.array([0.1, 0.2]), (2, 2))
    assert np.isnan(found.together)
    assert np.isnan(found.shares).all()


# ---------------------------------------------------------------------------- landscape


def test_an_additive_landscape_decays_as_theory_says():
    """One gene changes at a time among n with q values: r(d) = (1 - q / (n (q - 1)))^d, as the
    landscape is elementary (Stadler, 1996, on Hamming graphs).
    """
    found = walk_autocorrelation(BOX, distance)
    theory = (1 - 5 / (4 * 4)) ** np.arange(LAGS + 1)
    assert found.values[0] == 1
    assert (found.low <= found.values + 1e-12).all()
    assert (found.values <= found.high + 1e-12).all()
    np.testing.assert_allclose(found.values, theory, atol=0.06)
    assert found.low[1] < theory[1] < found.high[1]
    assert found.length == pytest.approx(-1 / np.log(theory[1]), rel=0.1)


def test_random_errors_do_not_correlate():
    found = walk_autocorrelation(BOX, random_errors(BOX))
    np.testing.assert_allclose(found.values[1], 0, atol=0.05)
    values = np.array([1.0, -0.1])
    assert np.isnan(landscape.Autocorrelation(values, values, values).length)


def test_walks_pass_over_what_is_not_known():
    def partly(genes):
        return np.where(genes[:, 0] + genes[:, 1] == 7, np.nan, distance(genes))

    found = walk_autocorrelation(BOX, partly)
    assert not np.isnan(found.values).any()
    np.testing.assert_allclose(found.values, walk_autocorrelation(BOX, distance).values, atol=0.1)


def test_walks_are_the_same_every_time():
    one, other = (walk_autocorrelation(BOX, distance, walks=20) for _ in range(2))
    for name in ("values", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_fitness_distance():
    genes = members(BOX).genes
    found = fitness_distance(genes, distance(genes), BEST[None])
    assert found.correlation == pytest.approx(1)
    assert found.distances.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found.shares * 625, [1, 16, 96, 256, 256])
    np.testing.assert_allclose(found.quartiles, np.linspace(0.1, 0.5, 5)[:, None] + np.zeros(3))
    deceptive = fitness_distance(genes, -distance(genes), BEST[None])
    assert deceptive.correlation == pytest.approx(-1)


def test_the_nearest_optimum_counts():
    genes = np.array([[0, 0], [0, 1], [1, 1], [2, 2]])
    errors = np.array([0.1, 0.2, 0.1, np.nan])
    found = fitness_distance(genes, errors, genes[[0, 2]])
    assert found.distances.tolist() == [0, 1]
    np.testing.assert_allclose(found.shares, [2 / 3, 1 / 3])


def test_descent_reaches_the_one_optimum():
    found = steepest_descent(BOX, distance, list(BOX))
    assert found.optima == [tuple(BEST)]
    assert found.basins.tolist() == [625]
    assert found.share_within(0.1) == 1
    assert found.steps.mean() == pytest.approx(4 * 4 / 5)  # the mean number of wrong genes


def brute_force(space, error_of):
    """Ends of steepest descent from every member, one by one."""
    errors = {arch: float(error_of(np.array([arch]))[0]) for arch in space}
    ends = []
    for here in space:
        while True:
            best = min(space.neighbours(here), key=errors.__getitem__)
            if errors[best] >= errors[here]:
                break
            here = best
        ends.append(here)
    return ends


@pytest.mark.parametrize("seed", range(3))
def test_descent_as_one_by_one(seed):
    space = Box((3, 4, 3))
    error_of = random_errors(space, seed)
    found = steepest_descent(space, error_of, list(space))
    ends = brute_force(space, error_of)
    assert dict(zip(found.optima, found.basins.tolist(), strict=True)) == {
        arch: ends.count(arch) for arch in set(ends)
    }
    assert len(found.optima) > 1
    assert found.errors.tolist() == sorted(found.errors)
    best = min(found.errors)
    assert found.share_within(best) == found.basins[0] / space.size


def test_a_plateau_stops_a_descent_and_unknown_neighbours_are_passed_over():
    space = Box((2, 2))
    flat = steepest_descent(space, lambda genes: np.full(len(genes), 0.5), list(space))
    assert flat.optima == list(space)
    partly = {(0, 0): 0.3, (0, 1): np.nan, (1, 0): 0.2, (1, 1): 0.1}
    found = steepest_descent(
        space, lambda genes: np.array([partly[tuple(arch)] for arch in genes.tolist()]), list(space)
    )
    assert found.optima == [(1, 1)]
    assert found.basins.tolist() == [3]
    assert sorted(found.steps) == [0, 1, 2]


# ---------------------------------------------------------------------------- fronts, signals


def test_pareto_front_as_by_all_pairs():
    rng = RNG(5)
    costs, errors = rng.integers(12, size=(2, 80)).astype(float)
    costs[3] = errors[5] = np.nan

    def beaten(i):
        better = (costs <= costs[i]) & (errors <= errors[i])
        return (better & ((costs < costs[i]) | (errors < errors[i]))).any()

    known = ~np.isnan(costs) & ~np.isnan(errors)
    expected = {(costs[i], errors[i]) for i in range(80) if known[i] and not beaten(i)}
    front = pareto_front(costs, errors)
    assert [(costs[i], errors[i]) for i in front] == sorted(expected)
    assert pareto_front(np.array([np.nan]), np.array([0.1])).tolist() == []


def test_rank_correlations_are_those_of_scipy():
    rng = RNG(6)
    signal = rng.integers(20, size=400).astype(float)
    errors = signal + rng.normal(scale=8, size=400)
    errors[7] = np.nan
    known = ~np.isnan(errors)
    found = rank_correlation(signal, errors)
    assert found.pairs == 399
    assert found.spearman[0] == pytest.approx(spearmanr(signal[known], errors[known]).statistic)
    assert found.kendall[0] == pytest.approx(kendalltau(signal[known], errors[known]).statistic)
    for value, low, high in (found.spearman, found.kendall):
        assert low < value < high
    assert found == rank_correlation(signal, errors)


def test_intervals_cover_and_narrow_with_more_pairs():
    """Bivariate normals of correlation 0.5: Spearman's is (6 / π) asin(0.25)."""
    truth, hits, widths = 6 / np.pi * np.arcsin(0.25), 0, {}
    for pairs in (200, 8_000):  # the second one is resampled in part
        for seed in range(10):
            x, noise = RNG(seed).normal(size=(2, pairs))
            _, low, high = rank_correlation(x, 0.5 * x + np.sqrt(0.75) * noise).spearman
            hits += low < truth < high
        widths[pairs] = high - low
    assert hits >= 15  # of 20; at 95 % fewer happen once in 3,000
    assert widths[8_000] == pytest.approx(widths[200] / np.sqrt(40), rel=0.35)


@pytest.mark.parametrize("signal", [np.ones(9), np.full(9, np.nan), np.r_[1, 2, [np.nan] * 7]])
def test_nothing_to_rank(signal):
    found = rank_correlation(signal, np.arange(9.0))
    assert np.isnan(found.spearman + found.kendall).all()


def test_the_best_tenth():
    errors = np.r_[np.arange(20.0), np.nan]
    assert np.flatnonzero(best_tenth(errors)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("epochs", "chosen"),
    [
        ([4, 12, 36, 108], [4, 12, 36, 108]),
        (range(1, 201), [6, 12, 25, 50, 100, 200]),
        (range(1, 51), [2, 3, 6, 12, 25, 50]),
        ([], []),
    ],
)
def test_thinned(epochs, chosen):
    assert thinned(list(epochs)) == chosen


# ---------------------------------------------------------------------------- the table that ships


@pytest.fixture(scope="module")
def nb201():
    space = NB201()
    table = read_table(shipped_folder(space) / "nb201.h5")
    genes = members(space).genes
    place = space.keys(table.architectures).argsort()  # lexicographic, as the members
    known = table.schedules["cifar10", "200"].columns["valid_error"][:, 0]
    errors = mean_over_seeds(known)[place]
    return space, genes, errors, lambda some: errors[some @ 5 ** np.arange(5, -1, -1)]


def test_facts_of_nb201(nb201):
    space, genes, errors, _ = nb201
    assert isomorphism_classes(space, members(space)).estimate == 6_466
    assert errors.min() == pytest.approx(1 - 0.916067, abs=1e-6)
    best = tuple(genes[errors.argmin()].tolist())
    assert space.to_string(best) == (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
        "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    )


def test_walks_on_nb201_agree_with_its_analysis_of_variance(nb201):
    """The autocorrelation of a walk on a Hamming graph is the sum over orders of interaction p
    of their shares of the variance times (1 - p q / (n (q - 1)))^d (Stadler, 1996).
    """
    space, genes, errors, error_of = nb201
    grid = errors.reshape((5,) * 6) - errors.mean()
    shares = np.zeros(7)
    within = {(): 0.0}
    for order in range(1, 7):
        for kept in combinations(range(6), order):
            gone = tuple(axis for axis in range(6) if axis not in kept)
            below = sum(within[some] for o in range(order) for some in combinations(kept, o))
            within[kept] = grid.mean(axis=gone).var() - below
            shares[order] += within[kept] / errors.var()
    assert shares.sum() == pytest.approx(1)
    effects = main_effects(genes, errors, space.choices)
    assert effects.together == pytest.approx(shares[1])
    np.testing.assert_allclose(effects.shares, [within[i,] / errors.var() for i in range(6)])
    walk = walk_autocorrelation(space, error_of)
    theory = [(shares * (1 - np.arange(7) * 5 / 24) ** d).sum() for d in range(6)]
    np.testing.assert_allclose(walk.values[:6], theory, atol=0.03)
    assert walk.low[1] < theory[1] < walk.high[1]


def test_descents_on_nb201_end_where_no_neighbour_is_better(nb201):
    space, genes, errors, error_of = nb201
    starts = [tuple(arch) for arch in genes.tolist()]
    found = steepest_descent(space, error_of, starts)
    grid = errors.reshape((5,) * 6)
    no_better = np.ones(grid.shape, bool)
    for axis in range(6):
        no_better &= grid <= grid.min(axis=axis, keepdims=True)
    assert sorted(found.optima) == [tuple(arch) for arch in np.argwhere(no_better).tolist()]
    assert found.basins.sum() == 15_625
    assert found.errors[0] == errors.min()
    some = [starts[i] for i in RNG(0).integers(15_625, size=30)]
    ends = steepest_descent(space, error_of, some)
    for start in some:
        here = start
        while True:
            around = np.array(list(space.neighbours(here)))
            best = error_of(around).argmin()
            if error_of(around)[best] >= errors[starts.index(here)]:
                break
            here = tuple(around[best].tolist())
        assert here in ends.optima
