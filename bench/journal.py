"""The journal of one run: every answer that was paid for is on disk before anybody is told.

A line is 8 hex digits of CRC-32, a space, canonical JSON and a newline; each record holds its
number `seq` and, as `prev`, the SHA-256 of the line before. The first record says whose answers
follow. A run that was cut off is resumed by running it again: the journal gives the answers it
has, and checks that the same is asked.
"""

import fcntl
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.search import Evaluation, Objective, Query
from bench.space import Architecture
from bench.store import StoreError, canonical_json

FORMAT = 1
LONGEST_RECORD = 1 << 20  # bytes; a longer rest at the end is damage, not a torn write
LINE = re.compile(rb"(?=([0-9a-f]{8}) (\{[^\n]*)\n)")  # wherever one may begin


class Journal:
    """An append-only file of records, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; cut off what a crash left of a last record.

        The cut bytes are kept in `<name>.torn`.

        Raises:
            StoreError: another process holds it, or it is damaged before its end.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = path.read_bytes()
            self.records, self._end, self._prev = _recover(path, data)
            if torn := data[self._end :]:
                path.with_name(f"{path.name}.torn").write_bytes(torn)
                os.ftruncate(self._file, self._end)
            os.fsync(self._file)
            for folder in path.absolute().parents[:3]:  # a first run has just made them
                _flush_folder(folder)
        except BlockingIOError:
            os.close(self._file)
            raise StoreError(f"{path} is held by another process; let it end first") from None
        except BaseException:
            os.close(self._file)
            raise

    def append(self, payload: Mapping[str, Any]) -> None:
        """Put a record at the end; it is on the disk when this returns.

        Raises:
            OSError: it could not be written; the file is as before.
            ValueError: it is too long, or holds a number that is not finite.
        """
        record = {**payload, "seq": len(self.records), "prev": self._prev}
        text = canonical_json(record).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        if len(line) > LONGEST_RECORD:
            raise ValueError(f"a record of {len(line)} bytes; allowed: up to {LONGEST_RECORD}")
        try:
            left = memoryview(line)
            while left:  # a short write is no error
                written = os.pwrite(self._file, left, self._end + len(line) - len(left))
                left = left[written:]
            os.fdatasync(self._file)
        except BaseException:
            os.ftruncate(self._file, self._end)
            raise
        self.records.append(json.loads(text))
        self._end += len(line)
        self._prev = hashlib.sha256(line).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 of the last line, which stands for all of them; empty before the first."""
        return self._prev

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)


def _recover(path: Path, data: bytes) -> tuple[list[dict[str, Any]], int, str]:
    """The records, where the last one ends, and the digest of its line."""
    records: list[dict[str, Any]] = []
    start, prev = 0, ""
    while start < len(data):
        stop = data.find(b"\n", start) + 1
        record = _parse(data[start:stop], len(records), prev) if stop else None
        if record is None:
            rest = data[start:]
            if len(rest) > LONGEST_RECORD or _holds_more(rest, len(records)):
                raise StoreError(
                    f"{path} is damaged at byte {start}, record {len(records)}; this is no torn "
                    "write, for more comes after it: restore the file, or move it away"
                )
            break
        records.append(record)
        prev = hashlib.sha256(data[start:stop]).hexdigest()
        start = stop
    return records, start, prev


def _parse(line: bytes, seq: int, prev: str) -> dict[str, Any] | None:
    """The record of a line, if it is just as we would have written it."""
    text = line[9:-1]
    if line != b"%08x %s\n" % (zlib.crc32(text), text):
        return None
    try:
        record: dict[str, Any] = json.loads(text)
        ours = (record["seq"], record["prev"]) == (seq, prev)
    except (ValueError, KeyError, TypeError):
        return None
    return record if ours else None


def _holds_more(rest: bytes, seq: int) -> bool:
    """Whether these bytes hold a whole record, wherever it begins, or part of one after `seq`."""
    whole = any(b"%08x" % zlib.crc32(text) == crc for crc, text in LINE.findall(rest))
    return whole or re.search(rb'"seq":%d[,}]' % (seq + 1), rest) is not None


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Training(NamedTuple):
    """What training an architecture gave."""

    evaluation: Evaluation
    report: Mapping[str, float | None]
    """The reported metrics; no strategy is told. None where there is no such number."""
    record: dict[str, Any]
    """Whatever else is worth keeping, such as curves; JSON."""


