"""Many networks of NAS-Bench-201 as one; `network.py` says what each of them is.

On every edge the networks are grouped by operation, and a group is one batched call.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from bench.space import Architecture, Space
from bench.training.layers import image_channels
from bench.training.stacked import (
    Convolutions,
    Convolve,
    Linears,
    Norms,
    Population,
    Rows,
    apart,
    grouped,
    put,
    take,
)
from spaces.nb201.network import STAGES
from spaces.nb201.space import OPERATIONS, SOURCES, TARGETS

KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
EDGES = list(zip(SOURCES, TARGETS, strict=True))
OUTPUT = max(TARGETS)
# On a CPU they are slower: four networks of 16 channels, at batch 64, took 1.2 to 1.6 times the
# processor time of one at a time.
DEVICES = {"cuda": (3,)}


def build(
    space: Space,
    architectures: Sequence[Architecture],
    inputs: tuple[int, ...],
    classes: int,
    *,
    channels: int = 16,
    cells: int = 5,
    convolve: Convolve = grouped,
) -> "Networks":
    """A population of what `network.build` makes.

    Args:
        convolve: how the convolutions of a group are computed.

    Raises:
        ValueError: the inputs are no images.
    """
    image_channels(space.name, inputs)
    return Networks(architectures, inputs, classes, channels, cells, convolve)


class Networks(Population):
    """Before the last cell there are only the networks with a path from input to output: nothing
    that the others compute there arrives.
    """

    def __init__(
        self,
        architectures: Sequence[Architecture],
        inputs: tuple[int, ...],
        classes: int,
        channels: int,
        cells: int,
        convolve: Convolve,
    ) -> None:
        super().__init__([traffic(arch, cells) for arch in architectures])
        everyone = list(range(len(architectures)))
        joined = [model for model in everyone if 0 in useful(architectures[model])]
        self.stem = Convolutions(named(joined, "0"), inputs[0], channels, (3, 3), convolve)
        self.stem_norm = Norms(named(joined, "1"), channels)
        self.body = nn.ModuleList()
        place = 2  # in the network, which is a sequence
        for stage in range(STAGES):
            if stage:
                self.body.append(Reductions(joined, str(place), channels, convolve))
                channels, place = 2 * channels, place + 1
            for number in range(cells):
                last = stage == STAGES - 1 and number == cells - 1
                leaving = everyone if last else joined
                self.body.append(
                    Cells(architectures, joined, leaving, str(place), channels, convolve)
                )
                place += 1
        self.norm = Norms(named(everyone, str(place)), channels)
        self.classify = Linears(named(everyone, str(place + 3)), channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stem.rows:
            x = self.enter(x)
            for module in self.body:
                x = module(x)
        else:
            x = self.body[-1](self.nothing(x))
        x = functional.relu(self.norm(x), inplace=True)
        logits: torch.Tensor = self.classify(x.flatten(3).mean(3))
        return logits

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        """The stem. Inputs of their own become channels side by side."""
        if x.dim() == 4:
            x = x.contiguous(memory_format=self.memory_format)
        else:
            some = x.index_select(0, self.stem.owner).transpose(0, 1).flatten(1, 2)
            x = apart(some.contiguous(memory_format=self.memory_format), len(self.stem.rows))
        found: torch.Tensor = self.stem_norm(self.stem(x))
        return found

    def nothing(self, x: torch.Tensor) -> torch.Tensor:
        """The activations of no network, where none has a path."""
        batch, (height, width) = x.shape[-4], x.shape[-2:]
        for _ in range(STAGES - 1):
            height, width = -(-height // 2), -(-width // 2)
        return x.new_zeros(batch, 0, self.norm.weight.shape[1], height, width)


class Cells(nn.Module):
    """One cell of every network; nodes hold those networks alone whose output they reach."""

    def __init__(
        self,
        architectures: Sequence[Architecture],
        entering: Sequence[int],
        leaving: Sequence[int],
        name: str,
        channels: int,
        convolve: Convolve,
    ) -> None:
        super().__init__()
        self.held = [
            entering if node == 0 else [k for k in leaving if node in useful(architectures[k])]
            for node in range(OUTPUT + 1)
        ]
        self.groups = nn.ModuleList()
        for edge, (source, target) in enumerate(EDGES):
            for gene, operation in enumerate(OPERATIONS):
                who = [
                    model
                    for model in self.held[target]
                    if gene and architectures[model][edge] == gene
                ]
                if who:
                    rows = [
                        (model, f"{name}.operations.{number_of(architectures[model], edge)}")
                        for model in who
                    ]
                    self.groups.append(
                        Group(rows, self.held, source, target, operation, channels, convolve)
                    )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes, arriving = [x], [list[tuple[torch.Tensor, torch.Tensor]]() for _ in self.held]
        for node, held in enumerate(self.held):
            if node:
                shape = (x.shape[0], len(held), *x.shape[2:])
                nodes.append(put(shape, x, arriving[node]))
            groups = [
                some for some in self.groups if isinstance(some, Group) and some.source == node
            ]
            if groups:
                taken = take(nodes[node], *(some.places for some in groups))
                for some, value in zip(groups, taken, strict=True):
                    arriving[some.target].append((some.targets, some(value)))
        return nodes[-1]


class Group(nn.Module):
    """The networks that have one operation on one edge."""

    places: torch.Tensor
    targets: torch.Tensor

    def __init__(
        self,
        rows: Rows,
        held: Sequence[Sequence[int]],
        source: int,
        target: int,
        operation: str,
        channels: int,
        convolve: Convolve,
    ) -> None:
        super().__init__()
        self.source, self.target = source, target
        for name, node in ("places", source), ("targets", target):
            index = torch.tensor([held[node].index(model) for model, _ in rows])
            self.register_buffer(name, index, persistent=False)
        self.apply_: nn.Module
        if operation == "skip_connect":
            self.apply_ = nn.Identity()
        elif operation == "avg_pool_3x3":
            self.apply_ = Pool()
        else:
            kernel = KERNELS[operation]
            self.apply_ = ReluConvNorms(rows, channels, channels, kernel, convolve, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.apply_(x)
        return found


class Pool(nn.Module):
    """The mean over a 3x3 neighbourhood, of what of it there is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.avg_pool2d(x.flatten(1, 2), 3, 1, 1, count_include_pad=False)
        return apart(pooled, x.shape[1])


