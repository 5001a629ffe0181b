"""A training is a function of its arguments, wherever it was cut off."""

import gc
import random
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

import small  # noqa: E402

from bench.training import checkpoint, loop  # noqa: E402
from bench.training.data import Data  # noqa: E402
from bench.training.loop import macro_f1, train  # noqa: E402
from bench.training.trainer import Trainer  # noqa: E402
from spaces.chain.network import build  # noqa: E402
from spaces.chain.space import Chain  # noqa: E402

DATA = small.signals()
RECIPES = {
    "sgd": {"weight_decay": 1e-3, "label_smoothing": 0.1},
    "adamw": {"optimizer": "adamw", "augmentation": "shift", "clip": 0.5, "warm_up": 1.5},
    "one_cycle": {"schedule": "one_cycle", "precision": "bf16", "batch_size": 25},
}


@pytest.fixture(params=RECIPES)
def recipe(request):
    return small.recipe(**RECIPES[request.param])


@pytest.fixture(autouse=True)
def _strictly():
    """As in a process that trains: one thread, and nothing that may differ between runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def run(recipe, *, seed=1, data=DATA, build=small.network, **changes):
    return train(build, data, recipe, seed=seed, **changes)


def assert_same(one, other):
    """Two networks with their outcomes, seconds apart, are bit for bit the same."""
    for (name, left), (_, right) in zip(
        one[0].state_dict().items(), other[0].state_dict().items(), strict=True
    ):
        assert torch.equal(left, right), name
    left, right = (dict(vars(some[1]), seconds=0) for some in (one, other))
    assert left == right


def differ(one, other):
    pairs = zip(one[0].parameters(), other[0].parameters(), strict=True)
    return all(not torch.equal(left, right) for left, right in pairs if left.dim() > 1)


def test_equal_seeds_equal_weights(recipe):
    one = run(recipe, final=("test",))
    assert_same(one, run(recipe, final=("test",)))
    assert differ(one, run(recipe, seed=2))
    assert one[1].status == "ok"
    assert one[1].epochs == recipe.epochs == len(one[1].errors["valid"])
    assert one[1].errors.keys() == one[1].f1.keys() == {"train", "valid", "test"}
    assert len(one[1].errors["test"]) == 1
    assert one[1].seconds > 0


def test_it_learns():
    _, outcome = run(small.recipe(epochs=20, batch_size=10), splits=("train", "valid", "test"))
    assert outcome.errors["train"][-1] < 0.1
    assert outcome.errors["test"][-1] < 0.3
    assert outcome.f1["test"] > 0.7


def test_a_name_moves_the_initial_weights_and_nothing_else(recipe, monkeypatch):
    first = run(recipe, name="one", epochs=0)
    assert_same(first, run(recipe, name="one", epochs=0))
    assert differ(first, run(recipe, name="other", epochs=0))
    seen = []
    original = loop._Run.step

    def step(self, inputs, labels):
        seen.append((inputs.clone(), labels.clone(), torch.rand(1)))
        return original(self, inputs, labels)

    monkeypatch.setattr(loop._Run, "step", step)
    run(recipe, name="one", epochs=1)
    run(recipe, name="other", epochs=1)
    half = len(seen) // 2
    for one, other in zip(seen[:half], seen[half:], strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert torch.equal(seen[0][2], seen[half][2])  # dropout's
    seen.clear()
    run(recipe, epochs=2)
    assert len({draw.item() for _, _, draw in seen}) == len(seen)  # no epoch is like another


def test_the_global_random_state_is_untouched(recipe, tmp_path):
    torch.rand(3)

    def state():
        return [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]  # noqa: NPY002

    before = state()
    run(recipe, checkpoint=tmp_path / "state.pt")
    assert state() == before
    run(recipe, checkpoint=tmp_path / "state.pt")  # goes on from there
    assert state() == before
    with pytest.raises(ZeroDivisionError):
        run(recipe, build=lambda: 1 / 0)
    assert state() == before


def test_other_random_numbers_before_it_do_not_matter(recipe):
    one = run(recipe)
    torch.rand(7)
    assert_same(one, run(recipe))


class Killed(BaseException):
    """Where a process would be gone."""


@pytest.mark.parametrize("where", ["after the epoch", "before the save", "between the renames"])
@pytest.mark.parametrize("epoch", range(4))
def test_cut_off_at_each_epoch(recipe, tmp_path, monkeypatch, where, epoch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    path = tmp_path / "state.pt"
    whole = run(recipe, final=("test",))

    class Dies(loop._Run):
        def epoch(self):
            if self.outcome.epochs == epoch and where == "after the epoch":
                raise Killed
            super().epoch()

    def save(state, path):
        if state["outcome"]["epochs"] == epoch + 1 and where == "before the save":
            raise Killed
        checkpoint.save(state, path)

    def write_whole(path, data, *, durable):
        if len(saves) == epoch and where == "between the renames":
            raise Killed
        saves.append(path)
        original(path, data, durable=durable)

    saves, original = [], checkpoint.write_whole
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_Run", Dies)
        patch.setattr(loop, "save", save)
        patch.setattr(checkpoint, "write_whole", write_whole)
        with pytest.raises(Killed):
            run(recipe, final=("test",), checkpoint=path)
    epochs = counted(monkeypatch)
    assert_same(whole, run(recipe, final=("test",), checkpoint=path))
    assert epochs == list(range(epoch, 4))  # not from the beginning


def counted(monkeypatch):
    """The numbers of the epochs that are trained from now on."""
    epochs, original = [], loop._Run.epoch

    def epoch(self):
        epochs.append(self.outcome.epochs)
        original(self)

    monkeypatch.setattr(loop._Run, "epoch", epoch)
    return epochs


def test_a_promotion_equals_the_whole(recipe, tmp_path, monkeypatch):
    whole = run(recipe, final=("test",))
    path = tmp_path / "state.pt"
    half = run(recipe, epochs=2, final=("test",), checkpoint=path)
    assert half[1].epochs == 2
    epochs = counted(monkeypatch)
    assert_same(whole, run(recipe, final=("test",), checkpoint=path))
    assert epochs == [2, 3]
    assert half[1].errors["valid"] == whole[1].errors["valid"][:2]


def test_a_step_back_does_not_see_the_longer_training(recipe, tmp_path):
    path = tmp_path / "state.pt"
    run(recipe, final=("test",), checkpoint=path)
    assert_same(
        run(recipe, epochs=2, final=("test",)),
        run(recipe, epochs=2, final=("test",), checkpoint=path),
    )


def test_a_damaged_checkpoint_is_reported_and_passed_over(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    path = tmp_path / "state.pt"
    whole = run(recipe, checkpoint=path)
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"*" + data[101:])
    epochs = counted(monkeypatch)
    assert_same(whole, run(recipe, checkpoint=path))
    assert epochs == []  # the state before it is as far: the last epoch is saved twice
    assert capsys.readouterr().err == f"{path} has changed since it was saved; it is not used\n"
    for some in path, checkpoint.before(path):
        some.write_bytes(some.read_bytes()[:-1])
    assert_same(whole, run(recipe, checkpoint=path))
    assert epochs == [0, 1, 2, 3]
    assert capsys.readouterr().err.count("it is not used") == 2
    checkpoint.remove(path)
    checkpoint.remove(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"name": "other"},
        {"recipe": small.recipe(learning_rate=0.06)},
        {"data": small.signals(61)},
        {"splits": ("valid",)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_checkpoint_of_another_training_is_not_used(tmp_path, monkeypatch, changes):
    path = tmp_path / "state.pt"
    run(small.recipe(), epochs=2, checkpoint=path)
    other = {"recipe": small.recipe()} | changes
    epochs = counted(monkeypatch)
    assert_same(run(**other), run(**other, checkpoint=path))
    assert epochs == [0, 1, 2, 3] * 2


def test_a_failed_save_surfaces(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(small.recipe(), checkpoint=tmp_path / "file/state.pt")


def test_a_checkpoint_runs_no_code(tmp_path):
    """Even one with the right digest."""

    class Bad:
        def __reduce__(self):
            return (print, ("code ran",))

    path = tmp_path / "state.pt"
    checkpoint.save({"identity": Bad()}, path)
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoint.load(path)


def test_divergence_is_typed(tmp_path):
    path = tmp_path / "state.pt"
    for _ in range(2):
        _, outcome = run(small.recipe(learning_rate=1e30), checkpoint=path)
        assert outcome.status == "diverged"
        assert outcome.epochs < 4
        assert outcome.f1 == {}
        assert len(outcome.errors["valid"]) == outcome.epochs
    assert not path.exists()


class Explodes(torch.nn.Module):
    """Its loss is finite, its logits are not where it is not trained."""

    def __init__(self):
        super().__init__()
        self.inner = small.plain()

    def forward(self, inputs):
        logits = self.inner(inputs)
        return logits if self.training else logits / 0


def test_logits_that_are_not_finite_are_no_errors():
    _, outcome = run(small.recipe(), build=Explodes)
    assert (outcome.status, outcome.epochs) == ("diverged", 0)
    assert outcome.errors == {"train": [], "valid": []}
    _, outcome = run(small.recipe(), build=Explodes, splits=(), final=("test",))
    assert outcome.status == "diverged"


class Hungry(torch.nn.Module):
    """It has memory for a few examples only, when trained."""

    def __init__(self, room):
        super().__init__()
        self.inner, self.room = small.plain(), room

    def forward(self, inputs):
        if self.training and len(inputs) > self.room:
            raise torch.OutOfMemoryError("no memory")
        return self.inner(inputs)


@pytest.mark.parametrize(("room", "parts"), [(20, 1), (19, 2), (7, 4), (1, 32)])
@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_want_of_memory_is_met_by_parts_of_a_batch(room, parts, clip):
    recipe = small.recipe(accumulate=True, clip=clip, label_smoothing=0.1)
    whole = run(recipe, build=lambda: Hungry(99))
    cut = run(recipe, build=lambda: Hungry(room))
    assert whole[1].micro_batches == 1
    assert cut[1].micro_batches == parts
    for one, other in zip(whole[0].parameters(), cut[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_memory_that_does_not_suffice_is_said():
    with pytest.raises(torch.OutOfMemoryError):
        run(small.recipe(), build=lambda: Hungry(7))  # the recipe does not allow it
    with pytest.raises(torch.OutOfMemoryError):
        run(small.recipe(accumulate=True), build=lambda: Hungry(0))


def test_a_last_batch_may_be_short():
    _, outcome = run(small.recipe(batch_size=32, accumulate=True), build=lambda: Hungry(3))
    assert outcome.status == "ok"


def test_clipping():
    recipe = small.recipe(
        momentum=0.0, clip=0.01, learning_rate=1.0, batch_size=60, schedule="constant"
    )
    before, after = (run(recipe, epochs=epochs, build=small.plain)[0] for epochs in (0, 1))
    change = torch.cat(
        [
            (one - other).flatten()
            for one, other in zip(before.parameters(), after.parameters(), strict=True)
        ]
    )
    assert change.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_weight_decay_acts_on_every_parameter():
    network = small.network()
    for recipe in small.recipe(weight_decay=0.1), small.recipe(optimizer="adamw", weight_decay=0.1):
        (group,) = loop.make_optimizer(network, recipe).param_groups
        assert group["weight_decay"] == 0.1
        assert len(group["params"]) == len(list(network.parameters()))
    (group,) = loop.make_optimizer(network, small.recipe()).param_groups
    assert group["nesterov"]
    (group,) = loop.make_optimizer(network, small.recipe(momentum=0.0)).param_groups
    assert not group["nesterov"]


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_images_train_channels_last(augmentation):
    data = small.images().to(torch.device("cpu"))
    space = Chain()
    network, outcome = train(
        lambda: build(space, (0, 1, 4, 4, 4), data.inputs, data.classes, width=4),
        data,
        small.recipe(augmentation=augmentation),
        seed=1,
    )
    assert outcome.status == "ok"
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last)


def test_bf16_computes_otherwise():
    exact, rough = (run(small.recipe(precision=precision)) for precision in ("fp32", "bf16"))
    assert differ(exact, rough)
    assert all(some.dtype == torch.float32 for some in rough[0].parameters())


def test_f1_by_hand():
    """Class 0: TP 2, FP 1, FN 1; class 1: TP 1, FP 1, FN 1; class 2: all right; 3: not there."""
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    found = torch.tensor([0, 0, 1, 1, 0, 2])
    assert macro_f1(found, labels, 3) == pytest.approx((4 / 6 + 2 / 4 + 1) / 3)
    assert macro_f1(found, labels, 4) == pytest.approx((4 / 6 + 2 / 4 + 1 + 0) / 4)


def test_f1_as_scikit_learn_has_it():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        labels, found = torch.randint(7, (2, 40), generator=generator)
        theirs = metrics.f1_score(labels, found, labels=range(7), average="macro", zero_division=0)
        assert macro_f1(found, labels, 7) == pytest.approx(theirs)


def test_the_same_in_another_process():
    code = (
        "import sys, torch, small; from bench.training.loop import train; "
        "torch.set_num_threads(1); torch.use_deterministic_algorithms(True); "
        "n, _ = train(small.network, small.signals(), small.recipe(), seed=1); "
        "print(sum(p.double().sum() for p in n.parameters()).item().hex())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "5"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    network, _ = run(small.recipe())
    assert there.strip() == sum(p.double().sum() for p in network.parameters()).item().hex()


def test_data_that_is_not_there_is_not_evaluated():
    """Test inputs are touched by `final` alone."""
    empty = torch.empty(0, 1, 16), torch.empty(0, dtype=torch.int64)
    data = Data(DATA.train, DATA.valid, empty, small.CLASSES)
    assert run(small.recipe(), data=data)[1].status == "ok"


def test_a_graph_is_replayed_for_whole_batches(monkeypatch):
    """60 examples in batches of 25: two whole ones an epoch, of which the first is captured."""
    made = []

    class Noted(loop.Captured):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(loop, "Captured", Noted)
    small.fake_graphs(monkeypatch, lambda: made[0])
    settings = {"batch_size": 25, "epochs": 2, "clip": 0.5}
    wanted = run(small.recipe(**settings))
    assert not made
    found = run(small.recipe(**settings, graph=True))
    assert made[0].graph.replays == 4
    assert_same(found, wanted)  # dropout too: warming up draws no mask


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"optimizer": "adamw"}])
def test_seconds_of_a_step(changes):
    assert 0 < loop.step_seconds(small.network, DATA, small.recipe(**changes), repeats=3) < 1
    slow = small.recipe(**changes, batch_size=60)
    with pytest.raises(ValueError, match="repeats is 0 and warm_up 2; allowed: 1 and more, 0 and"):
        loop.step_seconds(small.network, DATA, slow, repeats=0)


def test_a_training_that_is_over_is_let_go():
    found = []

    class Watched(loop._Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            found.append(weakref.ref(self))

    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "_Run", Watched)
            run(small.recipe())
        assert found[0]() is None
    finally:
        gc.enable()


def test_a_precision_that_is_left_open_is_refused():
    with pytest.raises(ValueError, match=r"precision is 'auto'; trainer\.on decides it"):
        run(small.recipe(precision="auto"))


def test_graphs_are_for_gpus():
    trainer = Trainer(Chain(), small.signals, small.recipe(graph=True), "cpu")
    with pytest.raises(
        ValueError, match=r"recipe\.graph is true, which needs a GPU; the device is"
    ):
        trainer.read()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_a_compiled_training_is_close_to_one_that_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.use_deterministic_algorithms(False)
    settings = {"learning_rate": 0.01, "epochs": 2}
    wanted, _ = run(small.recipe(**settings), build=small.plain)
    found, outcome = run(small.recipe(**settings, compile=True), build=small.plain)
    assert outcome.status == "ok"
    for name, some in wanted.state_dict().items():
        assert torch.allclose(found.state_dict()[name], some, rtol=1e-3, atol=1e-5), name
