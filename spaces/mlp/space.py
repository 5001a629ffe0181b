"""Multilayer perceptrons: up to four hidden layers, each with a width."""

from collections.abc import Iterator
from itertools import pairwise, product
from random import Random

from bench.space import Architecture, Edge, Space

WIDTHS = (25, 50, 100, 200)
MOST = 4  # hidden layers
ABSENT = len(WIDTHS)  # what a gene says of a layer that is not there
NONE = "linear"  # what a network without hidden layers is called


class MLP(Space):
    """A gene a hidden layer: its width, or that it is absent; layers are absent from the end.

    Two members are baselines of the paper on MNIST-1D (Greydanus & Kobak, ICML 2024): `linear`,
    which is logistic regression, and `100-100`, there with a skip over its second layer.
    """

    name = "mlp"
    choices = (len(WIDTHS) + 1,) * MOST

    def sample(self, rng: Random) -> Architecture:
        while True:
            if self.contains(arch := super().sample(rng)):
                return arch

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        return filter(self.contains, super().neighbours(arch))

    def mutate(self, arch: Architecture, rng: Random) -> Architecture:
        while True:
            if self.contains(child := super().mutate(arch, rng)):
                return child

    def contains(self, arch: Architecture) -> bool:
        return super().contains(arch) and set(arch[len(widths(arch)) :]) <= {ABSENT}

    @property
    def size(self) -> int:
        return sum(len(WIDTHS) ** depth for depth in range(MOST + 1))

    def __iter__(self) -> Iterator[Architecture]:
        return filter(self.contains, product(*map(range, self.choices)))

    def to_string(self, arch: Architecture) -> str:
        """The widths in order, such as `100-50`; `linear` where there are none."""
        return "-".join(map(str, widths(arch))) or NONE

    def from_string(self, text: str) -> Architecture:
        words = [] if text == NONE else text.split("-")
        known = {str(width): gene for gene, width in enumerate(WIDTHS)}
        if len(words) > MOST or not set(words) <= known.keys():
            raise ValueError(
                f"{text!r} is no network of {self.name}; allowed: {NONE}, or up to {MOST} widths "
                f"of {', '.join(known)}, such as 100-50"
            )
        return (*(known[word] for word in words), *(ABSENT,) * (MOST - len(words)))

    def labels(self) -> list[tuple[str, list[str]]]:
        values = [*(f"width {width}" for width in WIDTHS), "absent"]
        return [(f"layer {layer}", values[:]) for layer in range(1, MOST + 1)]

    def graph(self, arch: Architecture) -> list[Edge]:
        """Input, a node a hidden layer that is there, and output, in a row."""
        layers = [f"width {width}#{layer}" for layer, width in enumerate(widths(arch))]
        return [(source, target, "") for source, target in pairwise(["input", *layers, "output"])]


def widths(arch: Architecture) -> list[int]:
    """The width of each hidden layer, the first one first."""
    depth = arch.index(ABSENT) if ABSENT in arch else len(arch)
    return [WIDTHS[gene] for gene in arch[:depth]]
