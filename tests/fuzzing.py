"""Bad files in large numbers: how they are made, and a child process in which they are read.

The child has a limit of memory, and is killed at a deadline: a reader that hangs or crashes takes
nobody with it. It answers with one line of JSON for each file.
"""

import base64
import bz2
import copy
import hashlib
import importlib
import inspect
import io
import json
import os
import pickle
import pickletools
import pkgutil
import re
import resource
import select
import shutil
import subprocess
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import published
from published import nats_tss

from bench import catalogue
from bench.data import Extra, check_source, digest_of, make_extra, make_table, read_further
from bench.parts import read_recipe
from bench.table import TableError, read_table
from spaces.nb101 import tfrecord

ROOT = Path(__file__).parent.parent
DEADLINE = 10.0  # seconds until a child is killed
MEMORY = 2 << 30  # bytes above what it has after reading a good file
LONGEST_SENTENCE = 1500
MARKER = "it_ran"

# ------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class Case:
    """A published form of a file that a reader takes."""

    name: str
    recipe: str | dict[str, Any]
    write: Callable[[Path], Path]

    def parts(self):
        """The recipe without the digest, which is checked apart; its space, reader and extra."""
        if isinstance(self.recipe, str):
            recipe, reader, extra = read_recipe(self.recipe)
        else:
            recipe, reader, extra = dict(self.recipe), None, None
            if "values" not in recipe:
                rules = {key: recipe[key] for key in ("architecture", "columns")}

                def extra(source, **more):
                    return read_further(source, **more, **rules)

        recipe.pop("source_sha256", None)
        return recipe, _spaces()[recipe["space"]], reader, extra


@cache
def _spaces():
    return catalogue.spaces()


def modules():
    """Every module in `tests/published` that writes files for a recipe."""
    names = [info.name for info in pkgutil.iter_modules(published.__path__)]
    found = [importlib.import_module(f"published.{name}") for name in sorted(names)]
    return [module for module in found if hasattr(module, "RECIPE")]


@cache
def cases():
    """Every form that a function `write…(folder)` of those modules makes, and files of users."""
    found = []
    for module in modules():
        short = module.__name__.rpartition(".")[2]
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not re.fullmatch(r"write(_\w+)?", name):
                continue
            first, *others = inspect.signature(function).parameters.values()
            if first.name != "folder" or any(one.default is one.empty for one in others):
                continue
            form = f"{short}{name.removeprefix('write')}"
            if "recipe" in [one.name for one in others]:
                found += [
                    Case(recipe, recipe, lambda folder, f=function, r=recipe: f(folder, r))
                    for recipe in module.FILES
                ]
            else:
                found.append(Case(form, module.RECIPE, function))
    found += [
        Case(f"user_{kind}", USER, lambda folder, k=kind: write_user(folder, k))
        for kind in ("csv", "json", "parquet")
    ]
    found.append(Case("user_further", FURTHER, lambda folder: write_user(folder, "csv")))
    return {case.name: case for case in found}


USER = {
    "space": "nb201",
    "architecture": "cell",
    "values": "accuracy_percent",
    "columns": [
        {"column": "v", "dataset": "d", "schedule": 12, "split": "valid", "epoch": 12, "seed": 1},
        {
            **{"column": "t", "dataset": "d", "schedule": 12, "split": "test", "epoch": 12},
            **{"seed": [1, 2], "separator": ";"},
        },
        {"column": "s", "dataset": "d", "schedule": 12, "metric": "train_seconds"},
        {"column": "p", "dataset": "d", "schedule": 12, "metric": "parameters", "scale": 1000.0},
    ],
}
FURTHER = {
    "space": "nb201",
    "architecture": "cell",
    "columns": [{"column": "s", "dataset": "d", "metric": "latency_mine"}],
}


def write_user(folder, kind):
    import pandas

    rng = np.random.default_rng(3)
    cells = nats_tss.strings()[:40]
    frame = pandas.DataFrame(
        {
            "cell": cells,
            "v": rng.uniform(10, 95, len(cells)),
            "t": [f"{one:.3f};{two:.3f}" for one, two in rng.uniform(10, 95, (len(cells), 2))],
            "s": rng.uniform(1, 30, len(cells)),
            "p": rng.integers(100, 2000, len(cells)),
        }
    )
    path = folder / f"mine.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "json":
        frame.to_json(path, orient="records")
    else:
        frame.to_parquet(path)
    return path


