"""Multilayer perceptrons in PyTorch, over signals or images."""

from itertools import pairwise
from math import prod

from torch import nn

from bench.space import Architecture, Space
from spaces.mlp.space import widths


def build(space: Space, arch: Architecture, inputs: tuple[int, ...], classes: int) -> nn.Module:
    """Linear layers with a ReLU after each but the last; no norm, no dropout.

    Args:
        inputs: the shape of one input; all its numbers are read in a row.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [prod(inputs), *widths(arch), classes]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
