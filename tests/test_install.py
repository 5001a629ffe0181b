"""The three packages are ours, and a wheel holds everything a run needs."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bench
import spaces
import strategies

ROOT = Path(__file__).parent.parent


def test_nobody_else_installs_our_packages():
    owners = importlib.metadata.packages_distributions()
    for package in (bench, spaces, strategies):
        assert set(owners.get(package.__name__, ["nas-arena"])) == {"nas-arena"}
        assert Path(str(package.__file__)).parent.parent == ROOT


def test_every_constraint_is_a_plain_pin():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(line.count("==") == 1 and "+" not in line for line in lines)
    assert len({line.split("==")[0] for line in lines}) == len(lines)
    declared = (ROOT / "pyproject.toml").read_text()
    for name in ("hydra-core", "numpy", "h5py", "scipy", "pandas", "matplotlib", "seaborn", "tqdm"):
        assert f'"{name}>=' in declared
        assert any(line.startswith(f"{name}==") for line in lines)


@pytest.mark.slow
def test_a_wheel_runs_from_anywhere(tmp_path):
    wheels = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT]
    subprocess.run(wheels, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        file.extractall(tmp_path / "site")
    assert {
        "bench/conf/config.yaml",
        "bench/conf/strategy/random_search.yaml",
        "spaces/nb201/tables/nb201.h5",
        "spaces/nb201/tables/nb201.h5.sha256",
        "spaces/nb201/tables/LICENSES.txt",
        "bench/py.typed",
    } <= names
    command = [sys.executable, "-m", "bench.cli", "run", "seeds=2", "budget.limit=5"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert b"random_search" in done.stdout
