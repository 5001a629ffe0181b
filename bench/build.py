"""Train a whole space, or some of it, under several seeds, and make a table of that.

The trainings have a fixed order: the architectures as chosen, each under seeds 0, 1, … Every
`SHARD` of them in a row are sealed together, as the seeds of a run are (`bench.store`):

    <out>/<space>-<dataset>-<key>/
        cell.json                           what is trained: all that can move a number
        trials-<first>-<last>-<digest>.npz  sealed: errors at every epoch, F1, proxies, status
        measured-<first>-<last>.npz         seconds, latency, messages, provenance

So equal builds seal equal bytes, whatever the number of processes and however often they were
killed. What is measured stands apart and differs.
"""

import hashlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.recipe import is_visible
from bench.run import provenance
from bench.search import stream
from bench.space import Architecture, Space
from bench.store import (
    canonical_json,
    lock,
    open_cell,
    seal,
    shards_to_run,
)
from bench.training.supervise import Answer, Supervisor

if TYPE_CHECKING:  # PyTorch takes seconds to import
    from bench.parts import Training
    from bench.training.trainer import Trainer

BUILD_VERSION = 1  # raised by any change that moves a number of a table
SHARD = 12  # trainings that are sealed together
SPLITS = ("train", "valid", "test")
MOST = 200_000  # architectures that one build may have
TRANSIENT = ("signal", "exit", "oom_host")  # perhaps the machine's doing: tried once more
CODE = (  # what trains
    *("captured", "cost", "data", "layers", "loop", "population", "proxies"),
    *("recipe", "stacked", "trainer", "worker"),
)


class BuildError(Exception):
    """A build that cannot be, or did not end; the message is one sentence."""


class InputError(BuildError):
    """What was asked for cannot be."""


@dataclass(frozen=True)
class Plan:
    """What is trained, and how."""

    space: Space
    dataset: str
    trainer: "Trainer"
    architectures: tuple[Architecture, ...]
    seeds: int
    config: Mapping[str, Any]
    """The resolved configuration of space, data set and recipe."""
    about: Mapping[str, Any]
    """What a process that trains says of its data and device (`ask_about`)."""
    code: Mapping[str, str]
    """Digests of the code that trains, from before it does."""
    deadline: float = 3600.0
    """Seconds after which a training is ended and counts as failed."""
    costs: bool = True
    """Whether FLOPs, latency and proxies are measured too."""
    first_seed: int = 0
    shard: int = SHARD
    """Trainings that are sealed together, and that a kill may cost."""

    @property
    def trainings(self) -> int:
        """How many there are."""
        return len(self.architectures) * self.seeds

    def training(self, number: int) -> tuple[Architecture, int]:
        """The architecture and the seed of one of them."""
        row, seed = divmod(number, self.seeds)
        return self.architectures[row], self.first_seed + seed


def choose(space: Space, text: str) -> tuple[Architecture, ...]:
    """The architectures that `all`, `random:N`, `random:N:SEED` or the name of a file mean.

    A file has the string form of an architecture in each line; what follows a `#` is left out.

    Raises:
        InputError: there are too many, none, or one of them is no network or stands there twice.
    """
    drawn = re.fullmatch(r"random:(\d+)(?::(\d+))?", text)
    if text != "all" and not drawn:
        return _listed(space, Path(text))
    count = int(drawn[1]) if drawn else space.networks
    if not 1 <= count <= min(space.networks, MOST):
        raise InputError(
            f"architectures is {text!r}; {space.name} has {space.networks:,} networks and a build "
            f"up to {MOST:,}; allowed: all, random:N or a file"
        )
    rng = stream(int(drawn[2] or 0) if drawn else 0, "architectures")
    few = count < space.networks / 2
    source = iter(lambda: space.sample(rng), None) if few and drawn else iter(space)
    found: dict[int, Architecture] = {}
    for arch in source:
        found.setdefault(space.key(arch), arch)
        if few and drawn and len(found) == count:
            break
    members = list(found.values())
    return tuple(members if few or not drawn else rng.sample(members, count))


