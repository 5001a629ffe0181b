"""Architectures and the sets they come from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise, product
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

Architecture = tuple[int, ...]
Features = NDArray[np.float64]
Edge = tuple[str, str, str]  # of a drawing: source node, target node, label


class Space(ABC):
    """A set of architectures: gene `i` takes the values `0 … choices[i] - 1`.

    As it stands, every combination of genes is a member; a space with further rules
    overrides `sample`, `neighbours`, `mutate`, `contains`, `size` and `__iter__`. Where several
    members are one network to those who measured it, `keys`, `networks` and perhaps `aliases`
    say so. All methods are pure functions of their arguments, in a fixed order.
    """

    name: str
    choices: tuple[int, ...]

    def __init__(self, *, mutation_weights: Sequence[int] | None = None) -> None:
        """`mutation_weights`: how often each gene mutates, relative to the others.

        The default weighs a gene by its number of other values, which makes `mutate` a
        uniform neighbour.

        Raises:
            ValueError: not one non-negative whole number a gene, or none above zero; or a gene
                with more than 128 values, which tables and results could not hold.
        """
        if max(self.choices) > 128:
            raise ValueError(
                f"{self.name} has a gene with {max(self.choices)} values; allowed: 128"
            )
        default = [n - 1 for n in self.choices]
        weights = default if mutation_weights is None else list(mutation_weights)
        if len(weights) != len(self.choices) or min(weights) < 0 or not any(weights):
            raise ValueError(
                f"mutation_weights is {weights}; {self.name} needs {len(self.choices)} "
                "whole numbers from 0 up, at least one of them above 0"
            )
        scale = math.lcm(*(n - 1 for n in self.choices if n > 1))
        often = [
            weight * scale // max(n - 1, 1) for weight, n in zip(weights, self.choices, strict=True)
        ]
        common = math.gcd(*often) or 1
        if sum(n * times for n, times in zip(self.choices, often, strict=True)) > common * 10**7:
            raise ValueError(
                f"mutation_weights of {self.name} make too many different chances; allowed: "
                "multiples of a gene's number of other values, or null"
            )
        self._moves = [  # as often as they are to be drawn
            (gene, step)
            for gene, (times, n) in enumerate(zip(often, self.choices, strict=True))
            for step in range(1, n)
            for _ in range(times // common)
        ]

    def sample(self, rng: Random) -> Architecture:
        """Draw uniformly from the set."""
        return tuple([int(rng.random() * n) for n in self.choices])

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Every architecture that differs in one gene."""
        for gene, current in enumerate(arch):
            others = (value for value in range(self.choices[gene]) if value != current)
            yield from ((*arch[:gene], value, *arch[gene + 1 :]) for value in others)

    def mutate(self, arch: Architecture, rng: Random) -> Architecture:
        """Give another value to one gene, drawn by `mutation_weights`."""
        gene, step = self._moves[int(rng.random() * len(self._moves))]
        genes = list(arch)
        genes[gene] = (genes[gene] + step) % self.choices[gene]
        return tuple(genes)

    def contains(self, arch: Architecture) -> bool:
        """Whether `arch` is a member."""
        return len(arch) == len(self.choices) and all(
            0 <= value < n for value, n in zip(arch, self.choices, strict=True)
        )

    def features(self, arch: Architecture) -> Features:
        """One-hot genes, shape `[sum(choices)]`; different for different architectures."""
        return np.concatenate([np.eye(n)[v] for n, v in zip(self.choices, arch, strict=True)])

    def canonical(self, arch: Architecture) -> Hashable:
        """Equal for architectures that are the same network. For statistics, never equality."""
        return arch

    def labels(self) -> list[tuple[str, list[str]]]:
        """What people call each gene and, in their order, its values."""
        return [
            (f"gene {gene}", [str(value) for value in range(n)])
            for gene, n in enumerate(self.choices)
        ]

    def graph(self, arch: Architecture) -> list[Edge]:
        """The edges of a drawing of `arch`, without cycles; as it stands, the chain of its genes.

        A node is drawn as its name, but for what follows a `#`, which tells namesakes apart. A
        label, such as an operation, is drawn on its edge; it may be empty.
        """
        words = [
            f"{name}: {values[value]}"
            for (name, values), value in zip(self.labels(), arch, strict=True)
        ]
        nodes = ["input", *words, "output"]
        return [(source, target, "") for source, target in pairwise(nodes)]

    @property
    def size(self) -> int:
        """How many members there are."""
        return math.prod(self.choices)

    @property
    def networks(self) -> int:
        """How many different `keys` the members have: the rows of a table that lacks nothing."""
        return self.size

    def keys(self, genes: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        """64 bits for each architecture, equal for those that tables know as one network.

        As it stands, the genes as one number; a space beyond 2^64 members needs its own.

        Args:
            genes: of members, shape `[architectures, genes]`.
        """
        return genes.astype(np.uint64) @ self._places

    @cached_property
    def _places(self) -> NDArray[np.uint64]:
        places = [math.prod(self.choices[gene + 1 :]) for gene in range(len(self.choices))]
        return np.array(places, dtype=np.uint64)

    def key(self, arch: Architecture) -> int:
        """`keys` of one architecture."""
        return int(self.keys(np.array([arch]))[0])

    def aliases(
        self, genes: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """All the keys under which a table finds its rows; as it stands, one for each.

        A space whose `keys` differ for relabelled twins lists the key of every twin.

        Args:
            genes: the rows of a table, shape `[rows, genes]`.

        Returns:
            Keys, and the row that each stands for, both of shape `[keys]`.
        """
        return self.keys(genes), np.arange(len(genes))

    def __iter__(self) -> Iterator[Architecture]:
        """All members, in lexicographic order."""
        return product(*map(range, self.choices))

    @abstractmethod
    def to_string(self, arch: Architecture) -> str:
        """The published string form."""

    @abstractmethod
    def from_string(self, text: str) -> Architecture:
        """Inverse of `to_string`.

        Raises:
            ValueError: `text` is not the string form of a member.
        """
