"""What a space view shows of a table: one column at its last epoch, and what may predict it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import landscape
from bench.landscape import Floats, Genes
from bench.report.leaderboard import metric_label
from bench.report.units import Unit, unit
from bench.space import Space
from bench.table import HIDDEN, TableError, column_names, mean_over_seeds, read_schedule

METRICS = ("valid_error", "valid_loss", "test_error", "test_loss")  # the first that is there


@dataclass(frozen=True)
class Numbers:
    """What one column of a table says of a space, read at its last epoch."""

    table: str
    digest: str
    dataset: str
    schedule: str
    metric: str
    epoch: int
    provenance: Mapping[str, str]
    genes: Genes
    """Of the rows, shape `[rows, genes]`."""
    seeds: NDArray[np.float32]
    """The metric under each training seed, `[rows, seeds]`, NaN where missing."""
    costs: Mapping[str, Floats]
    """Columns that are known without training, `[rows]` each."""
    signals: Mapping[str, Floats]
    """Whatever is known before the metric and may predict it, `[rows]` each, by its name."""
    keys: NDArray[np.uint64]
    rows: NDArray[np.int64]
    """Which row a key finds, as in the file."""

    @property
    def errors(self) -> Floats:
        """The mean over the training seeds of each row."""
        return mean_over_seeds(self.seeds)

    @property
    def unit(self) -> Unit:
        """How errors are shown: in percent, or losses as they are."""
        return unit(self.metric)


def read_numbers(
    file: Any,
    digest: str,
    space: Space,
    *,
    dataset: str | None = None,
    schedule: str | None = None,
    metric: str | None = None,
) -> Numbers:
    """Read what a view shows from an open table.

    Without a choice: the first data set in the alphabet, the first of `METRICS` that it has,
    the schedule that trains longest.

    Raises:
        TableError: the table is of another space, or lacks what was chosen; the message says
            what it has.
    """
    path = Path(file.filename)
    if file.attrs["space"] != space.name.encode():
        raise TableError(f"{path} is of space {file.attrs['space'].decode()}, not {space.name}")
    groups = {name: list(file[name]) for name in file if not hasattr(file[name], "dtype")}
    dataset = _chosen("dataset", dataset, sorted(groups, key=str.lower))
    if schedule is not None:
        _chosen("schedule", schedule, groups[dataset])
    recorded = {
        one: [
            name for name in column_names(file, dataset, one) if name.endswith(("_error", "_loss"))
        ]
        for one in groups[dataset]
        if schedule in (None, one)
    }
    there = list(dict.fromkeys(name for names in recorded.values() for name in names))
    metric = _chosen("metric", metric, sorted(there, key=_preference))
    last = {
        one: _last_epoch(file[dataset][one], metric) for one in recorded if metric in recorded[one]
    }
    schedule = max(last, key=lambda one: last[one])
    epoch = last[schedule]
    if epoch < 0:
        raise TableError(f"{path.name} holds no number of {metric} for {dataset}")
    known = read_schedule(file, dataset, schedule, [metric], [epoch])
    genes, keys, rows = (file[name][:] for name in ("architectures", "keys", "rows"))
    genes = genes.astype(np.int64)
    if len(genes) and not np.isin(space.keys(genes[:1]), keys).all():
        raise TableError(f"{path} was made with another form of {space.name}; import it again")
    costs = _costs(file, dataset, schedule)
    return Numbers(
        table=path.stem,
        digest=digest,
        dataset=dataset,
        schedule=schedule,
        metric=metric,
        epoch=epoch,
        provenance={
            key: file.attrs[key].decode() for key in ("source", "licence", "citation", "notes")
        },
        genes=genes,
        seeds=known.columns[metric][:, 0],
        costs=costs,
        signals=_trainings(file, dataset, schedule, metric, epoch) | costs,
        keys=keys,
        rows=rows.astype(np.int64),
    )


def _chosen(kind: str, value: str | None, allowed: Sequence[str]) -> str:
    if value is None and allowed:
        return allowed[0]
    if value is None or value not in allowed:
        raise TableError(f"{kind} is {value!r}; allowed: {', '.join(allowed) or 'none'}")
    return value


def _preference(metric: str) -> tuple[int, str]:
    return (METRICS.index(metric) if metric in METRICS else len(METRICS), metric)


def _last_epoch(group: Any, metric: str) -> int:
    """The last epoch at which a metric holds a number; -1 where there is none."""
    for place in range(len(group["epochs"]) - 1, -1, -1):
        if not np.isnan(group[metric][:, place]).all():
            return int(group["epochs"][place])
    return -1


def _costs(file: Any, dataset: str, schedule: str) -> dict[str, Floats]:
    visible = [
        name
        for name in column_names(file, dataset, schedule)
        if not name.endswith(HIDDEN) and "test" not in name
    ]
    columns = read_schedule(file, dataset, schedule, visible).columns
    found = {}
    for name in visible:
        values = columns[name]
        means = values.astype(np.float64) if values.ndim == 1 else mean_over_seeds(values)
        if not np.isnan(means).all():
            found[name] = means
    return found


def _trainings(
    file: Any, dataset: str, schedule: str, metric: str, epoch: int
) -> dict[str, Floats]:
    """Fewer epochs, other schedules and, for a test metric, the validation metric."""
    found = {}
    for one in [schedule, *(name for name in file[dataset] if name != schedule)]:
        there = column_names(file, dataset, one)
        signal = next(
            (name for name in ("valid_error", "valid_loss", metric) if name in there), None
        )
        if signal is None:
            continue
        group = file[dataset][one]
        epochs = [
            recorded
            for place, recorded in enumerate(group["epochs"][:].tolist())
            if not np.isnan(group[signal][:, place]).all()
        ]
        for at in landscape.thinned(epochs):
            if one == schedule and signal == metric and at >= epoch:
                continue
            values = read_schedule(file, dataset, one, [signal], [at]).columns[signal][:, 0]
            name = f"{metric_label(signal)}, {at} epoch{'s'[: at != 1]}"
            found[name if one == schedule else f"{name} (schedule {one})"] = mean_over_seeds(values)
    return {name: values for name, values in found.items() if not np.isnan(values).all()}
