"""Recurrent cells as graphs, and when two of them are one network."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

STATES = 3  # hidden states at most
NODES = 25  # at most: 3 states, 21 further nodes, and the activation of the last `linear`
OPERATIONS: dict[int, tuple[str, ...]] = {  # by the number of inputs
    1: ("activation_tanh", "activation_sigm", "activation_leaky_relu"),
    2: ("linear", "elementwise_prod", "elementwise_sum"),
    3: ("linear", "blend"),
}
ORDERED = {"blend"}  # operations whose inputs may not change places
INPUTS = ("x", *(f"h_prev_{state}" for state in range(STATES)))


class Node(NamedTuple):
    """An operation and what it takes: the numbers of `INPUTS`, then those of nodes from 4 up."""

    op: str
    inputs: tuple[int, ...]


class Cell(NamedTuple):
    """A cell as a graph: nodes by number, each after those it takes from."""

    new: tuple[int, ...]
    """The nodes that are the next hidden states; the first of them is the cell's output."""
    nodes: tuple[Node, ...]


def reached(nodes: Sequence[Node], new: Sequence[int]) -> list[int]:
    """The nodes from which a next hidden state can be reached, ascending."""
    found = set(new)
    for node in reversed(range(len(nodes))):
        if node in found:
            found |= {source - len(INPUTS) for source in nodes[node].inputs}
    return sorted(node for node in found if node >= 0)


def certificate(cell: Cell) -> bytes:
    """Equal for cells that differ only in the order of nodes, of inputs where it does not matter
    and of hidden states but the first, or in nodes that no hidden state needs.

    The colours of the nodes that are needed, after refinement (Weisfeiler & Leman, 1968); cells
    that it cannot tell apart are equal too.
    """
    new, nodes = cell
    needed = reached(nodes, new)
    kinds: dict[int, str] = {0: "x"}
    takes: dict[int, tuple[int, ...]] = {0: ()}
    for state, node in enumerate(new):
        # The previous value of a state comes from where its next value goes to.
        kinds[1 + state], takes[1 + state] = "state", (len(INPUTS) + node,)
    for node in needed:
        kinds[len(INPUTS) + node], takes[len(INPUTS) + node] = nodes[node]
    gives: dict[int, list[tuple[int, int]]] = {place: [] for place in kinds}
    for place, sources in takes.items():
        for at, source in enumerate(sources):
            gives[source].append((place, at if kinds[place] in ORDERED else 0))
    colours = _ranks({place: (kind, place == 1) for place, kind in kinds.items()})
    while True:
        signs = {}
        for place, kind in kinds.items():
            below = [colours[source] for source in takes[place]]
            signs[place] = (
                colours[place],
                below if kind in ORDERED else sorted(below),
                sorted((colours[to], at) for to, at in gives[place]),
            )
        finer = _ranks(signs)
        if len(set(finer.values())) == len(set(colours.values())):
            described = sorted((kinds[place], place == 1, *signs[place]) for place in kinds)
            return json.dumps(described).encode()
        colours = finer


def _ranks(signs: dict[int, Any]) -> dict[int, int]:
    """Colours: the place of each sign among the different ones, in their order."""
    ordered: list[Any] = []
    for sign in sorted(signs.values()):
        if not ordered or ordered[-1] != sign:
            ordered.append(sign)
    places = {repr(sign): place for place, sign in enumerate(ordered)}
    return {key: places[repr(sign)] for key, sign in signs.items()}
