from random import Random

import contracts
import pytest
from contracts import BAD_SPACES, Ascending, Mirrored, Ruled, Toy, Twins
from hypothesis import given
from hypothesis import strategies as st

name = {"ids": lambda promise: promise.__name__}
every_promise = pytest.mark.parametrize("promise", contracts.SPACE, **name)
every_whole_promise = pytest.mark.parametrize("promise", contracts.WHOLE_SPACE, **name)
every_promise_at_any_size = pytest.mark.parametrize("promise", contracts.ANY_SIZE, **name)


@every_promise
@given(seed=st.integers(0, 2**32))
def test_kept(promise, space, seed):
    promise(space, Random(seed))


@every_promise
def test_broken_is_seen(promise):
    culprit = BAD_SPACES[promise.__name__]()

    def broken(seed):
        try:
            promise(culprit, Random(seed))
        except AssertionError:
            return True
        return False

    assert any(map(broken, range(20)))


@every_whole_promise
def test_kept_by_the_whole(promise, space):
    if space.size > contracts.WHOLE:
        pytest.skip(f"{space.name} has {space.size:.3g} members; listed are {contracts.WHOLE:,}")
    promise(space)


@every_promise_at_any_size
def test_kept_at_any_size(promise, space):
    promise(space)


@pytest.mark.parametrize("promise", contracts.WHOLE_SPACE + contracts.ANY_SIZE, **name)
def test_broken_by_the_whole_is_seen(promise):
    with pytest.raises(AssertionError):
        promise(BAD_SPACES[promise.__name__]())


@pytest.mark.parametrize("kind", [Toy, Ruled, Twins])
@pytest.mark.parametrize("promise", contracts.WHOLE_SPACE + contracts.ANY_SIZE, **name)
def test_the_culprits_spoil_spaces_that_keep_their_promises(promise, kind):
    promise(kind())


@every_promise
@pytest.mark.parametrize("kind", [Toy, Ruled, Twins, Mirrored, Ascending])
def test_kept_by_spaces_with_rules_and_twins(promise, kind):
    for seed in range(20):
        promise(kind(), Random(seed))


def test_a_culprit_for_every_promise():
    promises = contracts.SPACE + contracts.WHOLE_SPACE + contracts.ANY_SIZE
    assert list(BAD_SPACES) == [promise.__name__ for promise in promises]
