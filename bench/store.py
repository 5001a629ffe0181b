"""Results on disk: one folder a cell, in it sealed shards of seeds; what is sealed never changes.

    <results>/runs/<readable name>-<key>/
        cell.json                           the resolved cell: what can change a number
        trials-<first>-<last>-<digest>.npz  sealed columns of these seeds; named by their SHA-256
        measured-<first>-<last>.npz         measured clocks and provenance of the same trials

The columns of `trials`: `seed` and `length` (trials) of each run; then, of all trials one after
another, `architecture` (genes), `fidelity` (epochs), `error` (the signal), `failed`, and the clocks
`evaluations`, `epochs`, `simulated_seconds`; `report_<metric>` is the trial's own, not its
incumbent's. Errors are fractions.

A file appears whole or not at all: it is written under another name and renamed; what is sealed
is flushed to disk first. `trials` is written last, so it marks the shard as finished. A run of the
harness that finds a shard sealed skips it; one that finds its block of seeds locked leaves it to
the process that holds the lock.
"""

import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]
SHARD_SIZE = 50  # seeds sealed together; no shard crosses a multiple of it


class StoreError(Exception):
    """Stored results that are damaged or contradict each other; the message is one sentence."""


class Shard(NamedTuple):
    """A sealed file with the trials of the seeds `first … last`."""

    first: int
    last: int
    digest: str
    path: Path


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Make `path` appear with all of `data` or not at all; after a power loss too if `durable`."""
    partial = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def open_cell(folder: Path, cell: Mapping[str, Any]) -> None:
    """Make the folder of a cell and describe the cell in it.

    Raises:
        StoreError: the folder describes another cell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / "cell.json", json.dumps(cell, indent=1, sort_keys=True, allow_nan=False)
    with _locked(folder / ".lock-cell", wait=True):
        _sweep(folder, r"cell\.json-\d+")
        if not path.exists():
            write_whole(path, text.encode(), durable=True)
    if path.read_text() != text:
        raise StoreError(f"{path} describes another cell under the same key; move it away")


def read_cell(folder: Path) -> dict[str, Any]:
    """The description of a cell.

    Raises:
        StoreError: it is damaged.
    """
    try:
        cell: dict[str, Any] = json.loads((folder / "cell.json").read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / 'cell.json'} cannot be read: {error}") from None
    return cell


def sealed(folder: Path) -> list[Shard]:
    """The sealed shards of a cell, by first seed.

    Raises:
        StoreError: two of them hold the same seeds.
    """
    shards = []
    for path in sorted(folder.glob("trials-*.npz")):
        named = re.fullmatch(r"trials-(\d+)-(\d+)-([0-9a-f]{16})", path.stem)
        if named is None:
            raise StoreError(f"{path} is none of our names; move it away")
        shards.append(Shard(int(named[1]), int(named[2]), named[3], path))
    shards.sort()
    for one, next_one in pairwise(shards):
        if next_one.first <= one.last:
            raise StoreError(
                f"{one.path} and {next_one.path.name} hold the same seeds; remove the wrong one"
            )
    return shards


def shards_to_run(folder: Path, seeds: range, size: int | None = None) -> list[range]:
    """The seeds that are not sealed, in runs of neighbours within a block of `size`.

    Args:
        size: `SHARD_SIZE` by default.
    """
    size = size or SHARD_SIZE
    there = {seed for shard in sealed(folder) for seed in range(shard.first, shard.last + 1)}
    missing: list[range] = []
    for seed in seeds:
        if seed in there:
            continue
        if missing and missing[-1].stop == seed and seed % size:
            missing[-1] = range(missing[-1].start, seed + 1)
        else:
            missing.append(range(seed, seed + 1))
    return missing


@contextmanager
def lock(folder: Path, seeds: range, size: int | None = None, *, wait: bool) -> Iterator[bool]:
    """Hold the block of these seeds against other processes; yields whether it is ours."""
    size = size or SHARD_SIZE
    first = seeds[0] - seeds[0] % size
    with _locked(folder / f".lock-{first:06d}", wait=wait) as ours:
        if ours:
            block = "|".join(f"{seed:06d}" for seed in range(first, first + size))
            _sweep(folder, rf"(trials|measured)-({block})-.*")
        yield ours


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file; the lock is the kernel's and dies with its holder."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_open_at(path, descriptor):
                continue  # its last holder removed it while we waited: others would not see ours
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def _is_open_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sweep(folder: Path, names: str) -> None:
    """Remove what a process left that was killed while it held the lock we hold."""
    for stray in folder.glob(".tmp-*"):
        if re.fullmatch(rf"\.tmp-{names}", stray.name):
            stray.unlink(missing_ok=True)


def seal(folder: Path, seeds: range, trials: Columns, measured: Columns) -> Shard:
    """Write a finished shard; equal trials give equal bytes."""
    data = _pack(trials)
    digest = hashlib.sha256(data).hexdigest()[:16]
    span = f"{seeds[0]:06d}-{seeds[-1]:06d}"
    write_whole(folder / f"measured-{span}.npz", _pack(measured), durable=True)
    path = folder / f"trials-{span}-{digest}.npz"
    write_whole(path, data, durable=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the names as well
    finally:
        os.close(descriptor)
    return Shard(seeds[0], seeds[-1], digest, path)


def _pack(columns: Columns) -> bytes:
    for name, values in columns.items():
        if values.dtype.hasobject:
            raise StoreError(f"column {name} holds objects, not numbers; it is not sealed")
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_trials(shard: Shard, names: Sequence[str] | None = None) -> Columns:
    """The columns of a sealed shard, all or the ones named, after a check of its digest.

    Raises:
        StoreError: the file has changed since it was sealed.
    """
    data = shard.path.read_bytes()
    if hashlib.sha256(data).hexdigest()[:16] != shard.digest:
        raise StoreError(f"{shard.path} has changed since it was sealed; remove it and run again")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in names or file.files}


def read_measured(shard: Shard, names: Sequence[str] | None = None) -> Columns:
    """The measured clocks beside a sealed shard.

    Raises:
        StoreError: the file is absent or damaged.
    """
    path = shard.path.with_name(f"measured-{shard.first:06d}-{shard.last:06d}.npz")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in names or file.files}
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise StoreError(f"{path} cannot be read: {error}") from None


def write_grid(results: Path, name: str, seeds: range, folders: Sequence[Path]) -> None:
    """Record, before a comparison starts, what it expects: `<results>/grids/<name>.json`.

    The file holds the name, the seeds as [first, stop] and the names of the cells' folders; it
    takes the place of an earlier one of that name.
    """
    grid = {
        "name": name,
        "seeds": [seeds.start, seeds.stop],
        "cells": sorted(folder.name for folder in folders),
    }
    path = results / "grids" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, canonical_json(grid).encode())
