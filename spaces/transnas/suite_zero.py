"""Readers of the zero-cost proxies of NAS-Bench-Suite-Zero on these spaces."""

from pathlib import Path

from bench.data import Extra, Progress
from bench.proxies import read_proxies
from bench.space import Architecture, Space


def micro(source: Path, *, space: Space, progress: Progress) -> Extra:
    """`zc_transbench101_micro.json`: the six digits of the published string.

    Raises:
        TableError: `source` is not that file.
    """

    def decode(numbers: list[int]) -> Architecture:
        first, second, third, *rest = numbers
        return space.from_string(f"64-41414-{first}_{second}{third}_{''.join(map(str, rest))}")

    return read_proxies(source, space=space, decode=decode, progress=progress)


def macro(source: Path, *, space: Space, progress: Progress) -> Extra:
    """`zc_transbench101_macro.json`: the digits of the published string, up to six with zeros.

    Raises:
        TableError: `source` is not that file.
    """

    def decode(numbers: list[int]) -> Architecture:
        if len(numbers) != len(space.choices):
            raise ValueError
        return space.from_string(f"64-{''.join(map(str, numbers)).rstrip('0')}-basic")

    return read_proxies(source, space=space, decode=decode, progress=progress)
