"""`nas-arena space` as a user meets it: what it prints, writes and refuses, and how it exits."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import cli, parts
from bench.table import read_table, shipped_folder, write_table
from spaces.nb201.space import NB201

ROOT = Path(__file__).parent.parent
SHIPPED = shipped_folder(NB201()) / "nb201.h5"


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder, without writing pictures; returns status and texts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("bench.report.figures.draw", lambda figure, kind: b"")
    (tmp_path / "data").mkdir()

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as raised:
            cli.main(line.split())
        out, err = capsys.readouterr()
        return int(raised.value.code or 0), out, err

    return run


@pytest.fixture
def some_rows(tmp_path):
    """A table `some` of the first 40 cells."""
    table = read_table(SHIPPED)
    groups = {
        key: replace(known, columns={name: v[:40] for name, v in known.columns.items()})
        for key, known in table.schedules.items()
    }
    few = replace(table, architectures=table.architectures[:40], schedules=groups)

    def write(**texts):
        of = replace(few, provenance=few.provenance | texts)
        write_table(of, NB201(), tmp_path / "data/some.h5")

    return write


def test_the_shipped_table(call, tmp_path):
    status, out, err = call("space nb201 dataset=cifar100")
    assert (status, err) == (0, "")
    assert out.startswith("nb201 · cifar100 · validation error\n")
    text = " ".join(out.split())
    for fact in (
        "15,625 members, 15,625 networks that a table tells apart",
        "6,466 isomorphism classes, counted over all members",
        "1 26.507",  # 73.4933 % accuracy, as published
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|"
        "nor_conv_3x3~2|",
        "over all 15,625 members; share of the variance of the error: first-order functional "
        "ANOVA, exact",
        "steepest descent from all 15,625 members",
    ):
        assert fact in text
    folder = tmp_path / "results/space/nb201"
    assert out.endswith(f"View: {folder / 'space.md'}\n")
    assert {path.name for path in folder.iterdir()} == {
        *("space.md", "errors.png", "cells.png", "effects.png", "walk.png"),
        *("distance.png", "optima.png", "fronts.png", "signals.png"),
    }
    assert "15,625 members" in (folder / "space.md").read_text()


def test_without_a_table(call, tmp_path):
    status, out, err = call("space transnas_micro out=here")
    assert (status, err) == (0, "")
    assert out.startswith("transnas_micro\n")
    text = " ".join(out.split())
    assert "4,096 members" in text
    assert "for example 64-41414-" in text
    assert "a table would say more: `nas-arena data import transnas_micro`" in text
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"space.md", "example.png"}


def test_a_named_table_with_its_choices(call, some_rows):
    some_rows()
    status, out, _ = call("space nb201 table=some dataset=ImageNet16-120 schedule=200")
    assert status == 0
    text = " ".join(out.split())
    assert "nb201 · ImageNet16-120" in text
    assert "40 architectures with a number" in text
    assert "not described: the table knows 0.256 % of the members" in text


def test_the_same_command_the_same_bytes(call, some_rows, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    some_rows()
    written = []
    for seed in "12":
        subprocess.run(
            [sys.executable, "-m", "bench.cli", "space", "nb201", "table=some", f"out={seed}"],
            env={"PYTHONPATH": str(ROOT), "NAS_ARENA_DATA": str(tmp_path / "data")}
            | {"PYTHONHASHSEED": seed, "PATH": ""},
            check=True,
            capture_output=True,
        )
        written.append({path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()})
    assert written[0] == written[1]
    assert all(data.startswith(b"\x89PNG") for name, data in written[0].items() if "png" in name)


@pytest.mark.parametrize("line", ["space --help", "space nb201 -h"])
def test_help_names_every_space(call, line):
    status, out, _ = call(line)
    assert status == 0
    assert all(f"  {name} " in out for name in parts.options("space"))
    assert "nas-arena space NAME" in out


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("space", "space is not named; allowed: "),
        ("space nb2o1", "space is 'nb2o1'; allowed: "),
        ("space nb201 color=red", "'color=red' is unknown; allowed: dataset=, schedule=, metric="),
        ("space nb201 dataset", "'dataset' is unknown; allowed: dataset=, schedule=, metric="),
        ("space nb201 dataset=", "'dataset=' is unknown; allowed: dataset=, schedule=, metric="),
        ("space nb201 dataset=mnist", "dataset is 'mnist'; allowed: cifar10, cifar100, ImageNet1"),
        ("space nb201 schedule=12", "schedule is '12'; allowed: 200"),
        ("space nb201 metric=test_error", "metric is 'test_error'; allowed: valid_error"),
        ("space nb201 metric=latency", "metric is 'latency'; allowed: valid_error"),
        ("space nb201 table=mine", "table 'mine' is neither in "),
        ("space transnas_micro dataset=x", "dataset= needs a table; a table would say more: "),
        ("space transnas_micro table=nb201", "table 'nb201' is neither in "),
    ],
)
def test_bad_input_is_one_sentence(call, line, sentence, tmp_path):
    status, out, err = call(line)
    assert (status, out) == (2, "")
    assert err.startswith(f"nas-arena: {sentence}")
    assert err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_a_table_of_another_space_is_refused(call, some_rows):
    some_rows(space="other")
    status, _, err = call("space nb201 table=some")
    assert status == 2
    assert "is of space other, not nb201" in err


@pytest.mark.parametrize("harm", ["byte", "cut", "no digest", "empty"])
def test_a_damaged_table_is_named(call, some_rows, tmp_path, harm):
    some_rows()
    path = tmp_path / "data/some.h5"
    data = bytearray(path.read_bytes())
    if harm == "byte":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:-9] if harm == "cut" else b"" if harm == "empty" else data)
    if harm == "no digest":
        path.with_suffix(".h5.sha256").unlink()
    status, out, err = call("space nb201 table=some")
    assert (status, out) == (3, "")
    assert err.count("\n") == 1
    assert str(path) in err


def test_a_foreign_file_with_a_right_digest_is_named(call, tmp_path):
    path = tmp_path / "data/some.h5"
    path.write_bytes(b"something else")
    shutil.copy(SHIPPED.with_suffix(".h5.sha256"), path.with_suffix(".h5.sha256"))
    assert call("space nb201 table=some")[0] == 3


def test_a_folder_that_cannot_be_made(call, some_rows, tmp_path):
    some_rows()
    (tmp_path / "here").write_text("a file")
    status, _, err = call("space nb201 table=some out=here")
    assert status == 2
    assert "here: " in err
    assert (tmp_path / "here").read_text() == "a file"
