from random import Random

import numpy as np
import pytest
from contracts import Toy, run
from objectives import Additive, AlwaysFails
from scipy.stats import norm

from bench.search import Evaluation, Query, Trial
from spaces.nb201.space import NB201
from strategies.bayesian_optimisation import BayesianOptimisation

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


@pytest.mark.parametrize("option", [{"initial": 0}, {"length": 0}, {"noise": 0}, {"noise": -1}])
def test_options_are_checked(option):
    with pytest.raises(ValueError, match=r"initial is .*; allowed: initial from 1, length and noi"):
        BayesianOptimisation(Toy(), Random(0), (3,), **option)
