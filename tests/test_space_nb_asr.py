"""Published facts of the space of NAS-Bench-ASR."""

import numpy as np
import pytest

from spaces.nb_asr.space import NBASR, model_hash, reduced

SPACE = NBASR()


def test_sizes():
    assert SPACE.size == 13_824
    assert SPACE.networks == len(set(map(SPACE.canonical, SPACE))) == 8_242
    assert len(list(SPACE.neighbours((0,) * 9))) == 3 * 5 + 6


def test_published_hash():
    """README.md of SamsungLabs/nb-asr."""
    arch = SPACE.from_string("[[1, 0], [1, 0, 0], [1, 0, 0, 0]]")
    assert arch == (1, 0, 1, 0, 0, 1, 0, 0, 0)
    assert model_hash(arch) == SPACE.canonical(arch) == "36855332a5778e0df5114305bc3ce238"
    assert SPACE.key(arch) == 0x36855332A5778E0D


def test_a_table_has_a_row_for_each_hash():
    genes = np.array(list(SPACE), dtype=np.int8)
    assert len(np.unique(SPACE.keys(genes))) == 8_242


def test_equal_models_have_one_key():
    # A node of zeros: what skips into it or out of it makes no difference.
    one, other = (1, 0, 5, 0, 1, 2, 0, 0, 0), (1, 1, 5, 0, 1, 2, 0, 0, 1)
    assert SPACE.key(one) == SPACE.key(other)
    assert SPACE.key(one) != SPACE.key((1, 0, 5, 0, 1, 2, 0, 1, 0))
    # No way from input to output: whatever else is there.
    assert SPACE.key((5, 0, 0, 0, 0, 0, 0, 0, 0)) == SPACE.key((5, 0, 5, 0, 0, 5, 0, 0, 0))


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        ("[[1, 0], [1, 0, 0], [1, 0, 0, 0]]", [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ("[[0, 1], [0, 0, 0], [0, 0, 0, 1]]", [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4)]),
        ("[[5, 1], [0, 0, 0], [0, 0, 0, 0]]", [(0, 2), (2, 3), (3, 4)]),
        ("[[0, 0], [5, 0, 0], [0, 0, 1, 0]]", [(0, 1), (1, 4)]),  # node 3 gets nothing
        ("[[5, 0], [5, 0, 0], [5, 1, 0, 0]]", [(0, 4)]),
        ("[[5, 0], [0, 0, 0], [0, 0, 0, 0]]", []),
    ],
)
def test_reduced_graphs(text, edges):
    arch = SPACE.from_string(text)
    assert reduced(arch) == edges
    assert len(SPACE.graph(arch)) == len(edges)


def test_what_genes_are_called():
    labels = SPACE.labels()
    assert [len(values) for _, values in labels] == list(SPACE.choices)
    assert [name for name, _ in labels][:3] == ["node 1", "skip 0 → 2", "node 2"]
    assert SPACE.graph((1, 0, 0, 0, 0, 5, 1, 0, 0)) == [("input", "output", "")]
    assert SPACE.graph((1, 0, 0, 0, 0, 2, 0, 0, 0))[1] == ("conv5#0", "linear#2", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[1, 0], [1, 0, 0]]",
        "[[1,0],[1,0,0],[1,0,0,0]]",
        "[(1, 0), (1, 0, 0), (1, 0, 0, 0)]",
        "[[6, 0], [1, 0, 0], [1, 0, 0, 0]]",
        "[[1, 2], [1, 0, 0], [1, 0, 0, 0]]",
        "[[1, 0], [1, 0, 0], [1, 0, 0, 0]] ",
        "[[1, 0, 1], [0, 0], [1, 0, 0, 0]]",
    ],
)
def test_foreign_strings_are_refused(text):
    with pytest.raises(ValueError, match="is no vector of nb_asr, such as"):
        SPACE.from_string(text)
