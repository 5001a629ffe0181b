"""Reader of the zero-cost proxies of NAS-Bench-Suite-Zero on this space."""

from pathlib import Path

from bench.data import Extra, Progress
from bench.proxies import read_proxies
from bench.space import Architecture, Space
from spaces.darts.space import CELLS, OPERATIONS


def suite_zero(source: Path, *, space: Space, progress: Progress) -> Extra:
    """`zc_nasbench301.json`: a normal and a reduction cell, each eight (input, operation).

    Raises:
        TableError: `source` is not that file.
    """

    def decode(both: list[list[list[int]]]) -> Architecture:
        parts = []
        for kind, cell in zip(CELLS, both, strict=True):
            if any(op < 0 for _, op in cell):
                raise ValueError
            inputs = [(OPERATIONS[op], node) for node, op in cell]
            parts.append(f"{kind}={inputs}, {kind}_concat=range(2, 6)")
        return space.from_string(f"Genotype({', '.join(parts)})")

    return read_proxies(source, space=space, decode=decode, progress=progress)