def _listed(space: Space, path: Path) -> tuple[Architecture, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"architectures is {str(path)!r}, which is no readable file "
            f"({type(error).__name__}); allowed: all, random:N or a file"
        ) from None
    found: dict[int, tuple[int, Architecture]] = {}
    for number, line in enumerate(lines, 1):
        if not (text := line.split("#")[0].strip()):
            continue
        try:
            arch = space.from_string(text)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        if (key := space.key(arch)) in found:
            raise InputError(f"{path}: lines {found[key][0]} and {number} are the same network")
        found[key] = number, arch
    if not 1 <= len(found) <= MOST:
        raise InputError(f"{path} lists {len(found):,} architectures; allowed: 1 to {MOST:,}")
    return tuple(arch for _, arch in found.values())


def make_plan(
    made: "Training",
    architectures: Sequence[Architecture],
    seeds: int,
    *,
    device: str = "auto",
    deadline: float = 3600.0,
    costs: bool = True,
    first_seed: int = 0,
    shard: int = SHARD,
) -> Plan:
    """What is to be trained, after a look at the data.

    Raises:
        InputError: no process can be prepared, such as where the data are absent.
        ValueError: there is no such device.
    """
    from bench.training.trainer import Trainer, choose_device, on

    recipe = on(made.recipe, choose_device(device))
    trainer = Trainer(made.space, made.load, recipe, device)
    return Plan(
        made.space,
        made.dataset,
        trainer,
        tuple(architectures),
        seeds,
        made.config,
        ask_about(trainer),
        _code(made.space),
        deadline,
        costs,
        first_seed,
        shard,
    )


def describe(plan: Plan) -> dict[str, Any]:
    """All that can move a number of a build, ready for JSON."""
    genes = np.array(plan.architectures, np.int8)
    return {
        "build_version": BUILD_VERSION,
        "config": plan.config,
        "precision": plan.trainer.recipe.precision,
        "data": plan.about["data"],
        "architectures": hashlib.sha256(genes.tobytes()).hexdigest(),
        "seeds": [plan.first_seed, plan.first_seed + plan.seeds],
        "costs": plan.costs,
        "shard": plan.shard,
        "device": plan.about["device"],
        "hardware": plan.about["hardware"],
        "torch": version("torch"),
        "code": plan.code,
    }


def _code(space: Space) -> dict[str, str]:
    """Digests of what makes the networks of a space and of what trains them, as they are now."""
    home = Path(str(sys.modules[type(space).__module__].__file__)).parent
    ours = Path(__file__).parent / "training"
    return {
        "space": _digest(home.glob("*.py")),
        "training": _digest(ours / f"{name}.py" for name in CODE),
    }


def _digest(files: Iterator[Path]) -> str:
    """SHA-256 of source files, whatever their ends of line."""
    texts = [path.read_bytes().replace(b"\r\n", b"\n") for path in sorted(files)]
    return hashlib.sha256(b"".join(texts)).hexdigest()


def key_of(plan: Plan) -> str:
    """SHA-256 that stands for all that can move a number of a build."""
    return hashlib.sha256(canonical_json(describe(plan)).encode()).hexdigest()


def folder_of(plan: Plan, out: Path) -> Path:
    """Where the shards of a build are kept; named for people, keyed for us."""
    return out / f"{plan.space.name}-{plan.dataset}-{key_of(plan)[:12]}"


def ask_about(trainer: "Trainer") -> dict[str, Any]:
    """What a process that trains says of its data and device.

    Raises:
        InputError: no process can be prepared, such as where the data are absent.
    """
    from bench.training.worker import Worker

    supervisor = Supervisor(Worker(trainer).prepare)
    try:
        answer = supervisor.ask({"kind": "about"}, 600.0)
    except ChildProcessError as error:
        raise InputError(str(error)) from None
    finally:
        supervisor.close()
    if answer["status"] != "ok":
        raise InputError(f"the data set cannot be described: {answer.get('message')}")
    return answer


