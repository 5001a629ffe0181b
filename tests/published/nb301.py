"""Training logs in the form of NAS-Bench-301, of made-up trainings that follow a known law."""

import json
import zipfile
from pathlib import Path
from random import Random

from spaces.darts.space import DARTS, OPERATIONS, PREFIX, cells, to_config

RECIPE = "nb301"
NAME = "nb_301_v13_lc_iclr_final"
OPTIMISERS = ("bananas", "darts", "re", "rs")
CURVE = 98  # epochs; the schedule has 100
COST = dict(zip(OPERATIONS, (1.1, 1.0, 0.7, 0.0, 0.1, 0.4, 0.5), strict=True))  # percent, an edge
# Every key of a published log, with what all logs share (automl/nasbench301@58ca2cb, api.py, and
# surrogate_models/test/results_fidelity_0/results_0.json)
FIXED = {
    "CreateImageDataLoader:batch_size": 96,
    "ImageAugmentation:augment": "True",
    "ImageAugmentation:autoaugment": "False",
    "ImageAugmentation:cutout": "True",
    "ImageAugmentation:cutout_holes": 1,
    "ImageAugmentation:cutout_length": 16,
    "ImageAugmentation:fastautoaugment": "False",
    "LossModuleSelectorIndices:loss_module": "cross_entropy",
    f"{PREFIX}auxiliary": "True",
    f"{PREFIX}drop_path_prob": 0.2,
    f"{PREFIX}init_channels": 32,
    f"{PREFIX}layers": 8,
    "NetworkSelectorDatasetInfo:network": "darts",
    "OptimizerSelector:optimizer": "sgd",
    "OptimizerSelector:sgd:learning_rate": 0.025,
    "OptimizerSelector:sgd:momentum": 0.9,
    "OptimizerSelector:sgd:weight_decay": 0.0003,
    "SimpleLearningrateSchedulerSelector:cosine_annealing:T_max": 100,
    "SimpleLearningrateSchedulerSelector:cosine_annealing:eta_min": 1e-08,
    "SimpleLearningrateSchedulerSelector:lr_scheduler": "cosine_annealing",
    "SimpleTrainNode:batch_loss_computation_technique": "mixup",
    "SimpleTrainNode:mixup:alpha": 0.2,
}


def accuracy(arch):
    """Percent, without noise: every edge costs what its operation does, in normal cells twice."""
    normal, reduce = (
        sum(COST[OPERATIONS[op]] for node in cell for _, op in node) for cell in cells(arch)
    )
    return 95.5 - 0.4 * normal - 0.2 * reduce


def log(arch, optimiser, rng, *, curves=True):
    """One training, as the dictionary in its file."""
    valid = round(accuracy(arch) + rng.gauss(0, 0.1), 2)
    train, operations = round(valid - 15, 6), sum(arch) + 10
    info = {
        "train_loss": 0.9,
        "train_accuracy": train,
        "train_cross_entropy": 1.7,
        "val_accuracy": valid,
        "val_cross_entropy": 0.3,
        "epochs": CURVE,
        "model_parameters": 1_000_000 + 10_000 * operations,
        "learning_rate": 1e-05,
        "train_datapoints": 40000,
        "val_datapoints": 10000,
        "dataset_path": "datasets/CIFAR10.csv",
        "dataset_id": 0,
        "train_loss_final": 0.9,
        "train_accuracy_final": train,
        "train_cross_entropy_final": 1.7,
        "val_accuracy_final": valid,
        "val_cross_entropy_final": 0.3,
    }
    record = {
        "final_metric_score": -valid,
        "optimized_hyperparamater_config": FIXED | to_config(arch),
        "budget": 100,
        "info": [info],
        "test_accuracy": round(valid - 0.3 + rng.gauss(0, 0.1), 2),
        "runtime": round(3000 + 20 * operations + rng.gauss(0, 20)),
        "optimizer": optimiser,
    }
    if curves:
        shape = [1 - 0.5 / (epoch + 1) for epoch in range(CURVE)]
        record["learning_curves"] = {
            "Train/train_loss": [2 - part for part in shape],
            "Train/train_accuracy": [train * part for part in shape],
            "Train/train_cross_entropy": [3 - part for part in shape],
            "Train/val_accuracy": [valid * part for part in shape],
            "Train/val_cross_entropy": [2 - part for part in shape],
        }
    return record


def logs(architectures=6, *, curves=True):
    """File -> log. The first architecture is trained three times, by three optimisers."""
    space, rng = DARTS(), Random(0)
    some = [space.sample(rng) for _ in range(architectures)]
    files = {}
    for number, arch in enumerate([some[0], some[0], *some]):
        optimiser = OPTIMISERS[number % len(OPTIMISERS)]
        files[f"{optimiser}/results_{number}.json"] = log(arch, optimiser, rng, curves=curves)
    return files


def write(folder: Path, architectures=6, *, curves=True) -> Path:
    """The unpacked folder, with a folder for every optimiser."""
    for name, record in logs(architectures, curves=curves).items():
        path = folder / NAME / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    return folder / NAME


def write_zip(folder: Path, architectures=6) -> Path:
    """The zip file, as downloaded."""
    path = folder / f"{NAME}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, record in logs(architectures).items():
            file.writestr(f"{NAME}/{name}", json.dumps(record))
    return path
