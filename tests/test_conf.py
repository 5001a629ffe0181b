"""Every yaml builds, states its constructor's defaults and names its sources."""

import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from bench import compose, parts
from bench.compose import ConfigError, plan
from bench.store import canonical_json
from bench.table import read_table, shipped_folder, write_table
from spaces.nb201.space import NB201

CONF = parts.conf_folder()
PARTS = sorted(
    path for group in parts.PARTS if group != "dataset" for path in (CONF / group).glob("*.yaml")
)
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))
EXPECTED = {  # strategies, data sets, limits, seeds
    "quickstart": (6, {"cifar10"}, {200}, 100),
    "nats_tss": (2, {"cifar10", "cifar100", "ImageNet16-120"}, {20000, 40000, 120000}, 500),
}


def disagreements(node: dict[str, object]) -> list[str]:
    """Keys of a yaml that its constructor lacks, leaves unstated, or sets to another default."""
    parameters = inspect.signature(get_object(str(node["_target_"])).__init__).parameters
    keyword_only = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    stated = {key: value for key, value in node.items() if not key.startswith("_")}
    wrong = [f"{key} is no parameter" for key in stated if key not in parameters]
    wrong += [f"{key} is not stated" for key in keyword_only if key not in stated]
    wrong += [
        f"{key} is {stated[key]!r}, by default {default!r}"
        for key, default in keyword_only.items()
        if key in stated and default is not inspect.Parameter.empty and stated[key] != default
    ]
    return wrong


def own_defaults(path: Path) -> dict[str, object]:
    """The yaml as a mapping; a protocol's and a budget's values are theirs, not defaults."""
    node = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


