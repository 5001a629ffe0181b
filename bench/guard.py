"""Whether an HDF5 file is built as a table is, found out before any value of it is read.

HDF5 can point into other files, nest without end, declare terabytes in a kilobyte, and hang on
text of variable length. None of that can stand in a table, so whatever does is refused by what it
declares: at most three levels, hard links, one way to each object, numbers of fixed width, the
filters that need no plugin, and a size that a file of so many bytes can hold.
"""

import re
from collections.abc import Iterator
from typing import Any

import h5py

INDEX = {  # what lies beside the data sets: its type and number of dimensions
    "architectures": (h5py.h5t.STD_I8LE, (2,)),
    "keys": (h5py.h5t.STD_U64LE, (1,)),
    "rows": (h5py.h5t.STD_I32LE, (1,)),
}
IN_SCHEDULES = {"epochs": (h5py.h5t.STD_I32LE, (1,)), "seeds": (h5py.h5t.STD_I32LE, (1,))}
COLUMN = (h5py.h5t.IEEE_F32LE, (1, 2, 3))
NAME = re.compile(rb"\w[\w.+-]{0,200}")
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
LARGEST = 1 << 34  # bytes of all columns
SMALL = 1 << 26  # bytes that any file may declare; beyond, 1,000 for each that it has:
DENSEST = 1000  # deflate reaches 1,032
LARGEST_CHUNK = 1 << 20  # bytes of a chunk that is larger than its column
Shape = tuple[int, ...]


class ForeignError(Exception):
    """What is wrong; the message does not name the file."""


def check_structure(file: h5py.File, attributes: tuple[str, ...]) -> None:
    """Look at all that an open file declares.

    Args:
        attributes: the texts that belong to it.

    Raises:
        ForeignError: it is not built like a table.
    """
    try:
        for name in attributes:
            read_text(file, name)
        sizes = dict(_sizes(file))
        _check_shapes({name: shape for name, (shape, _) in sizes.items()})
        declared = sum(size for _, size in sizes.values())
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:  # whatever h5py makes
        raise ForeignError(" ".join(str(error).split())[:200]) from None
    if declared > min(LARGEST, max(SMALL, DENSEST * file.id.get_filesize())):
        raise ForeignError(
            f"it declares {declared:,} bytes of columns in a file of {file.id.get_filesize():,}"
        )


def read_text(file: h5py.File, name: str) -> str:
    """An attribute of the file, which must be a text of fixed length.

    Raises:
        ForeignError: it is something else, or not there.
    """
    if not h5py.h5a.exists(file.id, name.encode()):
        raise ForeignError(f"it has no attribute {name!r}")
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    if (
        not isinstance(kind, h5py.h5t.TypeStringID)
        or kind.is_variable_str()
        or kind.committed()
        or attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR
    ):
        raise ForeignError(f"its attribute {name!r} is no text of fixed length")
    try:
        text: str = file.attrs[name].decode()
    except (OSError, UnicodeDecodeError, MemoryError):
        raise ForeignError(f"its attribute {name!r} cannot be read") from None
    return text


def _sizes(file: h5py.File) -> Iterator[tuple[str, tuple[Shape, int]]]:
    """The shape and the bytes of each dataset, while everything on the way to it is checked."""
    seen = {h5py.h5o.get_info(file.id).addr}
    root = h5py.h5g.open(file.id, b"/")
    for name, item in _members(root, seen):
        if name in INDEX:
            yield name, _size(name, item, *INDEX[name])
            continue
        for schedule, group in _members(_group(name, item), seen):
            where = f"{name}/{schedule}"
            there = dict(_members(_group(where, group), seen))
            if absent := IN_SCHEDULES.keys() - there:
                raise ForeignError(f"{where} lacks {' and '.join(sorted(absent))}")
            for column, values in there.items():
                whole = f"{where}/{column}"
                yield whole, _size(whole, values, *IN_SCHEDULES.get(column, COLUMN))


def _check_shapes(shapes: dict[str, Shape]) -> None:
    """Look whether all that is needed is there, and whether sizes agree."""
    if absent := INDEX.keys() - shapes:
        raise ForeignError(f"it lacks {' and '.join(sorted(absent))}")
    rows = shapes["architectures"][:1]
    for name, shape in shapes.items():
        group, _, column = name.rpartition("/")
        if group and column not in IN_SCHEDULES:
            epochs, seeds = shapes[f"{group}/epochs"], shapes[f"{group}/seeds"]
            if shape not in (rows, rows + seeds, rows + epochs + seeds):
                raise ForeignError(
                    f"{name} has shape {shape} for {rows[0]:,} architectures, {epochs[0]} epochs "
                    f"and {seeds[0]} training seeds"
                )
    if shapes["keys"] != shapes["rows"]:
        raise ForeignError(f"it has {shapes['keys'][0]:,} keys for {shapes['rows'][0]:,} rows")


def _members(group: Any, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """The name of everything in a group, and the thing itself, to which there is no other way."""
    for name in group:
        if not NAME.fullmatch(name):
            raise ForeignError(f"something in it is named {name[:50]!r}")
        if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise ForeignError(f"{name.decode()} is a link to somewhere else")
        item = h5py.h5o.open(group, name)
        address = h5py.h5o.get_info(item).addr
        if address in seen:
            raise ForeignError(f"there are two ways to {name.decode()}")
        seen.add(address)
        yield name.decode(), item


def _group(name: str, item: Any) -> Any:
    if not isinstance(item, h5py.h5g.GroupID):
        raise ForeignError(f"{name} is no group")
    return item


def _size(name: str, item: Any, expected: Any, dimensions: tuple[int, ...]) -> tuple[Shape, int]:
    """The shape and the bytes that a dataset declares, once it is found good."""
    if not isinstance(item, h5py.h5d.DatasetID):
        raise ForeignError(f"{name} is no dataset")
    kind, plan = item.get_type(), item.get_create_plist()
    if kind.committed() or not kind.equal(expected):
        raise ForeignError(f"{name} does not hold numbers of the type that it should")
    filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
    if plan.get_layout() != h5py.h5d.CHUNKED or plan.get_external_count() or filters != FILTERS:
        raise ForeignError(f"{name} is not stored in checksummed chunks of this file")
    shape, width = item.shape, kind.get_size()
    if len(shape) not in dimensions or item.get_space().get_simple_extent_type() != h5py.h5s.SIMPLE:
        raise ForeignError(f"{name} has {len(shape)} dimensions")
    size, chunk = width, width
    for length, of_chunk in zip(shape, plan.get_chunk(), strict=True):
        size, chunk = size * length, chunk * of_chunk
    if chunk > max(size, LARGEST_CHUNK):
        raise ForeignError(f"{name} has chunks of {chunk:,} bytes for {size:,}")
    return shape, int(size)
