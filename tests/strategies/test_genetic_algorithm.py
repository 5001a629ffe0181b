from functools import partial
from itertools import product
from random import Random

import contracts
import numpy as np
import pytest
from contracts import Ruled, assert_proportions, run
from objectives import Additive

from bench.search import Evaluation, Query, Trial
from spaces.nb201.space import NB201
from strategies.genetic_algorithm import (
    CROSSOVERS,
    SELECTIONS,
    GeneticAlgorithm,
    by_roulette,
    by_tournament,
)

SPACE = NB201()
IN_PROCESS = [f for f in contracts.STRATEGY if f is not contracts.equal_in_another_process]
MOTHER, FATHER = (0,) * 6, (1,) * 6


@pytest.mark.parametrize(("selection", "crossover"), list(product(SELECTIONS, CROSSOVERS)))
@pytest.mark.parametrize("promise", IN_PROCESS, ids=lambda f: f.__name__)
def test_every_variant_keeps_every_promise(promise, selection, crossover):
    promise(partial(GeneticAlgorithm, selection=selection, crossover=crossover), SPACE)


def told(strategy, architecture, error):
    strategy.tell(Trial(Query(architecture, 3), Evaluation(error, 1.0), 1, 3, 1.0, 0.0, 0.0))


def children(name, count=6000, parents=(MOTHER, FATHER)):
    rng = Random(0)
    return [CROSSOVERS[name](*parents, rng) for _ in range(count)]


@pytest.mark.parametrize("name", CROSSOVERS)
def test_every_gene_is_a_parents(name):
    parents = ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9))
    for child in children(name, 500, parents):
        assert len(child) == 5
        assert all(
            gene in pair for gene, pair in zip(child, zip(*parents, strict=True), strict=True)
        )
    assert len(set(children(name, 500, parents))) > 3


def test_one_point_cuts_between_any_two_genes():
    cuts = np.bincount([child.count(0) for child in children("one_point")], minlength=7)
    assert all(child == tuple(sorted(child)) for child in children("one_point"))
    assert_proportions(cuts[1:6], [1] * 5)
    assert cuts[[0, 6]].sum() == 0  # both parents have a part


def test_two_point_takes_one_stretch_of_the_father():
    for child in children("two_point"):
        text = "".join(map(str, child)).strip("0")
        assert "0" not in text
    lengths = np.bincount([sum(child) for child in children("two_point")], minlength=7)
    # Two of seven cuts, with replacement: length d > 0 in 2·(7-d) of 49 cases.
    assert_proportions(lengths, [7, *(2 * (7 - d) for d in range(1, 7))])


def test_uniform_tosses_a_coin_a_gene():
    numbers = [int("".join(map(str, child)), 2) for child in children("uniform")]
    assert_proportions(np.bincount(numbers, minlength=64), [1] * 64)


@pytest.mark.parametrize("name", CROSSOVERS)
def test_a_single_gene_can_be_crossed(name):
    assert set(children(name, 50, ((0,), (1,)))) <= {(0,), (1,)}


def test_a_crossing_that_leaves_the_space_is_dropped():
    space, parents = Ruled(), ((0, 0, 0), (1, 2, 1))
    strategy = GeneticAlgorithm(
        space, Random(0), (3,), population_size=2, elites=0, crossover_rate=1, mutation_rate=0
    )
    for arch in parents:
        told(strategy, arch, 0.5)
    children = {strategy.ask().architecture for _ in range(500)}
    crossed = set(product(*zip(*parents, strict=True)))
    assert not all(map(space.contains, crossed))
    assert children == set(filter(space.contains, crossed))


def test_roulette_is_proportional_to_what_the_worst_lacks():
    errors, rng = [0.1, 0.2, 0.4, 0.5], Random(0)
    picks = np.bincount([by_roulette(errors, 3, rng) for _ in range(8000)], minlength=4)
    assert_proportions(picks[:3], [0.4, 0.3, 0.1])
    assert picks[3] == 0
    alike = np.bincount([by_roulette([0.3] * 4, 3, rng) for _ in range(8000)], minlength=4)
    assert_proportions(alike, [1] * 4)


def test_tournament_selection_favours_the_best():
    rng = Random(0)
    picks = np.bincount([by_tournament([0.1] * 4, 2, rng) for _ in range(8000)], minlength=4)
    assert_proportions(picks, [7, 5, 3, 1])


def test_elites_survive_as_parents():
    strategy = GeneticAlgorithm(SPACE, Random(0), (3,), population_size=4, elites=2)
    for gene, error in enumerate((0.4, 0.1, 0.3, 0.2)):
        told(strategy, (gene,) * 6, error)
    assert [error for error, _ in strategy.parents] == [0.1, 0.2, 0.3, 0.4]
    for error in (0.5, 0.6, 0.15, 0.7):
        told(strategy, (4,) * 6, error)
    assert [error for error, _ in strategy.parents] == [0.1, 0.15, 0.2, 0.5]
    for _ in range(4):
        told(strategy, (4,) * 6, 0.9)
    assert [error for error, _ in strategy.parents] == [0.1, 0.15, 0.9, 0.9]


def test_a_generation_without_elites_forgets():
    strategy = GeneticAlgorithm(SPACE, Random(0), (3,), population_size=2, elites=0)
    for error in (0.1, 0.2, 0.3, 0.4):
        told(strategy, MOTHER, error)
    assert [error for error, _ in strategy.parents] == [0.3, 0.4]


@pytest.mark.parametrize(("rates", "distance"), [((0, 0), 0), ((0, 1), 1)])
def test_rates(rates, distance):
    crossover, mutation = rates
    strategy = GeneticAlgorithm(
        SPACE, Random(0), (3,), population_size=2, crossover_rate=crossover, mutation_rate=mutation,
        elites=0,
    )  # fmt: skip
    told(strategy, MOTHER, 0.2)
    told(strategy, FATHER, 0.1)
    for _ in range(100):
        child = strategy.ask().architecture
        assert min(
            sum(a != b for a, b in zip(child, p, strict=True)) for p in (MOTHER, FATHER)
        ) == (distance)


def test_it_finds_the_optimum_of_an_additive_objective():
    trials = run(GeneticAlgorithm, SPACE, limit=2000)
    assert Additive(SPACE).best in {trial.query.architecture for trial in trials}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"selection": "x"}, "selection is 'x' and crossover 'uniform'; allowed: tournament, rou"),
        ({"crossover": "x"}, "crossover 'x'; allowed: .* and one_point, two_point, uniform"),
        ({"elites": 20}, "population_size is 20, elites 20, .*; allowed: 0 <= elites < popul"),
        ({"elites": -1}, "elites -1"),
        ({"tournament_size": 0}, "tournament_size 0; allowed: .*tournaments from 1"),
        ({"crossover_rate": 1.5}, "crossover_rate is 1.5 and mutation_rate 0.8; allowed: 0 to 1"),
        ({"mutation_rate": -0.1}, "mutation_rate -0.1; allowed: 0 to 1"),
    ],
)
def test_options_are_checked(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        GeneticAlgorithm(SPACE, Random(0), (3,), **option)
