"""NAS-Bench-Macro: the real file, and what is said of files that are not it."""

import json
from math import lgamma
from pathlib import Path

import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf
from published import nb_macro

from bench import catalogue
from bench.compose import plan
from bench.data import make_table
from bench.search import Query
from bench.table import TableError, sha256
from spaces.nb_macro.space import NBMacro

SPACE = NBMacro()
ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared/data/nas-bench-macro/nas-bench-macro_cifar10.json"
RECIPE = OmegaConf.to_container(OmegaConf.load(CONF / "data/nb_macro.yaml"))
READER = build(CONF / "data/nb_macro.yaml")["reader"]


def imported(path, *, partial=True):
    recipe = {key: value for key, value in RECIPE.items() if key != "source_sha256"}
    return make_table(path, SPACE, recipe, READER, partial=partial)


@pytest.fixture(scope="module")
def real():
    if not REAL.exists():
        pytest.skip("the published file of NAS-Bench-Macro is absent")
    return REAL


@pytest.fixture(scope="module")
def table(real):
    return make_table(real, SPACE, RECIPE, READER)


# ------------------------------------------------------------------------------ the real file


def test_every_number_of_the_file_is_there(real, table):
    published = json.loads(real.read_text())
    assert RECIPE["source_sha256"] == sha256(real)
    assert [SPACE.to_string(arch) for arch in table.architectures.tolist()] == list(published)
    (known,) = table.schedules.values()
    runs = np.array([record["test_acc"] for record in published.values()])
    np.testing.assert_array_equal(
        known.columns["test_error"][:, 0], (1 - runs / 100).astype(np.float32)
    )
    for column, name in ("parameters", "params"), ("flops", "flops"):
        sizes = [record[name] for record in published.values()]
        np.testing.assert_array_equal(known.columns[column], np.array(sizes, np.float32))
    assert list(table.schedules) == [("cifar10", "50")]
    assert (known.epochs.tolist(), known.seeds.tolist()) == ([50], [0, 1, 2])
    assert known.columns.keys() == {"test_error", "parameters", "flops"}


def mean_accuracy(table):
    errors = table.schedules["cifar10", "50"].columns["test_error"][:, 0]
    return 100 * (1 - errors.mean(-1, dtype=np.float64))


def test_published_optimum(table):
    mean = mean_accuracy(table)
    texts = np.array([SPACE.to_string(arch) for arch in table.architectures.tolist()])
    best = np.flatnonzero(mean == mean.max())
    assert sorted(texts[best]) == ["22212202", "22212220"]
    assert mean.max() == pytest.approx(93.1267, abs=1e-4)
    assert mean.min() == pytest.approx(45.363, abs=1e-3)
    assert texts[mean.argmin()] == "00000000"
    columns = table.schedules["cifar10", "50"].columns
    assert columns["parameters"][best].tolist() == [1_985_514] * 2
    assert columns["flops"][best].tolist() == [85_164_544] * 2
    assert 100 * (1 - columns["test_error"].min()) == pytest.approx(93.45, abs=1e-4)


def test_distribution(table):
    mean = mean_accuracy(table)
    assert mean.mean() == pytest.approx(90.247, abs=5e-4)
    assert mean.std() == pytest.approx(2.683, abs=5e-4)
    assert np.median(mean) == pytest.approx(90.990, abs=5e-4)
    spread = 100 * table.schedules["cifar10", "50"].columns["test_error"].std(-1, dtype=np.float64)
    assert spread.mean() == pytest.approx(0.151, abs=5e-4)


@pytest.mark.parametrize(
    ("draws", "mean", "deviation"),
    [
        (50, 92.774, 0.162),
        (100, 92.866, 0.133),
        (150, 92.913, 0.118),
        (500, 93.022, 0.078),
        (1000, 93.069, 0.056),
    ],
)
def test_best_of_keys_drawn_without_replacement(table, draws, mean, deviation):
    """Rank r of N is the best of k with probability C(N - r, k - 1) / C(N, k)."""

    def log_comb(n, k):
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) if n >= k else -np.inf

    ranked = np.sort(mean_accuracy(table))[::-1]
    n = len(ranked)
    logs = np.array([log_comb(n - rank, draws - 1) for rank in range(1, n + 1)])
    chance = np.exp(logs - log_comb(n, draws))
    expected = chance @ ranked
    assert expected == pytest.approx(mean, abs=6e-4)
    assert np.sqrt(chance @ (ranked - expected) ** 2) == pytest.approx(deviation, abs=6e-4)


def size(text):
    """Parameters and multiply-adds by train/model.py of the published repository."""
    layers, channels, side = map(int, text), 32, 32
    parameters, flops = 3 * 32 * 9 + 64, 3 * 32 * 9 * side**2
    for length in 2, 3, 3:
        for layer in range(length):
            operation = next(layers)
            out, stride = (2 * channels, 2) if layer == 0 else (channels, 1)
            if operation:
                expansion, kernel = ((3, 3), (6, 5))[operation - 1]
                hidden = expansion * channels
                parameters += hidden * (channels + kernel**2 + out + 4) + 2 * out
                flops += hidden * channels * side**2
                side //= stride
                flops += hidden * (kernel**2 + out) * side**2
            elif layer == 0:
                side //= 2
                parameters += channels * out + 2 * out
                flops += channels * out * side**2
            channels = out
    return (
        parameters + channels * 1280 + 2 * 1280 + 1280 * 10 + 10,
        flops + channels * 1280 * side**2 + 1280 * 10,
    )


