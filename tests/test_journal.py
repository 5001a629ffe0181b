"""No answer that was paid for is lost, and no damaged one is believed."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from objectives import PROTOCOL, Additive

from bench import journal as module
from bench.journal import LONGEST_RECORD, Journal, Journalled, Training
from bench.run import Cell, execute, run_seed
from bench.search import Budget, Evaluation, Query
from bench.store import StoreError, read_measured, read_trials, sealed
from spaces.nb201.space import NB201
from strategies.random_search import RandomSearch
from strategies.regularized_evolution import RegularizedEvolution

ROOT = Path(__file__).parent.parent
SPACE = NB201()
PAYLOADS = [{"number": number / 7, "payload": f"{number} {{…}} \n"} for number in range(6)]
LONG = [{"number": number / 7, "payload": f"{number}" * 600} for number in range(6)]  # as answers


def written(folder, payloads=PAYLOADS, name="journal.jsonl"):
    """The path of a journal that holds these."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / name)
    for payload in payloads:
        journal.append(payload)
    journal.close()
    return journal.path


def read(path):
    """The payloads of a journal, which is mended on the way."""
    journal = Journal(path)
    journal.close()
    return [
        {key: value for key, value in record.items() if key not in ("seq", "prev")}
        for record in journal.records
    ]


def ends(data):
    """Where each line of a file ends."""
    return [place + 1 for place, byte in enumerate(data) if byte == ord("\n")]


def test_what_is_appended_is_read_again(tmp_path):
    path = written(tmp_path / "new/folders")
    assert read(path) == PAYLOADS
    lines = path.read_bytes().splitlines()
    assert [json.loads(line[9:])["seq"] for line in lines] == list(range(6))
    assert all(int(line[:8], 16) == zlib.crc32(line[9:]) for line in lines)


def test_cut_at_every_byte(tmp_path):
    """What was whole is kept, the rest is put aside, and three appends later all is there."""
    data = written(tmp_path, PAYLOADS[:3]).read_bytes()
    stops = ends(data)
    for length in range(len(data) + 1):
        path = tmp_path / f"cut-{length}.jsonl"
        path.write_bytes(data[:length])
        whole = sum(stop <= length for stop in stops)
        journal = Journal(path)
        assert [record["seq"] for record in journal.records] == list(range(whole))
        for payload in PAYLOADS[:3]:
            journal.append(payload)
        journal.close()
        assert read(path) == PAYLOADS[:whole] + PAYLOADS[:3]
        torn = data[max((stop for stop in stops if stop <= length), default=0) : length]
        kept = path.with_name(f"{path.name}.torn")
        assert (kept.read_bytes() if kept.exists() else b"") == torn
        path.unlink()


def cut(rng, data, stops):
    return data[: rng.randrange(len(data) + 1)]


def zero_tail(rng, data, stops):
    return cut(rng, data, stops) + bytes(rng.randrange(1, 600))


def garbage_tail(rng, data, stops):
    return cut(rng, data, stops) + rng.randbytes(rng.randrange(1, 600))


def bit_flip(rng, data, stops):
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def duplicate_line(rng, data, stops):
    start, stop = rng.choice([*zip([0, *stops], stops, strict=False)])
    place = rng.choice([0, *stops])
    return data[:place] + data[start:stop] + data[place:]


def zeroed_span(rng, data, stops):
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice([1, 16, 64, 512]))
    return data[:start] + bytes(stop - start) + data[stop:]


def read_or_refuse(path):
    try:
        return read(path)
    except StoreError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "harm", [cut, zero_tail, garbage_tail, bit_flip, duplicate_line, zeroed_span]
)
def test_damage_is_refused_or_costs_what_a_crash_may(tmp_path, harm, seed):
    """500 cases each. What is read is a prefix; only the last record may look like torn."""
    rng = Random(f"{harm.__name__}/{seed}")
    data = written(tmp_path, LONG).read_bytes()
    stops = ends(data)
    path = tmp_path / "damaged.jsonl"
    for _ in range(100):
        harmed = harm(rng, data, stops)
        path.write_bytes(harmed)
        untouched = sum(harmed.startswith(data[:stop]) for stop in stops)
        found = read_or_refuse(path)
        if isinstance(found, str):
            assert f"{path} is damaged at byte " in found
            assert path.read_bytes() == harmed  # nothing is truncated
            assert harm not in (cut, zero_tail, garbage_tail)
            continue
        assert found == LONG[: len(found)]
        assert len(found) >= untouched
        if harm in (bit_flip, duplicate_line, zeroed_span):  # what lies before the last is seen
            assert len(found) >= len(LONG) - 1


