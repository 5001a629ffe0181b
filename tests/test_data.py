import gzip
import json
import shlex
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from contracts import Toy
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import catalogue
from bench.compose import ConfigError, plan
from bench.data import Extra, digest_of, make_table, merge, problems, summary
from bench.recipe import RULE
from bench.table import PROVENANCE, Schedule, Table, TableError, read_table, sha256, write_table

SPACE = Toy()
TEXTS = [SPACE.to_string(arch) for arch in SPACE]
ACCURACY = np.round(np.linspace(10, 90, 24), 2)
RECIPE = {
    "architecture": "arch",
    "values": "accuracy_percent",
    "licence": "MIT",
    "columns": [
        {"column": "early", "dataset": "digits", "schedule": 3, "split": "valid", "epoch": 1,
         "seed": 7},
        {"column": "final", "dataset": "digits", "schedule": 3, "split": "valid", "epoch": 3,
         "seed": [7, 8], "separator": ";"},
        {"column": "hours", "dataset": "digits", "schedule": [3, 9], "metric": "train_seconds",
         "scale": 3600},
    ],
}  # fmt: skip


def frame(**changes):
    finals = [f"{a};{a + 1}" if row % 2 else f"{a}" for row, a in enumerate(ACCURACY)]
    columns = {"arch": TEXTS, "early": ACCURACY / 2, "final": finals, "hours": np.arange(1.0, 25)}
    return pd.DataFrame(columns | changes)


def rules(index, **changes):
    """The recipe with one rule changed; a value of None removes the key."""
    columns = [dict(rule) for rule in RECIPE["columns"]]
    columns[index] |= changes
    columns[index] = {key: value for key, value in columns[index].items() if value is not None}
    return RECIPE | {"columns": columns}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "published.csv"
    frame().to_csv(path, index=False)
    return path


def is_key(value):
    """Whether yaml can have it as a key."""
    return value is None or isinstance(value, bool | int | float | str)


def made(source, recipe=RECIPE):
    return make_table(source, SPACE, recipe)


# ------------------------------------------------------------------------------ what is read


def write_csv(frame, folder):
    frame.to_csv(folder / "data.csv", index=False)
    return folder / "data.csv"


def write_gz(frame, folder):
    frame.to_csv(folder / "data.v2.csv.gz", index=False)
    return folder / "data.v2.csv.gz"


def write_parquet(frame, folder):
    frame.to_parquet(folder / "data.parquet")
    return folder / "data.parquet"


def write_json(frame, folder):
    frame.to_json(folder / "data.json")
    return folder / "data.json"


@pytest.mark.parametrize("write", [write_csv, write_gz, write_parquet, write_json])
def test_every_format_gives_the_same_table(write, tmp_path):
    table = made(path := write(frame(), tmp_path))
    known = table.schedules["digits", "3"]
    assert table.architectures.tolist() == [list(arch) for arch in SPACE]
    assert (known.epochs.tolist(), known.seeds.tolist()) == ([1, 3], [7, 8])
    errors = known.columns["valid_error"]
    one, two = ACCURACY, np.where(np.arange(24) % 2, ACCURACY + 1, np.nan)
    nothing = np.full(24, np.nan)
    expected = 1 - np.stack([ACCURACY / 2, nothing, one, two], axis=1).reshape(24, 2, 2) / 100
    np.testing.assert_array_equal(errors, expected.astype(np.float32))
    for schedule in "3", "9":
        seconds = table.schedules["digits", schedule].columns["train_seconds"]
        np.testing.assert_array_equal(seconds, 3600 * np.arange(1, 25, dtype=np.float32))
    assert table.provenance == dict.fromkeys(PROVENANCE, "") | {
        "space": "toy",
        "licence": "MIT",
        "source_sha256": sha256(path),
    }
    assert summary(table) == "24 architectures: digits (3, 9 epochs)"


@pytest.mark.parametrize("write", [write_parquet, write_json])
def test_cells_may_be_lists(write, tmp_path):
    lists = [[a, a + 1] if row % 2 else [a] for row, a in enumerate(ACCURACY)]
    table = made(write(frame(final=lists), tmp_path), rules(1, separator=None))
    text = made(write_csv(frame(), tmp_path))
    for one, other in zip(table.schedules.values(), text.schedules.values(), strict=True):
        for name, values in one.columns.items():
            np.testing.assert_array_equal(values, other.columns[name])


