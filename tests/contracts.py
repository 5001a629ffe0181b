"""What every strategy, space and objective promises, as plain functions, and who breaks it.

A promise raises AssertionError where it is broken. Each has a culprit, which the tests put
before it to see that it does.
"""

import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from objectives import (
    PROTOCOL,
    Additive,
    AlwaysFails,
    CostsNothing,
    Diverges,
    FailsNowAndThen,
)
from scipy.stats import chi2

from bench.search import Budget, Query, Strategy, search, stream
from bench.space import Space
from bench.table import TableObjective
from strategies.random_search import RandomSearch

TESTS = Path(__file__).parent
LENGTH = 110  # trials of a run here: past the first population of every strategy in `conf`
FALSE_ALARM = 1e-6  # how often a χ² test here, with its seed free, would fail a right program


def assert_proportions(counts, probabilities):
    """Pearson's χ² test; a right program fails it with probability `FALSE_ALARM`."""
    counts, probabilities = np.asarray(counts, float), np.asarray(probabilities, float)
    expected = counts.sum() * probabilities / probabilities.sum()
    assert expected.min() >= 5, "too few draws for the χ² approximation"
    statistic = ((counts - expected) ** 2 / expected).sum()
    limit = chi2.isf(FALSE_ALARM, len(counts) - 1)
    assert statistic < limit, f"χ² is {statistic:.1f}, its limit {limit:.1f}"


# ---------------------------------------------------------------------------- strategies


def start(factory, space, seed=0, *, limit=LENGTH, clock="evaluations", **changes):
    """The trials of a run, as a generator."""
    protocol = changes.get("protocol", PROTOCOL)
    strategy = factory(space, stream(seed, "strategy"), protocol.fidelities)
    objective = changes.get("objective", Additive)(space)
    workers = changes.get("workers", 1)
    return search(strategy, objective, protocol, Budget(clock, limit), noise=0, workers=workers)


def run(factory, space, seed=0, **changes):
    """All trials of a run; a strategy that raises has broken its promise."""
    try:
        return list(start(factory, space, seed, **changes))
    except Exception as error:
        raise AssertionError(f"the strategy raised {error!r}") from error


def asked(trials):
    return [trial.query for trial in trials]


def only_members(factory, space):
    protocol = replace(PROTOCOL, fidelities=(1, 3))
    for architecture, fidelity in asked(run(factory, space, protocol=protocol)):
        assert space.contains(architecture)
        assert fidelity in protocol.fidelities


def budget_spent_exactly(factory, space):
    trials = run(factory, space)
    assert [trial.evaluations for trial in trials] == list(range(1, LENGTH + 1))
    limit = trials[-1].simulated_seconds - 1  # the last trial crosses it
    seconds = {"clock": "simulated_seconds", "limit": limit}
    kept = run(factory, space, **seconds, protocol=replace(PROTOCOL, overshoot="keep_last"))
    dropped = run(factory, space, **seconds)
    assert asked(kept) == asked(trials)
    assert asked(dropped) == asked(trials)[:-1]
    assert dropped[-1].simulated_seconds <= limit < kept[-1].simulated_seconds


def same_seed_same_queries(factory, space):
    assert asked(run(factory, space)) == asked(run(factory, space))


def other_seed_other_queries(factory, space):
    assert asked(run(factory, space, 0)) != asked(run(factory, space, 1))


