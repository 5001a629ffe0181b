"""Further columns: HW-NAS-Bench, NAS-Bench-Suite-Zero, and files of one's own."""

import copy
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CONF, build
from contracts import Toy
from published import hw_nas_bench, suite_zero

from bench import catalogue
from bench.data import Extra, check_extra, merge, silent
from bench.proxies import PROXIES
from bench.recipe import check_further
from bench.table import Schedule, Table, TableError, read_table, shipped_folder, write_table
from spaces.nb201.space import NB201

ROOT = Path(__file__).parent.parent
SPACE = NB201()


def read(recipe, path):
    """What the reader of a recipe makes of a file, and its space."""
    yaml = build(CONF / f"data/{recipe}.yaml")
    space = catalogue.spaces()[yaml["space"]]
    return yaml["extra"](path, space=space, progress=silent), space


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    return tmp_path


# ----------------------------------------------------------------------------- HW-NAS-Bench


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_costs_of_the_first_cell(tmp_path, protocol):
    extra, space = read("hw_nas_bench", hw_nas_bench.write(tmp_path, protocol=protocol))
    check_extra(extra, space)
    assert [space.to_string(tuple(a)) for a in extra.architectures.tolist()] == hw_nas_bench.texts()
    columns = extra.columns["cifar10"]
    assert set(extra.columns) == {"cifar10", "cifar100", "ImageNet16-120"}
    for name, value in hw_nas_bench.PUBLISHED.items():
        device, _, metric = name.partition("_")
        scale = 1 if metric == "arithmetic_intensity" else 1e-3
        assert columns[f"{metric}_{device}"][0] == np.float32(value * scale)
    assert len(columns) == 10


def test_every_value_is_where_its_cell_is(tmp_path):
    published = hw_nas_bench.content()["nasbench201"]
    extra, _ = read("hw_nas_bench", hw_nas_bench.write(tmp_path))
    for dataset, metrics in published.items():
        for name, values in metrics.items():
            if name not in ("config", "eyeriss_arithmetic_intensity"):
                device, _, metric = name.partition("_")
                expected = np.array([float(value) / 1000 for value in values], np.float32)
                column = extra.columns[dataset][f"{metric}_{device}"]
                np.testing.assert_allclose(column, expected, rtol=1e-6)


def spoilt(change):
    content = copy.deepcopy(hw_nas_bench.content())
    change(content, content["nasbench201"]["cifar10"])
    return content


class Evil:
    def __reduce__(self):
        return os.system, ("touch it_ran",)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c, d: c.pop("nasbench201"), "is not HW-NAS-Bench"),
        (lambda c, d: c["nasbench201"].pop("cifar100"), "is not HW-NAS-Bench"),
        (lambda c, d: d.pop("config"), "lacks a list `config`"),
        (lambda c, d: d["config"].__setitem__(0, {}), "lacks a list `config`"),
        (lambda c, d: d.pop("fpga_energy"), "fpga_energy has no values for 6 architectures"),
        (lambda c, d: d["fpga_energy"].pop(), "fpga_energy has 5 values for 6 architectures"),
        (lambda c, d: d["fpga_energy"].__setitem__(1, math.nan), "fpga_energy is nan; allowed"),
        (lambda c, d: d["fpga_energy"].__setitem__(1, -1.0), r"fpga_energy is -1.0; allowed"),
        (lambda c, d: d["fpga_energy"].__setitem__(1, "1"), "fpga_energy is '1'; allowed"),
        (lambda c, d: d["config"].reverse(), "the data sets list different architectures"),
        (lambda c, d: d.update(fpga_energy=np.zeros((6, 1))), "no array of one dimension"),
        (lambda c, d: d.update(fpga_energy=np.array(["x"] * 6)), "values of type 'U1'"),
        (lambda c, d: d.update(fpga_energy=Evil()), r"posix.system"),
        (lambda c, d: [c["nasbench201"].update({s: {}}) for s in ("cifar10",)], "lacks a list"),
    ],
)
def test_a_bad_file_of_costs(home, change, sentence):
    path = hw_nas_bench.write(home, spoilt(change))
    with pytest.raises(TableError, match=f"^HW-NAS-Bench-v1_0.pickle.*{sentence}"):
        read("hw_nas_bench", path)
    assert not (home / "it_ran").exists()


