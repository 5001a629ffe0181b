"""Chain CNNs in PyTorch, over signals or images."""

import torch
from torch import nn

from bench.space import Architecture, Space
from spaces.chain.space import kernels


def build(
    space: Space,
    arch: Architecture,
    inputs: tuple[int, ...],
    classes: int,
    *,
    width: int = 16,
    stride: int = 2,
) -> nn.Module:
    """Convolution, batch norm and ReLU a layer; then the mean over positions and a linear layer.

    Args:
        inputs: the shape of one input: `[channels, length]` or `[channels, height, width]`.
        width: channels of every layer.
        stride: of the first layer; the others have 1.
    """
    flat = len(inputs) == 2
    convolution = nn.Conv1d if flat else nn.Conv2d
    norm = nn.BatchNorm1d if flat else nn.BatchNorm2d
    layers: list[nn.Module] = []
    channels = inputs[0]
    for depth, kernel in enumerate(kernels(arch)):
        step = 1 if depth else stride
        layers += [
            convolution(channels, width, kernel, step, padding=kernel // 2, bias=False),
            norm(width),
            nn.ReLU(),
        ]
        channels = width
    return nn.Sequential(*layers, MeanOverPositions(), nn.Linear(width, classes))


class MeanOverPositions(nn.Module):
    """`[batch, channels, …]` to `[batch, channels]`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)
