"""Make tables from published files, and check them.

A recipe is a small yaml that says which column of a CSV, Parquet or JSON file is which metric:

    space: nb201
    source: where the file comes from     # source, licence, citation and notes go into the table
    licence: MIT
    citation: Somebody, A table, 2024
    architecture: arch_str      # the column with the published string form
    values: accuracy_percent    # what the splits' columns hold, see below
    columns:
      - {column: val_12, dataset: cifar10, schedule: 12, split: valid, epoch: 12, seed: 111}
      - {column: all_seeds, dataset: cifar10, schedule: 200, split: valid, epoch: 200,
         seed: [777, 888, 999], separator: ";"}
      - {column: hours, dataset: cifar10, schedule: [12, 200], metric: train_seconds, scale: 18}

`values` is accuracy_percent, accuracy, error_percent or error; the table that is made holds errors
as fractions. `split` is train, valid or test. A cell holds one number, or several (a list, or text
with a `separator`) along the rule's `seed` or `epoch`. Fewer numbers than seeds leave the last
seeds missing. `source_sha256`, where given, is that of the file.

Every data set and schedule needs train_seconds, the seconds of ONE epoch: above, `hours` are those
of 200 epochs, so the scale is 3600 / 200 = 18. valid_seconds are those of one validation pass.
Other metrics are shown to strategies without training, so they may only be what can be known
without a data set: names that begin with parameters, flops, latency, energy, memory, proxy or
arithmetic_intensity.

Every architecture of the space stands in one row. The table takes the name of the recipe's file:
`nas-arena data import mine.yaml FILE` makes the table `mine`, and says how to run on it, such as
`nas-arena run objective.table=mine dataset.name=cifar10`.

Metrics that somebody else measured can be added to a table. Such a recipe has no `values` and no
splits, and its rules need no schedule, as the columns go into all of them; here, milliseconds:

    space: nb201
    source: our own measurements, 2024
    architecture: arch_str
    columns:
      - {column: ms_phone, dataset: cifar10, metric: latency_phone, scale: 0.001}

`nas-arena data import phone.yaml FILE --into nb201` writes the table `nb201` with them into the
data folder. An architecture that the file lacks gets NaN; what the table had stays as it is.
"""

import functools
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import Any, Protocol, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bench.recipe import VALUES, check_recipe, is_visible, several, shown
from bench.space import Space
from bench.table import PROVENANCE, SCORES, Schedule, Table, TableError, has_holes, sha256
from bench.words import many

LONGEST_PART = 400  # characters of a refusal, at its begin and at its end
T = TypeVar("T")


class Progress(Protocol):
    """Passes items on and shows how far it is, of `total` where that is known."""

    def __call__(self, items: Iterable[T], total: int | None = None) -> Iterable[T]: ...


def silent(items: Iterable[T], total: int | None = None) -> Iterable[T]:
    """A `Progress` that shows nothing."""
    return items


class Reader(Protocol):
    """Reads a published file or folder; raises TableError with one sentence where it cannot.

    `source_sha256`, `space` and what the recipe says stand in the provenance already.
    """

    def __call__(
        self, source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
    ) -> Table: ...


@dataclass
class Extra:
    """Columns to add to the tables of a space: `{dataset: {column: values [architectures]}}`."""

    architectures: NDArray[np.int8]
    columns: dict[str, dict[str, NDArray[np.float32]]]


class ExtraReader(Protocol):
    """Reads a published file of further metrics; raises TableError where it cannot."""

    def __call__(self, source: Path, *, space: Space, progress: Progress) -> Extra: ...


def read_columns(
    source: Path,
    *,
    space: Space,
    provenance: Mapping[str, str],
    architecture: str,
    values: str,
    columns: list[dict[str, Any]],
) -> Table:
    """Read a CSV, Parquet or JSON file by the rules of a recipe (see the head of this file).

    Raises:
        TableError: the file is damaged or foreign, or a rule does not fit it.
    """
    frame, genes = _read_rows(source, space, architecture, columns)
    rules: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for rule in columns:
        for schedule in several(rule["schedule"]):
            rules[str(rule["dataset"]), str(schedule)].append(rule)
    return Table(
        dict(provenance),
        genes,
        {key: _read_group(frame, group, values) for key, group in rules.items()},
    )


@np.errstate(over="ignore")  # what becomes infinite is found by `check_extra`
def read_further(
    source: Path,
    *,
    space: Space,
    progress: Progress,
    architecture: str,
    columns: list[dict[str, Any]],
) -> Extra:
    """Read the metrics of a CSV, Parquet or JSON file that are to be added to a table.

    Raises:
        TableError: the file is damaged or foreign, or a rule does not fit it.
    """
    frame, genes = _read_rows(source, space, architecture, columns)
    further: dict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)
    for rule in progress(columns, len(columns)):
        numbers = _numbers(frame[rule["column"]], rule, 1)[:, 0] * rule.get("scale", 1)
        further[str(rule["dataset"])][rule["metric"]] = numbers.astype(np.float32)
    return Extra(genes, dict(further))