def test_a_foreign_cell_and_a_broken_pickle(tmp_path):
    content = hw_nas_bench.content()
    for dataset in content["nasbench201"].values():
        dataset["config"][0]["arch_str"] = "|a~0|"
    with pytest.raises(TableError, match=r"^HW-NAS-Bench-v1_0.pickle: '\|a~0\|' is no cell"):
        read("hw_nas_bench", hw_nas_bench.write(tmp_path, content))
    path = hw_nas_bench.write(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TableError, match=r"^HW-NAS-Bench-v1_0.pickle: damaged pickle"):
        read("hw_nas_bench", path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(TableError, match="is not HW-NAS-Bench"):
        read("hw_nas_bench", path)


# ------------------------------------------------------------------------------- Suite-Zero


@pytest.mark.parametrize("recipe", suite_zero.FILES)
@pytest.mark.parametrize("form", [suite_zero.content, suite_zero.older])
def test_proxies_stand_at_their_architectures(tmp_path, recipe, form):
    extra, space = read(recipe, suite_zero.write(tmp_path, recipe, form(recipe)))
    check_extra(extra, space)
    _, datasets, texts = suite_zero.FILES[recipe]
    assert set(extra.columns) == set(datasets)
    expected = suite_zero.content(recipe)
    rows = {key: row for row, key in enumerate(space.keys(extra.architectures).tolist())}
    for dataset in datasets:
        columns = extra.columns[dataset]
        assert "proxy_val_accuracy" not in columns
        assert "proxy_nwot" not in columns
        for text, published in texts.items():
            row = rows[space.key(space.from_string(published))]
            for name in PROXIES:
                score = expected[dataset][text].get(name, {"score": math.nan})["score"]
                if score in (-1e8, -math.log(1e8)):
                    score = math.nan
                if f"proxy_{name}" in columns:
                    value = columns[f"proxy_{name}"][row]
                    np.testing.assert_equal(value, np.float32(score))
                else:
                    assert math.isnan(score)


def test_isomorphic_cells_are_averaged(tmp_path):
    """The same cell with an unused vertex more; scores of real networks differ by their weights."""
    content = suite_zero.content("suite_zero_nb101")
    records = content["cifar10"]
    text = next(iter(records))
    rows = [(0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 0, 1), (0,) * 5, (0,) * 5]
    records[str((*sum(rows, ()), 0, 4, 2, 3, 1))] = copy.deepcopy(records[text])
    twin = records[str((*sum(rows, ()), 0, 4, 2, 3, 1))]
    twin["snip"]["score"] = records[text]["snip"]["score"] + 2
    twin["fisher"]["score"] = -1e8
    extra, space = read("suite_zero_nb101", suite_zero.write(tmp_path, "suite_zero_nb101", content))
    assert len(extra.architectures) == 2
    row = space.keys(extra.architectures).tolist().index(space.key(space.from_string(
        suite_zero.FILES["suite_zero_nb101"][2][text])))  # fmt: skip
    columns = extra.columns["cifar10"]
    assert columns["proxy_snip"][row] == np.float32(records[text]["snip"]["score"] + 1)
    assert columns["proxy_fisher"][row] == np.float32(records[text]["fisher"]["score"])


def first(content):
    return next(iter(content["cifar10"].values()))


def renamed(content, text):
    content["cifar10"][text] = content["cifar10"].pop(next(iter(content["cifar10"])))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: renamed(c, "(0, 1, 2, 3, 4)"), "'.*' is no architecture of nb201"),
        (lambda c: renamed(c, "(0, 1, 2, 3, 4, 5)"), "'.*' is no architecture of nb201"),
        (lambda c: renamed(c, "(0, 1, 2, 3, 4, -1)"), "'.*' is no architecture of nb201"),
        (lambda c: renamed(c, "(0, 1, 2, 3, 4, 0.5)"), "'.*' is no architecture of nb201"),
        (lambda c: renamed(c, "7"), "'7' is no architecture of nb201"),
        (lambda c: renamed(c, "(" * 5000), r"'\(\(\(.*… is no architecture of nb201"),
        (lambda c: renamed(c, "(0,1,2,3,4,0)") or renamed(c, "(4,3,3,3,2,3 )"), "twice"),
        (lambda c: first(c)["snip"].update(score="1"), "cifar10: snip is '1'; allowed: a finite"),
        (lambda c: first(c)["snip"].update(score=True), "cifar10: snip is True; allowed"),
        (lambda c: first(c)["snip"].update(score=math.inf), "cifar10: snip is inf; allowed"),
        (lambda c: first(c)["snip"].update(score=1e39), r"snip is 1e\+39; allowed"),
        (lambda c: first(c).update(snip=[1]), r"snip is \[1\]; allowed"),
        (lambda c: c.update(cifar10=[]), "is no file of NAS-Bench-Suite-Zero"),
        (lambda c: c["cifar10"].update({"(2, 2, 2, 2, 2, 2)": 7}), "is no file of NAS-Bench"),
        (lambda c: c.clear(), "is no file of NAS-Bench-Suite-Zero"),
        (
            lambda c: [record.clear() for records in c.values() for record in records.values()],
            "holds none of the proxies",
        ),
    ],
)
def test_a_bad_file_of_proxies(tmp_path, change, sentence):
    content = suite_zero.content()
    change(content)
    with pytest.raises(TableError, match=f"^zc_nasbench201.json.*{sentence}"):
        read("suite_zero_nb201", suite_zero.write(tmp_path, published=content))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text[:-50], "cannot be read as JSON"),
        (lambda text: "[" * 100_000, "cannot be read as JSON"),
        (lambda text: "[]", "is no file of NAS-Bench-Suite-Zero"),
        (lambda text: text.replace("cifar100", "cifar10"), "has a key twice in one object"),
        (lambda text: text.replace('"snip"', '"fisher"'), "has a key twice in one object"),
    ],
)
def test_a_damaged_file_of_proxies(tmp_path, damage, sentence):
    path = suite_zero.write(tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(TableError, match=f"^zc_nasbench201.json {sentence}"):
        read("suite_zero_nb201", path)


REAL = {  # cifar100, zc_nasbench201.json of automl/NASLib@0b11600: parameters, val_accuracy
    "(4, 3, 3, 3, 2, 3)": (0.434196, 68.34),
    "(4, 1, 0, 0, 0, 3)": (0.107156, 56.78),
    "(1, 4, 1, 3, 4, 4)": (0.107156, 38.38),
    "(2, 0, 2, 2, 2, 0)": (1.051316, 72.2),
    "(1, 0, 4, 2, 3, 3)": (0.378196, 63.32),
    "(4, 1, 4, 0, 1, 2)": (0.322196, 56.74),
}


@pytest.mark.parametrize("text", REAL)
def test_real_records_say_which_edge_is_which(tmp_path, text):
    """Their `val_accuracy` is a test accuracy of one seed, near that of the right cell alone."""
    path = ROOT.parent / "shared/data/nb201/nb201_merged.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name}, the joined columns of NAS-Bench-201, is absent")
    parameters, accuracy = REAL[text]
    record = {"params": {"score": parameters, "time": 1.0}, "val_accuracy": accuracy}
    source = suite_zero.write(tmp_path, published={"cifar100": {text: record}})
    extra, space = read("suite_zero_nb201", source)
    assert extra.columns["cifar100"].keys() == {"proxy_params"}
    (arch,) = extra.architectures.tolist()
    row = pd.read_csv(path).set_index("arch_str").loc[space.to_string(tuple(arch))]
    assert row["cifar100_params_M"] == pytest.approx(parameters, abs=1e-6)
    assert row["hw360_cifar100_test_mean"] == pytest.approx(accuracy, abs=1)


