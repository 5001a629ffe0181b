"""What a strategy asks, what it is told, what that costs, and the one loop that joins them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, isfinite
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Literal, NamedTuple, get_args

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
    gpu_seconds: float = 0.0
    """Seconds that a GPU was held for it, times the number of GPUs; measured."""


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
    gpu_seconds: float = 0.0


Clock = Literal["evaluations", "epochs", "simulated_seconds", "wall_seconds", "gpu_seconds"]
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
    """Whether it knows what an evaluation costs in seconds; else it says 0.0 of each."""
    holds_gpu: bool = False
    """Whether evaluations hold a GPU, whose seconds are then counted."""
    journalled: bool = False
    """Whether answers are dear, so that a run keeps each of them as it comes."""

    timer: Callable[[], float] = staticmethod(perf_counter)
    """Seconds on the clock of the run."""

    def open(self, journal: Path) -> "Objective":
        """The objective of one run; a journalled one keeps its answers in that file."""
        return self

    def prepare(self) -> None:  # noqa: B027 (most are ready)
        """Make sure that evaluations can begin.

        Raises:
            ChildProcessError: none can; the message is one sentence.
        """

    def finish(self) -> Mapping[str, int | str]:
        """The run has all its answers; returns what they rest on, to be noted beside its trials.

        What an unfinished run would go on from may be removed.
        """
        return {}

    def close(self) -> None:  # noqa: B027 (most have nothing to let go of)
        """The run is over, however it ended."""

    def expect(  # noqa: B027 (most answer no faster for knowing)
        self, queries: Sequence[tuple[Query, int]], noise: int
    ) -> None:
        """These are evaluated next, in this order, each with the epochs already trained.

        They are what is new in a round of `search`, so they may be worked on together. An
        architecture that stands there again goes on from what its earlier query trained.
        """

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
    ties in the order they were asked. All that has ended is told before the strategy is asked
    again; then every free worker gets a query, and what is new among these is made known to the
    objective together, before the first of them is evaluated. So an objective without a clock,
    whose evaluations end when they begin, is asked in batches of `workers` (a generation, a
    rung), and one with a clock whenever a worker is free. Thinking that is charged delays the
    whole round.

    A trial that the overshoot rule drops is neither told nor yielded, nor is what is in flight
    when the budget ends. Without a clock it is known beforehand where in a round a number of
    evaluations or epochs is spent: the rest of that round is not evaluated.

    Raises:
        LookupError: the strategy proposed what the objective cannot answer.
        ValueError: there is no worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; allowed: 1 and more")
    alone = workers == 1  # then nothing has to wait in the heap
    new = tuple.__new__  # spares the slower constructor of a NamedTuple
    ask, tell, evaluate = strategy.ask, strategy.tell, objective.evaluate
    clock, limit = Trial._fields.index(budget.clock), budget.limit
    drop = protocol.overshoot == "drop"
    cached = protocol.duplicates == "cached"
    resume = protocol.promotion == "resume" and len(protocol.fidelities) > 1
    charge_overhead = protocol.overhead == "charged"
    holds_gpu = objective.holds_gpu
    answers: dict[Query, tuple[float, Evaluation]] = {}  # with the moment it is known
    trained: dict[Architecture, tuple[float, int]] = {}  # epochs, with the moment they are over
    flying: list[tuple[float, int, Query, Evaluation, int]] = []  # by finishing time
    queries: Sequence[Query]
    asked = evaluations = epochs = 0
    now = overhead = gpu = 0.0
    spent: Any = 0.0  # on the clock of the budget
    start = timer()
    for _ in range(protocol.max_trials):
        if not flying or flying[0][0] > now:  # all that has ended was told
            before = timer()
            queries = (ask(),) if alone else [ask() for _ in range(workers - len(flying))]
            thought = timer() - before
            overhead += thought
            if charge_overhead:
                now += thought
            if not alone:
                left = inf if objective.timed else limit - spent
                queries, fresh = _look_ahead(queries, protocol, answers, trained, budget, left)
                objective.expect(fresh, noise)
            for query in queries:
                if cached and query in answers:
                    known, evaluation = answers[query]
                    finish, cost = max(now, known), 0
                else:
                    begin, done = now, 0
                    if resume:
                        over, reached = trained.get(query.architecture, (now, 0))
                        if 0 < reached < query.fidelity:  # else a repeat or a step back: anew
                            begin, done = max(now, over), reached
                    evaluation = evaluate(query, noise, done)
                    finish, cost = begin + evaluation.seconds, query.fidelity - done
                    if not isfinite(evaluation.error):
                        evaluation = evaluation._replace(error=objective.worst, status="diverged")
                    if cached:
                        answers[query] = finish, evaluation._replace(seconds=0.0, gpu_seconds=0.0)
                    if resume and reached < query.fidelity:
                        trained[query.architecture] = finish, query.fidelity
                if not alone:
                    asked += 1
                    heappush(flying, (finish, asked, query, evaluation, cost))
        if not alone:
            finish, _, query, evaluation, cost = heappop(flying)
        if finish > now:
            now = finish
        if cost:  # nothing else than a cached repeat costs no epoch
            evaluations += 1
            epochs += cost
            if holds_gpu:
                gpu += evaluation.gpu_seconds
        before = timer()
        wall = before - start
        trial = new(Trial, (query, evaluation, evaluations, epochs, now, wall, overhead, gpu))
        spent = trial[clock]
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


def _look_ahead(
    queries: Sequence[Query],
    protocol: Protocol,
    answers: Collection[Query],
    trained: Mapping[Architecture, tuple[float, int]],
    budget: Budget,
    left: float,
) -> tuple[Sequence[Query], list[tuple[Query, int]]]:
    """What of a round there is budget for; what of that is new, with the epochs it begins at.

    Args:
        answers, trained: as `search` knows them before the round.
        left: of the budget, where all of a round ends at once; else infinite.
    """
    cached = protocol.duplicates == "cached"
    resume = protocol.promotion == "resume" and len(protocol.fidelities) > 1
    fresh: list[tuple[Query, int]] = []
    reached: dict[Architecture, int] = {}
    seen: set[Query] = set()
    for number, query in enumerate(queries, 1):
        if cached and (query in answers or query in seen):
            continue
        seen.add(query)
        arch, fidelity = query
        _, before = trained.get(arch, (0.0, 0))
        before = max(before, reached.get(arch, 0))
        done = before if resume and before < fidelity else 0
        reached[arch] = max(before, fidelity)
        fresh.append((query, done))
        left -= {"evaluations": 1, "epochs": fidelity - done}.get(budget.clock, 0)
        if left <= 0:
            return queries[:number], fresh
    return queries, fresh
