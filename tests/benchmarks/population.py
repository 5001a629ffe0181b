"""Population training on a GPU: architectures an hour against one at a time.

    python tests/benchmarks/population.py [--quick] [--rounds N] [--minutes M] [--json FILE]
    python tests/benchmarks/population.py --cpu --quick      # the same script, tiny, on a CPU

NAS-Bench-201 with 16 channels and one cell a stage, CIFAR-sized images, bf16, the published
optimizer. First it checks that what is timed is right, and stops if it is not:

- losses of a population on this device against single networks on the CPU, in single precision;
- a network that diverges changes no loss of another;
- a CUDA graph gives the losses of the calls that it replays.

Then it times both ways to convolve in both memory formats, and takes the fastest for populations.
Arms: eager and CUDA graph one at a time; 4 and 8 processes, each one at a time, eager and graph;
populations of 1, 4, 16, 64, 128, eager and graph. They take turns in every round. The work of
a step is batching, augmentation, forward, backward, optimizer. One at a time, in processes, and up
to K = 4 the same 8 architectures are trained, otherwise these and more. Warm-up (with graph
capture and cuDNN's trials) is printed apart, and once included in what a short training gives.
Bytes are those that operations read and write, counted by shape without fusion.

Last, unless --quick, the accuracies: a population against one at a time with the same seeds, and
one at a time against itself with other seeds.
"""

import argparse
import gc
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from statistics import mean, median
from time import monotonic, perf_counter
from typing import Any

import measure
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.space import Architecture
from bench.training.captured import Captured
from bench.training.data import Data, augment, derive, order_of
from bench.training.loop import make_optimizer, train
from bench.training.population import Run, assemble, train_population
from bench.training.recipe import Recipe
from bench.training.stacked import grouped, multiplied
from spaces.nb201.network import build
from spaces.nb201.space import NB201

SPACE = NB201()
LAYOUTS = {"channels last": torch.channels_last, "planes": torch.contiguous_format}
CONVOLVE = {"grouped": grouped, "multiplied": multiplied}
TRAINING_IMAGES = 12 * 25_000  # what one architecture of an hour is trained on
GOALS = (("eager", 10.0), ("the best one at a time", 3.0))


@dataclass
class Sizes:
    """How much is done."""

    populations: tuple[int, ...] = (1, 4, 16, 64, 128)
    batches: tuple[int, ...] = (64, 256)
    processes: tuple[int, ...] = (4, 8)
    sample: int = 8  # architectures that the arms one at a time go through
    images: int = 8192
    side: int = 32
    channels: int = 16
    seconds: float = 0.5  # of one measurement, about
    most: int = 200  # steps of one measurement
    probe: int = 16  # networks of the population that ways to convolve are tried with
    copy: int = 1 << 30  # bytes
    distribution: tuple[int, int, int] = (16, 3, 3)  # architectures, seeds, epochs


TINY = Sizes((1, 2, 4), (8,), (2,), 2, 64, 8, 4, 0.02, 2, 2, 1 << 22, (2, 2, 1))
QUICK = replace(Sizes(), populations=(1, 16, 64), processes=(4,), seconds=0.2)


@dataclass
class Arm:
    """A way to train, and what was measured of it."""

    name: str
    batch: int
    steps: list[float] = field(default_factory=list)
    """Seconds for a step of one architecture, a measurement each."""
    warm_up: list[float] = field(default_factory=list)
    """Seconds for an architecture, before its first measured step."""
    memory: float = 0.0
    """GiB at the peak, of one process."""
    bandwidth: list[float] = field(default_factory=list)
    """Bytes a second."""
    failed: str = ""

    @property
    def hourly(self) -> float:
        return 3600 / (median(self.steps) * (TRAINING_IMAGES / self.batch))

    @property
    def hourly_with_warm_up(self) -> float:
        seconds = median(self.steps) * (TRAINING_IMAGES / self.batch) + median(self.warm_up)
        return 3600 / seconds


def recipe_of(batch: int, sizes: Sizes, **changes: Any) -> Recipe:
    """The published optimizer of NAS-Bench-201 (Dong & Yang, ICLR 2020, table 1)."""
    settings: dict[str, Any] = {
        "name": "benchmark",
        "epochs": 12,
        "batch_size": batch,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "augmentation": "crop_flip",
        "precision": "bf16",
        "deterministic": False,
        "network": {"channels": sizes.channels, "cells": 1},
    }
    return Recipe(**(settings | changes))


