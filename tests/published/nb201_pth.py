"""Synthetic files of NAS-Bench-201: a dict in either container of `torch.save`."""

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict

from published import nats, nats_tss

RECIPE = "nb201_v1_1"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"int": 4}}


def renamed(record):
    return {"less": record["12"], "full": record["200"]}


def dumped(value):
    return nats.old_numpy(pickle.dumps(value, protocol=2))


def stacked(value):
    """The container before torch 1.6: pickles one after the other, then the storages."""
    return b"".join(dumped(part) for part in (MAGIC, VERSION, SYSTEM, value, []))


def zipped(value):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", dumped(value))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def write(folder, published=None, container=stacked):
    """The whole file, whose name ends in digits of its MD5 as the official ones do."""
    published = nats_tss.records() if published is None else published
    top = nats.meta(nats_tss.strings(), {i: renamed(record) for i, record in published.items()})
    data = container(top)
    digits = hashlib.md5(data, usedforsecurity=False).hexdigest()[-6:]
    path = folder / f"NAS-Bench-201-v1_1-{digits}.pth"
    path.write_bytes(data)
    return path


def write_folder(folder, published=None, container=stacked):
    """One file an architecture."""
    published = nats_tss.records() if published is None else published
    target = folder / "NAS-Bench-201-v1_1-archive"
    target.mkdir()
    for index, record in published.items():
        data = container(OrderedDict(reversed(renamed(record).items())))
        (target / f"{index:06d}-FULL.pth").write_bytes(data)
    return target