def test_damage_before_the_end_names_file_byte_and_record(tmp_path):
    path = written(tmp_path)
    data = path.read_bytes()
    second = ends(data)[0]
    path.write_bytes(data[: second + 20] + b"x" + data[second + 21 :])
    with pytest.raises(StoreError, match=f"{path} is damaged at byte {second}, record 1; ") as why:
        Journal(path)
    assert "\n" not in str(why.value)


def test_a_lost_newline_before_the_last_record_is_seen(tmp_path):
    """The last two lines are then one, which is no torn write: the second is whole in it."""
    path = written(tmp_path)
    data = path.read_bytes()
    place = ends(data)[-2] - 1
    path.write_bytes(data[:place] + b"*" + data[place + 1 :])
    with pytest.raises(StoreError, match="record 4"):
        Journal(path)


def test_a_span_across_the_last_two_records_is_seen(tmp_path):
    path = written(tmp_path)
    data = path.read_bytes()
    middle = ends(data)[-2]
    path.write_bytes(data[: middle - 20] + bytes(40) + data[middle + 20 :])
    with pytest.raises(StoreError, match="record 4"):
        Journal(path)


def test_a_line_that_stands_twice_is_damage(tmp_path):
    """It is whole, so it is no torn write, though nothing would be lost."""
    path = written(tmp_path)
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines(keepends=True)[-1])
    with pytest.raises(StoreError, match="record 6"):
        Journal(path)


def test_a_long_rest_is_damage(tmp_path):
    path = written(tmp_path)
    with path.open("ab") as file:
        file.write(bytes(LONGEST_RECORD + 1))
    with pytest.raises(StoreError, match="record 6"):
        Journal(path)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"no json", b'{"prev":"","seq":1}', b'{"seq":0}'])
def test_a_line_with_a_right_sum_must_be_a_record_too(tmp_path, text):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
    if text.startswith(b"{"):
        with pytest.raises(StoreError, match="record 0"):
            Journal(path)
    else:
        assert read(path) == []


def test_a_record_that_is_too_long_is_refused(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="allowed: up to"):
        journal.append({"text": "x" * LONGEST_RECORD})
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append({"number": float("nan")})
    journal.append(PAYLOADS[0])
    journal.close()
    assert read(journal.path) == PAYLOADS[:1]


class Disk:
    """`os`, of which one function misbehaves."""

    def __init__(self, name, behave):
        self.name, self.behave = name, behave

    def __getattr__(self, name):
        return self.behave if name == self.name else getattr(os, name)


@pytest.mark.parametrize("length", [1, 3, 50])
def test_short_writes_are_no_errors(tmp_path, monkeypatch, length):
    def some(file, data, place):
        return os.pwrite(file, data[:length], place)

    monkeypatch.setattr(module, "os", Disk("pwrite", some))
    assert read(written(tmp_path)) == PAYLOADS


@pytest.mark.parametrize("after", [0, 1, 40, 10**6])
@pytest.mark.parametrize("name", ["pwrite", "fdatasync"])
def test_a_full_disk_leaves_the_file_as_before(tmp_path, monkeypatch, name, after):
    """`after` bytes of a record reach the disk before it is full; then some are removed."""
    path = written(tmp_path)
    data = path.read_bytes()
    journal = Journal(path)
    calls = []

    def full(file, *rest):
        calls.append(rest)
        if name == "pwrite" and len(calls) == 1 and 0 < after < 100:
            return os.pwrite(file, rest[0][:after], rest[1])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "os", Disk(name, full))
        with pytest.raises(OSError, match="No space left"):
            journal.append(PAYLOADS[0])
    assert path.read_bytes() == data
    assert len(journal.records) == len(PAYLOADS)
    journal.append(PAYLOADS[0])
    journal.close()
    assert read(path) == [*PAYLOADS, PAYLOADS[0]]


