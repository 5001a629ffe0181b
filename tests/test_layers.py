"""Imports point inward, tabular runs stay light, and nobody touches global random state."""

import ast
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "spaces", "strategies")
HEAVY = {"torch", "torchvision"}
KNOW_HYDRA = ("bench/commands/run.py", "bench/compose.py", "bench/parts.py")


def sources():
    """Path from the root -> text, of every module of the three packages."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def imported(path, text, everywhere=True):
    """Dotted names a module imports; `from a import b` gives `a` and `a.b`."""
    tree = ast.parse(text)
    package = path.split("/")[:-1]
    for node in ast.walk(tree) if everywhere else at_import(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def at_import(tree):
    """The statements that run when a module is imported: not those in functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_import(node)


def may_import_torch(path):
    return path.startswith("bench/training/") or (
        path.startswith("spaces/") and path.endswith(("/network.py", "/population.py"))
    )


def forbidden(path, name):
    """Why a module may not import a name, or nothing."""
    layer, top = path.split("/")[0], name.split(".")[0]
    allowed = {
        "bench": {"bench"},
        "spaces": {"spaces", "bench"},
        "strategies": {"strategies", "bench"},
    }
    if top in PACKAGES and top not in allowed[layer]:
        return f"{path} imports {name}: {layer} may not know {top}"
    if layer == top == "spaces" and name.split(".")[1:2] not in ([], path.split("/")[1:2]):
        return f"{path} imports {name}: spaces do not know each other"
    if top in HEAVY and not may_import_torch(path):
        return f"{path} imports {name}: only training and networks may"
    if top in {"hydra", "omegaconf"} and path not in KNOW_HYDRA:
        return f"{path} imports {name}: only the command line knows Hydra"
    if top in {"pickle", "cPickle", "dill", "cloudpickle", "joblib"}:
        return f"{path} imports {name}: unpickling runs code; see bench/pickled.py"
    return None


def offences(files):
    found = [
        offence
        for path, text in files.items()
        for name in imported(path, text)
        if (offence := forbidden(path, name))
    ]
    return list(dict.fromkeys(found))


def circle(files):
    """Modules that import each other when they are imported, if there are any."""
    modules = {
        path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): path for path in files
    }
    graph = {
        module: {
            name
            for name in imported(path, files[path], everywhere=False)
            if name in modules and name != module
        }
        for module, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


TORCH_SEEDS = ("torch.manual_seed", "torch.cuda.manual_seed", "torch.seed")


def forked_calls(tree):
    """The calls within `with torch.random.fork_rng(…):`, which puts the state back."""
    return {
        call
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any("torch.random.fork_rng(" in ast.unparse(item.context_expr) for item in block.items)
        for statement in block.body
        for call in ast.walk(statement)
        if isinstance(call, ast.Call)
    }


def global_random_calls(path, text):
    """Calls of the module-level functions of `random`, `numpy.random` and torch's seeds."""
    made = {"Random", "SystemRandom", "default_rng", "Generator", "SeedSequence", "PCG64", "Philox"}
    found = []
    tree = ast.parse(text)
    forked = forked_calls(tree) if path.startswith("bench/training/") else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            names = {alias.name for alias in node.names} - made
            found += [f"{path}: from {node.module} import {name}" for name in sorted(names)]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            head, _, name = called.rpartition(".")
            seeded = node.args or node.keywords
            if (
                (head in ("random", "np.random", "numpy.random") and name not in made)
                or (called in TORCH_SEEDS and node not in forked)
                or (name in ("default_rng", "Random") and not seeded)
            ):
                found.append(f"{path}: {called}()")
    return found


def test_imports_point_inward():
    assert offences(sources()) == []


@pytest.mark.parametrize(
    ("path", "text", "offence"),
    [
        ("bench/run.py", "import strategies.reinforce", "bench may not know strategies"),
        ("bench/run.py", "def f():\n    from spaces.nb201 import space", "bench may not know spa"),
        ("strategies/new.py", "from spaces.nb201.space import NB201", "strategies may not know s"),
        ("spaces/new/space.py", "import strategies", "spaces may not know strategies"),
        ("spaces/new/space.py", "from spaces.nb201 import space", "spaces do not know each other"),
        ("bench/table.py", "import torch", "only training and networks may"),
        ("spaces/new/space.py", "from torchvision.ops import x", "only training and networks may"),
        (
            "bench/run.py",
            "from hydra.utils import instantiate",
            "only the command line knows Hydra",
        ),
        ("bench/store.py", "import pickle", "unpickling runs code"),
        ("strategies/new.py", "from pickle import loads", "unpickling runs code"),
    ],
)
def test_an_offender_is_seen(path, text, offence):
    assert any(offence in found for found in offences({path: text}))


def test_what_is_allowed_is_no_offence():
    files = {
        "bench/training/train.py": "import torch",
        "spaces/new/network.py": "def build():\n    import torch",
        "spaces/new/official.py": "from spaces.new.space import New\nfrom bench.table import Table",
        "strategies/new.py": "from strategies.random_search import RandomSearch",
        "bench/commands/run.py": "import hydra",
    }
    assert offences(files) == []


def test_no_circles():
    assert circle(sources()) == []


def test_a_circle_is_seen():
    files = {
        "bench/one.py": "from bench import two",
        "bench/two.py": "from .three import x",
        "bench/three.py": "import bench.one",
    }
    assert {"bench.one", "bench.two", "bench.three"} == set(circle(files))
    files["bench/three.py"] = "def later():\n    import bench.one"
    assert circle(files) == []


def test_no_global_random_state():
    assert [
        call for path, text in sources().items() for call in global_random_calls(path, text)
    ] == []


@pytest.mark.parametrize(
    "text",
    [
        "import random\nrandom.shuffle([])",
        "from random import choice",
        "from numpy.random import rand",
        "import numpy as np\nnp.random.seed(0)",
        "import numpy as np\nnp.random.default_rng()",
        "from random import Random\nRandom()",
        "import torch\ntorch.manual_seed(0)",
    ],
)
def test_a_global_random_call_is_seen(text):
    assert len(global_random_calls("bench/new.py", text)) == 1
    assert global_random_calls("x.py", "from random import Random\nRandom(0).random()") == []


def test_only_training_seeds_torch_and_puts_it_back():
    """Layers draw their first weights from torch's global state, and take no generator."""
    text = "import torch\nwith torch.random.fork_rng():\n    torch.manual_seed(0)"
    assert global_random_calls("bench/training/new.py", text) == []
    assert global_random_calls("bench/new.py", text) == ["bench/new.py: torch.manual_seed()"]
    after = text.replace("    torch.m", "    pass\ntorch.m")
    assert len(global_random_calls("bench/training/new.py", after)) == 1


MODULES = "bench.run, bench.table, strategies.random_search, spaces.nb201.space"


def loaded_by(statement, tmp_path):
    """Names of the modules in a fresh interpreter after a statement."""
    child = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(child.stdout.split())


def test_a_tabular_run_loads_nothing_heavy(tmp_path):
    loaded = loaded_by(f"import {MODULES}", tmp_path)
    assert {"bench.run", "spaces.nb201.space"} <= loaded
    heavy = {"torch", "torchvision", "pandas", "matplotlib", "scipy", "seaborn", "hydra"}
    assert loaded & heavy == set()


def test_a_heavy_import_is_seen(tmp_path):
    (tmp_path / "pandas.py").write_text("")
    assert "pandas" in loaded_by(f"import {MODULES}, pandas", tmp_path)