def test_a_cell_may_hold_a_learning_curve(tmp_path):
    curves = [f"{a} {a + 2}" for a in ACCURACY]
    curve = {"column": "final", "epoch": [1, 3], "seed": 7, "separator": " "}
    recipe = RECIPE | {"columns": [RECIPE["columns"][1] | curve, RECIPE["columns"][2]]}
    errors = made(write_csv(frame(final=curves), tmp_path), recipe).schedules["digits", "3"]
    expected = 1 - np.stack([ACCURACY, ACCURACY + 2], axis=1) / 100
    np.testing.assert_array_equal(
        errors.columns["valid_error"][..., 0], expected.astype(np.float32)
    )


@pytest.mark.parametrize(
    ("values", "convert"),
    [
        ("accuracy_percent", lambda a: a),
        ("accuracy", lambda a: a / 100),
        ("error_percent", lambda a: 100 - a),
        ("error", lambda a: 1 - a / 100),
    ],
)
def test_what_values_mean(values, convert, tmp_path):
    table = made(
        write_csv(frame(early=convert(ACCURACY), final=convert(ACCURACY)), tmp_path),
        rules(1, separator=None) | {"values": values},
    )
    np.testing.assert_allclose(
        table.schedules["digits", "3"].columns["valid_error"][:, 0, 0],
        1 - ACCURACY / 100,
        rtol=1e-6,
    )


def test_written_and_read_again(source, tmp_path):
    write_table(table := made(source), SPACE, tmp_path / "toy.h5")
    assert problems(read_table(tmp_path / "toy.h5"), SPACE) == []
    assert read_table(tmp_path / "toy.h5").provenance == table.provenance


# ------------------------------------------------------------------------------- complaints


def test_absent_source(tmp_path):
    with pytest.raises(TableError, match=r"^there is no file"):
        made(tmp_path / "nothing.csv")


def test_another_version_of_the_source(source):
    with pytest.raises(TableError, match=r"is damaged or another version: its SHA-256 is \w{12}…"):
        made(source, RECIPE | {"source_sha256": "0" * 64})
    made(source, RECIPE | {"source_sha256": sha256(source)})


def damaged_gz(folder):
    path = write_gz(frame(), folder)
    path.write_bytes(path.read_bytes()[:-40])
    return path


def scrambled_gz(folder):
    data = bytearray(gzip.compress(frame().to_csv(index=False).encode()))
    data[30:60] = bytes(30)
    (folder / "data.csv.gz").write_bytes(data)
    return folder / "data.csv.gz"


def no_gz(folder):
    (folder / "data.csv.gz").write_text("plain")
    return folder / "data.csv.gz"


def damaged_zip(folder):
    with zipfile.ZipFile(folder / "data.csv.zip", "w") as file:
        file.writestr("data.csv", frame().to_csv(index=False))
    data = (folder / "data.csv.zip").read_bytes()
    (folder / "data.csv.zip").write_bytes(data[:-50])
    return folder / "data.csv.zip"


def damaged_xz(folder):
    frame().to_csv(folder / "data.csv.xz", index=False)
    data = bytearray((folder / "data.csv.xz").read_bytes())
    data[40:60] = bytes(20)
    (folder / "data.csv.xz").write_bytes(data)
    return folder / "data.csv.xz"


def binary_csv(folder):
    (folder / "data.csv").write_bytes(bytes(range(128, 256)))
    return folder / "data.csv"


def empty_csv(folder):
    (folder / "data.csv").write_bytes(b"")
    return folder / "data.csv"


