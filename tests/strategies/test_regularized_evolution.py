from random import Random

import numpy as np
import pytest
from contracts import assert_proportions, run
from objectives import Additive

from bench.search import Evaluation, Query, Trial
from spaces.nb201.space import NB201
from strategies.regularized_evolution import RegularizedEvolution, tournament

SPACE = NB201()


def told(strategy, architecture, error):
    strategy.tell(Trial(Query(architecture, 3), Evaluation(error, 1.0), 1, 3, 1.0, 0.0, 0.0))


@pytest.mark.parametrize(("entrants", "size"), [(10, 3), (20, 1), (4, 25)])
def test_the_tournament_is_the_literal_one(entrants, size):
    """Its law, and that of picking with replacement and comparing, by χ² at one in a million."""
    ranks = np.arange(entrants + 1)
    law = -np.diff((1 - ranks / entrants) ** size)
    seen = law * 40_000 >= 5  # the ranks that turn up often enough for the approximation
    rng = Random(0)
    literal = [min(rng.randrange(entrants) for _ in range(size)) for _ in range(40_000)]
    ours = [tournament(entrants, size, rng) for _ in range(40_000)]
    for drawn in literal, ours:
        counts = np.bincount(drawn, minlength=entrants)
        assert counts[~seen].sum() < 40
        assert_proportions(counts[seen], law[seen])


def test_the_tournament_stays_within_the_population():
    class Extreme(Random):
        def random(self):
            return 1 - 2**-53

    for entrants in (*range(1, 200), 2**20 + 1):
        assert tournament(entrants, 1, Extreme()) == entrants - 1


def test_the_oldest_is_retired_however_good():
    strategy = RegularizedEvolution(SPACE, Random(0), (3,), population_size=3, sample_size=1)
    best = (0,) * 6
    told(strategy, best, 0.0)
    for gene in range(1, 3):
        told(strategy, (gene,) * 6, 0.5)
    assert strategy.ranked == [best, (1,) * 6, (2,) * 6]
    told(strategy, (4,) * 6, 0.9)
    assert strategy.ranked == [(1,) * 6, (2,) * 6, (4,) * 6]
    told(strategy, (3,) * 6, 0.5)  # of two with this error the older one goes
    assert strategy.ranked == [(2,) * 6, (3,) * 6, (4,) * 6]


def test_the_population_stays_sorted_and_whole():
    strategy = RegularizedEvolution(SPACE, Random(0), (3,), population_size=7, sample_size=2)
    rng = Random(1)
    alive: list[tuple[float, int, tuple[int, ...]]] = []
    for number in range(60):
        child, error = SPACE.sample(rng), rng.choice([0.1, 0.2, 0.3])  # with many ties
        told(strategy, child, error)
        alive = [*alive, (error, number, child)][-7:]
        assert strategy.ranked == [architecture for *_, architecture in sorted(alive)]
        assert strategy.errors == sorted(error for error, *_ in alive)


def test_children_are_neighbours_of_the_population():
    strategy = RegularizedEvolution(SPACE, Random(0), (3,), population_size=5, sample_size=2)
    objective = Additive(SPACE)
    for number in range(50):
        query = strategy.ask()
        if number >= 5:
            assert any(near in strategy.ranked for near in SPACE.neighbours(query.architecture))
        told(strategy, query.architecture, objective.error(query.architecture))


def test_a_large_sample_breeds_the_best():
    strategy = RegularizedEvolution(SPACE, Random(0), (3,), population_size=4, sample_size=200)
    for gene, error in enumerate((0.4, 0.1, 0.3, 0.2)):
        told(strategy, (gene,) * 6, error)
    near = set(SPACE.neighbours((1,) * 6))
    assert all(strategy.ask().architecture in near for _ in range(50))


def test_it_finds_the_optimum_of_an_additive_objective():
    def factory(*args):
        return RegularizedEvolution(*args, population_size=20, sample_size=5)

    trials = run(factory, SPACE, limit=1500)
    assert Additive(SPACE).best in {trial.query.architecture for trial in trials}


@pytest.mark.parametrize("size", [{"population_size": 0}, {"sample_size": 0}])
def test_sizes_are_checked(size):
    with pytest.raises(ValueError, match=r"population_size is .* and sample_size .*; allowed: 1 a"):
        RegularizedEvolution(SPACE, Random(0), (3,), **size)
