"""From sealed cells to comparisons, on a small space with exact errors."""

import json
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
import pytest

from bench.protocol import Protocol
from bench.report import ReportError, write_report
from bench.report.frame import (
    REMEDY,
    Grid,
    absent,
    compare,
    expect,
    read_cell_runs,
    read_grids,
    spans,
    take,
)
from bench.report.leaderboard import board, heading
from bench.report.tables import to_text
from bench.run import Cell, execute
from bench.search import Budget, Evaluation, Objective
from bench.space import Space
from bench.store import StoreError, open_cell
from strategies.local_search import LocalSearch
from strategies.random_search import RandomSearch
from strategies.regularized_evolution import RegularizedEvolution

PROTOCOL = Protocol(
    name="exact",
    schedule="9",
    metric="valid_error",
    fidelities=(9,),
    report_schedule="9",
    report=("valid_error", "test_error"),
)


class Digits(Space):
    """Four digits from 0 to 3."""

    name = "digits"
    choices = (4, 4, 4, 4)

    def to_string(self, arch):
        return "".join(map(str, arch))

    def from_string(self, text):
        return tuple(map(int, text))


class Additive(Objective):
    """Error: 0.05 and 0.01 for every unit of a digit; the test's is 0.02 more."""

    dataset = "sums"
    digest = "ab" * 32
    optimum = MappingProxyType({"valid_error": 0.05, "test_error": 0.07})

    def evaluate(self, query, noise, trained):
        return Evaluation(0.05 + 0.01 * sum(query.architecture), 10.0 + query.architecture[0])

    def report(self, architectures):
        errors = 0.05 + 0.01 * np.array([sum(arch) for arch in architectures])
        return {"valid_error": errors, "test_error": errors + 0.02}


class OnGpu(Additive):
    """It holds a GPU for as many seconds as the first digit says, and two more."""

    holds_gpu = True

    def evaluate(self, query, noise, trained):
        answer = super().evaluate(query, noise, trained)
        return answer._replace(gpu_seconds=2.0 + query.architecture[0])


def cell(name="random_search", *, protocol=PROTOCOL, limit=30, clock="evaluations", **settings):
    factory = {
        "random_search": RandomSearch,
        "local_search": LocalSearch,
        "regularized_evolution": RegularizedEvolution,
    }[name]
    parts = {"strategy": name, "space": "digits", "dataset": "sums", "protocol": protocol.name}
    config = {"strategy": {"_target_": name, **settings}, "space": {"_target_": "digits"}}
    workers = settings.pop("workers", 1)
    budget = Budget(clock, limit)
    strategy = partial(factory, **settings)
    return Cell(parts, config, strategy, Digits(), Additive(), protocol, budget, workers)


def run(results, *cells, seeds=range(8)):
    assert execute(cells, seeds, results) == []
    return [one.folder(results) for one in cells]


def compared(results):
    folders = sorted((results / "runs").iterdir())
    return compare([read_cell_runs(folder) for folder in folders], {})


def test_reads_what_was_sealed(tmp_path):
    (folder,) = run(tmp_path, cell("local_search"), seeds=range(30))  # two shards
    runs = read_cell_runs(folder)
    assert runs.seeds.tolist() == list(range(30))
    assert runs.starts.tolist() == list(range(0, 930, 30))
    assert runs.protocol == PROTOCOL
    assert set(runs.clocks) == {"evaluations"}
    for values in runs.values.values():
        for first in runs.starts[:-1]:
            assert (np.diff(values[first : first + 30]) <= 0).all()  # exact: it never gets worse


def test_reads_ragged_runs_and_measured_clocks(tmp_path):
    (folder,) = run(tmp_path, cell(clock="simulated_seconds", limit=105))
    runs = read_cell_runs(folder, clocks=["wall_seconds"])
    assert len(set(np.diff(runs.starts))) > 1
    assert set(runs.clocks) == {"evaluations", "simulated_seconds", "wall_seconds"}
    assert (runs.clocks["evaluations"][runs.starts[:-1]] == 1).all()
    some = take(runs, np.array([2, 5]))
    assert some.seeds.tolist() == [2, 5]
    first, stop = runs.starts[5:7]
    seconds = runs.clocks["simulated_seconds"][first:stop]
    assert some.clocks["simulated_seconds"][some.starts[1] :].tolist() == seconds.tolist()


def test_gpu_seconds_are_zero_where_none_are_noted(tmp_path):
    held = replace(cell(), objective=OnGpu(), names=cell().names | {"dataset": "on_gpu"})
    plain, on_gpu = run(tmp_path, cell(), held)
    clocks = ["gpu_seconds", "wall_seconds"]
    none, some = (read_cell_runs(folder, clocks=clocks).clocks for folder in (plain, on_gpu))
    assert none["gpu_seconds"].tolist() == [0] * len(none["wall_seconds"])
    assert (np.diff(some["gpu_seconds"][:30], prepend=0) >= 2).all()
    for folder in plain, on_gpu:
        for path in folder.glob("measured-*.npz"):
            with np.load(path) as file:
                columns = {name: file[name] for name in file.files}
            assert ("gpu_seconds" in columns) == (folder == on_gpu)
            np.savez(path, **{k: v for k, v in columns.items() if k != "wall_seconds"})
        with pytest.raises(StoreError, match=r"trials-.*npz has no wall_seconds beside it"):
            read_cell_runs(folder, clocks=["wall_seconds"])


