"""Published pickles: what is plain is read exactly, what is not is refused, nothing is run."""

import io
import math
import os
import pickle
import re
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import nb201_pth

from bench import opcodes
from bench.opcodes import Machine
from bench.pickled import PLAIN, TENSORS, TORCH_MAGIC, open_torch, restricted_load
from bench.table import TableError

PROTOCOLS = range(5)
numbers = st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none()
leaves = numbers | st.text(max_size=300) | st.binary(max_size=300)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 300), inner, max_size=6)
    ),
    max_leaves=30,
)
names = st.builds(
    "{}@{}".format, st.sampled_from(["x-valid", "ori-test", "é", "a b"]), st.integers(0, 300)
)
curves = st.dictionaries(
    st.integers(0, 300) | names | st.text(max_size=3),
    st.floats(allow_nan=False) | numbers,
    max_size=40,
)


def load(data, allowed=PLAIN):
    return restricted_load(data, allowed)


# --------------------------------------------------------------------------------- what is read


@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_is_read(value, protocol):
    found = load(pickle.dumps(value, protocol=protocol))
    assert found == value
    assert repr(found) == repr(value)  # tells 1 from True and 1.0


@given(parts=st.lists(curves, max_size=4), protocol=st.sampled_from(PROTOCOLS))
def test_curves_are_read(parts, protocol):
    value = [*parts, *parts, {key: 0.5 for part in parts for key in part}]  # keys again
    found = load(pickle.dumps(value, protocol=protocol))
    assert repr(found) == repr(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_shared_stays_shared(protocol):
    part = {"a": [1.0]}
    one, other = load(pickle.dumps([part, part], protocol=protocol))
    assert one is other


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [np.float64(1.5), np.float32(0.1), np.int64(-3), np.True_])
def test_numbers_of_numpy_become_plain(value, protocol):
    found = load(pickle.dumps({"x": value}, protocol=protocol))["x"]
    assert found == value.item()
    assert type(found) is type(value.item())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ordered_dicts_and_sets_become_plain(protocol):
    value = OrderedDict(b={1, 2}, a=OrderedDict())
    assert repr(load(pickle.dumps(value, protocol=protocol))) == "{'b': {1, 2}, 'a': {}}"


def test_a_file_is_left_behind_the_pickle(tmp_path):
    (tmp_path / "two").write_bytes(pickle.dumps(1) + pickle.dumps([2]) + b"rest")
    with (tmp_path / "two").open("rb") as file:
        assert restricted_load(file) == 1
        assert restricted_load(file) == [2]
        assert file.read() == b"rest"


# ------------------------------------------------------------------------------ item after item


def handed_over(data, key="records"):
    machine = Machine(io.BytesIO(data), PLAIN)
    return list(machine.items(key)), machine.value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2001])
def test_items_are_handed_over_and_not_kept(count, protocol):
    records = {
        number: OrderedDict(
            curve=dict.fromkeys(range(number % 4), number + 0.5), name=str(number % 7)
        )
        for number in range(count)
    }
    top = {"first": [1, 2], "records": records, "last": ("x",)}
    found, rest = handed_over(pickle.dumps(top, protocol=protocol))
    assert found == list(records.items())
    assert rest == top | {"records": {}}


def test_dicts_of_that_name_further_in_stay():
    top = {"a": [{"records": {1: 2, 3: 4}}, 0], "records": {5: [{"records": {6: 7, 8: 9}}, 0]}}
    found, rest = handed_over(pickle.dumps(top))
    assert found == [(5, [{"records": {6: 7, 8: 9}}, 0])]
    assert rest == top | {"records": {}}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_items_share_strings_with_earlier_ones(protocol):
    text, key = "".join(["shared", " text"]), "".join(["x-valid", "@0"])
    records = {number: [text, {key: 0.5}, np.float64(number)] for number in range(300)}
    found, _ = handed_over(pickle.dumps({"records": records}, protocol=protocol))
    assert found == list(records.items())


def test_items_that_share_more_are_refused():
    shared = [1.0]
    records = {number: {"shared": shared, "number": number} for number in range(2)}
    data = pickle.dumps({"records": records})
    with pytest.raises(TableError, match=r"^refused: the pickle refers back to a part of an earl"):
        handed_over(data)
    assert load(data) == {"records": records}  # where nothing is let go


def test_memory_does_not_grow_with_the_items():
    def peak(count):
        records = {
            number: {f"x-valid@{epoch}": float(epoch) for epoch in range(2000)}
            for number in range(count)
        }
        file = io.BytesIO(pickle.dumps({"records": records}, protocol=4))
        del records
        machine = Machine(file, PLAIN)
        tracemalloc.start()
        for _ in machine.items("records"):
            pass
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(2)  # what is cached
    assert peak(160) < peak(80) + 1_000_000  # 80 records would be 20 million bytes


