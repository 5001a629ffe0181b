"""The networks of NAS-Bench-101 against its published sizes and rules."""

from random import Random

import pytest

torch = pytest.importorskip("torch")

from bench.parts import build  # noqa: E402
from bench.training.cost import parameters  # noqa: E402
from bench.training.trainer import network_misfits  # noqa: E402
from spaces.nb101.network import Cell, pruned, vertex_channels  # noqa: E402
from spaces.nb101.network import build as network  # noqa: E402
from spaces.nb101.space import NB101  # noqa: E402

SPACE = NB101()
IMAGE = (3, 32, 32)
POOL, CONV_1, CONV_3 = "maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cell(rows, *operations):
    """A member from its matrix, rows apart by spaces, and its inner operations."""
    labels = ",".join(["input", *operations, "output"])
    return SPACE.from_string(f"{rows.replace(' ', '')}:{labels}")


def chain(*operations):
    size = len(operations) + 2
    rows = " ".join("".join(str(int(j == i + 1)) for j in range(size)) for i in range(size))
    return cell(rows, *operations)


# What `NASBench.query` prints for the Inception-like cell of the benchmark's README (the order of
# the vertices is the file's), and the first record of its files.
INCEPTION = cell(
    "0111100 0000001 0000001 0000001 0000010 0000001 0000000",
    *(CONV_3, CONV_1, POOL, CONV_3, CONV_3),
)
FIRST = cell(
    "0100110 0010000 0001001 0000010 0000010 0000001 0000000",
    *(CONV_3, POOL, CONV_3, CONV_3, CONV_1),
)


def built(arch, classes=10, **settings):
    with torch.device("meta"):
        return network(SPACE, arch, IMAGE, classes, **settings)


@pytest.mark.parametrize(("arch", "published"), [(INCEPTION, 2_694_282), (FIRST, 8_555_530)])
def test_published_parameters(arch, published):
    """`trainable_parameters`; norms count, moving statistics do not."""
    assert parameters(built(arch)) == published


def test_the_readmes_order_of_vertices_is_the_same_network():
    readme = cell(
        "0111010 0000001 0000001 0000100 0000001 0000001 0000000",
        *(CONV_1, CONV_3, CONV_3, CONV_3, POOL),
    )
    assert SPACE.key(readme) == SPACE.key(INCEPTION)
    assert parameters(built(readme)) == parameters(built(INCEPTION))


def test_a_cell_of_one_convolution_by_hand():
    """Stem 128; nine cells of a projection and a 3x3 convolution; 512 to 10."""
    widths = [128] * 3 + [256] * 3 + [512] * 3
    expected = 27 * 128 + 2 * 128 + 513 * 10
    for before, width in zip([128, *widths], widths, strict=False):
        expected += before * width + 2 * width + 9 * width * width + 2 * width
    assert parameters(built(chain(CONV_3))) == expected


def test_a_cell_without_vertices_is_a_projection():
    arch = cell("01 00")
    assert pruned(arch) == ([[0, 1], [0, 0]], ["input", "output"])
    widths = [128] * 3 + [256] * 3 + [512] * 3
    projections = sum(a * b + 2 * b for a, b in zip([128, *widths], widths, strict=False))
    assert parameters(built(arch)) == 27 * 128 + 2 * 128 + projections + 513 * 10


@pytest.mark.parametrize(
    ("rows", "given", "expected"),
    [  # the cases of nasbench/tests/model_builder_test.py, google-research/nasbench@2c02ed2
        ("0100 0010 0001 0000", (8, 8), [8, 8, 8, 8]),
        ("0100 0010 0001 0000", (16, 8), [16, 8, 8, 8]),
        ("01 00", (5, 1), [5, 1]),
        ("01100 00010 00010 00001 00000", (8, 16), [8, 16, 16, 16, 16]),
        ("0110 0001 0001 0000", (8, 8), [8, 4, 4, 8]),
        ("0110 0001 0001 0000", (8, 15), [8, 8, 7, 15]),
        ("01110 00001 00001 00001 00000", (8, 8), [8, 3, 3, 2, 8]),
        ("01110 00001 00001 00001 00000", (8, 15), [8, 5, 5, 5, 15]),
        ("01000 00110 00001 00001 00000", (8, 8), [8, 4, 4, 4, 8]),
        ("01000 00110 00001 00001 00000", (8, 9), [8, 5, 5, 4, 9]),
        ("01010 00101 00010 00001 00000", (8, 8), [8, 4, 4, 4, 8]),
        ("01010 00101 00010 00001 00000", (8, 15), [8, 8, 7, 7, 15]),
    ],
)
def test_channels_of_vertices(rows, given, expected):
    matrix = [list(map(int, row)) for row in rows.split()]
    assert vertex_channels(*given, matrix) == expected


