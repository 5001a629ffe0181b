"""Answers for architectures that nobody trained, from regressors fitted on the rows of a table.

Zela et al. (Surrogate NAS Benchmarks, ICLR 2022) find gradient boosting on one-hot
architectures among the best regressors for NAS-Bench-301; so do we, with LightGBM, on
NAS-Bench-201. Errors are fitted as logarithms: their noise is then about the same for good and
for bad architectures, and the good ones are told apart better.

A fixed part of the rows is held out: no member of an ensemble ever sees it, and nothing is fitted
again on all rows afterwards. What is said about the quality of the answers comes from that part.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.protocol import Protocol
from bench.search import Evaluation, Objective, Query
from bench.space import Architecture, Space
from bench.table import (
    Schedule,
    TableError,
    column_names,
    find_table,
    mean_over_seeds,
    open_table,
    read_schedule,
)

FORMAT = "nas-arena surrogate 1"  # raised by any change that moves an answer
LEAST = 100  # architectures, held-out ones included
MOST_MEMBERS = 100
LOWEST = 1e-4  # what is below counts as this much: logarithms are fitted
ROUNDS = 300
PARAMETERS = {
    "objective": "l2",
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 5,
    "bagging_fraction": 0.8,  # members differ by the rows that they draw
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
STANDARD = NormalDist()
WITHIN = STANDARD.cdf(1) - STANDARD.cdf(-1)  # of a normal law, one standard deviation around it
Floats = NDArray[np.float64]
Answer = tuple[list[float], list[float], bytes]  # see `SurrogateObjective._answer`


@dataclass(frozen=True)
class Ensemble:
    """Regressors of one quantity, and how good they are on rows that none of them saw."""

    members: tuple[Any, ...]
    logarithmic: bool
    quality: Mapping[str, float]
    """`r2` and `kendall_tau` of the answers against means over training seeds; `noise`, how far
    from its answer 68.27 % of single trainings stay, which of a normal law is the standard
    deviation, and `rms`, their root mean square distance (both of logarithms, where these are
    fitted); `fitted` and `held_out`, the numbers of architectures."""

    def __call__(self, features: Floats) -> Floats:
        """Answers on the scale that was fitted, shape `[architectures]`."""
        answers = [member.predict(features, num_threads=1) for member in self.members]
        mean: Floats = np.mean(answers, axis=0)
        return mean

    def unscaled(self, answers: Floats) -> Floats:
        """Answers on the scale of the table."""
        return np.exp(answers) if self.logarithmic else answers


def fit(
    features: Floats,
    values: NDArray[Any],
    held_out: NDArray[np.bool_],
    what: str,
    *,
    members: int,
    seed: int,
) -> Ensemble:
    """Fit an ensemble to the means over training seeds, and test it on what is held out.

    Args:
        features: shape `[architectures, features]`.
        values: `[architectures]`, or `[architectures, training seeds]`; NaN where unknown.
        held_out: which architectures no member sees, shape `[architectures]`.
        what: the name of the quantity, for messages.

    Raises:
        TableError: too few architectures have a value, or LightGBM is not installed.
    """
    values = values.astype(np.float32).reshape(len(held_out), -1)
    known = ~np.isnan(values).all(1)
    seen, unseen = known & ~held_out, known & held_out
    if known.sum() < LEAST or min(seen.sum(), unseen.sum()) < LEAST // 10:
        raise TableError(
            f"{what} is known of {known.sum():,} architectures, {unseen.sum():,} of them held out; "
            f"a surrogate needs {LEAST} or more, and {LEAST // 10} or more on either side"
        )
    logarithmic = bool(np.nanmin(values) >= 0)
    means = mean_over_seeds(values)
    targets = np.log(np.maximum(means, LOWEST)) if logarithmic else means
    boosters = _boosters(features[seen], targets[seen], members=members, seed=seed)
    ensemble = Ensemble(boosters, logarithmic, {})
    counts = {"fitted": float(seen.sum()), "held_out": float(unseen.sum())}
    quality = _quality(ensemble, features[unseen], values[unseen])
    return Ensemble(boosters, logarithmic, quality | counts)


def _boosters(features: Floats, targets: Floats, *, members: int, seed: int) -> tuple[Any, ...]:
    lightgbm = _library()
    return tuple(
        lightgbm.train(
            PARAMETERS | {"seed": seed + member}, lightgbm.Dataset(features, targets), ROUNDS
        ).free_dataset()
        for member in range(members)
    )


def _library() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise TableError("it needs LightGBM: pip install 'nas-arena[predictors]'") from None
    return lightgbm


def _quality(ensemble: Ensemble, features: Floats, values: NDArray[np.float32]) -> dict[str, float]:
    from scipy.stats import kendalltau

    answers, means = ensemble(features), mean_over_seeds(values)
    misses = means - ensemble.unscaled(answers)
    spread = float(((means - means.mean()) ** 2).sum())
    trained = values.astype(np.float64)
    if ensemble.logarithmic:
        trained = np.log(np.maximum(trained, LOWEST))
    return {
        "r2": 1 - float((misses**2).sum()) / spread if spread else float("nan"),
        "kendall_tau": float(kendalltau(answers, means).statistic),
        "noise": float(np.nanquantile(np.abs(trained - answers[:, None]), WITHIN)),
        "rms": float(np.sqrt(np.nanmean((trained - answers[:, None]) ** 2))),
    }


def divide(
    space: Space,
    architectures: Sequence[Architecture],
    *,
    rows: int | None,
    held_out: float,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Choose up to `rows` architectures, and which of them are held out, both by hashes.

    The share is one of networks (`Space.canonical`). All architectures of a network stand on the
    same side, or members would have seen trainings of what they are tested on; and one of each
    is held out, the first, or a network with hundreds of them would rule what is said.

    Returns:
        Indices into `architectures`, ascending, and for each whether it is held out.
    """
    draws = [_bits(f"row {seed}/{architecture}".encode()) for architecture in architectures]
    chosen = np.sort(np.array(draws, np.uint64).argsort(kind="stable")[:rows])
    networks = [space.canonical(architectures[row]) for row in chosen]
    first: dict[Any, int] = {}
    for row, network in zip(chosen.tolist(), networks, strict=True):
        first.setdefault(network, row)
    sides = {
        network: _bits(f"side {seed}/{architectures[row]}".encode())
        for network, row in first.items()
    }
    border = sorted(sides.values())[int((1 - held_out) * len(sides))]
    apart = np.array([sides[network] >= border for network in networks])
    kept = ~apart | np.isin(chosen, list(first.values()))
    return chosen[kept], apart[kept]


