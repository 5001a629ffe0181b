"""Chains trained together are those trained one at a time, and go on from each other's states."""

from dataclasses import replace
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

import small  # noqa: E402

import spaces.chain.population  # noqa: E402
from bench.training import checkpoint, loop, population  # noqa: E402
from bench.training.data import Data  # noqa: E402
from bench.training.population import Run, assemble, choose, train_population  # noqa: E402
from bench.training.trainer import Trainer  # noqa: E402
from bench.training.worker import Worker  # noqa: E402
from spaces.chain import network  # noqa: E402
from spaces.chain.space import Chain  # noqa: E402

SPACE = Chain()
MIX = [SPACE.from_string(text) for text in ("3-4-5-6-3", "6-6", "3-4-5", "4-4-5-6-6", "6-6")]
ALIKE = [SPACE.from_string(text) for text in ("3-5-4", "3-5-6", "3-5-6", "3-5-3")]
RECIPES = {
    "sgd": {"weight_decay": 1e-2, "label_smoothing": 0.1},
    "clipped": {"weight_decay": 1e-3, "clip": 0.3, "schedule": "one_cycle"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 0.01, "warm_up": 0.5},
}


class Double(Data):
    """Inputs of double precision."""

    def prepare(self, inputs):
        return super().prepare(inputs).double()


def doubled(data):
    return Double(data.train, data.valid, data.test, data.classes)


SIGNALS, IMAGES = doubled(small.signals(length=40)), doubled(small.images(40))


def recipe(**changes):
    return small.recipe(**({"network": {"width": 4, "strided": 1}, "epochs": 4} | changes))


@pytest.fixture(autouse=True)
def double_weights():
    """Initial weights of single precision, as always, and everything else in double."""
    before = loop.nn.Module.to
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.nn.Module, "to", lambda self, *a, **k: before(self, *a, **k).double())
        yield


def alone(arch, seed, data, rules, **changes):
    build = partial(network.build, SPACE, arch, data.inputs, data.classes, **rules.network)
    return loop.train(build, data, rules, seed=seed, name=SPACE.to_string(arch), **changes)


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    scale = max(some.abs().max().item() for name, some in wanted.items() if "batches" not in name)
    for name, some in wanted.items():
        assert (found[name] - some).abs().max().item() <= 1e-9 * scale, name


@pytest.mark.parametrize("rules", RECIPES)
@pytest.mark.parametrize("data", [SIGNALS, IMAGES], ids=["signals", "images"])
@pytest.mark.parametrize("mix", [MIX, ALIKE, MIX[:1]], ids=["mixed", "alike", "one"])
@pytest.mark.parametrize("seeds", [[1] * 5, [1, 2, 3, 1, 2]], ids=["shared", "own"])
def test_a_training_is_that_of_one_at_a_time(mix, data, rules, seeds):
    rules, seeds = recipe(**RECIPES[rules], epochs=2), seeds[: len(mix)]
    run = Run(assemble(SPACE, mix, data, rules, seeds), data, rules, seeds, ("train", "valid"))
    found = run.train(2, ("test",))
    for model, (arch, seed) in enumerate(zip(mix, seeds, strict=True)):
        single, outcome = alone(arch, seed, data, rules, final=("test",))
        assert_close(run.network.extract(model), single.state_dict())
        assert replace(found[model], seconds=0) == replace(outcome, seconds=0)


@pytest.mark.parametrize("rules", RECIPES)
@pytest.mark.parametrize("data", [SIGNALS, IMAGES], ids=["signals", "images"])
def test_a_population_goes_on_from_those_trained_alone_and_they_from_it(tmp_path, data, rules):
    rules, seeds = recipe(**RECIPES[rules]), [1, 2, 3, 1, 2]
    whole = [alone(arch, seed, data, rules)[0] for arch, seed in zip(MIX, seeds, strict=True)]
    paths = [tmp_path / f"{model}.pt" for model in range(len(MIX))]
    for arch, seed, path in zip(MIX, seeds, paths, strict=True):
        alone(arch, seed, data, rules, epochs=1, checkpoint=path)
    train_population(SPACE, MIX, data, rules, seeds=seeds, epochs=3, checkpoints=paths)
    for arch, seed, path, wanted in zip(MIX, seeds, paths, whole, strict=True):
        assert checkpoint.load(path)["outcome"]["epochs"] == 3
        found, outcome = alone(arch, seed, data, rules, checkpoint=path)
        assert outcome.epochs == 4
        assert_close(found.state_dict(), wanted.state_dict())