def test_reads_only_the_seeds_that_are_named(tmp_path):
    (folder,) = run(tmp_path, cell(), seeds=range(30))
    assert read_cell_runs(folder, seeds=range(27, 40)).seeds.tolist() == [27, 28, 29]
    none = read_cell_runs(folder, seeds=range(90, 95))
    assert len(none.seeds) == 0
    assert none.starts.tolist() == [0]


def test_a_damaged_file_is_refused(tmp_path):
    (folder,) = run(tmp_path, cell())
    (shard,) = folder.glob("trials-*.npz")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="has changed since it was sealed"):
        write_report(tmp_path, tmp_path / "out", figures=False)


def test_an_edited_description_is_refused(tmp_path):
    (folder,) = run(tmp_path, cell())
    stored = json.loads((folder / "cell.json").read_text())
    stored["optimum"]["valid_error"] = 0.0
    (folder / "cell.json").write_text(json.dumps(stored))
    with pytest.raises(StoreError, match="has changed since the folder was named"):
        read_cell_runs(folder)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ({"digest": "0" * 12}, f"names protocol {'0' * 12}, but its rules are {PROTOCOL.digest}"),
        ({"noise": "none"}, "holds no protocol of ours: noise is 'none'"),
        ({"colour": "red"}, "holds no protocol of ours: .*colour"),
    ],
)
def test_another_protocol_is_refused(tmp_path, monkeypatch, edit, sentence):
    """Also where the folder was named for it, as by another version of the harness."""
    one = cell()
    described = one.describe()
    described["protocol"] |= edit
    monkeypatch.setattr(Cell, "describe", lambda self: described)
    (folder,) = run(tmp_path, one)
    with pytest.raises(StoreError, match=sentence):
        read_cell_runs(folder)


def test_cells_that_differ_in_the_strategy_alone_are_compared(tmp_path):
    run(
        tmp_path,
        cell("random_search"),
        cell("local_search"),
        cell("random_search", limit=10),
        cell("random_search", workers=4),
    )
    found = [(one.budget.limit, one.workers, one.labels) for one in compared(tmp_path)]
    assert found == [
        (10, 1, ("random_search",)),
        (30, 1, ("local_search", "random_search")),
        (30, 4, ("random_search",)),
    ]


def test_slugs_are_safe_and_each_its_own(tmp_path):
    run(tmp_path, cell(), cell(workers=4), cell(limit=10))
    slugs = [one.slug for one in compared(tmp_path)]
    assert slugs[0] == "digits-sums-exact-10-evaluations"
    assert len(set(slugs)) == 3
    assert all(slug.startswith("digits-sums-exact-30-evaluations-") for slug in slugs[1:])


def test_labels_name_the_settings_that_differ(tmp_path):
    run(
        tmp_path,
        cell("random_search"),
        cell("regularized_evolution", population_size=10, sample_size=3),
        cell("regularized_evolution", population_size=5, sample_size=3),
    )
    (comparison,) = compared(tmp_path)
    assert comparison.labels == (
        "random_search",
        "regularized_evolution (population_size=10)",
        "regularized_evolution (population_size=5)",
    )


def test_only_shared_seeds_are_compared(tmp_path):
    run(tmp_path, cell("random_search"), seeds=range(8))
    run(tmp_path, cell("local_search"), seeds=range(2, 12))
    (comparison,) = compared(tmp_path)
    assert comparison.seeds.tolist() == list(range(2, 8))
    assert all(runs.seeds.tolist() == list(range(2, 8)) for runs in comparison.cells)
    assert comparison.left_out == (
        "local_search: seeds 8-11 are left out, not every strategy has them",
        "random_search: seeds 0-1 are left out, not every strategy has them",
    )


