import json

import numpy as np
import pytest
from trainings import WORDS, write_signals

pytest.importorskip("torch", reason="PyTorch is absent")

from bench import build, compose, parity
from bench.build import BuildError, InputError, Plan
from bench.built import Built, Failure, collect, put, to_table
from bench.parity import Reference
from bench.table import Schedule, Table, TableError, write_table
from spaces.chain.space import Chain
from spaces.nb201.space import NB201

SPACE = Chain()
MEMBERS = tuple(SPACE)[::45][:30]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A data folder with a table `some` of 30 chains, the error rising from row to row."""
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    write_some(tmp_path / "data/some.h5")
    return tmp_path / "data"


def write_some(path, **columns):
    errors = np.linspace(0.1, 0.68, 30)[:, None, None] + np.array([-0.01, 0.01])
    curves = np.concatenate([errors + 0.2, errors], axis=1)
    known = {
        "test_error": curves + 0.05,
        "valid_error": curves,
        "train_seconds": np.full(30, 2.0),
    } | columns
    about = dict.fromkeys(("source", "source_sha256", "licence", "citation", "notes"), "")
    schedule = Schedule(
        np.array([1, 2], np.int32),
        np.array([0, 1], np.int32),
        {name: values.astype(np.float32) for name, values in known.items() if values is not None},
    )
    genes = np.array(MEMBERS, np.int8)
    write_table(Table({**about, "space": "chain"}, genes, {("d", "2"): schedule}), SPACE, path)


def draw(count=10, **settings):
    return parity.sample(SPACE, "some", "d", "2", count, **settings)


# ------------------------------------------------------------------------- the sample


def test_one_row_of_each_part():
    found = draw(10)
    rows = [MEMBERS.index(arch) for arch in found.architectures]
    assert [row // 3 for row in rows] == list(range(10))
    assert (found.metric, found.epoch, found.schedule) == ("valid_error", 2, "2")
    assert found.errors.shape == (10, 2)
    assert np.allclose(found.errors.mean(1), np.linspace(0.1, 0.68, 30)[rows], atol=1e-6)
    assert found.epoch_seconds.tolist() == [2.0] * 10


def test_the_table_of_nb201_that_ships_can_be_drawn_from():
    found = parity.sample(NB201(), "nb201", "cifar10", "200", 20)
    assert (found.metric, len(found.architectures)) == ("valid_error", 20)
    means = np.nanmean(found.errors, 1)
    assert (np.diff(means) > 0).all()
    assert means[0] < 0.1 < 0.25 < means[-1]
    assert (found.epoch_seconds > 0).all()


def test_the_draw_is_seeded():
    assert draw().architectures == draw().architectures
    assert draw(seed=1).architectures != draw().architectures


def test_rows_without_numbers_are_not_drawn(data):
    errors = np.full((30, 2, 2), 0.5)
    errors[5:] = np.nan
    write_some(data / "some.h5", valid_error=errors, train_seconds=None)
    found = draw(5)
    assert set(found.architectures) == set(MEMBERS[:5])
    assert np.isnan(found.epoch_seconds).all()


def test_seconds_may_be_cumulative(data):
    elapsed = np.full((30, 2, 2), 3.0)
    elapsed[:, 1] = 8.0
    write_some(data / "some.h5", train_seconds=None, elapsed_seconds=elapsed)
    assert draw().epoch_seconds.tolist() == [4.0] * 10


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((SPACE, "none", "d", "2", 5), "table 'none' is neither in"),
        ((SPACE, "some", "e", "2", 5), "dataset 'e' is not in table some.h5"),
        ((SPACE, "some", "d", "9", 5), "schedule '9' is not in table some.h5; it has 2"),
    ],
)
def test_a_wrong_table(words, why):
    with pytest.raises(TableError, match=why):
        parity.sample(*words)


def test_a_wrong_metric(data):
    assert draw(metric="test_error").metric == "test_error"
    with pytest.raises(TableError, match=r"metric is 'train_loss'; table some\.h5 has valid_error"):
        draw(metric="train_loss")
    write_some(data / "some.h5", valid_error=None)
    assert draw().metric == "test_error"
    write_some(data / "some.h5", valid_error=None, test_error=None)
    with pytest.raises(TableError, match=r"some\.h5 has neither of valid_error, test_error for d"):
        draw()


@pytest.mark.parametrize("count", [2, 31])
def test_a_wrong_number(count):
    with pytest.raises(InputError, match=rf"^n is {count}; table some\.h5 allows 3 to 30$"):
        draw(count)


# --------------------------------------------------------------------- the comparison


def compared(live, told=None, seconds=6.0, failures=(), seeds=1):
    """A comparison of errors `[architectures]`, trained live in `seconds` an epoch."""
    live = np.array(live, float)
    told = live if told is None else np.array(told, float)
    count = len(live)
    archs = MEMBERS[:count]
    reference = Reference(
        *("some", "0" * 64, "d", "2", "valid_error", 2, archs),
        np.stack([told - 0.01, told + 0.01], axis=1),
        np.full(count, 2.0),
    )
    errors = np.full((count, seeds, 3, 2), 0.9)
    errors[:, :, 1, 1] = live[:, None]
    columns = {"errors": errors, "epoch_seconds": np.full((count, seeds), seconds)}
    status = np.full((count, seeds), "ok")
    plan = Plan(SPACE, "d", None, archs, seeds, {}, {}, {})
    return parity.compare(plan, Built(status, columns, list(failures), {}), reference)


def test_equal_errors():
    found = compared([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found.ranks.spearman[0] == pytest.approx(1)
    assert found.ranks.kendall[0] == pytest.approx(1)
    assert found.bias == pytest.approx((0, 0, 0), abs=1e-6)
    assert found.factor == pytest.approx((3, 3, 3))
    assert found.between_seeds.spearman[0] == pytest.approx(1)


def test_errors_in_reverse_and_higher():
    found = compared([0.9, 0.8, 0.7, 0.6, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5])
    assert found.ranks.spearman[0] == pytest.approx(-1)
    assert found.bias[0] == pytest.approx(0.4)
    assert found.bias[1] < 0.4 < found.bias[2]
    assert found.noise == pytest.approx(np.std([-0.01, 0.01], ddof=1))
    assert found.spread == pytest.approx(np.std([0.8, 0.6, 0.4, 0.2, 0], ddof=1))


def test_a_table_of_one_seed_and_errors_that_do_not_vary():
    reference = draw(5)
    told = reference._replace(errors=reference.errors[:, :1])
    errors = np.full((5, 1, 3, 2), 0.5)
    columns = {"errors": errors, "epoch_seconds": np.full((5, 1), 1.0)}
    plan = Plan(SPACE, "d", None, told.architectures, 1, {}, {}, {})
    found = parity.compare(plan, Built(np.full((5, 1), "ok"), columns, [], {}), told)
    assert found.between_seeds is None
    text = "\n".join(parity.sentences(found))
    assert "Spearman not to be told, as one of the two does not vary" in text
    assert "training seeds" not in text
    assert parity.to_json(found)["spearman"] == [None] * 3
    assert parity.to_json(found)["seed_deviation"] is None


def test_the_words():
    text = "\n".join(
        parity.sentences(compared([0.12, 0.22, 0.32, 0.42, 0.52], [0.1, 0.2, 0.3, 0.4, 0.5]))
    )
    assert "5 architectures, one from each of 5 equal parts of the table's rows" in text
    assert "Spearman 1.000 (1.000 to 1.000)" in text
    assert "bias, live minus table: +2.00 percentage points, 95 % interval +2.00 to +2.00" in text
    assert "deviation 0.00, that between the table's training seeds 1.41" in text
    assert "seconds an epoch here over those of the table: 3 in the median, 3 to 3" in text
    assert "failed" not in text


def test_failures_are_left_out_and_said(tmp_path):
    failure = Failure("3-3", 0, "timeout", "no answer", tmp_path)
    found = compared([0.1, float("nan"), 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], failures=[failure])
    assert found.ranks.pairs == 3
    assert found.bias[0] == pytest.approx(0, abs=1e-6)
    text = parity.sentences(found)
    assert text[0].startswith("3 architectures, one from each of 4 equal parts")
    assert text[-1] == "1 training failed"
    files = parity.write_parity(found, tmp_path / "out")
    assert [path.name for path in files] == ["parity.md", "parity.json", "parity.png"]
    assert "| 20.00 | – |" in files[0].read_text()
    told = json.loads(files[1].read_text())
    assert told["live_error"][1] is None
    assert told["bias"][1] is None  # too few for an interval
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_too_few_to_compare(tmp_path):
    failure = Failure("3-3", 0, "timeout", "no answer", tmp_path)
    with pytest.raises(BuildError, match=r"^2 of 4 architectures could be trained; the first"):
        compared([0.1, np.nan, np.nan, 0.4], failures=[failure])


def test_the_figure_shows_both(tmp_path):
    figure = parity.scatter(compared([0.12, 0.22, 0.32], [0.1, 0.2, 0.3]))
    (axes,) = figure.axes
    points, line = axes.lines
    assert np.allclose(points.get_xdata(), [10, 20, 30])
    assert np.allclose(points.get_ydata(), [12, 22, 32])
    assert np.allclose(line.get_xdata(), line.get_ydata())


# ----------------------------------------------------------------------- the command


def test_a_table_is_repeated_exactly_under_its_own_seeds(call, data, tmp_path):
    write_signals(data)
    made = compose.training(WORDS)
    plan = build.make_plan(made, build.choose(SPACE, "random:4"), 1)
    built = collect(plan, build.train_all(plan, tmp_path / "built"))
    texts = dict.fromkeys(("source", "licence", "citation", "notes"), "")
    put(to_table(plan, built, texts), SPACE, "tiny")
    status, out, err = call("parity", *WORDS, "table=tiny", "n=4", "first_seed=0")
    assert (status, "nas-arena:" in err) == (0, False)
    assert "bias, live minus table: +0.00 percentage points; standard deviation 0.00" in out
    assert (tmp_path / "results/parity/tiny-mnist1d/parity.png").is_file()
    told = json.loads((tmp_path / "results/parity/tiny-mnist1d/parity.json").read_text())
    assert told["live_error"] == told["table_error"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("n=2", "n is '2'; allowed: whole numbers from 3"),
        ("space=chain table=none", "table 'none' is neither in"),
        ("space=chain table=some", "dataset 'mnist1d' is not in table some.h5; it has d"),
        ("space=chain table=some rows_of=d", "schedule '4' is not in table some.h5; it has 2"),
        ("space=chain table=some rows_of=d schedule=2 n=31", "n is 31; table some.h5 allows 3 to"),
        ("dataset=arxiv", "dataset=arxiv cannot be loaded for training"),
    ],
)
def test_what_is_refused(call, words, why):
    status, out, err = call("parity", *words.split())
    assert (status, out) == (2, "")
    assert why in err


def test_help(call):
    status, out, _ = call("parity", "--help")
    assert status == 0
    assert "rows_of=DATASET" in out
