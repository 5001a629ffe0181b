"""Requests to train an architecture, answered."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.space import Architecture, Space
from bench.training.data import Data, Loader
from bench.training.loop import train
from bench.training.recipe import Recipe


@dataclass(frozen=True)
class Trainer:
    """Answers `{"architecture", "seed", "epochs", "splits", "checkpoint"}` with an `Outcome`.

    Beside the outcome stand `parameters`, a count. It is sent to processes, which load the data
    set once each.
    """

    space: Space
    load: Loader
    recipe: Recipe
    device: str = "auto"

    def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]:
        arch = tuple(request["architecture"])
        data = self.data()
        if self.recipe.deterministic:
            torch.use_deterministic_algorithms(True)
        checkpoint = request.get("checkpoint")
        network, outcome = train(
            self.builder(arch, data),
            data,
            self.recipe,
            seed=request["seed"],
            epochs=request["epochs"],
            splits=tuple(request["splits"]),
            final=tuple(request.get("final", ())),
            checkpoint=Path(checkpoint) if checkpoint else None,
            name=self.space.to_string(arch),
        )
        parameters = sum(some.numel() for some in network.parameters())
        return asdict(outcome) | {"parameters": parameters}

    def data(self) -> Data:
        """The data set on the device, loaded once a process."""
        return _loaded(self.load, choose_device(self.device))

    def builder(self, arch: Architecture, data: Data) -> Callable[[], nn.Module]:
        """A function that makes the untrained network."""
        build = network_builder(self.space)
        return lambda: build(
            self.space, arch, data.inputs, data.classes, **dict(self.recipe.network)
        )


@cache
def _loaded(load: Loader, device: torch.device) -> Data:
    return load().to(device)


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def network_builder(space: Space) -> Callable[..., nn.Module]:
    """`build(space, arch, inputs, classes, …)` from the module `network` beside the space's.

    Raises:
        LookupError: the space has no networks.
    """
    package = type(space).__module__.rpartition(".")[0]
    try:
        module = importlib.import_module(f"{package}.network")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.network":
            raise
        raise LookupError(f"space {space.name} has no networks to train") from None
    build: Callable[..., nn.Module] = module.build
    return build
