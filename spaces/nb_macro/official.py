"""Reader of the published NAS-Bench-Macro file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bench.data import Progress
from bench.space import Space
from bench.table import Schedule, Table, TableError

EPOCHS = 50  # default of train/train.py, xiusu/NAS-Bench-Macro@8608081
RUNS = 3
ROUNDING = 1e-9  # what a mean or a deviation may differ from that of the runs, in points


def nas_bench_macro(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """The file `nas-bench-macro_cifar10.json`: three test accuracies in percent for each network.

    An object maps eight digits to `test_acc`, `mean_acc` and `std` of the three runs, `params`
    and `flops` (multiply-adds), both counted.

    Raises:
        TableError: `source` is not that file, or contradicts itself.
    """
    published = _read(source)
    genes, runs, sizes = [], [], []
    for text, record in progress(published.items(), len(published)):
        where = f"{source.name}, {text!r}"
        try:
            genes.append(space.from_string(text))
        except ValueError as error:
            raise TableError(f"{source.name}: {error}") from None
        runs.append(_accuracies(record, where))
        sizes.append([_count(record, name, where) for name in ("params", "flops")])
    accuracy = np.array(runs).reshape(-1, RUNS)
    parameters, flops = np.array(sizes, np.float32).reshape(-1, 2).T
    if len(accuracy) and accuracy.max() <= 1:
        raise TableError(f"{source.name}: test_acc is given in fractions; allowed: percent")
    _check_twins(source, space, genes, [*zip(runs, sizes, strict=True)])
    columns = {
        "test_error": (1 - accuracy / 100).astype(np.float32)[:, None, :],
        "parameters": parameters,
        "flops": flops,
    }
    schedule = Schedule(np.array([EPOCHS], np.int32), np.arange(RUNS, dtype=np.int32), columns)
    architectures = np.array(genes, np.int8).reshape(-1, len(space.choices))
    return Table(dict(provenance), architectures, {("cifar10", str(EPOCHS)): schedule})


def _read(source: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise TableError(f"{source.name}: key {twice!r} stands there twice")
        return found

    def refuse(text: str) -> NoReturn:
        raise TableError(f"{source.name} holds {text}; allowed: numbers")

    try:
        text = source.read_text(encoding="utf-8")
        published = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{source.name} cannot be read as JSON: {error}") from None
    if not isinstance(published, dict):
        raise TableError(f"{source.name} is not the file of NAS-Bench-Macro: no JSON object")
    return published


def _accuracies(record: Any, where: str) -> list[float]:
    """The runs of one network, in percent, from which its mean and deviation must follow."""
    if not isinstance(record, dict):
        raise TableError(f"{where}: it is no object with test_acc, mean_acc, std, params and flops")
    runs = record.get("test_acc")
    if not isinstance(runs, list) or len(runs) != RUNS or not all(map(_is_percent, runs)):
        raise TableError(f"{where}: test_acc is not {RUNS} numbers from 0 to 100")
    for name, value in ("mean_acc", np.mean(runs)), ("std", np.std(runs)):
        given: Any = record.get(name)
        if not _is_percent(given) or abs(given - value) > ROUNDING:
            raise TableError(f"{where}: {name} is not that of its test_acc, {value:.6f}")
    return [float(run) for run in runs]


def _is_percent(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _count(record: dict[str, Any], name: str, where: str) -> int:
    count = record.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count < 2**40:
        raise TableError(f"{where}: {name} is not a whole number above zero")
    return count


def _check_twins(source: Path, space: Space, genes: list[tuple[int, ...]], rows: list[Any]) -> None:
    """Keys of one network must repeat its runs: it was trained once (train_benchmark.py)."""
    known: dict[Any, tuple[tuple[int, ...], Any]] = {}
    for arch, row in zip(genes, rows, strict=True):
        twin, expected = known.setdefault(space.canonical(arch), (arch, row))
        if row != expected:
            raise TableError(
                f"{source.name}: {space.to_string(arch)} and {space.to_string(twin)} are one "
                "network, but their records differ"
            )
