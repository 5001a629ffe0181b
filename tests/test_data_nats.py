"""The official files of NAS-Bench-201 and NATS-Bench: exact numbers, and what is wrong is seen."""

import bz2
import contextlib
import hashlib
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import CONF, build
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from published import nats, nats_sss, nats_tss, nb201_pth

from bench.data import make_table, silent
from bench.pickled import PLAIN, restricted_load
from bench.table import TableError
from spaces.nats_sss.space import NATSSize
from spaces.nb201.nats import check_name
from spaces.nb201.records import Results
from spaces.nb201.space import NB201

SAMPLES = Path(__file__).parent.parent.parent / "shared/data/nats-bench-sample"
SPACES = {"nats_tss": NB201(), "nats_sss": NATSSize(), "nb201_v1_0": NB201(), "nb201_v1_1": NB201()}
SETS = {  # our column -> the published data set that was trained on, and the one measured on
    ("cifar10", "train_error"): ("cifar10-valid", None),
    ("cifar10", "valid_error"): ("cifar10-valid", "x-valid"),
    ("cifar10", "test_error"): ("cifar10", "ori-test"),
    ("cifar10", "test_run_train_error"): ("cifar10", None),
    ("cifar10-valid", "train_error"): ("cifar10-valid", None),
    ("cifar10-valid", "valid_error"): ("cifar10-valid", "x-valid"),
    ("cifar10-valid", "test_error"): ("cifar10-valid", "ori-test"),
    ("cifar100", "train_error"): ("cifar100", None),
    ("cifar100", "valid_error"): ("cifar100", "x-valid"),
    ("cifar100", "test_error"): ("cifar100", "x-test"),
    ("cifar100", "valtest_error"): ("cifar100", "ori-test"),
    ("ImageNet16-120", "train_error"): ("ImageNet16-120", None),
    ("ImageNet16-120", "valid_error"): ("ImageNet16-120", "x-valid"),
    ("ImageNet16-120", "test_error"): ("ImageNet16-120", "x-test"),
    ("ImageNet16-120", "valtest_error"): ("ImageNet16-120", "ori-test"),
}


def recipe(name):
    return OmegaConf.to_container(OmegaConf.load(CONF / f"data/{name}.yaml"))


def imported(name, source, partial=True):
    reader = build(CONF / f"data/{name}.yaml")["reader"]
    return make_table(source, SPACES[name], recipe(name), reader, partial=partial, progress=silent)


def assert_holds(table, records, strings, space):
    """Every number of every run is in the table, and nothing else is."""
    assert table.architectures.tolist() == [list(space.from_string(text)) for text in strings]
    schedules = {str(int(hp)): hp for record in records for hp in record}
    for (dataset, schedule), known in table.schedules.items():
        epochs, hp = int(schedule), schedules[schedule]
        assert known.epochs.tolist() == list(range(1, epochs + 1))
        errors = [name for name in known.columns if name.endswith("_error")]
        assert set(errors) == {column for name, column in SETS if name == dataset}
        for column in errors:
            trained_on, measured_on = SETS[dataset, column]
            expected = np.full((len(records), epochs, len(known.seeds)), np.nan, np.float32)
            for row, record in enumerate(records):
                for (name, seed), run in record[hp]["all_results"].items():
                    if name == trained_on:
                        place = known.seeds.tolist().index(seed)
                        expected[row, :, place] = fractions(run, measured_on, epochs)
            np.testing.assert_array_equal(known.columns[column], expected)
        for row, record in enumerate(records):
            check_costs(known.columns, row, record[hp]["all_results"], dataset)


def fractions(run, measured_on, epochs):
    curve = run["train_acc1es"]
    if measured_on is not None:
        curve = {
            epoch: run["eval_acc1es"].get(f"{measured_on}@{epoch}", math.nan)
            for epoch in range(epochs)
        }
    return np.float32([1 - curve[epoch] / 100 for epoch in range(epochs)])


def check_costs(columns, row, runs, dataset):
    """All runs of the published records agree on what training costs."""
    dataset = {"cifar10": "cifar10-valid"}.get(dataset, dataset)
    run = next(run for (name, _), run in runs.items() if name == dataset)
    assert columns["train_seconds"][row] == pytest.approx(run["train_times"][0], rel=1e-6)
    last = run["epochs"] - 1
    passes = run["eval_times"][f"x-valid@{last}"]
    assert columns["valid_seconds"][row] == pytest.approx(passes, rel=1e-6)
    assert columns["parameters"][row] == round(run["params"] * 1e6)
    assert columns["flops"][row] == np.float32(run["flop"] * 1e6)
    assert columns["latency"][row] == np.float32(np.mean(run["latency"]))


