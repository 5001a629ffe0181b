"""Local search by steepest descent (White et al., UAI 2021, Algorithm 1), restarted."""

from random import Random

from bench.search import Query, Strategy, Trial
from bench.space import Architecture, Space


class LocalSearch(Strategy):
    """Evaluate all neighbours, move to the best of them; where none is better, start anew.

    With several workers the start that ends first is climbed from, and what is asked while the
    last neighbours are out is random and not climbed from.
    """

    def __init__(self, space: Space, rng: Random, fidelities: tuple[int, ...]) -> None:
        super().__init__(space, rng, fidelities)
        self.errors: dict[Architecture, float] = {}
        self.centre: Architecture | None = None
        self.queue: list[Architecture] = []  # neighbours of the centre yet to be asked
        self.waiting: set[Architecture] = set()  # those asked and not yet told

    def ask(self) -> Query:
        if not self.queue:  # at a start, or while the last neighbours are with other workers
            return Query(self.space.sample(self.rng), self.fidelities[-1])
        architecture = self.queue.pop()
        self.waiting.add(architecture)
        return Query(architecture, self.fidelities[-1])

    def tell(self, trial: Trial) -> None:
        architecture = trial.query.architecture
        self.errors[architecture] = trial.evaluation.error
        self.waiting.discard(architecture)
        if self.centre is None:
            self.settle(architecture)
        while self.centre is not None and not self.queue and not self.waiting:
            near = (self.centre, *self.space.neighbours(self.centre))
            best = min(near, key=self.errors.__getitem__)  # of equals the first: the centre
            if self.errors[best] < self.errors[self.centre]:
                self.settle(best)
            else:
                self.centre = None

    def settle(self, architecture: Architecture) -> None:
        self.centre = architecture
        self.queue = [
            near for near in self.space.neighbours(architecture) if near not in self.errors
        ]
        self.rng.shuffle(self.queue)
