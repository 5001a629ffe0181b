"""NAS-Bench-Graph: the reader, what ships, and that it can be made again bit for bit."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf
from published import nb_graph as published
from test_nb201 import assert_same

from bench.data import make_table, problems
from bench.parts import read_recipe
from bench.pickled import restricted_load
from bench.table import TableError, find_table, read_table, sha256, write_table
from spaces.nb_graph.official import light
from spaces.nb_graph.space import NBGraph, NBGraphProteins

SPACES = {"nb_graph": NBGraph(), "nb_graph_proteins": NBGraphProteins()}
SHIPPED = Path(__file__).parent.parent / "spaces/nb_graph/tables"
BOTH = pytest.mark.parametrize("name", SPACES)
# Of each file in the wheel: the highest `valid_perf`, its key and its `perf`; the highest `perf`.
BEST = {
    "cora": (0.8193333333333334, 87072, 0.8263333333333334, 0.8313333333333333),
    "citeseer": (0.7280000000000001, 31144, 0.7103333333333333, 0.7156666666666666),
    "pubmed": (0.8113333333333334, 30224, 0.7559999999999999, 0.786),
    "cs": (0.9213333333333334, 26503, 0.9058560351855012, 0.9126239359987868),
    "physics": (0.94, 60717, 0.9134518977114544, 0.9300489637784851),
    "photo": (0.9406666666666667, 30743, 0.9208409764357274, 0.9278961478763934),
    "computers": (0.9189999999999999, 73033, 0.8203296845483011, 0.8558341743653443),
    "arxiv": (0.7366666666666667, 83533, 0.7195372027789779, 0.723864782009341),
    "proteins": (0.8533333333333334, 74578, 0.7611243070764532, 0.7926337187386987),
}


def made(source, name="nb_graph", *, partial=True):
    """A table by our recipe; another file than the published one has another digest."""
    recipe, reader, _ = read_recipe(name)
    del recipe["source_sha256"]
    return make_table(source, SPACES[name], recipe, reader, partial=partial)


# ------------------------------------------------------------------------------ the reader


@BOTH
def test_every_number_is_kept(tmp_path, name):
    table = made(published.write(tmp_path), name)
    datasets = published.DATASETS if name == "nb_graph" else ("proteins",)
    keys = published.KEYS if name == "nb_graph" else published.PROTEIN_KEYS
    assert list(table.schedules) == [(dataset, "best") for dataset in datasets]
    assert SPACES[name].keys(table.architectures).tolist() == list(keys)
    for dataset in datasets:
        known = table.schedules[dataset, "best"]
        assert (known.epochs.tolist(), known.seeds.tolist()) == ([1], [0])
        records = list(published.records(dataset, keys).values())
        for column, field in ("valid_error", "valid_perf"), ("test_error", "perf"):
            errors = np.array([1 - record[field] for record in records]).astype(np.float32)
            np.testing.assert_array_equal(known.columns[column], errors[:, None, None])
        millions = np.array([record["para"] for record in records])
        np.testing.assert_array_equal(known.columns["parameters"], np.round(millions * 1e6))
        latency = np.array([record["latency"] for record in records]).astype(np.float32)
        np.testing.assert_array_equal(known.columns["latency"], latency)


def test_numbers_of_numpy_2_are_read(tmp_path):
    newer = pickle.dumps(published.records("cora", published.KEYS), protocol=4)
    table = made(published.write(tmp_path, {"cora": newer}))
    np.testing.assert_array_equal(
        table.schedules["cora", "best"].columns["parameters"],
        made(published.write(tmp_path)).schedules["cora", "best"].columns["parameters"],
    )


def test_the_order_of_files_does_not_matter(tmp_path):
    backwards = published.pickled(dict(reversed(published.records("cs", published.KEYS).items())))
    one, other = (made(published.write(tmp_path, extra)) for extra in ({}, {"cs": backwards}))
    for column, values in one.schedules["cs", "best"].columns.items():
        np.testing.assert_array_equal(values, other.schedules["cs", "best"].columns[column])


def test_a_part_of_the_architectures_is_seen(tmp_path):
    with pytest.raises(TableError, match="it has 6 of the 26,206 architectures"):
        made(published.write(tmp_path), partial=False)


def test_another_digest_is_refused(tmp_path):
    recipe, reader, _ = read_recipe("nb_graph")
    with pytest.raises(TableError, match="is damaged or another version"):
        make_table(published.write(tmp_path), SPACES["nb_graph"], recipe, reader, partial=True)


def changed(key=61327, **fields):
    records = published.records("cora", published.KEYS)
    records[key] = {
        name: value for name, value in (records[key] | fields).items() if value is not None
    }
    return records


def rekeyed(old, new):
    records = published.records("cora", published.KEYS)
    return {new if key == old else key: record for key, record in records.items()}


BAD_RECORDS = {
    "percent": (changed(perf=82.63), r"key 61327: perf is 82.63; allowed: 0 to 1"),
    "negative": (changed(valid_perf=-0.1), r"valid_perf is -0.1; allowed: 0 to 1"),
    "nan": (changed(valid_perf=float("nan")), "valid_perf is nan; allowed: 0 to 1"),
    "infinite": (changed(latency=np.float64("inf")), "latency is inf; allowed: 0 to 1e"),
    "a count": (changed(para=1_736_711.0), "para is 1736711.0; allowed: 0 to 1e"),
    "text": (changed(latency="fast"), "latency is no number; allowed"),
    "lacking": (changed(para=None), "key 61327, lacks one of valid_perf, perf, latency, para"),
    "a list": (rekeyed(0, 0) | {0: [0.8, 0.7]}, "key 0, lacks one of"),
    "text as key": (rekeyed(0, "0"), "has a key that is no whole number"),
    "truth as key": (rekeyed(0, True), "has a key that is no whole number"),
    "other networks": (rekeyed(0, 1), "citeseer and cora hold different architectures"),
    "no dict": ([1, 2], "cora.bench holds no architectures"),
    "nothing": ({}, "cora.bench holds no architectures"),
}


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_bad_records_are_refused(tmp_path, what):
    records, sentence = BAD_RECORDS[what]
    with pytest.raises(TableError, match=sentence) as raised:
        made(published.write(tmp_path, {"cora": published.pickled(records)}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", [-1, 90000, 9999999, 10**5000, 10009, 11109], ids=range(6))
def test_impossible_keys_are_refused(tmp_path, key):
    files = {
        name: published.pickled(published.records(name, (0, key))) for name in published.DATASETS
    }
    with pytest.raises(TableError, match="allowed: a link pattern below 9 and 4 digits"):
        made(published.write(tmp_path, files))


def test_operations_of_other_data_sets_are_refused(tmp_path):
    data = published.pickled(published.records("proteins", (0,)))
    with pytest.raises(TableError, match="number of an operation of nb_graph_proteins"):
        made(published.write(tmp_path, {"proteins": data}), "nb_graph_proteins")


def test_keys_of_other_encodings_are_refused(tmp_path):
    files = {
        name: published.pickled(published.records(name, (0, 1000))) for name in published.DATASETS
    }
    with pytest.raises(TableError, match="cora has key 1000, which is not the first"):
        made(published.write(tmp_path, files))


def test_nothing_in_a_pickle_is_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/marker",)

    with pytest.raises(TableError, match=r"refused: the file asks for .*system"):
        made(published.write(tmp_path, {"cora": pickle.dumps({0: Hostile()})}))
    assert not (tmp_path / "marker").exists()


def test_members_that_are_not_there(tmp_path):
    with pytest.raises(TableError, match=r"is not the wheel of nas-bench-graph: .*cora.bench"):
        made(published.write(tmp_path, {"cora": None}))


def test_members_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("spaces.nb_graph.official.LARGEST", 100)
    with pytest.raises(TableError, match=r"cora.bench is larger than 100 bytes"):
        made(published.write(tmp_path))


def test_damaged_wheels_are_refused(tmp_path):
    path = published.write(tmp_path)
    whole = path.read_bytes()
    for data in (b"", whole[:-100], whole[: len(whole) // 2], b"\0" * 5000):
        path.write_bytes(data)
        with pytest.raises(TableError, match="is not the wheel of nas-bench-graph"):
            made(path)
    data = bytearray(whole)
    at = whole.index(b"cora.bench") + 60
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(TableError, match="is not the wheel of nas-bench-graph"):
        made(path)


def test_a_damaged_pickle_is_refused(tmp_path):
    half = published.pickled(published.records("cora", published.KEYS))[:200]
    with pytest.raises(TableError, match="damaged pickle"):
        made(published.write(tmp_path, {"cora": half}))


def test_other_spaces_are_refused(tmp_path):
    other = build(CONF / "space/nb201.yaml")
    with pytest.raises(TableError, match="NAS-Bench-Graph has no data of nb201"):
        light(published.write(tmp_path), space=other, provenance={}, progress=iter)


# -------------------------------------------------------------------------------- what ships


@BOTH
def test_it_is_small_and_whole(name):
    table = read_table(SHIPPED / f"{name}.h5")
    assert (SHIPPED / f"{name}.h5").stat().st_size < 2_500_000
    assert problems(table, SPACES[name]) == []
    assert len(table.architectures) == SPACES[name].networks == read_recipe(name)[0]["rows"]
    recipe = OmegaConf.load(CONF / f"data/{name}.yaml")
    assert {dataset for dataset, _ in table.schedules} == set(recipe.datasets)
    for key in ("space", "source", "source_sha256", "licence", "citation", "notes"):
        assert table.provenance[key] == recipe[key]


@BOTH
def test_it_is_found_without_an_import(tmp_path, monkeypatch, name):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    assert find_table(SPACES[name], name) == SHIPPED / f"{name}.h5"


@pytest.mark.parametrize("dataset", BEST)
def test_best_networks(dataset):
    name = "nb_graph_proteins" if dataset == "proteins" else "nb_graph"
    table = read_table(SHIPPED / f"{name}.h5")
    valid, test = (
        1 - table.schedules[dataset, "best"].columns[column][:, 0, 0].astype(float)
        for column in ("valid_error", "test_error")
    )
    highest, key, its_test, highest_test = BEST[dataset]
    row = SPACES[name].keys(table.architectures).tolist().index(key)
    assert valid[row] == valid.max()  # float32: others may be as high
    found = (valid[row], test[row], test.max())
    assert found == pytest.approx((highest, its_test, highest_test), abs=1e-7)


def test_every_data_set_has_its_yaml():
    for dataset in BEST:
        assert OmegaConf.load(CONF / f"dataset/{dataset}.yaml").name == dataset


# --------------------------------------------------------------------------------- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if "NAS_ARENA_GRAPH_WHEEL" in os.environ:
        return Path(os.environ["NAS_ARENA_GRAPH_WHEEL"])
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1"]
    done = subprocess.run(
        [*pip, "-d", folder, "nas-bench-graph==1.4.0"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"pip cannot download nas-bench-graph: {done.stderr.strip()[-200:]}")
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.wheel
@BOTH
def test_it_is_made_again_bit_for_bit(wheel, tmp_path, name):
    recipe, reader, _ = read_recipe(name)
    path = tmp_path / f"{name}.h5"
    digest = write_table(make_table(wheel, SPACES[name], recipe, reader), SPACES[name], path)
    assert digest == sha256(path)
    assert_same(path, SHIPPED / f"{name}.h5")


@pytest.mark.wheel
@pytest.mark.parametrize("dataset", BEST)
def test_counts_and_optima_are_those_of_the_wheel(wheel, dataset):
    allowed = {
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "scalar"): type(np.float64(0)).__reduce__(np.float64(0))[0],
    }
    with zipfile.ZipFile(wheel) as file:
        bench = restricted_load(file.read(f"nas_bench_graph/light/{dataset}.bench"), allowed)
    assert len(bench) == (2_021 if dataset == "proteins" else 26_206)
    best = max(bench, key=lambda key: bench[key]["valid_perf"])
    assert BEST[dataset] == (
        *(bench[best]["valid_perf"], best, bench[best]["perf"]),
        max(record["perf"] for record in bench.values()),
    )
    name = "nb_graph_proteins" if dataset == "proteins" else "nb_graph"
    table = read_table(SHIPPED / f"{name}.h5")
    known = table.schedules[dataset, "best"].columns
    for row, key in enumerate(SPACES[name].keys(table.architectures).tolist()):
        record = bench[key]
        assert known["valid_error"][row, 0, 0] == np.float32(1 - float(record["valid_perf"]))
        assert known["test_error"][row, 0, 0] == np.float32(1 - float(record["perf"]))
        assert known["latency"][row] == np.float32(record["latency"])
        assert known["parameters"][row] == np.float32(round(record["para"] * 1e6))
