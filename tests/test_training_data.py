"""Splits that stay what they are, augmentations that do what they say, signals as published."""

import random
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="data sets are tensors of PyTorch")

import small  # noqa: E402

from bench.training import signals  # noqa: E402
from bench.training.data import Data, augment, carve, derive, order_of  # noqa: E402


def numbered(count):
    """Inputs that are their own numbers."""
    return torch.arange(count)[:, None, None].float(), torch.arange(count)


@pytest.mark.parametrize(
    ("count", "held_out", "held"), [(10, 0.3, 3), (1000, 0.5, 500), (3, 0.4, 1)]
)
def test_carving_is_complete_and_disjoint(count, held_out, held):
    (inputs, labels), (held_inputs, held_labels) = carve(*numbered(count), held_out)
    assert len(held_labels) == held
    assert sorted([*labels.tolist(), *held_labels.tolist()]) == list(range(count))
    for some, numbers in (inputs, labels), (held_inputs, held_labels):
        assert torch.equal(some[:, 0, 0].long(), numbers)
        assert torch.equal(numbers, numbers.sort().values)


def test_carving_is_a_fixed_rule():
    """Whatever is drawn elsewhere; by `random`, whose sequence Python promises to keep."""
    random.seed(1)
    torch.manual_seed(1)
    held = carve(*numbered(20), 0.25)[1][1].tolist()
    rng = random.Random("validation")
    draws = [rng.random() for _ in range(20)]
    assert held == sorted(sorted(range(20), key=draws.__getitem__)[:5]) == [5, 7, 8, 11, 14]


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.5, 1.5, 0.01, 0.99, float("nan")])
def test_a_share_that_leaves_a_part_empty_is_refused(held_out):
    with pytest.raises(ValueError, match=r"held_out is .*; allowed: a share of 10 examples"):
        carve(*numbered(10), held_out)


def test_derived_seeds_are_told_apart():
    assert derive("a", 1) == derive("a", 1) == 4294491576641134471
    assert len({derive("order", seed, epoch) for seed in range(9) for epoch in range(9)}) == 81
    assert 0 <= derive("x") < 2**63


