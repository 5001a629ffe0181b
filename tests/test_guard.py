"""HDF5 files that are no tables: refused by what they declare, in bounded time and memory."""

import json
from itertools import product
from random import Random

import fuzzing
import h5py
import numpy as np
import pytest
from contracts import Toy
from fuzzing import RAW, Child, complaint

from bench.guard import ForeignError, check_structure
from bench.table import (
    PROVENANCE,
    Schedule,
    Table,
    TableError,
    digest_file,
    open_table,
    read_table,
    sha256,
    write_table,
)

SPACE = Toy()
TEXTS = {key: f"the {key}" for key in PROVENANCE} | {"space": "toy"}
GROUP = "digits/3"
INDEX = ("architectures", "keys", "rows")
DATASETS = (*INDEX, *(f"{GROUP}/{name}" for name in ("epochs", "seeds", "valid_error", "latency")))
GROUPS = ("digits", GROUP)
TEXT_TYPE = h5py.string_dtype()


def write_small(folder):
    rows = SPACE.size
    known = Schedule(
        np.array([1, 3], np.int32),
        np.array([7, 8], np.int32),
        {
            "valid_error": np.linspace(0.1, 0.9, rows * 4, dtype=np.float32).reshape(rows, 2, 2),
            "train_seconds": np.arange(1, rows + 1, dtype=np.float32),
            "latency": np.arange(rows, dtype=np.float32),
        },
    )
    path = folder / "toy.h5"
    write_table(Table(TEXTS, np.array(list(SPACE), np.int8), {("digits", "3"): known}), SPACE, path)
    return path


def sign(path):
    digest_file(path).write_text(f"{sha256(path)}  {path.name}\n")


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    folder = tmp_path_factory.mktemp("child")
    with Child(folder / "empty", {"do": "limit"}) as one:
        yield one
        assert list((folder / "empty").iterdir()) == []


@pytest.fixture
def path(tmp_path):
    return write_small(tmp_path)


# --------------------------------------------------------------------- what stands in a place


def group(file, place, _):
    file.create_group(place)


def named_type(file, place, _):
    file[place] = np.dtype("f4")


def soft_link(file, place, _):
    file[place] = h5py.SoftLink("/")


def soft_cycle(file, place, _):
    file[place] = h5py.SoftLink(f"/{place}")


def nowhere(file, place, _):
    file[place] = h5py.SoftLink("/not/here")


def external_link(file, place, old):
    with h5py.File(f"{file.filename}.other", "w") as other:
        other["x"] = old
    file[place] = h5py.ExternalLink(f"{file.filename}.other", "/x")


def to_the_root(file, place, _):
    file[place] = file["/"]


def to_another(file, place, _):
    file[place] = file["keys" if place != "keys" else "rows"]


def external_storage(file, place, old):
    (other := f"{file.filename}.raw",)
    with open(other, "wb") as raw:  # noqa: PTH123
        raw.write(bytes(4096))
    file.create_dataset(place, shape=old.shape, dtype=old.dtype, external=[(other, 0, 4096)])


def virtual(file, place, old):
    with h5py.File(f"{file.filename}.other", "w") as other:
        other["x"] = old
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource(f"{file.filename}.other", "x", old.shape)
    file.create_virtual_dataset(place, layout)


PACKED = {"compression": 9, "shuffle": True, "fletcher32": True}


