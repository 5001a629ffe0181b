"""The peers' side of search.py: `python peers.py optuna | nats_bench [architectures]`.

Answers `null` if the peer is not installed, else its versions; then, for every number read, how
many seconds that many studies or evaluations took. It imports of the project only what needs numpy.
"""

import json
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

TRIALS = 1000
Work = Callable[[int], object]


def optuna_random() -> tuple[Work, dict[str, Any]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    operations = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    edges = [f"edge{number}" for number in range(6)]
    numbers = Random(0)
    table = {gene: numbers.random() for gene in operations}

    def objective(trial: Any) -> float:
        return sum(table[trial.suggest_categorical(edge, operations)] for edge in edges)

    def work(studies: int) -> None:
        for seed in range(studies):
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
            study.optimize(objective, n_trials=TRIALS)

    return work, {"optuna": version("optuna")}


def nats_bench(count: int) -> tuple[Work, dict[str, Any]]:
    import nats_bench as package

    from bench.search import Evaluation, Trial, stream
    from spaces.nb201.space import NB201
    from strategies.regularized_evolution import RegularizedEvolution

    space = NB201()
    members = list(islice(space, space.size))
    row = {arch: number % count for number, arch in enumerate(members)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "NATS-tss-v1_0-3ffb9-simple"
        write_files(folder, [space.to_string(arch) for arch in members], count)
        size = sum(file.stat().st_size for file in folder.glob("0*")) / count
        warnings.simplefilter("ignore")
        api = package.create(str(folder), "tss", fast_mode=True, verbose=False)
        for number in range(count):
            api.simulate_train_eval(number, "cifar10", hp="12")

    def work(evaluations: int) -> None:
        for seed in range(-(-evaluations // TRIALS)):
            rng = stream(seed, "strategy")
            strategy = RegularizedEvolution(space, rng, (12,), population_size=100, sample_size=10)
            for number in range(min(TRIALS, evaluations - seed * TRIALS)):
                query = strategy.ask()
                accuracy, _, cost, spent = api.simulate_train_eval(
                    row[query.architecture], "cifar10", hp="12"
                )
                evaluation = Evaluation(1 - accuracy / 100, cost)
                strategy.tell(Trial(query, evaluation, number + 1, 12, spent, 0.0, 0.0))

    about = {
        "nats_bench": version("nats_bench"),
        "architectures": count,
        "file KB": round(size / 1000),
    }
    return work, about


def write_files(folder: Path, strings: list[str], count: int) -> None:
    """The official format, filled with random numbers through nats_bench's own classes."""
    from nats_bench.api_utils import ArchResults, ResultsCount, pickle_save

    evaluated = {
        "cifar10-valid": ("x-valid", "ori-test"),
        "cifar10": ("ori-test",),
        "cifar100": ("x-valid", "x-test", "ori-test"),
        "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
    }
    rng = Random(0)
    folder.mkdir()
    meta = {"meta_archs": strings, "total_archs": len(strings)}
    pickle_save(meta, str(folder / "meta.pickle"))
    for number in range(count):
        record = OrderedDict()
        for epochs, seeds in (12, (777,)), (200, (777, 888, 999)[: 1 + number % 3]):
            results = ArchResults(number, strings[number])
            for dataset, sets in evaluated.items():
                for seed in seeds:
                    results.update(dataset, seed, trained(ResultsCount, dataset, seed, epochs, rng))
                    fill(results.all_results[dataset, seed], sets, epochs, rng)
            record[str(epochs)] = results.state_dict()
        pickle_save(record, str(folder / f"{number:06d}.pickle"))


def trained(kind: Any, dataset: str, seed: int, epochs: int, rng: Random) -> Any:
    accuracies, losses, times = (curve(epochs, rng) for _ in range(3))
    configuration = {"channel": 16, "num_cells": 5, "arch_str": "", "class_num": 10}
    result = kind(dataset, None, accuracies, losses, 0.3, 40.0, configuration, seed, epochs, [0.01])
    result.update_train_info(accuracies, curve(epochs, rng), losses, times)
    return result


def fill(result: Any, sets: tuple[str, ...], epochs: int, rng: Random) -> None:
    tables = [
        {f"{name}@{epoch}": value for name in sets for epoch, value in curve(epochs, rng).items()}
        for _ in range(3)
    ]
    result.update_eval(*tables)


def curve(epochs: int, rng: Random) -> dict[int, float]:
    return {epoch: round(rng.uniform(0, 100), 3) for epoch in range(epochs)}


def main() -> None:
    name, *rest = sys.argv[1:]
    try:
        work, about = optuna_random() if name == "optuna" else nats_bench(*map(int, rest))
    except ModuleNotFoundError:
        print("null", flush=True)
        return
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        start = perf_counter()
        work(int(line))
        print(perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
