"""Runs -> frame -> curves -> statistics -> leaderboards and figures."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from bench.report.frame import absent, compare, describe, expect, read_cell_runs, read_grids
from bench.report.leaderboard import Board, board
from bench.report.tables import to_csv, to_markdown, to_tex, to_text
from bench.search import CLOCKS
from bench.store import write_whole


class ReportError(Exception):
    """There is nothing to report on; the message is one sentence."""


@dataclass(frozen=True)
class Report:
    """What was written, and what the terminal shows of it."""

    boards: tuple[Board, ...]
    text: str
    missing: tuple[str, ...]
    """A sentence for every cell that lacks runs which were expected of it."""
    out: Path
    files: tuple[Path, ...]


def write_report(
    results: Path,
    out: Path,
    *,
    folders: Sequence[str] | None = None,
    expected: Mapping[str, Collection[int]] | None = None,
    clock: str | None = None,
    center: Literal["mean", "median"] = "mean",
    figures: bool = True,
) -> Report:
    """Compare what is sealed; write leaderboards and, if asked for, figures into `out`.

    Figures there of comparisons that are no longer reported are removed.

    Args:
        folders: cells to report on, names under `runs`; None: all that are sealed.
        expected: the seeds each cell should have; what is not sealed is listed, and there no
            rank is given. With `folders`, only these seeds are read. None: what the manifests
            of grids promise if all cells are reported, else nothing.
        clock: of the anytime figures; None: the budget's, which also stands in where no run of a
            comparison held a GPU and `clock` counts its seconds.

    Raises:
        ReportError: nothing is sealed, `clock` or `center` is none of ours, or no run held a GPU.
        StoreError: what is stored is damaged.
    """
    if clock is not None and clock not in CLOCKS:
        raise ReportError(f"clock is {clock!r}; allowed: {', '.join(CLOCKS)}")
    if center not in ("mean", "median"):
        raise ReportError(f"center is {center!r}; allowed: mean, median")
    if expected is None:
        expected = expect(read_grids(results)) if folders is None else {}
    asked = folders
    if folders is None:
        folders = [path.parent.name for path in (results / "runs").glob("*/cell.json")]
    lacking = absent(results, folders if asked is not None else (), expected)
    cells = []
    for folder in sorted(set(folders)):
        path = results / "runs" / folder
        if not any(path.glob("trials-*.npz")):
            continue
        seeds = None if asked is None else expected.get(folder)
        cells.append(read_cell_runs(path, seeds=seeds, clocks=() if clock is None else (clock,)))
    runs = results / "runs"
    begun = [folder for folder in lacking if (runs / folder / "cell.json").exists()]
    described = {folder: describe(runs / folder) for folder in begun}
    boards = [board(comparison) for comparison in compare(cells, lacking, described)]
    if not boards:
        raise ReportError(f"nothing is sealed in {results / 'runs'}; `nas-arena run` fills it")
    if clock == "gpu_seconds" and not any(_axis(one, clock) for one in boards):
        raise ReportError("clock is 'gpu_seconds'; none of these runs held a GPU")
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []

    def write(name: str, data: bytes) -> None:
        write_whole(out / name, data)
        files.append(out / name)

    _remove_stale(out, [one for one in boards if one.rows])
    if figures:
        from bench.report.figures import anytime, draw, final  # seaborn takes seconds to import

        for one in boards:
            if one.rows:
                axis = _axis(one, clock)
                drawings = {
                    _anytime_name(one, axis, center): anytime(one, axis, center),
                    f"final-{one.comparison.slug}": final(one),
                }
                for name, figure in drawings.items():
                    write(f"{name}.png", draw(figure, "png"))
                    write(f"{name}.svg", draw(figure, "svg"))
    missing = tuple(lacking.values())
    elsewhere = _not_in(boards, missing)
    markdown = ["# Leaderboards"]
    for one in boards:
        markdown.append(to_markdown(one))
        if figures and one.rows:
            name = _anytime_name(one, _axis(one, clock), center)
            markdown.append(f"![Anytime curves]({name}.png)")
            markdown.append(f"![Final values](final-{one.comparison.slug}.png)")
    if elsewhere:
        markdown.append("\n".join(["## Missing", "", *(f"- {line}" for line in elsewhere)]))
    write("leaderboard.md", ("\n\n".join(markdown) + "\n").encode())
    write("leaderboard.csv", to_csv(boards).encode())
    tables = "\n\n".join(filter(None, map(to_tex, boards)))
    write("leaderboard.tex", f"% needs \\usepackage{{booktabs}}\n{tables}\n".encode())
    text = "\n\n".join([*map(to_text, boards), *(["\n".join(elsewhere)] if elsewhere else [])])
    return Report(tuple(boards), text, missing, out, tuple(files))


def _axis(one: Board, clock: str | None) -> str | None:
    """That clock, if there is anything to be read on it; None for the budget's."""
    if clock == "gpu_seconds" and not any(row.runs.clocks[clock].any() for row in one.rows):
        return None
    return clock


def _anytime_name(one: Board, clock: str | None, center: str) -> str:
    """The figure's file, without its ending: one for each clock and center."""
    by = f"-by-{clock}" if clock not in (None, one.comparison.budget.clock) else ""
    return f"anytime-{one.comparison.slug}{by}{'-median' * (center == 'median')}"


def _remove_stale(out: Path, boards: Sequence[Board]) -> None:
    """Remove figures of comparisons that none of the boards shows; other clocks' stay.

    `out` may be a folder that holds more than ours: what is not named as we name figures stays.
    """
    ours = re.compile(
        rf"(anytime|final)-.+-({'|'.join(CLOCKS)})(-[0-9a-f]{{6}})?(-median)?\.(png|svg)"
    )
    kept = {f"final-{one.comparison.slug}" for one in boards}
    kept |= {_anytime_name(*which) for which in product(boards, CLOCKS, ("mean", "median"))}
    for path in sorted(out.iterdir()):
        if ours.fullmatch(path.name) and path.stem not in kept:
            path.unlink()


def _not_in(boards: Sequence[Board], missing: Sequence[str]) -> list[str]:
    """What is missing and belongs to no comparison of which something is sealed."""
    told = {sentence for one in boards for sentence in one.comparison.missing}
    return [sentence for sentence in missing if sentence not in told]
