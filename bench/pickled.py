"""Published pickles and `torch.save` files, read without running anything that stands in them."""

import io
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.opcodes import LARGEST, Allowed, Machine
from bench.table import TableError

TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # begins what torch.save wrote before its version 1.6
FORMS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "u1": "B", "b1": "?"}


def restricted_load(data: bytes | IO[bytes], allowed: Allowed | None = None) -> Any:
    """Unpickle, resolving no global but those in `allowed`, (module, name) -> object.

    A file that can seek is left behind the pickle.

    Raises:
        TableError: the pickle is damaged, too large, or asks for anything else.
    """
    machine = Machine(io.BytesIO(data) if isinstance(data, bytes) else data, allowed)
    value = machine.load()
    if not isinstance(data, bytes) and machine.unread() and data.seekable():
        data.seek(-machine.unread(), io.SEEK_CUR)
    return value


class Kind:
    """Stands for `numpy.dtype` of one number."""

    stays_in_memo = True

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in FORMS:
            raise TableError(f"refused: a numpy number of type {str(name)[:20]!r}")
        self.form = "<" + FORMS[name]

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise TableError(f"refused: a numpy number of byte order {str(order)[:20]!r}")
        self.form = (">" if order == ">" else "<") + self.form[1:]


def number(kind: Any, data: Any = b"") -> Any:
    """Stands for numpy's `scalar`: its value as a plain Python number."""
    if not isinstance(kind, Kind) or type(data) is not bytes:
        raise TableError("refused: a numpy number of a strange kind")
    try:
        return struct.unpack(kind.form, data)[0]
    except struct.error:
        raise TableError(f"refused: a numpy number of {len(data)} bytes") from None


def old_bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """Bytes as protocol 2 writes them, by `_codecs.encode`."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise TableError("refused: bytes in a strange encoding")
    return text.encode("latin1")


def nothing(*_: Any) -> None:
    """Stands for a tensor."""


PLAIN: Allowed = {  # containers and numpy's numbers, whatever version wrote them
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("__builtin__", "bytes"): old_bytes,
    ("_codecs", "encode"): old_bytes,
    ("numpy", "dtype"): Kind,
    ("numpy.core.multiarray", "scalar"): number,
    ("numpy._core.multiarray", "scalar"): number,
}
TENSORS: Allowed = {  # which are left out
    ("torch._utils", "_rebuild_tensor_v2"): nothing,
    ("torch._utils", "_rebuild_parameter"): nothing,
    **{
        ("torch", f"{kind}Storage"): nothing
        for kind in ("Float", "Double", "Half", "Long", "Int", "Short", "Byte", "Char", "Bool")
    },
}


@contextmanager
def open_torch(
    source: Path, allowed: Allowed = PLAIN, *, largest: int = LARGEST
) -> Iterator[Machine]:
    """The machine at the pickle of a file that `torch.save` wrote, zip or not; yields it.

    Raises:
        TableError: it is no such file.
    """
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                names = [name for name in archive.namelist() if re.search(r"(^|/)data\.pkl$", name)]
                if len(names) != 1:
                    raise TableError(
                        f"{source.name} is no torch.save file: it has {len(names)} members data.pkl"
                    )
                with archive.open(names[0]) as file:
                    yield Machine(file, allowed, largest=largest)
            return
        with source.open("rb") as file:
            machine = Machine(file, allowed, largest=largest)
            if machine.load() != TORCH_MAGIC:
                raise TableError(f"{source.name} is no torch.save file: it begins differently")
            machine.load()  # the version of the form
            machine.load()  # about the system that wrote it
            yield machine
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise TableError(f"{source.name} cannot be read: {error}") from None
