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
    strided: int = 2,
) -> nn.Module:
    """Convolution, batch norm and ReLU a layer; then the mean over positions and a linear layer.

    Inputs are padded so that no kernel changes how many positions there are.

    Args:
        inputs: the shape of one input: `[channels, length]` or `[channels, height, width]`.
        width: channels of every layer.
        strided: how many layers, the first ones, have a stride of 2; the others have 1.

    Raises:
        ValueError: there is no channel, or a negative number of layers.
    """
    if width < 1 or strided < 0:
        raise ValueError(f"width is {width} and strided {strided}; allowed: 1 and more, 0 and more")
    flat = len(inputs) == 2
    convolution = nn.Conv1d if flat else nn.Conv2d
    norm = nn.BatchNorm1d if flat else nn.BatchNorm2d
    layers: list[nn.Module] = []
    channels = inputs[0]
    for depth, kernel in enumerate(kernels(arch)):
        step = 2 if depth < strided else 1
        ends = around(kernel)
        layers += [
            nn.ConstantPad1d(ends, 0.0) if flat else nn.ConstantPad2d((*ends, *ends), 0.0),
            convolution(channels, width, kernel, step, bias=False),
            norm(width),
            nn.ReLU(),
        ]
        channels = width
    return nn.Sequential(*layers, MeanOverPositions(), nn.Linear(width, classes))


LAYER = 4  # modules of the sequence that a layer takes


def around(kernel: int) -> tuple[int, int]:
    """How many zeros go before and after the positions of an axis."""
    return (kernel - 1) // 2, kernel // 2


class MeanOverPositions(nn.Module):
    """`[batch, channels, …]` to `[batch, channels]`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)
