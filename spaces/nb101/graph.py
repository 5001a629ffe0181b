"""Cells of NAS-Bench-101 as bits: pruning, a canonical number, and the published MD5 hash.

The edges of a cell are 21 bits, row by row above the diagonal, the first one highest. Pruned, the
vertices that are left move to the front while the output stays last; the edges then tell how many
there are, and 10 more bits hold the operations, two for each vertex between input and output. The
least such number over all orders in which edges still point forward is the same for isomorphic
cells and for no others, which a mixing hash could only promise with high probability.
"""

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

VERTICES = 7
MAX_EDGES = 9  # of the pruned cell (google-research/nasbench@b942470, api.py, _check_spec)
OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # in the order of hashing
INPUT, OUTPUT = "input", "output"
EDGES = tuple(combinations(range(VERTICES), 2))
INNER = VERTICES - 2
ALL_EDGES = 1 << len(EDGES)
LABEL_BITS = 2 * INNER

Bits = NDArray[np.uint32]


def _bit(edge: tuple[int, int]) -> int:
    return 1 << len(EDGES) - 1 - EDGES.index(edge)


def _tables(weights: NDArray[np.uint32], width: int) -> NDArray[np.uint32]:
    """What so many bits at a time are worth: `[..., bits]` becomes `[..., parts, 2^width]`."""
    digits = np.arange(1 << width)[:, None] >> np.arange(width)[::-1] & 1
    parts = weights.reshape(*weights.shape[:-1], -1, width)
    return (parts @ digits.T.astype(np.uint32)).astype(np.uint32)