# -------------------------------------------------------------------------------- in the child


@dataclass
class Numbers:
    """All that was read, by what it is about: what is compared between a good and a bad file."""

    rows: dict[int, int]
    groups: dict[tuple[str, str], tuple[list[int], list[int], dict[str, Any]]]


def numbers_of(made, space):
    rows = {key: row for row, key in enumerate(space.keys(made.architectures).tolist())}
    if isinstance(made, Extra):
        groups = {(name, ""): ([], [], columns) for name, columns in made.columns.items()}
    else:
        groups = {
            key: (known.epochs.tolist(), known.seeds.tolist(), known.columns)
            for key, known in made.schedules.items()
        }
    return Numbers(rows, groups)


def compare(new, old):
    """`unchanged`, `fewer` where numbers are absent and none is another, else `altered`."""
    if not (new.rows.keys() <= old.rows.keys() and new.groups.keys() <= old.groups.keys()):
        return "altered"
    at = [old.rows[key] for key in new.rows]
    fewer = len(new.rows) < len(old.rows) or len(new.groups) < len(old.groups)
    for key, (epochs, seeds, columns) in new.groups.items():
        old_epochs, old_seeds, old_columns = old.groups[key]
        known = set(epochs) <= set(old_epochs) and set(seeds) <= set(old_seeds)
        if not known or not columns.keys() <= old_columns.keys():
            return "altered"
        places = [old_epochs.index(one) for one in epochs], [old_seeds.index(s) for s in seeds]
        fewer |= len(epochs) < len(old_epochs) or len(seeds) < len(old_seeds)
        fewer |= len(columns) < len(old_columns)
        for name, values in columns.items():
            other = old_columns[name][at]
            if other.ndim == 3:
                other = other[:, places[0]]
            if other.ndim > 1:
                other = other[..., places[1]]
            there = ~np.isnan(values)
            if values.shape != other.shape or (values[there] != other[there]).any():
                return "altered"
            fewer |= bool((~np.isnan(other) & ~there).any())
    return "fewer" if fewer else "unchanged"


class Reading:
    """What the child does with the files of one case."""

    def __init__(self, name):
        self.recipe, self.space, self.reader, self.extra = cases()[name].parts()

    def read(self, source):
        if self.extra is not None:
            return make_extra(source, self.space, self.recipe, self.extra)
        return make_table(source, self.space, self.recipe, self.reader, partial=True)

    def remember(self, source):
        self.good = numbers_of(self.read(source), self.space)
        self.digest = digest_of(source)

    def outcome(self, source):
        """What became of a bad file; whether the digest tells it, if nothing else does."""
        found = compare(numbers_of(self.read(source), self.space), self.good)
        if found != "unchanged":
            assert digest_of(source) != self.digest, "the digest is the same"
            if source.is_file():
                try:
                    check_source(source, {"source_sha256": self.digest})
                except TableError:
                    return found
                raise AssertionError("the digest is not looked at")
        return found


def serve():
    """Answer questions on the standard input: the child's whole life."""
    reading = None
    for line in sys.stdin:
        words = json.loads(line)
        source = Path(words.get("source", ""))
        try:
            if words["do"] == "open":
                reading = Reading(words["case"])
                if words.get("good"):
                    reading.remember(source)
                limit()
                answer = {"outcome": "ready"}
            elif words["do"] == "read":
                answer = {"outcome": reading.outcome(source)}
            elif words["do"] == "only read":
                reading.read(source)
                answer = {"outcome": "read"}
            elif words["do"] == "limit":
                limit()
                answer = {"outcome": "ready"}
            else:
                answer = {"outcome": "read", "values": digest_of_table(source)}
        except TableError as error:
            answer = {"outcome": "refused", "text": str(error)}
        except BaseException as error:
            answer = {"outcome": "traceback", "text": f"{error!r}\n{traceback.format_exc()}"}
        status = Path("/proc/self/status").read_text()  # what getrusage says includes the parent's
        answer["peak"] = int(status.partition("VmHWM:")[2].split()[0]) << 10
        print(json.dumps(answer), file=sys.__stdout__, flush=True)


