"""Published facts of the space of NAS-Bench-Macro."""

import pytest

from spaces.nb_macro.space import NBMacro

SPACE = NBMacro()


def test_size():
    assert SPACE.size == SPACE.networks == 3**8 == 6_561
    assert len(list(SPACE.neighbours((0,) * 8))) == 16


def test_published_string():
    assert SPACE.from_string("22212202") == (2, 2, 2, 1, 2, 2, 0, 2)
    assert SPACE.to_string((2, 2, 2, 1, 2, 2, 0, 2)) == "22212202"


def test_networks_that_were_trained():
    assert len({SPACE.canonical(arch) for arch in SPACE}) == 3_969
    assert len({SPACE.key(arch) for arch in [(0,) * 8, (0,) * 7 + (1,)]}) == 2  # each has its row


@pytest.mark.parametrize(
    ("text", "trained"),
    [
        ("22212202", "22212220"),  # the last stage's identity is its last layer
        ("00101011", "00110011"),  # the first layer of a stage stays: it is a projection
        ("01010010", "01010010"),
    ],
)
def test_identities_commute_behind_the_first_layer_of_a_stage(text, trained):
    assert SPACE.canonical(SPACE.from_string(text)) == trained


@pytest.mark.parametrize(
    "text", ["", "2221222", "222122200", "22212223", "2221222 ", "٢2212220", "22212220\n"]
)
def test_foreign_strings_are_refused(text):
    with pytest.raises(ValueError, match="is no network of nb_macro: eight digits from 0 to 2"):
        SPACE.from_string(text)


def test_what_genes_are_called():
    names = [name for name, _ in SPACE.labels()]
    assert names[:3] == ["stage 1, layer 1", "stage 1, layer 2", "stage 2, layer 1"]
    assert names[-1] == "stage 3, layer 3"
    assert [len(values) for _, values in SPACE.labels()] == list(SPACE.choices)
