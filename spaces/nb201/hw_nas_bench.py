"""Reader of HW-NAS-Bench (Li et al., ICLR 2021) for its NAS-Bench-201 part."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import Extra, Progress
from bench.pickled import restricted_load
from bench.recipe import shown
from bench.space import Space
from bench.table import TableError

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
MILLI = 1e-3  # published are milliseconds and millijoules
LARGEST = 1_000_000  # of any metric; a quarter of an hour
METRICS = {
    "edgegpu_latency": ("latency_edgegpu", MILLI),
    "edgegpu_energy": ("energy_edgegpu", MILLI),
    "raspi4_latency": ("latency_raspi4", MILLI),
    "edgetpu_latency": ("latency_edgetpu", MILLI),
    "pixel3_latency": ("latency_pixel3", MILLI),
    "eyeriss_latency": ("latency_eyeriss", MILLI),
    "eyeriss_energy": ("energy_eyeriss", MILLI),
    "eyeriss_arithmetic_intensity": ("arithmetic_intensity_eyeriss", 1),
    "fpga_latency": ("latency_fpga", MILLI),
    "fpga_energy": ("energy_fpga", MILLI),
}


def hw_nas_bench(source: Path, *, space: Space, progress: Progress) -> Extra:
    """`HW-NAS-Bench-v1_0.pickle`: costs on six devices, as seconds and joules.

    The pickle maps `nasbench201` -> data set -> metric -> values in the order of the list `config`
    beside them, whose entries hold `arch_str` (hw_nas_bench_api of GATECH-EIC/HW-NAS-Bench).
    The part `fbnet` is of another space.

    Raises:
        TableError: `source` is not that file.
    """
    try:
        with source.open("rb") as file:
            content = restricted_load(file, NUMPY)
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror}") from None
    except TableError as error:
        raise TableError(f"{source.name}: {error}") from None
    part = content.get("nasbench201") if isinstance(content, dict) else None
    if not isinstance(part, dict) or not all(isinstance(part.get(d), dict) for d in DATASETS):
        raise TableError(
            f"{source.name} is not HW-NAS-Bench: nasbench201 -> {', '.join(DATASETS)} -> metric"
        )
    texts = {dataset: _texts(source, part[dataset]) for dataset in DATASETS}
    if any(some != texts[DATASETS[0]] for some in texts.values()):
        raise TableError(f"{source.name}: the data sets list different architectures")
    try:
        genes = [space.from_string(text) for text in texts[DATASETS[0]]]
    except ValueError as error:
        raise TableError(f"{source.name}: {error}") from None
    columns = {
        dataset: {
            column: (scale * _values(source, dataset, part[dataset], metric, len(genes))).astype(
                np.float32
            )
            for metric, (column, scale) in METRICS.items()
        }
        for dataset in progress(DATASETS)
    }
    return Extra(np.array(genes, np.int8).reshape(len(genes), len(space.choices)), columns)


def _texts(source: Path, metrics: dict[str, Any]) -> list[str]:
    configs = metrics.get("config")
    if not isinstance(configs, list) or not all(
        isinstance(config, dict) and isinstance(config.get("arch_str"), str) for config in configs
    ):
        raise TableError(f"{source.name} lacks a list `config` of architectures with arch_str")
    return [config["arch_str"] for config in configs]


def _values(
    source: Path, dataset: str, metrics: dict[str, Any], metric: str, count: int
) -> NDArray[np.float64]:
    where = f"{source.name}, {dataset}: {metric}"
    values = metrics.get(metric)
    if isinstance(values, _Array):
        values = values.numbers(where)
    if not isinstance(values, list) or len(values) != count:
        held = f"{len(values):,}" if isinstance(values, list) else "no"
        raise TableError(f"{where} has {held} values for {count:,} architectures")
    wrong = [
        value
        for value in values
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST
    ]
    if wrong:
        raise TableError(f"{where} is {shown(wrong[0])}; allowed: 0 to {LARGEST:,}")
    return np.array(values, float)


class _Dtype:
    """Stands for `numpy.dtype`, of which a damaged file could make one that crashes numpy."""

    order = "<"

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("f4", "f8", "i4", "i8"):
            raise TableError(f"it holds values of type {shown(code)}; allowed: numbers")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def read(self, data: bytes) -> list[float]:
        numbers: list[float] = np.frombuffer(data, self.order + self.code).tolist()
        return numbers


def _scalar(dtype: _Dtype, data: bytes) -> float:
    (value,) = dtype.read(data)
    return value


class _Array:
    """Stands for a numpy array of one dimension."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def numbers(self, where: str) -> list[float]:
        try:
            _, (count,), dtype, _, data = self.state
            numbers: list[float] = data if isinstance(data, list) else dtype.read(data)
        except (AttributeError, TypeError, ValueError):
            raise TableError(f"{where} is no array of one dimension") from None
        if len(numbers) != count:
            raise TableError(f"{where} has {len(numbers):,} of its {count} values")
        return numbers


class _ArrayType:
    """Stands for `numpy.ndarray`, which the pickle of an array names but does not call."""


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, *_: object) -> bytes:
    """Stands for `codecs.encode`, by which pickles before protocol 3 hold bytes."""
    return text.encode("latin1")


NUMPY = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _ArrayType,
    ("_codecs", "encode"): _encode,
} | {
    (module, name): stand_in
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name, stand_in in (("scalar", _scalar), ("_reconstruct", _reconstruct))
}
