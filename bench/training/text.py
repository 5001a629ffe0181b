"""Texts to classify, from a plain folder, as signals that a recurrent network can read."""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import torch

from bench.training.data import Data, Split, carve
from bench.training.places import find, own

TOKEN = re.compile(r"\w+|[^\w\s]")  # a word, or a single sign
LONGEST = 1 << 20  # bytes read of a file


def text_folder(
    *,
    length: int = 100,
    channels: int = 32,
    held_out: float = 0.2,
    folder: str | None = None,
) -> Data:
    """Texts in a folder a class: `train/<class>/*.txt` and `test/<class>/*.txt`, in UTF-8.

    The networks have no table of word vectors. Each word has a code of -1 and 1 instead, a
    number a channel, that depends on nothing but the word: no vocabulary is learnt, no text
    is seen by another part, and all architectures read the same. A text is int8
    `[channels, length]`: its first words, at the end of the signal, with zeros before them.

    Args:
        length: words of a text that are read.
        channels: numbers in the code of a word.
        held_out: share of the training part that is for validation.
        folder: which holds `train` and `test`; by default `text` in the data folder.

    Raises:
        FileNotFoundError: it is in none of the places.
        ValueError: the classes of both parts differ, or a file is no text.
    """
    if not (1 <= length <= 10_000 and 1 <= channels <= 256):
        raise ValueError(
            f"length is {length} and channels {channels}; allowed: 1 to 10,000 words and 1 to 256"
        )
    root = find(
        "a folder of texts",
        own("text", folder),
        ["train", "test"],
        "in each of them a folder of .txt files for every class",
    )
    classes = _classes(root / "train")
    if classes != _classes(root / "test"):
        strange = sorted({*classes} ^ {*_classes(root / "test")})[0]
        raise ValueError(f"{root}: class {strange} is in one of train and test only")
    train, test = (_read(root / part, classes, length, channels) for part in ("train", "test"))
    return Data(*carve(*train, held_out), test, len(classes))


def _classes(folder: Path) -> list[str]:
    """The names of the classes in a part.

    Raises:
        ValueError: there are fewer than two, or one has no text.
    """
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(found) < 2:
        raise ValueError(f"{folder} holds fewer than two folders; needed: one for each class")
    for name in found:
        if not any((folder / name).glob("*.txt")):
            raise ValueError(f"{folder / name} holds no .txt file")
    return found


def _read(folder: Path, classes: list[str], length: int, channels: int) -> Split:
    paths = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).glob("*.txt"))
    ]
    inputs = torch.zeros(len(paths), channels, length, dtype=torch.int8)
    for signal, (path, _) in zip(inputs, paths, strict=True):
        words = TOKEN.findall(_text(path).lower())[:length]
        if words:
            signal[:, -len(words) :] = codes(words, channels)
    return inputs, torch.tensor([label for _, label in paths])


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LONGEST)
    try:
        return data.decode("utf-8", "strict" if len(data) < LONGEST else "ignore")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from None


def codes(words: Iterable[str], channels: int) -> torch.Tensor:
    """The codes of words, `[channels, words]`: the first bits of the SHA-256 of each, as signs."""
    return torch.tensor([_code(word, channels) for word in words], dtype=torch.int8).T


@lru_cache(1 << 15)
def _code(word: str, channels: int) -> list[int]:
    bits = int.from_bytes(hashlib.sha256(word.encode()).digest(), "little")
    return [1 if bits >> place & 1 else -1 for place in range(channels)]
