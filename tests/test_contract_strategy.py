"""Every strategy on every space.

In full on NAS-Bench-201 and on small made-up spaces; on the others with small populations and
short runs. The promise that starts a process is kept by every strategy on one space and on every
space by one strategy, and in the slow tests by all on all.
"""

import contracts
import pytest
from conftest import CONF, build
from contracts import BAD_STRATEGIES, BRIEF, Ascending, Ruled, Toy, brisk, equal_in_another_process

from spaces.nb201.space import NB201

name = {"ids": lambda promise: promise.__name__}
IN_PROCESS = [f for f in contracts.STRATEGY if f is not equal_in_another_process]
every_promise = pytest.mark.parametrize("promise", contracts.STRATEGY, **name)
every_promise_in_process = pytest.mark.parametrize("promise", IN_PROCESS, **name)


@every_promise
def test_kept(promise, strategy):
    promise(strategy, NB201())


@every_promise_in_process
def test_kept_on_every_space(promise, strategy, space):
    promise(brisk(strategy), space, BRIEF)


def test_every_space_is_equal_in_another_process(space):
    strategy = build(CONF / "strategy/regularized_evolution.yaml")
    equal_in_another_process(brisk(strategy), space, BRIEF)


@pytest.mark.slow
def test_every_strategy_on_every_space_is_equal_in_another_process(strategy, space):
    equal_in_another_process(strategy, space)


@every_promise_in_process
@pytest.mark.parametrize("kind", [Toy, Ruled])
def test_kept_where_a_run_sees_every_member_several_times(promise, strategy, kind):
    promise(strategy, kind())


@every_promise_in_process
def test_kept_where_members_are_few_among_the_genes(promise, strategy):
    promise(brisk(strategy), Ascending(), BRIEF)


@every_promise
def test_broken_is_seen(promise):
    with pytest.raises(AssertionError):
        promise(BAD_STRATEGIES[promise.__name__], NB201())


def test_a_culprit_for_every_promise():
    assert list(BAD_STRATEGIES) == [promise.__name__ for promise in contracts.STRATEGY]
