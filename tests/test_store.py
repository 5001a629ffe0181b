import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.store import (
    SHARD_SIZE,
    Shard,
    StoreError,
    canonical_json,
    lock,
    open_cell,
    read_cell,
    read_measured,
    read_trials,
    seal,
    sealed,
    shards_to_run,
    write_whole,
)

TRIALS = {"error": np.array([0.1, 0.2]), "length": np.array([2])}
MEASURED = {"wall_seconds": np.array([0.5, 0.7])}

columns = st.dictionaries(
    st.sampled_from(["error", "fidelity", "failed", "architecture"]),
    st.sampled_from([np.float64, np.int8, np.bool_, np.int64]).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=2, max_side=5))
    ),
    min_size=1,
)


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    """Shards of 25 seeds, so that a few seeds make several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.store.SHARD_SIZE", 25)
        yield


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@given(trials=columns, measured=columns)
def test_round_trip(tmp_path_factory, trials, measured):
    folder = tmp_path_factory.mktemp("cell")
    shard = seal(folder, range(25, 50), trials, measured)
    assert sealed(folder) == [shard]
    assert shard[:2] == (25, 49)
    for stored, found in (trials, read_trials(shard)), (measured, read_measured(shard)):
        assert list(stored) == list(found)
        for name, values in stored.items():
            assert values.dtype == found[name].dtype
            np.testing.assert_array_equal(values, found[name])


@given(trials=columns)
def test_equal_trials_are_equal_bytes(tmp_path_factory, trials):
    one, two = (tmp_path_factory.mktemp("cell") for _ in range(2))
    shards = [seal(folder, range(5), dict(trials), MEASURED) for folder in (one, two)]
    assert shards[0].path.name == shards[1].path.name
    assert shards[0].path.read_bytes() == shards[1].path.read_bytes()


def test_names_say_seeds_and_digest(tmp_path):
    shard = seal(tmp_path, range(25), TRIALS, MEASURED)
    digest = hashlib.sha256(shard.path.read_bytes()).hexdigest()[:16]
    assert names(tmp_path) == ["measured-000000-000024.npz", f"trials-000000-000024-{digest}.npz"]


def test_a_sealed_file_holds_the_columns_and_nothing_else(tmp_path):
    with np.load(seal(tmp_path, range(2), TRIALS, MEASURED).path) as file:
        assert file.files == list(TRIALS)


def test_columns_by_name(tmp_path):
    shard = seal(tmp_path, range(25), TRIALS, MEASURED)
    assert list(read_trials(shard, ["length"])) == ["length"]
    assert list(read_measured(shard, ["wall_seconds"])) == ["wall_seconds"]


def test_damage_is_seen(tmp_path):
    shard = seal(tmp_path, range(25), TRIALS, MEASURED)
    data = bytearray(shard.path.read_bytes())
    data[len(data) // 2] ^= 1
    shard.path.write_bytes(data)
    with pytest.raises(StoreError, match="has changed since it was sealed; remove it and run agai"):
        read_trials(shard)
    shard.path.write_bytes(b"")
    with pytest.raises(StoreError, match="has changed since it was sealed"):
        read_trials(shard)


@pytest.mark.parametrize("data", [None, b"", b"PK\x03\x04 half of it", b"text"])
def test_damaged_measurements_are_seen(tmp_path, data):
    shard = seal(tmp_path, range(25), TRIALS, MEASURED)
    path = tmp_path / "measured-000000-000024.npz"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(StoreError, match=r"measured-000000-000024.npz cannot be read: "):
        read_measured(shard)


def test_overlapping_shards_are_seen(tmp_path):
    seal(tmp_path, range(25), TRIALS, MEASURED)
    seal(tmp_path, range(25, 50), TRIALS, MEASURED)
    assert [shard[:2] for shard in sealed(tmp_path)] == [(0, 24), (25, 49)]
    seal(tmp_path, range(10, 30), TRIALS, MEASURED)
    with pytest.raises(StoreError, match="hold the same seeds; remove the wrong one"):
        sealed(tmp_path)


# ------------------------------------------------------------------------------ the cell


def test_a_cell_is_described_once(tmp_path):
    folder = tmp_path / "runs" / "cell"
    open_cell(folder, {"b": 1, "a": {"x": 0.5}})
    before = (folder / "cell.json").stat()
    open_cell(folder, {"a": {"x": 0.5}, "b": 1})
    assert (folder / "cell.json").stat().st_mtime_ns == before.st_mtime_ns
    assert read_cell(folder) == {"a": {"x": 0.5}, "b": 1}
    with pytest.raises(StoreError, match="describes another cell under the same key; move it awa"):
        open_cell(folder, {"a": {"x": 0.5}, "b": 2})


@pytest.mark.parametrize("data", [None, b'{"a": 1', b"", b"\xff\xfe"])
def test_a_damaged_cell(tmp_path, data):
    if data is not None:
        (tmp_path / "cell.json").write_bytes(data)
    with pytest.raises(StoreError, match=r"cell.json cannot be read: "):
        read_cell(tmp_path)


def test_canonical_json():
    assert canonical_json({"b": [1, 0.5], "a": None}) == '{"a":null,"b":[1,0.5]}'
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"a": float("nan")})


# ---------------------------------------------------------------------------- what to run


@pytest.mark.parametrize(
    ("there", "seeds", "expected"),
    [
        ([], range(60), [range(25), range(25, 50), range(50, 60)]),
        ([], range(10, 30), [range(10, 25), range(25, 30)]),
        ([range(25)], range(50), [range(25, 50)]),
        ([range(25), range(25, 30)], range(60), [range(30, 50), range(50, 60)]),
        ([range(5, 7)], range(10), [range(5), range(7, 10)]),
        ([range(25)], range(3, 20), []),
        ([range(25)], range(0), []),
    ],
)
def test_what_is_missing(tmp_path, there, seeds, expected):
    for some in there:
        seal(tmp_path, some, TRIALS, MEASURED)
    assert shards_to_run(tmp_path, seeds) == expected


@given(
    there=st.sets(st.integers(0, 40)),
    first=st.integers(0, 40),
    count=st.integers(0, 90),
)
def test_missing_and_sealed_are_all(tmp_path_factory, there, first, count):
    folder = tmp_path_factory.mktemp("cell")
    for seed in there:
        (folder / f"trials-{seed:06d}-{seed:06d}-{0:016x}.npz").touch()
    missing = shards_to_run(folder, range(first, first + count))
    seeds = [seed for some in missing for seed in some]
    assert sorted({*seeds, *there} & {*range(first, first + count)}) == [
        *range(first, first + count)
    ]
    assert not set(seeds) & there
    assert all(some[0] // SHARD_SIZE == some[-1] // SHARD_SIZE for some in missing)


# ---------------------------------------------------------------------------- whole files


@pytest.mark.parametrize("call", [1, 2])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, call):
    """The first fsync is that of `measured`, the second that of `trials`."""
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        seal(tmp_path, range(25), TRIALS, MEASURED)
    assert names(tmp_path) == ["measured-000000-000024.npz"] * (call - 1)
    assert sealed(tmp_path) == []
    monkeypatch.setattr(os, "fsync", real)
    assert read_trials(seal(tmp_path, range(25), TRIALS, MEASURED)).keys() == TRIALS.keys()


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_trials_are_written_last(tmp_path, monkeypatch):
    order = []

    def note(path, data, *, durable):
        assert durable
        order.append(path.name[:6])

    monkeypatch.setattr("bench.store.write_whole", note)
    seal(tmp_path, range(25), TRIALS, MEASURED)
    assert order == ["measur", "trials"]


# ------------------------------------------------------------------------------- the lock

HOLD = """
import sys, time
from pathlib import Path
from bench.store import lock
with lock(Path(sys.argv[1]), range(25), wait=False) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


