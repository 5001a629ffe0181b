"""Whatever happens to a training, its kind is known, the next one is answered, nobody is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sick

from bench.training import supervise
from bench.training.supervise import Supervisor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")
TESTS = Path(__file__).parent
SECONDS = 20.0  # a deadline that is not meant to end anything


@pytest.fixture
def supervisor(monkeypatch):
    monkeypatch.setattr(supervise, "GRACE_SECONDS", 1.0)
    one = Supervisor(sick.prepare)
    yield one
    one.close()


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def assert_gone(pids, seconds=5.0):
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.02)


def await_end(pid):
    """Until all threads of a child have ended; it is not reaped."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def group(pid):
    """Every process of a group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == pid:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


SICK = {
    "exit": ({"do": "exit", "code": 1}, "exit", "exit status 1"),
    "exit well": ({"do": "exit", "code": 0}, "exit", "exit status 0"),
    "leave": ({"do": "leave", "code": 7}, "exit", "exit status 7"),
    "raise": ({"do": "raise"}, "exception", "ZeroDivisionError: aaa"),
    "memory": ({"do": "memory"}, "oom_host", "MemoryError: no more"),
    "segfault": ({"do": "segfault"}, "signal", "SIGSEGV"),
    "kill": ({"do": "kill"}, "signal", "SIGKILL"),
    "nan": ({"do": "number", "value": "nan"}, "bad_result", "not JSON compliant"),
    "inf": ({"do": "number", "value": "inf"}, "bad_result", "not JSON compliant"),
    "-inf": ({"do": "number", "value": "-inf"}, "bad_result", "not JSON compliant"),
    "none": ({"do": "answer", "value": None}, "bad_result", "no JSON object with a status"),
    "text": ({"do": "answer", "value": "ok"}, "bad_result", "no JSON object with a status"),
    "no status": ({"do": "answer", "value": {}}, "bad_result", "no JSON object with a status"),
    "status 3": ({"do": "answer", "value": {"status": 3}}, "bad_result", "with a status"),
    "object": ({"do": "object"}, "bad_result", "not JSON serializable"),
    "long": ({"do": "long"}, "bad_result", ""),
    "garbage": ({"do": "garbage"}, "bad_result", "can't decode"),
    "two": ({"do": "two"}, "bad_result", "Extra data"),
    "half and leave": ({"do": "half and leave"}, "exit", "exit status 0"),
    "hang up": ({"do": "hang up"}, "bad_result", "closed its end of the pipe"),
}


@pytest.mark.parametrize("case", SICK)
def test_the_kind_is_exact_and_the_next_is_answered(supervisor, case, tmp_path):
    """Each sick one begets a grandchild first, which is gone as well."""
    request, status, message = SICK[case]
    first = supervisor.ask({"do": "well"}, SECONDS)["pid"]
    path = tmp_path / "pids"
    answer = supervisor.ask({**request, "beget": str(path)}, SECONDS)
    assert answer["status"] == status, answer
    assert message in answer["message"]
    assert len(answer["message"]) <= supervise.LONGEST_MESSAGE
    pids = [int(pid) for pid in path.read_text().split()]
    assert pids[0] == first
    assert_gone([*pids, *group(first)])
    second = supervisor.ask({"do": "well"}, SECONDS)
    assert second["status"] == "ok"
    assert second["pid"] != first


def test_joined_answers_may_be_longer(supervisor):
    """By the number of answers; the one of `sick` is eight times as long as one may be."""
    assert supervisor.ask({"do": "long"}, SECONDS, answers=9)["status"] == "ok"
    assert supervisor.ask({"do": "long"}, SECONDS, answers=7)["status"] == "bad_result"


def test_it_is_started_once_and_again_after_its_end(supervisor):
    supervisor.start()
    first = supervisor._process.pid
    supervisor.start()
    assert supervisor.ask({"do": "well"}, SECONDS)["pid"] == first
    os.killpg(first, signal.SIGKILL)
    await_end(first)
    supervisor.start()
    assert supervisor.ask({"do": "well"}, SECONDS)["pid"] != first


@pytest.mark.parametrize("do", ["sleep", "ignore", "half"])
def test_a_deadline_ends_it(supervisor, do, tmp_path):
    path = tmp_path / "pids"
    supervisor.ask({"do": "well"}, SECONDS)
    start = time.monotonic()
    answer = supervisor.ask({"do": do, "beget": str(path)}, 2.0)
    assert answer == {"status": "timeout", "message": "no answer within 2 seconds"}
    assert time.monotonic() - start < 2.0 + 1.0 + 10.0  # the deadline, the grace, a busy machine
    assert_gone(int(pid) for pid in path.read_text().split())
    assert supervisor.ask({"do": "well"}, SECONDS)["status"] == "ok"


def test_what_torch_raises_is_told_apart(supervisor):
    pytest.importorskip("torch")
    for request, status in [
        ({"do": "allocate"}, "oom_host"),
        ({"do": "cuda", "error": "OutOfMemoryError"}, "oom_cuda"),
        ({"do": "cuda", "error": "AcceleratorError"}, "cuda"),
    ]:
        answer = supervisor.ask(request, 120.0)
        assert answer["status"] == status, answer


def test_a_process_that_is_well_stays(supervisor):
    """A training that diverged harms nobody."""
    first = supervisor.ask({"do": "well"}, SECONDS)["pid"]
    assert supervisor.ask({"do": "diverge"}, SECONDS) == {"status": "diverged", "pid": first}
    assert supervisor.ask({"do": "well"}, SECONDS)["pid"] == first


def test_death_between_two_requests_is_nobodys_fault(supervisor):
    first = supervisor.ask({"do": "well"}, SECONDS)["pid"]
    os.kill(first, signal.SIGKILL)
    await_end(first)
    answer = supervisor.ask({"do": "well"}, SECONDS)
    assert answer["status"] == "ok"
    assert answer["pid"] != first


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (sick.cannot_prepare, "no training can start: FileNotFoundError: the data set is not"),
        (sick.dies_preparing, r"no training can start: it ended or hung \(EOFError\)"),
        (sick.hangs_preparing, r"no training can start: it ended or hung \(TimeoutError\)"),
        (lambda: None, "pickle"),
    ],
)
def test_who_cannot_start_says_so(prepare, sentence, monkeypatch):
    """That is no answer: what hangs on it is no failed architecture."""
    seconds = 1.0 if prepare is sick.hangs_preparing else SECONDS
    monkeypatch.setattr(supervise, "START_SECONDS", seconds)
    one = Supervisor(prepare)
    for _ in range(2):
        with pytest.raises(Exception, match=sentence) as raised:
            one.ask({"do": "well"}, SECONDS)
    assert isinstance(raised.value, ChildProcessError) or "pickle" in sentence
    one.close()


def test_what_is_printed_goes_to_the_log(tmp_path, capfd):
    """One may change it between two requests to the same process."""
    logs = [tmp_path / "folder/training.log", None, tmp_path / "other.log"]
    one = Supervisor(sick.prepare, logs[0])
    for log in logs:
        one.log = log
        assert one.ask({"do": "print"}, SECONDS)["status"] == "ok"
    one.close()
    for log in logs[::2]:
        assert sorted(log.read_text().splitlines()) == ["a word on stdout", "and one on stderr"]
    out, err = capfd.readouterr()
    assert "a word on" not in out + err


def test_an_interrupted_question_leaves_nobody(supervisor, tmp_path):
    path = tmp_path / "pids"
    supervisor.ask({"do": "well", "beget": str(path)}, SECONDS)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            supervisor.ask({"do": "sleep"}, SECONDS)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert_gone(int(pid) for pid in path.read_text().split())


def test_closing_twice_and_asking_again(supervisor):
    supervisor.close()
    first = supervisor.ask({"do": "well"}, SECONDS)["pid"]
    assert supervisor.close() == -signal.SIGTERM
    assert supervisor.close() is None
    assert_gone([first])
    assert supervisor.ask({"do": "well"}, SECONDS)["status"] == "ok"


PARENT = """
import sys, time
import sick
from bench.training import supervise
supervise.GRACE_SECONDS = 1.0
one = supervise.Supervisor(sick.prepare)