# -------------------------------------------------------------------------- published records


def sample(folder):
    source = SAMPLES / folder
    if not source.exists():
        pytest.skip(f"the published records are absent ({folder})")
    return source


@pytest.mark.parametrize(
    ("name", "folder"),
    [("nats_tss", "NATS-tss-v1_0-3ffb9-simple"), ("nats_sss", "NATS-sss-v1_0-50262-simple")],
)
def test_published_records_are_read_exactly(name, folder):
    source = sample(folder)
    records = [
        restricted_load(bz2.decompress((source / f"{index:06d}.pickle.pbz2").read_bytes()), PLAIN)
        for index in (0, 11)
    ]
    strings = [next(iter(record.values()))["arch_str"] for record in records]
    assert_holds(imported(name, source), records, strings, SPACES[name])


def test_spot_values_of_published_records():
    """Read off the records by hand."""
    tss = imported("nats_tss", sample("NATS-tss-v1_0-3ffb9-simple"))
    assert tss.architectures.tolist() == [[4, 2, 1, 2, 1, 1], [3, 3, 4, 0, 3, 4]]
    known = tss.schedules["cifar10", "200"]
    assert known.seeds.tolist() == [777, 888, 999]
    assert known.columns["test_error"][1, -1, 2] == np.float32(0.088)
    assert known.columns["valid_error"][1, -1, 2] == np.float32(0.1206)
    assert known.columns["parameters"].tolist() == [129_306, 802_426]
    short = tss.schedules["cifar10", "12"]
    assert short.seeds.tolist() == [111, 777]
    assert short.columns["valid_error"][1, -1, 1] == np.float32(0.36024)
    assert np.isnan(short.columns["test_error"][:, :, 1]).all()  # trained with seed 111 alone
    sss = imported("nats_sss", sample("NATS-sss-v1_0-50262-simple"))
    assert sss.schedules["cifar100", "90"].columns["test_error"][1, -1, 0] == np.float32(0.4632)
    assert sss.schedules["cifar10", "12"].seeds.tolist() == [777, 888, 999]
    assert sss.schedules["cifar10", "1"].seeds.tolist() == [777]


def test_half_trained_and_fully_trained_are_told_apart():
    tss = imported("nats_tss", sample("NATS-tss-v1_0-3ffb9-simple"))
    half, full = (tss.schedules[name, "200"].columns for name in ("cifar10-valid", "cifar10"))
    assert (full["test_error"][:, -1] < half["test_error"][:, -1]).all()
    np.testing.assert_array_equal(full["valid_error"], half["valid_error"])
    recorded = ~np.isnan(half["test_error"]).all((0, 2))
    assert recorded.nonzero()[0].tolist() == [199]


def test_what_is_shown_to_strategies_is_no_score():
    tss = imported("nats_tss", sample("NATS-tss-v1_0-3ffb9-simple"))
    for known in tss.schedules.values():
        shown = {name for name in known.columns if not name.endswith(("_error", "_seconds"))}
        assert shown == {"parameters", "flops", "latency"}


# ------------------------------------------------------------------------------ every container

