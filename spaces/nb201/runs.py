"""One training run of NAS-Bench-201 or NATS-Bench, checked and turned into errors and costs.

It holds accuracies in percent by epoch, from 0, millions of parameters and of multiply-adds, and
seconds, in the sixteen fields of `ResultsCount` (nats_bench/api_utils.py, D-X-Y/NATS-Bench).
"""

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.table import TableError

Run = Mapping[str, Any]
Errors = NDArray[np.float32]

# What was measured of the networks trained on a data set; `cifar10-valid` is half of `cifar10`.
SETS = {
    "cifar10-valid": ("train", "x-valid", "ori-test"),
    "cifar10": ("train", "ori-test"),
    "cifar100": ("train", "x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("train", "x-valid", "x-test", "ori-test"),
}
COSTS = ("train_seconds", "valid_seconds", "parameters", "flops", "latency")
BRIEF = reprlib.Repr()
BRIEF.maxlevel, BRIEF.maxstring, BRIEF.maxother = 2, 120, 120


def shown(value: Any) -> str:
    """A value in one line of bounded length, whatever it holds."""
    try:
        return BRIEF.repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return "a value too long to show"


def whole(value: Any) -> int | None:
    """A whole number as it is, anything else as None."""
    return value if type(value) is int else None


def field(record: Any, name: str, kind: Any, where: str) -> Any:
    """A field of a record; raises TableError unless it is there and of this kind."""
    if not isinstance(record, dict) or name not in record:
        raise TableError(f"{where}: {name} is missing")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TableError(f"{where}: {name} is {shown(value)}")
    return value


def check_run(run: Any, key: tuple[str, int], epochs: int, text: str, where: str) -> None:
    """Raise TableError unless a run is that of this data set and seed, and of this network."""
    trained_on, seed = key
    if field(run, "name", str, where) != trained_on:
        raise TableError(f"{where}: its name is {shown(run['name'])}")
    named = field(run, "seed", int | str, where)
    if named != seed and not (type(named) is str and re.fullmatch(f"0*{seed}", named)):
        raise TableError(f"{where}: its seed is {shown(named)}")
    if field(run, "epochs", int, where) != epochs:
        raise TableError(f"{where}: it has {shown(run['epochs'])} epochs, not {epochs}")
    if field(run, "arch_config", dict, where).get("arch_str", text) != text:
        raise TableError(f"{where}: its network is {shown(run['arch_config']['arch_str'])}")


def errors_of(run: Run, names: Sequence[str], epochs: int, where: str) -> dict[str, Errors]:
    """Error fractions on each set of `names`, shape `[epochs]`; NaN where nothing was measured.

    Raises:
        TableError: an epoch or a set is missing or foreign, or a number is no percentage.
    """
    curve, measured = (field(run, name, dict, where) for name in ("train_acc1es", "eval_acc1es"))
    if curve.keys() != set(range(epochs)):
        raise TableError(f"{where}: train_acc1es has {len(curve)} epochs, not 0 to {epochs - 1}")
    percent = {"train": [curve[epoch] for epoch in range(epochs)]}
    percent |= {name: list(map(measured.get, _keys(name, epochs))) for name in names[1:]}
    there = sum(epochs - percent[name].count(None) for name in names[1:])
    if there != len(measured):
        raise TableError(
            f"{where}: eval_acc1es has keys other than {', '.join(names[1:])} @ 0 to {epochs - 1}"
        )
    last = names[1]  # validation, or the test of networks that were trained on everything
    if percent[last][-1] is None or None in percent["train"]:
        raise TableError(f"{where}: the accuracy of {last}@{epochs - 1} or of training is missing")
    errors = {name: _fractions(values, f"{where}, {name}") for name, values in percent.items()}
    if run["name"] in ("cifar10", "cifar10-valid") and errors["train"].min() >= 0.99:
        raise TableError(f"{where}: accuracies up to 1 are no percent, as chance is 10")
    return errors


@cache
def _keys(name: str, epochs: int) -> list[str]:
    return [f"{name}@{epoch}" for epoch in range(epochs)]


def _fractions(percent: list[Any], where: str) -> Errors:
    _check_numbers(percent, where, 0, 100)
    accuracy = np.array(percent, float)  # None becomes NaN
    return np.maximum(1 - accuracy / 100, 0).astype(np.float32)


def _check_numbers(values: Sequence[Any], where: str, low: float, high: float) -> None:
    """Raise TableError where one is no number in the range; None is allowed."""
    high += 1e-6  # percentages are sums that were divided
    plain = set(map(type, values)) <= {float, int} and bool(values)  # as nearly always
    if plain and low <= min(values) and max(values) <= high and not math.isnan(sum(values)):
        return
    for value in values:
        if value is not None and not (type(value) in (float, int) and low <= value <= high):
            raise TableError(f"{where}: {shown(value)}; allowed: {low:g} to {high:g}")


def costs_of(run: Run, where: str) -> list[float]:
    """Of one run, in the order of `COSTS`; NaN where it is not known.

    Raises:
        TableError: a number is none, or out of range.
    """
    times = run.get("train_times") or {}
    passes = run.get("eval_times") or {}
    if not isinstance(times, dict) or not isinstance(passes, dict):
        raise TableError(f"{where}: train_times or eval_times is no dict by epoch")
    validations = [
        value
        for key, value in passes.items()
        if isinstance(key, str) and key.startswith("x-valid@")
    ]
    latencies = run.get("latency") or []
    if not isinstance(latencies, list):
        raise TableError(f"{where}: latency is {shown(latencies)}; allowed: a list of seconds")
    measured = [value for value in latencies if value != -1]  # -1 where it failed
    found = []
    for name, values, high, factor in (
        ("train_times", list(times.values()), 1e6, 1),
        ("eval_times", validations, 1e6, 1),
        ("params", [field(run, "params", float | int, where)], 1e4, 1e6),
        ("flop", [field(run, "flop", float | int, where)], 1e6, 1e6),
        ("latency", measured, 1e3, 1),
    ):
        _check_numbers(values, f"{where}, {name}", 1e-12, high)
        if None in values:
            raise TableError(f"{where}, {name}: None; allowed: numbers")
        found.append(mean(values) * factor)
    found[2] = round(found[2])
    return found


def mean(values: Sequence[float]) -> float:
    """Of equal values, exactly that value; NaN of none."""
    if not values:
        return math.nan
    return values[0] if min(values) == max(values) else math.fsum(values) / len(values)
