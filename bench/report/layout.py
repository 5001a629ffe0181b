"""Where the nodes and edges of a small drawing lie: layers from left to right, nothing on top of
anything else (Sugiyama, Tagawa & Toda, IEEE Trans. SMC 11, 1981).

An edge passes every layer between its ends through a place of its own there, and a label takes
one such place, so that neither crosses a node nor another label.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise

from bench.space import Edge

SWEEPS = 16  # of ordering, then of straightening; small drawings settle in a few

Place = tuple[float, float]  # the layer, counted from the left, and the height, in rows
Key = tuple[int, str]  # -1 and a node, or an edge and a layer


@dataclass(frozen=True)
class Layout:
    """Places in layers and rows, the first row at height 0, all others above."""

    nodes: dict[str, Place]
    routes: list[list[Place]]
    """For each edge, the places it passes, its ends among them."""
    labels: list[Place]
    """For each edge, the middle of its way, which is free of all else if it has a label."""
    layers: int
    rows: float


def layout(edges: Sequence[Edge], *, across: int = 1_000) -> Layout:
    """Place a drawing; parts that are not connected lie above each other.

    Args:
        across: nodes of a plain chain beside each other; a longer one turns back, row by row.

    Raises:
        graphlib.CycleError: the edges go round in a circle.
    """
    if len(edges) >= across and _is_chain(edges):
        return _serpentine(edges, across)
    nodes: dict[str, Place] = {}
    routes: list[list[Place]] = [[] for _ in edges]
    labels: list[Place] = [(0.0, 0.0) for _ in edges]
    height = 0.0
    layers = 1
    for part in reversed(_parts(edges)):
        layer = _layers([edges[edge] for edge in part])
        ways = {edge: _way(edge, edges[edge], layer) for edge in part}
        heights = _heights(ways, layer)
        lowest = min(heights.values())

        def place(
            key: Key, x: int, low: float = height - lowest, y: dict[Key, float] = heights
        ) -> Place:
            return float(x), y[key] + low

        for node, x in layer.items():
            nodes[node] = place((-1, node), x)
        for edge, way in ways.items():
            x = layer[edges[edge][0]]
            routes[edge] = [place(key, x + step) for step, key in enumerate(way)]
            labels[edge] = routes[edge][len(way) // 2]
        layers = max(layers, 1 + max(layer.values()))
        height += max(heights.values()) - lowest + 1.5
    return Layout(nodes, routes, labels, layers, height - 0.5 if edges else 0.0)


def _is_chain(edges: Sequence[Edge]) -> bool:
    """Whether every edge starts where the last one ended, and none has a label."""
    ends = [target for _, target, _ in edges]
    starts = [source for source, _, _ in edges]
    nodes = {starts[0], *ends}
    return starts[1:] == ends[:-1] and len(nodes) == len(edges) + 1 and not any(e[2] for e in edges)


def _serpentine(edges: Sequence[Edge], across: int) -> Layout:
    """A chain from left to right, then back below, and so on."""
    names = [edges[0][0], *(target for _, target, _ in edges)]
    rows = -(-len(names) // across)
    across = -(-len(names) // rows)
    nodes = {}
    for number, name in enumerate(names):
        row, x = divmod(number, across)
        nodes[name] = (float(across - 1 - x if row % 2 else x), 1.5 * (rows - 1 - row))
    routes = [[nodes[source], nodes[target]] for source, target, _ in edges]
    return Layout(nodes, routes, [route[0] for route in routes], across, 1.5 * rows - 0.5)


def _parts(edges: Sequence[Edge]) -> list[list[int]]:
    """The edges of each connected part, in the order of their first."""
    part: dict[str, int] = {}
    for source, target, _ in edges:
        one = part.setdefault(source, len(part))
        other = part.setdefault(target, one)
        for node, number in part.items():
            if number == max(one, other):
                part[node] = min(one, other)
    found = defaultdict(list)
    for edge, (source, _, _) in enumerate(edges):
        found[part[source]].append(edge)
    return list(found.values())


def _layers(edges: Sequence[Edge]) -> dict[str, int]:
    """The layer of each node: the longest way from a source; twice that leaves room for labels."""
    above: dict[str, list[str]] = {}
    for source, target, _ in edges:
        above.setdefault(source, [])
        above.setdefault(target, []).append(source)
    layer: dict[str, int] = {}
    for node in TopologicalSorter(above).static_order():
        layer[node] = max((layer[source] + 1 for source in above[node]), default=0)
    spread = 2 if any(label for *_, label in edges) else 1
    return {node: spread * layer[node] for node in above}


def _way(number: int, edge: Edge, layer: dict[str, int]) -> list[Key]:
    source, target, _ = edge
    between = range(layer[source] + 1, layer[target])
    return [(-1, source), *((number, str(x)) for x in between), (-1, target)]


def _heights(ways: dict[int, list[Key]], layer: dict[str, int]) -> dict[Key, float]:
    """Order every layer by the middle of what it is joined to, then straighten the ways."""
    joined: dict[Key, list[Key]] = {}
    for way in ways.values():
        for one, other in pairwise(way):
            joined.setdefault(one, []).append(other)
            joined.setdefault(other, []).append(one)
    columns: dict[int, list[Key]] = defaultdict(list)
    for key in joined:
        columns[layer[key[1]] if key[0] < 0 else int(key[1])].append(key)
    height = {key: float(y) for column in columns.values() for y, key in enumerate(column)}
    column_of = {key: x for x, column in columns.items() for key in column}
    xs = sorted(columns)
    for sweep in range(2 * SWEEPS):
        left = sweep % 2 == 0
        for x in xs if left else reversed(xs):
            column = columns[x]
            if sweep < SWEEPS:
                wanted = {key: _middle(key, joined, column_of, height, left) for key in column}
                column.sort(key=lambda key: (wanted[key], height[key]))
                start = -(len(column) - 1) / 2
                height |= {key: start + place for place, key in enumerate(column)}
            else:
                level = [
                    sum(height[one] for one in joined[key]) / len(joined[key]) for key in column
                ]
                height |= dict(zip(column, _spaced(level), strict=True))
    return height


def _middle(
    key: Key,
    joined: dict[Key, list[Key]],
    column_of: dict[Key, int],
    height: dict[Key, float],
    left: bool,
) -> float:
    """The mean height of what a place is joined to on one side, else on the other."""
    before = [one for one in joined[key] if (column_of[one] < column_of[key]) == left]
    some = before or joined[key]
    return sum(height[one] for one in some) / len(some)


def _spaced(wanted: Sequence[float]) -> list[float]:
    """Nearest to the wanted heights, in their order and at least 1 apart (least squares, by
    pooling adjacent violators).
    """
    pools: list[tuple[float, int]] = []
    for place, want in enumerate(wanted):
        mean, size = want - place, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    return [mean + place for place, mean in enumerate(flat)]
