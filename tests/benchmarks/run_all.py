"""Run every benchmark in turn: `python tests/benchmarks/run_all.py [--quick] [--peers PYTHON]`.

With `--json FOLDER`, a file each in that folder.
"""

import subprocess
import sys
from pathlib import Path

import measure


def main() -> None:
    options = measure.arguments(__doc__)
    failed = []
    for name in (
        *("startup", "bo_ask", "bands", "search", "nats", "nb101"),
        *("training", "together"),
    ):
        script = Path(__file__).with_name(f"{name}.py")
        words = ["--peers", options.peers, *(["--quick"] if options.quick else [])]
        if options.json is not None:
            options.json.mkdir(parents=True, exist_ok=True)
            words += ["--json", str(options.json / f"{name}.json")]
        if subprocess.run([sys.executable, str(script), *words], check=False).returncode:
            failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
