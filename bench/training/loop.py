"""One network, trained."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn

from bench.store import canonical_json
from bench.training.captured import Captured, Gradients
from bench.training.checkpoint import load, save
from bench.training.data import Data, augment, derive, order_of
from bench.training.recipe import Recipe

# Positions that are evaluated at a time: 32 images of CIFAR-10 keep activations within the cache of
# a core, 250 take up to 1.5 times as long; a GPU wants more.
EVALUATED = {"cpu": 1 << 15, "cuda": 1 << 20}
CHECKPOINT_SECONDS = 30.0  # of training that a kill may cost


@dataclass
class Outcome:
    """What a training gave; JSON-able by `asdict`."""

    status: str = "ok"
    """`"ok"`, or why it failed: `"diverged"`, `"oom_cuda"`, …"""
    epochs: int = 0
    """Epochs that were trained to the end."""
    seconds: float = 0.0
    """Seconds of training, without evaluation."""
    gpu_seconds: float = 0.0
    """Seconds that a GPU was held for it in this process; what a kill cost is not told."""
    errors: dict[str, list[float]] = field(default_factory=dict)
    """Of each evaluated split, after every epoch; fractions."""
    f1: dict[str, float] = field(default_factory=dict)
    """Macro-averaged, of each evaluated split, at the end."""
    micro_batches: int = 1
    """Into how many parts a batch was cut, for want of memory."""


def train(
    build: Callable[[], nn.Module],
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    epochs: int | None = None,
    splits: tuple[str, ...] = ("train", "valid"),
    final: tuple[str, ...] = (),
    checkpoint: Path | None = None,
    name: str = "",
) -> tuple[nn.Module, Outcome]:
    """Train a network; equal arguments give equal weights on the same kind of machine.

    Args:
        build: makes the untrained network; its weights are drawn from the global torch state,
            which is seeded from `seed` and `name` and put back afterwards.
        data: on the device where training is to happen.
        epochs: where to stop; by default at the end of the recipe.
        splits: what is evaluated after each epoch.
        final: what is evaluated at the end alone.
        checkpoint: where the state is kept; a training that finds an earlier state of itself
            goes on from it, whatever else lies there is trained over.
        name: of the architecture, for its initial weights.
    """
    device = data.train[0].device
    run = _begin(build, data, recipe, seed, splits, name)
    last = recipe.epochs if epochs is None else epochs
    if checkpoint is not None and (state := load(checkpoint)) is not None:
        run.restore(state, last)
    begun = saved = perf_counter()
    while run.outcome.epochs < last:
        run.epoch()
        if run.outcome.status != "ok":
            break
        if checkpoint is not None and perf_counter() - saved > CHECKPOINT_SECONDS:
            save(run.state(), checkpoint)
            saved = perf_counter()
    if run.outcome.status == "ok":
        run.finish(final)
    if checkpoint is not None and run.outcome.status == "ok":
        save(run.state(), checkpoint)
    run.captured = None  # lets go of the run, which it refers to
    run.outcome.gpu_seconds = held(device, begun)
    return run.network, run.outcome


def _begin(
    build: Callable[[], nn.Module],
    data: Data,
    recipe: Recipe,
    seed: int,
    splits: tuple[str, ...],
    name: str,
) -> "_Run":
    device = data.train[0].device
    with seeded(device, derive("weights", seed, name)):
        network = build().to(device)
    if data.train[0].dim() == 4:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Run(network, data, recipe, seed, splits, name)


def held(device: torch.device, since: float) -> float:
    """The seconds since then, if the device is a GPU."""
    return perf_counter() - since if device.type == "cuda" else 0.0


def step_seconds(
    build: Callable[[], nn.Module],
    data: Data,
    recipe: Recipe,
    *,
    seed: int = 0,
    name: str = "",
    repeats: int = 10,
    warm_up: int = 2,
) -> float:
    """Seconds of a training step as `train` takes it, the median of some with the first batch.

    Raises:
        ValueError: nothing would be measured.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(
            f"repeats is {repeats} and warm_up {warm_up}; allowed: 1 and more, 0 and more"
        )
    run = _begin(build, data, recipe, seed, (), name)
    inputs, labels = data.train
    batch = order_of(len(labels), seed, 0)[: recipe.batch_size].to(labels.device)
    seconds = []
    run.network.train()
    with seeded(labels.device, derive("dropout", seed, 0)):
        for _ in range(warm_up + repeats):
            start = perf_counter()
            some = augment(inputs[batch], recipe, torch.Generator().manual_seed(seed))
            float(run.step(data.prepare(some), labels[batch]))  # waits for the device
            seconds.append(perf_counter() - start)
    run.captured = None
    return median(seconds[warm_up:])


