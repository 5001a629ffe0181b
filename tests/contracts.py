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
from functools import lru_cache, partial
from itertools import combinations, islice, pairwise
from math import comb, prod
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
BRIEF = 40  # of a run of a strategy that `brisk` made
SMALL = {"population_size": 10, "sample_size": 3, "pool": 200}
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


def brisk(factory):
    """A factory from `conf` with small populations: `BRIEF` trials are past the first of them."""
    return partial(factory, **{k: v for k, v in SMALL.items() if k in factory.keywords})


def asked(trials):
    return [trial.query for trial in trials]


def only_members(factory, space, length=LENGTH):
    protocol = replace(PROTOCOL, fidelities=(1, 3))
    for architecture, fidelity in asked(run(factory, space, limit=length, protocol=protocol)):
        assert space.contains(architecture)
        assert fidelity in protocol.fidelities


def budget_spent_exactly(factory, space, length=LENGTH):
    trials = run(factory, space, limit=length)
    assert [trial.evaluations for trial in trials] == list(range(1, length + 1))
    limit = trials[-1].simulated_seconds - 1  # the last trial crosses it
    seconds = {"clock": "simulated_seconds", "limit": limit}
    kept = run(factory, space, **seconds, protocol=replace(PROTOCOL, overshoot="keep_last"))
    dropped = run(factory, space, **seconds)
    assert asked(kept) == asked(trials)
    assert asked(dropped) == asked(trials)[:-1]
    assert dropped[-1].simulated_seconds <= limit < kept[-1].simulated_seconds


def same_seed_same_queries(factory, space, length=LENGTH):
    assert asked(run(factory, space, limit=length)) == asked(run(factory, space, limit=length))


def other_seed_other_queries(factory, space, length=LENGTH):
    assert asked(run(factory, space, 0, limit=length)) != asked(
        run(factory, space, 1, limit=length)
    )


