"""The state of a training on disk: whole, digested, and read without running code."""

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import torch

from bench.store import write_whole

DIGEST = 64  # hex digits at the end of the file


def save(state: dict[str, Any], path: Path) -> None:
    """Put `state` in `path`, durably or not at all; what stood there becomes the one before."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(before(path))
    write_whole(path, data + hashlib.sha256(data).hexdigest().encode(), durable=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the names as well
    finally:
        os.close(folder)


def load(path: Path) -> dict[str, Any] | None:
    """What was saved last, or before that where the last is damaged; None where neither is there.

    Its tensors lie on the CPU. A damaged file is named on stderr and passed over: training again
    gives the same state.
    """
    for some in path, before(path):
        if not some.exists():
            continue
        data = some.read_bytes()
        data, digest = data[:-DIGEST], data[-DIGEST:]
        if hashlib.sha256(data).hexdigest().encode() == digest:
            state: dict[str, Any] = torch.load(
                io.BytesIO(data), map_location="cpu", weights_only=True
            )
            return state
        print(f"{some} has changed since it was saved; it is not used", file=sys.stderr)
    return None


def remove(path: Path) -> None:
    """Remove what was saved there."""
    for some in path, before(path):
        some.unlink(missing_ok=True)


def before(path: Path) -> Path:
    """Where the state before the last is kept."""
    return path.with_name(f"{path.name}.before")