# ------------------------------------------------------------------------------ what is refused


class Bait:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cannot_run_code(tmp_path, protocol):
    data = pickle.dumps({"val_acc": Bait(f"touch {tmp_path / 'ran'}")}, protocol=protocol)
    for allowed in {}, PLAIN, {**PLAIN, **TENSORS}:
        with pytest.raises(TableError, match=r"^refused: the file asks for posix.system, which c"):
            load(data, allowed)
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)  # the bait is real
    assert (tmp_path / "ran").exists()


def test_what_is_allowed_stays_what_it_is():
    for module, name in (
        ("builtins", "eval"),
        ("collections", "OrderedDict.clear"),
        ("os", "dtype"),
    ):
        data = b"\x80\x04" + b"".join(
            b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)
        )
        with pytest.raises(TableError, match="refused: the file asks for"):
            load(data + b"\x93.")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "damaged pickle: it ends early"),
        (b"N", "damaged pickle: it ends early"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "declares a value of 9,223,372,036,854,775,807"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "declares a value of 18,446,744,073,709,551,615"),
        (b"\x80\x02X\xff\xff\xff\x7f.", "declares a value of 2,147,483,647 bytes"),
        (b"\x80\x02X\xff\xff\xff\0abc.", "damaged pickle: it ends early"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "declares a value of 2,147,483,647 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\xff.", "declares a value of -1 bytes"),
        (b"T\xfe\xff\xff\xff.", "declares a value of -2 bytes"),
        (b"Nr\xff\xff\xff\xff.", "memo index 4294967295 is out of order"),
        (b"Np-1\n.", "memo index -1 is out of order"),
        (b"j\xff\xff\xff\xff.", "memo index 4294967295 is not there"),
        (b"g-1\n.", "memo index -1"),
        (b"(" * 5000 + b".", "nested too deep"),
        (b"NN.", "values are left over"),
        (b"(N.", "damaged pickle: "),
        (b"t.", "damaged pickle: "),
        (b".", "damaged pickle: "),
        (b"\x94.", "damaged pickle: "),
        (b"]}s.", "damaged pickle: "),
        (b"](NNu.", "items are set where no dict is"),
        (b"}(Nu.", "damaged pickle: "),
        (b"}(]Nu.", "damaged pickle: .*unhashable"),
        (b"}Na.", "appended where no list is"),
        (b"](N\x90.", "added where no set is"),
        (b"N)R.", "a call of what is no function"),
        (b"N)\x81.", "an instance of what is no class"),
        (b"NNb.", "damaged pickle: "),
        (b"NN\x93.", "a name is no text"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged pickle: "),
        (b"I12", "a line has no end"),
        (b"}" + b")" + b"\x85" * 50 + b"Ns.", "a key is nested too deep"),
        (b"\x8f(" + b")" + b"\x85" * 50 + b"\x90.", "a key is nested too deep"),
        (b"(" + b")" + b"\x85" * 50 + b"\x91.", "a key is nested too deep"),
        (b"(" + b")" + b"\x85" * 50 + b"Nd.", "a key is nested too deep"),
        (b"}(((" + b"N" * 101 + b"ttNu.", "a key is nested too deep"),
        (b"F1e\n.", "damaged pickle: could not convert"),
        (b"X\1\0\0\0\xff.", "damaged pickle: .*utf-8"),
        (b"\x82\1.", "opcode 0x82 is unknown or not allowed"),
        (b"(imodule\nname\n.", "opcode 0x69 is unknown or not allowed"),
    ],
)
def test_hostile_and_damaged_pickles(data, sentence):
    with pytest.raises(TableError, match=sentence) as caught:
        load(data)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


