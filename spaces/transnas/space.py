"""The two spaces of TransNAS-Bench-101 (Duan et al., CVPR 2021, section 3)."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

from bench.space import Architecture, Edge, Space

OPERATIONS = ("none", "skip_connect", "conv_1x1", "conv_3x3")  # digits of the cell's string
SOURCES = (0, 0, 1, 0, 1, 2)  # where each edge starts; edges are grouped by the node they enter
TARGETS = (1, 2, 2, 3, 3, 3)
NONE, SKIP = 0, 1

MODULES = ("normal", "channels x2", "resolution /2", "both")  # digits 1 to 4 of the macro string
ABSENT = len(MODULES)  # the value of a fifth or sixth module that is not there
DOUBLINGS = range(1, 4)  # how many modules may double the channels,
HALVINGS = range(1, 5)  # and how many may halve the resolution


class TransNASMicro(Space):
    """One operation an edge of a cell with four nodes, in five modules of two cells each."""

    name = "transnas_micro"
    choices = (len(OPERATIONS),) * len(SOURCES)

    def to_string(self, arch: Architecture) -> str:
        digits = "".join(map(str, arch))
        return f"64-41414-{digits[:1]}_{digits[1:3]}_{digits[3:]}"

    def from_string(self, text: str) -> Architecture:
        if not re.fullmatch("64-41414-[0-3]_[0-3]{2}_[0-3]{3}", text, re.ASCII):
            raise ValueError(f"{text!r} is no cell of {self.name}, such as 64-41414-1_02_333")
        return tuple(int(digit) for digit in text[len("64-41414-") :] if digit != "_")

    def labels(self) -> list[tuple[str, list[str]]]:
        edges = zip(SOURCES, TARGETS, strict=True)
        return [(f"edge {source} → {target}", list(OPERATIONS)) for source, target in edges]

    def graph(self, arch: Architecture) -> list[Edge]:
        """Nodes are sums, edges operations; an edge that is `none` is not there."""
        return [
            (str(source), str(target), OPERATIONS[op])
            for op, source, target in zip(arch, SOURCES, TARGETS, strict=True)
            if op != NONE
        ]

    def canonical(self, arch: Architecture) -> str:
        """The cell as an expression with sorted sums, without the terms that add nothing.

        A skip connection is seen through, unless it leaves the input: there it has weights of
        its own in the cells that change the resolution (lib/models/net_ops/cell_ops.py). A
        convolution of nothing stays, as its normalisation adds a constant.
        """
        nodes = ["x"]
        for node in (1, 2, 3):
            terms = []
            for op, source, target in zip(arch, SOURCES, TARGETS, strict=True):
                if target == node and op != NONE:
                    sees_through = op == SKIP and source > 0
                    terms.append(nodes[source] if sees_through else f"({nodes[source]}){op}")
            nodes.append("+".join(sorted(filter(None, terms))))
        return nodes[3]


class TransNASMacro(Space):
    """Four to six modules, of which some double the channels and some halve the resolution.

    A module is its published digit less one; a fifth or sixth one may be `ABSENT`. One to three
    modules double the channels and one to four halve the resolution, as in the sampler of
    automl/NASLib (transbench101/graph.py), which makes the published 3,256 networks. That
    sampler draws length and numbers first, so that its networks are not equally likely.
    """

    name = "transnas_macro"
    choices = (len(MODULES),) * 4 + (len(MODULES) + 1,) * 2

    def __init__(self, *, mutation_weights: Sequence[int] | None = None) -> None:
        super().__init__(mutation_weights=mutation_weights)
        self._members = tuple(arch for arch in super().__iter__() if self.contains(arch))

    def sample(self, rng: Random) -> Architecture:
        return self._members[int(rng.random() * len(self._members))]

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Members with another module in one place, one module more or one less at the end."""
        return filter(self.contains, super().neighbours(arch))

    def mutate(self, arch: Architecture, rng: Random) -> Architecture:
        """A neighbour: what `mutation_weights` draw is drawn again until it is one.

        Where they lead to no neighbour in a hundred draws, each neighbour is as likely.
        """
        for _ in range(100):
            child = super().mutate(arch, rng)
            if self.contains(child):
                return child
        return rng.choice(list(self.neighbours(arch)))

    def contains(self, arch: Architecture) -> bool:
        if not super().contains(arch) or (arch[4] == ABSENT != arch[5]):
            return False
        modules = [module for module in arch if module != ABSENT]
        doublings = sum(module % 2 for module in modules)
        halvings = sum(module // 2 for module in modules)
        return doublings in DOUBLINGS and halvings in HALVINGS

    @property
    def size(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Architecture]:
        return iter(self._members)

    def to_string(self, arch: Architecture) -> str:
        return f"64-{''.join(str(module + 1) for module in arch if module != ABSENT)}-basic"

    def from_string(self, text: str) -> Architecture:
        found = re.fullmatch("64-([1-4]{4,6})-basic", text, re.ASCII)
        arch = tuple(int(digit) - 1 for digit in found[1]) if found else ()
        arch += (ABSENT,) * (len(self.choices) - len(arch))
        if not found or not self.contains(arch):
            raise ValueError(
                f"{text!r} is no network of {self.name}: 64-<4 to 6 digits from 1 to 4>-basic, of "
                "which 1 to 3 are even and 1 to 4 above 2, such as 64-1234-basic"
            )
        return arch

    def labels(self) -> list[tuple[str, list[str]]]:
        return [
            (f"module {place}", [*MODULES, "absent"][:n]) for place, n in enumerate(self.choices, 1)
        ]

    def graph(self, arch: Architecture) -> list[Edge]:
        """The chain of the modules that are there."""
        modules = [f"{MODULES[m]}#{i}" for i, m in enumerate(arch) if m != ABSENT]
        nodes = ["input", *modules, "output"]
        return [(source, target, "") for source, target in pairwise(nodes)]