@pytest.mark.parametrize("path", PARTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_yaml_and_its_constructor_agree(path):
    found = disagreements(own_defaults(path))
    if path.parent.name == "protocol":
        found = [text for text in found if "by default" not in text]
    assert not found


def test_a_disagreement_is_seen():
    node = own_defaults(CONF / "strategy/regularized_evolution.yaml")
    assert disagreements(node | {"sample_size": 3}) == ["sample_size is 3, by default 25"]
    assert disagreements(node | {"typo": 3}) == ["typo is no parameter"]
    del node["sample_size"]
    assert disagreements(node) == ["sample_size is not stated"]


@pytest.mark.parametrize("group", [*compose.GROUPS, "data"])
def test_every_choice_has_a_line_for_help(group):
    there = parts.options(group)
    assert there
    assert all(10 < len(text) <= 110 for text in there.values())


@pytest.mark.parametrize("path", sorted((CONF / "strategy").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_hyper_parameter_has_a_source(path):
    numbered = [line for line in path.read_text().splitlines() if line[0] not in "#_"]
    assert all("#" in line for line in numbered)


@pytest.mark.parametrize("name", [path.stem for path in EXPERIMENTS])
def test_every_experiment_composes(name, monkeypatch):
    monkeypatch.setattr(compose, "build_cell", lambda config, problems: seen.append(config))
    seen: list[object] = []
    plan([f"experiment={name}"])
    strategies, datasets, limits, seeds = EXPECTED[name]
    assert len({config._names.strategy for config in seen}) == strategies
    assert {config.dataset.name for config in seen} == datasets
    assert {config.budget.limit for config in seen} == limits
    assert {config.seeds for config in seen} == {seeds}
    assert len(seen) == strategies * len(datasets)


def test_the_published_hyper_parameters_of_nats_tss():
    config = OmegaConf.load(CONF / "experiment/nats_tss.yaml")
    assert config.space.mutation_weights == [6, 3, 3, 2, 2, 2]
    assert config.grid[0][1].split()[1:] == [
        "strategy.population_size=10",
        "strategy.sample_size=3",
    ]
    protocol = OmegaConf.load(CONF / "protocol/nats_tss.yaml")
    assert (protocol.schedule, protocol.fidelities, protocol.overshoot, protocol.read_out) == (
        "12", [12], "keep_last", "linear",
    )  # fmt: skip


def test_a_word_beats_the_experiment():
    composed = plan(["experiment=quickstart", "budget.limit=50", "seeds=3"])
    assert {cell.budget.limit for cell in composed.cells} == {50}
    assert composed.settings.seeds == 3
    one = plan(["experiment=quickstart", "strategy=local_search", "seeds=3"])
    assert [cell.names["strategy"] for cell in one.cells] == ["local_search"]


def test_multirun_is_the_product_of_its_values():
    words = ["strategy=random_search,regularized_evolution", "budget.limit=50,200"]
    cells = plan(words, multirun=True).cells
    assert [(cell.names["strategy"], cell.budget.limit) for cell in cells] == [
        ("random_search", 50), ("random_search", 200),
        ("regularized_evolution", 50), ("regularized_evolution", 200),
    ]  # fmt: skip
    cells = plan(
        ["strategy=regularized_evolution", "strategy.population_size=10,20"], multirun=True
    ).cells
    assert [cell.config["strategy"]["population_size"] for cell in cells] == [10, 20]


def test_how_to_run_is_no_part_of_a_cell():
    one = plan(["jobs=1", "seeds=5", "results=a"]).cells[0]
    other = plan(["jobs=2", "seeds=9", "results=b", "name=c"]).cells[0]
    assert one.key == other.key
    keys = {
        plan(words).cells[0].key
        for words in (
            [],
            ["strategy=local_search"],
            ["dataset=cifar100"],
            ["budget.limit=7"],
            ["workers=2"],
            ["protocol.noise=mean"],
            ["space.mutation_weights=[6,3,3,2,2,2]"],
        )
    }
    assert len(keys) == 7


def test_a_cell_describes_itself_in_json():
    cell = plan(["strategy=genetic_algorithm"]).cells[0]
    text = canonical_json(cell.describe())
    assert canonical_json(json.loads(text)) == text


BAD = {
    "strategy=foo": "strategy=foo: unknown strategy; allowed: bayesian_optimisation,",
    "strategy=random_serch": "did you mean random_search?",
    "experiment=foo": "experiment=foo: unknown experiment; allowed: nats_tss, quickstart",
    "dataset=mnist": "dataset=mnist: unknown dataset; allowed: ImageNet16-120, arxiv, auto",
    "bogus=3": "bogus: the configuration has no key bogus; it has strategy,",
    "strategy.typo=3": "strategy.typo: strategy=random_search has no key typo; it has none",
    "seed=3": "did you mean seeds?",
    "seeds=-1": "seeds is -1; allowed: 1 and more",
    "seeds=1.5": "seeds is 1.5; allowed: whole number",
    "seeds=true": "seeds is True; allowed: whole number",
    "first_seed=-1": "first_seed is -1; allowed: 0 and more",
    "jobs=0": "jobs is 0; allowed: 1 and more",
    "workers=0": "workers is 0; allowed: 1 and more",
    "name=../x": "name is '../x'; allowed: letters, digits, - and _",
    "budget.limit=-5": "budget.limit is -5; allowed: a number of evaluations above 0",
    "budget.limit=abc": "budget.limit is 'abc'; allowed: number",
    "budget.limit=nan": "budget.limit is nan; allowed: a number of evaluations above 0",
    "budget=gpu_seconds": "budget is on gpu_seconds; table nb201 holds no GPU here",
    "budget.clock=moon": "budget.clock is 'moon'; allowed: evaluations, epochs,",
    "protocol.fidelities=[12]": "epochs [12] are not in table nb201.h5",
    "protocol.schedule='12'": "schedule '12' is not in table nb201.h5; it has 200",
    "protocol.report=[test_error]": "test_error is not in table nb201.h5 for cifar10",
    "protocol.validation_pass=charged": "valid_seconds is not in table nb201.h5",
    "protocol.noise=loud": "protocol.noise is 'loud'; allowed: one_seed, mean",
    "objective.table=absent": "table 'absent' is neither in",
    "space.mutation_weights=[1]": "space.mutation_weights is [1]; nb201 needs 6 whole numbers",
    "protocol.metric=test_error": "metric is 'test_error' and test_signal 'refused'; a",
    "dataset.name=../x": "dataset.name is '../x'; allowed: letters",
    "budget.limit=0.5": "budget.limit is 0.5; one evaluation takes 1",
    "first_seed=99999999999999999999": "allowed: 0 and more, up to 1,000,000,000,000",
    "seeds=99999999999": "allowed: 1 and more, up to 1,000,000",
    "results=": "results is empty; allowed: a folder",
    "grid=5": "grid is 5; allowed: a list of axes",
    "grid=[5]": "allowed: a list of axes, each a list of words",
    "grid=['strategy=local_search']": "allowed: a list of axes, each a list of words",
    "grid=[['seeds=5']]": "grid sets 'seeds=5'; allowed: strategy, space,",
    "+strategy.x=3": "adds or removes a key",
    "~seeds": "adds or removes a key",
    "strategy._target_=os.system": "is refused: no code",
    "results=${oc.env:HOME}": "is refused: no code, no interpolation",
    "budget.limit=1,2": "has several values; to run each of them add -m",
    "nonsense": "'nonsense' is not an override; write key=value",
}


@pytest.mark.parametrize("word", BAD)
def test_bad_words_are_named(word):
    with pytest.raises(ConfigError) as raised:
        plan([word])
    assert BAD[word] in "\n".join(raised.value.problems)


def test_all_problems_come_at_once():
    words = ["strategy=foo", "dataset=bar", "bogus=1", "seeds=0", "budget.limit=-1", "jobs=x"]
    with pytest.raises(ConfigError) as raised:
        plan([*words, "protocol.fidelities=[12]", "strategy.whatever=1"])
    assert len(raised.value.problems) == 7  # nothing about keys of an unknown strategy


@pytest.mark.parametrize("word", ["seeds=2,3", "jobs=1,2", "experiment=quickstart,nats_tss"])
def test_how_to_run_cannot_be_swept(word):
    with pytest.raises(ConfigError, match="cannot be swept; allowed: strategy, space,"):
        plan([word], multirun=True)


@pytest.mark.parametrize("word", ["strategy=glob(r*)", "budget.limit=interval(1,3)"])
def test_sweeps_that_are_no_lists(word):
    with pytest.raises(ConfigError, match="is not an override"):
        plan([word], multirun=True)


def test_a_choice_picks_its_entries_of_a_grid(monkeypatch):
    """What an experiment sets together stays together."""
    monkeypatch.setattr(compose, "build_cell", lambda config, problems: seen.append(config))
    seen: list[Any] = []
    plan(["experiment=nats_tss", "dataset=cifar100", "strategy=regularized_evolution"])
    (config,) = seen
    assert (config.budget.limit, config.strategy.population_size) == (40000, 10)
    seen.clear()
    plan(["experiment=nats_tss", "dataset=cifar100", "strategy=local_search"])
    (config,) = seen
    assert (config.budget.limit, config._names.strategy) == (40000, "local_search")


def test_a_choice_that_a_tied_axis_lacks(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(
        "# @package _global_\ngrid: [['dataset=cifar10 budget.limit=7']]\n"
    )
    words = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"]
    assert plan(words).cells[0].budget.limit == 7
    with pytest.raises(ConfigError, match="sets more with each dataset; allowed: dataset=cifar10"):
        plan([*words, "dataset=cifar100"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sedes: 500", "the experiment sets sedes, which is no key of the configuration"),
        ("dataset: cifar100", "choose it under `defaults:` as `override /dataset: cifar100`"),
        ("budget: {limt: 500}", "budget.limt is no key; allowed: clock, limit"),
        ("seeds:\t5", "cannot start any token|found character"),
        ("grid: [strategy=local_search]", "a list of axes, each a list of words"),
    ],
)
def test_bad_experiments_are_explained(tmp_path, text, sentence):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(ConfigError, match=sentence):
        plan([f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"])


def test_another_budget_for_an_experiment_needs_its_limit():
    with pytest.raises(ConfigError, match=r"needs a budget\.limit="):
        plan(["experiment=quickstart", "budget=epochs"])


def test_a_changed_protocol_says_so_in_its_name():
    (plain, changed) = plan(["protocol.overshoot=drop,keep_last"], multirun=True).cells
    assert plain.protocol.name == "nb201"
    assert changed.protocol.name == changed.names["protocol"] == "nb201+overshoot=keep_last"
    assert "nb201+overshoot=keep_last" in changed.folder(Path()).name
    assert plan(["protocol.noise=mean", "protocol.name=mine"]).cells[0].protocol.name == "mine"


def test_a_cell_is_named_for_the_data_it_reads():
    (cell,) = plan(["dataset.name=cifar100"]).cells
    assert cell.names["dataset"] == cell.objective.dataset == "cifar100"
    assert cell.names["objective"] == "table nb201"


def test_other_code_is_another_cell(tmp_path, monkeypatch):
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy/edited.yaml").write_text("_target_: edited.Edited\n_partial_: true\n")
    code = tmp_path / "edited.py"
    code.write_text(
        "from strategies.random_search import RandomSearch\n\n"
        "class Edited(RandomSearch):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [f"hydra.searchpath=[file://{tmp_path}]", "strategy=edited"]
    before = plan(words).cells[0].key
    assert plan(words).cells[0].key == before
    code.write_text(code.read_text() + "    x = 1\n")
    assert plan(words).cells[0].key != before


def test_a_report_with_holes_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    space = NB201()
    table = read_table(shipped_folder(space) / "nb201.h5")
    known = table.schedules["cifar10", "200"]
    holes = known.columns["valid_error"].copy()
    holes[::2] = np.nan
    columns = known.columns | {"test_error": holes}
    schedules = {("cifar10", "200"): replace(known, columns=columns)}
    write_table(replace(table, schedules=schedules), space, tmp_path / "holes.h5")
    with pytest.raises(ConfigError, match=r"knows test_error of 7,812 of the 15,625"):
        plan(["objective.table=holes", "protocol.report=[test_error]"])


def test_code_that_is_imported_belongs_to_it(tmp_path, monkeypatch):
    package = tmp_path / "ours"
    package.mkdir()
    (package / "space.py").write_text("from ours.graph import X\n\nclass Space:\n    x = X\n")
    (package / "graph.py").write_text("from ours.bits import (\n    X,\n)\n")
    (package / "bits.py").write_text("X = 1\n")
    (package / "official.py").write_text("Y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    kind = importlib.import_module("ours.space").Space
    before = parts._code(kind)
    (package / "official.py").write_text("Y = 2\n")
    assert parts._code(kind) == before
    (package / "bits.py").write_text("X = 2\n")
    assert parts._code(kind) != before


@pytest.mark.parametrize(
    ("strategy", "words", "sentence"),
    [
        ("regularized_evolution", "population_size=0", "allowed: 1 and more"),
        ("regularized_evolution", "population_size=ten", "allowed: whole number"),
        ("genetic_algorithm", "elites=20", "0 <= elites < population_size"),
        ("genetic_algorithm", "selection=best", "selection is 'best'"),
        ("genetic_algorithm", "crossover_rate=1.5", "allowed: 0 to 1"),
        ("reinforce", "momentum=1", "0 <= momentum < 1"),
        ("bayesian_optimisation", "noise=0", "length and noise above 0"),
    ],
)
def test_bad_hyper_parameters_are_named(strategy, words, sentence):
    with pytest.raises(ConfigError) as raised:
        plan([f"strategy={strategy}", f"strategy.{words}"])
    assert sentence in str(raised.value)


def test_a_strategy_of_another_package(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/mine.py").write_text(
        "from strategies.random_search import RandomSearch\n\nclass Mine(RandomSearch):\n    pass\n"
    )
    (tmp_path / "conf/strategy").mkdir(parents=True)
    (tmp_path / "conf/strategy/mine.yaml").write_text(
        "_target_: theirs.mine.Mine\n_partial_: true\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [f"hydra.searchpath=[file://{tmp_path}/conf]", "strategy=mine"]
    assert plan(words).cells[0].names["strategy"] == "mine"
    cells = plan([words[0], "strategy=mine,random_search"], multirun=True).cells
    assert [cell.names["strategy"] for cell in cells] == ["mine", "random_search"]
    with pytest.raises(ConfigError):
        plan([words[0], "strategy=absent"])


def test_what_needs_torch_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "conf/strategy").mkdir(parents=True)
    (tmp_path / "conf/strategy/needy.yaml").write_text("_target_: needy.Needy\n_partial_: true\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needy.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    with pytest.raises(ConfigError, match=r"needs PyTorch: pip install 'nas-arena\[train\]'"):
        plan([f"hydra.searchpath=[file://{tmp_path}/conf]", "strategy=needy"])
