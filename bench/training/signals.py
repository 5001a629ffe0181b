"""MNIST-1D: signals made by the package `mnist1d` (Greydanus & Kobak, ICML 2024)."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from bench.table import data_folder
from bench.training.data import Data, Split

# The package seeds the global random state, so it runs in a process of its own.
GENERATE = """
import io, json, sys
import numpy
from mnist1d.data import get_dataset_args, make_dataset
arguments = get_dataset_args()
for name, value in json.loads(sys.argv[1]).items():
    setattr(arguments, name, value)
made = make_dataset(arguments)
numpy.savez(
    sys.argv[2],
    x=numpy.concatenate([made["x"], made["x_test"]]),
    y=numpy.concatenate([made["y"], made["y_test"]]),
)
"""


def mnist1d(
    *,
    train: int = 10000,
    valid: int = 7500,
    test: int = 7500,
    length: int = 56,
    padding: Sequence[int] = (0, 4),
    max_translation: int = 4,
    correlated_noise: float = 0.25,
    noise: float = 0.15,
    seed: int = 42,
) -> Data:
    """Signals in ten classes; train, validation and test parts, drawn alike.

    The paper's set has 40 positions, padding of 36 to 60, translations below 48, noise of 0.02,
    4,000 signals for training and 1,000 for testing; what else it has are defaults here, too. What
    was generated is kept in the data folder.

    Args:
        length: positions of a signal.
        padding: fewest and most positions that are added to a digit, which has 12; together they
            are then scaled to the length.
        max_translation: by how many positions, at most less one, what is padded is rolled.
        correlated_noise, noise: the scales of the noise around a digit, and everywhere.

    Raises:
        ImportError: the package is not installed.
        OSError: it failed.
        ValueError: the parts do not split evenly into ten classes, or the length, the padding or
            the translation is none.
    """
    count = train + valid + test
    if count % 10 or min(train, valid, test) < 1:
        raise ValueError(
            f"train, valid and test are {train}, {valid} and {test}; allowed: whole numbers "
            "from 1, together a multiple of 10"
        )
    if length < 1:
        raise ValueError(f"length is {length}; allowed: whole numbers from 1")
    if not (len(padding) == 2 and 0 <= padding[0] <= padding[1]) or max_translation < 1:
        raise ValueError(
            f"padding is {list(padding)}, max_translation {max_translation}; allowed: two whole "
            "numbers from 0, the second not smaller, and a whole number from 1"
        )
    settings = {
        "num_samples": count,
        "train_split": 0.5,
        "final_seq_length": length,
        "padding": list(padding),
        "max_translation": max_translation,
        "corr_noise_scale": correlated_noise,
        "iid_noise_scale": noise,
        "seed": seed,
    }
    places = f"{length}-{padding[0]}-{padding[1]}-{max_translation}"
    name = f"mnist1d-{count}-{places}-{correlated_noise}-{noise}-{seed}"
    path = data_folder() / "mnist1d" / f"{name}.npz"
    if not path.exists():
        _generate(settings, path)
    with np.load(path) as file:
        inputs = torch.from_numpy(file["x"].astype(np.float32))[:, None]
        labels = torch.from_numpy(file["y"].astype(np.int64))

    def part(start: int, stop: int) -> Split:
        return inputs[start:stop], labels[start:stop]

    return Data(part(0, train), part(train, train + valid), part(train + valid, count), classes=10)


def _generate(settings: Mapping[str, object], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        done = subprocess.run(
            [sys.executable, "-c", GENERATE, json.dumps(settings), str(new)],
            capture_output=True,
            text=True,
        )
        if done.returncode and "No module named 'mnist1d'" in done.stderr:
            raise ImportError("MNIST-1D needs: pip install 'nas-arena[signals]'")
        if done.returncode:
            why = done.stderr.strip().rpartition("\n")[2]
            raise OSError(f"MNIST-1D could not be generated: {why[:300]}")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
