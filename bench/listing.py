"""What `nas-arena data list` prints. Tables are looked at from outside, so that it is quick."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import h5py

from bench import catalogue
from bench.fetch import find_file
from bench.parts import options
from bench.space import Space
from bench.table import (
    FORMAT,
    PROVENANCE,
    TableError,
    column_names,
    digest_file,
    open_table,
)
from bench.words import nearest

HEAD = ("name", "space", "data sets", "rows", "MB", "here")
WIDTH = 30  # of the data sets, in characters
TOLD = ("licence", "citation", "source", "published", "url", "file", "notes")
HELP = """\
MB are those of the table where it is here, else of the file to download.
All of one: nas-arena data list NAME; its file: nas-arena data get NAME"""


@dataclass(frozen=True)
class Outline:
    """What the attributes and shapes of a table's file say."""

    space: str
    rows: int
    schedules: dict[str, list[str]]
    notes: str
    holes: bool
    """Whether some of its rows lack errors."""


def peek(path: Path) -> Outline:
    """Look at a table without reading its columns or its digest.

    Only texts of fixed length and links to the file itself are followed, as the file may be
    anything.

    Raises:
        TableError: it is no table, or one that cannot be opened.
    """
    if not digest_file(path).is_file():
        raise TableError(f"{path} has no digest in {digest_file(path).name} beside it")
    try:
        with h5py.File(path, "r") as file:
            if _text(file, "format") != FORMAT:
                raise TableError(f"{path} is not a table of this version ({FORMAT!r})")
            inside = {name: list(_groups(file[name])) for name in _groups(file)}
            if not isinstance(file.get("architectures", getlink=True), h5py.HardLink):
                raise KeyError("architectures")
            (rows, _) = file["architectures"].shape
            holes = "coverage" in file.attrs and _text(file, "coverage") == "partial"
            return Outline(_text(file, "space"), rows, inside, _text(file, "notes"), holes)
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, UnicodeDecodeError):
        raise TableError(f"{path} is damaged or was changed: it is no table any more") from None


def _text(file: h5py.File, key: str) -> str:
    if file.attrs.get_id(key).dtype.kind != "S":
        raise ValueError(key)
    text: str = file.attrs[key].decode()
    return text


def _groups(group: h5py.Group) -> Iterator[str]:
    for name in group:
        is_ours = isinstance(group.get(name, getlink=True), h5py.HardLink)
        if is_ours and group.get(name, getclass=True) is h5py.Group:
            yield name


