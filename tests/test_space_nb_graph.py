"""Published facts of the spaces of NAS-Bench-Graph."""

import hashlib
from collections import Counter
from itertools import product
from random import Random

import numpy as np
import pytest
from contracts import assert_proportions

from spaces.nb_graph.space import LINKS, NBGraph, NBGraphProteins

SPACE, PROTEINS = NBGraph(), NBGraphProteins()
BOTH = pytest.mark.parametrize("space", [SPACE, PROTEINS], ids=lambda space: space.name)


def test_sizes_as_published():
    """26,206 networks (Qin et al., 2022, section 3.1); 2,021 were measured on ogbn-proteins."""
    assert (SPACE.size, SPACE.networks) == (9 * 9**4 - 9, 26_206)
    assert (PROTEINS.size, PROTEINS.networks) == (9 * 5**4 - 9, 2_021)


@pytest.mark.parametrize(
    ("space", "digest"),
    [
        (SPACE, "34fe7568a34e691ed6e3b127667d947077c106402889153a2a519b0e07b0af05"),
        (PROTEINS, "1927aa1b10202f3e2300dab9206ebda4b1eb5bc8c1f2ec4b9f456aa0c2a11fea"),
    ],
)
def test_keys_are_the_published_hash(space, digest):
    """The digests are of what `Arch.valid_hash` of nas-bench-graph 1.4.0 gives for every
    combination of genes in lexicographic order, four `skip` among them, as little-endian uint64.
    """
    genes = np.array(list(product(*map(range, space.choices))), dtype=np.int8)
    keys = space.keys(genes)
    assert hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest() == digest
    some = range(0, len(genes), 97)
    assert [space.key(tuple(genes[row].tolist())) for row in some] == keys[some].tolist()


def test_the_examples_of_the_package():
    """Its README calls the first and the last one network, but its hash tells them apart."""
    one = SPACE.from_string("Arch([0, 1, 2, 1], ['gcn', 'gin', 'fc', 'cheb'])")
    same = SPACE.from_string("Arch([0, 1, 1, 3], ['gcn', 'cheb', 'gin', 'fc'])")
    other = SPACE.from_string("Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', 'fc'])")
    assert one == same == (6, 1, 2, 3, 7)
    assert SPACE.key(one) == SPACE.canonical(one) == 61237
    assert SPACE.to_string(one) == "Arch([0, 1, 1, 2], ['gcn', 'gin', 'cheb', 'fc'])"
    assert SPACE.key(other) == 61327


def test_proteins_is_numbered_like_the_others():
    arch = PROTEINS.from_string("Arch([0, 0, 0, 0], ['gcn', 'fc', 'fc', 'gcn'])")
    assert arch == (0, 0, 3, 3, 0)
    assert PROTEINS.key(arch) == 1177


@BOTH
def test_any_order_of_nodes_is_one_network(space):
    """All 24 lists of links; a node's father comes before it."""
    for links in product((0,), range(2), range(3), range(4)):
        arch = space.from_string(f"Arch({list(links)}, ['gcn', 'fc', 'sage', 'arma'])")
        assert sorted(arch[1:]) == sorted(
            map(space.operations.index, ("gcn", "fc", "sage", "arma"))
        )
        depths = [0]
        for father in links:
            depths.append(depths[father] + 1)
        theirs = [0]
        for father in LINKS[arch[0]]:
            theirs.append(theirs[father] + 1)
        assert sorted(depths) == sorted(theirs)
        if links in LINKS:
            assert space.to_string(arch) == f"Arch({list(links)}, ['gcn', 'fc', 'sage', 'arma'])"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "[0, 1, 2, 3], ['gcn', 'skip', 'fc', 'gin']",
            "[0, 1, 2, 3], ['skip', 'gcn', 'fc', 'gin']",
        ),
        (
            "[0, 0, 0, 0], ['gcn', 'skip', 'fc', 'gin']",
            "[0, 1, 1, 1], ['skip', 'gin', 'fc', 'gcn']",
        ),
        (
            "[0, 1, 1, 1], ['gcn', 'fc', 'gin', 'skip']",
            "[0, 1, 1, 1], ['gcn', 'skip', 'gin', 'fc']",
        ),
    ],
)
def test_skip_is_seen_through(one, other):
    assert SPACE.key(SPACE.from_string(f"Arch({one})")) == SPACE.key(
        SPACE.from_string(f"Arch({other})")
    )


def test_skip_that_adds_a_term_stays():
    """The sum of gcn's output and fc of it is not fc of it alone."""
    kept = SPACE.from_string("Arch([0, 0, 1, 1], ['gcn', 'gin', 'fc', 'skip'])")
    gone = SPACE.from_string("Arch([0, 1, 1, 2], ['skip', 'gcn', 'gin', 'fc'])")
    assert SPACE.key(kept) != SPACE.key(gone)


@BOTH
def test_four_skips_are_no_network(space):
    skip = space.operations.index("skip")
    nothing, next_to_it = (0, *[skip] * 4), (0, 0, *[skip] * 3)
    assert not space.contains(nothing)
    assert nothing not in space.neighbours(next_to_it)
    assert len(list(space.neighbours(next_to_it))) == sum(n - 1 for n in space.choices) - 1
    with pytest.raises(ValueError, match="is no network of"):
        space.from_string("Arch([0, 0, 0, 0], ['skip', 'skip', 'skip', 'skip'])")


def test_how_a_network_is_drawn():
    arch = SPACE.from_string("Arch([0, 0, 1, 3], ['gcn', 'fc', 'skip', 'gcn'])")
    assert SPACE.graph(arch) == [
        ("input", "gcn#1", ""),
        ("input", "fc#2", ""),
        ("gcn#1", "skip#3", ""),
        ("skip#3", "gcn#4", ""),
        ("fc#2", "output", ""),
        ("gcn#4", "output", ""),
    ]
    assert [len(values) for _, values in SPACE.labels()] == list(SPACE.choices)
    assert SPACE.labels()[0][1][arch[0]] == "0 0 1 3"
    assert PROTEINS.labels()[1] == ("node 1", ["gcn", "sage", "arma", "fc", "skip"])


def test_mutation_is_a_uniform_neighbour_beside_the_hole():
    rng, arch = Random(0), (0, 0, 8, 8, 8)
    counts = Counter(SPACE.mutate(arch, rng) for _ in range(20_000))
    assert_proportions([counts[near] for near in SPACE.neighbours(arch)], [1] * 39)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin'])",
        "Arch([0, 1, 1, 4], ['gcn', 'cheb', 'gin', 'fc'])",
        "Arch([1, 0, 1, 2], ['gcn', 'cheb', 'gin', 'fc'])",
        "Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', 'gru'])",
        "Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', 'fc'])!",
    ],
)
def test_foreign_strings_are_refused(text):
    with pytest.raises(ValueError, match="is no network of nb_graph, such as"):
        SPACE.from_string(text)


def test_proteins_lacks_four_operations():
    with pytest.raises(ValueError, match="is no network of nb_graph_proteins, such as"):
        PROTEINS.from_string("Arch([0, 1, 1, 2], ['gcn', 'gat', 'fc', 'fc'])")


@pytest.mark.parametrize("weights", [[], [1] * 4, [0] * 5, [1, 1, 1, 1, -1]])
def test_mutation_weights_are_checked(weights):
    with pytest.raises(ValueError, match="nb_graph needs 5 whole numbers from 0 up"):
        NBGraph(mutation_weights=weights)
