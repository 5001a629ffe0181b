"""The spaces of NAS-Bench-Graph (Qin et al., NeurIPS 2022, section 3.1), and its published keys."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations
from math import prod
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.space import Architecture, Edge, Space

# Node 1 … 4 takes the output of node `link` (0: the input); nodes that none takes from are summed.
LINKS = (
    *((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 2), (0, 0, 1, 3)),
    *((0, 1, 1, 1), (0, 1, 1, 2), (0, 1, 2, 2), (0, 1, 2, 3)),
)
OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
NODES = 4
BASE = len(OPERATIONS) + 1  # of the published keys: the link's number, then four digits
ARCH = re.compile(r"Arch\(\[(\d), (\d), (\d), (\d)\], \['(\w+)', '(\w+)', '(\w+)', '(\w+)'\]\)")

Order = tuple[int, ...]  # which of the old nodes stands at each place, from 0


class NBGraph(Space):
    """A link pattern, then an operation a node; the network of four `skip` is no member."""

    name = "nb_graph"
    operations: tuple[str, ...] = OPERATIONS
    choices = (len(LINKS), *[len(OPERATIONS)] * NODES)

    def __init__(self, *, mutation_weights: Sequence[int] | None = None) -> None:
        super().__init__(mutation_weights=mutation_weights)
        self._skip = self.operations.index("skip")
        self._digits = np.array([OPERATIONS.index(name) for name in self.operations])

    def sample(self, rng: Random) -> Architecture:
        while not self.contains(arch := super().sample(rng)):
            pass
        return arch

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        return filter(self.contains, super().neighbours(arch))

    def mutate(self, arch: Architecture, rng: Random) -> Architecture:
        while not self.contains(child := super().mutate(arch, rng)):
            pass
        return child

    def contains(self, arch: Architecture) -> bool:
        return super().contains(arch) and any(op != self._skip for op in arch[1:])

    def __iter__(self) -> Iterator[Architecture]:
        return filter(self.contains, super().__iter__())

    @property
    def size(self) -> int:
        return prod(self.choices) - len(LINKS)

    @property
    def networks(self) -> int:
        """As many as the keys of all members: 26,206 and, for proteins, 2,021 (section 3.1)."""
        return _count(type(self))

    def keys(self, genes: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        """The published hash (`Arch.valid_hash`): the link's number and the digits of the
        operations, in base 10, of the first of the equal encodings.
        """
        genes = genes.astype(np.int64)
        skips = genes[:, 1:] == self._skip
        cases = genes[:, 0] * 2**NODES + skips @ (1 << np.arange(NODES))
        digits = self._digits[genes[:, 1:]]
        keys = np.zeros(len(genes), dtype=np.uint64)
        for case in np.unique(cases).tolist():
            here = cases == case
            link, orders = CASES[case]
            numbers = digits[here][:, np.array(orders)] @ PLACES
            keys[here] = link * BASE**NODES + numbers.min(-1)
        return keys

    def labels(self) -> list[tuple[str, list[str]]]:
        links = [" ".join(map(str, fathers)) for fathers in LINKS]
        nodes = [(f"node {node}", list(self.operations)) for node in range(1, NODES + 1)]
        return [("links", links), *nodes]

    def graph(self, arch: Architecture) -> list[Edge]:
        fathers = LINKS[arch[0]]
        operations = [f"{self.operations[op]}#{node}" for node, op in enumerate(arch[1:], 1)]
        names = ["input", *operations]
        edges = [(names[father], name, "") for father, name in zip(fathers, names[1:], strict=True)]
        leaves = [name for node, name in enumerate(names) if node not in (0, *fathers)]
        return edges + [(name, "output", "") for name in leaves]

    def canonical(self, arch: Architecture) -> int:
        return self.key(arch)

    def to_string(self, arch: Architecture) -> str:
        """The call that makes it in the published package."""
        return f"Arch({list(LINKS[arch[0]])}, {[self.operations[op] for op in arch[1:]]})"

    def from_string(self, text: str) -> Architecture:
        """Inverse of `to_string`; the 15 other lists of links are put in the order of `LINKS`."""
        found = ARCH.fullmatch(text)
        names = found.groups()[NODES:] if found else ()
        fathers = tuple(map(int, found.groups()[:NODES])) if found else ()
        possible = all(father <= node for node, father in enumerate(fathers))
        if not found or not possible or not set(names) <= set(self.operations):
            raise ValueError(self._foreign(text))
        link, orders = _orders(fathers, ())
        arch = (link, *(self.operations.index(names[node]) for node in orders[0]))
        if not self.contains(arch):
            raise ValueError(self._foreign(text))
        return arch

    def _foreign(self, text: str) -> str:
        example = f"Arch([0, 1, 1, 2], ['gcn', 'fc', 'sage', '{self.operations[0]}'])"
        return f"{text[:200]!r} is no network of {self.name}, such as {example}"


class NBGraphProteins(NBGraph):
    """The five operations that fit into memory on ogbn-proteins."""

    name = "nb_graph_proteins"
    operations = ("gcn", "sage", "arma", "fc", "skip")
    choices = (len(LINKS), *[len(operations)] * NODES)


def _remaining(fathers: Order, skips: tuple[bool, ...]) -> tuple[list[int], list[int]]:
    """The nodes that are seen through, and the fathers of all after that.

    A `skip` stays only where it adds its father's output to the sum: as one of several sons of an
    operation, without sons of its own.
    """
    gone: list[int] = []
    links = list(fathers)
    for node in range(NODES):
        if not skips[node]:
            continue
        others = [links[other] for other in range(NODES) if other not in (node, *gone)]
        if node + 1 in others or links[node] not in others or links[node] == 0:
            links = [links[node] if father == node + 1 else father for father in links]
            gone.append(node)
    return gone, links


def _orders(fathers: Order, gone: Sequence[int]) -> tuple[int, list[Order]]:
    """The number of the link pattern, and all orders of the nodes that give that pattern.

    The nodes `gone` are moved to the front, where they pass on the input one after the other.
    """
    kept = [node for node in range(NODES) if node not in gone]
    orders = [(*gone, *rest) for rest in permutations(kept)]
    for number, pattern in enumerate(LINKS):
        fitting = [order for order in orders if _relabelled(fathers, gone, order) == pattern]
        if fitting:
            return number, fitting
    raise AssertionError(f"{fathers} is no tree of {NODES} nodes")


def _relabelled(fathers: Order, gone: Sequence[int], order: Order) -> Order:
    place = {node + 1: at + 1 for at, node in enumerate(order)} | {0: len(gone)}
    return tuple(at if node in gone else place[fathers[node]] for at, node in enumerate(order))


def _case(link: int, skips: tuple[bool, ...]) -> tuple[int, list[Order]]:
    gone, fathers = _remaining(LINKS[link], skips)
    return _orders(tuple(fathers), gone)


# By link pattern and set of `skip` nodes; equal encodings differ in the order of nodes alone.
CASES = [
    _case(link, tuple(bool(mask >> node & 1) for node in range(NODES)))
    for link in range(len(LINKS))
    for mask in range(2**NODES)
]
PLACES = BASE ** np.arange(NODES)[::-1]


@cache
def _count(kind: type[NBGraph]) -> int:
    encodings = np.indices(kind.choices).reshape(len(kind.choices), -1).T
    members = (encodings[:, 1:] != kind.operations.index("skip")).any(-1)
    return len(np.unique(kind().keys(encodings[members])))
