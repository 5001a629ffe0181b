import contracts
import pytest
from contracts import BAD_STRATEGIES, Toy

every_promise = pytest.mark.parametrize("promise", contracts.STRATEGY, ids=lambda f: f.__name__)
IN_PROCESS = [f for f in contracts.STRATEGY if f is not contracts.equal_in_another_process]


@every_promise
def test_kept(promise, strategy, space):
    promise(strategy, space)


@pytest.mark.parametrize("promise", IN_PROCESS, ids=lambda f: f.__name__)
def test_kept_on_genes_of_unequal_sizes(promise, strategy):
    promise(strategy, Toy())  # so small that a run sees every member several times


@every_promise
def test_broken_is_seen(promise, space):
    with pytest.raises(AssertionError):
        promise(BAD_STRATEGIES[promise.__name__], space)


def test_a_culprit_for_every_promise():
    assert list(BAD_STRATEGIES) == [promise.__name__ for promise in contracts.STRATEGY]
