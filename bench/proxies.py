"""Zero-cost proxies from the files of NAS-Bench-Suite-Zero (Krishnakumar et al., NeurIPS 2022).

A file `zc_<space>.json` maps data set -> text of an architecture -> proxy -> {score, time};
older ones put the name of the space above that and plain scores below it. Missing scores have a
number of their own: the code that made the files wrote -1e8 for what was not finite, and took
the logarithm of synflow afterwards (naslib/predictors/zerocost.py, automl/NASLib@1321371).

`val_accuracy` is left out: on NAS-Bench-201 it is a test accuracy.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import Extra, Progress
from bench.recipe import shown
from bench.space import Architecture, Space
from bench.table import TableError

PROXIES = (
    *("epe_nas", "fisher", "flops", "grad_norm", "grasp", "jacov", "l2_norm"),
    *("nwot", "params", "plain", "snip", "synflow", "zen"),
)
MISSING = -1e8
LONGEST = 1000  # characters of the text of an architecture
LARGEST = 3.4e38  # a bit less than the largest float32
Decode = Callable[[Any], Architecture]


def read_proxies(source: Path, *, space: Space, decode: Decode, progress: Progress) -> Extra:
    """Read a file of proxies as columns `proxy_<name>`, in the units of the file.

    Where several encodings are one network to `space.keys`, their scores are averaged: each is a
    measurement of its own, with weights of its own.

    Args:
        decode: makes an architecture of the lists of whole numbers that stand for it; raises
            ValueError, IndexError or TypeError where they cannot.

    Raises:
        TableError: the file is damaged, or no such file.
    """
    tables = _datasets(source, _read_json(source))
    texts = list(dict.fromkeys(text for records in tables.values() for text in records))
    genes = np.array(
        [_decoded(source, text, space, decode) for text in progress(texts, len(texts))], np.int8
    ).reshape(len(texts), len(space.choices))
    _, first, network = np.unique(space.keys(genes), return_index=True, return_inverse=True)
    if len(np.unique(genes, axis=0)) < len(genes):
        raise TableError(f"{source.name} lists an architecture twice")
    columns = {}
    for dataset, records in tables.items():
        scores = _scores(source, dataset, [records.get(text, {}) for text in texts])
        known = {name: _mean(values, network) for name, values in scores.items()}
        columns[dataset] = {
            f"proxy_{name}": values for name, values in known.items() if not np.isnan(values).all()
        }
    if not any(columns.values()):
        raise TableError(f"{source.name} holds none of the proxies {', '.join(PROXIES)}")
    return Extra(genes[first], columns)


def _read_json(source: Path) -> Any:
    def no_twins(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise TableError(f"{source.name} has a key twice in one object")
        return found["score"] if found.keys() == {"score", "time"} else found

    try:
        with source.open(encoding="utf-8") as file:
            return json.load(file, object_pairs_hook=no_twins)
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{source.name} cannot be read as JSON: {error}") from None


def _datasets(source: Path, content: Any) -> dict[str, dict[str, Any]]:
    """The records by data set and text of an architecture, whichever form the file has."""
    if isinstance(content, dict) and len(content) == 1:
        (inner,) = content.values()
        if isinstance(inner, dict) and not any(text.startswith(("(", "[")) for text in inner):
            content = inner
    well_formed = isinstance(content, dict) and all(
        isinstance(records, dict) and all(isinstance(record, dict) for record in records.values())
        for records in content.values()
    )
    if not well_formed or not any(content.values()):
        raise TableError(
            f"{source.name} is no file of NAS-Bench-Suite-Zero: data set -> architecture -> "
            "proxy -> score"
        )
    found: dict[str, dict[str, Any]] = content
    return found


def _decoded(source: Path, text: str, space: Space, decode: Decode) -> Architecture:
    """The architecture that a text such as `(4, 3, 3, 3, 2, 3)` stands for."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        arch = tuple(decode(json.loads(text.translate({40: "[", 41: "]"}))))
        if not space.contains(arch):
            raise ValueError
    except (ValueError, IndexError, TypeError, RecursionError):
        raise TableError(
            f"{source.name}: {shown(text)} is no architecture of {space.name}"
        ) from None
    return arch


def _scores(
    source: Path, dataset: str, records: Sequence[Mapping[str, Any]]
) -> dict[str, NDArray[np.float64]]:
    """Each proxy's scores, NaN where there is none."""
    found = {}
    for name in PROXIES:
        missing = {MISSING, -math.log(-MISSING)} if name == "synflow" else {MISSING}
        values = [record.get(name) for record in records]
        wrong = [
            value
            for value in values
            if not (value is None or (isinstance(value, int | float) and not _is_odd(value)))
        ]
        if wrong:
            raise TableError(
                f"{source.name}, {dataset}: {name} is {shown(wrong[0])}; allowed: a finite number"
            )
        found[name] = np.array(
            [math.nan if value is None or value in missing else value for value in values], float
        )
    return found


def _is_odd(value: float) -> bool:
    """Whether a value is a truth value, infinite, or beyond what a table can hold."""
    return isinstance(value, bool) or abs(value) > LARGEST


def _mean(values: NDArray[np.float64], network: NDArray[np.intp]) -> NDArray[np.float32]:
    """The mean over the measurements of each network; NaN where there is none."""
    known = ~np.isnan(values)
    count = np.bincount(network, known)
    total = np.bincount(network, np.where(known, values, 0))
    mean = np.full(len(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean.astype(np.float32)
