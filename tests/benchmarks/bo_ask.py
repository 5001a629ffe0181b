"""Time of one ask and one tell of Bayesian optimisation at 200 observations, on one thread."""

from random import Random

import measure

from bench.search import Evaluation, Trial
from spaces.nb201.space import NB201
from strategies.bayesian_optimisation import BayesianOptimisation

OBSERVATIONS, REPEATS = 200, 30


def main() -> None:
    options = measure.arguments(__doc__)
    numbers = Random(0)
    strategy = BayesianOptimisation(NB201(), Random(1), (200,))
    asks, tells = [], []
    for number in range(OBSERVATIONS + (options.rounds or REPEATS)):
        start = measure.perf_counter()
        query = strategy.ask()
        asked = measure.perf_counter()
        error = 0.05 + sum(query.architecture) / 100 + numbers.gauss(0, 0.002)
        trial = Trial(query, Evaluation(error, 1.0), number + 1, 200, 0.0, 0.0, 0.0)
        ready = measure.perf_counter()
        strategy.tell(trial)
        asks.append((asked - start) * 1e3)
        tells.append((measure.perf_counter() - ready) * 1e3)
    asks, tells = asks[OBSERVATIONS:], tells[OBSERVATIONS:]
    both = [ask + tell for ask, tell in zip(asks, tells, strict=True)]
    rows = [
        measure.Limit(f"one ask at {OBSERVATIONS} observations, 15,625 candidates", asks, 5, "ms"),
        measure.Limit("one tell, likewise", tells, None, "ms"),
        measure.Limit("ask and tell, likewise", both, None, "ms"),
    ]
    notes = [f"median of {len(asks)} in a row, one thread; errors are made up"]
    measure.report("Bayesian optimisation", rows, notes, ["numpy", "scipy"], options.json)


if __name__ == "__main__":
    main()
