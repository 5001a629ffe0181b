"""Reader of the published files of NAS-Bench-101, without TensorFlow."""

import binascii
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data import Progress
from bench.recipe import shown
from bench.space import Architecture, Space
from bench.table import Schedule, Table, TableError
from spaces.nb101.graph import md5_hash
from spaces.nb101.tfrecord import fields, read_records

DATASET = "cifar10"
LENGTHS = (4, 12, 36, 108)  # epochs of the four separate trainings of a cell
REPEATS = 3
FINAL = "final"
COLUMNS = ("elapsed_seconds", "train_error", "valid_error", "test_error")
_FEWEST = 3  # evaluations of a training: before it, half-way, at its end
_TAGS = bytes(number << 3 | 1 for number in range(1, 6))  # five doubles, in the usual order
_USUAL = struct.Struct("<49x" + "xd" * 5 + "2x" + "xd" * 5)  # evaluations 1 and 2 of three
_NAN = float("nan")
Floats = NDArray[np.float64]


def nasbench(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """`nasbench_full.tfrecord` or `nasbench_only108.tfrecord`: all trainings of every cell.

    A record is a JSON list of MD5 hash, epochs, adjacency, labels and, in base64, a message
    `ModelMetrics` (google-research/nasbench@b942470, api.py and model_metrics.proto). Of its
    evaluations the second is half-way and the third at the end of the training; accuracies are
    fractions, seconds are those of training so far. The repeats of a cell and a length are
    numbered from 0 in the order of the file.

    A length is a schedule, such as `"108"`, with epochs 54 and 108. Where the file has several
    lengths, the schedule `"final"` has the end of each: at 4, 12, 36 and 108 epochs, where a
    promotion is a new training.

    Raises:
        TableError: the file is damaged or foreign, or contradicts itself.
    """
    collected = _Collected(space)
    count = 0
    try:
        for payloads in read_records(source, progress):
            collected.add(payloads, count)
            count += len(payloads)
        schedules = collected.schedules()
    except _WrongError as error:
        raise TableError(f"{source.name}: {error}") from None
    except OSError as error:
        raise TableError(f"{source.name} cannot be read: {error.strerror}") from None
    genes = np.frombuffer(bytes(collected.genes), np.int8).reshape(-1, len(space.choices))
    return Table(dict(provenance), genes, schedules)


class _WrongError(Exception):
    """What is wrong with the contents; the message does not name the file."""


@dataclass(slots=True)
class _Cell:
    """What all records of a cell must agree on."""

    row: int
    spec: int
    """Hash of adjacency and labels, which were proved to have the cell's MD5."""
    parameters: int


class _Collected:
    """What was read so far: cells in the order of their first record, and all that was measured."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.cells: dict[bytes, _Cell] = {}
        self.genes = bytearray()
        self.repeats = bytearray()
        """How many trainings there were, of each cell and each length in turn."""
        self.measured: dict[int, NDArray[np.float32]] = {}
        """For each length: shape `[cells and room for more, columns, half and end, repeats]`."""

    def add(self, payloads: list[bytes], first: int) -> None:
        """Add a block of records, the first of which has the number `first` in the file."""
        places, rows = [], []
        for number, payload in enumerate(payloads, first):
            try:
                place, evaluations = self._read(payload)
            except (ValueError, RecursionError) as error:
                raise _WrongError(f"record {number} (from 0): {error}") from None
            places.append(place)
            rows.append(evaluations)
        if not rows:
            return
        where = np.array(places)
        values = np.array(rows).reshape(-1, 2, 5)
        _check(values, where[:, 1], first)
        for length in np.unique(where[:, 1]).tolist():
            into = self._room(length)
            some = where[:, 1] == length
            scores = values[some][:, :, 1:].swapaxes(1, 2)
            scores[:, 1:] = 1 - scores[:, 1:]
            into[where[some, 0], :, :, where[some, 2]] = scores

    def _read(self, payload: bytes) -> tuple[tuple[int, int, int], list[float]]:
        """The row, the length and the repeat of a record, and its two evaluations."""
        record = json.loads(payload.decode())
        if (
            type(record) is not list
            or [type(part) for part in record] != [str, int, str, str, str]
            or record[1] not in LENGTHS
        ):
            raise ValueError(
                f"{shown(record)} is not [hash, epochs, adjacency, operations, metrics] with "
                f"epochs one of {', '.join(map(str, LENGTHS))}"
            )
        published, length, adjacency, labels, metrics = record
        parameters, evaluations = _decode(metrics)
        cell = self._cell(published, adjacency, labels, parameters)
        counter = cell.row * len(LENGTHS) + LENGTHS.index(length)
        repeat = self.repeats[counter]
        if repeat == REPEATS:
            raise ValueError(
                f"cell {published} at {length} epochs stands there more than {REPEATS} times"
            )
        self.repeats[counter] += 1
        return (cell.row, length, repeat), evaluations

    def _cell(self, published: str, adjacency: str, labels: str, parameters: int) -> _Cell:
        spec = hash((adjacency, labels))
        identity = published.encode()
        cell = self.cells.get(identity)
        if cell is None or cell.spec != spec:
            arch = self._proved(published, adjacency, labels)
            if cell is None:
                cell = self.cells[identity] = _Cell(len(self.cells), spec, parameters)
                self.genes += bytes(arch)
                self.repeats += bytes(len(LENGTHS))
        if cell.parameters != parameters:
            raise ValueError(
                f"cell {published} has {parameters} parameters here and {cell.parameters} before"
            )
        return cell

    def _proved(self, published: str, adjacency: str, labels: str) -> Architecture:
        """The genes of a cell, if it has the hash that is published for it."""
        arch = self.space.from_string(f"{adjacency}:{labels}")
        size = labels.count(",") + 1
        matrix = [list(map(int, adjacency[at : at + size])) for at in range(0, size * size, size)]
        computed = md5_hash(matrix, labels.split(","))
        if computed != published:
            raise ValueError(
                f"the cell with adjacency {adjacency} and operations {labels} has the hash "
                f"{computed}, not {shown(published)}"
            )
        return arch

    def _room(self, length: int) -> NDArray[np.float32]:
        """The array of a length, grown if it has fewer rows than there are cells."""
        measured = self.measured.get(length)
        have = 0 if measured is None else len(measured)
        if measured is None or have < len(self.cells):
            rows = min(max(2 * have, len(self.cells)), max(self.space.networks, len(self.cells)))
            grown = np.full((rows, len(COLUMNS), 2, REPEATS), np.nan, np.float32)
            if measured is not None:
                grown[:have] = measured
            measured = self.measured[length] = grown
        return measured

    def schedules(self) -> dict[tuple[str, str], Schedule]:
        """The columns of each length, and of their ends together."""
        if not self.cells:
            raise _WrongError("it holds no record")
        lengths = sorted(self.measured)
        cells = self.cells.values()
        counts = np.frombuffer(self.repeats, np.uint8).reshape(-1, len(LENGTHS))
        there = [at for at, length in enumerate(LENGTHS) if length in lengths]
        short = int((counts[:, there] < REPEATS).sum())
        if short and len(self.cells) == self.space.networks:
            raise _WrongError(
                f"all {len(self.cells):,} cells are there, but {short:,} times one has fewer than "
                f"{REPEATS} trainings of a length"
            )
        parameters = np.array([cell.parameters for cell in cells], np.float32)
        ends: dict[str, list[NDArray[np.float32]]] = (
            {name: [] for name in COLUMNS} if len(lengths) > 1 else {}
        )
        schedules = {}
        for length in lengths:
            measured = self._room(length)[: len(cells)]
            columns = {name: measured[:, at].copy() for at, name in enumerate(COLUMNS)}
            del measured, self.measured[length]
            for name, values in ends.items():
                values.append(columns[name][:, 1:])
            schedules[DATASET, str(length)] = _schedule([length // 2, length], columns, parameters)
        if ends:
            together = {name: np.concatenate(values, 1) for name, values in ends.items()}
            schedules[DATASET, FINAL] = _schedule(lengths, together, parameters)
        return schedules


def _schedule(
    epochs: list[int], columns: dict[str, NDArray[np.float32]], parameters: NDArray[np.float32]
) -> Schedule:
    return Schedule(
        np.array(epochs, np.int32),
        np.arange(REPEATS, dtype=np.int32),
        {**columns, "parameters": parameters},
    )


def _decode(metrics: str) -> tuple[int, list[float]]:
    """The parameters in a `ModelMetrics` message, and the fields of its evaluations 1 and 2."""
    try:
        message = binascii.a2b_base64(metrics, strict_mode=True)
        if _is_usual(message):  # a third of the time
            evaluations, found = _FEWEST, list(_USUAL.unpack_from(message))
            parameters, _ = _fields(message[_USUAL.size :])
        else:
            parameters, some = _fields(message)
            evaluations = len(some)
            found = [number for part in some[1:_FEWEST] for number in _evaluation(part)]
    except ValueError as error:
        raise ValueError(f"its metrics are no ModelMetrics message: {error}") from None
    if evaluations < _FEWEST:
        raise ValueError(f"its metrics have {evaluations} evaluations, not {_FEWEST}")
    if not 0 < parameters < 1 << 31:
        raise ValueError(f"its metrics say {parameters} parameters")
    return parameters, found


def _is_usual(message: bytes) -> bool:
    """Whether it begins with three evaluations, of which two surely have all of five doubles."""
    return (
        message[:95:47] == b"\n\n\n"
        and message[1:96:47] == b"---"
        and message[49:94:9] == message[96:141:9] == _TAGS
        and len(message) >= _USUAL.size
    )


def _fields(message: bytes) -> tuple[int, list[bytes]]:
    """The parameters and the evaluations in a message."""
    parameters, evaluations = 0, []
    for number, wire, value in fields(message):
        if number == 1 and wire == 2 and isinstance(value, bytes):
            evaluations.append(value)
        elif number == 2 and wire == 0 and isinstance(value, int):
            parameters = value
        elif number in (1, 2):
            raise ValueError(f"wire type {wire} of field {number}")
    return parameters, evaluations


def _evaluation(message: bytes) -> list[float]:
    """Epoch, training seconds, train, validation and test accuracy; NaN where absent."""
    values = [_NAN] * 5
    for number, wire, value in fields(message):
        if 1 <= number <= 5:
            if wire != 1 or not isinstance(value, bytes):
                raise ValueError(f"wire type {wire} of field {number} of an evaluation")
            (values[number - 1],) = struct.unpack("<d", value)
    return values


@np.errstate(invalid="ignore")  # of some NaN
def _check(values: Floats, lengths: NDArray[np.int64], first: int) -> None:
    """Look at the evaluations of a block of records.

    Args:
        values: shape `[records, 2, 5]`; the epoch alone may be absent.
        lengths: epochs of the trainings, shape `[records]`.
    """
    epochs, seconds, accuracies = values[..., 0], values[..., 1], values[..., 2:]
    expected = lengths[:, None] / [2, 1]
    for are_good, what, wrong, allowed in (
        (
            (accuracies >= 0) & (accuracies <= 1),
            "accuracy",
            accuracies,
            "fractions from 0 to 1",
        ),
        (
            (seconds > 0) & (seconds < 1e9) & (seconds >= seconds[:, :1]),
            "training time",
            seconds,
            "seconds above 0 and below 10^9 that do not go down",
        ),
        (
            np.isnan(epochs) | (abs(epochs - expected) < 1),
            "epoch",
            epochs,
            "half of the training, then its end",
        ),
    ):
        if not are_good.all():
            at = np.unravel_index((~are_good).argmax(), are_good.shape)
            raise _WrongError(
                f"record {first + at[0]} (from 0): {what} {wrong[at]:g}; allowed: {allowed}"
            )
