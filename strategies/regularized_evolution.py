"""Regularized evolution (Real et al., AAAI 2019, Algorithm 1)."""

from bisect import bisect_left, insort
from collections import deque
from random import Random

from bench.search import Query, Strategy, Trial
from bench.space import Architecture, Space

Member = tuple[float, float, Architecture]  # error, a random number that breaks ties, genes


def tournament(entrants: int, size: int, rng: Random) -> int:
    """The rank, 0 the best, that wins among `size` uniform picks with replacement.

    All picks rank r or worse with probability (1 - r/entrants)^size; one draw inverts that,
    where picking and comparing would cost `size` draws.
    """
    return int(entrants * (1 - (1 - rng.random()) ** (1 / size)))


class RegularizedEvolution(Strategy):
    """Breed from the best of a random few; retire the oldest, however good it is."""

    def __init__(
        self,
        space: Space,
        rng: Random,
        fidelities: tuple[int, ...],
        *,
        population_size: int = 100,
        sample_size: int = 25,
    ) -> None:
        """Raises ValueError for a population or sample of less than one."""
        super().__init__(space, rng, fidelities)
        if population_size < 1 or sample_size < 1:
            raise ValueError(
                f"population_size is {population_size} and sample_size {sample_size}; "
                "allowed: 1 and more"
            )
        self.population_size, self.sample_size = population_size, sample_size
        self.by_error: list[Member] = []
        self.by_age: deque[Member] = deque()

    def ask(self) -> Query:
        if len(self.by_error) < self.population_size:
            return Query(self.space.sample(self.rng), self.fidelities[-1])
        winner = tournament(self.population_size, self.sample_size, self.rng)
        parent = self.by_error[winner][-1]
        return Query(self.space.mutate(parent, self.rng), self.fidelities[-1])

    def tell(self, trial: Trial) -> None:
        child = (trial.evaluation.error, self.rng.random(), trial.query.architecture)
        self.by_age.append(child)
        insort(self.by_error, child)
        if len(self.by_age) > self.population_size:
            del self.by_error[bisect_left(self.by_error, self.by_age.popleft())]
