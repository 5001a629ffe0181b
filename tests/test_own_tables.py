"""Tables that we trained: whole, honest about luck, and to be made again."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bench.built import discrimination
from bench.catalogue import spaces
from bench.data import problems
from bench.table import read_table, shipped_folder

DATASET = "mnist1d"
SEEDS = 3
NAMES = ("chain", "recurrent")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def space(name):
    return spaces()[name]


@pytest.fixture
def path(name, space):
    return shipped_folder(space) / f"{name}.h5"


@pytest.fixture
def table(path):
    return read_table(path)


def final(table, split):
    """Errors after the last epoch, of shape `[architectures, seeds]`."""
    (schedule,) = table.schedules.values()
    return schedule.columns[f"{split}_error"][:, -1].astype(float)


def test_every_architecture_is_there_under_three_seeds(table, space, path):
    assert len(table.architectures) == space.networks == space.size
    assert problems(table, space) == []
    ((dataset, epochs), schedule), *more = table.schedules.items()
    assert (dataset, more) == (DATASET, [])
    assert schedule.epochs.tolist() == list(range(1, int(epochs) + 1))
    assert schedule.seeds.tolist() == list(range(SEEDS))
    for split in "train", "valid", "test":
        assert not np.isnan(schedule.columns[f"{split}_error"]).any()
        assert not np.isnan(schedule.columns[f"{split}_f1_error"][:, -1]).any()
    for column in "parameters", "flops", "latency", "train_seconds":
        assert (schedule.columns[column] > 0).all()
    assert path.stat().st_size < 4e6


def test_it_says_how_it_was_made(table):
    notes = table.provenance["notes"]
    recipe = json.loads(re.search(r"recipe (\{.*?\})\. ", notes)[1])
    ((_, epochs),) = table.schedules
    assert recipe["epochs"] == int(epochs)
    examples = re.search(r"([\d,]+) for validation, ([\d,]+) for test", notes).groups()
    assert min(int(count.replace(",", "")) for count in examples) >= 5000
    assert re.search(r"SHA-256 of the data [0-9a-f]{12}", notes)
    assert re.search(r"with python 3\.\d+\.\d+, torch \d", notes)
    assert re.fullmatch(r"[0-9a-f]{64}", table.provenance["source_sha256"])
    assert table.provenance["licence"] == "Apache-2.0"
    assert table.provenance["source"].startswith("trained here: nas-arena build space=")


def test_it_says_what_luck_is_in_it(table):
    told = re.search(r"highest mean over seeds are (.*?)\. ", table.provenance["notes"])[1]
    for split in "train", "valid", "test":
        noise, spread = discrimination(final(table, split))
        assert f"{split} {noise:.4f} and {spread:.4f}" in told
        assert noise < spread / 3


@pytest.mark.slow
def test_some_of_it_is_made_again(table, space, name, tmp_path, monkeypatch):
    """Another day, other companions: each training ends within the noise that the table records."""
    pytest.importorskip("torch", reason="training needs PyTorch")
    pytest.importorskip("mnist1d", reason="MNIST-1D is made by the package mnist1d")
    from bench import build, compose
    from bench.built import collect

    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    made = compose.training([f"space={name}", f"dataset={DATASET}"])
    some = build.choose(space, "random:4")
    plan = build.make_plan(made, some, SEEDS)
    assert f"SHA-256 of the data {plan.about['data'][:12]}" in table.provenance["notes"]
    built = collect(plan, build.train_all(plan, tmp_path / "build", jobs=2))
    assert built.failures == []
    there = table.architectures.tolist()
    rows = [there.index(list(arch)) for arch in some]
    (schedule,) = table.schedules.values()
    assert np.array_equal(built.columns["parameters"][:, 0], schedule.columns["parameters"][rows])
    assert np.array_equal(built.columns["flops"][:, 0], schedule.columns["flops"][rows])
    for place, split in ((1, "valid"), (2, "test")):
        again, before = built.columns["errors"][:, :, place, -1], final(table, split)[rows]
        between_seeds = np.sqrt(final(table, split).var(1, ddof=1).mean())
        assert np.sqrt(np.mean((again - before) ** 2)) <= between_seeds  # other seeds: 1.4 of it


def test_readme_tells_of_them():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert re.search(rf"\| `{name}` \|.*\| `{name}` \(ships\) \| `{DATASET}` \|", readme)
