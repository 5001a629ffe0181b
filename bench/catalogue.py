"""The tables there are: recipes in `conf/data`, files in the data folder and beside the spaces."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bench.data import (
    ExtraReader,
    Progress,
    check_source,
    make_extra,
    make_table,
    merge,
    problems,
    read_further,
    silent,
    summary,
)
from bench.fetch import download_folder, fetch, find_file, places
from bench.parts import build, conf_folder, fillable, options, read_fill, read_recipe, trainable
from bench.protocol import Protocol
from bench.recipe import LONGEST_TEXT, check_further, check_recipe
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
from bench.words import nearest, override

HOW_TO_RUN = "run it with: nas-arena run"
SCHEDULES = ("schedule", "report_schedule")  # of a protocol


def spaces() -> dict[str, Space]:
    """Every space in `conf`, by name."""
    return {space.name: space for space in (build("space", name) for name in options("space"))}


def files() -> dict[str, Path]:
    """The tables that are here, by name; an imported one comes before one that ships."""
    imported = sorted(data_folder().glob("*.h5"))
    return {path.stem: path for path in [*_shipped(spaces()), *imported]}


def tables_of(name: str) -> tuple[str | None, list[str]]:
    """The table of a space that is here, if one is; and what to do for others, in sentences."""
    read = {one: read_recipe(one) for one in options("data")}
    of = [
        one
        for one, (recipe, _, extra) in read.items()
        if recipe.get("space") == name and extra is None
    ]
    here = files()
    found = next((one for one in dict.fromkeys([name, *of]) if one in here), None)
    others = [one for one in of if one not in here]
    if not others:
        if found:
            return found, []
        lacking = f"no table of {name} is published in a form that we read"
        build = f"; `nas-arena build space={name} dataset=NAME` trains one"
        return None, [lacking + build * (name in trainable("space"))]
    imports = ", ".join(f"`nas-arena data import {one}`" for one in others)
    return found, [f"a table would say more: {imports}; `nas-arena data list` says where from"]


def _shipped(there: dict[str, Space]) -> list[Path]:
    folders = [shipped_folder(space) for space in there.values()]
    return [path for folder in folders for path in sorted(folder.glob("*.h5"))]


def recipes() -> dict[str, dict[str, Any]]:
    """What every yaml in `conf/data` holds, by name; no reader is built."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for name in options("data"):
        text = (conf_folder() / "data" / f"{name}.yaml").read_text(encoding="utf-8")
        found[name] = yaml.load(text, Loader=loader)
    return found


def import_command(name: str, recipe: Mapping[str, Any], file: str = "") -> str:
    """What to type to make the table, or to add the columns, of a recipe of ours."""
    words = ["nas-arena data import", name, file, "--into TABLE" if "extra" in recipe else ""]
    return " ".join(filter(None, words))


def get(name: str, *, progress: Progress = silent) -> tuple[str, bool]:
    """Bring the published file of a recipe here; or say which to put where, and False.

    A data set whose yaml names what fills its folder is brought by that.

    Raises:
        FetchError: the download did not come to its end.
        TableError: there is no such recipe, or the file that is here is another one.
    """
    known = recipes()
    if name not in known:
        fill = read_fill(name)
        if fill is None:
            if name in options("dataset"):
                raise TableError(
                    f"data set {name!r} needs no download, or has none; see `data list`"
                )
            there = [*known, *fillable()]
            raise TableError(
                f"no table {name!r} and no data set to download; known: {', '.join(there)}"
                + nearest(name, there)
            )
        return fill(progress=progress), True
    recipe = known[name]
    check_recipe(recipe, needs_rules=False)
    path = find_file(recipe)
    if path is not None:
        check_source(path, recipe)
    elif {"url", "file"} <= recipe.keys():
        path = fetch(recipe, progress=progress)
    if path is not None:
        return f"{path} is here; go on with: {import_command(name, recipe)}", True
    if "file" in recipe:
        where = f"put {recipe['file']} into {download_folder()}"
        then = import_command(name, recipe)
    else:
        where, then = "keep it anywhere", import_command(name, recipe, "FILE")
    return (
        f"{name} has no address to download from.\n"
        f"  1. get it: {recipe['published']}\n  2. {where}\n  3. {then}"
    ), False


