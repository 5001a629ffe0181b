from collections import Counter

from contracts import Toy, assert_proportions, run

from bench.search import Evaluation
from strategies.random_search import RandomSearch


def test_it_draws_uniformly_with_replacement():
    counts = Counter(trial.query.architecture for trial in run(RandomSearch, Toy(), limit=4800))
    assert_proportions([counts[arch] for arch in Toy()], [1] * 24)


def test_it_learns_nothing():
    asked = [
        [trial.query for trial in run(RandomSearch, Toy(), objective=objective)]
        for objective in (Flat, Steep)
    ]
    assert asked[0] == asked[1]


class Flat:
    holds_gpu = False

    def __init__(self, space):
        pass

    def evaluate(self, query, noise, trained):
        return Evaluation(0.5, 1.0)


class Steep(Flat):
    def evaluate(self, query, noise, trained):
        return super().evaluate(query, noise, trained)._replace(error=query.architecture[0] / 9)
