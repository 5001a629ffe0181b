"""The best of all 15,625 cells of NATS-Bench's topology space, from process start to answer.

Ours reads a table of official size, made of random numbers; `nats_bench` in fast mode reads
synthetic files in its official format, a part of all, and its time and memory are extrapolated
linearly. Beside that, the memory of importing the packed archive. First queries are not compared.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np
from numpy.typing import NDArray

from bench.table import PROVENANCE, Schedule, Table, write_table
from spaces.nb201.records import COLUMNS
from spaces.nb201.runs import COSTS
from spaces.nb201.space import NB201

sys.path.insert(0, str(measure.ROOT / "tests"))
from published import nats, nats_tss

SPACE = NB201()
SEEDS = {"12": [111, 777], "200": [777, 888, 999]}
IMPORTED = 4096  # MiB that an import may take
PEAK = """
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
"""  # what a child's rusage says includes its parent
OURS = (
    PEAK
    + """
import json, sys, yaml
from bench.protocol import Protocol
from bench.table import TableObjective
from spaces.nb201.space import NB201
settings = yaml.safe_load(open("conf/protocol/nats_tss.yaml"))
del settings["_target_"]
space = NB201()
objective = TableObjective(space, "cifar10", Protocol(**settings), table="nats_tss")
members = list(space)
errors = objective.report(members)["test_error"]
best = int(errors.argmin())
print(json.dumps({"best": space.to_string(members[best]), "MiB": peak()}))
"""
)
IMPORT = (
    PEAK
    + """
import atexit, json
from bench.cli import main
atexit.register(lambda: print(json.dumps(peak())))
main()
"""
)
PEER = (
    PEAK
    + """
import json, sys, time, warnings
from importlib.metadata import PackageNotFoundError, version
try:
    about = {"nats_bench": version("nats_bench"), "numpy": version("numpy")}
except PackageNotFoundError:
    print("null")
    sys.exit()
