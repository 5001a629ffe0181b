"""A synthetic file of HW-NAS-Bench: the published layout, random costs but for one cell."""

import pickle
from random import Random

import numpy as np

from spaces.nb201.space import NB201

RECIPE = "hw_nas_bench"
SPACE = NB201()
DATASETS = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}
FIRST = (  # number 0 of the official index; README of GATECH-EIC/HW-NAS-Bench@393bb8a
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
    "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
)
PUBLISHED = {  # its costs on CIFAR-10 in ms and mJ, from the same page
    "edgegpu_latency": 5.807418537139893,
    "edgegpu_energy": 24.226614330768584,
    "raspi4_latency": 10.481976820010459,
    "edgetpu_latency": 0.9571811309997429,
    "pixel3_latency": 3.6058499999999998,
    "eyeriss_latency": 3.645620000000001,
    "eyeriss_energy": 0.6872827644999999,
    "eyeriss_arithmetic_intensity": 9.5,  # not on that page
    "fpga_latency": 2.57296,
    "fpga_energy": 18.01072,
}


def texts():
    rng = Random(0)
    return [FIRST, *(SPACE.to_string(SPACE.sample(rng)) for _ in range(5))]


def content(seed=0):
    rng, found = Random(seed), {}
    for dataset, classes in DATASETS.items():
        found[dataset] = {
            name: [first, *(rng.uniform(0.1, 50) for _ in range(5))]
            for name, first in PUBLISHED.items()
        }
        found[dataset]["edgegpu_latency"] = np.array(found[dataset]["edgegpu_latency"])
        found[dataset]["pixel3_latency"] = list(np.array(found[dataset]["pixel3_latency"]))
        found[dataset]["config"] = [
            {"name": "infer.tiny", "C": 16, "N": 5, "arch_str": text, "num_classes": classes}
            for text in texts()
        ]
    key = "ConvNorm_H32_W32_Cin3_Cout16_kernel3_stride1_group1"
    return {"nasbench201": found, "fbnet": {"edgegpu_latency": {key: 0.7}}}


def write(folder, published=None, protocol=4):
    path = folder / "HW-NAS-Bench-v1_0.pickle"
    published = content() if published is None else published
    path.write_bytes(pickle.dumps(published, protocol=protocol))
    return path