class Watched:
    """`os`, whose writes and flushes are written down."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def noted(file, *rest):
            self.calls.append((name, Path(f"/proc/self/fd/{file}").readlink().name))
            return getattr(os, name)(file, *rest)

        return noted if name in ("pwrite", "fsync", "fdatasync", "ftruncate") else getattr(os, name)


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files are read from /proc")
def test_everything_is_flushed_before_it_is_acknowledged(tmp_path, monkeypatch):
    """The file, its name and those of new folders; a mutant without a flush dies here."""
    watched = Watched()
    monkeypatch.setattr(module, "os", watched)
    journal = Journal(tmp_path / "runs/cell/journal.jsonl")
    name = "journal.jsonl"
    assert watched.calls == [
        *(("fsync", name), ("fsync", "cell"), ("fsync", "runs"), ("fsync", tmp_path.name)),
    ]
    watched.calls.clear()
    journal.append(PAYLOADS[0])
    assert watched.calls == [("pwrite", name), ("fdatasync", name)]
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    watched.calls.clear()
    Journal(journal.path).close()
    assert watched.calls[:2] == [("ftruncate", name), ("fsync", name)]


def test_a_failed_recovery_lets_the_file_go(tmp_path, monkeypatch):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "os", Disk("ftruncate", full))
        with pytest.raises(OSError, match="No space"):
            Journal(path)
    assert read(path) == PAYLOADS[:-1]


def test_a_second_holder_is_refused(tmp_path):
    path = written(tmp_path)
    journal = Journal(path)
    with pytest.raises(StoreError, match="is held by another process"):
        Journal(path)
    code = f"from pathlib import Path; from bench.journal import *; Journal(Path({str(path)!r}))"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "is held by another process" in other.stderr
    journal.close()
    assert read(path) == PAYLOADS


WRITER = """
import sys
from pathlib import Path
from bench.journal import Journal
journal = Journal(Path(sys.argv[1]))
while True:
    journal.append({"number": len(journal.records), "text": "x" * 200})
    sys.stdout.write(f"{len(journal.records)}\\n")
    sys.stdout.flush()
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    """Killed at moments drawn after its first new record, ten times on one file."""
    path, rng, before = tmp_path / "journal.jsonl", Random(0), 0
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as writer:
            acknowledged = [int(writer.stdout.readline()) for _ in range(rng.randrange(1, 40))]
            writer.send_signal(signal.SIGKILL)
            acknowledged += map(int, writer.stdout.read().split("\n")[:-1])
        found = read(path)
        assert acknowledged[0] == before + 1
        assert [record["number"] for record in found] == list(range(len(found)))
        assert acknowledged[-1] <= len(found) <= acknowledged[-1] + 1
        before = len(found)


class Counted:
    """Trainings that are counted, some of which fail."""

    def __init__(self, fails=()):
        self.asked, self.fails = [], fails

    def __call__(self, query, noise, trained):
        self.asked.append(query)
        number = len(self.asked) - 1
        if number in self.fails:
            return Training(Evaluation(1.0, 0.0, {}, "timeout"), {"test_error": None}, {})
        error = 0.5 / (number + 1)
        told = Evaluation(error, 0.0, {"parameters": 3.0})
        return Training(told, {"test_error": error + 0.1}, {"curve": [error]})


QUERIES = [Query((gene,) * 6, fidelity) for fidelity in (3, 9) for gene in (1, 2, 3)]


def journalled(path, train, **changes):
    objective = Additive(SPACE)
    vars(objective).update(changes)
    return Journalled(objective, train, path)


def test_answers_are_given_again_without_training(tmp_path):
    path, train = tmp_path / "journal.jsonl", Counted()
    first = journalled(path, train)
    answers, clocks = [], []
    for query in QUERIES:
        answers.append(first.evaluate(query, 7, 0))
        clocks.append(first.timer())
    first.close()
    assert len(train.asked) == len(QUERIES)
    again = journalled(path, train)
    assert again.timer() == again.timer() == 0
    recorded = [record["clock"] for record in again._journal.records[1:]]
    for number, query in enumerate(QUERIES[:-1]):
        assert again.evaluate(query, 7, 0) == answers[number]
        assert again.timer() == again.timer() == recorded[number]  # it stands still
        assert recorded[number] <= clocks[number]
    assert again.evaluate(QUERIES[-1], 7, 0) == answers[-1]
    assert recorded[-1] < again.timer() < again.timer()  # and goes on where it stood
    assert len(train.asked) == len(QUERIES)
    architectures = [query.architecture for query in QUERIES[:3]]
    assert again.report(architectures)["test_error"].tolist() == [
        pytest.approx(0.5 / (number + 1) + 0.1) for number in (3, 4, 5)
    ]
    again.evaluate(Query((4,) * 6, 3), 7, 0)
    assert len(train.asked) == len(QUERIES) + 1
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        {"query": Query((1, 1, 1, 1, 1, 2), 3)},
        {"query": Query((1,) * 6, 9)},
        {"noise": 8},
        {"trained": 1},
    ],
)
def test_another_question_is_named(tmp_path, change):
    path = tmp_path / "journal.jsonl"
    first = journalled(path, Counted())
    for query in QUERIES:
        first.evaluate(query, 7, 0)
    first.close()
    again = journalled(path, Counted())
    again.evaluate(QUERIES[0], 7, 0)
    question = {"query": QUERIES[1], "noise": 7, "trained": 0} | change
    with pytest.raises(StoreError, match=r"journal\.jsonl, record 2: another question"):
        again.evaluate(**question)
    again.close()


