"""The view of a space: what is read, what is said, what is drawn."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from contracts import Toy

from bench.data import silent
from bench.landscape import Autocorrelation, Effects, RankCorrelation, steepest_descent
from bench.report import space_figures
from bench.report.figures import draw
from bench.report.layout import layout
from bench.report.space import FIGURES, write_view
from bench.report.space_figures import Words
from bench.report.space_numbers import read_numbers
from bench.report.units import PERCENT, PLAIN
from bench.table import PROVENANCE, Schedule, Table, TableError, open_table, write_table
from spaces.nb101.space import NB101
from spaces.nb201.space import NB201

TEXTS = {key: f"the {key}" for key in PROVENANCE} | {"space": "toy"}
WORDS = Words("toy · digits", "validation error (%)", PERCENT, "Table toy.")
SPACE = Toy()
NAN = np.nan


def table(**columns):
    """24 rows, epochs 1, 2 and 4, two seeds; the error is the sum of the genes in hundredths."""
    genes = np.array(list(SPACE), np.int8)
    errors = 0.01 * genes.sum(1)[:, None, None] + np.array([0.3, 0.2, 0.1])[:, None]
    errors = np.repeat(errors, 2, axis=2) + np.array([0.0, 0.02])
    known = {
        "valid_error": errors,
        "test_error": errors + 0.05,
        "train_seconds": np.ones(24),
        "parameters": 1000.0 + genes[:, 0],
        "latency": np.arange(48).reshape(24, 2) / 1000,
    }
    chosen = {name: values for name, values in (known | columns).items() if values is not None}
    schedule = Schedule(
        np.array([1, 2, 4], np.int32),
        np.array([7, 8], np.int32),
        {name: values.astype(np.float32) for name, values in chosen.items()},
    )
    short = Schedule(
        np.array([1], np.int32),
        np.array([0], np.int32),
        {"valid_error": errors[:, :1, :1].astype(np.float32), "train_seconds": np.ones(24, "f4")},
    )
    groups = {("digits", "4"): schedule, ("digits", "1"): short, ("Letters", "1"): short}
    return Table(TEXTS, genes, groups)


def only(of, rows):
    """Some rows of a table."""
    groups = {
        key: replace(known, columns={name: v[rows] for name, v in known.columns.items()})
        for key, known in of.schedules.items()
    }
    return replace(of, architectures=of.architectures[rows], schedules=groups)


@pytest.fixture
def read(tmp_path):
    """Numbers of a table, through a file."""

    def numbers(of, space=SPACE, **choices):
        write_table(of, space, tmp_path / "toy.h5")
        with open_table(tmp_path / "toy.h5") as (file, digest):
            return read_numbers(file, digest, space, **choices)

    return numbers


@pytest.fixture
def view(read, tmp_path):
    def written(of, space=SPACE, **choices):
        return write_view(space, read(of, space, **choices), tmp_path / "out")

    return written


@pytest.fixture
def told(view, monkeypatch):
    """Views whose figures are made, but not as files: that takes most of the time."""
    monkeypatch.setattr("bench.report.figures.draw", lambda figure, kind: b"")
    return view


def words(found):
    """What the terminal shows, on one line."""
    return " ".join(found.text.split())


# ---------------------------------------------------------------------------- reading


def test_defaults_are_the_first_dataset_the_longest_schedule_and_validation(read):
    found = read(table())
    assert (found.dataset, found.schedule, found.metric, found.epoch) == (
        *("digits", "4"),
        *("valid_error", 4),
    )
    np.testing.assert_allclose(found.errors, 0.01 * found.genes.sum(1) + 0.11, rtol=1e-5)
    np.testing.assert_allclose(found.costs["latency"], (2 * np.arange(24) + 0.5) / 1000, rtol=1e-6)
    assert list(found.costs) == ["latency", "parameters"]


def test_signals_are_fewer_epochs_other_schedules_and_costs_never_a_test(read):
    names = ["validation error, 1 epoch", "validation error, 2 epochs"]
    short = "validation error, 1 epoch (schedule 1)"
    assert list(read(table()).signals) == [*names, short, "latency", "parameters"]
    test = read(table(), metric="test_error").signals
    assert list(test) == [*names, "validation error, 4 epochs", short, "latency", "parameters"]
    mixed = read(table(valtest_error=table().schedules["digits", "4"].columns["test_error"]))
    assert not any("test" in name for name in (*mixed.signals, *mixed.costs))


def test_a_test_metric_where_there_is_no_other(read):
    of = table(valid_error=None)
    of.schedules.pop(("digits", "1"))
    of.schedules.pop(("Letters", "1"))
    found = read(of)
    assert found.metric == "test_error"
    assert list(found.signals)[:2] == ["test error, 1 epoch", "test error, 2 epochs"]


def test_the_last_epoch_with_numbers(read):
    errors = table().schedules["digits", "4"].columns["valid_error"].copy()
    errors[:, 2] = NAN
    assert read(table(valid_error=errors)).epoch == 2
    with pytest.raises(TableError, match=r"^toy.h5 holds no number of valid_error for digits$"):
        read(table(valid_error=np.full((24, 3, 2), NAN)), schedule="4")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"dataset": "mnist"}, r"^dataset is 'mnist'; allowed: digits, Letters$"),
        ({"schedule": "9"}, r"^schedule is '9'; allowed: 1, 4$"),
        ({"metric": "f1"}, r"^metric is 'f1'; allowed: valid_error, test_error$"),
        ({"metric": "parameters"}, r"^metric is 'parameters'; allowed: valid_error, test_error$"),
        ({"metric": "test_error", "schedule": "1"}, r"^metric is 'test_error'; allowed: valid_err"),
    ],
)
def test_a_wrong_choice_names_what_is_allowed(read, choice, sentence):
    with pytest.raises(TableError, match=sentence):
        read(table(), **choice)


def test_a_table_of_another_space_is_refused(read):
    of = table()
    with pytest.raises(TableError, match="is of space other, not toy"):
        read(replace(of, provenance=TEXTS | {"space": "other"}))


def test_a_table_of_another_form_of_the_space_is_refused(tmp_path, read):
    class Shifted(Toy):
        def keys(self, genes):
            return super().keys(genes) + np.uint64(1_000)

    write_table(table(), SPACE, tmp_path / "toy.h5")
    with (
        open_table(tmp_path / "toy.h5") as (file, digest),
        pytest.raises(TableError, match="made with another form of toy; import it again"),
    ):
        read_numbers(file, digest, Shifted())


# ---------------------------------------------------------------------------- the view


def test_a_full_table_gives_every_part(view):
    found = view(table())
    drawn = {path.name for path in found.files}
    assert drawn == {f"{name}.png" for name in FIGURES if name != "example"} | {"space.md"}
    assert {path.name for path in found.out.iterdir()} == drawn
    for text in (
        "24 members, 24 networks that a table tells apart",
        "first-order functional ANOVA, exact",
        "explain 100.0 %",
        "1 local optimum, 1 different network; 100.00 % of the starts",
        "fitness-distance correlation",
        "24 of 24 architectures have several training seeds; standard deviation within an "
        "architecture 1.414",
        "licence: the licence",
    ):
        assert text in words(found)
    markdown = (found.out / "space.md").read_text()
    assert markdown.startswith("# toy · digits · validation error\n\n## Space\n")
    for name in drawn - {"space.md"}:
        assert f"({name})" in markdown
    first = {path.name: path.read_bytes() for path in found.files}
    assert {path.name: path.read_bytes() for path in view(table()).files} == first


def test_figures_of_an_earlier_view_go_and_other_files_stay(told, tmp_path):
    told(table())
    (tmp_path / "out/notes.txt").write_text("mine")
    found = write_view(SPACE, None, tmp_path / "out", tables=["a table would say more: none"])
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"example.png", "space.md", "notes.txt"}
    assert "a table would say more: none" in found.text
    assert f"for example {SPACE.to_string(SPACE.sample(Random(0)))}" in found.text


def test_a_part_of_a_table_gives_estimates_and_no_landscape(told):
    found = told(only(table(), np.arange(0, 24, 2)))
    assert "over all 24 members, of which the table knows 50.0 %" in found.text
    assert "an estimate" in words(found)
    assert "not described: the table knows 50 % of the members" in words(found)
    assert not (found.out / "walk.png").exists()


def test_a_sample_of_a_large_space_speaks_of_its_rows(told):
    class Large(Toy):
        choices = (40, 40, 40, 40)

    genes = np.random.default_rng(0).integers(40, size=(24, 4)).astype(np.int8)
    found = told(replace(table(), architectures=genes), Large())
    assert "over the 24 rows of the table, which need not be a fair sample" in found.text
    assert "members drawn uniformly" in found.text
    assert "members of a uniform sample" in words(found)


def test_a_known_large_space_is_walked_and_described_as_a_sample(told, monkeypatch):
    monkeypatch.setattr("bench.landscape.LISTED", 10)
    monkeypatch.setattr("bench.landscape.STARTS", 50)
    text = words(told(table()))
    assert "over 20,000 members drawn uniformly" in text
    assert "steepest descent from 50 uniformly drawn members: at least 1 local optimum" in text
    assert "24 isomorphism classes met among 20,000 members" in text


def test_losses_are_no_percent(told):
    columns = table().schedules["digits", "4"].columns
    of = table(valid_error=None, test_error=None, valid_loss=10 * columns["valid_error"])
    of.schedules.pop(("digits", "1"))
    of.schedules.pop(("Letters", "1"))
    found = told(of)
    assert "validation loss" in found.text
    assert "%" not in found.text.split("Errors")[1].split("quantile")[0]
    assert "percentage points" not in found.text


def test_a_test_metric_is_declared(told):
    assert "this is a test metric" in told(table(), metric="test_error").text
    assert "this is a test metric" not in told(table()).text


@pytest.mark.parametrize("metric", ["test_error", "valid_error"])
def test_every_figure_of_a_test_metric_declares_it(view, monkeypatch, metric):
    drawn = []
    monkeypatch.setattr(
        "bench.report.figures.draw", lambda figure, kind: drawn.append(figure) or b""
    )
    view(table(), metric=metric)
    captions = [
        " ".join([figure.get_supxlabel(), *(text.get_text() for text in figure.axes[0].texts)])
        for figure in drawn
    ]
    assert len(captions) == len(FIGURES) - 1  # without the example of a view without a table
    declared = ["a view of it may not guide a search" in " ".join(c.split()) for c in captions]
    assert declared == [metric == "test_error"] * len(captions)


def test_equal_errors_have_no_landscape(told):
    found = told(table(valid_error=np.full((24, 3, 2), 0.5)), schedule="4")
    assert "none: every architecture has the same error" in found.text
    assert {path.name for path in found.files} == {"cells.png", "errors.png", "space.md"}
    assert "have several training seeds; standard deviation" in found.text


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_handful_of_rows(told, rows):
    assert (
        f"{rows} architecture{'s'[: rows != 1]} with a number"
        in told(only(table(), np.arange(rows))).text
    )


def test_missing_numbers_are_left_out(told):
    errors = table().schedules["digits", "4"].columns["valid_error"].copy()
    errors[3] = NAN
    found = told(table(valid_error=errors))
    assert "23 architectures with a number" in found.text
    assert "of which the table knows 95.8 %" in found.text
    assert (found.out / "walk.png").exists()


def test_names_cannot_forge_lines_or_markup(told):
    class Loud(Toy):
        def to_string(self, arch):
            return f"|{arch[0]}~0|\x1b[2J\n# {arch[1:]}"

    found = told(table(), Loud())
    assert "\x1b" not in found.text
    assert (
        "\\|0\\~0\\|" in (found.out / "space.md").read_text()
        or "\\|0~0\\|" in (found.out / "space.md").read_text()
    )
    assert "\n# (" not in (found.out / "space.md").read_text()


# ---------------------------------------------------------------------------- figures


def test_errors_are_drawn_as_shares():
    left, right = space_figures.errors(np.array([0.1, 0.2, 0.2, NAN, 0.4]), WORDS).axes
    heights = [bar.get_height() for bar in left.patches]
    assert sum(heights) == pytest.approx(100)
    line = right.lines[0]
    assert line.get_xdata().tolist() == [10, 20, 20, 40]
    assert line.get_ydata().tolist() == [25, 50, 75, 100]


def test_effects_are_drawn_by_gene_and_value():
    found = Effects(
        (np.array([-0.01, 0.01]), np.array([0.0, 0.02, -0.02])), np.array([0.2, 0.7]), 0.9, True
    )
    labels = [("first", ["a", "b"]), ("second", ["b", "c", "d"])]
    figure = space_figures.effects(found, labels, WORDS)
    left, right = figure.axes[:2]
    grid = left.images[0].get_array()
    np.testing.assert_allclose(grid.filled(NAN), [[-1, 1, NAN, NAN], [NAN, 0, 2, -2]])
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["a", "b", "c", "d"]
    assert [bar.get_width() for bar in right.patches] == pytest.approx([20, 70])
    assert "90.0" in figure.get_supxlabel()


def test_many_names_become_numbers():
    labels = [(f"gene {i}", [f"{i}{v}" for v in range(4)]) for i in range(6)]
    found = Effects(tuple(np.arange(4.0) - 1.5 for _ in labels), np.full(6, 0.1), 0.6, False)
    left = space_figures.effects(found, labels, WORDS).axes[0]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["0", "1", "2", "3"]


def test_of_many_genes_those_that_explain_most_are_drawn():
    labels = [(f"gene {i}", ["a", "b"]) for i in range(40)]
    shares = np.arange(40) / 1000
    found = Effects(tuple(np.array([-0.1, 0.1]) for _ in labels), shares[::-1], 0.5, False)
    figure = space_figures.effects(found, labels, WORDS)
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == [f"gene {i}" for i in range(30)]
    assert "Left out: 10 genes" in " ".join(figure.get_supxlabel().split())


def test_walks_distances_and_optima_are_drawn_as_found():
    lags = np.exp(-np.arange(21) / 2.0)
    (axes,) = space_figures.walk(Autocorrelation(lags, lags - 0.1, lags + 0.1), WORDS).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), lags)
    np.testing.assert_allclose(axes.lines[1].get_ydata(), lags)
    found = steepest_descent(
        SPACE, lambda genes: 0.1 + 0.1 * (genes.sum(1) % 2), list(SPACE), silent
    )
    (axes,) = space_figures.optima(found, True, WORDS).axes
    assert len(found.optima) == 12
    assert axes.lines[1].get_xdata() == pytest.approx(np.full(12, 10))
    np.testing.assert_allclose(axes.lines[1].get_ydata().sum(), 100)


def test_fronts_are_drawn_by_cost():
    costs = {"parameters": np.array([1.0, 2, 3, 4]), "latency": np.array([4.0, NAN, 2, 1])}
    figure = space_figures.fronts(costs, np.array([0.4, 0.2, 0.3, 0.1]), WORDS)
    first, second = figure.axes
    assert first.lines[1].get_xdata().tolist() == [1, 2, 4]
    np.testing.assert_allclose(first.lines[1].get_ydata(), [40, 20, 10])
    assert second.lines[1].get_xdata().tolist() == [1]
    assert (first.get_xlabel(), second.get_xlabel()) == ("parameters", "latency (s)")


def test_more_costs_than_panels_are_said_to_be_left_out():
    costs = {f"latency_{i}": np.arange(5.0) + i for i in range(8)}
    figure = space_figures.fronts(costs, np.linspace(0.5, 0.1, 5), WORDS)
    assert sum(axes.get_visible() for axes in figure.axes) == 6
    assert "Drawn are 6 of 8 costs." in " ".join(figure.get_supxlabel().split())


def test_signals_are_drawn_in_order():
    pair = RankCorrelation(9, (0.5, 0.4, 0.6), (0.3, 0.2, 0.4))
    nothing = RankCorrelation(1, (NAN,) * 3, (NAN,) * 3)
    shown = {"epochs": (pair, nothing), "size": (pair, pair)}
    left, right = space_figures.signals(shown, WORDS).axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["epochs", "size"]
    assert [bar.get_width() for bar in left.patches] == [0.5, 0.5, 0.3, 0.3]
    assert len(right.patches) == 4
    one, other = (draw(space_figures.signals(shown, WORDS), "png") for _ in range(2))
    assert one == other


def test_losses_say_no_percent_in_figures():
    words = Words("toy", "validation loss", PLAIN, "Table toy.")
    found = Effects((np.array([-2.0, 2.0]),), np.array([1.0]), 1.0, True)
    left = space_figures.effects(found, [("only", ["a", "b"])], words).axes[0]
    assert left.get_xlabel() == "mean error with the value, less the mean"
    np.testing.assert_allclose(left.images[0].get_array(), [[-2, 2]])


# ---------------------------------------------------------------------------- drawings


def test_layers_go_from_left_to_right_and_share_no_place():
    edges = [("0", "1", "a"), ("0", "2", "b"), ("1", "2", "c"), ("0", "3", "d"), ("2", "3", "e")]
    plan = layout(edges)
    assert {node: x for node, (x, _) in plan.nodes.items()} == {"0": 0, "1": 2, "2": 4, "3": 6}
    places = [*plan.nodes.values(), *plan.labels]
    for one, (x, y) in enumerate(places):
        for to_x, to_y in places[:one]:
            assert x != to_x or abs(y - to_y) > 0.99
    for (source, target, _), route in zip(edges, plan.routes, strict=True):
        assert (route[0], route[-1]) == (plan.nodes[source], plan.nodes[target])
        assert [x for x, _ in route] == list(np.arange(route[0][0], route[-1][0] + 1))


def test_parts_lie_above_each_other_in_order():
    plan = layout([("a", "b", ""), ("c", "d", ""), ("b", "e", "")])
    assert plan.nodes["a"][1] > plan.nodes["c"][1] + 1
    assert plan.layers == 3


def test_a_long_chain_turns_back():
    edges = [(str(i), str(i + 1), "") for i in range(6)]
    plan = layout(edges, across=3)
    assert [plan.nodes[str(i)][0] for i in range(7)] == [0, 1, 2, 2, 1, 0, 0]
    assert len({y for _, y in plan.nodes.values()}) == 3
    assert layout(edges, across=7).layers == 7


def test_nothing_connected_is_drawn_in_words():
    figure = space_figures.drawings([("1 · none", [])], "Nothing.")
    assert "nothing is connected" in [text.get_text() for text in figure.axes[0].texts]
    assert layout([]).rows == 0


def test_namesakes_are_told_apart_and_drawn_alike():
    edges = [("input", "conv#1", ""), ("conv#1", "conv#2", ""), ("conv#2", "output", "")]
    figure = space_figures.drawings([("cell", edges)], "A chain.")
    names = [text.get_text() for text in figure.axes[0].texts]
    assert names.count("conv") == 2
    assert not any("#" in name for name in names)


def test_every_space_labels_its_genes_and_draws_its_members(space):
    labels = space.labels()
    assert [len(values) for _, values in labels] == list(space.choices)
    assert len({name for name, _ in labels}) == len(labels)
    assert all(len(set(values)) == len(values) for _, values in labels)
    rng = Random(1)
    for _ in range(20):
        edges = space.graph(space.sample(rng))
        assert all(source and target for source, target, _ in edges)
        assert len(layout(edges).nodes) == len({node for edge in edges for node in edge[:2]})
    draw(space_figures.drawings([("an example", space.graph(space.sample(rng)))], "One."), "png")


def test_a_space_without_a_drawing_is_a_chain_of_its_genes():
    nodes = ["input", "gene 0: 1", "gene 1: 3", "gene 2: 0", "output"]
    assert SPACE.graph((1, 3, 0)) == [(a, b, "") for a, b in pairwise(nodes)]
    assert SPACE.labels()[2] == ("gene 2", ["0", "1"])


def test_known_cells_are_drawn_as_they_are():
    """Edges that are `none` are not there, nor are vertices that lead nowhere."""
    nb201, nb101 = NB201(), NB101()
    arch = nb201.from_string(
        "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    )
    assert nb201.graph(arch) == [
        ("0", "1", "nor_conv_3x3"),
        ("1", "2", "nor_conv_3x3"),
        ("0", "3", "skip_connect"),
        ("2", "3", "nor_conv_1x1"),
    ]
    cell = nb101.from_string(  # vertices 1 and 3 lead nowhere
        "0110000010000010000000000:input,conv3x3-bn-relu,maxpool3x3,conv1x1-bn-relu,output"
    )
    assert nb101.graph(cell) == [
        ("input#0", "maxpool3x3#2", ""),
        ("maxpool3x3#2", "output#6", ""),
    ]