WRITERS = {
    "tss, packed": ("nats_tss", nats_tss, nats_tss.write),
    "tss, unpacked": ("nats_tss", nats_tss, nats_tss.write_folder),
    "sss, packed": ("nats_sss", nats_sss, nats_sss.write),
    "sss, unpacked": ("nats_sss", nats_sss, nats_sss.write_folder),
    "pth, stacked": ("nb201_v1_1", nats_tss, nb201_pth.write),
    "pth, zip": (
        "nb201_v1_1",
        nats_tss,
        lambda folder, records=None: nb201_pth.write(folder, records, nb201_pth.zipped),
    ),
    "pth, folder": ("nb201_v1_0", nats_tss, nb201_pth.write_folder),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_container_is_read_exactly(tmp_path, kind):
    name, module, write = WRITERS[kind]
    records, strings = module.records(), module.strings()
    table = imported(name, write(tmp_path))
    texts = [strings[index] for index in sorted(records)]
    assert_holds(table, [records[index] for index in sorted(records)], texts, SPACES[name])
    for known in table.schedules.values():
        assert known.columns["valid_error"].dtype == np.float32


def test_missing_seeds_are_missing(tmp_path):
    errors = imported("nats_tss", nats_tss.write(tmp_path)).schedules["cifar100", "200"]
    found = ~np.isnan(errors.columns["valid_error"][:, -1])
    assert errors.seeds.tolist() == [777, 888, 999]
    assert found.tolist() == [[True] * 3, [True, True, False], [False, True, False]]


@pytest.mark.parametrize("name", SPACES)
def test_recipes_say_what_the_readers_give(tmp_path, name):
    said, write = recipe(name), next(w for n, _, w in WRITERS.values() if n[:4] == name[:4])
    if name.startswith("nats"):
        write = {"nats_tss": nats_tss, "nats_sss": nats_sss}[name].write
    table = imported(name, write(tmp_path))
    assert said["rows"] == SPACES[name].size
    assert {dataset for dataset, _ in table.schedules} == set(said["datasets"])
    assert {schedule for _, schedule in table.schedules} == set(said["schedules"])


@pytest.mark.parametrize("name", ["nats_tss", "nats_sss"])
def test_the_protocol_finds_its_columns(tmp_path, name):
    protocol = build(CONF / f"protocol/{name}.yaml")
    table = imported(name, {"nats_tss": nats_tss, "nats_sss": nats_sss}[name].write(tmp_path))
    for dataset in ("cifar10", "cifar100", "ImageNet16-120"):
        signal = table.schedules[dataset, protocol.schedule]
        assert {protocol.metric, "train_seconds", "valid_seconds"} <= signal.columns.keys()
        assert set(protocol.fidelities) <= set(signal.epochs.tolist())
        report = table.schedules[dataset, protocol.report_schedule]
        assert set(protocol.report) <= report.columns.keys()
        for column in protocol.report:
            assert (~np.isnan(report.columns[column][:, -1])).any(-1).all()


def test_a_data_set_that_was_not_trained_on_is_left_out(tmp_path):
    """As in NAS-Bench-201 v1.0, whose short schedule has half of CIFAR-10 alone."""
    records = nats_tss.records({0: (777,)})
    state = records[0]["12"]
    for key in list(state["all_results"]):
        if key[0] != "cifar10-valid":
            del state["all_results"][key]
            state["dataset_seed"].pop(key[0], None)
    table = imported("nb201_v1_0", nb201_pth.write(tmp_path, records))
    assert ("cifar100", "12") not in table.schedules
    assert "test_error" not in table.schedules["cifar10", "12"].columns
    assert "valid_error" in table.schedules["cifar10", "12"].columns


def test_unknown_latencies_and_seconds(tmp_path):
    records = nats_tss.records({0: (777,), 1: (777,)})
    for number, state in enumerate(records[0].values()):
        for run in state["all_results"].values():
            run["latency"] = (None, [-1])[number]
    for run in records[1]["12"]["all_results"].values():
        run["train_times"] = None
    with pytest.raises(TableError, match="train_seconds is not above zero everywhere"):
        imported("nats_tss", nats_tss.write(tmp_path, records))
    del records[1]
    columns = (
        imported("nats_tss", nats_tss.write(tmp_path, records)).schedules["cifar10", "12"].columns
    )
    assert "latency" not in columns


# ----------------------------------------------------------------------------- what is refused


def a_run(record, schedule="12", key=("cifar10-valid", 777)):
    return record[schedule]["all_results"][key]


def change(**fields):
    def changed(record):
        a_run(record).update(fields)

    return changed


def at(*path, value):
    """A change of one number deep in a record."""

    def changed(record):
        *most, last = path
        for key in most:
            record = record[key]
        record[last] = value

    return changed


def without(*path):
    def changed(record):
        *most, last = path
        for key in most:
            record = record[key]
        del record[last]

    return changed


RUN = ("12", "all_results", ("cifar10-valid", 777))
VALID = (*RUN, "eval_acc1es")


def as_fractions(record):
    for state in record.values():
        for run in state["all_results"].values():
            for name in "train_acc1es", "eval_acc1es":
                run[name] = {key: value / 100 for key, value in run[name].items()}


def one_seed_more(record):
    state = record["12"]
    state["all_results"]["cifar100", 222] = a_run(record, key=("cifar100", 111)) | {"seed": "0222"}


WRONG = {
    "nan": (at(*VALID, "x-valid@3", value=math.nan), "x-valid: nan; allowed: 0 to 100"),
    "infinite": (at(*VALID, "x-valid@3", value=math.inf), "x-valid: inf; allowed: 0 to 100"),
    "negative": (at(*VALID, "x-valid@3", value=-0.1), "x-valid: -0.1; allowed: 0 to 100"),
    "too much": (at(*VALID, "ori-test@3", value=100.1), "ori-test: 100.1; allowed: 0 to 100"),
    "text": (at(*VALID, "x-valid@3", value="50"), "x-valid: '50'; allowed: 0 to 100"),
    "boolean": (at(*RUN, "train_acc1es", 3, value=True), "train: True; allowed: 0 to 100"),
    "none": (at(*RUN, "train_acc1es", 3, value=None), "or of training is missing"),
    "fractions": (as_fractions, "accuracies up to 1 are no percent, as chance is 10"),
    "an epoch less": (without(*RUN, "train_acc1es", 11), "has 11 epochs, not 0 to 11"),
    "an epoch more": (at(*VALID, "x-valid@12", value=5.0), "eval_acc1es has keys other than"),
    "other set": (at(*VALID, "x-test@3", value=5.0), "eval_acc1es has keys other than x-valid"),
    "no last epoch": (without(*VALID, "x-valid@11"), "accuracy of x-valid@11 or"),
    "other epochs": (change(epochs=13), "it has 13 epochs, not 12"),
    "other seed": (change(seed="0888"), "its seed is '0888'"),
    "other name": (change(name="cifar10"), "its name is 'cifar10'"),
    "other network": (at(*RUN, "arch_config", "arch_str", value="|x|"), "its network is '|x|'"),
    "no accuracies": (change(eval_acc1es=None), "eval_acc1es is None"),
    "no field": (without(*RUN, "params"), "params is missing"),
    "parameters": (change(params=802_426.0), "params: 802426.0; allowed: 1e-12 to 10000"),
    "flops": (change(flop=15_647_370.0), "flop: 15647370.0; allowed"),
    "seconds": (at(*RUN, "train_times", 0, value=-1.0), "train_times: -1.0; allowed"),
    "no seconds": (at(*RUN, "eval_times", "x-valid@0", value=None), "eval_times: None; allowed"),
    "times": (change(train_times=[1.0]), "train_times or eval_times is no dict by epoch"),
    "latency": (change(latency=0.01), "latency is 0.01; allowed: a list of seconds"),
    "slow": (change(latency=[1e9]), "latency: 1000000000.0; allowed"),
    "unlisted seed": (one_seed_more, "the runs are not those of dataset_seed"),
    "listed seed": (at("12", "dataset_seed", "cifar100", value=[111, 777]), "of dataset_seed"),
    "other index": (at("12", "arch_index", value=1), "schedule 12 has the index 1"),
    "other string": (
        at("200", "arch_str", value="|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"),
        "record 0 is of '|none~0",
    ),
    "no schedule": (without("200"), "record 0 holds '12'; allowed: the schedules 12, 200"),
    "other schedule": (at("90", value={}), "record 0 holds '12', '200', '90'; allowed"),
    "no runs": (at("12", "all_results", value=[]), r"all_results is \[\]"),
    "strange key": (at("12", "all_results", "cifar10", value={}), "'cifar10' is no pair of a"),
    "other data set": (at("12", "all_results", ("mnist", 1), value={}), "'mnist', 1.; allowed: ci"),
    "a run is no dict": (at(*RUN, value=3), "name is missing"),
}  # fmt: skip


def plain(record):
    """A record as the readers get it, without numpy's numbers."""
    return restricted_load(pickle.dumps(record), PLAIN)


def results(name="file"):
    return Results(SPACES["nats_tss"], ["12", "200"], name)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_record_is_seen(what):
    spoil, sentence = WRONG[what]
    record = plain(nats_tss.records({0: (777,)})[0])
    results().add(0, record)
    spoil(record)
    with pytest.raises(TableError, match=sentence) as caught:
        results().add(0, record)
    assert str(caught.value).startswith("record 0")
    assert len(str(caught.value).splitlines()) == 1


JUNK = st.sampled_from(
    [None, True, -1, 10**5000, 1e300, math.nan, "", "x" * 300, b"x", [], {}, (), {1, 2}, [[]] * 3]
)


def places(node, path=()):
    """The path of every container item, but of most epochs."""
    if isinstance(node, dict | list):
        items = list(node.items() if isinstance(node, dict) else enumerate(node))
        for key, value in items[:5] + items[-5:] if len(items) > 20 else items:
            yield (*path, key)
            yield from places(value, (*path, key))


@given(data=st.data())
@settings(max_examples=400)
def test_no_record_is_a_traceback(data):
    record = plain(nats_tss.records({0: (777,)})[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at(*data.draw(st.sampled_from(list(places(record)))), value=data.draw(JUNK))(record)
    sentence = "read"
    found = results()
    try:
        found.add(0, record)
        found.table({})
    except TableError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1
    assert len(sentence) < 600


@given(data=st.data())
@settings(max_examples=100)
def test_no_description_is_a_traceback(data):
    top = nats.meta(list(nats_tss.strings()), {0: None})
    found = results()
    found.strings[0] = top["meta_archs"][0]
    found.check_meta(top)
    at(data.draw(st.sampled_from(sorted(top))), value=data.draw(JUNK))(top)
    with contextlib.suppress(TableError):
        found.check_meta(top)


def test_what_is_wrong_names_its_file(tmp_path):
    records = nats_tss.records({0: (777,)})
    a_run(records[0])["epochs"] = 13
    for write in nats_tss.write, nats_tss.write_folder, nb201_pth.write, nb201_pth.write_folder:
        source = write(tmp_path, records)
        file = min(source.glob("0*"), default=source)
        with pytest.raises(TableError, match=f"{file.name}: record 0, schedule 12, .* 13 epochs"):
            imported("nats_tss" if file.suffix == ".pbz2" else "nb201_v1_1", source)


def test_too_many_seeds():
    record = plain(nats_tss.records({0: range(100, 109)})[0])
    with pytest.raises(TableError, match=r"schedule 200, cifar10.*: more than 8 training seeds"):
        results().add(0, record)


META = {
    "short": ({"meta_archs": ["8:8:8:8:8"]}, "it lists 1 architectures, not 15,625"),
    "no list": ({"meta_archs": None}, "it lists 0 architectures, not 15,625"),
    "other total": ({"total_archs": 6466}, "is no file of nb201: it lists 15,625 architectures"),
    "evaluated": ({"evaluated_indexes": {0, 1}}, "names 2 evaluated architectures and holds 1"),
    "no set": ({"evaluated_indexes": "all"}, "evaluated_indexes is no set of numbers"),
    "not listed": ({"meta_archs": nats_tss.strings()[::-1]}, "record 0 is of .*; the file lists "),
    "outside": ({"arch2infos": {15_625: {}}}, "index 15625; allowed: 0 to 15624"),
    "no number": ({"arch2infos": {"0": {}}}, "index '0'; allowed: 0 to 15624"),
    "no record": ({"arch2infos": {}, "evaluated_indexes": set()}, "holds no record of an arch"),
    "no dict": ({"arch2infos": {0: 7}}, "record 0 holds something else; allowed: the schedules"),
}


@pytest.mark.parametrize("what", META)
def test_a_wrong_description_is_seen(tmp_path, what):
    changed, sentence = META[what]
    top = nats.meta(nats_tss.strings(), nats_tss.records({0: (777,)})) | changed
    with pytest.raises(TableError, match=sentence):
        imported("nats_tss", nats.packed(top, tmp_path / "file.pickle.pbz2"))


def test_a_record_that_is_there_twice(tmp_path):
    found, record = results(), plain(nats_tss.records({0: (777,)})[0])
    found.add(0, record)
    with pytest.raises(TableError, match="record 0 is there twice"):
        found.add(0, record)
    folder = nats_tss.write_folder(tmp_path, {0: record})
    (folder / "000001.pickle.pbz2").write_bytes((folder / "000000.pickle.pbz2").read_bytes())
    with pytest.raises(TableError, match=r"000001.pickle.pbz2: record 1 is of .*; the file lists"):
        imported("nats_tss", folder)


def test_files_of_the_other_space(tmp_path):
    for write in nats_sss.write, nats_sss.write_folder:
        with pytest.raises(
            TableError, match=r"is no file of nb201: it lists 32,768 arch|schedules"
        ):
            imported("nats_tss", write(tmp_path))
    with pytest.raises(TableError, match=r"is no file of nats_sss: it lists 15,625 arch|schedules"):
        imported("nats_sss", nats_tss.write(tmp_path))


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("notes.txt", r"holds 'notes.txt'; allowed: names such as 000000.pickle.pbz2, meta"),
        ("12.pickle.pbz2", r"holds '12.pickle.pbz2'; allowed"),
        ("000001.pickle.pbz2x", "; allowed"),
    ],
)
def test_foreign_names_in_a_folder(tmp_path, member, sentence):
    folder = nats_tss.write_folder(tmp_path)
    (folder / member).write_text("")
    with pytest.raises(TableError, match=sentence):
        imported("nats_tss", folder)


def test_members_that_leave_the_folder(tmp_path):
    folder = nats_tss.write_folder(tmp_path)
    (folder / "000000.pickle.pbz2").rename(tmp_path / "000000.pickle.pbz2")
    (folder / "000000.pickle.pbz2").symlink_to(tmp_path / "000000.pickle.pbz2")
    with pytest.raises(TableError, match=r"000000.pickle.pbz2 is no file of this folder"):
        imported("nats_tss", folder)


def test_folders_without_what_they_need(tmp_path):
    folder = nats_tss.write_folder(tmp_path)
    (folder / "meta.pickle.pbz2").rename(tmp_path / "meta.pickle.pbz2")
    with pytest.raises(TableError, match=r"meta.pickle.pbz2 cannot be read as bz2: .*No such file"):
        imported("nats_tss", folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"empty holds no record of an architecture"):
        imported("nb201_v1_1", tmp_path / "empty")


def test_an_incomplete_file_needs_the_flag(tmp_path):
    with pytest.raises(TableError, match=r"it has 3 of the 15,625 architectures"):
        imported("nats_tss", nats_tss.write(tmp_path), partial=False)


@pytest.mark.parametrize("kind", WRITERS)
def test_truncated_and_damaged_files(tmp_path, kind):
    name, _, write = WRITERS[kind]
    source = write(tmp_path)
    path = source if source.is_file() else min(source.glob("0*"))
    whole = path.read_bytes()
    for length in 0, 1, 100, len(whole) // 2, len(whole) - 200:
        path.write_bytes(whole[:length])
        with pytest.raises(TableError, match=path.name):
            imported(name, source)
    path.write_bytes(whole[:1000] + b"\xff\x00" + whole[1002:])
    with pytest.raises(TableError, match=path.name):
        imported(name, source)


def test_bytes_behind_the_end(tmp_path):
    source = nats_tss.write(tmp_path)
    source.write_bytes(source.read_bytes() + bz2.compress(b"more"))
    with pytest.raises(TableError, match=r"^NATS-tss-v1_0.pickle.pbz2: damaged pickle: more bytes"):
        imported("nats_tss", source)


def test_a_bomb(tmp_path):
    (tmp_path / "bomb.pickle.pbz2").write_bytes(
        bz2.compress((b"\x8c\xff" + b"x" * 255 + b"0") * 80_000)
    )
    with pytest.raises(TableError, match=r"refused: an item of more than 17 MB"):
        imported("nats_tss", tmp_path / "bomb.pickle.pbz2")


def test_official_names_carry_a_digest(tmp_path):
    for write, name, digits in (
        (nats_tss.write, "NATS-tss-v1_0-{}.pickle.pbz2", 5),
        (nb201_pth.write, "NAS-Bench-201-v1_1-{}.pth", 6),
    ):
        source = write(tmp_path)
        digest = hashlib.md5(source.read_bytes()).hexdigest()
        good = source.rename(tmp_path / name.format(digest[-digits:]))
        check_name(good)
        bad = good.rename(tmp_path / name.format("0" * digits))
        with pytest.raises(
            TableError, match=f"is damaged: its MD5 ends in {digest[-6:]}, its name"
        ):
            check_name(bad)
        with pytest.raises(TableError, match=r"MD5 ends in"):
            imported("nats_tss" if digits == 5 else "nb201_v1_1", bad)
