"""Trainings in a process of their own: with a deadline, and without harm to anybody else."""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
Work = Callable[[Mapping[str, Any]], Answer]

GRACE_SECONDS = 10.0  # between asking a process to stop and stopping it
START_SECONDS = 120.0  # importing PyTorch and reading a data set, on a busy machine
PR_SET_PDEATHSIG = 1


class Supervisor:
    """A process that answers requests one at a time, replaced by a new one when it fails.

    Requests and answers are JSON. `work` must be picklable: it is sent once to each process.
    """

    def __init__(self, work: Work, log: Path | None = None, threads: int = 1) -> None:
        """`log`: where the process writes what it prints; nowhere by default."""
        self.work, self.log, self.threads = work, log, threads
        self._process: Any = None
        self._pipe: Connection | None = None

    def ask(self, request: Mapping[str, Any], deadline: float) -> Answer:
        """The answer; or `{"status": …}` with why there is none.

        `timeout`: not within `deadline` seconds; `signal` or `exit`: the process ended;
        `exception`: it raised, `message` says what; `bad_result`: it answered no JSON object.
        """
        if self._process is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send_bytes(json.dumps(request).encode())
            if not self._pipe.poll(deadline):
                self.close()
                return {"status": "timeout"}
            answer = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            return self._ended()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("status"), str):
            self.close()
            return {"status": "bad_result"}
        return answer

    def close(self) -> None:
        """End the process with all that it started."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
        for name, patience in (signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, None):
            try:
                os.killpg(process.pid, name)
            except (ProcessLookupError, PermissionError):
                process.kill()
            process.join(patience)
            if process.exitcode is not None and name == signal.SIGTERM:
                continue  # what it started may still be there
        process.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self.work, self.log, self.threads, os.getpid()),
            daemon=True,  # nobody waits for it at the end
        )
        self._process.start()
        theirs.close()
        ready = False
        try:
            ready = self._pipe.poll(START_SECONDS) and self._pipe.recv_bytes() == b"ready"
        except (EOFError, OSError):
            pass
        if not ready:
            where = f"; see {self.log}" if self.log else ""
            self.close()
            raise RuntimeError(f"a training process did not start{where}")

    def _ended(self) -> Answer:
        self._process.join(GRACE_SECONDS)
        code = self._process.exitcode
        self.close()
        if code is not None and code < 0:
            return {"status": "signal", "message": signal.Signals(-code).name}
        return {"status": "exit", "message": f"exit status {code}"}


def _serve(
    pipe: Connection, work: Work, log: Path | None, threads: int, parent: int
) -> None:
    """The life of a process: it dies with its parent and leads a group of its own."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    import torch

    torch.set_num_threads(threads)
    pipe.send_bytes(b"ready")
    while True:
        try:
            request = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = work(request)
        except torch.OutOfMemoryError as error:
            answer = {"status": "oom_cuda", "message": str(error)}
        except MemoryError as error:
            answer = {"status": "oom_host", "message": str(error)}
        except Exception as error:
            answer = {"status": "exception", "message": f"{type(error).__name__}: {error}"}
        pipe.send_bytes(json.dumps(answer, allow_nan=False).encode())
