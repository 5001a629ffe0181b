"""Seconds of training a NAS-Bench-201 network on one core, against plain PyTorch.

    python tests/benchmarks/training.py [--quick] [--rounds N] [--json FILE]

Ours is `bench.training.loop.train` with the recipe `nb201` as it ships, for one epoch. The peer is
what one writes by hand: the same network in PyTorch's default memory format, fp32, eager; a
`DataLoader` over a data set like torchvision's `CIFAR10` (a PIL image an item) with the usual
transforms; SGD with Nesterov momentum, a cosine schedule, and an evaluation of both parts at the
end of the epoch, in batches like those of training. Both have one thread of torch, 16 channels and
batches of 256, and train as many images of 32 x 32. The images are synthetic, since what they show
does not change how long they take: noise with a colour for each class, so that one sees that both
learn. `--quick`: fewer images, one cell a stage alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import Any

import measure
import numpy as np
import torch
import yaml
from torch import nn

from bench.training.data import Data
from bench.training.loop import seeded, train
from bench.training.recipe import Recipe
from bench.training.trainer import on
from bench.training.vision import torchvision
from spaces.nb201.network import build
from spaces.nb201.space import NB201

GOAL = 1.8
CLASSES = 10
LEARNING_EPOCHS = 15
SIGNAL = 60.0  # deviation of the colours; that of the noise is the same
MEAN, DEVIATION = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)  # of CIFAR-10, as usually written
NETWORKS = {
    "heaviest": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    "average, each operation once or twice": "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|"
    "+|none~0|avg_pool_3x3~1|skip_connect~2|",
    "cheapest that learns, one 1x1": "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|",
}


@dataclass
class Took:
    """What one training took, and what came out."""

    whole: float
    """Seconds with evaluation, from the untrained network on."""
    alone: float
    """Seconds of the steps, with what prepares their batches."""
    error: float
    """On the validation part."""


def make_data(train_images: int, valid_images: int) -> Data:
    """Synthetic images: a colour for each class, under noise."""
    rng = np.random.default_rng(0)
    colours = rng.normal(0, SIGNAL, (CLASSES, 3, 1, 1))

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = rng.integers(CLASSES, size=count)
        images = 128 + colours[labels] + rng.normal(0, SIGNAL, (count, 3, 32, 32))
        pixels = torch.from_numpy(images.clip(0, 255).astype(np.uint8))
        return pixels, torch.from_numpy(labels.astype(np.int64))

    return Data(part(train_images), part(valid_images), part(CLASSES), CLASSES)


def make_recipe(cells: int) -> Recipe:
    """The recipe that ships, for one epoch and so many cells a stage."""
    settings = yaml.safe_load((measure.ROOT / "conf/recipe/nb201.yaml").read_text())
    del settings["_target_"]
    settings |= {"epochs": 1, "network": settings["network"] | {"cells": cells}}
    return on(Recipe(**settings), torch.device("cpu"))


def make_network(name: str, recipe: Recipe) -> nn.Module:
    space = NB201()
    return build(space, space.from_string(name), (3, 32, 32), CLASSES, **recipe.network)


def ours(name: str, data: Data, recipe: Recipe) -> Took:
    """As a process that trains does it: on the device's data, deterministic where asked."""
    torch.use_deterministic_algorithms(recipe.deterministic)
    start = perf_counter()
    _, outcome = train(lambda: make_network(name, recipe), data, recipe, seed=0)
    whole = perf_counter() - start
    torch.use_deterministic_algorithms(False)
    if outcome.status != "ok":
        raise SystemExit(f"{name}: {outcome.status}")
    return Took(whole, outcome.seconds, outcome.errors["valid"][-1])


class Images(torch.utils.data.Dataset[Any]):
    """Like torchvision's `CIFAR10`: an item becomes a PIL image, which is transformed."""

    def __init__(
        self, images: torch.Tensor, labels: torch.Tensor, transform: Callable[[Any], Any]
    ) -> None:
        from PIL import Image

        self.pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels, self.transform = labels.tolist(), transform
        self.to_image = Image.fromarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.to_image(self.pixels[index])), self.labels[index]