def smaller_budget_is_a_prefix(factory, space):
    short, long = run(factory, space, limit=LENGTH // 2), run(factory, space)
    assert asked(short) == asked(long)[: LENGTH // 2]


def global_random_state():
    state = [random.getstate(), repr(np.random.get_state())]  # noqa: NPY002 (the point)
    if "torch" in sys.modules:
        state.append(sys.modules["torch"].get_rng_state().tolist())
    return state


def global_random_state_untouched(factory, space):
    before = global_random_state()
    run(factory, space)
    assert global_random_state() == before


def interleaved_runs_are_independent(factory, space):
    apart = [asked(run(factory, space, seed)) for seed in (0, 1)]
    together = zip(start(factory, space, 0), start(factory, space, 1), strict=True)
    assert [asked(trials) for trials in zip(*together, strict=True)] == apart


def equal_in_another_process(factory, space):
    here = os.environ.get("PYTHONHASHSEED")
    child = subprocess.run(
        [sys.executable, "-c", "import contracts; contracts.answer_process()"],
        input=pickle.dumps((factory, space)),
        env=os.environ
        | {
            "PYTHONHASHSEED": "2" if here == "1" else "1",
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        },
        capture_output=True,
        check=True,
    )
    there = [[list(architecture), fidelity] for architecture, fidelity in json.loads(child.stdout)]
    assert there == [[list(arch), fidelity] for arch, fidelity in asked(run(factory, space))]


def answer_process():
    """The other end of `equal_in_another_process`."""
    print(json.dumps(asked(run(*pickle.loads(sys.stdin.buffer.read())))))


def failed_trials_survived(factory, space):
    for objective in FailsNowAndThen, AlwaysFails, Diverges, CostsNothing:
        trials = run(factory, space, objective=objective)
        assert len(trials) == LENGTH
        assert all(space.contains(query.architecture) for query in asked(trials))


def answers_while_asks_are_open(factory, space):
    trials = run(factory, space, workers=4)
    assert len(trials) == LENGTH
    assert all(space.contains(query.architecture) for query in asked(trials))
    assert asked(trials) == asked(run(factory, space, workers=4))


def replay_reproduces_the_asks(factory, space):
    trials = run(factory, space)
    again = factory(space, stream(0, "strategy"), PROTOCOL.fidelities)
    for trial in trials:
        assert again.ask() == trial.query
        again.tell(trial)


STRATEGY = [
    only_members,
    budget_spent_exactly,
    same_seed_same_queries,
    other_seed_other_queries,
    smaller_budget_is_a_prefix,
    global_random_state_untouched,
    interleaved_runs_are_independent,
    equal_in_another_process,
    failed_trials_survived,
    answers_while_asks_are_open,
    replay_reproduces_the_asks,
]


class LeavesTheSpace(RandomSearch):
    def ask(self):
        architecture, fidelity = super().ask()
        return Query((self.space.choices[0], *architecture[1:]), fidelity)


class GivesUp(RandomSearch):
    asks = 0

    def ask(self):
        self.asks += 1
        if self.asks == LENGTH:
            raise IndexError("nothing left to ask")
        return super().ask()


class ForgetsItsSeed(RandomSearch):
    def __init__(self, space, rng, fidelities):
        super().__init__(space, Random(), fidelities)


class FixesItsSeed(RandomSearch):
    def __init__(self, space, rng, fidelities):
        super().__init__(space, Random(0), fidelities)


class CountsItsRuns(RandomSearch):
    """Later runs of a process begin elsewhere."""

    runs = 0

    def __init__(self, space, rng, fidelities):
        super().__init__(space, rng, fidelities)
        type(self).runs += 1
        for _ in range(self.runs):
            rng.random()


class UsesGlobalRandom(RandomSearch):
    def ask(self):
        random.random()
        return super().ask()


class Leaky(RandomSearch):
    """What one run is told, the others know: the list belongs to the class."""

    told = []  # noqa: RUF012 (the defect)

    def ask(self):
        parent = self.told[-1] if self.told else self.space.sample(self.rng)
        return Query(self.space.mutate(parent, self.rng), self.fidelities[-1])

    def tell(self, trial):
        self.told.append(trial.query.architecture)


class OrdersByHash(RandomSearch):
    def ask(self):
        some = {self.space.to_string(self.space.sample(self.rng)) for _ in range(8)}
        return Query(self.space.from_string(next(iter(some))), self.fidelities[-1])


class CannotFail(RandomSearch):
    def tell(self, trial):
        assert trial.evaluation.status == "ok"


class WaitsForItsAnswer(RandomSearch):
    waiting = False

    def ask(self):
        assert not self.waiting
        self.waiting = True
        return super().ask()

    def tell(self, trial):
        self.waiting = False


BAD_STRATEGIES: dict[str, type[Strategy]] = {
    "only_members": LeavesTheSpace,
    "budget_spent_exactly": GivesUp,
    "same_seed_same_queries": ForgetsItsSeed,
    "other_seed_other_queries": FixesItsSeed,
    "smaller_budget_is_a_prefix": CountsItsRuns,
    "global_random_state_untouched": UsesGlobalRandom,
    "interleaved_runs_are_independent": Leaky,
    "equal_in_another_process": OrdersByHash,
    "failed_trials_survived": CannotFail,
    "answers_while_asks_are_open": WaitsForItsAnswer,
    "replay_reproduces_the_asks": CountsItsRuns,
}

# -------------------------------------------------------------------------------- spaces


def samples_are_members(space, rng):
    arch = space.sample(rng)
    assert space.contains(arch)
    assert all(type(gene) is int for gene in arch)
    assert not space.contains((*arch, 0))
    assert not space.contains((-1, *arch[1:]))


def neighbours_are_members(space, rng):
    assert all(map(space.contains, space.neighbours(space.sample(rng))))


def neighbours_are_distinct(space, rng):
    arch = space.sample(rng)
    near = list(space.neighbours(arch))
    assert len(near) == len(set(near))
    assert arch not in near


def neighbours_are_mutual(space, rng):
    arch = space.sample(rng)
    assert all(arch in set(space.neighbours(near)) for near in space.neighbours(arch))


def neighbours_have_a_fixed_order(space, rng):
    arch = space.sample(rng)
    assert list(space.neighbours(arch)) == list(space.neighbours(arch))


def mutation_is_a_neighbour(space, rng):
    arch = space.sample(rng)
    assert space.mutate(arch, rng) in set(space.neighbours(arch))


def strings_round_trip(space, rng):
    arch = space.sample(rng)
    assert space.from_string(space.to_string(arch)) == arch


def features_have_one_length(space, rng):
    shapes = {space.features(space.sample(rng)).shape for _ in range(5)}
    assert len(shapes) == 1
    assert len(shapes.pop()) == 1


def canonical_is_hashable_and_pure(space, rng):
    arch = space.sample(rng)
    assert len({space.canonical(arch), space.canonical(arch)}) == 1


SPACE = [
    samples_are_members,
    neighbours_are_members,
    neighbours_are_distinct,
    neighbours_are_mutual,
    neighbours_have_a_fixed_order,
    mutation_is_a_neighbour,
    strings_round_trip,
    features_have_one_length,
    canonical_is_hashable_and_pure,
]


def lists_every_member_once(space):
    members = list(space)
    assert len(members) == len(set(members)) == space.size
    assert all(map(space.contains, members))


def features_tell_members_apart(space):
    assert len({space.features(arch).tobytes() for arch in space}) == space.size


def strings_tell_members_apart(space):
    assert len({space.to_string(arch) for arch in space}) == space.size


def samples_uniformly(space):
    rng = Random(0)
    counts = Counter(space.sample(rng) for _ in range(10 * space.size))
    assert_proportions([counts[arch] for arch in space], np.ones(space.size))


WHOLE_SPACE = [
    lists_every_member_once,
    features_tell_members_apart,
    strings_tell_members_apart,
    samples_uniformly,
]


class Toy(Space):
    """24 architectures; every culprit below spoils one thing about it."""

    name = "toy"
    choices = (3, 4, 2)

    def to_string(self, arch):
        return "-".join(map(str, arch))

    def from_string(self, text):
        return tuple(map(int, text.split("-")))


class SamplesOutside(Toy):
    def sample(self, rng):
        return tuple(rng.randrange(n + 1) for n in self.choices)


class NeighbourOutside(Toy):
    def neighbours(self, arch):
        yield from super().neighbours(arch)
        yield (*arch[:-1], 2)


class NeighbourTwice(Toy):
    def neighbours(self, arch):
        yield from [*super().neighbours(arch), next(super().neighbours(arch))]


class OneWay(Toy):
    def neighbours(self, arch):
        return (near for near in super().neighbours(arch) if near > arch)


class NoOrder(Toy):
    rng = Random(0)

    def neighbours(self, arch):
        near = list(super().neighbours(arch))
        self.rng.shuffle(near)
        return iter(near)


class MutatesTwice(Toy):
    def mutate(self, arch, rng):
        return super().mutate(super().mutate(arch, rng), rng)


class LosesAGene(Toy):
    def to_string(self, arch):
        return super().to_string((0, *arch[1:]))


class LongFeatures(Toy):
    def features(self, arch):
        return np.ones(sum(arch))


class FreshCanonical(Toy):
    def canonical(self, arch):
        return object()


class SkipsOne(Toy):
    def __iter__(self):
        yield (0, 0, 0)
        yield from islice(super().__iter__(), 23)


class FlatFeatures(Toy):
    def features(self, arch):
        return np.array([sum(arch)])


class Skewed(Toy):
    def sample(self, rng):
        return tuple(min(rng.randrange(n), rng.randrange(n)) for n in self.choices)


BAD_SPACES: dict[str, type[Space]] = {
    "samples_are_members": SamplesOutside,
    "neighbours_are_members": NeighbourOutside,
    "neighbours_are_distinct": NeighbourTwice,
    "neighbours_are_mutual": OneWay,
    "neighbours_have_a_fixed_order": NoOrder,
    "mutation_is_a_neighbour": MutatesTwice,
    "strings_round_trip": LosesAGene,
    "features_have_one_length": LongFeatures,
    "canonical_is_hashable_and_pure": FreshCanonical,
    "lists_every_member_once": SkipsOne,
    "features_tell_members_apart": FlatFeatures,
    "strings_tell_members_apart": LosesAGene,
    "samples_uniformly": Skewed,
}

# ---------------------------------------------------------------------------- objectives


def same_question_same_answer(objective, space):
    asks = [(Query(space.sample(Random(n)), 200), 1 + n % 7) for n in range(50)]
    answers = [objective.evaluate(query, noise, 0) for query, noise in asks]
    backwards = [objective.evaluate(query, noise, 0) for query, noise in reversed(asks)]
    assert answers == backwards[::-1]


def tells_no_reported_metric(objective, space):
    arch = space.sample(Random(0))
    visible = set(objective.evaluate(Query(arch, 200), 0, 0).metrics)
    assert not visible & {*objective.report([arch]), "test_error", "test_accuracy"}


def answers_are_sane(objective, space):
    for n in range(50):
        error, seconds, _, status = objective.evaluate(Query(space.sample(Random(n)), 200), n, 0)
        assert 0 <= error <= 1
        assert 0 < seconds < float("inf")
        assert status == "ok"


def resumed_training_costs_the_rest(objective, space):
    query = Query(space.sample(Random(0)), 200)
    whole, half = objective.evaluate(query, 0, 0), objective.evaluate(query, 0, 100)
    assert half.error == whole.error
    assert half.seconds == pytest.approx(whole.seconds / 2, rel=1e-12)


def strangers_are_refused(objective, space):
    for query in Query((99,) * len(space.choices), 200), Query(space.sample(Random(0)), 7):
        with pytest.raises(LookupError):
            objective.evaluate(query, 0, 0)


def report_is_not_below_the_optimum(objective, space):
    architectures = [space.sample(Random(n)) for n in range(50)]
    for name, values in objective.report(architectures).items():
        assert values.shape == (50,)
        assert (values >= objective.optimum[name]).all()


def equal_after_pickling(objective, space):
    query = Query(space.sample(Random(0)), 200)
    again = pickle.loads(pickle.dumps(objective))
    assert again.evaluate(query, 5, 0) == objective.evaluate(query, 5, 0)
    assert again.digest == objective.digest


OBJECTIVE = [
    same_question_same_answer,
    tells_no_reported_metric,
    answers_are_sane,
    resumed_training_costs_the_rest,
    strangers_are_refused,
    report_is_not_below_the_optimum,
    equal_after_pickling,
]


class CountsItsAnswers(TableObjective):
    answered = 0

    def evaluate(self, query, noise, trained):
        self.answered += 1
        return super().evaluate(query, noise + self.answered, trained)


class TellsTheReport(TableObjective):
    def evaluate(self, query, noise, trained):
        told = {name: float(values[0]) for name, values in self.report([query[0]]).items()}
        return super().evaluate(query, noise, trained)._replace(metrics=told)


class InPercent(TableObjective):
    def evaluate(self, query, noise, trained):
        answer = super().evaluate(query, noise, trained)
        return answer._replace(error=100 * answer.error)


class ChargesAgain(TableObjective):
    def evaluate(self, query, noise, trained):
        return super().evaluate(query, noise, 0)


class AnswersAnything(TableObjective):
    def evaluate(self, query, noise, trained):
        return super().evaluate(Query((0,) * 6, 200), noise, trained)


class OptimisticReport(TableObjective):
    def report(self, architectures):
        return {name: values - 1 for name, values in super().report(architectures).items()}


class Unsteady(TableObjective):
    def __setstate__(self, state):
        pass

    def __reduce__(self):
        return OptimisticReport, (self.space, "cifar100", self.protocol)


BAD_OBJECTIVES: dict[str, type[TableObjective]] = {
    "same_question_same_answer": CountsItsAnswers,
    "tells_no_reported_metric": TellsTheReport,
    "answers_are_sane": InPercent,
    "resumed_training_costs_the_rest": ChargesAgain,
    "strangers_are_refused": AnswersAnything,
    "report_is_not_below_the_optimum": OptimisticReport,
    "equal_after_pickling": Unsteady,
}
