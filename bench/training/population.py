"""Many networks of one space, trained by one program.

Small networks leave most of a GPU idle. Here the weights of K networks are stacked, an operation
that several of them have is one batched call, and optimizer, learning rate and batches are shared.
Each network is still trained as if alone: batch statistics, weight decay, momentum and clipping
are its own, and its loss is a summand, so that no gradient reaches another's weights (horizontal
fusion: Wang et al., MLSys 2021).
"""

import gc
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional

from bench.space import Architecture, Space
from bench.training import carried
from bench.training.captured import Captured, Gradients
from bench.training.checkpoint import load, save
from bench.training.data import Data, augment, derive, order_of
from bench.training.loop import (
    CHECKPOINT_SECONDS,
    Outcome,
    evaluated,
    half,
    held,
    identity_of,
    macro_f1,
    make_optimizer,
)
from bench.training.recipe import Recipe
from bench.training.stacked import Population
from bench.training.trainer import network_builder


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
    networks = []
    with torch.random.fork_rng(devices=[]):
        for arch, seed in zip(architectures, seeds, strict=True):
            torch.manual_seed(derive("weights", seed, space.to_string(arch)))
            networks.append(single(space, arch, *about, **recipe.network))
    population = build(space, architectures, *about, **recipe.network, **settings)
    population.load([network.state_dict() for network in networks])
    population.parameters_of = [
        [name for name, _ in network.named_parameters()] for network in networks
    ]
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
    build: Callable[..., Population] = population_module(space).build
    return build


def population_module(space: Space) -> ModuleType:
    """The module `population` beside the space's.

    Raises:
        LookupError: the space has no population networks.
    """
    name = f"{type(space).__module__.rpartition('.')[0]}.population"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise LookupError(f"space {space.name} trains its networks one at a time") from None


def choose(
    space: Space, recipe: Recipe, device: torch.device, inputs: tuple[int, ...] | None = None
) -> bool:
    """Whether populations are to be trained: where the space has population networks, for the
    devices and the kinds of input for which its module `population` names them as faster, in
    `DEVICES`: 2 for `[channels, length]`, 3 for images. None are compiled.

    Args:
        inputs: the shape of one input; without it, whether there is some kind.
    """
    try:
        module = population_module(space)
    except LookupError:
        return False
    kinds = module.DEVICES.get(device.type, ())
    return not recipe.compile and (len(inputs) in kinds if inputs else bool(kinds))


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
    checkpoints: Sequence[Path | None] = (),
) -> list[Outcome]:
    """Train architectures together; the outcomes are those of `loop.train` one at a time, but for
    rounding, and do not depend on which others are there.

    Their `seconds` are shares of the population's time, by the memory that a network moves:
    attributed, not measured. Where memory does not suffice, the halves are trained in turn.

    Args:
        seeds: one for each architecture. Of initial weights, order of batches and augmentation;
            networks of one seed share batches.
        epochs: where to stop; by default at the end of the recipe.
        checkpoints: for each architecture, where its state is kept, as `loop.train` keeps it:
            each can do without the others and without the population. Networks go on together
            from where they are, those that have come equally far.

    Raises:
        LookupError: the space has no population networks.
        ValueError: there is not one seed for each architecture, or none at all.
        torch.OutOfMemoryError: not even one network fits.
    """
    _check(architectures, seeds)
    last = recipe.epochs if epochs is None else epochs
    paths = list(checkpoints) or [None] * len(seeds)
    identities = [
        identity_of(recipe, seed, splits, space.to_string(arch), data)
        for arch, seed in zip(architectures, seeds, strict=True)
    ]
    states = [
        None if path is None else _saved(path, identity, last)
        for path, identity in zip(paths, identities, strict=True)
    ]
    outcomes: dict[int, Outcome] = {}

    def attempt(part: Sequence[int]) -> list[Outcome]:
        members = [architectures[model] for model in part]
        theirs = [seeds[model] for model in part]
        network = assemble(space, members, data, recipe, theirs)
        run = Run(network, data, recipe, theirs, splits, graph=recipe.graph)
        if there := [state for model in part if (state := states[model])]:
            run.restore(there)

        def keep() -> None:
            for place in run.going:
                if (path := paths[part[place]]) is not None:
                    save(run.state(place) | {"identity": identities[part[place]]}, path)

        found = run.train(last, final, keep)
        keep()
        run.captured = None  # lets go of the run, which it refers to
        return found

    def train(part: Sequence[int]) -> None:
        try:
            outcomes.update(zip(part, attempt(part), strict=True))
            return
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
        gc.collect()  # a step that was captured keeps what it ran on
        middle = len(part) // 2  # out of the handler, which keeps what was allocated
        train(part[:middle])
        train(part[middle:])

    reached = [state["outcome"]["epochs"] if state else 0 for state in states]
    for epochs_done in sorted(set(reached)):
        train([model for model, there in enumerate(reached) if there == epochs_done])
    return [outcomes[model] for model in range(len(seeds))]


