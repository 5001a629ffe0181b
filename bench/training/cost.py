"""What a network costs: parameters, multiply-adds, and how long it takes."""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(some.numel() for some in network.parameters() if some.requires_grad)


def multiply_adds(build: Callable[[], nn.Module], inputs: tuple[int, ...]) -> int:
    """Multiply-adds of one forward pass on one input: of convolutions and matrix products alone.

    Half of what PyTorch counts as operations. Biases, norms, pooling and additions are left out,
    as in most publications. Nothing is computed and no memory needed: it all happens on PyTorch's
    device for shapes.

    Args:
        build: makes the network.
        inputs: the shape of one input.
    """
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad():
        network, example = build().eval(), torch.empty(1, *inputs)
        with counter:
            network(example)
    return int(counter.get_total_flops()) // 2


def latency(
    network: nn.Module, inputs: torch.Tensor, *, repeats: int = 20, warm_up: int = 5
) -> float:
    """Seconds of a forward pass on a batch in evaluation, the median of some measurements.

    It is measured where the network and the inputs lie, with the threads and the precision that
    are set, and holds for that machine.

    Raises:
        ValueError: nothing would be measured.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(
            f"repeats is {repeats} and warm_up {warm_up}; allowed: 1 and more, 0 and more"
        )
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.inference_mode():
            seconds = [_forward_seconds(network, inputs) for _ in range(warm_up + repeats)]
    finally:
        for module, mode in modes.items():
            module.training = mode
    return median(seconds[warm_up:])


def _forward_seconds(network: nn.Module, inputs: torch.Tensor) -> float:
    _wait(inputs.device)
    start = perf_counter()
    network(inputs)
    _wait(inputs.device)
    return perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
