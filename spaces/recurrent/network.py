"""Recurrent networks in PyTorch."""

import torch
from torch import nn
from torch.nn import functional

from bench.space import Architecture, Space

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def build(
    space: Space,
    arch: Architecture,
    inputs: tuple[int, ...],
    classes: int,
    *,
    window: int = 1,
) -> nn.Module:
    """A stack of recurrent layers, its outputs pooled, and a linear layer.

    Args:
        inputs: the shape of one input, `[channels, length]`: a step reads all its channels.
        window: how many positions a step reads; the last one reads zeros beyond the end.

    Raises:
        ValueError: the inputs are no signals, or a step would read nothing.
    """
    if len(inputs) != 2:
        raise ValueError(f"an input has shape {list(inputs)}; recurrent networks read signals")
    if not 1 <= window <= inputs[1]:
        raise ValueError(f"window is {window}; allowed: 1 to {inputs[1]}, the length of an input")
    cell, units, layers, direction, pooling = space.to_string(arch).split("-")
    return Network(
        CELLS[cell](
            inputs[0] * window,
            int(units),
            num_layers=int(layers),
            batch_first=True,
            bidirectional=direction == "both",
        ),
        attention=pooling == "attention",
        classes=classes,
        window=window,
    )


class Network(nn.Module):
    """Logits `[batch, classes]` of signals `[batch, channels, length]`."""

    def __init__(
        self, recurrent: nn.RNNBase, *, attention: bool, classes: int, window: int
    ) -> None:
        super().__init__()
        self.window = window
        width = recurrent.hidden_size * (2 if recurrent.bidirectional else 1)
        self.recurrent = recurrent
        self.attention = nn.Linear(width, 1) if attention else None
        self.classify = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, length = x.shape
        padded = functional.pad(x, (0, -length % self.window))
        steps = padded.view(batch, channels, -1, self.window).transpose(1, 2)
        outputs, _ = self.recurrent(steps.flatten(2))
        if self.attention is None:
            half = self.recurrent.hidden_size  # the way back ends at the first step
            pooled = torch.cat([outputs[:, -1, :half], outputs[:, 0, half:]], dim=1)
        else:
            weights = self.attention(outputs).softmax(1)
            pooled = (weights * outputs).sum(1)
        logits: torch.Tensor = self.classify(pooled)
        return logits
