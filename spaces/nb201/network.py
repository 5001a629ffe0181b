"""The networks of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1) in PyTorch."""

from functools import reduce

import torch
from torch import nn

from bench.space import Architecture, Space
from bench.training.layers import (
    MeanOverPositions,
    ResidualReduction,
    image_channels,
    relu_conv_norm,
)
from spaces.nb201.space import OPERATIONS, SOURCES, TARGETS

STAGES = 3


def build(
    space: Space,
    arch: Architecture,
    inputs: tuple[int, ...],
    classes: int,
    *,
    channels: int = 16,
    cells: int = 5,
) -> nn.Module:
    """A stem, three stages of cells with a residual block between them, and a linear layer.

    Args:
        channels: of the first stage, C in the paper; each further stage has twice as many.
        cells: of a stage, N in the paper.

    Raises:
        ValueError: the inputs are no images.
    """
    stem = nn.Conv2d(image_channels(space.name, inputs), channels, 3, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(channels)]
    for stage in range(STAGES):
        if stage:
            layers.append(ResidualReduction(channels, 2 * channels))
            channels *= 2
        layers += [Cell(arch, channels) for _ in range(cells)]
    return nn.Sequential(
        *layers,
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        MeanOverPositions(),
        nn.Linear(channels, classes),
    )


class Cell(nn.Module):
    """Nodes are the sums of what enters them; one that nothing enters is zero.

    Operations that the output does not depend on are there and run, as in the published code, so
    that parameters and multiply-adds are the published ones.
    """

    def __init__(self, arch: Architecture, channels: int) -> None:
        super().__init__()
        chosen = [
            (source, target, OPERATIONS[gene])
            for source, target, gene in zip(SOURCES, TARGETS, arch, strict=True)
            if OPERATIONS[gene] != "none"
        ]
        self.edges = [(source, target) for source, target, _ in chosen]
        self.operations = nn.ModuleList(operation(name, channels) for *_, name in chosen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        for node in range(1, 4):
            terms = [
                apply(nodes[source])
                for (source, target), apply in zip(self.edges, self.operations, strict=True)
                if target == node
            ]
            nodes.append(reduce(torch.add, terms) if terms else torch.zeros_like(x))
        return nodes[-1]


def operation(name: str, channels: int) -> nn.Module:
    """What stands on an edge."""
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return relu_conv_norm(channels, channels, {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name])
