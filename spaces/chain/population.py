"""Many chain CNNs as one; `network.py` says what each of them is.

In every layer the networks are grouped by kernel, and a group is one convolution.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from bench.space import Architecture, Space
from bench.training.stacked import Convolutions, Linears, Norms, Population, apart
from spaces.chain.network import LAYER, around
from spaces.chain.space import KERNELS, kernels

# On one core, twelve networks for signals take 0.7 to 0.9 of the processor time of one at a time
# (tests/benchmarks/together.py). Images keep a core busy one network at a time.
DEVICES = {"cpu": (2,), "cuda": (2, 3)}


def build(
    space: Space,
    architectures: Sequence[Architecture],
    inputs: tuple[int, ...],
    classes: int,
    *,
    width: int = 16,
    strided: int = 2,
) -> "Networks":
    """A population of what `network.build` makes."""
    return Networks(list(map(kernels, architectures)), inputs, classes, width, strided)


class Networks(Population):
    """A network leaves after its last layer."""

    def __init__(
        self,
        chains: Sequence[Sequence[int]],
        inputs: tuple[int, ...],
        classes: int,
        width: int,
        strided: int,
    ) -> None:
        super().__init__([sum(chain) for chain in chains])
        self.axes = len(inputs) - 1
        self.body = nn.ModuleList()
        held, channels = list(range(len(chains))), inputs[0]
        gone: list[int] = []
        for depth in range(max(map(len, chains))):
            stride = 2 if depth < strided else 1
            layer = Layers(chains, held, depth, channels, width, stride, self.axes)
            self.body.append(layer)
            held, channels = layer.held, width
            gone += [model for model in held if len(chains[model]) == depth + 1]
        rows = [(model, str(LAYER * len(chains[model]) + 1)) for model in gone]
        self.classify = Linears(rows, width, classes)
        self.order: torch.Tensor
        self.register_buffer("order", torch.tensor(gone).argsort(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() > self.axes + 2:
            x = x.transpose(0, 1)  # inputs of their own
        features = []
        for layer in self.body:
            assert isinstance(layer, Layers)
            x = layer(x)
            features.append(x.index_select(1, layer.leaving).flatten(3).mean(3))
        logits: torch.Tensor = self.classify(torch.cat(features, 1))
        return logits.index_select(0, self.order)


class Layers(nn.Module):
    """The layer at one depth, of the networks that have it; it puts them in the order `held`."""

    leaving: torch.Tensor

    def __init__(
        self,
        chains: Sequence[Sequence[int]],
        before: Sequence[int],
        depth: int,
        inputs: int,
        outputs: int,
        stride: int,
        axes: int,
    ) -> None:
        super().__init__()
        self.axes = axes
        self.held: list[int] = []
        self.groups = nn.ModuleDict()
        for kernel in KERNELS:
            who = [k for k in before if len(chains[k]) > depth and chains[k][depth] == kernel]
            if who:
                self.held += who
                rows = [(model, str(LAYER * depth + 1)) for model in who]
                self.groups[str(kernel)] = Convolutions(
                    rows, inputs, outputs, kernel, same, stride, axes
                )
                places = torch.tensor([before.index(model) for model in who])
                self.register_buffer(f"places_{kernel}", places, persistent=False)
        self.is_one_group = self.held == list(before) and len(self.groups) == 1
        self.norm = Norms([(model, str(LAYER * depth + 2)) for model in self.held], outputs)
        last = [place for place, k in enumerate(self.held) if len(chains[k]) == depth + 1]
        self.register_buffer("leaving", torch.tensor(last, dtype=torch.long), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == self.axes + 2 or self.is_one_group:
            found = [group(x) for group in self.groups.values()]
        else:
            found = [
                group(x.index_select(1, self.get_buffer(f"places_{kernel}")))
                for kernel, group in self.groups.items()
            ]
        normed: torch.Tensor = self.norm(torch.cat(found, 1) if found[1:] else found[0])
        return functional.relu(normed, inplace=True)


def same(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolutions `[networks, outputs, inputs, …]` as one, of what all see or each its own."""
    networks, _, _, *window = weight.shape
    shared = x.dim() == weight.dim() - 1
    padded = functional.pad(x if shared else x.flatten(1, 2), around(window[0]) * len(window))
    convolve = functional.conv1d if len(window) == 1 else functional.conv2d
    found = convolve(padded, weight.flatten(0, 1), stride=stride, groups=1 if shared else networks)
    return apart(found, networks)