def test_a_journal_of_another_objective_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    journalled(path, Counted()).close()
    for change in {"digest": "1" * 64}, {"dataset": "other"}:
        with pytest.raises(StoreError, match="is of another objective; move it away"):
            journalled(path, Counted(), **change)
    journalled(path, Counted()).close()  # and nobody holds it


def test_failed_trainings_are_nulls_in_the_journal_and_nan_in_reports(tmp_path):
    path = tmp_path / "journal.jsonl"
    one = journalled(path, Counted(fails=(0, 4)))
    for query in QUERIES:
        one.evaluate(query, 7, 0)
    one.close()
    assert json.loads(path.read_text().splitlines()[1][9:])["report"] == {"test_error": None}
    found = one.report([query.architecture for query in QUERIES])["test_error"]
    # The second one failed at 9 epochs only: what it reached before is reported.
    assert found[:3].tolist() == pytest.approx([0.5 / 4 + 0.1, 0.5 / 2 + 0.1, 0.5 / 6 + 0.1])
    bad = journalled(tmp_path / "bad.jsonl", Counted(fails=(0,)))
    bad.evaluate(QUERIES[0], 7, 0)
    assert np.isnan(bad.report([QUERIES[0].architecture])["test_error"]).all()
    with pytest.raises(LookupError, match="was not trained in this run"):
        bad.report([QUERIES[1].architecture])
    bad.close()


class Dear(Additive):
    """Additive answers that are kept in a journal; the process dies after `lives` new ones."""

    journalled, timed, holds_gpu, lives = True, False, True, 10**9

    def __init__(self, space):
        super().__init__(space)
        self.expected, self.trained = [], []

    def open(self, journal):
        return Journalled(self, self.train, journal)

    def expect(self, queries, noise):
        self.expected.append(list(queries))

    def train(self, query, noise, trained):
        self.trained.append((query, trained))
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        answer = Additive.evaluate(self, query, noise, trained)
        answer = answer._replace(seconds=0.0, gpu_seconds=answer.seconds)
        if query.architecture[0] == 2:
            return Training(
                Evaluation(1.0, 0.0, {}, "diverged"), dict.fromkeys(PROTOCOL.report), {}
            )
        return Training(answer, {"valid_error": answer.error}, {})


@pytest.mark.parametrize("factory", [RandomSearch, RegularizedEvolution])
def test_a_run_cut_off_at_every_trial_ends_as_an_uninterrupted_one(tmp_path, factory):
    objective = Dear(SPACE)
    budget = Budget("evaluations", 12)
    cell = Cell({}, {}, factory, SPACE, objective, PROTOCOL, budget)
    (tmp_path / "whole").mkdir()
    whole, _ = run_seed(cell, 0, folder=tmp_path / "whole")
    cuts = 0
    while True:
        objective.lives = 1
        try:
            pieces, _ = run_seed(cell, 0, folder=tmp_path / "pieces")
            break
        except KeyboardInterrupt:
            cuts += 1
    assert cuts == 11
    assert whole.keys() == pieces.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], pieces[name])
    assert np.isnan(whole["report_valid_error"]).tolist() == whole["failed"].tolist()
    assert whole["failed"].any()
    assert whole["error"][whole["failed"]].tolist() == [1.0] * whole["failed"].sum()


