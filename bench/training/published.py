"""Readers of published data sets of images, which check that the content is the published one."""

import gzip
import hashlib
from math import prod
from pathlib import Path
from typing import Any

import torch

from bench.pickled import Kind, old_bytes, restricted_load
from bench.table import TableError
from bench.training.data import Split
from bench.training.places import find, places
from bench.training.vision import torchvision

CIFAR10 = {  # SHA-256 of the pixels as bytes [n, height, width, channels], and of the labels
    "train": (
        "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    ),
    "test": (
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
FASHION_MNIST = {  # SHA-256, uncompressed, of the files whose MD5 torchvision knows
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
LARGEST_IDX = 1 << 26  # bytes


def read_cifar(name: str, folder: str | None = None) -> tuple[Split, Split]:
    """The training and the test part of `CIFAR10` or `CIFAR100`, as torchvision names them.

    Files that are not the published ones are read without running anything in them, and count
    as CIFAR-10 if their pixels and labels are the published ones.

    Raises:
        FileNotFoundError: it is in none of the places.
        ValueError: the files hold something else.
    """
    kind = getattr(torchvision().datasets, name)
    files = [file for file, _ in [*kind.train_list, *kind.test_list]]
    home = find(
        name,
        [place / kind.base_folder for place in places(folder)],
        files,
        f"`nas-arena data get {name.lower()}` brings them",
    )
    try:
        parts = [kind(home.parent, train=train) for train in (True, False)]
    except RuntimeError:  # at least one MD5 is another
        return _read_converted(home, kind)
    train, test = (_split(torch.from_numpy(part.data), part.targets) for part in parts)
    return train, test


def _split(pixels: torch.Tensor, labels: list[int]) -> Split:
    """From images with channels last, as torchvision has them."""
    return pixels.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _read_converted(home: Path, kind: Any) -> tuple[Split, Split]:
    """Both parts of CIFAR-10 from files that somebody converted."""
    again = f"remove {home} and run `nas-arena data get {kind.__name__.lower()}`"
    if kind.__name__ != "CIFAR10":
        raise ValueError(f"{home} holds other files than published: their MD5 differs; {again}")
    found = {}
    for part, listed in ("train", kind.train_list), ("test", kind.test_list):
        batches = [_read_batch(home / name) for name, _ in listed]
        pixels = torch.cat([pixels for pixels, _ in batches])
        labels = [label for _, some_labels in batches for label in some_labels]
        if (digest(pixels), hashlib.sha256(bytes(labels)).hexdigest()) != CIFAR10[part]:
            raise ValueError(
                f"{home} is not CIFAR-10: neither its files nor the pixels and labels of its "
                f"{part} part are the published ones; {again}"
            )
        found[part] = _split(pixels, labels)
    return found["train"], found["test"]


def digest(pixels: torch.Tensor) -> str:
    """SHA-256 of the bytes of a contiguous tensor of uint8."""
    return hashlib.sha256(pixels.numpy().data.cast("B")).hexdigest()


class Array:
    """Stands for a numpy array of bytes in a pickle, and for the call that makes it."""

    def __init__(self, *_: Any) -> None:
        self.data = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, data = state
        if not isinstance(kind, Kind) or kind.form[1:] != "B" or by_columns:
            raise TableError("an array of something else than bytes, row by row")
        if type(data) is not bytes or prod(shape) != len(data):
            raise TableError("an array of another size than it says")
        self.data = data


ARRAYS = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Kind,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("_codecs", "encode"): old_bytes,
}


def _read_batch(path: Path) -> tuple[torch.Tensor, list[int]]:
    """Pixels `[n, 32, 32, 3]` and labels of a file that is not trusted."""
    try:
        with path.open("rb") as file:
            batch = restricted_load(file, ARRAYS)
    except TableError as error:
        raise ValueError(f"{path}: {error}") from None
    values = batch if isinstance(batch, dict) else {}
    pixels, labels = (values.get(key, values.get(key.encode())) for key in ("data", "labels"))
    if (
        not isinstance(pixels, Array)
        or not isinstance(labels, list)
        or len(pixels.data) != 3072 * len(labels)
        or not all(type(label) is int and 0 <= label < 10 for label in labels)
    ):
        raise ValueError(f"{path} is no batch of CIFAR-10: pixels or labels are wrong")
    by_channel = torch.frombuffer(bytearray(pixels.data), dtype=torch.uint8)
    return by_channel.reshape(-1, 3, 32, 32).permute(0, 2, 3, 1).contiguous(), labels


def read_fashion_mnist(folder: str | None = None) -> tuple[Split, Split]:
    """The training and the test part of Fashion-MNIST, compressed or not.

    Raises:
        FileNotFoundError: it is in none of the places.
        ValueError: the files hold something else.
    """
    home = find(
        "Fashion-MNIST",
        [*(place / "FashionMNIST" / "raw" for place in places(folder)), DEBIAN],
        FASHION_MNIST,
        "`nas-arena data get fashion_mnist` or `apt install dataset-fashion-mnist` brings them",
        endings=("", ".gz"),
    )
    found = [_read_idx(home, name) for name in FASHION_MNIST]
    train, test = ((found[at][:, None], found[at + 1].long()) for at in (0, 2))
    return train, test


def _read_idx(home: Path, name: str) -> torch.Tensor:
    """An array of bytes in the format IDX (LeCun et al.), its content checked."""
    path = home / name
    try:
        if path.exists():
            with path.open("rb") as file:
                data = file.read(LARGEST_IDX)
        else:
            path = home / f"{name}.gz"
            with gzip.open(path) as file:
                data = file.read(LARGEST_IDX)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if hashlib.sha256(data).hexdigest() != FASHION_MNIST[name]:
        raise ValueError(f"{path} is not of Fashion-MNIST: its content is another")
    start = 4 + 4 * data[3]  # two bytes of zero, a type, the number of dimensions, those
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).reshape(shape)