# ----------------------------------------------------------------------- merged into a table


def test_costs_go_into_the_table_that_ships(home):
    source = hw_nas_bench.write(home)
    made = catalogue.make("hw_nas_bench", source, into="nb201")
    assert "nas-arena run dataset=ImageNet16-120" in made
    before = read_table(shipped_folder(SPACE) / "nb201.h5")
    after = read_table(home / "data/nb201.h5")
    np.testing.assert_array_equal(after.architectures, before.architectures)
    for key, known in before.schedules.items():
        for name, values in known.columns.items():
            np.testing.assert_array_equal(after.schedules[key].columns[name], values)
    added = after.schedules["cifar10", "200"].columns
    assert added.keys() - before.schedules["cifar10", "200"].columns.keys() == {
        *("latency_edgegpu", "energy_edgegpu", "latency_raspi4", "latency_edgetpu"),
        *("latency_pixel3", "latency_eyeriss", "energy_eyeriss", "arithmetic_intensity_eyeriss"),
        *("latency_fpga", "energy_fpga"),
    }
    latency = added["latency_pixel3"]
    assert latency[0] == np.float32(0.00360585)
    assert np.isnan(latency).sum() == 15_625 - 6
    lines = after.provenance["notes"].splitlines()
    assert lines[:-1] == before.provenance["notes"].splitlines()
    assert lines[-1].startswith("Added by hw_nas_bench from HW-NAS-Bench-v1_0.pickle of GitHub")
    ((line, good),) = catalogue.verify(["nb201"])
    assert good
    assert line.startswith("nb201: good, 15,625 architectures")