def eight_tebibytes(file, place, old):
    width = max(1, old.dtype.itemsize)
    shape = (2**43 // width // max(1, int(np.prod(old.shape[1:]))), *old.shape[1:])
    file.create_dataset(place, shape, old.dtype, chunks=(1024, *old.shape[1:]), **PACKED)


def eight_plain_tebibytes(file, place, old):
    file.create_dataset(place, (2**43, *old.shape[1:]), old.dtype)


def wide_chunks(file, place, old):
    shape = (1 << 24, *old.shape[1:])
    chunks = (1 << 23, *old.shape[1:])
    file.create_dataset(place, old.shape, old.dtype, maxshape=shape, chunks=chunks, **PACKED)


def text(file, place, _):
    file.create_dataset(place, data=np.array([b"short"] * 24, object), dtype=TEXT_TYPE)


def text_without_a_heap(file, place, _):
    """What HDF5 never returns from, once it reads (reliability of HDF5's global heap)."""
    data = np.array([f"text {number}" for number in range(100)], object)
    file.create_dataset(place, data=data, dtype=TEXT_TYPE)


def fixed_text(file, place, old):
    file.create_dataset(place, data=np.full(old.shape, b"1"), **PACKED)


def wider(file, place, old):
    kind = "f8" if old.dtype.kind == "f" else "i8" if old.dtype != "u8" else "i4"
    file.create_dataset(place, data=old.astype(kind), **PACKED)


def other_way_round(file, place, old):
    kind = old.dtype.newbyteorder(">") if old.dtype.itemsize > 1 else np.dtype("u1")
    file.create_dataset(place, data=old.astype(kind), **PACKED)


def compound(file, place, old):
    file.create_dataset(place, shape=old.shape, dtype=[("a", "f4"), ("b", TEXT_TYPE)])


def references(file, place, old):
    file.create_dataset(place, shape=old.shape, dtype=h5py.ref_dtype)


def sequences(file, place, old):
    file.create_dataset(place, shape=old.shape, dtype=h5py.vlen_dtype(np.float32))


def truth_values(file, place, old):
    file.create_dataset(place, data=old > 0, **PACKED)


def one_number(file, place, old):
    file.create_dataset(place, data=old.ravel()[0])


def no_number(file, place, old):
    file.create_dataset(place, data=h5py.Empty(old.dtype))


def more_dimensions(file, place, old):
    file.create_dataset(place, data=old.reshape(*old.shape, 1, 1), chunks=True, **PACKED)


def too_short(file, place, old):
    if place == "architectures" or old.ndim > 1:
        old = old[:-1]
    shorter = old[:-1] if old.ndim == 1 else old
    file.create_dataset(place, data=shorter, chunks=True, **PACKED)


def without_checksums(file, place, old):
    file.create_dataset(place, data=old, chunks=True, compression=9, shuffle=True)


def other_filter(file, place, old):
    file.create_dataset(place, data=old, chunks=True, compression="lzf", fletcher32=True)


def named_type_of(file, place, old):
    file["digits/3/my_type"] = old.dtype
    file.create_dataset(place, data=old, dtype=file["digits/3/my_type"], chunks=True, **PACKED)


def nothing(*_):
    pass


ANYWHERE = (
    nothing, named_type, soft_link, soft_cycle, nowhere, external_link, to_the_root, to_another,
    external_storage, virtual, eight_tebibytes, eight_plain_tebibytes, text, text_without_a_heap,
    compound, references, sequences, one_number, no_number,
)  # fmt: skip
INSTEAD_OF_NUMBERS = (
    *(group, wide_chunks, fixed_text, wider, other_way_round, truth_values, more_dimensions),
    *(too_short, without_checksums, other_filter, named_type_of),
)
CRAFTED = [
    *product(DATASETS, (*ANYWHERE, *INSTEAD_OF_NUMBERS)),
    *product(GROUPS, ANYWHERE[1:]),
    *product(("x y", "é", "digits/3/a b", f"{GROUP}/deeper", "digits/loose"), (group, text)),
]
HARMLESS = {(f"{GROUP}/{name}", nothing) for name in ("valid_error", "latency")}  # less is known


def put(path, place, craft):
    """The file with something else in one place, and a digest that fits."""
    with h5py.File(path, "r+") as file:
        old = file[place][()] if place in DATASETS else np.zeros(24, np.float32)
        if place in file:
            del file[place]
        craft(file, place, old)
    if craft is text_without_a_heap:
        data = bytearray(path.read_bytes())
        heap = data.index(b"GCOL")
        data[heap + 512 : heap + 1024] = bytes(512)
        path.write_bytes(data)
    sign(path)


def test_there_are_hundreds():
    assert len(CRAFTED) >= 200


@pytest.mark.parametrize("craft", {craft: 0 for _, craft in CRAFTED}, ids=lambda f: f.__name__)
def test_what_is_no_table_is_refused(path, child, craft):
    good = {file: file.read_bytes() for file in (path, digest_file(path))}
    for place in [place for place, one in CRAFTED if one is craft]:
        for file, data in good.items():
            file.write_bytes(data)
        put(path, place, craft)
        answer = child.ask("table", path)
        if (place, craft) in HARMLESS:
            assert answer["outcome"] == "read"
        else:
            assert (place, answer["outcome"], complaint(answer, ["toy.h5"])) == (
                *(place, "refused"),
                "",
            )
    assert child.started == 1


def test_the_text_without_a_heap_would_hang_or_fail(path):
    """That the recipe is one: such a file is refused before a value is read."""
    put(path, f"{GROUP}/latency", text_without_a_heap)
    with h5py.File(path) as file:
        assert file[f"{GROUP}/latency"].shape == (100,)
        with pytest.raises(ForeignError, match="digits/3/latency does not hold numbers of the ty"):
            check_structure(file, PROVENANCE)


# ---------------------------------------------------------------------------------- the texts


def long_text(file, name):
    file.attrs.create(name, "text", dtype=TEXT_TYPE)


def several_texts(file, name):
    file.attrs[name] = np.array([b"a", b"b"])


def number(file, name):
    file.attrs[name] = 7


def latin(file, name):
    file.attrs[name] = np.bytes_(b"\xff\xfe")


def empty(file, name):
    file.attrs[name] = h5py.Empty("S5")


def absent(*_):
    pass


@pytest.mark.parametrize("craft", [long_text, several_texts, number, latin, empty, absent])
def test_attributes_are_texts(path, child, craft):
    for name in ("format", *PROVENANCE):
        with h5py.File(path, "r+") as file:
            old = file.attrs[name]
            del file.attrs[name]
            craft(file, name)
        sign(path)
        assert complaint(child.ask("table", path), ["toy.h5"]) == ""
        with pytest.raises(TableError, match=r"toy.h5 is not (built like a table|a table of this)"):
            read_table(path)
        with h5py.File(path, "r+") as file:
            file.attrs[name] = old


# ------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    ("place", "at", "value", "sentence"),
    [
        ("keys", 1, 0, "toy.h5: its keys do not ascend"),
        ("rows", 3, 24, "toy.h5: its rows go from 0 to 24; it has 24 architectures"),
        ("rows", 3, -1, "toy.h5: its rows go from -1 to "),
        (f"{GROUP}/valid_error", (2, 1, 0), np.inf, "toy.h5: digits/3/valid_error holds inf"),
        (f"{GROUP}/valid_error", (2, 1, 0), 1.5, "toy.h5: digits/3/valid_error holds 1.5"),
        (f"{GROUP}/valid_error", (2, 1, 0), -0.5, "toy.h5: digits/3/valid_error holds -0.5"),
        (f"{GROUP}/latency", 2, -np.inf, "toy.h5: digits/3/latency holds -inf"),
        (f"{GROUP}/epochs", 1, 1, "digits, schedule 3: its epochs do not ascend, or a training"),
        (f"{GROUP}/seeds", 1, 7, "digits, schedule 3: its epochs do not ascend, or a training"),
    ],
)
def test_numbers_that_cannot_be(path, place, at, value, sentence):
    with h5py.File(path, "r+") as file:
        file[place][at] = value
    sign(path)
    with pytest.raises(TableError, match=sentence):
        read_table(path)