def holder(folder):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "True\n"
    return child


def ours(folder, seeds=range(25)):
    with lock(folder, seeds, wait=False) as ours:
        return ours


def test_a_lock_keeps_others_out_until_its_holder_is_done(tmp_path):
    child = holder(tmp_path)
    assert not ours(tmp_path)
    assert ours(tmp_path, range(25, 50))
    child.communicate("done")
    assert ours(tmp_path)
    assert names(tmp_path) == []


def test_a_lock_dies_with_its_holder(tmp_path):
    child = holder(tmp_path)
    assert not ours(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert ours(tmp_path)


def test_the_strays_of_a_killed_process_are_removed(tmp_path):
    for stray in (
        ".tmp-trials-000000-000024-0123456789abcdef.npz-77",
        ".tmp-measured-000000-000024.npz-77",
        ".tmp-trials-000025-000049-0123456789abcdef.npz-78",  # somebody else's
    ):
        (tmp_path / stray).write_text("half")
    assert ours(tmp_path)
    assert names(tmp_path) == [".tmp-trials-000025-000049-0123456789abcdef.npz-78"]


def test_a_shard_is_ordered_by_its_seeds():
    shards = [Shard(25, 49, "a", Path("x")), Shard(0, 24, "b", Path("y"))]
    assert sorted(shards)[0].first == 0


def test_a_lock_removed_while_one_waits_does_not_let_two_in(tmp_path):
    """One holds, one waits, and one comes after the holder removed the file."""
    inside, most = [], []
    started = threading.Barrier(3)

    def work(delay):
        started.wait()
        time.sleep(delay)
        with lock(tmp_path, range(10), wait=True) as ours:
            assert ours
            inside.append(delay)
            most.append(len(inside))
            time.sleep(0.05)
            inside.remove(delay)

    threads = [threading.Thread(target=work, args=(delay,)) for delay in (0, 0.02, 0.055)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]
    assert names(tmp_path) == []


def test_objects_are_not_sealed(tmp_path):
    with pytest.raises(StoreError, match="column seed holds objects"):
        seal(tmp_path, range(1), {**TRIALS, "seed": np.array([10**30])}, MEASURED)