def _read_rows(
    source: Path, space: Space, architecture: str, columns: list[dict[str, Any]]
) -> tuple[Any, NDArray[np.int8]]:
    """The frame of a file, and the genes of its rows."""
    frame = _read_frame(source, architecture)
    absent = {architecture, *(rule["column"] for rule in columns)} - set(frame.columns)
    if absent:
        raise TableError(f"{source.name} has no column {', '.join(sorted(absent))}")
    try:
        genes = [space.from_string(str(text)) for text in frame[architecture]]
    except ValueError as error:
        raise TableError(f"{source.name}: {error}") from None
    return frame, np.array(genes, dtype=np.int8).reshape(len(genes), len(space.choices))


def _read_frame(source: Path, architecture: str) -> Any:
    import pandas

    text = {architecture: str}  # or 00000000 would become 0
    kinds: dict[str, Callable[[Path], Any]] = {
        ".csv": functools.partial(pandas.read_csv, dtype=text),
        ".parquet": pandas.read_parquet,
        ".json": functools.partial(pandas.read_json, dtype=text),
    }
    kind = next((suffix for suffix in source.suffixes if suffix in kinds), None)
    if kind is None:
        raise TableError(f"{source.name} is none of {', '.join(kinds)} (or one compressed)")
    try:
        if source.suffix == ".json":
            json.loads(source.read_bytes(), object_pairs_hook=_once)  # pandas takes the last
        frame = kinds[kind](source)
    except RecursionError:
        raise TableError(f"{source} cannot be read as json: it is nested too deeply") from None
    except ImportError:
        raise TableError("reading Parquet needs: pip install 'nas-arena[parquet]'") from None
    except (OSError, EOFError, ValueError, zlib.error, LZMAError, BadZipFile) as error:
        raise TableError(f"{source} cannot be read as {kind[1:]}: {error}") from None
    frame.columns = [str(name) for name in frame.columns]  # those of JSON may come as numbers
    return frame


