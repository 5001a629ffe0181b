"""The networks of NAS-Bench-201 against its published sizes."""

import csv
import gzip
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.parts import build  # noqa: E402
from bench.table import read_table, shipped_folder  # noqa: E402
from bench.training.cost import multiply_adds, parameters  # noqa: E402
from bench.training.trainer import network_misfits  # noqa: E402
from spaces.nb201.network import Cell  # noqa: E402
from spaces.nb201.network import build as network  # noqa: E402
from spaces.nb201.space import NB201, OPERATIONS, SOURCES, TARGETS  # noqa: E402

ROOT = Path(__file__).parent.parent
JOINED = ROOT.parent / "shared/data/nb201/nb201_merged.csv.gz"
SPACE = NB201()
NONE, SKIP, CONV_1, CONV_3, POOL = range(len(OPERATIONS))
IMAGE = (3, 32, 32)
HEADS = {"cifar10": 10, "cifar100": 100, "imagenet16": 120}
CONTRADICTIONS = 150  # published rows whose parameters and FLOPs are not those of their cell


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def formula(arch, classes=10):
    """Parameters with 16 channels and 5 cells a stage, by counting the convolutions of a cell.

    With channels c of 16, 32 and 64 and five cells each, a convolution of kernel k has
    5 (k² c² + 2 c); around them lie stem, two residual blocks, last norm and linear layer.
    """
    around = 3 * 9 * 16 + 2 * 16
    for c in (16, 32):
        around += 9 * c * 2 * c + 9 * 4 * c * c + 2 * 2 * 2 * c + c * 2 * c
    around += 2 * 64 + 65 * classes
    convolution = {k: sum(5 * (k * k * c * c + 2 * c) for c in (16, 32, 64)) for k in (1, 3)}
    return around + convolution[1] * arch.count(CONV_1) + convolution[3] * arch.count(CONV_3)


def built(arch, classes=10):
    with torch.device("meta"):
        return network(SPACE, arch, IMAGE, classes)


def rows():
    if not JOINED.exists():
        pytest.skip("the joined reference columns of NAS-Bench-201 are absent")
    with gzip.open(JOINED, "rt") as file:
        return list(csv.DictReader(file))


def test_the_formula_is_the_published_one():
    """0.073306 + 0.028 for a 1x1 + 0.24304 for a 3x3 million; 0.00585 and 0.00715 by the heads."""
    for arch in SPACE:
        expected = 73306 + 28000 * arch.count(CONV_1) + 243040 * arch.count(CONV_3)
        assert formula(arch) == expected
    assert [formula((0,) * 6, classes) - formula((0,) * 6) for classes in (100, 120)] == [
        5850,
        7150,
    ]


SINGLE = [(op,) * 6 for op in range(len(OPERATIONS))]
SAMPLE = [SPACE.sample(Random(n)) for n in range(20)]


@pytest.mark.parametrize("arch", SINGLE + SAMPLE, ids=SPACE.to_string)
def test_built_networks_have_the_parameters_of_the_formula(arch):
    assert parameters(built(arch)) == formula(arch)


@pytest.mark.parametrize("classes", [100, 120])
def test_heads(classes):
    assert parameters(built((CONV_3,) * 6, classes)) == formula((CONV_3,) * 6, classes)


def test_every_published_size_but_those_that_contradict_themselves():
    contradict = {head: set() for head in HEADS}
    for row in rows():
        arch = SPACE.from_string(row["arch_str"])
        for head, classes in HEADS.items():
            if round(float(row[f"{head}_params_M"]) * 1e6) != formula(arch, classes):
                contradict[head].add(row["index"])
    assert contradict["cifar10"] == contradict["cifar100"] == contradict["imagenet16"]
    assert len(contradict["cifar10"]) == CONTRADICTIONS


def test_the_table_that_ships_has_the_sizes_of_the_formula():
    """Of CIFAR-10's three columns one has no row that contradicts itself."""
    table = read_table(shipped_folder(SPACE) / "nb201.h5")
    told = table.schedules["cifar10", "200"].columns["parameters"]
    wanted = np.array([formula(tuple(arch)) for arch in table.architectures.tolist()])
    wrong = (~np.isnan(told) & (told != wanted[:, None])).sum(0)
    assert wrong.min() == 0
    assert wrong.max() == CONTRADICTIONS