def test_vertices_that_are_on_no_path_are_not_built():
    wide = list(chain(CONV_3, CONV_1))
    wide[21 + 4] = 1  # the operation of a vertex without edges
    matrix, operations = pruned(tuple(wide))
    assert operations == ["input", CONV_3, CONV_1, "output"]
    assert matrix == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    dangling = cell("01100 00001 00000 00000 00000", CONV_3, CONV_3, POOL)
    assert parameters(built(dangling)) == parameters(built(chain(CONV_3)))


def test_a_cell_by_hand():
    """Two poolings of projections, the second one with what the first drops, joined and added."""
    matrix, operations = pruned(cell("01111 00010 00001 00001 00000", POOL, POOL, POOL))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        made, x = Cell(matrix, operations, 4, 7).eval(), torch.randn(2, 4, 5, 5)
    assert made.channels == [4, 3, 4, 3, 7]
    pool = torch.nn.MaxPool2d(3, 1, 1)
    project = {int(name): module for name, module in made.projections.items()}
    first, second = pool(project[1](x)), pool(project[2](x))
    third = pool(first + project[3](x))
    expected = torch.cat([second, third], 1) + project[4](x)
    torch.testing.assert_close(made(x), expected)


def test_edges_drop_channels_that_are_too_many():
    matrix, operations = pruned(cell("0100 0011 0001 0000", POOL, POOL))
    made = Cell(matrix, operations, 3, 5).eval()
    assert made.channels == [3, 3, 2, 5]
    x = torch.rand(1, 3, 4, 4)
    pool, first = torch.nn.MaxPool2d(3, 1, 1), torch.nn.MaxPool2d(3, 1, 1)(made.projections["1"](x))
    torch.testing.assert_close(made(x), torch.cat([first, pool(first[:, :2])], 1))


ODD = [cell("01 00"), chain(POOL, POOL, POOL, POOL, POOL), INCEPTION, FIRST]


@pytest.mark.parametrize("arch", ODD + [SPACE.sample(Random(n)) for n in range(4)], ids=str)
@pytest.mark.parametrize("inputs", [(3, 8, 8), (1, 7, 5)], ids=str)
def test_every_cell_trains(arch, inputs):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = network(SPACE, arch, inputs, 4, channels=8, cells=1)
        x = torch.randn(6, *inputs)
    plain = model(x)
    model.to(memory_format=torch.channels_last)
    logits = model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)
    torch.nn.functional.cross_entropy(logits, torch.arange(6) % 4).backward()
    assert all(some.grad.isfinite().all() for some in model.parameters())


def test_initial_weights_and_norms():
    """A cut-off normal of variance 1 / inputs, as TensorFlow's layers were asked for."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = network(SPACE, chain(CONV_3), (3, 8, 8), 4, channels=64, cells=1, stacks=1)
    convolution = model[1].operations[0][0].weight.detach()
    assert float(convolution.std()) == pytest.approx((9 * 64) ** -0.5, rel=0.02)
    assert float(convolution.abs().max()) < 2 * (9 * 64) ** -0.5 / 0.8796
    assert torch.equal(model[-1].bias, torch.zeros(4))
    norm = model[0][1]
    assert (norm.momentum, norm.eps) == (0.003, 1e-5)


def test_signals_are_refused():
    with pytest.raises(ValueError, match="networks of nb101 are for images"):
        network(SPACE, INCEPTION, (1, 40), 10)


def test_the_recipe():
    """As nasbench/lib/config.py, but for what its comments say."""
    recipe = build("recipe", "nb101")
    assert network_misfits(network, recipe.network) == []
    assert parameters(built(INCEPTION, **recipe.network)) == 2_694_282
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (108, 256, 0.2)
    assert (recipe.momentum, recipe.weight_decay, recipe.schedule) == (0.9, 1e-4, "cosine")
