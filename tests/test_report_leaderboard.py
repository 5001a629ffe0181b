"""Leaderboards: numbers, ranks, and what each format makes of hostile text."""

import csv
import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_report_frame import PROTOCOL, cell, compared, run

from bench.report import write_report
from bench.report.frame import REMEDY, Comparison
from bench.report.leaderboard import board, clean, metric_label, notes
from bench.report.statistics import mean_band
from bench.report.tables import tex_escape, to_csv, to_markdown, to_tex, to_text


@pytest.fixture
def comparison(tmp_path) -> Comparison:
    run(tmp_path, cell("random_search"), cell("local_search"))
    return compared(tmp_path)[0]


def renamed(comparison, *labels):
    return replace(comparison, labels=labels)


def grid(*folders, seeds):
    return {folder.name: seeds for folder in folders}


def test_rows_hold_the_runs_own_numbers(comparison):
    first, second = board(comparison).rows
    assert (first.rank, first.label, second.rank, second.label) == (
        1,
        "local_search",
        2,
        "random_search",
    )
    runs = first.runs
    assert first.evaluations == 30
    expected = [runs.values["valid_error"][stop - 1] for stop in runs.starts[1:]]
    assert first.finals["valid_error"].tolist() == expected
    np.testing.assert_allclose(first.finals["test_error"], np.add(expected, 0.02))
    low, high = mean_band(np.array(expected)[:, None])
    assert first.interval == (low[0], high[0])


def test_text_shows_percent_and_points(comparison):
    one = board(comparison)
    lines = to_text(one).splitlines()
    finals = one.rows[0].finals["valid_error"]
    assert lines[0] == "digits · sums · 30 evaluations"
    assert lines[2].split("  ")[0] == "rank"
    assert f"{100 * finals.mean():.2f} ± {100 * finals.std():.2f}" in lines[4]
    assert f"{100 * (finals.mean() - 0.05):.3f}" in lines[4]  # regret
    assert f"{100 * (1 - finals.mean()):.2f}" in lines[4]  # accuracy
    assert f"{100 * (1 - finals.mean() - 0.02):.2f}" in lines[4]  # of the test
    assert len({len(line) for line in lines[3:6]}) == 1  # aligned
    below = " ".join(lines[6:])
    assert PROTOCOL.digest in below
    assert "abababababab" in below
    assert "8 runs a strategy, seeds 0-7" in below
    assert "population standard deviation" in below


def test_validation_is_never_called_a_test():
    assert metric_label("valid_error") == "validation error"
    assert metric_label("test_error") == "test error"


def test_linear_read_out_is_used(tmp_path):
    linear = replace(PROTOCOL, name="linear", read_out="linear", overshoot="keep_last")
    run(tmp_path, cell(protocol=linear, limit=55, clock="simulated_seconds"))
    (row,) = board(compared(tmp_path)[0]).rows
    runs = row.runs
    first, stop = runs.starts[:2]
    seconds = runs.clocks["simulated_seconds"][first:stop]
    values = runs.values["valid_error"][first:stop]
    a, b = sorted(np.argsort(abs(seconds - 55), kind="stable")[:2])
    slope = (values[b] - values[a]) / (seconds[b] - seconds[a])
    assert row.finals["valid_error"][0] == pytest.approx(values[a] + slope * (55 - seconds[a]))


def test_ties_share_their_rank(comparison):
    twin = replace(
        comparison, labels=("one", "two"), cells=(comparison.cells[0], comparison.cells[0])
    )
    assert [row.rank for row in board(twin).rows] == [1, 1]


def test_no_optimum_no_regret(comparison):
    unknown = board(replace(comparison, optimum={}))
    assert "regret" not in to_text(unknown)
    assert "regret" in to_text(board(comparison))
    (row, *_) = csv.DictReader(io.StringIO(to_csv([unknown])))
    assert row["regret_points"] == ""


def test_an_unknown_value_is_shown_and_nothing_is_ranked(comparison):
    first, second = comparison.cells
    damaged = first.values["valid_error"].copy()
    damaged[-1] = np.nan
    holed = replace(first, values=dict(first.values, valid_error=damaged))
    one = board(replace(comparison, cells=(holed, second)))
    assert [row.rank for row in one.rows] == [None, None]
    assert "local_search: the validation error of some runs is not known" in one.remarks
    assert "–" in to_text(one)
    assert "nan" not in to_text(one) + to_csv([one])


def test_missing_seeds_are_listed_and_ranks_withheld(tmp_path):
    a, b = run(tmp_path, cell("random_search"), cell("local_search"), seeds=range(4))
    expected = grid(a, b, seeds=range(6))
    report = write_report(tmp_path, tmp_path / "out", expected=expected, figures=False)
    (one,) = report.boards
    assert report.missing == tuple(f"{x.name}: seeds 4-5 are not sealed; {REMEDY}" for x in (b, a))
    assert [row.rank for row in one.rows] == [None, None]
    assert "–  local_search" in report.text
    for text in (report.text, (tmp_path / "out" / "leaderboard.md").read_text()):
        assert "seeds 4-5 are not sealed" in text.replace("\n", " ")
        assert "ranks are withheld" in text
    whole = write_report(tmp_path, tmp_path / "out", expected=grid(a, seeds=range(4)))
    assert [row.rank for row in whole.boards[0].rows] == [1, 2]