def test_sizes_follow_from_the_architecture(table):
    columns = table.schedules["cifar10", "50"].columns
    sizes = [size(SPACE.to_string(arch)) for arch in table.architectures.tolist()]
    for name, expected in zip(("parameters", "flops"), zip(*sizes, strict=True), strict=True):
        np.testing.assert_array_equal(columns[name], np.array(expected, np.float32))


def test_a_search_runs_on_it(real, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    assert "6,561 architectures: cifar10 (50 epochs)" in catalogue.make("nb_macro", real)
    (cell,) = plan(["space=nb_macro", "dataset=cifar10", "protocol=nb_macro"]).cells
    best = SPACE.from_string("22212220")
    answer = cell.objective.evaluate(Query(best, 50), noise=1, trained=0)
    runs = json.loads(real.read_text())["22212220"]["test_acc"]
    assert min(abs(1 - run / 100 - answer.error) for run in runs) < 1e-7
    assert answer.metrics["parameters"] == 1_985_514
    assert cell.objective.report([best])["test_error"] == cell.objective.optimum["test_error"]
    assert cell.protocol.test_signal == "declared"
    assert not cell.objective.timed


# ------------------------------------------------------------------------- synthetic files


def test_a_synthetic_file(tmp_path):
    published = nb_macro.records()
    table = imported(nb_macro.write(tmp_path, published))
    known = table.schedules["cifar10", "50"]
    for row, (text, record) in enumerate(published.items()):
        assert tuple(table.architectures[row].tolist()) == SPACE.from_string(text)
        expected = (1 - np.array(record["test_acc"]) / 100).astype(np.float32)
        np.testing.assert_array_equal(known.columns["test_error"][row, 0], expected)
        assert known.columns["parameters"][row] == np.float32(record["params"])
        assert known.columns["flops"][row] == np.float32(record["flops"])


def test_a_file_without_some_networks_is_refused_unless_partial(tmp_path):
    with pytest.raises(TableError, match="it has 6 of the 6,561 architectures"):
        imported(nb_macro.write(tmp_path), partial=False)


def changed(key="11111111", **values):
    published = nb_macro.records()
    published[key] = published[key] | values
    return published


def without(name):
    published = nb_macro.records()
    del published["11111111"][name]
    return published


def in_fractions():
    published = nb_macro.records()
    for record in published.values():
        for name in "mean_acc", "std":
            record[name] /= 100
        record["test_acc"] = [run / 100 for run in record["test_acc"]]
    return published


NAN, INFINITE = float("nan"), float("inf")
BAD = {
    "a list": ([1, 2], "is not the file of NAS-Bench-Macro: no JSON object"),
    "a foreign key": ({"3": {}}, "'3' is no network of nb_macro"),
    "no record": ({"11111111": 5}, "'11111111': it is no object with test_acc, mean_acc"),
    "two runs": (changed(test_acc=[90.0, 91.0]), "test_acc is not 3 numbers from 0 to 100"),
    "text": (changed(test_acc=["90", 91.0, 92.0]), "test_acc is not 3 numbers from 0 to 100"),
    "above": (changed(test_acc=[100.5, 91.0, 92.0]), "test_acc is not 3 numbers from 0 to 100"),
    "below": (changed(test_acc=[-0.5, 91.0, 92.0]), "test_acc is not 3 numbers from 0 to 100"),
    "true": (changed(test_acc=[True, 91.0, 92.0]), "test_acc is not 3 numbers from 0 to 100"),
    "nan": (changed(mean_acc=NAN), "holds NaN; allowed: numbers"),
    "infinite": (changed(mean_acc=INFINITE), "holds Infinity; allowed: numbers"),
    "another mean": (changed(mean_acc=90.0), "'11111111': mean_acc is not that of its test_acc"),
    "another deviation": (changed(std=9.0), "'11111111': std is not that of its test_acc"),
    "no mean": (without("mean_acc"), "mean_acc is not that of its test_acc"),
    "no parameters": (without("params"), "params is not a whole number above zero"),
    "half a parameter": (changed(params=0.5), "params is not a whole number above zero"),
    "no flops": (changed(flops=0), "flops is not a whole number above zero"),
    "endless flops": (changed(flops=10**400), "flops is not a whole number above zero"),
    "fractions": (in_fractions(), "test_acc is given in fractions; allowed: percent"),
    "twins that differ": (
        changed("22212202", params=7),
        "22212202 and 22212220 are one network, but their records differ",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_explained(case, tmp_path):
    published, sentence = BAD[case]
    with pytest.raises(TableError) as raised:
        imported(nb_macro.write(tmp_path, published))
    assert sentence in str(raised.value)
    assert "nas-bench-macro_cifar10.json" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"11111111": {}, "11111111": {}}', "key '11111111' stands there twice"),
        ('{"11111111": {"params": 1, "params": 2}}', "key 'params' stands there twice"),
        ('{"11111111": ', "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"11111111": {"params": ' + "9" * 5000 + "}}", "cannot be read as JSON"),
        ("\udcff", "cannot be read as JSON"),
    ],
)
def test_damaged_files_are_explained(text, sentence, tmp_path):
    path = nb_macro.write(tmp_path)
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(TableError, match=sentence):
        imported(path)


def test_another_file_of_that_name_is_refused(tmp_path):
    with pytest.raises(TableError, match="damaged or another version"):
        make_table(nb_macro.write(tmp_path), SPACE, RECIPE, READER, partial=True)
