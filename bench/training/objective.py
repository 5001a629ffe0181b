"""The objective that trains what it is asked about."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy import float64
from numpy.typing import ArrayLike, NDArray

from bench.journal import Journalled, Training
from bench.protocol import Protocol
from bench.search import FAILED_ERROR, Evaluation, Objective, Query
from bench.space import Space
from bench.store import canonical_json
from bench.training.checkpoint import remove
from bench.training.data import Loader, derive
from bench.training.recipe import Recipe
from bench.training.supervise import Supervisor
from bench.training.trainer import Trainer, choose_device, network_builder, network_misfits

METRICS = ("valid_error", "valid_f1_error", "test_error", "test_f1_error")


class TrainingObjective(Objective):
    """Trains in a supervised process; validation errors are the signal, test errors reported.

    A run reads its answers through a journal (`open`), so that it survives being killed.
    """

    journalled = True
    timed = False  # its seconds are measured: no two runs would agree

    def __init__(
        self,
        space: Space,
        dataset: str,
        protocol: Protocol,
        *,
        load: Loader,
        recipe: Recipe,
        device: str = "auto",
        deadline: float = 3600.0,
    ) -> None:
        """
        Args:
            load: reads the data set; called in the process that trains.
            device: `cpu`, `cuda`, `cuda:1`, …, or `auto`.
            deadline: seconds after which a training is ended and counts as failed.

        Raises:
            ValueError: the protocol and the recipe do not fit each other.
            LookupError: the space has no networks.
        """
        self.space, self.dataset, self.protocol = space, dataset, protocol
        self.load, self.recipe, self.device, self.deadline = load, recipe, device, deadline
        self.optimum: Mapping[str, float] = {}
        build = network_builder(space)
        wrong = network_misfits(build, recipe.network)
        for name in "schedule", "report_schedule":
            if getattr(protocol, name) != str(recipe.epochs):
                wrong.append(
                    f"protocol.{name} is {getattr(protocol, name)!r}; recipe {recipe.name} "
                    f"trains for {recipe.epochs} epochs"
                )
        if protocol.fidelities[-1] != recipe.epochs:
            wrong.append(
                f"protocol.fidelities ends at {protocol.fidelities[-1]}; recipe {recipe.name} "
                f"trains for {recipe.epochs} epochs, after which metrics are reported"
            )
        if protocol.metric != "valid_error":
            wrong.append(f"protocol.metric is {protocol.metric!r}; training gives valid_error")
        if unknown := set(protocol.report) - set(METRICS):
            wrong.append(
                f"protocol.report has {', '.join(sorted(unknown))}; training gives "
                + ", ".join(METRICS)
            )
        if protocol.noise != "one_seed" or protocol.validation_pass != "free":
            wrong.append(
                f"protocol.noise is {protocol.noise!r} and validation_pass "
                f"{protocol.validation_pass!r}; training has one_seed and free"
            )
        if protocol.overhead != "free":
            wrong.append("protocol.overhead is 'charged'; training has no simulated clock for it")
        if not 0 < deadline < float("inf"):
            wrong.append(f"deadline is {deadline}; allowed: seconds above 0")
        if wrong:
            raise ValueError("; ".join(wrong))
        kind = choose_device(device).type
        code = Path(inspect.getfile(build)).read_text(encoding="utf-8")
        told = [asdict(recipe), _about(load), kind, torch.__version__, code]
        self.digest = hashlib.sha256(canonical_json(told).encode()).hexdigest()
        self._supervisor: Supervisor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes have trainings of their own."""
        settings: dict[str, Any] = {
            "load": self.load,
            "recipe": self.recipe,
            "device": self.device,
            "deadline": self.deadline,
        }
        return partial(TrainingObjective, **settings), (self.space, self.dataset, self.protocol)

    def open(self, journal: Path) -> Journalled:
        """The objective of one run, its checkpoints beside its journal."""
        folder = journal.with_suffix("")
        return Journalled(self, partial(self.train, folder=folder), journal)

    def evaluate(self, query: Query, noise: int, trained: int) -> Evaluation:
        return self.train(query, noise, trained).evaluation

    def report(self, architectures: ArrayLike) -> Mapping[str, NDArray[float64]]:
        """Raises LookupError: what was trained in a run is told by the run's own objective."""
        raise LookupError("reported metrics belong to a run; see open()")

    def train(
        self, query: Query, noise: int, trained: int, *, folder: Path | None = None
    ) -> Training:
        """Train, going on from the checkpoint of an earlier training in `folder`."""
        arch, epochs = query
        if not self.space.contains(arch) or epochs not in self.protocol.fidelities:
            raise LookupError(
                f"{arch} at {epochs} epochs was asked for; {self.space.name} trains its "
                f"architectures for {', '.join(map(str, self.protocol.fidelities))} epochs"
            )
        seed = derive("training", noise, self.space.to_string(arch))
        checkpoint = folder / f"{seed:016x}.pt" if folder else None
        request = {
            "architecture": arch,
            "seed": seed,
            "epochs": epochs,
            "splits": ("train", "valid"),
            "final": ("test",),
            "checkpoint": str(checkpoint) if checkpoint else None,
        }
        if self._supervisor is None:
            trainer = Trainer(self.space, self.load, self.recipe, self.device)
            self._supervisor = Supervisor(trainer.prepare)
        self._supervisor.log = folder and folder / "training.log"
        answer = self._supervisor.ask(request, self.deadline)
        if checkpoint and epochs == self.protocol.fidelities[-1]:
            remove(checkpoint)  # nothing goes on from there
        return self._training(answer)

    def _training(self, answer: dict[str, Any]) -> Training:
        """What an answer means; one that lacks a number, or has a strange one, has failed."""
        if answer["status"] == "ok":
            try:
                told = scores(answer)
                metrics = {"parameters": float(answer["parameters"])}
                evaluation = Evaluation(told[self.protocol.metric], 0.0, metrics)
                report = {name: told[name] for name in self.protocol.report}
                return Training(evaluation, report, answer)
            except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
                answer = {"status": "bad_result", "message": f"{type(error).__name__}: {error}"}
        failed = dict.fromkeys(self.protocol.report)  # there is no such number
        return Training(Evaluation(FAILED_ERROR, 0.0, {}, answer["status"]), failed, answer)


def scores(answer: Mapping[str, Any]) -> dict[str, float]:
    """The final errors in an answer, by name; fractions, those of F1 are 1 - F1.

    Raises:
        ValueError: one is no fraction.
    """
    told = {f"{split}_error": errors[-1] for split, errors in answer["errors"].items()}
    told |= {f"{split}_f1_error": 1 - f1 for split, f1 in answer["f1"].items()}
    if wrong := [name for name, value in told.items() if not 0 <= value <= 1]:
        raise ValueError(f"{wrong[0]} is {told[wrong[0]]}")
    return told


def _about(load: Loader) -> list[Any]:
    """A loader in JSON: the function, and with which settings."""
    function, settings = load, {}
    if isinstance(load, partial):
        function, settings = load.func, load.keywords
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return [function.__module__, name, {key: repr(value) for key, value in settings.items()}]
