"""A cell, its seeds, and the executor that runs and seals them."""

import gc
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench.protocol import Protocol
from bench.search import Budget, Objective, Strategy, Trial, search, stream
from bench.space import Space
from bench.store import (
    Columns,
    StoreError,
    canonical_json,
    lock,
    open_cell,
    seal,
    shards_to_run,
)

RESULTS_VERSION = 1  # raised by any change that moves a number
ROUNDS_VERSION = 2  # the same, of runs with several workers

StrategyFactory = Callable[[Space, Random, tuple[int, ...]], Strategy]


@dataclass(frozen=True)
class Cell:
    """One box of the grid: strategy × space × dataset × objective × protocol × budget."""

    names: Mapping[str, str]
    """What each part is called in `conf`, by the name of its group."""
    config: Mapping[str, Any]
    """The parts' resolved configuration: with the objective's digest, all that moves a number."""
    strategy: StrategyFactory
    space: Space
    objective: Objective
    protocol: Protocol
    budget: Budget
    workers: int = 1

    def describe(self) -> dict[str, Any]:
        """What is stored beside the trials, ready for JSON; equal cells, equal descriptions."""
        return {
            "names": dict(self.names),
            "config": dict(self.config),
            "protocol": asdict(self.protocol) | {"digest": self.protocol.digest},
            "budget": asdict(self.budget),
            "workers": self.workers,
            "objective_digest": self.objective.digest,
            "optimum": dict(self.objective.optimum),
            "notes": self.objective.notes,
            "results_version": RESULTS_VERSION if self.workers == 1 else ROUNDS_VERSION,
        }

    @property
    def key(self) -> str:
        """12 hex digits that stand for everything that can change a number, seeds apart."""
        return hashlib.sha256(canonical_json(self.describe()).encode()).hexdigest()[:12]

    @property
    def shard_size(self) -> int | None:
        """How many seeds are sealed together: the store's number, but each alone if dear."""
        return 1 if self.objective.journalled else None

    @property
    def steps(self) -> int:
        """In how many steps the progress of a run is told: what a dear one counts, else one."""
        counts = self.objective.journalled and self.budget.clock in ("evaluations", "epochs")
        return max(1, int(self.budget.limit)) if counts else 1

    def folder(self, results: Path) -> Path:
        """Where the cell is stored; named for people, keyed for us."""
        parts = [self.names[part] for part in ("strategy", "space", "dataset", "protocol")]
        limit = f"{self.budget.limit:g}-{self.budget.clock}"
        return results / "runs" / "-".join((*parts, limit, self.key))


class RunError(Exception):
    """A run that cannot be; the message is one sentence."""


def run_seed(
    cell: Cell, seed: int, tick: Callable[[int], object] = bool, *, folder: Path = Path()
) -> tuple[Columns, Columns]:
    """Run one seed; returns the columns to seal and the measured ones, each `[trials, …]`.

    Among the measured ones stands, of shape `[1]`, what the answers rest on.

    Args:
        tick: called with how many more of the cell's `steps` are done.
        folder: of the cell, for a journal.

    Raises:
        RunError: the budget ends before the first trial.
    """
    objective = cell.objective.open(folder / f"journal-{seed:06d}.jsonl")
    try:
        columns, measured = _run_with(objective, cell, seed, tick)
        rests_on = objective.finish()
        return columns, measured | {name: np.array([value]) for name, value in rests_on.items()}
    finally:
        objective.close()


def _run_with(
    objective: Objective, cell: Cell, seed: int, tick: Callable[[int], object]
) -> tuple[Columns, Columns]:
    strategy = cell.strategy(cell.space, stream(seed, "strategy"), cell.protocol.fidelities)
    noise = stream(seed, "noise").getrandbits(64)
    told = search(
        strategy,
        objective,
        cell.protocol,
        cell.budget,
        noise=noise,
        workers=cell.workers,
        timer=objective.timer,
    )
    trials = list(told if cell.steps == 1 else _watched(told, cell, tick))
    if cell.steps == 1:
        tick(1)
    if not trials:
        raise RunError(f"seed {seed}: the budget ends before the first trial")
    queries, evaluations, counts, epochs, seconds, wall, overhead, gpu = zip(*trials, strict=True)
    architectures, fidelities = zip(*queries, strict=True)
    errors, _, _, statuses, _ = zip(*evaluations, strict=True)
    genes = np.frombuffer(bytes(chain.from_iterable(architectures)), np.int8)
    columns: Columns = {
        "architecture": genes.reshape(len(trials), -1),
        "fidelity": np.array(fidelities, dtype=np.int32),
        "error": np.array(errors),
        "failed": np.fromiter(map("ok".__ne__, statuses), bool),
        "evaluations": np.array(counts, dtype=np.int32),
        "epochs": np.array(epochs, dtype=np.int64),
        "simulated_seconds": np.array(seconds),
    }
    for name, values in objective.report(columns["architecture"]).items():
        columns[f"report_{name}"] = values
    measured = {"wall_seconds": np.array(wall), "overhead_seconds": np.array(overhead)}
    if objective.holds_gpu:
        measured["gpu_seconds"] = np.array(gpu)
    return columns, measured


