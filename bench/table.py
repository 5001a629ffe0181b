"""The table file: one HDF5 file of measured metrics for a space; and the objective that reads it.

    /                      format, space, source, licence, citation, source_sha256, notes
    /architectures         int8 [N, genes]
    /<dataset>/<schedule>  one group a training schedule
        epochs             int32 [E]      the epochs at which errors were recorded, ascending
        seeds              int32 [S]      training seeds, as the source names them
        *_error            float32 [N, E, S]   fractions; NaN where a seed is missing
        train_seconds      float32 [N]    one training epoch
        valid_seconds      float32 [N]    one pass over the validation set, where known
        parameters, …      float32 [N] or [N, S]   whatever may be seen without training

Columns are fixed-width and checksummed, and readable without this project.
"""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.protocol import Protocol
from bench.search import Evaluation, Objective, Query
from bench.space import Architecture, Space

Answers = tuple[Any, ...]  # one a training seed, then 64 bits that stand for the architecture

FORMAT = "nas-arena table 1"
PROVENANCE = ("space", "source", "source_sha256", "licence", "citation", "notes")
_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, made odd (Knuth, TAOCP 3, section 6.4)


class TableError(Exception):
    """A table that is absent, damaged or foreign; the message is one sentence."""


@dataclass
class Schedule:
    """What is known of one data set under one training schedule; arrays as in the file."""

    epochs: NDArray[np.int32]
    seeds: NDArray[np.int32]
    columns: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass
class Table:
    """A whole table in memory. `provenance` holds the texts named in `PROVENANCE`."""

    provenance: dict[str, str]
    architectures: NDArray[np.int8]
    schedules: dict[tuple[str, str], Schedule]


def data_folder() -> Path:
    """Where imported tables lie: `$NAS_ARENA_DATA`, else `$TORCH_HOME`, else `~/.nas-arena`."""
    folder = os.environ.get("NAS_ARENA_DATA") or os.environ.get("TORCH_HOME")
    return Path(folder).expanduser() if folder else Path.home() / ".nas-arena"


def shipped_folder(space: Space) -> Path:
    """The folder `tables` beside the module of the space."""
    return Path(str(sys.modules[type(space).__module__].__file__)).parent / "tables"


def find_table(space: Space, name: str) -> Path:
    """The file `<name>.h5` in the data folder, else among those that ship with the space.

    Raises:
        TableError: there is none.
    """
    folders = [data_folder(), shipped_folder(space)]
    for folder in folders:
        if (path := folder / f"{name}.h5").is_file():
            return path
    here = sorted({path.stem for folder in folders for path in folder.glob("*.h5")})
    raise TableError(
        f"table {name!r} is neither in {folders[0]} nor shipped with {space.name}; "
        f"here: {', '.join(here) or 'none'}; `nas-arena data list` says where others come from"
    )


def digest_file(path: Path) -> Path:
    """The file beside a table that holds its SHA-256, in the format of `sha256sum`."""
    return path.with_suffix(".h5.sha256")


def write_table(table: Table, path: Path) -> str:
    """Write a table and, beside it, its SHA-256, which is returned. Equal tables, equal bytes.

    A write that fails leaves the table and the digest that were there.
    """
    new_table = path.with_name(f".{path.name}.{os.getpid()}")
    new_digest = path.with_name(f".{digest_file(path).name}.{os.getpid()}")
    try:
        _write_file(table, new_table)
        digest = sha256(new_table)
        new_digest.write_text(f"{digest}  {path.name}\n")
        for file in new_table, new_digest:
            _flush(file)
        _put_in_place(new_table, new_digest, path)
    finally:
        new_table.unlink(missing_ok=True)
        new_digest.unlink(missing_ok=True)
    return digest