def test_published_flops():
    """Multiply-adds with a head for 100 classes, in millions with two decimals."""
    chosen = [
        row
        for row in Random(0).sample(rows(), 12)
        if round(float(row["cifar10_params_M"]) * 1e6)
        == formula(SPACE.from_string(row["arch_str"]))
    ]
    assert len(chosen) > 8
    for row in chosen:
        arch = SPACE.from_string(row["arch_str"])
        found = multiply_adds(partial(network, SPACE, arch, IMAGE, 100), IMAGE)
        assert found / 1e6 == pytest.approx(float(row["ncp_cifar100_flops_M"]), abs=0.00501)


def by_hand(arch, x):
    """A cell of identities and pooling, its sums written out."""
    pool = torch.nn.functional.avg_pool2d
    inside = pool(torch.ones_like(x), 3, 1, 1)  # the share of a window that is not padding
    values = [x, *[torch.zeros_like(x)] * 3]
    for source, target, op in zip(SOURCES, TARGETS, arch, strict=True):
        if op == SKIP:
            values[target] = values[target] + values[source]
        elif op == POOL:
            values[target] = values[target] + pool(values[source], 3, 1, 1) / inside
    return values[3]


@pytest.mark.parametrize("seed", range(10))
def test_cells_sum_what_enters_their_nodes(seed):
    rng = Random(seed)
    arch = tuple(rng.choice((NONE, SKIP, POOL)) for _ in SOURCES)
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(Cell(arch, 3)(x), by_hand(arch, x))


def test_a_cell_of_identities_is_four_times_its_input():
    x = torch.ones(1, 2, 3, 3)
    assert torch.equal(Cell((SKIP,) * 6, 2)(x), 4 * x)
    assert torch.equal(x, torch.ones(1, 2, 3, 3))


def step(arch, inputs, *, last=True):
    """The loss of one step on random images, and the network after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = network(SPACE, arch, inputs, 4, channels=4, cells=1)
        x = torch.randn(6, *inputs)
    if last:
        model, x = (
            model.to(memory_format=torch.channels_last),
            x.to(memory_format=torch.channels_last),
        )
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    loss = torch.nn.functional.cross_entropy(model(x), torch.arange(6) % 4)
    loss.backward()
    optimizer.step()
    return loss.detach(), model


DEAD = [
    (NONE,) * 6,
    (CONV_3, NONE, NONE, NONE, NONE, POOL),
    (CONV_1, CONV_3, CONV_3, NONE, NONE, NONE),
]


@pytest.mark.parametrize("arch", SINGLE + DEAD + SAMPLE[:5], ids=SPACE.to_string)
@pytest.mark.parametrize("inputs", [(3, 8, 8), (1, 7, 5)], ids=str)
def test_every_cell_trains(arch, inputs):
    loss, model = step(arch, inputs)
    assert loss.isfinite()
    assert all(some.isfinite().all() for some in model.state_dict().values())
    other, _ = step(arch, inputs, last=False)
    torch.testing.assert_close(other, loss)
    model.eval()
    assert model(torch.zeros(1, *inputs)).shape == (1, 4)


def test_a_cell_that_connects_nothing_tells_all_inputs_the_same():
    _, model = step(DEAD[1], (3, 8, 8))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    one, other = model.eval()(x)
    assert torch.equal(one, other)


def test_signals_are_refused():
    with pytest.raises(ValueError, match=r"networks of nb201 are for images, not for .*\(1, 40\)"):
        network(SPACE, SINGLE[0], (1, 40), 10)


def test_the_recipe():
    """Table 1 of the paper; what it says of the network is what the formula is about."""
    recipe = build("recipe", "nb201")
    assert network_misfits(network, recipe.network) == []
    assert recipe.network == {"channels": 16, "cells": 5}
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (200, 256, 0.1)
    assert recipe.precision == "auto"  # of which the table says nothing
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("sgd", 0.9, 5e-4)
    assert (recipe.schedule, recipe.augmentation) == ("cosine", "crop_flip")
