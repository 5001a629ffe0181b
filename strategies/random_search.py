"""Random search: uniform and independent draws (Li & Talwalkar, UAI 2019, section 3)."""

from bench.search import Query, Strategy, Trial


class RandomSearch(Strategy):
    """Draw with replacement; learn nothing."""

    def ask(self) -> Query:
        return Query(self.space.sample(self.rng), self.fidelities[-1])

    def tell(self, trial: Trial) -> None:
        pass
