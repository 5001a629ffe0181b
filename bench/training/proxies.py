"""Zero-cost proxies: what an untrained network and one minibatch may tell of it.

Definitions are those of Abdelfattah et al. (ICLR 2021, section 3) and Mellor et al. (ICML 2021),
names those of NAS-Bench-Suite-Zero (Krishnakumar et al., NeurIPS 2022). Higher is meant to be
better; the numbers rank networks and have no unit. A network is left as it was: gradients, batch
statistics, mode and random state.

Weights are those of convolutions, linear and recurrent layers, without biases and norms.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

SMALL = 1e-5  # keeps the eigenvalues of jacov from zero (Mellor et al., first version, 2020)


def proxies(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """All of them by name; NaN where a network has none.

    Args:
        inputs: a prepared minibatch, on the network's device.
        labels: its classes.
    """
    return {
        "grad_norm": grad_norm(network, inputs, labels),
        "jacov": jacov(network, inputs),
        "nwot": nwot(network, inputs),
        "snip": snip(network, inputs, labels),
        "synflow": synflow(network, inputs),
    }


def synflow(network: nn.Module, inputs: torch.Tensor) -> float:
    """The natural logarithm of the sum of |w dR/dw| over the weights (Tanaka et al., 2020).

    R is the sum of the outputs for an input of ones, where every parameter is replaced by its
    absolute value and batch norms are left out. Of the inputs only the shape counts. NaN where
    nothing flows. The sum itself may be too large for single precision.
    """
    with _copy(network, inputs.device) as copy:
        copy = _without_norms(copy).double()
        with torch.no_grad():
            for some in copy.parameters():
                some.abs_()
        ones = torch.ones_like(inputs[:1], dtype=torch.double)
        weights = _weights(copy)
        gradients = _gradients(copy(ones).sum(), weights)
        total = _products(weights, gradients)
    return math.log(total) if 0 < total < math.inf else math.nan


def snip(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The sum of |w dL/dw| over the weights, L the cross-entropy (Lee et al., ICLR 2019)."""
    with _copy(network, inputs.device) as copy:
        weights = _weights(copy)
        gradients = _gradients(cross_entropy(copy(inputs), labels), weights)
        return _finite(_products(weights, gradients))


def grad_norm(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The sum over layers of the Euclidean norm of the cross-entropy's gradient by the weights."""
    with _copy(network, inputs.device) as copy:
        gradients = _gradients(cross_entropy(copy(inputs), labels), _weights(copy))
        return _finite(sum(float(gradient.norm()) for gradient in gradients))


def jacov(network: nn.Module, inputs: torch.Tensor) -> float:
    """How little the Jacobians of the examples correlate (Mellor et al., first version, 2020).

    The gradients of the summed outputs by each input, `[batch, inputs]`, have a correlation matrix
    with eigenvalues v; the score is -sum(log(v + k) + 1 / (v + k)), k = 1e-5. NaN where an
    input does not reach the output.
    """
    with _copy(network, inputs.device) as copy:
        example = _leaf(inputs)
        (gradient,) = _gradients(copy(example).sum(), [example])
    rows = gradient.flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    lengths = rows.norm(dim=1, keepdim=True)
    if not (lengths.isfinite() & (lengths > 0)).all():
        return math.nan
    rows = rows / lengths
    values = torch.linalg.eigvalsh(rows @ rows.T) + SMALL
    return _finite(-float((values.log() + 1 / values).sum()))


def nwot(network: nn.Module, inputs: torch.Tensor) -> float:
    """NASWOT: log |det K|, K counting the ReLUs that agree on two examples (Mellor et al., 2021).

    K is the number of units that are on for both examples or off for both. A ReLU that the
    outputs do not depend on is left out. NaN where K is singular, so that there is no logarithm:
    where two examples switch all alike, or with fewer ReLUs than examples.
    """
    activations: list[torch.Tensor] = []
    with _copy(network, inputs.device) as copy:
        for module in copy.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(lambda _, __, output: activations.append(output))
        total = copy(_leaf(inputs)).sum()
    known = [some for some in activations if some.requires_grad]  # others are constants
    if not known:
        return math.nan
    used = torch.autograd.grad(total, known, allow_unused=True)
    count = len(inputs)
    agree = torch.zeros(count, count, dtype=torch.double, device=inputs.device)
    for activation, gradient in zip(known, used, strict=True):
        if gradient is not None:
            on = (activation > 0).flatten(1).double()
            agree += on @ on.T + (1 - on) @ (1 - on).T
    if int(torch.linalg.matrix_rank(agree, hermitian=True)) < count:
        return math.nan
    return float(torch.linalg.slogdet(agree).logabsdet)


@contextmanager
def _copy(network: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """A copy in training mode; what it draws at random is always the same, and nobody else's."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(0)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield deepcopy(network).train()


def _leaf(inputs: torch.Tensor) -> torch.Tensor:
    """The same numbers, so that gradients can be asked for."""
    return inputs.detach().clone().requires_grad_()


def _weights(network: nn.Module) -> list[torch.Tensor]:
    """Those with two dimensions or more, which biases and norms do not have."""
    return [some for some in network.parameters() if some.dim() > 1]


def _gradients(of: torch.Tensor, by: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Zero where there is no way from one to the other."""
    return torch.autograd.grad(of, by, allow_unused=True, materialize_grads=True)


def _products(weights: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> float:
    """The sum of |w g|."""
    with torch.no_grad():
        return sum(float((w * g).abs().sum()) for w, g in zip(weights, gradients, strict=True))


def _without_norms(network: nn.Module) -> nn.Module:
    """The network, changed: its batch norms hand on what they get."""
    if isinstance(network, _BatchNorm):
        return nn.Identity()
    for name, child in network.named_children():
        setattr(network, name, _without_norms(child))
    return network


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
