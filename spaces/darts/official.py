"""Reader of the training logs from which NAS-Bench-301 was made (Zela et al., ICLR 2022)."""

import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from math import isclose, prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import Progress
from bench.space import Architecture, Space
from bench.table import Schedule, Table, TableError
from spaces.darts.space import PREFIX, from_config

EPOCHS = 100
# What every log was trained with (automl/nasbench301@58ca2cb, nasbench301/api.py)
FIXED = {
    "SimpleLearningrateSchedulerSelector:cosine_annealing:T_max": EPOCHS,
    f"{PREFIX}layers": 8,
    f"{PREFIX}init_channels": 32,
    "CreateImageDataLoader:batch_size": 96,
    "OptimizerSelector:sgd:learning_rate": 0.025,
    "OptimizerSelector:sgd:weight_decay": 0.0003,
}
CONFIG = "optimized_hyperparamater_config"  # spelt so in the logs
LOG = re.compile(r"results_\w{1,50}\.json", re.ASCII)
LARGEST_LOG = 1 << 20  # bytes; one with curves has some tens of thousands
MOST_LOGS = 200_000
MOST_NUMBERS = 400_000_000  # of a column, which then takes 1.6 GB
LONGEST_RUN = 1e7  # seconds of one training, four months; it takes some hours
MOST_PARAMETERS = 1e9  # a network has some millions
MODELS = ("surrogate_model.model", "model_config.json")  # what the folders of `nb_models` hold


@dataclass(frozen=True)
class Log:
    """One training. Accuracies are in percent, as written."""

    name: str
    train: NDArray[np.float64]
    """After every epoch that its curve records, and then at the end of the schedule."""
    valid: NDArray[np.float64]
    test: float
    seconds: float
    """Of the whole training."""
    parameters: float

    @property
    def measured(self) -> tuple[Any, ...]:
        """What no two trainings have in common."""
        return self.train.tobytes(), self.valid.tobytes(), self.test, self.seconds


