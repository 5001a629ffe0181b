"""Every yaml builds, states its constructor's defaults and names its sources."""

import inspect
import json
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from bench import compose
from bench.compose import ConfigError, plan
from bench.store import canonical_json

CONF = compose.conf_folder()
PARTS = sorted(
    path for group in compose.PARTS if group != "dataset" for path in (CONF / group).glob("*.yaml")
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
    there = compose.options(group)
    assert there
    assert all(10 < len(text) <= 110 for text in there.values())


@pytest.mark.parametrize("path", sorted((CONF / "strategy").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_hyper_parameter_has_a_source(path):
    numbered = [line for line in path.read_text().splitlines() if line[0] not in "#_"]
    assert all("#" in line for line in numbered)


@pytest.mark.parametrize("name", [path.stem for path in EXPERIMENTS])
def test_every_experiment_composes(name, monkeypatch):
    monkeypatch.setattr(compose, "_build", lambda config, problems: seen.append(config))
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
    "dataset=mnist": "dataset=mnist: unknown dataset; allowed: ImageNet16-120, cifar10, cifar100",
    "bogus=3": "bogus: the configuration has no key bogus; it has strategy,",
    "strategy.typo=3": "strategy.typo: strategy has no key typo",
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
    "budget.clock=moon": "budget.clock is 'moon'; allowed: evaluations, epochs,",
    "protocol.fidelities=[12]": "fidelities [12] are not in table nb201.h5",
    "protocol.schedule='12'": "schedule '12' is not in table nb201.h5; it has 200",
    "protocol.report=[test_error]": "test_error is not in table nb201.h5 for cifar10",
    "protocol.validation_pass=charged": "valid_seconds is not in table nb201.h5",
    "protocol.noise=loud": "protocol.noise is 'loud'; allowed: one_seed, mean",
    "objective.table=absent": "table 'absent' is neither in",
    "space.mutation_weights=[1]": "space.mutation_weights is [1]; nb201 needs 6 whole numbers",
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
    with pytest.raises(ConfigError):
        plan([words[0], "strategy=absent"])


def test_what_needs_torch_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "conf/strategy").mkdir(parents=True)
    (tmp_path / "conf/strategy/needy.yaml").write_text("_target_: needy.Needy\n_partial_: true\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needy.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    with pytest.raises(ConfigError, match=r"needs PyTorch: pip install 'nas-arena\[train\]'"):
        plan([f"hydra.searchpath=[file://{tmp_path}/conf]", "strategy=needy"])
