"""How NAS-Bench-NLP drew its cells (`RecepieGenerator` in search_space.py of its repository)."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from spaces.nb_nlp.cell import INPUTS, STATES, Cell, Node, reached

T = TypeVar("T")

FURTHER = (7, 14, 21)  # nodes beside the hidden states, before pruning
MAIN = (*["linear"] * 3, "blend", "elementwise_prod", "elementwise_sum")  # as often as drawn
ACTIVATIONS = ("activation_tanh", "activation_sigm", "activation_leaky_relu")
CONNECTIONS = (2, 2, 2, 2, 3)  # inputs of a `linear`, as often as drawn
FIRST = len(INPUTS)  # the number of the first node


def generate(rng: Random) -> Cell:
    """A random cell.

    The number of hidden states and of further nodes is one of the nine pairs of the published
    notebook (search_space_examples.ipynb), alike likely; then cells are drawn until one is sound.
    """
    states, further = _draw(rng, range(1, STATES + 1)), _draw(rng, FURTHER)
    while True:
        nodes = _redundant(rng, states, states + further)
        new = _different(rng, range(len(nodes)), states)
        kept = reached(nodes, new)
        used = {source for node in kept for source in nodes[node].inputs}
        previous = range(1, 1 + states)
        short_cut = any(source in previous for node in new for source in nodes[node].inputs)
        if used >= {0, *previous} and not short_cut:
            return _pruned(nodes, new, kept)


def _draw(rng: Random, some: Sequence[T]) -> T:
    return some[int(rng.random() * len(some))]


def _different(rng: Random, some: Sequence[int], count: int) -> tuple[int, ...]:
    """So many different ones, in random order."""
    rest = list(some)
    return tuple([rest.pop(int(rng.random() * len(rest))) for _ in range(count)])


def _redundant(rng: Random, states: int, count: int) -> list[Node]:
    """`count` nodes or one more, each taking from earlier ones, needed or not."""
    previous = [*range(1, 1 + states)]
    nodes: list[Node] = []
    activations: list[int] = []
    while len(nodes) < count:
        op = _draw(rng, MAIN)
        if op == "linear":
            sources = [0, *previous, *activations]
            inputs = _different(rng, sources, min(_draw(rng, CONNECTIONS), len(sources)))
            activation = Node(_draw(rng, ACTIVATIONS), (FIRST + len(nodes),))
            nodes += [Node(op, inputs), activation]
            activations.append(FIRST + len(nodes) - 1)
            continue
        sources = [*previous, *range(FIRST, FIRST + len(nodes))]
        connections = 3 if op == "blend" else 2
        if connections <= len(sources):
            nodes.append(Node(op, _different(rng, sources, connections)))
    return nodes


def _pruned(nodes: list[Node], new: tuple[int, ...], kept: list[int]) -> Cell:
    place = {FIRST + node: FIRST + at for at, node in enumerate(kept)}
    pruned = [
        Node(nodes[node].op, tuple(place.get(source, source) for source in nodes[node].inputs))
        for node in kept
    ]
    return Cell(tuple(kept.index(node) for node in new), tuple(pruned))