def test_an_epoch_visits_every_example_once():
    orders = [order_of(50, seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(order_of(50, 1, 1), orders[1])


@pytest.mark.parametrize(
    "data", [small.signals(2500), small.images(1500)], ids=["signals", "images"]
)
def test_inputs_are_scaled_by_channel(data):
    prepared = data.prepare(data.train[0])
    over = [0, *range(2, prepared.dim())]
    assert prepared.dtype == torch.float32
    assert prepared.mean(over).abs().max() < 1e-5
    torch.testing.assert_close(prepared.std(over), torch.ones(prepared.shape[1]), atol=1e-3, rtol=0)


def test_a_constant_channel_divides_by_nothing():
    split = torch.full((4, 2, 3), 7.0), torch.zeros(4, dtype=torch.int64)
    split[0][:, 1, 0] = 1.0
    data = Data(split, split, split, 2)
    assert data.prepare(split[0])[:, 0].abs().max() == 0
    assert data.prepare(split[0]).isfinite().all()


def test_a_digest_tells_data_apart():
    def with_test(inputs, labels):
        data = small.signals()
        return Data(data.train, data.valid, (inputs, labels), data.classes).digest

    inputs, labels = small.signals().test
    changed = inputs.clone()
    changed[-1, 0, -1] += 1e-6
    digests = {
        small.signals().digest,
        with_test(inputs, labels),
        with_test(changed, labels),
        with_test(inputs, labels.roll(1)),
        with_test(inputs[:0], labels[:0]),
        small.images().digest,
    }
    assert len(digests) == 5
    assert small.images().to(torch.device("cpu")).digest in digests  # however it lies in memory


def changed(data, augmentation, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return augment(data, small.recipe(augmentation=augmentation), generator)


def test_no_augmentation_is_none():
    inputs = small.signals().train[0]
    assert changed(inputs, "none") is inputs


def test_a_shift_rolls_each_signal_by_up_to_an_eighth():
    inputs = torch.randn(400, 2, 16, generator=torch.Generator().manual_seed(0))
    found = changed(inputs, "shift")
    assert found.shape == inputs.shape
    shifts = set()
    for before, after in zip(inputs, found, strict=True):
        (shift,) = [by for by in range(-8, 8) if torch.equal(before.roll(by, 1), after)]
        shifts.add(shift)
    assert shifts == {-2, -1, 0, 1, 2}
    assert torch.equal(found, changed(inputs, "shift"))
    assert not torch.equal(found, changed(inputs, "shift", seed=1))


def test_crops_come_from_a_black_border_and_are_mirrored_or_not():
    """Each image is one of 2 × 5 × 3 windows; sides need not be equal, and bytes stay bytes."""
    images = torch.randint(1, 256, (600, 3, 16, 8), dtype=torch.uint8)
    found = changed(images, "crop_flip")
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    seen = set()
    for before, after in zip(images, found, strict=True):
        padded = torch.nn.functional.pad(before, (1, 1, 2, 2))
        windows = {
            (top, left, mirrored): window.flip(2) if mirrored else window
            for top in range(5)
            for left in range(3)
            for window in [padded[:, top : top + 16, left : left + 8]]
            for mirrored in (False, True)
        }
        (which,) = [name for name, window in windows.items() if torch.equal(window, after)]
        seen.add(which)
    assert len(seen) == 30


@pytest.mark.parametrize(
    ("data", "augmentation", "kind"),
    [(small.signals(), "crop_flip", "signals"), (small.images(), "shift", "images")],
)
def test_an_augmentation_of_another_kind_is_refused(data, augmentation, kind):
    with pytest.raises(ValueError, match=f"augmentation {augmentation} is not for {kind}"):
        changed(data.train[0], augmentation)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder of this module: a set is generated once."""
    pytest.importorskip("mnist1d", reason="MNIST-1D is made by the package mnist1d")
    path = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_ARENA_DATA", str(path))
        yield path


PUBLISHED = """
import sys, numpy
from mnist1d.data import get_dataset_args, make_dataset
made = make_dataset(get_dataset_args())
numpy.savez(sys.argv[1], **{name: made[name] for name in ("x", "y", "x_test", "y_test")})
"""


def test_the_published_set_is_reproduced(folder, tmp_path):
    """4,000 signals for training and 1,000 for testing, by the package's defaults."""
    paper = {"length": 40, "padding": (36, 60), "max_translation": 48, "noise": 0.02}
    data = signals.mnist1d(train=3500, valid=500, test=1000, **paper)
    subprocess.run([sys.executable, "-c", PUBLISHED, str(tmp_path / "made.npz")], check=True)
    with np.load(tmp_path / "made.npz") as made:
        inputs = torch.cat([data.train[0], data.valid[0]])[:, 0]
        labels = torch.cat([data.train[1], data.valid[1]])
        assert torch.equal(inputs, torch.tensor(made["x"].astype(np.float32)))
        assert torch.equal(labels, torch.tensor(made["y"]))
        assert torch.equal(data.test[0][:, 0], torch.tensor(made["x_test"].astype(np.float32)))
        assert torch.equal(data.test[1], torch.tensor(made["y_test"]))
    assert data.inputs == (1, 40)
    assert data.train[1][:8].tolist() == FIRST_LABELS
    assert data.train[0][0, 0, :3].tolist() == pytest.approx(FIRST_VALUES, abs=1e-6)


FIRST_LABELS = [2, 6, 4, 5, 6, 6, 6, 0]
FIRST_VALUES = [-0.3320057, -0.4719104, -0.7786971]


def test_a_set_is_generated_once(folder, monkeypatch):
    small_set = {"train": 30, "valid": 20, "test": 50}
    state = [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]  # noqa: NPY002
    first = signals.mnist1d(**small_set)
    assert [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()] == state  # noqa: NPY002

    def again(*_, **__):
        raise AssertionError("generated again")

    with monkeypatch.context() as patch:
        patch.setattr(signals.subprocess, "run", again)
        assert signals.mnist1d(**small_set).digest == first.digest
        with pytest.raises(AssertionError, match="generated again"):
            signals.mnist1d(**small_set, seed=1)
        with pytest.raises(AssertionError, match="generated again"):
            signals.mnist1d(**small_set, noise=0.0200001)
    assert first.inputs == (1, 56)
    assert [len(split[1]) for split in (first.train, first.valid, first.test)] == [30, 20, 50]
    assert [path for path in (folder / "mnist1d").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("sizes", [(1, 1, 1), (0, 5, 5), (5, -5, 10), (4000, 5000, 0)])
def test_sizes_that_do_not_fit_are_named(sizes):
    train, valid, test = sizes
    with pytest.raises(ValueError, match=f"are {train}, {valid} and {test}; allowed: whole"):
        signals.mnist1d(train=train, valid=valid, test=test)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": (8, 0)},
        {"padding": (-1, 8)},
        {"padding": (0, 8, 9)},
        {"padding": ()},
        {"max_translation": 0},
    ],
    ids=str,
)
def test_paddings_and_translations_that_are_none_are_named(settings):
    with pytest.raises(ValueError, match=r"padding is \[.*\], max_translation \d+; allowed: two"):
        signals.mnist1d(train=30, valid=20, test=50, **settings)


def test_a_length_that_is_none_is_named():
    with pytest.raises(ValueError, match="length is 0; allowed: whole numbers from 1"):
        signals.mnist1d(train=30, valid=20, test=50, length=0)


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("import mnist1d_is_absent as mnist1d", OSError, "could not be generated: .*absent"),
        ("raise ModuleNotFoundError(\"No module named 'mnist1d'\")", ImportError, "pip install"),
        ("raise ValueError('a' * 1000)", OSError, "could not be generated"),
    ],
)
def test_a_generation_that_fails_says_why(code, kind, sentence, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    monkeypatch.setattr(signals, "GENERATE", code)
    with pytest.raises(kind, match=sentence) as raised:
        signals.mnist1d(train=30, valid=20, test=50)
    assert len(str(raised.value)) < 400
    assert list((tmp_path / "mnist1d").iterdir()) == []
