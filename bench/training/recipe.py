"""How a network is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import cos, pi
from typing import Any, Literal, get_args, get_origin


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A frozen record; with an architecture, a data set and a seed it decides every weight."""

    name: str
    epochs: int
    """The whole training. A lower fidelity stops earlier, on the same learning-rate curve."""
    batch_size: int
    learning_rate: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd` has Nesterov momentum."""
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    """`cosine` falls to zero from the first step; `one_cycle` first rises over a quarter."""
    warm_up: float = 0.0
    """Epochs over which the rate rises linearly from zero."""
    label_smoothing: float = 0.0
    augmentation: Literal["none", "crop_flip", "shift"] = "none"
    """`crop_flip`: images, padded by an eighth, cropped, mirrored; `shift`: signals, rolled."""
    clip: float = 0.0
    """Largest norm of a gradient; 0 does not clip."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """`auto`: bf16 on GPUs and on processors that compute in it, else fp32."""
    compile: bool = False
    """Fuse operations (`torch.compile`); worth its minutes where a training takes hours."""
    graph: bool = False
    """Replay each step as a CUDA graph, which spares a GPU the wait for Python."""
    deterministic: bool = True
    """Refuse operations whose results differ between runs on the same machine."""
    accumulate: bool = False
    """Where memory does not suffice, train in halves of a batch, and in halves of those."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the space's `network.build`, such as a width."""

    def __post_init__(self) -> None:
        """Raises ValueError, with all that is wrong in one sentence."""
        wrong = [
            f"{known.name} is {getattr(self, known.name)!r}; allowed: "
            + ", ".join(get_args(known.type))
            for known in fields(self)
            if get_origin(known.type) is Literal
            and getattr(self, known.name) not in get_args(known.type)
        ]
        for name in "epochs", "batch_size", "learning_rate":
            if not 0 < getattr(self, name) < float("inf"):
                wrong.append(f"{name} is {getattr(self, name)}; allowed: above 0")
        for name in "epochs", "batch_size":
            if not isinstance(getattr(self, name), int):
                wrong.append(f"{name} is {getattr(self, name)}; allowed: a whole number")
        for name in "momentum", "label_smoothing":
            if not 0 <= getattr(self, name) < 1:
                wrong.append(f"{name} is {getattr(self, name)}; allowed: from 0 to below 1")
        for name in "weight_decay", "clip":
            if not 0 <= getattr(self, name) < float("inf"):
                wrong.append(f"{name} is {getattr(self, name)}; allowed: 0 and above")
        if self.graph and self.accumulate:
            wrong.append("graph and accumulate are both true; allowed: one of them")
        if not 0 <= self.warm_up <= self.epochs:
            wrong.append(f"warm_up is {self.warm_up}; allowed: 0 to {self.epochs} epochs")
        if wrong:
            raise ValueError("; ".join(wrong))

    def rate(self, epoch: float) -> float:
        """The learning rate at a moment between 0 and `epochs`."""
        if epoch < self.warm_up:
            return self.learning_rate * epoch / self.warm_up
        share = (epoch - self.warm_up) / max(self.epochs - self.warm_up, 1e-12)
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "one_cycle" and share < RISE:
            return self.learning_rate * (1 - cos(pi * share / RISE)) / 2
        fall = (share - RISE) / (1 - RISE) if self.schedule == "one_cycle" else share
        return self.learning_rate * (1 + cos(pi * fall)) / 2


RISE = 0.25  # of a one-cycle schedule (Smith & Topin, 2018)
