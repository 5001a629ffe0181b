"""Every table that ships, on each of its data sets, by the protocol of its benchmark."""

import contracts
import pytest
from conftest import CONF, build
from contracts import BAD_OBJECTIVES

from bench.table import TableObjective, read_table
from spaces.nb201.space import NB201

every_promise = pytest.mark.parametrize("promise", contracts.OBJECTIVE, ids=lambda f: f.__name__)
SPACE, PROTOCOL = NB201(), build(CONF / "protocol/nb201.yaml")
TABLES = {path.stem: read_table(path) for path in CONF.parent.glob("spaces/*/tables/*.h5")}
PROTOCOLS = {"nb_graph_proteins": "nb_graph"}  # those not called like their table
SHIPPED = sorted({(name, dataset) for name in TABLES for dataset, _ in TABLES[name].schedules})


@pytest.fixture(scope="module", params=SHIPPED, ids="-".join)
def shipped(request):
    name, dataset = request.param
    space = build(CONF / f"space/{TABLES[name].provenance['space']}.yaml")
    protocol = build(CONF / f"protocol/{PROTOCOLS.get(name, name)}.yaml")
    return TableObjective(space, dataset, protocol, table=name), space


def test_the_table_of_the_quickstart_is_among_those_tested():
    assert [pair for pair in SHIPPED if pair[0] == "nb201"] == [
        ("nb201", "ImageNet16-120"),
        ("nb201", "cifar10"),
        ("nb201", "cifar100"),
    ]


@every_promise
def test_kept(promise, shipped):
    promise(*shipped)


@every_promise
def test_broken_is_seen(promise):
    culprit = BAD_OBJECTIVES[promise.__name__](SPACE, "cifar10", PROTOCOL)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        promise(culprit, SPACE)
