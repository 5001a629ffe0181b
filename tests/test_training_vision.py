"""torchvision is imported by one module, which mends what a CPU build of PyTorch breaks."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

ROOT = Path(__file__).parent.parent
THERE = importlib.util.find_spec("torchvision") is not None
needs_torchvision = pytest.mark.skipif(not THERE, reason="torchvision is not installed")
IMPORT = "from bench.training.vision import torchvision, _declared\n"
BROKEN = """
import torchvision.first
from torch.library import register_fake
for name in "nms", "qnms":
    register_fake(f"torchvision::{name}")(lambda dets, scores, iou: None)
__version__ = "mended"
"""


def python(statements, path):
    """Run statements in a fresh interpreter that finds modules in `path` first."""
    return subprocess.run(
        [sys.executable, "-c", statements],
        env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def stub(tmp_path):
    """Writes a package that stands in for torchvision; returns the folder it lies in."""

    def write(text):
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision/__init__.py").write_text(text)
        (tmp_path / "torchvision/first.py").write_text("")
        return tmp_path

    return write


def test_a_broken_installation_is_mended(stub):
    folder = stub(BROKEN)
    plain = python("import torchvision", folder)
    assert "operator torchvision::nms does not exist" in plain.stderr
    mended = python(f"{IMPORT}print(torchvision().__version__, *_declared)", folder)
    assert mended.stdout.split() == ["mended", "nms", "qnms"], mended.stderr


def test_a_healthy_installation_is_left_alone(stub):
    done = python(f"{IMPORT}print(torchvision().__version__, *_declared)", stub("__version__ = 1"))
    assert done.stdout.split() == ["1"], done.stderr


def test_an_absent_package_names_the_line_that_installs_it(tmp_path):
    hide = "import sys\nsys.modules['torchvision'] = None\n"
    done = python(f"{hide}{IMPORT}torchvision()", tmp_path)
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: images need torchvision: pip install 'nas-arena[train]'"
    )


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("import absent_part", "ModuleNotFoundError: No module named 'absent_part'"),
        *[
            (f"raise RuntimeError({text!r})", f"RuntimeError: {text}")
            for text in (
                "operator torchvision::roi_align does not exist",
                "operator others::nms does not exist",
                "operator torchvision::nms does not exist",  # however often it is declared
            )
        ],
    ],
)
def test_other_errors_pass_through(stub, text, last):
    done = python(f"{IMPORT}torchvision()", stub(text))
    assert done.stderr.strip().splitlines()[-1] == last


def test_threads_do_not_disturb_each_other(stub):
    done = python(
        f"{IMPORT}from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    made = list(pool.map(lambda _: id(torchvision()), range(64)))\n"
        "print(len(set(made)), *_declared)",
        stub(BROKEN),
    )
    assert done.stdout.split() == ["1", "nms", "qnms"], done.stderr


@needs_torchvision
def test_the_installed_one_can_be_imported(tmp_path):
    done = python(f"{IMPORT}torchvision().datasets.CIFAR10, torchvision().ops\nprint(1)", tmp_path)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.slow
@needs_torchvision
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_class_of_ours_crosses_into_workers(method, tmp_path):
    (tmp_path / "ours.py").write_text(
        "from bench.training.vision import torchvision\n"
        "class Images(torchvision().datasets.FakeData):\n"
        "    def __getitem__(self, number):\n"
        "        return number, super().__getitem__(number)[1]\n"
    )
    (tmp_path / "start.py").write_text(
        "from ours import Images\n"
        "from torch.utils.data import DataLoader\n"
        "if __name__ == '__main__':\n"
        "    images = Images(4, (3, 8, 8))\n"
        f"    loader = DataLoader(images, 2, num_workers=1, multiprocessing_context={method!r})\n"
        "    print([numbers.tolist() for numbers, _ in loader])\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "start.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[[0, 1], [2, 3]]\n", done.stderr


def importers(files):
    """The modules that import torchvision, by statement or by name."""
    found = set()
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                names = [str(getattr(one, "value", "")) for one in node.args]
            if any(name.split(".")[0] == "torchvision" for name in names):
                found.add(path)
    return found


def test_one_module_imports_it():
    paths = [
        path for part in ("bench", "spaces", "strategies") for path in (ROOT / part).rglob("*.py")
    ]
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    assert importers(files) == {"bench/training/vision.py"}


@pytest.mark.parametrize(
    "text",
    [
        "import torchvision",
        "import torchvision.ops as x",
        "def f():\n    from torchvision.datasets import CIFAR10",
        "import importlib\nimportlib.import_module('torchvision.ops')",
    ],
)
def test_a_second_importer_is_seen(text):
    assert importers({"bench/new.py": text}) == {"bench/new.py"}
