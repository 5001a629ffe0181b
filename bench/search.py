"""What a strategy asks, what it is told, what that costs, and the one loop that joins them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappush, heappushpop
from math import isfinite
from operator import attrgetter
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Literal, NamedTuple, get_args

from numpy import float64
from numpy.typing import ArrayLike, NDArray

from bench.protocol import Protocol
from bench.space import Architecture, Space

FAILED_ERROR = 1.0  # what a strategy is told of a training that failed


class Query(NamedTuple):
    """What a strategy asks: train `architecture` for `fidelity` epochs."""

    architecture: Architecture
    fidelity: int


class Evaluation(NamedTuple):
    """What a strategy is told. There is no test score in it."""

    error: float
    """The protocol's signal: a fraction, or a loss; the worst where `status` is not `"ok"`."""
    seconds: float
    """What the evaluation cost on the simulated clock."""
    metrics: Mapping[str, float] = {}
    """What one may know without training to the end, such as parameters or latency."""
    status: str = "ok"


class Trial(NamedTuple):
    """A query with its evaluation and the reading of every clock when it ended."""

    query: Query
    evaluation: Evaluation
    evaluations: int
    epochs: int
    simulated_seconds: float
    wall_seconds: float
    overhead_seconds: float
    """The strategy's own seconds so far, measured around `ask` and `tell`."""


Clock = Literal["evaluations", "epochs", "simulated_seconds", "wall_seconds"]
CLOCKS: tuple[Clock, ...] = get_args(Clock)


@dataclass(frozen=True)
class Budget:
    """A limit on one clock."""

    clock: Clock
    limit: float

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown clock or a limit that is not above zero."""
        if self.clock not in CLOCKS:
            raise ValueError(f"clock is {self.clock!r}; allowed: {', '.join(CLOCKS)}")
        if not 0 < self.limit < float("inf"):
            raise ValueError(f"limit is {self.limit}; allowed: a number of {self.clock} above 0")
        object.__setattr__(self, "limit", float(self.limit))  # 20 and 20.0 are one budget


class Strategy(ABC):
    """Proposes architectures. It has no loop, clock, budget, file or global random state.

    `ask` may be called again before earlier answers arrive, up to the number of workers.

        strategy = RandomSearch(space, Random(0), fidelities=(200,))
        query = strategy.ask()
        strategy.tell(Trial(query, evaluation, 1, 200, 60.0, 0.1, 0.0))
    """

    def __init__(self, space: Space, rng: Random, fidelities: tuple[int, ...]) -> None:
        """`fidelities`: the epochs the protocol allows, ascending."""
        self.space, self.rng, self.fidelities = space, rng, fidelities

    @abstractmethod
    def ask(self) -> Query:
        """Propose; learn nothing."""

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """Learn from a finished trial; trials arrive in the order in which they end."""


class Objective(ABC):
    """Answers queries, and apart from them the metrics that are reported."""

    dataset: str
    digest: str
    """SHA-256 of what the answers come from."""
    optimum: Mapping[str, float]
    """The lowest value of each reported metric, where it is known."""
    worst: float = FAILED_ERROR
    """What a strategy is told of a training that diverged."""
    notes: str = ""
    """What must be known of the answers, a line printed under every figure and table that rests
    on them: how good a surrogate is on what it has not seen."""
    timed: bool = True
    """Whether it knows what an evaluation costs in seconds."""
    journalled: bool = False
    """Whether answers are dear, so that a run keeps each of them as it comes."""

    timer: Callable[[], float] = staticmethod(perf_counter)
    """Seconds on the clock of the run."""

    def open(self, journal: Path) -> "Objective":
        """The objective of one run; a journalled one keeps its answers in that file."""
        return self

    def close(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """The run is over."""

    @abstractmethod
    def evaluate(self, query: Query, noise: int, trained: int) -> Evaluation:
        """Answer a query; equal arguments get equal answers.

        Args:
            noise: 64 random bits, one for a run: they choose the training seeds it sees.
            trained: epochs already paid for, from which training goes on.

        Raises:
            LookupError: the architecture or the fidelity is not to be had.
        """

    @abstractmethod
    def report(self, architectures: ArrayLike) -> Mapping[str, NDArray[float64]]:
        """The protocol's reported metrics, each of shape `[architectures]`.

        Args:
            architectures: genes, of shape `[architectures, genes]`.

        Raises:
            LookupError: one of them is not to be had.
        """


def stream(seed: int, purpose: str) -> Random:
    """The random numbers of one purpose in the run `seed`, whatever else is drawn elsewhere."""
    return Random(hashlib.sha256(f"{purpose}/{seed}".encode()).digest())


def search(
    strategy: Strategy,
    objective: Objective,
    protocol: Protocol,
    budget: Budget,
    *,
    noise: int,
    workers: int = 1,
    timer: Callable[[], float] = perf_counter,
) -> Iterator[Trial]:
    """Run a strategy until its budget is spent, yielding its trials in the order they end.

    `workers` queries are in flight at a time and end when their simulated seconds are over,
    ties in the order they were asked. A trial that the overshoot rule drops is neither told
    nor yielded.

    Raises:
        LookupError: the strategy proposed what the objective cannot answer.
        ValueError: there is no worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; allowed: 1 and more")
    new = tuple.__new__  # spares the slower constructor of a NamedTuple
    ask, tell, evaluate = strategy.ask, strategy.tell, objective.evaluate
    reading, limit = attrgetter(budget.clock), budget.limit
    drop = protocol.overshoot == "drop"
    cached = protocol.duplicates == "cached"
    resume = protocol.promotion == "resume" and len(protocol.fidelities) > 1
    charge_overhead = protocol.overhead == "charged"
    answers: dict[Query, tuple[float, Evaluation]] = {}  # with the moment it is known
    trained: dict[Architecture, tuple[float, int]] = {}  # epochs, with the moment they are over
    flying: list[tuple[float, int, Query, Evaluation, int, int]] = []  # by finishing time
    evaluations = epochs = 0
    now = overhead = 0.0
    start = timer()
    for asked in range(protocol.max_trials + workers - 1):
        before = timer()
        query = ask()
        thought = timer() - before
        overhead += thought
        if charge_overhead:
            now += thought
        if cached and query in answers:
            known, evaluation = answers[query]
            finish, counted, cost = max(now, known), 0, 0
        else:
            begin, done = now, 0
            over, reached = trained.get(query.architecture, (now, 0)) if resume else (now, 0)
            if 0 < reached < query.fidelity:  # else a repeat or a step back, trained anew
                begin, done = max(now, over), reached
            evaluation = evaluate(query, noise, done)
            finish, counted, cost = begin + evaluation.seconds, 1, query.fidelity - done
            if not isfinite(evaluation.error):
                evaluation = evaluation._replace(error=objective.worst, status="diverged")
            if cached:
                answers[query] = finish, evaluation._replace(seconds=0.0)
            if resume and reached < query.fidelity:
                trained[query.architecture] = finish, query.fidelity
        item = finish, asked, query, evaluation, counted, cost
        if len(flying) < workers - 1:  # a worker is free
            heappush(flying, item)
            continue
        finished, _, query, evaluation, counted, cost = heappushpop(flying, item)
        if finished > now:
            now = finished
        evaluations += counted
        epochs += cost
        before = timer()
        wall = before - start
        trial = new(Trial, (query, evaluation, evaluations, epochs, now, wall, overhead))
        spent = reading(trial)
        if drop and spent > limit:
            return
        tell(trial)
        thought = timer() - before
        overhead += thought
        if charge_overhead:
            now += thought
        yield trial
        if spent >= limit:
            return
