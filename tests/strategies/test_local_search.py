from random import Random

import pytest
from contracts import Toy, run
from objectives import Additive

from spaces.nb201.space import NB201
from strategies.local_search import LocalSearch

SPACE = NB201()


@pytest.mark.parametrize("seed", range(10))
def test_it_reaches_the_optimum_and_starts_anew(seed):
    trials = run(LocalSearch, SPACE, seed, limit=400)
    objective = Additive(SPACE)
    asked = [trial.query.architecture for trial in trials]
    start = asked[0]
    best = asked.index(objective.best)
    # A step asks at most the 24 neighbours, and six steps set six genes.
    assert best <= 6 * 24
    distance = sum(a != b for a, b in zip(start, objective.best, strict=True))
    assert best >= distance
    # The neighbours of the optimum come next; the first that is none is a new start.
    near = set(SPACE.neighbours(objective.best))
    after = asked[best + 1 :]
    restart = next(n for n, arch in enumerate(after) if arch not in near)
    assert restart <= 2 * 24
    assert near <= set(asked)


def test_it_moves_to_the_best_neighbour_after_all_were_asked():
    objective, space = Additive(SPACE), SPACE
    trials = run(LocalSearch, space, limit=60)
    start, first = trials[0].query.architecture, trials[1:25]
    assert {trial.query.architecture for trial in first} == set(space.neighbours(start))
    best = min(space.neighbours(start), key=objective.error)
    near = set(space.neighbours(best))
    assert all(trial.query.architecture in near for trial in trials[25:40])


def test_it_asks_no_neighbour_twice():
    trials = run(LocalSearch, SPACE, limit=150)
    asked = [trial.query.architecture for trial in trials]
    descent = asked[: asked.index(Additive(SPACE).best) + 1]
    assert len(descent) == len(set(descent))


def test_the_order_of_neighbours_is_the_seeds():
    asked = [
        [trial.query.architecture for trial in run(LocalSearch, SPACE, seed, limit=25)]
        for seed in (0, 1)
    ]
    positions = [
        [list(SPACE.neighbours(run_[0])).index(arch) for arch in run_[1:]] for run_ in asked
    ]
    assert positions[0] != positions[1]
    assert all(sorted(order) == list(range(24)) for order in positions)


def test_a_space_that_is_all_seen_goes_on():
    trials = run(LocalSearch, Toy(), limit=300)
    assert {trial.query.architecture for trial in trials} == set(Toy())


class Lonely(Toy):
    def neighbours(self, arch):
        return iter(())


def test_a_member_without_neighbours_is_left_for_a_new_start():
    asked = {trial.query.architecture for trial in run(LocalSearch, Lonely(), limit=300)}
    assert asked == set(Lonely())


@pytest.mark.parametrize("workers", [2, 7, 30])
def test_with_open_asks_it_still_reaches_the_optimum(workers):
    trials = run(LocalSearch, SPACE, limit=600, workers=workers)
    assert Additive(SPACE).best in {trial.query.architecture for trial in trials}


def test_it_takes_no_option():
    with pytest.raises(TypeError):
        LocalSearch(SPACE, Random(0), (3,), restarts=3)
