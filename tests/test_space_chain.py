"""Chain CNNs: the space, and the networks it means."""

from collections import Counter

import pytest

from spaces.chain.space import KERNELS, Chain, kernels

SPACE = Chain()


def test_size():
    """4² + 4³ + 4⁴ + 4⁵ chains of 2 to 5 layers with one of 4 kernels each."""
    assert SPACE.size == 1_360 == len(list(SPACE))
    depths = Counter(len(kernels(arch)) for arch in SPACE)
    assert depths == {2: 16, 3: 64, 4: 256, 5: 1024}


def test_strings():
    assert SPACE.to_string((0, 2, 1, 4, 4)) == "3-5-4"
    assert SPACE.from_string("3-5-4") == (0, 2, 1, 4, 4)
    assert SPACE.from_string("6-6-6-6-6") == (3,) * 5


@pytest.mark.parametrize("text", ["", "3", "3-3-3-3-3-3", "3-7", "3-x", "3--3", "3-5-", " 3-5"])
def test_a_text_that_is_no_chain(text):
    with pytest.raises(ValueError, match="is no chain; allowed: 2 to 5 kernels of 3, 4, 5, 6"):
        SPACE.from_string(text)


def test_layers_are_absent_from_the_end():
    assert not SPACE.contains((0, 0, 4, 0, 4))
    assert not SPACE.contains((0, 4, 4, 4, 4))
    assert SPACE.contains((0, 0, 4, 4, 4))


def test_neighbours_by_hand():
    """Two kernels with three others each, and a third layer of any kernel."""
    near = sorted(map(SPACE.to_string, SPACE.neighbours(SPACE.from_string("3-5"))))
    assert near == ["3-3", "3-4", "3-5-3", "3-5-4", "3-5-5", "3-5-6", "3-6", "4-5", "5-5", "6-5"]
    assert len(list(SPACE.neighbours((0,) * 5))) == 5 * 3 + 1


def parameters(arch, shape, classes, width):
    """By the formula: weights, two numbers of a norm a channel; and the linear layer."""
    chosen = kernels(arch)
    sizes = [kernel ** (len(shape) - 1) for kernel in chosen]
    weights = shape[0] * width * sizes[0] + width * width * sum(sizes[1:])
    return weights + 2 * width * len(chosen) + (width + 1) * classes


def test_every_chain_runs_on_signals():
    torch = pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.chain.network import build

    inputs = torch.randn(2, 1, 40)
    for arch in SPACE:
        network = build(SPACE, arch, (1, 40), 10, width=4)
        assert network(inputs).shape == (2, 10)
        counted = sum(some.numel() for some in network.parameters())
        assert counted == parameters(arch, (1, 40), 10, 4)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (1, 5, 9), (2, 46)])
def test_some_chains_run_on_other_shapes(shape):
    torch = pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.chain.network import build

    for arch in list(SPACE)[::97]:
        network = build(SPACE, arch, shape, 7, width=8, strided=1)
        assert network(torch.randn(2, *shape)).shape == (2, 7)
        counted = sum(some.numel() for some in network.parameters())
        assert counted == parameters(arch, shape, 7, 8)


def test_layers_as_described():
    torch = pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.chain.network import build

    network = build(SPACE, SPACE.from_string("6-3-4"), (1, 40), 10, strided=1)
    layers = [some for some in network if isinstance(some, torch.nn.Conv2d)]
    assert [some.kernel_size for some in layers] == [(1, 6), (1, 3), (1, 4)]
    assert [some.stride[1] for some in layers] == [2, 1, 1]
    assert [some.in_channels for some in layers] == [1, 16, 16]
    positions, x = [], torch.randn(2, 1, 40)
    for some in network[:-2]:
        x = some(x)
        positions += [tuple(x.shape[2:])] if isinstance(some, torch.nn.Conv2d) else []
    assert positions == [(1, 18), (1, 16), (1, 13)]
    pooled = network[-2](torch.arange(24.0).reshape(2, 3, 4))
    assert pooled.tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]


@pytest.mark.parametrize("settings", [{"width": 0}, {"strided": -1}])
def test_settings_that_make_no_network(settings):
    pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.chain.network import build

    with pytest.raises(ValueError, match=r"width is \d+ and strided -?\d; allowed: 1 and more, 0"):
        build(SPACE, SPACE.from_string("3-3"), (1, 40), 10, **settings)


@pytest.mark.parametrize(("text", "strided", "least"), [("3-3", 0, 5), ("6-3-4", 2, 22)])
def test_a_signal_that_is_too_short_is_named(text, strided, least):
    torch = pytest.importorskip("torch", reason="networks need PyTorch")
    from spaces.chain.network import build

    arch = SPACE.from_string(text)
    network = build(SPACE, arch, (1, least), 10, strided=strided).eval()
    assert network(torch.zeros(1, 1, least)).shape == (1, 10)
    with pytest.raises(ValueError, match=f"{least - 1} positions; allowed .*'{text}': {least} and"):
        build(SPACE, arch, (1, least - 1), 10, strided=strided)


def test_kernels_are_those_of_the_texts():
    assert KERNELS == (3, 4, 5, 6)


def test_genes_are_called_what_they_are():
    labels = SPACE.labels()
    assert [name for name, _ in labels] == [f"layer {layer}" for layer in range(1, 6)]
    assert tuple(len(values) for _, values in labels) == SPACE.choices
    assert labels[0][1] == ["kernel 3", "kernel 4", "kernel 5", "kernel 6"]
    assert labels[4][1] == [*labels[0][1], "absent"]


def test_a_drawing_has_a_node_a_layer():
    assert SPACE.graph(SPACE.from_string("3-5-3")) == [
        ("input", "kernel 3#0", ""),
        ("kernel 3#0", "kernel 5#1", ""),
        ("kernel 5#1", "kernel 3#2", ""),
        ("kernel 3#2", "output", ""),
    ]
