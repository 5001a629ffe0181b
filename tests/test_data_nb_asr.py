"""NAS-Bench-ASR: what is read of its files, and what is said of files that are not them."""

import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf
from published import nb_asr

from bench.compose import plan
from bench.data import make_table
from bench.search import Query
from bench.table import TableError, write_table
from spaces.nb_asr.space import NBASR, model_hash

SPACE = NBASR()
RECIPE = OmegaConf.to_container(OmegaConf.load(CONF / "data/nb_asr.yaml"))
READER = build(CONF / "data/nb_asr.yaml")["reader"]
del RECIPE["reader"]
MODELS = [model_hash(arch) for arch in nb_asr.SOME]


def imported(path, *, partial=True):
    return make_table(path, SPACE, RECIPE, READER, partial=partial)


def rates(epochs, seed):
    """Validation curves `[models, epochs]` and test errors `[models]` of one training file."""
    _, rows = nb_asr.training(epochs, seed)
    return np.array([row[1] for row in rows], np.float32), np.array([row[2] for row in rows])


# ------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize(
    ("epochs", "seeds"), [(40, (1234, 1235, 1236)), (10, (1234,)), (5, (1234,))]
)
def test_every_rate_is_there(epochs, seeds, tmp_path):
    table = imported(nb_asr.write(tmp_path))
    assert [SPACE.canonical(tuple(arch)) for arch in table.architectures.tolist()] == MODELS
    known = table.schedules["timit", str(epochs)]
    assert (known.epochs.tolist(), known.seeds.tolist()) == ([*range(1, epochs + 1)], [*seeds])
    for place, seed in enumerate(seeds):
        valid, test = rates(epochs, seed)
        np.testing.assert_array_equal(known.columns["valid_error"][:, :, place], valid)
        best = [[min(curve[: n + 1]) for n in range(epochs)] for curve in valid]
        np.testing.assert_array_equal(known.columns["valid_best_error"][:, :, place], best)
        tested = known.columns["test_error"][:, :, place]
        np.testing.assert_array_equal(tested[:, -1], test.astype(np.float32))
        assert np.isnan(tested[:, :-1]).all()


def test_sizes_and_latency(tmp_path):
    table = imported(nb_asr.write(tmp_path))
    expected = {
        "parameters": [row[1] for row in nb_asr.static()[1]],
        "flops": [row[2] for row in nb_asr.static()[1]],
        "latency_gtx_1080ti_fp32": [row[1] for row in nb_asr.benchmark("gtx-1080ti-fp32")[1]],
        "latency_jetson_nano_fp32": [row[1] for row in nb_asr.benchmark("jetson-nano-fp32")[1]],
    }
    for known in table.schedules.values():
        errors = {"valid_error", "valid_best_error", "test_error"}
        assert known.columns.keys() == errors | expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(known.columns[name], np.array(values, np.float32))


def test_one_file_will_do(tmp_path):
    folder = nb_asr.write(tmp_path)
    table = imported(folder / "nb-asr-e40-1235.pickle")
    assert list(table.schedules) == [("timit", "40")]
    known = table.schedules["timit", "40"]
    assert known.seeds.tolist() == [1235]
    assert known.columns.keys() == {"valid_error", "valid_best_error", "test_error"}


def test_rows_are_matched_by_hash_not_by_place(tmp_path):
    published = nb_asr.files()
    whole = imported(nb_asr.write(tmp_path, published))
    for name, (_, rows) in published.items():
        if name != "nb-asr-e5-1234.pickle":  # the first one sets the order
            rows.reverse()
    other = imported(nb_asr.write(tmp_path, published))
    np.testing.assert_array_equal(whole.architectures, other.architectures)
    for key, known in whole.schedules.items():
        for name, values in known.columns.items():
            np.testing.assert_array_equal(values, other.schedules[key].columns[name])


