"""Whether plain values fit the annotations of what they are for, and a sentence if not."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin


def misfits(prefix: str, values: Mapping[str, Any], hints: Mapping[str, Any]) -> list[str]:
    """A sentence for every value that has no hint or does not fit it."""
    known = [name for name in hints if name != "return"]
    return [
        f"{prefix}{name} is {value!r}; allowed: {_words(hints[name])}"
        + _quoted(f"{prefix}{name}", value, hints[name])
        if name in known
        else f"{prefix}{name} is no key; allowed: {', '.join(known)}"
        for name, value in values.items()
        if name not in known or not _fits(value, hints[name])
    ]


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is Mapping:
        return isinstance(value, dict)
    if origin is not None:  # a sequence
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _quoted(key: str, value: Any, hint: Any) -> str:
    """How to write a number on the command line where it has to be a text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"; write \"{key}='{value}'\"" if hint is str and number else ""


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin is Mapping:
        return "keys and values"
    if origin is not None:
        return f"a list of {_words(inner[0])}s"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return names.get(hint, "null")
