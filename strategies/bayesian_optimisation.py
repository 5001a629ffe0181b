"""Bayesian optimisation: a Gaussian process over categories, expected improvement over the space
(Jones et al., 1998; the kernel of Hutter et al., 2011, section 4.1, with one weight)."""

from random import Random

import numpy as np
from scipy.special import ndtr

from bench.search import Query, Strategy, Trial
from bench.space import Architecture, Space


class BayesianOptimisation(Strategy):
    """Propose where the log error is expected to improve most, among all of a finite space.

    The kernel is exp(-weight · number of genes that differ). `rows` is L⁻¹K(observed, all) for
    the Cholesky factor L of the observations; each one appends a row, and the posterior of the
    whole space follows. Mean and scale of the process are those of highest likelihood.
    """