def _watched(trials: Iterator[Trial], cell: Cell, tick: Callable[[int], object]) -> Iterator[Trial]:
    """The trials of a run, each told as the steps that the run has come on, all in the end."""
    done = 0
    for trial in trials:
        reached = min(getattr(trial, cell.budget.clock), cell.steps)
        tick(reached - done)
        done = reached
        yield trial
    tick(cell.steps - done)


def run_shard(
    cell: Cell, seeds: range, tick: Callable[[int], object] = bool, *, folder: Path = Path()
) -> tuple[Columns, Columns]:
    """Run several seeds, calling `tick` as `run_seed` does; their columns stand in a row.

    The column `length` says how many trials each seed has.
    """
    trials, measured = [], []
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000)  # trials hold no cycles: looking for them took a third of the time
    try:
        for seed in seeds:
            columns, clocks = run_seed(cell, seed, tick, folder=folder)
            trials.append(columns)
            measured.append(clocks)
    finally:
        gc.set_threshold(*thresholds)
    lengths = {"length": np.array([len(columns["error"]) for columns in trials])}
    joined: Columns = {name: np.concatenate([run[name] for run in trials]) for name in trials[0]}
    clocks = {name: np.concatenate([run[name] for run in measured]) for name in measured[0]}
    return {"seed": np.array(seeds, dtype=np.int64), **lengths, **joined}, {**lengths, **clocks}


