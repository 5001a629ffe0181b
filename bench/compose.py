"""From words on the command line to cells. Nothing else here knows Hydra.

All problems are found before anything runs, and raised together.
"""

import difflib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from random import Random
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench.run import Cell
from bench.search import Objective
from bench.table import TableError

if TYPE_CHECKING:  # a run does not read published files
    from bench.data import Reader

PARTS = ("strategy", "space", "dataset", "objective", "protocol", "budget")
GROUPS = (*PARTS, "experiment")


class ConfigError(Exception):
    """What is wrong with a command; `problems` holds a sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class Settings:
    """How to run, as opposed to what: none of it changes a number."""

    seeds: int
    first_seed: int
    jobs: int
    results: str
    figures: bool
    name: str


@dataclass(frozen=True)
class Plan:
    """The cells of a comparison and how to run them."""

    settings: Settings
    cells: list[Cell]


def conf_folder() -> Path:
    """The yaml files: inside an installed package, else beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def options(group: str) -> dict[str, str]:
    """The choices of a group, each with the comment at the head of its file."""
    found = {}
    for path in sorted((conf_folder() / group).glob("*.yaml")):
        comments = [line for line in path.read_text().splitlines() if line.startswith("# ")]
        found[path.stem] = next(line[2:] for line in comments if "@package" not in line)
    return found


def build(group: str, name: str) -> Any:
    """Build one part from its yaml alone."""
    return instantiate(OmegaConf.load(conf_folder() / group / f"{name}.yaml"), _convert_="all")


def read_recipe(name: str) -> tuple[dict[str, Any], "Reader | None"]:
    """A recipe for a table, by its name in `conf/data` or by the path of a yaml, and its reader.

    Raises:
        TableError: there is none, it is no yaml, or names code without being ours.
    """
    ours = name in options("data")
    path = conf_folder() / "data" / f"{name}.yaml" if ours else Path(name)
    try:
        node = OmegaConf.load(path)
        recipe = OmegaConf.to_container(node)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        raise TableError(
            f"recipe {name!r} is no readable yaml; known: {', '.join(options('data'))}"
        ) from None
    if not isinstance(recipe, dict):
        raise TableError(f"recipe {name!r} holds no keys and values")
    reader = recipe.pop("reader", None)
    if reader is not None and not ours:
        raise TableError(f"recipe {name!r} names a reader, which only ours may")
    keyed = {str(key): value for key, value in recipe.items()}
    return keyed, instantiate(node.reader) if reader is not None else None


def plan(words: Sequence[str], *, multirun: bool = False) -> Plan:
    """Compose, check and build every cell that `words` ask for.

    Args:
        words: Hydra overrides, such as `strategy=local_search` or `budget.limit=50`.
        multirun: whether a word may hold several values, as in `budget.limit=50,200`.

    Raises:
        ConfigError: with everything that is wrong.
    """
    problems: list[str] = []
    overrides = _parse(words, multirun, problems)
    fixed = [word for word in overrides if not word.is_sweep_override()]
    sweeps = [word for word in overrides if word.is_sweep_override()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder().resolve()), version_base="1.3"):
        base = _compose(fixed, problems)
        axes = _axes(base, overrides) + [
            [[f"{word.key_or_group}={value}"] for value in word.sweep_string_iterator()]
            for word in sweeps
        ]
        configs = [base]
        if axes:
            wanted = [list(chain.from_iterable(choice)) for choice in product(*axes)]
            configs = [
                _compose([*_parse(some, False, problems), *fixed], problems) for some in wanted
            ]
    cells = [cell for config in configs if (cell := _build(config, problems)) is not None]
    settings = _settings(base, problems)
    if problems or settings is None:
        raise ConfigError(problems)
    return Plan(settings, list({cell.key: cell for cell in cells}.values()))


def _parse(words: Sequence[str], multirun: bool, problems: list[str]) -> list[Override]:
    """The words that make sense; what does not is added to `problems`."""
    parser = OverridesParser.create()
    overrides, unknown = [], set()
    foreign = any(word.startswith("hydra.searchpath=") for word in words)  # brings its own choices
    for word in words:
        try:
            override = parser.parse_override(word)
        except HydraException:
            problems.append(f"{word!r} is not an override; write key=value, such as seeds=100")
            continue
        key, several = override.key_or_group, override.is_sweep_override()
        if override.type != OverrideType.CHANGE:
            problems.append(
                f"{word!r} adds or removes a key; only keys of the configuration can be set"
            )
        elif "_target_" in word or "${" in word:
            problems.append(f"{word!r} is refused: no code, no interpolation on the command line")
        elif several and not multirun:
            problems.append(f"{word!r} has several values; to run each of them add -m")
        else:
            overrides.append(override)
            if key not in GROUPS or foreign or word == "experiment=null":
                continue
            there = options(key)
            values = override.sweep_string_iterator() if several else [override.value()]
            for value in map(str, values):
                if value not in there:
                    unknown.add(key)
                    problems.append(
                        f"{key}={value}: unknown {key}; allowed: {', '.join(there)}"
                        + _nearest(value, there)
                    )
    return [word for word in overrides if word.key_or_group.split(".")[0] not in unknown]