class SurrogateObjective(Objective):
    """Answers from ensembles fitted on a table of the space, which may be a sample of it.

    The signal has an ensemble for every fidelity, and so have each reported metric and the
    seconds. Where the protocol says `one_seed`, an answer is one draw: normal around the
    ensemble's, as wide as most held-out trainings lie from theirs (`noise`: a few that the
    ensemble misses by far, such as failed ones, do not widen it), and the same draw for an
    architecture in a run whoever asks and at whatever fidelity. What a table shows without
    training, such as parameters, is not guessed; and the optimum is not known.
    """

    def __init__(
        self,
        space: Space,
        dataset: str,
        protocol: Protocol,
        *,
        table: str | None = None,
        members: int = 5,
        rows: int | None = None,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        """Fit all ensembles.

        Args:
            table: the name of the file, without `.h5`; by default the name of the space.
            members: regressors in an ensemble.
            rows: how many architectures of the table are used, held-out ones included; by
                default all.
            held_out: the share of their networks that no member sees.
            seed: chooses those, and what each member draws.

        Raises:
            TableError: the table is not here, is damaged, lacks what the protocol names or has
                too few architectures; a setting is out of range; or LightGBM is not installed.
        """
        _check(members, rows, held_out, seed)
        self.space, self.dataset, self.protocol = space, dataset, protocol
        path = find_table(space, table or space.name)
        settings = [members, rows, held_out, seed, PARAMETERS, ROUNDS, _library().__version__]
        with open_table(path) as (file, digest):
            columns = _columns(path, file, space, dataset, protocol)
            genes = file["architectures"][:]
        self.digest = hashlib.sha256(json.dumps([FORMAT, digest, settings]).encode()).hexdigest()

        known = np.flatnonzero(~np.isnan(columns.signal[-1]).all(1))
        where = f"table {path.name}, {dataset}, schedule {protocol.schedule}"
        if len(known) < LEAST:
            raise TableError(
                f"{where}: {protocol.metric} is known of {len(known):,} architectures; a "
                f"surrogate needs {LEAST} or more"
            )
        architectures: list[Architecture] = list(map(tuple, genes[known].tolist()))
        chosen, apart = divide(space, architectures, rows=rows, held_out=held_out, seed=seed)
        features = self._features([architectures[row] for row in chosen])
        used = known[chosen]

        def fitted(values: NDArray[Any], what: str) -> Ensemble:
            what = f"{where}: {what}"
            return fit(features, values[used], apart, what, members=members, seed=seed)

        self._signal = [fitted(values, protocol.metric) for values in columns.signal]
        self._report = {
            name: self._signal[-1] if name in columns.same else fitted(values, f"reported {name}")
            for name, values in columns.report.items()
        }
        self._seconds = [fitted(values, "seconds") for values in columns.seconds]
        self._seconds_of_epoch = columns.of_epoch
        self._pass = [fitted(values, "valid_seconds") for values in columns.passes]
        self.timed = bool(self._seconds)
        self.optimum = {}
        if protocol.metric.endswith("_loss"):
            self.worst = float(np.nanmax([values[used] for values in columns.signal]))
        self.quality = self._qualities()
        self.notes = self._note(path.stem, members)
        self._known: dict[Architecture, Answer] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Other processes get the ensembles, and ask them anew."""
        return self.__dict__ | {"_known": {}}

    def evaluate(self, query: Query, noise: int, trained: int) -> Evaluation:
        architecture, epoch = query
        fidelities = self.protocol.fidelities
        if epoch not in fidelities:
            raise LookupError(
                f"{architecture} at {epoch} epochs was asked for; the surrogate of "
                f"{self.space.name} on {self.dataset} was fitted at "
                f"{', '.join(map(str, fidelities))} epochs"
            )
        if architecture not in self._known:
            self._known[architecture] = self._answer(architecture)
        answers, elapsed, text = self._known[architecture]
        place = fidelities.index(epoch)
        ensemble, answer = self._signal[place], answers[place]
        if self.protocol.noise == "one_seed":
            answer += ensemble.quality["noise"] * _normal(noise, text)
        error = float(_bounded(self.protocol.metric, ensemble.unscaled(np.array(answer))))
        cost = elapsed[place + 1]
        if trained:
            cost -= float(np.interp(trained, (0, *fidelities), (0.0, *elapsed[1:])))
        return Evaluation(error, cost + elapsed[0])

    def _answer(self, architecture: Architecture) -> Answer:
        """The signal at each fidelity, as fitted; the seconds of a validation pass, and of
        training up to each fidelity; a text that stands for the architecture.
        """
        if not self.space.contains(architecture):
            raise LookupError(f"{architecture} was asked for, and is not in {self.space.name}")
        features = self._features([architecture])
        passed, elapsed = (
            [float(one.unscaled(one(features))[0]) for one in some]
            for some in (self._pass, self._seconds)
        )
        if self._seconds_of_epoch:
            elapsed = [elapsed[0] * epoch for epoch in self.protocol.fidelities]
        return (
            [float(one(features)[0]) for one in self._signal],
            [sum(passed), *accumulate(elapsed or [0.0] * len(self._signal), max)],
            str(architecture).encode(),
        )

    def report(self, architectures: ArrayLike) -> Mapping[str, Floats]:
        genes, rows = np.unique(np.asarray(architectures), axis=0, return_inverse=True)
        different = list(map(tuple, genes.tolist()))
        for architecture in different:
            if not self.space.contains(architecture):
                raise LookupError(f"{architecture} is not in {self.space.name}")
        features = self._features(different)
        return {
            name: _bounded(name, ensemble.unscaled(ensemble(features)))[rows.ravel()]
            for name, ensemble in self._report.items()
        }

    def _features(self, architectures: Sequence[Architecture]) -> Floats:
        return np.array([self.space.features(architecture) for architecture in architectures])

    def _qualities(self) -> dict[str, float]:
        """`Ensemble.quality` of all that is fitted, as `signal@100 r2` or `test_error noise`."""
        named = {
            f"signal@{epoch}": one
            for epoch, one in zip(self.protocol.fidelities, self._signal, strict=True)
        }
        named |= self._report | dict(zip(("seconds",), self._seconds[-1:], strict=False))
        return {
            f"{name} {what}": value
            for name, one in named.items()
            for what, value in one.quality.items()
        }

    def _note(self, table: str, members: int) -> str:
        signal = self._signal[-1]
        noise = signal.quality["noise"]
        parts = [
            f"signal {_shown(signal)}, noise "
            + (f"{100 * noise:.1f} % of it" if signal.logarithmic else f"{noise:.3g}")
        ]
        parts += [
            f"{name} {_shown(one)}" for name, one in self._report.items() if one is not signal
        ]
        return (
            f"answers of a surrogate: {members} regressors fitted to "
            f"{signal.quality['fitted']:,.0f} architectures of table {table}; on "
            f"{signal.quality['held_out']:,.0f} that none of them saw: {'; '.join(parts)}"
        )


@dataclass(frozen=True)
class Columns:
    """What the ensembles are fitted to, each of shape `[architectures, training seeds]`."""

    signal: list[NDArray[Any]]
    """At every fidelity."""
    report: dict[str, NDArray[Any]]
    same: set[str]
    """The reported metrics that are the signal at the highest fidelity."""
    seconds: list[NDArray[Any]]
    """Of training up to every fidelity, or of one epoch; nothing where they are not known."""
    of_epoch: bool
    passes: list[NDArray[Any]]
    """The seconds of a validation pass, where it is charged."""


def _columns(
    path: Path, file: h5py.File, space: Space, dataset: str, protocol: Protocol
) -> Columns:
    if file.attrs["space"] != space.name.encode():
        raise TableError(f"{path} is of space {file.attrs['space'].decode()}, not {space.name}")
    there = column_names(file, dataset, protocol.schedule)
    training = [name for name in ("elapsed_seconds", "train_seconds") if name in there][:1]
    passes = ["valid_seconds"] if protocol.validation_pass == "charged" else []
    names = [protocol.metric, *training, *passes]
    signal = read_schedule(file, dataset, protocol.schedule, names, protocol.fidelities)
    column_names(file, dataset, protocol.report_schedule)
    last = int(file[dataset][protocol.report_schedule]["epochs"][-1])
    report = read_schedule(file, dataset, protocol.report_schedule, protocol.report, [last])
    at_the_end = (protocol.report_schedule, last) == (protocol.schedule, protocol.fidelities[-1])
    of_epoch = training == ["train_seconds"]
    return Columns(
        signal=_by_epoch(signal, protocol.metric),
        report={name: report.columns[name][:, 0] for name in protocol.report},
        same={protocol.metric} if at_the_end else set(),
        seconds=[] if not training else _by_epoch(signal, training[0]),
        of_epoch=of_epoch,
        passes=[signal.columns[name] for name in passes],
    )


def _by_epoch(schedule: Schedule, name: str) -> list[NDArray[Any]]:
    """A column, epoch by epoch where it has epochs."""
    values = schedule.columns[name]
    return [values] if values.ndim == 1 else [values[:, at] for at in range(values.shape[1])]


def _check(members: int, rows: int | None, held_out: float, seed: int) -> None:
    wrong = []
    if not 1 <= members <= MOST_MEMBERS:
        wrong.append(f"members is {members}; allowed: 1 to {MOST_MEMBERS}")
    if rows is not None and rows < LEAST:
        wrong.append(f"rows is {rows}; allowed: {LEAST} and more, or null for all")
    if not 0.05 <= held_out <= 0.9:
        wrong.append(f"held_out is {held_out}; allowed: a share of 0.05 to 0.9")
    if not 0 <= seed < 2**31 - MOST_MEMBERS:
        wrong.append(f"seed is {seed}; allowed: 0 and more, below 2^31 - {MOST_MEMBERS}")
    if wrong:
        raise TableError("; ".join(wrong))


def _bounded(metric: str, values: Any) -> Any:
    return np.clip(values, 0.0, 1.0) if metric.endswith("_error") else values


def _normal(noise: int, text: bytes) -> float:
    """A standard normal draw, the same whenever it is asked for."""
    return STANDARD.inv_cdf(((_bits(b"%d/%b" % (noise, text)) >> 12) + 0.5) / 2**52)


def _bits(text: bytes) -> int:
    """64 bits that stand for a text."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _shown(one: Ensemble) -> str:
    return f"R² {one.quality['r2']:.3f}, Kendall τ {one.quality['kendall_tau']:.3f}"