def damaged_parquet(folder):
    path = write_parquet(frame(), folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def damaged_json(folder):
    path = write_json(frame(), folder)
    path.write_text(path.read_text()[:-10])
    return path


@pytest.mark.parametrize(
    "damage",
    [
        *(damaged_gz, scrambled_gz, no_gz, damaged_zip, damaged_xz),
        *(binary_csv, empty_csv, damaged_parquet, damaged_json),
    ],
    ids=lambda f: f.__name__,
)
def test_a_damaged_file(damage, tmp_path):
    with pytest.raises(TableError, match=r"cannot be read as (csv|parquet|json): "):
        made(damage(tmp_path))


def test_an_unknown_kind_of_file(tmp_path):
    (tmp_path / "data.xlsx").write_text("")
    with pytest.raises(TableError, match=r"^data.xlsx is none of .csv, .parquet, .json"):
        made(tmp_path / "data.xlsx")


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (rules(0, colour="red"), "rule .*: colour is unknown or missing"),
        (rules(0, dataset=None), "rule .*: dataset is unknown or missing"),
        (rules(0, epoch=None), "rule .*: epoch is unknown or missing"),
        (rules(2, metric=None), "rule .*: .*metric.* is unknown or missing"),
        (RECIPE | {"values": "points"}, "^values is 'points'; allowed: accuracy_percent, acc"),
        (rules(0, column="gone"), "^published.csv has no column gone$"),
        (RECIPE | {"architecture": "a"}, "^published.csv has no column a$"),
        ({"columns": [{}]}, "^a recipe needs the keys architecture, values and columns$"),
        (rules(1, separator=None), r"column final, row 1 \(from 0\): '.*' is not 2 number"),
        (rules(1, seed=7), r"column final, row 1 \(from 0\): '.*' is not 1 number"),
        (rules(1, epoch=[1, 3], seed=[7, 8]), "rule .*: of epoch and seed only one"),
        (rules(0, split="validation"), "split is 'validation'; allowed: train, valid, test$"),
        (rules(0, split=["valid"]), r"split is \['valid'\]; allowed: train, valid, test$"),
        (rules(0, epoch="20o"), "epoch is '20o'; allowed: a whole number from 0"),
        (rules(0, epoch=True), "epoch is True; allowed: a whole number"),
        (rules(0, epoch=2**31), "epoch is 2147483648; allowed: a whole number"),
        (rules(0, seed="x"), "seed is 'x'; allowed: a whole number from 0"),
        (rules(1, seed=[7, 7]), r"seed is \[7, 7\]; allowed: .* a list of different ones"),
        (rules(1, seed=[]), r"seed is \[\]; allowed: a whole number"),
        (rules(1, separator=""), "separator is ''; allowed: text, such as ';'"),
        (rules(0, column=7), "column is 7; allowed: the name of a column, as text"),
        (rules(0, dataset="a/b"), "dataset is 'a/b'; allowed: a name of letters"),
        (rules(0, dataset="architectures"), "dataset is 'architectures'; allowed: .* but not"),
        (rules(0, scale=2), "rule .*: scale is unknown or missing; allowed here: column, dataset"),
        (rules(2, scale="abc"), "scale is 'abc'; allowed: a number above zero"),
        (rules(2, scale=16**9999), "scale is a value too long to show; allowed: a number above"),
        (
            rules(2, **{"dataset": None}) | {"columns": [{1: 2}]},
            r"rule \{1: 2\}: 1 is unknown",
        ),
        (RECIPE | {"columns": "final"}, "^columns is 'final'; allowed: a list of rules"),
        (RECIPE | {"columns": ["final"]}, r"^columns is \['final'\]; allowed: a list of rules"),
        (RECIPE | {"columns": []}, r"^columns is \[\]; allowed: a list of rules"),
        (RECIPE | {"values": ["error"]}, r"^values is \['error'\]; allowed: accuracy_percent, acc"),
        (RECIPE | {"space": ["toy"]}, r"^space is \['toy'\]; allowed: text"),
        (RECIPE | {"licence": {"a": 1}}, "^licence is {'a': 1}; allowed: text"),
        (RECIPE | {"notes": "x" * 70_000}, "^notes is 'xxx.*…; allowed: text of less than 60,000"),
        (RECIPE | {"citation": "\ud800"}, "^citation is .*; allowed: text"),
        (RECIPE | {"source_sha256": 12}, "^source_sha256 is 12; allowed: 64 hex digits"),
        (RECIPE | {"columms": []}, "^unknown key 'columms'; allowed: space, source, .*, extra$"),
    ],
)
def test_a_recipe_that_does_not_fit(source, recipe, sentence):
    with pytest.raises(TableError, match=sentence):
        made(source, recipe)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arch": ["9-9-9", *TEXTS[1:]]}, r"1 architecture is not in toy, first \(9, 9, 9\)"),
        ({"arch": ["a cell", *TEXTS[1:]]}, "^data.csv: .*a cell"),
        ({"arch": [TEXTS[1], *TEXTS[1:]]}, r"architecture \(0, 0, 1\) stands in 2 rows"),
        ({"early": ["poor", *ACCURACY[1:]]}, r"column early, row 0 \(from 0\): 'poor' is not 1 n"),
        ({"early": ACCURACY * 2.5}, r"valid_error leaves 0 … 1: from -1.25 to"),
        ({"early": np.where(ACCURACY > 50, np.inf, ACCURACY)}, "valid_error holds an infinite"),
        ({"early": [np.nan, *ACCURACY[1:]]}, "has an architecture without any training seed"),
        ({"hours": [0.0, *range(1, 24)]}, "train_seconds is not above zero everywhere"),
        ({"hours": [np.nan, *range(1, 24)]}, "train_seconds is not above zero everywhere"),
    ],
)
def test_contents_that_cannot_be(tmp_path, changes, sentence):
    with pytest.raises(TableError, match=sentence):
        made(write_csv(frame(**changes), tmp_path))


