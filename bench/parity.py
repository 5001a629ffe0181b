"""How well live training agrees with a table: a sample of its rows, trained and compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.build import BuildError, InputError, Plan
from bench.built import Built
from bench.landscape import RankCorrelation, rank_correlation
from bench.report.leaderboard import clean, metric_label
from bench.report.statistics import FEWEST, mean_band
from bench.report.tables import UNKNOWN, _markdown
from bench.search import stream
from bench.space import Architecture, Space
from bench.store import canonical_json, write_whole
from bench.table import (
    TableError,
    column_names,
    find_table,
    mean_over_seeds,
    open_table,
    read_index,
    read_schedule,
)
from bench.words import many

if TYPE_CHECKING:  # seaborn takes seconds to import
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
METRICS = ("valid_error", "test_error")  # that training and a table may both have


class Reference(NamedTuple):
    """The rows of a table that are to be trained live."""

    table: str
    digest: str
    dataset: str
    schedule: str
    metric: str
    epoch: int
    architectures: tuple[Architecture, ...]
    errors: Floats
    """Under each training seed of the table, `[architectures, seeds]`, NaN where missing."""
    epoch_seconds: Floats
    """Of one training epoch, `[architectures]`; NaN where the table knows none."""


def sample(
    space: Space,
    table: str,
    dataset: str,
    schedule: str,
    count: int,
    *,
    metric: str | None = None,
    seed: int = 0,
) -> Reference:
    """Draw rows of a table, one from each of `count` equal parts of its rows in order of error.

    Args:
        metric: by default the first of `METRICS` that the table has.

    Raises:
        TableError: the table is not here, or lacks what is asked for.
        InputError: it has fewer rows than are to be drawn.
    """
    path = find_table(space, table)
    with open_table(path) as (file, digest):
        if file.attrs["space"] != space.name.encode():
            raise TableError(f"{path} is of space {file.attrs['space'].decode()}, not {space.name}")
        there = column_names(file, dataset, schedule)
        known = [name for name in METRICS if name in there]
        where = f"for {dataset}, schedule {schedule}"
        if not known:
            raise TableError(f"table {path.name} has neither of {', '.join(METRICS)} {where}")
        metric = metric or known[0]
        if metric not in known:
            raise TableError(
                f"metric is {metric!r}; table {path.name} has {', '.join(known)} {where}"
            )
        seconds = [name for name in ("train_seconds", "elapsed_seconds") if name in there][:1]
        last = read_schedule(file, dataset, schedule, [metric, *seconds], "last")
        genes, _, _ = read_index(file)
    errors = last.columns[metric][:, 0]
    mean = mean_over_seeds(errors)
    rows = np.flatnonzero(~np.isnan(mean))
    if not 3 <= count <= len(rows):
        raise InputError(f"n is {count}; table {path.name} allows 3 to {len(rows):,}")
    rng = stream(seed, "parity")
    parts = np.array_split(rows[np.argsort(mean[rows], kind="stable")], count)
    drawn = np.array([part[int(rng.random() * len(part))] for part in parts])
    epoch_seconds = np.full(count, np.nan)
    if seconds:
        values = last.columns[seconds[0]][drawn].astype(np.float64)
        epoch_seconds = (
            values if values.ndim == 1 else mean_over_seeds(values)[:, 0] / last.epochs[-1]
        )
    return Reference(
        path.stem,
        digest,
        dataset,
        schedule,
        metric,
        int(last.epochs[-1]),
        tuple(tuple(arch) for arch in genes[drawn].tolist()),
        errors[drawn].astype(np.float64),
        epoch_seconds,
    )


@dataclass(frozen=True)
class Parity:
    """Live training against a table; errors are fractions, means over seeds."""

    reference: Reference
    names: tuple[str, ...]
    """The string form of each architecture."""
    live: Floats
    """`[architectures]`; NaN where every training failed."""
    told: Floats
    """By the table, `[architectures]`."""
    ranks: RankCorrelation
    between_seeds: RankCorrelation | None
    """Of the table's first two training seeds with each other, as a yardstick."""
    bias: tuple[float, float, float]
    """Mean of live minus table, with the ends of its 95 % interval."""
    spread: float
    """Standard deviation of live minus table."""
    noise: float
    """Standard deviation of the table's training seeds within an architecture; NaN for one."""
    factor: tuple[float, float, float]
    """Seconds an epoch live over those of the table: median, lowest, highest."""
    failed: int
    """Trainings that did not end well."""


