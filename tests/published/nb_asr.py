"""Synthetic files of NAS-Bench-ASR: the published layout, random error rates.

The layout is that of `README.md` and `nasbench_asr/dataset.py` in SamsungLabs/nb-asr. Curves are
lists of numpy's float32 there, as their digits in the README tell.
"""

import pickle
from random import Random

import numpy as np

from spaces.nb_asr.space import OPERATIONS, model_hash

RECIPE = "nb_asr"
SOME = (
    (1, 0, 1, 0, 0, 1, 0, 0, 0),
    (0, 1, 5, 1, 0, 3, 0, 0, 1),
    (4, 0, 2, 1, 1, 0, 1, 1, 1),
    (5, 0, 5, 0, 0, 5, 0, 0, 0),  # no way from input to output
    (2, 1, 0, 0, 1, 5, 0, 1, 0),
)
RUNS = {(40, 1234), (40, 1235), (40, 1236), (10, 1234), (5, 1234)}
DEVICES = {"gtx-1080ti-fp32": 0.05, "jetson-nano-fp32": 0.6}
SHAPE = [[6, 2], [6, 2, 2], [6, 2, 2, 2]]


def vector(arch):
    return [tuple(arch[:2]), tuple(arch[2:5]), tuple(arch[5:])]


def header(kind, columns, **more):
    space = {"shape": SHAPE, "ops": list(OPERATIONS), "nodes": 3}
    start = {"dataset_type": kind, "version": 2, "search_space": space, "columns": columns}
    return start | more


def training(epochs, seed, architectures=SOME):
    """Header and rows of one training file."""
    rng, rows = Random(1000 * epochs + seed), []
    for arch in architectures:
        curve = [np.float32(rng.uniform(0.2, 0.5)) for _ in range(epochs)]
        rows.append([model_hash(arch), curve, rng.uniform(0.2, 0.5), vector(arch)])
    columns = ["model_hash", "val_per", "test_per", "arch_vec"]
    return header("training", columns, epochs=epochs, seed=seed), rows


def benchmark(device, architectures=SOME):
    rng = Random(device)
    rows = [[model_hash(arch), DEVICES[device] * rng.uniform(0.5, 1)] for arch in architectures]
    return header("benchmarking", ["model_hash", "latency"], device=device), rows


def static(architectures=SOME):
    rng = Random(7)
    rows = [
        [model_hash(arch), rng.randrange(10**6, 10**8), rng.randrange(10**8, 10**10)]
        for arch in architectures
    ]
    return header("static", ["model_hash", "params", "flops"]), rows


def files(architectures=SOME):
    """Header and rows of each file, by its name."""
    found = {
        f"nb-asr-e{epochs}-{seed}.pickle": training(epochs, seed, architectures)
        for epochs, seed in sorted(RUNS)
    }
    found |= {
        f"nb-asr-bench-{device}.pickle": benchmark(device, architectures) for device in DEVICES
    }
    return found | {"nb-asr-info.pickle": static(architectures)}


def write(folder, published=None):
    """A folder with the files."""
    path = folder / "nb-asr"
    path.mkdir(exist_ok=True)
    for name, parts in (files() if published is None else published).items():
        (path / name).write_bytes(b"".join(pickle.dumps(part, protocol=4) for part in parts))
    return path
