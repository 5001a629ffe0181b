"""Multilayer perceptrons: the space and its networks."""

from functools import partial

import pytest

from spaces.mlp.space import ABSENT, MLP, MOST, WIDTHS

SPACE = MLP()
PERCEPTRON = (2, 2, ABSENT, ABSENT)  # 100-100


def test_members():
    assert SPACE.size == sum(1 for _ in SPACE) == 1 + 4 + 16 + 64 + 256
    assert SPACE.contains((ABSENT,) * MOST)
    assert not SPACE.contains((ABSENT, 0, ABSENT, ABSENT))


@pytest.mark.parametrize(("text", "arch"), [("linear", (ABSENT,) * MOST), ("100-100", PERCEPTRON)])
def test_strings(text, arch):
    assert SPACE.to_string(arch) == text
    assert SPACE.from_string(text) == arch


@pytest.mark.parametrize("text", ["", "100-", "30", "25-25-25-25-25", "Linear", "linear-25"])
def test_strange_strings_are_refused(text):
    with pytest.raises(ValueError, match="allowed: linear, or up to 4 widths of 25, 50, 100, 200"):
        SPACE.from_string(text)


def test_a_network_without_layers_gains_one():
    near = set(SPACE.neighbours((ABSENT,) * MOST))
    assert near == {(gene, ABSENT, ABSENT, ABSENT) for gene in range(len(WIDTHS))}


def test_genes_are_called_what_they_are():
    labels = SPACE.labels()
    assert [name for name, _ in labels] == [f"layer {layer}" for layer in range(1, MOST + 1)]
    assert labels[0][1] == ["width 25", "width 50", "width 100", "width 200", "absent"]
    assert labels[0] == ("layer 1", labels[3][1])


def test_a_drawing_has_a_node_a_layer():
    assert SPACE.graph((ABSENT,) * MOST) == [("input", "output", "")]
    assert SPACE.graph(SPACE.from_string("50-200")) == [
        ("input", "width 50#0", ""),
        ("width 50#0", "width 200#1", ""),
        ("width 200#1", "output", ""),
    ]


@pytest.mark.parametrize(("text", "published"), [("linear", 410), ("100-100", 15_210)])
def test_the_baselines_of_mnist1d_have_their_published_parameters(text, published):
    """notebooks/models.py, greydanus/mnist1d@579085a: LinearBase and MLPBase."""
    torch = pytest.importorskip("torch")
    from bench.training.cost import multiply_adds, parameters
    from spaces.mlp.network import build

    make = partial(build, SPACE, SPACE.from_string(text), (1, 40), 10)
    assert parameters(make()) == published
    hidden = sum(isinstance(layer, torch.nn.ReLU) for layer in make().modules())
    assert parameters(make()) - multiply_adds(make, (1, 40)) == 10 + 100 * hidden  # biases


def test_a_network_by_hand():
    torch = pytest.importorskip("torch")
    from spaces.mlp.network import build

    network = build(SPACE, (0, ABSENT, ABSENT, ABSENT), (2, 3, 4), 5)
    first, last = (layer for layer in network if isinstance(layer, torch.nn.Linear))
    x = torch.randn(7, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    hidden = torch.relu(x.reshape(7, 24) @ first.weight.T + first.bias)
    torch.testing.assert_close(network(x), hidden @ last.weight.T + last.bias)
