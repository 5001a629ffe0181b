"""A synthetic file of TransNAS-Bench-101: the published layout, random curves.

The layout is that of `api/api.py` and `README.md` in yawen-d/TransNASBench.
"""

import pickle
import zipfile
from random import Random

RECIPE = "transnas_micro"
MICRO = ("64-41414-1_02_333", "64-41414-3_33_333", "64-41414-0_00_000", "64-41414-2_03_323")
MACRO = ("64-1234-basic", "64-2311-basic", "64-41111-basic", "64-113444-basic", "64-4111-basic")
INFO = ("inference_time", "encoder_params", "model_params", "model_FLOPs", "encoder_FLOPs")
EPOCHS = {
    "class_scene": 25,
    "class_object": 25,
    "room_layout": 25,
    "jigsaw": 10,
    "segmentsemantic": 30,
    "normal": 30,
    "autoencoder": 30,
}
METRICS = {
    **dict.fromkeys(("class_scene", "class_object", "jigsaw"), ("top1", "top5", "loss")),
    "room_layout": ("loss", "neg_loss"),
    "segmentsemantic": ("loss", "acc", "mIoU"),
    **dict.fromkeys(("normal", "autoencoder"), ("l1_loss", "ssim")),
}


def metric_names(task):
    names = [f"{split}_{name}" for split in ("train", "valid", "test") for name in METRICS[task]]
    return [*names, "time_elapsed"]


def record(task, rng):
    """One network on one task: `model_info`, `metrics` and `total_epochs`."""
    epochs, pace = EPOCHS[task], rng.randrange(40, 4000)
    metrics = {}
    for name in metric_names(task):
        if name == "time_elapsed":
            times = [pace * epoch for epoch in range(1, epochs + 1)]
            values = [f"{t // 3600:02}:{t // 60 % 60:02}:{t % 60:02}" for t in times]
        elif name.endswith(("top1", "top5", "acc", "mIoU")):
            values = [rng.uniform(1, 60) for _ in range(epochs)]
        else:
            values = [rng.uniform(0.3, 0.9) for _ in range(epochs)]
        metrics[name] = values
        if name.endswith("_neg_loss"):
            metrics[name] = [-loss for loss in metrics[name.replace("_neg_", "_")]]
    info = {
        "inference_time": rng.uniform(0.005, 0.05),
        "encoder_params": rng.randrange(10**5, 10**7),
        "model_params": rng.randrange(10**6, 10**8),
        "model_FLOPs": float(rng.randrange(10**8, 10**11)),
        "encoder_FLOPs": float(rng.randrange(10**8, 10**10)),
    }
    return {"model_info": info, "metrics": metrics, "total_epochs": epochs}


def records(micro=MICRO, macro=MACRO, seed=0):
    """What the file holds."""
    rng = Random(seed)
    return {
        "metrics_dict": {task: metric_names(task) for task in EPOCHS},
        "info_names": list(INFO),
        "task_list": list(EPOCHS),
        "data": {
            part: {text: {task: record(task, rng) for task in EPOCHS} for text in texts}
            for part, texts in (("macro", macro), ("micro", micro))
        },
    }


def write(folder, published=None):
    """As `torch.save` writes since version 1.6."""
    path = folder / "transnas-bench_v10141024.pth"
    with zipfile.ZipFile(path, "w") as archive:
        text = pickle.dumps(records() if published is None else published, protocol=2)
        archive.writestr("archive/data.pkl", text)
        archive.writestr("archive/version", "3\n")
    return path


def write_legacy(folder, published=None):
    """As `torch.save` wrote before."""
    path = folder / "transnas-bench_v10141024.pth"
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    parts = 0x1950A86A20F9469CFC6C, 1001, system, records() if published is None else published, []
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    return path
