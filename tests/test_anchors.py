"""Random search on NAS-Bench-201 has a known answer: the printed one, the exact one, ours.

The best of k architectures drawn without replacement from N has rank r (1 the best) with
probability C(N - r, k - 1) / C(N, k): the other k - 1 are among the N - r worse ones.
"""

from dataclasses import replace
from math import comb, lgamma
from pathlib import Path

import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf

from bench.data import make_table
from bench.search import Budget, search, stream
from bench.table import TableObjective, mean_over_seeds, read_table, write_table
from spaces.nb201.space import NB201
from strategies.random_search import RandomSearch

ROOT = Path(__file__).parent.parent
MERGED = ROOT / "../shared/data/nb201/nb201_merged.csv.gz"
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
SPACE = NB201()
DRAWS = (1, 10, 50, 100, 200, 1000)


def printed(means, deviations):
    """(mean, standard deviation) by number of draws; of one draw only the mean is printed."""
    return [(means[0],), *zip(means[1:], deviations, strict=True)]


VALID = {
    "cifar10": printed((83.69, 89.98, 90.80, 91.03, 91.18, 91.42), (0.71, 0.41, 0.28, 0.20, 0.12)),
    "cifar100": printed((61.30, 69.69, 70.98, 71.44, 71.88, 72.73), (1.14, 0.82, 0.78, 0.72, 0.41)),
    "ImageNet16-120": printed(
        (33.81, 43.19, 44.92, 45.35, 45.70, 46.29), (1.69, 0.76, 0.61, 0.51, 0.29)
    ),
}
TEST = {
    "cifar10": printed((87.06, 93.03, 93.62, 93.79, 93.91, 94.13), (0.59, 0.35, 0.28, 0.24, 0.20)),
    "cifar100": printed((61.39, 69.75, 70.99, 71.44, 71.88, 72.66), (1.18, 0.90, 0.87, 0.81, 0.50)),
    "ImageNet16-120": printed(
        (33.57, 43.30, 44.98, 45.38, 45.69, 46.14), (1.83, 1.00, 0.89, 0.78, 0.63)
    ),
}


def rank_probabilities(size, draws):
    """Of ranks 1 … `size`, by logarithms: the binomials leave the floats."""

    def log_comb(n, k):
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) if n >= k else -np.inf

    logs = [log_comb(size - rank, draws - 1) for rank in range(1, size + 1)]
    return np.exp(np.array(logs) - log_comb(size, draws))


def anchor(chosen_by, reported, draws):
    """Mean and standard deviation of `reported` where the best of `draws` by `chosen_by` wins."""
    chances = rank_probabilities(len(chosen_by), draws)
    values = reported[np.argsort(-chosen_by, kind="stable")]
    mean = chances @ values
    return mean, np.sqrt(chances @ (values - mean) ** 2)


def accuracy(table, dataset, split):
    return 100 * (
        1 - mean_over_seeds(table.schedules[dataset, "200"].columns[f"{split}_error"][:, -1])
    )


def assert_printed(found, expected, ties=0.0):
    """Equal in the two decimals that are printed.

    They were rounded twice, to three decimals and then to two (89.9748, 89.975, 89.98), so they
    lie within 0.005 + 0.0005. `ties`: how far the order of architectures that tie moves a value.
    """
    for value, text in zip(found, expected, strict=False):
        assert abs(value - text) <= 0.0055 + ties, f"{value:.4f} is not {text}"


def test_the_formula_by_hand():
    assert rank_probabilities(4, 2) == pytest.approx([3 / 6, 2 / 6, 1 / 6, 0])
    exact = [comb(30 - rank, 6) / comb(30, 7) for rank in range(1, 31)]
    assert rank_probabilities(30, 7) == pytest.approx(exact)
    for draws in DRAWS:
        assert rank_probabilities(15_625, draws).sum() == pytest.approx(1)


@pytest.fixture(scope="module")
def shipped():
    return read_table(ROOT / "spaces/nb201/tables/nb201.h5")


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("k", range(len(DRAWS)), ids=map(str, DRAWS))
def test_validation_anchors(shipped, dataset, k):
    valid = accuracy(shipped, dataset, "valid")
    assert_printed(anchor(valid, valid, DRAWS[k]), VALID[dataset][k])


def test_a_wrong_number_is_seen(shipped):
    valid = accuracy(shipped, "cifar10", "valid")
    with pytest.raises(AssertionError, match="is not"):
        assert_printed(anchor(valid, valid, 11), VALID["cifar10"][1])


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    if not MERGED.exists():
        pytest.skip(f"the test accuracies are not here ({MERGED.name})")
    recipe = OmegaConf.to_container(OmegaConf.load(CONF / "data/nb201_joined.yaml"))
    path = tmp_path_factory.mktemp("tables") / "nb201_joined.h5"
    write_table(make_table(MERGED, SPACE, recipe), SPACE, path)
    return read_table(path)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("k", range(len(DRAWS)), ids=map(str, DRAWS))
def test_test_anchors(imported, dataset, k):
    valid, test = accuracy(imported, dataset, "valid"), accuracy(imported, dataset, "test")
    assert_printed(anchor(valid, test, DRAWS[k]), TEST[dataset][k], ties=0.001)
    assert_printed(anchor(valid, valid, DRAWS[k]), VALID[dataset][k])


def test_the_imported_table_agrees_with_the_one_that_ships(imported, shipped):
    order = [np.lexsort(table.architectures.T) for table in (imported, shipped)]
    for dataset in DATASETS:
        one, other = (
            table.schedules[dataset, "200"].columns["valid_error"][rows, 0]
            for table, rows in zip((imported, shipped), order, strict=True)
        )
        np.testing.assert_allclose(one, other, atol=1e-6)


RUNS = 300


@pytest.mark.parametrize("dataset", DATASETS)
def test_simulated_random_search_lies_on_the_anchors(shipped, dataset):
    """Within 4 standard errors, which a right program misses in 1 of 16,000 such comparisons.

    The strategy draws with replacement, which moves the mean by less than 0.1 of them.
    """
    protocol = replace(build(CONF / "protocol/nb201.yaml"), noise="mean")
    objective = TableObjective(SPACE, dataset, protocol)
    found = {draws: [] for draws in (1, 10, 50, 100, 200)}
    for seed in range(RUNS):
        strategy = RandomSearch(SPACE, stream(seed, "strategy"), protocol.fidelities)
        trials = list(search(strategy, objective, protocol, Budget("evaluations", 200), noise=seed))
        errors = np.array([trial.evaluation.error for trial in trials])
        incumbents = protocol.incumbents(errors, np.full(200, 200))
        for draws, values in found.items():
            (error,) = objective.report([trials[incumbents[draws - 1]].query.architecture])[
                "valid_error"
            ]
            values.append(100 * (1 - error))
    valid = accuracy(shipped, dataset, "valid")
    for draws, values in found.items():
        mean, deviation = anchor(valid, valid, draws)
        assert abs(np.mean(values) - mean) < 4 * deviation / RUNS**0.5
