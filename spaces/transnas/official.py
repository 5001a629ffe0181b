"""Reader of the published TransNAS-Bench-101 file."""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.data import Progress
from bench.pickled import open_torch
from bench.space import Architecture, Space
from bench.table import Schedule, Table, TableError

LARGEST = 1 << 30  # bytes: some 16 kB for each of 7,352 networks are expected
SPLITS = ("train", "valid", "test")
VISIBLE = {  # of `model_info`: our name, and the range of what are plain counts, or seconds
    "model_params": ("parameters", 1e4, 1e10),
    "model_FLOPs": ("flops", 1e6, 1e14),
    "inference_time": ("latency", 1e-6, 10.0),
}
MOST_EPOCHS = 1000
T = TypeVar("T")


class Metric(NamedTuple):
    """The headline metric of a task, and what makes it one of which less is better."""

    name: str
    column: str
    lowest: float
    highest: float
    turned: Callable[[NDArray[np.float64]], NDArray[np.float64]]


# Units by lib/models/utils.py (get_topk_acc, get_iou) and lib/models/task_models (ssim, loss)
ACCURACY = Metric("top1", "error", 0, 100, lambda percent: 1 - percent / 100)
IOU = Metric("mIoU", "error", 0, 100, lambda percent: 1 - percent / 100)
SSIM = Metric("ssim", "loss", -1, 1, lambda ssim: 1 - ssim)  # to 2, where structures are opposed
NEGATED_LOSS = Metric("neg_loss", "loss", -1e30, 0, lambda negated: -negated)
TASKS = {
    "class_scene": ACCURACY,
    "class_object": ACCURACY,
    "room_layout": NEGATED_LOSS,
    "jigsaw": ACCURACY,
    "segmentsemantic": IOU,
    "normal": SSIM,
    "autoencoder": SSIM,
}


