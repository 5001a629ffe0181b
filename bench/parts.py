"""From a composed configuration to the objects it means: spaces, strategies, whole cells."""

import hashlib
import importlib
import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException
from yaml import YAMLError

from bench.check import misfits
from bench.fitting import remedy
from bench.protocol import Protocol
from bench.run import Cell
from bench.search import Budget, Objective
from bench.space import Space
from bench.table import TableError
from bench.words import nearest

if TYPE_CHECKING:  # a run does not read published files
    from bench.data import ExtraReader, Reader
    from bench.training.data import Loader
    from bench.training.recipe import Recipe

PARTS = ("strategy", "space", "dataset", "objective", "protocol", "budget")


def conf_folder() -> Path:
    """The yaml files: inside an installed package, else beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def options(group: str) -> dict[str, str]:
    """The choices of a group, each with the comment at the head of its file."""
    found = {}
    for path in sorted((conf_folder() / group).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comments = [line[2:] for line in lines if line.startswith("# ") and "@package" not in line]
        found[path.stem] = comments[0] if comments else ""
    return found


def build(group: str, name: str) -> Any:
    """Build one part from its yaml alone."""
    return instantiate(OmegaConf.load(conf_folder() / group / f"{name}.yaml"), _convert_="all")


def read_recipe(name: str) -> tuple[dict[str, Any], "Reader | None", "ExtraReader | None"]:
    """A recipe for a table, by its name in `conf/data` or by the path of a yaml, and its reader:
    of whole tables, or of further columns for one.

    Raises:
        TableError: there is none, it is no yaml, or names code without being ours.
    """
    ours = name in options("data")
    path = conf_folder() / "data" / f"{name}.yaml" if ours else Path(name)
    try:
        recipe = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        raise TableError(
            f"recipe {name!r} is no readable yaml; known: {', '.join(options('data'))}"
            + nearest(name, options("data"))
        ) from None
    if not isinstance(recipe, dict):
        raise TableError(f"recipe {name!r} holds no keys and values")
    readers = {kind: recipe.pop(kind, None) for kind in ("reader", "extra")}
    if any(readers.values()) and not ours:
        raise TableError(f"recipe {name!r} names a reader, which only ours may")
    keyed = {str(key): value for key, value in recipe.items()}
    reader, extra = (node and instantiate(node) for node in readers.values())
    return keyed, reader, extra


def fillable() -> list[str]:
    """The data sets whose yaml names what brings them here."""
    return [name for name in options("dataset") if "fill" in _dataset(name)]


def _dataset(name: str) -> Any:
    return OmegaConf.load(conf_folder() / "dataset" / f"{name}.yaml")


def read_fill(dataset: str) -> Callable[..., str] | None:
    """What brings a data set to where it is loaded from, as its yaml names it; None without.

    Raises:
        TableError: it needs a package that is not installed.
    """
    if dataset not in options("dataset"):
        return None
    node = _dataset(dataset)
    if "fill" not in node:
        return None
    module, _, function = node.fill.rpartition(".")
    try:
        fill: Callable[..., str] = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TableError(f"{dataset} needs PyTorch: pip install 'nas-arena[train]'") from None
    return fill


_objectives: dict[str, Objective] = {}  # a table is read once, however many cells ask it


def build_cell(config: DictConfig, problems: list[str]) -> Cell | None:
    """Build a cell; what is wrong with it is added to `problems`."""
    names = {part: str(config._names[part]) for part in PARTS}
    parts: dict[str, Any] = {}
    for part in "strategy", "space", "dataset", "objective":
        try:
            parts[part] = OmegaConf.to_container(config[part], resolve=True)
        except InterpolationKeyError as error:
            problems.append(_lacks(part, names, error))
            return None
    names["dataset"] = str(config.dataset.name)
    parts["dataset"] = {"name": config.dataset.name}  # who loads it says how in the objective
    found: list[str] = []
    if not isinstance(config.workers, int) or config.workers < 1:
        found.append(f"workers is {config.workers!r}; allowed: 1 and more")
    if not re.fullmatch(r"\w[\w.-]*", names["dataset"], re.ASCII):
        found.append(f"dataset.name is {names['dataset']!r}; allowed: letters, digits, . - and _")
    strategy, space, protocol, budget, factory = (
        _instantiate(part, config[part], found)
        for part in ("strategy", "space", "protocol", "budget", "objective")
    )
    if protocol and config._touched:
        protocol = _renamed(protocol, names["protocol"])
        names["protocol"] = protocol.name
    if protocol and budget and (cost := _least(protocol, budget)) > budget.limit:
        found.append(f"budget.limit is {budget.limit:g}; one evaluation takes {cost}")
    objective: Objective | None = None
    if space is not None:
        parts["space"]["_code_"] = _code(type(space))
        what = parts["objective"].get("recipe", {}).get("name") or parts["objective"].get("table")
        names["objective"] += f" {what or space.name}"
    if space is not None and protocol and factory:
        asked = {part: parts[part] for part in parts if part != "strategy"}
        key = json.dumps([asked, protocol.digest])
        try:
            if key not in _objectives:
                _objectives[key] = factory(space, names["dataset"], protocol)
            objective = _objectives[key]
            dict(objective.optimum)  # reads what is reported: if that lacks something, now
        except (TableError, ValueError, LookupError, ImportError) as error:
            found.append(f"objective={config._names.objective}: {error}")
            if isinstance(error, ValueError):
                found[-1] += _remedy(factory, space, names["dataset"], protocol)
    if objective and not objective.timed and budget and budget.clock == "simulated_seconds":
        found.append(f"budget is on simulated_seconds; {names['objective']} knows no seconds")
    if objective and not objective.holds_gpu and budget and budget.clock == "gpu_seconds":
        found.append(f"budget is on gpu_seconds; {names['objective']} holds no GPU here")
    if space is not None and protocol and strategy:
        parts["strategy"]["_code_"] = _code(strategy.func)
        try:
            strategy(space, Random(0), protocol.fidelities)
        except (TypeError, ValueError) as error:
            found.append(f"strategy={names['strategy']}: {error}")
    problems += found
    if found or objective is None:
        return None
    return Cell(names, parts, strategy, space, objective, protocol, budget, config.workers)


class Training(NamedTuple):
    """What is trained, on which data and how."""

    names: dict[str, str]
    """What each part is called in `conf`."""
    config: dict[str, Any]
    """The parts' resolved configuration."""
    space: Space
    load: "Loader"
    recipe: "Recipe"

    @property
    def dataset(self) -> str:
        """The name of the data set in tables."""
        return str(self.config["dataset"]["name"])


