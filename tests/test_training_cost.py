"""Costs of networks against counts made by hand."""

from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bench.parts import build  # noqa: E402
from bench.training import cost  # noqa: E402
from bench.training.trainer import network_builder  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_parameters_are_those_that_are_trained():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    assert cost.parameters(network) == 3 * 4 + 4 + 2 * 4 + 4 * 2
    network[0].weight.requires_grad = False
    assert cost.parameters(network) == 4 + 2 * 4 + 4 * 2


@pytest.mark.parametrize(
    ("make", "inputs", "expected"),
    [
        (lambda: nn.Linear(7, 5), (7,), 7 * 5),
        (lambda: nn.Conv2d(3, 16, 3), (3, 32, 32), 388_800),  # 3·16·9 at 30·30 places
        (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 6, 6), 8 * 9 * 36),
        (lambda: nn.Conv1d(1, 4, 5, stride=2, padding=2), (1, 40), 4 * 5 * 20),
        (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.AvgPool2d(2), nn.ReLU()), (4, 8, 8), 0),
    ],
)
def test_multiply_adds_of_layers(make, inputs, expected):
    assert cost.multiply_adds(make, inputs) == expected


@pytest.mark.parametrize(
    ("name", "gates", "ways"),
    [("rnn-32-1-forward-last", 1, 1), ("gru-32-1-both-last", 3, 2), ("lstm-32-1-both-last", 4, 2)],
)
def test_multiply_adds_of_recurrent_networks(name, gates, ways):
    space = build("space", "recurrent")
    make = partial(network_builder(space), space, space.from_string(name), (1, 40), 10)
    expected = 40 * ways * gates * (32 * 1 + 32 * 32) + ways * 32 * 10
    assert cost.multiply_adds(make, (1, 40)) == expected


def test_multiply_adds_of_a_chain():
    space = build("space", "chain")
    make = partial(network_builder(space), space, space.from_string("3-5"), (1, 40), 10)
    assert cost.multiply_adds(make, (1, 40)) == 16 * 3 * 38 + 16 * 16 * 5 * 34 + 16 * 10


def test_counting_draws_nothing_at_random():
    before = torch.get_rng_state()
    cost.multiply_adds(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout()), (3,))
    assert torch.equal(torch.get_rng_state(), before)


def test_latency_is_measured_in_evaluation_and_leaves_the_network_as_it_was():
    network = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout())
    network[1].eval()
    seen = []
    network[2].register_forward_hook(lambda module, _, output: seen.append(module.training))
    before = {name: some.clone() for name, some in network.state_dict().items()}
    assert 0 < cost.latency(network, torch.ones(4, 8), repeats=3, warm_up=2) < 1
    assert seen == [False] * 5
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(before[name], some) for name, some in network.state_dict().items())


def test_a_larger_network_takes_longer():
    """A thousand times the work, so that no load of the machine can hide it."""
    small, large = nn.Linear(32, 32), nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(4)))
    assert cost.latency(small, torch.ones(1, 32)) < cost.latency(large, torch.ones(64, 1024))


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"warm_up": -1}])
def test_a_measurement_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="allowed: 1 and more, 0 and more"):
        cost.latency(nn.Linear(2, 2), torch.ones(1, 2), **wrong)
