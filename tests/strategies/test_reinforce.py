import sys
from functools import partial
from random import Random

import numpy as np
import pytest
from contracts import Ascending, Ruled, Toy, assert_proportions, run
from objectives import Additive

from bench.search import Evaluation, Query, Trial
from spaces.nb201.space import NB201
from strategies.reinforce import Reinforce

TRIALS = [((2, 0, 1), 0.30), ((0, 3, 1), 0.10), ((2, 0, 1), 0.55), ((1, 1, 0), 1.0)]


def told(strategy, architecture, error):
    strategy.tell(Trial(Query(architecture, 3), Evaluation(error, 1.0), 1, 3, 1.0, 0.0, 0.0))


def log_policy(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def loss(rows, architecture, advantage):
    """What NATS-Bench minimises: minus the log-probability, weighed by the advantage."""
    return -advantage * sum(
        log_policy(row)[gene] for row, gene in zip(rows, architecture, strict=True)
    )


def numerical_gradient(rows, architecture, advantage, step=1e-6):
    found = []
    for row in rows:
        slopes = np.empty_like(row)
        for value in range(len(row)):
            kept = row[value]
            row[value] = kept + step
            above = loss(rows, architecture, advantage)
            row[value] = kept - step
            slopes[value] = (above - loss(rows, architecture, advantage)) / (2 * step)
            row[value] = kept
        found.append(slopes)
    return found


def test_steps_are_adams_on_the_gradient_of_the_loss():
    """Against Adam as Kingma & Ba write it, Algorithm 1, and differences for the gradient."""
    space = Toy()
    strategy = Reinforce(space, Random(0), (3,), learning_rate=0.05, momentum=0.8)
    rows = [strategy.logits[gene, :n].copy() for gene, n in enumerate(space.choices)]
    m, v = [np.zeros_like(row) for row in rows], [np.zeros_like(row) for row in rows]
    numerator = denominator = 0.0
    for step, (architecture, error) in enumerate(TRIALS, 1):
        told(strategy, architecture, error)
        reward = 100 * (1 - error)
        numerator = 0.8 * numerator + 0.2 * reward
        denominator = 0.8 * denominator + 0.2
        gradients = numerical_gradient(rows, architecture, reward - numerator / denominator)
        for gene, gradient in enumerate(gradients):
            m[gene] = 0.9 * m[gene] + 0.1 * gradient
            v[gene] = 0.999 * v[gene] + 0.001 * gradient**2
            m_hat, v_hat = m[gene] / (1 - 0.9**step), v[gene] / (1 - 0.999**step)
            rows[gene] -= 0.05 * m_hat / (np.sqrt(v_hat) + 1e-8)
        for gene, n in enumerate(space.choices):
            np.testing.assert_allclose(strategy.logits[gene, :n], rows[gene], atol=1e-7)
            assert np.isneginf(strategy.logits[gene, n:]).all()


def test_steps_are_torchs():
    torch = pytest.importorskip("torch")
    space = Toy()
    strategy = Reinforce(space, Random(0), (3,), learning_rate=0.05)
    rows = [
        torch.tensor(strategy.logits[gene, :n], requires_grad=True)
        for gene, n in enumerate(space.choices)
    ]
    adam = torch.optim.Adam(rows, lr=0.05)
    numerator = denominator = 0.0
    for architecture, error in TRIALS:
        told(strategy, architecture, error)
        reward = 100 * (1 - error)
        numerator, denominator = 0.9 * numerator + 0.1 * reward, 0.9 * denominator + 0.1
        log_probability = sum(
            torch.log_softmax(row, 0)[gene] for row, gene in zip(rows, architecture, strict=True)
        )
        adam.zero_grad()
        (-log_probability * (reward - numerator / denominator)).backward()
        adam.step()
        for gene, row in enumerate(rows):
            found = strategy.logits[gene, : len(row)]
            np.testing.assert_allclose(found, row.detach().numpy(), atol=1e-12)
    assert "torch" in sys.modules


def test_the_policy_is_what_is_drawn():
    strategy = Reinforce(Toy(), Random(0), (3,))
    strategy.logits[1] = np.log([0.1, 0.2, 0.3, 0.4])
    drawn = [strategy.ask().architecture[1] for _ in range(8000)]
    assert_proportions(np.bincount(drawn, minlength=4), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(strategy.policy().sum(1), 1)
    assert (strategy.policy()[0, 3:] == 0).all()  # a value that this gene does not have


def test_the_first_trial_teaches_nothing():
    """It is its own baseline, as the start-up bias is divided out."""
    strategy = Reinforce(Toy(), Random(0), (3,))
    before = strategy.logits.copy()
    told(strategy, (0, 0, 0), 0.2)
    np.testing.assert_allclose(strategy.logits, before, atol=1e-12)


def test_better_than_the_baseline_becomes_likelier():
    strategy = Reinforce(Toy(), Random(0), (3,))
    told(strategy, (0, 0, 0), 0.5)
    before = strategy.policy()
    told(strategy, (1, 1, 1), 0.1)
    after = strategy.policy()
    assert (after[range(3), (1, 1, 1)] > before[range(3), (1, 1, 1)]).all()


def probability(policy, architecture):
    return np.prod([row[gene] for row, gene in zip(policy, architecture, strict=True)])


def test_in_a_space_with_rules_the_policy_is_what_is_drawn_among_members():
    strategy = Reinforce(Ruled(), Random(0), (3,))
    strategy.logits[1] = np.log([0.1, 0.2, 0.3, 0.4])
    drawn = [strategy.ask().architecture for _ in range(8000)]
    members = list(Ruled())
    law = [probability(strategy.policy(), arch) for arch in members]
    assert_proportions([drawn.count(arch) for arch in members], law)


def test_where_the_policy_finds_no_member_the_space_draws():
    strategy = Reinforce(Ruled(), Random(0), (3,))
    strategy.logits[1, :4], strategy.logits[2, :2] = [0, -99, -99, -99], [-99, 0]  # forbidden
    drawn = [strategy.ask().architecture for _ in range(400)]
    assert_proportions([drawn.count(arch) for arch in Ruled()], np.ones(18))


def test_where_hardly_any_draw_is_a_member_it_learns_all_the_same():
    trials = run(partial(Reinforce, learning_rate=0.05), Ascending(), limit=600)
    errors = [trial.evaluation.error for trial in trials]
    assert np.mean(errors[-100:]) < np.mean(errors[:100]) - 0.1


def test_following_p_alone_follows_the_mean_reward_of_members():
    """With the mean reward as baseline: the claim of the class's docstring, by differences."""
    space, rng = Ruled(), np.random.default_rng(0)
    strategy = Reinforce(space, Random(0), (3,))
    members = list(space)
    rewards = rng.normal(size=len(members))
    inside = np.isfinite(strategy.logits)
    logits = np.where(inside, rng.normal(size=inside.shape), -np.inf)

    def law():
        weights = np.array([probability(strategy.policy(), arch) for arch in members])
        return weights / weights.sum()

    strategy.logits = logits.copy()
    baseline = law() @ rewards
    followed = np.zeros_like(logits)
    for share, reward, arch in zip(law(), rewards, members, strict=True):
        toward = -strategy.policy()
        toward[range(3), arch] += 1
        followed += share * (reward - baseline) * toward
    for place in zip(*np.nonzero(inside), strict=True):
        ends = []
        for step in (1e-6, -1e-6):
            strategy.logits = logits.copy()
            strategy.logits[place] += step
            ends.append(law() @ rewards)
        assert followed[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


def test_it_climbs():
    trials = run(Reinforce, NB201(), limit=1500)
    errors = [trial.evaluation.error for trial in trials]
    assert np.mean(errors[-100:]) < np.mean(errors[:100]) - 0.15
    assert np.mean(errors[-100:]) < Additive(NB201()).optimum["valid_error"] + 0.1


@pytest.mark.parametrize(
    "option", [{"learning_rate": 0}, {"learning_rate": -1}, {"momentum": 1}, {"momentum": -0.1}]
)
def test_options_are_checked(option):
    with pytest.raises(ValueError, match=r"learning_rate is .* and momentum .*; allowed: above 0"):
        Reinforce(Toy(), Random(0), (3,), **option)
