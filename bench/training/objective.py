"""The objective that trains what it is asked about."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from numpy import float64
from numpy.typing import ArrayLike, NDArray

from bench.journal import Journalled, Training
from bench.protocol import Protocol
from bench.search import FAILED_ERROR, Evaluation, Objective, Query
from bench.space import Architecture, Space
from bench.store import canonical_json
from bench.training.checkpoint import remove
from bench.training.data import Loader, derive
from bench.training.population import choose
from bench.training.recipe import Recipe
from bench.training.supervise import LONGEST_ANSWER, Answer, Supervisor
from bench.training.trainer import Trainer, choose_device, network_builder, network_misfits, on
from bench.training.worker import Worker
from bench.words import many

Question = tuple[Query, int, int]  # with the noise and the epochs already trained
METRICS = ("valid_error", "valid_f1_error", "test_error", "test_f1_error")


class TrainingObjective(Objective):
    """Trains in a supervised process; validation errors are the signal, test errors reported.

    A run reads its answers through a journal (`open`), so that it survives being killed. The new
    queries of a round are trained by one request, which may train them as one population. So a
    run with several workers that was killed within a round, and trained the rest of it with fewer
    companions, equals an uninterrupted one up to the order of floating-point additions where
    populations are trained, and bit for bit elsewhere; what the journal knew stays as it was.
    Where a space has no populations, or they are slower, each is trained and kept in its turn.
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
        self.load, self.device, self.deadline = load, device, deadline
        self.optimum: Mapping[str, float] = {}
        build = network_builder(space)
        wrong = network_misfits(build, recipe.network)
        for name in "schedule", "report_schedule":
            if getattr(protocol, name) != str(recipe.epochs):
                wrong.append(
                    f"protocol.{name} is {getattr(protocol, name)!r}; recipe {recipe.name} "
                    f"trains for {many(recipe.epochs, 'epoch')}"
                )
        if protocol.fidelities[-1] != recipe.epochs:
            wrong.append(
                f"protocol.fidelities ends at {protocol.fidelities[-1]}; recipe {recipe.name} "
                f"trains for {many(recipe.epochs, 'epoch')}, after which metrics are reported"
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
        self.recipe, self._given = on(recipe, torch.device(kind)), recipe
        if self.recipe != recipe:
            self.notes = f"trained in {self.recipe.precision}"
        self.holds_gpu = kind == "cuda"
        self.populations = choose(space, self.recipe, torch.device(kind))
        home = Path(inspect.getfile(build)).parent
        code = [path.read_text(encoding="utf-8") for path in _sources(home)]
        told = [asdict(self.recipe), _about(load), kind, torch.__version__, *code]
        self.digest = hashlib.sha256(canonical_json(told).encode()).hexdigest()
        self._supervisor: Supervisor | None = None
        self._round: list[Question] = []  # what is to be trained together
        self._answers: dict[Question, Answer] = {}  # what was, until it is asked for
        self._lost: dict[Question, float] = {}  # GPU seconds of a joint training that failed

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes have trainings of their own."""
        settings: dict[str, Any] = {
            "load": self.load,
            "recipe": self._given,
            "device": self.device,
            "deadline": self.deadline,
        }
        return partial(TrainingObjective, **settings), (self.space, self.dataset, self.protocol)

    def open(self, journal: Path) -> Journalled:
        """The objective of one run, its checkpoints beside its journal."""
        self._round, self._answers, self._lost = [], {}, {}
        folder = journal.with_suffix("")
        tidy = partial(_remove_checkpoints, folder)
        return Journalled(self, partial(self.train, folder=folder), journal, tidy)

    def prepare(self) -> None:
        self._process().start()

    def close(self) -> None:
        """End the process that trains; the next training starts another one."""
        if self._supervisor is not None:
            self._supervisor.close()

    def expect(self, queries: Sequence[tuple[Query, int]], noise: int) -> None:
        """Keep a round in mind: the first of its trainings is then one of all of them.

        An architecture that stands there again is trained alone, when it is asked for: it goes
        on from its earlier training.
        """
        first: dict[Architecture, Question] = {}
        for query, trained in queries:
            if self._trains(query):
                first.setdefault(query.architecture, (query, noise, trained))
        together = list(first.values()) if self.populations else []
        self._round, self._answers, self._lost = together, {}, {}

    def evaluate(self, query: Query, noise: int, trained: int) -> Evaluation:
        return self.train(query, noise, trained).evaluation

    def report(self, architectures: ArrayLike) -> Mapping[str, NDArray[float64]]:
        """Raises LookupError: what was trained in a run is told by the run's own objective."""
        raise LookupError("reported metrics belong to a run; see open()")

    def train(
        self, query: Query, noise: int, trained: int, *, folder: Path | None = None
    ) -> Training:
        """Train, going on from the checkpoint of an earlier training in `folder`."""
        if not self._trains(query):
            raise LookupError(
                f"{query.architecture} at {query.fidelity} epochs was asked for; "
                f"{self.space.name} trains its architectures for "
                f"{', '.join(map(str, self.protocol.fidelities))} epochs"
            )
        question = query, noise, trained
        self._process().log = folder and folder / "training.log"
        if question in self._round:
            self._train_together(query.fidelity, folder)
        answer = self._answers.pop(question, None)
        what = self._what(question, folder)
        if answer is None:
            since = perf_counter()
            request = {"kind": "train", **what, **self._settings(query.fidelity)}
            answer = self._process().ask(request, self.deadline)
            if self.holds_gpu:
                held = perf_counter() - since  # for a process that was ended: it cannot tell
                held = _gpu_seconds(answer) if "gpu_seconds" in answer else held
                answer["gpu_seconds"] = held + self._lost.pop(question, 0.0)
        if what["checkpoint"] and query.fidelity == self.protocol.fidelities[-1]:
            remove(Path(what["checkpoint"]))  # nothing goes on from there
        return self._training(answer)

    def _trains(self, query: Query) -> bool:
        return (
            self.space.contains(query.architecture) and query.fidelity in self.protocol.fidelities
        )

    def _process(self) -> Supervisor:
        if self._supervisor is None:
            trainer = Trainer(self.space, self.load, self.recipe, self.device)
            self._supervisor = Supervisor(Worker(trainer).prepare)
        return self._supervisor

    def _what(self, question: Question, folder: Path | None) -> dict[str, Any]:
        """What is trained, in a request."""
        query, noise, _ = question
        seed = derive("training", noise, self.space.to_string(query.architecture))
        return {
            "architecture": query.architecture,
            "seed": seed,
            "checkpoint": str(folder / f"{seed:016x}.pt") if folder else None,
        }

    def _settings(self, epochs: int) -> dict[str, Any]:
        """How it is trained, in a request."""
        return {"epochs": epochs, "splits": ("train", "valid"), "final": ("test",)}

    def _train_together(self, fidelity: int, folder: Path | None) -> None:
        """Train all of the round that is trained for so many epochs, and keep the answers.

        If that fails no answer is kept: then each is trained alone, so that the guilty one is
        found, and bears its share of what was lost.
        """
        group = [question for question in self._round if question[0].fidelity == fidelity]
        self._round = [question for question in self._round if question not in group]
        if len(group) < 2:
            return
        request = {
            "kind": "together",
            "trainings": [self._what(question, folder) for question in group],
            **self._settings(fidelity),
        }
        since = perf_counter()
        joint = self._process().ask(request, self.deadline * len(group), len(group))
        answers = joint.get("answers")
        if joint["status"] != "ok" or not isinstance(answers, list) or len(answers) != len(group):
            self._lost |= dict.fromkeys(group, (perf_counter() - since) / len(group))
            return
        self._answers |= {
            question: answer
            for question, answer in zip(group, answers, strict=True)
            if _could_stand_alone(answer)
        }

    def _training(self, answer: Answer) -> Training:
        """What an answer means; one that lacks a number, or has a strange one, has failed."""
        if answer["status"] == "ok":
            try:
                told = scores(answer)
                metrics = {"parameters": float(answer["parameters"])}
                signal = told[self.protocol.metric]
                evaluation = Evaluation(signal, 0.0, metrics, gpu_seconds=_gpu_seconds(answer))
                report = {name: told[name] for name in self.protocol.report}
                return Training(evaluation, report, answer)
            except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
                message = f"{type(error).__name__}: {error}"
                held = _gpu_seconds(answer)
                answer = {"status": "bad_result", "message": message, "gpu_seconds": held}
        failed = dict.fromkeys(self.protocol.report)  # there is no such number
        evaluation = Evaluation(FAILED_ERROR, 0.0, {}, answer["status"], _gpu_seconds(answer))
        return Training(evaluation, failed, answer)


def _gpu_seconds(answer: Answer) -> float:
    """Zero where the answer does not tell."""
    seconds = answer.get("gpu_seconds", 0.0)
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < inf else 0.0


def _could_stand_alone(answer: Any) -> bool:
    """Whether it is an answer that a supervisor would have passed on."""
    told = isinstance(answer, dict) and isinstance(answer.get("status"), str)
    return told and len(json.dumps(answer)) <= LONGEST_ANSWER


def _remove_checkpoints(folder: Path) -> None:
    """Remove what no training of a run that has ended will go on from."""
    for path in folder.glob("*.pt"):
        remove(path)
    for path in folder.glob("*.pt.before"):
        path.unlink()


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


def _sources(home: Path) -> list[Path]:
    """What a space's networks are made by, alone and together."""
    return [path for name in ("network", "population") if (path := home / f"{name}.py").exists()]


def _about(load: Loader) -> list[Any]:
    """A loader in JSON: the function, and with which settings."""
    function, settings = load, {}
    if isinstance(load, partial):
        function, settings = load.func, load.keywords
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return [function.__module__, name, {key: repr(value) for key, value in settings.items()}]
