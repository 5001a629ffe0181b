"""The networks of the size space of NATS-Bench (Dong et al., TPAMI 2021, section 3.1) in PyTorch.

As in xautodl/models/shape_infers/InferTinyCellNet.py (D-X-Y/AutoDL-Projects@94a149b).
"""

import torch
from torch import nn

from bench.space import Architecture, Space
from bench.training.layers import (
    MeanOverPositions,
    ResidualReduction,
    image_channels,
    relu_conv_norm,
)
from spaces.nats_sss.space import CHANNELS


def build(space: Space, arch: Architecture, inputs: tuple[int, ...], classes: int) -> nn.Module:
    """A stem, three cells with a residual block between them, and a linear layer.

    The stem and the first cell have the channels of the first gene.

    Raises:
        ValueError: the inputs are no images.
    """
    first, second, third, fourth, fifth = (CHANNELS[gene] for gene in arch)
    return nn.Sequential(
        nn.Conv2d(image_channels(space.name, inputs), first, 3, padding=1, bias=False),
        nn.BatchNorm2d(first),
        Cell(first, first),
        ResidualReduction(first, second),
        Cell(second, third),
        ResidualReduction(third, fourth),
        Cell(fourth, fifth),
        nn.BatchNorm2d(fifth),
        nn.ReLU(),
        MeanOverPositions(),
        nn.Linear(fifth, classes),
    )


class Cell(nn.Module):
    """The fixed cell: 3x3 convolutions on all edges but a skip from the input to the output.

    In the files it is `|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|…`. What
    leaves the input changes the channels; the skip then is a 1x1 convolution with batch norm.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.to_1 = relu_conv_norm(inputs, outputs, 3)
        self.to_2 = relu_conv_norm(inputs, outputs, 3)
        self.skip = nn.Identity() if inputs == outputs else projection(inputs, outputs)
        self.from_1_to_2 = relu_conv_norm(outputs, outputs, 3)
        self.from_1_to_3 = relu_conv_norm(outputs, outputs, 3)
        self.from_2_to_3 = relu_conv_norm(outputs, outputs, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.to_1(x)
        two = self.to_2(x) + self.from_1_to_2(one)
        three: torch.Tensor = self.skip(x) + self.from_1_to_3(one) + self.from_2_to_3(two)
        return three


def projection(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