def _saved(path: Path, identity: str, last: int) -> dict[str, Any] | None:
    """The state that is kept there, if it is of this training and not beyond epoch `last`."""
    state = load(path)
    if state is None or state["identity"] != identity or state["outcome"]["epochs"] > last:
        return None
    return state


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
        self.found: dict[str, torch.Tensor] = {}  # what the last epoch predicted
        self.epochs = 0
        self.captured = Captured(network, self.backward) if graph else None

    def train(
        self, last: int, final: tuple[str, ...] = (), keep: Callable[[], object] = bool
    ) -> list[Outcome]:
        """Train to the end of epoch `last`; `final` are splits that are evaluated then alone.

        `keep` is called now and then between two epochs, to save what there is.
        """
        begun = saved = perf_counter()
        while self.epochs < last and self.going:
            self.epoch()
            if perf_counter() - saved > CHECKPOINT_SECONDS:
                keep()
                saved = perf_counter()
        self.finish(final)
        seconds = held(self.data.train[0].device, begun)
        for outcome, share in zip(self.outcomes, self.network.shares, strict=True):
            outcome.gpu_seconds = seconds * share
        return self.outcomes

    def state(self, model: int) -> dict[str, Any]:
        """What `loop` would save of this network, but for the identity; copies."""
        outcome = asdict(self.outcomes[model])
        return carried.state_of(self.network, self.optimizer, model) | {"outcome": outcome}

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from states that have come equally far, one for each network.

        Raises:
            ValueError: they have not, or there is not one for each.
        """
        reached = {state["outcome"]["epochs"] for state in states}
        if len(states) != self.network.count or len(reached) != 1:
            raise ValueError(
                f"{len(states)} states after {sorted(reached)} epochs for {self.network.count} "
                "networks; allowed: one for each, all equally far"
            )
        carried.restore(self.network, self.optimizer, states)
        self.outcomes = [Outcome(**state["outcome"]) for state in states]
        self.epochs = reached.pop()

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
        self.found = {split: self.predict(split) for split in self.splits}
        errors = {split: self.errors(split, found) for split, found in self.found.items()}
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
        stream = torch.tensor(self.stream, device=all_labels.device)
        for part in parts:
            inputs = all_inputs[part]
            if self.recipe.augmentation != "none":
                drawn = [
                    augment(some, self.recipe, generator)
                    for some, generator in zip(inputs, generators, strict=True)
                ]
                inputs = torch.stack(drawn)
            prepared = self.data.prepare(inputs)
            if len(self.seeds) == 1:
                yield prepared[0], all_labels[part[0]]
            elif len(self.seeds) == len(self.stream):
                yield prepared, all_labels[part]
            else:
                yield prepared[stream], all_labels[part[stream]]

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
        """One step of the optimizer; returns each network's loss, `[K]`, left on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        gradients: Gradients = self.captured or self.backward
        losses = gradients(inputs, labels)
        if self.recipe.clip:
            clip_each(self.network, self.recipe.clip)
        self.optimizer.step()
        return losses

    def backward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Fresh gradients of the sum of losses; returns the losses."""
        self.network.zero_grad(set_to_none=True)
        with half(self.recipe, inputs.device):
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

    @torch.no_grad()
    def predict(self, split: str) -> torch.Tensor:
        """The class each network puts each input into, `[K, n]`."""
        self.network.eval()
        device = self.data.train[1].device
        found, finite = [], torch.ones(self.network.count, dtype=torch.bool, device=device)
        inputs, _ = getattr(self.data, split)
        size = max(self.recipe.batch_size, evaluated(inputs) // self.network.count)
        for some in torch.split(inputs, size):
            with half(self.recipe, inputs.device):
                logits = self.network(self.data.prepare(some)).float()
            finite &= logits.isfinite().all(2).all(1)
            found.append(logits.argmax(2))
        self.drop(~finite)
        return torch.cat(found, 1)

    def errors(self, split: str, found: torch.Tensor) -> list[float]:
        """Of each network, as a fraction."""
        right = (found == getattr(self.data, split)[1]).double().mean(1)
        return [float(some) for some in (1 - right).cpu()]

    def finish(self, final: tuple[str, ...]) -> None:
        """The scores that are taken once, at the end."""
        for split in *self.splits, *final:
            found = self.found[split] if split in self.found else self.predict(split)
            labels = getattr(self.data, split)[1]
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