def _nearest(word: Any, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(allowed), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _compose(overrides: Sequence[Override], problems: list[str]) -> DictConfig:
    """Choose the groups with Hydra, then set single keys, of which none may be new."""
    chosen = [word for word in overrides if word.key_or_group in GROUPS or _of_hydra(word)]
    try:
        config = compose(
            "config", [str(word.input_line) for word in chosen], return_hydra_config=True
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([*problems, " ".join(str(error).split())]) from None
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    assert isinstance(choices, dict)
    config["_names"] = {part: choices[part] for part in PARTS}
    for word in overrides:
        if word in chosen:
            continue
        *path, leaf = word.key_or_group.split(".")
        node = OmegaConf.select(config, ".".join(path)) if path else config
        keys = map(str, node) if isinstance(node, DictConfig) else ()
        there = [key for key in keys if not key.startswith("_")]
        if leaf not in there:
            where = ".".join(path) or "the configuration"
            has = f"it has {', '.join(there)}" if there else "it has no such part"
            near = _nearest(leaf, there)
            problems.append(f"{word.key_or_group}: {where} has no key {leaf}; {has}{near}")
        else:
            node[leaf] = word.value()
    return config


def _of_hydra(word: Override) -> bool:
    return word.key_or_group.split(".")[0].split("/")[0] == "hydra"


def _axes(config: DictConfig, overrides: Sequence[Override]) -> list[list[list[str]]]:
    """The axes of the experiment, without what the command line sets itself."""
    given = {word.key_or_group for word in overrides}

    def is_given(word: str) -> bool:
        key = word.split("=")[0]
        return key in given or key.split(".")[0] in given

    return [
        [[word for word in shlex.split(entry) if not is_given(word)] for entry in axis]
        for axis in config.grid
    ]


def _settings(config: DictConfig, problems: list[str]) -> Settings | None:
    values = {name: config[name] for name in get_type_hints(Settings)}
    wrong = _misfits("", values, get_type_hints(Settings))
    for name, least in {"seeds": 1, "first_seed": 0, "jobs": 1}.items():
        if isinstance(values[name], int) and values[name] < least:
            wrong.append(f"{name} is {values[name]}; allowed: {least} and more")
    if not str(values["name"]).replace("_", "").replace("-", "").isalnum():
        wrong.append(f"name is {values['name']!r}; allowed: letters, digits, - and _")
    problems += wrong
    return None if wrong else Settings(**values)


_objectives: dict[str, Objective] = {}  # a table is read once, however many cells ask it


def _build(config: DictConfig, problems: list[str]) -> Cell | None:
    """Build a cell; what is wrong with it is added to `problems`."""
    parts = {
        part: OmegaConf.to_container(config[part], resolve=True)
        for part in ("strategy", "space", "dataset", "objective")
    }
    found: list[str] = []
    if not isinstance(config.workers, int) or config.workers < 1:
        found.append(f"workers is {config.workers!r}; allowed: 1 and more")
    built = {
        part: _instantiate(part, config[part], found)
        for part in ("strategy", "space", "protocol", "budget", "objective")
    }
    strategy, space, protocol = built["strategy"], built["space"], built["protocol"]
    objective: Objective | None = None
    if space is not None and protocol and built["objective"]:
        asked = {part: parts[part] for part in parts if part != "strategy"}
        key = json.dumps([asked, protocol.digest])
        try:
            if key not in _objectives:
                _objectives[key] = built["objective"](space, config.dataset.name, protocol)
            objective = _objectives[key]
        except TableError as error:
            found.append(f"objective={config._names.objective}: {error}")
    if space is not None and protocol and strategy:
        try:
            strategy(space, Random(0), protocol.fidelities)
        except (TypeError, ValueError) as error:
            found.append(f"strategy={config._names.strategy}: {error}")
    problems += found
    if found or objective is None:
        return None
    return Cell(
        names={part: str(config._names[part]) for part in PARTS},
        config=parts,
        strategy=strategy,
        space=space,
        objective=objective,
        protocol=protocol,
        budget=built["budget"],
        workers=config.workers,
    )


def _instantiate(part: str, node: DictConfig, problems: list[str]) -> Any:
    values = {str(k): v for k, v in OmegaConf.to_container(node, resolve=True).items()}  # type: ignore[union-attr]
    try:
        target = get_object(values["_target_"])
    except ImportError as error:
        lacks_torch = "No module named 'torch" in str(error)
        line = "needs PyTorch: pip install 'nas-arena[train]'" if lacks_torch else str(error)
        problems.append(f"{part}: {values['_target_']} {line}")
        return None
    arguments = {key: value for key, value in values.items() if not key.startswith("_")}
    wrong = _misfits(f"{part}.", arguments, get_type_hints(target.__init__))
    if not wrong:
        try:
            return instantiate(node, _convert_="all")
        except Exception as error:  # Hydra wraps what the constructor raised
            wrong.append(f"{part}.{error.__cause__ or error}")
    problems += wrong
    return None


def _misfits(prefix: str, values: Mapping[str, Any], hints: Mapping[str, Any]) -> list[str]:
    return [
        f"{prefix}{name} is {value!r}; allowed: {_words(hints[name])}"
        for name, value in values.items()
        if name in hints and not _fits(value, hints[name])
    ]


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is not None:  # a sequence
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin is not None:
        return f"a list of {_words(inner[0])}s"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return names.get(hint, "null")
