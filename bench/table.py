"""The table file: one HDF5 file of measured metrics for a space; and the objective that reads it.

    /                      format, space, source, licence, citation, source_sha256, notes;
                           coverage, `partial`, where a row lacks errors that others have
    /architectures         int8 [N, genes]
    /keys, /rows           uint64, int32 [K]   `Space.aliases`, ascending: which row a key finds
    /<dataset>/<schedule>  one group a training schedule
        epochs             int32 [E]      the epochs at which errors were recorded, ascending
        seeds              int32 [S]      training seeds, as the source names them
        *_error            float32 [N, E, S]   fractions; NaN where a seed is missing
        *_loss             float32 [N, E, S]   where the benchmark measures no fraction
        train_seconds      float32 [N]    one training epoch
        elapsed_seconds    float32 [N, E, S]   or, instead, all training up to that epoch
        valid_seconds      float32 [N]    one pass over the validation set, where known
        parameters, …      float32 [N] or [N, S]   whatever may be seen without training

A row that is NaN throughout a group was not trained there. Columns are fixed-width and
checksummed, and readable without this project; an epoch of a column is read by itself.
"""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.guard import ForeignError, check_structure, read_text
from bench.protocol import Protocol
from bench.search import Evaluation, Objective, Query
from bench.space import Architecture, Space

Answers = tuple[Any, ...]  # one a training seed, then 64 bits that stand for the architecture

FORMAT = "nas-arena table 2"
PROVENANCE = ("space", "source", "source_sha256", "licence", "citation", "notes")
SCORES = ("_error", "_loss")  # ends of the columns that training gives
HIDDEN = (*SCORES, "_seconds")  # and of all that no strategy may look at
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
        f"here: {', '.join(here) or 'none'}; `nas-arena space {space.name}` says which would do"
    )


def digest_file(path: Path) -> Path:
    """The file beside a table that holds its SHA-256, in the format of `sha256sum`."""
    return path.with_suffix(".h5.sha256")


def write_table(table: Table, space: Space, path: Path) -> str:
    """Write a table and, beside it, its SHA-256, which is returned. Equal tables, equal bytes.

    A write that fails leaves the table and the digest that were there.
    """
    new_table = path.with_name(f".{path.name}.{os.getpid()}")
    new_digest = path.with_name(f".{digest_file(path).name}.{os.getpid()}")
    try:
        new_table.write_bytes(_image(table, space))
        digest = sha256(new_table)
        new_digest.write_text(f"{digest}  {path.name}\n")
        for file in new_table, new_digest:
            _flush(file)
        _put_in_place(new_table, new_digest, path)
    finally:
        new_table.unlink(missing_ok=True)
        new_digest.unlink(missing_ok=True)
    return digest


def _image(table: Table, space: Space) -> bytes:
    """The file, made in memory: HDF5 crashes the process where a disk is full."""
    with h5py.File("table", "w", driver="core", backing_store=False) as file:
        file.attrs["format"] = np.bytes_(FORMAT)
        for key in PROVENANCE:
            file.attrs[key] = np.bytes_(table.provenance[key].encode())
        columns = [some for known in table.schedules.values() for some in known.columns.items()]
        if any(name.endswith(SCORES) and has_holes(values) for name, values in columns):
            file.attrs["coverage"] = np.bytes_("partial")  # so that a listing need not look
        _write_column(file, "architectures", table.architectures)
        keys, rows = space.aliases(table.architectures)
        order = keys.argsort(kind="stable")
        _write_column(file, "keys", keys[order])
        _write_column(file, "rows", rows[order].astype(np.int32))
        for (dataset, schedule), known in table.schedules.items():
            group = file.create_group(f"{dataset}/{schedule}")
            arrays = {"epochs": known.epochs, "seeds": known.seeds, **known.columns}
            for name, values in arrays.items():
                _write_column(group, name, values)
        file.flush()
        image: bytes = file.id.get_file_image()
        return image


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
    chunks = (len(values), 1, values.shape[2]) if values.ndim == 3 and values.size else True
    group.create_dataset(
        name, data=values, chunks=chunks, compression=6, shuffle=True, fletcher32=True
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, changed: int, inode: int) -> str:
    """The same, once a process for a file that stays as it is."""
    return sha256(path)


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
    status = path.stat()
    digest = _sha256_of(path, status.st_size, status.st_mtime_ns, status.st_ino)
    if digest != expected:
        raise TableError(
            f"{path} is damaged or was changed: its SHA-256 is {digest[:12]}…, "
            f"not {expected[:12]}… as when it was made; make it again with `nas-arena data import`"
        )
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise TableError(f"{path} is not an HDF5 file") from None
    with file:
        if not _is_ours(file):
            raise TableError(
                f"{path} is not a table of this version ({FORMAT!r}); make it again with "
                "`nas-arena data import`"
            )
        try:
            check_structure(file, PROVENANCE)
        except ForeignError as error:
            raise TableError(f"{path} is not built like a table: {error}") from None
        yield file, digest


