"""TransNAS-Bench-101: what is read of its file, and what is said of files that are not it."""

import zipfile

import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf
from published import transnas

from bench.compose import plan
from bench.data import make_table
from bench.protocol import Protocol
from bench.search import Query
from bench.table import TableError, TableObjective, write_table
from spaces.transnas.space import TransNASMacro, TransNASMicro

SPACES = {"micro": TransNASMicro(), "macro": TransNASMacro()}
MICRO = SPACES["micro"]
TEXT = transnas.MICRO[1]  # the network that tests spoil


def imported(path, part="micro", *, partial=True):
    file = CONF / f"data/transnas_{part}.yaml"
    recipe = OmegaConf.to_container(OmegaConf.load(file))
    reader = build(file)["reader"]
    del recipe["reader"]
    return make_table(path, SPACES[part], recipe, reader, partial=partial)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    path = transnas.write(tmp_path_factory.mktemp("transnas"))
    return {part: imported(path, part) for part in SPACES}


def all_records(part):
    return transnas.records()["data"][part]


# ------------------------------------------------------------------------------ what is read


HEADLINES = {  # our column, the published metric, and how one follows from the other
    "class_scene": ("error", "top1", lambda value: 1 - value / 100),
    "class_object": ("error", "top1", lambda value: 1 - value / 100),
    "room_layout": ("loss", "loss", lambda value: value),
    "jigsaw": ("error", "top1", lambda value: 1 - value / 100),
    "segmentsemantic": ("error", "mIoU", lambda value: 1 - value / 100),
    "normal": ("loss", "ssim", lambda value: 1 - value),
    "autoencoder": ("loss", "ssim", lambda value: 1 - value),
}


@pytest.mark.parametrize("part", SPACES)
@pytest.mark.parametrize("task", transnas.EPOCHS)
def test_every_epoch_of_every_split_is_there(tables, part, task):
    published, epochs = all_records(part), transnas.EPOCHS[task]
    table = tables[part]
    assert [SPACES[part].to_string(arch) for arch in table.architectures.tolist()] == [*published]
    known = table.schedules[task, str(epochs)]
    assert (known.epochs.tolist(), known.seeds.tolist()) == ([*range(1, epochs + 1)], [0])
    kind, metric, turned = HEADLINES[task]
    for split in "train", "valid", "test":
        curves = [tasks[task]["metrics"][f"{split}_{metric}"] for tasks in published.values()]
        expected = turned(np.array(curves)).astype(np.float32)[:, :, None]
        np.testing.assert_array_equal(known.columns[f"{split}_{kind}"], expected)
    splits = {f"{split}_{kind}" for split in ("train", "valid", "test")}
    visible = {"parameters", "flops", "latency"}
    assert known.columns.keys() == splits | visible | {"elapsed_seconds"}


def test_sizes_and_seconds(tables):
    known = tables["micro"].schedules["jigsaw", "10"].columns
    infos = [tasks["jigsaw"]["model_info"] for tasks in all_records("micro").values()]
    for name, key in (
        ("parameters", "model_params"),
        ("flops", "model_FLOPs"),
        ("latency", "inference_time"),
    ):
        expected = np.array([info[key] for info in infos], np.float32)
        np.testing.assert_array_equal(known[name], expected)
    for row, tasks in enumerate(all_records("micro").values()):
        last = tasks["jigsaw"]["metrics"]["time_elapsed"][-1]
        hours, minutes, seconds = map(int, last.split(":"))
        assert known["elapsed_seconds"][row, -1, 0] == 3600 * hours + 60 * minutes + seconds


def same(one, other):
    np.testing.assert_array_equal(one.architectures, other.architectures)
    assert one.schedules.keys() == other.schedules.keys()
    for key, known in one.schedules.items():
        assert known.columns.keys() == other.schedules[key].columns.keys()
        for name, values in known.columns.items():
            np.testing.assert_array_equal(values, other.schedules[key].columns[name])


def test_the_older_form_of_torch_save(tables, tmp_path):
    same(imported(transnas.write_legacy(tmp_path)), tables["micro"])


def test_times_may_be_numbers(tables, tmp_path):
    published = transnas.records()
    for tasks in published["data"]["micro"].values():
        for record in tasks.values():
            times = [time.split(":") for time in record["metrics"]["time_elapsed"]]
            seconds = [3600 * int(h) + 60 * int(m) + int(s) for h, m, s in times]
            record["metrics"]["time_elapsed"] = seconds
    same(imported(transnas.write(tmp_path, published)), tables["micro"])


def changed(task="class_object", text=TEXT, **metrics):
    """What the file holds, with other metrics of one network."""
    published = transnas.records()
    published["data"]["micro"][text][task]["metrics"] |= metrics
    return published


def with_info(**info):
    published = transnas.records()
    published["data"]["micro"][TEXT]["class_object"]["model_info"] |= info
    return published


