from random import Random

import numpy as np
import pytest
from contracts import Ascending, Toy, Twins, run
from objectives import Additive, AlwaysFails
from scipy.stats import norm

from bench.search import Evaluation, Query, Trial
from spaces.nb201.space import NB201
from strategies.bayesian_optimisation import CHILDREN, PARENTS, BayesianOptimisation

LENGTH, NOISE = 0.4, 0.02


def told(strategy, architecture, error):
    strategy.tell(Trial(Query(architecture, 3), Evaluation(error, 1.0), 1, 3, 1.0, 0.0, 0.0))


def covariance(some, others):
    share = (some[:, None] != others[None]).mean(-1)
    return np.exp(-share / LENGTH)


def dense_posterior(observed, log_errors, members):
    """Rasmussen & Williams (2006), eqs. 2.23-2.24, mean and scale by maximum likelihood."""
    inverse = np.linalg.inv(covariance(observed, observed) + NOISE * np.eye(len(observed)))
    ones = np.ones(len(observed))
    mean = ones @ inverse @ log_errors / (ones @ inverse @ ones)
    residual = log_errors - mean
    scale = residual @ inverse @ residual / len(observed)
    cross = covariance(members, observed)
    fit = mean + cross @ inverse @ residual
    variance = 1 - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    return fit, variance, scale


@pytest.fixture(params=["toy", "nb201"])
def fitted(request):
    space = Toy() if request.param == "toy" else NB201()
    strategy = BayesianOptimisation(space, Random(0), (3,), length=LENGTH, noise=NOISE, initial=3)
    objective, rng = Additive(space), Random(1)
    observed = [space.sample(rng) for _ in range(40)]  # on the toy, many of them repeated
    for arch in observed:
        told(strategy, arch, objective.error(arch))
    log_errors = np.log([objective.error(arch) for arch in observed])
    return strategy, np.array(observed), log_errors


def test_the_posterior_is_the_dense_one(fitted):
    strategy, observed, log_errors = fitted
    fit, variance, _ = dense_posterior(observed, log_errors, strategy.members)
    mean = strategy.errors @ strategy.ones / (strategy.ones @ strategy.ones)
    found = mean + strategy.error_fit - mean * strategy.one_fit
    np.testing.assert_allclose(found, fit, rtol=0, atol=1e-8)
    np.testing.assert_allclose(strategy.variance, variance, rtol=0, atol=1e-8)


def test_expected_improvement_is_that_of_the_dense_posterior(fitted):
    strategy, observed, log_errors = fitted
    fit, variance, scale = dense_posterior(observed, log_errors, strategy.members)
    seats = [strategy.members.tolist().index(list(arch)) for arch in observed.tolist()]
    deviation = np.sqrt(variance * scale)
    below = fit[seats].min() - fit
    gain = below * norm.cdf(below / deviation) + deviation * norm.pdf(below / deviation)
    np.testing.assert_allclose(strategy.expected_improvement(), gain, rtol=0, atol=1e-8)
    best = gain[strategy.unseen].max(initial=-1)
    if best > 0:
        chosen = strategy.members.tolist().index(list(strategy.ask().architecture))
        assert gain[chosen] == pytest.approx(best, rel=1e-6)


def test_ask_does_not_learn(fitted):
    strategy, *_ = fitted
    before = strategy.expected_improvement()
    for _ in range(3):
        strategy.ask()
    np.testing.assert_array_equal(strategy.expected_improvement(), before)


def test_no_architecture_is_asked_twice_until_all_were():
    asked = [trial.query.architecture for trial in run(BayesianOptimisation, Toy(), limit=60)]
    fresh = asked[10:]
    unseen = len(set(Toy()) - set(asked[:10]))
    assert len(set(fresh[:unseen])) == unseen
    assert not set(fresh[:unseen]) & set(asked[:10])
    assert all(Toy().contains(arch) for arch in asked)


def test_open_asks_differ():
    strategy = BayesianOptimisation(NB201(), Random(0), (3,), initial=2)
    for arch in ((0,) * 6, (3,) * 6):
        told(strategy, arch, Additive(NB201()).error(arch))
    assert len({strategy.ask().architecture for _ in range(10)}) == 10


def test_the_first_are_random():
    strategy = BayesianOptimisation(NB201(), Random(7), (3,), initial=4)
    rng = Random(7)
    for _ in range(4):
        query = strategy.ask()
        assert query.architecture == NB201().sample(rng)
        told(strategy, query.architecture, 0.5)


def test_it_reaches_the_optimum_of_an_additive_objective():
    trials = run(BayesianOptimisation, NB201(), limit=150)
    errors = [trial.evaluation.error for trial in trials]
    assert min(errors) < Additive(NB201()).optimum["valid_error"] + 0.02


