"""Work for supervised processes, most of it gone wrong."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def prepare():
    return work


def cannot_prepare():
    raise FileNotFoundError("the data set is not there")


def dies_preparing():
    os._exit(3)


def hangs_preparing():
    time.sleep(600)


def beget(path):
    """A grandchild that ignores SIGTERM and sleeps, in the same group; its number is written."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", code + "time.sleep(600)"], stdout=subprocess.PIPE
    )
    child.stdout.readline()
    Path(path).write_text(f"{os.getpid()} {child.pid}")
    return child


def work(request):
    do = request["do"]
    if path := request.get("beget"):
        beget(path)
    match do:
        case "well":
            return {"status": "ok", "pid": os.getpid()}
        case "diverge":
            return {"status": "diverged", "pid": os.getpid()}
        case "exit":
            sys.exit(request["code"])
        case "leave":
            os._exit(request["code"])
        case "raise":
            raise ZeroDivisionError("a" * 5000)
        case "memory":
            raise MemoryError("no more")
        case "allocate":
            import torch

            torch.empty(1 << 50)
        case "cuda":
            import torch

            raise getattr(torch, request["error"])("CUDA error: out of luck")
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(600)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            return {"status": "ok"}
        case "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        case "answer":
            return request["value"]
        case "number":
            return {"status": "ok", "error": float(request["value"])}
        case "object":
            return {"status": "ok", "error": object()}
        case "long":
            return {"status": "ok", "text": "x" * (1 << 22)}
        case "print":
            print("a word on stdout", flush=True)
            os.write(2, b"and one on stderr\n")
            return {"status": "ok"}
        case "half":
            send(b'{"status": "ok", "err')
            time.sleep(600)
        case "half and leave":
            send(b'{"status": "ok", "err')
            os._exit(0)
        case "garbage":
            send(b"\xff\xfe{}\n")
            time.sleep(600)
        case "two":
            send(b'{"status": "ok"}\n{"status": "ok"}\n')
            time.sleep(600)
        case "hang up":
            os.close(pipe())
            time.sleep(600)
    raise AssertionError(do)


def send(data):
    os.write(pipe(), data)


def pipe():
    """The descriptor of the answers: the one socket that this process has."""
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_socket():
            return int(entry.name)
    raise AssertionError("no socket")
