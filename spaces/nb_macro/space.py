"""The space of NAS-Bench-Macro (Su et al., CVPR 2021, section 4.1)."""

import re
from itertools import islice, pairwise

from bench.space import Architecture, Edge, Space

OPERATIONS = ("identity", "MB3_K3", "MB6_K5")  # MobileNetV2 blocks: expansion 3 or 6, kernel 3 or 5
STAGES = (2, 3, 3)  # layers of each; the first one halves the resolution and doubles the channels


class NBMacro(Space):
    """One operation a layer; the identity of a stage's first layer is a strided projection."""

    name = "nb_macro"
    choices = (len(OPERATIONS),) * sum(STAGES)

    def to_string(self, arch: Architecture) -> str:
        return "".join(map(str, arch))

    def from_string(self, text: str) -> Architecture:
        if not re.fullmatch("[012]{8}", text, re.ASCII):
            raise ValueError(
                f"{text!r} is no network of {self.name}: eight digits from 0 to 2, such as 22212220"
            )
        return tuple(map(int, text))

    def labels(self) -> list[tuple[str, list[str]]]:
        return [
            (f"stage {stage}, layer {layer}", list(OPERATIONS))
            for stage, length in enumerate(STAGES, 1)
            for layer in range(1, length + 1)
        ]

    def graph(self, arch: Architecture) -> list[Edge]:
        """The chain of the layers."""
        layers = [f"{OPERATIONS[op]}#{place}" for place, op in enumerate(arch)]
        return [(one, other, "") for one, other in pairwise(["input", *layers, "output"])]

    def canonical(self, arch: Architecture) -> str:
        """The string with the identities of a stage's later layers at its end: they leave no
        trace, so 3,969 networks were trained (train/train_benchmark.py of the repository).
        """
        layers, text = iter(self.to_string(arch)), ""
        for length in STAGES:
            first, *later = islice(layers, length)
            text += first + "".join(later).replace("0", "").ljust(length - 1, "0")
        return text
