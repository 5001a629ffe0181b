"""From words on the command line to cells.

All problems are found before anything runs, and raised together.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench.check import misfits
from bench.parts import PARTS, Training, build_cell, build_training, conf_folder, options, trainable
from bench.run import Cell
from bench.words import nearest

GROUPS = (*PARTS, "recipe", "experiment")
TRAINED = ("space", "dataset", "recipe")
LIMITS = {"seeds": (1, 10**6), "first_seed": (0, 10**12), "jobs": (1, 1024)}


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
    jobs: int | None
    """None: as many as suit the objectives (`bench.run.jobs_for`)."""
    results: str
    figures: bool
    name: str


@dataclass(frozen=True)
class Plan:
    """The cells of a comparison and how to run them."""

    settings: Settings
    cells: list[Cell]


def plan(words: Sequence[str], *, multirun: bool = False) -> Plan:
    """Compose, check and build every cell that `words` ask for.

    Args:
        words: Hydra overrides, such as `strategy=local_search` or `budget.limit=50`.
        multirun: whether a word may hold several values, as in `budget.limit=50,200`.

    Raises:
        ConfigError: with everything that is wrong.
    """
    problems: list[str] = []
    foreign = any(word.startswith("hydra.searchpath=") for word in words)
    overrides = _parse(words, problems, multirun=multirun, foreign=foreign)
    keys = {word.key_or_group for word in overrides}
    if {"experiment", "budget"} <= keys and "budget.limit" not in keys:
        problems.append("budget= beside experiment= needs a budget.limit=, in units of its clock")
    fixed = [word for word in overrides if not word.is_sweep_override()]
    sweeps = [word for word in overrides if word.is_sweep_override()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder().resolve()), version_base="1.3"):
        base = _compose(fixed, problems)
        axes = _axes(base, overrides, problems) + [
            [[f"{word.key_or_group}={value}"] for value in word.sweep_string_iterator()]
            for word in sweeps
        ]
        configs = [base]
        if axes:
            wanted = [list(chain.from_iterable(choice)) for choice in product(*axes)]
            parsed = [_parse(some, problems, multirun=False, foreign=foreign) for some in wanted]
            configs = [_compose([*some, *fixed], problems) for some in parsed]
    cells = [cell for config in configs if (cell := build_cell(config, problems)) is not None]
    settings = _settings(base, problems)
    if problems or settings is None:
        raise ConfigError(problems)
    return Plan(settings, list({cell.key: cell for cell in cells}.values()))


def training(
    words: Sequence[str], stored: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None
) -> Training:
    """Compose and build what is trained, on which data and how.

    Args:
        words: overrides of `space`, `dataset` and `recipe`, and of their keys.
        stored: of each group the choice of an earlier run, and the keys it had, resolved; a
            group that `words` choose is not taken from there.

    Raises:
        ConfigError: with everything that is wrong.
    """
    problems: list[str] = []
    overrides = _parse(words, problems, multirun=True, foreign=False)
    chosen = {word.key_or_group for word in overrides}
    earlier = {part: some for part, some in (stored or {}).items() if part not in chosen}
    known = [f"{part}={name}" for part, (name, _) in earlier.items()]
    overrides = [*_parse(known, problems, multirun=True, foreign=False), *overrides]
    for word in overrides:
        if word.is_sweep_override():
            problems.append(f"{word.input_line!r} has several values; allowed: one")
        elif word.key_or_group.split(".")[0] not in TRAINED:
            problems.append(
                f"{word.key_or_group} is unknown here; allowed: {', '.join(TRAINED)} and their keys"
            )
    if problems:
        raise ConfigError(problems)
    groups = [word for word in overrides if word.key_or_group in TRAINED]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder().resolve()), version_base="1.3"):
        try:
            lines = [str(word.input_line) for word in groups]
            config = compose("training", lines, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            raise ConfigError([" ".join(str(error).split())]) from None
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    assert isinstance(choices, dict)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    if "recipe" not in config:  # optional, as its default is named by the space
        networks, known = list(trainable("space")), list(options("recipe"))
        raise ConfigError(
            [f"space={choices['space']} has no recipe of its name; choose one with recipe=; "
             f"allowed: {', '.join(known)}"
             if choices["space"] in networks
             else f"space={choices['space']} has no networks to train; allowed: "
             + ", ".join(networks)]
        )  # fmt: skip
    for part, (_, values) in earlier.items():
        _restore(config[part], values, part, problems)
    singles = [word for word in overrides if word not in groups]
    _set_keys(config, singles, choices, problems)
    made = build_training(config, {part: str(choices[part]) for part in TRAINED}, problems)
    if problems or made is None:
        raise ConfigError(problems)
    return made


def _restore(node: Any, stored: Any, where: str, problems: list[str]) -> None:
    """Give a part the plain values it had in a run; code is named by our own files alone."""
    if not isinstance(node, DictConfig) or not isinstance(stored, Mapping):
        problems.append(f"{where} is not what the run had")
        return
    for key, value in stored.items():
        if key == "_target_" and value != node.get(key):
            problems.append(f"{where} was {value} in the run; it is {node.get(key)} now")
        elif key.startswith("_"):
            continue
        elif key not in node:
            problems.append(f"{where}.{key} of the run is no key any more")
        elif isinstance(value, dict) and "_target_" in value:
            _restore(node[key], value, f"{where}.{key}", problems)
        else:
            node[key] = value


def _parse(
    words: Sequence[str], problems: list[str], *, multirun: bool, foreign: bool
) -> list[Override]:
    """The words that make sense; what does not is added to `problems`.

    Args:
        foreign: a search path is given, so there are choices that we do not know.
    """
    parser = OverridesParser.create()
    overrides, unknown = [], set()
    for word in words:
        try:
            override = parser.parse_override(word)
            several = override.is_sweep_override()
            values = list(override.sweep_string_iterator()) if several else [override.value()]
        except HydraException:
            problems.append(f"{word!r} is not an override; write key=value, such as seeds=100")
            continue
        key = override.key_or_group
        if override.type != OverrideType.CHANGE:
            problems.append(
                f"{word!r} adds or removes a key; only keys of the configuration can be set"
            )
        elif "_target_" in word or "${" in word:
            problems.append(f"{word!r} is refused: no code, no interpolation on the command line")
        elif several and not multirun:
            problems.append(f"{word!r} has several values; to run each of them add -m")
        elif several and not _of_cell(key):
            problems.append(f"{key} cannot be swept; allowed: {', '.join(PARTS)} and their keys")
        else:
            overrides.append(override)
            if key not in GROUPS or foreign or word == "experiment=null":
                continue
            there = options(key)
            for value in map(str, values):
                if value not in there:
                    unknown.add(key)
                    problems.append(
                        f"{key}={value}: unknown {key}; allowed: {', '.join(there)}"
                        + nearest(value, there)
                    )
    return [word for word in overrides if word.key_or_group.split(".")[0] not in unknown]


def _of_cell(key: str) -> bool:
    return key.split(".")[0] in (*PARTS, "recipe", "workers")


def _compose(overrides: Sequence[Override], problems: list[str]) -> DictConfig:
    """Choose the groups with Hydra, then set single keys, of which none may be new."""
    chosen = [word for word in overrides if word.key_or_group in GROUPS or _of_hydra(word)]
    try:
        config = compose(
            "config", [str(word.input_line) for word in chosen], return_hydra_config=True
        )
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError([*problems, " ".join(str(error).split())]) from None
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    assert isinstance(choices, dict)
    if "protocol" not in config:  # optional, as its default is named by the space
        raise ConfigError(
            [*problems, f"space={choices['space']} has no protocol of its name; choose one with "
            f"protocol=; allowed: {', '.join(options('protocol'))}"]
        )  # fmt: skip
    for part in PARTS:
        if not isinstance(config[part], DictConfig):
            raise ConfigError(
                [*problems, f"the experiment sets {part} to {config[part]!r}; choose it under "
                f"`defaults:` as `override /{part}: {config[part]}`"]
            )  # fmt: skip
    for key in map(str, config):
        if not _of_cell(key) and key not in ("grid", *get_type_hints(Settings)):
            problems.append(f"the experiment sets {key}, which is no key of the configuration")
    config["_names"] = {part: choices[part] for part in PARTS}
    touching = {word.key_or_group.split(".")[0] for word in overrides}
    config["_touched"] = bool(touching & {"protocol", "experiment"})  # perhaps not as published
    _set_keys(config, [word for word in overrides if word not in chosen], choices, problems)
    return config


def _set_keys(
    config: DictConfig,
    overrides: Iterable[Override],
    choices: Mapping[Any, Any],
    problems: list[str],
) -> None:
    """Set single keys, of which none may be new."""
    for word in overrides:
        *path, leaf = word.key_or_group.split(".")
        node = OmegaConf.select(config, ".".join(path)) if path else config
        keys = map(str, node) if isinstance(node, DictConfig) else ()
        there = [key for key in keys if not key.startswith("_")]
        if leaf not in there:
            where = ".".join(path) or "the configuration"
            where = f"{where}={choices[where]}" if where in PARTS else where
            has = f"it has {', '.join(there) or 'none'}"
            near = nearest(leaf, there)
            problems.append(f"{word.key_or_group}: {where} has no key {leaf}; {has}{near}")
        else:
            node[leaf] = word.value()


def _of_hydra(word: Override) -> bool:
    return word.key_or_group.split(".")[0].split("/")[0] == "hydra"


def _axes(
    config: DictConfig, overrides: Sequence[Override], problems: list[str]
) -> list[list[list[str]]]:
    """The axes of the experiment's grid, as lists of words, after the command line's say.

    A choice given there picks the entries that make it, with all they set. Where no entry does,
    it stands in for them if they set nothing but that part.
    """
    grid: Any = OmegaConf.to_container(config.grid) if OmegaConf.is_list(config.grid) else None
    try:
        if any(isinstance(axis, str) for axis in grid):
            raise TypeError
        axes = [[shlex.split(entry) for entry in axis] for axis in grid]
    except (TypeError, ValueError, AttributeError):
        problems.append(f"grid is {config.grid!r}; allowed: a list of axes, each a list of words")
        return []
    given = {word.key_or_group: word for word in overrides}
    for word in chain.from_iterable(chain.from_iterable(axes)):
        if not _of_cell(word.split("=")[0]):
            problems.append(f"grid sets {word!r}; allowed: {', '.join(PARTS)} and their keys")
    for number, axis in enumerate(axes):
        for part in PARTS:
            made = {word for entry in axis for word in entry if word.startswith(f"{part}=")}
            if part not in given or not made:
                continue
            chosen = f"{part}={given[part].value()}"
            only = all(word.split("=")[0].split(".")[0] == part for e in axis for word in e)
            if chosen in made:
                axis = [entry for entry in axis if chosen in entry]
            elif only:
                axis = [[]]
            else:
                problems.append(
                    f"{given[part].input_line}: the experiment sets more with each {part}; "
                    f"allowed: {', '.join(sorted(made))}"
                )
        axes[number] = [[word for word in e if word.split("=")[0] not in given] for e in axis]
    return axes


def _settings(config: DictConfig, problems: list[str]) -> Settings | None:
    values = {name: config[name] for name in get_type_hints(Settings)}
    wrong = misfits("", values, get_type_hints(Settings))
    wrong += [
        f"{name} is {values[name]}; allowed: {least} and more, up to {most:,}"
        for name, (least, most) in LIMITS.items()
        if isinstance(values[name], int) and not least <= values[name] <= most
    ]
    if not re.fullmatch(r"[\w-]+", str(values["name"]), re.ASCII):
        wrong.append(f"name is {values['name']!r}; allowed: letters, digits, - and _")
    if values["results"] == "":
        wrong.append("results is empty; allowed: a folder")
    problems += wrong
    return None if wrong else Settings(**values)
