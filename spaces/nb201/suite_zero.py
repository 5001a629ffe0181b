"""Reader of the zero-cost proxies of NAS-Bench-Suite-Zero on this space."""

from pathlib import Path

from bench.data import Extra, Progress
from bench.proxies import read_proxies
from bench.space import Architecture, Space
from spaces.nb201.space import OPERATIONS

THEIRS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
PLACES = (0, 1, 3, 2, 4, 5)  # of our edges in their tuples, which go by where an edge starts


def suite_zero(source: Path, *, space: Space, progress: Progress) -> Extra:
    """`zc_nasbench201.json`: six operation numbers an architecture (NASLib's `OP_NAMES`).

    Raises:
        TableError: `source` is not that file.
    """

    def decode(numbers: list[int]) -> Architecture:
        if len(numbers) != len(PLACES) or min(numbers) < 0:
            raise ValueError
        return tuple(OPERATIONS.index(THEIRS[numbers[place]]) for place in PLACES)

    return read_proxies(source, space=space, decode=decode, progress=progress)
