"""The networks of NAS-Bench-101 (Ying et al., ICML 2019, section 2.2) in PyTorch.

As in nasbench/lib/model_builder.py (google-research/nasbench@b942470).
"""

from collections.abc import Sequence
from functools import reduce
from math import sqrt

import torch
from torch import nn

from bench.space import Architecture, Space
from bench.training.layers import MeanOverPositions, image_channels
from spaces.nb101.graph import EDGES, INNER, VERTICES, prune
from spaces.nb101.space import matrix_of, operations_of

Matrix = Sequence[Sequence[int]]

CUT = 0.87962566  # deviation of a standard normal that is cut off at two


def build(
    space: Space,
    arch: Architecture,
    inputs: tuple[int, ...],
    classes: int,
    *,
    channels: int = 128,
    stacks: int = 3,
    cells: int = 3,
    norm_momentum: float = 0.003,
) -> nn.Module:
    """A stem, stacks of cells with pooling between them, and a linear layer.

    Isomorphic cells may differ by a few parameters: where channels do not divide evenly, the first
    vertices get one more. The order is that of the genes.

    Args:
        channels: of the stem and the first stack; each further stack has twice as many.
        cells: of a stack.
        norm_momentum: what a batch adds to the statistics that evaluation uses; small, so short
            trainings need more.

    Raises:
        ValueError: the inputs are no images.
    """
    matrix, operations = pruned(arch)
    layers: list[nn.Module] = [conv_norm_relu(image_channels(space.name, inputs), channels, 3)]
    width = channels
    for stack in range(stacks):
        if stack:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            channels *= 2
        for _ in range(cells):
            layers.append(Cell(matrix, operations, width, channels))
            width = channels
    network = nn.Sequential(*layers, MeanOverPositions(), nn.Linear(width, classes))
    for module in network.modules():
        _initialise(module, norm_momentum)
    return network


def pruned(arch: Architecture) -> tuple[Matrix, list[str]]:
    """The adjacency matrix and the labels of the vertices on a path from input to output."""
    kept, _ = prune(int("".join(map(str, arch[: len(EDGES)])), 2))
    inner = [vertex for vertex in range(1, VERTICES - 1) if kept >> INNER - vertex & 1]
    vertices = [0, *inner, VERTICES - 1]
    matrix, operations = matrix_of(arch), operations_of(arch)
    return [[matrix[i][j] for j in vertices] for i in vertices], [operations[v] for v in vertices]


def vertex_channels(inputs: int, outputs: int, matrix: Matrix) -> list[int]:
    """The channels of each vertex: those of the output, shared by the vertices that it joins.

    A vertex that does not enter the output has as many as the widest one that it enters.
    """
    last = len(matrix) - 1
    joined = [vertex for vertex in range(1, last) if matrix[vertex][last]]
    found = [inputs, *[0] * (last - 1), outputs]
    for place, vertex in enumerate(joined):
        found[vertex] = outputs // len(joined) + (place < outputs % len(joined))
    for vertex in range(last - 1, 0, -1):
        if vertex not in joined:
            found[vertex] = max(found[to] for to in range(vertex + 1, last) if matrix[vertex][to])
    return found


class Cell(nn.Module):
    """What enters a vertex is added, what enters the output is joined.

    What leaves the input is projected by a 1x1 convolution, to the output as well, where it is
    added; other edges drop the channels that are too many.
    """

    def __init__(
        self, matrix: Matrix, operations: Sequence[str], inputs: int, outputs: int
    ) -> None:
        super().__init__()
        self.last = len(matrix) - 1
        self.channels = vertex_channels(inputs, outputs, matrix)
        self.sources = [
            [source for source in range(1, vertex) if matrix[source][vertex]]
            for vertex in range(self.last + 1)
        ]
        self.projections = nn.ModuleDict(
            {
                str(vertex): conv_norm_relu(inputs, self.channels[vertex], 1)
                for vertex in range(1, self.last + 1)
                if matrix[0][vertex]
            }
        )
        self.operations = nn.ModuleList(
            operation(operations[vertex], self.channels[vertex]) for vertex in range(1, self.last)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tensors = [x]
        for vertex, apply in enumerate(self.operations, 1):
            terms = [tensors[v][:, : self.channels[vertex]] for v in self.sources[vertex]]
            tensors.append(apply(reduce(torch.add, terms + self.projected(x, vertex))))
        joined = [tensors[vertex] for vertex in self.sources[self.last]]
        terms = [torch.cat(joined, 1)] if joined else []
        return reduce(torch.add, terms + self.projected(x, self.last))

    def projected(self, x: torch.Tensor, vertex: int) -> list[torch.Tensor]:
        """The input as it enters a vertex, if it does."""
        return [self.projections[str(vertex)](x)] if str(vertex) in self.projections else []


def operation(label: str, channels: int) -> nn.Module:
    """What a vertex does."""
    if label == "maxpool3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    kernel = {"conv1x1-bn-relu": 1, "conv3x3-bn-relu": 3}[label]
    return conv_norm_relu(channels, channels, kernel)


def conv_norm_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _initialise(module: nn.Module, norm_momentum: float) -> None:
    """The defaults of TensorFlow's layers that were used, and the batch norm of base_ops.py."""
    if isinstance(module, nn.Conv2d):
        inputs = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        deviation = 1 / sqrt(inputs) / CUT
        nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        module.momentum = norm_momentum
