"""The tables there are: recipes in `conf/data`, files in the data folder and beside the spaces."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

from bench.data import (
    ExtraReader,
    Progress,
    check_source,
    make_table,
    merge,
    problems,
    silent,
    summary,
)
from bench.parts import build, options, read_recipe
from bench.recipe import check_recipe
from bench.space import Space
from bench.table import (
    Table,
    TableError,
    data_folder,
    find_table,
    read_table,
    sha256,
    shipped_folder,
    write_table,
)


def spaces() -> dict[str, Space]:
    """Every space in `conf`, by name."""
    return {space.name: space for space in (build("space", name) for name in options("space"))}


def files() -> dict[str, Path]:
    """The tables that are here, by name; an imported one comes before one that ships."""
    imported = sorted(data_folder().glob("*.h5"))
    return {path.stem: path for path in [*_shipped(spaces()), *imported]}


def _shipped(there: dict[str, Space]) -> list[Path]:
    folders = [shipped_folder(space) for space in there.values()]
    return [path for folder in folders for path in sorted(folder.glob("*.h5"))]


def listing() -> str:
    """What is here, and where the rest is published, as text.

    A table that is damaged does not hide the others: its line says what is wrong with it.
    """
    recipes, here = options("data"), files()
    lines = []
    for name in sorted({*recipes, *here}):
        if name in here:
            lines.append(f"{name}: here, {here[name]}{_megabytes(here[name])}")
            facts = _facts(here[name])
        else:
            recipe = read_recipe(name)[0]
            lines.append(f"{name}: not here; make it with `nas-arena data import {name} FILE`")
            facts = [recipes[name], f"published: {recipe['published']}", str(recipe["licence"])]
        lines += [
            fill(text, 96, initial_indent="    ", subsequent_indent="      ")
            for text in facts
            if text
        ]
    return "\n".join(lines)


def _megabytes(path: Path) -> str:
    try:
        return f" ({path.stat().st_size / 1e6:.1f} MB)"
    except OSError:
        return ""


def _facts(path: Path) -> list[str]:
    """What a table holds, under which licence and from whom; or what is wrong with it."""
    try:
        table = read_table(path)
    except (TableError, OSError, KeyError) as error:
        return [str(error)]
    return [summary(table), *(table.provenance[key] for key in ("licence", "citation"))]


def make(
    name: str,
    source: Path,
    *,
    partial: bool = False,
    into: str | None = None,
    progress: Progress = silent,
) -> str:
    """Make a table in the data folder by a recipe; returns what was made and how to run on it.

    Args:
        name: of a recipe in `conf/data`, or a path to one of your own.
        source: the published file or folder.
        partial: whether it may lack architectures of the space.
        into: the table that gets the columns of a file of further metrics.

    Raises:
        TableError: the recipe or the file will not do; nothing is written.
    """
    recipe, reader, extra = read_recipe(name)
    if (extra is None) != (into is None):
        needed = "adds columns to a table: say which, --into TABLE" if extra else "needs no --into"
        raise TableError(f"recipe {name!r} {needed}")
    there, path = spaces(), data_folder() / f"{into or Path(name).stem}.h5"
    taken = {*options("data"), *(table.stem for table in _shipped(there))}
    if name not in options("data") and path.stem in taken:
        raise TableError(
            f"recipe {name!r} takes the name of a table of ours, {path.stem}; "
            "choose another file name"
        )
    space = recipe.get("space")
    if not isinstance(space, str) or space not in there:
        raise TableError(f"space is {space!r}; allowed: {', '.join(there)}")
    if extra is None:
        table = make_table(
            source, there[space], recipe, reader, partial=partial, progress=progress
        )
    else:
        table = _extended(into or "", source, there[space], recipe, extra, progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replaces = "; it replaces the table of that name" if path.exists() else ""
        digest = write_table(table, there[space], path)
    except (OSError, RuntimeError) as error:  # HDF5 raises either when a disk is full
        reason = " ".join(str(error).split())
        raise TableError(f"{path} cannot be written: {reason}") from None
    line = f"{path}: {summary(table)}; SHA-256 {digest}{replaces}"
    words = _words_to_run(path.stem, table)
    return f"{line}\nrun it with: nas-arena run {' '.join(words)}" if words else line


def _extended(
    name: str,
    source: Path,
    space: Space,
    recipe: Mapping[str, Any],
    extra: ExtraReader,
    progress: Progress,
) -> Table:
    """The table `name` with the columns that `source` adds, which its notes tell."""
    check_recipe(recipe, needs_rules=False)
    digest = check_source(source, recipe)
    table = read_table(find_table(space, name))
    if table.provenance["space"] != space.name:
        raise TableError(f"table {name} is of space {table.provenance['space']}, not {space.name}")
    table = merge(table, extra(source, space=space, progress=progress), space)
    added = f"Added from {recipe['source']} (SHA-256 {digest}), {recipe['licence']}."
    notes = f"{table.provenance['notes']}\n{added}".strip()
    return replace(table, provenance=table.provenance | {"notes": notes})


def _words_to_run(name: str, table: Table) -> list[str]:
    """How to run on the first schedule that can be searched; nothing where none can."""
    for (dataset, schedule), known in table.schedules.items():
        if "valid_error" not in known.columns:
            continue
        epoch = int(known.epochs[-1])
        words = [_word("objective.table", name), _word("dataset.name", dataset)]
        if table.provenance["space"] != "nb201":  # the one that conf/config.yaml chooses
            words.insert(0, _word("space", table.provenance["space"]))
        if (schedule, epoch) != ("200", 200):  # those that conf/protocol/nb201.yaml chooses
            words += [_word(f"protocol.{key}", schedule) for key in ("schedule", "report_schedule")]
            words.append(f'"protocol.fidelities=[{epoch}]"')
        return words
    return []


def _word(key: str, value: str) -> str:
    """An override as a shell takes it; in quotes where Hydra would read a number."""
    plain = re.fullmatch(r"[A-Za-z_][\w.-]*", value)
    return f"{key}={value}" if plain else f"\"{key}='{value}'\""


def verify(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Check digests and values of tables, all that are here by default; a line and a verdict each.

    Raises:
        TableError: a name that is not here.
    """
    here, there = files(), spaces()
    if absent := [name for name in names if name not in here]:
        raise TableError(f"no table {', '.join(absent)}; here: {', '.join(here)}")
    for name in names or here:
        try:
            table = read_table(here[name])
            found = _values(table, there)
        except TableError as error:
            found = [str(error)]
        if found:
            yield f"{name}: {'; '.join(found)}", False
        else:
            yield f"{name}: good, {summary(table)}; SHA-256 {sha256(here[name])}", True


def _values(table: Table, there: dict[str, Space]) -> list[str]:
    space = table.provenance["space"]
    return problems(table, there[space]) if space in there else [f"its space {space} is unknown"]
