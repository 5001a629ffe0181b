"""Chain CNNs: two to five convolution layers, each with a kernel of three to six."""

from collections.abc import Iterator
from itertools import pairwise, product
from random import Random

from bench.space import Architecture, Edge, Space

KERNELS = (3, 4, 5, 6)
LEAST, MOST = 2, 5  # layers
ABSENT = len(KERNELS)  # what a gene says of a layer that is not there


class Chain(Space):
    """A gene a layer: which kernel it has, or that it is absent; layers are absent from the end.

    So depth is no gene of its own, which would leave genes without meaning: every member is
    another network, and one step changes a kernel, adds a last layer or takes it away.
    """

    name = "chain"
    choices = (len(KERNELS),) * LEAST + (len(KERNELS) + 1,) * (MOST - LEAST)

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
        return super().contains(arch) and set(arch[len(kernels(arch)) :]) <= {ABSENT}

    @property
    def size(self) -> int:
        return sum(len(KERNELS) ** depth for depth in range(LEAST, MOST + 1))

    def __iter__(self) -> Iterator[Architecture]:
        return filter(self.contains, product(*map(range, self.choices)))

    def to_string(self, arch: Architecture) -> str:
        """The kernels in order, such as `3-5-4`."""
        return "-".join(map(str, kernels(arch)))

    def from_string(self, text: str) -> Architecture:
        words = text.split("-")
        known = {str(kernel): gene for gene, kernel in enumerate(KERNELS)}
        if not LEAST <= len(words) <= MOST or not set(words) <= known.keys():
            raise ValueError(
                f"{text!r} is no chain; allowed: {LEAST} to {MOST} kernels of "
                f"{', '.join(known)}, such as 3-5-4"
            )
        return (*(known[word] for word in words), *(ABSENT,) * (MOST - len(words)))

    def labels(self) -> list[tuple[str, list[str]]]:
        values = [*(f"kernel {kernel}" for kernel in KERNELS), "absent"]
        return [(f"layer {layer}", values[:some]) for layer, some in enumerate(self.choices, 1)]

    def graph(self, arch: Architecture) -> list[Edge]:
        """Input, a node a layer that is there, and output, in a row."""
        layers = [f"kernel {kernel}#{layer}" for layer, kernel in enumerate(kernels(arch))]
        return [(source, target, "") for source, target in pairwise(["input", *layers, "output"])]


def kernels(arch: Architecture) -> list[int]:
    """The kernel of each layer, the first one first."""
    depth = arch.index(ABSENT) if ABSENT in arch else len(arch)
    return [KERNELS[gene] for gene in arch[:depth]]
