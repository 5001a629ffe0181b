"""Zero-cost proxies against values made by hand, in numpy, and by the formulas as published."""

import math
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bench.parts import build  # noqa: E402
from bench.training.proxies import (  # noqa: E402
    grad_norm,
    jacov,
    nwot,
    proxies,
    snip,
    synflow,
)
from bench.training.trainer import network_builder  # noqa: E402

NAMES = ["grad_norm", "jacov", "nwot", "snip", "synflow"]
K = 1e-5


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(weights, bias=None):
    weights = torch.tensor(weights, dtype=torch.float32)
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weights)
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


# ---------------------------------------------------------------------------------- synflow


def test_synflow_of_a_chain_is_the_product_of_absolute_weights_once_a_layer():
    chain = nn.Sequential(linear([[2.0]]), nn.ReLU(), linear([[-3.0]]), linear([[0.5]]))
    assert synflow(chain, torch.full((4, 1), -7.0)) == pytest.approx(math.log(3 * 2 * 3 * 0.5))


def test_synflow_of_matrices():
    first, second = drawn(5, 3).numpy(), drawn(2, 5, seed=1).numpy()
    network = nn.Sequential(linear(first), nn.BatchNorm1d(5), nn.ReLU(), linear(second))
    paths = np.ones(2) @ abs(second) @ abs(first) @ np.ones(3)  # each layer cuts every path once
    assert synflow(network, drawn(6, 3)) == pytest.approx(math.log(2 * paths), rel=1e-6)


def test_biases_flow_but_are_not_summed():
    network = nn.Sequential(linear([[2.0]], [-5.0]), linear([[3.0]], [1.0]))
    assert synflow(network, torch.ones(2, 1)) == pytest.approx(math.log(2 * 3 + (2 + 5) * 3))


def test_synflow_has_no_overflow():
    deep = nn.Sequential(*(linear([[1e30]]) for _ in range(6)))
    assert synflow(deep, torch.ones(1, 1)) == pytest.approx(math.log(6) + 180 * math.log(10))


def test_synflow_of_nothing():
    assert math.isnan(synflow(nn.Sequential(linear([[0.0]])), torch.ones(1, 1)))


# ------------------------------------------------------------------------ snip and grad_norm


def by_hand(inputs, labels, first, second):
    """The gradients of the cross-entropy of two linear layers with a ReLU between them."""
    hidden = np.maximum(inputs @ first.T, 0)
    logits = hidden @ second.T
    odds = np.exp(logits - logits.max(1, keepdims=True))
    error = (odds / odds.sum(1, keepdims=True) - np.eye(second.shape[0])[labels]) / len(labels)
    return ((error @ second) * (hidden > 0)).T @ inputs, error.T @ hidden


def test_snip_and_grad_norm_by_hand():
    inputs, labels = drawn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    first, second = drawn(4, 3, seed=1).numpy(), drawn(2, 4, seed=2).numpy()
    network = nn.Sequential(linear(first), nn.ReLU(), linear(second))
    gradients = by_hand(inputs.numpy().astype(float), labels.numpy(), first, second)
    expected = sum(abs(w * g).sum() for w, g in zip((first, second), gradients, strict=True))
    assert snip(network, inputs, labels) == pytest.approx(expected, rel=1e-5)
    norms = sum(np.sqrt((gradient**2).sum()) for gradient in gradients)
    assert grad_norm(network, inputs, labels) == pytest.approx(norms, rel=1e-5)


def test_one_weight_by_hand():
    """Two classes with logits w and 0: the gradient is the sigmoid of w less 1."""
    network = linear([[1.5], [0.0]])
    inputs, labels = torch.ones(1, 1), torch.tensor([0])
    slope = 1 / (1 + math.exp(-1.5)) - 1
    assert snip(network, inputs, labels) == pytest.approx(-1.5 * slope)
    assert grad_norm(network, inputs, labels) == pytest.approx(-slope * math.sqrt(2))


# ------------------------------------------------------------------------------------- jacov


class Cubic(nn.Module):
    """Its gradient is the square of its input."""

    def forward(self, x):
        return x**3 / 3


def published(jacobian):
    """The score as the first version of Mellor et al. (2020) and Abdelfattah et al. write it."""
    values, _ = np.linalg.eig(np.corrcoef(jacobian))
    return -np.sum(np.log(values + K) + 1.0 / (values + K))


def test_jacov_is_the_published_formula():
    inputs = drawn(5, 2, 4)
    expected = published(inputs.numpy().astype(float).reshape(5, 8) ** 2)
    assert jacov(Cubic(), inputs) == pytest.approx(expected, rel=1e-6)


