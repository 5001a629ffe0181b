"""The networks of DARTS against its published sizes."""

from functools import partial
from random import Random

import pytest

torch = pytest.importorskip("torch")

from bench.parts import build  # noqa: E402
from bench.training.cost import multiply_adds, parameters  # noqa: E402
from bench.training.trainer import network_misfits  # noqa: E402
from spaces.darts.network import Cell, FactorizedReduction  # noqa: E402
from spaces.darts.network import build as network  # noqa: E402
from spaces.darts.space import DARTS, OPERATIONS, cells  # noqa: E402

SPACE = DARTS()
IMAGE = (3, 32, 32)
SKIP = OPERATIONS.index("skip_connect")
SECOND_ORDER = SPACE.from_string(  # DARTS_V2 of cnn/genotypes.py, quark0/darts
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
ALL_SKIPS = SPACE.from_string(
    SPACE.to_string(SECOND_ORDER)
    .replace("sep_conv_3x3", "skip_connect")
    .replace("dil_conv_3x3", "skip_connect")
    .replace("max_pool_3x3", "skip_connect")
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(arch, classes=10, **settings):
    with torch.device("meta"):
        return network(SPACE, arch, IMAGE, classes, **settings)


def test_the_published_parameters_of_the_second_order_cells():
    """3.349342 million, which cnn/test.py prints for 36 channels and 20 cells (3.3 in the paper);
    the auxiliary head is not counted there.
    """
    assert parameters(built(SECOND_ORDER)) == 3_349_342


def test_the_published_multiply_adds_of_the_second_order_cells():
    """528 million, as is usually quoted for 36 channels and 20 cells."""
    found = multiply_adds(partial(network, SPACE, SECOND_ORDER, IMAGE, 10), IMAGE)
    assert round(found / 1e6) == 528


def test_parameters_by_hand():
    """One reduction cell of each operation, two channels wide, behind a stem of three."""

    def separable(kernel):
        return kernel * kernel * 2 + 4 + 4

    of = {
        "max_pool_3x3": 0,
        "avg_pool_3x3": 0,
        "sep_conv_3x3": 2 * separable(3),
        "sep_conv_5x5": 2 * separable(5),
        "dil_conv_3x3": separable(3),
        "dil_conv_5x5": separable(5),
    }
    around = 27 * 3 + 6 + 2 * (3 * 2 + 4) + (8 + 1) * 10
    for name, own in of.items():
        gene = OPERATIONS.index(name)
        arch = (gene, gene, *(0, gene, gene) * 3) * 2
        assert parameters(built(arch, channels=1, layers=1)) == around + 8 * own
    strided = around + 8 * (2 * 2 + 4)  # every node reads the inputs of the cell
    assert (
        parameters(built((SKIP, SKIP, *(0, SKIP, SKIP) * 3) * 2, channels=1, layers=1)) == strided
    )


def test_where_the_reduction_cells_are():
    made = built(SECOND_ORDER, channels=4, layers=8)
    widths = [cell.fit_last[1].out_channels for cell in made.cells]
    assert widths == [4, 4, 8, 8, 8, 16, 16, 16]
    halves = [isinstance(cell.fit_older, FactorizedReduction) for cell in made.cells]
    assert halves == [False, False, False, True, False, False, True, False]


def test_a_cell_joins_the_sums_of_its_nodes():
    """With identities alone the nodes are sums of the two fitted inputs."""
    normal, _ = cells(ALL_SKIPS)
    made = Cell(normal, (3, 3), 2, False, False, 0.0).eval()
    x, y = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    a, b = made.fit_older(x), made.fit_last(y)
    expected = torch.cat([a + b, a + b, a + b, a + (a + b)], 1)
    torch.testing.assert_close(made(x, y), expected)


def test_a_factorized_reduction_looks_at_even_and_odd_positions():
    made = FactorizedReduction(1, 2).eval()
    with torch.no_grad():
        made.even.weight.fill_(1)
        made.odd.weight.fill_(1)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    even, odd = made(x)[0] * (1 + 1e-5) ** 0.5
    torch.testing.assert_close(even, x[0, 0, ::2, ::2])
    torch.testing.assert_close(odd, x[0, 0, 1::2, 1::2])


ARCHITECTURES = [SECOND_ORDER, ALL_SKIPS, *(SPACE.sample(Random(n)) for n in range(3))]


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=range(len(ARCHITECTURES)))
@pytest.mark.parametrize("inputs", [(3, 8, 8), (1, 7, 5)], ids=str)
def test_every_cell_trains(arch, inputs):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = network(SPACE, arch, inputs, 4, channels=4, layers=3)
        x = torch.randn(6, *inputs)
    plain = model(x)
    model.to(memory_format=torch.channels_last)
    logits = model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, plain, atol=1e-3, rtol=1e-3)
    torch.nn.functional.cross_entropy(logits, torch.arange(6) % 4).backward()
    assert all(some.grad is None or some.grad.isfinite().all() for some in model.parameters())
    assert any(some.grad is not None for some in model.stem.parameters())


def test_paths_are_dropped_for_an_example_at_a_time():
    normal, _ = cells(SECOND_ORDER)
    made = Cell(normal, (3, 3), 2, False, False, 0.25)
    x = torch.ones(4000, 2, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        seen = made.dropped(x, torch.nn.ReLU())[:, :, 0, 0]
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert seen.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert float(seen.mean()) == pytest.approx(1, abs=0.05)  # 5 deviations are 0.046
    assert made.dropped(x, torch.nn.Identity()) is x
    assert made.eval().dropped(x, torch.nn.ReLU()) is x


def test_no_path_is_dropped_by_default():
    arch, inputs = SECOND_ORDER, (3, 8, 8)
    model = network(SPACE, arch, inputs, 4, channels=2, layers=2)
    before = torch.get_rng_state()
    model(torch.randn(2, *inputs, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"drop_path": 1.0}, {"drop_path": -0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="allowed: 1 and more, and from 0 to below 1"):
        network(SPACE, SECOND_ORDER, IMAGE, 10, **wrong)


def test_signals_are_refused():
    with pytest.raises(ValueError, match="networks of darts are for images"):
        network(SPACE, SECOND_ORDER, (1, 40), 10)


def test_the_recipes():
    searched, retrained = build("recipe", "darts"), build("recipe", "darts_retrain")
    assert parameters(built(SECOND_ORDER, **retrained.network)) == 3_349_342
    for recipe, epochs, layers in (searched, 100, 8), (retrained, 600, 20):
        assert network_misfits(network, recipe.network) == []
        assert (recipe.epochs, recipe.network["layers"]) == (epochs, layers)
        assert (recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (96, 0.025, 3e-4)
    assert str(searched.epochs) == build("protocol", "darts").schedule
