"""Architectures and the sets they come from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

Architecture = tuple[int, ...]
Features = NDArray[np.float64]


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
        self._moves = [  # as often as they are to be drawn
            (gene, step)
            for gene, (weight, n) in enumerate(zip(weights, self.choices, strict=True))
            for step in range(1, n)
            for _ in range(weight * scale // (n - 1))
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
        places = [math.prod(self.choices[gene + 1 :]) for gene in range(len(self.choices))]
        return genes.astype(np.uint64) @ np.array(places, dtype=np.uint64)

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
