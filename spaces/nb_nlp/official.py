"""Reader of the training logs of NAS-Bench-NLP."""

import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data import Progress
from bench.space import Architecture, Space
from bench.table import Schedule, Table, TableError

NAME = re.compile(r"log_stats_model_.+\.json")
DATASETS = ("ptb", "wikitext-2")
EPOCHS = 50
LOSSES = {"train_loss": "train_losses", "valid_loss": "val_losses", "test_loss": "test_losses"}
COLUMNS = (*LOSSES, "elapsed_seconds")
FINISHED, DIVERGED = "OK", "loss is nan!"
STOPPED = ("KeyboardInterrupt", "Exception: ")  # the other ends that the published script writes
LARGEST = 1_000_000  # bytes of one log; the published ones have some 12,000
MOST = 100_000  # logs; there are some 27,000
MOST_CURVES = 2_000_000  # cells times training seeds: a column of them has 400 MB
WORST_GUESS = 12.0  # the log perplexity of guessing blindly is 9.2 on PTB, 10.4 on WikiText-2


class Run(NamedTuple):
    """One training."""

    dataset: str
    architecture: Architecture
    name: tuple[str, str]
    """The number of the experiment, padded to sort as numbers do, and when it began."""
    parameters: int
    curves: NDArray[np.float32]
    """`COLUMNS` over the epochs it reached, NaN where it diverged."""


def logs(source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress) -> Table:
    """A folder, at any depth, or zip files (there or as `source`) with `log_stats_model_*.json`.

    Losses are natural logarithms of perplexities, after each epoch; seconds are those of an
    epoch's training alone. Trainings of one network, in whatever order its nodes are written,
    are its training seeds, by ascending number of the experiment; a log that is there twice
    counts once. What comes after a training diverged or stopped is NaN.

    Raises:
        TableError: a log is damaged or foreign, or two of one training disagree.
    """
    runs: dict[tuple[str, int, tuple[str, str]], Run] = {}
    first: dict[int, Architecture] = {}  # by key
    for number, (name, text) in enumerate(progress(_texts(source))):
        if number == MOST:
            raise TableError(f"{source.name} holds more than {MOST:,} logs")
        run = _run(f"{source.name}: {name}", text, space)
        key = space.key(run.architecture)
        known = runs.setdefault((run.dataset, key, run.name), run)
        if known.parameters != run.parameters or not _same(known.curves, run.curves):
            raise TableError(f"{source.name}: {name} disagrees with another log of this training")
        first[key] = min(first.get(key, run.architecture), run.architecture)
    if not runs:
        raise TableError(
            f"{source.name} holds no files log_stats_model_*.json; "
            "allowed: those, in a folder or in zip files"
        )
    keys = sorted(first, key=first.__getitem__)
    rows = {key: row for row, key in enumerate(keys)}
    groups: dict[str, list[tuple[int, Run]]] = {}
    for (dataset, key, _), run in sorted(runs.items(), key=lambda item: item[0]):
        groups.setdefault(dataset, []).append((rows[key], run))
    return Table(
        dict(provenance),
        np.array([first[key] for key in keys], dtype=np.int8),
        {
            (dataset, str(EPOCHS)): _schedule(f"{source.name}: {dataset}", some, len(keys))
            for dataset, some in groups.items()
        },
    )


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=True)


