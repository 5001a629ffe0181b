import contracts
import pytest
from conftest import CONF, build
from contracts import BAD_OBJECTIVES

from bench.table import TableObjective
from spaces.nb201.space import NB201

every_promise = pytest.mark.parametrize("promise", contracts.OBJECTIVE, ids=lambda f: f.__name__)
SPACE, PROTOCOL = NB201(), build(CONF / "protocol/nb201.yaml")


@pytest.fixture(scope="module", params=["cifar10", "cifar100", "ImageNet16-120"])
def dataset(request):
    return request.param


def test_every_dataset_is_tested():
    named = {build(path)["name"] for path in CONF.glob("dataset/*.yaml")}
    assert named == {"cifar10", "cifar100", "ImageNet16-120"}


@every_promise
def test_kept(promise, dataset):
    promise(TableObjective(SPACE, dataset, PROTOCOL), SPACE)


@every_promise
def test_broken_is_seen(promise):
    culprit = BAD_OBJECTIVES[promise.__name__](SPACE, "cifar10", PROTOCOL)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        promise(culprit, SPACE)