def overview() -> str:
    """Every table that is here or in a recipe, a line each; then what is wrong with some.

    A table that is damaged does not hide the others.
    """
    known, here, spaces = catalogue.recipes(), catalogue.files(), catalogue.spaces()
    outlines: dict[str, Outline] = {}
    wrong = []
    for name, path in here.items():
        try:
            outlines[name] = peek(path)
        except TableError as error:
            wrong.append(str(error))
    rows = [HEAD]
    for name in sorted({*known, *here}):
        recipe, outline = known.get(name, {}), outlines.get(name)
        datasets = outline.schedules if outline else recipe.get("datasets", [])
        count = outline.rows if outline else recipe.get("rows")
        rows.append(
            (
                name,
                outline.space if outline else str(recipe.get("space", "")),
                _short(list(map(str, datasets))),
                f"{count:,}" if count else "",
                _megabytes(here[name]) if name in here else str(recipe.get("megabytes", "")),
                _here(name, recipe, here, outlines, spaces),
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if title in ("rows", "MB") else cell.ljust(width)
            for cell, width, title in zip(row, widths, HEAD, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", *wrong, *HELP.splitlines()])


def _here(
    name: str,
    recipe: Mapping[str, Any],
    here: Mapping[str, Path],
    outlines: Mapping[str, Outline],
    spaces: Mapping[str, Space],
) -> str:
    """Whether a table is here, how much of it, or whether at least its file is."""
    if name in outlines:
        return _coverage(outlines[name], recipe, spaces)
    if name in here:
        return "damaged"
    if "extra" in recipe:
        into = [table for table, some in outlines.items() if catalogue.has_added(some.notes, name)]
        if into:
            return f"in {', '.join(into)}"
    if find_file(recipe):
        return "its file"
    return "no"


def _coverage(outline: Outline, recipe: Mapping[str, Any], spaces: Mapping[str, Space]) -> str:
    if recipe.get("sample"):
        return "sample"
    space = spaces.get(outline.space)
    whole = space and outline.rows >= space.networks and not outline.holes
    return "whole" if whole else "partial"


def _short(names: list[str]) -> str:
    """Names as far as there is room, and how many more there are."""
    for shown in range(len(names), 0, -1):
        more = f", +{len(names) - shown}" if shown < len(names) else ""
        if len(text := ", ".join(names[:shown]) + more) <= WIDTH:
            return text
    return f"{len(names)} data sets" if names else ""


def _megabytes(path: Path) -> str:
    try:
        return f"{path.stat().st_size / 1e6:.1f}"
    except OSError:
        return ""


def details(name: str) -> str:
    """All that is known of one table, here or not; its digest is checked.

    Raises:
        TableError: there is neither such a recipe nor such a table, or it is damaged.
    """
    known, here, spaces = catalogue.recipes(), catalogue.files(), catalogue.spaces()
    recipe = known.get(name, {})
    if name not in known and name not in here:
        there = sorted({*known, *here})
        raise TableError(f"no table {name!r}; known: {', '.join(there)}" + nearest(name, there))
    lines = [f"{name}: {options('data').get(name, 'a table of your own')}"]
    told: dict[str, Any] = {"licence": "not stated"} if recipe else {}
    told |= {key: recipe[key] for key in TOLD if recipe.get(key)}
    if name in here:
        outline = peek(here[name])
        with open_table(here[name]) as (file, digest):
            given = {key: file.attrs[key].decode() for key in PROVENANCE if key in TOLD}
            told |= {key: text for key, text in given.items() if text}
            lines += _line("here", _coverage(outline, recipe, spaces))
            lines += _line("table", f"{here[name]} ({_megabytes(here[name])} MB)")
            lines += _line("SHA-256", digest)
            lines += _line("space", outline.space)
            lines += _line("rows", f"{outline.rows:,}")
            for dataset, schedules in outline.schedules.items():
                for schedule in schedules:
                    lines += _line("holds", _group(file, dataset, schedule))
    else:
        lines += _line("here", _here(name, recipe, here, {}, spaces))
        lines += _line("space", recipe.get("space"))
        lines += _line("rows", f"{recipe['rows']:,}" if "rows" in recipe else None)
        for key in "datasets", "splits", "schedules", "epochs", "seeds":
            lines += _line(key, recipe.get(key))
    for key in TOLD:
        lines += _line(key, told.get(key))
    lines += _line("megabytes", recipe.get("megabytes"))
    lines += _line("expected", recipe.get("source_sha256"))
    if name in known:
        if {"url", "file"} <= recipe.keys():
            lines += _line("get it", f"nas-arena data get {name}")
        file_given = "" if "file" in recipe else "FILE"
        lines += _line("import it", catalogue.import_command(name, recipe, file_given))
    return "\n".join(lines)


def _group(file: h5py.File, dataset: str, schedule: str) -> str:
    group = file[dataset][schedule]
    epochs, seeds = group["epochs"][:].tolist(), group["seeds"][:].tolist()
    return (
        f"{dataset}, schedule {schedule}: epochs {_some(epochs)}; seeds {_some(seeds)}; "
        f"{', '.join(column_names(file, dataset, schedule))}"
    )


def _some(numbers: list[int]) -> str:
    """Few numbers all, of many the ends."""
    if len(numbers) <= 5:
        return ", ".join(map(str, numbers)) or "none"
    return f"{numbers[0]} … {numbers[-1]} ({len(numbers)} of them)"


def _line(label: str, value: Any) -> list[str]:
    """A fact in one paragraph; nothing where it is unknown."""
    if value is None or value == "":
        return []
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return [
        fill(
            part,
            96,
            initial_indent=f"  {label if not number else '':14s}",
            subsequent_indent=" " * 16,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, part in enumerate(text.splitlines())
    ]
