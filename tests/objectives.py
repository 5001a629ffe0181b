"""Objectives whose answers are exact and known beforehand, and small cells that use them."""

from functools import partial

import numpy as np

from bench.protocol import Protocol
from bench.run import Cell
from bench.search import FAILED_ERROR, Budget, Evaluation, Objective
from spaces.nb201.space import NB201
from strategies.random_search import RandomSearch
from strategies.regularized_evolution import RegularizedEvolution

PROTOCOL = Protocol(
    name="test",
    schedule="3",
    metric="valid_error",
    fidelities=(3,),
    report_schedule="3",
    report=("valid_error",),
)


class Additive(Objective):
    """A gene costs its distance, on a circle, from its best value; later genes weigh more."""

    dataset = "additive"
    digest = "0" * 64

    def __init__(self, space):
        self.choices = space.choices
        self.best = tuple((2 * gene + 1) % n for gene, n in enumerate(space.choices))
        self.optimum = {"valid_error": self.error(self.best)}

    def error(self, architecture):
        costs = [
            (gene + 1) * ((value - best) % n)
            for gene, (value, best, n) in enumerate(
                zip(architecture, self.best, self.choices, strict=True)
            )
        ]
        most = sum((gene + 1) * (n - 1) for gene, n in enumerate(self.choices))
        return 0.1 + 0.8 * sum(costs) / most

    def seconds(self, architecture):
        """Whole numbers from 2 up, so that sums are exact."""
        return 2.0 + sum(architecture) % 5

    def evaluate(self, query, noise, trained):
        return Evaluation(self.error(query.architecture), self.seconds(query.architecture))

    def report(self, architectures):
        return {"valid_error": np.array([self.error(arch) for arch in architectures])}


class FailsNowAndThen(Additive):
    """A third of the trainings fail, after they were paid for."""

    def evaluate(self, query, noise, trained):
        answer = super().evaluate(query, noise, trained)
        failed = sum(query.architecture) % 3 == 0
        return answer._replace(error=FAILED_ERROR, status="failed") if failed else answer


class AlwaysFails(Additive):
    def evaluate(self, query, noise, trained):
        return Evaluation(FAILED_ERROR, 1.0, status="failed")


class Diverges(Additive):
    """A third of the trainings end in NaN and do not know that they failed."""

    def evaluate(self, query, noise, trained):
        answer = super().evaluate(query, noise, trained)
        return answer._replace(error=np.nan) if sum(query.architecture) % 3 == 1 else answer


class CostsNothing(Additive):
    def seconds(self, architecture):
        return 0.0


def small_cell(name="random_search", limit=20, **changes):
    """A cell whose runs take about a millisecond."""
    strategies = {
        "random_search": RandomSearch,
        "regularized_evolution": partial(RegularizedEvolution, population_size=5, sample_size=3),
    }
    space = NB201()
    parts = {
        "names": {"strategy": name, "space": "nb201", "dataset": "additive", "protocol": "test"},
        "config": {"strategy": name},
        "strategy": strategies.get(name, RandomSearch),
        "space": space,
        "objective": Additive(space),
        "protocol": PROTOCOL,
        "budget": Budget("evaluations", limit),
    }
    return Cell(**parts | changes)
