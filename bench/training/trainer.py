"""Requests to train an architecture, answered."""

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, get_type_hints

import torch
from torch import nn

from bench.check import misfits
from bench.space import Architecture, Space
from bench.training.data import Data, Loader, augment
from bench.training.loop import Outcome, train
from bench.training.recipe import Recipe
from bench.words import many

Build = Callable[..., nn.Module]


@dataclass(frozen=True)
class Trainer:
    """What a process needs to train architectures of a space; it is sent there."""

    space: Space
    load: Loader
    recipe: Recipe
    device: str = "auto"
    threads: int = 1

    def read(self) -> Data:
        """Make this process ready to train; returns the data set, on the device.

        Raises:
            ValueError: the space or the recipe is not for data of this kind, or the recipe not
                for this device.
        """
        device = choose_device(self.device)
        if self.recipe.graph and device.type != "cuda":
            raise ValueError(f"recipe.graph is true, which needs a GPU; the device is {device}")
        torch.set_num_threads(self.threads)
        if device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs are made on the current one
        if self.recipe.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts
            torch.use_deterministic_algorithms(True)
            # Filling what is not yet written costs a twentieth of the time, and nobody reads it.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        data = self.load().to(device)
        augment(data.train[0][:1], self.recipe, torch.Generator())
        with torch.random.fork_rng(devices=[]):
            self.builder(self.space.sample(Random(0)), data)()
        return data

    def answer(self, data: Data, request: Mapping[str, Any]) -> dict[str, Any]:
        """Train as `{"architecture", "seed", "epochs", "splits", "final", "checkpoint"}` says.

        Returns:
            An `Outcome` as a mapping, with `parameters`, a count, and `data`, its digest.
        """
        arch = tuple(request["architecture"])
        name = self.space.to_string(arch)
        checkpoint = request["checkpoint"]
        network, outcome = train(
            self.builder(arch, data),
            data,
            self.recipe,
            seed=request["seed"],
            epochs=request["epochs"],
            splits=tuple(request["splits"]),
            final=tuple(request["final"]),
            checkpoint=Path(checkpoint) if checkpoint else None,
            name=name,
        )
        print(line(name, outcome), flush=True)
        parameters = sum(some.numel() for some in network.parameters())
        return asdict(outcome) | {"parameters": parameters, "data": data.digest}

    def builder(self, arch: Architecture, data: Data) -> Callable[[], nn.Module]:
        """A function that makes the untrained network."""
        return partial(
            network_builder(self.space),
            self.space,
            arch,
            data.inputs,
            data.classes,
            **self.recipe.network,
        )


def line(name: str, outcome: Outcome) -> str:
    """What the log says of a training."""
    errors = ", ".join(f"{split} {some[-1]:.4f}" for split, some in outcome.errors.items() if some)
    epochs = many(outcome.epochs, "epoch")
    return f"{name}: {outcome.status}, {epochs}, {outcome.seconds:.1f} s; {errors}"


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if there else "cpu"
    known = ["cpu", *(["cuda"] if there else []), *(f"cuda:{number}" for number in range(there))]
    if name not in known:
        raise ValueError(f"device is {name!r}; allowed here: auto, {', '.join(known)}")
    return torch.device(name)


def on(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe as that device follows it: an `auto` precision is decided.

    A processor that only imitates bf16 is slower with it. No GPU is asked: that would make a
    process hold one, which trains nothing itself.
    """
    if recipe.precision != "auto":
        return recipe
    can = torch.cpu.get_capabilities()
    native = any(can.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return replace(recipe, precision="bf16" if native or device.type == "cuda" else "fp32")


def network_builder(space: Space) -> Build:
    """`build(space, arch, inputs, classes, *, …)` of the module `network` beside the space's.

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
    build: Build = module.build
    return build


def network_misfits(build: Build, settings: Mapping[str, Any]) -> list[str]:
    """What `build` cannot take of a recipe's `network`."""
    hints = get_type_hints(build)
    allowed = {
        name: hints[name]
        for name, known in inspect.signature(build).parameters.items()
        if known.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return misfits("recipe.network.", settings, allowed)