def build_training(
    config: DictConfig, names: dict[str, str], problems: list[str]
) -> Training | None:
    """Build what is trained; what is wrong with it is added to `problems`."""
    if "load" not in config.dataset:
        problems.append(
            f"dataset={names['dataset']} cannot be loaded for training; allowed: "
            + ", ".join(trainable("dataset"))
        )
        return None
    found: list[str] = []
    space, load, recipe = (
        _instantiate(where, node, found)
        for where, node in (
            ("space", config.space),
            ("dataset.load", config.dataset.load),
            ("recipe", config.recipe),
        )
    )
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    resolved["dataset"].pop("fill", None)  # where the data come from moves no number
    if not found:
        found += _network_misfits(space, recipe)
    problems += found
    return None if found else Training(names, resolved, space, load, recipe)


def trainable(group: str) -> dict[str, str]:
    """The choices of a group that can be trained, as `options` gives them."""
    return {name: text for name, text in options(group).items() if _can_train(group, name)}


def _can_train(group: str, name: str) -> bool:
    """Whether a data set can be loaded; whether a space has networks."""
    config: Any = OmegaConf.load(conf_folder() / group / f"{name}.yaml")
    if group == "dataset":
        return "load" in config
    if group == "space":
        package = str(config["_target_"]).rpartition(".")[0].rpartition(".")[0]
        return find_spec(f"{package}.network") is not None
    return True


def _network_misfits(space: Space, recipe: "Recipe") -> list[str]:
    from bench.training.trainer import network_builder, network_misfits

    try:
        return network_misfits(network_builder(space), recipe.network)
    except LookupError as error:
        return [str(error)]


