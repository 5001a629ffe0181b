"""The last training: on training and validation data together, tested, its weights kept."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.protocol import Protocol
from bench.report.frame import describe, spans
from bench.run import provenance
from bench.space import Architecture
from bench.store import canonical_json, read_trials, sealed, write_whole
from bench.training.checkpoint import load, remove
from bench.training.supervise import Supervisor
from bench.training.trainer import Trainer
from bench.training.worker import Joined, Worker
from bench.words import many


class FinalError(Exception):
    """A last training that cannot be, or failed; the message is one sentence."""


class One(NamedTuple):
    """A network trained under one seed."""

    seed: int
    test_error: float
    test_f1: float
    train_errors: list[float]
    """On training and validation data together, after every epoch."""
    seconds: float
    """Of training, without evaluation."""
    weights: Path
    """A state_dict, as `torch.load(…, weights_only=True)` reads it."""
    sha256: str


@dataclass(frozen=True)
class Final:
    """An architecture trained to be handed over."""

    trainer: Trainer
    """How; its data are those of the search, not joined."""
    architecture: Architecture
    about: Mapping[str, Any]
    """What the process that trained says of the joined data and its device."""
    costs: Mapping[str, float]
    """`parameters` and, where they could be counted, `flops`: multiply-adds of one input."""
    runs: tuple[One, ...]


class Incumbent(NamedTuple):
    """What a run would hand over."""

    architecture: Architecture
    seed: int
    """Of the run."""
    error: float
    """Its signal in the run, a fraction."""
    cell: dict[str, Any]
    """The description of the run's cell."""


def incumbent(folder: Path, seed: int | None = None) -> Incumbent:
    """The architecture a sealed run would hand over at its end.

    Args:
        folder: of a cell, in `<results>/runs`.
        seed: of the run; by default the first that is sealed.

    Raises:
        StoreError: the folder is damaged.
        FinalError: it is none of a cell, or no run, or none of that seed, is sealed there.
    """
    if not (folder / "cell.json").is_file():
        raise FinalError(f"{folder} is no folder of a run; those lie in results/runs")
    cell = describe(folder)
    shards = sealed(folder)
    if not shards:
        raise FinalError(f"no run is sealed in {folder}")
    wanted = shards[0].first if seed is None else seed
    shard = next((one for one in shards if one.first <= wanted <= one.last), None)
    columns = None if shard is None else read_trials(shard)
    if columns is None or wanted not in columns["seed"]:
        there = spans(one for some in shards for one in range(some.first, some.last + 1))
        raise FinalError(f"seed is {wanted}; sealed in {folder.name}: {there}")
    place = columns["seed"].tolist().index(wanted)
    first = int(columns["length"][:place].sum())
    run = slice(first, first + int(columns["length"][place]))
    rules = {key: value for key, value in cell["protocol"].items() if key != "digest"}
    errors, fidelities = columns["error"][run], columns["fidelity"][run].astype(np.int64)
    best = first + int(Protocol(**rules).incumbents(errors, fidelities)[-1])
    arch = tuple(columns["architecture"][best].tolist())
    return Incumbent(arch, wanted, float(columns["error"][best]), cell)


