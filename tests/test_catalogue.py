"""What is listed: every recipe and every table that is here, quickly and whatever the files are."""

import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from contracts import Toy
from published import hw_nas_bench

from bench import catalogue, cli, listing
from bench.parts import options, read_recipe
from bench.recipe import check_recipe
from bench.table import (
    PROVENANCE,
    Schedule,
    Table,
    TableError,
    digest_file,
    read_table,
    shipped_folder,
    write_table,
)
from spaces.nb201.space import NB201

ROOT = Path(__file__).parent.parent
RECIPES = catalogue.recipes()
SPACE = Toy()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data folder, `data`, with the toy among the spaces."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    there = catalogue.spaces() | {"toy": SPACE}
    monkeypatch.setattr(catalogue, "spaces", lambda: there)
    (tmp_path / "data").mkdir()
    return tmp_path


def write_toy(home, name="toy", rows=24, datasets=("digits",)):
    """A table of the first architectures of the toy."""
    genes = np.array(list(SPACE)[:rows], np.int8)
    columns = {
        "valid_error": np.full((rows, 2, 1), 0.5, np.float32),
        "train_seconds": np.ones(rows, np.float32),
    }
    schedule = Schedule(np.array([1, 3], np.int32), np.array([7], np.int32), columns)
    provenance = dict.fromkeys(PROVENANCE, "") | {"space": "toy", "licence": "MIT"}
    table = Table(provenance, genes, {(dataset, "3"): schedule for dataset in datasets})
    path = home / f"data/{name}.h5"
    write_table(table, SPACE, path)
    return path


def line_of(name):
    (line,) = [line for line in listing.overview().splitlines() if line.split()[:1] == [name]]
    return line


# --------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_tells_what_a_listing_needs(name):
    recipe = RECIPES[name]
    check_recipe(recipe, needs_rules=not {"reader", "extra"} & recipe.keys())
    assert read_recipe(name)[0] == {k: v for k, v in recipe.items() if k not in ("reader", "extra")}
    for key in "source", "published", "citation", "notes":
        assert recipe[key]
    assert recipe["space"] in catalogue.spaces()
    assert set(recipe["datasets"]) <= set(options("dataset"))
    assert 10 < len(options("data")[name]) <= 110
    assert {"file", "architecture"} & recipe.keys()
    if not {"sample", "extra"} & recipe.keys():
        assert recipe["rows"] <= catalogue.spaces()[recipe["space"]].networks
    if "extra" not in recipe:
        assert recipe["splits"]
        assert recipe["schedules"]


# -------------------------------------------------------------------------------- overview


def test_all_is_listed(home):
    text = listing.overview()
    lines = text.splitlines()
    assert lines[0].split() == ["name", "space", "data", "sets", "rows", "MB", "here"]
    there = sorted([*RECIPES, "chain", "recurrent"])  # the last two are our own, without a recipe
    assert [line.split()[0] for line in lines[1 : 1 + len(there)]] == there
    assert max(map(len, lines)) <= 100
    assert re.fullmatch(r"nb201 +nb201 +.* +15,625 +\d\.\d +whole", line_of("nb201"))
    assert re.fullmatch(r"nb101 +nb101 +cifar10 +423,624 +1950 +no", line_of("nb101"))


def test_a_listing_reads_no_column_and_no_digest(home, monkeypatch):
    write_toy(home)

    def read(*_):
        raise AssertionError("a listing needs no such thing")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    monkeypatch.setattr("bench.table.sha256", read)
    assert line_of("toy").endswith("whole")


def test_how_much_is_here(home):
    write_toy(home, "part", rows=5)
    assert re.search(r"toy +digits +5 +0.0 +partial$", line_of("part"))
    assert line_of("hw_nas_bench").endswith(" no")
    (home / "data/downloads").mkdir()
    source = hw_nas_bench.write(home / "data/downloads")
    assert line_of("hw_nas_bench").endswith(" its file")
    catalogue.make("hw_nas_bench", source, into="nb201")
    assert line_of("hw_nas_bench").endswith(" in nb201")
    assert line_of("nb201").endswith(" whole")


@pytest.mark.parametrize("hole", [(0, 0), (23, 1), (slice(2, 5), slice(None))])
def test_a_listing_and_a_check_agree_on_holes(home, monkeypatch, hole):
    """All rows are there, but some lack errors that others have."""
    path = write_toy(home)
    table = read_table(path)
    table.schedules["digits", "3"].columns["valid_error"][hole] = np.nan
    write_table(table, SPACE, path)
    ((line, good),) = catalogue.verify(["toy"])
    assert good
    assert line.startswith("toy: good, but partial (digits, schedule 3: valid_error has an archit")
    assert listing.details("toy").splitlines()[1] == "  here          partial"
    monkeypatch.setattr(h5py.Dataset, "__getitem__", None)  # a listing reads no column
    assert line_of("toy").endswith("partial")


