"""REINFORCE (Williams, 1992) with the policy of NATS-Bench (Dong et al., 2021, exps/NATS-algos)."""

from random import Random

import numpy as np
from numpy.typing import NDArray

from bench.search import Query, Strategy, Trial
from bench.space import Space

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's own (Kingma & Ba, 2015, Algorithm 1)
ATTEMPTS = 30  # draws of the policy before the space draws instead


class Reinforce(Strategy):
    """One softmax a gene; Adam follows the log-probability of what beat a moving baseline.

    In a space with rules, draws that are no members are drawn anew: the policy is then p/Z,
    with Z the probability that p draws a member. The log-probability of p alone is followed
    all the same. What that leaves out of the expected gradient, (mean reward - baseline) times
    the gradient of log Z, vanishes as far as the baseline is the mean reward. Where p meets the
    rules less than once in `ATTEMPTS` draws, a uniform member stands in; it teaches like the
    others, which makes what good members have in common likelier, though it is no draw of the
    policy's.
    """

    def __init__(
        self,
        space: Space,
        rng: Random,
        fidelities: tuple[int, ...],
        *,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
    ) -> None:
        """Raises ValueError for a rate that is not above 0, a momentum outside [0, 1)."""
        super().__init__(space, rng, fidelities)
        if not learning_rate > 0 or not 0 <= momentum < 1:
            raise ValueError(
                f"learning_rate is {learning_rate} and momentum {momentum}; "
                "allowed: above 0, and 0 <= momentum < 1"
            )
        self.learning_rate, self.momentum = learning_rate, momentum
        self.baseline = self.weight = 0.0
        self.logits = np.full((len(space.choices), max(space.choices)), -np.inf)
        for gene, n in enumerate(space.choices):
            self.logits[gene, :n] = [1e-3 * rng.gauss(0, 1) for _ in range(n)]
        self.mean, self.square = np.zeros_like(self.logits), np.zeros_like(self.logits)
        self.steps = 0

    def policy(self) -> NDArray[np.float64]:
        """Probability of each value of each gene."""
        odds: NDArray[np.float64] = np.exp(self.logits - self.logits.max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        return odds

    def ask(self) -> Query:
        rows = [row[:n] for row, n in zip(self.policy().tolist(), self.space.choices, strict=True)]
        for _ in range(ATTEMPTS):
            drawn = tuple(self.rng.choices(range(len(row)), weights=row)[0] for row in rows)
            if self.space.contains(drawn):
                return Query(drawn, self.fidelities[-1])
        return Query(self.space.sample(self.rng), self.fidelities[-1])

    def tell(self, trial: Trial) -> None:
        reward = 100 * (1 - trial.evaluation.error)  # percent, as the learning rate expects
        # The baseline moves before the loss is taken, and its start-up bias is divided out.
        self.baseline = self.momentum * self.baseline + (1 - self.momentum) * reward
        self.weight = self.momentum * self.weight + (1 - self.momentum)
        genes = trial.query.architecture
        gradient = self.policy()
        gradient[range(len(genes)), genes] -= 1
        gradient *= reward - self.baseline / self.weight
        self.steps += 1
        self.mean += (1 - BETA1) * (gradient - self.mean)
        self.square += (1 - BETA2) * (gradient**2 - self.square)
        mean, square = self.mean / (1 - BETA1**self.steps), self.square / (1 - BETA2**self.steps)
        self.logits -= self.learning_rate * mean / (np.sqrt(square) + EPSILON)