def stored_parts(cell: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The choice of space, data set and recipe of a run, and their keys as they were.

    A run that trained nothing had no recipe.
    """
    names, config = cell["names"], cell["config"]
    parts = {part: (str(names[part]), dict(config[part])) for part in ("space", "dataset")}
    objective = config["objective"]
    if "recipe" in objective:
        parts["recipe"] = str(objective["recipe"]["name"]), dict(objective["recipe"])
    if "load" in objective:
        parts["dataset"][1]["load"] = dict(objective["load"])
    return parts


def retrain(
    trainer: Trainer,
    arch: Architecture,
    seeds: range,
    out: Path,
    *,
    deadline: float,
    progress: Callable[[int], object] = bool,
) -> Final:
    """Train with the whole recipe on training and validation data; test once, at the end.

    The weights of each seed go to `<out>/weights-<seed>.pt`. A training that was killed goes on
    from its checkpoint there.

    Args:
        progress: called after each seed.

    Raises:
        FinalError: a training failed, or the data are not there.
    """
    out.mkdir(parents=True, exist_ok=True)
    joined = replace(trainer, load=Joined(trainer.load))
    supervisor = Supervisor(Worker(joined).prepare, out / "training.log")
    found = []
    try:
        about = supervisor.ask({"kind": "about"}, deadline)
        costs = supervisor.ask({"kind": "costs", "architecture": arch, "seed": seeds[0]}, deadline)
        for answer in about, costs:
            if answer["status"] != "ok":
                raise FinalError(f"no training can start: {answer.get('message')}")
        for seed in seeds:
            checkpoint = out / f"checkpoint-{seed}.pt"
            request = {
                "kind": "train",
                "architecture": arch,
                "seed": seed,
                "epochs": trainer.recipe.epochs,
                "splits": ("train",),
                "final": ("test",),
                "checkpoint": str(checkpoint),
            }
            answer = supervisor.ask(request, deadline)
            if answer["status"] != "ok":
                raise FinalError(
                    f"{trainer.space.to_string(arch)}, seed {seed}: {answer['status']} "
                    f"{answer.get('message', '')}".rstrip()
                )
            found.append(_keep(answer, seed, checkpoint, out))
            progress(1)
    except ChildProcessError as error:
        raise FinalError(str(error)) from None
    finally:
        supervisor.close()
    for seed in seeds:
        remove(out / f"checkpoint-{seed}.pt")
    known = {name: costs[name] for name in ("parameters", "flops") if costs.get(name) is not None}
    about = {key: value for key, value in about.items() if key != "status"}
    return Final(trainer, arch, about, known, tuple(found))


def _keep(answer: Mapping[str, Any], seed: int, checkpoint: Path, out: Path) -> One:
    """Put the weights of a checkpoint into a file of their own."""
    state = load(checkpoint)
    if state is None:
        raise FinalError(f"{checkpoint} is not there, though seed {seed} was trained")
    buffer = io.BytesIO()
    torch.save(state["network"], buffer)
    path = out / f"weights-{seed}.pt"
    write_whole(path, buffer.getvalue(), durable=True)
    return One(
        seed,
        answer["errors"]["test"][-1],
        answer["f1"]["test"],
        answer["errors"]["train"],
        answer["seconds"],
        path,
        hashlib.sha256(buffer.getvalue()).hexdigest(),
    )


def to_json(of: Final, origin: Mapping[str, Any]) -> dict[str, Any]:
    """All that is known of it.

    Args:
        origin: the run and its seed, if the architecture is of one.
    """
    space = of.trainer.space
    return {
        "architecture": space.to_string(of.architecture),
        "genes": list(of.architecture),
        "space": space.name,
        "origin": dict(origin),
        "recipe": asdict(of.trainer.recipe),
        "data": dict(of.about) | {"trained_on": ["train", "valid"]},
        **of.costs,
        "runs": [one._asdict() | {"weights": one.weights.name} for one in of.runs],
        "provenance": provenance(),
    }


def sentences(of: Final) -> list[str]:
    """What came out, for people."""
    errors = torch.tensor([one.test_error for one in of.runs], dtype=torch.double)
    f1 = sum(one.test_f1 for one in of.runs) / len(of.runs)
    accuracy = 100 * (1 - float(errors.mean()))
    spread = f" ± {100 * float(errors.std()):.2f}" if len(of.runs) > 1 else ""
    each = ", ".join(f"{100 * (1 - one.test_error):.2f}" for one in of.runs)
    examples, recipe = of.about["examples"], of.trainer.recipe
    seconds = sum(one.seconds for one in of.runs) / len(of.runs)
    lines = [
        f"test accuracy {accuracy:.2f}{spread} %, mean and standard deviation over "
        f"{len(of.runs)} training seeds ({each}); macro F1 {f1:.4f}"
        if len(of.runs) > 1
        else f"test accuracy {accuracy:.2f} % with one training seed; macro F1 {f1:.4f}",
        f"trained for {many(recipe.epochs, 'epoch')} of recipe {recipe.name} on "
        f"{examples['train']:,} examples, those for validation included, in {seconds:.1f} s; "
        f"tested on {examples['test']:,}",
        f"{int(of.costs['parameters']):,} parameters",
    ]
    if "flops" in of.costs:
        lines[-1] += f", {of.costs['flops']:,.0f} multiply-adds for one input"
    return lines


def how_to_load(of: Final) -> str:
    """Python that makes the trained network."""
    module = type(of.trainer.space).__module__
    name = type(of.trainer.space).__name__
    settings = "".join(f", {key}={value!r}" for key, value in of.trainer.recipe.network.items())
    return f"""\
import torch
from {module} import {name}
from {module.rpartition(".")[0]}.network import build

space = {name}()
arch = space.from_string({of.trainer.space.to_string(of.architecture)!r})
network = build(space, arch, {tuple(of.about["inputs"])}, {of.about["classes"]}{settings})
network.load_state_dict(torch.load({of.runs[0].weights.name!r}, weights_only=True))
network.eval()
mean, deviation = torch.tensor({of.about["mean"]}), torch.tensor({of.about["deviation"]})
# give it (inputs - mean) / deviation, a mean and a deviation for each channel
"""


def write_final(of: Final, out: Path, origin: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write `retrain.md`, `retrain.json` and `architecture.png` beside the weights."""
    from bench.report.figures import draw  # seaborn takes seconds to import
    from bench.report.space_figures import drawings
    from bench.report.tables import _markdown

    space = of.trainer.space
    name = space.to_string(of.architecture)
    where = f"run {origin['run']}, seed {origin['seed']}" if origin else "the command line"
    graph = space.graph(of.architecture)
    caption = f"Space {space.name}. {'; '.join(sentences(of))}."
    lines = [f"# {_markdown(name)}", "", f"- from {_markdown(where)}"]
    lines += [f"- {_markdown(text)}" for text in sentences(of)]
    lines += [
        "",
        f"![{_markdown(name)}](architecture.png)",
        "",
        "```python",
        how_to_load(of),
        "```",
        "",
    ]
    contents = {
        "retrain.json": canonical_json(to_json(of, origin)).encode(),
        "architecture.png": draw(drawings([(name, graph)], caption), "png"),
        "retrain.md": "\n".join(lines).encode(),
    }
    for file, data in contents.items():
        write_whole(out / file, data)
    return (*(one.weights for one in of.runs), *(out / file for file in contents))