def training_logs(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """The logs `results_*.json`, in a folder for every optimiser, or the zip file of these.

    A log is one training: `info[0].val_accuracy` and `test_accuracy` in percent at its end,
    `runtime` in seconds, and in the full data the curves `Train/train_accuracy` and
    `Train/val_accuracy`. Trainings of one architecture become its training seeds, numbered from
    0 by the names of their files; a log that repeats another one number by number is left out.

    Raises:
        TableError: a log is damaged, foreign or of another training, or there is none.
    """
    found: dict[Architecture, list[Log]] = {}
    with _opened(source) as (names, read):
        for name in progress(names, len(names)):
            arch, log = _parse(name, read(name))
            logs = found.setdefault(arch, [])
            if all(log.measured != other.measured for other in logs):
                logs.append(log)
    return Table(
        dict(provenance),
        np.array(list(found), dtype=np.int8),
        {("cifar10", str(EPOCHS)): _schedule(source.name, list(found.values()))},
    )


def _schedule(source: str, found: list[list[Log]]) -> Schedule:
    most = max(found, key=len)
    curve = max(len(column) for logs in found for log in logs for column in (log.train, log.valid))
    shape = (len(found), curve, len(most))  # of a curve the end stands apart, at epoch 100
    if prod(shape) > MOST_NUMBERS:
        raise TableError(
            f"{source}: {len(found):,} architectures at {curve} epochs with up to {len(most):,} "
            f"logs each, such as {most[0].name}, are more than {MOST_NUMBERS:,} numbers a column"
        )
    train, valid, test = (np.full(shape, np.nan, np.float32) for _ in range(3))
    for row, logs in enumerate(found):
        for seed, log in enumerate(logs):
            test[row, -1, seed] = 1 - log.test / 100
            for errors, percent in (train, log.train), (valid, log.valid):
                errors[row, : len(percent) - 1, seed] = 1 - percent[:-1] / 100
                errors[row, -1, seed] = 1 - percent[-1] / 100
    epoch_seconds = [sum(log.seconds for log in logs) / len(logs) / EPOCHS for logs in found]
    return Schedule(
        np.array([*range(1, curve), EPOCHS], np.int32),
        np.arange(len(most), dtype=np.int32),
        {
            "train_error": train,
            "valid_error": valid,
            "test_error": test,
            "train_seconds": np.array(epoch_seconds, np.float32),
            "parameters": np.array([_parameters(source, logs) for logs in found], np.float32),
        },
    )


def _parameters(source: str, logs: list[Log]) -> float:
    for log in logs:
        if log.parameters != logs[0].parameters:
            raise TableError(
                f"{source}: {logs[0].name} and {log.name} are of one architecture, with "
                f"{logs[0].parameters:,.0f} and {log.parameters:,.0f} parameters"
            )
    return logs[0].parameters


def _parse(name: str, text: bytes) -> tuple[Architecture, Log]:
    try:
        record = json.loads(text)
        config, info = record[CONFIG], record["info"][0]
        for key, expected in FIXED.items():
            if not isclose(_number(config, key), expected, rel_tol=1e-6):
                raise ValueError(f"{key} is {config[key]}; NAS-Bench-301 trained with {expected}")
        curves = record.get("learning_curves") or {}
        train, valid = (
            np.array([*_curve(curves, f"Train/{key}"), _percent(info, key)])
            for key in ("train_accuracy", "val_accuracy")
        )
        test, seconds = _percent(record, "test_accuracy"), _number(record, "runtime")
        parameters = _number(info, "model_parameters")
        if not 0 < seconds < LONGEST_RUN or not 0 < parameters < MOST_PARAMETERS:
            raise ValueError(
                f"runtime is {seconds:g} and model_parameters {parameters:g}; allowed: above 0, "
                f"below {LONGEST_RUN:g} seconds and {MOST_PARAMETERS:g}"
            )
        return from_config(config), Log(name, train, valid, test, seconds, parameters)
    except (KeyError, IndexError, TypeError, AttributeError):
        keys = f"{CONFIG}, info, test_accuracy, runtime"
        raise TableError(f"{name} is no training log of NAS-Bench-301 with {keys}") from None
    except RecursionError:
        raise TableError(f"{name} is no training log: it is nested too deeply") from None
    except ValueError as error:
        raise TableError(f"{name}: {error}") from None


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise ValueError(f"{key} is {str(value)[:50]!r}; allowed: a finite number")
    return float(value)


def _percent(record: Mapping[str, Any], key: str) -> float:
    value = _number(record, key)
    if not 0 <= value <= 100 or 0 < value <= 1:
        raise ValueError(f"{key} is {value:g}; allowed: percent, above 1 and up to 100, or 0")
    return value


def _curve(curves: Mapping[str, Any], key: str) -> list[float]:
    """The accuracies after epochs 1, 2, … before the last of the schedule."""
    values = curves.get(key, [])
    if not isinstance(values, list) or len(values) > EPOCHS:
        raise ValueError(f"{key} is no list of {EPOCHS} numbers or fewer")
    return [_percent({key: value}, key) for value in values[: EPOCHS - 1]]


@contextmanager
def _opened(source: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """The names of the logs in a folder or a zip file, in order, and how to read one."""
    if source.is_dir():
        yield _wanted(source.name, _listed(source)), lambda name: _read_file(source, name)
        return
    try:
        with zipfile.ZipFile(source) as file:
            infos = [info for info in file.infolist() if info.filename[-1:] != "/"]
            members = {info.filename: info for info in infos}
            if len(members) < len(infos):
                raise TableError(f"{source.name} lists a member twice")
            sizes = {name: _checked(source.name, info) for name, info in members.items()}
            yield _wanted(source.name, sizes), lambda name: file.read(members[name])
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError, RuntimeError) as error:
        # RuntimeError: a member is encrypted; NotImplementedError is one
        raise TableError(
            f"{source.name} is neither a folder of training logs nor a sound zip file of one: "
            f"{error}"
        ) from None


def _listed(source: Path) -> dict[str, int]:
    """The files of a folder and the folders in it, with their sizes; no link is followed."""
    sizes = {}
    for folder, _, files in os.walk(source):
        for file in files:
            path = Path(folder, file)
            facts = path.lstat()
            name = path.relative_to(source).as_posix()
            if LOG.fullmatch(file) and not stat.S_ISREG(facts.st_mode):
                raise TableError(f"{source.name}: {name} is a link or no plain file")
            sizes[name] = facts.st_size
    return sizes


def _read_file(source: Path, name: str) -> bytes:
    try:
        return (source / name).read_bytes()
    except OSError as error:
        raise TableError(f"{source / name} cannot be read: {error.strerror}") from None


def _checked(source: str, info: zipfile.ZipInfo) -> int:
    """The size of a member of a zip file that stays in its folder."""
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or re.search(r"[\\:]", info.filename):
        raise TableError(f"{source}: the member {info.filename[:200]!r} would leave its folder")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise TableError(f"{source}: the member {info.filename[:200]!r} is a link")
    return info.file_size


def _wanted(source: str, sizes: Mapping[str, int]) -> list[str]:
    """The logs among the files of a source, given with their sizes."""
    for name in sizes:
        if PurePosixPath(name).name in MODELS:
            raise TableError(
                f"{source}: {name} belongs to a pickled model of NAS-Bench-301, and such are never "
                "loaded, as that could run code; import the training logs, and objective=surrogate "
                "fits models of its own to them"
            )
    names = sorted(name for name in sizes if LOG.fullmatch(PurePosixPath(name).name))
    if not 0 < len(names) <= MOST_LOGS:
        raise TableError(
            f"{source} holds {len(names):,} training logs results_<number>.json; "
            f"allowed: 1 to {MOST_LOGS:,}"
        )
    for name in names:
        if sizes[name] > LARGEST_LOG:
            raise TableError(
                f"{source}: {name} has {sizes[name]:,} bytes; allowed: {LARGEST_LOG:,}"
            )
    return names