def test_equal_errors_are_no_division_by_zero():
    trials = run(BayesianOptimisation, Toy(), limit=40, objective=AlwaysFails)
    assert len(trials) == 40


def test_an_error_of_zero_has_a_logarithm():
    strategy = BayesianOptimisation(Toy(), Random(0), (3,), initial=1)
    told(strategy, (0, 0, 0), 0.0)
    told(strategy, (1, 1, 1), 0.5)
    assert np.isfinite(strategy.expected_improvement()).all()
    assert Toy().contains(strategy.ask().architecture)


def grown(space, pool=50, trials=60, initial=5):
    """A strategy that was told of its own queries, and these with their log errors."""
    strategy = BayesianOptimisation(
        space, Random(0), (3,), length=LENGTH, noise=NOISE, initial=initial, pool=pool
    )
    objective, asked = Additive(space), []
    for _ in range(trials):
        asked.append(strategy.ask().architecture)
        told(strategy, asked[-1], objective.error(asked[-1]))
    return strategy, asked, np.log([objective.error(arch) for arch in asked])


def test_the_posterior_of_candidates_that_came_later_is_the_dense_one():
    strategy, asked, log_errors = grown(Ascending())
    assert len(strategy.members) > 100
    fit, variance, _ = dense_posterior(np.array(asked), log_errors, strategy.members)
    mean = strategy.errors @ strategy.ones / (strategy.ones @ strategy.ones)
    found = mean + strategy.error_fit - mean * strategy.one_fit
    np.testing.assert_allclose(found, fit, rtol=0, atol=1e-8)
    np.testing.assert_allclose(strategy.variance, variance, rtol=0, atol=1e-8)


def test_candidates_are_random_members_and_neighbours_of_the_best():
    space = Ascending()
    strategy, asked, log_errors = grown(space, pool=20, trials=PARENTS + 1, initial=99)
    *parents, _ = np.argsort(log_errors, kind="stable").tolist()
    rng = Random(0)
    expected = {space.sample(rng) for _ in range(20)} | set(asked)
    expected |= {near for parent in parents for near in space.neighbours(asked[parent])}
    found = set(map(tuple, strategy.members.tolist()))
    best_first = log_errors[-1] > log_errors[:-1].max()
    assert expected <= found
    assert (expected == found) == best_first  # else one more was among the best for a while


def test_of_many_neighbours_a_random_hundred_become_candidates():
    strategy = BayesianOptimisation(Crowded(), Random(0), (3,), pool=1)
    told(strategy, (0,) * 4, 0.5)
    near = set(Crowded().neighbours((0,) * 4))
    found = set(map(tuple, strategy.members.tolist())) & near
    assert len(near) > CHILDREN
    assert CHILDREN <= len(found) <= CHILDREN + 1  # the random candidate may be one


def test_encodings_of_one_network_are_one_candidate():
    space = Twins()
    trials = run(BayesianOptimisation, space, limit=60)
    keys = [space.key(trial.query.architecture) for trial in trials]
    fresh = keys[10:]
    unseen = space.networks - len(set(keys[:10]))
    assert len(set(fresh[:unseen])) == unseen
    strategy = BayesianOptimisation(space, Random(0), (3,))
    assert len(strategy.members) == space.networks
    told(strategy, (0, 3, 1), 0.5)  # a twin of (0, 3, 0)
    assert len(strategy.members) == space.networks
    assert not strategy.unseen[strategy.seats[space.key((0, 3, 0))]]


def test_runs_share_nothing_of_the_list_of_members():
    space = Toy()
    one, other = (BayesianOptimisation(space, Random(0), (3,)) for _ in range(2))
    told(one, (0, 0, 0), 0.5)
    assert other.seats == {space.key(arch): row for row, arch in enumerate(space)}
    assert other.unseen.all()


class Crowded(Toy):
    choices = (40,) * 4


class Wide(Toy):
    choices = (6,) * 20


def test_where_members_cannot_be_listed_it_goes_beyond_its_random_candidates():
    trials = run(BayesianOptimisation, Wide(), limit=150)
    rng, objective = Random(0), Additive(Wide())
    best = min(objective.error(Wide().sample(rng)) for _ in range(20_000))
    assert min(trial.evaluation.error for trial in trials) < best


@pytest.mark.parametrize(
    "option", [{"initial": 0}, {"pool": 0}, {"length": 0}, {"noise": 0}, {"noise": -1}]
)
def test_options_are_checked(option):
    with pytest.raises(
        ValueError, match=r"initial is .*; allowed: initial and pool from 1, length"
    ):
        BayesianOptimisation(Toy(), Random(0), (3,), **option)
