"""Cells as the published logs write them: JSON from nodes to operation and inputs."""

import json
import re
from typing import Any

from spaces.nb_nlp.cell import INPUTS, NODES, OPERATIONS, STATES, Cell, Node

LONGEST = 20_000  # characters of a recipe; the largest cells have some 2,500


def write(cell: Cell) -> str:
    """The recipe of a cell, its nodes in their order."""
    names = [*INPUTS, *(f"node_{node}" for node in range(len(cell.nodes)))]
    for state, node in enumerate(cell.new):
        names[len(INPUTS) + node] = f"h_new_{state}"
    return json.dumps(
        {
            names[len(INPUTS) + number]: {"op": op, "input": [names[i] for i in inputs]}
            for number, (op, inputs) in enumerate(cell.nodes)
        }
    )


def parse(text: str) -> Cell:
    """The cell of a recipe, whose nodes may have any name and stand in any order.

    Raises:
        ValueError: it is none; says why.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters, allowed are {LONGEST:,}")
    try:
        recipe = json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(recipe, dict) or not 1 <= len(recipe) <= NODES:
        raise ValueError(f"it is not a JSON object of 1 to {NODES} nodes")
    for name, node in recipe.items():
        _check_node(name, node, recipe)
    new = [name for name in recipe if re.fullmatch(r"h_new_\d+", name, re.ASCII)]
    expected = [f"h_new_{state}" for state in range(len(new))]
    if sorted(new) != expected or not 1 <= len(new) <= STATES:
        raise ValueError(f"its next hidden states are not h_new_0 to h_new_{STATES - 1} or fewer")
    order = _in_order(recipe)
    number = {name: at for at, name in enumerate([*INPUTS, *order])}
    used = {source for node in recipe.values() for source in node["input"]}
    if strangers := sorted(used & set(INPUTS[1 + len(new) :])):
        raise ValueError(f"{strangers[0]} has no h_new of its number")
    nodes = [
        Node(recipe[name]["op"], tuple(number[source] for source in recipe[name]["input"]))
        for name in order
    ]
    return Cell(tuple(order.index(name) for name in expected), tuple(nodes))


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("it has a name twice")
    return dict(pairs)


def _check_node(name: str, node: Any, recipe: dict[str, Any]) -> None:
    shown = _shown(name)
    if name in INPUTS:
        raise ValueError(f"{name} is an input and cannot be a node")
    if not isinstance(node, dict) or set(node) != {"op", "input"}:
        raise ValueError(f"node {shown} has not just op and input")
    op, inputs = node["op"], node["input"]
    if not isinstance(inputs, list) or not all(isinstance(source, str) for source in inputs):
        raise ValueError(f"the input of {shown} is no list of names")
    if unknown := [source for source in inputs if source not in INPUTS and source not in recipe]:
        raise ValueError(f"{shown} takes from {_shown(unknown[0])}, which is not there")
    if len(set(inputs)) < len(inputs):
        raise ValueError(f"{shown} takes the same twice")
    if op not in OPERATIONS.get(len(inputs), ()):
        known = sorted({known for ops in OPERATIONS.values() for known in ops})
        what = f"{op} of {len(inputs)} inputs" if op in known else "an unknown operation"
        raise ValueError(f"{shown} is {what}; allowed: {', '.join(known)}")
    if "x" in inputs and op != "linear":
        raise ValueError(f"{shown} takes x, which only linear may")


def _shown(name: str) -> str:
    return name if re.fullmatch(r"\w{1,50}", name, re.ASCII) else repr(name[:50])


def _in_order(recipe: dict[str, Any]) -> list[str]:
    """The nodes, each after those it takes from, else as they stand."""
    order: dict[str, None] = {}
    waiting = list(recipe)
    while waiting:
        ready = next(
            (
                name
                for name in waiting
                if all(s in order or s in INPUTS for s in recipe[name]["input"])
            ),
            None,
        )
        if ready is None:
            raise ValueError(f"{_shown(waiting[0])} stands on a cycle")
        order[ready] = None
        waiting.remove(ready)
    return list(order)