@pytest.mark.parametrize(
    "times",
    [
        ["00:00:10"] * 25,
        [f"00:00:{59 - epoch}" for epoch in range(25)],
        list(range(25)),
        ["soon"] * 25,
        ["00:00:10"],
        "00:00:10",
        None,
        [10**400] * 25,
    ],
    ids=repr,
)
def test_times_that_do_not_rise_are_left_out(times, tmp_path):
    table = imported(transnas.write(tmp_path, changed(time_elapsed=times)))
    assert "elapsed_seconds" not in table.schedules["class_object", "25"].columns
    assert "elapsed_seconds" in table.schedules["class_scene", "25"].columns


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("parameters", "model_params", 1.28),  # millions
        ("parameters", "model_params", ""),
        ("flops", "model_FLOPs", 812.5),
        ("flops", "model_FLOPs", float("nan")),
        ("latency", "inference_time", 14.2),  # milliseconds
        ("latency", "inference_time", 0.0),
        ("latency", "inference_time", True),
    ],
)
def test_sizes_of_another_unit_are_left_out(name, key, value, tmp_path):
    table = imported(transnas.write(tmp_path, with_info(**{key: value})))
    assert name not in table.schedules["class_object", "25"].columns
    assert name in table.schedules["class_scene", "25"].columns


def test_a_task_that_was_not_trained_is_missing(tmp_path):
    published = transnas.records()
    del published["data"]["micro"][TEXT]["normal"]
    for tasks in published["data"]["micro"].values():
        del tasks["jigsaw"]
    path = transnas.write(tmp_path, published)
    table = imported(path)
    assert ("jigsaw", "10") not in table.schedules
    columns = table.schedules["normal", "30"].columns
    row = list(published["data"]["micro"]).index(TEXT)
    assert all(np.isnan(values[row]).all() for values in columns.values())
    assert all(not np.isnan(np.delete(values, row, 0)).any() for values in columns.values())


def test_a_training_that_diverged_is_missing(tmp_path):
    curve = [0.5] * 20 + [float("nan")] * 10
    known = imported(transnas.write(tmp_path, changed("normal", valid_ssim=curve)))
    values = known.schedules["normal", "30"].columns["valid_loss"][:, :, 0]
    assert np.isnan(values).sum() == 10


# ------------------------------------------------------------------------ what is not read


def without(*keys):
    published = transnas.records()
    inner = published
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return published


def renamed(text):
    published = transnas.records()
    published["data"]["micro"][text] = published["data"]["micro"].pop(TEXT)
    return published


def given(value, *keys):
    published = transnas.records()
    inner = published
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return published


def in_fractions(task, name):
    published = transnas.records()
    for tasks in published["data"]["micro"].values():
        metrics = tasks[task]["metrics"]
        metrics[name] = [value / 100 for value in metrics[name]]
    return published


