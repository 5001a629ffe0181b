"""From sealed cells to comparisons: which runs may stand side by side, and what is missing."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.protocol import Protocol
from bench.search import Budget
from bench.store import (
    Columns,
    Shard,
    StoreError,
    canonical_json,
    read_cell,
    read_measured,
    read_trials,
    sealed,
)

REMEDY = "run it, or delete the grid that expects it"

Seeds = NDArray[np.int64]
MEASURED = ("wall_seconds", "gpu_seconds")  # clocks that stand beside the trials, not in them


@dataclass(frozen=True)
class CellRuns:
    """The sealed runs of one cell, by ascending seed; their trials stand one after another."""

    folder: str
    cell: Mapping[str, Any]
    """The stored description."""
    protocol: Protocol
    budget: Budget
    seeds: Seeds
    """Shape `[runs]`."""
    starts: NDArray[np.int64]
    """Shape `[runs + 1]`: the trials of run `i` are `starts[i] … starts[i + 1] - 1`."""
    clocks: Mapping[str, NDArray[Any]]
    """Readings after each trial, each of shape `[trials]`."""
    values: Mapping[str, NDArray[np.float64]]
    """Reported metrics of the incumbent after each trial, each `[trials]`."""


@dataclass(frozen=True)
class Comparison:
    """Cells that share everything but the strategy, with the seeds that all of them have."""

    slug: str
    """A name for files, its own in a report."""
    space: str
    dataset: str
    protocol: Protocol
    budget: Budget
    workers: int
    objective_digest: str
    objective: str
    """Its name, where it has one, and digest: `table nb201 (9e3fc1cc6605)`."""
    optimum: Mapping[str, float]
    """The lowest value of each reported metric, where it is known."""
    notes: str
    """What the objective says of its answers, a line or nothing."""
    labels: tuple[str, ...]
    cells: tuple[CellRuns, ...]
    seeds: Seeds
    left_out: tuple[str, ...]
    """A sentence for every cell with sealed seeds that the others lack."""
    missing: tuple[str, ...]
    """A sentence for everything that was expected here and is not sealed; then none is ranked."""
    apart: tuple[str, ...] = ()
    """What a heading adds where another comparison of the report has the same."""


class Grid(NamedTuple):
    """What a comparison consists of, written before its first run."""

    name: str
    seeds: range
    cells: tuple[str, ...]
    """Folders under `runs`."""


def read_grids(results: Path) -> list[Grid]:
    """The manifests `<results>/grids/*.json`, by file name.

    Raises:
        StoreError: one of them is damaged.
    """
    grids = []
    for path in sorted((results / "grids").glob("*.json")):
        try:
            stored = json.loads(path.read_text())
            first, stop = stored["seeds"]
            cells = tuple(str(cell) for cell in stored["cells"])
            grids.append(Grid(str(stored["name"]), range(first, stop), cells))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is not the manifest of a grid: {error!r}") from None
        if strange := [cell for cell in cells if Path(cell).name != cell]:
            raise StoreError(f"{path} names {strange[0]!r}, which is not a folder under runs")
    return grids


def expect(grids: Iterable[Grid]) -> dict[str, set[int]]:
    """The seeds that grids promise of each cell, by folder."""
    expected: dict[str, set[int]] = {}
    for grid in grids:
        for cell in grid.cells:
            expected.setdefault(cell, set()).update(grid.seeds)
    return expected


def spans(seeds: Iterable[int]) -> str:
    """Seeds as text: `0-9, 12`."""
    found: list[list[int]] = []
    for seed in sorted(seeds):
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in found)


def describe(folder: Path) -> dict[str, Any]:
    """What a cell is, by its `cell.json`, which is written before its first run.

    Raises:
        StoreError: the file is damaged, or has changed since the folder was named for it.
    """
    cell = read_cell(folder)
    key = hashlib.sha256(canonical_json(cell).encode()).hexdigest()[:12]
    if not folder.name.endswith(f"-{key}"):
        raise StoreError(f"{folder / 'cell.json'} has changed since the folder was named for it")
    return cell


def read_cell_runs(
    folder: Path, *, seeds: Collection[int] | None = None, clocks: Collection[str] = ()
) -> CellRuns:
    """The sealed runs of a cell, all or those of the seeds that are named.

    Args:
        clocks: to read besides the budget's and `evaluations`.

    Raises:
        StoreError: a file has changed since it was sealed, or contradicts another.
    """
    cell = describe(folder)
    stored = dict(cell["protocol"])
    digest = stored.pop("digest")
    try:
        protocol = Protocol(**stored)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{folder / 'cell.json'} holds no protocol of ours: {error}") from None
    if protocol.digest != digest:
        raise StoreError(
            f"{folder / 'cell.json'} names protocol {digest}, but its rules are {protocol.digest}"
        )
    budget = Budget(**cell["budget"])
    wanted = sorted({"evaluations", budget.clock, *clocks})
    names = ["seed", "length", "error", "fidelity", *(f"report_{name}" for name in protocol.report)]
    names += [clock for clock in wanted if clock not in MEASURED]
    parts: list[Columns] = []
    for shard in sealed(folder):
        if seeds is None or any(shard.first <= seed <= shard.last for seed in seeds):
            columns = read_trials(shard, names)
            if measured := [clock for clock in wanted if clock in MEASURED]:
                columns |= _measured(shard, measured, len(columns["error"]))
            parts.append(columns)
    if not parts:
        empty = np.zeros(0)
        parts = [dict.fromkeys((*names, *wanted), empty)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    starts = np.concatenate([[0], np.cumsum(joined["length"])]).astype(np.int64)
    best = np.empty(starts[-1], dtype=np.int64)
    errors, fidelities = joined["error"], joined["fidelity"]
    for first, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        best[first:stop] = first + protocol.incumbents(errors[first:stop], fidelities[first:stop])
    runs = CellRuns(
        folder=folder.name,
        cell=cell,
        protocol=protocol,
        budget=budget,
        seeds=joined["seed"].astype(np.int64),
        starts=starts,
        clocks={clock: joined[clock] for clock in wanted},
        values={name: joined[f"report_{name}"][best] for name in protocol.report},
    )
    return runs if seeds is None else take(runs, np.array(sorted(seeds), dtype=np.int64))


def _measured(shard: Shard, clocks: Collection[str], trials: int) -> Columns:
    """Measured clocks; GPU seconds are not noted where no GPU was held."""
    found = read_measured(shard)
    if "wall_seconds" in clocks and "wall_seconds" not in found:
        raise StoreError(f"{shard.path} has no wall_seconds beside it; remove it and run again")
    return {clock: found.get(clock, np.zeros(trials)) for clock in clocks}


def take(runs: CellRuns, seeds: Seeds) -> CellRuns:
    """Those of the runs whose seed is among `seeds`."""
    kept = np.isin(runs.seeds, seeds)
    if kept.all():
        return runs
    lengths = np.diff(runs.starts)
    trials = np.repeat(kept, lengths)
    return replace(
        runs,
        seeds=runs.seeds[kept],
        starts=np.concatenate([[0], np.cumsum(lengths[kept])]),
        clocks={name: column[trials] for name, column in runs.clocks.items()},
        values={name: column[trials] for name, column in runs.values.items()},
    )


def absent(
    results: Path, folders: Iterable[str], expected: Mapping[str, Collection[int]]
) -> dict[str, str]:
    """By folder, a sentence for every cell that lacks seeds that are expected of it.

    A folder that is asked for and not in `expected` needs one sealed seed.
    """
    sentences = {}
    for folder in sorted({*folders, *expected}):
        there: set[int] = set()
        for shard in sealed(results / "runs" / folder):
            there.update(range(shard.first, shard.last + 1))
        lacking = set(expected.get(folder, ())) - there
        if not there:
            promised = f" of {spans(lacking)}" if lacking else ""
            sentences[folder] = f"{folder}: no seed{promised} is sealed; {REMEDY}"
        elif lacking:
            sentences[folder] = f"{folder}: seeds {spans(lacking)} are not sealed; {REMEDY}"
    return sentences


def compare(
    cells: Iterable[CellRuns],
    lacking: Mapping[str, str],
    described: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[Comparison]:
    """Put cells that share everything but the strategy side by side, in a fixed order.

    Args:
        lacking: sentences on what is missing, by folder.
        described: what cells in `lacking` are, by folder, where that is known. Else a cell
            without a sealed seed is told by the name of its folder, which holds no settings:
            it counts in every comparison of its space, dataset, protocol and budget.
    """
    homes = {folder: _comparison_key(cell) for folder, cell in described.items()}
    groups: dict[str, list[CellRuns]] = {}
    for runs in cells:
        if len(runs.seeds):
            groups.setdefault(_comparison_key(runs.cell), []).append(runs)
    keyed = sorted(groups.items(), key=lambda item: (*_order(item[1][0]), item[0]))
    plain = [_slug(members[0]) for _, members in keyed]
    comparisons = []
    for slug, (key, members) in zip(plain, keyed, strict=True):
        digest = hashlib.sha256(key.encode()).hexdigest()[:6]
        unique = slug if plain.count(slug) == 1 else f"{slug}-{digest}"
        elsewhere = {folder for folder, home in homes.items() if home != key}
        here = {name: said for name, said in lacking.items() if name not in elsewhere}
        comparisons.append(_comparison(unique, members, here, {*homes} - elsewhere))
    return _told_apart(comparisons)


def _told_apart(comparisons: list[Comparison]) -> list[Comparison]:
    """Add to headings that would be equal: the protocol, then the objective, then the slug."""
    shown = attrgetter("space", "dataset", "budget", "workers", "apart")
    for more in map(attrgetter, ("protocol.name", "objective", "slug")):
        heads = [shown(one) for one in comparisons]
        comparisons = [
            one if heads.count(head) == 1 else replace(one, apart=(*one.apart, more(one)))
            for one, head in zip(comparisons, heads, strict=True)
        ]
    return comparisons


def _comparison(
    slug: str, members: Sequence[CellRuns], lacking: Mapping[str, str], known: Collection[str]
) -> Comparison:
    """Those of the folders in `lacking` belong here that are `known` to, or are named alike."""
    labelled = sorted(zip(_labels(members), members, strict=True), key=lambda pair: pair[0])
    labels = tuple(label for label, _ in labelled)
    cells = [runs for _, runs in labelled]
    shared: Seeds = reduce(np.intersect1d, [runs.seeds for runs in cells])
    left_out = [
        f"{label}: seeds {spans(more.tolist())} are left out, not every strategy has them"
        for label, runs in labelled
        if len(more := np.setdiff1d(runs.seeds, shared))
    ]
    first, folders = cells[0], {*known, *(runs.folder for runs in cells)}
    names = first.cell["names"]
    digest = first.cell["objective_digest"][:12]
    called = names.get("objective")
    kind = called.split()[0] if called else "table"
    tail = "-".join(("", *(names[p] for p in ("space", "dataset", "protocol")), _limit(first)))
    return Comparison(
        slug=slug,
        space=names["space"],
        dataset=names["dataset"],
        protocol=first.protocol,
        budget=first.budget,
        workers=first.cell["workers"],
        objective_digest=first.cell["objective_digest"],
        objective=f"{called} ({digest})" if called else digest,
        optimum=first.cell["optimum"],
        notes=first.cell.get("notes", ""),  # cells of earlier versions have none
        apart=() if kind == "table" else (kind,),  # a figure cut out of a report says so
        labels=labels,
        cells=tuple(take(runs, shared) for runs in cells),
        seeds=shared,
        left_out=tuple(left_out),
        missing=tuple(
            sentence
            for folder, sentence in lacking.items()
            if folder in folders or folder.rpartition("-")[0].endswith(tail)
        ),
    )


def _without_strategy(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {
        part: {name: value for name, value in content.items() if name != "strategy"}
        if part in ("names", "config")
        else content
        for part, content in cell.items()
    }


def _comparison_key(cell: Mapping[str, Any]) -> str:
    """Equal for cells that may stand side by side."""
    return canonical_json(_without_strategy(cell))


def _limit(runs: CellRuns) -> str:
    return f"{runs.budget.limit:g}-{runs.budget.clock}"  # as in `Cell.folder`


def _order(runs: CellRuns) -> tuple[Any, ...]:
    names = runs.cell["names"]
    parts = (names["space"], names["dataset"], names["protocol"])
    return *parts, runs.budget.clock, runs.budget.limit, runs.cell["workers"]


def _slug(runs: CellRuns) -> str:
    names = runs.cell["names"]
    parts = (*(names[part] for part in ("space", "dataset", "protocol")), _limit(runs))
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(parts)).lstrip(".-")


def _labels(members: Sequence[CellRuns]) -> list[str]:
    """The strategy of each cell; where one name stands twice, with the settings that differ."""
    names = [str(runs.cell["names"]["strategy"]) for runs in members]
    settings = [_flat(runs.cell["config"].get("strategy")) for runs in members]
    labels = []
    for name, own in zip(names, settings, strict=True):
        twins = [other for other, also in zip(settings, names, strict=True) if also == name]
        differing = [
            f"{setting}={own[setting]}" if setting in own else f"no {setting}"
            for setting in sorted({setting for twin in twins for setting in twin})
            if len({canonical_json([twin.get(setting)]) for twin in twins}) > 1
        ]
        labels.append(f"{name} ({', '.join(differing)})" if differing else name)
    return [
        label if labels.count(label) == 1 else f"{label} [{runs.folder.rpartition('-')[2][:6]}]"
        for label, runs in zip(labels, members, strict=True)
    ]


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, without Hydra's own keys."""
    if not isinstance(config, Mapping):
        return {prefix: config} if prefix else {}
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if not name.startswith("_"):
            flat |= _flat(value, f"{prefix}.{name}" if prefix else name)
    return flat
