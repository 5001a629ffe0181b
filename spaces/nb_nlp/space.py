"""The recurrent cells of NAS-Bench-NLP (Klyuchnikov et al., 2020, section 3)."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import perm, prod
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.space import Architecture, Edge, Space
from spaces.nb_nlp.cell import INPUTS, NODES, OPERATIONS, STATES, Cell, Node, certificate, reached
from spaces.nb_nlp.generator import generate
from spaces.nb_nlp.recipe import parse, write

# What a node's first gene means with one, two or three inputs.
WORDS = ["tanh, or linear", "sigmoid, product or blend", "leaky relu or sum"]
WIDTH = 4  # genes a node

Slot = tuple[int, int, int, int]  # the genes of a node: its operation, and up to three inputs
EMPTY: Slot = (0, 0, 0, 0)


class NBNLP(Space):
    """Three genes say which nodes are the next hidden states (0: none, for the second and third),
    then four a node: operation, and up to three inputs, where 0 is none, then `INPUTS`, then the
    nodes before it.

    A member is what the published `CustomRNNCell` can build of up to 25 nodes: the nodes come one
    after the other, without gaps; `linear` takes two or three different inputs, `blend` three, a
    sum or product two, an activation one; `x`, which has another width, goes only into `linear`;
    and there are as many next hidden states as previous ones. Nodes that no hidden state needs
    may be there, as in the published generator before it prunes; a network's key leaves them out.
    """

    name = "nb_nlp"
    choices = (
        *(NODES, NODES + 1, NODES + 1),
        *(n for node in range(NODES) for n in (3, *[1 + len(INPUTS) + node] * 3)),
    )

    def sample(self, rng: Random) -> Architecture:
        """Draw as the published generator does, which is not uniform over the set."""
        return _genes(generate(rng))

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        end = STATES + WIDTH * (_count(arch) + 1)  # behind the first empty node nothing may be
        for near in _one_gene_apart(arch, self.choices, min(end, len(arch))):
            if self._holds_together(near):
                yield near

    def mutate(self, arch: Architecture, rng: Random) -> Architecture:
        while not self._holds_together(child := super().mutate(arch, rng)):
            pass
        return child

    def contains(self, arch: Architecture) -> bool:
        return super().contains(arch) and self._holds_together(arch)

    def _holds_together(self, arch: Architecture) -> bool:
        """Whether genes, each in its range, are a member."""
        new = _new(arch)
        count = _count(arch)
        if new is None or max(new) >= count or any(arch[STATES + WIDTH * count :]):
            return False
        return all(_is_node(_slot(arch, node), len(new)) for node in range(count))

    @property
    def size(self) -> int:
        """Exactly: for every number of states and nodes, the ways to fill each node, times the
        ways to choose which nodes are the next states.
        """
        return sum(
            prod(_ways(node, states) for node in range(count)) * perm(count, states)
            for states in range(1, STATES + 1)
            for count in range(states, NODES + 1)
        )

    @property
    def networks(self) -> int:
        """`size`, which is more: nobody has counted the cells that differ."""
        return self.size

    def __iter__(self) -> Iterator[Architecture]:
        for new in np.ndindex(*self.choices[:STATES]):
            if (states := _new(new)) is not None:
                yield from _fillings(tuple(map(int, new)), len(states), max(states) + 1)

    def canonical(self, arch: Architecture) -> bytes:
        """See `cell.certificate`: whatever the order of nodes, and without those not needed."""
        return _canonical(tuple(arch))

    def keys(self, genes: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        """The first 64 bits of the SHA-256 of the canonical form."""
        return np.array([self.key(arch) for arch in map(tuple, genes.tolist())], dtype=np.uint64)

    def key(self, arch: Architecture) -> int:
        return int.from_bytes(hashlib.sha256(self.canonical(arch)).digest()[:8])

    def labels(self) -> list[tuple[str, list[str]]]:
        nodes = [f"node {node}" for node in range(NODES)]
        labels = [("h_new_0", nodes), ("h_new_1", ["none", *nodes]), ("h_new_2", ["none", *nodes])]
        for node, name in enumerate(nodes):
            labels.append((f"{name}, operation", WORDS))
            sources = ["none", *INPUTS, *nodes[:node]]
            labels += [(f"{name}, input {place}", sources) for place in range(1, 4)]
        return labels

    def graph(self, arch: Architecture) -> list[Edge]:
        """Nodes are operations; those that no hidden state needs are left out."""
        new, nodes = _cell(arch)
        names = [*INPUTS, *(f"{node.op}#{at}" for at, node in enumerate(nodes))]
        needed = reached(nodes, new)
        edges = [
            (names[source], names[len(INPUTS) + at], "")
            for at in needed
            for source in nodes[at].inputs
        ]
        return [
            *edges,
            *((names[len(INPUTS) + at], f"h_new_{state}", "") for state, at in enumerate(new)),
        ]

    def to_string(self, arch: Architecture) -> str:
        """The recipe as the published logs hold it, JSON, with the nodes in our order."""
        return write(_cell(arch))

    def from_string(self, text: str) -> Architecture:
        """Inverse of `to_string`; nodes may have any name, and stand in any order."""
        try:
            return _genes(parse(text))
        except ValueError as error:
            shown = text if len(text) <= 100 else f"{text[:100]}…"
            raise ValueError(
                f"{shown!r} is no cell of {self.name}, such as {EXAMPLE}: {error}"
            ) from None


def _new(arch: Sequence[int]) -> tuple[int, ...] | None:
    """The nodes that the first genes name, or None where there is a gap or a node twice."""
    first, second, third = (int(gene) for gene in arch[:STATES])
    if third and not second:
        return None
    new = (first, *(gene - 1 for gene in (second, third) if gene))
    return new if len(set(new)) == len(new) else None


def _slot(arch: Architecture, node: int) -> Slot:
    at = STATES + WIDTH * node
    return arch[at], arch[at + 1], arch[at + 2], arch[at + 3]


def _count(arch: Architecture) -> int:
    """How many nodes there are before the first that takes nothing."""
    firsts = arch[STATES + 1 :: WIDTH]
    return firsts.index(0) if 0 in firsts else NODES


@lru_cache(maxsize=2**16)
def _is_node(slot: Slot, states: int) -> bool:
    """Whether the genes of a node, each in its range, are one of a cell with so many states."""
    which, first, second, third = slot
    inputs = [gene for gene in (first, second, third) if gene]
    if (third and not second) or len(set(inputs)) < len(inputs) or not first:
        return False
    if any(1 + states < gene <= len(INPUTS) for gene in inputs):  # a state that is not there
        return False
    operations = OPERATIONS[len(inputs)]
    return which < len(operations) and (1 not in inputs or operations[which] == "linear")


def _ways(node: int, states: int) -> int:
    """How many genes a node may have."""
    sources = states + node  # without x
    of_linear = perm(sources + 1, 2) + perm(sources + 1, 3)
    return 3 * sources + 2 * perm(sources, 2) + perm(sources, 3) + of_linear


def _fillings(
    genes: Architecture, states: int, least: int, node: int = 0
) -> Iterator[Architecture]:
    """All members that begin so, with nodes from `node` on and at least `least` in all."""
    if node >= least:
        yield genes + EMPTY * (NODES - node)
    if node == NODES:
        return
    width = 1 + len(INPUTS) + node
    for slot in np.ndindex(3, width, width, width):
        if _is_node(slot, states):
            yield from _fillings(genes + tuple(map(int, slot)), states, least, node + 1)


def _one_gene_apart(arch: Architecture, choices: Sequence[int], end: int) -> Iterator[Architecture]:
    for gene in range(end):
        before, current, after = arch[:gene], arch[gene], arch[gene + 1 :]
        for value in range(choices[gene]):
            if value != current:
                yield (*before, value, *after)


def _cell(arch: Architecture) -> Cell:
    """The graph of a member; inputs are numbers into `INPUTS` and then the nodes."""
    nodes = []
    for node in range(_count(arch)):
        which, *sources = _slot(arch, node)
        inputs = tuple(source - 1 for source in sources if source)
        nodes.append(Node(OPERATIONS[len(inputs)][which], inputs))
    return Cell(_new(arch) or (), tuple(nodes))


def _genes(cell: Cell) -> Architecture:
    """The genes of a graph that is a cell."""
    first, *others = cell.new
    genes = [first, *(node + 1 for node in others), *[0] * (STATES - len(cell.new))]
    for op, inputs in cell.nodes:
        genes.append(OPERATIONS[len(inputs)].index(op))
        genes += [*(source + 1 for source in inputs), *[0] * (3 - len(inputs))]
    return (*genes, *[0] * (STATES + WIDTH * NODES - len(genes)))


@lru_cache(maxsize=50_000)
def _canonical(arch: Architecture) -> bytes:
    return certificate(_cell(arch))


EXAMPLE = (
    '{"f": {"op": "linear", "input": ["x", "h_prev_0"]}, '
    '"h_new_0": {"op": "activation_tanh", "input": ["f"]}}'
)