def _is_ours(file: h5py.File) -> bool:
    try:
        return read_text(file, "format") == FORMAT
    except ForeignError:
        return False


def read_index(file: h5py.File) -> tuple[NDArray[np.int8], NDArray[np.uint64], NDArray[np.int32]]:
    """The architectures, the keys and the rows that these find, of an open table.

    Raises:
        TableError: they are damaged, a key stands there twice, or a row is not there.
    """
    genes, keys, rows = (_values(file, name) for name in ("architectures", "keys", "rows"))
    if (keys[1:] <= keys[:-1]).any():
        raise TableError(f"{file.filename}: its keys do not ascend")
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(genes):
        raise TableError(
            f"{file.filename}: its rows go from {rows.min()} to {rows.max()}; "
            f"it has {len(genes):,} architectures"
        )
    return genes, keys, rows


def _values(file: h5py.File, name: str, at: Any = ...) -> Any:
    """Some values of a dataset of an open table."""
    try:
        return file[name][at]
    except (OSError, RuntimeError, MemoryError):
        raise TableError(f"{file.filename} is damaged: {name} cannot be read") from None


def _column(file: h5py.File, name: str, at: Any = ...) -> Any:
    """Some values of a column; none that is infinite or, of an error, no fraction."""
    values = _values(file, name, at)
    wrong = np.isinf(values)
    if name.endswith("_error"):
        wrong |= (values < 0) | (values > 1)
    if wrong.any():
        raise TableError(f"{file.filename}: {name} holds {values[wrong][0]:g}")
    return values


def _group(file: h5py.File, dataset: str, schedule: str) -> h5py.Group:
    group: Any = file
    for kind, key in ("dataset", dataset), ("schedule", schedule):
        there = [name for name in group if isinstance(group[name], h5py.Group)]
        if key not in there:
            where = Path(file.filename).name
            raise TableError(f"{kind} {key!r} is not in table {where}; it has {', '.join(there)}")
        group = group[key]
    return group


def column_names(file: h5py.File, dataset: str, schedule: str) -> list[str]:
    """The columns of one group of an open table.

    Raises:
        TableError: the data set or the schedule is not there; the message says which there are.
    """
    return [name for name in _group(file, dataset, schedule) if name not in ("epochs", "seeds")]


