"""The state of one network, out of a population and into one, as training alone keeps it."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from bench.training.stacked import Population, Stacked


def state_of(network: Population, optimizer: torch.optim.Optimizer, model: int) -> dict[str, Any]:
    """The states of a network and of its optimizer, as of one trained alone; copies."""
    names = network.parameters_of[model]
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for layer, name, stacked in _parameters(network):
        kept = optimizer.state.get(stacked, {})
        for row, (owner, prefix) in enumerate(layer.rows):
            if owner == model and kept:
                moments[names.index(f"{prefix}.{name}")] = {
                    key: (value[row] if value.shape == stacked.shape else value).clone()
                    for key, value in kept.items()
                }
    group = optimizer.state_dict()["param_groups"][0]
    return {
        "network": network.extract(model),
        "optimizer": {
            "state": moments,
            "param_groups": [group | {"params": list(range(len(names)))}],
        },
    }


def restore(
    network: Population, optimizer: torch.optim.Optimizer, states: Sequence[dict[str, Any]]
) -> None:
    """Put such states into a population and its optimizer, one for each network."""
    network.load([state["network"] for state in states])
    for layer, name, stacked in _parameters(network):
        rows = [
            states[owner]["optimizer"]["state"].get(
                network.parameters_of[owner].index(f"{prefix}.{name}"), {}
            )
            for owner, prefix in layer.rows
        ]
        for key in dict.fromkeys(key for row in rows for key in row):
            one = next(row[key] for row in rows if key in row)
            if one.shape == stacked.shape[1:]:
                missing = torch.zeros_like(one)
                value = torch.stack([row.get(key, missing) for row in rows])
                optimizer.state[stacked][key] = torch.empty_like(stacked).copy_(value)
            else:
                optimizer.state[stacked][key] = one.clone()  # of steps, on the CPU and shared


def _parameters(network: Population) -> Iterator[tuple[Stacked, str, nn.Parameter]]:
    """The stacked parameters, with their layer and their name there."""
    for layer in network.layers():
        for name, stacked in layer.named_parameters(recurse=False):
            yield layer, name, stacked
