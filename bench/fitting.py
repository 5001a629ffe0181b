"""What to choose or set where a protocol does not fit how the networks are trained."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from bench.protocol import Protocol
from bench.words import override

TRAINED = ("valid_error", "test_error")  # what is reported where nothing else can be


def remedy(
    protocol: Protocol,
    epochs: int,
    known: Mapping[str, Protocol],
    fits: Callable[[Protocol], bool],
) -> str:
    """What makes a protocol fit a training of so many epochs; empty where nothing does.

    Args:
        known: the protocols that may be chosen instead, by name.
        fits: whether the objective takes a protocol.
    """
    choice = protocol.name.split("+")[0]  # what follows a + was set by hand
    for name, other in known.items():
        if name != choice and fits(other):
            return f"choose protocol={name}"
    several = len(protocol.fidelities) > 1
    wanted: dict[str, Any] = {
        "schedule": str(epochs),
        "report_schedule": str(epochs),
        "fidelities": (*(one for one in protocol.fidelities if several and one < epochs), epochs),
        "metric": "valid_error",
        "test_signal": "refused",
        "noise": "one_seed",
        "validation_pass": "free",
        "overhead": "free",
    }
    there = asdict(protocol)
    changes = {key: value for key, value in wanted.items() if there[key] != value}
    for some in changes, changes | {"report": TRAINED}:
        if fits(replace(protocol, **some)):
            words = [override(f"protocol.{key}", value) for key, value in some.items()]
            return f"set {'together ' * (len(words) > 1)}{' '.join(words)}"
    return ""