def test_a_killed_population_ends_as_one_that_was_not(tmp_path, monkeypatch):
    rules, seeds = recipe(**RECIPES["adamw"]), [1, 2, 3, 1, 2]
    paths = [tmp_path / f"{model}.pt" for model in range(len(MIX))]
    wanted = train_population(SPACE, MIX, SIGNALS, rules, seeds=seeds, final=("test",))
    monkeypatch.setattr(population, "CHECKPOINT_SECONDS", 0.0)
    epoch = Run.epoch

    def killed(run):
        if run.epochs == 2:
            raise KeyboardInterrupt
        epoch(run)

    trained = partial(train_population, SPACE, MIX, SIGNALS, rules, seeds=seeds)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(final=("test",), checkpoints=paths)
    epochs = []
    monkeypatch.setattr(Run, "epoch", lambda run: (epochs.append(run.epochs), epoch(run)))
    found = trained(final=("test",), checkpoints=paths)
    assert epochs == [2, 3]
    assert [replace(some, seconds=0) for some in found] == [
        replace(some, seconds=0) for some in wanted
    ]


def test_those_that_have_come_equally_far_go_on_together(tmp_path, monkeypatch):
    rules = recipe()
    paths = [tmp_path / "0.pt", None, tmp_path / "2.pt"]
    alone(MIX[0], 1, SIGNALS, rules, epochs=3, checkpoint=paths[0])
    alone(MIX[2], 9, SIGNALS, rules, epochs=3, checkpoint=paths[2])  # of another seed: no use
    epochs, epoch = [], Run.epoch
    monkeypatch.setattr(
        Run, "epoch", lambda run: (epochs.append((run.epochs, run.network.count)), epoch(run))
    )
    found = train_population(
        SPACE, MIX[:3], SIGNALS, rules, seeds=[1, 1, 1], epochs=4, checkpoints=paths
    )
    assert epochs == [(0, 2), (1, 2), (2, 2), (3, 2), (3, 1)]
    for arch, outcome in zip(MIX[:3], found, strict=True):
        _, wanted = alone(arch, 1, SIGNALS, rules)
        assert replace(outcome, seconds=0) == replace(wanted, seconds=0)


def test_states_that_are_not_equally_far_are_refused(tmp_path):
    rules = recipe()
    states = []
    for epochs in 1, 2:
        alone(MIX[0], 1, SIGNALS, rules, epochs=epochs, checkpoint=tmp_path / "some.pt")
        states.append(checkpoint.load(tmp_path / "some.pt"))
    run = Run(assemble(SPACE, MIX[:1] * 2, SIGNALS, rules, [1, 1]), SIGNALS, rules, [1, 1])
    with pytest.raises(ValueError, match=r"2 states after \[1, 2\] epochs for 2 networks; allowed"):
        run.restore(states)
    with pytest.raises(ValueError, match=r"1 states after \[1\] epochs for 2 networks; allowed"):
        run.restore(states[:1])


def answers(trainings, rules):
    worker = Worker(Trainer(SPACE, lambda: SIGNALS, rules))
    request = {"kind": "together", "trainings": trainings, "epochs": 2, "final": ("test",)}
    return worker.answer(SIGNALS, request | {"splits": ("train", "valid")})["answers"]


def test_a_worker_answers_for_many_as_for_each(monkeypatch):
    monkeypatch.setattr(spaces.chain.population, "DEVICES", {"cpu": (2,)})
    rules = recipe()
    trainings = [
        {"architecture": arch, "seed": seed, "checkpoint": None} for seed, arch in enumerate(MIX)
    ]
    found = answers(trainings, rules)
    assert [one.pop("together") for one in found] == [5] * 5
    for one, training in zip(found, trainings, strict=True):
        (wanted,) = answers([training], rules)
        assert "together" not in wanted
        assert one.keys() == wanted.keys()
        for name in "status", "epochs", "parameters", "data", "micro_batches":
            assert one[name] == wanted[name], name
        assert one["errors"]["test"] == pytest.approx(wanted["errors"]["test"], abs=0.04)


def test_where_populations_are_trained():
    assert choose(SPACE, recipe(), torch.device("cuda"))
    assert choose(SPACE, recipe(), torch.device("cuda"), (1, 40))
    assert choose(SPACE, recipe(), torch.device("cuda"), (3, 32, 32))
    assert not choose(SPACE, recipe(), torch.device("cpu"), (1, 40))
    assert not choose(SPACE, recipe(compile=True), torch.device("cuda"))
