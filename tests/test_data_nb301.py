"""The training logs of NAS-Bench-301: what is read from them, and what is refused."""

import json
import os
import struct
import zipfile

import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf
from published import nb301

from bench.data import digest_of, make_table
from bench.protocol import Protocol
from bench.table import TableError, TableObjective, read_table, write_table
from spaces.darts import official
from spaces.darts.space import DARTS, PREFIX, from_config

SPACE = DARTS()


def load(source):
    recipe = OmegaConf.to_container(OmegaConf.load(CONF / "data/nb301.yaml"))
    reader = build(CONF / "data/nb301.yaml")["reader"]
    recipe.pop("reader")
    return make_table(source, SPACE, recipe, reader)


def refused(source):
    with pytest.raises(TableError) as raised:
        load(source)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


@pytest.fixture
def folder(tmp_path):
    return nb301.write(tmp_path)


def edit(folder, change, name="rs/results_3.json"):
    path = folder / name
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return folder


def test_every_number_is_where_it_belongs(folder):
    table = load(folder)
    assert list(table.schedules) == [("cifar10", "100")]
    schedule = table.schedules["cifar10", "100"]
    assert schedule.epochs.tolist() == [*range(1, 99), 100]
    assert schedule.seeds.tolist() == [0, 1, 2]
    assert len(table.architectures) == 6
    seen = dict.fromkeys(range(6), 0)
    for name, log in sorted(nb301.logs().items()):
        arch = from_config(log["optimized_hyperparamater_config"])
        (row,) = np.flatnonzero((table.architectures == arch).all(1))
        seed, curves, info = seen[row], log["learning_curves"], log["info"][0]
        seen[row] += 1
        for column, percent in {
            "train_error": [*curves["Train/train_accuracy"], info["train_accuracy"]],
            "valid_error": [*curves["Train/val_accuracy"], info["val_accuracy"]],
            "test_error": [np.nan] * 98 + [log["test_accuracy"]],
        }.items():
            expected = (1 - np.array(percent) / 100).astype(np.float32)
            np.testing.assert_array_equal(schedule.columns[column][row, :, seed], expected, name)
        assert schedule.columns["parameters"][row] == info["model_parameters"]
    assert sorted(seen.values()) == [1, 1, 1, 1, 1, 3]
    for row, count in seen.items():
        errors = schedule.columns["valid_error"][row]
        assert np.isnan(errors[:, count:]).all()
        assert np.isfinite(errors[:, :count]).all()


def test_seconds_are_of_one_epoch(folder):
    table = load(folder)
    seconds = table.schedules["cifar10", "100"].columns["train_seconds"]
    first = [log for name, log in nb301.logs().items() if name[-6] in "012"]
    arch = from_config(first[0]["optimized_hyperparamater_config"])
    (row,) = np.flatnonzero((table.architectures == arch).all(1))
    assert len(first) == 3
    assert seconds[row] == np.float32(sum(log["runtime"] for log in first) / 3 / 100)


def test_a_folder_and_its_zip_file_are_one_table(folder, tmp_path):
    one, other = load(folder), load(nb301.write_zip(tmp_path))
    np.testing.assert_array_equal(one.architectures, other.architectures)
    for name, values in one.schedules["cifar10", "100"].columns.items():
        np.testing.assert_array_equal(values, other.schedules["cifar10", "100"].columns[name])


def test_logs_without_curves(tmp_path):
    """The smaller of the two published data sets."""
    schedule = load(nb301.write(tmp_path, curves=False)).schedules["cifar10", "100"]
    assert schedule.epochs.tolist() == [100]
    assert schedule.columns["valid_error"].shape == (6, 1, 3)


def test_a_curve_to_the_last_epoch_ends_in_the_final_value(folder):
    def change(record):
        record["learning_curves"]["Train/val_accuracy"] = [50.0] * 100

    schedule = load(edit(folder, change)).schedules["cifar10", "100"]
    assert schedule.epochs.tolist() == list(range(1, 101))
    assert (schedule.columns["valid_error"] == 0.5).sum() == 99


def test_a_log_of_one_optimiser_is_enough(folder):
    assert len(load(folder / "rs").architectures) == 2


