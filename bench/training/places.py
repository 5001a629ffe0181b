"""Where data sets lie on this machine. A run reads them and never downloads anything."""

import os
from collections.abc import Iterable
from pathlib import Path

from bench.table import data_folder


def places(folder: str | None = None) -> list[Path]:
    """Where a data set is looked for: the folder given, the data folder, `$TORCH_HOME`."""
    given = [folder, os.environ.get("TORCH_HOME")]
    first, last = ([Path(name).expanduser()] if name else [] for name in given)
    return list(dict.fromkeys([*first, data_folder(), *last]))


def own(name: str, folder: str | None) -> list[Path]:
    """Where a data set of one's own is: in the folder given and nowhere else, if one is."""
    if folder:
        return [Path(folder).expanduser()]
    return [place / name for place in places()]


def find(
    what: str,
    folders: Iterable[Path],
    files: Iterable[str],
    how: str,
    *,
    endings: tuple[str, ...] = ("",),
) -> Path:
    """The first of some folders that has all of some files, each with any of the endings.

    Raises:
        FileNotFoundError: none has; says what is expected and `how` to get it.
    """
    tried, wanted = list(folders), list(files)
    for folder in tried:
        if all(any((folder / f"{name}{end}").exists() for end in endings) for name in wanted):
            return folder
    raise FileNotFoundError(
        f"{what} is in none of {', '.join(map(str, tried))}; expected there: {', '.join(wanted)}; "
        f"{how}"
    )