def find_source(name: str) -> Path:
    """The published file of a recipe, where nobody said which one.

    Raises:
        TableError: it is in none of the folders where it may be.
    """
    recipe = read_recipe(name)[0]
    if "file" not in recipe:
        raise TableError(f"recipe {name!r} names no file; say which one to read")
    check_recipe(recipe, needs_rules=False)
    if path := find_file(recipe):
        return path
    looked = ", ".join(map(str, places()))
    raise TableError(
        f"{recipe['file']} is in none of {looked}; `nas-arena data get {name}` brings it "
        "or says how"
    )


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
    if into is not None and reader is None and extra is None:
        check_further(recipe)
        rules = {key: recipe[key] for key in ("architecture", "columns")}
        extra = functools.partial(read_further, **rules)
    if (extra is None) != (into is None):
        needed = "adds columns to a table: say which, --into TABLE" if extra else "needs no --into"
        raise TableError(f"recipe {name!r} {needed}")
    there, path = spaces(), data_folder() / f"{into or Path(name).stem}.h5"
    taken = {*options("data"), *(table.stem for table in _shipped(there))}
    if name not in options("data") and path.stem in taken and into is None:
        raise TableError(
            f"recipe {name!r} takes the name of a table of ours, {path.stem}; "
            "choose another file name"
        )
    space = recipe.get("space")
    if not isinstance(space, str) or space not in there:
        raise TableError(f"space is {space!r}; allowed: {', '.join(there)}")
    if extra is None:
        table = make_table(source, there[space], recipe, reader, partial=partial, progress=progress)
    else:
        table = _extended(into or "", source, there[space], name, recipe, extra, progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replaces = "; it replaces the table of that name" if path.exists() else ""
        digest = write_table(table, there[space], path)
    except (OSError, RuntimeError) as error:  # HDF5 raises either where memory is short
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise TableError(f"{path} cannot be written: {reason}") from None
    line = f"{path}: {summary(table)}; SHA-256 {digest}{replaces}"
    sample = bool(recipe.get("sample"))
    gaps = problems(table, there[space])
    words = _words_to_run(path.stem, table, sample=sample) if sample or not gaps else None
    lacks = [f"it is partial: {'; '.join(gaps[:3])}"] if gaps and not sample else []
    how = [] if words is None else [" ".join([HOW_TO_RUN, *words])]
    return "\n".join([line, *lacks, *how])


def _extended(
    into: str,
    source: Path,
    space: Space,
    name: str,
    recipe: Mapping[str, Any],
    extra: ExtraReader,
    progress: Progress,
) -> Table:
    """The table `into` with the columns that `source` adds, which its notes tell.

    What the same recipe added before is replaced; what the table has otherwise stays.
    """
    check_recipe(recipe, needs_rules=False)
    digest = check_source(source, recipe)
    table = read_table(find_table(space, into))
    if table.provenance["space"] != space.name:
        raise TableError(f"table {into} is of space {table.provenance['space']}, not {space.name}")
    table = without(table, name)
    further = make_extra(source, space, recipe, extra, progress=progress)
    there = {
        (dataset, column)
        for (dataset, _), known in table.schedules.items()
        for column in known.columns
    }
    new = {(dataset, column) for dataset, columns in further.columns.items() for column in columns}
    if twice := sorted(column for _, column in there & new):
        raise TableError(f"table {into} has {twice[0]} already; a column is not replaced")
    table = merge(table, further, space)
    held = {dataset for dataset, _ in table.schedules}
    columns = sorted({column for dataset, column in new if dataset in held})
    said = [str(recipe.get(key) or "unknown") for key in ("source", "licence")]
    told = " ".join(f"{_added_by(name)}{said[0]} (SHA-256 {digest}), {said[1]}".split())
    notes = f"{table.provenance['notes']}\n{told}: {', '.join(columns)}".strip()
    if len(notes.encode()) >= LONGEST_TEXT:
        raise TableError(f"table {into} cannot hold more notes; merge into another copy of it")
    return replace(table, provenance=table.provenance | {"notes": notes})


def _added_by(name: str) -> str:
    """How the line begins in which a table's notes tell what a recipe added."""
    return f"Added by {Path(name).stem} from "


def has_added(notes: str, name: str) -> bool:
    """Whether the notes of a table tell that a recipe added columns to it."""
    return any(line.startswith(_added_by(name)) for line in notes.splitlines())


def without(table: Table, name: str) -> Table:
    """A table without the columns that a recipe added to it, and without the line that says so."""
    lines = table.provenance["notes"].splitlines()
    ours = [line for line in lines if line.startswith(_added_by(name))]
    gone = {column for line in ours for column in line.rpartition(": ")[2].split(", ")}
    schedules = {
        key: replace(
            known, columns={some: v for some, v in known.columns.items() if some not in gone}
        )
        for key, known in table.schedules.items()
    }
    notes = "\n".join(line for line in lines if line not in ours)
    return replace(table, schedules=schedules, provenance=table.provenance | {"notes": notes})


def _words_to_run(name: str, table: Table, *, sample: bool = False) -> list[str] | None:
    """How to run on the first data set that can be searched; None where none can.

    By the protocol that is named as the table or as its space, else by any that fits, else by
    words that make one fit.

    Args:
        sample: whether it holds a part of a space too large to list.
    """
    space = table.provenance["space"]
    words = [] if space == "nb201" else [override("space", space)]  # as in conf/config.yaml
    words += ["objective=surrogate"] if sample else []
    words += [] if name == space else [override("objective.table", name)]
    ours = {choice: build("protocol", choice) for choice in options("protocol")}
    for choice in sorted(ours, key=lambda choice: (choice != name, choice != space, choice)):
        for dataset in dict.fromkeys(dataset for dataset, _ in table.schedules):
            if _fits(ours[choice], table, dataset):
                chosen = [] if choice == space else [override("protocol", choice)]
                return [*words, *chosen, *_dataset(dataset)]
    for (dataset, schedule), known in table.schedules.items():
        if "valid_error" in known.columns:
            words += _dataset(dataset)
            words += [override(f"protocol.{key}", schedule) for key in SCHEDULES]
            return [*words, override("protocol.fidelities", (known.epochs[-1],))]
    return None


def _fits(protocol: Protocol, table: Table, dataset: str) -> bool:
    """Whether a table has what a protocol reads of a data set."""
    signal = table.schedules.get((dataset, protocol.schedule))
    report = table.schedules.get((dataset, protocol.report_schedule))
    if signal is None or report is None:
        return False
    passes = {"valid_seconds"} if protocol.validation_pass == "charged" else set()
    return (
        {protocol.metric} | passes <= signal.columns.keys()
        and set(protocol.fidelities) <= set(signal.epochs.tolist())
        and set(protocol.report) <= report.columns.keys()
    )


def _dataset(name: str) -> list[str]:
    """The word that chooses a data set; none for the one that conf/config.yaml chooses."""
    if name == "cifar10":
        return []
    return [override("dataset" if name in options("dataset") else "dataset.name", name)]


def verify(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Check digests and values of tables, all that are here by default; a line and a verdict each.

    Raises:
        TableError: a name that is not here.
    """
    here, there = files(), spaces()
    if absent := [name for name in names if name not in here]:
        published = [name for name in absent if name in options("data")]
        how = f"; `nas-arena data get {published[0]}` begins to make it" if published else ""
        raise TableError(
            f"no table {', '.join(absent)}; here: {', '.join(here)}"
            + (how or nearest(absent[0], here))
        )
    for name in names or here:
        try:
            table = read_table(here[name])
            found, gaps = _values(table, there)
        except TableError as error:
            found, gaps = [str(error)], []
        if found:
            yield f"{name}: {'; '.join(found)}", False
        else:
            how = f"good, but partial ({'; '.join(gaps[:3])})" if gaps else "good"
            yield f"{name}: {how}, {summary(table)}; SHA-256 {sha256(here[name])}", True


def _values(table: Table, there: dict[str, Space]) -> tuple[list[str], list[str]]:
    """What is wrong with a table; and what it lacks, as one may that was imported in part."""
    space = table.provenance["space"]
    if space not in there:
        return [f"its space {space} is unknown"], []
    lacking = problems(table, there[space])
    wrong = problems(table, there[space], partial=True) if lacking else []
    return wrong, lacking


def spaces_table() -> str:
    """Every space with its size and the tables there are for it, in Markdown."""
    rows = ["| space | what it is | members | table rows | genes | tables | data sets |"]
    rows.append("|---|---|--:|--:|--:|---|---|")
    known, told = recipes(), options("space")
    for choice, comment in told.items():
        space = build("space", choice)
        of_space = {name: some for name, some in known.items() if some.get("space") == space.name}
        tables = [f"`{name}`" for name, some in of_space.items() if "extra" not in some]
        further = [f"+ `{name}`" for name, some in of_space.items() if "extra" in some]
        datasets = dict.fromkeys(
            dataset
            for some in of_space.values()
            for dataset in some.get("datasets", [])
            if "extra" not in some
        )
        ours = {path.stem: path for path in _shipped({choice: space}) if path.stem not in known}
        tables += [f"`{name}` (ships)" for name in ours]
        for path in ours.values():
            datasets |= dict.fromkeys(dataset for dataset, _ in read_table(path).schedules)
        cells = [
            f"`{choice}`",
            comment.replace("|", "\\|"),
            _count(space.size),
            _count(space.networks),
            str(len(space.choices)),
            ", ".join(tables + further),
            ", ".join(f"`{dataset}`" for dataset in datasets),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _count(number: int) -> str:
    if number < 10**9:
        return f"{number:,}"
    power = len(str(number)) - 1
    return f"{number / 10**power:.2f} × 10^{power}"
