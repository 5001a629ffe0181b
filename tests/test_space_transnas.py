"""Published facts of the two spaces of TransNAS-Bench-101."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from contracts import assert_proportions

from spaces.transnas.space import ABSENT, TransNASMacro, TransNASMicro

MICRO, MACRO = TransNASMicro(), TransNASMacro()


def test_published_sizes():
    assert (MICRO.size, len(set(MICRO))) == (4_096, 4_096)
    assert (MACRO.size, len(set(MACRO))) == (3_256, 3_256)
    assert MICRO.size + MACRO.size == 7_352


# README.md and api/example.py of yawen-d/TransNASBench
@pytest.mark.parametrize(
    ("space", "text", "genes"),
    [
        (MICRO, "64-41414-1_02_333", (1, 0, 2, 3, 3, 3)),
        (MICRO, "64-41414-2_03_323", (2, 0, 3, 3, 2, 3)),
        (MACRO, "64-1234-basic", (0, 1, 2, 3, ABSENT, ABSENT)),
        (MACRO, "64-2311-basic", (1, 2, 0, 0, ABSENT, ABSENT)),
        (MACRO, "64-4111-basic", (3, 0, 0, 0, ABSENT, ABSENT)),
        (MACRO, "64-111123-basic", (0, 0, 0, 0, 1, 2)),
    ],
)
def test_published_strings(space, text, genes):
    assert space.from_string(text) == genes
    assert space.to_string(genes) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64-41414-1_02_33",
        "64-41414-1_02_334",
        "64-41414-10_2_333",
        "32-41414-1_02_333",
        "64-41414-1_02_333\n",
        "64-1234-basic",
    ],
)
def test_foreign_cells_are_refused(text):
    with pytest.raises(ValueError, match="is no cell of transnas_micro, such as 64-41414-1_02_333"):
        MICRO.from_string(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "64-123-basic",
        "64-1231231-basic",
        "64-1235-basic",
        "64-1111-basic",  # neither channels nor resolution change
        "64-2221-basic",  # the resolution never does
        "64-3331-basic",  # the channels never do
        "64-4444-basic",  # four times the channels
        "64-333332-basic",  # five times the resolution
        "64-1234-bottleneck",
        "64-1234-basic ",
        "64-41414-1_02_333",
    ],
)
def test_foreign_networks_are_refused(text):
    with pytest.raises(ValueError, match="is no network of transnas_macro: 64-<4 to 6 digits"):
        MACRO.from_string(text)


def test_a_module_is_absent_only_at_the_end():
    assert MACRO.contains((3, 0, 0, 0, 0, ABSENT))
    assert not MACRO.contains((3, 0, 0, 0, ABSENT, 0))
    assert not MACRO.contains((3, 0, 0, ABSENT, ABSENT, ABSENT))
    assert not MACRO.contains((3, 0, 0, 0))
    assert not MACRO.contains((3, 0, 0, 0, 0, ABSENT, 0))


def test_macro_neighbours_change_one_module_or_the_length():
    texts = [MACRO.to_string(near) for near in MACRO.neighbours(MACRO.from_string("64-4111-basic"))]
    longer = [f"64-4111{digit}-basic" for digit in "1234"]
    changed = ["64-4211-basic", "64-4311-basic", "64-4411-basic", "64-4121-basic", "64-4131-basic"]
    changed += ["64-4141-basic", "64-4112-basic", "64-4113-basic", "64-4114-basic"]
    assert sorted(texts) == sorted([*longer, *changed])
    assert min(len(list(MACRO.neighbours(arch))) for arch in MACRO) == 9


def test_macro_mutation_is_a_uniform_neighbour():
    rng, arch = Random(0), MACRO.from_string("64-222311-basic")
    near = list(MACRO.neighbours(arch))
    counts = Counter(MACRO.mutate(arch, rng) for _ in range(20_000))
    assert_proportions([counts[one] for one in near], [1] * len(near))


def test_weights_that_lead_nowhere_fall_back_on_any_neighbour():
    """A sixth module cannot come before the fifth."""
    space, rng = TransNASMacro(mutation_weights=[0, 0, 0, 0, 0, 1]), Random(0)
    four, five = space.from_string("64-4111-basic"), space.from_string("64-41111-basic")
    assert space.mutate(four, rng) in set(space.neighbours(four))
    assert {space.mutate(five, rng)[:5] for _ in range(20)} == {five[:5]}


def test_equal_cells_are_one_class():
    def canonical(text):
        return MICRO.canonical(MICRO.from_string(f"64-41414-{text}"))

    assert canonical("3_22_000") == canonical("0_00_000") == ""  # nothing reaches the output
    assert canonical("3_02_300") == canonical("1_30_300")  # no way through nodes 1 and 2
    assert canonical("3_01_002") == canonical("3_00_020")  # node 2 is node 1
    assert canonical("1_02_002") != canonical("0_20_002")  # a skip from the input may be learned
    assert canonical("0_02_001") != canonical("0_00_000")  # a convolution of nothing is a constant
    assert len({MICRO.canonical(arch) for arch in MICRO}) == 1_660


def test_drawings():
    assert MICRO.graph(MICRO.from_string("64-41414-1_02_003")) == [
        ("0", "1", "skip_connect"),
        ("1", "2", "conv_1x1"),
        ("2", "3", "conv_3x3"),
    ]
    nodes = ["input", "channels x2#0", "resolution /2#1", "normal#2", "normal#3", "output"]
    edges = [(one, other, "") for one, other in pairwise(nodes)]
    assert MACRO.graph(MACRO.from_string("64-2311-basic")) == edges
    for space in MICRO, MACRO:
        assert [len(values) for _, values in space.labels()] == list(space.choices)
