"""What sentences for users are made of: counted things, near names, words of the command line."""

import difflib
import re
from collections.abc import Iterable
from typing import Any


def many(number: int, one: str, more: str | None = None) -> str:
    """A count with its noun: `1 architecture`, `1,360 architectures`.

    Args:
        more: the plural, where it does not just add an s.
    """
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def nearest(word: Any, allowed: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: which one was perhaps meant."""
    near = difflib.get_close_matches(str(word), list(allowed), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def override(key: str, value: str | tuple[Any, ...]) -> str:
    """The word that sets a key, as a shell takes it; in quotes where Hydra would read a number."""
    if isinstance(value, tuple):
        return f'"{key}=[{",".join(map(str, value))}]"'
    plain = re.fullmatch(r"[A-Za-z_][\w.-]*", value)
    return f"{key}={value}" if plain else f"\"{key}='{value}'\""
