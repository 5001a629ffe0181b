"""The topology space of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1)."""

import re

from bench.space import Architecture, Edge, Space

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SOURCES = (0, 0, 1, 0, 1, 2)  # where each edge starts; edges are grouped by the node they enter
TARGETS = (1, 2, 2, 3, 3, 3)
SKIP = OPERATIONS.index("skip_connect")


class NB201(Space):
    """One operation an edge of a cell with four nodes, in the order of `SOURCES`."""

    name = "nb201"
    choices = (len(OPERATIONS),) * len(SOURCES)

    def to_string(self, arch: Architecture) -> str:
        parts = [f"{OPERATIONS[op]}~{source}" for op, source in zip(arch, SOURCES, strict=True)]
        return "+".join(f"|{'|'.join(node)}|" for node in (parts[:1], parts[1:3], parts[3:]))

    def from_string(self, text: str) -> Architecture:
        names = re.findall(r"(\w+)~\d", text[:200])  # cells have half of that; more takes for ever
        arch = tuple(OPERATIONS.index(name) for name in names if name in OPERATIONS)
        if not self.contains(arch) or self.to_string(arch) != text:
            raise ValueError(f"{text!r} is no cell of {self.name}, such as {EXAMPLE}")
        return arch

    def labels(self) -> list[tuple[str, list[str]]]:
        edges = zip(SOURCES, TARGETS, strict=True)
        return [(f"edge {source} → {target}", list(OPERATIONS)) for source, target in edges]

    def graph(self, arch: Architecture) -> list[Edge]:
        """Nodes are sums, edges operations; an edge that is `none` is not there."""
        return [
            (str(source), str(target), OPERATIONS[op])
            for op, source, target in zip(arch, SOURCES, TARGETS, strict=True)
            if op
        ]

    def canonical(self, arch: Architecture) -> str:
        """The cell as the expression that NATS-Bench compares cells by: `to_unique_str` with
        `consider_zero` (nats_bench/genotype_utils.py, D-X-Y/NATS-Bench@07ca2e9), 6,466 classes.

        `skip_connect` is seen through, an edge that carries nothing is `#`, and sums are sorted
        as text. Some equal networks stay apart: sums keep their `#`, and a sum within a sum is
        not taken apart, so that even the names decide about the order.
        """
        nodes = ["0"]
        for node in (1, 2, 3):
            terms = []
            for op, source, target in zip(arch, SOURCES, TARGETS, strict=True):
                if target == node:
                    inner = nodes[source] if op else "#"
                    seen = inner == "#" or op == SKIP
                    terms.append(inner if seen else f"({inner})@{OPERATIONS[op]}")
            nodes.append("+".join(sorted(terms)))
        return nodes[3]


EXAMPLE = NB201().to_string((3,) * 6)