def digest_of_table(source):
    table, digest = read_table(source), hashlib.sha256()
    for key, known in sorted(table.schedules.items()):
        arrays = {"epochs": known.epochs, "seeds": known.seeds, **known.columns}
        for name, values in arrays.items():
            digest.update(f"{key}{name}{values.dtype}{values.shape}".encode() + values.tobytes())
    return hashlib.sha256(digest.digest() + table.architectures.tobytes()).hexdigest()


def limit():
    warnings.simplefilter("error")  # a warning is no sentence either
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


# -------------------------------------------------------------------------------- in the parent


@dataclass
class Child:
    """A child process that reads files; started again after it was killed or died."""

    folder: Path
    """Where it works: it must write nothing there."""
    opening: dict[str, Any]
    started: int = 0
    peak: int = 0
    """Bytes of memory: the highest of any of its lives."""
    process: Any = field(default=None, repr=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def start(self):
        self.folder.mkdir(exist_ok=True)
        self.started += 1
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import fuzzing; fuzzing.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        )
        answer = self.tell(self.opening, 120)
        assert answer["outcome"] == "ready", answer

    def ask(self, do, source):
        """What becomes of a file: refused, read, …, or hang, crash."""
        if self.process is None:
            self.start()
        return self.tell({"do": do, "source": str(source)}, DEADLINE)

    def tell(self, words, deadline):
        try:
            self.process.stdin.write(json.dumps(words).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self.lost("crash")
        if not select.select([self.process.stdout], [], [], deadline)[0]:
            return self.lost("hang")
        line = self.process.stdout.readline()
        if not line:
            return self.lost("crash")
        answer = json.loads(line)
        self.peak = max(self.peak, answer["peak"])
        return answer

    def lost(self, outcome):
        status = self.process.poll()
        self.end()
        return {"outcome": outcome, "text": f"status {status}"}


def complaint(answer, names):
    """What is wrong with how a bad file was met, or an empty text."""
    if answer["outcome"] in ("unchanged", "fewer", "altered", "read"):
        return ""
    text = answer["text"]
    if answer["outcome"] != "refused":
        return f"{answer['outcome']}: {text}"
    if not text.isprintable() or len(text) > LONGEST_SENTENCE:
        return f"no sentence: {text!r:.3000}"
    return "" if any(name in text for name in names) else f"names no file of {names}: {text}"


# ------------------------------------------------------------------------------- spoilt bytes


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def flip(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def zero(data, rng):
    at = 512 * rng.randrange((len(data) + 511) // 512)
    size = min(512, len(data) - at)
    return data[:at] + bytes(size) + data[at + size :]


def duplicate(data, rng):
    start, size = rng.randrange(len(data)), rng.randint(1, 600)
    return data[: start + size] + data[start:]


def insert(data, rng):
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 600)) + data[at:]


def swap(data, rng):
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


RAW = (cut, flip, flip, zero, duplicate, insert, swap)


def kind_of(data, name):
    for start, kind in (b"BZh", "bz2"), (b"PK\3\4", "zip"), (b"PAR1", "parquet"):
        if data.startswith(start):
            return kind
    if name.endswith(".tfrecord"):
        return "tfrecord"
    if data[:1] == b"\x80":
        return "pickle"
    if data[:1] in (b"{", b"["):
        return "json"
    return "text"


CHECKED = ("bz2", "zip", "tfrecord")  # containers with a checksum of all that is in them


def pickles(data):
    """The pickles that a file holds, one after the other, and what follows them."""
    found, file = [], io.BytesIO(data)
    while file.tell() < len(data):
        start = file.tell()
        for code, _, _ in pickletools.genops(file):
            if code.name == "STOP":
                break
        found.append(data[start : file.tell()])
    return found


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info, archive.read(info)) for info in archive.infolist()]


def zipped(parts):
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # the same name twice is what is wanted
        for info, data in parts:
            one = zipfile.ZipInfo(info.filename)
            one.compress_type, one.external_attr = info.compress_type, info.external_attr
            archive.writestr(one, data)
    return buffer.getvalue()


