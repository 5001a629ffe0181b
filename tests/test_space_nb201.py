"""Published facts of NAS-Bench-201's topology space."""

import csv
import gzip
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from contracts import assert_proportions

from spaces.nb201.space import NB201

SPACE = NB201()
MERGED = Path(__file__).parent.parent.parent / "shared/data/nb201/nb201_merged.csv.gz"
# Rows 0 and 1 of the official file, and the cell of ResNet (Dong & Yang, 2020, table 5)
PUBLISHED = {
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
    "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|": (4, 2, 1, 2, 1, 1),
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|": (3, 3, 4, 1, 3, 1),
    "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|": (
        *(3, 0, 3),
        *(1, 0, 1),
    ),
}


def test_size():
    assert SPACE.size == 15_625
    assert len(list(SPACE.neighbours((0,) * 6))) == 24


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_strings(text):
    assert SPACE.from_string(text) == PUBLISHED[text]
    assert SPACE.to_string(PUBLISHED[text]) == text


def test_classes_as_published():
    assert len({SPACE.canonical(arch) for arch in SPACE}) == 6_466


def test_classes_are_the_published_ones():
    """The column names the first architecture of each class, by the official `to_unique_str`."""
    if not MERGED.exists():
        pytest.skip(f"the published classes are absent ({MERGED.name})")
    with gzip.open(MERGED, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    first, found = {}, []
    for index, row in enumerate(rows):
        found.append(first.setdefault(SPACE.canonical(SPACE.from_string(row["arch_str"])), index))
    assert found == [int(row["hw360_rep_arch_idx"]) for row in rows]


def test_equal_networks_are_one_class():
    # A node that nothing enters: what leaves it does not matter.
    assert SPACE.canonical((0, 3, 2, 3, 4, 0)) == SPACE.canonical((0, 3, 0, 3, 0, 0))
    # Edge 0→2 or the path 0→1→2, where the rest of the path is `skip_connect`.
    assert SPACE.canonical((1, 0, 3, 0, 0, 1)) == SPACE.canonical((3, 0, 1, 0, 0, 1))
    assert SPACE.canonical((3,) * 6) != SPACE.canonical((2,) * 6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|nor_conv_3x3~0|",
        "|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|",
        "|nor_conv_9x9~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|",
        "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|!",
    ],
)
def test_foreign_strings_are_refused(text):
    with pytest.raises(ValueError, match="is no cell of nb201, such as"):
        SPACE.from_string(text)


def mutated_genes(space):
    rng, counts = Random(0), Counter()
    for _ in range(20_000):
        arch = space.sample(rng)
        child = space.mutate(arch, rng)
        (gene,) = [gene for gene in range(6) if arch[gene] != child[gene]]
        counts[gene] += 1
    return [counts[gene] for gene in range(6)]


def test_mutation_is_a_uniform_neighbour_by_default():
    assert_proportions(mutated_genes(SPACE), [1] * 6)


def test_mutation_of_nats_bench_picks_a_node_first():
    law = [1 / 3, 1 / 6, 1 / 6, 1 / 9, 1 / 9, 1 / 9]
    assert_proportions(mutated_genes(NB201(mutation_weights=[6, 3, 3, 2, 2, 2])), law)
    with pytest.raises(AssertionError, match="χ²"):
        assert_proportions(mutated_genes(SPACE), law)


def test_mutation_draws_every_other_value_alike():
    rng = Random(0)
    counts = Counter(SPACE.mutate((2,) * 6, rng) for _ in range(20_000))
    assert_proportions([counts[near] for near in SPACE.neighbours((2,) * 6)], [1] * 24)


@pytest.mark.parametrize("weights", [[], [1] * 5, [0] * 6, [1, 1, 1, 1, 1, -1]])
def test_mutation_weights_are_checked(weights):
    with pytest.raises(ValueError, match="nb201 needs 6 whole numbers from 0 up"):
        NB201(mutation_weights=weights)
