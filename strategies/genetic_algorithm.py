"""A generational genetic algorithm (Goldberg, 1989; for architectures Xie & Yuille, 2017)."""

from collections.abc import Callable, Sequence
from random import Random

from bench.search import Query, Strategy, Trial
from bench.space import Architecture, Space
from strategies.regularized_evolution import tournament

Genes = Architecture
Crossover = Callable[[Genes, Genes, Random], Genes]


def one_point(a: Genes, b: Genes, rng: Random) -> Genes:
    cut = rng.randrange(1, len(a)) if len(a) > 1 else 1
    return a[:cut] + b[cut:]


def two_point(a: Genes, b: Genes, rng: Random) -> Genes:
    start, end = sorted(rng.choices(range(len(a) + 1), k=2))
    return a[:start] + b[start:end] + a[end:]


def uniform(a: Genes, b: Genes, rng: Random) -> Genes:
    return tuple([x if rng.random() < 0.5 else y for x, y in zip(a, b, strict=True)])


def by_tournament(errors: Sequence[float], size: int, rng: Random) -> int:
    """Index into ascending `errors` of the best of `size` uniform picks."""
    return tournament(len(errors), size, rng)


def by_roulette(errors: Sequence[float], size: int, rng: Random) -> int:
    """Index drawn in proportion to how much better than the worst; `size` plays no part."""
    slots = [errors[-1] - error for error in errors]
    return rng.choices(range(len(errors)), weights=slots if any(slots) else None)[0]


CROSSOVERS: dict[str, Crossover] = {
    "one_point": one_point,
    "two_point": two_point,
    "uniform": uniform,
}
SELECTIONS = {"tournament": by_tournament, "roulette": by_roulette}


class GeneticAlgorithm(Strategy):
    """Select two parents, cross their genes, mutate; the best few survive a generation.

    A crossing that leaves the space is dropped: the child is then the mother's.
    """

    def __init__(
        self,
        space: Space,
        rng: Random,
        fidelities: tuple[int, ...],
        *,
        population_size: int = 20,
        selection: str = "tournament",
        tournament_size: int = 3,
        crossover: str = "uniform",
        crossover_rate: float = 0.9,
        mutation_rate: float = 0.8,
        elites: int = 2,
    ) -> None:
        """Raises ValueError, in one sentence, for a value outside what is allowed."""
        super().__init__(space, rng, fidelities)
        if selection not in SELECTIONS or crossover not in CROSSOVERS:
            raise ValueError(
                f"selection is {selection!r} and crossover {crossover!r}; allowed: "
                f"{', '.join(SELECTIONS)} and {', '.join(CROSSOVERS)}"
            )
        if not 0 <= elites < population_size or tournament_size < 1:
            raise ValueError(
                f"population_size is {population_size}, elites {elites}, tournament_size "
                f"{tournament_size}; allowed: 0 <= elites < population_size, tournaments from 1"
            )
        if not (0 <= crossover_rate <= 1 and 0 <= mutation_rate <= 1):
            raise ValueError(
                f"crossover_rate is {crossover_rate} and mutation_rate {mutation_rate}; "
                "allowed: 0 to 1"
            )
        self.population_size, self.elites = population_size, elites
        self.select, self.tournament_size = SELECTIONS[selection], tournament_size
        self.cross = CROSSOVERS[crossover]
        self.crossover_rate, self.mutation_rate = crossover_rate, mutation_rate
        self.parents: list[tuple[float, Genes]] = []  # ascending errors
        self.offspring: list[tuple[float, Genes]] = []

    def ask(self) -> Query:
        return Query(
            self.breed() if self.parents else self.space.sample(self.rng), self.fidelities[-1]
        )

    def breed(self) -> Genes:
        errors = [error for error, _ in self.parents]
        mother, father = (
            self.parents[self.select(errors, self.tournament_size, self.rng)][1] for _ in range(2)
        )
        child = mother
        if self.rng.random() < self.crossover_rate:
            crossed = self.cross(mother, father, self.rng)
            child = crossed if self.space.contains(crossed) else mother
        if self.rng.random() < self.mutation_rate:
            child = self.space.mutate(child, self.rng)
        return child

    def tell(self, trial: Trial) -> None:
        self.offspring.append((trial.evaluation.error, trial.query.architecture))
        if len(self.offspring) == self.population_size:
            survivors = sorted(self.parents[: self.elites] + self.offspring)
            self.parents = survivors[: self.population_size]
            self.offspring = []
