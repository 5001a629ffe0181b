"""Regularized evolution (Real et al., AAAI 2019, Algorithm 1)."""

from bisect import bisect_left, bisect_right
from collections import deque
from random import Random

from bench.search import Query, Strategy, Trial
from bench.space import Architecture, Space


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
        self.errors: list[float] = []  # ascending; among equals the older comes first
        self.ranked: list[Architecture] = []  # in the order of `errors`
        self.ages: deque[float] = deque()  # the errors, oldest first

    def ask(self) -> Query:
        if len(self.ranked) < self.population_size:
            return Query(self.space.sample(self.rng), self.fidelities[-1])
        parent = self.ranked[tournament(self.population_size, self.sample_size, self.rng)]
        return Query(self.space.mutate(parent, self.rng), self.fidelities[-1])

    def tell(self, trial: Trial) -> None:
        error = trial.evaluation.error
        place = bisect_right(self.errors, error)
        self.errors.insert(place, error)
        self.ranked.insert(place, trial.query.architecture)
        self.ages.append(error)
        if len(self.ages) > self.population_size:
            oldest = bisect_left(self.errors, self.ages.popleft())
            del self.errors[oldest], self.ranked[oldest]