def main():
    one.ask({"do": "stubborn", "beget": sys.argv[2]}, 60.0)
    print("asked", flush=True)
    if sys.argv[1] == "asks":
        one.ask({"do": "ignore"}, 600.0)
    if sys.argv[1] == "raises":
        raise ZeroDivisionError
    if sys.argv[1] == "waits":
        time.sleep(600)

def child(_):
    main()

if __name__ == "__main__":
    if sys.argv[1] == "pool":
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            list(pool.map(child, [0]))
    else:
        main()
"""


def parent(tmp_path, what):
    """A process that supervises another one, which has begotten a third."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    path = tmp_path / "pids"
    process = subprocess.Popen(
        [sys.executable, script, what, path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "asked\n"
    return process, [int(pid) for pid in path.read_text().split()]


@pytest.mark.parametrize("what", ["asks", "waits"])
def test_a_killed_parent_leaves_nobody(tmp_path, what):
    process, pids = parent(tmp_path, what)
    members = group(pids[0])
    assert set(pids) < set(members)  # and the one that watches over the group
    if what == "asks":
        time.sleep(0.3)
    process.kill()
    process.wait(10)
    assert_gone(members)
    process.stdout.close()


@pytest.mark.parametrize("what", ["ends", "raises", "pool"])
def test_a_parent_that_ends_does_not_hang_and_leaves_nobody(tmp_path, what):
    """It never calls `close`, and who is left ignores SIGTERM, for whose end multiprocessing
    would wait; the last parent is a worker of a pool, where `atexit` comes too late.
    """
    process, pids = parent(tmp_path, what)
    members = {*pids, *group(pids[0])}
    assert process.wait(15) == (what == "raises")
    assert_gone(members)
    process.stdout.close()


def test_a_forgotten_supervisor_ends_its_process():
    one = Supervisor(sick.prepare)
    pid = one.ask({"do": "well"}, SECONDS)["pid"]
    del one
    assert_gone([pid])
