"""Members of published zip files, read without unpacking anything."""

import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path

from bench.table import TableError


def read_member(source: Path, name: str, *, what: str, largest: int) -> bytes:
    """One member of a zip file, whole, its CRC-32 checked.

    Args:
        what: the published file that `source` should be, in words.
        largest: how many bytes it may have.

    Raises:
        TableError: `source` is no zip file, or damaged; the member is not there, is there twice,
            or is too large.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            found = [info for info in archive.infolist() if info.filename == name]
            if len(found) != 1:
                raise zipfile.BadZipFile(f"it has {len(found)} members {name}")
            if found[0].file_size > largest:
                raise TableError(f"{source.name}: {name} is larger than {largest:,} bytes")
            return archive.read(found[0])
    except (
        OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, LZMAError,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise TableError(f"{source.name} is not {what}: {reason}") from None
