"""Files of NAS-Bench-101 in their official format, with random results."""

import base64
import json
import struct
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from spaces.nb101.graph import (
    EDGES,
    INNER,
    VERTICES,
    canonical_all,
    md5_hash,
    prune,
    prune_all,
    valid_edges,
)
from spaces.nb101.space import NB101, matrix_of, operations_of
from spaces.nb101.tfrecord import frame

RECIPE = "nb101"
LENGTHS = (4, 12, 36, 108)
REPEATS = 3
SPACE = NB101()


def some_cells(count, seed=0):
    """Different cells as genes, `[count, 26]`: no two isomorphic."""
    if count > 100_000:  # random draws would hardly find the last of them
        return every_network()[:count]
    rng, seen, found = Random(seed), set(), []
    while len(found) < count:
        draws = np.frombuffer(rng.randbytes(26 * 4096), np.uint8).reshape(4096, 26)
        genes = (draws % np.array(SPACE.choices)).astype(np.int8)
        genes = genes[[SPACE.contains(arch) for arch in map(tuple, genes.tolist())]]
        for arch, key in zip(genes, SPACE.keys(genes).tolist(), strict=True):
            if key not in seen:
                seen.add(key)
                found.append(arch)
    return np.array(found[:count])


def compact_cells():
    """Edges and operations, as bits, of every cell without unused vertices: 1,293,208."""
    structures = np.unique(prune_all(valid_edges())[1])
    inner = structure_sizes(structures)
    edges, labels = [], []
    for count in np.unique(inner).tolist():
        values = np.indices((3,) * count).reshape(count, 3**count)
        places = 4 ** np.arange(INNER - 1, INNER - 1 - count, -1)
        bits = (values * places[:, None]).sum(0).astype(np.uint32)
        some = structures[inner == count]
        edges.append(np.repeat(some, len(bits)))
        labels.append(np.tile(bits, len(some)))
    return np.concatenate(edges), np.concatenate(labels)


def structure_sizes(edges):
    """How many inner vertices are entered."""
    into = [sum(1 << 20 - at for at, edge in enumerate(EDGES) if edge[1] == v) for v in range(1, 6)]
    return sum((edges & np.uint32(bits) > 0).astype(int) for bits in into)


def every_network():
    """The genes of one cell of each class of isomorphic ones, `[423624, 26]`."""
    keys = np.unique(canonical_all(*compact_cells())).astype(np.int64)
    return genes_of(keys >> 10, keys & 1023)


def genes_of(edges, labels):
    """Genes from bits, one cell or several."""
    places = np.arange(20, -1, -1), np.arange(8, -1, -2)
    edges, labels = np.asarray(edges, np.int64), np.asarray(labels, np.int64)
    bits = edges[..., None] >> places[0] & 1, labels[..., None] >> places[1] & 3
    return np.concatenate(bits, -1).astype(np.int8)


def pruned(arch):
    """Matrix and labels of the cell that the official files hold: without unused vertices."""
    kept, _ = prune(int("".join(map(str, arch[: len(EDGES)])), 2))
    there = [v for v in range(VERTICES) if v in (0, VERTICES - 1) or kept >> VERTICES - 2 - v & 1]
    matrix, labels = matrix_of(arch), operations_of(arch)
    return [[matrix[i][j] for j in there] for i in there], [labels[v] for v in there]


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def evaluation(*values):
    """An `EvaluationData` message: epoch, seconds, train, validation and test accuracy."""
    return b"".join(
        bytes([number << 3 | 1]) + struct.pack("<d", value)
        for number, value in enumerate(values, 1)
    )


def metrics(evaluations, parameters, seconds):
    """A `ModelMetrics` message, in base64."""
    parts = [b"\x0a" + varint(len(part)) + part for part in evaluations]
    whole = b"".join([*parts, b"\x10", varint(parameters), b"\x19", struct.pack("<d", seconds)])
    return base64.b64encode(whole).decode()


def trained(rng, length):
    """Random results of one training: the evaluations before it, half-way and at its end."""
    seconds = rng.uniform(3, 30)
    return [
        (
            share * length,
            share * length * seconds,
            *(rng.randint(800, 10000) / 10000 for _ in "tvt"),
        )
        for share in (0.0, 0.5, 1.0)
    ]


def record(published, length, matrix, labels, evaluations, parameters):
    """The payload of one record."""
    adjacency = "".join(str(bit) for row in matrix for bit in row)
    message = metrics([evaluation(*one) for one in evaluations], parameters, 1.5)
    return json.dumps([published, length, adjacency, ",".join(labels), message]).encode()


def results(cells, lengths=LENGTHS, seed=0):
    """For each cell genes, parameters, and what `trained` gives by length and repeat."""
    rng = Random(seed)
    for arch in map(tuple, some_cells(cells, seed).tolist()):
        yield (
            arch,
            rng.randint(200_000, 49_000_000),
            {length: [trained(rng, length) for _ in range(REPEATS)] for length in lengths},
        )


def payloads(cells, lengths=LENGTHS, seed=0):
    for arch, parameters, by_length in results(cells, lengths, seed):
        matrix, labels = pruned(arch)
        published = md5_hash(matrix, labels)
        for length, repeats in by_length.items():
            for evaluations in repeats:
                yield record(published, length, matrix, labels, evaluations, parameters)


def write_payloads(path, some):
    some = iter(some)
    with path.open("wb") as file:
        while block := list(islice(some, 4096)):
            file.write(frame(block))
    return path


def write(folder: Path, cells: int = 6, lengths: tuple[int, ...] = LENGTHS) -> Path:
    """A file of so many cells, three trainings for each of the lengths."""
    name = "nasbench_only108.tfrecord" if lengths == (108,) else "nasbench_full.tfrecord"
    return write_payloads(folder / name, payloads(cells, lengths))
