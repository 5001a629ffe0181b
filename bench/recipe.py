"""What a recipe for a table may say (the head of `bench/data.py` explains), checked."""

import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.table import HIDDEN, PROVENANCE, TableError

VALUES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "accuracy_percent": lambda values: 1 - values / 100,
    "accuracy": lambda values: 1 - values,
    "error_percent": lambda values: values / 100,
    "error": lambda values: values,
}
SECONDS = ("train_seconds", "valid_seconds")
SPLITS = ("train", "valid", "test")
KNOWN_WITHOUT_DATA = (
    *("parameters", "flops", "latency", "energy", "memory", "proxy"),
    "arithmetic_intensity",
)
WHERE = {"column", "dataset", "schedule"}  # what every rule says
IN_EVERY_TABLE = ("architectures", "keys", "rows")
LONGEST_TEXT = 60_000  # bytes; an HDF5 attribute holds less than 64 KiB
Check = tuple[Callable[[Any], bool], str]  # a test of a value, and what is allowed in words


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_name(value: Any) -> bool:
    """Whether a value can name a group in the file: no slash, and not what is there already."""
    text = str(value) if isinstance(value, str) or _is_whole(value) else ""
    return re.fullmatch(r"\w[\w.+-]*", text) is not None and text not in IN_EVERY_TABLE


def _is_file_name(value: Any) -> bool:
    """Whether a value names a file or folder, and none above it."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w.+ -]*", value) is not None


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e300


def is_visible(value: Any) -> bool:
    """Whether a column of this name may be shown to strategies without any training."""
    allowed = rf"({'|'.join(KNOWN_WITHOUT_DATA)})\w*"
    return (
        isinstance(value, str)
        and re.fullmatch(allowed, value) is not None
        and not value.endswith(HIDDEN)
    )


def _is_metric(value: Any) -> bool:
    return is_visible(value) or value in SECONDS


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
        some = several(value)
        return bool(some) and all(map(is_one, some)) and len(set(map(str, some))) == len(some)

    return check


_NAMES = "a name of letters, digits and _ . + -"
_WHOLES = "a whole number from 0, or a list of different ones"
RULE: dict[str, Check] = {
    "column": (_is_text, "the name of a column, as text"),
    "dataset": (_is_name, f"{_NAMES}, but not {' or '.join(IN_EVERY_TABLE)}"),
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
_HELD: Check = (
    lambda value: isinstance(value, list) and value != [] and all(map(_is_name, value)),
    f"a list of names, each {_NAMES}",
)
_COUNT: Check = (lambda value: _is_whole(value) and value > 0, "a whole number above zero")
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
    "file": (_is_file_name, "the name of the published file or folder, and no other folder"),
    "also": (
        lambda value: isinstance(value, list) and all(map(_is_file_name, value)),
        "a list of other names under which it is published",
    ),
    "url": (lambda value: isinstance(value, str) and value.startswith("https://"), "https://…"),
    "megabytes": _COUNT,
    "rows": _COUNT,
    "datasets": _HELD,
    "schedules": _HELD,
    "splits": _HELD,
    "epochs": _TEXT,
    "seeds": _TEXT,
    "sample": (lambda value: isinstance(value, bool), "true or false"),
    "reader": (lambda value: True, "a function of ours"),
    "extra": (lambda value: True, "a function of ours"),
}


def several(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value]


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
        known, needed = (OF_SPLIT, "epoch") if "split" in rule else (OF_METRIC, "metric")
        _check_rule(rule, needed=WHERE | {needed}, allowed=WHERE | known)
        if min(len(several(rule.get("epoch", 0))), len(several(rule.get("seed", 0)))) > 1:
            raise TableError(f"rule {shown(rule)}: of epoch and seed only one may be a list")


def check_further(recipe: Mapping[str, Any]) -> None:
    """Look at a recipe for columns that are added to a table: its rules name metrics alone.

    Raises:
        TableError: a key or a value that is not allowed.
    """
    _check("", recipe, RECIPE)
    if not {"architecture", "columns"} <= recipe.keys() or "values" in recipe:
        raise TableError(
            "a recipe for further columns needs the keys architecture and columns, and no values"
        )
    needed = {"column", "dataset", "metric"}
    for rule in recipe["columns"]:
        _check_rule(rule, needed=needed, allowed=needed | {"scale"})
        if not is_visible(rule["metric"]):
            raise TableError(
                f"rule {shown(rule)}: metric is {rule['metric']}; allowed for a further column: "
                f"names that begin with {', '.join(KNOWN_WITHOUT_DATA)}"
            )


def _check_rule(rule: Mapping[str, Any], *, needed: set[str], allowed: set[str]) -> None:
    where = f"rule {shown(rule)}"
    if wrong := rule.keys() - allowed or needed - rule.keys():
        names = ", ".join(sorted(map(_name_of, wrong)))
        raise TableError(
            f"{where}: {names} is unknown or missing; allowed here: {', '.join(sorted(allowed))}"
        )
    _check(f"{where}: ", rule, RULE)


def _check(where: str, values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for key, value in values.items():
        if key not in checks:
            raise TableError(f"{where}unknown key {shown(key)}; allowed: {', '.join(checks)}")
        is_allowed, allowed = checks[key]
        if not is_allowed(value):
            raise TableError(f"{where}{key} is {shown(value)}; allowed: {allowed}")


def _name_of(key: Any) -> str:
    return key if _is_name(key) and isinstance(key, str) else shown(key)


_short = reprlib.Repr()  # bounded, where yaml nests one list in itself a thousandfold
_short.maxlevel, _short.maxstring, _short.maxother = 4, 1000, 1000
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = 20


def shown(value: Any) -> str:
    """A value in one line of bounded length."""
    try:
        text = _short.repr(value)
    except ValueError:  # Python prints no whole number of thousands of digits
        return "a value too long to show"
    return text if len(text) <= 200 else f"{text[:200]}…"
