"""Synthetic files of NATS-Bench's topology space."""

from functools import cache
from itertools import islice
from random import Random

import numpy as np

from published import nats
from spaces.nb201.space import NB201

RECIPE = "nats_tss"
NAME = "NATS-tss-v1_0-3ffb9"
SOME = {0: (777, 888, 999), 11: (777, 888), 15_624: (888,)}  # training seeds by index


@cache
def strings():
    """All architectures in a fixed order that is not the lexicographic one."""
    space = NB201()
    texts = [space.to_string(arch) for arch in islice(space, space.size)]
    Random(0).shuffle(texts)
    return texts


def records(some=SOME, seed=0):
    rng, texts = np.random.default_rng(seed), strings()
    return {
        index: nats.record(index, texts[index], "tss", rng, seeds) for index, seeds in some.items()
    }


def write(folder, published=None):
    """The packed file, under a name that promises no digest."""
    published = records() if published is None else published
    top = nats.meta(strings(), published)
    return nats.packed(top, folder / "NATS-tss-v1_0.pickle.pbz2")


def write_folder(folder, published=None):
    published = records() if published is None else published
    return nats.write_folder(folder, f"{NAME}-simple", strings(), published)
