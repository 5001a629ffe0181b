"""What the benchmarks share: rounds, ratios, verdicts, the table, and peers in a process apart.

Import it before numpy: it keeps numerical libraries to one thread, in peers too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from operator import truediv
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UNRESOLVED = 1.5  # a ratio that spreads further than this, across the goal, decides nothing

sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Row:
    """One comparison: seconds (or whatever `unit` says) of every round, ours beside the peer's."""

    what: str
    ours: Sequence[float]
    peer: Sequence[float]
    goal: float | None = None
    at_least: bool = True
    """The ratio is peer / ours and ought to reach the goal; else ours / peer, and stay below."""
    unit: str = "s"

    @property
    def ratios(self) -> list[float]:
        pairs = (self.peer, self.ours) if self.at_least else (self.ours, self.peer)
        return list(map(truediv, *pairs))

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "–"
        low, high = min(self.ratios), max(self.ratios)
        if low < self.goal < high and high / low > UNRESOLVED:
            return "not resolved"
        met = self.middle >= self.goal if self.at_least else self.middle <= self.goal
        return "met" if met else "missed"

    @property
    def middle(self) -> float:
        return median(self.ratios)

    def cells(self) -> list[str]:
        goal = "–" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self.goal:g}×"
        low, high = min(self.ratios), max(self.ratios)
        return [
            self.what,
            f"{median(self.ours):.3g} {self.unit}",
            f"{median(self.peer):.3g} {self.unit}",
            f"{self.middle:.3g}× [{low:.3g}–{high:.3g}]",
            goal,
            self.verdict,
        ]


@dataclass(frozen=True)
class Limit:
    """A time that ought to stay below a limit; no peer."""

    what: str
    ours: Sequence[float]
    goal: float | None = None
    unit: str = "s"

    def cells(self) -> list[str]:
        low, middle, high = min(self.ours), median(self.ours), max(self.ours)
        ours = f"{middle:.3g} {self.unit} [{low:.3g}–{high:.3g}]"
        if self.goal is None:
            return [self.what, ours, "–", "–", "–", "–"]
        verdict = "met" if middle <= self.goal else "missed"
        if low < self.goal < high and high / low > UNRESOLVED:
            verdict = "not resolved"
        return [self.what, ours, "–", "–", f"≤ {self.goal:g} {self.unit}", verdict]


def interleave(rounds: int, *actions: Callable[[], float]) -> list[list[float]]:
    """The answers of every action, a list each; round after round, in turn."""
    table = [[action() for action in actions] for _ in range(rounds)]
    return [list(column) for column in zip(*table, strict=True)]


def seconds(action: Callable[[], object]) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start


class Peer:
    """`peers.py` in another interpreter: takes a line, does the work, answers with a line."""

    def __init__(self, python: str, *arguments: str) -> None:
        command = [python, str(Path(__file__).with_name("peers.py")), *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.about: dict[str, Any] | None = self._read()
        """Versions and sizes; None where the peer is not installed."""

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")

    def __call__(self, amount: int) -> float:
        """The seconds that `amount` units of the work took."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{amount}\n")
        return float(self._read())

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="less work in every round")
    parser.add_argument("--rounds", type=int, help="how many (default: as the script says)")
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    return parser.parse_args()


def report(
    title: str,
    rows: Sequence[Row | Limit],
    notes: Sequence[str],
    packages: Sequence[str],
    target: Path | None,
) -> None:
    """Print a Markdown table with the machine under it; write JSON where a target is given."""
    head = ["what", "ours", "peer", "ratio, median [min–max]", "goal", "verdict"]
    print(f"\n### {title}\n")
    for cells in (head, ["---"] * len(head), *(row.cells() for row in rows)):
        print("|", " | ".join(cells), "|")
    about = machine(packages)
    print()
    for note in (*notes, "; ".join(f"{key} {value}" for key, value in about.items())):
        print("-", note)
    if target is not None:
        record = {"title": title, "machine": about, "notes": list(notes)}
        record["rows"] = [asdict(row) for row in rows]
        target.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def machine(packages: Sequence[str]) -> dict[str, str]:
    about = {"CPU": _cpu(), "cores": str(os.cpu_count())}
    about["load average"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    about["commit"] = subprocess.run(
        git, capture_output=True, text=True, check=False
    ).stdout.strip()
    about["Python"] = platform.python_version()
    for package in packages:
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            about[package] = "not installed"
    return about


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
