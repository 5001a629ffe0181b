"""The peer's side of nb101.py: `python nb101_peer.py NASBENCH FILE CELLS`.

NASBENCH holds the package `nasbench` of google-research/nasbench, which is not on PyPI. Its code
runs unchanged but for what needs TensorFlow: the iterator over records, here without checksums,
which flatters it, and the module that trains. Where the installed protobuf refuses the generated
module of 2019, the same message is made from the description in that file.

Answers `null` if something is not installed, else, after loading FILE and one query, its versions
and its memory; then, for every number read, how many seconds that many queries took.
"""

import ast
import contextlib
import itertools
import json
import struct
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
EDGES = tuple(itertools.combinations(range(7), 2))


def records(path: str) -> Iterator[bytes]:
    """What TensorFlow's iterator gives."""
    with Path(path).open("rb") as file:
        while head := file.read(12):
            payload = file.read(struct.unpack_from("<Q", head)[0])
            file.read(4)
            yield payload


def official(folder: str) -> Any:
    """The module `nasbench.api`."""
    sys.path.insert(0, folder)
    tensorflow: Any = ModuleType("tensorflow")
    tensorflow.python_io = SimpleNamespace(tf_record_iterator=records)
    sys.modules["tensorflow"] = tensorflow
    sys.modules["nasbench.lib.evaluate"] = ModuleType("nasbench.lib.evaluate")
    import nasbench.lib

    nasbench.lib.evaluate = sys.modules["nasbench.lib.evaluate"]
    try:
        import nasbench.lib.model_metrics_pb2
    except (TypeError, ImportError, AttributeError):  # protobuf 4 and later
        module = nasbench.lib.model_metrics_pb2 = message_module(folder)
        sys.modules["nasbench.lib.model_metrics_pb2"] = module
    from nasbench import api

    return api


def message_module(folder: str) -> Any:
    from google.protobuf import descriptor_pool, message_factory

    source = (Path(folder) / "nasbench/lib/model_metrics_pb2.py").read_text()
    (text,) = (
        part.value.args[0].value
        for part in ast.walk(ast.parse(source))
        if isinstance(part, ast.keyword) and part.arg == "serialized_pb"
        if isinstance(part.value, ast.Call)
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(text.encode("latin1"))
    module: Any = ModuleType("nasbench.lib.model_metrics_pb2")
    found = pool.FindMessageTypeByName("nasbench.ModelMetrics")
    module.ModelMetrics = message_factory.GetMessageClass(found)
    return module


def specification(genes: list[int]) -> tuple[list[list[int]], list[str]]:
    matrix = [[0] * 7 for _ in range(7)]
    for (i, j), edge in zip(EDGES, genes, strict=False):
        matrix[i][j] = edge
    return matrix, ["input", *(OPERATIONS[gene] for gene in genes[len(EDGES) :]), "output"]


def resident() -> float:
    """MB of memory that this process holds."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    folder, file, cells = sys.argv[1:]
    genes = np.load(cells).tolist()
    try:
        api = official(folder)
    except ModuleNotFoundError as error:
        print(f"the peer lacks {error.name}", file=sys.stderr)
        print("null", flush=True)
        return
    with contextlib.redirect_stdout(sys.stderr):
        dataset = api.NASBench(file)
    dataset.query(api.ModelSpec(*specification(genes[0])))
    about = {"protobuf": version("protobuf"), "numpy": version("numpy"), "MB": resident()}
    print(json.dumps(about), flush=True)
    specifications = itertools.cycle(map(specification, genes))
    for line in sys.stdin:
        some = list(itertools.islice(specifications, int(line)))
        start = perf_counter()
        for matrix, operations in some:
            dataset.query(api.ModelSpec(matrix, operations))
        print(perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