def test_a_second_merge_takes_the_place_of_the_first(home):
    catalogue.make("hw_nas_bench", hw_nas_bench.write(home), into="nb201")
    first = (home / "data/nb201.h5").read_bytes()
    catalogue.make("hw_nas_bench", hw_nas_bench.write(home), into="nb201")
    assert (home / "data/nb201.h5").read_bytes() == first
    catalogue.make("suite_zero_nb201", suite_zero.write(home), into="nb201")
    path = hw_nas_bench.write(home, hw_nas_bench.content(seed=1))
    catalogue.make("hw_nas_bench", path, into="nb201")
    table = read_table(home / "data/nb201.h5")
    notes = table.provenance["notes"].splitlines()
    assert [line.split()[2] for line in notes[-2:]] == ["suite_zero_nb201", "hw_nas_bench"]
    assert sum(line.startswith("Added by") for line in notes) == 2
    columns = table.schedules["cifar10", "200"].columns
    assert "proxy_zen" in columns
    expected = hw_nas_bench.content(seed=1)["nasbench201"]["cifar10"]["fpga_latency"][1]
    row = table.architectures.tolist().index(list(SPACE.from_string(hw_nas_bench.texts()[1])))
    assert columns["latency_fpga"][row] == np.float32(expected / 1000)


MINE = """\
space: nb201
source: our own phone
licence: MIT
architecture: cell
columns:
  - {column: ms, dataset: cifar10, metric: latency_phone, scale: 0.001}
"""


def write_mine(home, yaml=MINE, cells=2):
    (home / "phone.yaml").write_text(yaml)
    texts = [SPACE.to_string((n, 1, 2, 3, 4, 0)) for n in range(cells)]
    frame = pd.DataFrame({"cell": texts, "ms": np.arange(1.0, 1.0 + cells)})
    frame.to_csv(home / "phone.csv", index=False)
    return home / "phone.csv"


