"""Processor time of twelve chains trained as one population, against one at a time, on a CPU.

    python tests/benchmarks/together.py [--quick] [--rounds N] [--json FILE]

Both train for an epoch by the recipe `chain` as it ships, on random signals of MNIST-1D's shape,
and evaluate training and validation parts. Once the twelve are four chains that differ in their
last kernel, under three seeds each, as in a shard of `nas-arena build`; once they are drawn, under
twelve seeds, as in a round of random search. While the ratio stays about 1 or below, populations
of chains are not used on a CPU (`DEVICES` in spaces/chain/population.py). `--quick`: fewer signals.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from time import process_time

import measure
import torch

from bench.parts import build as part
from bench.space import Architecture
from bench.training import loop
from bench.training.data import Data
from bench.training.population import train_population
from bench.training.recipe import Recipe
from spaces.chain import network
from spaces.chain.space import Chain

SPACE = Chain()
NEIGHBOURS = [SPACE.from_string(f"4-5-3-6-{last}") for last in (3, 4, 5, 6) for _ in range(3)]
DRAWN = [SPACE.sample(rng) for rng in [Random(0)] for _ in range(12)]
MIXES = {
    "four neighbours, three seeds each": (NEIGHBOURS, [0, 1, 2] * 4),
    "twelve drawn, twelve seeds": (DRAWN, list(range(12))),
}


def signals(train: int, valid: int) -> Data:
    generator = torch.Generator().manual_seed(0)
    parts = [
        (
            torch.randn(count, 1, 56, generator=generator),
            torch.randint(10, (count,), generator=generator),
        )
        for count in (train, valid, 10)
    ]
    return Data(parts[0], parts[1], parts[2], 10)


def seconds(action: Callable[[], object]) -> float:
    """Of the processor, which other work on the machine disturbs less."""
    start = process_time()
    action()
    return process_time() - start


def alone(archs: list[Architecture], seeds: list[int], data: Data, recipe: Recipe) -> None:
    for arch, seed in zip(archs, seeds, strict=True):
        build = partial(network.build, SPACE, arch, data.inputs, 10, **recipe.network)
        loop.train(build, data, recipe, seed=seed, epochs=1, name=SPACE.to_string(arch))


def main() -> None:
    options = measure.arguments(__doc__)
    torch.set_num_threads(1)
    train, valid = (3000, 3000) if options.quick else (10000, 7500)
    data, recipe = signals(train, valid), part("recipe", "chain")
    rows = []
    for what, (archs, seeds) in MIXES.items():
        together = partial(train_population, SPACE, archs, data, recipe, seeds=seeds, epochs=1)
        arms = (
            partial(seconds, together),
            partial(seconds, partial(alone, archs, seeds, data, recipe)),
        )
        for arm in arms:
            arm()  # warms up
        ours, peer = measure.interleave(options.rounds or 3, *arms)
        rows.append(measure.Row(what, ours, peer))
    notes = [
        f"one epoch of {train:,} signals in batches of {recipe.batch_size}, then both parts "
        f"evaluated ({valid:,} for validation); processor seconds, one thread of torch",
    ]
    measure.report("Chains as a population, on a CPU", rows, notes, ["torch"], options.json)


if __name__ == "__main__":
    main()
