"""Layers that networks of several spaces are made of."""

import torch
from torch import nn


def image_channels(name: str, inputs: tuple[int, ...]) -> int:
    """The channels of images of shape `[channels, height, width]`.

    Raises:
        ValueError: these are no images.
    """
    if len(inputs) != 3:
        raise ValueError(f"networks of {name} are for images, not for inputs of shape {inputs}")
    return inputs[0]


def relu_conv_norm(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """ReLU, a convolution that is padded by half its kernel and has no bias, and batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualReduction(nn.Module):
    """A residual block that halves height and width: two 3x3 convolutions beside a pooled 1x1.

    It stands between the stages of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1) and of
    NATS-Bench (xautodl/models/cell_operations.py, D-X-Y/AutoDL-Projects).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            relu_conv_norm(inputs, outputs, 3, stride=2), relu_conv_norm(outputs, outputs, 3)
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),  # an odd height has a half row more
            nn.Conv2d(inputs, outputs, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halved: torch.Tensor = self.shortcut(x) + self.residual(x)
        return halved


class MeanOverPositions(nn.Module):
    """`[batch, channels, …]` to `[batch, channels]`.

    Its gradient is deterministic on a GPU, where that of adaptive pooling is not.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)
