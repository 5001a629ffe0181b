"""Readers of the published files of NAS-Bench-Graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.archive import read_member
from bench.data import Progress
from bench.pickled import PLAIN, restricted_load
from bench.recipe import shown
from bench.space import Space
from bench.table import Schedule, Table, TableError
from spaces.nb_graph.space import BASE, LINKS, NODES, OPERATIONS, NBGraph

WHEEL = "the wheel of nas-bench-graph"
FOLDER = "nas_bench_graph/light"
DATASETS = {
    "nb_graph": ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv"),
    "nb_graph_proteins": ("proteins",),
}
FIELDS = ("valid_perf", "perf", "latency", "para")
LARGEST = 16_000_000  # bytes of one file; the published ones have 2,036,857


def light(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """The wheel of nas-bench-graph 1.4.0: means over three training seeds.

    A file `light/<dataset>.bench` maps published keys to `valid_perf` and `perf` (test), fractions;
    `latency`, seconds; and `para`, millions. Rows stand in the order of the first file.

    Raises:
        TableError: `source` is not that wheel, or a file in it is damaged.
    """
    if not isinstance(space, NBGraph):
        raise TableError(f"NAS-Bench-Graph has no data of {space.name}; only of {[*DATASETS]}")
    names = DATASETS[space.name]
    files = {name: _numbers(source, name) for name in progress(names, len(names))}
    first = names[0]
    for name, numbers in files.items():
        if numbers.keys() != files[first].keys():
            raise TableError(
                f"{source.name}: {name} and {first} hold different architectures; allowed: the same"
            )
    keys = list(files[first])
    genes = np.array([_genes(source, space, key) for key in keys], dtype=np.int8)
    own = space.keys(genes)
    if foreign := [key for key, right in zip(keys, own.tolist(), strict=True) if key != right]:
        raise TableError(
            f"{source.name}: {first} has key {foreign[0]}, which is not the first of its "
            "encodings; allowed: what `Arch.valid_hash` gives"
        )
    columns = {name: np.array([file[key] for key in keys]) for name, file in files.items()}
    return Table(
        dict(provenance), genes, {(name, "best"): _schedule(columns[name]) for name in names}
    )


def _numbers(source: Path, name: str) -> dict[int, list[float]]:
    """Published key -> the values of `FIELDS`, checked."""
    where = f"{source.name}: {name}.bench"
    data = read_member(source, f"{FOLDER}/{name}.bench", what=WHEEL, largest=LARGEST)
    records = restricted_load(data, PLAIN)
    if not isinstance(records, dict) or not records:
        raise TableError(f"{where} holds no architectures; allowed: a dict from keys to values")
    numbers = {}
    for key, record in records.items():
        if type(key) is not int:
            raise TableError(f"{where} has a key that is no whole number")
        if not isinstance(record, dict) or not set(FIELDS) <= record.keys():
            raise TableError(f"{where}, key {shown(key)}, lacks one of {', '.join(FIELDS)}")
        values = numbers[key] = [record[field] for field in FIELDS]
        for field, value in zip(FIELDS, values, strict=True):
            highest = 1.0 if field.endswith("perf") else 1e6
            if type(value) is not float or not 0 <= value <= highest:
                what = shown(value) if isinstance(value, int | float) else "no number"
                raise TableError(
                    f"{where}, key {shown(key)}: {field} is {what}; allowed: 0 to {highest:g}"
                )
    return numbers


def _genes(source: Path, space: NBGraph, key: int) -> list[int]:
    """The genes that a published key stands for."""
    link, digits = divmod(key, BASE**NODES)
    names = dict(enumerate(OPERATIONS))
    ops = [names.get(int(digit)) for digit in f"{digits:0{NODES}d}"]
    if not 0 <= link < len(LINKS) or not set(ops) <= set(space.operations):
        raise TableError(
            f"{source.name} has key {shown(key)}; allowed: a link pattern below {len(LINKS)} and "
            f"{NODES} digits, each the number of an operation of {space.name}"
        )
    return [link, *(space.operations.index(str(op)) for op in ops)]


def _schedule(columns: NDArray[np.float64]) -> Schedule:
    valid, test, latency, millions = columns.T
    return Schedule(
        np.array([1], np.int32),
        np.array([0], np.int32),
        {
            "valid_error": (1 - valid).astype(np.float32)[:, None, None],
            "test_error": (1 - test).astype(np.float32)[:, None, None],
            "parameters": np.round(millions * 1e6).astype(np.float32),
            "latency": latency.astype(np.float32),
        },
    )