def test_what_nobody_recorded_is_no_hole(home):
    """An epoch at which no architecture was measured, or one of several seeds that is missing."""
    path = write_toy(home)
    table = read_table(path)
    known = table.schedules["digits", "3"]
    known.columns["valid_error"] = np.full((24, 2, 2), 0.5, np.float32)
    known.columns["valid_error"][:, 0] = np.nan
    known.columns["valid_error"][3, 1, 0] = np.nan
    known.seeds = np.array([7, 8], np.int32)
    write_table(table, SPACE, path)
    ((line, _),) = catalogue.verify(["toy"])
    assert "toy: good, 24 architectures" in line
    assert line_of("toy").endswith("whole")


def test_a_table_without_holes_does_not_mention_them(home):
    """Its bytes are those of an earlier version; one that did not tell its holes still reads."""
    path = write_toy(home)
    with h5py.File(path) as file:
        assert "coverage" not in file.attrs
    table = read_table(path)
    table.schedules["digits", "3"].columns["valid_error"][0] = np.nan
    write_table(table, SPACE, path)
    with h5py.File(path, "r+") as file:
        del file.attrs["coverage"]
    assert listing.peek(path).rows == 24


def test_many_data_sets_are_counted(home):
    write_toy(home, datasets=[f"digits{n}" for n in range(9)])
    assert " digits0, digits1, digits2, +6 " in line_of("toy")
    write_toy(home, datasets=["x" * 40, "y" * 40])
    assert " 2 data sets " in line_of("toy")


def test_a_damaged_table_does_not_hide_the_others(home):
    path = write_toy(home, "first")
    write_toy(home, "second")
    path.write_bytes(path.read_bytes()[:-50])
    (home / "data/gone.h5").symlink_to("nowhere")
    text = listing.overview()
    assert f"{path} is damaged or was changed: it is no table any more" in text
    assert "gone.h5 has no digest in gone.h5.sha256 beside it" in text
    assert line_of("first").endswith("damaged")
    assert line_of("gone").endswith("damaged")
    assert line_of("second").endswith("whole")


def other_format(file):
    file.attrs["format"] = np.bytes_("nas-arena table 1")


def long_text(file):
    file.attrs.create("format", "nas-arena table 2", dtype=h5py.string_dtype())


def no_notes(file):
    del file.attrs["notes"]


def elsewhere(file):
    del file["architectures"]
    file["architectures"] = h5py.ExternalLink("other.h5", "/architectures")


def flat(file):
    del file["architectures"]
    file["architectures"] = np.zeros(24, np.int8)


def a_number(file):
    file.attrs["space"] = 7


@pytest.mark.parametrize("change", [long_text, no_notes, elsewhere, flat, a_number])
def test_a_file_that_is_no_table_of_ours(home, change):
    path = write_toy(home)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(TableError, match=r"toy.h5 is damaged or was changed"):
        listing.peek(path)


def test_a_table_of_an_older_version(home):
    path = write_toy(home)
    with h5py.File(path, "r+") as file:
        other_format(file)
    with pytest.raises(TableError, match=r"toy.h5 is not a table of this version"):
        listing.peek(path)


def test_links_out_of_the_file_are_not_followed(home):
    path = write_toy(home)
    with h5py.File(path, "r+") as file:
        file["outside"] = h5py.ExternalLink("/dev/zero", "/")
        file["again"] = h5py.SoftLink("/")
        file["digits/up"] = file["/"]  # a circle of hard links
    assert listing.peek(path).schedules == {"digits": ["3", "up"]}


def test_no_hdf5(home):
    path = home / "data/text.h5"
    path.write_text("text")
    digest_file(path).write_text("0")
    with pytest.raises(TableError, match=r"text.h5 is damaged or was changed"):
        listing.peek(path)


# --------------------------------------------------------------------------------- details


@pytest.mark.parametrize("name", RECIPES)
def test_details_of_every_recipe(home, name):
    text = listing.details(name)
    flat = " ".join(text.split())
    recipe = RECIPES[name]
    assert text.startswith(f"{name}: {options('data')[name]}\n")
    for key in "published", "citation":
        assert " ".join(recipe[key].split()) in flat
    assert f"licence {' '.join(recipe.get('licence', 'not stated').split())}" in flat
    assert recipe.get("source_sha256", "") in flat
    assert f"nas-arena data import {name}" in flat
    assert ("--into TABLE" in flat) == ("extra" in recipe)
    assert (f"get it nas-arena data get {name}" in flat) == ("url" in recipe)


def test_details_of_a_table_that_is_here(home):
    path = write_toy(home)
    digest = digest_file(path).read_text().split()[0]
    lines = listing.details("toy").splitlines()
    assert lines[:2] == ["toy: a table of your own", "  here          whole"]
    assert f" table {path} (0.0 MB) SHA-256 {digest} " in " ".join(" ".join(lines).split())
    assert lines[-4:] == [
        "  space         toy",
        "  rows          24",
        "  holds         digits, schedule 3: epochs 1, 3; seeds 7; train_seconds, valid_error",
        "  licence       MIT",
    ]
    assert listing._some(list(range(200))) == "0 … 199 (200 of them)"