class ReluConvNorms(nn.Module):
    """`layers.relu_conv_norm` of several networks."""

    def __init__(
        self,
        rows: Rows,
        inputs: int,
        outputs: int,
        kernel: int,
        convolve: Convolve,
        *,
        stride: int = 1,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        self.inplace = inplace
        convolutions, norms = ([(k, f"{at}.{part}") for k, at in rows] for part in (1, 2))
        self.convolve = Convolutions(
            convolutions, inputs, outputs, (kernel, kernel), convolve, stride
        )
        self.norm = Norms(norms, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.norm(self.convolve(functional.relu(x, inplace=self.inplace)))
        return found


class Reductions(nn.Module):
    """`layers.ResidualReduction` of several networks."""

    def __init__(self, models: Sequence[int], name: str, inputs: int, convolve: Convolve) -> None:
        super().__init__()
        outputs = 2 * inputs
        first, second = (named(models, f"{name}.residual.{number}") for number in (0, 1))
        self.residual = nn.Sequential(
            ReluConvNorms(first, inputs, outputs, 3, convolve, stride=2),
            ReluConvNorms(second, outputs, outputs, 3, convolve),
        )
        self.shortcut = Convolutions(
            named(models, f"{name}.shortcut.1"), inputs, outputs, (1, 1), convolve
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.avg_pool2d(x.flatten(1, 2), 2, ceil_mode=True)
        short = self.shortcut(apart(pooled, x.shape[1]))
        halved: torch.Tensor = short + self.residual(x)
        return halved


def named(models: Sequence[int], name: str) -> Rows:
    """The same layer of several networks."""
    return [(model, name) for model in models]


def number_of(arch: Architecture, edge: int) -> int:
    """Where an edge's operation stands among those that are not `none`."""
    return sum(map(bool, arch[:edge]))


def useful(arch: Architecture) -> set[int]:
    """The nodes whose value the output depends on."""
    found = {OUTPUT}
    for gene, (source, target) in reversed(list(zip(arch, EDGES, strict=True))):
        if gene and target in found:
            found.add(source)
    return found


def traffic(arch: Architecture, cells: int) -> float:
    """About how much memory a training step moves, in passes over the stem's activations.

    Reads and writes of whole tensors, forward and backward, were counted by hand: `PASSES` for an
    operation, its fetching and its adding included, others for what all networks have. Each stage
    has half the activations of the one before.
    """
    nodes = useful(arch)
    cell: float = sum(
        PASSES[OPERATIONS[gene]]
        for gene, (_, target) in zip(arch, EDGES, strict=True)
        if target in nodes
    )
    if 0 not in nodes:
        return STEM + cell / 2.0 ** (STAGES - 1)
    return sum(
        (cell * cells + (REDUCTION if stage else STEM)) / 2.0**stage for stage in range(STAGES)
    )


PASSES = {"none": 0, "skip_connect": 10, "avg_pool_3x3": 14, "nor_conv_1x1": 29, "nor_conv_3x3": 29}
STEM, REDUCTION = 11, 64  # the latter in passes over what it gives
