"""What a space looks like: from its definition and, where a table is here, from its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from bench.data import Progress, silent
from bench.report.leaderboard import clean
from bench.report.space_numbers import Numbers
from bench.report.space_sections import Section, heading, of_numbers, of_space
from bench.report.tables import WIDTH, _markdown
from bench.space import Space
from bench.store import write_whole

FIGURES = (
    *("example", "errors", "cells", "effects"),
    *("walk", "distance", "optima", "fronts", "signals"),
)


@dataclass(frozen=True)
class View:
    """What was written, and what the terminal shows of it."""

    text: str
    out: Path
    files: tuple[Path, ...]


def write_view(
    space: Space,
    numbers: Numbers | None,
    out: Path,
    *,
    tables: Sequence[str] = (),
    progress: Progress = silent,
) -> View:
    """Write `space.md` and the figures into `out`; those of an earlier view there are removed.

    Args:
        numbers: what a table says; None: none is here.
        tables: sentences on which tables would say more.
    """
    sections = [*of_space(space, numbers is None, tables, progress)]
    if numbers is not None:
        sections += of_numbers(space, numbers, progress)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    kept = {name for section in sections for name in section.figures}
    for name in FIGURES:
        if name not in kept:
            (out / f"{name}.png").unlink(missing_ok=True)
    for section in sections:
        for name, figure in section.figures.items():
            from bench.report.figures import draw  # seaborn takes seconds to import

            write_whole(out / f"{name}.png", draw(figure(), "png"))
            written.append(out / f"{name}.png")
    title = space.name if numbers is None else heading(space, numbers)
    markdown = "\n\n".join([f"# {_markdown(title)}", *map(_to_markdown, sections)])
    write_whole(out / "space.md", f"{markdown}\n".encode())
    text = "\n\n".join([clean(title), *map(_to_text, sections)])
    return View(text, out, (*written, out / "space.md"))


def _to_text(section: Section) -> str:
    lines = [section.title, "─" * len(section.title)]
    lines += [
        fill(clean(text), WIDTH, subsequent_indent="  ", break_long_words=False)
        for text in section.sentences
    ]
    if section.rows:
        table = [[clean(cell) for cell in row] for row in (section.headers, *section.rows)]
        columns = list(zip(*table, strict=True))
        widths = [max(map(len, column)) for column in columns]
        right = [all(cell[:1] in "0123456789-–+" for cell in column[1:]) for column in columns]
        aligned = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in table
        ]
        aligned.insert(1, "  ".join("─" * width for width in widths))
        lines += ["", *aligned] if section.sentences else aligned
    return "\n".join(lines)


def _to_markdown(section: Section) -> str:
    lines = [f"## {_markdown(section.title)}", ""]
    lines += [f"- {_markdown(text)}" for text in section.sentences]
    if section.rows:
        lines += [""] if section.sentences else []
        table = [[_markdown(cell) for cell in row] for row in (section.headers, *section.rows)]
        table.insert(1, [":--"] * len(section.headers))
        lines += [f"| {' | '.join(row)} |" for row in table]
    for name in section.figures:
        lines += ["", f"![{section.title}: {name}]({name}.png)"]
    return "\n".join(lines)