def test_a_copy_of_a_log_is_no_second_training(folder):
    text = (folder / "rs/results_3.json").read_text()
    (folder / "rs/results_3_ti.json").write_text(text)
    table = load(folder)
    assert table.schedules["cifar10", "100"].columns["valid_error"].shape[2] == 3
    edit(folder, lambda record: record.update(runtime=1), "rs/results_3_ti.json")
    schedule = load(folder).schedules["cifar10", "100"]
    assert (~np.isnan(schedule.columns["test_error"])).sum() == 9


def test_it_is_a_sample_and_stays_one(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    write_table(load(folder), SPACE, tmp_path / "nb301.h5")
    assert len(read_table(tmp_path / "nb301.h5").architectures) == 6
    protocol = build(CONF / "protocol/darts.yaml")
    assert isinstance(protocol, Protocol)
    with pytest.raises(TableError, match="a search needs them all"):
        TableObjective(SPACE, "cifar10", protocol, table="nb301")


def test_the_digest_of_a_folder_knows_its_folders(folder):
    digest = digest_of(folder)
    (folder / "rs/results_3.json").rename(folder / "re/results_3.json")
    assert digest_of(folder) != digest
    (folder / "re/results_3.json").rename(folder / "rs/results_3.json")
    assert digest_of(folder) == digest


PREFIXED = f"{PREFIX}edge_normal_0"
STRANGE = {
    "another training": (
        lambda record: record["optimized_hyperparamater_config"].update({f"{PREFIX}layers": 20}),
        "layers is 20; NAS-Bench-301 trained with 8",
    ),
    "another learning rate": (
        lambda record: record["optimized_hyperparamater_config"].update(
            {"OptimizerSelector:sgd:learning_rate": 0.03}
        ),
        "learning_rate is 0.03; NAS-Bench-301 trained with 0.025",
    ),
    "no architecture": (
        lambda record: record["optimized_hyperparamater_config"].pop(PREFIXED),
        "do not give each of nodes 2 to 5 two inputs",
    ),
    "an operation of another space": (
        lambda record: record["optimized_hyperparamater_config"].update({PREFIXED: "none"}),
        "operation 'none' is none of max_pool_3x3",
    ),
    "a fraction": (
        lambda record: record["info"][0].update(val_accuracy=0.93),
        "val_accuracy is 0.93; allowed: percent, above 1",
    ),
    "too much": (
        lambda record: record.update(test_accuracy=100.5),
        "test_accuracy is 100.5; allowed: percent",
    ),
    "not a number": (
        lambda record: record.update(test_accuracy=float("nan")),
        "test_accuracy is 'nan'; allowed: a finite number",
    ),
    "text": (
        lambda record: record.update(runtime="365136"),
        "runtime is '365136'; allowed: a finite number",
    ),
    "a truth": (
        lambda record: record.update(runtime=True),
        "runtime is 'True'; allowed: a finite number",
    ),
    "no time": (lambda record: record.update(runtime=0), "runtime is 0 and model_parameters"),
    "no info": (lambda record: record.update(info=[]), "is no training log of NAS-Bench-301 with"),
    "no test": (lambda record: record.pop("test_accuracy"), "is no training log of NAS-Bench-301"),
    "a list for info": (lambda record: record.update(info=[[1]]), "is no training log of NAS"),
    "a long curve": (
        lambda record: record["learning_curves"].update({"Train/val_accuracy": [90.0] * 101}),
        "Train/val_accuracy is no list of 100 numbers or fewer",
    ),
    "a gap in a curve": (
        lambda record: record["learning_curves"].update({"Train/val_accuracy": [90.0, None]}),
        "Train/val_accuracy is 'None'; allowed: a finite number",
    ),
    "a huge whole number": (
        lambda record: record.update(runtime=10**400),
        "runtime is",
    ),
}


@pytest.mark.parametrize("what", STRANGE)
def test_strange_logs_are_refused(folder, what):
    change, sentence = STRANGE[what]
    found = refused(edit(folder, change))
    assert sentence in found
    assert "rs/results_3.json" in found


def test_repeats_with_other_parameters_are_refused(folder):
    def change(record):
        record["info"][0]["model_parameters"] += 1

    assert "are of one architecture, with" in refused(edit(folder, change, "darts/results_1.json"))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe{}", b"[" * 100_000, b"1" * 5_000]
)
def test_what_is_no_log_is_refused(folder, text):
    (folder / "rs/results_3.json").write_bytes(text)
    assert "rs/results_3.json" in refused(folder)


def test_large_files_are_not_opened(folder):
    with (folder / "rs/results_3.json").open("wb") as file:
        file.truncate(1 << 40)  # takes no room
    with pytest.raises(TableError, match=r"results_3.json has 1,099,511,627,776 bytes; allowed"):
        official.training_logs(
            folder, space=SPACE, provenance={}, progress=lambda some, total: some
        )


@pytest.mark.parametrize("name", ["surrogate_model.model", "model_config.json"])
def test_pickled_models_are_never_loaded(folder, tmp_path, name):
    models = tmp_path / "nb_models_1.0"
    (models / "xgb_v1.0/0").mkdir(parents=True)
    (models / "xgb_v1.0/0" / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/ran'\ntR.")
    assert "such are never loaded, as that could run code" in refused(models)
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as file:
        file.write(models / "xgb_v1.0/0" / name, f"nb_models/xgb_v1.0/0/{name}")
    assert "objective=surrogate fits models of its own" in refused(tmp_path / "models.zip")


def test_nothing_to_read(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds 0 training logs results_<number>.json" in refused(tmp_path / "empty")
    (tmp_path / "other.json").write_text("{}")
    assert "neither a folder of training logs nor a sound zip" in refused(tmp_path / "other.json")
    assert "there is no file" in refused(tmp_path / "absent")


def test_a_link_is_not_followed(folder, tmp_path):
    secret = tmp_path / "secret.json"
    (folder / "rs/results_3.json").rename(secret)
    (folder / "rs/results_3.json").symlink_to(secret)
    assert "rs/results_3.json is a link or no plain file" in refused(folder)


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "rs/results_99.json")
    assert "rs/results_99.json is a link or no plain file" in refused(folder)


def members(folder, *entries):
    """A zip file with one good log and these (name or info, text)."""
    path = folder / "some.zip"
    with zipfile.ZipFile(path, "w") as file:
        name, log = next(iter(nb301.logs().items()))
        file.writestr(name, json.dumps(log))
        for entry, text in entries:
            file.writestr(entry, text)
    return path


@pytest.mark.parametrize("name", ["../results_1.json", "/etc/results_1.json", "a/../../b.txt",
                                  "C:\\results_1.json", "C:results_1.json"])  # fmt: skip
def test_members_that_leave_the_folder_are_refused(tmp_path, name):
    assert "would leave its folder" in refused(members(tmp_path, (name, "{}")))


def test_links_in_a_zip_file_are_refused(tmp_path):
    link = zipfile.ZipInfo("rs/results_1.json")
    link.external_attr = 0o120777 << 16
    assert "is a link" in refused(members(tmp_path, (link, "/etc/passwd")))


def test_a_member_of_absurd_size_is_refused(tmp_path):
    info = zipfile.ZipInfo("rs/results_1.json")
    info.compress_type = zipfile.ZIP_DEFLATED
    assert "bytes; allowed: 1,048,576" in refused(members(tmp_path, (info, " " * (1 << 25))))


def test_a_member_that_hides_its_size_is_refused(tmp_path):
    info = zipfile.ZipInfo("rs/results_1.json")
    info.compress_type = zipfile.ZIP_DEFLATED
    path = members(tmp_path, (info, " " * (1 << 22)))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 1 << 22), struct.pack("<L", 9)))
    assert "nor a sound zip file of one" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_listed_twice_is_refused(tmp_path):
    name, log = next(iter(nb301.logs().items()))
    assert "lists a member twice" in refused(members(tmp_path, (name, json.dumps(log))))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.99])
def test_a_truncated_zip_file_is_refused(tmp_path, keep):
    path = nb301.write_zip(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    assert "nor a sound zip file of one" in refused(path)


@pytest.mark.parametrize("place", range(60, 4000, 400))
def test_a_flipped_bit_is_noticed(tmp_path, place):
    path = nb301.write_zip(tmp_path)
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)
    refused(path)


def test_too_many_repeats_for_a_table(folder, monkeypatch):
    monkeypatch.setattr(official, "MOST_NUMBERS", 1000)
    assert "with up to 3 logs each" in refused(folder)
    monkeypatch.setattr(official, "MOST_LOGS", 7)
    assert "holds 8 training logs results_<number>.json; allowed: 1 to 7" in refused(folder)