def test_details_check_the_digest(home):
    path = write_toy(home)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(TableError, match="is damaged or was changed: its SHA-256 is"):
        listing.details("toy")
    with pytest.raises(TableError, match=r"^no table 'none'; known: .*nb201.* toy"):
        listing.details("none")


def test_the_command_line(home, capsys):
    for words, expected in {
        ("list",): "name  ",
        ("list", "nb201"): "nb201: NAS-Bench-201",
        ("spaces",): "| space | what it is |",
    }.items():
        with pytest.raises(SystemExit) as raised:
            cli.main(["data", *words])
        out, err = capsys.readouterr()
        assert (raised.value.code, err) == (0, "")
        assert out.startswith(expected)
    with pytest.raises(SystemExit) as raised:
        cli.main(["data", "list", "none"])
    assert raised.value.code == 2


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("data get cifr10", "cifar10"),
        ("data get nats_tsss", "nats_tss"),
        ("data import nats_tsss", "nats_tss"),
        ("data list nb21", "nb201"),
        ("data verify nb_grap", "nb_graph"),
        ("space nb21", "nb201"),
        ("dat list", "data"),
    ],
)
def test_a_name_that_is_nearly_right(home, capsys, line, meant):
    with pytest.raises(SystemExit) as raised:
        cli.main(line.split())
    out, err = capsys.readouterr()
    assert (raised.value.code, out) == (2, "")
    assert err.splitlines()[0].endswith(f"; did you mean {meant}?")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (
            "data lst",
            "'import', 'verify', 'spaces'); see nas-arena data --help",
        ),
        ("data get", "are required: name; see nas-arena data get --help"),
        ("data verify nats_tss", "`nas-arena data get nats_tss` begins to make it"),
        ("data get mnist1d", "data set 'mnist1d' needs no download"),
        ("space mlp dataset=mnist1d", "`nas-arena build space=mlp dataset=NAME` trains one"),
    ],
)
def test_one_line_that_says_how_to_go_on(home, capsys, line, remedy):
    with pytest.raises(SystemExit) as raised:
        cli.main(line.split())
    out, err = capsys.readouterr()
    assert (raised.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert remedy in err


def test_one_architecture_is_no_plural(home):
    path = write_toy(home, rows=1)
    ((line, _),) = catalogue.verify(["toy"])
    assert ", 1 architecture: digits (3 epochs)" in line
    table = read_table(path)
    table.architectures[0, 0] = 99
    write_table(table, SPACE, path)
    ((line, good),) = catalogue.verify(["toy"])
    assert not good
    assert "1 architecture is not in toy, first (99," in line


# ---------------------------------------------------------------------------------- verify


def test_a_table_imported_in_part_is_good(home):
    before = read_table(shipped_folder(NB201()) / "nb201.h5")
    texts = [NB201().to_string(tuple(arch)) for arch in before.architectures[:7].tolist()]
    frame = pd.DataFrame({"arch": texts, "error": 0.5, "seconds": 1.0})
    frame.loc[3, "error"] = np.nan
    frame.to_csv(home / "part.csv", index=False)
    (home / "part.yaml").write_text("""\
space: nb201
architecture: arch
values: error
columns:
  - {column: error, dataset: cifar10, schedule: 9, split: valid, epoch: 9}
  - {column: seconds, dataset: cifar10, schedule: 9, metric: train_seconds}
""")
    with pytest.raises(TableError, match="it has 7 of the 15,625 architectures"):
        catalogue.make("part.yaml", home / "part.csv")
    catalogue.make("part.yaml", home / "part.csv", partial=True)
    ((line, good),) = catalogue.verify(["part"])
    assert good
    assert line.startswith(
        "part: good, but partial (it has 7 of the 15,625 architectures; cifar10, schedule 9: "
        "valid_error has an architecture without any training seed), 7 architectures: "
    )


def test_a_partial_table_may_still_be_wrong(home):
    path = write_toy(home, rows=5)
    table = read_table(path)
    table.schedules["digits", "3"].columns["valid_error"][0] = 2
    write_table(table, SPACE, path)
    ((line, good),) = catalogue.verify(["toy"])
    assert not good
    assert line.endswith("toy.h5: digits/3/valid_error holds 2")  # it cannot even be opened


# ---------------------------------------------------------------------------------- spaces


def test_the_table_of_spaces_names_them_all():
    rows = catalogue.spaces_table().splitlines()
    assert [re.match(r"\| `(\w+)` ", row)[1] for row in rows[2:]] == sorted(options("space"))
    assert len({row.count("|") - row.count("\\|") for row in rows}) == 1
    named = set(re.findall(r"`(\w+)`", "\n".join(rows)))
    assert {*RECIPES, *options("space")} <= named
    assert "| 1.08 × 10^18 |" in next(row for row in rows if "`darts`" in row)
    assert catalogue._count(123_456) == "123,456"


def test_the_readme_shows_the_table_of_spaces():
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^<!-- spaces -->\n(.*?)\n<!-- /spaces -->$", readme, re.DOTALL | re.M)
    assert [text.strip() for text in shown] == [catalogue.spaces_table()]
