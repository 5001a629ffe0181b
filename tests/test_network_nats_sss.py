"""The networks of NATS-Bench's size space against its published sizes."""

import bz2
from functools import partial
from pathlib import Path
from random import Random

import pytest

torch = pytest.importorskip("torch")

from bench.parts import build  # noqa: E402
from bench.pickled import PLAIN, restricted_load  # noqa: E402
from bench.training.cost import multiply_adds, parameters  # noqa: E402
from bench.training.trainer import network_misfits  # noqa: E402
from spaces.nats_sss.network import build as network  # noqa: E402
from spaces.nats_sss.space import CHANNELS, NATSSize  # noqa: E402

ROOT = Path(__file__).parent.parent
RECORDS = ROOT.parent / "shared/data/nats-bench-sample/NATS-sss-v1_0-50262-simple"
SPACE = NATSSize()
WIDTHS = {"ImageNet16-120": 16}  # of images; 32 elsewhere


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(arch, inputs=(3, 32, 32), classes=10):
    with torch.device("meta"):
        return network(SPACE, arch, inputs, classes)


def formula(arch, classes=10):
    """Parameters: with inputs a and outputs b a convolution has 9 a b weights, its norm 2 b."""

    def cell(a, b):
        projected = a * b + 2 * b if a != b else 0
        return 2 * (9 * a * b + 2 * b) + 3 * (9 * b * b + 2 * b) + projected

    def reduction(a, b):
        return 9 * a * b + 9 * b * b + 4 * b + a * b

    one, two, three, four, five = (CHANNELS[gene] for gene in arch)
    stem, head = 27 * one + 2 * one, 2 * five + (five + 1) * classes
    cells = cell(one, one) + cell(two, three) + cell(four, five)
    return stem + cells + reduction(one, two) + reduction(three, four) + head


@pytest.mark.parametrize("index", [0, 11])
def test_published_sizes(index):
    """Of real records: parameters in millions, and multiply-adds with the biases at the end."""
    path = RECORDS / f"{index:06d}.pickle.pbz2"
    if not path.exists():
        pytest.skip("the sample records of NATS-Bench are absent")
    runs = restricted_load(bz2.decompress(path.read_bytes()), PLAIN)["90"]
    arch = SPACE.from_string(runs["arch_str"])
    assert len(runs["all_results"]) == 4
    for (dataset, _), run in runs["all_results"].items():
        classes = run["arch_config"]["class_num"]
        image = (3, WIDTHS.get(dataset, 32), WIDTHS.get(dataset, 32))
        assert parameters(built(arch, image, classes)) == round(run["params"] * 1e6)
        found = multiply_adds(partial(network, SPACE, arch, image, classes), image)
        assert found + classes == round(run["flop"] * 1e6)


def test_the_first_record_of_the_files():
    """8:8:8:8:8 has 0.011714 million parameters and 4.481114 million multiply-adds."""
    arch = SPACE.from_string("8:8:8:8:8")
    assert parameters(built(arch)) == formula(arch) == 11_714
    image = (3, 32, 32)
    assert multiply_adds(partial(network, SPACE, arch, image, 10), image) == 4_481_114 - 10


@pytest.mark.parametrize("seed", range(12))
def test_built_networks_have_the_parameters_of_the_formula(seed):
    arch = SPACE.sample(Random(seed))
    assert parameters(built(arch, classes=100)) == formula(arch, 100)


@pytest.mark.parametrize("text", ["8:8:8:8:8", "8:16:24:8:32", "24:8:8:16:16"])
@pytest.mark.parametrize("inputs", [(3, 8, 8), (1, 7, 5)], ids=str)
def test_it_trains(text, inputs):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = network(SPACE, SPACE.from_string(text), inputs, 4)
        x = torch.randn(6, *inputs)
    plain = model(x)
    model.to(memory_format=torch.channels_last)
    logits = model(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)
    torch.nn.functional.cross_entropy(logits, torch.arange(6) % 4).backward()
    assert all(some.grad.isfinite().all() for some in model.parameters())


def test_signals_are_refused():
    with pytest.raises(ValueError, match="networks of nats_sss are for images"):
        network(SPACE, (0,) * 5, (1, 40), 10)


def test_the_recipe():
    """Table 2 of the paper; the schedules of 1 and 12 epochs differ in nothing else."""
    recipe = build("recipe", "nats_sss")
    assert network_misfits(network, recipe.network) == []
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (90, 256, 0.1)
    assert recipe.precision == "auto"  # of which the table says nothing
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("sgd", 0.9, 5e-4)
    assert (recipe.schedule, recipe.augmentation) == ("cosine", "crop_flip")