def test_what_a_file_lacks_is_missing(tmp_path):
    published = nb_asr.files()
    del published["nb-asr-e40-1236.pickle"][1][0]
    del published["nb-asr-e10-1234.pickle"][1][1]
    del published["nb-asr-info.pickle"][1][2]
    table = imported(nb_asr.write(tmp_path, published))
    known = table.schedules["timit", "40"].columns
    assert np.argwhere(np.isnan(known["valid_error"][:, 0])).tolist() == [[0, 2]]
    assert np.flatnonzero(np.isnan(known["parameters"])).tolist() == [2]
    short = table.schedules["timit", "10"].columns["valid_error"]
    assert np.flatnonzero(np.isnan(short[:, 0, 0])).tolist() == [1]


def test_the_first_version_of_the_sizes_has_no_flops(tmp_path):
    published = nb_asr.files()
    header, rows = published["nb-asr-info.pickle"]
    older = header | {"version": 1, "columns": ["model_hash", "params"]}
    published["nb-asr-info.pickle"] = older, [row[:2] for row in rows]
    columns = imported(nb_asr.write(tmp_path, published)).schedules["timit", "5"].columns
    assert "parameters" in columns
    assert "flops" not in columns


def test_other_files_are_left_alone(tmp_path):
    folder = nb_asr.write(tmp_path)
    (folder / "README.md").write_text("hello")
    (folder / "nb-asr-e40-1234.pickle.bak").write_bytes(b"hello")
    assert len(imported(folder).architectures) == 5


# ------------------------------------------------------------------------ what is not read


E40, INFO, GTX = (
    "nb-asr-e40-1235.pickle",
    "nb-asr-info.pickle",
    "nb-asr-bench-gtx-1080ti-fp32.pickle",
)


def headed(name, **more):
    published = nb_asr.files()
    header, rows = published[name]
    return published | {name: (header | more, rows)}


def headless(name, key):
    published = nb_asr.files()
    del published[name][0][key]
    return published


def with_row(name, place, value, row=1):
    published = nb_asr.files()
    published[name][1][row][place] = value
    return published


def twice(name):
    published = nb_asr.files()
    published[name][1].append(published[name][1][0])
    return published


def parts(name, *some):
    return nb_asr.files() | {name: some}


