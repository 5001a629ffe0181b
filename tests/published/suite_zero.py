"""Synthetic files of NAS-Bench-Suite-Zero: the published layout, random scores."""

import json
import math
from random import Random

from bench.proxies import PROXIES

RECIPE = "suite_zero_nb201"
TASKS = ("class_scene", "room_layout")
FILES = {  # recipe -> file, data sets, texts of architectures, and what they are called elsewhere
    "suite_zero_nb201": (
        "zc_nasbench201.json",
        ("cifar10", "cifar100", "ImageNet16-120"),
        {
            "(0, 1, 2, 3, 4, 0)": "|skip_connect~0|+|none~0|nor_conv_1x1~1|"
            "+|nor_conv_3x3~0|avg_pool_3x3~1|skip_connect~2|",
            "(4, 3, 3, 3, 2, 3)": "|avg_pool_3x3~0|+|nor_conv_1x1~0|nor_conv_1x1~1|"
            "+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_1x1~2|",
            "(2, 2, 2, 2, 2, 2)": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
            "+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        },
    ),
    "suite_zero_nb101": (
        "zc_nasbench101.json",
        ("cifar10",),
        {
            str((*(0, 1, 0, 0), *(0, 0, 1, 0), *(0, 0, 0, 1), *(0, 0, 0, 0), *(0, 4, 2, 1))): (
                "0100001000010000:input,conv3x3-bn-relu,maxpool3x3,output"
            ),
            str((*(0, 1, 1, 1), *(0, 0, 0, 1), *(0, 0, 0, 1), *(0, 0, 0, 0), *(0, 3, 3, 1))): (
                "0111000100010000:input,conv1x1-bn-relu,conv1x1-bn-relu,output"
            ),
        },
    ),
    "suite_zero_nb301": (
        "zc_nasbench301.json",
        ("cifar10",),
        {
            "(((1, 0), (0, 5), (1, 2), (0, 0), (0, 6), (3, 1), (2, 4), (1, 3)), "
            "((0, 6), (1, 6), (1, 3), (0, 4), (3, 4), (1, 1), (0, 6), (1, 0)))": (
                "Genotype(normal=[('dil_conv_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
                "('skip_connect', 1), ('dil_conv_5x5', 0), ('avg_pool_3x3', 3), "
                "('sep_conv_3x3', 1), ('sep_conv_5x5', 2)], normal_concat=range(2, 6), "
                "reduce=[('dil_conv_5x5', 0), ('dil_conv_5x5', 1), ('sep_conv_5x5', 0), "
                "('sep_conv_3x3', 1), ('avg_pool_3x3', 1), ('sep_conv_5x5', 3), "
                "('dil_conv_5x5', 0), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
            ),
        },
    ),
    "suite_zero_transnas_micro": (
        "zc_transbench101_micro.json",
        TASKS,
        {
            "(2, 3, 0, 1, 2, 3)": "64-41414-2_30_123",
            "(3, 3, 3, 3, 3, 3)": "64-41414-3_33_333",
        },
    ),
    "suite_zero_transnas_macro": (
        "zc_transbench101_macro.json",
        TASKS,
        {
            "(1, 2, 4, 2, 0, 0)": "64-1242-basic",
            "(1, 2, 1, 1, 1, 3)": "64-121113-basic",
            "(3, 1, 4, 2, 4, 0)": "64-31424-basic",
        },
    ),
}


def content(recipe=RECIPE, seed=0):
    """What the file holds; `nwot` is missing everywhere, some other scores are."""
    rng = Random(seed)
    _, datasets, texts = FILES[recipe]
    found = {dataset: {} for dataset in datasets}
    for dataset in datasets:
        for number, text in enumerate(texts):
            record = {"idx": str(number), "arch": text}
            for name in PROXIES:
                record[name] = {"score": rng.uniform(-50, 500), "time": rng.uniform(0.5, 60)}
            record["val_accuracy"] = rng.uniform(10, 94)
            del record["nwot"]
            found[dataset][text] = record
        last = found[dataset][text]
        last["jacov"]["score"], last["synflow"]["score"] = -1e8, -math.log(1e8)
    return found


def older(recipe=RECIPE, seed=0):
    """The same in the older form: the space above, plain scores below."""
    plain = {
        dataset: {
            text: {
                key: value["score"] if isinstance(value, dict) else value
                for key, value in record.items()
                if key not in ("idx", "arch")
            }
            for text, record in records.items()
        }
        for dataset, records in content(recipe, seed).items()
    }
    return {FILES[recipe][0][3:-5]: plain}


def write(folder, recipe=RECIPE, published=None):
    path = folder / FILES[recipe][0]
    path.write_text(json.dumps(content(recipe) if published is None else published))
    return path
