"""The tables there are: recipes in `conf/data`, files in the data folder and beside the spaces."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill

from bench.compose import build, options, read_recipe
from bench.data import make_table, problems, summary
from bench.space import Space
from bench.table import (
    Table,
    TableError,
    data_folder,
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
    folders = [*(shipped_folder(space) for space in spaces().values()), data_folder()]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.h5"))}


def listing() -> str:
    """What is here, and where the rest is published, as text.

    Raises:
        TableError: a table that is here is damaged.
    """
    recipes, here = options("data"), files()
    lines = []
    for name in sorted({*recipes, *here}):
        recipe = read_recipe(name)[0] if name in recipes else {}
        if name in here:
            table = read_table(here[name])
            megabytes = here[name].stat().st_size / 1e6
            lines.append(f"{name}: here, {here[name]} ({megabytes:.1f} MB)")
            facts = [summary(table), *(table.provenance[key] for key in ("licence", "citation"))]
        else:
            lines.append(f"{name}: not here; make it with `nas-arena data import {name} FILE`")
            facts = [recipes[name], f"published: {recipe['published']}", str(recipe["licence"])]
        lines += [
            fill(text, 96, initial_indent="    ", subsequent_indent="      ") for text in facts
        ]
    return "\n".join(lines)


def make(name: str, source: Path) -> str:
    """Make a table in the data folder by a recipe; returns a line on what was made.

    Args:
        name: of a recipe in `conf/data`, or a path to one of your own.
        source: the published file.

    Raises:
        TableError: the recipe or the file will not do; nothing is written.
    """
    recipe, reader = read_recipe(name)
    there = spaces()
    if recipe.get("space") not in there:
        raise TableError(f"space is {recipe.get('space')!r}; allowed: {', '.join(there)}")
    table = make_table(source, there[recipe["space"]], recipe, reader)
    path = data_folder() / f"{Path(name).stem}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = write_table(table, path)
    return f"{path}: {summary(table)}; SHA-256 {digest}"


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