def _texts(source: Path) -> Iterator[tuple[str, bytes]]:
    """The name and contents of every log, in the order of names."""
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for path in paths:
        name = path.name if path == source else path.relative_to(source).as_posix()
        if path.suffix == ".zip":
            yield from ((f"{name}/{member}", text) for member, text in _members(path))
        elif NAME.fullmatch(path.name):
            if path.stat().st_size > LARGEST:
                raise TableError(f"{source.name}: {name} is larger than {LARGEST:,} bytes")
            yield name, path.read_bytes()


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The logs of a zip file."""
    try:
        with zipfile.ZipFile(path) as file:
            for member in sorted(file.infolist(), key=lambda member: member.filename):
                if not NAME.fullmatch(member.filename.rsplit("/", 1)[-1]):
                    continue
                if member.file_size > LARGEST:
                    raise TableError(
                        f"{path.name}: {member.filename} is larger than {LARGEST:,} bytes"
                    )
                yield " ".join(member.filename.split()), file.read(member)
    except (
        OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise TableError(f"{path.name} cannot be read as zip: {error}") from None


def _run(where: str, text: bytes, space: Space) -> Run:
    """One log, checked."""
    try:
        log = json.loads(text)
    except (ValueError, RecursionError):
        raise TableError(f"{where} is not JSON") from None
    if not isinstance(log, dict):
        raise TableError(f"{where} is not a JSON object")
    for key, kind, what in KEYS:
        if not isinstance(log.get(key), kind) or isinstance(log.get(key), bool):
            raise TableError(f"{where}: {key} is missing or not {what}")
    dataset = log["data"].rstrip("/").rsplit("/", 1)[-1]
    if dataset not in DATASETS:
        raise TableError(f"{where}: data is {log['data'][:50]!r}; allowed: {', '.join(DATASETS)}")
    if log["epochs"] != EPOCHS:
        raise TableError(f"{where}: epochs is not {EPOCHS}")
    if not 0 < log["num_params"] < 1e12:
        raise TableError(f"{where}: num_params is not above zero and below 1e12")
    try:
        architecture = space.from_string(log["recepie"])
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None
    columns = {name: _numbers(where, log, name) for name in (*LOSSES.values(), "wall_times")}
    _check_curves(where, log["status"], columns)
    began, elapsed = log.get("init_time"), accumulate(columns["wall_times"])
    curves = np.array([*(columns[name] for name in LOSSES.values()), [*elapsed]])
    curves[curves > np.finfo(np.float32).max] = np.nan  # infinite, or as good as that
    return Run(
        dataset,
        architecture,
        (str(log["experiment_id"]).rjust(20), began if isinstance(began, str) else ""),
        log["num_params"],
        curves.astype(np.float32),
    )


KEYS = (
    *((name, str, "text") for name in ("data", "recepie", "status")),
    *((name, int, "a whole number") for name in ("epochs", "num_params")),
    ("experiment_id", int | str, "a number or text"),
    *((name, list, "a list") for name in (*LOSSES.values(), "wall_times")),
)


def _numbers(where: str, log: Mapping[str, Any], name: str) -> list[float]:
    values = log[name]
    if not all(isinstance(value, int | float) and type(value) is not bool for value in values):
        raise TableError(f"{where}: {name} holds what is no number")
    try:
        return [float(value) for value in values]
    except OverflowError:
        raise TableError(f"{where}: {name} holds a number that is too large") from None


def _check_curves(where: str, status: str, columns: Mapping[str, list[float]]) -> None:
    """Look at the lengths of the curves, at NaN and at signs, by how the training ended."""
    reached = {len(values) for values in columns.values()}
    if len(reached) > 1 or max(reached) > EPOCHS:
        raise TableError(f"{where}: its curves have {sorted(reached)} epochs; allowed: one number")
    (epochs,) = reached
    if not all(0 < seconds < 1e9 for seconds in columns["wall_times"]):
        raise TableError(f"{where}: wall_times are not all above zero seconds")
    losses = [columns[name] for name in LOSSES.values()]
    if any(loss < 0 for curve in losses for loss in curve):
        raise TableError(f"{where} has a loss below zero")
    lost = [epoch for epoch in range(epochs) if any(math.isnan(curve[epoch]) for curve in losses)]
    if status == FINISHED:
        good = epochs == EPOCHS and not lost
    elif status == DIVERGED:
        good = lost == [epochs - 1]
    else:
        good = status.startswith(STOPPED) and not lost
    if not good:
        raise TableError(
            f"{where}: status {status[:50]!r} after {epochs} epochs with NaN at {lost[:5]}; "
            f"allowed: {FINISHED!r} after {EPOCHS}, or {DIVERGED!r} with NaN at the last, or "
            f"what begins with {' or '.join(STOPPED)}"
        )


def _schedule(where: str, runs: list[tuple[int, Run]], rows: int) -> Schedule:
    """Arrays of the trainings on one data set, each with its row, in the order of seeds."""
    seeds = int(np.bincount([row for row, _ in runs]).max())
    if rows * seeds > MOST_CURVES:
        raise TableError(
            f"{where} has {seeds:,} trainings of one cell, and {rows:,} cells; "
            f"allowed: {MOST_CURVES // rows:,} of each, so that the table fits into memory"
        )
    columns = {name: np.full((rows, EPOCHS, seeds), np.nan, np.float32) for name in COLUMNS}
    parameters = np.full((rows, seeds), np.nan, np.float32)
    seen: dict[int, int] = {}
    for row, run in runs:
        seed = seen[row] = seen.get(row, -1) + 1
        for name, curve in zip(COLUMNS, run.curves, strict=True):
            columns[name][row, : len(curve), seed] = curve
        parameters[row, seed] = run.parameters
    lowest = np.nanmin(np.append(columns["valid_loss"], np.inf))
    if WORST_GUESS < lowest < np.inf:
        raise TableError(
            f"{where} has no validation loss below {lowest:.4g}; "
            f"allowed: logarithms of perplexities, some of them below {WORST_GUESS:g}"
        )
    return Schedule(
        np.arange(1, EPOCHS + 1, dtype=np.int32),
        np.arange(seeds, dtype=np.int32),
        columns | {"parameters": parameters},
    )