def test_missing_architectures(tmp_path):
    with pytest.raises(TableError, match="it has 23 of the 24 architectures; --partial takes"):
        made(write_csv(frame().drop(5), tmp_path))


def test_missing_seconds(source):
    recipe = RECIPE | {"columns": RECIPE["columns"][:2]}
    table = made(source, recipe)
    assert problems(table, SPACE) == []
    assert list(table.schedules["digits", "3"].columns) == ["valid_error"]


def test_digits_of_an_architecture_stay_as_they_are(tmp_path):
    class Digits(Toy):
        name = "digits"

        def to_string(self, arch):
            return "".join(map(str, arch))

        def from_string(self, text):
            if len(text) != 3:
                raise ValueError(f"{text!r} is no architecture of three digits")
            return tuple(map(int, text))

    columns = frame(arch=[text.replace("-", "") for text in TEXTS])
    for source in write_csv(columns, tmp_path), tmp_path / "digits.json":
        if source.suffix == ".json":
            columns.to_json(source, orient="records")
        table = make_table(source, Digits(), RECIPE)
        assert table.architectures.tolist() == list(map(list, SPACE))


def test_a_part_of_a_space(tmp_path):
    source = write_csv(frame().drop(5), tmp_path)
    assert len(make_table(source, SPACE, RECIPE, partial=True).architectures) == 23
    assert len(make_table(source, SPACE, RECIPE | {"sample": True}).architectures) == 23


def with_columns(table, schedule="3", **columns):
    known = table.schedules["digits", schedule]
    schedules = table.schedules | {
        ("digits", schedule): replace(known, columns=known.columns | columns)
    }
    return replace(table, schedules=schedules)


def test_what_was_not_trained_needs_no_seconds(source):
    table = made(source)
    known = table.schedules["digits", "3"].columns
    error, seconds = known["valid_error"].copy(), known["train_seconds"].copy()
    error[4], seconds[4] = np.nan, np.nan
    table = with_columns(table, valid_error=error, train_seconds=seconds)
    assert problems(table, SPACE, partial=True) == []
    (found,) = problems(table, SPACE)
    assert "valid_error has an architecture without any training seed" in found
    seconds[5] = np.nan
    (found,) = problems(with_columns(table, train_seconds=seconds), SPACE, partial=True)
    assert "train_seconds is not above zero everywhere" in found


def test_an_epoch_that_nothing_records_is_no_gap(source):
    table = made(source)
    curve = np.full((24, 2, 2), 0.5, np.float32)
    curve[:, 0] = np.nan
    assert problems(with_columns(table, test_error=curve), SPACE) == []
    (found,) = problems(with_columns(table, test_error=np.full_like(curve, np.nan)), SPACE)
    assert "test_error holds no number" in found


def test_losses_have_no_bound_but_a_shape(source):
    table = made(source)
    assert problems(with_columns(table, valid_loss=np.full((24, 2, 2), 9.5)), SPACE) == []
    (found,) = problems(with_columns(table, valid_loss=np.full((24, 1, 2), 9.5)), SPACE)
    assert "valid_loss has shape (1, 2) an architecture, not (2, 2)" in found
    (found,) = problems(with_columns(table, elapsed_seconds=np.ones((24, 2))), SPACE)
    assert "elapsed_seconds has shape (2,) an architecture, not (2, 2)" in found


def test_epochs_ascend(source):
    table = made(source)
    table.schedules["digits", "3"].epochs = np.array([3, 1], np.int32)
    (found,) = problems(table, SPACE)
    assert "its epochs [3, 1] do not ascend" in found


