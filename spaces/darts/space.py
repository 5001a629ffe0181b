"""The cell space of DARTS (Liu et al., ICLR 2019, section 2) as NAS-Bench-301 searches it."""

import re
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from bench.space import Architecture, Edge, Features, Space

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
CELLS = ("normal", "reduce")
NODES = (2, 3, 4, 5)  # 0 and 1 are the outputs of the two cells before
PLACES = ("first operation", "second operation")
PAIRS = {node: tuple(combinations(range(node), 2)) for node in NODES}
EDGES = {
    pair: n for n, pair in enumerate((node, source) for node in NODES for source in range(node))
}
PREFIX = "NetworkSelectorDatasetInfo:darts:"  # of the keys of NAS-Bench-301 configurations
Cell = tuple[tuple[tuple[int, int], ...], ...]  # a node's two inputs, as (source, operation)


class DARTS(Space):
    """A normal and a reduction cell of four nodes, each the sum of two operations.

    The genes of a node are which pair of earlier nodes it takes, in lexicographic order, and the
    operation on the first and on the second of them; node 2 has no choice of inputs. The cell's
    output joins all four nodes. There are (3 x 6 x 10 x 7^8)^2, or 1.08e18, members.
    """

    name = "darts"
    choices = (7, 7, 3, 7, 7, 6, 7, 7, 10, 7, 7) * 2

    def to_string(self, arch: Architecture) -> str:
        parts = []
        for kind, cell in zip(CELLS, cells(arch), strict=True):
            inputs = [(OPERATIONS[op], source) for node in cell for source, op in node]
            parts.append(f"{kind}={inputs}, {kind}_concat=range(2, 6)")
        return f"Genotype({', '.join(parts)})"

    def from_string(self, text: str) -> Architecture:
        """Also reads a node's inputs in either order, and `[2, 3, 4, 5]` for the range."""
        found = _GENOTYPE.fullmatch(text.strip())
        try:
            if not found:
                raise ValueError("it is written otherwise")
            edges = [
                [(int(source), _operation(op)) for op, source in _INPUT.findall(cell)]
                for cell in found.groups()
            ]
            return _genes(edges)
        except ValueError as error:
            shown = text if len(text) <= 400 else f"{text[:400]}…"
            raise ValueError(
                f"{shown!r} is no genotype of {self.name} ({error}), such as {EXAMPLE}"
            ) from None

    def features(self, arch: Architecture) -> Features:
        """One-hot operations on each of a cell's 14 possible edges, shape `[2 x 14 x 7]`.

        The edges stand as in a NAS-Bench-301 configuration; one that is not chosen is all zero.
        """
        vector = np.zeros((len(CELLS), len(EDGES), len(OPERATIONS)))
        for kind, cell in enumerate(cells(arch)):
            for node, inputs in zip(NODES, cell, strict=True):
                for source, op in inputs:
                    vector[kind, EDGES[node, source], op] = 1
        return vector.ravel()

    def labels(self) -> list[tuple[str, list[str]]]:
        found = []
        for kind in CELLS:
            for node in NODES:
                pairs = [f"{first} and {second}" for first, second in PAIRS[node]]
                found += [(f"{kind} {node}, inputs", pairs)] if node > 2 else []
                found += [(f"{kind} {node}, {place}", list(OPERATIONS)) for place in PLACES]
        return found

    def graph(self, arch: Architecture) -> list[Edge]:
        """Nodes are sums, edges operations; the output joins the four nodes."""
        edges = []
        for kind, cell in zip(CELLS, cells(arch), strict=True):
            names = [f"{name}#{kind}" for name in ("c(k-2)", "c(k-1)", *map(str, NODES))]
            for node, inputs in zip(NODES, cell, strict=True):
                edges += [(names[source], names[node], OPERATIONS[op]) for source, op in inputs]
            edges += [(names[node], f"{kind}#output", "") for node in NODES]
        return edges

    def canonical(self, arch: Architecture) -> tuple[Cell, ...]:
        """Both cells with their nodes in the order that is first among all that can be built.

        Equal exactly where renaming the four nodes turns one into the other: the cell's output
        then joins the same channels in another order, which no layer behind it can tell. Not
        seen are equalities that hold for some operations only, such as those through
        `skip_connect`, or pools in another order.
        """
        return tuple(_first_order(cell) for cell in cells(arch))


