import io
import json
import re
import sys
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from objectives import PROTOCOL, Additive, AlwaysFails, small_cell

import bench.run
from bench.commands.run import _progress
from bench.run import (
    RESULTS_VERSION,
    ROUNDS_VERSION,
    RunError,
    execute,
    jobs_for,
    run_seed,
    run_shard,
    unready,
)
from bench.search import Budget, search, stream
from bench.store import StoreError, read_cell, read_measured, read_trials, sealed
from strategies.random_search import RandomSearch


def contents(results):
    """All that must be equal: the sealed trials and the cells, by name."""
    return {
        str(path.relative_to(results)): path.read_bytes()
        for pattern in ("trials-*", "cell.json")
        for path in results.rglob(pattern)
    }


def grid():
    return [small_cell("random_search"), small_cell("regularized_evolution", limit=30)]


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    """Shards of 25 seeds, so that a few seeds make several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.store.SHARD_SIZE", 25)
        yield


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """60 seeds of two cells, one after another, in one process."""
    results = tmp_path_factory.mktemp("serial")
    assert execute(grid(), range(60), results) == []
    return results


# ------------------------------------------------------------------------------ one run


def test_a_run_is_the_loop_with_the_streams_of_its_seed():
    cell = small_cell("regularized_evolution")
    strategy = cell.strategy(cell.space, stream(9, "strategy"), PROTOCOL.fidelities)
    noise = stream(9, "noise").getrandbits(64)
    trials = list(search(strategy, cell.objective, PROTOCOL, cell.budget, noise=noise))
    columns, measured = run_seed(cell, 9)
    assert columns["architecture"].tolist() == [list(t.query.architecture) for t in trials]
    assert columns["error"].tolist() == [t.evaluation.error for t in trials]
    assert columns["fidelity"].tolist() == [3] * 20
    assert columns["epochs"].tolist() == [3 * n for n in range(1, 21)]
    assert columns["evaluations"].tolist() == list(range(1, 21))
    assert columns["simulated_seconds"].tolist() == [t.simulated_seconds for t in trials]
    assert not columns["failed"].any()
    assert measured.keys() == {"wall_seconds", "overhead_seconds"}


def test_measured_clocks_are_not_among_the_sealed():
    columns, measured = run_seed(small_cell(), 0)
    assert not columns.keys() & measured.keys()
    assert not any("wall" in name or "overhead" in name for name in columns)


class OnGpu(Additive):
    """It holds a GPU for a quarter of a second."""

    holds_gpu = True

    def evaluate(self, query, noise, trained):
        return super().evaluate(query, noise, trained)._replace(gpu_seconds=0.25)


def test_gpu_seconds_stand_beside_the_trials_where_a_gpu_is_held():
    plain, _ = run_shard(small_cell(), range(2))
    columns, measured = run_shard(small_cell(objective=OnGpu(small_cell().space)), range(2))
    assert measured["gpu_seconds"].tolist() == (0.25 * np.arange(1, 21)).tolist() * 2
    assert {name: some.tobytes() for name, some in columns.items()} == {
        name: some.tobytes() for name, some in plain.items()
    }


def test_what_answers_rest_on_is_noted_beside_the_trials():
    class Noted(Additive):
        def finish(self):
            return {"records": 7, "digest": "ab"}

    columns, measured = run_shard(small_cell(objective=Noted(small_cell().space)), range(2))
    assert measured["records"].tolist() == [7, 7]
    assert measured["digest"].tolist() == ["ab", "ab"]
    assert not columns.keys() & {"records", "digest"}


def test_a_run_that_raises_is_closed_and_not_finished():
    calls = []

    class Watched(Additive):
        def finish(self):
            calls.append("finish")
            return {}

        def close(self):
            calls.append("close")

    run_seed(small_cell(objective=Watched(small_cell().space)), 0)
    assert calls == ["finish", "close"]
    with pytest.raises(LookupError):
        run_seed(small_cell(strategy=Raises, objective=Watched(small_cell().space)), 0)
    assert calls == ["finish", "close", "close"]


def test_failures_are_marked():
    cell = small_cell(objective=AlwaysFails(small_cell().space))
    columns, _ = run_seed(cell, 0)
    assert columns["failed"].all()
    assert (columns["error"] == 1).all()


def test_a_budget_below_the_first_trial():
    cell = small_cell(budget=Budget("simulated_seconds", 0.5))
    with pytest.raises(RunError, match=r"^seed 3: the budget ends before the first trial$"):
        run_seed(cell, 3)


def test_a_shard_is_its_runs_one_after_another():
    ticks = iter(range(4))
    trials, measured = run_shard(small_cell(), range(4, 7), lambda steps: next(ticks))
    assert next(ticks) == 3
    assert trials["seed"].tolist() == [4, 5, 6]
    assert trials["length"].tolist() == measured["length"].tolist() == [20] * 3
    for index, seed in enumerate((4, 5, 6)):
        alone, _ = run_seed(small_cell(), seed)
        for name, values in alone.items():
            np.testing.assert_array_equal(trials[name][20 * index : 20 * (index + 1)], values)


# ---------------------------------------------------------------------------- the cell's key


@pytest.mark.parametrize(
    "change",
    [
        {"names": {"strategy": "x", "space": "nb201", "dataset": "additive", "protocol": "test"}},
        {"config": {"strategy": "other"}},
        {"protocol": replace(PROTOCOL, duplicates="cached")},
        {"budget": Budget("evaluations", 21)},
        {"budget": Budget("epochs", 20)},
        {"workers": 2},
    ],
)
def test_the_key_changes_with_what_can_change_a_number(change):
    assert small_cell(**change).key != small_cell().key


def test_the_key_changes_with_table_and_version(monkeypatch):
    cell, key = small_cell(), small_cell().key
    cell.objective.digest = "1" * 64
    assert cell.key != key
    monkeypatch.setattr(bench.run, "RESULTS_VERSION", RESULTS_VERSION + 1)
    assert small_cell().key != key


def test_several_workers_have_a_version_of_their_own(monkeypatch):
    one, four = small_cell().describe(), small_cell(workers=4).describe()
    assert (one["results_version"], four["results_version"]) == (RESULTS_VERSION, ROUNDS_VERSION)
    key, keys = small_cell().key, small_cell(workers=4).key
    monkeypatch.setattr(bench.run, "ROUNDS_VERSION", ROUNDS_VERSION + 1)
    assert small_cell().key == key
    assert small_cell(workers=4).key != keys


def test_equal_cells_have_equal_keys():
    assert small_cell().key == small_cell().key
    assert small_cell(limit=20.0).key == small_cell(limit=20).key


def test_folders_are_named_for_people(tmp_path):
    cell = small_cell()
    name = f"random_search-nb201-additive-test-20-evaluations-{cell.key}"
    assert cell.folder(tmp_path) == tmp_path / "runs" / name


# --------------------------------------------------------------------------------- execute


def test_what_is_stored(serial):
    (cell, _) = grid()
    folder = cell.folder(serial)
    assert read_cell(folder) == json.loads(json.dumps(cell.describe()))
    assert [shard[:2] for shard in sealed(folder)] == [(0, 24), (25, 49), (50, 59)]
    assert not list(folder.glob(".*"))
    for shard in sealed(folder):
        expected, _ = run_shard(cell, range(shard.first, shard.last + 1))
        found = read_trials(shard)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(values, found[name])
        measured = read_measured(shard)
        assert (np.diff(measured["wall_seconds"].reshape(-1, 20)) >= 0).all()
        origin = json.loads(bytes(measured["provenance"]))
        assert {"python", "numpy", "platform", "cores", "started"} <= origin.keys()


def test_two_processes_give_the_same_bytes(serial, tmp_path):
    assert execute(grid(), range(60), tmp_path, jobs=2) == []
    assert contents(tmp_path) == contents(serial)
    assert len(contents(serial)) == 8


def test_another_order_gives_the_same_bytes(serial, tmp_path):
    for first, last in (50, 60), (25, 50), (0, 25):
        assert execute(grid()[::-1], range(first, last), tmp_path) == []
    assert contents(tmp_path) == contents(serial)


class Interrupts(RandomSearch):
    """Raises KeyboardInterrupt, as Ctrl-C does, at one ask of the process."""

    def __init__(self, space, rng, fidelities, *, at):
        super().__init__(space, rng, fidelities)
        self.at = at

    def ask(self):
        self.at[0] -= 1
        if self.at[0] == 0:
            raise KeyboardInterrupt
        return super().ask()


@pytest.mark.parametrize("at", [1, 300, 700, 1100])
def test_interrupted_and_resumed_gives_the_same_bytes(serial, tmp_path, at):
    cell = small_cell("random_search")
    broken = replace(cell, strategy=partial(Interrupts, at=[at]))
    with pytest.raises(KeyboardInterrupt):
        execute([broken], range(60), tmp_path)
    assert len(sealed(cell.folder(tmp_path))) == at // 500  # 25 seeds of 20 asks a shard
    assert execute([cell], range(60), tmp_path) == []
    expected = contents(serial).items()
    assert contents(tmp_path) == {name: data for name, data in expected if cell.key in name}


def test_what_is_sealed_is_skipped(tmp_path):
    cell, seen = small_cell(), []
    execute([cell], range(60), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    never = replace(cell, strategy=lambda *_: pytest.fail("it ran again"))
    assert execute([never], range(60), tmp_path, progress=lambda c, n: seen.append(n)) == []
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert seen == [60]


def test_more_seeds_keep_the_old_shards(tmp_path):
    cell = small_cell()
    execute([cell], range(30), tmp_path)
    before = contents(tmp_path)
    execute([cell], range(60), tmp_path)
    after = contents(tmp_path)
    assert before.items() <= after.items()
    spans = [shard[:2] for shard in sealed(cell.folder(tmp_path))]
    assert spans == [(0, 24), (25, 29), (30, 49), (50, 59)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_counts_every_seed_once(tmp_path, jobs):
    execute([small_cell()], range(10), tmp_path)
    seen = []
    execute(grid(), range(60), tmp_path, jobs=jobs, progress=lambda cell, n: seen.append(n))
    assert seen[0] == 10
    assert sum(seen) == 120


class Dear(Additive):
    """Its runs are followed evaluation by evaluation."""

    journalled = True


class OnGPU(Dear):
    holds_gpu = True


def test_as_many_processes_as_suit(monkeypatch):
    monkeypatch.setattr(bench.run, "cores", lambda: 7)
    table, dear, held = (
        small_cell(objective=kind(small_cell().space)) for kind in (Additive, Dear, OnGPU)
    )
    assert [jobs_for(some) for some in ([table], [dear], [held], [table, dear])] == [1, 7, 1, 7]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("workers", [1, 3])
def test_progress_of_a_dear_run_counts_its_evaluations(tmp_path, jobs, workers):
    cell = small_cell(objective=Dear(small_cell().space), workers=workers)
    cheap = small_cell("regularized_evolution")
    assert (cell.steps, cheap.steps) == (20, 1)
    execute([cell], range(2), tmp_path)
    seen = {id(cell): [], id(cheap): []}
    execute(
        [cell, cheap],
        range(5),
        tmp_path,
        jobs=jobs,
        progress=lambda cell, steps: seen[id(cell)].append(steps),
    )
    assert seen[id(cell)][0] == 40  # what was there
    assert sum(seen[id(cell)]) == 100
    assert seen[id(cell)].count(1) == 60
    assert sum(seen[id(cheap)]) == 5


@pytest.mark.parametrize(
    ("budget", "rules", "steps", "told"),
    [
        (Budget("evaluations", 4), {}, 4, [1, 1, 1, 1, 0]),
        (Budget("epochs", 8), {}, 8, [3, 3, 2]),  # what is dropped is not told
        (Budget("epochs", 8), {"overshoot": "keep_last"}, 8, [3, 3, 2, 0]),
        (Budget("epochs", 9.5), {}, 9, [3, 3, 3, 0]),
        (Budget("simulated_seconds", 9), {}, 1, [1]),
        (Budget("wall_seconds", 0.01), {"max_trials": 4}, 1, [1]),
    ],
)
def test_steps_of_a_dear_run(budget, rules, steps, told):
    objective = Dear(small_cell().space)
    cell = small_cell(objective=objective, budget=budget, protocol=replace(PROTOCOL, **rules))
    seen = []
    run_seed(cell, 0, seen.append)
    assert cell.steps == steps == sum(seen)
    assert seen == told


class Bar:
    """A progress bar that is looked at afterwards."""

    made: ClassVar[list] = []

    def __init__(self, *, total, unit, desc, leave=True):
        self.total, self.unit, self.desc, self.done = total, unit, desc, 0
        self.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def update(self, steps=1):
        self.done += steps

    def set_postfix_str(self, text):
        self.text = text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def dear(clock, limit):
    return small_cell(objective=Dear(small_cell().space), budget=Budget(clock, limit))


@pytest.mark.parametrize(
    ("cells", "unit", "total"),
    [
        ([small_cell(), small_cell(limit=30)], "run", 6),
        ([dear("evaluations", 7), dear("evaluations", 9)], "evaluation", 48),
        ([dear("epochs", 9)], "epoch", 27),
        ([dear("simulated_seconds", 90)], "run", 3),
        ([dear("evaluations", 7), small_cell()], "step", 24),
    ],
)
def test_the_bars_are_full_in_the_end(tmp_path, monkeypatch, cells, unit, total):
    """After a part that was done before, and another that was interrupted."""
    monkeypatch.setattr("tqdm.tqdm", Bar)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(Bar, "made", [])
    execute(cells[:1], range(1), tmp_path)
    with _progress(cells, 3) as tick:
        assert execute(cells, range(3), tmp_path, progress=tick) == []
    of_cells, of_steps = Bar.made
    assert (of_cells.done, of_cells.total, of_cells.desc) == (len(cells), len(cells), "cells")
    assert (of_steps.done, of_steps.total) == (total, total)
    assert (of_steps.unit, of_steps.desc) == (unit, f"{unit}s")


def test_what_cannot_begin_is_named_once(tmp_path):
    calls = []

    class Absent(Dear):
        def prepare(self):
            calls.append("prepare")
            raise ChildProcessError("no training can start: there is no data")

        def close(self):
            calls.append("close")

    one, other = (Absent(small_cell().space) for _ in range(2))
    cells = [small_cell(objective=one), small_cell(limit=9, objective=one), small_cell("x", 9)]
    cells.append(small_cell(limit=8, objective=other))
    assert unready(cells, range(3), tmp_path) == ["no training can start: there is no data"]
    assert calls == ["prepare", "close"] * 2  # each objective once
    assert not list(tmp_path.iterdir())
    assert len(unready(cells[:2], range(3), tmp_path)) == 1
    assert calls[4:] == ["prepare"]  # and one that is alone stays ready
    assert len(unready(cells[:2], range(3), tmp_path, jobs=2)) == 1
    assert calls[5:] == ["prepare", "close"]
    assert unready([small_cell()], range(3), tmp_path) == []


def test_what_is_sealed_needs_no_objective(tmp_path):
    class Absent(Dear):
        def prepare(self):
            raise ChildProcessError("no data")

    cell = small_cell(objective=Absent(small_cell().space))
    execute([cell], range(2), tmp_path)
    assert unready([cell], range(2), tmp_path) == []
    assert unready([cell], range(3), tmp_path) == ["no data"]


class Raises(RandomSearch):
    def ask(self):
        raise LookupError("no such architecture")


class AwkwardError(Exception):
    """It can be pickled, but not unpickled: its constructor needs two arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class RaisesAwkwardly(RandomSearch):
    def ask(self):
        raise AwkwardError("one", "two")


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        (Raises, "broken, seeds {}: LookupError: no such architecture"),
        (RaisesAwkwardly, "broken, seeds {}: AwkwardError: one and two (test_run.py:LINE)"),
    ],
)
def test_a_run_that_raises_does_not_stop_the_others(serial, tmp_path, jobs, strategy, sentence):
    bad = replace(small_cell("broken"), strategy=strategy)
    failures = execute([bad, *grid()], range(60), tmp_path, jobs=jobs)
    failures = [re.sub(r":\d+\)$", ":LINE)", failure) for failure in failures]
    assert sorted(failures) == [sentence.format(span) for span in ("0-24", "25-49", "50-59")]
    found = {name: data for name, data in contents(tmp_path).items() if "broken" not in name}
    assert found == contents(serial)
    assert sealed(bad.folder(tmp_path)) == []


