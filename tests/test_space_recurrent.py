"""Recurrent networks: the space, and the networks it means."""

import pytest

from spaces.recurrent.space import Recurrent

SPACE = Recurrent()
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def test_size():
    assert SPACE.size == 72 == len(list(SPACE)) == 3 * 3 * 2 * 2 * 2


def test_strings():
    assert SPACE.to_string((1, 1, 0, 1, 0)) == "gru-64-1-both-last"
    assert SPACE.from_string("lstm-128-2-forward-attention") == (2, 2, 1, 0, 1)


@pytest.mark.parametrize(
    "text", ["", "gru", "gru-64-1-both", "gru-64-1-both-last-last", "x-64-1-both-last"]
)
def test_a_text_that_is_no_network(text):
    with pytest.raises(ValueError, match="is no recurrent network; allowed: cell rnn, gru, lstm"):
        SPACE.from_string(text)


def test_genes_are_called_what_they_are():
    labels = SPACE.labels()
    assert [name for name, _ in labels] == ["cell", "units", "layers", "direction", "pooling"]
    assert tuple(len(values) for _, values in labels) == SPACE.choices
    for arch in SPACE:
        words = [values[gene] for (_, values), gene in zip(labels, arch, strict=True)]
        assert "-".join(words) == SPACE.to_string(arch)


def test_a_drawing_has_a_node_a_layer():
    assert SPACE.graph(SPACE.from_string("gru-64-2-both-last")) == [
        ("input", "gru 64, both ways#0", ""),
        ("gru 64, both ways#0", "gru 64, both ways#1", ""),
        ("gru 64, both ways#1", "pooling: last", ""),
        ("pooling: last", "output", ""),
    ]
    assert SPACE.graph(SPACE.from_string("rnn-32-1-forward-attention")) == [
        ("input", "rnn 32#0", ""),
        ("rnn 32#0", "pooling: attention", ""),
        ("pooling: attention", "output", ""),
    ]


def parameters(text, channels, classes):
    """By the formula: input, state and two biases a gate, unit, layer and direction."""
    cell, units, layers, direction, pooling = text.split("-")
    units, ways = int(units), 1 + (direction == "both")
    layer = [channels, *[ways * units] * (int(layers) - 1)]
    counted = sum(ways * GATES[cell] * units * (size + units + 2) for size in layer)
    return counted + (ways * units + 1) * (classes + (pooling == "attention"))


@pytest.fixture(scope="module")
def networks():
    torch = pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.recurrent.network import build

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {SPACE.to_string(arch): build(SPACE, arch, (3, 12), 5).eval() for arch in SPACE}


def test_every_network_runs(networks):
    torch = pytest.importorskip("torch")
    inputs = torch.randn(4, 3, 12)
    for text, network in networks.items():
        assert network(inputs).shape == (4, 5)
        assert sum(some.numel() for some in network.parameters()) == parameters(text, 3, 5)


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("layers", ["1", "2"])
def test_each_direction_pools_where_it_ends(networks, cell, layers):
    """What `last` pools is the final state of the top layer, as torch hands it out."""
    torch = pytest.importorskip("torch")
    inputs = torch.randn(4, 3, 12)
    for direction in "forward", "both":
        network = networks[f"{cell}-32-{layers}-{direction}-last"]
        pooled = []
        handle = network.classify.register_forward_pre_hook(
            lambda _, given, into=pooled: into.append(given[0])
        )
        network(inputs)
        handle.remove()
        _, state = network.recurrent(inputs.transpose(1, 2))
        state = state[0] if cell == "lstm" else state
        ways = 1 + (direction == "both")
        torch.testing.assert_close(pooled[0], torch.cat(list(state[-ways:]), dim=1))


def test_attention_is_a_mean_with_weights_that_sum_to_1(networks):
    torch = pytest.importorskip("torch")
    network = networks["gru-32-1-both-attention"]
    inputs = torch.randn(4, 3, 12)

    class Outputs(torch.nn.Module):
        hidden_size = 32

        def forward(self, x):
            return self.given, None

    original = network.recurrent
    outputs = Outputs()
    try:
        network.recurrent = outputs
        outputs.given = torch.ones(4, 12, 64) * torch.arange(64.0)  # the same at every step
        torch.testing.assert_close(
            network(inputs), network.classify(torch.arange(64.0)).expand(4, 5)
        )
        outputs.given = torch.randn(4, 12, 64)
        weights = torch.exp(network.attention(outputs.given))
        weights = weights / weights.sum(1, keepdim=True)
        pooled = torch.einsum("bt,btu->bu", weights[..., 0], outputs.given)
        torch.testing.assert_close(network(inputs), network.classify(pooled))
    finally:
        network.recurrent = original


@pytest.mark.parametrize(("window", "steps"), [(4, 3), (5, 3), (12, 1)])
def test_a_step_reads_a_window(window, steps):
    """All channels of its positions; zeros beyond the end."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.recurrent.network import build

    network = build(SPACE, SPACE.from_string("gru-32-1-both-last"), (3, 12), 5, window=window)
    given = []
    network.recurrent.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    signals = torch.randn(2, 3, 12)
    assert network(signals).shape == (2, 5)
    wanted = torch.zeros(2, steps, 3 * window)
    for step in range(steps):
        there = signals[:, :, step * window : (step + 1) * window]
        for channel in range(3):
            first = channel * window
            wanted[:, step, first : first + there.shape[2]] = there[:, channel]
    assert torch.equal(given[0], wanted)


@pytest.mark.parametrize("window", [0, 13])
def test_a_window_that_is_none_is_named(window):
    pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.recurrent.network import build

    with pytest.raises(ValueError, match=f"window is {window}; allowed: 1 to 12, the length"):
        build(SPACE, (0,) * 5, (3, 12), 5, window=window)


def test_images_are_refused():
    pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.recurrent.network import build

    with pytest.raises(ValueError, match=r"has shape \[3, 32, 32\]; recurrent networks read sig"):
        build(SPACE, (0,) * 5, (3, 32, 32), 10)
