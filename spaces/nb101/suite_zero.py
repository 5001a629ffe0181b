"""Reader of the zero-cost proxies of NAS-Bench-Suite-Zero on this space."""

from math import isqrt
from pathlib import Path

from bench.data import Extra, Progress
from bench.proxies import read_proxies
from bench.space import Architecture, Space

LABELS = ("input", "output", "maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu")


def suite_zero(source: Path, *, space: Space, progress: Progress) -> Extra:
    """`zc_nasbench101.json`: the adjacency matrix row by row, then a number for each vertex.

    Vertices on no path count as in the official files, so several tuples may be one cell.

    Raises:
        TableError: `source` is not that file.
    """

    def decode(numbers: list[int]) -> Architecture:
        size = isqrt(len(numbers))  # v * v + v of them
        if len(numbers) != size * (size + 1) or min(numbers) < 0:
            raise ValueError
        matrix = "".join(map(str, numbers[: size * size]))
        return space.from_string(f"{matrix}:{','.join(LABELS[n] for n in numbers[size * size :])}")

    return read_proxies(source, space=space, decode=decode, progress=progress)
