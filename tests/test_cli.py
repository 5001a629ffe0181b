"""The commands as a user meets them: what they print, write, refuse, and how they exit."""

import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import cli, compose, parts

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "seaborn", "scipy", "tqdm")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; returns its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as raised:
            cli.main(line.split())
        out, err = capsys.readouterr()
        return int(raised.value.code or 0), out, err

    return run


def process(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.cli", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
    )


def sealed_bytes(results: Path) -> dict[str, str]:
    """What a rerun must reproduce, by name."""
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in ("runs/*/trials-*.npz", "runs/*/cell.json", "report/*/leaderboard.csv")
        for path in results.glob(pattern)
    }


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("line", ["", "--help", "run --help", "report --help", "data --help"])
def test_help(call, line):
    status, out, err = call(line)
    assert (status, err) == (0, "")
    assert "nas-arena" in out
    assert all(len(text) <= 130 for text in out.splitlines())


def test_help_of_run_names_every_choice(call):
    _, out, _ = call("run --help")
    for group in compose.GROUPS:
        for name, text in parts.options(group).items():
            assert name in out
            assert text in out


def test_version(call):
    assert call("--version") == (0, "nas-arena 0.1.0\n", "")


@pytest.mark.parametrize(
    "line",
    [
        "fly",
        "run strategy=foo",
        "run budget.limit=-1 seeds=0 bogus=1 strategy=x dataset=y",
        "run experiment=nats_tss",
        "run " + " ".join(f"bogus{i}=1" for i in range(30)),
        "report clock=moon",
        "report bogus=1",
        "report out=",
        "report results=",
        "data",
        "data lst",
        "data get",
        "data import nb201 --into",
        "report",
        "report name=absent",
        "data import nb201 absent.whl",
        "data import absent.yaml x.csv",
        "data verify absent",
    ],
)
def test_bad_input_is_a_few_lines_and_loses_nothing(call, tmp_path, line):
    status, out, err = call(line)
    assert status == 2
    assert out == ""
    assert 1 <= len(err.splitlines()) <= 10
    assert "Traceback" not in err
    assert not files(tmp_path)


