"""NAS-Bench-NLP: the reader of its training logs."""

import json
import zipfile
from itertools import accumulate

import numpy as np
import pytest
from conftest import CONF
from omegaconf import OmegaConf
from published import nb_nlp as published
from published.nb_nlp import RNN, SAME_TWO_STATES, TWO_STATES, UNFIT, log, name_of

from bench.data import make_table, problems
from bench.parts import read_recipe
from bench.table import TableError, read_table, write_table
from spaces.nb_nlp.space import NBNLP

SPACE = NBNLP()
LOSSES = {"train_loss": "train_losses", "valid_loss": "val_losses", "test_loss": "test_losses"}


def made(source):
    recipe, reader, _ = read_recipe("nb_nlp")
    return make_table(source, SPACE, recipe, reader)


def row_of(table, recipe):
    key = SPACE.key(SPACE.from_string(json.dumps(recipe)))
    return SPACE.keys(table.architectures).tolist().index(key)


def one(folder, *logs):
    """A folder with these logs alone."""
    folder = folder / "logs"
    folder.mkdir(exist_ok=True)
    for number, some in enumerate(logs):
        text = some if isinstance(some, str) else json.dumps(some)
        (folder / f"log_stats_model_{number}.json").write_text(text)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return made(published.write(tmp_path_factory.mktemp("nlp")))


def test_cells_and_groups(table):
    assert problems(table, SPACE, partial=True) == []
    assert set(table.schedules) == {("ptb", "50"), ("wikitext-2", "50")}
    assert len(table.architectures) == 3
    assert table.architectures.tolist() == sorted(table.architectures.tolist())
    recipe = OmegaConf.load(CONF / "data/nb_nlp.yaml")
    assert {dataset for dataset, _ in table.schedules} == set(recipe.datasets)
    for dataset in recipe.datasets:
        assert OmegaConf.load(CONF / f"dataset/{dataset}.yaml").name == dataset
    for (_, _), known in table.schedules.items():
        assert known.epochs.tolist() == list(range(1, 51))
    assert table.schedules["ptb", "50"].seeds.tolist() == [0, 1]
    assert table.schedules["wikitext-2", "50"].seeds.tolist() == [0]


def assert_holds(table, dataset, seed, source, recipe):
    known, row = table.schedules[dataset, "50"].columns, row_of(table, recipe)
    for column, name in LOSSES.items():
        np.testing.assert_array_equal(known[column][row, :, seed], np.float32(source[name]))
    seconds = np.float32(list(accumulate(source["wall_times"])))
    np.testing.assert_array_equal(known["elapsed_seconds"][row, :, seed], seconds)
    assert known["parameters"][row, seed] == source["num_params"]


def test_every_number_is_kept(table):
    rnn, second, first, _, wiki = published.LOGS
    assert_holds(table, "ptb", 0, rnn, RNN)
    assert_holds(table, "ptb", 0, first, TWO_STATES)  # experiment 20 comes before 300
    assert_holds(table, "ptb", 1, second, SAME_TWO_STATES)
    assert_holds(table, "wikitext-2", 0, wiki, RNN)


def test_what_was_not_trained_is_missing(table):
    known = table.schedules["ptb", "50"].columns
    for name in *LOSSES, "elapsed_seconds":
        assert np.isnan(known[name][row_of(table, RNN), :, 1]).all()
        assert np.isnan(table.schedules["wikitext-2", "50"].columns[name]).all((1, 2)).sum() == 2


def test_a_diverged_training_is_missing_from_there(table):
    known, row = table.schedules["ptb", "50"].columns, row_of(table, UNFIT)
    there = {
        name: (~np.isnan(known[name][row, :, 0])).sum() for name in known if name != "parameters"
    }
    assert there == {"train_loss": 7, "valid_loss": 6, "test_loss": 6, "elapsed_seconds": 7}