def _write_file(table: Table, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["format"] = np.bytes_(FORMAT)
        for key in PROVENANCE:
            file.attrs[key] = np.bytes_(table.provenance[key].encode())
        _write_column(file, "architectures", table.architectures)
        for (dataset, schedule), known in table.schedules.items():
            group = file.create_group(f"{dataset}/{schedule}")
            columns = {"epochs": known.epochs, "seeds": known.seeds, **known.columns}
            for name, values in columns.items():
                _write_column(group, name, values)


def _flush(path: Path) -> None:
    """Wait until a file is on the disk: a rename must not get there before the contents."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _put_in_place(new_table: Path, new_digest: Path, path: Path) -> None:
    """Rename both, back to back; should the second fail, the old digest comes back."""
    place = digest_file(path)
    old = place.read_bytes() if place.exists() else None
    new_digest.replace(place)
    try:
        new_table.replace(path)
    except BaseException:
        if old is None:
            place.unlink()
        else:
            place.write_bytes(old)
        raise


def _write_column(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    group.create_dataset(name, data=values, compression=9, shuffle=True, fletcher32=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_table(path: Path) -> Iterator[tuple[h5py.File, str]]:
    """Check the digest, then open the file; yields it with its SHA-256.

    Raises:
        TableError: the file is not one that this project wrote, or has changed since.
    """
    try:
        expected = digest_file(path).read_text().split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        raise TableError(
            f"{path} has no digest in {digest_file(path).name} beside it; "
            "make tables with `nas-arena data import`"
        ) from None
    digest = sha256(path)
    if digest != expected:
        raise TableError(
            f"{path} is damaged or was changed: its SHA-256 is {digest[:12]}…, "
            f"not {expected[:12]}… as when it was made"
        )
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise TableError(f"{path} is not an HDF5 file") from None
    with file:
        if file.attrs.get("format") != FORMAT.encode():
            raise TableError(f"{path} is not a table of this project ({FORMAT!r})")
        yield file, digest


def column_names(file: h5py.File, dataset: str, schedule: str) -> list[str]:
    """The columns of one group of an open table.

    Raises:
        TableError: the data set or the schedule is not there; the message says which there are.
    """
    group: Any = file
    for kind, key in ("dataset", dataset), ("schedule", schedule):
        there = [name for name in group if isinstance(group[name], h5py.Group)]
        if key not in there:
            where = Path(file.filename).name
            raise TableError(f"{kind} {key!r} is not in table {where}; it has {', '.join(there)}")
        group = group[key]
    return [name for name in group if name not in ("epochs", "seeds")]


def read_schedule(file: h5py.File, dataset: str, schedule: str, columns: Sequence[str]) -> Schedule:
    """Read the named columns of one group of an open table.

    Raises:
        TableError: the data set, the schedule or a column is not there; the message says
            which there are.
    """
    there = column_names(file, dataset, schedule)
    for column in columns:
        if column not in there:
            raise TableError(
                f"{column} is not in table {Path(file.filename).name} for {dataset}, "
                f"schedule {schedule}; it has {', '.join(there)}"
            )
    group = file[dataset][schedule]
    return Schedule(
        group["epochs"][:], group["seeds"][:], {name: group[name][:] for name in columns}
    )


def read_table(path: Path) -> Table:
    """Read a whole table.

    Raises:
        TableError: see `open_table`.
    """
    with open_table(path) as (file, _):
        return Table(
            {key: file.attrs[key].decode() for key in PROVENANCE},
            file["architectures"][:],
            {
                (dataset, schedule): read_schedule(
                    file, dataset, schedule, column_names(file, dataset, schedule)
                )
                for dataset in file
                if dataset != "architectures"
                for schedule in file[dataset]
            },
        )


def mean_over_seeds(errors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean over the last axis of the seeds that are there; NaN where there is none."""
    there = ~np.isnan(errors)
    count = there.sum(-1)
    total = np.where(there, errors, 0).sum(-1, dtype=np.float64)
    mean: NDArray[np.float64] = np.full(count.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


class TableObjective(Objective):
    """Answers from a table, of which it reads the columns that its protocol names."""

    def __init__(
        self, space: Space, dataset: str, protocol: Protocol, *, table: str | None = None
    ) -> None:
        """`table`: the name of the file, without `.h5`; by default the name of the space.

        Raises:
            TableError: the table is not here, is damaged, or lacks what the protocol names.
        """
        self.space, self.dataset, self.protocol, self.table = space, dataset, protocol, table
        seconds = ["train_seconds"]
        if protocol.validation_pass == "charged":
            seconds.append("valid_seconds")
        path = find_table(space, table or space.name)
        with open_table(path) as (file, self.digest):
            if file.attrs["space"] != space.name.encode():
                raise TableError(
                    f"{path} is of space {file.attrs['space'].decode()}, not {space.name}"
                )
            visible = [
                name
                for name in column_names(file, dataset, protocol.schedule)
                if not name.endswith(("_error", "_seconds"))
            ]
            names = [protocol.metric, *seconds, *visible]
            signal = read_schedule(file, dataset, protocol.schedule, names)
            report = read_schedule(file, dataset, protocol.report_schedule, protocol.report)
            genes = file["architectures"][:]
        recorded = signal.epochs.tolist()
        absent = [epoch for epoch in protocol.fidelities if epoch not in recorded]
        if absent:
            raise TableError(
                f"fidelities {absent} are not in table {path.name} for {dataset}, schedule "
                f"{protocol.schedule}; it has {', '.join(map(str, recorded))}"
            )
        self._row = dict(zip(map(tuple, genes.tolist()), range(len(genes)), strict=True))
        keys = self._keys(genes)
        self._rows_by_key = keys.argsort()
        self._sorted_keys = keys[self._rows_by_key]
        if (self._sorted_keys[1:] == self._sorted_keys[:-1]).any():
            raise TableError(f"{path} lists an architecture twice")
        errors = signal.columns[protocol.metric]
        if protocol.noise == "mean":
            errors = mean_over_seeds(errors)[..., None].astype(np.float32)
        self._errors = {
            epoch: errors[:, recorded.index(epoch)].tolist() for epoch in protocol.fidelities
        }
        self._seconds = [signal.columns[name].tolist() for name in seconds]
        columns = {name: signal.columns[name] for name in visible}
        self._metrics = {
            name: (values if values.ndim == 1 else mean_over_seeds(values)).tolist()
            for name, values in columns.items()
        }
        self._report = {
            name: mean_over_seeds(report.columns[name][:, -1]) for name in protocol.report
        }
        self.optimum = {name: float(np.nanmin(values)) for name, values in self._report.items()}
        self._known: dict[tuple[int, int], dict[Architecture, Answers]] = defaultdict(dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes read the table themselves."""
        return partial(TableObjective, table=self.table), (self.space, self.dataset, self.protocol)

    def evaluate(self, query: Query, noise: int, trained: int) -> Evaluation:
        architecture, epoch = query
        known = self._known[epoch, trained]
        answers = known.get(architecture)
        if answers is None:
            answers = known[architecture] = self._read(architecture, epoch, trained)
        draw = (answers[-1] ^ noise) * _ODD & _MASK
        evaluation: Evaluation = answers[draw * (len(answers) - 1) >> 64]
        return evaluation

    def _read(self, architecture: Architecture, epoch: int, trained: int) -> Answers:
        """The answer under each training seed, then 64 bits that stand for the architecture."""
        if architecture not in self._row or epoch not in self._errors:
            raise LookupError(
                f"{architecture} at {epoch} epochs was asked for; {self.space.name} on "
                f"{self.dataset} has {len(self._row):,} architectures at "
                f"{', '.join(map(str, self._errors))} epochs"
            )
        row = self._row[architecture]
        train, *valid = self._seconds
        seconds = (epoch - trained) * train[row] + sum(column[row] for column in valid)
        metrics = {name: column[row] for name, column in self._metrics.items()}
        answers = [
            Evaluation(error, seconds, metrics)
            for error in self._errors[epoch][row]
            if error == error  # NaN: this training seed is missing
        ]
        if not answers:
            raise LookupError(f"the table has no error for {architecture} at {epoch} epochs")
        spread = hashlib.blake2b(str(architecture).encode(), digest_size=8).digest()
        return *answers, int.from_bytes(spread)

    def report(self, architectures: ArrayLike) -> Mapping[str, NDArray[np.float64]]:
        keys = self._keys(np.asarray(architectures))
        place = np.searchsorted(self._sorted_keys, keys).clip(max=len(self._sorted_keys) - 1)
        if (self._sorted_keys[place] != keys).any():
            raise LookupError(f"the table of {self.space.name} lacks an architecture to report on")
        rows = self._rows_by_key[place]
        return {name: values[rows] for name, values in self._report.items()}

    @staticmethod
    def _keys(genes: NDArray[Any]) -> NDArray[np.uint64]:
        """64 bits for each row of genes, by odd powers modulo 2^64: one key, one architecture."""
        powers = [pow(_ODD, gene + 1, 1 << 64) for gene in range(genes.shape[1])]
        return genes.astype(np.uint64) @ np.array(powers, dtype=np.uint64)
