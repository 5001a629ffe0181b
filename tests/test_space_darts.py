"""Published facts of the DARTS space and of its encoding in NAS-Bench-301."""

from itertools import permutations
from random import Random
from time import perf_counter

import numpy as np
import pytest

from spaces.darts.space import (
    DARTS,
    EDGES,
    NODES,
    OPERATIONS,
    PREFIX,
    cells,
    from_config,
    to_config,
)

SPACE = DARTS()
# The cells that Liu et al. found with second-order DARTS (quark0/darts, cnn/genotypes.py), which
# the example of NAS-Bench-301 queries; a node's inputs are in the order of that file
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
# The architecture of nasbench301/data_generation/configs/config_0.json (automl/nasbench301@bef57c0)
CONFIG_0 = {
    "edge_normal_0": "skip_connect",
    "edge_normal_1": "sep_conv_3x3",
    "edge_normal_3": "dil_conv_5x5",
    "edge_normal_4": "avg_pool_3x3",
    "edge_normal_7": "dil_conv_5x5",
    "edge_normal_8": "sep_conv_3x3",
    "edge_normal_9": "dil_conv_3x3",
    "edge_normal_10": "dil_conv_3x3",
    "inputs_node_normal_3": "1_2",
    "inputs_node_normal_4": "2_3",
    "inputs_node_normal_5": "0_1",
    "edge_reduce_0": "dil_conv_3x3",
    "edge_reduce_1": "skip_connect",
    "edge_reduce_2": "max_pool_3x3",
    "edge_reduce_3": "dil_conv_5x5",
    "edge_reduce_6": "dil_conv_3x3",
    "edge_reduce_7": "avg_pool_3x3",
    "edge_reduce_9": "sep_conv_3x3",
    "edge_reduce_11": "sep_conv_3x3",
    "inputs_node_reduce_3": "0_1",
    "inputs_node_reduce_4": "1_2",
    "inputs_node_reduce_5": "0_2",
}


def published_config():
    return {PREFIX + key: value for key, value in CONFIG_0.items()}


def drawn(count, seed=0):
    rng = Random(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def test_size():
    assert SPACE.size == (3 * 6 * 10 * 7**8) ** 2 == 1_076_746_950_455_072_400
    assert SPACE.size < 2**64  # so that the default keys are exact
    assert len(list(SPACE.neighbours((0,) * 22))) == 2 * (8 * 6 + 2 + 5 + 9)


def test_keys_are_exact_to_the_last_member():
    last = tuple(n - 1 for n in SPACE.choices)
    before = (*last[:-1], last[-1] - 1)
    assert SPACE.key(last) == SPACE.size - 1
    assert SPACE.key(before) == SPACE.size - 2


def test_edges_are_numbered_as_in_nas_bench_301():
    by_number = {number: pair for pair, number in EDGES.items()}
    assert [by_number[n] for n in (0, 1, 2, 4, 5, 8, 9, 13)] == [
        (2, 0), (2, 1), (3, 0), (3, 2), (4, 0), (4, 3), (5, 0), (5, 4),
    ]  # fmt: skip


def test_the_cells_of_darts():
    arch = SPACE.from_string(DARTS_V2)
    normal, reduce = cells(arch)
    sep, skip, dil, pool = 3, 2, 5, 0
    assert normal == (
        ((0, sep), (1, sep)), ((0, sep), (1, sep)), ((0, skip), (1, sep)), ((0, skip), (2, dil)),
    )  # fmt: skip
    assert reduce == (
        ((0, pool), (1, pool)), ((1, pool), (2, skip)), ((0, pool), (2, skip)),
        ((1, pool), (2, skip)),
    )  # fmt: skip
    text = SPACE.to_string(arch)
    assert "('skip_connect', 0), ('sep_conv_3x3', 1)" in text  # inputs ascend in our form
    assert text.endswith("reduce_concat=range(2, 6))")
    assert SPACE.from_string(text) == arch


def test_a_published_configuration():
    arch = from_config(published_config())
    assert to_config(arch) == published_config()
    more = {"OptimizerSelector:optimizer": "sgd", f"{PREFIX}layers": 8}
    assert from_config(published_config() | more) == arch


def test_configurations_round_trip():
    for arch in drawn(200):
        config = to_config(arch)
        assert len(config) == 22
        assert from_config(config) == arch


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"edge_normal_0": "none"}, "operation 'none' is none of max_pool_3x3, avg_pool"),
        ({"edge_normal_0": ["x"]}, r"operation \"\['x'\]\" is none of max_pool_3x3"),
        ({"edge_normal_2": "skip_connect"}, "do not give each of nodes 2 to 5 two inputs"),
        ({"edge_reduce_0": None}, "do not give each of nodes 2 to 5 two inputs"),
        ({"edge_normal_14": "skip_connect"}, "edge_normal_14 is no edge; allowed: 0 to 13"),
        ({"edge_normal_07": "skip_connect"}, "edge_normal_07 is no edge"),
        ({"inputs_node_normal_4": "1_2"}, "normal_4 is '1_2'; its edges say '2_3'"),
        ({"inputs_node_reduce_3": None}, "reduce_3 is 'None'; its edges say '0_1'"),
    ],
)
def test_strange_configurations_are_refused(change, sentence):
    config = published_config()
    for key, value in change.items():
        config[PREFIX + key] = value
        if value is None:
            del config[PREFIX + key]
    with pytest.raises(ValueError, match=sentence):
        from_config(config)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Genotype", "genotype", "it is written otherwise"),
        ("sep_conv_3x3", "none", "operation 'none' is none of"),
        ("_3x3', 1), ('sep", "_3x3', 0), ('sep", "node 2 takes 0 and 0; allowed: two"),
        ("('dil_conv_3x3', 2)]", "('dil_conv_3x3', 5)]", "node 5 takes 0 and 5; allowed: two"),
        (", ('dil_conv_3x3', 2)]", "]", "it is written otherwise"),
        ("[2, 3, 4, 5]", "[2, 3, 4]", "it is written otherwise"),
        ("'sep_conv_3x3', 0", "'sep_conv_3x3', ٠", "it is written otherwise"),
        ("'sep_conv_3x3', 0", "__import__('os'), 0", "it is written otherwise"),
    ],
)  # fmt: skip
def test_foreign_strings_are_refused(old, new, reason):
    with pytest.raises(ValueError, match=r"is no genotype of darts .*such as Genotype") as raised:
        SPACE.from_string(DARTS_V2.replace(old, new, 1))
    assert reason in str(raised.value)