class Peer:
    """Plain PyTorch."""

    def __init__(self, data: Data, batch_size: int, workers: int) -> None:
        transforms = torchvision().transforms
        scale = [tuple(some / 255 for some in values) for values in (MEAN, DEVIATION)]
        plain = [transforms.ToTensor(), transforms.Normalize(*scale)]
        changed = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *plain]

        def loader(part: tuple[torch.Tensor, torch.Tensor], steps: list[Any], shuffle: bool) -> Any:
            return torch.utils.data.DataLoader(
                Images(*part, transforms.Compose(steps)),
                batch_size,
                shuffle=shuffle,
                num_workers=workers,
                persistent_workers=workers > 0,
            )

        self.batches = loader(data.train, changed, True)
        self.evaluated = loader(data.train, plain, False), loader(data.valid, plain, False)

    def __call__(self, name: str, recipe: Recipe) -> Took:
        start = perf_counter()
        with seeded(torch.device("cpu"), 0):
            network = make_network(name, recipe)
            optimizer = torch.optim.SGD(
                network.parameters(),
                recipe.learning_rate,
                momentum=recipe.momentum,
                nesterov=True,
                weight_decay=recipe.weight_decay,
            )
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, recipe.epochs * len(self.batches)
            )
            criterion = nn.CrossEntropyLoss()
            alone = 0.0
            for _ in range(recipe.epochs):
                begin = perf_counter()
                network.train()
                for images, labels in self.batches:
                    optimizer.zero_grad()
                    criterion(network(images), labels).backward()
                    optimizer.step()
                    schedule.step()
                alone += perf_counter() - begin
                _, error = (self.evaluate(network, part) for part in self.evaluated)
        return Took(perf_counter() - start, alone, error)

    @staticmethod
    @torch.no_grad()
    def evaluate(network: nn.Module, loader: Any) -> float:
        network.eval()
        wrong = sum(int((network(some).argmax(1) != labels).sum()) for some, labels in loader)
        return wrong / len(loader.dataset)


def better(data: Data, recipe: Recipe) -> tuple[Peer, str]:
    """The peer with loading in its own process or in two more, whichever is faster here."""
    name = list(NETWORKS.values())[-1]  # where loading weighs most
    peers = {workers: Peer(data, recipe.batch_size, workers) for workers in (0, 2)}
    for peer in peers.values():
        peer(name, recipe)  # starts the workers
    took = measure.interleave(3, *(lambda p=p: p(name, recipe).whole for p in peers.values()))
    found = dict(zip(peers, map(median, took), strict=True))
    best = min(found, key=found.__getitem__)
    words = ", ".join(f"{seconds:.2f} s with {workers}" for workers, seconds in found.items())
    return peers[best], f"num_workers={best} of its DataLoader (cheapest network: {words})"


def compare(
    what: str, name: str, data: Data, recipe: Recipe, peer: Peer, rounds: int
) -> list[measure.Row]:
    """The rows of one network."""
    recipes = {
        "fp32": replace(recipe, precision="fp32"),
        "bf16": replace(recipe, precision="bf16"),
    }
    found: dict[str, list[Took]] = {"fp32": [], "bf16": [], "peer": []}
    for number in range(rounds + 1):
        for arm, kept in found.items():
            took = peer(name, recipe) if arm == "peer" else ours(name, data, recipes[arm])
            if number:  # the first round warms up
                kept.append(took)
    rows = []
    for arm in "fp32", "bf16":
        told = "the recipe as it ships" if arm == recipe.precision else f"precision={arm}"
        for clock, words in ("whole", "with evaluation"), ("alone", "steps alone"):
            seconds = {key: [getattr(one, clock) for one in found[key]] for key in (arm, "peer")}
            title = f"{what}: {told}, {words}"
            goal = GOAL if arm == recipe.precision else None
            rows.append(measure.Row(title, seconds[arm], seconds["peer"], goal))
    return rows


def learnt(data: Data, recipe: Recipe, peer: Peer) -> str:
    """Whether the arms train alike: the errors of a cheap network after more epochs."""
    name, longer = list(NETWORKS.values())[-1], replace(recipe, epochs=LEARNING_EPOCHS)
    errors = {
        "fp32": ours(name, data, replace(longer, precision="fp32")).error,
        "bf16": ours(name, data, replace(longer, precision="bf16")).error,
        "peer": peer(name, longer).error,
    }
    told = ", ".join(f"{arm} {error:.3f}" for arm, error in errors.items())
    return f"validation error of the cheapest network after {LEARNING_EPOCHS} epochs: {told}"


def main() -> None:
    options = measure.arguments(__doc__)
    torch.set_num_threads(1)
    rounds = options.rounds or 3
    train_images, valid_images = (512, 256) if options.quick else (768, 512)
    data = make_data(train_images, valid_images).to(torch.device("cpu"))
    recipe = make_recipe(1)
    peer, loading = better(data, recipe)
    rows, notes = [], [learnt(data, recipe, peer)]
    for cells in (1,) if options.quick else (1, 5):
        for what, name in NETWORKS.items():
            title = f"N={cells}, {what}"
            rows += compare(title, name, data, make_recipe(cells), peer, rounds)
    notes += [
        f"one epoch of {train_images:,} images in batches of {recipe.batch_size}, then both parts "
        f"evaluated ({valid_images:,} for validation); synthetic images of 32 × 32; C=16",
        "one thread of torch in both; arms take turns, round by round, after one that warms up",
        f"the peer: fp32, contiguous, eager, one PIL image an item, {loading}",
    ]
    packages = ["torch", "torchvision", "pillow"]
    measure.report("Training on a CPU", rows, notes, packages, options.json)


if __name__ == "__main__":
    main()
