"""Figures by their data."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from test_report_frame import OnGpu, cell, compared, run

from bench.report import ReportError, write_report
from bench.report.figures import _short, anytime, draw, final
from bench.report.leaderboard import board
from bench.report.statistics import mean_band, median_band
from bench.report.units import PERCENT

FLOOR = PERCENT.floor


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    run(results, cell("random_search"), cell("local_search"))
    return board(compared(results)[0])


def caption_of(figure):
    """The text under a figure on one line, its unbreakable spaces as plain ones."""
    return " ".join(figure.get_supxlabel().split())


def regrets(row):
    return 100 * (row.runs.values["valid_error"].reshape(8, 30) - 0.05)


def edges(axes):
    """Lowest and highest drawn y of the first band at each x."""
    points = axes.collections[0].get_paths()[0].vertices
    return {x: points[points[:, 0] == x, 1] for x in points[:, 0]}


@pytest.mark.parametrize(
    ("center", "middle", "band"), [("mean", np.mean, mean_band), ("median", np.median, median_band)]
)
def test_anytime_draws_steps_of_the_aggregates(one, center, middle, band):
    (axes,) = anytime(one, center=center).axes
    assert [line.get_label() for line in axes.lines] == ["1  local_search", "2  random_search"]
    for line, row in zip(axes.lines, one.rows, strict=True):
        assert line.get_drawstyle() == "steps-post"
        assert line.get_xdata().tolist() == list(range(1, 31))
        expected = np.maximum(middle(regrets(row), axis=0), FLOOR)
        np.testing.assert_allclose(line.get_ydata(), expected)
    low, high = (np.maximum(end, FLOOR) for end in band(regrets(one.rows[0])))
    drawn = edges(axes)
    assert drawn[1].min() == pytest.approx(low[0])
    assert drawn[1].max() == pytest.approx(high[0])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_anytime_says_what_it_shows(one):
    figure = anytime(one)
    (axes,) = figure.axes
    assert axes.get_title("left") == "digits · sums · 30 evaluations"
    assert "evaluations" in axes.get_xlabel()
    assert "validation error" in axes.get_ylabel()
    caption = caption_of(figure)
    assert one.comparison.protocol.digest in caption
    assert "8 runs" in caption
    assert "Mean and 95 % bootstrap band" in caption
    median = caption_of(anytime(one, center="median"))
    assert "Median and 95 % order-statistic band" in median


def test_a_zero_is_drawn_at_the_stated_floor(one):
    """Two more runs reach the optimum at once; one alone pulls a median of two no further."""
    row = one.rows[0]
    found = {name: np.full_like(column, 0.05) for name, column in row.runs.values.items()}
    solved = replace(one, rows=(replace(row, runs=replace(row.runs, values=found)),))
    figure = anytime(solved)
    assert set(figure.axes[0].lines[0].get_ydata()) == {FLOOR}
    assert "Values below 0.001 are drawn at 0.001" in caption_of(figure)


def test_no_floor_is_stated_where_none_is_needed(one):
    harder = replace(one, comparison=replace(one.comparison, optimum={"valid_error": 0.01}))
    assert "drawn at" not in anytime(harder).get_supxlabel()


def test_without_an_optimum_the_error_is_drawn(one):
    unknown = replace(one, comparison=replace(one.comparison, optimum={}))
    (axes,) = anytime(unknown).axes
    assert axes.get_ylabel() == "validation error (%)"
    assert axes.get_yscale() == "linear"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), regrets(one.rows[0]).mean(axis=0) + 5)
    assert not [line for line in final(unknown).axes[0].lines if line.get_linestyle() == "--"]


@pytest.mark.parametrize(
    ("runs", "center", "sentence"),
    [(4, "mean", "below 5 runs there is no bootstrap band"), (5, "median", "below 6 runs no 95 %")],
)
def test_few_runs_have_no_band_and_say_so(tmp_path, runs, center, sentence):
    run(tmp_path, cell("local_search"), seeds=range(runs))
    figure = anytime(board(compared(tmp_path)[0]), center=center)
    assert not figure.axes[0].collections
    assert sentence in caption_of(figure)


def test_another_clock_is_cut_at_the_shortest_run(tmp_path):
    run(tmp_path, cell("random_search"), cell("local_search"))
    report = write_report(tmp_path, tmp_path / "out", clock="simulated_seconds")
    (one,) = report.boards
    (axes,) = anytime(one, "simulated_seconds").axes
    ends = [row.runs.clocks["simulated_seconds"][row.runs.starts[1:] - 1].min() for row in one.rows]
    assert axes.lines[0].get_xdata()[-1] == pytest.approx(min(ends))
    assert axes.get_xlabel() == "simulated seconds (log scale)"


def test_wall_seconds_are_read_beside_the_trials(tmp_path):
    run(tmp_path, cell())
    (one,) = write_report(tmp_path, tmp_path / "out", clock="wall_seconds").boards
    assert (one.rows[0].runs.clocks["wall_seconds"] > 0).all()


def test_gpu_seconds_are_drawn_where_a_gpu_was_held(tmp_path):
    run(tmp_path, cell())
    with pytest.raises(ReportError, match="clock is 'gpu_seconds'; none of these runs held a GPU"):
        write_report(tmp_path, tmp_path / "out", clock="gpu_seconds")
    run(tmp_path, replace(cell(limit=20), objective=OnGpu()))
    report = write_report(tmp_path, tmp_path / "out", clock="gpu_seconds")
    drawn = {path.stem for path in report.files if path.suffix == ".png"}
    slug = "digits-sums-exact"
    assert {name for name in drawn if name.startswith("anytime")} == {
        f"anytime-{slug}-20-evaluations-by-gpu_seconds",
        f"anytime-{slug}-30-evaluations",  # nothing there by which it could be drawn
    }
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert text.count(".png") == 4
    assert all(f"({name}.png)" in text for name in drawn)
    (one,) = (one for one in report.boards if one.comparison.budget.limit == 20)
    (axes,) = anytime(one, "gpu_seconds").axes
    assert axes.get_xlabel() == "gpu seconds (log scale)"


def test_colours_stay_with_a_strategy_and_ranks_stand_at_the_ends(one):
    turned = replace(one, rows=one.rows[::-1])
    (axes,), (others,) = anytime(one).axes, anytime(turned).axes
    colours = [line.get_color() for line in axes.lines]
    assert colours == [line.get_color() for line in others.lines][::-1]
    marks = {text.get_text(): text for text in axes.texts}
    assert [marks[rank].get_color() for rank in "12"] == colours
    assert abs(marks["1"].xy[1] - marks["2"].xy[1]) > 0.04


def test_final_draws_every_run_the_best_on_top(one):
    (axes,) = final(one).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "1  local_search",
        "2  random_search",
    ]
    assert axes.yaxis_inverted()
    points, mean = axes.lines[:2]
    finals = 100 * one.rows[0].finals["valid_error"]
    assert points.get_xdata().tolist() == finals.tolist()
    assert mean.get_xdata() == pytest.approx(finals.mean())
    box = axes.patches[0]
    quartiles = np.quantile(finals, [0.25, 0.75])
    assert [box.get_x(), box.get_x() + box.get_width()] == pytest.approx(quartiles.tolist())
    (optimum,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(optimum.get_xdata()) == {5}


def test_equal_figures_equal_bytes_and_no_global_state(one):
    before = dict(mpl.rcParams)
    first, second = (draw(anytime(one), "svg") for _ in range(2))
    assert first == second
    assert draw(final(one), "svg") == draw(final(one), "svg")
    assert draw(anytime(one), "png")[:4] == b"\x89PNG"
    assert dict(mpl.rcParams) == before


def test_many_strategies_are_told_apart(one):
    labels = tuple(f"strategy {i}" for i in range(12))
    rows = tuple(replace(one.rows[0], label=label) for label in labels)
    comparison = replace(one.comparison, labels=labels)
    (axes,) = anytime(replace(one, comparison=comparison, rows=rows)).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 12


def test_a_report_holds_figures_and_links_them(tmp_path):
    run(tmp_path, cell("random_search"), cell("local_search"))
    report = write_report(tmp_path, tmp_path / "out")
    slug = "digits-sums-exact-30-evaluations"
    names = [f"{kind}-{slug}.{end}" for kind in ("anytime", "final") for end in ("png", "svg")]
    names += [f"leaderboard.{end}" for end in ("md", "csv", "tex")]
    assert [path.name for path in report.files] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    text = (tmp_path / "out" / "leaderboard.md").read_text()
    assert f"![Anytime curves](anytime-{slug}.png)" in text
    plain = write_report(tmp_path, tmp_path / "plain", figures=False)
    assert "![" not in (tmp_path / "plain" / "leaderboard.md").read_text()
    assert plain.text == report.text


def test_ticks_are_short():
    ticks = [0.05, 1, 2000, 10_000, 500_000, 2e6]
    assert [_short(tick) for tick in ticks] == ["0.05", "1", "2,000", "10k", "500k", "2M"]


def test_figures_of_another_clock_or_center_have_their_own_files(tmp_path):
    run(tmp_path, cell())
    out, name = tmp_path / "out", "anytime-digits-sums-exact-30-evaluations"
    choices = [
        ({}, name),
        ({"clock": "evaluations"}, name),  # the budget's
        ({"center": "median"}, f"{name}-median"),
        ({"clock": "simulated_seconds"}, f"{name}-by-simulated_seconds"),
        (
            {"clock": "simulated_seconds", "center": "median"},
            f"{name}-by-simulated_seconds-median",
        ),
    ]
    for choice, expected in choices:
        report = write_report(tmp_path, out, **choice)
        assert report.files[0].name == f"{expected}.png"
        assert f"![Anytime curves]({expected}.png)" in (out / "leaderboard.md").read_text()
    assert {path.stem for path in out.glob("anytime-*.png")} == {name for _, name in choices}


@pytest.mark.parametrize(
    ("clock", "center", "sentence"),
    [
        (None, "median", "The rank numbers are by the mean at the budget."),
        ("simulated_seconds", "median", "The rank numbers are by the mean at the budget."),
        ("simulated_seconds", "mean", "The rank numbers are at the budget."),
        (None, "mean", None),
    ],
)
def test_a_caption_says_what_the_rank_numbers_follow(tmp_path, clock, center, sentence):
    run(tmp_path, cell())
    (one,) = write_report(tmp_path, tmp_path / "out", clock=clock, figures=False).boards
    caption = caption_of(anytime(one, clock, center))
    assert sentence in caption if sentence else "rank numbers" not in caption
    unranked = replace(one, rows=tuple(replace(row, rank=None) for row in one.rows))
    caption = caption_of(anytime(unranked, clock, center))
    assert "rank numbers" not in caption
    assert "Ranks are withheld: see the leaderboard." in caption


def test_stale_figures_are_removed_and_nothing_else(tmp_path):
    run(tmp_path, cell())
    out, slug = tmp_path / "out", "digits-sums-exact-30-evaluations"
    out.mkdir()
    stale = [
        f"anytime-{slug}-abc123.png",
        f"final-{slug}-abc123.svg",
        "anytime-digits-sums-exact-10-evaluations.svg",
        "anytime-digits-sums-exact-10-evaluations-by-epochs-median.png",
        "final-digits-sums-exact-1e-06-simulated_seconds.png",
    ]
    kept = [
        f"anytime-{slug}-by-wall_seconds.png",  # as of an earlier report with this clock
        f"anytime-{slug}-median.svg",
        "final-draft.png",  # none of ours
        "final-10-evaluations.txt",
    ]
    for name in (*stale, *kept):
        (out / name).touch()
    report = write_report(tmp_path, out)
    written = [path.name for path in report.files]
    assert sorted(path.name for path in out.iterdir()) == sorted(kept + written)
