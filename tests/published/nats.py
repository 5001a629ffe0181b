"""Synthetic records of NAS-Bench-201 and NATS-Bench: the published structures, random values.

Sixteen fields a run, plain and ordered dicts, shared and repeated strings, numpy numbers and the
odd order of seeds are those of the published records 0 and 11.
"""

import bz2
import pickle
import struct
from collections import OrderedDict

import numpy as np

CLASSES = {"cifar10-valid": 10, "cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}
SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
CURVE = {"cifar10-valid": "x-valid"}  # what is measured after each of 200 epochs; else ori-test


def record(index, text, space, rng, seeds=(777, 888, 999)):
    """What is known of one architecture, by schedule."""
    costs = {
        "params": round(float(rng.uniform(0.05, 1.5)), 6),
        "flop": float(round(rng.uniform(4, 200), 5)),
        "latency": {name: float(rng.uniform(0.01, 0.02)) for name in CLASSES},
        "epoch": float(rng.uniform(3, 18)),
    }
    if space == "tss":
        runs = {
            "12": [("cifar10-valid", 777), *((name, 111) for name in CLASSES)],
            "200": [(name, seed) for seed in odd_order(seeds) for name in CLASSES],
        }
    else:
        runs = {
            "01": [(name, 777) for name in CLASSES],
            "12": [(name, seed) for seed in (777, 888, 999) for name in CLASSES],
            "90": [(name, 777) for name in CLASSES],
        }
    return OrderedDict(
        (hp, state(index, text, hp, pairs, costs, rng)) for hp, pairs in runs.items()
    )


def odd_order(seeds):
    return [*seeds[-1:], *seeds[:-1]]


def state(index, text, hp, pairs, costs, rng):
    names = dict(pairs)
    return {
        "arch_index": index,
        "arch_str": text,
        "all_results": {
            (name, seed): run(name, seed, f"{seed:04d}", hp, text, costs, rng)
            for name, seed in pairs
        },
        "dataset_seed": {
            name: sorted(seed for other, seed in pairs if other == name) for name in names
        },
        "clear_net_done": True,
    }


def run(name, seed, seed_text, hp, text, costs, rng):
    epochs, size = int(hp), ":" in text
    curve_only = hp == "200"  # sets but one have only their last epoch
    keys = [
        f"{part}@{epoch}"
        for part in SETS[name]
        for epoch in range(epochs)
        if not curve_only or epoch == epochs - 1 or part == CURVE.get(name, "ori-test")
    ]
    timed = keys if size else [f"{part}@{epoch}" for part in SETS[name] for epoch in range(epochs)]
    train, top5 = rng.uniform(0, 100, (2, epochs)).round(3).tolist()
    train[-1] = max(train[-1], 12.0)  # a network that learns
    tested = rng.uniform(0, 100, len(keys)).round(3).tolist()
    losses, tested_losses = (
        rng.uniform(0, 4, epochs).tolist(),
        rng.uniform(0, 4, len(keys)).tolist(),
    )
    seconds = costs["epoch"] * {"cifar10-valid": 1, "ImageNet16-120": 6.068}.get(name, 2)
    pass_seconds = {part: seconds * (number + 1) / 7 for number, part in enumerate(SETS[name])}
    whole = range(epochs)
    return {
        "name": name,
        "train_acc1es": dict(zip(whole, train, strict=True)),
        "train_acc5es": None if curve_only else dict(zip(whole, top5, strict=True)),
        "train_losses": dict(zip(whole, losses, strict=True)),
        "train_times": OrderedDict((epoch, seconds) for epoch in whole),
        "arch_config": configuration(text, CLASSES[name]),
        "params": np.float64(costs["params"]),
        "flop": costs["flop"],
        "seed": seed_text,
        "epochs": epochs,
        "latency": [np.float64(costs["latency"][name])],
        "eval_names": list(SETS[name]),
        "eval_acc1es": dict(zip(keys, tested, strict=True)),
        "eval_times": {key: pass_seconds[key.partition("@")[0]] for key in timed},
        "eval_losses": dict(zip(fresh(keys, size), tested_losses, strict=True)),
        "net_state_dict": None,
    }


def fresh(keys, shared):
    """The size space shares the strings of a run, the topology space repeats them."""
    return keys if shared else ["".join(list(key)) for key in keys]


def configuration(text, classes):
    if ":" in text:
        return {
            "name": "infer.shape.tiny",
            "channels": text,
            "arch_str": text,
            "genotype": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
            "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            "class_num": classes,
        }
    return {"channel": 16, "num_cells": 5, "arch_str": text, "class_num": classes}


def meta(strings, records=None):
    return {
        "meta_archs": strings,
        "total_archs": len(strings),
        "arch2infos": records,
        "evaluated_indexes": set(records or ()),
    }


def old_numpy(data):
    """A pickle as numpy 1 wrote it, whose module of scalars has another name."""
    if data[1] < 4:  # names stand as they are, and nothing counts their bytes
        return data.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    parts, at = [], 2
    while at < len(data):  # frame after frame: 0x95, its length in eight bytes, its contents
        (size,) = struct.unpack_from("<Q", data, at + 1)
        parts.append(data[at + 9 : at + 9 + size])
        at += 9 + size
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    text = b"".join(parts).replace(bytes([0x8C, len(new)]) + new, bytes([0x8C, len(old)]) + old)
    return b"\x80\x04\x95" + struct.pack("<Q", len(text)) + text


def packed(value, path):
    path.write_bytes(bz2.compress(old_numpy(pickle.dumps(value, protocol=4))))
    return path


def write_folder(folder, name, strings, records):
    """The unpacked form; returns the folder."""
    target = folder / name
    target.mkdir()
    packed(meta(strings), target / "meta.pickle.pbz2")
    for index, some in records.items():
        packed(some, target / f"{index:06d}.pickle.pbz2")
    return target
