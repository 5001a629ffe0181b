"""A step of training as a CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Gradients = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Captured:
    """A function that leaves gradients in a network, replayed as a CUDA graph.

    Batches of the first batch's shape are replayed, others computed as usual. What the first
    calls, which warm up, change in the network's buffers and in the random state is undone.
    """

    WARM_UP = 3

    def __init__(self, network: nn.Module, backward: Gradients) -> None:
        self.network, self.backward = network, backward
        self.graph: Any = None
        self.inputs = self.labels = self.losses = torch.empty(0)
        self.kept: list[tuple[nn.Parameter, torch.Tensor | None]] = []

    def __call__(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.graph is None:
            self.capture(inputs, labels)
        if inputs.shape != self.inputs.shape:
            return self.backward(inputs, labels)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        for parameter, gradient in self.kept:
            parameter.grad = gradient  # a batch of another shape has left others
        self.graph.replay()
        return self.losses.clone()

    def capture(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.inputs, self.labels = inputs.clone(), labels.clone()
        devices = [inputs.device] if inputs.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            self._capture()

    def _capture(self) -> None:
        before = [buffer.clone() for buffer in self.network.buffers()]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(self.WARM_UP):
                self.backward(self.inputs, self.labels)
        torch.cuda.current_stream().wait_stream(side)
        self.network.zero_grad(set_to_none=True)  # so that the gradients are made in the graph
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses = self.backward(self.inputs, self.labels)
        self.kept = [(some, some.grad) for some in self.network.parameters()]
        for buffer, was in zip(self.network.buffers(), before, strict=True):
            buffer.copy_(was)
