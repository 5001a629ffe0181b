"""Bayesian optimisation: a Gaussian process over categories, expected improvement over the space
(Jones et al., 1998; the kernel of Hutter et al., 2011, section 4.1, with one weight).
"""

from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bench.search import Query, Strategy, Trial
from bench.space import Space

LOWEST_ERROR = 1e-6  # where the logarithm stops


@lru_cache(maxsize=1)
def members(space: Space) -> NDArray[np.int8]:
    """The genes of all architectures, shape `[space.size, genes]`."""
    return np.array(list(space), dtype=np.int8)


class BayesianOptimisation(Strategy):
    """Ask where the log error is expected to improve most, among all of a finite space.

    The kernel is exp(-share of genes that differ / length). With L the Cholesky factor of the
    observed covariance, `rows` holds L⁻¹K(observed, all): a new observation adds one row, and
    the posterior of every architecture follows by a sum. Mean and scale of the process are
    those of highest likelihood, in closed form.
    """

    def __init__(
        self,
        space: Space,
        rng: Random,
        fidelities: tuple[int, ...],
        *,
        initial: int = 10,
        length: float = 0.5,
        noise: float = 0.01,
    ) -> None:
        """Raises ValueError for `initial` below 1, `length` or `noise` not above 0."""
        super().__init__(space, rng, fidelities)
        if initial < 1 or not length > 0 or not noise > 0:
            raise ValueError(
                f"initial is {initial}, length {length}, noise {noise}; "
                "allowed: initial from 1, length and noise above 0"
            )
        self.initial, self.noise = initial, noise
        self.members = members(space)
        self.kernel = np.exp(-np.arange(len(space.choices) + 1) / (length * len(space.choices)))
        self.rows = np.empty((16, len(self.members)))
        self.errors, self.ones = np.empty(0), np.empty(0)  # L⁻¹ of the log errors and of ones
        self.error_fit, self.one_fit = np.zeros((2, len(self.members)))  # their products with rows
        self.variance = np.ones(len(self.members))
        self.unseen = np.ones(len(self.members), dtype=bool)
        self.seen: list[int] = []

    def ask(self) -> Query:
        if len(self.errors) < self.initial or not self.unseen.any():
            return Query(self.space.sample(self.rng), self.fidelities[-1])
        gain = np.where(self.unseen, self.expected_improvement(), -1.0)
        best = np.flatnonzero(gain >= gain.max() * (1 - 1e-9))  # ties, whatever the rounding
        choice = best[int(self.rng.random() * len(best))]
        self.unseen[choice] = False
        return Query(tuple(self.members[choice].tolist()), self.fidelities[-1])

    def expected_improvement(self) -> NDArray[np.float64]:
        """Of the log error of every architecture, shape `[space.size]`."""
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
        error = np.log(max(trial.evaluation.error, LOWEST_ERROR))
        differing = (self.members != trial.query.architecture).sum(1)
        seat, n = differing.argmin(), len(self.errors)
        self.unseen[seat] = False
        self.seen.append(int(seat))
        if n == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
        left = self.rows[:n, seat]
        pivot = np.sqrt(1 + self.noise - left @ left)
        row = self.rows[n] = (self.kernel[differing] - left @ self.rows[:n]) / pivot
        self.errors = np.append(self.errors, (error - left @ self.errors) / pivot)
        self.ones = np.append(self.ones, (1 - left @ self.ones) / pivot)
        self.error_fit += row * self.errors[-1]
        self.one_fit += row * self.ones[-1]
        self.variance -= row**2