def records(data):
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        found.append(data[at + 12 : at + 12 + size])
        at += 16 + size
    return found


def boundaries(data, kind):
    """Where one part of a file ends and the next begins."""
    if kind == "pickle":
        places, start = [], 0
        for part in pickles(data):
            places += [start + at for _, _, at in pickletools.genops(part)]
            start += len(part)
        return places
    if kind == "json":
        return [found.end() for found in re.finditer(rb"[][{}:,]", data)]
    if kind == "text":
        return [found.end() for found in re.finditer(rb"[\n,;]", data)]
    if kind == "zip":
        return [found.start() for found in re.finditer(rb"PK[\1-\6][\1-\6]", data)]
    if kind == "tfrecord":
        starts = np.cumsum([0, *(len(part) + 16 for part in records(data))])[:-1].tolist()
        return [at + part for at in starts for part in (0, 8, 12)]
    return [4, 10, len(data) - 10, len(data) - 8, len(data) - 4]


def inside(data, kind, change, rng):
    """A container with another content, and checksums that are right; None where it is none."""
    if kind == "bz2":
        return bz2.compress(change(bz2.decompress(data), "inner"))
    if kind == "zip":
        parts = members(data)
        at = rng.choice([n for n, (_, part) in enumerate(parts) if part] or [0])
        info, part = parts[at]
        parts[at] = info, change(part, info.filename)
        return zipped(parts)
    if kind == "tfrecord":
        parts = records(data)
        at = rng.randrange(len(parts))
        parts[at] = change(parts[at], "record.json")
        return tfrecord.frame(parts)
    return None


def spoil(data, name, rng):
    """A spoilt file, and whether checksums that it carries must tell."""
    kind = kind_of(data, name)
    if kind not in CHECKED or rng.random() < 0.4:
        whole = rng.random() < 0.5 and rearranged(data, kind, rng)
        return whole or rng.choice(RAW)(data, rng), kind in CHECKED and not whole
    return inside(data, kind, lambda part, inner: spoil(part, inner, rng)[0], rng), False


def rearranged(data, kind, rng):
    """A file of the right form with another content; None where we do not know the form."""
    if kind == "pickle":
        parts = pickles(data)
        at = rng.randrange(len(parts))
        protocol = parts[at][1] if parts[at][:1] == b"\x80" else 0
        parts[at] = pickle.dumps(changed(pickle.loads(parts[at]), rng), protocol=protocol)
        return b"".join(parts)
    if kind == "json":
        return changed_json(data, rng)
    if kind == "zip":
        return zipped(changed_list(members(data), rng))
    if kind == "tfrecord":
        return tfrecord.frame(changed_list(records(data), rng))
    if kind == "text":
        lines = [changed_list(line.split(b","), rng) for line in data.split(b"\n")]
        few = rng.randrange(len(lines))
        kept = data.split(b"\n")
        kept[few] = b",".join(lines[few])
        return b"\n".join(kept if rng.random() < 0.6 else changed_list(kept, rng))
    return None


def changed_json(data, rng):
    if rng.random() < 0.15:  # a key that stands there twice, the second time with another value
        pairs = list(re.finditer(rb'"[^"\\]+": ?(-?[\d.]+)', data))
        if pairs:
            pair = rng.choice(pairs)
            twin = pair[0].replace(pair[1], b"4" + pair[1].lstrip(b"-"))
            return data[: pair.end()] + b", " + twin + data[pair.end() :]
    value = json.loads(data)
    if isinstance(value, list) and len(value) == 5 and rng.random() < 0.6:
        value[4] = base64.b64encode(rng.choice(RAW)(base64.b64decode(value[4]), rng)).decode()
        return json.dumps(value).encode()
    return json.dumps(changed(value, rng)).encode()


def changed_list(values, rng):
    """A list with something missing, twice, or in another order."""
    found, at = list(values), rng.randrange(len(values)) if values else 0
    how = rng.randrange(5)
    if how == 0:
        del found[at:]
    elif how == 1:
        del found[at : at + 1]
    elif how == 2:
        found[at:at] = found[at : at + 1]
    elif how == 3:
        rng.shuffle(found)
    else:
        found = found + found
    return found