def identity_of(recipe: Recipe, seed: int, splits: tuple[str, ...], name: str, data: Data) -> str:
    """What a checkpoint must be of to be gone on from."""
    return canonical_json([asdict(recipe), seed, splits, name, data.digest])


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's global random numbers, and put them back afterwards.

    Layers draw their first weights, and dropout its masks, from there and from nowhere else.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class _Run:
    """A training between two epochs."""

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        recipe: Recipe,
        seed: int,
        splits: tuple[str, ...],
        name: str,
    ) -> None:
        self.network, self.data, self.recipe = network, data, recipe
        self.seed, self.splits = seed, splits
        self.forward = torch.compile(network) if recipe.compile else network
        self.captured = Captured(network, self.backward) if recipe.graph else None
        self.optimizer = make_optimizer(network, recipe)
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.outcome = Outcome(errors={split: [] for split in splits})
        self.found: dict[str, torch.Tensor] = {}  # what the last epoch predicted
        self.identity = identity_of(recipe, seed, splits, name, data)

    def state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "outcome": asdict(self.outcome),
        }

    def restore(self, state: Mapping[str, Any], last: int) -> None:
        """Go on from a state, if it is one of this training and not beyond epoch `last`."""
        if state["identity"] != self.identity or state["outcome"]["epochs"] > last:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for weights, kept in self.optimizer.state.items():
            for name, some in kept.items():
                if some.shape == weights.shape:  # a fused step expects them alike in memory, too
                    kept[name] = torch.empty_like(weights).copy_(some)
        self.outcome = Outcome(**state["outcome"])

    def epoch(self) -> None:
        """Train for one epoch and evaluate; a loss that is not finite ends the training."""
        number, recipe = self.outcome.epochs, self.recipe
        inputs, labels = self.data.train
        start = perf_counter()
        generator = torch.Generator().manual_seed(derive("augmentation", self.seed, number))
        order = order_of(len(labels), self.seed, number).to(labels.device)
        batches = torch.split(order, recipe.batch_size)
        self.network.train()
        total = torch.zeros((), device=labels.device)
        with seeded(labels.device, derive("dropout", self.seed, number)):
            for step, batch in enumerate(batches):
                for group in self.optimizer.param_groups:
                    group["lr"] = recipe.rate(number + step / len(batches))
                some = self.data.prepare(augment(inputs[batch], recipe, generator))
                total += self.step(some, labels[batch])
        if not torch.isfinite(total):  # the one synchronisation of an epoch
            self.outcome.status = "diverged"
            return
        self.outcome.seconds += perf_counter() - start
        found = {split: self.predict(split) for split in self.splits}
        if self.outcome.status != "ok":
            return
        self.outcome.epochs += 1
        for split, classes in found.items():
            self.outcome.errors[split].append(self.error(split, classes))
        self.found = found

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step of the optimizer; returns the loss, which stays on the device."""
        while True:
            try:
                return self._step(inputs, labels)
            except torch.OutOfMemoryError:
                if not self.recipe.accumulate or self.outcome.micro_batches >= len(labels):
                    raise
                self.outcome.micro_batches *= 2

    def _step(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        gradients: Gradients = self.captured or self.backward
        total = gradients(inputs, labels)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        return total

    def backward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Fresh gradients of the mean loss; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=labels.device)
        parts = self.outcome.micro_batches
        for some, wanted in zip(inputs.chunk(parts), labels.chunk(parts), strict=True):
            with half(self.recipe, inputs.device):
                loss = self.loss(self.forward(some), wanted) * (len(wanted) / len(labels))
            loss.backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def predict(self, split: str) -> torch.Tensor:
        """The class each input is put into, shape `[n]`; logits that are not finite diverged."""
        self.network.eval()
        inputs, _ = getattr(self.data, split)
        size = max(1, evaluated(inputs) // self.outcome.micro_batches)
        with half(self.recipe, inputs.device):
            logits = torch.cat(
                [
                    self.forward(self.data.prepare(some)).float()
                    for some in torch.split(inputs, size)
                ]
            )
        if not logits.isfinite().all():
            self.outcome.status = "diverged"
        return logits.argmax(1)

    def error(self, split: str, found: torch.Tensor) -> float:
        labels = getattr(self.data, split)[1]
        return 1 - float((found == labels).double().mean())

    def finish(self, final: tuple[str, ...]) -> None:
        """The scores that are taken once, at the end."""
        for split in *self.splits, *final:
            found = self.found[split] if split in self.found else self.predict(split)
            labels = getattr(self.data, split)[1]
            self.outcome.f1[split] = macro_f1(found, labels, self.data.classes)
            if split not in self.splits:
                self.outcome.errors[split] = [self.error(split, found)]


def half(recipe: Recipe, device: torch.device) -> Any:
    """A context in which networks compute with the precision of the recipe.

    Raises:
        ValueError: the recipe leaves that open.
    """
    if recipe.precision == "auto":
        raise ValueError("precision is 'auto'; trainer.on decides it for a device")
    if recipe.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)  # graphs allow no cache


def evaluated(inputs: torch.Tensor) -> int:
    """How many of these are put through a network at a time where none learns."""
    return max(1, EVALUATED[inputs.device.type] // prod(inputs.shape[1:][-2:]))


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe; weight decay acts on every parameter, as published recipes do.

    On a CPU one fused call updates all parameters; on a GPU the default does, in a few.
    """
    fused = True if all(some.device.type == "cpu" for some in network.parameters()) else None
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            network.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    return torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
        fused=fused,
    )


def macro_f1(found: torch.Tensor, labels: torch.Tensor, classes: int) -> float:
    """The mean over classes of 2 TP / (2 TP + FP + FN); 0 for a class that nobody names."""
    table = torch.zeros(classes, classes, dtype=torch.double)
    table.index_put_((labels.cpu(), found.cpu()), torch.ones(1, dtype=torch.double), True)
    named = table.sum(0) + table.sum(1)
    return float((2 * table.diag() / named.clamp(min=1)).mean())
