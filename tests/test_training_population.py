"""Networks trained together are those trained one at a time."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

import small  # noqa: E402

from bench.training import loop, stacked  # noqa: E402
from bench.training.captured import Captured  # noqa: E402
from bench.training.data import Data  # noqa: E402
from bench.training.population import (  # noqa: E402
    Run,
    assemble,
    choose,
    clip_each,
    population_builder,
    train_population,
)
from bench.training.stacked import grouped, multiplied, put, take  # noqa: E402
from spaces.nb201 import network  # noqa: E402
from spaces.nb201.population import useful  # noqa: E402
from spaces.nb201.space import NB201  # noqa: E402
from spaces.recurrent.space import Recurrent  # noqa: E402

ROOT = Path(__file__).parent.parent
SPACE = NB201()
DATA = small.images(40)
MIX = [
    (3, 2, 4, 1, 3, 2),
    (1, 0, 3, 3, 0, 1),  # node 2 reads node 1 alone
    (0, 0, 0, 0, 0, 0),  # nothing arrives
    (3, 3, 0, 0, 0, 1),  # the output does not depend on an operation
    (4, 4, 3, 2, 2, 3),
    (0, 1, 0, 0, 3, 0),  # no path, but a convolution of zeros, whose norm has a bias
    (3, 3, 3, 3, 3, 3),
    (0, 0, 0, 1, 0, 0),
    (3, 2, 4, 1, 3, 2),  # the first again
]
MIXES = {
    "one": MIX[:1],
    "three": MIX[:3],
    "five": MIX[2:7],
    "nine": MIX,
    "no path": [MIX[2], MIX[5]],
    "alike": [MIX[6]] * 3,
}
RECIPES = {
    "sgd": {"weight_decay": 1e-2, "label_smoothing": 0.1, "augmentation": "crop_flip"},
    "clipped": {"weight_decay": 1e-3, "clip": 0.3, "schedule": "one_cycle"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 0.01, "warm_up": 0.5},
}


class Double(Data):
    """Inputs of double precision."""

    def prepare(self, inputs):
        return super().prepare(inputs).double()


DOUBLE = Double(DATA.train, DATA.valid, DATA.test, DATA.classes)


@pytest.fixture(autouse=True)
def _strictly():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def recipe(**changes):
    settings = {"network": {"channels": 4, "cells": 1}, "epochs": 2}
    return small.recipe(**(settings | changes))


def alone(arch, seed, data, rules, **changes):
    """The network and the outcome of `loop.train`, in the precision of the data."""
    make = partial(network.build, SPACE, arch, data.inputs, data.classes, **rules.network)

    def build():
        return make().double() if isinstance(data, Double) else make()

    return loop.train(build, data, rules, seed=seed, name=SPACE.to_string(arch), **changes)


def together(mix, seeds, data, rules, *, streams=None, **settings):
    """A run that has not begun."""
    made = assemble(SPACE, mix, data, rules, seeds, **settings)
    if isinstance(data, Double):
        made = made.double()
    return Run(made, data, rules, streams or seeds, ("train", "valid"))


def assert_close(found, wanted, tolerance, names):
    """Relative to the largest number of the network, apart from its count of batches."""
    scale = max(wanted[name].abs().max().item() for name in names if "batches" not in name)
    for name in names:
        far = (found[name].double() - wanted[name].double()).abs().max().item()
        assert far <= tolerance * max(scale, 1e-300), name


def assert_same_network(made, model, single, tolerance):
    """All that the population holds; the other weights, which nothing trains, exactly."""
    found, wanted = made.extract(model), single.state_dict()
    assert found.keys() == wanted.keys()
    held = {name for _, owner, name in made.places() if owner == model}
    assert_close(found, wanted, tolerance, held)
    for name, weight in single.named_parameters():
        if name not in held:
            assert torch.equal(found[name], weight.to(found[name].dtype)), name


@pytest.mark.parametrize("convolve", [grouped, multiplied])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("mix", MIXES)
def test_gradients_are_those_of_the_separate_networks(mix, layout, convolve):
    mix, rules = MIXES[mix], recipe(label_smoothing=0.1)
    run = together(mix, range(len(mix)), DOUBLE, rules, streams=[0] * len(mix), convolve=convolve)
    run.network.memory_format = layout
    inputs, labels = next(run.batches(0))
    before = [run.network.extract(model) for model in range(len(mix))]
    losses = run.backward(inputs, labels)
    gradients = [{} for _ in mix]
    for layer in filter(lambda layer: layer.rows, run.network.layers()):
        for name, some in layer.named_parameters(recurse=False):
            for row, (model, prefix) in zip(some.grad, layer.rows, strict=True):
                gradients[model][f"{prefix}.{name}"] = row
    for model, arch in enumerate(mix):
        single = network.build(SPACE, arch, DATA.inputs, DATA.classes, **rules.network).double()
        single.load_state_dict(before[model])
        loss = torch.nn.functional.cross_entropy(single(inputs), labels, label_smoothing=0.1)
        loss.backward()
        assert losses[model].item() == pytest.approx(loss.item(), rel=1e-12)
        wanted = {
            name: weight.grad
            for name, weight in single.named_parameters()
            if weight.grad is not None
        }
        assert gradients[model].keys() == wanted.keys()
        assert_close(gradients[model], wanted, 1e-9, wanted)


@pytest.mark.parametrize("rules", RECIPES)
@pytest.mark.parametrize("mix", ["one", "nine"])
def test_a_training_is_that_of_one_at_a_time(mix, rules):
    mix, rules = MIXES[mix], recipe(**RECIPES[rules])
    seeds = [model // 2 for model in range(len(mix))]
    run = together(mix, seeds, DOUBLE, rules)
    found = run.train(2, ("test",))
    for model, (arch, seed) in enumerate(zip(mix, seeds, strict=True)):
        single, outcome = alone(arch, seed, DOUBLE, rules, final=("test",))
        assert_same_network(run.network, model, single, 1e-9)
        assert outcome.status == found[model].status == "ok"
        assert replace(found[model], seconds=0) == replace(outcome, seconds=0)


def test_a_training_in_single_precision_is_close():
    rules = recipe(**RECIPES["sgd"], learning_rate=0.01)
    run = together(MIX, [1] * len(MIX), DATA, rules)
    run.train(1)
    for model, arch in enumerate(MIX):
        single, _ = alone(arch, 1, DATA, rules, epochs=1)
        assert_same_network(run.network, model, single, 1e-4)


def test_half_precision_trains():
    rules = recipe(precision="bf16")
    run = together(MIX, [1] * len(MIX), DATA, rules)
    found = run.train(1)
    for model, arch in enumerate(MIX):
        single, _ = alone(arch, 1, DATA, rules, epochs=1)
        assert_same_network(run.network, model, single, 0.1)
        assert found[model].status == "ok"


def test_companions_do_not_matter():
    rules = recipe(**RECIPES["clipped"])
    arch = MIX[0]
    found = []
    for before, after in ([], []), (MIX[1:3], MIX[4:5]), (MIX[2:3], MIX[3:]), ([arch], [arch]):
        run = together([*before, arch, *after], [3] * (len(before) + 1 + len(after)), DOUBLE, rules)
        run.train(1)
        found.append(run.network.extract(len(before)))
    for other in found[1:]:
        assert_close(other, found[0], 1e-9, other)


def test_shared_streams_are_those_of_the_first_seed():
    seeds = [5, 6, 7]
    rules = recipe(augmentation="crop_flip", epochs=1)
    shared = together(MIX[:3], seeds, DOUBLE, rules, streams=[5, 5, 5])
    own = together(MIX[:3], seeds, DOUBLE, rules)
    assert next(shared.batches(0))[0].dim() == 4
    assert next(own.batches(0))[0].dim() == 5
    assert torch.equal(next(own.batches(0))[0][0], next(shared.batches(0))[0])
    assert not torch.equal(next(own.batches(0))[0][1], next(shared.batches(0))[0])
    shared.train(1)
    single, _ = alone(MIX[0], 5, DOUBLE, rules)
    assert_same_network(shared.network, 0, single, 1e-9)


def test_networks_of_one_seed_share_what_they_compute():
    data_of = together(MIX[:2], [4, 4], DATA, recipe())
    assert next(data_of.batches(0))[0].dim() == 4


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_memory_is_as_chosen(layout):
    run = together(MIX, range(len(MIX)), DATA, recipe())
    run.network.memory_format = layout
    seen = []
    run.network.body[-1].register_forward_hook(
        lambda _, inputs, found: seen.extend([*inputs, found])
    )
    for streams in [0] * len(MIX), range(len(MIX)):
        run.stream, run.seeds = list(streams), sorted(set(streams))
        run.backward(*next(run.batches(0)))
    assert len(seen) == 4
    assert all(some.flatten(1, 2).is_contiguous(memory_format=layout) for some in seen)


@pytest.mark.parametrize("training", [True, False])
def test_extracted_weights_give_the_same_answers(training):
    run = together(MIX, [0] * len(MIX), DOUBLE, recipe())
    run.train(1)
    run.network.train(training)
    inputs = DOUBLE.prepare(DATA.valid[0])
    with torch.no_grad():
        states = [run.network.extract(model) for model in range(len(MIX))]
        logits = run.network(inputs)
        for model, arch in enumerate(MIX):
            single = network.build(SPACE, arch, DATA.inputs, DATA.classes, channels=4, cells=1)
            single.double().train(training).load_state_dict(states[model])
            assert torch.allclose(logits[model], single(inputs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("convolve", [grouped, multiplied])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e38])
def test_one_that_diverges_leaves_the_others_alone(poison, convolve):
    rules, mix = recipe(**RECIPES["clipped"]), [MIX[6], MIX[0], MIX[4], MIX[6]]

    def trained(victim):
        run = together(mix, [2] * 4, DATA, rules, convolve=convolve)
        for row, model, name in run.network.places():
            if model == victim and name.endswith("weight"):
                row.fill_(poison)
        return run, run.train(2)

    run, outcomes = trained(1)
    healthy, others = trained(None)
    assert [some.status for some in outcomes] == ["ok", "diverged", "ok", "ok"]
    assert outcomes[1].epochs == 0
    assert outcomes[1].errors == {"train": [], "valid": []}
    assert outcomes[1].f1 == {}
    for model in 0, 2, 3:
        assert outcomes[model].errors == others[model].errors
        left, right = run.network.extract(model), healthy.network.extract(model)
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert all(
        row.isfinite().all() and not row.any()
        for row, model, name in run.network.places()
        if model == 1 and name.startswith("0.")
    )


def test_a_run_ends_when_all_have_diverged():
    run = together(MIX[:2], [0, 0], DATA, recipe(learning_rate=1e30, epochs=4))
    assert [some.status for some in run.train(4)] == ["diverged", "diverged"]
    assert run.epochs < 4
    _, outcome = alone(MIX[0], 0, DATA, recipe(learning_rate=1e30, epochs=4))
    assert (outcome.status, outcome.epochs) == ("diverged", run.outcomes[0].epochs)


def test_logits_that_are_not_finite_are_a_divergence():
    run = together(MIX[:2], [0, 0], DATA, recipe())
    for row, model, name in run.network.places():
        if model == 1 and name.endswith("running_var"):
            row.fill_(float("nan"))  # only evaluation reads them
    assert [some.status for some in run.train(1)] == ["ok", "diverged"]


def test_norms_are_clipped_network_by_network():
    run = together(MIX[:2], [0, 0], DATA, recipe())
    run.backward(*next(run.batches(0)))
    for layer in run.network.layers():
        for some in layer.parameters(recurse=False):
            some.grad[layer.owner == 1] *= 1e4

    def norms():
        squares = torch.zeros(2)
        for layer in run.network.layers():
            for some in layer.parameters(recurse=False):
                squares.index_add_(0, layer.owner, some.grad.flatten(1).square().sum(1))
        return squares.sqrt()

    small_one, large = norms().tolist()
    assert large > 1000 * small_one
    clip_each(run.network, 2 * small_one)
    assert norms().tolist() == pytest.approx([small_one, 2 * small_one], rel=1e-3)


def test_outcomes_of_a_population():
    rules = recipe()
    found = train_population(SPACE, MIX[:4], DATA, rules, seeds=[1, 2, 3, 4], final=("test",))
    assert [len(some.errors["valid"]) for some in found] == [2] * 4
    assert all(some.errors.keys() == some.f1.keys() == {"train", "valid", "test"} for some in found)
    assert found[0].seconds > found[2].seconds > 0  # nothing is computed there
    stopped = train_population(SPACE, MIX[:4], DATA, rules, seeds=[1, 2, 3, 4], epochs=1)
    assert [some.errors["valid"] for some in stopped] == [
        some.errors["valid"][:1] for some in found
    ]


def test_a_population_that_does_not_fit_is_halved(monkeypatch):
    rules, seeds = recipe(), list(range(5))
    wanted = train_population(SPACE, MIX[:5], DATA, rules, seeds=seeds)
    sizes, drawn = [], set()

    def cramped(self, *arguments):
        sizes.append(self.network.count)
        drawn.update(self.seeds)
        if self.network.count > 2:
            raise torch.OutOfMemoryError
        return step(self, *arguments)

    step = Run.step
    monkeypatch.setattr(Run, "step", cramped)
    found = train_population(SPACE, MIX[:5], DATA, rules, seeds=seeds)
    assert list(dict.fromkeys(sizes)) == [5, 2, 3, 1]
    assert drawn == set(seeds)
    assert [some.errors for some in found] == [some.errors for some in wanted]
    monkeypatch.setattr(Run, "step", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):
        train_population(SPACE, MIX[:5], DATA, rules, seeds=seeds)


def test_every_architecture_needs_a_seed():
    with pytest.raises(ValueError, match="2 seeds for 3 architectures; allowed: one for each"):
        train_population(SPACE, MIX[:3], DATA, recipe(), seeds=[1, 2])
    with pytest.raises(ValueError, match="0 seeds for 0 architectures"):
        train_population(SPACE, [], DATA, recipe(), seeds=[])


def test_signals_are_refused():
    with pytest.raises(ValueError, match="images"):
        train_population(SPACE, MIX[:1], small.signals(), recipe(), seeds=[1])


def test_a_space_without_populations_trains_one_at_a_time():
    with pytest.raises(LookupError, match="space recurrent trains its networks one at a time"):
        population_builder(Recurrent())
    assert not choose(Recurrent(), recipe(), torch.device("cuda"))


def test_populations_are_for_gpus():
    assert choose(SPACE, recipe(), torch.device("cuda", 1))
    assert not choose(SPACE, recipe(), torch.device("cpu"))
    assert not choose(SPACE, recipe(compile=True), torch.device("cuda"))


def test_building_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    assemble(SPACE, MIX[:2], DATA, recipe(), [1, 2])
    assert torch.equal(before, torch.get_rng_state())


def test_useful_nodes():
    assert useful((0,) * 6) == {3}
    assert useful((3, 3, 0, 0, 0, 1)) == {3, 2, 0}
    assert useful((3, 3, 1, 0, 0, 0)) == {3}
    assert useful((0, 1, 0, 0, 3, 0)) == {3, 1}


def test_every_row_is_where_the_single_network_has_it():
    made = assemble(SPACE, MIX, DATA, recipe(), range(len(MIX)))
    for model, arch in enumerate(MIX):
        names = [name for _, owner, name in made.places() if owner == model]
        assert len(names) == len(set(names))
        single = network.build(SPACE, arch, DATA.inputs, DATA.classes, channels=4, cells=1)
        assert made.extract(model).keys() == single.state_dict().keys()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_taking_and_putting_have_the_gradients_of_indexing(layout):
    x = torch.randn(2, 4, 3, 2, 2, dtype=torch.double)
    x = x.flatten(1, 2).contiguous(memory_format=layout).unflatten(1, (4, 3)).requires_grad_()
    first, second = torch.tensor([3, 1]), torch.tensor([1, 0])

    def function(x):
        one, two = take(x, first, second)
        return put((2, 5, 3, 2, 2), x, [(torch.tensor([4, 0]), one * one), (second, two.sin())])

    def indexed(x):
        sums = x.new_zeros(2, 5, 3, 2, 2)
        sums = sums.index_add(1, torch.tensor([4, 0]), x[:, first] ** 2)
        return sums.index_add(1, second, x[:, second].sin())

    assert torch.equal(function(x), indexed(x))
    assert torch.autograd.gradcheck(function, x)
    assert stacked._is_channels_last(function(x)) is (layout == torch.channels_last)


@pytest.mark.parametrize("batch_size", [20, 25])
def test_what_surrounds_a_graph(monkeypatch, batch_size):
    """Warm-up leaves no trace, and a smaller last batch is computed as usual."""
    rules = recipe(batch_size=batch_size, weight_decay=1e-3)
    runs = [
        Run(assemble(SPACE, MIX[:3], DOUBLE, rules, [0] * 3).double(), DOUBLE, rules, [0] * 3)
        for _ in range(2)
    ]
    runs[1].captured = captured = Captured(runs[1].network, runs[1].backward)
    small.fake_graphs(monkeypatch, lambda: captured)
    for run in runs:
        run.train(2)
    assert captured.graph.replays == {20: 4, 25: 2}[batch_size]
    for model in range(3):
        left, right = (run.network.extract(model) for run in runs)
        assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_graph_gives_the_same_as_the_calls_it_replays():
    data, rules = DATA.to(torch.device("cuda")), recipe(batch_size=25)
    torch.use_deterministic_algorithms(False)
    runs = [
        Run(assemble(SPACE, MIX, data, rules, [0] * 9), data, rules, [0] * 9, graph=graph)
        for graph in (False, True)
    ]
    for run in runs:
        run.train(2)
    assert isinstance(runs[1].captured, Captured)
    for model in range(9):
        left, right = (run.network.extract(model) for run in runs)
        assert_close(right, left, 1e-3, left)


@pytest.mark.slow
def test_the_benchmark_runs_on_a_cpu(tmp_path):
    script = ROOT / "tests/benchmarks/population.py"
    command = [sys.executable, script, "--cpu", "--quick", "--json", tmp_path / "found.json"]
    child = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert child.returncode == 0, child.stderr
    assert "architectures/hour" in child.stdout
    assert (tmp_path / "found.json").is_file()