class Journalled(Objective):
    """The objective of one run whose every answer is written to a journal before it is told.

    What the journal knows is answered from it. Its `timer` stands still then, at what the clock
    read when the answer was new, so that a resumed run reads the same clocks.
    """

    def __init__(
        self,
        objective: Objective,
        train: Callable[[Query, int, int], Training],
        path: Path,
        tidy: Callable[[], object] = bool,
    ) -> None:
        """
        Args:
            train: answers a query, noise and the epochs already trained, at a price.
            tidy: called when the run has all its answers.

        Raises:
            StoreError: the journal is held by another process, damaged, or of another objective.
        """
        self.dataset, self.digest = objective.dataset, objective.digest
        self.optimum, self.worst = objective.optimum, objective.worst
        self.notes, self.timed = objective.notes, objective.timed
        self.holds_gpu, self._expect = objective.holds_gpu, objective.expect
        self._train, self._tidy, self._journal = train, tidy, Journal(path)
        try:
            self._begin({"format": FORMAT, "dataset": self.dataset, "objective": self.digest})
        except BaseException:
            self.close()
            raise
        self._next = 1  # the record of the next answer
        self._clock, self._since = 0.0, perf_counter()
        self._reported: dict[Architecture, tuple[int, dict[str, Any]]] = {}

    def _begin(self, about: Mapping[str, Any]) -> None:
        if not self._journal.records:
            self._journal.append(about)
        there = self._journal.records[0]
        if any(there.get(key) != value for key, value in about.items()):
            raise StoreError(f"{self._journal.path} is of another objective; move it away")

    def timer(self) -> float:
        if self._next < len(self._journal.records):
            return self._clock
        return self._clock + perf_counter() - self._since

    def expect(self, queries: Sequence[tuple[Query, int]], noise: int) -> None:
        """Pass on what the journal does not know: of a round that was cut off, the rest."""
        known = len(self._journal.records) - self._next
        if rest := queries[known:]:
            self._expect(rest, noise)

    def evaluate(self, query: Query, noise: int, trained: int) -> Evaluation:
        asked = {
            "architecture": list(query.architecture),
            "fidelity": query.fidelity,
            "noise": f"{noise:016x}",
            "trained": trained,
        }
        if self._next == len(self._journal.records):
            found = self._train(query, noise, trained)
            self._journal.append(
                asked
                | {
                    "evaluation": found.evaluation._asdict(),
                    "report": found.report,
                    "record": found.record,
                    "clock": self.timer(),
                }
            )
        record = self._journal.records[self._next]
        if any(record.get(key) != value for key, value in asked.items()):
            raise StoreError(
                f"{self._journal.path}, record {self._next}: another question than before; "
                "the strategy does not propose the same again, so this run cannot be resumed"
            )
        self._next += 1
        self._clock, self._since = record["clock"], perf_counter()
        evaluation = Evaluation(**record["evaluation"])
        longest, _ = self._reported.get(query.architecture, (0, {}))
        if query.architecture not in self._reported or (
            evaluation.status == "ok" and query.fidelity >= longest
        ):
            reached = query.fidelity if evaluation.status == "ok" else 0
            self._reported[query.architecture] = reached, record["report"]
        return evaluation

    def report(self, architectures: ArrayLike) -> Mapping[str, NDArray[np.float64]]:
        """The metrics of each architecture after its longest training in this run.

        They are NaN for an architecture whose every training failed.
        """
        genes = [tuple(arch) for arch in np.asarray(architectures).tolist()]
        if absent := [arch for arch in genes if arch not in self._reported]:
            raise LookupError(f"{absent[0]} was not trained in this run")
        found = [self._reported[arch][1] for arch in genes]
        return {name: np.array([one[name] for one in found], float) for name in found[0]}

    def finish(self) -> Mapping[str, int | str]:
        """How many records gave the answers, with the first one, and the last one's digest."""
        self._tidy()
        rest = self._journal.records[self._next :]
        digest = rest[0]["prev"] if rest else self._journal.digest
        return {"journal_records": self._next, "journal_digest": digest}

    def close(self) -> None:
        self._journal.close()
