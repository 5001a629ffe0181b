"""What a build has sealed, and the table that this makes."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.build import SPLITS, Plan, key_of
from bench.data import problems
from bench.space import Space
from bench.store import Columns, canonical_json, read_measured, read_trials, sealed
from bench.table import Schedule, Table, TableError, data_folder, open_table, write_table


class Failure(NamedTuple):
    """A training that did not end well."""

    architecture: str
    seed: int
    status: str
    message: str
    path: Path
    """The shard that says so; without it, the training is done again."""


class Built(NamedTuple):
    """The sealed trainings of a build; arrays of shape `[architectures, seeds, …]`."""

    status: NDArray[Any]
    columns: dict[str, NDArray[np.float64]]
    """`errors` with splits and epochs, `f1` with splits, `parameters`, `epoch_seconds`, …"""
    failures: list[Failure]
    origin: dict[str, str]
    """Software and machine of the first shard."""


def collect(plan: Plan, folder: Path) -> Built:
    """Read what is sealed of a build that is done.

    Raises:
        StoreError: a shard is damaged.
    """
    shards = sealed(folder)
    parts: list[Columns] = []
    failures = []
    for shard in shards:
        columns = read_trials(shard) | read_measured(shard)
        for place in np.flatnonzero(columns["status"] != "ok").tolist():
            arch, seed = plan.training(shard.first + place)
            status, message = str(columns["status"][place]), str(columns["message"][place])
            text = plan.space.to_string(arch)
            failures.append(Failure(text, seed, status, message, shard.path))
        parts.append(columns)
    origin = json.loads(parts[0]["provenance"].tobytes())
    names = dict.fromkeys(name for part in parts for name in part)
    joined = {
        name: np.concatenate(
            [part.get(name, np.full(len(part["status"]), np.nan)) for part in parts]
        )
        for name in names
        if name not in ("number", "message", "provenance")
    }
    shape = (len(plan.architectures), plan.seeds)
    shaped = {name: values.reshape(*shape, *values.shape[1:]) for name, values in joined.items()}
    return Built(shaped.pop("status"), shaped, failures, origin)


def to_table(plan: Plan, built: Built, texts: Mapping[str, str]) -> Table:
    """The table of a build.

    Args:
        texts: `source`, `licence`, `citation` and `notes` of its provenance.

    Raises:
        TableError: every training failed, or the values are not those of a table.
    """
    if not (built.status == "ok").any():
        first = " ".join(built.failures[0][2:4]).rstrip()
        raise TableError(f"every training failed; the first: {first}")
    epochs = plan.trainer.recipe.epochs
    columns: dict[str, NDArray[Any]] = {}
    for place, split in enumerate(SPLITS):
        columns[f"{split}_error"] = built.columns["errors"][:, :, place].swapaxes(1, 2)
        last = np.full_like(columns[f"{split}_error"], np.nan)
        last[:, -1] = 1 - built.columns["f1"][:, :, place]
        columns[f"{split}_f1_error"] = last.clip(0, 1)
    columns["train_seconds"] = _median(built.columns["epoch_seconds"])
    for name in "parameters", "flops", "latency":
        if name in built.columns:
            columns[name] = _median(built.columns[name])
    columns |= {name: some for name, some in built.columns.items() if name.startswith("proxy_")}
    schedule = Schedule(
        np.arange(1, epochs + 1, dtype=np.int32),
        np.arange(plan.first_seed, plan.first_seed + plan.seeds, dtype=np.int32),
        {
            name: values.astype(np.float32)
            for name, values in columns.items()
            if name == "train_seconds" or not np.isnan(values).all()
        },
    )
    about = {**texts, "space": plan.space.name, "source_sha256": key_of(plan)}
    genes = np.array(plan.architectures, np.int8)
    table = Table(about, genes, {(plan.dataset, str(epochs)): schedule})
    if wrong := problems(table, plan.space, partial=True):
        raise TableError(f"the build makes no table: {'; '.join(wrong)}")
    return table


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the seeds `[architectures, seeds]` that are there; NaN where there is none."""
    some = ~np.isnan(values).all(1)
    found = np.full(len(values), np.nan)
    found[some] = np.nanmedian(values[some], axis=1)
    return found