LATENCY = Extra(
    np.array(list(SPACE)[:20], np.int8),
    {"digits": {"latency_phone": np.arange(20, dtype=np.float32)}, "letters": {}},
)


def test_further_columns_are_merged_by_architecture(source):
    table = made(source)
    merged = merge(table, LATENCY, SPACE)
    genes = [tuple(arch) for arch in merged.architectures.tolist()]
    for schedule in "3", "9":
        column = dict(
            zip(genes, merged.schedules["digits", schedule].columns["latency_phone"], strict=True)
        )
        assert [column[arch] for arch in list(SPACE)[:20]] == list(range(20))
        assert all(np.isnan(column[arch]) for arch in list(SPACE)[20:])
    assert "latency_phone" not in table.schedules["digits", "3"].columns


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (replace(LATENCY, columns={"letters": {}}), "the file knows letters; the table has digits"),
        (replace(LATENCY, columns={}), "the file knows no data set; the table has digits"),
        (
            replace(LATENCY, architectures=np.empty((0, 3), np.int8)),
            "the file knows none of the architectures of the table",
        ),
    ],
)
def test_columns_that_belong_elsewhere(source, extra, sentence):
    with pytest.raises(TableError, match=sentence):
        merge(made(source), extra, SPACE)


def test_the_digest_of_a_folder(tmp_path):
    (tmp_path / "one").write_text("1")
    first = digest_of(tmp_path)
    assert digest_of(tmp_path) == first
    (tmp_path / "one").rename(tmp_path / "two")
    renamed = digest_of(tmp_path)
    (tmp_path / "two").write_text("2")
    assert len({first, renamed, digest_of(tmp_path)}) == 3


def test_shapes_are_checked(source):
    table = made(source)
    known = table.schedules["digits", "3"]
    columns = {**known.columns, "valid_error": known.columns["valid_error"][:5, :1]}
    table.schedules["digits", "3"] = replace(known, columns=columns)
    assert problems(table, SPACE) == ["digits, schedule 3: valid_error has 5 rows of 24"]
    columns["valid_error"] = np.ones((24, 1, 2), np.float32)
    (found,) = problems(table, SPACE)
    assert found.endswith("valid_error has shape (1, 2) an architecture, not (2, 2)")


def visible(name):
    return rules(0, split=None, epoch=None, seed=None, metric=name)


@pytest.mark.parametrize("name", ["test_accuracy", "Test_Acc", "top1", "f1", "acc_parameters", 3])
def test_a_visible_metric_may_not_be_a_score(source, name):
    """Whatever is neither an error nor seconds is told to strategies."""
    with pytest.raises(TableError, match=f"metric is '?{name}'?; allowed: train_seconds, .* flops"):
        made(source, visible(name))


@pytest.mark.parametrize("name", ["parameters", "flops", "latency_gpu", "energy", "memory_peak"])
def test_what_is_known_without_a_data_set_is_visible(source, name):
    recipe = rules(0)
    recipe["columns"].append(
        {"column": "hours", "dataset": "digits", "schedule": 3, "metric": name}
    )
    assert name in made(source, recipe).schedules["digits", "3"].columns


def test_a_recipe_is_looked_at_before_the_file(tmp_path):
    with pytest.raises(TableError, match=r"^values is 'points'"):
        made(tmp_path / "nothing.csv", RECIPE | {"values": "points"})


def test_a_cell_of_text_hints_at_the_separator(source):
    with pytest.raises(TableError, match=r"is not 2 number\(s\) or fewer; it has no separator$"):
        made(source, rules(1, separator=None))
    with pytest.raises(TableError, match=r"is not 2 number\(s\) or fewer; its separator is ','$"):
        made(source, rules(1, separator=","))


def test_a_number_too_large_for_any_table(tmp_path):
    lists = [[10**400], *([a] for a in ACCURACY[1:])]
    path = write_csv(frame(final=[str(cell) for cell in lists]), tmp_path)
    with pytest.raises(TableError, match=r"row 0 \(from 0\)"):
        made(path)


ODD = st.sampled_from(["", "a/b", "..", "\0", "\ud800", "200", "20o", "final", "arch", "valid",
                       "train_seconds", "latency", 2**31, 10**400, -1, 0, 1e308, [7, 7],
                       [[7]], {1: 2}, [{}], [{1: 2}]])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ODD
YAML = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = ("space", "source", "source_sha256", "licence", "notes", "published", "architecture",
        "values", "columns", "columms")  # fmt: skip