def test_an_endless_pickle(monkeypatch):
    class Endless(io.RawIOBase):
        def read(self, size=-1):
            return b"N0" * (size // 2)

    monkeypatch.setattr(opcodes, "LONGEST_RUN", 1_000_000)
    with pytest.raises(TableError, match=r"^refused: a pickle of more than 1,000,000 opcodes"):
        Machine(Endless()).load()
    monkeypatch.undo()
    with pytest.raises(TableError, match=r"^refused: a pickle of more than 1 MB"):
        Machine(Endless(), largest=1_000_000).load()


def test_an_item_may_be_too_large():
    def texts(count):
        return [f"{number:09}" * 100_000 for number in range(count)]

    data = pickle.dumps({"records": {number: [text, 0] for number, text in enumerate(texts(20))}})
    assert len(list(Machine(io.BytesIO(data), largest=4_000_000).items("records"))) == 20
    with pytest.raises(TableError, match=r"^refused: a pickle of more than 4 MB"):
        Machine(io.BytesIO(data), largest=4_000_000).load()
    data = pickle.dumps({"records": {1: texts(20), 2: 0}})
    with pytest.raises(TableError, match=r"^refused: an item of more than 4 MB"):
        list(Machine(io.BytesIO(data), largest=4_000_000).items("records"))


SAMPLE = {
    "records": {
        1: OrderedDict(curve=dict.fromkeys(range(3), 0.5), text="abc", scalar=np.float64(3.0)),
        2: OrderedDict(curve={f"x-valid@{epoch}": 1.5 for epoch in range(3)}, pair=("abc", -7)),
    },
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_seen(protocol):
    data = pickle.dumps(SAMPLE, protocol=protocol)
    for length in range(len(data)):
        with pytest.raises(TableError, match=r"damaged|refused"):
            load(data[:length])
        with pytest.raises(TableError, match=r"damaged|refused"):
            handed_over(data[:length])


@given(
    protocol=st.sampled_from(PROTOCOLS),
    changes=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4
    ),
    over=st.booleans(),
)
@settings(max_examples=300)
def test_no_damage_is_a_traceback(protocol, changes, over):
    data = bytearray(pickle.dumps(SAMPLE, protocol=protocol))
    for place, byte in changes:
        data[place % len(data)] = byte
    sentence = "read"
    try:
        handed_over(bytes(data)) if over else load(bytes(data))
    except TableError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "state", "data", "sentence"),
    [
        ("O", "<", b"12345678", "a numpy number of type 'O'"),
        ("V9999999999", "|", b"", "a numpy number of type 'V9999999999'"),
        ("f8", "?", b"12345678", "a numpy number of byte order '?'"),
        ("f8", "<", b"1234", "a numpy number of 4 bytes"),
    ],
)
def test_strange_numbers_of_numpy(name, state, data, sentence):
    dtype, scalar = PLAIN["numpy", "dtype"], PLAIN["numpy.core.multiarray", "scalar"]

    def read():
        kind = dtype(name, False, True)
        kind.__setstate__((3, state, None, None, None, -1, -1, 0))
        scalar(kind, data)

    with pytest.raises(TableError, match=re.escape(sentence)):
        read()


def test_numbers_of_either_byte_order():
    dtype, scalar = PLAIN["numpy", "dtype"], PLAIN["numpy.core.multiarray", "scalar"]
    for order in "<>":
        kind = dtype("f8", False, True)
        kind.__setstate__((3, order, None, None, None, -1, -1, 0))
        assert scalar(kind, np.array(math.pi, f"{order}f8").tobytes()) == math.pi
    with pytest.raises(TableError, match="of a strange kind"):
        scalar("f8", b"12345678")
    with pytest.raises(TableError, match="bytes in a strange encoding"):
        PLAIN["_codecs", "encode"]("abc", "rot13")


# --------------------------------------------------------------------------------- torch.save

TENSOR = (  # as torch writes one: a call with a persistent number of its storage
    b"\x80\x02}(X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\n"
    b"X\1\0\0\x000X\3\0\0\0cpuK\x04tQK\0K\x04\x85K\1\x85\x89ccollections\nOrderedDict\n)RtR"
    b"X\1\0\0\0nK\5u."
)


@pytest.mark.parametrize("container", [nb201_pth.stacked, nb201_pth.zipped])
def test_both_containers_of_torch(tmp_path, container):
    (tmp_path / "file.pth").write_bytes(container(SAMPLE))
    with open_torch(tmp_path / "file.pth") as machine:
        assert machine.load() == SAMPLE
    with open_torch(tmp_path / "file.pth") as machine:
        assert list(machine.items("records")) == list(SAMPLE["records"].items())


def test_tensors_are_left_out(tmp_path):
    head = b"".join(nb201_pth.dumped(part) for part in (TORCH_MAGIC, 1001, {}))
    (tmp_path / "file.pth").write_bytes(head + TENSOR + b"numbers")
    with open_torch(tmp_path / "file.pth", {**PLAIN, **TENSORS}) as machine:
        assert machine.load() == {"w": None, "n": 5}
    with (
        pytest.raises(TableError, match=r"asks for torch._utils._rebuild_tensor_v2"),
        open_torch(tmp_path / "file.pth") as machine,
    ):
        machine.load()


def test_files_that_torch_did_not_write(tmp_path):
    path = tmp_path / "file.pth"
    for data, sentence in (
        (b"", "it ends early"),
        (pickle.dumps(7), "file.pth is no torch.save file: it begins differently"),
    ):
        path.write_bytes(data)
        with pytest.raises(TableError, match=sentence), open_torch(path):
            pass
    for members in ["other"], ["a/data.pkl", "b/data.pkl"]:
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, b"")
        with pytest.raises(TableError, match=r"it has [02] members data.pkl"), open_torch(path):
            pass
    with (
        pytest.raises(TableError, match=r"absent.pth cannot be read"),
        open_torch(tmp_path / "absent.pth"),
    ):
        pass
