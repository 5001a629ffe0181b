"""Bayesian optimisation: a Gaussian process over categories, expected improvement over candidates
(Jones et al., 1998; the kernel of Hutter et al., 2011, section 4.1, with one weight).
"""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import ndtr

from bench.search import Query, Strategy, Trial
from bench.space import Architecture, Space

LISTED = 2**16  # members up to which all of a space are candidates
PARENTS = 5  # whose neighbours become candidates: num_top_arches in naszilla/naszilla@157383a
CHILDREN = 100  # of each at most: num in get_candidates there
LOWEST_ERROR = 1e-6  # where the logarithm stops

Genes = NDArray[np.int8]
Seats = dict[int, int]  # the row of each candidate, by its key


@lru_cache(maxsize=1)
def members(space: Space) -> tuple[Genes, Seats]:
    """The genes of one encoding of every network, shape `[space.networks, genes]`, and the rows."""
    seats: Seats = {}
    return take_seats(space, list(space), seats), seats


def take_seats(space: Space, architectures: Sequence[Architecture], seats: Seats) -> Genes:
    """Give a row to every network that has none; returns their genes, shape `[new, genes]`."""
    genes = np.array(architectures, dtype=np.int8)
    new = []
    for place, key in enumerate(space.keys(genes).tolist()):
        if key not in seats:
            seats[key] = len(seats)
            new.append(place)
    return genes[new]


class BayesianOptimisation(Strategy):
    """Ask where the log error is expected to improve most.

    Candidates are all members of a space that can be listed. Of a larger one they are random
    members, those told of, and neighbours of the best of these (mutation of the best, as
    BANANAS optimises its acquisition: White et al., AAAI 2021). Encodings that are one network
    to the benchmark are one candidate.

    The kernel is exp(-share of genes that differ / length). With L the Cholesky factor of the
    observed covariance, `rows` holds L⁻¹K(observed, candidates): a new observation adds one
    row, a new candidate one column, and the posterior of every candidate follows by a sum. Mean
    and scale of the process are those of highest likelihood, in closed form.
    """

    def __init__(
        self,
        space: Space,
        rng: Random,
        fidelities: tuple[int, ...],
        *,
        initial: int = 10,
        pool: int = 2000,
        length: float = 0.5,
        noise: float = 0.01,
    ) -> None:
        """Raises ValueError for `initial` or `pool` below 1, `length` or `noise` not above 0."""
        super().__init__(space, rng, fidelities)
        if initial < 1 or pool < 1 or not length > 0 or not noise > 0:
            raise ValueError(
                f"initial is {initial}, pool {pool}, length {length}, noise {noise}; "
                "allowed: initial and pool from 1, length and noise above 0"
            )
        self.initial, self.noise = initial, noise
        if space.size <= LISTED:
            self.members, seats = members(space)
            self.seats = dict(seats)
        else:
            self.seats = {}
            self.members = take_seats(space, [space.sample(rng) for _ in range(pool)], self.seats)
        self.kernel = np.exp(-np.arange(len(space.choices) + 1) / (length * len(space.choices)))
        self.rows = np.empty((16, len(self.members)))
        self.errors, self.ones = np.empty(0), np.empty(0)  # L⁻¹ of the log errors and of ones
        self.error_fit, self.one_fit = np.zeros((2, len(self.members)))  # their products with rows
        self.variance = np.ones(len(self.members))
        self.unseen = np.ones(len(self.members), dtype=bool)
        self.seen: list[int] = []
        self.pivots: list[float] = []  # the diagonal of L
        self.lowest: list[float] = []  # of the best `PARENTS`, ascending

    def ask(self) -> Query:
        if len(self.errors) < self.initial or not self.unseen.any():
            return Query(self.space.sample(self.rng), self.fidelities[-1])
        gain = np.where(self.unseen, self.expected_improvement(), -1.0)
        best = np.flatnonzero(gain >= gain.max() * (1 - 1e-9))  # ties, whatever the rounding
        choice = best[int(self.rng.random() * len(best))]
        self.unseen[choice] = False
        return Query(tuple(self.members[choice].tolist()), self.fidelities[-1])

    def expected_improvement(self) -> NDArray[np.float64]:
        """Of the log error of every candidate, shape `[candidates]`."""
        mean = self.errors @ self.ones / (self.ones @ self.ones)
        residual = self.errors - mean * self.ones
        deviation = np.sqrt(
            np.maximum(self.variance, 1e-12) * (residual @ residual) / len(residual)
        )
        fit = mean + self.error_fit - mean * self.one_fit
        below = fit[self.seen].min() - fit  # the fit, as the lowest error seen owes to luck
        ratio = below / np.maximum(deviation, 1e-12)
        density = np.exp(-0.5 * ratio**2) / np.sqrt(2 * np.pi)
        gain: NDArray[np.float64] = below * ndtr(ratio) + deviation * density
        return gain

    def tell(self, trial: Trial) -> None:
        architecture = trial.query.architecture
        error = np.log(max(trial.evaluation.error, LOWEST_ERROR))
        near = [architecture]
        if len(self.lowest) < PARENTS or error < self.lowest[-1]:
            self.lowest = sorted([*self.lowest, error])[:PARENTS]
            others = list(self.space.neighbours(architecture))
            near += others if len(others) <= CHILDREN else self.rng.sample(others, CHILDREN)
        fresh = take_seats(self.space, near, self.seats)
        if len(fresh):
            self.admit(fresh)
        self.observe(self.seats[self.space.key(architecture)], error)

    def admit(self, fresh: Genes) -> None:
        """Add candidates, with the posterior that the observations so far give them."""
        n = len(self.seen)
        lower = np.tril(self.rows[:n, self.seen].T, -1) + np.diag(self.pivots)
        differing = (self.members[self.seen, None] != fresh).sum(-1)
        columns = np.empty((len(self.rows), len(fresh)))
        columns[:n] = solve_triangular(lower, self.kernel[differing], lower=True)
        self.members = np.concatenate([self.members, fresh])
        self.rows = np.concatenate([self.rows, columns], axis=1)
        self.error_fit = np.append(self.error_fit, self.errors @ columns[:n])
        self.one_fit = np.append(self.one_fit, self.ones @ columns[:n])
        self.variance = np.append(self.variance, 1 - (columns[:n] ** 2).sum(0))
        self.unseen = np.append(self.unseen, np.ones(len(fresh), dtype=bool))

    def observe(self, seat: int, error: float) -> None:
        """Add what was measured of the candidate in row `seat`."""
        differing, n = (self.members != self.members[seat]).sum(1), len(self.seen)
        self.unseen[seat] = False
        if n == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
        left = self.rows[:n, seat]
        pivot = float(np.sqrt(1 + self.noise - left @ left))
        row = self.rows[n] = (self.kernel[differing] - left @ self.rows[:n]) / pivot
        self.errors = np.append(self.errors, (error - left @ self.errors) / pivot)
        self.ones = np.append(self.ones, (1 - left @ self.ones) / pivot)
        self.error_fit += row * self.errors[-1]
        self.one_fit += row * self.ones[-1]
        self.variance -= row**2
        self.seen.append(seat)
        self.pivots.append(pivot)
