"""Published facts of NAS-Bench-101's cells: validity, hash, classes, mutation."""

from collections import Counter
from itertools import combinations, islice, permutations
from random import Random

import contracts
import numpy as np
import pytest
from contracts import assert_proportions
from published import nb101

from spaces.nb101 import graph
from spaces.nb101.graph import OPERATIONS, canonical_all, md5_hash, prune, prune_all, valid_edges
from spaces.nb101.space import NB101, matrix_of, operations_of, published_mutation

SPACE = NB101()
C3, C1, MP = OPERATIONS
# The cell of the official README, with its published hash (google-research/google-research,
# unified_functional_hashing/nasbench/python/evaluator_test.py)
INCEPTION = [
    [0, 1, 1, 1, 0, 1, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0],
]
LABELS = ["input", C1, C3, C3, C3, MP, "output"]
HASH = "28cfc7874f6d200472e1a9dcd8650aa0"
STRING = "".join(str(bit) for row in INCEPTION for bit in row) + ":" + ",".join(LABELS)


def published_hash(arch):
    return md5_hash(matrix_of(arch), operations_of(arch))


def relabelled(arch, rng):
    """The same cell with its inner vertices in another order, edges still forward."""
    matrix, operations = matrix_of(arch), operations_of(arch)
    orders = [
        order
        for inner in permutations(range(1, 6))
        for order in [(0, *inner, 6)]
        if not any(matrix[order[i]][order[j]] for i in range(7) for j in range(i))
    ]
    order = rng.choice(orders)
    edges = [matrix[order[i]][order[j]] for i, j in graph.EDGES]
    return (*edges, *(OPERATIONS.index(operations[v]) for v in order[1:-1]))


def test_published_hash():
    assert md5_hash(INCEPTION, LABELS) == HASH
    assert published_hash(SPACE.from_string(STRING)) == HASH


def test_hash_sees_operations_and_directions():
    chain = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert md5_hash(chain, ["input", C3, MP, "output"]) != md5_hash(
        chain, ["input", MP, C3, "output"]
    )
    diamond = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert md5_hash(diamond, ["input", C3, MP, "output"]) == md5_hash(
        diamond, ["input", MP, C3, "output"]
    )


