"""What the documents say holds."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cli, compose, parts

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PUBLISHED = ROOT / "results/quickstart"


def commands(text: str) -> list[list[str]]:
    """The `nas-arena run` and `report` lines of a document, as words after the program's name."""
    found = re.findall(r"^ *nas-arena ((?:run|report) .*?)(?: {2,}#.*)?$", text, re.MULTILINE)
    return [shlex.split(line) for line in found]


def leaderboard(text: str) -> str:
    """The first table of a document: its lines that begin with a bar."""
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


RUNS = [words[1:] for words in commands(README) if words[0] == "run"]


def block(language: str) -> str:
    """The first block of code of a language in the README."""
    found = re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def evening(tmp_path, monkeypatch):
    """An empty working folder but for the experiment that the README shows."""
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/evening.yaml").write_text(block("yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_of_the_readme_reads_what_its_experiment_seals(evening, capsys):
    words = ["experiment=evening", "hydra.searchpath=[file://mine]", "dataset=cifar10"]
    with pytest.raises(SystemExit) as raised:
        cli.main(["run", *words, "seeds=2", "figures=false", "budget.limit=40000"])
    assert not raised.value.code
    capsys.readouterr()
    exec(block("python"), {})
    assert capsys.readouterr().out.count("regularized_evolution-nb201-cifar10") == 2


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
@pytest.mark.usefixtures("evening")
def test_the_runs_of_the_readme_compose(words):
    assert compose.plan([word for word in words if word != "-m"], multirun="-m" in words).cells


def test_the_readme_has_runs_to_check():
    assert len(RUNS) >= 4
    assert commands("nas-arena run a=1   # why\n") == [["run", "a=1"]]


@pytest.mark.parametrize(
    "group",
    ["strategy", "space", "dataset", "objective", "protocol", "recipe", "budget", "experiment"],
)
def test_every_choice_is_named_in_the_readme(group):
    assert [name for name in parts.options(group) if f"`{name}`" not in README] == []


def test_the_readme_shows_the_published_leaderboard():
    shown = leaderboard(README.split("<!-- leaderboard -->")[1].split("<!--")[0])
    assert shown.count("\n") == 7
    assert shown == leaderboard((PUBLISHED / "leaderboard.md").read_text())


def test_every_path_in_the_documents_exists():
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (ROOT / target).exists(), f"{document.name}: {target}"


@pytest.mark.slow
def test_the_published_leaderboard_is_what_the_command_gives(tmp_path):
    command = [sys.executable, "-m", "bench.cli", "run", "experiment=quickstart", "jobs=2"]
    subprocess.run([*command, f"results={tmp_path}", "figures=false"], cwd=ROOT, check=True)
    ours = (tmp_path / "report/quickstart/leaderboard.csv").read_text()
    published = (PUBLISHED / "leaderboard.csv").read_text()
    assert list(csv.reader(ours.splitlines())) == list(csv.reader(published.splitlines()))