@cache
def provenance() -> dict[str, str]:
    """Where results come from: software, commit, machine, day."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": str(os.cpu_count()),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for package in ("nas-arena", "numpy", "h5py", "scipy", "hydra-core", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    home = Path(__file__).parent.parent
    git = shutil.which("git")
    if git is not None and (home / ".git").exists():
        describe = [git, "-C", str(home), "describe", "--always", "--dirty", "--abbrev=40"]
        found["commit"] = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    return found


def run_and_seal(
    cell: Cell, folder: Path, seeds: range, *, wait: bool, tick: Callable[[int], object]
) -> bool:
    """Run and seal what of these seeds is not sealed; False if another process holds them."""
    with lock(folder, seeds, cell.shard_size, wait=wait) as ours:
        if not ours:
            return False
        origin = canonical_json(provenance())  # before the first run, for its date
        missing = shards_to_run(folder, seeds, cell.shard_size)
        tick((len(seeds) - sum(map(len, missing))) * cell.steps)
        for some in missing:
            trials, measured = run_shard(cell, some, tick, folder=folder)
            measured["provenance"] = np.frombuffer(origin.encode(), np.uint8)
            seal(folder, some, trials, measured)
    return True


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_for(cells: Sequence[Cell]) -> int:
    """In how many processes to run where nobody says: one, and one a core to train on a CPU."""
    on_cpu = any(cell.objective.journalled and not cell.objective.holds_gpu for cell in cells)
    return cores() if on_cpu else 1


def unready(cells: Sequence[Cell], seeds: range, results: Path, *, jobs: int = 1) -> list[str]:
    """Why dear cells with seeds to run cannot begin: a sentence for each objective not ready.

    Args:
        jobs: in how many processes they are to run; those get themselves ready.

    Raises:
        StoreError: what is stored is damaged.
    """
    found = []
    needed = {
        id(cell.objective): cell.objective
        for cell in cells
        if cell.objective.journalled and shards_to_run(cell.folder(results), seeds, cell.shard_size)
    }
    for objective in needed.values():
        try:
            objective.prepare()
        except ChildProcessError as error:
            found.append(str(error))
        if jobs > 1 or len(needed) > 1:
            objective.close()  # what is ready holds memory until its turn comes
    return list(dict.fromkeys(found))


Task = tuple[int, range]  # the number of a cell and some of its seeds
Outcome = bool | str  # whether it was sealed, or what it raised


def execute(
    cells: Sequence[Cell],
    seeds: range,
    results: Path,
    *,
    jobs: int = 1,
    progress: Callable[[Cell, int], object] = lambda cell, steps: None,
) -> list[str]:
    """Run and seal all seeds of all cells that are not sealed yet, in `jobs` processes.

    Shards that another process is working on are left to it and looked at again at the end. A
    run that raises does not stop the others.

    Args:
        progress: called with a cell and how many more of its steps are done; each of its seeds
            has `cell.steps`.

    Returns:
        A sentence for every shard that raised.
    """
    tasks: list[Task] = []
    for number, cell in enumerate(cells):
        folder = cell.folder(results)
        open_cell(folder, cell.describe())
        missing = shards_to_run(folder, seeds, cell.shard_size)
        progress(cell, (len(seeds) - sum(map(len, missing))) * cell.steps)
        tasks += [(number, some) for some in missing]
    work = _in_turn if jobs == 1 or len(tasks) == 1 else partial(_in_processes, jobs=jobs)
    failures: list[str] = []
    for wait_for_lock in False, True:
        busy: list[Task] = []
        for task, outcome in work(cells, tasks, results, wait_for_lock, progress):
            if isinstance(outcome, str):
                number, some = task
                span = f"seeds {some[0]}-{some[-1]}"
                failures.append(f"{cells[number].names['strategy']}, {span}: {outcome}")
            elif not outcome:
                busy.append(task)
        tasks = busy
    return failures


def _attempt(
    cell: Cell, some: range, results: Path, wait_for_lock: bool, tick: Callable[[int], object]
) -> Outcome:
    try:
        return run_and_seal(cell, cell.folder(results), some, wait=wait_for_lock, tick=tick)
    except (RunError, LookupError, StoreError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # of somebody's strategy: say where
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


def _in_turn(
    cells: Sequence[Cell],
    tasks: Sequence[Task],
    results: Path,
    wait_for_lock: bool,
    progress: Callable[[Cell, int], object],
) -> Iterator[tuple[Task, Outcome]]:
    for number, some in tasks:
        tick = partial(progress, cells[number])
        yield (number, some), _attempt(cells[number], some, results, wait_for_lock, tick)


def _in_processes(
    cells: Sequence[Cell],
    tasks: Sequence[Task],
    results: Path,
    wait_for_lock: bool,
    progress: Callable[[Cell, int], object],
    *,
    jobs: int,
) -> Iterator[tuple[Task, Outcome]]:
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    if not tasks:
        return
    context = get_context("spawn")
    ticks, stop = context.SimpleQueue(), context.Event()
    with ProcessPoolExecutor(
        min(jobs, len(tasks)), context, _start_worker, (cells, results, ticks, stop)
    ) as pool:
        pending = {
            pool.submit(_work, number, some, wait_for_lock): (number, some)
            for number, some in tasks
        }
        try:
            while pending:
                finished, _ = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
                _pass_on(ticks, cells, progress)
                for future in finished:
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        outcome = "a worker process died; run again for what is not sealed"
                    yield pending.pop(future), outcome
        except BaseException:
            stop.set()  # workers leave after the seed, or dear evaluation, they are at
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        _pass_on(ticks, cells, progress)


def _pass_on(ticks: Any, cells: Sequence[Cell], progress: Callable[[Cell, int], object]) -> None:
    while not ticks.empty():
        number, steps = ticks.get()
        progress(cells[number], steps)


_worker: tuple[Sequence[Cell], Path, Any, Any]  # set once in every worker process


def _start_worker(cells: Sequence[Cell], results: Path, ticks: Any, stop: Any) -> None:
    from multiprocessing import parent_process

    global _worker
    _worker = cells, results, ticks, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    parent = parent_process()
    if parent is not None:  # a killed parent leaves no orphans

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _work(number: int, some: range, wait_for_lock: bool) -> Outcome:
    cells, results, ticks, stop = _worker

    def tick(steps: int) -> None:
        ticks.put((number, steps))
        if stop.is_set():
            os._exit(130)

    return _attempt(cells[number], some, results, wait_for_lock, tick)
