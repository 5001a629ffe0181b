"""Losses, declared test signals, notes of an objective, optima nobody knows: in every output."""

import csv
import io
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from test_report_frame import PROTOCOL, Additive, cell, compared, run

from bench.report import write_report
from bench.report.figures import anytime, final
from bench.report.leaderboard import TEST_SIGNAL, board, notes
from bench.report.statistics import mean_band
from bench.report.tables import to_csv, to_markdown, to_tex, to_text
from bench.report.units import PERCENT, PLAIN, unit
from bench.search import Evaluation

LOSS = replace(
    PROTOCOL, name="lossy", metric="valid_loss", report=("valid_loss", "test_loss", "test_error")
)
NOTE = "surrogate: held-out R² 0.91, Kendall tau 0.80, on 1,000 cells"


class Loss(Additive):
    """A loss from 4.5 up; the test's is 0.25 more, and there is an error too."""

    optimum = MappingProxyType({"valid_loss": 4.5, "test_loss": 4.75, "test_error": 0.2})

    def evaluate(self, query, noise, trained):
        return Evaluation(4.5 + sum(query.architecture) / 3, 10.0)

    def report(self, architectures):
        sums = np.array([sum(arch) for arch in architectures])
        losses = 4.5 + sums / 3
        return {"valid_loss": losses, "test_loss": losses + 0.25, "test_error": 0.2 + sums / 100}


class Estimated(Additive):
    notes = NOTE
    optimum = MappingProxyType({})


def compared_cells(folder, protocol, objective):
    cells = [cell(name, protocol=protocol) for name in ("random_search", "local_search")]
    run(folder, *(replace(one, objective=objective) for one in cells))
    return board(compared(folder)[0])


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    return compared_cells(tmp_path_factory.mktemp("lossy"), LOSS, Loss())


@pytest.fixture(scope="module")
def estimated(tmp_path_factory):
    return compared_cells(tmp_path_factory.mktemp("estimated"), PROTOCOL, Estimated())


def table(markdown):
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def caption(figure):
    return " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize(
    ("value", "coarse", "fine"),
    [
        (4.5, "4.500", "4.500"),
        (0.0123456, "0.01235", "0.01235"),
        (-1.5, "-1.500", "-1.500"),
        (1234.4, "1234", "1234"),
        (0.0, "0.000", "0.000"),
        (float("nan"), "", ""),
    ],
)
def test_a_loss_has_four_significant_digits(value, coarse, fine):
    assert unit("valid_loss") is PLAIN
    assert (PLAIN.coarse(value), PLAIN.fine(value)) == (coarse, fine)
    assert PLAIN.coarse(value) == "" or float(PLAIN.exact(value)) == value


def test_an_error_is_a_percentage():
    assert unit("valid_error") is PERCENT
    assert (PERCENT.coarse(0.08512), PERCENT.fine(0.08512)) == ("8.51", "8.512")
    assert PERCENT.exact(0.0851234567) == "8.512346"


def test_losses_stand_in_tables_as_they_are(lossy):
    losses, (low, high) = lossy.rows[0].finals["valid_loss"], lossy.rows[0].interval
    (first, _) = table(to_markdown(lossy))
    assert first["validation loss"] == f"{losses.mean():#.4g} ± {losses.std():#.4g}"
    assert first["95 % CI"] == f"{low:#.4g}–{high:#.4g}"
    assert first["regret"] == f"{losses.mean() - 4.5:#.4g}"
    assert first["test loss"] == f"{losses.mean() + 0.25:#.4g} ± {losses.std():#.4g}"
    errors = lossy.rows[0].finals["test_error"]  # beside losses, errors stay percentages
    assert first["test error %"] == f"{100 * errors.mean():.2f} ± {100 * errors.std():.2f}"
    assert first["test accuracy %"] == f"{100 - 100 * errors.mean():.2f}"
    assert "validation accuracy" not in to_markdown(lossy)
    for text in (to_text(lossy), to_tex(lossy)):
        head = next(line for line in text.splitlines() if "validation loss" in line)
        assert "validation loss %" not in head.replace("\\%", "%")
        assert first["regret"] in text


