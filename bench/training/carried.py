"""The state of one network, out of a population and into one, as training alone keeps it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.training.loop import Outcome
from bench.training.stacked import Stacked

if TYPE_CHECKING:
    from bench.training.population import Run


def state_of(run: "Run", model: int) -> dict[str, Any]:
    """What `loop` would save of this network, but for the identity; copies."""
    names = run.network.parameters_of[model]
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for layer, name, stacked in _parameters(run):
        kept = run.optimizer.state.get(stacked, {})
        for row, (owner, prefix) in enumerate(layer.rows):
            if owner == model and kept:
                moments[names.index(f"{prefix}.{name}")] = {
                    key: (value[row] if value.shape == stacked.shape else value).clone()
                    for key, value in kept.items()
                }
    groups = run.optimizer.state_dict()["param_groups"]
    return {
        "network": run.network.extract(model),
        "optimizer": {
            "state": moments,
            "param_groups": [groups[0] | {"params": list(range(len(names)))}],
        },
        "outcome": asdict(run.outcomes[model]),
    }


def restore(run: "Run", states: Sequence[dict[str, Any]]) -> None:
    """Let a population that has not begun go on from states that have come equally far.

    Raises:
        ValueError: they have not, or there is not one for each network.
    """
    reached = {state["outcome"]["epochs"] for state in states}
    if len(states) != run.network.count or len(reached) != 1:
        raise ValueError(
            f"{len(states)} states after {sorted(reached)} epochs for {run.network.count} "
            "networks; allowed: one for each, all equally far"
        )
    run.network.load([state["network"] for state in states])
    run.outcomes = [Outcome(**state["outcome"]) for state in states]
    run.epochs = reached.pop()
    for layer, name, stacked in _parameters(run):
        rows = [
            states[owner]["optimizer"]["state"].get(
                run.network.parameters_of[owner].index(f"{prefix}.{name}"), {}
            )
            for owner, prefix in layer.rows
        ]
        for key in dict.fromkeys(key for row in rows for key in row):
            one = next(row[key] for row in rows if key in row)
            if one.shape == stacked.shape[1:]:
                missing = torch.zeros_like(one)
                value = torch.stack([row.get(key, missing) for row in rows])
            else:
                value = one  # such as a count of steps, which all share
            run.optimizer.state[stacked][key] = value.clone()


def _parameters(run: "Run") -> Iterator[tuple[Stacked, str, nn.Parameter]]:
    """The stacked parameters, with their layer and their name there."""
    for layer in run.network.layers():
        for name, stacked in layer.named_parameters(recurse=False):
            yield layer, name, stacked