def test_a_file_of_ones_own_adds_columns(home):
    catalogue.make("phone.yaml", write_mine(home), into="nb201")
    table = read_table(home / "data/nb201.h5")
    column = table.schedules["cifar10", "200"].columns["latency_phone"]
    row = table.architectures.tolist().index([1, 1, 2, 3, 4, 0])
    assert column[row] == np.float32(0.002)
    assert np.isnan(column).sum() == 15_623
    assert "latency_phone" not in table.schedules["cifar100", "200"].columns
    line = table.provenance["notes"].splitlines()[-1]
    assert line.startswith("Added by phone from our own phone (SHA-256 ")
    assert line.endswith("), MIT: latency_phone")


def test_the_latencies_of_the_joined_file_can_be_added(home):
    path = ROOT.parent / "shared/data/nb201/nb201_merged.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name}, the joined columns of NAS-Bench-201, is absent")
    yaml = MINE.replace("architecture: cell", "architecture: arch_str")
    (home / "phone.yaml").write_text(
        yaml.replace("column: ms", "column: lat_ms_titan_rtx_32").replace("phone", "titan_rtx_32")
    )
    catalogue.make("phone.yaml", path, into="nb201")
    table = read_table(home / "data/nb201.h5")
    frame = pd.read_csv(path)
    expected = (frame["lat_ms_titan_rtx_32"] * 0.001).to_numpy().astype(np.float32)
    column = table.schedules["cifar10", "200"].columns["latency_titan_rtx_32"]
    np.testing.assert_array_equal(column, expected)  # both are in the official order


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("latency_phone", "latency"), "^table nb201 has latency already; a column is not re"),
        (("latency_phone", "valid_error"), "metric is 'valid_error'; allowed: train_seconds, .*"),
        (("latency_phone", "train_seconds"), "metric is train_seconds; allowed for a further col"),
        (("latency_phone", "latency_error"), "metric is 'latency_error'; allowed: train_seconds"),
        (("metric: latency_phone", "split: valid, epoch: 1"), ": epoch, scale, split is unknown|"
         "rule .*is unknown or missing"),
        (("dataset: cifar10", "dataset: mnist"), "^the file knows mnist; the table has ImageNet"),
        (("space: nb201", "space: nb_macro"), "^table 'nb201' is neither in .* nor shipped with|"
         "is of space nb201, not nb_macro"),
        (("column: ms", "column: us"), "^phone.csv has no column us$"),
        (("scale: 0.001", "scale: 1.0e+99"), "latency_phone holds an infinite number"),
        (("licence: MIT", "values: error"), "needs the keys architecture and columns, and no val"),
        (("licence: MIT", "sizes: 3"), "^unknown key 'sizes'"),
        (("cell\n", "ms\n"), "^phone.csv: '1.0' is no cell of nb201"),
    ],
)  # fmt: skip
def test_a_bad_recipe_of_further_columns(home, change, sentence):
    source = write_mine(home, MINE.replace(*change))
    with pytest.raises(TableError, match=sentence):
        catalogue.make("phone.yaml", source, into="nb201")
    assert not (home / "data").exists()


def test_into_what(home):
    source = write_mine(home)
    with pytest.raises(TableError, match=r"^table 'none' is neither in .* nor shipped with nb201"):
        catalogue.make("phone.yaml", source, into="none")
    with pytest.raises(TableError, match=r"adds columns to a table: say which, --into TABLE"):
        catalogue.make("hw_nas_bench", hw_nas_bench.write(home))
    with pytest.raises(TableError, match=r"needs no --into"):
        catalogue.make("nb201", source, into="nb201")
    with pytest.raises(TableError, match="and no values"):
        catalogue.make("nb201_joined", source, into="nb201")
    with pytest.raises(TableError, match="a recipe needs the keys architecture, values and col"):
        catalogue.make("phone.yaml", source)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (Extra(np.array([[9, 9, 9]], np.int8), {}), r"1 architecture is not in toy, first \(9, 9"),
        (Extra(np.zeros((2, 3), np.int8), {}), r"architecture \(0, 0, 0\) stands in 2 rows"),
        (
            Extra(np.zeros((1, 3), np.int8), {"d": {"test_error": np.ones(1, np.float32)}}),
            "d: a column test_error may not be shown to strategies",
        ),
        (
            Extra(np.zeros((1, 3), np.int8), {"d": {"latency": np.ones(2, np.float32)}}),
            "d: latency has 2 rows of 1",
        ),
        (
            Extra(np.zeros((1, 3), np.int8), {"d": {"latency": np.full(1, np.inf, np.float32)}}),
            "d: latency holds an infinite number",
        ),
        (
            Extra(np.zeros((1, 3), np.int8), {"d": {"energy": -np.ones(1, np.float32)}}),
            "d: energy holds a number below zero",
        ),
        (
            Extra(np.zeros((1, 3), np.int8), {"d": {"proxy_a": np.full(1, np.nan, np.float32)}}),
            "d: proxy_a holds no number",
        ),
    ],
)
def test_further_columns_are_looked_at(extra, sentence):
    with pytest.raises(TableError, match=sentence):
        check_extra(extra, Toy())


