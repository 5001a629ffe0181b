"""What a process answers that trains."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.training import cost
from bench.training.data import Data, Loader, derive, order_of
from bench.training.loop import step_seconds
from bench.training.population import choose, train_population
from bench.training.proxies import proxies
from bench.training.supervise import Work
from bench.training.trainer import Trainer, line


@dataclass(frozen=True)
class Worker:
    """A trainer that also tells of its data and of networks that are not trained."""

    trainer: Trainer

    def prepare(self) -> Work:
        """Load the data set, for good; returns what answers requests.

        Raises:
            ValueError: the space or the recipe is not for data of this kind.
        """
        return partial(self.answer, self.trainer.read())

    def answer(self, data: Data, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer by the request's `kind`: `about`, `costs`, `together`, or `train` as the trainer
        does.
        """
        kind = request["kind"]
        if kind == "about":
            return {"status": "ok", "population": self.has_populations(data), **about(data)}
        if kind == "costs":
            return {"status": "ok", **self.costs(data, request)}
        if kind == "together":
            return {"status": "ok", "answers": self.together(data, request)}
        return self.trainer.answer(data, request)

    def has_populations(self, data: Data) -> bool:
        """Whether trainings are faster together."""
        device = data.train[0].device
        return choose(self.trainer.space, self.trainer.recipe, device, data.inputs)

    def together(self, data: Data, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Train as `{"trainings", "epochs", "splits", "final"}` says, where each training is
        `{"architecture", "seed", "checkpoint"}`: as a population where that is faster (`choose`),
        else one after another.

        Returns:
            For each what the trainer answers; of a population, with `together`, its size.
        """
        space, recipe = self.trainer.space, self.trainer.recipe
        trainings: list[Mapping[str, Any]] = request["trainings"]
        if len(trainings) < 2 or not self.has_populations(data):
            return [self.trainer.answer(data, {**request, **one}) for one in trainings]
        members = [tuple(one["architecture"]) for one in trainings]
        outcomes = train_population(
            space,
            members,
            data,
            recipe,
            seeds=[one["seed"] for one in trainings],
            epochs=request["epochs"],
            splits=tuple(request["splits"]),
            final=tuple(request["final"]),
            checkpoints=[
                Path(one["checkpoint"]) if one["checkpoint"] else None for one in trainings
            ],
        )
        for arch, outcome in zip(members, outcomes, strict=True):
            print(line(space.to_string(arch), outcome), flush=True)
        more = {"data": data.digest, "together": len(members)}
        with torch.random.fork_rng(devices=[]):
            return [
                asdict(outcome)
                | {"parameters": int(cost.parameters(self.trainer.builder(arch, data)()))}
                | more
                for arch, outcome in zip(members, outcomes, strict=True)
            ]

    def costs(self, data: Data, request: Mapping[str, Any]) -> dict[str, float | None]:
        """What is known of a network before training; None where it cannot be told.

        `parameters`; `flops`, multiply-adds of one input; `latency`, seconds of a forward pass on
        one input; `epoch_seconds`, of training it alone, by ten steps of that; `proxy_*` by its
        initial weights under the seed and the first minibatch that it will meet, which is not
        augmented here.
        """
        arch, seed = tuple(request["architecture"]), request["seed"]
        build = self.trainer.builder(arch, data)
        inputs, labels = data.train
        device = labels.device
        with torch.random.fork_rng(devices=[]):
            name = self.trainer.space.to_string(arch)
            torch.default_generator.manual_seed(derive("weights", seed, name))
            network = build().to(device)
        first = order_of(len(labels), seed, 0)[: self.trainer.recipe.batch_size].to(device)
        batch = data.prepare(inputs[first])
        found: dict[str, float] = {"parameters": cost.parameters(network)}
        with suppress(RuntimeError):  # an operation that cannot be counted
            found["flops"] = cost.multiply_adds(build, data.inputs) or math.nan
        found["latency"] = cost.latency(network, batch[:1])
        with suppress(RuntimeError):  # one whose gradient cannot be taken this way
            of_network = proxies(network, batch, labels[first])
            found |= {f"proxy_{name}": value for name, value in of_network.items()}
        steps = len(labels) / len(first)
        found["epoch_seconds"] = steps * step_seconds(
            build, data, self.trainer.recipe, seed=seed, name=name
        )
        return {name: value if math.isfinite(value) else None for name, value in found.items()}


def about(data: Data) -> dict[str, Any]:
    """The data set as a network meets it, and where it lies."""
    device = data.train[0].device
    mean, deviation = data.scale
    return {
        "data": data.digest,
        "inputs": list(data.inputs),
        "classes": data.classes,
        "examples": {split: len(getattr(data, split)[1]) for split in ("train", "valid", "test")},
        "mean": mean.flatten().tolist(),
        "deviation": deviation.flatten().tolist(),
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
    }


@dataclass(frozen=True)
class Joined:
    """Loads a data set whose training part is what else are training and validation parts."""

    load: Loader

    def __call__(self) -> Data:
        data = self.load()
        inputs, labels = zip(data.train, data.valid, strict=True)
        return replace(data, train=(torch.cat(inputs), torch.cat(labels)))
