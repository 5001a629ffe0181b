import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from contracts import Toy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from objectives import PROTOCOL

from bench.search import Query
from bench.table import (
    PROVENANCE,
    Schedule,
    Table,
    TableError,
    TableObjective,
    data_folder,
    digest_file,
    find_table,
    mean_over_seeds,
    open_table,
    read_schedule,
    read_table,
    sha256,
    write_table,
)

TEXTS = {key: f"the {key}" for key in PROVENANCE} | {"space": "toy", "notes": "–, µ and 漢字"}
SPACE = Toy()


def small_table(errors=None):
    """The space of `contracts.Toy`: epochs 1 and 3, seeds 7 and 8, the second often missing."""
    rows = SPACE.size
    if errors is None:
        errors = np.linspace(0.1, 0.9, rows * 4).reshape(rows, 2, 2)
        errors[::2, :, 1] = np.nan
    known = Schedule(
        np.array([1, 3], np.int32),
        np.array([7, 8], np.int32),
        {
            "valid_error": errors.astype(np.float32),
            "train_seconds": np.arange(1, rows + 1, dtype=np.float32),
            "valid_seconds": np.full(rows, 0.5, np.float32),
            "parameters": np.arange(rows, dtype=np.float32),
            "latency": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2),
        },
    )
    return Table(TEXTS, np.array(list(SPACE), np.int8), {("digits", "3"): known})


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The data folder, with the small table in it."""
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    write_table(small_table(), SPACE, tmp_path / "toy.h5")
    return tmp_path


@pytest.fixture
def path(home):
    return home / "toy.h5"


def equal(one, other):
    np.testing.assert_array_equal(one.architectures, other.architectures)
    assert one.architectures.dtype == other.architectures.dtype == np.int8
    assert one.provenance == other.provenance
    assert one.schedules.keys() == other.schedules.keys()
    for key, known in one.schedules.items():
        found = other.schedules[key]
        np.testing.assert_array_equal(known.epochs, found.epochs)
        np.testing.assert_array_equal(known.seeds, found.seeds)
        assert known.columns.keys() == found.columns.keys()
        for name, values in known.columns.items():
            np.testing.assert_array_equal(values, found.columns[name])
            assert values.dtype == found.columns[name].dtype == np.float32
    return True


# ------------------------------------------------------------------------------- the file


@given(
    errors=hnp.arrays(np.float32, (24, 2, 2), elements=st.floats(0, 1, width=32) | st.just(np.nan))
)
def test_round_trip(tmp_path_factory, errors):
    table, path = small_table(errors), tmp_path_factory.mktemp("table") / "toy.h5"
    digest = write_table(table, SPACE, path)
    assert equal(table, read_table(path))
    assert digest == sha256(path)


def test_equal_tables_are_equal_bytes(path, tmp_path):
    write_table(small_table(), SPACE, tmp_path / "again.h5")
    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes()
    write_table(small_table(np.ones((24, 2, 2))), SPACE, tmp_path / "other.h5")
    assert path.read_bytes() != (tmp_path / "other.h5").read_bytes()


def test_readable_without_this_project(path):
    with h5py.File(path) as file:
        assert file["digits/3/valid_error"].shape == (24, 2, 2)
        assert file.attrs["citation"] == b"the citation"
    assert digest_file(path).read_text() == f"{sha256(path)}  toy.h5\n"  # as `sha256sum -c` reads


def test_a_write_that_fails_leaves_the_old_table(path, monkeypatch):
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.table._write_column", full)
    with pytest.raises(OSError, match="No space"):
        write_table(small_table(np.ones((24, 2, 2))), SPACE, path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["toy.h5", "toy.h5.sha256"]
    assert equal(read_table(path), small_table())


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_write_that_fails_late_leaves_table_and_digest(path, monkeypatch, call, nth):
    module, name = call.split(".")
    real, calls = getattr(os, name), []

    def fails_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == nth:
            raise OSError(5, "Input/output error")
        return real(*args, **kwargs)

    before = path.read_bytes(), digest_file(path).read_bytes()
    monkeypatch.setattr(f"{module}.{name}", fails_once)
    with pytest.raises(OSError, match="Input/output"):
        write_table(small_table(np.ones((24, 2, 2))), SPACE, path)
    monkeypatch.undo()
    assert (path.read_bytes(), digest_file(path).read_bytes()) == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["toy.h5", "toy.h5.sha256"]


def test_a_first_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fails(new, old):
        if str(old).endswith(".h5"):
            raise OSError(5, "Input/output error")
        return Path(new).rename(old)

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="Input/output"):
        write_table(small_table(), SPACE, tmp_path / "toy.h5")
    assert list(tmp_path.iterdir()) == []


def test_both_files_are_flushed_before_either_is_renamed(path, monkeypatch):
    calls = []
    for name in "fsync", "replace":
        real = getattr(os, name)
        monkeypatch.setattr(
            f"os.{name}", lambda *args, n=name, r=real: (calls.append(n), r(*args))[1]
        )
    write_table(small_table(), SPACE, path)
    assert calls == ["fsync", "fsync", "replace", "replace"]


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop_digest(path):
    digest_file(path).unlink()


def empty_digest(path):
    digest_file(path).write_text("")


def binary_digest(path):
    digest_file(path).write_bytes(b"\xff\xfe\x00")


def sign(path):
    digest_file(path).write_text(f"{sha256(path)}  {path.name}\n")


def no_hdf5(path):
    path.write_text("error,seconds\n0.1,3\n")
    sign(path)


def truncate_and_sign(path):
    truncate(path)
    sign(path)


def foreign_hdf5(path):
    with h5py.File(path, "w") as file:
        file["somebody"] = [1, 2, 3]
    sign(path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (flip_a_byte, r"is damaged or was changed: its SHA-256 is \w{12}…, not \w{12}… as when"),
        (truncate, "is damaged or was changed: its SHA-256"),
        (drop_digest, r"has no digest in toy.h5.sha256 beside it; make tables with `nas-arena"),
        (empty_digest, r"has no digest in toy.h5.sha256 beside it"),
        (binary_digest, r"has no digest in toy.h5.sha256 beside it"),
        (no_hdf5, "toy.h5 is not an HDF5 file$"),
        (truncate_and_sign, "toy.h5 is not an HDF5 file$"),
        (
            foreign_hdf5,
            r"toy.h5 is not a table of this version \('nas-arena table 2'\); make it again",
        ),
    ],
)
def test_damage_gets_one_sentence(path, damage, sentence):
    damage(path)
    with pytest.raises(TableError, match=sentence) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_reading_one_schedule(path):
    with open_table(path) as (file, digest):
        assert digest == sha256(path)
        known = read_schedule(file, "digits", "3", ["latency"])
        assert list(known.columns) == ["latency"]
        for where, sentence in {
            ("letters", "3"): "^dataset 'letters' is not in table toy.h5; it has digits$",
            ("digits", "200"): "^schedule '200' is not in table toy.h5; it has 3$",
        }.items():
            with pytest.raises(TableError, match=sentence):
                read_schedule(file, *where, [])
        with pytest.raises(
            TableError, match=r"^test_error is not in table toy.h5 for digits, sche"
        ):
            read_schedule(file, "digits", "3", ["test_error"])


# ------------------------------------------------------------------------------- where it is


def test_the_data_folder_comes_before_what_ships(home):
    assert find_table(SPACE, "toy") == home / "toy.h5"
    with pytest.raises(
        TableError, match=r"^table 'none' is neither in .* nor shipped with toy; here: toy;"
    ):
        find_table(SPACE, "none")


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("NAS_ARENA_DATA", raising=False)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    assert data_folder() == Path.home() / ".nas-arena"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert data_folder() == tmp_path / "torch"
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "ours"))
    assert data_folder() == tmp_path / "ours"


# ---------------------------------------------------------------------------- the objective


def objective(**rules):
    return TableObjective(SPACE, "digits", replace(PROTOCOL, **rules))


@pytest.mark.parametrize(
    ("dataset", "rules", "sentence"),
    [
        ("letters", {}, "^dataset 'letters' is not in table toy.h5; it has digits$"),
        ("digits", {"schedule": "12"}, "^schedule '12' is not in table toy.h5; it has 3$"),
        ("digits", {"report_schedule": "12"}, "^schedule '12' is not in table toy.h5"),
        ("digits", {"metric": "train_error"}, "^train_error is not in table toy.h5 for digits, s"),
        ("digits", {"report": ("test_error",)}, "^test_error is not in table toy.h5 for digits"),
        ("digits", {"fidelities": (1, 2, 3)}, r"^epochs \[2\] are not in table toy.h5 for dig"),
    ],
)
def test_what_is_not_there_is_named(home, dataset, rules, sentence):
    with pytest.raises(TableError, match=sentence):
        TableObjective(SPACE, dataset, replace(PROTOCOL, **rules))


def test_a_pass_that_is_charged_must_be_known(home):
    table = small_table()
    del table.schedules["digits", "3"].columns["valid_seconds"]
    write_table(table, SPACE, home / "toy.h5")
    assert objective().evaluate(Query((0, 0, 0), 3), 0, 0).seconds == 3
    with pytest.raises(TableError, match=r"^valid_seconds is not in table toy.h5 for digits, sch"):
        objective(validation_pass="charged")


def test_the_table_of_another_space(home):
    class Other(Toy):
        name = "other"

    shutil.copy(home / "toy.h5", home / "other.h5")
    shutil.copy(home / "toy.h5.sha256", home / "other.h5.sha256")
    with pytest.raises(TableError, match=r"other.h5 is of space toy, not other$"):
        TableObjective(Other(), "digits", PROTOCOL)


def test_cost(home):
    row = list(SPACE).index((1, 2, 1))
    query, seconds = Query((1, 2, 1), 3), row + 1.0
    assert objective(fidelities=(1, 3)).evaluate(query, 0, 0).seconds == 3 * seconds
    assert objective(fidelities=(1, 3)).evaluate(query, 0, 1).seconds == 2 * seconds
    passed = objective(validation_pass="charged").evaluate(query, 0, 0)
    assert passed.seconds == 3 * seconds + 0.5


def test_a_missing_seed_is_never_answered(home):
    errors = small_table().schedules["digits", "3"].columns["valid_error"]
    ask = objective(fidelities=(1, 3)).evaluate
    for row, arch in enumerate(SPACE):
        for epoch, fidelity in enumerate((1, 3)):
            told = {ask(Query(arch, fidelity), noise << 40, 0).error for noise in range(64)}
            there = errors[row, epoch]
            assert told == set(there[~np.isnan(there)].tolist())


def test_a_run_sees_one_training_seed_of_an_architecture_at_every_fidelity(home):
    known = small_table().schedules["digits", "3"]
    ask = objective(fidelities=(1, 3)).evaluate
    for row, arch in list(enumerate(SPACE))[1::2]:  # those with both seeds
        for noise in range(0, 1 << 64, 1 << 60):
            seats = [
                known.columns["valid_error"][row, epoch]
                .tolist()
                .index(ask(Query(arch, fidelity), noise, 0).error)
                for epoch, fidelity in enumerate((1, 3))
            ]
            assert seats[0] == seats[1]


def test_what_may_be_seen_is_the_mean_over_seeds(home):
    for row, arch in enumerate(SPACE):
        metrics = objective().evaluate(Query(arch, 3), row << 60, 0).metrics
        assert metrics == {"parameters": row, "latency": 2 * row + 0.5}


def test_noise_mean_answers_the_mean(home):
    errors = small_table().schedules["digits", "3"].columns["valid_error"]
    ask = objective(noise="mean").evaluate
    for row, arch in enumerate(SPACE):
        told = {ask(Query(arch, 3), noise << 50, 0).error for noise in range(16)}
        assert told == {float(np.float32(np.nanmean(errors[row, 1], dtype=float)))}


def test_the_report_is_the_last_epochs_mean(home):
    errors = small_table().schedules["digits", "3"].columns["valid_error"].astype(float)
    found = objective().report(list(SPACE))["valid_error"]
    np.testing.assert_allclose(found, np.nanmean(errors[:, 1], axis=1), rtol=1e-15)
    assert objective().optimum == {"valid_error": found.min()}


def test_an_architecture_without_any_error(home):
    errors = np.full((24, 2, 2), 0.5)
    errors[3] = np.nan
    write_table(small_table(errors), SPACE, home / "toy.h5")
    with pytest.raises(TableError, match="knows valid_error of 23 of the 24 architectures of toy"):
        objective()


def with_columns(**columns):
    table = small_table()
    known = table.schedules["digits", "3"]
    kept = {name: values for name, values in known.columns.items() if name != "train_seconds"}
    return replace(table, schedules={("digits", "3"): replace(known, columns=kept | columns)})


def test_seconds_may_be_recorded_epoch_by_epoch(home):
    elapsed = np.arange(24 * 4, dtype=np.float32).reshape(24, 2, 2) + 1
    write_table(with_columns(elapsed_seconds=elapsed), SPACE, home / "toy.h5")
    ask = objective(fidelities=(1, 3)).evaluate
    arch = list(SPACE)[2]  # its second training seed is missing
    assert ask(Query(arch, 3), 0, 0).seconds == elapsed[2, 1, 0]
    assert ask(Query(arch, 3), 0, 1).seconds == elapsed[2, 1, 0] - elapsed[2, 0, 0]
    seconds = {ask(Query(list(SPACE)[3], 1), noise, 0).seconds for noise in range(1, 2**64, 2**58)}
    assert seconds == set(elapsed[3, 0].tolist())
    mean = objective(noise="mean").evaluate(Query(list(SPACE)[3], 3), 0, 0)
    assert mean.seconds == elapsed[3, 1].mean()


def test_without_seconds_a_query_costs_none(home):
    write_table(with_columns(), SPACE, home / "toy.h5")
    assert not objective().timed
    assert objective().evaluate(Query((0, 0, 0), 3), 0, 0).seconds == 0


def test_a_loss_is_a_signal_too(home):
    loss = np.linspace(-2, 9, 24 * 4, dtype=np.float32).reshape(24, 2, 2)
    write_table(with_columns(valid_loss=loss), SPACE, home / "toy.h5")
    found = objective(metric="valid_loss", report=("valid_loss",))
    assert found.worst == 9
    answer = found.evaluate(Query((0, 0, 0), 3), 0, 0)
    assert answer.error in loss[0, 1]
    assert set(answer.metrics) == {"parameters", "latency"}
    assert objective().worst == 1


def test_a_table_of_another_form_of_the_space(home):
    class Turned(Toy):
        def keys(self, genes):
            return super().keys(genes)[::-1] + np.uint64(1)

    write_table(small_table(), Turned(), home / "toy.h5")
    with pytest.raises(TableError, match=r"toy.h5 was made with another form of toy; import it"):
        objective()


def test_mean_over_seeds():
    errors = np.array([[0.25, np.nan, 0.75], [np.nan] * 3], np.float32)
    np.testing.assert_array_equal(mean_over_seeds(errors), [0.5, np.nan])