@given(top=st.dictionaries(st.sampled_from(KEYS), YAML, max_size=1), index=st.integers(0, 2),
       rule=st.dictionaries(st.sampled_from(sorted(RULE)) | YAML.filter(is_key), YAML, max_size=2),
       gone=st.sets(st.sampled_from(sorted(RULE)), max_size=2))  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_no_recipe_is_a_traceback(tmp_path_factory, top, index, rule, gone):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    if not (path := folder / "data.csv").exists():
        write_csv(frame(), folder)
    recipe = rules(0)
    recipe["columns"][index] |= rule
    for key in gone:
        recipe["columns"][index].pop(key, None)
    sentence = "made"
    try:
        table = made(path, recipe | top)
    except TableError as error:
        sentence = str(error)
    else:
        write_table(table, SPACE, folder / "toy.h5")
        assert problems(read_table(folder / "toy.h5"), SPACE) == []
    assert len(sentence.splitlines()) == 1


def test_json_records_are_read_too(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(frame().to_dict(orient="records")))
    assert len(made(path).architectures) == 24


# ------------------------------------------------------------------------------- catalogue


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder to work in, with the data folder `data` and the toy among the spaces."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    shipped = catalogue.spaces()
    monkeypatch.setattr(catalogue, "spaces", lambda: shipped | {"toy": SPACE})
    return tmp_path


def write_recipe(path, recipe=RECIPE):
    path.write_text(json.dumps({"space": "toy"} | recipe))  # json is yaml
    return str(path)


def test_an_import_says_how_to_run(home, source):
    name = write_recipe(home / "mine.yaml")
    made, how = catalogue.make(name, source).splitlines()
    assert made.startswith(f"{home / 'data/mine.h5'}: 24 architectures: digits (3, 9 epochs)")
    assert "replaces" not in made
    assert how == (
        "run it with: nas-arena run space=toy objective.table=mine dataset=digits "
        '"protocol.schedule=\'3\'" "protocol.report_schedule=\'3\'" "protocol.fidelities=[3]"'
    )
    assert (
        catalogue.make(name, source)
        .splitlines()[0]
        .endswith("; it replaces the table of that name")
    )


@pytest.mark.parametrize("schedule", [200, 12])
def test_the_words_to_run_are_words_of_ours(schedule):
    """The usual schedule needs no word of the protocol; every word is one the run takes."""
    known = Schedule(np.array([1, schedule]), np.array([0]), {"valid_error": np.zeros((1, 2, 1))})
    seconds = replace(known, columns={})
    schedules = {("cifar100", "9"): seconds, ("cifar100", str(schedule)): known}
    table = Table({"space": "nb201"}, np.zeros((1, 6), np.int8), schedules)
    words = shlex.split(" ".join(catalogue._words_to_run("nb201", table)))
    usual = ["dataset=cifar100"]
    assert words[:1] == usual
    if schedule == 200:
        assert words == usual
        assert len(plan(words).cells) == 1
    else:  # the table that ships has no such schedule: nothing else may be wrong
        with pytest.raises(ConfigError, match=r"^[^;]*schedule '12' is not in [^;]*; it has 200$"):
            plan(words)


def test_a_table_that_cannot_be_searched_has_no_words():
    assert catalogue._words_to_run("mine", Table({"space": "nb201"}, np.zeros((1, 6)), {})) is None


@pytest.mark.parametrize("name", ["nb201", "nb201_joined"])
def test_a_name_of_ours_is_refused(home, source, name):
    recipe = write_recipe(home / f"{name}.yaml")
    with pytest.raises(TableError, match=f"a table of ours, {name}; choose another file name$"):
        catalogue.make(recipe, source)
    assert not (home / "data").exists()


@pytest.mark.parametrize("space", [["toy"], "mars", None, {"a": 1}])
def test_an_unknown_space(home, source, space):
    recipe = write_recipe(home / "mine.yaml", {"space": space})
    with pytest.raises(TableError, match=r"^space is .*; allowed: chain, .* nb201, .*, toy$"):
        catalogue.make(recipe, source)


def test_a_data_folder_that_cannot_be_written(home, source):
    (home / "data").write_text("a file where the folder should be")
    with pytest.raises(TableError, match=r"data/mine.h5 cannot be written: .*exists"):
        catalogue.make(write_recipe(home / "mine.yaml"), source)
