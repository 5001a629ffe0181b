"""Data sets of images, read from where torchvision keeps them.

The validation part is carved from the training part by `bench.training.data.carve`. NAS-Bench-201
halves CIFAR-10 likewise, but by a list of indices of its own (Dong & Yang, 2020, section 2.2),
which is in no copy of the data set: ours are other halves, of the same sizes, for everybody.
"""

import importlib
from pathlib import Path

import torch

from bench.training.data import Data, Split, carve
from bench.training.places import find, own
from bench.training.published import read_cifar, read_fashion_mnist
from bench.training.vision import torchvision

BILINEAR = 2  # of Pillow


def cifar10(
    *,
    held_out: float = 0.5,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    folder: str | None = None,
) -> Data:
    """CIFAR-10: 50,000 and 10,000 colour images of 32 × 32, in 10 classes (Krizhevsky, 2009).

    Args:
        held_out: share of the training part that is for validation.
        train, valid, test: how many of each part to take; by default all.
        folder: where to look first for `cifar-10-batches-py`.

    Raises:
        FileNotFoundError: it is in none of the places.
        ValueError: the files hold something else, or there are not that many images.
    """
    return _divided(*read_cifar("CIFAR10", folder), 10, held_out, train, valid, test)


def cifar100(
    *,
    held_out: float = 0.1,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    folder: str | None = None,
) -> Data:
    """CIFAR-100: 50,000 and 10,000 colour images of 32 × 32, in 100 classes (Krizhevsky, 2009).

    Arguments and errors are those of `cifar10`; `cifar-100-python` is looked for.
    """
    return _divided(*read_cifar("CIFAR100", folder), 100, held_out, train, valid, test)


def fashion_mnist(
    *,
    held_out: float = 0.1,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    folder: str | None = None,
) -> Data:
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28 × 28, in 10 classes (Xiao et al., 2017).

    Arguments and errors are those of `cifar10`; `FashionMNIST/raw` is looked for.
    """
    return _divided(*read_fashion_mnist(folder), 10, held_out, train, valid, test)


def digits(*, held_out: float = 0.2, tested: float = 0.2) -> Data:
    """The digits of scikit-learn: 1,797 grey images of 8 × 8 in 17 shades, in 10 classes.

    Args:
        held_out: share for validation, of what is not for testing.
        tested: share of all that is for testing; the set has no published test part.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: a part would be empty.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        if error.name not in ("sklearn", "sklearn.datasets"):
            raise
        raise ImportError("the digits need scikit-learn: pip install scikit-learn") from None
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.astype("uint8")).reshape(-1, 1, 8, 8)
    rest, test = carve(images, torch.from_numpy(labels.astype("int64")), tested)
    return _divided(rest, test, 10, held_out)


def image_folder(
    *,
    size: int = 32,
    held_out: float = 0.2,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    folder: str | None = None,
) -> Data:
    """Images of one's own, in a folder a class: `train/<class>/*` and `test/<class>/*`.

    Args:
        size: height and width that all are resized to, in RGB.
        held_out, train, valid, test: as of `cifar10`.
        folder: which holds `train` and `test`; by default `images` in the data folder.

    Raises:
        FileNotFoundError: it is in none of the places.
        ValueError: the classes of both parts differ, or an image cannot be read.
    """
    if not 1 <= size <= 1024:
        raise ValueError(f"size is {size}; allowed: 1 to 1024 pixels")
    root = find(
        "a folder of images",
        own("images", folder),
        ["train", "test"],
        "in each of them a folder of images for every class",
    )
    parts, classes = {}, {}
    for part in "train", "test":
        parts[part], classes[part] = _read_folder(root / part, size)
    if classes["train"] != classes["test"]:
        strange = sorted({*classes["train"]} ^ {*classes["test"]})[0]
        raise ValueError(f"{root}: class {strange} is in one of train and test only")
    count = len(classes["train"])
    return _divided(parts["train"], parts["test"], count, held_out, train, valid, test)


def _divided(
    training: Split,
    testing: Split,
    classes: int,
    held_out: float,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
) -> Data:
    kept, held = carve(*training, held_out)
    return Data(
        some(kept, train, "train"), some(held, valid, "valid"), some(testing, test, "test"), classes
    )


def some(split: Split, count: int | None, name: str) -> Split:
    """As many examples, evenly spaced, so that none of the classes is left out; None takes all.

    Raises:
        ValueError: there are not that many.
    """
    if count is None:
        return split
    inputs, labels = split
    if not 0 < count <= len(labels):
        raise ValueError(f"{name} is {count}; allowed: 1 to {len(labels)} examples, or null")
    which = torch.arange(count) * len(labels) // count
    return inputs[which], labels[which]


def _read_folder(folder: Path, size: int) -> tuple[Split, list[str]]:
    """The images of a folder, `[n, 3, size, size]`, and the names of its classes."""
    vision = torchvision()

    def load(path: str) -> torch.Tensor:
        try:
            image = vision.datasets.folder.pil_loader(path).resize((size, size), BILINEAR)
        except Exception as error:  # damaged images make Pillow raise nearly anything
            raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return pixels.reshape(size, size, 3).permute(2, 0, 1)

    try:
        found = vision.datasets.ImageFolder(folder, loader=load)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: {' '.join(str(error).split())}") from None
    pixels = torch.stack([image for image, _ in found])
    return (pixels, torch.tensor(found.targets)), list(found.classes)
