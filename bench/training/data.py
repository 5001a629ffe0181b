"""Data sets as tensors that lie on the device, and what is done to a batch there."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from random import Random

import torch

from bench.training.recipe import Recipe

Split = tuple[torch.Tensor, torch.Tensor]  # inputs [n, …], labels [n]
PART = 1000  # examples of which sums are taken at a time


@dataclass(frozen=True)
class Data:
    """A data set. Inputs are float32 signals `[n, channels, length]` or uint8 images
    `[n, channels, height, width]`; labels are int64 below `classes`.
    """

    train: Split
    valid: Split
    test: Split
    classes: int

    def to(self, device: torch.device) -> "Data":
        """The same on a device; images channels last."""

        def move(split: Split) -> Split:
            inputs, labels = split[0].to(device), split[1].to(device)
            if inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            return inputs, labels

        return replace(self, train=move(self.train), valid=move(self.valid), test=move(self.test))

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.train[0].shape[1:])

    @cached_property
    def scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the training inputs, a channel each, ready to broadcast.

        A channel that is constant has deviation 1.
        """
        inputs = self.train[0]
        over = [0, *range(2, inputs.dim())]
        count = inputs.numel() // inputs.shape[1]
        some = torch.split(inputs, PART)  # in double precision, which all at once would not fit
        mean = sum_of(part.double().sum(over, True) for part in some) / count
        squares = sum_of((part.double() - mean).square().sum(over, True) for part in some)
        deviation = (squares / count).sqrt()
        deviation[deviation == 0] = 1
        return mean[0].float(), deviation[0].float()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all inputs and labels."""
        found = hashlib.sha256()
        for split in self.train, self.valid, self.test:
            for tensor in split:
                found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                if tensor.numel():  # an empty one has no view as bytes
                    found.update(tensor.cpu().contiguous().numpy().data.cast("B"))
        return found.hexdigest()

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """A batch as a network takes it: of mean 0 and deviation 1 in each channel."""
        mean, deviation = self.scale
        return (inputs.float() - mean) / deviation


Loader = Callable[[], Data]


def sum_of(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors of one shape."""
    return reduce(torch.add, parts)


def carve(inputs: torch.Tensor, labels: torch.Tensor, held_out: float) -> tuple[Split, Split]:
    """Train and validation parts of a training set: always the same ones.

    Examples are ordered by the random numbers of `Random("validation")`; the first share
    `held_out` of that order is held out.

    Raises:
        ValueError: the share leaves one part empty.
    """
    count = round(held_out * len(labels)) if 0 < held_out < 1 else 0
    if not 0 < count < len(labels):
        raise ValueError(
            f"held_out is {held_out}; allowed: a share of {len(labels)} examples that leaves "
            "some on both sides"
        )
    rng = Random("validation")
    draws = [rng.random() for _ in range(len(labels))]
    order = torch.tensor(sorted(range(len(labels)), key=draws.__getitem__))
    held, kept = order[:count].sort().values, order[count:].sort().values
    return (inputs[kept], labels[kept]), (inputs[held], labels[held])


def derive(*words: object) -> int:
    """63 bits that depend on the words and on nothing else."""
    text = "/".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def order_of(count: int, seed: int, epoch: int) -> torch.Tensor:
    """In which order an epoch goes through its examples; the same for every architecture."""
    generator = torch.Generator().manual_seed(derive("order", seed, epoch))
    return torch.randperm(count, generator=generator)


def augment(inputs: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """A raw batch, changed at random as the recipe says; drawn on the CPU, done on the device.

    It comes before `Data.prepare`, so that the border of a cropped image is black.

    Raises:
        ValueError: the augmentation is not for inputs of this kind.
    """
    if recipe.augmentation == "none":
        return inputs
    wanted = {"shift": 3, "crop_flip": 4}[recipe.augmentation]
    if inputs.dim() != wanted:
        kind = "signals" if inputs.dim() == 3 else "images"
        raise ValueError(f"augmentation {recipe.augmentation} is not for {kind}")
    change = {"shift": _shift, "crop_flip": _crop_flip}[recipe.augmentation]
    return change(inputs, generator)


def _shift(signals: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each signal rolled by up to an eighth of its length."""
    count, _, length = signals.shape
    most, device = length // 8, signals.device
    shifts = torch.randint(-most, most + 1, (count, 1, 1), generator=generator).to(device)
    places = (torch.arange(length, device=device) + shifts) % length
    return signals.gather(2, places.expand_as(signals))


def _crop_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image padded by an eighth, cropped to its size, and mirrored or not."""
    count, _, height, width = images.shape
    device, (top, left) = images.device, (height // 8, width // 8)
    padded = torch.nn.functional.pad(images, (left, left, top, top))
    corners = [
        torch.randint(0, 2 * pad + 1, (count, 1), generator=generator).to(device)
        for pad in (top, left)
    ]
    mirror = torch.randint(0, 2, (count, 1), generator=generator).to(device).bool()
    across = torch.arange(width, device=device)
    rows = corners[0] + torch.arange(height, device=device)
    columns = corners[1] + torch.where(mirror, width - 1 - across, across)
    which = torch.arange(count, device=device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)