def changed(value, rng):
    """A copy of nested containers with one thing in them that is not as it was."""
    go_on = rng.random() < 0.85
    if isinstance(value, dict) and value:
        found, key = copy.copy(value), rng.choice(list(value))
        if go_on:
            found[key] = changed(value[key], rng)
            return found
        del found[key]
        if rng.random() < 0.5:  # under another name, or in the place of another
            other = rng.choice([f"{key}x", str(key), 10**6, -1, *value])
            found[other] = value[key]
        return found
    if isinstance(value, list | tuple) and value:
        found = list(value)
        if go_on:
            at = rng.randrange(len(found))
            found[at] = changed(found[at], rng)
        else:
            found = changed_list(found, rng)
        return found if isinstance(value, list) else tuple(found)
    if isinstance(value, set) and value and go_on:
        return set(list(value)[1:]) | ({"x", -5} if rng.random() < 0.5 else set())
    if isinstance(value, np.ndarray) and go_on:
        found = value.astype(object) if rng.random() < 0.2 else value.copy()
        return found[:-1] if rng.random() < 0.5 else np.where(found == found[0], np.nan, found)
    return rng.choice(spoilt_leaves(value))


def spoilt_leaves(value):
    found = [None, True, "", [], {}, b"\xff", -1, 0, 2**70, 10**400, 1e300, float("nan")]
    found += [float("inf"), -float("inf"), "\x1b[31m", "../../../etc/passwd", ["x"] * 3]
    found = [one for one in found if not isinstance(one, bytes)]
    if isinstance(value, int | float | np.generic) and not isinstance(value, bool):
        number = float(value)
        plain = [-number, number + 1, number * 1000, number / 100, str(value), number]
        found += plain * 2
    if isinstance(value, str):
        found += [value + "x", value[:-1], value[::-1], value.upper(), "\ud800", value * 5000]
        found += [value.replace("1", "2"), value.replace("0", "1"), value + "\0"]
    return found


# ------------------------------------------------------------------------------ spoilt sources


def files_of(source):
    """The contents of a file, or of all files in a folder."""
    paths = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
    return {path: path.read_bytes() for path in sorted(paths)}


def mutants(source, rng, count):
    """Spoil a source `count` times; yields what was spoilt, how, and whether checksums must tell.

    In the meantime the source is as good as before.
    """
    files = files_of(source)
    yield from _cuts(files, rng, count // 3)
    for number in range(count - count // 3):
        if source.is_dir() and number % 5 == 4:
            yield from _other_files(source, files, number // 5)
            continue
        path = rng.choice(list(files))
        data, checked = spoil(files[path], path.name, rng)
        yield from _in_place(path, files[path], data, checked)


def _in_place(path, good, bad, checked):
    path.write_bytes(bad)
    yield [path.name], checked
    path.write_bytes(good)


def _cuts(files, rng, count):
    """Files that end where one of their parts does; half of containers inside of these."""
    for number in range(count):
        path = list(files)[number * len(files) // count]
        data, kind = files[path], kind_of(files[path], path.name)
        share = (number + 0.5) / count * len(files) % 1

        def shorter(part, name, share=share):
            places = boundaries(part, kind_of(part, name))
            return part[: places[int(share * len(places))]]

        within = number % 2 and inside(data, kind, shorter, rng)
        bad = within or shorter(data, path.name)
        yield from _in_place(path, data, bad, kind in ("bz2", "zip") and not within)


def _other_files(source, files, number):
    """A folder in which a file is missing, something else, twice, or new."""
    path = list(files)[number % len(files)]
    twin = path.with_name(f"{path.stem}_twin{path.suffix}")
    away = source.parent / "away"
    how = number % 6
    if how in (0, 1, 2, 3):
        path.rename(away)
        if how == 1:
            path.mkdir()
        elif how == 2:
            os.mkfifo(path)
        elif how == 3:
            path.symlink_to(path.name)  # to itself
    elif how == 4:
        shutil.copy(path, twin)
    else:
        twin.write_bytes(b"")
    yield [source.name, path.name, twin.name], False
    if how in (0, 1, 2, 3):
        if how == 1:
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        away.rename(path)
    else:
        twin.unlink()
