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
without a data set: names that begin with parameters, flops, latency, energy or memory.

Every architecture of the space stands in one row. The table takes the name of the recipe's file:
`nas-arena data import mine.yaml FILE` makes the table `mine`, and says how to run on it, such as
`nas-arena run objective.table=mine dataset.name=cifar10`.
"""

import io
import pickle
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bench.recipe import VALUES, check_recipe, several, shown
from bench.space import Space
from bench.table import PROVENANCE, Schedule, Table, TableError, sha256


class Reader(Protocol):
    """Reads a published file; raises TableError with one sentence where it cannot."""

    def __call__(self, source: Path, *, space: Space, provenance: Mapping[str, str]) -> Table: ...


def restricted_load(data: bytes, allowed: Mapping[tuple[str, str], Any] | None = None) -> Any:
    """Unpickle, resolving no global but those in `allowed`, (module, name) -> object.

    Raises:
        TableError: the pickle is damaged, or asks for anything else.
    """

    class Restricted(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if allowed is None or (module, name) not in allowed:
                raise TableError(
                    f"refused: the file asks for {module}.{name}, which could run code"
                )
            return allowed[module, name]

    try:
        return Restricted(io.BytesIO(data)).load()
    except TableError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise TableError(f"damaged pickle: {error}") from None


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
    frame = _read_frame(source)
    absent = {architecture, *(rule["column"] for rule in columns)} - set(frame.columns)
    if absent:
        raise TableError(f"{source.name} has no column {', '.join(sorted(absent))}")
    try:
        genes = [space.from_string(str(text)) for text in frame[architecture]]
    except ValueError as error:
        raise TableError(f"{source.name}: {error}") from None

    rules: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for rule in columns:
        for schedule in several(rule["schedule"]):
            rules[str(rule["dataset"]), str(schedule)].append(rule)
    return Table(
        dict(provenance),
        np.array(genes, dtype=np.int8),
        {key: _read_group(frame, group, values) for key, group in rules.items()},
    )


def _read_frame(source: Path) -> Any:
    import pandas

    kinds: dict[str, Callable[[Path], Any]] = {
        ".csv": pandas.read_csv,
        ".parquet": pandas.read_parquet,
        ".json": pandas.read_json,
    }
    kind = next((suffix for suffix in source.suffixes if suffix in kinds), None)
    if kind is None:
        raise TableError(f"{source.name} is none of {', '.join(kinds)} (or one compressed)")
    try:
        frame = kinds[kind](source)
    except ImportError:
        raise TableError("reading Parquet needs: pip install 'nas-arena[parquet]'") from None
    except (OSError, EOFError, ValueError, zlib.error, LZMAError, BadZipFile) as error:
        raise TableError(f"{source} cannot be read as {kind[1:]}: {error}") from None
    frame.columns = [str(name) for name in frame.columns]  # those of JSON may come as numbers
    return frame


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


def problems(table: Table, space: Space) -> list[str]:
    """What is wrong with the contents of a table, a sentence each; empty where nothing is."""
    found = []
    genes = [tuple(arch) for arch in table.architectures.tolist()]
    foreign = [arch for arch in genes if not space.contains(arch)]
    if foreign:
        found.append(f"{len(foreign)} architectures are not in {space.name}, first {foreign[0]}")
    (arch, count), *_ = Counter(genes).most_common(1) or [((), 0)]
    if count > 1:
        found.append(f"architecture {arch} stands in {count} rows")
    if len(set(genes)) < len(space):
        found.append(f"it has {len(set(genes)):,} of the {len(space):,} architectures")
    for (dataset, schedule), known in table.schedules.items():
        where = f"{dataset}, schedule {schedule}"
        for name, values in known.columns.items():
            found += [f"{where}: {what}" for what in _column_problems(name, values, known)]
            if len(values) != len(genes):
                found.append(f"{where}: {name} has {len(values):,} rows of {len(genes):,}")
        if "train_seconds" not in known.columns:
            found.append(f"{where}: train_seconds is missing")
    return found


def _column_problems(name: str, values: NDArray[np.float32], schedule: Schedule) -> list[str]:
    finite = values[np.isfinite(values)]
    found = [f"{name} holds an infinite number"] if np.isinf(values).any() else []
    if name.endswith("_error"):
        shape = (len(schedule.epochs), len(schedule.seeds))
        if values.shape[1:] != shape:
            found.append(f"{name} has shape {values.shape[1:]} an architecture, not {shape}")
        elif np.isnan(values).all(-1).any():
            found.append(f"{name} has an architecture without any training seed")
        if ((finite < 0) | (finite > 1)).any():
            found.append(f"{name} leaves 0 … 1: from {finite.min():.4g} to {finite.max():.4g}")
    elif name.endswith("_seconds") and (np.isnan(values).any() or (finite <= 0).any()):
        found.append(f"{name} is not above zero everywhere")
    return found


def make_table(
    source: Path, space: Space, recipe: Mapping[str, Any], reader: Reader | None = None
) -> Table:
    """Check the recipe, read `source` by it and check the result.

    Raises:
        TableError: the recipe will not do, or the file is not the one it means, is damaged, or
            its values are.
    """
    check_recipe(recipe, needs_rules=reader is None)
    if not source.is_file():
        raise TableError(f"there is no file {source}")
    try:
        digest, expected = sha256(source), recipe.get("source_sha256")
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror}") from None
    if expected and digest != expected:
        raise TableError(
            f"{source} is damaged or another version: its SHA-256 is {digest[:12]}…, "
            f"the recipe expects {expected[:12]}…"
        )
    provenance = {key: recipe.get(key) or "" for key in PROVENANCE}
    provenance |= {"space": space.name, "source_sha256": digest}
    if reader is None:
        rules = {key: recipe[key] for key in ("architecture", "values", "columns")}
        table = read_columns(source, space=space, provenance=provenance, **rules)
    else:
        table = reader(source, space=space, provenance=provenance)
    if found := problems(table, space):
        raise TableError(f"{source.name}: " + "; ".join(islice(found, 3)))
    return table


def summary(table: Table) -> str:
    """One line on what a table holds."""
    schedules = defaultdict(list)
    for dataset, schedule in table.schedules:
        schedules[dataset].append(schedule)
    held = "; ".join(f"{name} ({', '.join(some)} epochs)" for name, some in schedules.items())
    return f"{len(table.architectures):,} architectures: {held}"
