"""Layers of many networks at once, and a network made of them.

Activations have shape `[batch, networks, channels, …]`: with the two middle axes seen
as one, the stock kernels for convolutions in groups, batch norm and pooling apply as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Rows = Sequence[tuple[int, str]]  # of a stacked tensor: the network, and the module's name there
Convolve = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


class Stacked(nn.Module):
    """A layer of several networks. Its tensors have an axis over them in front, and the names
    that they have in the layer of one network.
    """

    owner: torch.Tensor

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows
        self.register_buffer("owner", torch.tensor([model for model, _ in rows]), persistent=False)

    def parameter(self, name: str, *shape: int) -> None:
        self.register_parameter(name, nn.Parameter(torch.zeros(len(self.rows), *shape)))

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The stacked tensors with their names."""
        yield from self.named_parameters(recurse=False)
        yield from ((name, some) for name, some in self.named_buffers() if name != "owner")


class Convolutions(Stacked):
    """Convolutions without bias."""

    weight: torch.Tensor

    def __init__(
        self,
        rows: Rows,
        inputs: int,
        outputs: int,
        window: tuple[int, int],
        convolve: Convolve,
        stride: int = 1,
    ) -> None:
        super().__init__(rows)
        self.stride, self.convolve = stride, convolve
        self.parameter("weight", outputs, inputs, *window)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolve(x, self.weight, self.stride)


def apart(x: torch.Tensor, networks: int) -> torch.Tensor:
    """`[batch, networks * channels, …]` to `[batch, networks, channels, …]`."""
    return x.view(x.shape[0], networks, -1, *x.shape[2:])


