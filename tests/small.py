"""Data sets, networks and recipes so small that a training takes milliseconds."""

from contextlib import nullcontext
from unittest.mock import Mock

import torch
from torch import nn

from bench.training.data import Data
from bench.training.recipe import Recipe

CLASSES = 3


def signals(count=60, length=16):
    """Sines of a frequency for each class, with noise; the same in every process."""
    return _data(torch.arange(length) / length, (count, 1, length))


def images(count=60, side=8):
    """The same as stripes, three channels of bytes."""
    made = _data(torch.arange(side)[None, :] / side, (count, 3, side, side))

    def bytes_of(split):
        return (split[0] * 40 + 128).clamp(0, 255).to(torch.uint8), split[1]

    return Data(bytes_of(made.train), bytes_of(made.valid), bytes_of(made.test), CLASSES)


def _data(places, shape):
    generator = torch.Generator().manual_seed(0)

    def split():
        labels = torch.randint(CLASSES, shape[:1], generator=generator)
        steps = (labels + 1).view(-1, *[1] * (len(shape) - 1)) * places
        noise = torch.randn(shape, generator=generator)
        return torch.sin(2 * torch.pi * steps) + 0.5 * noise, labels

    return Data(split(), split(), split(), CLASSES)


def broken():
    raise FileNotFoundError("folder data/photos is not there")


def recipe(**changes):
    settings = {"name": "small", "epochs": 4, "batch_size": 20, "learning_rate": 0.05}
    return Recipe(**(settings | changes))


def network():
    """Every kind of state there is: weights, batch statistics, dropout's random numbers."""
    return nn.Sequential(
        nn.Conv1d(1, 4, 3, padding=1),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def plain():
    """Without batch statistics, so that parts of a batch add up to the whole."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, CLASSES))


class Replayed:
    """Instead of a CUDA graph: computes anew, into the tensors of the capture."""

    def __init__(self, captured):
        self.captured, self.replays = captured, 0

    def replay(self):
        captured = self.captured
        self.replays += 1
        before = [parameter.grad for parameter, _ in captured.kept]
        captured.losses.copy_(captured.backward(captured.inputs, captured.labels))
        for (parameter, gradient), was in zip(captured.kept, before, strict=True):
            gradient.copy_(parameter.grad)
            parameter.grad = was


def fake_graphs(monkeypatch, find):
    """Let CUDA graphs be `Replayed` where there is no CUDA; `find` tells what is captured."""
    for name, fake in {
        "Stream": lambda: Mock(),
        "current_stream": lambda: Mock(),
        "stream": nullcontext,
        "graph": nullcontext,
        "CUDAGraph": lambda: Replayed(find()),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