@pytest.mark.parametrize("blank", [" " * 200, ", " * 200, "(" * 400, "'a', 0), (" * 100])
def test_long_strings_are_refused_at_once(blank):
    start = perf_counter()
    with pytest.raises(ValueError, match="is no genotype of darts"):
        SPACE.from_string(DARTS_V2.replace(", ", "," + blank)[:-1])
    assert perf_counter() - start < 5


def test_features_are_one_hot_edges():
    features = SPACE.features(from_config(published_config())).reshape(2, 14, 7)
    assert features.sum() == 16
    assert features[0, 7, OPERATIONS.index("dil_conv_5x5")] == 1
    assert features[1, 11, OPERATIONS.index("sep_conv_3x3")] == 1
    assert not features[0, 2].any()


def test_features_tell_architectures_apart():
    some = {arch: SPACE.features(arch).tobytes() for arch in drawn(300)}
    near = {arch: SPACE.features(arch).tobytes() for arch in SPACE.neighbours(next(iter(some)))}
    both = some | near
    assert len(set(both.values())) == len(both)


def renamings(cell):
    """The cell under every order of its nodes in which all inputs come first."""
    for order in permutations(NODES):
        names = {0: 0, 1: 1} | {old: new for new, old in zip(NODES, order, strict=True)}
        if all(names[source] < names[old] for old, node in zip(NODES, cell, strict=True)
               for source, _ in node):  # fmt: skip
            yield tuple(
                tuple(sorted((names[source], op) for source, op in cell[old - 2])) for old in order
            )


def test_canonical_is_the_least_renaming():
    for arch in drawn(300):
        assert SPACE.canonical(arch) == tuple(min(renamings(cell)) for cell in cells(arch))


def test_twins_with_different_followers_stay_apart():
    """Nodes 2 and 3 read alike; whether one or both are used is another network."""
    twins = "('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1)"

    def followed_by(one, other):
        rest = f"('skip_connect', 0), ('skip_connect', {one}), ('skip_connect', 1)"
        cell = f"[{twins}, {rest}, ('skip_connect', {other})]"
        text = f"Genotype(normal={cell}, normal_concat=range(2, 6), reduce={cell}, "
        return SPACE.canonical(SPACE.from_string(f"{text}reduce_concat=range(2, 6))"))

    assert followed_by(2, 2) == followed_by(3, 3)
    assert followed_by(2, 3) == followed_by(3, 2)
    assert followed_by(2, 2) != followed_by(2, 3)


def test_samples_are_uniform_in_every_gene():
    genes = np.array(drawn(5_000))
    for gene, n in enumerate(SPACE.choices):
        counts = np.bincount(genes[:, gene], minlength=n)
        assert len(counts) == n
        assert abs(counts - 5_000 / n).max() < 6 * (5_000 / n) ** 0.5