OBJECT = "data", "micro", TEXT, "class_object"
BAD = {
    "a list": ([1, 2], "it has no data, or one that is no dict"),
    "no data": (without("data"), "it has no data, or one that is no dict"),
    "no micro": (without("data", "micro"), "data: it has no micro, or one that is no dict"),
    "a foreign cell": (renamed("64-41414-9_02_333"), "'64-41414-9_02_333' is no cell of"),
    "a number as name": (renamed(7), "'7' is no cell of transnas_micro"),
    "no task": (given({}, *OBJECT[:-1]), "it holds no tasks, or others than class_scene"),
    "a foreign task": (given({}, *OBJECT[:-1], "depth"), "it holds no tasks, or others than"),
    "no record": (given(5, *OBJECT), "it has no total_epochs, or one that is no int"),
    "no metrics": (without(*OBJECT, "metrics"), "it has no metrics, or one that is no dict"),
    "no info": (without(*OBJECT, "model_info"), "it has no model_info, or one that is no dict"),
    "other epochs": (given(24, *OBJECT, "total_epochs"), "total_epochs is 24; allowed: one number"),
    "no epoch": (given(0, *OBJECT, "total_epochs"), "total_epochs is 0; allowed: one number"),
    "true": (given(True, *OBJECT, "total_epochs"), "it has no total_epochs, or one that is no int"),
    "no curve": (without(*OBJECT, "metrics", "valid_top1"), "valid_top1 is no list of 25 numbers"),
    "a short curve": (changed(test_top1=[50.0] * 24), "test_top1 is no list of 25 numbers"),
    "text": (changed(test_top1=["50"] * 25), "test_top1 is no list of 25 numbers"),
    "truths": (changed(test_top1=[True] * 25), "test_top1 is no list of 25 numbers"),
    "above": (changed(test_top1=[101.0] * 25), "goes from 101 to 101; allowed: 0 to 100"),
    "below": (changed(test_top1=[-1.0] * 25), "goes from -1 to -1; allowed: 0 to 100"),
    "endless": (changed(test_top1=[10**400] * 25), "goes from inf to inf; allowed: 0 to 100"),
    "percent": (changed("normal", valid_ssim=[57.0] * 30), "57; allowed: -1 to 1"),
    "not negated": (changed("room_layout", valid_neg_loss=[0.6] * 25), "0.6; allowed: -1e+30 to 0"),
    "fractions": (
        in_fractions("class_object", "valid_top1"),
        "valid_top1 is given in fractions; allowed: percent",
    ),
    "fractions of mIoU": (
        in_fractions("segmentsemantic", "test_mIoU"),
        "test_mIoU is given in fractions; allowed: percent",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_explained(case, tmp_path):
    published, sentence = BAD[case]
    with pytest.raises(TableError) as raised:
        imported(transnas.write(tmp_path, published))
    assert sentence in str(raised.value)
    assert "transnas-bench_v10141024.pth" in str(raised.value)


@pytest.mark.parametrize("part", SPACES)
def test_a_file_without_some_networks_is_refused_unless_partial(part, tmp_path):
    size = SPACES[part].size
    with pytest.raises(TableError, match=f"it has [45] of the {size:,} architectures"):
        imported(transnas.write(tmp_path), part, partial=False)


def test_the_whole_macro_space_is_complete(tmp_path):
    texts = [SPACES["macro"].to_string(arch) for arch in SPACES["macro"]]
    published = transnas.records(macro=texts[:1])
    (tasks,) = published["data"]["macro"].values()
    published["data"]["macro"] = {key: {"class_scene": tasks["class_scene"]} for key in texts}
    table = imported(transnas.write(tmp_path, published), "macro", partial=False)
    assert table.architectures.shape == (3_256, 6)


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("write", [transnas.write, transnas.write_legacy])
def test_nothing_is_executed(write, tmp_path, capsys):
    with pytest.raises(TableError, match="refused: the file asks for"):
        imported(write(tmp_path, given(Hostile(), *OBJECT)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("write", [transnas.write, transnas.write_legacy])
@pytest.mark.parametrize("share", [0, 0.2, 0.9])
def test_truncated_files_are_explained(write, share, tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(TableError, match=r"transnas-bench_v10141024\.pth"):
        imported(path)


def test_a_flipped_bit_in_an_archive_is_seen(tmp_path):
    path = transnas.write(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(TableError, match=r"transnas-bench_v10141024\.pth"):
        imported(path)


def test_an_archive_without_a_pickle_is_explained(tmp_path):
    path = tmp_path / "transnas-bench_v10141024.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/version", "3\n")
    with pytest.raises(TableError, match=r"transnas-bench_v10141024\.pth"):
        imported(path)


# ---------------------------------------------------------------------------- the protocols


PROTOCOLS = {
    "class_scene": "transnas",
    "class_object": "transnas",
    "room_layout": "transnas_room_layout",
    "jigsaw": "transnas_jigsaw",
    "segmentsemantic": "transnas_segmentsemantic",
    "normal": "transnas_ssim",
    "autoencoder": "transnas_ssim",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A table of the whole micro space, whose records repeat those of four networks."""
    folder = tmp_path_factory.mktemp("whole")
    published = transnas.records()
    some = list(published["data"]["micro"].values())
    published["data"]["micro"] = {
        MICRO.to_string(arch): some[sum(arch) % len(some)] for arch in MICRO
    }
    table = imported(transnas.write(folder, published), partial=False)
    write_table(table, MICRO, folder / "transnas_micro.h5")
    return folder, some


@pytest.mark.parametrize("task", transnas.EPOCHS)
def test_each_task_has_a_protocol(task, whole, monkeypatch):
    folder, some = whole
    monkeypatch.setenv("NAS_ARENA_DATA", str(folder))
    words = [f"dataset={task}", f"protocol={PROTOCOLS[task]}", "budget=simulated_seconds"]
    (cell,) = plan(["space=transnas_micro", *words, "budget.limit=1e6"]).cells
    assert isinstance(cell.protocol, Protocol)
    assert isinstance(cell.objective, TableObjective)
    arch = MICRO.from_string(TEXT)
    answer = cell.objective.evaluate(Query(arch, transnas.EPOCHS[task]), noise=1, trained=0)
    kind, metric, turned = HEADLINES[task]
    metrics = some[sum(arch) % len(some)][task]["metrics"]
    assert answer.error == np.float32(turned(metrics[f"valid_{metric}"][-1]))
    (reported,) = cell.objective.report([arch])[f"test_{kind}"]
    assert reported == np.float32(turned(metrics[f"test_{metric}"][-1]))  # last, not best, epoch
    assert set(answer.metrics) == {"parameters", "flops", "latency"}