def _once(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")


@np.errstate(over="ignore")  # what becomes infinite is found by `problems`
def _read_group(frame: Any, rules: list[dict[str, Any]], values: str) -> Schedule:
    splits = [rule for rule in rules if "split" in rule]
    epochs = sorted({int(epoch) for rule in splits for epoch in several(rule["epoch"])})
    seeds = sorted({int(seed) for rule in splits for seed in several(rule.get("seed", 0))})
    schedule = Schedule(np.array(epochs, np.int32), np.array(seeds, np.int32))
    for rule in rules:
        if "split" not in rule:
            numbers = _numbers(frame[rule["column"]], rule, 1)[:, 0]
            schedule.columns[rule["metric"]] = (numbers * rule.get("scale", 1)).astype(np.float32)
            continue
        at_epochs, at_seeds = several(rule["epoch"]), several(rule.get("seed", 0))
        numbers = _numbers(frame[rule["column"]], rule, max(len(at_epochs), len(at_seeds)))
        errors = schedule.columns.setdefault(
            f"{rule['split']}_error",
            np.full((len(frame), len(epochs), len(seeds)), np.nan, np.float32),
        )
        where = np.ix_(
            np.arange(len(frame)),
            np.array([epochs.index(int(epoch)) for epoch in at_epochs]),
            np.array([seeds.index(int(seed)) for seed in at_seeds]),
        )
        errors[where] = VALUES[values](numbers).reshape(len(frame), len(at_epochs), len(at_seeds))
    return schedule


def _numbers(column: Any, rule: dict[str, Any], width: int) -> NDArray[np.float64]:
    """The numbers of a column, shape `[rows, width]`, NaN where a cell holds fewer."""
    numbers = np.full((len(column), width), np.nan)
    separator = rule.get("separator")
    for row, cell in enumerate(column):
        is_text = isinstance(cell, str)
        cells = cell.split(separator) if is_text and separator else several(cell)
        try:
            numbers[row, : len(cells)] = [float(value) for value in cells]
        except (TypeError, ValueError, OverflowError):
            hint = f"; its separator is {separator!r}" if separator else "; it has no separator"
            raise TableError(
                f"column {rule['column']}, row {row} (from 0): {shown(cell)} is not {width} "
                f"number(s) or fewer{hint if is_text else ''}"
            ) from None
    return numbers


def problems(table: Table, space: Space, *, partial: bool = False) -> list[str]:
    """What is wrong with the contents of a table, a sentence each; empty where nothing is.

    Args:
        partial: whether it may lack architectures of the space.
    """
    genes = table.architectures
    foreign = [arch for arch in map(tuple, genes.tolist()) if not space.contains(arch)]
    if foreign:
        return [_foreign(foreign, space)]
    found = []
    keys, first, counts = np.unique(space.keys(genes), return_index=True, return_counts=True)
    if len(counts) and counts.max() > 1:
        row = first[counts.argmax()]
        found.append(f"architecture {tuple(genes[row].tolist())} stands in {counts.max()} rows")
    if len(keys) < space.networks and not partial:
        found.append(f"it has {len(keys):,} of the {space.networks:,} architectures")
    for (dataset, schedule), known in table.schedules.items():
        where = f"{dataset}, schedule {schedule}"
        short = [name for name, values in known.columns.items() if len(values) != len(genes)]
        found += [
            f"{where}: {name} has {len(known.columns[name]):,} rows of {len(genes):,}"
            for name in short
        ]
        if not short:
            found += [f"{where}: {what}" for what in _schedule_problems(known, partial)]
    return found


def _foreign(genes: list[tuple[int, ...]], space: Space) -> str:
    are = many(len(genes), "architecture is", "architectures are")
    return f"{are} not in {space.name}, first {genes[0]}"


def _schedule_problems(schedule: Schedule, partial: bool) -> Iterator[str]:
    shape = (len(schedule.epochs), len(schedule.seeds))
    if list(schedule.epochs) != sorted(set(schedule.epochs.tolist())):
        yield f"its epochs {schedule.epochs.tolist()} do not ascend"
    scores = [name for name in schedule.columns if name.endswith(SCORES)]
    trained = np.zeros(len(next(iter(schedule.columns.values()), ())), bool)
    for name in scores:
        values = schedule.columns[name]
        if values.shape[1:] != shape:
            yield f"{name} has shape {values.shape[1:]} an architecture, not {shape}"
            return
        there = ~np.isnan(values).all(-1)
        trained |= there.any(-1)
        recorded = there.any(0)  # at an epoch that nothing records, nothing is missing
        if not partial and has_holes(values):
            yield f"{name} has an architecture without any training seed"
        if not recorded.any():
            yield f"{name} holds no number"
    for name, values in schedule.columns.items():
        finite = values[np.isfinite(values)]
        if np.isinf(values).any():
            yield f"{name} holds an infinite number"
        if name.endswith("_error") and ((finite < 0) | (finite > 1)).any():
            yield f"{name} leaves 0 … 1: from {finite.min():.4g} to {finite.max():.4g}"
        if name == "elapsed_seconds" and values.shape[1:] != shape:
            yield f"{name} has shape {values.shape[1:]} an architecture, not {shape}"
        elif name.endswith("_seconds"):
            known = values[trained] if scores else values
            if (finite <= 0).any() or np.isnan(known).all(tuple(range(1, known.ndim))).any():
                yield f"{name} is not above zero everywhere"


def digest_of(source: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the names and digests of all files in it."""
    if source.is_file():
        return sha256(source)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    listing = [f"{sha256(path)}  {path.relative_to(source).as_posix()}\n" for path in files]
    return hashlib.sha256("".join(listing).encode()).hexdigest()


def check_source(source: Path, recipe: Mapping[str, Any]) -> str:
    """The digest of a source, if it is the one that the recipe expects.

    Raises:
        TableError: it is not, or cannot be read.
    """
    if not source.exists():
        raise TableError(f"there is no file {source}")
    inside = [source, *source.rglob("*")] if source.is_dir() else [source]
    if odd := [path for path in inside if not path.is_file() and not path.is_dir()]:
        raise TableError(f"{odd[0]} is a link or no plain file")  # a pipe would be waited for
    try:
        digest, expected = digest_of(source), recipe.get("source_sha256")
    except OSError as error:
        raise TableError(f"{error.filename or source} cannot be read: {error.strerror}") from None
    if expected and digest != expected:
        raise TableError(
            f"{source} is damaged or another version: its SHA-256 is {digest[:12]}…, "
            f"the recipe expects {expected[:12]}…"
        )
    return digest


def make_table(
    source: Path,
    space: Space,
    recipe: Mapping[str, Any],
    reader: Reader | None = None,
    *,
    partial: bool = False,
    progress: Progress = silent,
) -> Table:
    """Check the recipe, read `source` by it and check the result.

    Args:
        partial: whether the source may lack architectures of the space.

    Raises:
        TableError: the recipe will not do, or the file is not the one it means, is damaged, or
            its values are.
    """
    check_recipe(recipe, needs_rules=reader is None)
    digest = check_source(source, recipe)
    provenance = {key: recipe.get(key) or "" for key in PROVENANCE}
    provenance |= {"space": space.name, "source_sha256": digest}
    with _naming(source):
        if reader is None:
            rules = {key: recipe[key] for key in ("architecture", "values", "columns")}
            table = read_columns(source, space=space, provenance=provenance, **rules)
        else:
            table = reader(source, space=space, provenance=provenance, progress=progress)
    partial = partial or bool(recipe.get("sample"))
    if found := problems(table, space, partial=partial):
        hint = "" if problems(table, space, partial=True) else "; --partial takes what is there"
        raise TableError(f"{source.name}: " + "; ".join(islice(found, 3)) + hint)
    return table


def make_extra(
    source: Path,
    space: Space,
    recipe: Mapping[str, Any],
    reader: ExtraReader,
    *,
    progress: Progress = silent,
) -> Extra:
    """Check the recipe, read further columns from `source` by it and check the result.

    Raises:
        TableError: as `make_table`.
    """
    check_recipe(recipe, needs_rules=False)
    check_source(source, recipe)
    with _naming(source):
        extra = reader(source, space=space, progress=progress)
        check_extra(extra, space)
    return extra


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Have every refusal name its file, in one line that a terminal shows as it is."""
    try:
        yield
    except TableError as error:
        text = " ".join(str(error).split())
        text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
        if len(text) > 2 * LONGEST_PART:  # of what stands in the file
            text = f"{text[:LONGEST_PART]} … {text[-LONGEST_PART:]}"
        raise TableError(text if source.name in text else f"{source.name}: {text}") from None


def check_extra(extra: Extra, space: Space) -> None:
    """Look at further columns before they are shown to strategies.

    Raises:
        TableError: a foreign or repeated architecture, a name that may not be visible, or
            numbers that are too few, infinite, negative or absent.
    """
    genes = extra.architectures
    foreign = [arch for arch in map(tuple, genes.tolist()) if not space.contains(arch)]
    if foreign:
        raise TableError(_foreign(foreign, space))
    _, first, counts = np.unique(space.keys(genes), return_index=True, return_counts=True)
    if len(counts) and counts.max() > 1:
        arch = tuple(genes[first[counts.argmax()]].tolist())
        raise TableError(f"architecture {arch} stands in {counts.max()} rows")
    for dataset, columns in extra.columns.items():
        for name, values in columns.items():
            if not is_visible(name):
                raise TableError(f"{dataset}: a column {name} may not be shown to strategies")
            if values.shape != (len(genes),):
                raise TableError(f"{dataset}: {name} has {len(values):,} rows of {len(genes):,}")
            if np.isinf(values).any():
                raise TableError(f"{dataset}: {name} holds an infinite number")
            if not name.startswith("proxy") and (values < 0).any():
                raise TableError(f"{dataset}: {name} holds a number below zero")
            if np.isnan(values).all():
                raise TableError(f"{dataset}: {name} holds no number")


def merge(table: Table, extra: Extra, space: Space) -> Table:
    """A table with further columns, in every schedule of the data sets they are known for.

    An architecture that `extra` lacks gets NaN.

    Raises:
        TableError: `extra` knows no data set of the table, or none of its architectures.
    """
    shared = {dataset for dataset, _ in table.schedules} & extra.columns.keys()
    if not shared:
        have = ", ".join(sorted({dataset for dataset, _ in table.schedules}))
        raise TableError(
            f"the file knows {', '.join(extra.columns) or 'no data set'}; the table has {have}"
        )
    place = {key: row for row, key in enumerate(space.keys(extra.architectures).tolist())}
    rows = np.full(len(table.architectures), -1)
    for key, row in zip(
        *(some.tolist() for some in space.aliases(table.architectures)), strict=True
    ):
        if key in place:
            rows[row] = place[key]
    if (rows < 0).all():
        raise TableError("the file knows none of the architectures of the table")
    schedules = {}
    for (dataset, schedule), known in table.schedules.items():
        further = {
            name: np.where(rows < 0, np.float32(np.nan), values[rows])
            for name, values in extra.columns.get(dataset, {}).items()
        }
        schedules[dataset, schedule] = replace(known, columns=known.columns | further)
    return replace(table, schedules=schedules)


def summary(table: Table) -> str:
    """One line on what a table holds."""
    schedules = defaultdict(list)
    for dataset, schedule in table.schedules:
        schedules[dataset].append(schedule)
    held = "; ".join(
        f"{name} ({', '.join(some)} {'epoch' if some == ['1'] else 'epochs'})"
        for name, some in schedules.items()
    )
    return f"{many(len(table.architectures), 'architecture')}: {held}"
