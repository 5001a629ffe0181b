"""Many chain CNNs as one; `network.py` says what each of them is.

In every layer the networks are grouped by kernel and by the size of their maps, and a group is one
convolution.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import nn
from torch.nn import functional

from bench.space import Architecture, Space
from bench.training.stacked import Convolutions, Linears, Norms, Population, apart
from spaces.chain.network import LAYER, around, window
from spaces.chain.space import KERNELS, kernels

# One network at a time keeps a core as busy (tests/benchmarks/together.py).
DEVICES = {"cuda": (2, 3)}


def build(
    space: Space,
    architectures: Sequence[Architecture],
    inputs: tuple[int, ...],
    classes: int,
    *,
    width: int = 16,
    strided: int = 0,
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
        self.inputs = inputs
        self.body = nn.ModuleList()
        held, channels = {inputs[-1]: list(range(len(chains)))}, inputs[0]
        gone: list[int] = []
        for depth in range(max(map(len, chains))):
            stride = 2 if depth < strided else 1
            layer = Layers(chains, held, depth, channels, width, stride, inputs)
            self.body.append(layer)
            held, channels = layer.held, width
            gone += [k for some in held.values() for k in some if len(chains[k]) == depth + 1]
        rows = [(model, str(LAYER * len(chains[model]) + 1)) for model in gone]
        self.classify = Linears(rows, width, classes)
        self.order: torch.Tensor
        self.register_buffer("order", torch.tensor(gone).argsort(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() > len(self.inputs) + 1:
            x = x.transpose(0, 1)  # inputs of their own
        if len(self.inputs) == 2:
            x = x.unsqueeze(-2)
        maps, features = {self.inputs[-1]: x}, []
        for layer in self.body:
            assert isinstance(layer, Layers)
            maps = layer(maps)
            features += [
                maps[size].index_select(1, layer.get_buffer(f"leaving_{size}")).flatten(3).mean(3)
                for size in layer.held
            ]
        logits: torch.Tensor = self.classify(torch.cat(features, 1))
        return logits.index_select(0, self.order)


class Layers(nn.Module):
    """The layer at one depth, of the networks that have it.

    They are together by the size of their maps, which kernels make smaller where nothing is padded;
    `held` says who is where.
    """

    def __init__(
        self,
        chains: Sequence[Sequence[int]],
        before: Mapping[int, Sequence[int]],
        depth: int,
        inputs: int,
        outputs: int,
        stride: int,
        seen: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.held: dict[int, list[int]] = {}
        self.groups: list[tuple[int, int, str]] = []
        """Sizes before and after, and the name of the convolution between them."""
        for size, kernel in product(before, KERNELS):
            who = [k for k in before[size] if len(chains[k]) > depth and chains[k][depth] == kernel]
            if who:
                name = f"{size}_{kernel}"
                smaller = (size - (kernel if len(seen) == 2 else 1)) // stride + 1
                self.groups.append((size, smaller, name))
                self.held.setdefault(smaller, []).extend(who)
                rows = [(model, str(LAYER * depth + 1)) for model in who]
                convolution = Convolutions(
                    rows, inputs, outputs, window(kernel, seen), same, stride
                )
                self.add_module(f"convolution_{name}", convolution)
                places = torch.tensor([before[size].index(model) for model in who])
                self.register_buffer(f"places_{name}", places, persistent=False)
        for size, some in self.held.items():
            rows = [(model, str(LAYER * depth + 2)) for model in some]
            self.add_module(f"norm_{size}", Norms(rows, outputs))
            last = [place for place, k in enumerate(some) if len(chains[k]) == depth + 1]
            places = torch.tensor(last, dtype=torch.long)
            self.register_buffer(f"leaving_{size}", places, persistent=False)

    def forward(self, maps: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        found: dict[int, list[torch.Tensor]] = {size: [] for size in self.held}
        for before, after, name in self.groups:
            x, places = maps[before], self.get_buffer(f"places_{name}")
            if x.dim() == 5 and len(places) < x.shape[1]:
                x = x.index_select(1, places)
            found[after].append(self.get_submodule(f"convolution_{name}")(x))
        return {
            size: functional.relu(
                self.get_submodule(f"norm_{size}")(torch.cat(some, 1) if some[1:] else some[0]),
                inplace=True,
            )
            for size, some in found.items()
        }


def same(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolutions `[networks, outputs, inputs, height, width]` as one, of what all see or each its
    own; padded where kernels have a height.
    """
    networks, _, _, height, kernel = weight.shape
    shared = x.dim() == 4
    x = x if shared else x.flatten(1, 2)
    if height > 1:
        x = functional.pad(x, around(kernel) * 2)
    groups = 1 if shared else networks
    found = functional.conv2d(x, weight.flatten(0, 1), stride=stride, groups=groups)
    return apart(found, networks)