def _lacks(part: str, names: dict[str, str], error: InterpolationKeyError) -> str:
    """What a part needs of another one that does not have it."""
    missing = re.findall(r"'(\w+)(?:\.(\w+))?' not found", str(error))
    group, key = missing[0] if missing else ("", "")
    if group == "recipe" and (there := trainable("space")) and names["space"] not in there:
        return (
            f"{part}={names[part]}: space={names['space']} has no networks to train; allowed: "
            + ", ".join(there)
        )
    if group == "recipe":
        known = ", ".join(options("recipe"))
        return f"{part}={names[part]} needs a recipe=; space={names['space']} has none: {known}"
    line = (
        f"{part}={names[part]} needs {group}.{key}, which {group}={names.get(group, group)} "
        "does not have"
    )
    return f"{line}; allowed: {', '.join(trainable(group))}" if key == "load" else line


def _renamed(protocol: Protocol, choice: str) -> Protocol:
    """A protocol that differs from its yaml says so in its name."""
    if choice not in options("protocol"):
        return protocol
    published = asdict(build("protocol", choice))
    changed = {key: value for key, value in asdict(protocol).items() if value != published[key]}
    if not changed or "name" in changed:
        return protocol
    marks = [f"{key}={value}" for key, value in changed.items()]
    return replace(protocol, name=re.sub(r"[^\w=.,+-]", "", "+".join([protocol.name, *marks])))


def _remedy(
    factory: Callable[..., Objective], space: Space, dataset: str, protocol: Protocol
) -> str:
    """How to go on where an objective that trains does not take a protocol; empty if unknown."""
    recipe: Recipe | None = getattr(factory, "keywords", {}).get("recipe")
    if recipe is None:
        return ""

    def fits(other: Protocol) -> bool:
        try:
            factory(space, dataset, other)
        except ValueError:
            return False
        return True

    near = [name for name in options("protocol") if name.startswith(space.name)]
    known = {name: build("protocol", name) for name in near}
    told = remedy(protocol, recipe.epochs, known, fits)
    return f"; {told}" if told else ""


def _least(protocol: Protocol, budget: Budget) -> int:
    """What one evaluation takes of a budget, where that is known beforehand."""
    if protocol.overshoot == "keep_last":
        return 0
    return {"evaluations": 1, "epochs": protocol.fidelities[0]}.get(budget.clock, 0)


def _code(of: type) -> str:
    """12 digits of the SHA-256 of the code that defines a class: other code, other cell.

    That is its file and what this imports from its own package, there in turn.
    """
    home = Path(str(sys.modules[of.__module__].__file__))
    package = re.escape(of.__module__.rpartition(".")[0])
    sources: dict[Path, bytes] = {}
    waiting = [home]
    while waiting:
        path = waiting.pop()
        if path in sources or not path.is_file():
            continue
        sources[path] = path.read_bytes().replace(b"\r\n", b"\n")
        names = re.findall(rf"^from {package}\.(\w+) import", sources[path].decode(), re.MULTILINE)
        waiting += [path.with_name(f"{name}.py") for name in names]
    code = b"".join(sources[path] for path in sorted(sources))
    return hashlib.sha256(code).hexdigest()[:12]


def _instantiate(part: str, node: DictConfig, problems: list[str]) -> Any:
    values = {str(k): v for k, v in OmegaConf.to_container(node, resolve=True).items()}  # type: ignore[union-attr]
    log = logging.getLogger("hydra.utils")  # says the same again, in three lines
    try:
        log.disabled = True
        target = get_object(values["_target_"])
    except ImportError as error:
        lacks_torch = "No module named 'torch" in str(error)
        line = "needs PyTorch: pip install 'nas-arena[train]'" if lacks_torch else str(error)
        problems.append(f"{part}: {values['_target_']} {line}")
        return None
    finally:
        log.disabled = False
    wrong = _misfits(part, target, values)
    if not wrong:
        try:
            return instantiate(node, _convert_="all")
        except Exception as error:  # Hydra wraps what the constructor raised
            wrong.append(f"{part}.{error.__cause__ or error}")
    problems += wrong
    return None


def _misfits(where: str, target: Any, values: dict[str, Any]) -> list[str]:
    """What does not fit the annotations of a target, and of the targets within."""
    hints = get_type_hints(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009 (any class)
    nested = {key: value for key, value in values.items() if _is_target(value)}
    plain = {
        key: value for key, value in values.items() if not key.startswith("_") and key not in nested
    }
    wrong = misfits(f"{where}.", plain, hints)
    for key, value in nested.items():
        wrong += _misfits(f"{where}.{key}", get_object(value["_target_"]), value)
    return wrong


def _is_target(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value