def test_jacov_of_jacobians_that_do_not_and_that_do_correlate():
    apart = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0]])  # their squares have correlation 0
    assert jacov(Cubic(), apart) == pytest.approx(-2 * (math.log(1 + K) + 1 / (1 + K)))
    alike = torch.tensor([[1.0, 2, 3, 4], [2, 4, 6, 8]])
    expected = -(math.log(2 + K) + 1 / (2 + K) + math.log(K) + 1 / K)
    assert jacov(Cubic(), alike) == pytest.approx(expected)


def test_jacov_of_inputs_that_do_not_reach_the_output():
    assert math.isnan(jacov(Cubic(), torch.zeros(3, 4)))


# -------------------------------------------------------------------------------------- nwot

CODES = torch.tensor([[1.0, 1, -1], [1, -1, -1], [-1, 1, 1]])


def test_nwot_of_codes_made_by_hand():
    """The codes agree on 2, 1 and 0 units, so that |K| = |3 2 1; 2 3 0; 1 0 3| = 12."""
    network = nn.Sequential(linear(np.eye(3)), nn.ReLU())
    assert nwot(network, CODES) == pytest.approx(math.log(12))


def test_relus_add_up_and_those_that_lead_nowhere_do_not_count():
    class Branches(nn.Module):
        def __init__(self, counted):
            super().__init__()
            self.one, self.other, self.counted = nn.ReLU(), nn.ReLU(), counted

        def forward(self, x):
            one, other = self.one(x), self.other(-x)
            return one + other if self.counted else one

    assert nwot(Branches(False), CODES) == pytest.approx(math.log(12))
    assert nwot(Branches(True), CODES) == pytest.approx(math.log(12 * 2**3))


def test_nwot_of_codes_that_do_not_differ():
    network = nn.Sequential(linear(np.eye(3)), nn.ReLU())
    assert math.isnan(nwot(network, CODES[[0, 0, 1]]))
    assert math.isnan(nwot(network, drawn(20, 3)))  # more examples than units: K is singular
    assert math.isnan(nwot(linear(np.eye(3)), CODES))


# -------------------------------------------------------------------------------------- all


def small(name, text, inputs, **settings):
    space = build("space", name)
    arch = space.from_string(text)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return partial(network_builder(space), space, arch, inputs, 4, **settings)()


CONVOLUTIONS = (
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|skip_connect~2|"
)
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def test_all_of_them_and_nothing_is_left_behind():
    network = nn.Sequential(
        small("nb201", CONVOLUTIONS, (3, 8, 8), channels=4, cells=1), nn.Dropout()
    )
    network[0].eval()
    inputs, labels = drawn(8, 3, 8, 8), torch.arange(8) % 4
    before = {name: some.clone() for name, some in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    found = proxies(network, inputs, labels)
    assert sorted(found) == NAMES
    assert all(map(math.isfinite, found.values()))
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.rand(1)  # another state of the generator gives the same
    assert proxies(network, inputs, labels) == found
    assert [module.training for module in network.modules()] == modes
    assert all(some.grad is None for some in network.parameters())
    assert not inputs.requires_grad
    assert all(torch.equal(before[name], some) for name, some in network.state_dict().items())


def test_a_cell_that_connects_nothing():
    """Only the linear layer at the end learns, from its bias: there is nothing to score."""
    network = small("nb201", NOTHING, (3, 8, 8), channels=4, cells=1)
    found = proxies(network, drawn(8, 3, 8, 8), torch.arange(8) % 4)
    assert [name for name in NAMES if math.isnan(found[name])] == ["jacov", "nwot", "synflow"]
    assert (found["snip"], found["grad_norm"]) == (0, 0)


@pytest.mark.parametrize(
    ("name", "text", "inputs"),
    [
        ("chain", "3-5", (1, 40)),
        ("recurrent", "lstm-32-1-both-attention", (1, 12)),
        ("mlp", "50-25", (1, 40)),
    ],
)
def test_networks_over_signals(name, text, inputs):
    network = small(name, text, inputs)
    found = proxies(network, drawn(8, *inputs), torch.arange(8) % 4)
    without = {"nwot"} if name == "recurrent" else set()  # it has no ReLUs
    assert {key for key, value in found.items() if math.isnan(value)} == without


def test_batch_norm_uses_the_minibatch():
    """What a network has seen before does not matter."""
    network = small("chain", "3-5", (1, 40))
    inputs, labels = drawn(8, 1, 40), torch.arange(8) % 4
    found = proxies(network, inputs, labels)
    network(100 + drawn(8, 1, 40))
    assert proxies(network, inputs, labels) == found
