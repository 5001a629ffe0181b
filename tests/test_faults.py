"""What the store looks like after kill -9, and with several processes at work on one grid."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from objectives import small_cell

import bench.store
from bench.run import execute, run_and_seal
from bench.store import open_cell, sealed
from strategies.random_search import RandomSearch

TESTS = Path(__file__).parent
SCRIPT = """
import sys
from pathlib import Path
import bench.run
import bench.store
from objectives import small_cell
bench.store.SHARD_SIZE = 1
print("ready", flush=True)
cells = [small_cell("random_search"), small_cell("regularized_evolution")]
failures = bench.run.execute(cells, range(60), Path(sys.argv[1]), jobs=int(sys.argv[2]))
sys.exit("; ".join(failures) or None)
"""
FILES = 2 * 60 + 2  # sealed shards and descriptions


def launch(results, jobs=1):
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, results, str(jobs)],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    return child


def finish(results):
    child = launch(results)
    child.communicate()
    assert child.returncode == 0


def contents(results):
    return {
        str(path.relative_to(results)): path.read_bytes()
        for pattern in ("trials-*", "cell.json")
        for path in results.rglob(pattern)
    }


def only_whole_files(results):
    for path in results.rglob("[!.]*"):
        if path.name == "cell.json":
            json.loads(path.read_text())
        elif path.name.startswith("trials-"):
            assert path.stem.endswith(hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        elif path.name.startswith("measured-"):
            with np.load(path) as file:
                assert all(len(file[name]) for name in file.files)
        else:
            assert path.is_dir()


def strays(results):
    """What nobody will look at again; the empty file of a lock may stay."""
    return [path.name for path in results.rglob(".*") if not path.name.startswith(".lock-")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    results = tmp_path_factory.mktemp("undisturbed")
    finish(results)
    found = contents(results)
    assert len(found) == FILES
    return found


def kill_at_random(results, kills, rng, jobs=1):
    """Kill runs until `kills` have hit one at work; a run that ended is no hit."""
    hits = 0
    for _ in range(10 * kills):
        child = launch(results, jobs)
        time.sleep(rng.uniform(0, 0.06))
        unfinished = child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.communicate()
        hits += unfinished and len(contents(results)) < FILES
        only_whole_files(results)
        if hits == kills:
            return
        if len(contents(results)) == FILES:  # all done: begin anew
            for path in sorted(results.rglob("trials-*"))[rng.randrange(3) :: 2]:
                path.unlink()
    raise AssertionError(f"only {hits} kills hit")


def killed_and_resumed(results, undisturbed, kills, rng):
    kill_at_random(results, kills, rng)
    finish(results)
    assert contents(results) == undisturbed
    only_whole_files(results)
    assert strays(results) == []


def test_killed_at_any_moment(tmp_path, undisturbed):
    killed_and_resumed(tmp_path, undisturbed, 20, random.Random(0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_at_many_moments(tmp_path, undisturbed, seed):
    killed_and_resumed(tmp_path, undisturbed, 60, random.Random(seed))


def test_a_killed_parent_leaves_no_workers_behind(tmp_path, undisturbed):
    child = launch(tmp_path, jobs=2)
    while not list(tmp_path.rglob("trials-*")):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)  # returns when the last process that holds our pipe is gone
    only_whole_files(tmp_path)
    finish(tmp_path)
    assert contents(tmp_path) == undisturbed


def test_two_processes_on_the_same_grid(tmp_path, undisturbed):
    children = [launch(tmp_path), launch(tmp_path)]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert contents(tmp_path) == undisturbed
    assert strays(tmp_path) == []


def test_two_processes_with_other_numbers_of_seeds(tmp_path):
    """One runs seeds 0-24 when another comes for 0-9: no seed may be sealed twice."""
    cell, others = small_cell(), []
    folder = cell.folder(tmp_path)
    open_cell(folder, cell.describe())

    def another_process(steps):
        if not others:
            others.append(run_and_seal(cell, folder, range(10), wait=False, tick=bool))

    run_and_seal(cell, folder, range(25), wait=False, tick=another_process)
    assert others == [False]
    assert [shard[:2] for shard in sealed(folder)] == [(0, 24)]


def test_the_strays_of_a_killed_process_do_not_stay(tmp_path):
    """A process may die in any of its writes; a rerun leaves only what belongs there."""
    cell = small_cell()
    folder = cell.folder(tmp_path)
    folder.mkdir(parents=True)
    for name in "cell.json", "measured-000000-000024.npz", "trials-000000-000024-00.npz":
        (folder / f".tmp-{name}-77").write_text("half of i")
    (folder / ".lock-000000").touch()
    assert execute([cell], range(30), tmp_path) == []
    assert strays(folder) == []


class Dies(RandomSearch):
    """A strategy whose process is gone in the middle, as when memory runs out."""

    def ask(self):
        os._exit(1)


def test_a_worker_that_dies_is_a_failure_and_no_crash(tmp_path):
    dying = small_cell("dies", strategy=Dies)
    failures = execute([dying, small_cell()], range(50), tmp_path, jobs=2)
    assert failures
    assert all("seeds" in sentence for sentence in failures)
    only_whole_files(tmp_path)


def test_the_shard_size_is_ours_alone():
    assert bench.store.SHARD_SIZE == 50  # `SCRIPT` changes it in its own process
