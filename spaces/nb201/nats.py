"""Readers of the official files of NAS-Bench-201 (Dong & Yang, ICLR 2020) and of NATS-Bench (Dong
et al., TPAMI 2021), its topology and its size space.

What is packed into one file is read as a stream: record after record becomes rows of the result
arrays and is let go.
"""

import bz2
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.data import Progress
from bench.opcodes import MEGABYTE, Machine
from bench.pickled import PLAIN, TENSORS, open_torch
from bench.space import Space
from bench.table import Table, TableError
from spaces.nb201.records import Results

LARGEST_RECORD = 16 * MEGABYTE  # bytes of a pickle; an official one has at most 0.33 million
LARGEST_ARCHIVED = 64 * MEGABYTE  # with the names of tensors


def nats_bench(
    source: Path,
    *,
    schedules: Sequence[str],
    space: Space,
    provenance: Mapping[str, str],
    progress: Progress,
) -> Table:
    """A NATS-Bench file, packed (`….pickle.pbz2`) or unpacked (the folder `…-simple`).

    Args:
        schedules: the training schedules of every record, as the file names them.

    Raises:
        TableError: it is damaged, or not that of this space.
    """
    results = Results(space, schedules, source.name)
    if source.is_dir():
        _check_members(source, r"(\d{6}|meta)\.pickle\.pbz2")
        files = [path for path in sorted(source.iterdir()) if path.name[0].isdigit()]
        with _packed(source / "meta.pickle.pbz2") as machine:
            results.check_meta(machine.load())
            machine.end()
        for path in progress(files, len(files)):
            with results.naming(path), _packed(path) as machine:
                results.add(int(path.name[:6]), machine.load())
                machine.end()
    else:
        check_name(source)
        with results.naming(source), _packed(source) as machine:
            for index, record in progress(machine.items("arch2infos"), space.size):
                results.add(index, record)
            results.check_meta(machine.value)
            machine.end()
    return results.table(provenance)


def nb201_pth(
    source: Path, *, space: Space, provenance: Mapping[str, str], progress: Progress
) -> Table:
    """A NAS-Bench-201 file that `torch.save` wrote, or a folder of `000000-FULL.pth` and so on.

    Nothing in these files tells a changed number, but for the digits of its MD5 in the name of
    the whole one.

    Raises:
        TableError: it is damaged or foreign.
    """
    results = Results(space, ("12", "200"), source.name)
    if source.is_dir():
        _check_members(source, r"\d{6}-(FULL|SIMPLE)\.pth")
        files = sorted(source.iterdir())
        allowed = {**PLAIN, **TENSORS}
        for path in progress(files, len(files)):
            with results.naming(path):
                with open_torch(path, allowed, largest=LARGEST_ARCHIVED) as machine:
                    record = machine.load()
                results.add(int(path.name[:6]), _renamed(record))
    else:
        check_name(source)
        with results.naming(source), open_torch(source, largest=LARGEST_RECORD) as machine:
            for index, record in progress(machine.items("arch2infos"), space.size):
                results.add(index, _renamed(record))
            results.check_meta(machine.value)
    return results.table(provenance)


def _renamed(record: Any) -> Any:
    """The record with the names that NATS-Bench gives to its schedules."""
    if isinstance(record, dict) and record.keys() == {"less", "full"}:
        return {"12": record["less"], "200": record["full"]}
    return record


def check_name(source: Path) -> None:
    """The official names end in the last five or six digits of the file's MD5.

    Raises:
        TableError: those of a file with such a name are others.
    """
    if not source.is_file():
        raise TableError(f"there is no file {source}")
    if found := re.search(r"-([0-9a-f]{5,6})(\.pickle\.pbz2|\.pth)$", source.name):
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if not digest.hexdigest().endswith(found[1]):
            raise TableError(
                f"{source.name} is damaged: its MD5 ends in {digest.hexdigest()[-6:]}, "
                f"its name says {found[1]}"
            )


def _check_members(folder: Path, name: str) -> None:
    """Raise TableError unless a folder holds files of these names and nothing else."""
    inside = folder.resolve()
    for path in folder.iterdir():
        if not re.fullmatch(name, path.name, re.ASCII):
            raise TableError(
                f"{folder.name} holds {path.name[:100]!r}; allowed: names such as "
                f"{'000000.pickle.pbz2, meta.pickle.pbz2' if 'meta' in name else '000000-FULL.pth'}"
            )
        if path.resolve().parent != inside or not path.is_file():
            raise TableError(f"{folder.name}: {path.name} is no file of this folder")


@contextmanager
def _packed(source: Path) -> Iterator[Machine]:
    try:
        with bz2.open(source) as file:
            yield Machine(file, PLAIN, largest=LARGEST_RECORD)
    except (OSError, EOFError) as error:
        raise TableError(f"{source.name} cannot be read as bz2: {error}") from None