@pytest.mark.parametrize("rules", [{}, {"duplicates": "cached"}, {"fidelities": (1, 3)}])
def test_a_round_that_is_cut_off_is_finished_by_its_rest(tmp_path, rules):
    """Cut off at every answer, with four workers: equal trials, clocks that are paid, rounds."""
    objective = Dear(SPACE)
    protocol = replace(PROTOCOL, **rules)
    budget = Budget("evaluations", 10)
    cell = Cell({}, {}, RandomSearch, SPACE, objective, protocol, budget, workers=4)
    whole, measured = run_seed(cell, 0, folder=tmp_path / "whole")
    rounds, objective.expected = objective.expected, []
    assert [len(some) for some in rounds] == [4, 4, 2]
    assert [one for some in rounds for one in some] == objective.trained
    for lives in range(10):
        folder = tmp_path / f"after-{lives}"
        objective.lives = lives
        with pytest.raises(KeyboardInterrupt):
            run_seed(cell, 0, folder=folder)
        objective.lives, objective.expected, objective.trained = 10**9, [], []
        pieces, again = run_seed(cell, 0, folder=folder)
        there = lives % 4 if lives < 8 else lives - 8  # of the round that was cut off
        begun = min(lives // 4, 2)
        assert objective.expected == [rounds[begun][there:], *rounds[begun + 1 :]]
        assert [one for some in objective.expected for one in some] == objective.trained
        for name in whole:
            np.testing.assert_array_equal(whole[name], pieces[name])
        assert again["gpu_seconds"].tolist() == measured["gpu_seconds"].tolist()
    assert measured["gpu_seconds"][-1] > 0


def test_answers_of_before_there_were_gpu_seconds_are_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    told = Evaluation(0.5, 0.0, {"parameters": 3.0})._asdict()
    assert told.pop("gpu_seconds") == 0
    asked = {"architecture": [1] * 6, "fidelity": 3, "noise": f"{7:016x}", "trained": 0}
    about = {"format": 1, "dataset": "additive", "objective": "0" * 64}
    for record in about, asked | {"evaluation": told, "report": {}, "record": {}, "clock": 2.0}:
        journal.append(record)
    journal.close()
    one = journalled(path, Counted())
    answer = one.evaluate(QUERIES[0], 7, 0)
    assert answer == Evaluation(0.5, 0.0, {"parameters": 3.0}, gpu_seconds=0.0)
    one.close()


def test_a_finished_run_names_its_records(tmp_path):
    """The number of lines it rests on and the SHA-256 of the last; then it is tidied up."""
    objective, tidied = Dear(SPACE), []
    one = Journalled(
        objective, objective.train, tmp_path / "journal.jsonl", lambda: tidied.append(1)
    )
    for query in QUERIES[:3]:
        one.evaluate(query, 7, 0)
    assert not tidied
    found = one.finish()
    one.close()
    data = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    digests = [hashlib.sha256(line).hexdigest() for line in data]
    assert found == {"journal_records": 4, "journal_digest": digests[3]}
    assert tidied == [1]
    again = journalled(tmp_path / "journal.jsonl", objective.train)
    again.evaluate(QUERIES[0], 7, 0)  # a run that needs less of it
    assert again.finish() == {"journal_records": 2, "journal_digest": digests[1]}
    again.close()


def test_the_seal_names_the_journal(tmp_path):
    objective = Dear(SPACE)
    names = dict.fromkeys(("strategy", "space", "dataset", "protocol"), "x")
    budget = Budget("evaluations", 5)
    cell = Cell(names, {}, RandomSearch, SPACE, objective, PROTOCOL, budget)
    assert execute([cell], range(2), tmp_path) == []
    folder = cell.folder(tmp_path)
    for shard in sealed(folder):
        measured = read_measured(shard)
        lines = (folder / f"journal-{shard.first:06d}.jsonl").read_bytes().splitlines(True)
        assert measured["journal_records"].tolist() == [len(lines)] == [6]
        assert measured["journal_digest"].tolist() == [hashlib.sha256(lines[-1]).hexdigest()]
        assert not {"journal_records", "gpu_seconds"} & read_trials(shard).keys()


class Forgetful(RandomSearch):
    """It asks otherwise in every run."""

    def ask(self):
        return Query(self.space.sample(Random()), self.fidelities[-1])


def test_a_strategy_that_asks_otherwise_is_named_at_the_record(tmp_path):
    objective = Dear(SPACE)
    cell = Cell({}, {}, Forgetful, SPACE, objective, PROTOCOL, Budget("evaluations", 4))
    objective.lives = 2
    with pytest.raises(KeyboardInterrupt):
        run_seed(cell, 0, folder=tmp_path)
    with pytest.raises(StoreError, match="record 1: another question than before; the strategy"):
        run_seed(cell, 0, folder=tmp_path)