def test_a_missing_number_is_no_wrong_one(path):
    with h5py.File(path, "r+") as file:
        file[f"{GROUP}/valid_error"][3] = np.nan
    sign(path)
    assert np.isnan(read_table(path).schedules["digits", "3"].columns["valid_error"][3]).all()


def test_a_damaged_chunk(path):
    with h5py.File(path) as file:
        chunk = file["architectures"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    sign(path)
    with pytest.raises(TableError, match=r"toy.h5 is damaged: architectures cannot be read"):
        read_table(path)


def test_zeros_by_the_gigabyte(path):
    """Deflate packs zeros a thousandfold, and no table is that empty."""
    with h5py.File(path, "r+") as file:
        del file[f"{GROUP}/epochs"], file[f"{GROUP}/valid_error"]
        epochs = np.arange(1 << 14, dtype=np.int32)
        file.create_dataset(f"{GROUP}/epochs", data=epochs, chunks=True, **PACKED)
        for number in range(40):
            shape = (24, 1 << 14, 2)
            file.create_dataset(f"{GROUP}/proxy_{number}", shape, "f4", chunks=True, **PACKED)
    sign(path)
    sentence = r"toy.h5 is not built like a table: it declares 125,\d{3},\d{3} bytes of columns"
    with pytest.raises(TableError, match=sentence), open_table(path):
        pass


# --------------------------------------------------------------------------------- many of them


def test_every_mutant_is_told_by_its_digest(path):
    rng, good = Random(0), path.read_bytes()
    for number in range(330):
        path.write_bytes(bad := RAW[number % len(RAW)](good, rng))
        if bad != good:
            with pytest.raises(TableError, match=r"toy.h5 is damaged or was changed"):
                read_table(path)
    path.write_bytes(good)
    signed = digest_file(path).read_bytes()
    for _ in range(60):
        bad = rng.choice(RAW[:5])(signed, rng)
        digest_file(path).write_bytes(bad)
        if bad.split()[:1] != signed.split()[:1]:
            with pytest.raises(TableError, match=r"toy.h5 (is damaged|has no digest)"):
                read_table(path)


@pytest.mark.slow
def test_mutants_that_are_signed(path, child, capsys):
    """Whoever makes a digest of his own is held by structure and checksums; the rest is counted."""
    rng, good = Random(1), path.read_bytes()
    known = child.ask("table", path)["values"]
    counts, wrong = {"refused": 0, "unchanged": 0, "altered": 0}, []
    for number in range(700):
        path.write_bytes(RAW[number % len(RAW)](good, rng))
        sign(path)
        answer = child.ask("table", path)
        if found := complaint(answer, ["toy.h5"]):
            wrong.append((number, found))
        if answer["outcome"] == "read":
            answer["outcome"] = "unchanged" if answer["values"] == known else "altered"
        counts[answer["outcome"]] = counts.get(answer["outcome"], 0) + 1
    with capsys.disabled():
        print(f"\nsigned mutants of a table: {json.dumps(counts)}")
    assert wrong == []
    assert child.peak < fuzzing.MEMORY