def test_csv_columns_say_the_unit(lossy, estimated):
    first, second, third, _ = csv.DictReader(io.StringIO(to_csv([lossy, estimated])))
    losses = lossy.rows[0].finals["valid_loss"]
    low, high = mean_band(losses[:, None])
    expected = {
        "valid_loss_mean_plain": losses.mean(),
        "valid_loss_sd_plain": losses.std(),
        "test_loss_mean_plain": losses.mean() + 0.25,
        "ci95_low_plain": low[0],
        "ci95_high_plain": high[0],
        "regret_plain": losses.mean() - 4.5,
    }
    assert {name: float(first[name]) for name in expected} == pytest.approx(expected, rel=1e-8)
    assert first["test_error_mean_percent"] != "" != second["test_error_mean_percent"]
    assert first["ci95_low_percent"] == first["regret_points"] == ""
    assert third["ci95_low_plain"] == third["regret_plain"] == third["valid_loss_mean_plain"] == ""
    assert third["ci95_low_percent"] != ""
    (alone, _) = csv.DictReader(io.StringIO(to_csv([estimated])))
    assert not [name for name in alone if name.endswith("_plain")]


def test_figures_of_a_loss_have_no_percent(lossy):
    figure = anytime(lossy)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "regret of the validation loss\n(log scale)"
    assert axes.get_yscale() == "log"
    matrix = lossy.rows[0].runs.values["valid_loss"].reshape(8, 30) - 4.5
    expected = np.maximum(matrix.mean(axis=0), PLAIN.floor)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
    (axes,) = final(lossy).axes
    assert axes.get_xlabel() == "final validation loss, lower is better"
    assert [text.get_text() for text in axes.texts] == ["optimum 4.500"]
    assert axes.lines[0].get_xdata().tolist() == lossy.rows[0].finals["valid_loss"].tolist()


def test_a_loss_at_its_optimum_is_drawn_at_the_stated_floor(lossy):
    row = lossy.rows[0]
    found = {name: np.full_like(column, 4.5) for name, column in row.runs.values.items()}
    solved = replace(lossy, rows=(replace(row, runs=replace(row.runs, values=found)),))
    assert "Values below 0.0001 are drawn at 0.0001." in caption(anytime(solved))


def test_a_loss_without_an_optimum_is_drawn_itself(lossy):
    unknown = replace(lossy, comparison=replace(lossy.comparison, optimum={}))
    (axes,) = anytime(unknown).axes
    assert (axes.get_ylabel(), axes.get_yscale()) == ("validation loss", "linear")
    matrix = lossy.rows[0].runs.values["valid_loss"].reshape(8, 30)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), matrix.mean(axis=0))
    assert "regret" not in to_markdown(unknown)


def every_text(one):
    return {
        "text": to_text(one),
        "markdown": to_markdown(one),
        "tex": to_tex(one),
        "csv": to_csv([one]),
        "anytime": caption(anytime(one)),
        "final": caption(final(one)),
    }


def test_a_declared_test_signal_is_told_everywhere(tmp_path):
    declared = replace(PROTOCOL, name="declared", metric="test_error", test_signal="declared")
    one = compared_cells(tmp_path, declared, Additive())
    assert TEST_SIGNAL in one.remarks
    for kind, text in every_text(one).items():
        assert "signal is a test score, as this benchmark" in " ".join(text.split()), kind


def test_other_protocols_tell_of_no_test_signal(lossy):
    assert not [kind for kind, text in every_text(lossy).items() if "test score" in text]


def test_notes_of_an_objective_are_told_everywhere(estimated):
    assert notes(estimated)[1] == NOTE
    for kind, text in every_text(estimated).items():
        assert "held-out R² 0.91, Kendall tau 0.80" in " ".join(text.split()), kind
    assert "Surrogate: held-out" in caption(final(estimated))


def test_notes_tell_comparisons_apart_and_their_absence_is_none(tmp_path, estimated):
    assert board(compared_cells(tmp_path, PROTOCOL, Additive()).comparison).remarks == ()
    run(tmp_path, replace(cell(), objective=Estimated()))
    assert sorted(one.notes for one in compared(tmp_path)) == ["", NOTE]


def test_an_unknown_optimum_leaves_the_value_itself(estimated, tmp_path):
    (axes,) = anytime(estimated).axes
    assert axes.get_ylabel() == "validation error (%)"
    assert "regret" not in table(to_markdown(estimated))[0]
    run(tmp_path, replace(cell(), objective=Estimated()))
    report = write_report(tmp_path, tmp_path / "out")
    assert all(path.stat().st_size for path in report.files)


def test_a_cell_of_an_earlier_version_has_no_notes(tmp_path, monkeypatch):
    one = cell()
    described = {name: value for name, value in one.describe().items() if name != "notes"}
    monkeypatch.setattr(type(one), "describe", lambda self: described)
    run(tmp_path, one)
    assert compared(tmp_path)[0].notes == ""
