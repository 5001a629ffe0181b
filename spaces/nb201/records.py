"""The records of NAS-Bench-201 and NATS-Bench: one an architecture, checked and put into arrays.

A record is `{schedule: {"arch_str": …, "all_results": {(data set, seed): run}}}`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.space import Space
from bench.table import Schedule, Table, TableError
from spaces.nb201.runs import (
    COSTS,
    SETS,
    Errors,
    Run,
    check_run,
    costs_of,
    errors_of,
    field,
    mean,
    shown,
    whole,
)

MOST_SEEDS = 8  # of one data set and schedule; the official files have three

SPLIT = {
    "train_error": "train",
    "valid_error": "x-valid",
    "test_error": "x-test",
    "valtest_error": "ori-test",  # validation and test together
}
# Columns of our data sets: what they were trained on in the file, and measured on.
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "cifar10": {
        "train_error": ("cifar10-valid", "train"),
        "valid_error": ("cifar10-valid", "x-valid"),
        "test_error": ("cifar10", "ori-test"),
        "test_run_train_error": ("cifar10", "train"),
    },
    "cifar10-valid": {
        "train_error": ("cifar10-valid", "train"),
        "valid_error": ("cifar10-valid", "x-valid"),
        "test_error": ("cifar10-valid", "ori-test"),
    },
    **{
        dataset: {column: (dataset, split) for column, split in SPLIT.items()}
        for dataset in ("cifar100", "ImageNet16-120")
    },
}
COSTS_FROM = {"cifar10": "cifar10-valid"}  # a search trains on the half
FAMILIES = {"cifar10-valid": "cifar10"}  # data sets whose training seeds are listed together


class Results:
    """Rows of result arrays, filled record by record and checked as they come."""

    def __init__(self, space: Space, schedules: Sequence[str], name: str) -> None:
        self.space, self.schedules, self.name = space, list(schedules), name
        self.strings: dict[int, str] = {}  # by index
        self.meta: list[str] | None = None
        self.errors: dict[tuple[str, str, str, int], tuple[Errors, NDArray[np.bool_]]] = {}
        self.costs: dict[tuple[str, str, str], NDArray[np.float32]] = {}

    @contextmanager
    def naming(self, path: Path) -> Iterator[None]:
        """Say in what is raised which file it is about."""
        try:
            yield
        except TableError as error:
            named = str(error).startswith(path.name)
            raise TableError(f"{'' if named else f'{path.name}: '}{error}") from None

    def check_meta(self, top: Any) -> None:
        """Look at what describes all records, before or after them."""
        needed = ("meta_archs", "arch2infos", "evaluated_indexes")
        if not isinstance(top, dict) or not top.keys() >= set(needed):
            raise TableError(f"{self.name} lacks one of {', '.join(needed)}")
        strings, indexes = top["meta_archs"], top["evaluated_indexes"]
        total = top.get("total_archs", self.space.size)
        listed = len(strings) if isinstance(strings, list) else 0
        if not listed == total == self.space.size:
            raise TableError(
                f"{self.name} is no file of {self.space.name}: it lists {listed:,} architectures, "
                f"not {self.space.size:,}"
            )
        for index, text in self.strings.items():
            self._check_string(index, text, strings[index])
        if not isinstance(indexes, set | list) or any(type(index) is not int for index in indexes):
            raise TableError(f"{self.name}: evaluated_indexes is no set of numbers")
        if indexes and set(indexes) != self.strings.keys():
            raise TableError(
                f"{self.name} names {len(set(indexes)):,} evaluated architectures and holds "
                f"{len(self.strings):,}, or others"
            )
        self.meta = strings

    def _check_string(self, index: int, text: Any, listed: Any) -> None:
        if text != listed:
            raise TableError(f"record {index} is of {shown(text)}; the file lists {shown(listed)}")

    def add(self, index: Any, record: Any) -> None:
        """Check one record and put it into the arrays."""
        if type(index) is not int or not 0 <= index < self.space.size:
            raise TableError(f"index {shown(index)}; allowed: 0 to {self.space.size - 1}")
        if index in self.strings:
            raise TableError(f"record {index} is there twice")
        if not isinstance(record, dict) or record.keys() != set(self.schedules):
            there = ", ".join(map(shown, record)) if isinstance(record, dict) else "something else"
            raise TableError(
                f"record {index} holds {there[:200]}; allowed: the schedules "
                f"{', '.join(self.schedules)}"
            )
        for schedule, state in record.items():
            where = f"record {index}, schedule {schedule}"
            text = field(state, "arch_str", str, where)
            if self.meta is not None:
                self._check_string(index, text, self.meta[index])
            if self.strings.setdefault(index, text) != text:
                raise TableError(f"{where} is of {shown(text)}, another architecture")
            if field(state, "arch_index", int | str, where) not in (index, f"{index:06d}"):
                raise TableError(f"{where} has the index {shown(state['arch_index'])}")
            self._add_state(index, schedule, state, where)

    def _add_state(self, index: int, schedule: str, state: Run, where: str) -> None:
        seeds: dict[str, list[int]] = {}
        costs: dict[str, list[list[float]]] = {}
        for key, run in field(state, "all_results", dict, where).items():
            if not (isinstance(key, tuple) and len(key) == 2 and type(key[1]) is int):
                raise TableError(f"{where}: {shown(key)} is no pair of a data set and a seed")
            trained_on, seed = key
            if trained_on not in SETS or not 0 <= seed < 1_000_000:
                raise TableError(
                    f"{where}: {shown(key)}; allowed: {', '.join(SETS)}, seeds to 999999"
                )
            at = f"{where}, {trained_on}, seed {seed}"
            check_run(run, key, int(schedule), self.strings[index], at)
            seeds.setdefault(trained_on, []).append(seed)
            costs.setdefault(trained_on, []).append(costs_of(run, at))
            for name, values in errors_of(run, SETS[trained_on], int(schedule), at).items():
                rows, known = self._rows(schedule, trained_on, name, seed)
                rows[index], known[index] = values, True
        listed = field(state, "dataset_seed", dict, where)
        for name in listed.keys() | seeds.keys():
            some = listed.get(name)
            if not isinstance(some, list) or set(seeds.get(name, [])) != {*map(whole, some)}:
                raise TableError(f"{where}: the runs are not those of dataset_seed")
        for trained_on, several in costs.items():
            for name, some in zip(COSTS, zip(*several, strict=True), strict=True):
                key = schedule, trained_on, name
                if key not in self.costs:
                    self.costs[key] = np.full(self.space.size, np.nan, np.float32)
                self.costs[key][index] = mean([value for value in some if value == value])

    def _rows(
        self, schedule: str, trained_on: str, name: str, seed: int
    ) -> tuple[Errors, NDArray[np.bool_]]:
        key = (schedule, trained_on, name, seed)
        if key not in self.errors:
            if sum(other[:3] == key[:3] for other in self.errors) >= MOST_SEEDS:
                raise TableError(
                    f"schedule {schedule}, {trained_on}: more than {MOST_SEEDS} training seeds"
                )
            shape = (self.space.size, int(schedule))
            self.errors[key] = np.empty(shape, np.float32), np.zeros(self.space.size, bool)
        return self.errors[key]

    def table(self, provenance: Mapping[str, str]) -> Table:
        """What was added, in the official order of architectures; empties the arrays."""
        rows = sorted(self.strings)
        if not rows:
            raise TableError(f"{self.name} holds no record of an architecture")
        try:
            genes = [self.space.from_string(self.strings[index]) for index in rows]
        except ValueError as error:
            raise TableError(f"{self.name}: {error}") from None
        seeds = self._seeds()
        stacked = {
            (schedule, trained_on, name): self._stack(schedule, trained_on, name, some, rows)
            for (schedule, family), some in seeds.items()
            for trained_on in SETS
            if FAMILIES.get(trained_on, trained_on) == family
            for name in SETS[trained_on]
        }
        schedules = {}
        for dataset, sources in COLUMNS.items():
            for schedule in self.schedules:
                some = seeds.get((schedule, FAMILIES.get(dataset, dataset)), [])
                columns = {
                    column: values
                    for column, key in sources.items()
                    if (values := stacked.get((schedule, *key))) is not None
                }
                if columns:
                    columns |= self._cost_columns(schedule, COSTS_FROM.get(dataset, dataset), rows)
                    epochs = np.arange(1, int(schedule) + 1, dtype=np.int32)
                    schedules[dataset, str(int(schedule))] = Schedule(
                        epochs, np.array(some, np.int32), columns
                    )
        return Table(dict(provenance), np.array(genes, dtype=np.int8), schedules)

    def _seeds(self) -> dict[tuple[str, str], list[int]]:
        seeds: dict[tuple[str, str], set[int]] = {}
        for schedule, trained_on, _, seed in self.errors:
            seeds.setdefault((schedule, FAMILIES.get(trained_on, trained_on)), set()).add(seed)
        return {key: sorted(some) for key, some in seeds.items()}

    def _stack(
        self, schedule: str, trained_on: str, name: str, seeds: list[int], rows: list[int]
    ) -> Errors | None:
        """Errors of shape `[architectures, epochs, seeds]`; None where there is no number."""
        parts = [self.errors.pop((schedule, trained_on, name, seed), None) for seed in seeds]
        if not any(part is not None for part in parts):
            return None
        stacked = np.full((len(rows), int(schedule), len(seeds)), np.nan, np.float32)
        for place, part in enumerate(parts):
            if part is not None:
                values, known = part
                there = known[rows]
                stacked[there, :, place] = values[np.array(rows)[there]]
        return None if np.isnan(stacked).all() else stacked

    def _cost_columns(self, schedule: str, trained_on: str, rows: list[int]) -> dict[str, Errors]:
        found = {name: self.costs.get((schedule, trained_on, name)) for name in COSTS}
        return {
            name: values[rows]
            for name, values in found.items()
            if values is not None and not np.isnan(values[rows]).all()
        }
