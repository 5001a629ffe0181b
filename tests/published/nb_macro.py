"""A synthetic file of NAS-Bench-Macro: the published layout, random accuracies."""

import json
from random import Random

import numpy as np

from spaces.nb_macro.space import NBMacro

RECIPE = "nb_macro"
SPACE = NBMacro()
SOME = ("22212220", "22212202", "00000000", "02012100", "11111111", "20210101")  # two are twins


def records(texts=SOME, seed=0):
    """What the file holds, by key; keys of one network share a record."""
    rng, known = Random(seed), {}
    for text in texts:
        runs = [rng.uniform(40, 94) for _ in range(3)]
        known.setdefault(
            SPACE.canonical(SPACE.from_string(text)),
            {
                "test_acc": runs,
                "mean_acc": float(np.mean(runs)),
                "std": float(np.std(runs)),
                "params": rng.randrange(10**5, 10**7),
                "flops": rng.randrange(10**6, 10**8),
            },
        )
    return {text: dict(known[SPACE.canonical(SPACE.from_string(text))]) for text in texts}


def write(folder, published=None):
    path = folder / "nas-bench-macro_cifar10.json"
    path.write_text(json.dumps(records() if published is None else published))
    return path