def test_a_table_survives_the_disk(table, tmp_path):
    write_table(table, SPACE, tmp_path / "nb_nlp.h5")
    again = read_table(tmp_path / "nb_nlp.h5")
    np.testing.assert_array_equal(again.architectures, table.architectures)
    for key, known in table.schedules.items():
        for name, values in known.columns.items():
            np.testing.assert_array_equal(again.schedules[key].columns[name], values)


def test_a_zip_file_alone_is_enough(tmp_path):
    root = published.write(tmp_path)
    assert len(made(root / "train_logs_single_run/logs.zip").architectures) == 2
    assert len(made(root / "train_logs_multi_runs").architectures) == 2


def test_the_order_of_files_does_not_matter(tmp_path):
    both = [log(TWO_STATES, 3, experiment=1), log(SAME_TWO_STATES, 4, experiment=2)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tables = [made(one(tmp_path / "a", *both)), made(one(tmp_path / "b", *reversed(both)))]
    for some in tables:
        assert_holds(some, "ptb", 0, both[0], TWO_STATES)
        assert_holds(some, "ptb", 1, both[1], TWO_STATES)
    np.testing.assert_array_equal(tables[0].architectures, tables[1].architectures)


def test_infinite_losses_are_missing(tmp_path):
    source = log(RNN, 1)
    source["val_losses"][3:5] = [float("inf"), 1e300]
    known = made(one(tmp_path, source)).schedules["ptb", "50"].columns
    assert np.flatnonzero(np.isnan(known["valid_loss"][0, :, 0])).tolist() == [3, 4]


def test_a_stopped_training_is_missing_from_there(tmp_path):
    some = [
        log(RNN, 1, epochs=9, status="Exception: math range error", experiment=1),
        log(RNN, 2, epochs=20, status="KeyboardInterrupt", experiment=2),
        log(RNN, 3, epochs=0, status="Exception: CUDA out of memory", experiment=3),
    ]
    known = made(one(tmp_path, *some)).schedules["ptb", "50"].columns
    assert (~np.isnan(known["valid_loss"])).sum(1).tolist() == [[9, 20, 0]]


def without(key):
    source = log(RNN, 1)
    del source[key]
    return source


def curve(name, at, value, **changes):
    source = log(RNN, 1, **changes)
    source[name][at] = value
    return source


NAN = float("nan")
BAD_LOGS = {
    "no JSON": ("{", "is not JSON"),
    "nested": ("[" * 100_000, "is not JSON"),
    "a list": ([1], "is not a JSON object"),
    "no recipe": (without("recepie"), "recepie is missing or not text"),
    "no losses": (without("val_losses"), "val_losses is missing or not a list"),
    "no experiment": (without("experiment_id"), "experiment_id is missing or not a number or"),
    "no parameters": (without("num_params"), "num_params is missing or not a whole number"),
    "parameters as truth": (log(RNN, 1, num_params=True), "num_params is missing or not a whole"),
    "no status": (without("status"), "status is missing or not text"),
    "other data": (log(RNN, 1, data="data/hywiki"), "data is 'data/hywiki'; allowed: ptb, wiki"),
    "other epochs": (log(RNN, 1) | {"epochs": 12}, "epochs is not 50"),
    "negative parameters": (log(RNN, 1, num_params=-5), "num_params is not above zero"),
    "foreign cell": (log(RNN | {"g": RNN["h_new_0"] | {"op": "gelu"}}, 1), "is no cell of nb_nlp"),
    "text as loss": (curve("val_losses", 3, "4.2"), "val_losses holds what is no number"),
    "truth as loss": (curve("val_losses", 3, True), "val_losses holds what is no number"),
    "huge": (curve("val_losses", 3, 10**400), "val_losses holds a number that is too large"),
    "below zero": (curve("test_losses", 3, -0.1), "has a loss below zero"),
    "no seconds": (curve("wall_times", 3, 0), "wall_times are not all above zero"),
    "seconds NaN": (curve("wall_times", 3, NAN), "wall_times are not all above zero"),
    "too short": (log(RNN, 1, epochs=49), "status 'OK' after 49 epochs with NaN at"),
    "too long": (log(RNN, 1, epochs=51), r"its curves have \[51\] epochs"),
    "uneven": (log(RNN, 1, wall_times=[30.0] * 49), r"its curves have \[49, 50\] epochs"),
    "NaN but OK": (curve("val_losses", 49, NAN), r"status 'OK' after 50 epochs with NaN at \[49\]"),
    "NaN and on": (
        curve("val_losses", 2, NAN, epochs=9, status="loss is nan!"),
        r"status 'loss is nan!' after 9 epochs with NaN at \[2, 8\]",
    ),
    "no NaN": (
        log(RNN, 1, epochs=9) | {"status": "loss is nan!"},
        r"status 'loss is nan!' after 9 epochs with NaN at \[\]",
    ),
    "other status": (log(RNN, 1, status="fine"), "status 'fine' after 50 epochs"),
    "perplexities": (
        log(RNN, 1, val_losses=[300.0 - epoch for epoch in range(50)]),
        "ptb has no validation loss below 251; allowed: logarithms of perplexities",
    ),
}


@pytest.mark.parametrize("what", BAD_LOGS)
def test_bad_logs_are_refused(tmp_path, what):
    bad, sentence = BAD_LOGS[what]
    with pytest.raises(TableError, match=sentence) as raised:
        made(one(tmp_path, bad))
    assert "\n" not in str(raised.value)


def test_logs_of_one_training_must_agree(tmp_path):
    two = log(RNN, 1), curve("val_losses", 3, 7.0)
    with pytest.raises(TableError, match=r"_1.json disagrees with another log of this training"):
        made(one(tmp_path, *two))


def test_nothing_to_read(tmp_path):
    (tmp_path / "log.json").write_text("{}")
    with pytest.raises(TableError, match=r"holds no files log_stats_model_\*.json; allowed: those"):
        made(tmp_path)


def test_nothing_but_trainings_that_failed(tmp_path):
    failed = log(RNN, 1, epochs=0, status="Exception: CUDA out of memory")
    with pytest.raises(TableError, match="train_loss holds no number"):
        made(one(tmp_path, failed))


def test_too_many_logs(tmp_path, monkeypatch):
    monkeypatch.setattr("spaces.nb_nlp.official.MOST", 2)
    with pytest.raises(TableError, match="holds more than 2 logs"):
        made(published.write(tmp_path))


def test_too_many_trainings_of_a_cell(tmp_path, monkeypatch):
    monkeypatch.setattr("spaces.nb_nlp.official.MOST_CURVES", 5)
    with pytest.raises(
        TableError, match="ptb has 2 trainings of one cell, and 3 cells; allowed: 1"
    ):
        made(published.write(tmp_path))


def test_logs_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("spaces.nb_nlp.official.LARGEST", 100)
    root = published.write(tmp_path)
    for source in root / "train_logs_single_run", one(tmp_path, log(RNN, 1)):
        with pytest.raises(TableError, match="is larger than 100 bytes"):
            made(source)


def test_damaged_zip_files(tmp_path):
    path = published.write(tmp_path) / "train_logs_single_run/logs.zip"
    whole = path.read_bytes()
    middle = len(whole) // 4
    for data in (b"", whole[:-30], whole[:middle] + b"\xff" * 40 + whole[middle + 40 :]):
        path.write_bytes(data)
        with pytest.raises(TableError, match=r"logs.zip cannot be read as zip"):
            made(path)


def test_names_in_a_zip_file_lead_nowhere(tmp_path):
    source = log(RNN, 1)
    path = tmp_path / "logs.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"../../{name_of(source)}", json.dumps(source))
    assert len(made(path).architectures) == 1
    assert sorted(tmp_path.rglob("*.json")) == []
