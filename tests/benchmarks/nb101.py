"""NAS-Bench-101: opening and querying its table against the official reader, and importing it.

    python tests/benchmarks/nb101.py [--quick] [--nasbench FOLDER] [--tables FOLDER] [--whole]

FOLDER of `--nasbench` is a checkout of google-research/nasbench (commit b942470; not on PyPI),
read by the interpreter of `--peers`, which needs absl-py, protobuf and numpy. The files are
synthetic, in the official format, with random results. Our table has the official size, all 423,624
networks in all schedules (`--quick`: the one of 108 epochs alone, and the peer's files likewise);
it takes a while to write, and `--tables` keeps it. The peer reads files of two sizes, from which
its load is extrapolated linearly. Queries go to the cells of the larger file: first-seen means that
this process has not met the encoding, though its edges or operations may coincide with others'.
The import is extrapolated likewise, or with `--whole` measured on a file of the official size,
which is 2 GB and takes some ten minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import measure
import numpy as np

sys.path.insert(0, str(measure.ROOT / "tests"))

from published import nb101  # type: ignore[import-not-found]

from bench.protocol import Protocol
from bench.search import Query
from bench.table import PROVENANCE, Schedule, Table, TableObjective, write_table
from spaces.nb101.space import NB101

BATCH = 4000
PROTOCOL = Protocol(
    name="nb101",
    schedule="108",
    metric="valid_error",
    fidelities=(108,),
    report_schedule="108",
    report=("test_error", "valid_error"),
)
FIRST_ANSWER = f"""
import json, sys
from bench.protocol import Protocol
from bench.search import Query
from bench.table import TableObjective
from spaces.nb101.space import NB101
objective = TableObjective(NB101(), "cifar10", {PROTOCOL!r})
objective.evaluate(Query(tuple(json.loads(sys.argv[1])), 108), 0, 0)
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024, flush=True)
"""
IMPORT = """
import sys, time
from pathlib import Path
from bench.data import make_table
from bench.table import write_table
from spaces.nb101.official import nasbench
from spaces.nb101.space import NB101
source, space = Path(sys.argv[1]), NB101()
recipe = dict.fromkeys(("source", "licence", "citation", "notes"), "")
write_table(make_table(source, space, recipe, nasbench, partial=True), space, Path(sys.argv[2]))
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


class Nasbench(measure.Peer):
    """`nb101_peer.py` in another interpreter; `first_answer` counts from before its start."""

    def __init__(self, python: str, *arguments: str) -> None:
        start = perf_counter()
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("nb101_peer.py")), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        self.about: dict[str, Any] | None = self._read()
        self.first_answer = perf_counter() - start