def transnas(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """One of the two spaces in `transnas-bench_v10141024.pth`: seven tasks, every epoch.

    `data[space][architecture][task]` holds `total_epochs`, `metrics` (lists over epochs) and
    `model_info`. Parameters, flops and latency are taken where all of a task are what they seem,
    plain counts and seconds; `time_elapsed` where it rises from epoch to epoch.

    Raises:
        TableError: `source` is not that file, or a value of it is not what it should be.
    """
    spaces = _entry(_load(source), "data", dict, source.name)
    part = space.name.removeprefix("transnas_")
    records = _entry(spaces, part, dict, f"{source.name}, data")
    genes = [_genes(source, space, text) for text in records]
    for text, tasks in records.items():
        if not isinstance(tasks, dict) or not tasks or tasks.keys() - TASKS.keys():
            raise TableError(
                f"{source.name}, {text!r}: it holds no tasks, or others than {', '.join(TASKS)}"
            )
    schedules = {}
    for task in progress(TASKS, len(TASKS)):
        where = [f"{source.name}, {text!r}, {task}" for text in records]
        if found := _schedule([tasks.get(task) for tasks in records.values()], where, TASKS[task]):
            schedules[task, str(len(found.epochs))] = found
    architectures = np.array(genes, np.int8).reshape(-1, len(space.choices))
    return Table(dict(provenance), architectures, schedules)


def _load(source: Path) -> Any:
    try:
        with open_torch(source, largest=LARGEST) as machine:
            return machine.load()
    except TableError as error:
        named = source.name in str(error)
        raise TableError(str(error) if named else f"{source.name}: {error}") from None


def _entry(record: Any, key: str, kind: type[T], where: str) -> T:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TableError(f"{where}: it has no {key}, or one that is no {kind.__name__}")
    return value


def _genes(source: Path, space: Space, text: Any) -> Architecture:
    try:
        return space.from_string(text if isinstance(text, str) else repr(text))
    except ValueError as error:
        raise TableError(f"{source.name}: {error}") from None


def _schedule(records: list[Any], where: list[str], metric: Metric) -> Schedule | None:
    """One task of all networks, where `where` says what a record is; None where it has none."""
    there = [row for row, record in enumerate(records) if record is not None]
    if not there:
        return None
    epochs = _epochs([records[row] for row in there], [where[row] for row in there])
    shape = len(records), epochs, 1
    curves = {split: np.full(shape, np.nan) for split in SPLITS}
    elapsed, sizes = np.full(shape, np.nan), np.full((len(records), len(VISIBLE)), np.nan)
    for row in there:
        metrics = _entry(records[row], "metrics", dict, where[row])
        info = _entry(records[row], "model_info", dict, where[row])
        for split, values in curves.items():
            values[row, :, 0] = _curve(metrics, split, metric, epochs, where[row])
        elapsed[row, :, 0] = _elapsed(metrics.get("time_elapsed"), epochs)
        sizes[row] = [_number(info.get(key)) for key in VISIBLE]
    columns = {}
    for split, values in curves.items():
        if metric.highest == 100 and np.nanmax(values, initial=0) <= 1:
            name = f"{split}_{metric.name}"
            raise TableError(f"{where[there[0]]}: {name} is given in fractions; allowed: percent")
        columns[f"{split}_{metric.column}"] = metric.turned(values)
    if not np.isnan(elapsed[there]).any():
        columns["elapsed_seconds"] = elapsed
    for (name, low, high), values in zip(VISIBLE.values(), sizes.T, strict=True):
        if ((low <= values[there]) & (values[there] <= high)).all():  # so all of them have one unit
            columns[name] = values
    return Schedule(
        np.arange(1, epochs + 1, dtype=np.int32),
        np.zeros(1, np.int32),
        {name: values.astype(np.float32) for name, values in columns.items()},
    )


def _epochs(records: list[Any], where: list[str]) -> int:
    """For how long a task was trained, which must be the same for every network."""
    expected = 0
    for record, place in zip(records, where, strict=True):
        epochs = _entry(record, "total_epochs", int, place)
        expected = expected or epochs
        if epochs != expected or not 0 < epochs <= MOST_EPOCHS:
            raise TableError(
                f"{place}: total_epochs is {epochs}; allowed: one number for all networks, "
                f"from 1 to {MOST_EPOCHS}"
            )
    return expected


def _curve(
    metrics: Mapping[Any, Any], split: str, metric: Metric, epochs: int, where: str
) -> NDArray[np.float64]:
    """One value an epoch; NaN where the file says so, as of a training that diverged."""
    name = f"{split}_{metric.name}"
    values = metrics.get(name)
    if not isinstance(values, list) or len(values) != epochs or not all(map(_is_number, values)):
        raise TableError(f"{where}: {name} is no list of {epochs} numbers, one an epoch")
    numbers = np.array([_number(value) for value in values])
    if ((numbers < metric.lowest) | (numbers > metric.highest)).any():
        raise TableError(
            f"{where}: {name} goes from {np.nanmin(numbers):g} to {np.nanmax(numbers):g}; "
            f"allowed: {metric.lowest:g} to {metric.highest:g}"
        )
    return numbers


def _elapsed(times: Any, epochs: int) -> list[float]:
    """Seconds since training began, after each epoch; NaN where times do not rise or lack."""
    seconds = [_seconds(time) for time in times] if isinstance(times, list) else []
    rises = all(before < after for before, after in pairwise([0.0, *seconds]))
    return seconds if rises and len(seconds) == epochs else [np.nan] * epochs


def _seconds(time: Any) -> float:
    """Of a text `hh:mm:ss` (lib/models/utils.py, Timer), or of a number."""
    if not isinstance(time, str):
        return _number(time)
    found = re.fullmatch(r"(\d{2,4}):(\d\d):(\d\d)", time, re.ASCII)
    hours, minutes, seconds = map(float, found.groups()) if found else (np.nan,) * 3
    return 3600 * hours + 60 * minutes + seconds


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    """NaN for what is no number; infinite where it leaves the floats."""
    try:
        return float(value) if _is_number(value) else np.nan
    except OverflowError:
        return np.inf if value > 0 else -np.inf
