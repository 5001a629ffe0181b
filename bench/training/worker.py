"""What a process answers that trains for a table, a probe or a hand-over."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from bench.training import cost
from bench.training.data import Data, Loader, derive, order_of
from bench.training.proxies import proxies
from bench.training.supervise import Work
from bench.training.trainer import Trainer


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
        """Answer by the request's `kind`: `about`, `costs`, or `train` as the trainer does."""
        kind = request["kind"]
        if kind == "about":
            return {"status": "ok", **about(data)}
        if kind == "costs":
            return {"status": "ok", **self.costs(data, request)}
        return self.trainer.answer(data, request)

    def costs(self, data: Data, request: Mapping[str, Any]) -> dict[str, float | None]:
        """What is known of a network before training; None where it cannot be told.

        `parameters`; `flops`, multiply-adds of one input; `latency`, seconds of a forward pass on
        one input; `proxy_*` by its initial weights under the seed and the first minibatch that
        it will meet, which is not augmented here.
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