def test_another_cell_at_the_same_key(tmp_path):
    cell = small_cell()
    execute([cell], range(2), tmp_path)
    path = cell.folder(tmp_path) / "cell.json"
    path.write_text(path.read_text().replace("additive", "subtractive"))
    with pytest.raises(StoreError, match="describes another ce"):
        execute([cell], range(2), tmp_path)


def test_simulated_workers_are_part_of_the_cell(tmp_path):
    one, four = small_cell(), small_cell(workers=4)
    execute([one, four], range(2), tmp_path)
    ends = [
        read_trials(sealed(c.folder(tmp_path))[0])["simulated_seconds"][19] for c in (one, four)
    ]
    assert ends[1] < ends[0] / 2


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_checked(workers):
    with pytest.raises(ValueError, match="workers is"):
        run_seed(small_cell(workers=workers), 0)


def test_the_objective_is_asked_for_its_report_after_each_run():
    calls = []

    class Watched(Additive):
        def evaluate(self, query, noise, trained):
            calls.append("evaluate")
            return super().evaluate(query, noise, trained)

        def report(self, architectures):
            calls.append("report")
            return super().report(architectures)

    columns, _ = run_shard(small_cell(objective=Watched(small_cell().space)), range(3))
    assert calls == (["evaluate"] * 20 + ["report"]) * 3
    assert columns["report_valid_error"].tolist() == columns["error"].tolist()