def test_hash_prunes_first():
    # Vertex 2 leads nowhere, vertex 3 comes from nowhere.
    matrix = [[0, 1, 1, 0, 0], [0, 0, 1, 0, 1], [0] * 5, [0, 0, 0, 0, 1], [0] * 5]
    chain = [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert md5_hash(matrix, ["input", MP, C3, "none", "output"]) == md5_hash(
        chain, ["input", MP, "output"]
    )


@pytest.mark.parametrize(
    ("matrix", "operations", "says"),
    [
        ([[0, 1]], ["input", "output"], "needs a square matrix"),
        ([[0, 1], [0, 0]], ["input", C3, "output"], "needs a square matrix"),
        ([[0]], ["input"], "needs a square matrix"),
        ([[0, 1], [1, 0]], ["input", "output"], "must point forward"),
        ([[0, 0], [0, 0]], ["input", "output"], "does not reach its output"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["input", "conv5x5", "output"], "unknown operation"),
    ],
)
def test_hash_refuses_what_is_no_cell(matrix, operations, says):
    with pytest.raises(ValueError, match=says):
        md5_hash(matrix, operations)


def test_key_and_hash_are_equivalent():
    rng = Random(0)
    cells = [SPACE.sample(rng) for _ in range(1500)]
    cells += [relabelled(arch, rng) for arch in cells]
    pairs = {(SPACE.key(arch), published_hash(arch)) for arch in cells}
    keys, hashes = zip(*pairs, strict=True)
    assert len(pairs) == len(set(keys)) == len(set(hashes)) > 500
    for arch, twin in zip(cells[:1500], cells[1500:], strict=True):
        assert SPACE.canonical(arch) == SPACE.canonical(twin)


def test_keys_of_many_are_those_of_each():
    rng = Random(1)
    genes = np.array([SPACE.sample(rng) for _ in range(2000)], np.int8)
    keys = SPACE.keys(genes)
    assert keys.dtype == np.uint64
    assert keys.tolist() == [SPACE.key(arch) for arch in map(tuple, genes.tolist())]
    assert SPACE.keys(genes[:0]).tolist() == []


def test_key_is_the_least_over_all_orders():
    rng = Random(8)
    for _ in range(100):
        matrix, labels = nb101.pruned(SPACE.sample(rng))
        size = len(labels)
        numbers = []
        for inner in permutations(range(1, size - 1)):
            order = (0, *inner, size - 1)
            if any(matrix[order[i]][order[j]] for i in range(size) for j in range(i)):
                continue
            to = [*range(size - 1), 6]
            there = {
                (to[i], to[j])
                for i, j in combinations(range(size), 2)
                if matrix[order[i]][order[j]]
            }
            text = "".join("01"[edge in there] for edge in graph.EDGES)
            text += "".join(f"{OPERATIONS.index(labels[v]):02b}" for v in inner)
            numbers.append(int(text.ljust(31, "0"), 2))
        arch = SPACE.from_string(
            f"{''.join(str(bit) for row in matrix for bit in row)}:{','.join(labels)}"
        )
        assert SPACE.key(arch) == min(numbers)


def test_key_stays():
    """Tables hold keys: who changes them must change the format of tables."""
    assert SPACE.key(SPACE.from_string(STRING)) == 1_560_357_894


def test_pruning_of_many_is_that_of_each():
    rng = Random(2)
    edges = np.array([rng.randrange(1 << 21) for _ in range(3000)], np.uint32)
    kept, compact = prune_all(edges)
    for number, some, pruned in zip(edges.tolist(), kept.tolist(), compact.tolist(), strict=True):
        expected = prune(number)
        assert pruned == expected[1]
        assert some == expected[0] or not pruned


def slowly_valid(arch):
    """The rule in plain words: paths by powers of the matrix, then the edges that are left."""
    matrix = np.array(matrix_of(arch))
    paths = np.linalg.matrix_power(matrix + np.eye(7, dtype=int), 7) > 0
    on_a_path = paths[0] & paths[:, 6]
    return bool(paths[0, 6]) and matrix[np.ix_(on_a_path, on_a_path)].sum() <= 9


def test_validity():
    rng = Random(3)
    verdicts = Counter()
    for _ in range(2000):
        arch = tuple(rng.randrange(n) for n in SPACE.choices)
        assert SPACE.contains(arch) == slowly_valid(arch)
        verdicts[SPACE.contains(arch)] += 1
    assert min(verdicts.values()) > 400


def test_edges_that_are_pruned_do_not_count():
    arch = [0] * 26
    for edge in [(0, 6), *((i, j) for i in range(1, 6) for j in range(i + 1, 6))]:
        arch[graph.EDGES.index(edge)] = 1
    assert sum(arch) == 11
    assert SPACE.contains(tuple(arch))


@pytest.mark.parametrize("last", [(3,), (-1,), ("a",), (1.5,), (None,), (0, 0), ()])
def test_what_is_no_encoding_is_no_member(last):
    arch = (*SPACE.from_string(STRING)[:-1], *last)
    assert not SPACE.contains(arch)


def test_size():
    assert SPACE.size == 373_754_169 == len(valid_edges()) * 3**5
    assert SPACE.networks == 423_624


def test_lists_members_in_order():
    some = list(islice(SPACE, 1000))
    assert some == sorted(set(some))
    assert all(map(SPACE.contains, some))
    assert some[0] == (0,) * 5 + (1,) + (0,) * 20  # the edge from input to output alone


def test_samples_are_uniform_over_encodings():
    rng = Random(4)
    samples = np.array([SPACE.sample(rng) for _ in range(20_000)])
    edges = valid_edges()
    for place in range(21):
        share = float((edges >> np.uint32(20 - place) & np.uint32(1)).mean())
        ones = int(samples[:, place].sum())
        assert_proportions([ones, 20_000 - ones], [share, 1 - share])
    for place in range(21, 26):
        assert_proportions(np.bincount(samples[:, place], minlength=3), [1, 1, 1])


@pytest.mark.parametrize("promise", contracts.SPACE, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_promises(promise, seed):
    promise(SPACE, Random(seed))


def test_features_tell_cells_apart():
    rng = Random(5)
    cells = {SPACE.sample(rng) for _ in range(500)}
    assert len({SPACE.features(arch).tobytes() for arch in cells}) == len(cells)
    assert SPACE.features(next(iter(cells))).shape == (36,)


def test_mutation_is_a_uniform_neighbour():
    rng, arch = Random(6), SPACE.from_string(STRING)
    near = list(SPACE.neighbours(arch))
    counts = Counter(SPACE.mutate(arch, rng) for _ in range(100 * len(near)))
    assert_proportions([counts[one] for one in near], [1] * len(near))
    assert sum(map(SPACE.contains, super(NB101, SPACE).neighbours(arch))) == len(near) < 31


def test_mutation_that_cannot_succeed_says_so():
    only_one_edge = NB101(mutation_weights=[0] * 5 + [1] + [0] * 20)  # from input to output
    with pytest.raises(ValueError, match=r"leave .* no neighbour"):
        only_one_edge.mutate((0,) * 5 + (1,) + (0,) * 20, Random(0))


def test_published_mutation():
    rng, arch = Random(7), SPACE.from_string(STRING)
    children = [published_mutation(arch, rng) for _ in range(4000)]
    assert all(map(SPACE.contains, children))
    operations = [sum(a != b for a, b in zip(arch[21:], c[21:], strict=True)) for c in children]
    # One in expectation: validity does not depend on operations.
    law = [0.8**5, 5 * 0.2 * 0.8**4, 10 * 0.2**2 * 0.8**3]
    counts = np.bincount(operations, minlength=6)
    assert_proportions([*counts[:3], counts[3:].sum()], [*law, 1 - sum(law)])
    flips = [sum(a != b for a, b in zip(arch[:21], c[:21], strict=True)) for c in children]
    edges = int("".join(map(str, arch[:21])), 2)
    far = np.array([(edges ^ other).bit_count() for other in valid_edges().tolist()])
    law = np.bincount(far, weights=(1 / 7) ** far * (6 / 7) ** (21 - far))
    counts = np.bincount(flips, minlength=22)
    assert_proportions([*counts[:8], counts[8:].sum()], [*law[:8], law[8:].sum()])
    assert published_mutation(arch, rng, rate=0.0) == arch


def test_strings():
    assert SPACE.to_string(SPACE.from_string(STRING)) == STRING


def test_cells_of_fewer_vertices():
    arch = SPACE.from_string(f"010001000:input,{MP},output")
    assert [edge for edge, there in zip(graph.EDGES, arch, strict=False) if there] == [
        (0, 1),
        (1, 6),
    ]
    assert arch[21:] == (2, 0, 0, 0, 0)
    assert SPACE.from_string("0100:input,output")[:6] == (0, 0, 0, 0, 0, 1)


def test_drawing_shows_the_pruned_cell():
    arch = list(SPACE.from_string(f"010001000:input,{MP},output"))
    arch[graph.EDGES.index((0, 3))] = 1  # leads nowhere
    assert SPACE.graph(tuple(arch)) == [
        ("input#0", f"{MP}#1", ""),
        (f"{MP}#1", "output#6", ""),
    ]
    assert len(SPACE.graph(SPACE.from_string(STRING))) == sum(map(sum, INCEPTION))
    labels = SPACE.labels()
    assert [len(values) for _, values in labels] == list(SPACE.choices)
    assert (labels[0][0], labels[20][0], labels[25][0]) == ("edge 0 → 1", "edge 5 → 6", "vertex 5")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "0100",
        "0100:output,input",
        "0000:input,output",  # not connected
        "0110:input,output",  # an edge backward
        "010:input,output",
        "0200:input,output",
        "010001000:input,conv5x5,output",
        "0" * 64 + ":" + ",".join(["input", *[C3] * 6, "output"]),
        "0111111"
        + "0011111"
        + "0001111"
        + "0000111"
        + "0000011"
        + "0000001"
        + "0" * 7
        + ":"
        + ",".join(LABELS),
    ],
)
def test_foreign_strings_are_refused(text):
    with pytest.raises(ValueError, match="is no cell of nb101, such as"):
        SPACE.from_string(text)