def make_data(sizes: Sizes, device: torch.device) -> Data:
    """Images of ten patterns under noise: ours, so that nothing need be downloaded."""
    generator = torch.Generator().manual_seed(0)
    side = sizes.side
    patterns = torch.randn(10, 3, side, side, generator=generator)

    def split(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(10, (count,), generator=generator)
        noise = torch.randn(count, 3, side, side, generator=generator)
        images = (patterns[labels] * 12 + noise * 60 + 128).clamp(0, 255).to(torch.uint8)
        return images, labels

    data = Data(split(sizes.images), split(sizes.images), split(100), 10)
    return data.to(device)


class Single:
    """One network, with steps like those of a population's `Run`."""

    def __init__(self, arch: Architecture, data: Data, recipe: Recipe, *, graph: bool) -> None:
        self.data, self.recipe = data, recipe
        torch.manual_seed(derive("weights", 0, SPACE.to_string(arch)))  # as in `loop.train`
        network = build(SPACE, arch, data.inputs, data.classes, **recipe.network)
        self.network = network.to(data.train[0].device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.network, recipe)
        self.gradients = Captured(self.network, self.backward) if graph else self.backward

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        inputs, labels = self.data.train
        generator = torch.Generator().manual_seed(derive("augmentation", 0, epoch))
        order = order_of(len(labels), 0, epoch).to(labels.device)
        for which in torch.split(order, self.recipe.batch_size):
            some = augment(inputs[which], self.recipe, generator)
            yield self.data.prepare(some), labels[which]

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.gradients(inputs.contiguous(memory_format=torch.channels_last), labels)
        self.optimizer.step()
        return loss

    def backward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.network.zero_grad(set_to_none=True)
        half = self.recipe.precision == "bf16"
        kind = inputs.device.type
        with torch.autocast(kind, torch.bfloat16, cache_enabled=False) if half else nullcontext():
            loss = functional.cross_entropy(self.network(inputs), labels)
        torch.autograd.backward(loss)
        return loss.detach()


def population(
    archs: list[Architecture],
    data: Data,
    recipe: Recipe,
    way: tuple[str, str],
    *,
    graph: bool = False,
    own: bool = False,
) -> Run:
    """A run; `own`: every network draws batches of its own."""
    made = assemble(SPACE, archs, data, recipe, [0] * len(archs), convolve=CONVOLVE[way[0]])
    streams = list(range(len(archs))) if own else [0] * len(archs)
    run = Run(made, data, recipe, streams, graph=graph)
    made.memory_format = LAYOUTS[way[1]]
    run.network.train()
    return run


def endless(trainee: Single | Run) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Whole batches, epoch after epoch."""
    epoch = 0
    while True:
        for inputs, labels in trainee.batches(epoch):
            if labels.shape[-1] == trainee.recipe.batch_size:
                yield inputs, labels
        epoch += 1


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tidy(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def run_steps(trainee: Single | Run, batches: Any, count: int, device: torch.device) -> float:
    """Seconds for some steps."""
    wait(device)
    start = perf_counter()
    for _ in range(count):
        inputs, labels = next(batches)
        trainee.step(inputs, labels, 0.05)
    wait(device)
    return perf_counter() - start


def timed(
    make: Callable[[], Single | Run], sizes: Sizes, device: torch.device
) -> tuple[float, float]:
    """Seconds to make it and warm up, and for a step afterwards."""
    start = perf_counter()
    trainee = make()
    batches = endless(trainee)
    run_steps(trainee, batches, 2, device)
    warm_up = perf_counter() - start
    guess = run_steps(trainee, batches, 2, device) / 2
    count = max(2, min(sizes.most, round(sizes.seconds / guess)))
    return warm_up, run_steps(trainee, batches, count, device) / count


# --- correctness


def check(data: Data, sizes: Sizes, device: torch.device) -> list[str]:
    """What was found; ends the program where something is wrong."""
    archs = [*draw(3), (0, 1, 0, 0, 3, 0)]
    batch = min(32, sizes.images // 2)
    exact = recipe_of(batch, sizes, precision="fp32", learning_rate=0.01)
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    there = data.to(torch.device("cpu"))
    wanted = torch.stack([curve(Single(arch, there, exact, graph=False)) for arch in archs], 1)
    notes, wrong = [], []
    for name in CONVOLVE:
        for layout in LAYOUTS:
            way = name, layout
            found = curve(population(archs, data, exact, way))
            far = ((found - wanted).abs() / wanted).amax(1)
            notes.append(
                f"{name}, {layout}: losses differ from the CPU's by {far[0]:.1e} in the first "
                f"step and {far.max():.1e} in {len(far)}"
            )
            if not (far[0] < 1e-4 and far.max() < 2e-2):
                wrong.append(notes[-1])
            if not (leak := leaks(archs, data, exact, way)) < 1e-3:
                wrong.append(f"{name}, {layout}: a diverged network changes losses by {leak:.1e}")
    if device.type == "cuda":
        curves = {"one at a time": single_curve, "a population": population_curve}
        for name, losses_of in curves.items():
            calls, replayed = (losses_of(archs, data, exact, graph) for graph in (False, True))
            change = float(((calls - replayed).abs() / calls).max())
            notes.append(f"CUDA graph, {name}: losses differ by {change:.1e}")
            if not change < 2e-2:
                wrong.append(notes[-1])
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    if wrong:
        sys.exit("nothing was timed, because it is wrong: " + "; ".join(wrong))
    return notes


def curve(trainee: Single | Run, steps: int = 10) -> torch.Tensor:
    """The losses of some steps, on the CPU."""
    batches = endless(trainee)
    found = []
    for _ in range(steps):
        inputs, labels = next(batches)
        found.append(trainee.step(inputs, labels, 0.01).clone())
    return torch.stack(found).cpu()


def single_curve(
    archs: list[Architecture], data: Data, recipe: Recipe, graph: bool
) -> torch.Tensor:
    return curve(Single(archs[0], data, recipe, graph=graph))


def population_curve(
    archs: list[Architecture], data: Data, recipe: Recipe, graph: bool
) -> torch.Tensor:
    return curve(population(archs, data, recipe, ("grouped", "channels last"), graph=graph))


def leaks(archs: list[Architecture], data: Data, recipe: Recipe, way: tuple[str, str]) -> float:
    """How far the losses of others move, relatively, when a network's weights are not numbers."""
    healthy, poisoned = (population([archs[0], *archs], data, recipe, way) for _ in range(2))
    for row, model, name in poisoned.network.places():
        if model == 1 and name.endswith("weight"):
            row.fill_(float("nan"))
    others = [model for model in range(len(archs) + 1) if model != 1]
    one, other = curve(healthy, 3)[:, others], curve(poisoned, 3)[:, others]
    return float(((one - other).abs() / one).nan_to_num(float("inf")).max())


# --- bandwidth


class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write, those that make views apart."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        alias = [some.alias_info for some in func._schema.returns]
        view = any(some is not None and not some.is_write for some in alias)
        name = func.name()
        if name.startswith("aten::index_add"):
            self.bytes += 3 * size_of(args[3])  # only these places are read and written
        elif name.startswith("aten::index_select"):
            self.bytes += 2 * size_of(found)
        elif not view and "empty" not in name:
            self.bytes += sum(map(size_of, tree_leaves((args, kwargs, found))))
        return found


def size_of(some: Any) -> int:
    """In bytes; 0 for what is no tensor."""
    return some.numel() * some.element_size() if isinstance(some, torch.Tensor) else 0


def bytes_of(trainee: Single | Run) -> int:
    """Moved by one step."""
    batches = endless(trainee)
    trainee.step(*next(batches), 0.05)
    inputs, labels = next(batches)
    with Moved() as moved:
        trainee.step(inputs, labels, 0.05)
    return int(moved.bytes)


def copy_bandwidth(sizes: Sizes, device: torch.device) -> float:
    """Bytes read and written a second by copies of a large tensor; the best of ten."""
    source = torch.zeros(sizes.copy, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = []
    for _ in range(10):
        wait(device)
        start = perf_counter()
        target.copy_(source)
        wait(device)
        found.append(2 * sizes.copy / (perf_counter() - start))
    return max(found)


# --- several processes


def work(pipe: Any, number: int, sizes: Sizes, kind: str) -> None:
    """Train one network after another, for as long as a message says."""
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    device = torch.device(kind)
    data = make_data(sizes, device)
    archs = draw(sizes.sample)
    pipe.send("ready")
    while (message := pipe.recv()) is not None:
        batch, graph, seconds, count = message
        recipe = recipe_of(batch, sizes)
        some = archs[number::count] or archs[:1]
        trainees = [Single(arch, data, recipe, graph=graph) for arch in some]
        feeds = [endless(trainee) for trainee in trainees]
        for trainee, batches in zip(trainees, feeds, strict=True):
            run_steps(trainee, batches, 3, device)
        pipe.send("warm")
        pipe.recv()
        steps, start = 0, perf_counter()
        while perf_counter() - start < seconds:
            for trainee, batches in zip(trainees, feeds, strict=True):
                run_steps(trainee, batches, 5, device)
                steps += 5
        pipe.send((steps, perf_counter() - start))


class Workers:
    """Processes that train at the same time."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for number in range(max(sizes.processes)):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=work, args=(theirs, number, sizes, device.type), daemon=True
            )
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        for pipe in self.pipes:
            pipe.recv()

    def step(self, count: int, batch: int, graph: bool, seconds: float) -> float:
        """Seconds for a step of one architecture, with `count` processes at work."""
        some = self.pipes[:count]
        for pipe in some:
            pipe.send((batch, graph, seconds, count))
        for pipe in some:
            pipe.recv()
        for pipe in some:
            pipe.send("go")
        found = [pipe.recv() for pipe in some]
        return 1 / sum(float(steps / taken) for steps, taken in found)

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(30)


# --- the table


def draw(count: int) -> list[Architecture]:
    """The same architectures in every process."""
    rng = Random(0)
    return [SPACE.sample(rng) for _ in range(count)]


def ways(data: Data, sizes: Sizes, device: torch.device) -> dict[tuple[str, str], float]:
    """Seconds for a step of one network in a population, by how it convolves."""
    archs = draw(sizes.probe)
    recipe = recipe_of(sizes.batches[0], sizes)
    found = {}
    for name in CONVOLVE:
        for layout in LAYOUTS:
            tidy(device)
            make = partial(population, archs, data, recipe, (name, layout))
            found[name, layout] = timed(make, sizes, device)[1] / len(archs)
    return found


Measure = Callable[[Arm], None]


def arms_of(
    data: Data,
    sizes: Sizes,
    batch: int,
    way: tuple[str, str],
    workers: Workers,
    device: torch.device,
) -> list[tuple[Arm, Measure]]:
    """Every arm at a batch size, with what measures it once more."""
    recipe, sample = recipe_of(batch, sizes), draw(sizes.sample)
    graphs = [False, True] if device.type == "cuda" else [False]

    def one_at_a_time(arm: Arm, graph: bool) -> None:
        found = [
            timed(partial(Single, arch, data, recipe, graph=graph), small, device)
            for arch in sample
        ]
        arm.warm_up.append(mean(warm_up for warm_up, _ in found))
        arm.steps.append(mean(step for _, step in found))

    def several(arm: Arm, count: int, graph: bool) -> None:
        arm.steps.append(workers.step(count, batch, graph, sizes.seconds * 2))
        arm.warm_up.append(0.0)

    def together(arm: Arm, count: int, graph: bool, own: bool) -> None:
        groups = [draw(count)] if count > len(sample) else parts(sample, count)
        found = [
            timed(
                partial(population, some, data, recipe, way, graph=graph, own=own),
                small if len(groups) > 1 else sizes,
                device,
            )
            for some in groups
        ]
        arm.warm_up.append(mean(warm_up for warm_up, _ in found) / count)
        arm.steps.append(mean(step for _, step in found) / count)

    small = replace(sizes, seconds=sizes.seconds / 4)
    found: list[tuple[Arm, Measure]] = []

    def add(name: str, action: Callable[..., None], *settings: Any) -> None:
        found.append((Arm(name, batch), lambda arm: action(arm, *settings)))

    for graph in graphs:
        add(titled("one at a time", graph), one_at_a_time, graph)
    for count in sizes.processes:
        for graph in graphs:
            add(titled(f"{count} processes", graph), several, count, graph)
    for count in sizes.populations:
        for graph in graphs:
            add(titled(f"population of {count}", graph), together, count, graph, False)
    count = sizes.populations[-2]
    add(f"population of {count}, own streams", together, count, False, True)
    return found


def parts(archs: list[Architecture], size: int) -> list[list[Architecture]]:
    """The list cut into parts of that size."""
    return [archs[start : start + size] for start in range(0, len(archs), size)]


def titled(name: str, graph: bool) -> str:
    return f"{name}, graph" if graph else f"{name}, eager"


def measured(arms: list[tuple[Arm, Measure]], rounds: int, end: float, device: torch.device) -> int:
    """Measure all arms in turn; returns how many rounds there was time for."""
    for number in range(rounds):
        if number and monotonic() > end:
            return number
        for arm, action in arms:
            if arm.failed:
                continue
            tidy(device)
            try:
                action(arm)
            except torch.OutOfMemoryError:
                arm.failed = "out of memory"
            if device.type == "cuda":
                arm.memory = max(arm.memory, torch.cuda.max_memory_allocated(device) / 2**30)
    return rounds


def table(arms: list[Arm], moved: dict[int, float], copy: float) -> list[str]:
    """Markdown. `moved`: bytes of a population's step for one network, by batch size."""
    lines = [
        "| batch | arm | ms a step and architecture [min–max] | architectures/hour "
        "| with warm-up | × eager | × best single | GB/s | of copy | peak GiB |",
        "|" + " --- |" * 10,
    ]
    for arm in arms:
        if arm.failed:
            lines.append(f"| {arm.batch} | {arm.name} | {arm.failed} |" + " – |" * 7)
            continue
        eager, best = references(arms, arm.batch)
        low, high = min(arm.steps) * 1e3, max(arm.steps) * 1e3
        rate = moved[arm.batch] / median(arm.steps) if arm.name.startswith("pop") else None
        cells = [
            str(arm.batch),
            arm.name,
            f"{median(arm.steps) * 1e3:.3f} [{low:.3f}–{high:.3f}]",
            f"{arm.hourly:,.0f}",
            f"{arm.hourly_with_warm_up:,.0f}",
            f"{ratio(eager, arm):.2f}",
            f"{ratio(best, arm):.2f}",
            "–" if rate is None else f"{rate / 1e9:,.3g}",
            "–" if rate is None else f"{rate / copy:.0%}",
            f"{arm.memory:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def references(arms: list[Arm], batch: int) -> tuple[Arm, Arm]:
    """Eager one at a time, and the fastest arm without populations."""
    some = [arm for arm in arms if arm.batch == batch and not arm.failed]
    singles = [arm for arm in some if not arm.name.startswith("population")]
    return singles[0], min(singles, key=lambda arm: median(arm.steps))


def ratio(other: Arm, arm: Arm) -> float:
    """How many times as fast as another; the median over rounds."""
    return median(
        float(theirs / ours) for theirs, ours in zip(other.steps, arm.steps, strict=False)
    )


def verdicts(arms: list[Arm], sizes: Sizes) -> list[str]:
    """The goals, which are for the smaller batch."""
    batch = sizes.batches[0]
    populations = [
        arm for arm in arms if arm.batch == batch and arm.name.startswith("pop") and not arm.failed
    ]
    best = min(populations, key=lambda arm: median(arm.steps))
    found = []
    for (name, goal), other in zip(GOALS, references(arms, batch), strict=True):
        reached = ratio(other, best)
        verdict = "met" if reached >= goal else "missed"
        found.append(
            f"goal at batch {batch}: at least {goal:g}× {name} ({other.name}): "
            f"{reached:.2f}× by {best.name}: {verdict}"
        )
    return found


# --- accuracies


def distribution(data: Data, sizes: Sizes) -> list[str]:
    """Accuracies of a population against one at a time."""
    from scipy.stats import kendalltau, sem, t

    count, seeds, epochs = sizes.distribution
    archs = draw(count)
    recipe = recipe_of(sizes.batches[0], sizes, epochs=epochs)

    def alone(arch: Architecture, seed: int) -> float:
        made = partial(build, SPACE, arch, data.inputs, data.classes, **recipe.network)
        name = SPACE.to_string(arch)
        _, outcome = train(made, data, recipe, seed=seed, splits=("valid",), name=name)
        return outcome.errors["valid"][-1] if outcome.status == "ok" else 1.0

    singles = [[alone(arch, seed) for arch in archs] for seed in range(2 * seeds)]
    together = []
    for seed in range(seeds):
        outcomes = train_population(
            SPACE, archs, data, recipe, seeds=[seed] * count, splits=("valid",)
        )
        together.append(
            [some.errors["valid"][-1] if some.status == "ok" else 1.0 for some in outcomes]
        )
    apart = [
        100 * (one - other)
        for row, others in zip(together, singles[:seeds], strict=True)
        for one, other in zip(row, others, strict=True)
    ]
    wide = float(t.ppf(0.975, len(apart) - 1) * sem(apart))
    middle = mean(apart)
    verdict = "met" if abs(middle) + wide <= 0.2 else "missed or not resolved"

    def means(rows: list[list[float]]) -> list[float]:
        return [mean(column) for column in zip(*rows, strict=True)]

    first, second = means(singles[:seeds]), means(singles[seeds:])
    between = kendalltau(means(together), first).statistic
    repeats = kendalltau(second, first).statistic
    return [
        f"{count} architectures, {seeds} seeds, {epochs} epochs: error of a population "
        f"minus one at a time {middle:+.2f} ± {wide:.2f} points; goal within ±0.2: {verdict}",
        f"Kendall's tau with one at a time: population {between:.3f}, one at a time with other "
        f"seeds {repeats:.3f}",
    ]


def profile(data: Data, sizes: Sizes, way: tuple[str, str], device: torch.device) -> str:
    """Where the time of a population's step goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    recipe = recipe_of(sizes.batches[0], sizes)
    run = population(draw(sizes.populations[-2]), data, recipe, way)
    batches = endless(run)
    run_steps(run, batches, 3, device)
    kinds = [ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
        key = "self_device_time_total"
    with profiler(activities=kinds) as found:
        run_steps(run, batches, 3, device)
    return str(found.key_averages().table(sort_by=key, row_limit=15))


def about(device: torch.device) -> dict[str, str]:
    found = measure.machine(["torch", "numpy"])
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found |= {
            "GPU": properties.name,
            "GPU memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(cudnn),
        }
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer arms, shorter, no accuracies")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, with tiny networks")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of every arm")
    parser.add_argument("--minutes", type=float, default=5.0, help="after which no round begins")
    parser.add_argument("--profile", action="store_true", help="also print the dearest operations")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if not options.cpu and not torch.cuda.is_available():
        sys.exit("there is no CUDA device here; --cpu runs the script with tiny networks")
    device = torch.device("cpu" if options.cpu else "cuda")
    sizes = TINY if options.cpu else QUICK if options.quick else Sizes()
    begun = monotonic()
    if options.cpu:
        print("Tiny networks on a CPU: these numbers say that the script runs, and nothing else.\n")
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    data = make_data(sizes, device)

    notes = check(data, sizes, device)
    print("### Correctness\n")
    print(*(f"- {note}" for note in notes), sep="\n", flush=True)

    found = ways(data, sizes, device)
    way = min(found, key=found.__getitem__)
    print(f"\n### Ways to convolve, {sizes.probe} networks, batch {sizes.batches[0]}\n")
    for (name, layout), step in found.items():
        print(f"- {name}, {layout}: {step * 1e3:.3f} ms a step and architecture")
    print(f"- taken: {', '.join(way)}", flush=True)

    copy = copy_bandwidth(sizes, device)
    sample = draw(sizes.probe)
    moved = {
        batch: bytes_of(population(sample, data, recipe_of(batch, sizes), way)) / len(sample)
        for batch in sizes.batches
    }
    alone = {
        batch: mean(
            bytes_of(Single(arch, data, recipe_of(batch, sizes), graph=False)) for arch in sample
        )
        for batch in sizes.batches
    }
    workers = Workers(sizes, device)
    try:
        pairs = [
            pair
            for batch in sizes.batches
            for pair in arms_of(data, sizes, batch, way, workers, device)
        ]
        rounds = measured(pairs, options.rounds, begun + 60 * options.minutes, device)
    finally:
        workers.close()
    arms = [arm for arm, _ in pairs]
    print(f"\n### Trained architectures/hour, {TRAINING_IMAGES:,} images each\n")
    print(*table(arms, moved, copy), sep="\n")
    print(f"\n- rounds: {rounds} of {options.rounds}; seconds of steps by the wall clock")
    print(f"- copy bandwidth: {copy / 1e9:,.4g} GB/s")
    for batch in sizes.batches:
        print(
            f"- bytes of a step and architecture at batch {batch}, counted: "
            f"population {moved[batch] / 1e6:,.1f} MB, one at a time {alone[batch] / 1e6:,.1f} MB"
        )
    print(*(f"- {note}" for note in verdicts(arms, sizes)), sep="\n", flush=True)
    if options.cpu or (not options.quick and monotonic() < begun + 90 * options.minutes):
        print("\n### Accuracies\n")
        print(*(f"- {note}" for note in distribution(data, sizes)), sep="\n")
    if options.profile:
        print(profile(data, sizes, way, device))
    machine = about(device)
    print("\n-", "; ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"- {(monotonic() - begun) / 60:.1f} minutes in all")
    if options.json:
        record = {
            "machine": machine,
            "copy": copy,
            "bytes": moved,
            "correctness": notes,
            "arms": [vars(arm) for arm in arms],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
