"""The topology space of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1)."""

import re

from bench.space import Architecture, Space

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
        names = re.findall(r"(\w+)~\d", text)
        arch = tuple(OPERATIONS.index(name) for name in names if name in OPERATIONS)
        if not self.contains(arch) or self.to_string(arch) != text:
            raise ValueError(f"{text!r} is no cell of {self.name}, such as {EXAMPLE}")
        return arch

    def canonical(self, arch: Architecture) -> str:
        """The cell as an expression with sorted sums, in which `skip_connect` is seen through
        and an edge that carries nothing is `#`: 6,466 classes, as NATS-Bench counts them (Dong
        et al., 2021, section 3). Sums keep their `#`, so some equal networks stay apart.
        """
        nodes = ["x"]
        for node in (1, 2, 3):
            terms = []
            for op, source, target in zip(arch, SOURCES, TARGETS, strict=True):
                if target == node:
                    inner = nodes[source] if op else "#"
                    terms.append(inner if inner == "#" or op == SKIP else f"({inner}){op}")
            nodes.append("+".join(sorted(terms)))
        return nodes[3]


EXAMPLE = NB201().to_string((3,) * 6)