@pytest.mark.slow
def test_the_whole_space():
    """All 1,293,208 pruned labelled cells, 423,624 classes, and a hash for each."""
    edges, labels = nb101.compact_cells()
    assert len(edges) == 1_293_208
    keys = canonical_all(edges, labels)
    assert len(np.unique(keys)) == 423_624
    cells = nb101.every_network()
    assert len(cells) == 423_624
    assert len({published_hash(arch) for arch in map(tuple, cells.tolist())}) == 423_624


@pytest.mark.slow
def test_twins_have_one_hash():
    """Orders of one cell, all of them, have one hash: with the above, keys and hashes agree."""
    edges, labels = nb101.compact_cells()
    keys = canonical_all(edges, labels)
    rng = np.random.default_rng(0)
    order = keys.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=np.uint64(0)))
    for number in rng.integers(len(starts) - 1, size=3000):
        group = order[starts[number] : starts[number + 1]]
        hashes = {published_hash(nb101.genes_of(edges[at], labels[at])) for at in group}
        assert len(hashes) == 1


def test_the_published_mutation_is_a_setting():
    space, arch = NB101(mutation_rate=1.0), NB101().sample(Random(1))
    found = [space.mutate(arch, rng) for rng in map(Random, range(200))]
    assert found == [published_mutation(arch, rng) for rng in map(Random, range(200))]
    changed = [sum(map(int.__ne__, arch, child)) for child in found]
    assert max(changed) > 1
    assert all(map(space.contains, found))


@pytest.mark.parametrize("rate", [0, -1.0, 5.5, float("nan")])
def test_a_rate_that_cannot_be(rate):
    with pytest.raises(ValueError, match=f"^mutation_rate is {rate}; allowed: null, or above 0"):
        NB101(mutation_rate=rate)
