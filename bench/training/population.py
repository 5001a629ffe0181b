"""Many networks of one space, trained by one program.

Small networks leave most of a GPU idle. Here the weights of K networks are stacked, an operation
that several of them have is one batched call, and optimizer, learning rate and batches are shared.
Each network is still trained as if alone: batch statistics, weight decay, momentum and clipping
are its own, and its loss is a summand, so that no gradient reaches another's weights (horizontal
fusion: Wang et al., MLSys 2021).
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import Any, Literal

import torch
from torch.nn import functional

from bench.space import Architecture, Space
from bench.training.captured import Captured, Gradients
from bench.training.data import Data, augment, derive, order_of
from bench.training.loop import Outcome, macro_f1, make_optimizer
from bench.training.recipe import Recipe
from bench.training.stacked import Population
from bench.training.trainer import network_builder

Streams = Literal["own", "shared"]


def assemble(
    space: Space,
    architectures: Sequence[Architecture],
    data: Data,
    recipe: Recipe,
    seeds: Sequence[int],
    **settings: Any,
) -> Population:
    """A population on the device of the data; each network with the weights that it would begin
    with alone (`loop.train`). `settings` are for the space's `population.build`.

    Raises:
        LookupError: the space has no population networks.
        ValueError: there is not one seed for each architecture, or none at all.
    """
    _check(architectures, seeds)
    build = population_builder(space)
    single = network_builder(space)
    about = data.inputs, data.classes
    states = []
    with torch.random.fork_rng(devices=[]):
        for arch, seed in zip(architectures, seeds, strict=True):
            torch.manual_seed(derive("weights", seed, space.to_string(arch)))
            states.append(single(space, arch, *about, **recipe.network).state_dict())
    population = build(space, architectures, *about, **recipe.network, **settings)
    population.load(states)
    return population.to(data.train[0].device)


def _check(architectures: Sequence[Architecture], seeds: Sequence[int]) -> None:
    if not architectures or len(seeds) != len(architectures):
        raise ValueError(
            f"{len(seeds)} seeds for {len(architectures)} architectures; allowed: one for each"
        )


def population_builder(space: Space) -> Callable[..., Population]:
    """`build(space, architectures, inputs, classes, *, …)` of the module `population` beside the
    space's; the keywords are those of its `network.build`, and perhaps more.

    Raises:
        LookupError: the space has no population networks.
    """
    name = f"{type(space).__module__.rpartition('.')[0]}.population"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise LookupError(f"space {space.name} trains its networks one at a time") from None
    build: Callable[..., Population] = module.build
    return build


def choose(space: Space, recipe: Recipe, device: torch.device) -> bool:
    """Whether populations are to be trained: on a GPU, where the space has population networks.

    On a CPU they are slower: four networks of NAS-Bench-201 with 16 channels, at batch 64, took 1.2
    to 1.6 times the processor time of one at a time. Compiled they have never been tried.
    """
    if device.type != "cuda" or recipe.compile:
        return False
    try:
        population_builder(space)
    except LookupError:
        return False
    return True


def train_population(
    space: Space,
    architectures: Sequence[Architecture],
    data: Data,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    epochs: int | None = None,
    splits: tuple[str, ...] = ("train", "valid"),
    final: tuple[str, ...] = (),
    streams: Streams = "own",
) -> list[Outcome]:
    """Train architectures together; the outcomes are those of `loop.train` one at a time, but for
    rounding, and do not depend on which others are there.

    Their `seconds` are shares of the population's time, by the memory that a network moves:
    attributed, not measured. Where memory does not suffice, the halves are trained in turn.

    Args:
        seeds: one for each architecture. Of initial weights, order of batches and augmentation.
        epochs: where to stop; by default at the end of the recipe.
        streams: `own`: batches are drawn by the network's own seed, as alone; networks of one
            seed share them. `shared`: all are given those of the first seed, which costs less
            and correlates their errors.

    Raises:
        LookupError: the space has no population networks.
        ValueError: there is not one seed for each architecture, or none at all.
        torch.OutOfMemoryError: not even one network fits.
    """
    _check(architectures, seeds)
    last = recipe.epochs if epochs is None else epochs
    streams_of = list(seeds) if streams == "own" else [seeds[0]] * len(seeds)

    def attempt(part: slice) -> list[Outcome]:
        network = assemble(space, architectures[part], data, recipe, seeds[part])
        return Run(network, data, recipe, streams_of[part], splits).train(last, final)

    def train(start: int, stop: int) -> list[Outcome]:
        try:
            return attempt(slice(start, stop))
        except torch.OutOfMemoryError:
            if stop - start == 1:
                raise
        middle = (start + stop) // 2  # out of the handler, which keeps what was allocated
        return train(start, middle) + train(middle, stop)

    return train(0, len(seeds))


class Run:
    """The training of a population."""

    def __init__(
        self,
        network: Population,
        data: Data,
        recipe: Recipe,
        streams: Sequence[int],
        splits: tuple[str, ...] = (),
        *,
        graph: bool = False,
    ) -> None:
        """
        Args:
            streams: for each network, the seed that its batches are drawn by.
            graph: replay each step of a whole batch as a CUDA graph.
        """
        self.network, self.data, self.recipe = network, data, recipe
        self.splits = splits
        self.seeds = list(dict.fromkeys(streams))
        self.stream = [self.seeds.index(seed) for seed in streams]
        self.optimizer = make_optimizer(network, recipe)
        self.outcomes = [Outcome(errors={split: [] for split in splits}) for _ in streams]
        self.epochs = 0
        self.gradients: Gradients = Captured(network, self.backward) if graph else self.backward

    def train(self, last: int, final: tuple[str, ...] = ()) -> list[Outcome]:
        """Train to the end of epoch `last`; `final` are splits that are evaluated then alone."""
        while self.epochs < last and self.going:
            self.epoch()
        self.finish(final)
        return self.outcomes

    @property
    def going(self) -> list[int]:
        """The networks that have not failed."""
        return [model for model, some in enumerate(self.outcomes) if some.status == "ok"]

    def epoch(self) -> None:
        """Train for one epoch and evaluate; who has a loss that is not finite has diverged."""
        start = perf_counter()
        self.network.train()
        total = torch.zeros(self.network.count, device=self.data.train[1].device)
        count = -(-len(self.data.train[1]) // self.recipe.batch_size)
        for step, (inputs, labels) in enumerate(self.batches(self.epochs)):
            rate = self.recipe.rate(self.epochs + step / count)
            total += self.step(inputs, labels, rate)
        self.drop(~total.isfinite())  # the one synchronisation of an epoch
        seconds = perf_counter() - start
        for model in self.going:
            self.outcomes[model].seconds += seconds * self.network.shares[model]
        errors = {split: self.errors(split) for split in self.splits}
        self.epochs += 1
        for model in self.going:
            self.outcomes[model].epochs += 1
            for split, some in errors.items():
                self.outcomes[model].errors[split].append(some[model])

    def batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and labels: `[batch, …]` if all networks share them, else `[K, batch, …]`."""
        all_inputs, all_labels = self.data.train
        generators = [
            torch.Generator().manual_seed(derive("augmentation", seed, epoch))
            for seed in self.seeds
        ]
        orders = torch.stack([order_of(len(all_labels), seed, epoch) for seed in self.seeds])
        parts = torch.split(orders.to(all_labels.device), self.recipe.batch_size, 1)
        for part in parts:
            inputs = [
                self.data.prepare(augment(all_inputs[which], self.recipe, generator))
                for which, generator in zip(part, generators, strict=True)
            ]
            labels = [all_labels[which] for which in part]
            if len(self.seeds) == 1:
                yield inputs[0], labels[0]
            else:
                yield (
                    torch.stack([inputs[stream] for stream in self.stream]),
                    torch.stack([labels[stream] for stream in self.stream]),
                )

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
        """One step of the optimizer; returns each network's loss, `[K]`, left on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self.gradients(inputs, labels)
        if self.recipe.clip:
            clip_each(self.network, self.recipe.clip)
        self.optimizer.step()
        return losses

    def backward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Fresh gradients of the sum of losses; returns the losses."""
        self.network.zero_grad(set_to_none=True)
        with self.precision():
            logits = self.network(inputs)
            losses = functional.cross_entropy(
                logits.flatten(0, 1),
                labels.expand(logits.shape[:2]).flatten(),
                label_smoothing=self.recipe.label_smoothing,
                reduction="none",
            )
        means = losses.view(logits.shape[:2]).mean(1)
        torch.autograd.backward(means.sum())
        return means.detach()

    def precision(self) -> Any:
        if self.recipe.precision == "fp32":
            return nullcontext()
        kind = self.data.train[0].device.type
        return torch.autocast(kind, torch.bfloat16, cache_enabled=False)  # graphs allow no cache

    @torch.no_grad()
    def predict(self, split: str) -> torch.Tensor:
        """The class each network puts each input into, `[K, n]`."""
        self.network.eval()
        device = self.data.train[1].device
        found, finite = [], torch.ones(self.network.count, dtype=torch.bool, device=device)
        for some in torch.split(getattr(self.data, split)[0], self.recipe.batch_size):
            with self.precision():
                logits = self.network(self.data.prepare(some)).float()
            finite &= logits.isfinite().all(2).all(1)
            found.append(logits.argmax(2))
        self.drop(~finite)
        return torch.cat(found, 1)

    def errors(self, split: str) -> list[float]:
        """Of each network, as a fraction."""
        right = (self.predict(split) == getattr(self.data, split)[1]).double().mean(1)
        return [float(some) for some in (1 - right).cpu()]

    def finish(self, final: tuple[str, ...]) -> None:
        """The scores that are taken once, at the end."""
        for split in *self.splits, *final:
            found, labels = self.predict(split), getattr(self.data, split)[1]
            for model in self.going:
                outcome = self.outcomes[model]
                outcome.f1[split] = macro_f1(found[model], labels, self.data.classes)
                if split not in self.splits:
                    error = 1 - float((found[model] == labels).double().mean())
                    outcome.errors[split] = [error]

    def drop(self, diverged: torch.Tensor) -> None:
        """Mark networks as diverged and set all their numbers to zero, where they stay finite."""
        fresh = set(diverged.nonzero().flatten().tolist()) & set(self.going)
        for model in fresh:
            self.outcomes[model].status = "diverged"
        for layer in self.network.layers() if fresh else ():
            rows = torch.isin(layer.owner, diverged.nonzero().flatten())
            for _, stacked in layer.tensors():
                stacked.data[rows] = 0
                for some in self.optimizer.state.get(stacked, {}).values():
                    if isinstance(some, torch.Tensor) and some.shape == stacked.shape:
                        some[rows] = 0


def clip_each(network: Population, limit: float) -> None:
    """Scale the gradients of each network to a norm of at most `limit`, as `clip_grad_norm_`."""
    owned = [
        (some.grad, layer.owner)
        for layer in network.layers()
        for some in layer.parameters(recurse=False)
        if some.grad is not None
    ]
    squares = owned[0][0].new_zeros(network.count)
    for gradient, owner in owned:
        squares.index_add_(0, owner, gradient.flatten(1).square().sum(1))
    factors = (limit / (squares.sqrt() + 1e-6)).clamp(max=1)
    for gradient, owner in owned:
        gradient.mul_(factors[owner].view(-1, *[1] * (gradient.dim() - 1)))