def read_schedule(
    file: h5py.File,
    dataset: str,
    schedule: str,
    columns: Sequence[str],
    epochs: Sequence[int] | Literal["all", "last"] = "all",
) -> Schedule:
    """Read the named columns of one group of an open table, at some epochs.

    Raises:
        TableError: the data set, the schedule, a column or an epoch is not there; the message
            says which there are.
    """
    where = f"table {Path(file.filename).name} for {dataset}, schedule {schedule}"
    there = column_names(file, dataset, schedule)
    for column in columns:
        if column not in there:
            raise TableError(f"{column} is not in {where}; it has {', '.join(there)}")
    group = file[dataset][schedule]
    recorded, seeds = (
        _values(file, f"{dataset}/{schedule}/{name}").tolist() for name in ("epochs", "seeds")
    )
    if recorded != sorted(set(recorded)) or len(seeds) != len(set(seeds)):
        raise TableError(
            f"{where}: its epochs do not ascend, or a training seed stands there twice"
        )
    if isinstance(epochs, str):
        epochs = recorded if epochs == "all" else recorded[-1:]
    if absent := [epoch for epoch in epochs if epoch not in recorded]:
        raise TableError(
            f"epochs {absent} are not in {where}; it has {', '.join(map(str, recorded))}"
        )
    at = [recorded.index(epoch) for epoch in epochs]
    whole = slice(None) if len(at) == len(recorded) else at
    return Schedule(
        np.array(recorded, np.int32)[at],
        np.array(seeds, np.int32),
        {
            name: _column(
                file,
                f"{dataset}/{schedule}/{name}",
                (slice(None), whole) if group[name].ndim == 3 else ...,
            )
            for name in columns
        },
    )


def read_table(path: Path) -> Table:
    """Read a whole table.

    Raises:
        TableError: see `open_table`.
    """
    with open_table(path) as (file, _):
        return Table(
            {key: file.attrs[key].decode() for key in PROVENANCE},
            read_index(file)[0],
            {
                (dataset, schedule): read_schedule(
                    file, dataset, schedule, column_names(file, dataset, schedule)
                )
                for dataset in file
                if isinstance(file[dataset], h5py.Group)
                for schedule in file[dataset]
            },
        )