def train_all(
    plan: Plan, out: Path, *, jobs: int = 1, progress: Callable[[int], object] = bool
) -> Path:
    """Train and seal what is not sealed yet, in `jobs` processes; returns the build's folder.

    Each takes the first shard that nobody holds; other builds of the same folder may run beside.

    Args:
        progress: called with the number of trainings that are done beyond those told before.

    Raises:
        BuildError: some could not be trained; what was sealed stays.
        StoreError: the folder is damaged.
    """
    folder = folder_of(plan, out)
    open_cell(folder, describe(plan))
    missing = sum(map(len, shards_to_run(folder, range(plan.trainings), plan.shard)))
    progress(plan.trainings - missing)
    if not missing:
        return folder
    context = get_context("spawn")
    processes, pipes = [], []
    said: list[str] = []
    try:
        for job in range(min(jobs, -(-missing // plan.shard))):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(plan, folder, job, theirs))
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        said = _listen(pipes, progress)
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()  # what it was training is lost, what is sealed stays
            process.join()
    left = sum(map(len, shards_to_run(folder, range(plan.trainings), plan.shard)))
    if left:
        codes = ", ".join(str(process.exitcode) for process in processes)
        why = said[0] if said else f"processes ended with {codes}"
        raise BuildError(f"{left:,} of {plan.trainings:,} trainings are not done: {why}")
    return folder


def _listen(pipes: Sequence[Connection], progress: Callable[[int], object]) -> list[str]:
    """Pass progress on until all have ended; returns what they complained of."""
    said = []
    open_ones = list(pipes)
    while open_ones:
        for pipe in wait(open_ones):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv_bytes().decode()
            except (EOFError, OSError):
                open_ones.remove(pipe)
                pipe.close()
                continue
            if message:
                said.append(message)
            else:
                progress(1)
    return said


def _work(plan: Plan, folder: Path, job: int, pipe: Connection) -> None:
    """A process that trains shards until there are none left."""
    from bench.training.worker import Worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=_follow, daemon=True).start()
    supervisor = Supervisor(Worker(plan.trainer).prepare, folder / f"training-{job}.log")

    def tick() -> None:
        with suppress(OSError):
            pipe.send_bytes(b"")

    try:
        for waiting in False, True:  # what others hold is looked at again when they are done
            for block in shards_to_run(folder, range(plan.trainings), plan.shard):
                with lock(folder, block, plan.shard, wait=waiting) as ours:
                    for some in shards_to_run(folder, block, plan.shard) if ours else ():
                        _train_shard(plan, folder, some, supervisor, tick)
    except Exception as error:
        pipe.send_bytes(f"{type(error).__name__}: {error}".encode())
    finally:
        supervisor.close()


def _follow() -> None:
    """A killed parent leaves no orphans."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train_shard(
    plan: Plan, folder: Path, some: range, supervisor: Supervisor, tick: Callable[[], object]
) -> None:
    origin = canonical_json(provenance())
    answers = _train_together(plan, some, supervisor)
    records = []
    for number in some:
        answer = answers.get(number) or _ask(supervisor, _request(plan, number), plan.deadline)
        records.append(_record(plan, number, answer, supervisor))
        tick()
    names = list(dict.fromkeys(chain.from_iterable(sealed_ones for sealed_ones, _ in records)))
    trials = {name: _stack([one.get(name) for one, _ in records]) for name in names}
    clocks = {name: _stack([one[name] for _, one in records]) for name in records[0][1]}
    clocks["provenance"] = np.frombuffer(origin.encode(), np.uint8)
    seal(folder, some, trials, clocks)


def _stack(values: Sequence[Any]) -> NDArray[Any]:
    """An array of equal things, NaN where one is absent."""
    return np.array([np.nan if value is None else value for value in values])


def _train_together(
    plan: Plan, some: range, supervisor: Supervisor
) -> dict[int, Mapping[str, Any]]:
    """The answers of a population, by number; none if there is no such thing here, or if it
    failed: then each is tried alone, and whose fault it was will show.
    """
    if not plan.about["population"] or len(some) < 2:
        return {}
    trainings = [_training(plan, number) for number in some]
    request = _rules(plan) | {"kind": "together", "trainings": trainings}
    answer = _ask(supervisor, request, plan.deadline * len(some), len(some))
    answers = answer.get("answers") if answer["status"] == "ok" else None
    if not isinstance(answers, list) or len(answers) != len(some):
        return {}
    return dict(zip(some, answers, strict=True))


def _request(plan: Plan, number: int) -> dict[str, Any]:
    return _rules(plan) | _training(plan, number) | {"kind": "train"}


def _rules(plan: Plan) -> dict[str, Any]:
    return {"epochs": plan.trainer.recipe.epochs, "splits": SPLITS, "final": ()}


def _training(plan: Plan, number: int) -> dict[str, Any]:
    arch, seed = plan.training(number)
    return {"architecture": arch, "seed": seed, "checkpoint": None}


def _record(
    plan: Plan, number: int, answer: Mapping[str, Any], supervisor: Supervisor
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is sealed of a training, and what was measured."""
    arch, seed = plan.training(number)
    costs = _costs(plan, arch, seed, supervisor) if plan.costs else {}
    status, message = str(answer["status"]), str(answer.get("message", ""))
    try:
        errors, f1, seconds = _scores(plan, answer)
    except (KeyError, TypeError, ValueError) as error:
        status, message = "bad_result", f"{type(error).__name__}: {error}"
        errors, f1, seconds = _scores(plan, {"status": status})
    parameters = float(answer.get("parameters", np.nan))
    alone = costs.pop("epoch_seconds", seconds)
    if answer.get("together"):  # its seconds are a share of the others'
        seconds = alone
    measured = {
        "epoch_seconds": seconds,
        "latency": costs.pop("latency", np.nan),
        "message": message,
    }
    kept = {"number": number, "status": status, "errors": errors, "f1": f1}
    return kept | {"parameters": parameters} | costs, measured


def _scores(
    plan: Plan, answer: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Errors `[splits, epochs]` as far as they go, F1 `[splits]`, and seconds of an epoch.

    Raises:
        KeyError, TypeError, ValueError: the answer is not that of a training.
    """
    epochs, status = plan.trainer.recipe.epochs, answer["status"]
    errors = np.full((len(SPLITS), epochs), np.nan)
    f1 = np.full(len(SPLITS), np.nan)
    if answer.get("data", plan.about["data"]) != plan.about["data"]:
        raise ValueError("the data set is another than at the start")
    for place, split in enumerate(SPLITS):
        curve = np.array(answer.get("errors", {}).get(split, []), float)
        errors[place, : len(curve)] = curve
        if status == "ok":
            f1[place] = answer["f1"][split]
    if status == "ok" and np.isnan(errors).any():
        raise ValueError(f"fewer than {epochs} epochs")
    told = np.concatenate([errors.ravel(), f1])
    if wrong := told[(told < 0) | (told > 1)].tolist():
        raise ValueError(f"{wrong[0]} is no fraction")
    seconds = answer["seconds"] / answer["epochs"] if answer.get("epochs") else np.nan
    return errors, f1, float(seconds)


def _costs(plan: Plan, arch: Architecture, seed: int, supervisor: Supervisor) -> dict[str, float]:
    """What can be known of a network without training, as far as it can."""
    request = {"kind": "costs", "architecture": arch, "seed": seed}
    answer = _ask(supervisor, request, plan.deadline)
    return {
        name: float(value)
        for name, value in answer.items()
        if (is_visible(name) or name == "epoch_seconds") and value is not None
    }


def _ask(
    supervisor: Supervisor, request: Mapping[str, Any], deadline: float, answers: int = 1
) -> Answer:
    """The answer, after a second try where the first may have failed by the machine's doing."""
    answer = supervisor.ask(request, deadline, answers)
    if answer["status"] in TRANSIENT:
        answer = supervisor.ask(request, deadline, answers)
    return answer
