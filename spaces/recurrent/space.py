"""Recurrent networks: the cell, its width, depth, direction and pooling."""

from itertools import pairwise

from bench.space import Architecture, Edge, Space

CHOICES: dict[str, tuple[str, ...]] = {
    "cell": ("rnn", "gru", "lstm"),
    "units": ("32", "64", "128"),
    "layers": ("1", "2"),
    "direction": ("forward", "both"),
    "pooling": ("last", "attention"),
}


class Recurrent(Space):
    """A gene a decision, in the order of `CHOICES`."""

    name = "recurrent"
    choices = tuple(map(len, CHOICES.values()))

    def to_string(self, arch: Architecture) -> str:
        """The decisions in order, such as `gru-64-1-both-last`."""
        return "-".join(values[gene] for values, gene in zip(CHOICES.values(), arch, strict=True))

    def from_string(self, text: str) -> Architecture:
        words = text.split("-")
        fits = len(words) == len(CHOICES) and all(
            word in values for word, values in zip(words, CHOICES.values(), strict=True)
        )
        if not fits:
            allowed = "; ".join(f"{name} {', '.join(some)}" for name, some in CHOICES.items())
            raise ValueError(f"{text!r} is no {self.name} network; allowed: {allowed}")
        return tuple(
            values.index(word) for word, values in zip(words, CHOICES.values(), strict=True)
        )

    def labels(self) -> list[tuple[str, list[str]]]:
        return [(name, list(values)) for name, values in CHOICES.items()]

    def graph(self, arch: Architecture) -> list[Edge]:
        """Input, a node a layer, the pooling and output, in a row."""
        cell, units, layers, direction, pooling = self.to_string(arch).split("-")
        layer = f"{cell} {units}" + (", both ways" if direction == "both" else "")
        stack = [f"{layer}#{number}" for number in range(int(layers))]
        nodes = ["input", *stack, f"pooling: {pooling}", "output"]
        return [(source, target, "") for source, target in pairwise(nodes)]
