"""The space of NAS-Bench-ASR (Mehrotra et al., ICLR 2021, section 3.1).

Vertex 0 is the cell's input, vertices 1 to 3 are its nodes and vertex 4 is its output. A node has
one operation on the vertex before it; skip connections add the outputs of earlier vertices.
"""

import re
from functools import cache
from hashlib import md5
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.space import Architecture, Edge, Space

OPERATIONS = ("linear", "conv5", "conv5d2", "conv7", "conv7d2", "zero")  # search_space.py, all_ops
ZERO = OPERATIONS.index("zero")
NODES = 3
PLACES = (0, 2, 5)  # of each node's operation; its skip connections follow
SKIPS = {1: (0, 2), 3: (0, 3), 4: (1, 3), 6: (0, 4), 7: (1, 4), 8: (2, 4)}  # place: source, target
OUTPUT = NODES + 1
INPUT_LABEL, OUTPUT_LABEL = -1, -2  # graph_utils.py, graph_hash_np


class NBASR(Space):
    """Per node an operation and a bit for each vertex before it, as in the published vectors.

    The bits of node k are skip connections into vertex k + 1. Several vectors are one model to
    those who trained it: 13,824 vectors have the 8,242 different hashes of the paper.
    """

    name = "nb_asr"
    choices = tuple(n for node in range(1, NODES + 1) for n in (len(OPERATIONS), *[2] * node))

    @property
    def networks(self) -> int:
        return 8_242

    def to_string(self, arch: Architecture) -> str:
        return str(
            [list(arch[start:end]) for start, end in zip(PLACES, (*PLACES[1:], 9), strict=True)]
        )

    def from_string(self, text: str) -> Architecture:
        arch = tuple(map(int, re.findall(r"\b\d\b", text, re.ASCII)))
        if not self.contains(arch) or self.to_string(arch) != text:
            raise ValueError(
                f"{text!r} is no vector of {self.name}, such as [[1, 0], [1, 0, 0], [1, 0, 0, 0]]"
            )
        return arch

    def canonical(self, arch: Architecture) -> str:
        return model_hash(arch)

    def keys(self, genes: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        """The first 64 bits of the published hash."""
        hashes = [model_hash(tuple(arch))[:16] for arch in genes.tolist()]
        return np.array([int(digits, 16) for digits in hashes], dtype=np.uint64)

    def labels(self) -> list[tuple[str, list[str]]]:
        named = {place: (f"node {node}", list(OPERATIONS)) for node, place in enumerate(PLACES, 1)}
        named |= {
            place: (f"skip {source} → {target}", ["no", "yes"])
            for place, (source, target) in SKIPS.items()
        }
        return [named[place] for place in sorted(named)]

    def graph(self, arch: Architecture) -> list[Edge]:
        """The vertices on a way from input to output, without those that are `zero`."""
        operations = [f"{OPERATIONS[arch[place]]}#{place}" for place in PLACES]
        names = ["input", *operations, "output"]
        return [(names[source], names[target], "") for source, target in reduced(arch)]


def reduced(arch: Architecture) -> list[tuple[int, int]]:
    """The edges on a way from input to output past the nodes that are `zero`, by their vertices."""
    edges = [(vertex, vertex + 1) for vertex in range(OUTPUT)]
    edges += [SKIPS[place] for place in SKIPS if arch[place]]
    gone = {node for node, place in enumerate(PLACES, 1) if arch[place] == ZERO}
    reached, useful = {0}, {OUTPUT}
    for source, target in sorted(edges):  # by source, and edges lead upwards
        if source in reached and target not in gone:
            reached.add(target)
    for source, target in sorted(edges, reverse=True):
        if target in useful and source not in gone:
            useful.add(source)
    there = reached & useful
    return sorted((a, b) for a, b in edges if a in there and b in there)


@cache
def model_hash(arch: Architecture) -> str:
    """The published hash, 32 hex digits, of a model's reduced graph (graph_utils.py, graph_hash).

    It is that of NAS-Bench-101 (Ying et al., 2019) but for degrees, which are hashed as text of
    floats. A cell without any way from input to output is the empty graph.
    """
    edges = reduced(arch)
    labels = {0: INPUT_LABEL, OUTPUT: OUTPUT_LABEL}
    labels |= {node: arch[place] for node, place in enumerate(PLACES, 1)}
    vertices = sorted({vertex for edge in edges for vertex in edge})
    before = {vertex: [a for a, b in edges if b == vertex] for vertex in vertices}
    after = {vertex: [b for a, b in edges if a == vertex] for vertex in vertices}
    hashes = {
        vertex: _digest(
            str((float(len(after[vertex])), float(len(before[vertex])), labels[vertex]))
        )
        for vertex in vertices
    }
    for _ in vertices:
        hashes = {
            vertex: _digest(
                "".join(sorted(hashes[other] for other in before[vertex]))
                + "|"
                + "".join(sorted(hashes[other] for other in after[vertex]))
                + "|"
                + hashes[vertex]
            )
            for vertex in vertices
        }
    return _digest(str(sorted(hashes.values())))


def _digest(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