def grouped(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """One convolution in groups, padded by half the kernel; a plain one where all networks see
    the same `x`, of four axes.
    """
    groups = 1 if x.dim() == 4 else len(weight)
    flat = x if x.dim() == 4 else x.flatten(1, 2)
    padding = weight.shape[-1] // 2
    found = functional.conv2d(
        flat, weight.flatten(0, 1), stride=stride, padding=padding, groups=groups
    )
    return apart(found, len(weight))


def multiplied(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """The same as a batched product of matrices, for which a 3x3 neighbourhood is written out."""
    if x.dim() == 4:
        return grouped(x, weight, stride)
    kernel = weight.shape[-1]
    padded = functional.pad(x, (kernel // 2,) * 4)
    seen = padded.unfold(3, kernel, stride).unfold(4, kernel, stride)
    height, width = seen.shape[3:5]
    columns = seen.permute(0, 1, 2, 5, 6, 3, 4).flatten(2, 4).flatten(3)
    found = torch.matmul(weight.flatten(2), columns)
    return found.view(*found.shape[:3], height, width)


class Norms(Stacked):
    """Batch norms; each network has statistics of its own."""

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, rows: Rows, channels: int) -> None:
        super().__init__(rows)
        self.parameter("weight", channels)
        self.parameter("bias", channels)
        self.register_buffer("running_mean", torch.zeros(len(rows), channels))
        self.register_buffer("running_var", torch.ones(len(rows), channels))
        self.register_buffer("num_batches_tracked", torch.zeros(len(rows), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.num_batches_tracked += 1
        found = functional.batch_norm(
            x.flatten(1, 2),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.view(-1),
            self.bias.view(-1),
            self.training,
        )
        return apart(found, x.shape[1])


class Linears(Stacked):
    """`[batch, networks, inputs]` to `[networks, batch, outputs]`."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, rows: Rows, inputs: int, outputs: int) -> None:
        super().__init__(rows)
        self.parameter("weight", outputs, inputs)
        self.parameter("bias", outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias[:, None], x.transpose(0, 1), self.weight.transpose(1, 2))


def take(x: torch.Tensor, *indices: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Activations of some networks, for each list of places."""
    taken: tuple[torch.Tensor, ...] = _Take.apply(x, *indices)  # type: ignore[no-untyped-call]
    return taken


def put(
    shape: Sequence[int], like: torch.Tensor, terms: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Sums of activations: `terms` are places among the networks of `shape`, and what adds there.

    Where nothing is added there is zero. No place comes twice in one term.
    """
    indices, values = [index for index, _ in terms], [value for _, value in terms]
    sums: torch.Tensor = _Put.apply(  # type: ignore[no-untyped-call]
        tuple(shape), like, len(terms), *indices, *values
    )
    return sums


# Both have gradients by hand: those of indexing would fill a tensor over all networks with zeros
# for every list of places, and add all of these up.


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *indices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(*indices)
        ctx.shape = x.shape
        return tuple(_select(x, index) for index in indices)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        indices = ctx.saved_tensors
        total = _empty(ctx.shape, gradients[0], gradients[0].dtype).zero_()
        for index, gradient in zip(indices, gradients, strict=True):
            _add(total, index, gradient)
        return (total, *(None for _ in indices))


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: tuple[int, ...], like: torch.Tensor, count: int, *rest: torch.Tensor
    ) -> torch.Tensor:
        indices, values = rest[:count], rest[count:]
        ctx.save_for_backward(*indices)
        ctx.types = [value.dtype for value in values]
        kind = reduce(torch.promote_types, ctx.types) if values else like.dtype
        total = _empty(shape, values[0] if values else like, kind).zero_()
        for index, value in zip(indices, values, strict=True):
            _add(total, index, value.to(kind))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        indices = ctx.saved_tensors
        found = [
            _select(gradient, index).to(kind)
            for index, kind in zip(indices, ctx.types, strict=True)
        ]
        return (None, None, None, *(None for _ in indices), *found)


CHANNELS_LAST = (0, 3, 4, 1, 2)  # also the way back


def _is_channels_last(x: torch.Tensor) -> bool:
    return x.stride(2) == 1 and x.permute(CHANNELS_LAST).is_contiguous()


def _select(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    if not _is_channels_last(x):
        return x.index_select(1, index)
    found = _empty((x.shape[0], len(index), *x.shape[2:]), x, x.dtype)
    torch.index_select(x.permute(CHANNELS_LAST), 3, index, out=found.permute(CHANNELS_LAST))
    return found


def _add(total: torch.Tensor, index: torch.Tensor, value: torch.Tensor) -> None:
    if _is_channels_last(total):
        total.permute(CHANNELS_LAST).index_add_(3, index, value.permute(CHANNELS_LAST))
    else:
        total.index_add_(1, index, value)


def _empty(shape: Sequence[int], like: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """A tensor, no view of one, that lies in memory as `like`."""
    if not _is_channels_last(like):
        return like.new_empty(tuple(shape), dtype=kind)
    _, networks, channels, height, width = shape
    pixel = networks * channels
    strides = (height * width * pixel, channels, 1, width * pixel, pixel)
    return torch.empty_strided(tuple(shape), strides, dtype=kind, device=like.device)


class Population(nn.Module):
    """K networks as one: inputs `[batch, …]`, which all see, or `[K, batch, …]`, each its own, to
    logits `[K, batch, classes]`. A space's population is a subclass made of stacked layers.
    """

    memory_format = torch.channels_last
    """Of activations, networks and channels seen as one axis."""

    def __init__(self, shares: Sequence[float]) -> None:
        """`shares`: about how much each network adds to the time, in any unit."""
        super().__init__()
        self.shares = [share / sum(shares) for share in shares]
        self.rest: list[dict[str, torch.Tensor]] = [{} for _ in shares]
        """Of each network: what the population does not hold, as it was loaded."""
        self.parameters_of: list[list[str]] = [[] for _ in shares]
        """Of each network alone: the names of its parameters, in order."""

    @property
    def count(self) -> int:
        return len(self.shares)

    def layers(self) -> Iterator[Stacked]:
        return (some for some in self.modules() if isinstance(some, Stacked))

    def places(self) -> Iterator[tuple[torch.Tensor, int, str]]:
        """Every row of every stacked tensor: the row, its network, and its name there."""
        for layer in self.layers():
            for name, stacked in layer.tensors():
                for row, (model, prefix) in zip(stacked.detach(), layer.rows, strict=True):
                    yield row, model, f"{prefix}.{name}"

    def load(self, states: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Take over the weights of single networks, one `state_dict` each."""
        self.rest = [dict(state) for state in states]
        for row, model, name in self.places():
            row.copy_(self.rest[model].pop(name))

    def extract(self, model: int) -> dict[str, torch.Tensor]:
        """The `state_dict` of the single network; a copy.

        What its output does not depend on is as it was loaded. Training one network alone leaves
        such weights as they are, too, and only counts their batch statistics.
        """
        held = {name: row.clone() for row, owner, name in self.places() if owner == model}
        return held | {name: some.clone() for name, some in self.rest[model].items()}
