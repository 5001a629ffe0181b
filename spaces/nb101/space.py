"""The space of NAS-Bench-101 (Ying et al., ICML 2019, section 2)."""

from collections.abc import Iterator, Sequence
from itertools import product
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.space import Architecture, Edge, Features, Space
from spaces.nb101.graph import (
    ALL_EDGES,
    EDGES,
    INNER,
    INPUT,
    MAX_EDGES,
    OPERATIONS,
    OUTPUT,
    VERTICES,
    canonical,
    canonical_all,
    prune,
    valid_edges,
)

LABELINGS: int = len(OPERATIONS) ** INNER
TRIES = 10_000  # a draw that has failed so often does not fail by chance
_BITS = b"01".ljust(256, b"x")  # digits for `int`, which takes no x
_TRITS = b"012".ljust(256, b"x")
_PLACES = 1 << np.arange(len(EDGES) - 1, -1, -1, dtype=np.int64)
_LABEL_PLACES = 4 ** np.arange(INNER - 1, -1, -1, dtype=np.int64)


class NB101(Space):
    """Whether there is each of 21 edges between 7 vertices, row by row above the diagonal, then
    an operation for each of the 5 inner vertices: encoding A of the paper's appendix.

    A member is what the benchmark's `is_valid` accepts: vertices that are not on a path from
    input to output are dropped, then the input reaches the output over at most nine edges. So
    dropped edges do not count, and dropped vertices may hold any operation. A cell in the official
    files has 2 to 7 vertices; its place here is that of its vertices in order, the unused ones
    before the output. The published string form is that of those files: the adjacency matrix
    row by row as 0 and 1, a colon (ours), and the labels, joined by commas.
    """

    name = "nb101"
    choices = (2,) * len(EDGES) + (len(OPERATIONS),) * INNER

    def __init__(
        self,
        *,
        mutation_weights: Sequence[int] | None = None,
        mutation_rate: float | None = None,
    ) -> None:
        """
        Args:
            mutation_rate: where it is given, `mutate` is the `published_mutation` of this rate,
                of which the weights know nothing.

        Raises:
            ValueError: see `Space`; or a rate that is not above 0, up to 5.
        """
        super().__init__(mutation_weights=mutation_weights)
        if mutation_rate is not None and not 0 < mutation_rate <= INNER:
            raise ValueError(
                f"mutation_rate is {mutation_rate}; allowed: null, or above 0 up to {INNER}"
            )
        self.mutation_rate = mutation_rate

    def sample(self, rng: Random) -> Architecture:
        while True:
            edges = int(rng.random() * ALL_EDGES)
            if _is_valid(edges):
                return (*_edge_genes(edges), *_operation_genes(int(rng.random() * LABELINGS)))

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Every member that differs in one edge or operation; some are the same network."""
        return filter(self.contains, super().neighbours(arch))

    def mutate(self, arch: Architecture, rng: Random) -> Architecture:
        """Give another value to one gene, drawn by `mutation_weights`, until that is a member.

        Raises:
            ValueError: no gene with a weight can change so that a member results.
        """
        if self.mutation_rate is not None:
            return published_mutation(arch, rng, rate=self.mutation_rate)
        for _ in range(TRIES):
            child = super().mutate(arch, rng)
            if self.contains(child):
                return child
        raise ValueError(
            f"mutation_weights leave {self.to_string(arch)} no neighbour; give one to every gene"
        )

    def contains(self, arch: Architecture) -> bool:
        try:
            edges, _ = _bits(arch)
        except (TypeError, ValueError):
            return False
        return len(arch) == len(self.choices) and _is_valid(edges)

    @property
    def size(self) -> int:
        return int(valid_edges().size) * LABELINGS

    @property
    def networks(self) -> int:
        """Classes of isomorphic cells (Ying et al., 2019, section 2.1)."""
        return 423_624

    def __iter__(self) -> Iterator[Architecture]:
        operations = list(product(range(len(OPERATIONS)), repeat=INNER))
        for edges in map(_edge_genes, map(int, valid_edges())):
            yield from ((*edges, *some) for some in operations)

    def keys(self, genes: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        """The canonical numbers of `spaces.nb101.graph`: equal for isomorphic cells."""
        edges = genes[:, : len(EDGES)] @ _PLACES
        labels = genes[:, len(EDGES) :] @ _LABEL_PLACES
        return canonical_all(edges.astype(np.uint32), labels.astype(np.uint32))

    def key(self, arch: Architecture) -> int:
        return canonical(*_bits(arch))

    def canonical(self, arch: Architecture) -> int:
        """Equal for isomorphic cells, as their MD5 hashes are, and the same in every process."""
        return self.key(arch)

    def labels(self) -> list[tuple[str, list[str]]]:
        edges = [(f"edge {i} → {j}", ["no", "yes"]) for i, j in EDGES]
        return edges + [(f"vertex {v}", list(OPERATIONS)) for v in range(1, VERTICES - 1)]

    def graph(self, arch: Architecture) -> list[Edge]:
        """The vertices on a path from input to output, by their operations."""
        there = [edge for edge, gene in zip(EDGES, arch, strict=False) if gene]
        reached, useful = {0}, {VERTICES - 1}
        for i, j in there:  # by source, and edges lead upwards
            reached |= {j} if i in reached else set()
        for i, j in reversed(there):
            useful |= {i} if j in useful else set()
        names = [f"{name}#{v}" for v, name in enumerate(operations_of(arch))]
        return [(names[i], names[j], "") for i, j in there if i in reached and j in useful]

    def features(self, arch: Architecture) -> Features:
        """The edges as 0 and 1, then one-hot operations: shape `[36]`."""
        operations = np.eye(len(OPERATIONS))[list(arch[len(EDGES) :])]
        return np.concatenate([np.array(arch[: len(EDGES)], float), operations.ravel()])

    def to_string(self, arch: Architecture) -> str:
        matrix = matrix_of(arch)
        rows = "".join(str(value) for row in matrix for value in row)
        return f"{rows}:{','.join(operations_of(arch))}"

    def from_string(self, text: str) -> Architecture:
        """Also takes the cells of fewer vertices that the official files hold."""
        adjacency, _, labels = text.partition(":")
        arch = _genes(adjacency, labels.split(","))
        if arch is None or not self.contains(arch):
            raise ValueError(f"{text!r} is no cell of {self.name}, such as {EXAMPLE}")
        return arch


def _is_valid(edges: int) -> bool:
    return 0 < prune(edges)[1].bit_count() <= MAX_EDGES


def _bits(arch: Architecture) -> tuple[int, int]:
    """The edges as 21 bits and the operations as 10; ValueError where a gene is out of range."""
    edges, operations = arch[: len(EDGES)], arch[len(EDGES) :]
    return int(bytes(edges).translate(_BITS), 2), int(bytes(operations).translate(_TRITS), 4)


def _edge_genes(edges: int) -> tuple[int, ...]:
    return tuple(map(int, format(edges, f"0{len(EDGES)}b")))


def _operation_genes(number: int) -> Iterator[int]:
    for place in range(INNER - 1, -1, -1):
        yield number // len(OPERATIONS) ** place % len(OPERATIONS)


def matrix_of(arch: Architecture) -> list[list[int]]:
    """The adjacency matrix of a cell, before it is pruned."""
    matrix = [[0] * VERTICES for _ in range(VERTICES)]
    for (i, j), edge in zip(EDGES, arch, strict=False):
        matrix[i][j] = edge
    return matrix


def operations_of(arch: Architecture) -> list[str]:
    """The labels of all seven vertices."""
    return [INPUT, *(OPERATIONS[gene] for gene in arch[len(EDGES) :]), OUTPUT]


def _genes(adjacency: str, labels: list[str]) -> Architecture | None:
    """The genes of a cell of 2 to 7 vertices in the form of the official files, if it is one."""
    size = len(labels)
    inner = labels[1:-1]
    if not 2 <= size <= VERTICES or len(adjacency) != size * size or set(adjacency) - {"0", "1"}:
        return None
    if [labels[0], labels[-1]] != [INPUT, OUTPUT] or not set(inner) <= set(OPERATIONS):
        return None
    place = {size - 1: VERTICES - 1}
    edges = [divmod(at, size) for at, bit in enumerate(adjacency) if bit == "1"]
    if any(i >= j for i, j in edges):
        return None
    there = {(place.get(i, i), place.get(j, j)) for i, j in edges}
    operations = [OPERATIONS.index(label) for label in inner]
    return (*(int(edge in there) for edge in EDGES), *operations, *[0] * (VERTICES - size))


def published_mutation(arch: Architecture, rng: Random, *, rate: float = 1.0) -> Architecture:
    """The mutation of the paper's evolution: several changes at once, and now and then none.

    Each edge flips with probability `rate` / 7, each operation becomes another one with
    probability `rate` / 5, and all is drawn again until the cell is valid (Ying et al., 2019,
    supplement S3; google-research/nasbench@b942470, NASBench.ipynb, mutate_spec).
    """
    while True:
        genes = [edge ^ (rng.random() < rate / VERTICES) for edge in arch[: len(EDGES)]]
        for operation in arch[len(EDGES) :]:
            step = 1 + int(rng.random() * 2) if rng.random() < rate / INNER else 0
            genes.append((operation + step) % len(OPERATIONS))
        if SPACE.contains(child := tuple(map(int, genes))):
            return child


SPACE = NB101()
EXAMPLE = "0100001000010000:" + ",".join((INPUT, *OPERATIONS[:2], OUTPUT))