def test_the_order_in_which_seeds_are_sealed_moves_nothing(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    run(one, cell(), seeds=range(10))
    for seeds in (range(6, 10), range(3), range(3, 6)):
        run(other, cell(), seeds=seeds)
    texts = [write_report(path, path / "out", figures=False).text for path in (one, other)]
    assert texts[0] == texts[1]


def test_absent_names_cells_and_seeds(tmp_path):
    (folder,) = run(tmp_path, cell(), seeds=range(3))
    expected = {folder.name: range(6), "never-run-1": range(2)}
    assert absent(tmp_path, [], expected) == {
        folder.name: f"{folder.name}: seeds 3-5 are not sealed; {REMEDY}",
        "never-run-1": f"never-run-1: no seed of 0-1 is sealed; {REMEDY}",
    }
    assert absent(tmp_path, [folder.name], {folder.name: range(3)}) == {}
    assert absent(tmp_path, ["nothing"], {}) == {"nothing": f"nothing: no seed is sealed; {REMEDY}"}


def test_spans():
    assert spans([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"
    assert spans([]) == ""


def test_grids_are_read_and_joined(tmp_path):
    folder = tmp_path / "grids"
    folder.mkdir()
    (folder / "b-1.json").write_text('{"name": "b", "seeds": [0, 3], "cells": ["x", "y"]}')
    (folder / "a-2.json").write_text('{"name": "a", "seeds": [5, 6], "cells": ["x"]}')
    grids = read_grids(tmp_path)
    assert grids == [Grid("a", range(5, 6), ("x",)), Grid("b", range(3), ("x", "y"))]
    assert expect(grids) == {"x": {0, 1, 2, 5}, "y": {0, 1, 2}}
    assert read_grids(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"name": "a"}', '{"name": "a", "seeds": [1], "cells": []}'],
)
def test_a_damaged_grid_is_refused(tmp_path, text):
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "a.json").write_text(text)
    with pytest.raises(StoreError, match="is not the manifest of a grid"):
        read_grids(tmp_path)


def test_a_grid_cannot_name_a_folder_elsewhere(tmp_path):
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "a.json").write_text(
        '{"name": "a", "seeds": [0, 1], "cells": ["../../home"]}'
    )
    with pytest.raises(StoreError, match="not a folder under runs"):
        read_grids(tmp_path)


def test_nothing_sealed_is_one_sentence(tmp_path):
    with pytest.raises(ReportError, match=r"nothing is sealed in .*runs; `nas-arena run` fills"):
        write_report(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"clock": "hours"}, "clock is 'hours'; allowed: evaluations, epochs"),
        ({"center": "mode"}, "center is 'mode'; allowed: mean, median"),
    ],
)
def test_unknown_choices_are_refused(tmp_path, choice, sentence):
    with pytest.raises(ReportError, match=sentence):
        write_report(tmp_path, tmp_path / "out", **choice)


def test_what_is_missing_says_how_to_get_rid_of_it():
    assert REMEDY == "run it, or delete the grid that expects it"


def test_a_cell_that_was_begun_is_missing_only_where_it_belongs(tmp_path):
    """Its folder is named like those of both comparisons; its description tells them apart."""
    run(tmp_path, cell("random_search"), cell("random_search", workers=4))
    begun = cell("local_search", workers=4)
    folder = begun.folder(tmp_path)
    expected = {folder.name: range(8)}
    told = (f"{folder.name}: no seed of 0-7 is sealed; {REMEDY}",)

    def missing():
        report = write_report(tmp_path, tmp_path / "out", expected=expected, figures=False)
        assert report.missing == told
        return [one.comparison.missing for one in report.boards]

    assert missing() == [told, told]  # by the name alone
    open_cell(folder, begun.describe())
    assert missing() == [(), told]


def test_a_begun_cell_of_no_comparison_is_told_apart_from_all(tmp_path):
    run(tmp_path, cell("random_search"))
    begun = cell("local_search", workers=4)
    open_cell(begun.folder(tmp_path), begun.describe())
    expected = {begun.folder(tmp_path).name: range(8)}
    report = write_report(tmp_path, tmp_path / "out", expected=expected, figures=False)
    assert report.boards[0].rows[0].rank == 1
    assert "no seed of 0-7 is sealed" in report.text


def test_an_edited_description_of_a_begun_cell_is_refused(tmp_path):
    run(tmp_path, cell("random_search"))
    begun = cell("local_search")
    folder = begun.folder(tmp_path)
    open_cell(folder, begun.describe() | {"workers": 4})
    with pytest.raises(StoreError, match="has changed since the folder was named"):
        write_report(tmp_path, tmp_path / "out", expected={folder.name: [0]}, figures=False)


def test_a_heading_says_what_is_no_table(tmp_path):
    run(tmp_path, replace(cell(), names=dict(cell().names, objective="surrogate sums")))
    (found,) = compared(tmp_path)
    assert heading(found) == "digits · sums · 30 evaluations · surrogate"


def test_equal_headings_are_told_apart_and_others_left_alone(tmp_path):
    drop = replace(PROTOCOL, name="exact+overshoot=keep_last", overshoot="keep_last")
    others = [
        replace(cell(), names=dict(cell().names, objective="table other")),
        replace(cell(), config=dict(cell().config, objective="quiet")),
    ]
    run(tmp_path, cell(), cell(protocol=drop), cell(limit=10), *others)
    found = compared(tmp_path)
    plain, digest = "digits · sums · 30 evaluations", "ab" * 6
    heads = [heading(one) for one in found]
    twins = [one for one in found if one.protocol == PROTOCOL and one.budget.limit == 30]
    named = f"{plain} · exact · table other ({digest})"
    unnamed = {
        f"{plain} · exact · {digest} · {one.slug}" for one in twins if one.objective == digest
    }
    assert len(set(heads)) == len(heads) == 5
    assert set(heads) == {
        "digits · sums · 10 evaluations",
        f"{plain} · exact+overshoot=keep_last",
        named,
        *unnamed,
    }
    for one in found:
        assert heading(one) in to_text(board(one)).splitlines()