NO_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize(
    "line",
    [
        "build space=chain dataset=mnist1d architectures=random:1",
        "parity space=nb201 dataset=cifar10 n=3",
        "retrain architecture=3-5 space=chain dataset=mnist1d",
        "run objective=train space=chain dataset=mnist1d",
        "data get cifar10",
    ],
)
def test_training_without_pytorch_is_one_line(tmp_path, line):
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    done = process(*line.split(), cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith("needs PyTorch: pip install 'nas-arena[train]'\n")


@pytest.mark.parametrize(
    "line",
    [
        "build space=chain dataset=mnist1d architectures=random:1",
        "parity space=nb201 dataset=cifar10 n=3",
        "retrain architecture=3-5 space=chain dataset=mnist1d",
    ],
)
def test_a_device_that_is_not_there(call, line):
    pytest.importorskip("torch", reason="training needs PyTorch")
    status, out, err = call(f"{line} device=abacus")
    assert (status, out) == (2, "")
    assert err.startswith("nas-arena: device is 'abacus'; allowed here: auto, cpu")


def test_one_cell(call, tmp_path):
    status, out, err = call("run strategy=local_search seeds=3 budget.limit=30")
    assert (status, err) == (0, "")
    assert "local_search" in out
    assert str(tmp_path / "results/report/run") in out
    assert {path.name for path in (tmp_path / "results/report/run").iterdir()} == {
        "leaderboard.md", "leaderboard.csv", "leaderboard.tex",
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in files(tmp_path / "results/runs")}
    assert call("run strategy=local_search seeds=3 budget.limit=30")[1] == out
    assert {path: path.stat().st_mtime_ns for path in files(tmp_path / "results/runs")} == before


def test_a_tabular_run_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main(['run', 'strategy=regularized_evolution', 'seeds=2', 'budget.limit=20'])\n"
        "except SystemExit as done:\n    assert not done.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_serial_parallel_and_other_hash_seed_give_the_same_bytes(call, tmp_path):
    line = "run -m strategy=random_search,genetic_algorithm seeds=60 budget.limit=20"
    assert call(f"{line} results=serial")[0] == 0
    done = process(*line.split(), "results=parallel", "jobs=2", cwd=tmp_path, PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert sealed_bytes(tmp_path / "serial") == sealed_bytes(tmp_path / "parallel")
    assert len(sealed_bytes(tmp_path / "serial")) == 2 * (2 + 1) + 1


def test_interrupted_and_resumed_gives_the_same_bytes(tmp_path):
    words = ["run", "strategy=reinforce", "seeds=200", "budget.limit=50"]
    assert process(*words, "results=whole", cwd=tmp_path).returncode == 0
    for after in (1, 2, 3):  # shards on disk when the process is killed
        running = subprocess.Popen(
            [sys.executable, "-m", "bench.cli", *words, "results=killed"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        while running.poll() is None:
            if len(list(tmp_path.glob("killed/runs/*/trials-*.npz"))) >= after:
                running.send_signal(signal.SIGKILL)
                running.wait()
            time.sleep(0.005)
        whole = sealed_bytes(tmp_path / "whole")
        assert sealed_bytes(tmp_path / "killed").items() <= whole.items()
    assert process(*words, "results=killed", cwd=tmp_path).returncode == 0
    assert sealed_bytes(tmp_path / "killed") == sealed_bytes(tmp_path / "whole")


def test_a_second_run_adds_to_the_first_and_report_compares_both(call, tmp_path):
    assert call("run strategy=random_search seeds=30 budget.limit=20")[0] == 0
    assert call("run strategy=local_search seeds=30 budget.limit=20 name=second")[0] == 0
    status, out, err = call("report figures=false")
    assert (status, err) == (0, "")
    assert "random_search" in out
    assert "local_search" in out
    status, out, _ = call("report figures=false name=second")
    assert status == 0
    assert "random_search" not in out


def test_missing_runs_are_named_and_nothing_is_ranked(call, tmp_path):
    assert call("run -m strategy=random_search,local_search seeds=60 budget.limit=20")[0] == 0
    (shard,) = tmp_path.glob("results/runs/local_search-*/trials-000050-*.npz")
    shard.unlink()
    status, out, _ = call("report figures=false")
    assert status == 1
    assert "missing" in out
    assert "seeds 50-59 are not sealed" in out
    shutil.rmtree(next(tmp_path.glob("results/runs/local_search-*")))
    status, out, _ = call("report figures=false")
    assert status == 1
    assert "local_search" in out


def test_damage_is_named(call, tmp_path):
    assert call("run seeds=5 budget.limit=20")[0] == 0
    (shard,) = tmp_path.glob("results/runs/*/trials-*.npz")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    status, _, err = call("report figures=false")
    assert status == 3
    assert f"{shard} has changed since it was sealed" in err


@pytest.mark.parametrize("clock", ["epochs", "simulated_seconds", "wall_seconds"])
def test_every_clock_can_be_drawn(call, tmp_path, clock):
    assert call("run -m strategy=random_search,local_search seeds=6 budget.limit=20")[0] == 0
    status, _, err = call(f"report clock={clock} center=median")
    assert (status, err) == (0, "")
    assert list(tmp_path.glob("results/report/all/*.png"))
    assert list(tmp_path.glob("results/report/all/*.svg"))


def test_simulated_workers_and_other_budgets(call):
    assert call("run workers=8 seeds=3 budget=simulated_seconds budget.limit=50000")[0] == 0
    assert call("run seeds=2 budget=epochs budget.limit=2000")[0] == 0
    assert call("run seeds=1 budget=wall_seconds budget.limit=0.05")[0] == 0


def test_a_budget_too_small_for_one_trial(call):
    status, _, err = call("run seeds=1 budget=simulated_seconds budget.limit=1")
    assert status == 1
    assert "the budget ends before the first trial" in err


def test_hydras_own_flags(tmp_path):
    done = process("run", "--cfg", "job", "strategy=reinforce", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "learning_rate: 0.01" in done.stdout
    assert not files(tmp_path)


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """The shipped table as a CSV, as if published."""
    from bench.table import read_table
    from spaces.nb201.space import NB201

    space, shipped = NB201(), ROOT / "spaces/nb201/tables/nb201.h5"
    table = read_table(shipped)
    columns = table.schedules["cifar10", "200"].columns
    path = tmp_path_factory.mktemp("csv") / "joined.csv"
    rows = zip(
        table.architectures.tolist(), columns["valid_error"], columns["train_seconds"], strict=True
    )
    lines = []
    for genes, errors, seconds in rows:
        there = [f"{100 * (1 - error):.6f}" for error in errors[0] if error == error]
        lines.append(f"{space.to_string(tuple(genes))},{';'.join(there)},{seconds}")
    path.write_text("\n".join(["arch,accuracies,seconds", *lines]) + "\n")
    return path


RECIPE = """
space: nb201
architecture: arch
values: accuracy_percent
columns:
  - {column: accuracies, dataset: cifar10, schedule: 7, split: valid, epoch: 7, seed: [0, 1, 2],
     separator: ";"}
  - {column: seconds, dataset: cifar10, schedule: 7, metric: train_seconds}
"""


def test_import_verify_and_run_on_ones_own_table(call, tmp_path, csv):
    (tmp_path / "mine.yaml").write_text(RECIPE)
    status, out, err = call(f"data import mine.yaml {csv}")
    assert (status, err) == (0, "")
    assert "15,625 architectures: cifar10 (7 epochs)" in out
    status, out, _ = call("data verify")
    assert status == 0
    assert "mine: good" in out
    assert "nb201: good" in out
    (line,) = [line for line in call("data list")[1].splitlines() if line.startswith("mine ")]
    assert line.endswith("whole")
    words = "objective.table=mine protocol.schedule='7' protocol.fidelities=[7] "
    words += "protocol.report_schedule='7' seeds=2 budget.limit=10"
    assert call(f"run {words}")[0] == 0


def damaged(csv: Path, how: str, folder: Path) -> Path:
    text = csv.read_text()
    path = folder / "damaged.csv"
    if how == "gz":
        path = folder / "damaged.csv.gz"
        path.write_bytes(gzip.compress(text.encode())[:-1000])
    elif how == "truncated":
        path.write_text(text[: len(text) // 2])
    elif how == "foreign":
        path.write_text("a,b\n1,2\n")
    elif how == "units":
        path.write_text(text.replace("9", "990", 3000))
    elif how == "binary":
        path.write_bytes(bytes(range(256)) * 50)
    return path


@pytest.mark.parametrize("how", ["gz", "truncated", "foreign", "units", "binary"])
def test_a_bad_file_makes_no_table(call, tmp_path, csv, how):
    (tmp_path / "mine.yaml").write_text(RECIPE)
    status, out, err = call(f"data import mine.yaml {damaged(csv, how, tmp_path)}")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "damaged.csv" in err
    assert not list(tmp_path.glob("data/*"))


def test_a_table_that_changed_is_refused(call, tmp_path, csv):
    (tmp_path / "mine.yaml").write_text(RECIPE)
    call(f"data import mine.yaml {csv}")
    table = tmp_path / "data/mine.h5"
    table.write_bytes(table.read_bytes()[:-100])
    for line in ("data verify", "run objective.table=mine"):
        status, _, err = call(line)
        assert status == 2
        assert "is damaged or was changed" in err
    status, out, _ = call("data list")  # of which the others are still wanted
    assert status == 0
    assert "is damaged or was changed" in " ".join(out.split())
    (line,) = [line for line in out.splitlines() if line.startswith("nb201 ")]
    assert line.endswith("whole")


def test_a_recipe_of_ones_own_names_no_code(call, tmp_path, csv):
    (tmp_path / "evil.yaml").write_text(RECIPE + "reader: {_target_: os.system}\n")
    status, _, err = call(f"data import evil.yaml {csv}")
    assert status == 2
    assert "names a reader, which only ours may" in err
