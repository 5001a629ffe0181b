"""Members of published zip files, read without unpacking anything."""

import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path

from bench.table import TableError


def read_member(source: Path, name: str, *, largest: int) -> bytes:
    """One member of a zip file, whole, its CRC-32 checked.

    Args:
        largest: how many bytes it may have.

    Raises:
        TableError: `source` is no zip file, or damaged; the member is not there, is there twice,
            or is too large.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            found = [info for info in archive.infolist() if info.filename == name]
            if len(found) != 1:
                raise TableError(f"{source.name} has {len(found)} members {name}; allowed: one")
            if found[0].file_size > largest:
                raise TableError(f"{source.name}: {name} is larger than {largest:,} bytes")
            return archive.read(found[0])
    except (
        OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, LZMAError,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise TableError(f"{source.name} cannot be read as zip: {reason}") from None
