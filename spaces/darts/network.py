"""The networks of DARTS (Liu et al., ICLR 2019, sections 2.1 and 3.1.2) in PyTorch.

As NetworkCIFAR of cnn/model.py (quark0/darts@28419ac), without its auxiliary head.
"""

from functools import reduce

import torch
from torch import nn
from torch.nn.functional import pad

from bench.space import Architecture, Space
from bench.training.layers import MeanOverPositions, image_channels, relu_conv_norm
from spaces.darts.space import OPERATIONS, cells
from spaces.darts.space import Cell as Inputs

STEM = 3  # times as many channels as the first cell


def build(
    space: Space,
    arch: Architecture,
    inputs: tuple[int, ...],
    classes: int,
    *,
    channels: int = 36,
    layers: int = 20,
    drop_path: float = 0.0,
) -> nn.Module:
    """A stem, normal cells with a reduction cell after each third of them, and a linear layer.

    Args:
        channels: of an operation of the first cell; a reduction cell doubles them.
        layers: how many cells there are.
        drop_path: probability that an operation other than an identity is dropped for an example
            in training. In the published training it grows from 0; here it is the same throughout.

    Raises:
        ValueError: the inputs are no images, or `layers` or `drop_path` is out of range.
    """
    if layers < 1 or not 0 <= drop_path < 1:
        raise ValueError(
            f"layers is {layers} and drop_path {drop_path}; allowed: 1 and more, and from 0 to "
            "below 1"
        )
    return Network(arch, image_channels(space.name, inputs), classes, channels, layers, drop_path)


class Network(nn.Module):
    """Logits `[batch, classes]` of images; every cell reads the two before it."""

    def __init__(
        self,
        arch: Architecture,
        inputs: int,
        classes: int,
        channels: int,
        layers: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        normal, reduction = cells(arch)
        stem = STEM * channels
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        )
        self.cells = nn.ModuleList()
        widths, was_reduced = (stem, stem), False
        for layer in range(layers):
            reduces = layer in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduces else 1
            chosen = reduction if reduces else normal
            cell = Cell(chosen, widths, channels, reduces, was_reduced, drop_path)
            self.cells.append(cell)
            widths, was_reduced = (widths[1], len(chosen) * channels), reduces
        self.classify = nn.Sequential(MeanOverPositions(), nn.Linear(widths[1], classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        logits: torch.Tensor = self.classify(last)
        return logits


class Cell(nn.Module):
    """Four nodes, each the sum of two operations on earlier ones, joined.

    Args:
        inputs: of each node, as (source, operation).
        widths: channels of the cell before the last and of the last.
        channels: of each node.
        reduces: whether operations on the inputs of the cell have stride 2.
        was_reduced: whether the last cell was one that does.
    """

    def __init__(
        self,
        inputs: Inputs,
        widths: tuple[int, int],
        channels: int,
        reduces: bool,
        was_reduced: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        older, last = widths
        self.drop_path = drop_path
        self.fit_older = (
            FactorizedReduction(older, channels)
            if was_reduced
            else relu_conv_norm(older, channels, 1)
        )
        self.fit_last = relu_conv_norm(last, channels, 1)
        self.sources = [[source for source, _ in node] for node in inputs]
        self.operations = nn.ModuleList(
            nn.ModuleList(
                operation(OPERATIONS[gene], channels, 2 if reduces and source < 2 else 1)
                for source, gene in node
            )
            for node in inputs
        )

    def forward(self, older: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        nodes = [self.fit_older(older), self.fit_last(last)]
        for sources, operations in zip(self.sources, self.operations, strict=True):
            assert isinstance(operations, nn.ModuleList)
            terms = [
                self.dropped(apply(nodes[source]), apply)
                for source, apply in zip(sources, operations, strict=True)
            ]
            nodes.append(reduce(torch.add, terms))
        return torch.cat(nodes[2:], 1)

    def dropped(self, x: torch.Tensor, operation: nn.Module) -> torch.Tensor:
        """The outcome of an operation, now and then nothing, the same on average."""
        if not self.training or not self.drop_path or isinstance(operation, nn.Identity):
            return x
        kept = 1 - self.drop_path
        return x * (x.new_empty(len(x), 1, 1, 1).bernoulli_(kept) / kept)


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """What stands on an edge."""
    kind, _, size = name.rpartition("_")
    kernel = int(size[0]) if size[0].isdigit() else 0
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduction(channels, channels)
    if kind == "max_pool":
        return nn.MaxPool2d(kernel, stride, padding=kernel // 2)
    if kind == "avg_pool":
        return nn.AvgPool2d(kernel, stride, padding=kernel // 2, count_include_pad=False)
    if kind == "dil_conv":
        return separable(channels, kernel, stride, dilation=2)
    return nn.Sequential(separable(channels, kernel, stride), separable(channels, kernel, 1))


def separable(channels: int, kernel: int, stride: int, *, dilation: int = 1) -> nn.Module:
    """ReLU, a depthwise and a 1x1 convolution, and batch norm."""
    reach = dilation * (kernel // 2)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(
            *(channels, channels, kernel, stride),
            padding=reach,
            dilation=dilation,
            groups=channels,
            bias=False,
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


class FactorizedReduction(nn.Module):
    """Halves height and width: half of the channels look at even, half at odd positions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(x)
        height, width = x.shape[2:]
        shifted = pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        halved: torch.Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], 1))
        return halved