def make_big_table(folder: Path, lengths: tuple[int, ...]) -> None:
    """A table with all networks and random results, as `data import` would make it."""
    space, rng = NB101(), np.random.default_rng(0)
    genes = nb101.every_network()
    parameters = rng.integers(200_000, 49_000_000, len(genes)).astype(np.float32)

    def schedule(epochs: list[int]) -> Schedule:
        shape = (len(genes), len(epochs), 3)
        columns = {}
        for split in "train", "valid", "test":  # repeats of a network differ by 0.3 % or so
            mean = rng.exponential(400, (len(genes), 1, 1)) + 560
            images = (mean + rng.normal(0, 30, shape)).clip(0, 9984).round()
            columns[f"{split}_error"] = (images / 9984).astype(np.float32)
        seconds = rng.uniform(100, 2000, shape).cumsum(1).astype(np.float32)
        columns |= {"elapsed_seconds": seconds, "parameters": parameters}
        return Schedule(np.array(epochs, np.int32), np.arange(3, dtype=np.int32), columns)

    schedules = {("cifar10", str(some)): schedule([some // 2, some]) for some in lengths}
    if len(lengths) > 1:
        schedules["cifar10", "final"] = schedule(list(lengths))
    provenance = dict.fromkeys(PROVENANCE, "") | {"space": space.name}
    write_table(Table(provenance, genes, schedules), space, folder / "nb101.h5")


def python(code: str, *words: str) -> tuple[float, float]:
    """Seconds until code in a fresh interpreter prints a number, and that number."""
    start = perf_counter()
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = perf_counter() - start
    if process.returncode or not line:
        raise SystemExit(f"{' '.join(words)}: the process above failed")
    return took, float(line)


def queries(objective: TableObjective, cells: list[tuple[int, ...]]) -> dict[str, float]:
    """µs a query: encodings met for the first time, met before, and in a batch."""
    from spaces.nb101 import graph

    asks = [Query(arch, 108) for arch in cells]
    objective._known.clear()
    graph.prune.cache_clear()
    graph._least.cache_clear()

    def ask_all() -> None:
        for ask in asks:
            objective.evaluate(ask, 1, 0)

    batch = np.array(cells, np.int8)
    objective.report(batch[:1])  # reads the reported columns, once
    took = {
        "one query with its graph, first-seen encoding": measure.seconds(ask_all),
        "one query with its graph, encoding seen before": measure.seconds(ask_all),
        f"query in a batch of {len(cells):,}": measure.seconds(lambda: objective.report(batch)),
    }
    return {what: seconds * 1e6 / len(cells) for what, seconds in took.items()}


def options() -> tuple[argparse.Namespace, argparse.Namespace]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--nasbench", help="a checkout of google-research/nasbench")
    parser.add_argument("--tables", type=Path, help="keep the large table in this folder")
    parser.add_argument("--whole", action="store_true", help="import a file of official size")
    own, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    return own, measure.arguments(__doc__)


def main() -> None:
    own, common = options()
    rounds = common.rounds or (3 if common.quick else 5)
    lengths = (108,) if common.quick else nb101.LENGTHS
    sizes = (4_000, 12_000) if common.quick else (5_000, 15_000)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = []
        for size in sizes:
            (folder / str(size)).mkdir()
            files.append(nb101.write(folder / str(size), size, lengths))
        genes = nb101.some_cells(sizes[-1])
        np.save(folder / "cells.npy", genes)
        tables = own.tables or folder / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        os.environ["NAS_ARENA_DATA"] = str(tables)
        if not (tables / "nb101.h5").exists():
            make_big_table(tables, lengths)
        rows, notes = compare(own.nasbench, common.peers, files, sizes, genes, rounds)
        if own.whole:
            (folder / "whole").mkdir()
            files = [nb101.write(folder / "whole", NB101().networks, lengths)]
        more, further = imports(files, sizes, folder)
    title = f"NAS-Bench-101, {len(lengths)} of 4 training lengths"
    measure.report(title, rows + more, notes + further, ["numpy", "h5py"], common.json)


def compare(
    nasbench: str | None,
    peers: str,
    files: list[Path],
    sizes: tuple[int, int],
    genes: np.ndarray[Any, Any],
    rounds: int,
) -> tuple[list[measure.Row | measure.Limit], list[str]]:
    """Start and queries, round after round in turn."""
    networks = NB101().networks
    objective = TableObjective(NB101(), "cifar10", PROTOCOL)
    cells = list(map(tuple, genes[:BATCH].tolist()))
    start, memory = "process start to first answer", "memory at the first answer"
    ours: dict[str, list[float]] = {start: [], memory: []}
    theirs: dict[str, list[float]] = {start: [], memory: []}
    query: list[float] = []
    about: dict[str, Any] | None = None
    note = (
        f"nasbench: skipped: {'not given (--nasbench)' if nasbench is None else 'lacks a package'}"
    )
    for _ in range(rounds):
        loads = []
        for file in files if nasbench is not None else []:
            words = (nasbench, str(file), str(file.parent.parent / "cells.npy"))
            with Nasbench(peers, *map(str, words)) as peer:
                if peer.about is None:
                    break
                about = peer.about
                loads.append((peer.first_answer, about["MB"]))
                if file == files[-1]:
                    peer(50)
                    query.append(peer(BATCH // 4) * 4e6 / BATCH)
        if len(loads) == len(files):
            (small, little), (large, much) = loads
            factor = (networks - sizes[0]) / (sizes[1] - sizes[0])
            theirs[start].append(small + (large - small) * factor)
            theirs[memory].append(little + (much - little) * factor)
            note = (
                "nasbench as found in the folder given "
                f"(protobuf {about['protobuf'] if about else ''}), its TensorFlow reader of "
                f"records replaced and TensorFlow not imported: {small:.2f} s and "
                f"{little:.0f} MB at {sizes[0]:,} cells, {large:.2f} s and {much:.0f} MB at "
                f"{sizes[1]:,} in the last round, extrapolated linearly to {networks:,} "
                f"(the difference × {factor:.1f})"
            )
        took, megabytes = python(FIRST_ANSWER, json.dumps(cells[0]))
        ours[start].append(took)
        ours[memory].append(megabytes)
        for what, microseconds in queries(objective, cells).items():
            ours.setdefault(what, []).append(microseconds)
            theirs[what] = query
    goals = [200, 10, None, 100, 300]
    units = ["s", "MB", "µs", "µs", "µs"]
    rows: list[measure.Row | measure.Limit] = [
        measure.Row(what, ours[what], theirs[what], goal, unit=unit)
        if theirs[what]
        else measure.Limit(what, ours[what], unit=unit)
        for what, goal, unit in zip(ours, goals, units, strict=True)
    ]
    size = (Path(os.environ["NAS_ARENA_DATA"]) / "nb101.h5").stat().st_size / 1e6
    return rows, [
        note,
        f"ours: a table of {networks:,} networks and {size:.0f} MB, whose SHA-256 is checked "
        "whenever it is opened; memory is the peak; every query is of a different encoding",
        "the goal of 100× for a query is that of encodings seen before: a first-seen one is "
        "canonicalised in Python, and its ratio has no goal",
    ]


def imports(
    files: list[Path], sizes: tuple[int, int], folder: Path
) -> tuple[list[measure.Row | measure.Limit], list[str]]:
    """Peak memory and time of importing a whole file, or two smaller ones, extrapolated."""
    found = [python(IMPORT, str(file), str(folder / "imported.h5")) for file in files]
    what = "peak memory of the import of a whole file", "seconds of that import"
    if len(files) == 1:
        ((took, megabytes),) = found
        return [
            measure.Limit(what[0], [megabytes], 4000, "MB"),
            measure.Limit(what[1], [took]),
        ], [f"import with all checks, {files[0].stat().st_size / 1e6:,.0f} MB, and table written"]
    (quick, little), (slow, much) = found
    factor = (NB101().networks - sizes[0]) / (sizes[1] - sizes[0])
    whole = little + (much - little) * factor
    return [
        measure.Limit(what[0], [whole], 4000, "MB"),
        measure.Limit(what[1], [quick + (slow - quick) * factor]),
    ], [
        f"import with all checks and the table written: {quick:.1f} s and {little:.0f} MB at "
        f"{sizes[0]:,} cells, {slow:.1f} s and {much:.0f} MB at {sizes[1]:,}, extrapolated "
        f"linearly (the difference × {factor:.1f}); small files hide the room for growth: `--whole`"
    ]


if __name__ == "__main__":
    main()