def smaller_budget_is_a_prefix(factory, space, length=LENGTH):
    short, long = (run(factory, space, limit=limit) for limit in (length // 2, length))
    assert asked(short) == asked(long)[: length // 2]


def global_random_state():
    state = [random.getstate(), repr(np.random.get_state())]  # noqa: NPY002 (the point)
    if "torch" in sys.modules:
        state.append(sys.modules["torch"].get_rng_state().tolist())
    return state


def global_random_state_untouched(factory, space, length=LENGTH):
    before = global_random_state()
    run(factory, space, limit=length)
    assert global_random_state() == before


def interleaved_runs_are_independent(factory, space, length=LENGTH):
    apart = [asked(run(factory, space, seed, limit=length)) for seed in (0, 1)]
    together = zip(*(start(factory, space, seed, limit=length) for seed in (0, 1)), strict=True)
    assert [asked(trials) for trials in zip(*together, strict=True)] == apart


def equal_in_another_process(factory, space, length=LENGTH):
    here = os.environ.get("PYTHONHASHSEED")
    child = subprocess.run(
        [sys.executable, "-c", "import contracts; contracts.answer_process()"],
        input=pickle.dumps((factory, space, length)),
        env=os.environ
        | {
            "PYTHONHASHSEED": "2" if here == "1" else "1",
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        },
        capture_output=True,
        check=True,
    )
    there = [[list(architecture), fidelity] for architecture, fidelity in json.loads(child.stdout)]
    assert there == [
        [list(arch), fidelity] for arch, fidelity in asked(run(factory, space, limit=length))
    ]


def answer_process():
    """The other end of `equal_in_another_process`."""
    factory, space, length = pickle.loads(sys.stdin.buffer.read())
    print(json.dumps(asked(run(factory, space, limit=length))))


def failed_trials_survived(factory, space, length=LENGTH):
    for objective in FailsNowAndThen, AlwaysFails, Diverges, CostsNothing:
        trials = run(factory, space, limit=length, objective=objective)
        assert len(trials) == length
        assert all(space.contains(query.architecture) for query in asked(trials))


def answers_while_asks_are_open(factory, space, length=LENGTH):
    trials = run(factory, space, limit=length, workers=4)
    assert len(trials) == length
    assert all(space.contains(query.architecture) for query in asked(trials))
    assert asked(trials) == asked(run(factory, space, limit=length, workers=4))


def replay_reproduces_the_asks(factory, space, length=LENGTH):
    trials = run(factory, space, limit=length)
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
    assert not space.contains(arch[1:])
    for gene, n in enumerate(space.choices):
        assert not any(space.contains((*arch[:gene], v, *arch[gene + 1 :])) for v in (-1, n))


def neighbours_are_members(space, rng):
    assert all(map(space.contains, space.neighbours(space.sample(rng))))


def neighbours_are_distinct(space, rng):
    arch = space.sample(rng)
    near = list(space.neighbours(arch))
    assert len(near) == len(set(near))
    assert arch not in near


def some_neighbours(space, arch, rng, count=30):
    near = list(space.neighbours(arch))
    return rng.sample(near, min(count, len(near)))


def neighbours_are_mutual(space, rng):
    arch = space.sample(rng)
    assert all(arch in space.neighbours(near) for near in some_neighbours(space, arch, rng))


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


def features_and_strings_tell_neighbours_apart(space, rng):
    arch = space.sample(rng)
    members = [arch, *some_neighbours(space, arch, rng)]
    assert len({space.features(arch).tobytes() for arch in members}) == len(members)
    assert len({space.to_string(arch) for arch in members}) == len(members)


def canonical_is_hashable_and_pure(space, rng):
    arch = space.sample(rng)
    assert len({space.canonical(arch), space.canonical(arch)}) == 1


def keys_and_key_agree(space, rng):
    members = [space.sample(rng) for _ in range(5)]
    keys = space.keys(np.array(members, dtype=np.int8))  # as a table holds them
    assert keys.dtype == np.uint64
    assert keys.shape == (5,)
    assert keys.tolist() == [space.key(arch) for arch in members]
    assert all(type(space.key(arch)) is int for arch in members)


def a_walk(space, rng, steps=30):
    """Members, each a mutation of the one before: some may well be the same network."""
    walk = [space.sample(rng)]
    for _ in range(steps):
        walk.append(space.mutate(walk[-1], rng))
    return walk


def equal_keys_are_one_network(space, rng):
    seen = {}
    for arch in a_walk(space, rng):
        canonical = space.canonical(arch)
        assert seen.setdefault(space.key(arch), canonical) == canonical


def aliases_find_their_rows(space, rng):
    """Under its own key every row, and under no key a row that is another network."""
    rows = list({space.canonical(arch): arch for arch in a_walk(space, rng, 20)}.values())
    keys, found = space.aliases(np.array(rows, dtype=np.int8))
    assert keys.dtype == np.uint64
    assert keys.shape == found.shape
    assert len(set(keys.tolist())) == len(keys)
    places = dict(zip(keys.tolist(), found.tolist(), strict=True))
    assert [places.get(space.key(arch)) for arch in rows] == list(range(len(rows)))
    for arch in (space.sample(rng), *a_walk(space, rng), *some_neighbours(space, rows[0], rng)):
        if (row := places.get(space.key(arch))) is not None:
            assert space.canonical(arch) == space.canonical(rows[row])


SPACE = [
    samples_are_members,
    neighbours_are_members,
    neighbours_are_distinct,
    neighbours_are_mutual,
    neighbours_have_a_fixed_order,
    mutation_is_a_neighbour,
    strings_round_trip,
    features_have_one_length,
    features_and_strings_tell_neighbours_apart,
    canonical_is_hashable_and_pure,
    keys_and_key_agree,
    equal_keys_are_one_network,
    aliases_find_their_rows,
]


WHOLE = 60_000  # members; what the promises below look at takes longer in larger spaces


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


def keys_count_the_networks(space):
    assert len(np.unique(space.keys(np.array(list(space))))) == space.networks


def aliases_reach_every_member(space):
    """A table with one row for every key answers for all members."""
    genes = np.array(list(space), dtype=np.int8)
    every, first = np.unique(space.keys(genes), return_index=True)
    keys, rows = space.aliases(genes[first])
    assert len(np.unique(keys)) == len(keys)
    assert np.isin(every, keys).all()
    assert (np.sort(np.unique(rows)) == np.arange(len(first))).all()


WHOLE_SPACE = [
    lists_every_member_once,
    features_tell_members_apart,
    strings_tell_members_apart,
    samples_uniformly,
    keys_count_the_networks,
    aliases_reach_every_member,
]

DRAWS = 10_000


def first_members_ascend(space):
    first = list(islice(space, 2_000))
    assert len(first) == min(2_000, space.size)
    assert all(a < b for a, b in pairwise(first))
    assert all(map(space.contains, first))


@lru_cache(maxsize=1)
def members_among_draws(space):
    """Those of `DRAWS` uniform draws of all genes that are members: uniform among these."""
    rng = Random(0)
    drawn = (tuple(rng.randrange(n) for n in space.choices) for _ in range(DRAWS))
    return [arch for arch in drawn if space.contains(arch)]


def size_is_a_share_of_all_genes(space):
    """The number of draws that are members is binomial; its normal limit, at `FALSE_ALARM`."""
    hits, share = len(members_among_draws(space)), space.size / prod(space.choices)
    if DRAWS * share < 20:
        assert hits < 200  # where 20 are too many to be true
        pytest.skip(f"of {DRAWS:,} draws of genes too few are members of {space.name} to count")
    spread = DRAWS * share * (1 - share)
    assert (hits - DRAWS * share) ** 2 <= chi2.isf(FALSE_ALARM, 1) * spread


def samples_like_rejection(space):
    """Each gene's values in samples, against those in members among draws of all genes."""
    accepted = members_among_draws(space)
    if len(accepted) < 200:
        pytest.skip(f"of {DRAWS:,} draws of genes too few are members of {space.name} to compare")
    rng = Random(1)
    samples = [space.sample(rng) for _ in range(DRAWS)]
    for gene, n in enumerate(space.choices):
        drawn, accepts = (
            np.bincount([arch[gene] for arch in archs], minlength=n).astype(float)
            for archs in (samples, accepted)
        )
        both = drawn + accepts
        assert_homogeneous(drawn[both > 0], accepts[both > 0], FALSE_ALARM / len(space.choices))


def assert_homogeneous(some, others, level):
    """The χ² test of two samples; values too rare for it stand together."""
    rare = (some + others) * min(some.sum(), others.sum()) / (some.sum() + others.sum()) < 5
    table = np.array([[*counts[~rare], counts[rare].sum()] for counts in (some, others)])
    table = table[:, table.sum(0) > 0]
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    statistic = ((table - expected) ** 2 / expected).sum()
    limit = chi2.isf(level, table.shape[1] - 1) if table.shape[1] > 1 else 0.0
    assert statistic <= limit, f"χ² is {statistic:.1f}, its limit {limit:.1f}"


ANY_SIZE = [first_members_ascend, size_is_a_share_of_all_genes, samples_like_rejection]


class Toy(Space):
    """24 architectures; every culprit below spoils one thing about it."""

    name = "toy"
    choices = (3, 4, 2)

    def to_string(self, arch):
        return "-".join(map(str, arch))

    def from_string(self, text):
        return tuple(map(int, text.split("-")))


class Ruled(Toy):
    """18 of the 24: the last gene is 0 where the second is below 2."""

    @property
    def size(self):
        return 18

    def contains(self, arch):
        return super().contains(arch) and not (arch[2] and arch[1] < 2)

    def __iter__(self):
        return filter(self.contains, super().__iter__())

    def neighbours(self, arch):
        return filter(self.contains, super().neighbours(arch))

    def sample(self, rng):
        return next(filter(self.contains, iter(partial(super().sample, rng), None)))

    def mutate(self, arch, rng):
        return next(filter(self.contains, iter(partial(super().mutate, arch, rng), None)))


class Twins(Ruled):
    """Where the first gene is 0 the last plays no part: 16 networks."""

    @property
    def networks(self):
        return 16

    def keys(self, genes):
        return super().keys(np.where([0, 0, 1] * (genes[:, :1] == 0), 0, genes))

    def canonical(self, arch):
        return self.key(arch)


class Mirrored(Toy):
    """Two genes whose order says nothing: keys differ, and aliases list both."""

    choices = (4, 4)

    def canonical(self, arch):
        return tuple(sorted(arch))

    def aliases(self, genes):
        keys = np.concatenate([self.keys(genes), self.keys(genes[:, ::-1])])
        keys, first = np.unique(keys, return_index=True)
        return keys, first % len(genes)


class Ascending(Ruled):
    """134,596 members, more than are listed; hardly any draw of all genes is one: they ascend."""

    choices = (24,) * 6

    @property
    def size(self):
        return comb(24, 6)

    def contains(self, arch):
        return Toy.contains(self, arch) and all(a < b for a, b in pairwise(arch))

    def __iter__(self):
        return combinations(range(24), 6)

    def sample(self, rng):
        return tuple(sorted(rng.sample(range(24), 6)))


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


class SumsDigits(Toy):
    def to_string(self, arch):
        return str(sum(arch))


class FreshCanonical(Toy):
    def canonical(self, arch):
        return object()


class SignedKeys(Toy):
    def keys(self, genes):
        return super().keys(genes).astype(np.int64)


class KeysWithoutAGene(Toy):
    def keys(self, genes):
        return super().keys(genes * [0, 1, 1])


class MixesRows(Mirrored):
    def aliases(self, genes):
        keys, rows = super().aliases(genes)
        return keys, rows[::-1]


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


class Downwards(Toy):
    def __iter__(self):
        return reversed(list(super().__iter__()))


class Miscounts(Ruled):
    @property
    def size(self):
        return 24


class ForgetsTwins(Twins):
    @property
    def networks(self):
        return self.size


class LosesRows(Twins):
    def aliases(self, genes):
        keys, rows = super().aliases(genes)
        return keys[1:], rows[1:]


BAD_SPACES: dict[str, type[Space]] = {
    "samples_are_members": SamplesOutside,
    "neighbours_are_members": NeighbourOutside,
    "neighbours_are_distinct": NeighbourTwice,
    "neighbours_are_mutual": OneWay,
    "neighbours_have_a_fixed_order": NoOrder,
    "mutation_is_a_neighbour": MutatesTwice,
    "strings_round_trip": LosesAGene,
    "features_have_one_length": LongFeatures,
    "features_and_strings_tell_neighbours_apart": SumsDigits,
    "canonical_is_hashable_and_pure": FreshCanonical,
    "keys_and_key_agree": SignedKeys,
    "equal_keys_are_one_network": KeysWithoutAGene,
    "aliases_find_their_rows": MixesRows,
    "lists_every_member_once": SkipsOne,
    "features_tell_members_apart": FlatFeatures,
    "strings_tell_members_apart": LosesAGene,
    "samples_uniformly": Skewed,
    "keys_count_the_networks": ForgetsTwins,
    "aliases_reach_every_member": LosesRows,
    "first_members_ascend": Downwards,
    "size_is_a_share_of_all_genes": Miscounts,
    "samples_like_rejection": Skewed,
}

# ---------------------------------------------------------------------------- objectives


def full(objective, space, n=0):
    """A query for a random architecture, trained as long as the protocol allows."""
    return Query(space.sample(Random(n)), objective.protocol.fidelities[-1])


def same_question_same_answer(objective, space):
    asks = [(full(objective, space, n), 1 + n % 7) for n in range(50)]
    answers = [objective.evaluate(query, noise, 0) for query, noise in asks]
    backwards = [objective.evaluate(query, noise, 0) for query, noise in reversed(asks)]
    assert answers == backwards[::-1]


def tells_no_reported_metric(objective, space):
    query = full(objective, space)
    visible = set(objective.evaluate(query, 0, 0).metrics)
    assert not visible & {*objective.report([query.architecture])}
    assert not [name for name in visible if "test" in name or name.endswith(("_error", "_loss"))]


def answers_are_sane(objective, space):
    for n in range(50):
        error, seconds, _, status, gpu = objective.evaluate(full(objective, space, n), n, 0)
        assert 0 <= error <= (np.inf if objective.protocol.metric.endswith("_loss") else 1)
        assert 0 < seconds < float("inf") if objective.timed else seconds == 0
        assert 0 <= gpu < float("inf") if objective.holds_gpu else gpu == 0
        assert status == "ok"


def resumed_training_costs_the_rest(objective, space):
    query = full(objective, space)
    whole = objective.evaluate(query, 0, 0)
    half = objective.evaluate(query, 0, query.fidelity / 2)
    assert half.error == whole.error
    assert half.seconds == pytest.approx(whole.seconds / 2, rel=1e-12)


def strangers_are_refused(objective, space):
    arch, epochs = full(objective, space)
    for query in Query((99,) * len(space.choices), epochs), Query(arch, epochs + 7):
        with pytest.raises(LookupError):
            objective.evaluate(query, 0, 0)


def report_is_not_below_the_optimum(objective, space):
    architectures = [space.sample(Random(n)) for n in range(50)]
    for name, values in objective.report(architectures).items():
        assert values.shape == (50,)
        assert (values >= objective.optimum.get(name, -np.inf)).all()  # known or not


def equal_after_pickling(objective, space):
    query = full(objective, space)
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
        return super().evaluate(full(self, self.space), noise, trained)


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
