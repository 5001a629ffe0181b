"""What commands say to the terminal."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any


def complain(problems: Sequence[str], status: int = 2) -> int:
    """Print at most ten lines; returns the exit status."""
    shown = problems if len(problems) <= 10 else problems[:9]
    for problem in shown:
        line = "".join(c if c.isprintable() else " " for c in problem)
        print(f"nas-arena: {' '.join(line.split())}", file=sys.stderr)
    if len(shown) < len(problems):
        print(f"nas-arena: … and {len(problems) - len(shown)} more", file=sys.stderr)
    return status


def bar_of(items: Iterable[Any], total: int | None = None) -> Iterable[Any]:
    """A progress bar around `items`; nothing where nobody looks."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(items, total=total)
    return bar


def show(summary: Any) -> None:
    print(summary.text)
    print(f"Report: {summary.out / 'leaderboard.md'}")
