"""Chain CNNs in PyTorch, over signals or images."""

from collections.abc import Sequence

import torch
from torch import nn

from bench.space import Architecture, Space
from bench.training.layers import MeanOverPositions
from spaces.chain.space import kernels


def build(
    space: Space,
    arch: Architecture,
    inputs: tuple[int, ...],
    classes: int,
    *,
    width: int = 16,
    strided: int = 0,
) -> nn.Module:
    """Convolution, batch norm and ReLU a layer; then the mean over positions and a linear layer.

    Images are padded so that no kernel changes their size. Signals are not: zeros beyond the ends
    of one so short tell where a position is, and how well that is learnt varies between seeds. They
    are seen as images of height one, with channels last, which trains faster.

    Args:
        inputs: the shape of one input: `[channels, length]` or `[channels, height, width]`.
        width: channels of every layer.
        strided: how many layers, the first ones, have a stride of 2; the others have 1.

    Raises:
        ValueError: there is no channel, a negative number of layers, or a signal too short.
    """
    if width < 1 or strided < 0:
        raise ValueError(f"width is {width} and strided {strided}; allowed: 1 and more, 0 and more")
    flat = len(inputs) == 2
    if flat and inputs[1] < reach(kernels(arch), strided):
        raise ValueError(
            f"signals have {inputs[1]} positions; allowed for the architecture "
            f"{space.to_string(arch)!r}: {reach(kernels(arch), strided)} and more"
        )
    layers: list[nn.Module] = []
    channels = inputs[0]
    for depth, kernel in enumerate(kernels(arch)):
        step = 2 if depth < strided else 1
        layers += [
            nn.Identity() if flat else nn.ConstantPad2d(around(kernel) * 2, 0.0),
            nn.Conv2d(channels, width, window(kernel, inputs), step, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        channels = width
    if flat:
        layers[0] = nn.Unflatten(2, (1, inputs[1]))
    network = nn.Sequential(*layers, MeanOverPositions(), nn.Linear(width, classes))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


LAYER = 4  # modules of the sequence that a layer takes


def window(kernel: int, inputs: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a kernel."""
    return (1 if len(inputs) == 2 else kernel), kernel


def around(kernel: int) -> tuple[int, int]:
    """How many zeros go before and after the positions of an axis of an image."""
    return (kernel - 1) // 2, kernel // 2


def reach(chain: Sequence[int], strided: int) -> int:
    """How many positions of the input a position after the last layer depends on."""
    return 1 + sum((kernel - 1) << min(depth, strided) for depth, kernel in enumerate(chain))