class Twins(Toy):
    """Where the last gene is known under both its values."""

    def aliases(self, genes):
        other = genes.copy()
        other[:, 2] = 1 - other[:, 2]
        both = np.concatenate([self.keys(genes), self.keys(other)])
        return both, np.tile(np.arange(len(genes)), 2)


def test_a_merge_finds_rows_under_any_of_their_keys():
    seconds = {"train_seconds": np.ones(2, np.float32)}
    schedule = Schedule(np.array([1], np.int32), np.array([0], np.int32), seconds)
    table = Table({}, np.array([[0, 0, 0], [1, 0, 0]], np.int8), {("d", "1"): schedule})
    extra = Extra(np.array([[1, 0, 1]], np.int8), {"d": {"latency": np.array([7], np.float32)}})
    merged = merge(table, extra, Twins()).schedules["d", "1"].columns["latency"]
    np.testing.assert_array_equal(merged, [np.nan, 7])
    with pytest.raises(TableError, match="knows none of the architectures of the table"):
        merge(table, extra, Toy())


def test_a_full_disk_leaves_the_table_as_it_was(home, monkeypatch):
    source = hw_nas_bench.write(home)
    catalogue.make("hw_nas_bench", source, into="nb201")
    before = {path.name: path.read_bytes() for path in (home / "data").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.table._write_column", full)
    with pytest.raises(TableError, match=r"data/nb201.h5 cannot be written: .*No space left"):
        catalogue.make("suite_zero_nb201", suite_zero.write(home), into="nb201")
    assert {path.name: path.read_bytes() for path in (home / "data").iterdir()} == before


LIMITED = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
from bench.cli import main
main(sys.argv[1:])
"""


def test_a_disk_that_fills_up_kills_nobody(home):
    """HDF5 itself, writing to a file that may not grow, ends in a segmentation fault."""
    write_mine(home, f"{MINE}file: phone.csv\n")
    (home / "data").mkdir()
    (home / "phone.csv").rename(home / "data/phone.csv")
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, "data", "import", "phone.yaml", "--into", "nb201"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (2, "")
    assert re.fullmatch(r"nas-arena: .*nb201.h5 cannot be written: File too large\n", child.stderr)
    assert [path.name for path in (home / "data").iterdir()] == ["phone.csv"]


def test_notes_have_an_end(home):
    table = read_table(shipped_folder(SPACE) / "nb201.h5")
    table.provenance["notes"] = "x" * 59_990
    (home / "data").mkdir()
    write_table(table, SPACE, home / "data/nb201.h5")
    with pytest.raises(TableError, match="cannot hold more notes"):
        catalogue.make("phone.yaml", write_mine(home), into="nb201")


def test_rules_for_further_columns_are_shown_in_full():
    rule = {"column": "a", "dataset": "d", "metric": "memory_peak"}
    check_further({"architecture": "a", "columns": [rule]})
    with pytest.raises(TableError, match="schedule is unknown or missing; allowed here: column, "):
        check_further({"architecture": "a", "columns": [rule | {"schedule": 1}]})
