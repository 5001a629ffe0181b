"""`nas-arena report`."""

from collections.abc import Sequence
from pathlib import Path

from bench.commands.console import complain, show

REPORT_USAGE = """\
Figures and leaderboards, from sealed runs only.

  nas-arena report [results=results]  folder of the runs
                   [name=NAME]        only the comparison of this name; by default all runs
                   [clock=CLOCK]      x axis; by default the clock of the budget
                   [center=mean]      or median, with its band
                   [figures=true]     or false: tables only
                   [out=DIR]          by default <results>/report/<name, or all>
"""


def report(words: list[str]) -> int:
    """`nas-arena report`: draw and rank what is sealed."""
    if "-h" in words or "--help" in words:
        print(REPORT_USAGE)
        return 0
    from bench.report import ReportError, write_report
    from bench.report.frame import expect, read_grids
    from bench.search import CLOCKS
    from bench.store import StoreError

    allowed: dict[str, Sequence[str] | None] = {
        "results": None,
        "name": None,
        "out": None,
        "clock": CLOCKS,
        "center": ("mean", "median"),
        "figures": ("true", "false"),
    }
    given = {}
    problems = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value or key not in allowed:
            problems.append(f"{word!r} is unknown; allowed: {', '.join(f'{k}=' for k in allowed)}")
        elif (values := allowed[key]) and value not in values:
            problems.append(f"{key} is {value!r}; allowed: {', '.join(values)}")
        else:
            given[key] = value
    if problems:
        return complain(problems)
    results = Path(given.get("results", "results")).resolve()
    name = given.get("name")
    try:
        grids = read_grids(results)
        chosen = [grid for grid in grids if name in (None, grid.name)]
        if name is not None and not chosen:
            names = sorted({grid.name for grid in grids})
            return complain([f"name is {name!r}; {results} has {', '.join(names) or 'none'}"])
        expected = expect(chosen)
        summary = write_report(
            results,
            Path(given.get("out", results / "report" / (name or "all"))).resolve(),
            folders=None if name is None else list(expected),
            expected=expected,
            clock=given.get("clock"),
            center="median" if given.get("center") == "median" else "mean",
            figures=given.get("figures", "true") == "true",
        )
    except ReportError as error:
        return complain([str(error)])
    except StoreError as error:
        return complain([str(error)], status=3)
    except OSError as error:
        return complain([f"{error.filename or results}: {error.strerror}"])
    show(summary)
    return 1 if summary.missing else 0
