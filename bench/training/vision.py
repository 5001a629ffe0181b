"""The one importer of torchvision, which it makes importable beside a CPU build of PyTorch.

PyPI's Linux wheels are compiled against CUDA. Beside a CPU build their extension does not load,
and torchvision then stops at operators that nobody declared (pytorch/vision#9077). They belong to
detection, which is not needed here, so that declaring them is enough.
"""

import importlib
import re
import sys
from threading import Lock
from types import ModuleType

import torch

UNDECLARED = re.compile(r"operator torchvision::(\w+) does not exist")
OPERATORS = ("nms", "qnms")  # all that torchvision 0.26 to 0.29 wants at import
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: dict[str, torch.library.Library] = {}  # a declaration ends with its Library
_lock = Lock()


def torchvision() -> ModuleType:
    """The package, imported; where that works by itself, nothing else is done.

    A class of torchvision that is sent to another process must be wrapped in one of a module
    that calls this at its top, or it cannot be imported there.

    Raises:
        ImportError: it is not installed.
        RuntimeError: it cannot be imported for another reason.
    """
    with _lock:
        for _ in OPERATORS:  # it stops at one after the other
            operator = _undeclared()
            if operator is None:
                break
            _forget()
            _declare(operator)
        return _import()


def _import() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise ImportError("images need torchvision: pip install 'nas-arena[train]'") from None


def _undeclared() -> str | None:
    """The operator at which the import stops; None where it succeeds."""
    try:
        _import()
    except RuntimeError as error:
        found = UNDECLARED.search(str(error))
        if found is None or found[1] not in OPERATORS or found[1] in _declared:
            raise
        return found[1]
    return None


def _forget() -> None:
    """Drop what a broken import left."""
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare(operator: str) -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(operator + SCHEMA)  # type: ignore[no-untyped-call]
    _declared[operator] = library