def test_a_missing_cell_withholds_the_ranks_where_it_belongs(tmp_path):
    run(tmp_path, cell("random_search"), cell("random_search", limit=10))
    absent = cell("local_search").folder(tmp_path).name
    report = write_report(tmp_path, tmp_path / "out", expected={absent: range(8)}, figures=False)
    assert [(one.comparison.budget.limit, one.rows[0].rank) for one in report.boards] == [
        (10, 1),
        (30, None),
    ]
    assert f"{absent}: no seed of 0-7 is sealed; {REMEDY}" in report.boards[1].remarks


def test_what_is_missing_elsewhere_is_told_too(tmp_path):
    run(tmp_path, cell())
    report = write_report(
        tmp_path, tmp_path / "out", expected={"rs-other-set-p-9-epochs-ff": [0]}, figures=False
    )
    assert report.text.endswith(f"rs-other-set-p-9-epochs-ff: no seed of 0 is sealed; {REMEDY}")
    assert "## Missing" in (tmp_path / "out" / "leaderboard.md").read_text()
    assert report.boards[0].rows[0].rank == 1


def test_all_sealed_cells_are_held_against_all_grids(tmp_path):
    (folder,) = run(tmp_path, cell(), seeds=range(3))
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "g-1.json").write_text(
        f'{{"name": "g", "seeds": [0, 5], "cells": ["{folder.name}"]}}'
    )
    report = write_report(tmp_path, tmp_path / "out", figures=False)
    assert report.missing == (f"{folder.name}: seeds 3-4 are not sealed; {REMEDY}",)


def test_a_grid_is_reported_alone(tmp_path):
    a, _ = run(tmp_path, cell("random_search"), cell("local_search"))
    report = write_report(
        tmp_path, tmp_path / "out", folders=[a.name], expected={a.name: range(5)}, figures=False
    )
    (one,) = report.boards
    assert one.comparison.labels == ("random_search",)
    assert one.comparison.seeds.tolist() == list(range(5))
    assert one.rows[0].rank == 1
    assert not one.remarks


def test_without_shared_seeds_there_is_no_table(tmp_path):
    run(tmp_path, cell("random_search"), seeds=range(2))
    run(tmp_path, cell("local_search"), seeds=range(2, 4))
    report = write_report(tmp_path, tmp_path / "out")
    assert "no seed is shared by all strategies" in report.text
    assert not list((tmp_path / "out").glob("*.png"))


def test_csv_keeps_numbers_numbers_and_formulas_text(comparison):
    hostile = board(renamed(comparison, "=1+1", "\t@cmd"))
    rows = list(csv.DictReader(io.StringIO(to_csv([hostile]))))
    assert [row["strategy"] for row in rows] == ["'=1+1", "'@cmd"]
    finals = hostile.rows[0].finals["valid_error"]
    assert float(rows[0]["valid_error_mean_percent"]) == pytest.approx(100 * finals.mean())
    assert float(rows[0]["valid_error_sd_percent"]) == pytest.approx(100 * finals.std(), abs=1e-6)
    assert rows[0]["rank"] == "1"
    assert rows[0]["protocol_digest"] == PROTOCOL.digest


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_guards_every_start(comparison, start):
    one = board(renamed(comparison, f"{start}x", "y"))
    (row, _) = csv.DictReader(io.StringIO(to_csv([one])))
    assert row["strategy"].startswith("'")


def test_csv_of_several_comparisons_is_one_table(tmp_path):
    brief = replace(PROTOCOL, name="brief", report=("test_error",))
    run(tmp_path, cell(), cell(protocol=brief))
    rows = list(csv.DictReader(io.StringIO(to_csv(list(map(board, compared(tmp_path)))))))
    assert [(row["protocol"], row["valid_error_mean_percent"] == "") for row in rows] == [
        ("brief", True),
        ("exact", False),
    ]


def test_control_characters_forge_no_row(comparison):
    name = "a\x1b[2K\nb\u202ec\u2028d"
    assert clean(name) == "a[2Kbcd"
    one = board(renamed(comparison, name, "y"))
    for text in (to_text(one), to_markdown(one), to_tex(one), to_csv([one])):
        assert not {"\x1b", "\u202e", "\u2028"} & set(text)
    assert len(to_text(one).splitlines()) == len(to_text(board(comparison)).splitlines())


def test_markdown_cells_stay_cells(comparison):
    lines = to_markdown(board(renamed(comparison, "a|b_c <i>*d*", "y"))).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert rows[2].startswith(r"| 1 | a\|b_c \<i\>\*d\* | 8 |")
    assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1


