"""Published facts of NATS-Bench's size space."""

import bz2
from pathlib import Path
from random import Random

import pytest

from bench.pickled import PLAIN, restricted_load
from spaces.nats_sss.space import NATSSize

SPACE = NATSSize()
ROOT = Path(__file__).parent.parent
META = ROOT.parent / "shared/data/nats-bench-sample/NATS-sss-v1_0-50262-simple/meta.pickle.pbz2"


def test_size():
    assert SPACE.size == 32_768
    assert len(list(SPACE.neighbours((0,) * 5))) == 35


@pytest.mark.parametrize(
    ("text", "genes"),
    [("8:8:8:8:8", (0,) * 5), ("8:8:8:16:32", (0, 0, 0, 1, 3)), ("64:64:64:64:64", (7,) * 5)],
)
def test_published_strings(text, genes):
    assert SPACE.from_string(text) == genes
    assert SPACE.to_string(genes) == text


@pytest.mark.parametrize(
    "text", ["", "8:8:8:8", "8:8:8:8:8:8", "8:8:8:8:9", "8:8:8:8:08", " 8:8:8:8:8", "8:8:8:8:72"]
)
def test_foreign_strings_are_refused(text):
    with pytest.raises(ValueError, match=r"is no network of nats_sss: five of 8, 16, .*, such as"):
        SPACE.from_string(text)


def test_the_order_of_the_space_is_the_published_one():
    if not META.exists():
        pytest.skip("the published list of architectures is absent")
    listed = restricted_load(bz2.decompress(META.read_bytes()), PLAIN)["meta_archs"]
    assert [SPACE.to_string(arch) for arch in SPACE] == listed


def test_a_mutant_is_a_neighbour():
    rng = Random(0)
    for _ in range(200):
        arch = SPACE.sample(rng)
        assert SPACE.mutate(arch, rng) in set(SPACE.neighbours(arch))