def compare(plan: Plan, built: Built, reference: Reference) -> Parity:
    """Compare what a build trained with the rows it was to repeat.

    Raises:
        BuildError: fewer than three architectures could be trained.
    """
    place = ("train", "valid", "test").index(reference.metric.removesuffix("_error"))
    live = mean_over_seeds(built.columns["errors"][:, :, place, -1].astype(np.float32))
    told = mean_over_seeds(reference.errors.astype(np.float32))
    known = ~np.isnan(live)
    if known.sum() < 3:
        raise BuildError(
            f"{known.sum()} of {len(live)} architectures could be trained; the first failure: "
            f"{built.failures[0].status}, {built.failures[0].message}"
        )
    seeds = reference.errors
    both = seeds.shape[1] > 1 and (~np.isnan(seeds[:, :2])).all(1).sum() >= 3
    seconds = np.nanmedian(built.columns["epoch_seconds"][known], axis=1)
    ratio = seconds / reference.epoch_seconds[known]
    ratio = ratio[~np.isnan(ratio)]
    return Parity(
        reference,
        tuple(map(plan.space.to_string, plan.architectures)),
        live,
        told,
        rank_correlation(live, told),
        rank_correlation(seeds[:, 0], seeds[:, 1]) if both else None,
        _mean_with_ends((live - told)[known]),
        float(np.std((live - told)[known], ddof=1)),
        _within(seeds),
        (
            (float(np.median(ratio)), float(ratio.min()), float(ratio.max()))
            if len(ratio)
            else (float("nan"),) * 3
        ),
        len(built.failures),
    )


def _within(errors: Floats) -> float:
    """The root of the mean variance over seeds `[architectures, seeds]`, where there are two."""
    several = (~np.isnan(errors)).sum(1) > 1
    return (
        float(np.sqrt(np.nanvar(errors[several], axis=1, ddof=1).mean()))
        if several.any()
        else float("nan")
    )


def _mean_with_ends(values: Floats) -> tuple[float, float, float]:
    low, high = mean_band(values[:, None])
    return float(values.mean()), float(low[0]), float(high[0])


def sentences(of: Parity) -> list[str]:
    """What a probe found, for people."""
    reference, points = of.reference, 100.0
    count = int((~np.isnan(of.live)).sum())

    def ranked(found: tuple[float, float, float]) -> str:
        if found[0] != found[0]:
            return "not to be told, as one of the two does not vary"
        return f"{found[0]:.3f} ({found[1]:.3f} to {found[2]:.3f})"

    bias, low, high = (points * value for value in of.bias)
    ends = f", 95 % interval {low:+.2f} to {high:+.2f}" if count >= FEWEST else ""
    lines = [
        f"{count} architectures, one from each of {len(of.live)} equal parts of the table's rows "
        f"by {metric_label(reference.metric)} at epoch {reference.epoch}",
        f"rank correlation, with 95 % bootstrap intervals: Spearman {ranked(of.ranks.spearman)}, "
        f"Kendall {ranked(of.ranks.kendall)}",
    ]
    if of.between_seeds is not None:
        lines.append(
            "for comparison, the table's first two training seeds with each other: Spearman "
            f"{ranked(of.between_seeds.spearman)}"
        )
    lines.append(
        f"bias, live minus table: {bias:+.2f} percentage points{ends}; standard deviation "
        f"{points * of.spread:.2f}"
    )
    if of.noise == of.noise:
        lines[-1] += f", that between the table's training seeds {points * of.noise:.2f}"
    middle, least, most = of.factor
    lines.append(
        f"seconds an epoch here over those of the table: {middle:.3g} in the median, "
        f"{least:.3g} to {most:.3g}"
        if middle == middle
        else "the table knows no seconds of training"
    )
    if of.failed:
        lines.append(f"{many(of.failed, 'training')} failed")
    return lines


