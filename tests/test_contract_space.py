from random import Random

import contracts
import pytest
from contracts import BAD_SPACES, Toy
from hypothesis import given
from hypothesis import strategies as st

name = {"ids": lambda promise: promise.__name__}
every_promise = pytest.mark.parametrize("promise", contracts.SPACE, **name)
every_whole_promise = pytest.mark.parametrize("promise", contracts.WHOLE_SPACE, **name)


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
    promise(space)


@every_whole_promise
def test_broken_by_the_whole_is_seen(promise):
    with pytest.raises(AssertionError):
        promise(BAD_SPACES[promise.__name__]())


@pytest.mark.parametrize("promise", contracts.WHOLE_SPACE, **name)
def test_the_culprits_spoil_a_space_that_keeps_its_promises(promise):
    promise(Toy())