from nats_bench import create
warnings.simplefilter("ignore")
api = create(sys.argv[1], "tss", fast_mode=True, verbose=False)
before = peak()
start = time.perf_counter()
best, accuracy = api.find_best("cifar10", "test", hp="200")
about |= {"best": api.arch(best), "seconds": time.perf_counter() - start, "before": before}
about["MiB"] = peak()
print(json.dumps(about))
"""
)


def make_table(folder: Path) -> tuple[float, float]:
    """A whole table of random numbers, in the columns of an import; its seconds and megabytes."""
    rng, count = np.random.default_rng(0), SPACE.size
    made: dict[tuple[str, str, str], NDArray[np.float32]] = {}

    def errors(schedule: str, trained_on: str, measured_on: str) -> NDArray[np.float32]:
        shape = (count, int(schedule), len(SEEDS[schedule]))
        values = np.full(shape, np.nan, np.float32)
        half = trained_on == "cifar10-valid"
        curve = schedule == "12" or measured_on in ("train", "x-valid" if half else "ori-test")
        for epoch in range(shape[1]) if curve else [shape[1] - 1]:
            values[:, epoch] = rng.integers(0, 10_000, (count, shape[2])) / np.float32(10_000)
        return values

    schedules = {}
    for dataset, columns in COLUMNS.items():
        for schedule, seeds in SEEDS.items():
            for key in columns.values():
                if (schedule, *key) not in made:
                    made[schedule, *key] = errors(schedule, *key)
            known = {name: made[schedule, *key] for name, key in columns.items()}
            known |= {name: rng.random(count, np.float32) + 1 for name in COSTS}
            epochs = np.arange(1, int(schedule) + 1, dtype=np.int32)
            schedules[dataset, schedule] = Schedule(epochs, np.array(seeds, np.int32), known)
    genes = np.array(list(SPACE), np.int8)
    table = Table(dict.fromkeys(PROVENANCE, "") | {"space": SPACE.name}, genes, schedules)
    path = folder / "nats_tss.h5"
    took = measure.seconds(lambda: write_table(table, SPACE, path))
    return took, path.stat().st_size / 1e6


def answer(command: list[str], **environment: str) -> Any:
    """What a fresh process printed, and the seconds it took from start to exit."""
    found: dict[str, Any] = {}

    def run() -> None:
        done = subprocess.run(
            command,
            cwd=measure.ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr.strip() or f"{command[0]} failed")
        found["printed"] = json.loads(done.stdout.splitlines()[-1])

    took = measure.seconds(run)
    return found["printed"], took


def write_part(folder: Path, count: int) -> Path:
    """Unpacked official files of `count` architectures, and a meta file that lists only them."""
    strings = nats_tss.strings()[:count]
    seeds = (777, 888, 999)
    rng = np.random.default_rng(0)
    target: Path = nats.write_folder(folder, f"{nats_tss.NAME}-simple", strings, {})
    for index, text in enumerate(strings):
        some = seeds[: 2 + index % 2]  # as v1.0 has it, about half with three
        record = nats.record(index, text, "tss", rng, some)
        nats.packed(record, target / f"{index:06d}.pickle.pbz2")
    return target


def import_memory(folder: Path, count: int) -> tuple[float, float]:
    """Peak MiB and seconds of importing a packed archive of `count` architectures."""
    some = {index: (777, 888, 999)[: 2 + index % 2] for index in range(count)}
    source = nats_tss.write(folder, nats_tss.records(some))
    command = [sys.executable, "-c", IMPORT, "data", "import", "nats_tss", str(source), "--partial"]
    peak, took = answer(command, NAS_ARENA_DATA=str(folder / "imported"))
    return peak, took


def main() -> None:
    options = measure.arguments(__doc__)
    rounds = options.rounds or (3 if options.quick else 5)
    count, archives = (150, (30, 90)) if options.quick else (1500, (100, 400))
    factor = SPACE.size / count
    rows: list[measure.Row | measure.Limit] = []
    notes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        took, megabytes = make_table(folder)
        notes.append(f"our table: {megabytes:.0f} MB of random numbers, written in {took:.0f} s")
        ours_command = [sys.executable, "-c", OURS]

        def ours() -> tuple[float, float]:
            printed, seconds = answer(ours_command, NAS_ARENA_DATA=temporary)
            return seconds, printed["MiB"]

        part = write_part(folder, count)

        def peer() -> tuple[float, float, dict[str, Any]] | None:
            printed, seconds = answer([options.peers, "-c", PEER, str(part)])
            if printed is None:
                return None
            start = seconds - printed["seconds"]
            growth = (printed["MiB"] - printed["before"]) * factor
            return start + printed["seconds"] * factor, printed["before"] + growth, printed

        ours()  # the page cache is warm for both
        first = peer()
        if first is None:
            notes.append("nats_bench: skipped: not installed")
            some = [ours() for _ in range(rounds)]
            rows.append(measure.Limit("best of 15,625, from the start", [one for one, _ in some]))
        else:
            pairs = [(ours(), peer() or first) for _ in range(rounds)]
            seconds = [[one[0] for one, _ in pairs], [other[0] for _, other in pairs]]
            memory = [[one[1] for one, _ in pairs], [other[1] for _, other in pairs]]
            what = f"nats_bench fast mode, {count:,} × {factor:.3g}"
            rows += [
                measure.Row(
                    f"best of 15,625, from the start, vs {what}", seconds[0], seconds[1], 100
                ),
                measure.Row(f"its peak memory, vs {what}", memory[0], memory[1], 20, True, "MiB"),
            ]
            about = first[2]
            size = sum(file.stat().st_size for file in part.glob("0*")) / count / 1000
            notes += [
                f"nats_bench {about['nats_bench']} with numpy {about['numpy']}, "
                f"`find_best('cifar10', 'test', hp='200')` over {count:,} synthetic records of "
                f"{size:.0f} KB, {about['seconds']:.3g} s and {about['MiB']:.0f} MiB in its first "
                f"run; both extrapolated to 15,625 (× {factor:.3g})",
                f"ours opens the table, checks its SHA-256 ({megabytes:.0f} MB) and reports on "
                f"all architectures; median {median(seconds[0]):.3g} s",
            ]
        peaks = [import_memory(folder, number) for number in archives]
    growth = (peaks[1][0] - peaks[0][0]) / (archives[1] - archives[0])
    whole = peaks[1][0] + growth * (SPACE.size - archives[1])
    each = (peaks[1][1] - peaks[0][1]) / (archives[1] - archives[0])
    rows += [
        measure.Limit(f"peak memory of importing {number} packed", [peak], IMPORTED, "MiB")
        for number, (peak, _) in zip(archives, peaks, strict=True)
    ]
    rows.append(measure.Limit("the same, extrapolated to 15,625", [whole], IMPORTED, "MiB"))
    notes.append(
        f"imports take {growth * 1024:.0f} KiB an architecture, of which 31.5 KiB are its results "
        f"in the table, and {each * 1000:.0f} ms, so {each * SPACE.size / 60:.0f} min for all; "
        f"measured between {archives[0]} and {archives[1]} (× {SPACE.size / archives[1]:.3g})"
    )
    measure.report("NATS-Bench", rows, notes, ["numpy", "h5py"], options.json)


if __name__ == "__main__":
    main()