def mean_over_seeds(errors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean over the last axis of the seeds that are there; NaN where there is none."""
    there = ~np.isnan(errors)
    mean: NDArray[np.float64]
    if errors.size and there.all():  # the same, but faster
        mean = errors.mean(-1, dtype=np.float64)
        return mean
    count = there.sum(-1)
    total = np.where(there, errors, 0).sum(-1, dtype=np.float64)
    mean = np.full(count.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def has_holes(errors: NDArray[np.float32]) -> bool:
    """Whether an architecture lacks all training seeds at an epoch where others have some.

    Args:
        errors: of shape `[architectures, epochs, seeds]`; any other has none.
    """
    if errors.ndim != 3:
        return False
    there = ~np.isnan(errors).all(-1)
    return bool((there.any(0) > there.all(0)).any())


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
        path = self._path = find_table(space, table or space.name)
        with open_table(path) as (file, self.digest):
            if file.attrs["space"] != space.name.encode():
                raise TableError(
                    f"{path} is of space {file.attrs['space'].decode()}, not {space.name}"
                )
            there = column_names(file, dataset, protocol.schedule)
            training = [name for name in ("elapsed_seconds", "train_seconds") if name in there][:1]
            passes = ["valid_seconds"] if protocol.validation_pass == "charged" else []
            visible = [name for name in there if not name.endswith(HIDDEN)]
            names = [protocol.metric, *training, *passes, *visible]
            signal = read_schedule(file, dataset, protocol.schedule, names, protocol.fidelities)
            read_schedule(file, dataset, protocol.report_schedule, protocol.report, [])
            self._keys, self._rows = file["keys"][:], file["rows"][:]
            count, first = len(file["architectures"]), file["architectures"][:1]
        if count and self._find(first).tolist() != [0]:
            raise TableError(f"{path} was made with another form of {space.name}; import it again")
        errors = signal.columns[protocol.metric]
        if protocol.noise == "mean":
            errors = mean_over_seeds(errors)[..., None].astype(np.float32)
        self._errors = errors
        self._check_coverage(protocol.schedule, protocol.metric, errors)
        if protocol.metric.endswith("_loss"):
            self.worst = float(np.nanmax(errors))
        self.timed = bool(training)
        none = np.zeros(count, np.float32)
        seconds: NDArray[Any] = signal.columns[training[0]] if training else none
        if seconds.ndim == 1:
            seconds = (np.array(protocol.fidelities) * seconds.astype(float)[:, None])[..., None]
        elif protocol.noise == "mean":
            seconds = mean_over_seeds(seconds)[..., None]
        self._elapsed = seconds
        self._pass = signal.columns[passes[0]] if passes else none
        columns = {name: signal.columns[name] for name in visible}
        self._metrics = {
            name: values if values.ndim == 1 else mean_over_seeds(values)
            for name, values in columns.items()
        }
        self._known: dict[tuple[int, int], dict[Architecture, Answers]] = defaultdict(dict)

    def _check_coverage(self, schedule: str, name: str, values: NDArray[np.float32]) -> None:
        missing = np.isnan(values)
        known = int((~missing).any(-1).all(-1).sum()) if missing.any() else len(values)
        if known < self.space.networks:
            raise TableError(
                f"table {self.table or self.space.name} knows {name} of {known:,} of the "
                f"{self.space.networks:,} architectures of {self.space.name} on {self.dataset}, "
                f"schedule {schedule}; a search needs them all, or objective=surrogate"
            )

    @cached_property
    def _report(self) -> dict[str, NDArray[np.float64]]:
        """The reported metrics of every row; read when first asked for, as no answer needs them."""
        protocol = self.protocol
        with open_table(self._path) as (file, digest):
            if digest != self.digest:
                raise TableError(f"table {file.filename} has changed while it was in use")
            report = read_schedule(
                file, self.dataset, protocol.report_schedule, protocol.report, "last"
            )
        for name, values in report.columns.items():
            self._check_coverage(protocol.report_schedule, name, values)
        return {name: mean_over_seeds(report.columns[name][:, 0]) for name in protocol.report}

    @cached_property
    def optimum(self) -> Mapping[str, float]:  # type: ignore[override]
        return {name: float(values.min()) for name, values in self._report.items()}

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
        fidelities = self.protocol.fidelities
        row = -1
        if epoch in fidelities and self.space.contains(architecture):
            row = self._row(self.space.key(architecture))
        if row < 0:
            raise LookupError(
                f"{architecture} at {epoch} epochs was asked for; {self.space.name} on "
                f"{self.dataset} has {self.space.networks:,} architectures at "
                f"{', '.join(map(str, fidelities))} epochs"
            )
        at = fidelities.index(epoch)
        errors, seconds = self._errors[row, at].tolist(), self._elapsed[row, at].tolist()
        if trained:
            before = self._elapsed[row].T  # per training seed, at every fidelity
            seconds = [
                all_of_it - float(np.interp(trained, (0, *fidelities), (0, *some)))
                for all_of_it, some in zip(seconds, before, strict=True)
            ]
        if len(seconds) == 1:  # the same whatever the training seed
            seconds *= len(errors)
        validation = float(self._pass[row])
        metrics = {name: float(column[row]) for name, column in self._metrics.items()}
        answers = [
            Evaluation(error, cost + validation, metrics)
            for error, cost in zip(errors, seconds, strict=True)
            if error == error  # NaN: this training seed is missing
        ]
        spread = hashlib.blake2b(str(architecture).encode(), digest_size=8).digest()
        return *answers, int.from_bytes(spread)

    def report(self, architectures: ArrayLike) -> Mapping[str, NDArray[np.float64]]:
        rows = self._find(np.asarray(architectures))
        if (rows < 0).any():
            raise LookupError(f"the table of {self.space.name} lacks an architecture to report on")
        return {name: values[rows] for name, values in self._report.items()}

    def _find(self, genes: NDArray[Any]) -> NDArray[np.int64]:
        """The row of each architecture, -1 where there is none."""
        keys = self.space.keys(genes)
        order = keys.argsort()  # neighbours lie close in memory: half the time in a large table
        place = np.empty(len(keys), np.intp)
        place[order] = np.searchsorted(self._keys, keys[order]).clip(max=len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._rows[place], -1)

    def _row(self, key: int) -> int:
        place = int(self._keys.searchsorted(np.uint64(key)))
        found = place < len(self._keys) and int(self._keys[place]) == key
        return int(self._rows[place]) if found else -1
