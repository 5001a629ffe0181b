"""Trainings in a process of their own: with a deadline, and without harm to anybody else."""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NoReturn

Answer = dict[str, Any]
Work = Callable[[Mapping[str, Any]], Answer]

GRACE_SECONDS = 10.0  # between asking a process to stop and stopping it
START_SECONDS = 600.0  # to import PyTorch and load, perhaps make, a data set on a busy machine
LONGEST_ANSWER = 1 << 19  # bytes; a journal takes twice as many
LONGEST_MESSAGE = 2000  # characters
WATCH_SECONDS = 0.1  # between two looks at whether a process is still there
PR_SET_PDEATHSIG = 1
SPOILT = ("exception", "cuda", "oom_cuda", "oom_host")  # after which a process is not to be trusted


class Supervisor:
    """A process that answers requests one at a time, replaced by a new one when it fails.

    Requests and answers are JSON objects. The process dies with the one that asks, and takes
    along whatever it started itself, however that one ended.
    """

    def __init__(self, prepare: Callable[[], Work], log: Path | None = None) -> None:
        """
        Args:
            prepare: called once in each process, makes what answers the requests; picklable.
            log: where the process writes what it prints, nowhere by default; it may be changed
                between two requests.
        """
        self.prepare, self.log = prepare, log
        self._process: Any = None
        self._pipe: Connection | None = None
        self._at_exit: Any = None

    def start(self) -> None:
        """Prepare a process, unless there is one.

        Raises:
            ChildProcessError: none could be prepared.
        """
        if self._process is not None and not self._process.is_alive():
            self.close()  # it ended between two requests, which is not the next one's doing
        if self._process is None:
            self._start()

    def ask(self, request: Mapping[str, Any], deadline: float, answers: int = 1) -> Answer:
        """The answer; or `{"status": …}` with why there is none.

        Args:
            answers: how many are joined in one, which may be as much longer.

        `timeout`: not within `deadline` seconds; `signal` or `exit`: the process ended;
        `exception`, `oom_host`, `oom_cuda`, `cuda`: it raised, `message` says what;
        `bad_result`: it answered something else than finite JSON with a status.

        Raises:
            ChildProcessError: no process could be prepared; that is nobody's answer.
        """
        self.start()
        try:
            answer = self._exchange(request, deadline, LONGEST_ANSWER * answers)
        except TimeoutError:
            self.close()
            return {"status": "timeout", "message": f"no answer within {deadline:g} seconds"}
        except (EOFError, OSError):
            return self._ended()
        except BaseException:  # such as Ctrl-C: what it is doing is of no use any more
            self.close()
            raise
        if answer["status"] in (*SPOILT, "bad_result"):
            self.close()
        return answer

    def close(self) -> int | None:
        """End the process with all that it started; returns its exit code, if there was one."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        self._at_exit.cancel()
        if self._pipe is not None:
            self._pipe.close()
        return _end(process)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(theirs, self.prepare, self.log, os.getpid()),
            daemon=True,  # nobody waits for it at the end
        )
        process.start()
        theirs.close()
        self._process = process
        # Before multiprocessing's own end of daemons, which would wait for them for ever.
        self._at_exit = Finalize(self, _end, (process,), exitpriority=100)
        try:
            answer = _parse(_receive(self._pipe, START_SECONDS, LONGEST_ANSWER))
        except (EOFError, OSError) as error:
            answer = {"status": "exit", "message": f"it ended or hung ({type(error).__name__})"}
        except BaseException:
            self.close()
            raise
        if answer["status"] != "ready":
            self.close()
            where = f"; see {self.log}" if self.log else ""
            raise ChildProcessError(f"no training can start: {answer.get('message')}{where}")

    def _exchange(self, request: Mapping[str, Any], deadline: float, longest: int) -> Answer:
        assert self._pipe is not None
        log = None if self.log is None else str(self.log)
        self._pipe.send_bytes(json.dumps([log, request]).encode())
        return _parse(_receive(self._pipe, deadline, longest))

    def _ended(self) -> Answer:
        gone = wait([self._process.sentinel], GRACE_SECONDS)
        code = self.close()
        if not gone or code is None:
            return {"status": "bad_result", "message": "it closed its end of the pipe and went on"}
        if code < 0:
            return {"status": "signal", "message": _signal_name(-code)}
        return {"status": "exit", "message": f"exit status {code}"}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _end(process: Any) -> int | None:
    """Ask a process and all of its group to stop, then stop them; returns its exit code."""
    _signal_group(process.pid, signal.SIGTERM)
    wait([process.sentinel], GRACE_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)  # before it is reaped: the number is still its own
    process.join()
    code: int | None = process.exitcode
    process.close()
    return code


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # it leads no group yet
        os.kill(leader, number)


def _receive(pipe: Connection, seconds: float, longest: int) -> bytes:
    """A line; raises TimeoutError, or EOFError where the other end is gone."""
    end = time.monotonic() + seconds
    data = bytearray()
    while not data.endswith(b"\n"):
        if len(data) > longest:
            return b"too long"
        if not wait([pipe], max(0.0, end - time.monotonic())):
            raise TimeoutError
        some = os.read(pipe.fileno(), 1 << 16)
        if not some:
            raise EOFError
        data += some
    return bytes(data)


def _parse(line: bytes) -> Answer:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"it holds {name}")

    try:
        answer = json.loads(line, parse_constant=refuse)
        if isinstance(answer, dict) and isinstance(answer.get("status"), str):
            return answer
        why = "no JSON object with a status"
    except ValueError as error:
        why = str(error)
    return {"status": "bad_result", "message": f"{why}: {line[:100]!r}"}


def _serve(pipe: Connection, prepare: Callable[[], Work], log: Path | None, parent: int) -> None:
    """The life of a process: it dies with its parent and leads a group of its own."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    _redirect(log)
    _guard()
    try:
        work = prepare()
    except Exception as error:
        _send(pipe, {"status": "unprepared", "message": _words(error)})
        return
    _send(pipe, {"status": "ready"})
    while True:
        try:
            path, request = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        _redirect(path and Path(path))
        try:
            answer = work(request)
        except Exception as error:
            answer = {"status": kind(error), "message": _words(error)}
        _send(pipe, answer)


def _redirect(log: Path | None) -> None:
    """Let what is printed, by whatever language, go to a file."""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _guard() -> None:
    """Fork a process that waits for the end of this one and then ends the rest of its group."""
    leader = os.getpid()
    if os.fork():
        return
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # or others wait for the end of our pipes
        while os.getppid() == leader:
            time.sleep(WATCH_SECONDS)
        os.killpg(leader, signal.SIGKILL)
    finally:
        os._exit(1)


def _send(pipe: Connection, answer: Any) -> None:
    try:
        line = json.dumps(answer, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        answer = {"status": "bad_result", "message": f"{_words(error)}: {answer!r:.200}"}
        line = json.dumps(answer).encode()
    left = memoryview(line + b"\n")
    while left:
        left = left[os.write(pipe.fileno(), left) :]


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE]


def kind(error: Exception) -> str:
    """Why a training failed, by what it raised."""
    import torch

    text = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "oom_cuda"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return "oom_host"
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in text:
        return "cuda"
    return "exception"