def test_tex_escapes_and_is_a_booktabs_table(comparison):
    assert tex_escape(r"50%_a\b{$#&~^}±") == (
        r"50\%\_a\textbackslash{}b\{\$\#\&\textasciitilde{}\textasciicircum{}\}$\pm$"
    )
    text = to_tex(board(comparison))
    assert r"local\_search" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"validation error \%" in text
    (row,) = [line for line in text.splitlines() if r"local\_search" in line]
    assert row.startswith(r"1 & local\_search & 8 & ")
    assert "{" not in row


def test_the_tex_file_says_first_what_it_needs(tmp_path):
    run(tmp_path, cell())
    write_report(tmp_path, tmp_path / "out", figures=False)
    lines = (tmp_path / "out" / "leaderboard.tex").read_text().splitlines()
    assert lines[:2] == [r"% needs \usepackage{booktabs}", r"\begin{table}"]


def test_a_report_without_figures_loads_numpy_alone(tmp_path):
    """The same look finds pandas as soon as figures are drawn."""
    run(tmp_path, cell())
    script = (
        "import sys; from pathlib import Path; from bench.report import write_report; "
        f"r = Path({str(tmp_path)!r}); write_report(r, r / 'out', figures=sys.argv[1] == 'yes'); "
        "print(sorted({'scipy', 'pandas', 'matplotlib', 'seaborn', 'torch'} & set(sys.modules)))"
    )
    for figures, loaded in (("no", "[]\n"), ("yes", "['matplotlib', 'pandas', ")):
        done = subprocess.run(
            [sys.executable, "-c", script, figures], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(loaded)


def test_runs_that_max_trials_stopped_are_told_and_not_ranked(tmp_path):
    brief = replace(PROTOCOL, name="brief", max_trials=20)
    run(tmp_path, cell(protocol=brief), cell("local_search", protocol=brief), seeds=range(6))
    one = board(compared(tmp_path)[0])
    assert [row.rank for row in one.rows] == [None, None]
    assert one.remarks == (
        "ranks are withheld: not every run could spend its budget",
        *(
            f"{label}: 6 of 6 runs stopped at max_trials (20), before the budget was spent"
            for label in ("local_search", "random_search")
        ),
    )


def test_max_trials_counts_only_the_runs_that_it_stopped(tmp_path):
    """Trials take 10 to 13 seconds: few runs fit ten into 112.5, and others get no further."""
    brief = replace(PROTOCOL, name="brief", max_trials=10)
    run(tmp_path, cell(protocol=brief, clock="simulated_seconds", limit=112.5), seeds=range(50))
    (comparison,) = compared(tmp_path)
    lengths = np.diff(comparison.cells[0].starts)
    stopped = int((lengths == 10).sum())
    assert 0 < stopped < 50
    assert f"random_search: {stopped} of 50 runs stopped at" in " ".join(board(comparison).remarks)


def test_a_budget_of_max_trials_stops_nothing_early(tmp_path):
    run(tmp_path, cell(protocol=replace(PROTOCOL, name="even", max_trials=30)))
    one = board(compared(tmp_path)[0])
    assert (one.rows[0].rank, one.remarks) == (1, ())


@pytest.mark.parametrize(
    ("overhead", "clock", "measured"),
    [
        ("free", "simulated_seconds", False),
        ("charged", "simulated_seconds", True),
        ("free", "wall_seconds", True),
    ],
)
def test_a_measured_clock_is_remarked(tmp_path, overhead, clock, measured):
    protocol = replace(PROTOCOL, name="timed", overhead=overhead)
    limit = 0.02 if clock == "wall_seconds" else 200
    run(tmp_path, cell(protocol=protocol, clock=clock, limit=limit), seeds=range(2))
    one = board(compared(tmp_path)[0])
    sentence = "a measured clock decides: these runs cannot be repeated exactly"
    assert (sentence in one.remarks) == measured


@pytest.mark.parametrize(("runs", "spread"), [(1, False), (4, True)])
def test_few_runs_show_no_interval_and_one_no_deviation(tmp_path, runs, spread):
    run(tmp_path, cell(), seeds=range(runs))
    one = board(compared(tmp_path)[0])
    (row,) = [line for line in to_markdown(one).splitlines() if line.startswith("| 1 ")]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[4].endswith(" ± –") != spread
    assert cells[5] == "–"
    (record,) = csv.DictReader(io.StringIO(to_csv([one])))
    assert record["ci95_low_percent"] == record["ci95_high_percent"] == ""
    assert (record["valid_error_sd_percent"] != "") == spread


def test_notes_name_the_objective_the_interval_and_the_order(tmp_path):
    named = replace(cell(), names=dict(cell().names, objective="table nb201"))
    run(tmp_path, named)
    (note,) = notes(board(compared(tmp_path)[0]))
    assert " · objective table nb201 (abababababab) · " in note
    assert "95 % expanded-percentile bootstrap interval of the mean; ranks are by the mean" in note
