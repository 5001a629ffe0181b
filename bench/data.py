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
as fractions. `split` is train, valid or test. A cell holds one
number, or several (a list, or text with a `separator`) along the rule's `seed` or `epoch`. Fewer
numbers than seeds leave the last seeds missing. `source_sha256`, where given, is that of the file.

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
import re
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

from bench.space import Space
from bench.table import PROVENANCE, Schedule, Table, TableError, sha256

VALUES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "accuracy_percent": lambda values: 1 - values / 100,
    "accuracy": lambda values: 1 - values,
    "error_percent": lambda values: values / 100,
    "error": lambda values: values,
}
SECONDS = ("train_seconds", "valid_seconds")
SPLITS = ("train", "valid", "test")
KNOWN_WITHOUT_DATA = ("parameters", "flops", "latency", "energy", "memory")
WHERE = {"column", "dataset", "schedule"}  # what every rule says
LONGEST_TEXT = 60_000  # bytes; an HDF5 attribute holds less than 64 KiB
Check = tuple[Callable[[Any], bool], str]  # a test of a value, and what is allowed in words


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_name(value: Any) -> bool:
    """Whether a value can name a group in the file: no slash, and not what is there already."""
    text = str(value) if isinstance(value, str) or _is_whole(value) else ""
    return re.fullmatch(r"\w[\w.+-]*", text) is not None and text != "architectures"


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e300


def _is_metric(value: Any) -> bool:
    allowed = rf"({'|'.join(KNOWN_WITHOUT_DATA)})\w*"
    return isinstance(value, str) and (value in SECONDS or bool(re.fullmatch(allowed, value)))


def _is_note(value: Any) -> bool:
    """Whether a value can be kept in the table's file; what yaml leaves empty is None."""
    if not isinstance(value, str):
        return value is None
    return len(value.encode(errors="replace")) < LONGEST_TEXT and not re.search(
        "[\0\ud800-\udfff]", value
    )


def _is_digest(value: Any) -> bool:
    return not value or (isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)))


def _one_or_more(is_one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        some = _several(value)
        return bool(some) and all(map(is_one, some)) and len(set(map(str, some))) == len(some)

    return check


_NAMES = "a name of letters, digits and _ . + -"
_WHOLES = "a whole number from 0, or a list of different ones"
RULE: dict[str, Check] = {
    "column": (_is_text, "the name of a column, as text"),
    "dataset": (_is_name, f"{_NAMES}, but not architectures"),
    "schedule": (_one_or_more(_is_name), f"{_NAMES}, or a list of different ones"),
    "split": (lambda value: value in SPLITS, ", ".join(SPLITS)),
    "epoch": (_one_or_more(_is_whole), _WHOLES),
    "seed": (_one_or_more(_is_whole), _WHOLES),
    "metric": (
        _is_metric,
        f"{', '.join(SECONDS)}, and names that begin with {', '.join(KNOWN_WITHOUT_DATA)}; any "
        "other would be shown to strategies: import what was measured on a data set as a split",
    ),
    "scale": (_is_scale, "a number above zero"),
    "separator": (_is_text, "text, such as ';'"),
}
OF_SPLIT, OF_METRIC = {"split", "epoch", "seed", "separator"}, {"metric", "scale", "separator"}
_TEXT: Check = (_is_note, f"text of less than {LONGEST_TEXT:,} bytes")
RECIPE: dict[str, Check] = {
    **dict.fromkeys((*PROVENANCE, "published"), _TEXT),
    "source_sha256": (_is_digest, "64 hex digits in lower case, as `sha256sum` prints them"),
    "architecture": RULE["column"],
    "values": (lambda value: isinstance(value, str) and value in VALUES, ", ".join(VALUES)),
    "columns": (
        lambda value: (
            isinstance(value, list) and value != [] and all(isinstance(r, dict) for r in value)
        ),
        "a list of rules, each with keys and values",
    ),
    "reader": (lambda value: True, "a function of ours"),
}


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


def check_recipe(recipe: Mapping[str, Any], *, needs_rules: bool = True) -> None:
    """Look at the shape of every part of a recipe, before any file is read.

    Args:
        recipe: what the yaml holds.
        needs_rules: whether it must say which column is what, as no reader of ours knows.

    Raises:
        TableError: a key or a value that is not allowed.
    """
    _check("", recipe, RECIPE)
    if not needs_rules:
        return
    if not {"architecture", "values", "columns"} <= recipe.keys():
        raise TableError("a recipe needs the keys architecture, values and columns")
    for rule in recipe["columns"]:
        where = f"rule {_shown(rule)}"
        known, needed = (OF_SPLIT, "epoch") if "split" in rule else (OF_METRIC, "metric")
        if wrong := rule.keys() - (WHERE | known) or (WHERE | {needed}) - rule.keys():
            names = ", ".join(sorted(map(_name_of, wrong)))
            allowed = ", ".join(sorted(WHERE | known))
            raise TableError(f"{where}: {names} is unknown or missing; allowed here: {allowed}")
        _check(f"{where}: ", rule, RULE)
        if min(len(_several(rule.get("epoch", 0))), len(_several(rule.get("seed", 0)))) > 1:
            raise TableError(f"{where}: of epoch and seed only one may be a list")


def _check(where: str, values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for key, value in values.items():
        if key not in checks:
            raise TableError(f"{where}unknown key {_shown(key)}; allowed: {', '.join(checks)}")
        is_allowed, allowed = checks[key]
        if not is_allowed(value):
            raise TableError(f"{where}{key} is {_shown(value)}; allowed: {allowed}")


def _name_of(key: Any) -> str:
    return key if _is_name(key) and isinstance(key, str) else _shown(key)


def _shown(value: Any) -> str:
    """A value in one line of bounded length."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no whole number of thousands of digits
        return "a value too long to show"
    return text if len(text) <= 200 else f"{text[:200]}…"


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
        for schedule in _several(rule["schedule"]):
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
    epochs = sorted({int(epoch) for rule in splits for epoch in _several(rule["epoch"])})
    seeds = sorted({int(seed) for rule in splits for seed in _several(rule.get("seed", 0))})
    schedule = Schedule(np.array(epochs, np.int32), np.array(seeds, np.int32))
    for rule in rules:
        if "split" not in rule:
            numbers = _numbers(frame[rule["column"]], rule, 1)[:, 0]
            schedule.columns[rule["metric"]] = (numbers * rule.get("scale", 1)).astype(np.float32)
            continue
        at_epochs, at_seeds = _several(rule["epoch"]), _several(rule.get("seed", 0))
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
        cells = cell.split(separator) if is_text and separator else _several(cell)
        try:
            numbers[row, : len(cells)] = [float(value) for value in cells]
        except (TypeError, ValueError, OverflowError):
            hint = f"; its separator is {separator!r}" if separator else "; it has no separator"
            raise TableError(
                f"column {rule['column']}, row {row} (from 0): {_shown(cell)} is not {width} "
                f"number(s) or fewer{hint if is_text else ''}"
            ) from None
    return numbers


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value]


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
