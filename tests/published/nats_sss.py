"""Synthetic files of NATS-Bench's size space."""

from functools import cache

import numpy as np

from published import nats
from spaces.nats_sss.space import NATSSize

RECIPE = "nats_sss"
NAME = "NATS-sss-v1_0-50262"
SOME = (0, 11, 32_767)


@cache
def strings():
    space = NATSSize()
    return [space.to_string(arch) for arch in space]


def records(some=SOME, seed=0):
    rng, texts = np.random.default_rng(seed), strings()
    return {index: nats.record(index, texts[index], "sss", rng) for index in some}


def write(folder, published=None):
    """The packed file, under a name that promises no digest."""
    published = records() if published is None else published
    top = nats.meta(strings(), published)
    return nats.packed(top, folder / "NATS-sss-v1_0.pickle.pbz2")


def write_folder(folder, published=None):
    published = records() if published is None else published
    return nats.write_folder(folder, f"{NAME}-simple", strings(), published)
