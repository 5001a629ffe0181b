"""Leaderboards as text: for the terminal, as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence
from textwrap import fill

from bench.report.frame import spans
from bench.report.leaderboard import Board, clean, heading, metric_label, notes
from bench.report.statistics import Floats, deviation, mean
from bench.report.units import PERCENT, Unit, unit

UNKNOWN = "–"
WIDTH = 100  # of the notes in the terminal


def _cells(of: Board) -> tuple[list[str], list[list[str]]]:
    """Headers, and a list of cells for each row, as text for people."""
    metrics = of.comparison.protocol.report
    optimum = of.comparison.optimum.get(metrics[0])
    accuracies = [metric for metric in metrics if metric.endswith("_error")]
    primary = unit(metrics[0])
    headers = ["rank", "strategy", "runs", _header(metrics[0]), "95 % CI"]
    headers += ["regret"] if optimum is not None else []
    headers += [_header(metric) for metric in metrics[1:]]
    headers += [f"{metric_label(name.removesuffix('_error'))} accuracy %" for name in accuracies]
    headers += ["evaluations"]
    rows = []
    for row in of.rows:
        means = {metric: mean(row.finals[metric]) for metric in metrics}
        cells = [str(row.rank or UNKNOWN), row.label, str(len(row.runs.seeds))]
        cells += [_spread(row.finals[metrics[0]], primary), _between(row.interval, primary)]
        cells += [primary.fine(means[metrics[0]] - optimum)] if optimum is not None else []
        cells += [_spread(row.finals[metric], unit(metric)) for metric in metrics[1:]]
        cells += [PERCENT.coarse(1 - means[metric]) for metric in accuracies]
        rows.append([cell or UNKNOWN for cell in (*cells, f"{row.evaluations:,.1f}")])
    return headers, rows


def _header(metric: str) -> str:
    return f"{metric_label(metric)}{unit(metric).sign}"


def _between(ends: tuple[float, float], of: Unit) -> str:
    low, high = map(of.fine, ends)
    return f"{low}–{high}" if low and high else UNKNOWN


def _spread(finals: Floats, of: Unit) -> str:
    return f"{of.coarse(mean(finals)) or UNKNOWN} ± {of.coarse(deviation(finals)) or UNKNOWN}"


def to_text(of: Board) -> str:
    """For the terminal: aligned columns, numbers to the right."""
    headers, rows = _cells(of)
    table = [[clean(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if header == "strategy" else cell.rjust(width)
            for header, cell, width in zip(headers, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    head = clean(heading(of.comparison))
    below = [fill(clean(note), WIDTH) for note in notes(of)]
    return "\n".join([head, "", *(lines if rows else []), "", *below])


def to_markdown(of: Board) -> str:
    """A heading, the table, and the notes as a list."""
    headers, rows = _cells(of)
    rule = [":--" if header == "strategy" else "--:" for header in headers]
    table = [[_markdown(cell) for cell in row] for row in (headers, *rows)]
    table.insert(1, rule)
    lines = [f"| {' | '.join(row)} |" for row in table] if rows else []
    below = [f"- {_markdown(note)}" for note in notes(of)]
    return "\n".join([f"## {_markdown(heading(of.comparison))}", "", *lines, "", *below])


def _markdown(text: str) -> str:
    special = r"([\\`*\[\]<>|#&]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z]))"
    return re.sub(special, r"\\\1", clean(text))


TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def tex_escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(TEX.get(character, character) for character in clean(text))


def to_tex(of: Board) -> str:
    """A `table` for a document that loads `booktabs`; empty where nothing can be compared."""
    headers, rows = _cells(of)
    if not rows:
        return ""
    # A row begins with its rank: never with a star or bracket, which `\\` would take for its own.
    lines = [" & ".join(map(tex_escape, row)) + r" \\" for row in rows]
    align = "".join("l" if header == "strategy" else "r" for header in headers)
    below = (tex_escape(note[0].upper() + note[1:].rstrip(".") + ".") for note in notes(of))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex_escape(heading(of.comparison))}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(map(tex_escape, headers)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip\footnotesize",
            *below,
            r"\end{table}",
        ]
    )


def to_csv(boards: Sequence[Board]) -> str:
    """One row a strategy and comparison, empty where unknown.

    A column's name ends in the unit: `percent`, `points` of it, or `plain` for a loss.
    """
    records: list[dict[str, str]] = []
    for one in boards:
        comparison = one.comparison
        protocol, budget = comparison.protocol, comparison.budget
        for row in one.rows:
            finals = row.finals[protocol.report[0]]
            optimum = comparison.optimum.get(protocol.report[0])
            regret = float("nan") if optimum is None else mean(finals) - optimum
            primary = unit(protocol.report[0])
            record = {
                "group": _csv_text(heading(comparison)),
                "space": _csv_text(comparison.space),
                "dataset": _csv_text(comparison.dataset),
                "clock": budget.clock,
                "limit": f"{budget.limit:.10g}",
                "workers": str(comparison.workers),
                "protocol": _csv_text(protocol.name),
                "protocol_digest": _csv_text(protocol.digest),
                "objective_digest": _csv_text(comparison.objective_digest[:12]),
                "rank": str(row.rank or ""),
                "strategy": _csv_text(row.label),
                "runs": str(len(row.runs.seeds)),
                "seeds": _csv_text(spans(comparison.seeds.tolist())),
                "primary": _csv_text(protocol.report[0]),
                f"ci95_low_{primary.column}": primary.exact(row.interval[0]),
                f"ci95_high_{primary.column}": primary.exact(row.interval[1]),
                f"regret_{primary.regret_column}": primary.exact(regret),
                "evaluations_mean": f"{row.evaluations:.10g}",
                "remarks": _csv_text("; ".join(one.remarks)),
            }
            for metric, values in row.finals.items():
                own = unit(metric)
                record[_csv_text(f"{metric}_mean_{own.column}")] = own.exact(mean(values))
                record[_csv_text(f"{metric}_sd_{own.column}")] = own.exact(deviation(values))
            records.append(record)
    headers = list(dict.fromkeys(header for record in records for header in record))
    out = io.StringIO()
    writer = csv.DictWriter(out, headers, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def _csv_text(text: str) -> str:
    """An apostrophe first, where a spreadsheet would take the cell for a formula."""
    shown, formula = clean(text), tuple("=+-@\t\r")
    return f"'{shown}" if text.startswith(formula) or shown.startswith(formula) else shown
