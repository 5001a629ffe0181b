"""Wall time of `nas-arena run` of one tabular cell against a Hydra application that does nothing.

Every round starts both anew, each in a fresh interpreter, folder and results.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "seaborn", "scipy")
RUN = ["run", "strategy=regularized_evolution", "seeds=1", "budget.limit=200", "results=results"]
OURS = "from bench.cli import main; main()"
LOADED = f"""
import json, sys
from bench.cli import main
try:
    main()
finally:
    print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
NOTHING = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def app(config):
    pass

app()
"""


def python(code: str, *words: str) -> str:
    """Run code in a fresh interpreter and folder; returns what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.py"
        path.write_text(code)
        done = subprocess.run(
            [sys.executable, str(path), *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(words) or 'the Hydra application'}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    options = measure.arguments(__doc__)
    loaded = json.loads(python(LOADED, *RUN).splitlines()[-1])
    python(NOTHING)
    peer, ours = measure.interleave(
        options.rounds or (5 if options.quick else 15),
        lambda: measure.seconds(lambda: python(NOTHING)),
        lambda: measure.seconds(lambda: python(OURS, *RUN)),
    )
    rows = [
        measure.Row(
            "`nas-arena run`, one seed, 200 evaluations, vs empty Hydra app", ours, peer, 1.5, False
        )
    ]
    notes = [
        f"of {', '.join(HEAVY)}, in `sys.modules` at exit: {', '.join(loaded) or 'none'}",
        f"{len(ours)} rounds of a fresh interpreter each; page cache warm",
    ]
    measure.report("Start-up", rows, notes, ["hydra-core", "numpy", "h5py"], options.json)


if __name__ == "__main__":
    main()