def _moves(places: Sequence[Sequence[int]]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The bits that edges and operations become, by seven and by five bits.

    Args:
        places: each a list of where the vertices go, -1 where they are dropped.
    """
    edges = [[_bit((to[i], to[j])) if 0 <= to[i] < to[j] else 0 for i, j in EDGES] for to in places]
    labels = [
        [bit << 2 * (INNER - at) if at > 0 else 0 for at in to[1:-1] for bit in (2, 1)]
        for to in places
    ]
    return (
        _tables(np.array(edges, np.uint32), 7),
        _tables(np.array(labels, np.uint32), 5),
    )


def _places(kept: int) -> list[int]:
    """Where the vertices go when those inner ones without a bit in `kept` are dropped."""
    is_kept = [kept >> INNER - 1 - vertex & 1 for vertex in range(INNER)]
    inner = [1 + sum(is_kept[:v]) if is_kept[v] else -1 for v in range(INNER)]
    return [0, *inner, VERTICES - 1]


COMPACT_EDGES, COMPACT_LABELS = _moves([_places(kept) for kept in range(1 << INNER)])
_COMPACT_EDGES, _COMPACT_LABELS = COMPACT_EDGES.tolist(), COMPACT_LABELS.tolist()


@lru_cache(maxsize=1 << 16)
def prune(edges: int) -> tuple[int, int]:
    """The inner vertices on a path from input to output, and the edges between those, compact.

    There are no edges where the input does not reach the output.
    """
    row0, row1, row2 = edges >> 15, edges >> 10 & 31, edges >> 6 & 15  # vertex 6 is bit 0
    row3, row4, row5 = edges >> 3 & 7, edges >> 1 & 3, edges & 1
    reached = row0
    if reached & 32:
        reached |= row1
    if reached & 16:
        reached |= row2
    if reached & 8:
        reached |= row3
    if reached & 4:
        reached |= row4
    if reached & 2:
        reached |= row5
    if not reached & 1:
        return 0, 0
    reaching = 1 | row5 << 1
    if row4 & reaching:
        reaching |= 4
    if row3 & reaching:
        reaching |= 8
    if row2 & reaching:
        reaching |= 16
    if row1 & reaching:
        reaching |= 32
    kept = (reached & reaching) >> 1
    high, middle, low = _COMPACT_EDGES[kept]
    return kept, high[edges >> 14] | middle[edges >> 7 & 127] | low[edges & 127]


def prune_all(edges: Bits) -> tuple[NDArray[np.uint8], Bits]:
    """`prune` of every element of an array."""
    rows = [
        (edges >> np.uint32(shift) & np.uint32(ones)).astype(np.uint8)
        for shift, ones in ((15, 63), (10, 31), (6, 15), (3, 7), (1, 3), (0, 1))
    ]
    reached, reaching = rows[0], np.ones(edges.shape, np.uint8)
    for vertex in range(1, VERTICES - 1):
        reached = reached | rows[vertex] * (reached >> VERTICES - 1 - vertex & 1)
    for vertex in range(VERTICES - 2, 0, -1):
        reaching |= ((rows[vertex] & reaching) != 0).view(np.uint8) << VERTICES - 1 - vertex
    kept = (reached & reaching) >> np.uint8(1)
    compact: Bits = _looked_up(COMPACT_EDGES, kept, edges, 7) * (reached & 1)
    return kept, compact


def _looked_up(
    tables: NDArray[np.uint32], which: NDArray[np.integer], bits: Bits, width: int
) -> Bits:
    """The sum over the parts of `bits` of what table `which` says of them."""
    _, parts, entries = tables.shape
    flat, start = tables.ravel(), which.astype(np.intp) * (parts * entries)
    total = np.zeros(bits.shape, np.uint32)
    for part in range(parts):
        at = bits >> np.uint32(width * (parts - 1 - part)) & np.uint32(entries - 1)
        total |= flat[start + part * entries + at]
    return total


@cache
def valid_edges() -> Bits:
    """All edge bits, ascending, whose pruned cell is within the benchmark."""
    found = []
    ones = np.array([number.bit_count() for number in range(128)], np.uint8)
    for first in range(0, ALL_EDGES, 1 << 17):
        edges = np.arange(first, first + (1 << 17), dtype=np.uint32)
        _, pruned = prune_all(edges)
        count = sum(ones[pruned >> np.uint32(shift) & np.uint32(127)] for shift in (0, 7, 14))
        found.append(edges[(pruned > 0) & (count <= MAX_EDGES)])
    return np.concatenate(found)


# Every order of the inner vertices, and whether it leaves all but the first few where they are.
_ORDERS = [(0, *order, VERTICES - 1) for order in permutations(range(1, VERTICES - 1))]
_BACKWARD = np.array(
    [sum(_bit((i, j)) for i, j in EDGES if to[i] > to[j]) for to in _ORDERS], np.uint32
)
_LEAVES = np.array(
    [[to[1 + few :] == _ORDERS[0][1 + few :] for to in _ORDERS] for few in range(INNER + 1)]
)
_ORDER_EDGES, _ORDER_LABELS = _moves(_ORDERS)
_ENTERING = [sum(_bit(edge) for edge in EDGES if edge[1] == v) for v in range(1, VERTICES - 1)]


def twins(edges: Bits) -> tuple[NDArray[np.intp], NDArray[np.intp], Bits]:
    """Every order of the vertices of compact cells in which edges point forward.

    Args:
        edges: shape `[cells]`.

    Returns:
        For each such order, sorted by cell: the cell, the number of the order for
        `labels_in_order`, and the edges in that order.
    """
    inner = sum((edges & np.uint32(entering)) != 0 for entering in _ENTERING)
    forward = (edges[:, None] & _BACKWARD) == 0
    cell, order = np.nonzero(forward & _LEAVES[np.asarray(inner, np.intp)])
    return cell, order, _looked_up(_ORDER_EDGES, order, edges[cell], 7)


def labels_in_order(labels: Bits, order: NDArray[np.intp]) -> Bits:
    """The bits of the operations, in orders as `twins` numbers them; both of shape `[cells]`."""
    return _looked_up(_ORDER_LABELS, order, labels, 5)


def canonical_all(edges: Bits, labels: Bits) -> NDArray[np.uint64]:
    """The canonical numbers of cells within the benchmark.

    Args:
        edges, labels: 21 and 10 bits, shape `[cells]`.
    """
    if not len(edges):
        return np.zeros(0, np.uint64)
    kept, compact = prune_all(edges)
    structures, structure = np.unique(compact, return_inverse=True)
    cell, order, moved = twins(structures)
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    least = np.minimum.reduceat(moved, first)
    is_least = moved == least[cell]
    cell, order = cell[is_least], order[is_least]

    count = np.bincount(cell, minlength=len(structures))[structure]
    begin = np.searchsorted(cell, structure)
    ends = count.cumsum()
    row = np.repeat(np.arange(len(edges)), count)
    ways = order[np.arange(ends[-1]) + np.repeat(begin - ends + count, count)]
    of_vertices = _looked_up(COMPACT_LABELS, kept, labels, 5)
    operations = np.minimum.reduceat(labels_in_order(of_vertices[row], ways), ends - count)
    return least[structure].astype(np.uint64) << np.uint64(LABEL_BITS) | operations


@lru_cache(maxsize=1 << 13)  # there are 6,472 compact cells before operations are chosen
def _least(compact: int) -> tuple[int, list[tuple[list[int], list[int]]]]:
    """The least edges over all orders, and how the operations move in each that attains them."""
    _, orders, moved = twins(np.array([compact], np.uint32))
    tables = _ORDER_LABELS[orders[moved == moved.min()]].tolist()
    return int(moved.min()) << LABEL_BITS, [(high, low) for high, low in tables]


def canonical(edges: int, labels: int) -> int:
    """`canonical_all` of one cell."""
    kept, compact = prune(edges)
    above, below = _COMPACT_LABELS[kept]
    labels = above[labels >> 5] | below[labels & 31]
    least, moves = _least(compact)
    return least | min([high[labels >> 5] | low[labels & 31] for high, low in moves])


@lru_cache(maxsize=1 << 10)
def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def md5_hash(matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> str:
    """The published hash of a cell: MD5 over rounds of sorted hashes of the neighbours.

    Pruned first, as the benchmark does (google-research/nasbench@b942470, model_spec.py and
    graph_util.py, hash_module).

    Args:
        matrix: 0 or 1 for each edge, above the diagonal; any number of vertices.
        operations: a label a vertex, the first and the last of which are not looked at.

    Raises:
        ValueError: the matrix is not square and upper triangular, or an operation is unknown,
            or the input does not reach the output.
    """
    size = len(operations)
    if size < 2 or len(matrix) != size or any(len(row) != size for row in matrix):
        raise ValueError(f"a cell of {size} operations needs a square matrix of that many rows")
    if any(matrix[i][j] for i in range(size) for j in range(i + 1)):
        raise ValueError("edges must point forward, above the diagonal of the matrix")
    vertices = _on_a_path(matrix)
    into = [[place for place, i in enumerate(vertices) if matrix[i][v]] for v in vertices]
    out_of = [[place for place, i in enumerate(vertices) if matrix[v][i]] for v in vertices]
    labels = [-1, *(_label(operations[v]) for v in vertices[1:-1]), -2]
    hashes = [
        _md5(str((len(after), len(before), label)))
        for before, after, label in zip(into, out_of, labels, strict=True)
    ]
    for _ in vertices:
        hashes = [
            hashlib.md5(
                f"{''.join(sorted([hashes[w] for w in before]))}|"
                f"{''.join(sorted([hashes[w] for w in after]))}|{own}".encode(),
                usedforsecurity=False,
            ).hexdigest()
            for before, after, own in zip(into, out_of, hashes, strict=True)
        ]
    return hashlib.md5(str(sorted(hashes)).encode(), usedforsecurity=False).hexdigest()


def _on_a_path(matrix: Sequence[Sequence[int]]) -> list[int]:
    size = len(matrix)
    reached, reaching = {0}, {size - 1}
    for vertex in range(1, size):
        if any(matrix[i][vertex] for i in reached):
            reached.add(vertex)
    for vertex in range(size - 2, -1, -1):
        if any(matrix[vertex][i] for i in reaching):
            reaching.add(vertex)
    if size - 1 not in reached:
        raise ValueError("the input of the cell does not reach its output")
    return sorted(reached & reaching)


def _label(operation: str) -> int:
    if operation not in OPERATIONS:
        raise ValueError(f"unknown operation {operation!r}; allowed: {', '.join(OPERATIONS)}")
    return OPERATIONS.index(operation)
