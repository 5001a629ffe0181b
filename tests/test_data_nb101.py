"""The reader of NAS-Bench-101's published files."""

import base64
import json
import struct
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from conftest import CONF, build
from omegaconf import OmegaConf
from published import nb101

from bench.data import make_table, problems, silent
from bench.protocol import Protocol
from bench.search import Query
from bench.table import TableError, TableObjective, write_table
from spaces.nb101 import tfrecord
from spaces.nb101.graph import OPERATIONS, md5_hash
from spaces.nb101.official import nasbench
from spaces.nb101.space import NB101

SPACE = NB101()
SPLITS = ("train_error", "valid_error", "test_error")


class Six(NB101):
    """As if the space had six networks, so that a small file is a whole one."""

    networks = 6


def read(path, space=SPACE):
    return nasbench(path, space=space, provenance={}, progress=silent)


def recipe(name):
    """A recipe without the digest of the real file, which a synthetic one cannot have."""
    found = OmegaConf.to_container(OmegaConf.load(CONF / f"data/{name}.yaml"))
    return {key: value for key, value in found.items() if key != "source_sha256"}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return nb101.write(tmp_path_factory.mktemp("nb101"))


@pytest.fixture(scope="module")
def payloads():
    return list(nb101.payloads(6))


def test_every_number(full):
    table = read(full)
    assert list(table.schedules) == [
        ("cifar10", name) for name in ("4", "12", "36", "108", "final")
    ]
    for row, (arch, parameters, by_length) in enumerate(nb101.results(6)):
        assert SPACE.key(table.architectures[row]) == SPACE.key(arch)
        for length, repeats in by_length.items():
            known = table.schedules["cifar10", str(length)]
            assert known.epochs.tolist() == [length // 2, length]
            assert known.seeds.tolist() == [0, 1, 2]
            assert known.columns["parameters"][row] == np.float32(parameters)
            for seed, evaluations in enumerate(repeats):
                for at, (_, seconds, *accuracies) in enumerate(evaluations[1:]):
                    assert known.columns["elapsed_seconds"][row, at, seed] == np.float32(seconds)
                    for split, accuracy in zip(SPLITS, accuracies, strict=True):
                        expected = np.float32(1 - accuracy)
                        assert known.columns[split][row, at, seed] == expected


def test_the_ends_are_fidelities(full):
    schedules = read(full).schedules
    final = schedules["cifar10", "final"]
    assert final.epochs.tolist() == [4, 12, 36, 108]
    for at, length in enumerate(nb101.LENGTHS):
        for name in (*SPLITS, "elapsed_seconds"):
            end = schedules["cifar10", str(length)].columns[name][:, 1]
            np.testing.assert_array_equal(final.columns[name][:, at], end)


def test_the_small_file(tmp_path):
    table = read(nb101.write(tmp_path, lengths=(108,)))
    assert list(table.schedules) == [("cifar10", "108")]


def test_cells_are_those_of_the_file(full):
    for arch, (genes, _, _) in zip(read(full).architectures, nb101.results(6), strict=True):
        matrix, labels = nb101.pruned(genes)
        text = "".join(str(bit) for row in matrix for bit in row)
        assert tuple(arch) == SPACE.from_string(f"{text}:{','.join(labels)}")


def test_records_in_any_order(tmp_path, payloads, full):
    shuffled = [payloads[at] for at in Random(0).sample(range(len(payloads)), len(payloads))]
    table = read(nb101.write_payloads(tmp_path / "shuffled", shuffled))
    ordered = read(full)
    place = {key: row for row, key in enumerate(SPACE.keys(table.architectures).tolist())}
    rows = [place[key] for key in SPACE.keys(ordered.architectures).tolist()]
    for key, known in ordered.schedules.items():
        for name in SPLITS:
            np.testing.assert_array_equal(  # repeats are numbered as they come
                np.sort(table.schedules[key].columns[name][rows]), np.sort(known.columns[name])
            )


def test_more_records_than_a_block(tmp_path, payloads, monkeypatch, full):
    monkeypatch.setattr(tfrecord, "BLOCK", 1000)
    monkeypatch.setattr(tfrecord, "LANES", 2)
    seen = []

    def progress(items, total=None):
        seen.append(total)
        return items

    table = nasbench(full, space=SPACE, provenance={}, progress=progress)
    monkeypatch.undo()
    assert seen == [-(-full.stat().st_size // 1000)]
    for key, known in read(full).schedules.items():
        for name, values in known.columns.items():
            np.testing.assert_array_equal(table.schedules[key].columns[name], values)


def test_many_cells(tmp_path):
    table = read(nb101.write(tmp_path, 300, (12, 108)))
    assert len(table.architectures) == 300
    for known in table.schedules.values():
        assert not any(np.isnan(values).any() for values in known.columns.values())
    assert problems(table, SPACE, partial=True) == []


def test_a_missing_repeat_is_missing(tmp_path, payloads):
    table = read(nb101.write_payloads(tmp_path / "part", payloads[:-1]))
    errors = table.schedules["cifar10", "108"].columns["test_error"]
    assert np.isnan(errors[5]).tolist() == [[False, False, True]] * 2
    assert not np.isnan(errors[:5]).any()
    assert problems(table, SPACE, partial=True) == []


def test_a_whole_file_misses_nothing(tmp_path, payloads):
    path = nb101.write_payloads(tmp_path / "part", payloads[:-1])
    with pytest.raises(TableError, match="all 6 cells are there, but 1 times one has fewer than 3"):
        read(path, Six())
    read(nb101.write_payloads(path, payloads), Six())


@pytest.mark.parametrize("name", ["nb101", "nb101_only108"])
def test_recipes(tmp_path, name, monkeypatch):
    lengths = nb101.LENGTHS if name == "nb101" else (108,)
    path = nb101.write(tmp_path, lengths=lengths)
    told, reader = recipe(name), build(CONF / f"data/{name}.yaml")["reader"]
    assert told["file"] == path.name
    with pytest.raises(TableError, match="it has 6 of the 423,624 architectures"):
        make_table(path, SPACE, told, reader)
    table = make_table(path, SPACE, told, reader, partial=True)
    assert [schedule for _, schedule in table.schedules] == told["schedules"]
    real = OmegaConf.to_container(OmegaConf.load(CONF / f"data/{name}.yaml"))
    with pytest.raises(TableError, match="is damaged or another version"):
        make_table(path, SPACE, real, reader, partial=True)


def test_a_search_by_the_protocol(tmp_path, monkeypatch):
    space = Six()
    path = nb101.write(tmp_path)
    table = make_table(path, space, recipe("nb101"), nasbench)
    write_table(table, space, tmp_path / "nb101.h5")
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    protocol = build(CONF / "protocol/nb101.yaml")
    objective = TableObjective(space, "cifar10", protocol)
    for arch, parameters, by_length in nb101.results(6):
        trainings = by_length[108]
        answer = objective.evaluate(Query(arch, 108), 5, 0)
        told = [(np.float32(1 - one[2][3]), np.float32(one[2][1])) for one in trainings]
        assert (answer.error, answer.seconds) in told
        assert answer.metrics == {"parameters": np.float32(parameters)}
        mean = objective.report([arch])["test_error"][0]
        assert mean == pytest.approx(1 - np.mean([one[2][4] for one in trainings]), abs=1e-6)
    several = replace(protocol, schedule="final", fidelities=(4, 12, 36, 108))
    objective = TableObjective(space, "cifar10", several)
    assert isinstance(several, Protocol)
    for length in nb101.LENGTHS:
        told = [np.float32(1 - one[2][3]) for one in by_length[length]]
        assert objective.evaluate(Query(arch, length), 5, 0).error in told


# ------------------------------------------------------------------------- what is refused


def changed(payloads, **parts):
    """The first record alone, with other parts."""
    names = ("published", "epochs", "adjacency", "operations", "metrics")
    record = dict(zip(names, json.loads(payloads[0]), strict=True)) | parts
    return [json.dumps(list(record.values())).encode()]


def with_message(payloads, message):
    return changed(payloads, metrics=base64.b64encode(message).decode())


def with_evaluations(payloads, *evaluations, tail=b"\x10\x05"):
    parts = [b"\x0a" + nb101.varint(len(part)) + part for part in evaluations]
    return with_message(payloads, b"".join(parts) + tail)


START, HALF, END = (0.0, 0.0, 0.1, 0.1, 0.1), (2.0, 9.0, 0.5, 0.5, 0.5), (4.0, 18.0, 0.9, 0.8, 0.7)
CHAIN = f"input,{OPERATIONS[0]},output"


def trained(*evaluations):
    return [nb101.evaluation(*one) for one in evaluations]


WRONG = {
    "text": (lambda p: [b"hello"], r"record 0 \(from 0\): Expecting value"),
    "bytes": (lambda p: [b"\xff\xfe\x00\x01"], "record 0 .*decode byte"),
    "an object": (lambda p: [b"{}"], r"\{\} is not \[hash, epochs,"),
    "four parts": (lambda p: [b'["a", 4, "b", "c"]'], "is not .hash, epochs,"),
    "a number for a text": (lambda p: changed(p, operations=3), "is not .hash, epochs,"),
    "epochs as text": (lambda p: changed(p, epochs="4"), "is not .hash, epochs,"),
    "epochs as truth": (lambda p: changed(p, epochs=True), "is not .hash, epochs,"),
    "other epochs": (lambda p: changed(p, epochs=200), "epochs one of 4, 12, 36, 108"),
    "deep nesting": (lambda p: [b"[" * 4000], "recursion"),
    "other hash": (
        lambda p: changed(p, published="0" * 32),
        "has the hash [0-9a-f]{32}, not '0000",
    ),
    "hash in capitals": (
        lambda p: changed(p, published=json.loads(p[0])[0].upper()),
        "has the hash",
    ),
    "unknown operation": (
        lambda p: changed(p, adjacency="010001000", operations="input,conv5x5,output"),
        "is no cell of nb101",
    ),
    "not connected": (
        lambda p: changed(p, adjacency="010000000", operations=CHAIN),
        "is no cell of nb101",
    ),
    "an edge backward": (
        lambda p: changed(p, adjacency="010101000", operations=CHAIN),
        "is no cell of nb101",
    ),
    "no base64": (lambda p: changed(p, metrics="*"), "no ModelMetrics message"),
    "two evaluations": (
        lambda p: with_evaluations(p, *trained(START, END)),
        "2 evaluations, not 3",
    ),
    "no parameters": (
        lambda p: with_evaluations(p, *trained(START, HALF, END), tail=b""),
        "say 0 parameters",
    ),
    "a field beyond the end": (
        lambda p: with_evaluations(p, *trained(START, HALF, END), tail=b"\x19\x00"),
        "longer than its message",
    ),
    "a number without end": (
        lambda p: with_evaluations(p, *trained(START, HALF, END), tail=b"\x10" + b"\xff" * 12),
        "a number that does not end",
    ),
    "a number cut off": (
        lambda p: with_evaluations(p, *trained(START, HALF, END), tail=b"\x10\xff"),
        "a number that does not end",
    ),
    "a group": (
        lambda p: with_evaluations(p, *trained(START, HALF, END), tail=b"\x10\x05\x23"),
        "wire type 3",
    ),
    "field number 0": (
        lambda p: with_evaluations(p, *trained(START, HALF, END), tail=b"\x00\x05"),
        "field number 0",
    ),
    "parameters as a double": (
        lambda p: with_evaluations(p, *trained(START, HALF, END), tail=b"\x11" + bytes(8)),
        "wire type 1 of field 2",
    ),
    "an accuracy as a number": (
        lambda p: with_evaluations(p, *trained(START, HALF), b"\x20\x01"),
        "wire type 0 of field 4 of an evaluation",
    ),
    "negative parameters": (
        lambda p: with_evaluations(
            p, *trained(START, HALF, END), tail=b"\x10" + b"\xff" * 9 + b"\x01"
        ),
        "say 18446744073709551615 parameters",
    ),
    "percent": (
        lambda p: with_evaluations(p, *trained(START, HALF, (4.0, 18.0, 93.2, 90.0, 89.0))),
        r"record 0 \(from 0\): accuracy 93.2; allowed: fractions",
    ),
    "negative accuracy": (
        lambda p: with_evaluations(p, *trained(START, (2.0, 9.0, -0.1, 0.5, 0.5), END)),
        "accuracy -0.1; allowed",
    ),
    "NaN accuracy": (
        lambda p: with_evaluations(p, *trained(START, HALF, (4.0, 18.0, 0.9, float("nan"), 0.9))),
        "accuracy nan; allowed",
    ),
    "absent accuracy": (
        lambda p: with_evaluations(p, *trained(START, HALF), nb101.evaluation(*END)[:-9]),
        "accuracy nan; allowed",
    ),
    "no time": (
        lambda p: with_evaluations(p, *trained(START, (2.0, 0.0, 0.5, 0.5, 0.5), END)),
        "training time 0; allowed",
    ),
    "endless time": (
        lambda p: with_evaluations(p, *trained(START, HALF, (4.0, float("inf"), 0.9, 0.9, 0.9))),
        "training time inf; allowed",
    ),
    "time beyond a table's numbers": (
        lambda p: with_evaluations(p, *trained(START, HALF, (4.0, 1e300, 0.9, 0.9, 0.9))),
        r"training time 1e\+300; allowed",
    ),
    "time that goes back": (
        lambda p: with_evaluations(p, *trained(START, HALF, (4.0, 8.0, 0.9, 0.9, 0.9))),
        "training time 8; allowed: .* that do not go down",
    ),
    "epochs of another length": (
        lambda p: with_evaluations(p, *trained(START, HALF, (12.0, 18.0, 0.9, 0.9, 0.9))),
        "epoch 12; allowed: half of the training, then its end",
    ),
    "a fourth repeat": (lambda p: [*p, p[0]], "record 72 .* at 4 epochs stands there more than 3"),
    "other parameters": (
        lambda p: [*with_evaluations(p, *trained(START, HALF, END)), *p[1:]],
        "parameters here and 5 before",
    ),
    "nothing": (lambda p: [], "it holds no record"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_contents_are_refused(case, tmp_path, payloads):
    change, says = WRONG[case]
    path = nb101.write_payloads(tmp_path / "wrong.tfrecord", change(payloads))
    with pytest.raises(TableError, match=rf"^wrong.tfrecord: .*{says}"):
        read(path)


def test_unusual_messages_are_understood(tmp_path, payloads):
    """Other orders, unknown fields, a checkpoint, no epoch: the same numbers."""
    fields = [bytes([n << 3 | 1]) + struct.pack("<d", v) for n, v in enumerate(END, 1)]
    end = b"".join([fields[4], b"\x32\x03abc", *fields[1:4], b"\x38\x01", b"\x45\0\0\0\0"])
    later = [
        payload for payload in payloads if json.loads(payload)[0] != json.loads(payloads[0])[0]
    ]
    first = with_evaluations(payloads, *trained(START, HALF), end, b"", tail=b"\x10\x05\x22\x01x")[
        0
    ]
    table = read(nb101.write_payloads(tmp_path / "unusual", [first, *later]))
    columns = table.schedules["cifar10", "4"].columns
    assert columns["parameters"][0] == 5
    assert columns["elapsed_seconds"][0, :, 0].tolist() == [9, 18]
    np.testing.assert_allclose(columns["test_error"][0, :, 0], [0.5, 0.3], rtol=1e-6)
    assert np.isnan(columns["test_error"][0, :, 1:]).all()


def test_a_cell_may_come_relabelled(tmp_path, payloads):
    """Another order of the vertices is proved by its hash, too."""
    matrix, there = "0110000100010000", f"input,{OPERATIONS[0]},{OPERATIONS[2]},output"
    other = f"input,{OPERATIONS[2]},{OPERATIONS[0]},output"
    rows = [list(map(int, matrix[at : at + 4])) for at in range(0, 16, 4)]
    published = md5_hash(rows, there.split(","))
    records = [
        changed(payloads, published=published, adjacency=matrix, operations=labels)[0]
        for labels in (there, other)
    ]
    table = read(nb101.write_payloads(tmp_path / "twins", records))
    assert len(table.architectures) == 1
    assert (~np.isnan(table.schedules["cifar10", "4"].columns["test_error"])).sum() == 4


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 13, 200, -1, -4, -5])
def test_a_file_cut_off(cut, tmp_path, full):
    path = tmp_path / "cut.tfrecord"
    path.write_bytes(full.read_bytes()[:cut])
    with pytest.raises(TableError, match=r"^cut.tfrecord is cut off within record \d+ \(from 0\)$"):
        read(path)


def test_every_flipped_bit_is_seen(tmp_path, full):
    whole, rng = full.read_bytes(), Random(0)
    path = tmp_path / "flipped.tfrecord"
    for at in [*range(16), *(rng.randrange(len(whole)) for _ in range(200))]:
        data = bytearray(whole)
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(TableError, match=r"flipped.tfrecord is (no TFRecord file or )?damaged"):
            read(path)


def test_absurd_lengths_are_refused(tmp_path):
    path = tmp_path / "absurd"
    for length in 4097, 1 << 40, (1 << 64) - 1:
        head = struct.pack("<Q", length)
        checksum = tfrecord.masked(tfrecord.crc32c([head]))[0]
        path.write_bytes(head + struct.pack("<I", checksum) + b"x" * 100)
        with pytest.raises(
            TableError, match=rf"record 0 \(from 0\), {length} bytes, is above 4096"
        ):
            read(path)


@pytest.mark.parametrize("data", [b"hello, this is no TFRecord", b"\x89HDF\r\n\x1a\n" + bytes(99)])
def test_foreign_files_are_refused(data, tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(data)
    with pytest.raises(TableError, match="foreign is no TFRecord file or damaged"):
        read(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(TableError, match="cannot be read: Is a directory"):
        read(tmp_path)


# ------------------------------------------------------------------------------ checksums


def slow_crc32c(data):
    """Bit by bit, as it is defined."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_published_checksums():
    """RFC 3720, appendix B.4, and the check value of the catalogue of CRC algorithms."""
    known = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(range(31, -1, -1)): 0x113FDB5C,
        b"123456789": 0xE3069283,
    }
    assert tfrecord.crc32c(list(known)).tolist() == list(known.values())


def test_checksums_of_any_length():
    rng = Random(0)
    data = [rng.randbytes(length) for length in [*range(40), 399, 400, 401]]
    assert tfrecord.crc32c(data).tolist() == list(map(slow_crc32c, data))
    assert tfrecord.crc32c([]).tolist() == []
    assert tfrecord.crc32c([b"", b""]).tolist() == [0, 0]


def test_published_record():
    """The record in event_file_loader_test.py of TensorFlow, whose event files are TFRecords."""
    payload = bytes.fromhex("090000c025dd75d5411a0d") + b"brain.Event:1"
    head, tail = bytes.fromhex("1800000000000000a37f4b22"), bytes.fromhex("ecf3328d")
    assert tfrecord.frame([payload]) == head + payload + tail