def cells(arch: Architecture) -> list[Cell]:
    """The normal and the reduction cell: for nodes 2 to 5 their two inputs, ascending."""
    found = []
    for start in (0, len(arch) // 2):
        pair, nodes = 0, []
        for node in NODES:
            place = start + 3 * (node - 2)  # of the node's first operation
            if node > 2:
                pair = arch[place - 1]
            nodes.append(tuple(zip(PAIRS[node][pair], arch[place : place + 2], strict=True)))
        found.append(tuple(nodes))
    return found


def to_config(arch: Architecture) -> dict[str, str]:
    """The architecture as NAS-Bench-301 configures it: operations of edges, inputs of nodes.

    Names are those of `nasbench301/configspace.json` (automl/nasbench301@9bdf78e): edges are
    numbered by their node and then by where they start, and only those chosen are named.
    """
    config = {}
    for kind, cell in zip(CELLS, cells(arch), strict=True):
        for node, inputs in zip(NODES, cell, strict=True):
            for source, op in inputs:
                config[f"{PREFIX}edge_{kind}_{EDGES[node, source]}"] = OPERATIONS[op]
            if node > 2:
                sources = "_".join(str(source) for source, _ in inputs)
                config[f"{PREFIX}inputs_node_{kind}_{node}"] = sources
    return config


def from_config(config: Mapping[str, object]) -> Architecture:
    """Inverse of `to_config`; keys of anything but edges and inputs do not matter.

    Raises:
        ValueError: the edges and inputs are not those of a member.
    """
    numbered = {str(number): pair for pair, number in EDGES.items()}
    edges = []
    for kind in CELLS:
        prefix = f"{PREFIX}edge_{kind}_"
        chosen = {key[len(prefix) :]: config[key] for key in config if key.startswith(prefix)}
        if strange := sorted(chosen.keys() - numbered.keys()):
            raise ValueError(f"{prefix}{strange[0]} is no edge; allowed: 0 to {len(EDGES) - 1}")
        ordered = sorted((numbered[name], _operation(op)) for name, op in chosen.items())
        taken = [node for (node, _), _ in ordered]
        if taken != [node for node in NODES for _ in range(2)]:
            raise ValueError(f"the edges {prefix}… do not give each of nodes 2 to 5 two inputs")
        edges.append([(source, op) for (_, source), op in ordered])
    arch = _genes(edges)
    for key, value in to_config(arch).items():
        if config.get(key) != value:
            raise ValueError(f"{key} is {str(config.get(key))[:50]!r}; its edges say {value!r}")
    return arch


def _operation(name: object) -> int:
    if name not in OPERATIONS:
        raise ValueError(f"operation {str(name)[:50]!r} is none of {', '.join(OPERATIONS)}")
    return OPERATIONS.index(str(name))


def _genes(edges: list[list[tuple[int, int]]]) -> Architecture:
    """The genes of two cells, each a list of eight (source, operation), two for every node."""
    genes: list[int] = []
    for cell in edges:
        for node in NODES:
            (first, one), (second, other) = sorted(cell[2 * node - 4 : 2 * node - 2])
            if (first, second) not in PAIRS[node]:
                raise ValueError(
                    f"node {node} takes {first} and {second}; allowed: two different nodes "
                    f"of 0 to {node - 1}"
                )
            genes += [PAIRS[node].index((first, second))] if node > 2 else []
            genes += [one, other]
    return tuple(genes)


def _first_order(cell: Cell) -> Cell:
    """The least of the cells that renaming the nodes of this one can give.

    Nodes are placed one by one, each time the one that then reads least; where several read
    the same, all of them are followed.
    """
    placed: list[tuple[int, ...]] = [()]  # old names in their new order, one tuple a way to do it
    found: Cell = ()
    for _ in NODES:
        ways = []
        for order in placed:
            names = {0: 0, 1: 1} | {old: new for new, old in enumerate(order, 2)}
            for old, inputs in zip(NODES, cell, strict=True):
                if old not in names and all(source in names for source, _ in inputs):
                    read = tuple(sorted((names[source], op) for source, op in inputs))
                    ways.append((read, (*order, old)))
        least = min(read for read, _ in ways)
        placed = [order for read, order in ways if read == least]
        found = (*found, least)
    return found


_PART = r"\(\s*'\w{1,20}'\s*,\s*\d\s*\)"
_CELL = rf"\[\s*({_PART}(?:\s*,\s*{_PART}){{7}})\s*,?\s*\]"
_ALL = r"(?:range\(\s*2\s*,\s*6\s*\)|\[\s*2\s*,\s*3\s*,\s*4\s*,\s*5\s*\])"
_GENOTYPE = re.compile(
    rf"Genotype\(\s*normal\s*=\s*{_CELL}\s*,\s*normal_concat\s*=\s*{_ALL}\s*,"
    rf"\s*reduce\s*=\s*{_CELL}\s*,\s*reduce_concat\s*=\s*{_ALL}\s*,?\s*\)",
    re.ASCII,
)
_INPUT = re.compile(r"'(\w+)'\s*,\s*(\d)", re.ASCII)
EXAMPLE = DARTS().to_string((3,) * 2 + ((0,) + (3,) * 2) * 3 + (0,) * 11)
