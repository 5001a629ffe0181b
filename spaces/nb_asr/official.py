"""Reader of the published NAS-Bench-ASR files."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import Progress
from bench.pickled import PLAIN, restricted_load
from bench.recipe import shown
from bench.space import Architecture, Space
from bench.table import Schedule, Table, TableError
from spaces.nb_asr.space import NBASR, model_hash

# Names of files as in dataset.py, from_folder
TRAINING = r"nb-asr-e([1-9]\d{0,2})-(0|[1-9]\d{0,8})\.pickle"  # epochs, seed
BENCHMARK = r"nb-asr-bench-([a-zA-Z0-9-]{1,60})\.pickle"  # device
STATIC = r"nb-asr-info\.pickle"
COLUMNS = {  # those a file must begin with (dataset.py, _Dataset)
    "training": ("model_hash", "val_per", "test_per"),
    "benchmarking": ("model_hash", "latency"),
    "static": ("model_hash", "params"),
}
SLOWEST = 100.0  # seconds of a forward pass: what is above must be in another unit
Rows = dict[str, list[Any]]  # by the hash of the model, a row without it
Runs = dict[str, tuple[list[float], float]]  # by the hash, validation curve and test error
Values = dict[str, float]


def nas_bench_asr(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """A folder with the published files, or one of its training files.

    `nb-asr-e{epochs}-{seed}.pickle` holds for each model the phoneme error rate on the validation
    set after every epoch and the one on the test set, as fractions; the others are
    `nb-asr-bench-{device}.pickle` with the seconds of a forward pass, and `nb-asr-info.pickle`
    with parameters and, in its second version, flops. Other files of a folder are left alone.

    Raises:
        TableError: there is no such file, or one is damaged or contradicts its name.
    """
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    trained: dict[int, dict[int, Runs]] = {}
    visible: dict[str, Values] = {}
    for file in progress(files, len(files)):
        if found := re.fullmatch(TRAINING, file.name, re.ASCII):
            epochs, seed = map(int, found.groups())
            trained.setdefault(epochs, {})[seed] = _training(file, epochs, seed)
        elif found := re.fullmatch(BENCHMARK, file.name, re.ASCII):
            visible |= _benchmark(file, found[1])
        elif re.fullmatch(STATIC, file.name, re.ASCII):
            visible |= _static(file)
    if not trained:
        raise TableError(
            f"{source} is and holds no training file of NAS-Bench-ASR, such as "
            "nb-asr-e40-1234.pickle"
        )
    return _table(trained, visible, space, provenance)


def _read(file: Path, kind: str) -> tuple[dict[Any, Any], list[str], Rows]:
    """Header, columns and rows: two pickles, one after the other."""
    try:
        with file.open("rb") as opened:
            header = restricted_load(opened, PLAIN)
            listed = restricted_load(opened, PLAIN)
            longer = opened.read(1)
    except OSError as error:
        raise TableError(f"{file} cannot be read: {error.strerror}") from None
    except TableError as error:
        raise TableError(f"{file.name}: {error}") from None
    columns = header.get("columns") if isinstance(header, dict) else None
    if not isinstance(columns, list | tuple) or not isinstance(listed, list) or longer:
        raise TableError(f"{file.name} is not a header with columns and then a list of rows")
    begin = COLUMNS[kind]
    if header.get("dataset_type") != kind or tuple(columns[: len(begin)]) != begin:
        raise TableError(
            f"{file.name} says it is a {shown(header.get('dataset_type'))} file with columns "
            f"{shown(list(columns))}; allowed: {kind}, and columns that begin {', '.join(begin)}"
        )
    rows: Rows = {}
    for row in listed:
        if not isinstance(row, list | tuple) or len(row) != len(columns):
            raise TableError(f"{file.name}: a row does not have {len(columns)} columns")
        name, *rest = row
        if not isinstance(name, str) or name not in _models():
            raise TableError(f"{file.name}: {shown(name)} is the hash of no model of NAS-Bench-ASR")
        if name in rows:
            raise TableError(f"{file.name}: model {name} stands in two rows")
        rows[name] = rest
    return header, list(columns[1:]), rows


@cache
def _models() -> dict[str, Architecture]:
    """The first vector of each hash."""
    models: dict[str, Architecture] = {}
    for arch in NBASR():
        models.setdefault(model_hash(arch), arch)
    return models


def _check(file: Path, header: dict[Any, Any], **expected: Any) -> None:
    for key, value in expected.items():
        if header.get(key) != value:
            raise TableError(
                f"{file.name}: {key} is {shown(header.get(key))}; allowed by its name: {value}"
            )


def _training(file: Path, epochs: int, seed: int) -> Runs:
    """Validation error after every epoch and test error, by model."""
    header, columns, rows = _read(file, "training")
    _check(file, header, epochs=epochs, seed=seed)
    place = columns.index("arch_vec") if "arch_vec" in columns else None
    runs = {}
    for name, row in rows.items():
        curve, test = row[:2]
        rates = [*curve, test] if isinstance(curve, list | tuple) else []
        if len(rates) != epochs + 1 or not all(map(_is_rate, rates)):
            raise TableError(
                f"{file.name}: the error rates of model {name} are not {epochs} fractions from 0 "
                "to 1 on the validation set and one on the test set"
            )
        if place is not None and _hash_of(row[place]) != name:
            raise TableError(f"{file.name}: arch_vec {shown(row[place])} is not that of {name}")
        runs[name] = [float(rate) for rate in curve], float(test)
    return runs


def _hash_of(vector: Any) -> str:
    """The hash of a published vector, such as `[(1, 0), (1, 0, 0), (1, 0, 0, 0)]`."""
    try:
        text = str([list(node) for node in vector])
        return model_hash(NBASR().from_string(text))
    except (TypeError, ValueError):
        return ""


def _benchmark(file: Path, device: str) -> dict[str, Values]:
    header, _, rows = _read(file, "benchmarking")
    _check(file, header, device=device)
    name = "latency_" + device.replace("-", "_")
    return {name: _numbers(file, rows, 0, "latency", SLOWEST)}


def _static(file: Path) -> dict[str, Values]:
    _, columns, rows = _read(file, "static")
    sizes = {"parameters": _numbers(file, rows, 0, "params", 1e12)}
    if "flops" in columns:
        sizes["flops"] = _numbers(file, rows, columns.index("flops"), "flops", 1e15)
    return sizes


def _numbers(file: Path, rows: Rows, place: int, name: str, highest: float) -> Values:
    values = {model: row[place] for model, row in rows.items()}
    for model, value in values.items():
        if not _is_number(value) or not 0 < value <= highest:
            raise TableError(
                f"{file.name}: {name} of model {model} is {shown(value)}; allowed: above 0, up to "
                f"{highest:g}"
            )
    return {model: float(value) for model, value in values.items()}


def _table(
    trained: dict[int, dict[int, Runs]],
    visible: dict[str, Values],
    space: Space,
    provenance: Mapping[str, str],
) -> Table:
    runs = [trained[epochs][seed] for epochs in sorted(trained) for seed in sorted(trained[epochs])]
    models = list(dict.fromkeys(model for run in runs for model in run))
    seen = {
        name: np.array([values.get(model, np.nan) for model in models], np.float32)
        for name, values in visible.items()
    }
    genes = [_models()[model] for model in models]
    return Table(
        dict(provenance),
        np.array(genes, np.int8).reshape(-1, len(space.choices)),
        {
            ("timit", str(epochs)): _schedule(models, epochs, by_seed, seen)
            for epochs, by_seed in sorted(trained.items())
        },
    )


def _schedule(
    models: list[str],
    epochs: int,
    by_seed: dict[int, Runs],
    seen: dict[str, NDArray[np.float32]],
) -> Schedule:
    """One schedule; the test error, of which there is one a run, stands at its last epoch."""
    seeds = sorted(by_seed)
    valid = np.full((len(models), epochs, len(seeds)), np.nan)
    test = np.full_like(valid, np.nan)
    for place, seed in enumerate(seeds):
        for row, model in enumerate(models):
            if model in by_seed[seed]:
                valid[row, :, place], test[row, -1, place] = by_seed[seed][model]
    columns = {
        "valid_error": valid,
        "valid_best_error": np.minimum.accumulate(valid, axis=1),
        "test_error": test,
    }
    return Schedule(
        np.arange(1, epochs + 1, dtype=np.int32),
        np.array(seeds, np.int32),
        {name: values.astype(np.float32) for name, values in columns.items()} | seen,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1
