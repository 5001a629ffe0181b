"""The rules of a comparison, stated once: what a strategy sees, what it pays, what is reported."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args, get_origin

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A frozen record with a name and a digest, both printed under every figure and table."""

    name: str
    schedule: str
    """Training schedule the signal is read from: `"200"` and `"12"` are different trainings."""
    metric: str
    """The signal a strategy may see: an error, a fraction, or a loss; lower is better."""
    fidelities: tuple[int, ...]
    """Epochs of `schedule` a strategy may ask for, ascending."""
    report_schedule: str
    """Schedule of the reported metrics, read at its last epoch, mean over training seeds."""
    report: tuple[str, ...]
    """Metrics computed when a run is sealed, never shown to a strategy; the first one ranks."""
    test_signal: Literal["refused", "declared"] = "refused"
    """`declared`: the signal is a test score, as the benchmark publishes no other; every figure
    and table says so."""
    noise: Literal["one_seed", "mean"] = "one_seed"
    """`one_seed`: one training seed an architecture and run, the same for every strategy and,
    as a promoted architecture goes on training, at every fidelity."""
    validation_pass: Literal["charged", "free"] = "free"
    """Whether an evaluation also costs the seconds of one pass over the validation set."""
    promotion: Literal["resume", "restart"] = "resume"
    """Going from epoch 9 to 27 costs 18 epochs or 27."""
    duplicates: Literal["charged", "cached"] = "charged"
    """A repeated query costs as before, or nothing: then no clock but the wall's moves."""
    overshoot: Literal["drop", "keep_last"] = "drop"
    """A trial counts if it ends within the budget; `keep_last` also keeps the one that crosses."""
    overhead: Literal["free", "charged"] = "free"
    """Whether the strategy's own seconds are added to the simulated clock."""
    incumbent: Literal["highest_fidelity", "any_fidelity"] = "highest_fidelity"
    """The lowest error seen, at the highest fidelity reached so far or at any; ties: earliest."""
    read_out: Literal["step", "linear"] = "step"
    """A run's final value: its incumbent's; or, at exactly the budget, on the line through the
    two trials that ended nearest to it (NATS-Bench, exps/NATS-Bench/draw-table.py)."""
    max_trials: int = 1_000_000
    """Stops a run whose queries cost nothing."""

    def __post_init__(self) -> None:
        """Raises ValueError, with all that is wrong in one sentence each."""
        object.__setattr__(self, "fidelities", tuple(self.fidelities))
        object.__setattr__(self, "report", tuple(self.report))
        wrong = [
            f"{field.name} is {getattr(self, field.name)!r}; allowed: "
            + ", ".join(get_args(field.type))
            for field in fields(self)
            if get_origin(field.type) is Literal
            and getattr(self, field.name) not in get_args(field.type)
        ]
        if not self.fidelities or list(self.fidelities) != sorted(set(self.fidelities)):
            wrong.append(f"fidelities is {list(self.fidelities)}; allowed: ascending epochs")
        elif self.fidelities[0] < 1:
            wrong.append(f"fidelities starts at {self.fidelities[0]}; allowed: 1 epoch and more")
        if ("test" in self.metric.lower()) != (self.test_signal == "declared"):
            wrong.append(
                f"metric is {self.metric!r} and test_signal {self.test_signal!r}; a strategy sees "
                "no test score unless the benchmark has no other and the protocol declares it"
            )
        if not self.metric.endswith(("_error", "_loss")):
            wrong.append(f"metric is {self.metric!r}; allowed: names that end in _error or _loss")
        if not self.report:
            wrong.append("report is empty; allowed: one metric or more")
        if self.max_trials < 1:
            wrong.append(f"max_trials is {self.max_trials}; allowed: 1 and more")
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the record as canonical JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def incumbents(
        self, errors: NDArray[np.float64], fidelities: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """After each trial of one run, the index of the trial it would hand over.

        Args:
            errors, fidelities: of the trials in order, each of shape `[trials]`.
        """
        order = [np.arange(len(errors)), errors]
        if self.incumbent == "highest_fidelity":
            order.append(-fidelities)
        ranked = np.lexsort(order)
        rank = np.empty(len(errors), dtype=np.int64)
        rank[ranked] = np.arange(len(errors))
        return ranked[np.minimum.accumulate(rank)]