def put(table: Table, space: Space, name: str) -> Path:
    """Write a table into the data folder; returns its path.

    Raises:
        TableError: another table has this name.
    """
    path = data_folder() / f"{name}.h5"
    if path.exists():
        with open_table(path) as (file, _):
            there = file.attrs["source_sha256"].decode()
        if there != table.provenance["source_sha256"]:
            raise TableError(f"{path} is another table; choose a name= of its own, or move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table, space, path)
    return path


def discrimination(errors: NDArray[np.float64]) -> tuple[float, float]:
    """How far luck and how far architectures move the errors of the best tenth, by mean.

    Args:
        errors: of shape `[architectures, seeds]`, none missing.

    Returns:
        The standard deviation between the training seeds of one architecture, pooled; and the
        distance between the lowest and the highest mean over seeds.

    Raises:
        ValueError: there are fewer than 20 architectures or two seeds.
    """
    if len(errors) < 20 or errors.shape[1] < 2:
        raise ValueError(
            f"errors have shape {list(errors.shape)}; allowed: from 20 architectures and 2 seeds"
        )
    means = errors.mean(1)
    best = np.argsort(means, kind="stable")[: len(errors) // 10]
    return float(np.sqrt(errors[best].var(1, ddof=1).mean())), float(np.ptp(means[best]))


def notes(plan: Plan, built: Built, chosen: str) -> str:
    """What a user of the table must know, in sentences.

    Args:
        chosen: which architectures, as in the command.
    """
    recipe = canonical_json(asdict(plan.trainer.recipe))
    load = {k: v for k, v in plan.config["dataset"]["load"].items() if not k.startswith("_")}
    examples = plan.about["examples"]
    machine = plan.about["hardware"] or plan.about["device"]
    packages = [
        f"{name} {built.origin[name]}"
        for name in ("python", "torch", "numpy")
        if name in built.origin
    ]
    alone = "of ten steps alone, times the steps of an epoch"
    system = built.origin["platform"].partition("-")[0]
    lines = [
        f"{len(plan.architectures):,} of {plan.space.networks:,} networks ({chosen}), each trained "
        f"under seeds {plan.first_seed} to {plan.first_seed + plan.seeds - 1}; "
        f"{len(built.failures)} of {plan.trainings:,} trainings failed and are missing",
        f"{examples['train']:,} examples for training, {examples['valid']:,} for validation, "
        f"{examples['test']:,} for test; data settings {canonical_json(load)}, SHA-256 of the data "
        f"{plan.about['data'][:12]}",
        f"recipe {recipe}",
        *(
            [
                f"up to {plan.shard} networks were trained at a time, as a population; their "
                f"train_seconds are {alone if plan.costs else 'shares of its time'}"
            ]
            if plan.about["population"]
            else []
        ),
        "errors are taken after every epoch on the whole splits; *_f1_error is 1 - macro F1 after "
        "the last epoch",
        *_told_apart(built),
        "train_seconds and latency are measured, medians over the training seeds, and differ "
        "between builds; every other column is equal on the same kind of machine",
        f"trained on {machine} with {', '.join(packages)}, {system} {built.origin['processor']}",
    ]
    return ". ".join(lines) + "."


def _told_apart(built: Built) -> list[str]:
    """What to think of differences among the best, where enough was trained to say it."""
    last = built.columns["errors"][:, :, :, -1]
    whole = last[~np.isnan(last).any((1, 2))]
    try:
        found = [
            f"{split} {noise:.4f} and {spread:.4f}"
            for place, split in enumerate(SPLITS)
            for noise, spread in [discrimination(whole[:, :, place])]
        ]
    except ValueError:
        return []
    return [
        "in the best tenth, after the last epoch, the standard deviation between the training "
        "seeds of one architecture and the distance between the lowest and the highest mean over "
        f"seeds are {', '.join(found)}"
    ]
