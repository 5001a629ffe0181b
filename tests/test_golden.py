"""The first queries and the final incumbent of every strategy on the table that ships, exactly.

A change here is a change of numbers: raise `RESULTS_VERSION` in bench/run.py, say why in the
CHANGELOG, and write the files anew with `make golden` (`python tests/test_golden.py`).
"""

import hashlib
import json
import sys
from pathlib import Path

if __name__ == "__main__":  # pytest does this by its settings
    sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import numpy as np
import pytest
from conftest import CONF, build

from bench.run import RESULTS_VERSION
from bench.search import Budget, search, stream
from bench.table import TableObjective
from spaces.nb201.space import NB201

GOLDEN = Path(__file__).parent / "golden"
STRATEGIES = sorted(path.stem for path in CONF.glob("strategy/*.yaml"))
SEED, TRIALS = 0, 150


def record(name):
    space, protocol = NB201(), build(CONF / "protocol/nb201.yaml")
    objective = TableObjective(space, "cifar10", protocol)
    strategy = build(CONF / f"strategy/{name}.yaml")
    strategy = strategy(space, stream(SEED, "strategy"), protocol.fidelities)
    noise = stream(SEED, "noise").getrandbits(64)
    trials = list(search(strategy, objective, protocol, Budget("evaluations", TRIALS), noise=noise))
    architectures = [trial.query.architecture for trial in trials]
    errors = np.array([trial.evaluation.error for trial in trials])
    last = protocol.incumbents(errors, np.full(TRIALS, 200))[-1]
    (report,) = objective.report([architectures[last]])["valid_error"]
    return {
        "results_version": RESULTS_VERSION,
        "first": [space.to_string(arch) for arch in architectures[:12]],
        "all": hashlib.sha256(json.dumps(architectures).encode()).hexdigest(),
        "incumbent": {
            "trial": int(last),
            "architecture": space.to_string(architectures[last]),
            "error": float(errors[last]),
            "report_valid_error": float(report),
        },
        "simulated_seconds": trials[-1].simulated_seconds,
    }


def test_goldens_and_strategies_match_one_to_one():
    assert sorted(path.stem for path in GOLDEN.glob("*")) == STRATEGIES


@pytest.mark.parametrize("name", STRATEGIES)
def test_golden(name):
    assert record(name) == json.loads((GOLDEN / f"{name}.json").read_text())


def test_another_seed_is_seen(monkeypatch):
    monkeypatch.setitem(globals(), "SEED", 1)
    assert record("random_search") != json.loads((GOLDEN / "random_search.json").read_text())


if __name__ == "__main__":
    for old in GOLDEN.glob("*.json"):
        old.unlink()
    for name in STRATEGIES:
        text = json.dumps(record(name), indent=1) + "\n"
        (GOLDEN / f"{name}.json").write_text(text)
        print(f"tests/golden/{name}.json")