SHORT_OF_RATES = "are not 40 fractions from 0 to 1 on the validation set and one on the test set"
BAD = {
    "no header": (parts(E40, [1], []), "is not a header with columns and then a list of rows"),
    "no rows": (parts(E40, nb_asr.training(40, 1235)[0]), "nb-asr-e40-1235.pickle: "),
    "a dict of rows": (parts(E40, nb_asr.training(40, 1235)[0], {}), "and then a list of rows"),
    "a third pickle": (parts(E40, *nb_asr.training(40, 1235), 1), "and then a list of rows"),
    "no columns": (headless(E40, "columns"), "is not a header with columns"),
    "another kind": (headed(E40, dataset_type="static"), "says it is a 'static' file with"),
    "no kind": (headless(E40, "dataset_type"), "says it is a None file with columns"),
    "other columns": (
        headed(E40, columns=["model_hash", "test_per", "val_per", "arch_vec"]),
        "allowed: training, and columns that begin model_hash, val_per, test_per",
    ),
    "one column less": (headed(GTX, columns=["model_hash"]), "begin model_hash, latency"),
    "another seed": (headed(E40, seed=1234), "seed is 1234; allowed by its name: 1235"),
    "other epochs": (headed(E40, epochs=10), "epochs is 10; allowed by its name: 40"),
    "no seed": (headless(E40, "seed"), "seed is None; allowed by its name: 1235"),
    "another device": (headed(GTX, device="x"), "device is 'x'; allowed by its name: gtx-1080ti"),
    "a short row": (parts(E40, nb_asr.training(40, 1235)[0], [[1]]), "does not have 4 columns"),
    "no row": (parts(E40, nb_asr.training(40, 1235)[0], [7]), "a row does not have 4 columns"),
    "a foreign hash": (with_row(E40, 0, "0" * 32), "is the hash of no model of NAS-Bench-ASR"),
    "a list as hash": (with_row(E40, 0, []), "[] is the hash of no model"),
    "a model twice": (twice(E40), f"model {MODELS[0]} stands in two rows"),
    "sizes twice": (twice(INFO), f"model {MODELS[0]} stands in two rows"),
    "another vector": (with_row(E40, 3, nb_asr.vector(nb_asr.SOME[0])), "is not that of"),
    "no vector": (with_row(E40, 3, 5), "arch_vec 5 is not that of"),
    "a short curve": (with_row(E40, 1, [0.3] * 39), SHORT_OF_RATES),
    "no curve": (with_row(E40, 1, 0.3), SHORT_OF_RATES),
    "text": (with_row(E40, 1, ["0.3"] * 40), SHORT_OF_RATES),
    "nan": (with_row(E40, 1, [float("nan")] * 40), SHORT_OF_RATES),
    "percent": (with_row(E40, 1, [23.1] * 40), SHORT_OF_RATES),
    "a test in percent": (with_row(E40, 2, 23.1), SHORT_OF_RATES),
    "no test": (with_row(E40, 2, None), SHORT_OF_RATES),
    "milliseconds": (with_row(GTX, 1, 543.2), "is 543.2; allowed: above 0, up to 100"),
    "no time": (with_row(GTX, 1, 0.0), "is 0.0; allowed: above 0, up to 100"),
    "text as time": (with_row(GTX, 1, "fast"), "is 'fast'; allowed: above 0, up to 100"),
    "no parameters": (with_row(INFO, 1, -3), "params of model"),
    "true": (with_row(INFO, 2, True), "flops of model"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_explained(case, tmp_path):
    published, sentence = BAD[case]
    with pytest.raises(TableError) as raised:
        imported(nb_asr.write(tmp_path, published))
    assert sentence in str(raised.value)
    assert any(name in str(raised.value) for name in published)


def test_a_folder_without_training_is_refused(tmp_path):
    sizes = {name: some for name, some in nb_asr.files().items() if "-e" not in name}
    with pytest.raises(TableError, match="is and holds no training file of NAS-Bench-ASR, such as"):
        imported(nb_asr.write(tmp_path, sizes))
    with pytest.raises(TableError, match="is and holds no training file of NAS-Bench-ASR, such as"):
        imported(tmp_path / "nb-asr" / INFO)


def test_a_folder_in_the_place_of_a_file(tmp_path):
    folder = nb_asr.write(tmp_path)
    (folder / "nb-asr-e20-1234.pickle").mkdir()
    with pytest.raises(TableError, match="cannot be read"):
        imported(folder)


def test_a_file_without_some_models_is_refused_unless_partial(tmp_path):
    with pytest.raises(TableError, match="it has 5 of the 8,242 architectures"):
        imported(nb_asr.write(tmp_path), partial=False)


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_is_executed(tmp_path, capsys):
    with pytest.raises(TableError, match=r"nb-asr-e40-1235\.pickle: .*refused"):
        imported(nb_asr.write(tmp_path, with_row(E40, 2, Hostile())))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated_files_are_explained(share, tmp_path):
    folder = nb_asr.write(tmp_path)
    path = folder / E40
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(TableError, match=r"nb-asr-e40-1235\.pickle"):
        imported(folder)


# ----------------------------------------------------------------------------- the protocol


def test_a_search_runs_on_it(tmp_path, monkeypatch):
    models = list({SPACE.key(arch): arch for arch in reversed(list(SPACE))}.values())
    runs = {}
    for seed in 1234, 1235:
        header, rows = nb_asr.training(40, seed, models)
        plain = [[name, [float(rate) for rate in curve], *rest] for name, curve, *rest in rows]
        runs[f"nb-asr-e40-{seed}.pickle"] = header, plain
    table = imported(nb_asr.write(tmp_path, runs), partial=False)
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    write_table(table, SPACE, tmp_path / "nb_asr.h5")
    (cell,) = plan(["space=nb_asr", "dataset=timit", "protocol=nb_asr"]).cells
    vector = (5, 1, 0, 0, 0, 5, 0, 0, 1)
    known = [row for _, rows in runs.values() for row in rows if row[0] == model_hash(vector)]
    told = {cell.objective.evaluate(Query(vector, 40), noise, 0).error for noise in range(99)}
    assert told == {min(row[1]) for row in known}
    (tested,) = cell.objective.report([vector])["test_error"]
    assert tested == pytest.approx(np.mean([row[2] for row in known]), abs=1e-7)
    assert not cell.objective.timed