def title(of: Parity) -> str:
    """Table, data set, schedule and metric."""
    one = of.reference
    return (
        f"Live training against table {one.table} ({one.digest[:12]}) · {one.dataset} · "
        f"schedule {one.schedule} · {metric_label(one.metric)}"
    )


def scatter(of: Parity) -> "Figure":
    """The errors of both, with the line on which they would agree."""
    from bench.report.figures import _canvas, look

    with look():
        figure, axes = _canvas(5.2, 5.0)
        x, y = 100 * of.told, 100 * of.live
        axes.plot(x, y, ls="", marker="o", ms=5, alpha=0.8)
        ends = [float(np.nanmin([x, y])), float(np.nanmax([x, y]))]
        axes.plot(ends, ends, color="0.4", ls="--", lw=1)
        label = metric_label(of.reference.metric)
        axes.set_xlabel(f"{label} in the table (%)")
        axes.set_ylabel(f"{label}, trained here (%)")
        axes.set_title(clean(f"{of.reference.table} · {of.reference.dataset}"))
        rho, low, high = of.ranks.spearman
        axes.set_aspect("equal", adjustable="datalim")
        figure.supxlabel(
            f"{of.ranks.pairs} architectures, means over training seeds. Spearman {rho:.2f} "
            f"({low:.2f} to {high:.2f}).\nDashed: where both agree.",
            x=0.01,
            ha="left",
            fontsize=8,
            color="0.35",
        )
    return figure


def write_parity(of: Parity, out: Path) -> tuple[Path, ...]:
    """Write `parity.md`, `parity.json` and `parity.png` into a folder."""
    from bench.report.figures import draw

    out.mkdir(parents=True, exist_ok=True)
    rows = zip(of.names, of.told.tolist(), of.live.tolist(), strict=True)
    lines = [f"# {_markdown(title(of))}", "", *(f"- {_markdown(text)}" for text in sentences(of))]
    lines += ["", "![Errors in the table and here](parity.png)", ""]
    lines += ["| architecture | table (%) | here (%) |", "| :-- | --: | --: |"]
    lines += [
        f"| {_markdown(name)} | {_percent(told)} | {_percent(live)} |" for name, told, live in rows
    ]
    contents = {
        "parity.md": "\n".join([*lines, ""]).encode(),
        "parity.json": canonical_json(to_json(of)).encode(),
        "parity.png": draw(scatter(of), "png"),
    }
    for name, data in contents.items():
        write_whole(out / name, data)
    return tuple(out / name for name in contents)


def _percent(value: float) -> str:
    return UNKNOWN if value != value else f"{100 * value:.2f}"


def to_json(of: Parity) -> dict[str, Any]:
    """All numbers of a probe; what is not known is null."""
    one = of.reference
    return {
        "table": one.table,
        "table_sha256": one.digest,
        "dataset": one.dataset,
        "schedule": one.schedule,
        "metric": one.metric,
        "epoch": one.epoch,
        "architectures": list(of.names),
        "table_error": _known(of.told.tolist()),
        "live_error": _known(of.live.tolist()),
        "spearman": _known(of.ranks.spearman),
        "kendall": _known(of.ranks.kendall),
        "bias": _known(of.bias),
        "deviation": of.spread,
        "seed_deviation": _known([of.noise])[0],
        "seconds_factor": _known(of.factor),
        "failed_trainings": of.failed,
    }


def _known(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else value for value in values]
