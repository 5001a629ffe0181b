import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trainings import WORDS, write_signals

from bench import run
from bench.build import BuildError, InputError, choose, describe, key_of
from bench.built import collect, discrimination, notes, to_table
from bench.commands import training
from bench.store import StoreError
from bench.table import TableError, read_table
from spaces.chain.space import Chain

pytest.importorskip("torch", reason="PyTorch is absent")

from bench import build, compose

ROOT = Path(__file__).parent.parent
MEASURED = {"train_seconds", "latency"}


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_signals(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_ARENA_DATA", str(folder))
        yield folder


def plan_of(*words, architectures="random:14", seeds=2):
    made = compose.training([*WORDS, *words])
    return build.make_plan(made, choose(made.space, architectures), seeds)


def shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("trials-*")}


@pytest.fixture(scope="module")
def plan():
    return plan_of()


@pytest.fixture(scope="module")
def joined(plan):
    """The same where there are populations, as on a GPU."""
    return replace(plan, about=plan.about | {"population": True})


@pytest.fixture(scope="module")
def serial(plan, tmp_path_factory):
    """28 trainings, three shards, by one process."""
    return build.train_all(plan, tmp_path_factory.mktemp("serial"))


@pytest.fixture(scope="module")
def table(plan, serial):
    texts = {"source": "test", "licence": "", "citation": "", "notes": ""}
    return to_table(plan, collect(plan, serial), texts)


# ------------------------------------------------------------------ which architectures


def test_all_architectures_in_order():
    assert choose(Chain(), "all") == tuple(Chain())


def test_random_ones_are_different_seeded_and_begin_alike():
    some = choose(Chain(), "random:50")
    assert len(set(some)) == 50
    assert choose(Chain(), "random:20") == some[:20]
    assert choose(Chain(), "random:50:1") != some
    most = choose(Chain(), "random:1359")
    assert len(set(most)) == 1359
    assert set(choose(Chain(), "random:1360")) == set(Chain())


def test_listed_ones(tmp_path):
    (tmp_path / "some").write_text("3-5-4  # good\n\n# none\n6-6\n")
    assert [*map(Chain().to_string, choose(Chain(), str(tmp_path / "some")))] == ["3-5-4", "6-6"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("3-5\n3-9\n", r"line 2: '3-9' is no chain"),
        ("3-5\n4-4\n3-5\n", r"lines 1 and 3 are the same network"),
        ("# nothing\n", r"lists 0 architectures"),
    ],
)
def test_a_wrong_list(tmp_path, text, why):
    (tmp_path / "some").write_text(text)
    with pytest.raises(InputError, match=why):
        choose(Chain(), str(tmp_path / "some"))


@pytest.mark.parametrize("text", ["random:0", "random:1361", "random:-1", "nothing", "random:x"])
def test_a_wrong_choice(text):
    with pytest.raises(InputError, match=r"allowed: all, random:N or a file$"):
        choose(Chain(), text)


# ------------------------------------------------------------------------ the shards


def test_the_number_of_processes_moves_nothing(plan, serial, tmp_path):
    done = []
    parallel = build.train_all(plan, tmp_path, jobs=2, progress=done.append)
    assert parallel.name == serial.name
    assert shards(parallel) == shards(serial)
    assert len(shards(serial)) == 3
    assert sum(done) == 28


def test_what_is_sealed_is_not_trained_again(plan, serial):
    before = {path: path.stat().st_mtime_ns for path in serial.glob("*.npz")}
    done = []
    build.train_all(plan, serial.parent, jobs=2, progress=done.append)
    assert done == [28]
    assert {path: path.stat().st_mtime_ns for path in serial.glob("*.npz")} == before


def test_a_killed_build_goes_on(plan, serial, tmp_path):
    words = [*WORDS, "architectures=random:14", "seeds=2", f"out={tmp_path}", "name=killed"]
    command = [sys.executable, "-m", "bench.cli", "build", *words]
    child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while not list(tmp_path.glob("*/trials-*")):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    (folder,) = tmp_path.iterdir()
    there = shards(folder)
    assert 1 <= len(there) < 3
    end = time.monotonic() + 20
    while still := working_on(folder):
        assert time.monotonic() < end, f"left behind: {still}"
        time.sleep(0.1)
    build.train_all(plan, tmp_path)
    assert there.items() <= shards(folder).items()
    assert shards(folder) == shards(serial)


def working_on(folder):
    """Processes that have a file of a folder open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [str(one.readlink()) for one in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(str(folder) in file for file in files):
            found.append(process.name)
    return found


def test_a_damaged_shard_is_seen(plan, serial, tmp_path):
    folder = tmp_path / serial.name
    folder.mkdir()
    for path in serial.glob("*.npz"):
        (folder / path.name).write_bytes(path.read_bytes())
    (first, *_) = sorted(folder.glob("trials-*"))
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="has changed since it was sealed"):
        collect(plan, folder)


@pytest.mark.parametrize(
    "words", [["recipe.learning_rate=0.2"], ["dataset.load.seed=42", "recipe.network.width=5"]]
)
def test_other_settings_are_another_build(plan, words):
    made = compose.training([*WORDS, *words])
    assert key_of(replace(plan, config=made.config)) != key_of(plan)


def test_a_precision_is_decided_for_the_device(monkeypatch):
    import torch

    keys = {}
    for native, precision in (True, "bf16"), (False, "fp32"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"bf16": native})
        one = plan_of("recipe.precision=auto", architectures="random:1")
        assert one.trainer.recipe.precision == precision
        keys[precision] = key_of(one)
    assert keys["bf16"] != keys["fp32"]


def test_what_else_makes_another_build(plan):
    others = [
        replace(plan, seeds=3),
        replace(plan, first_seed=1),
        replace(plan, costs=False),
        replace(plan, shard=5),
        replace(plan, architectures=plan.architectures[::-1]),
        replace(plan, about=plan.about | {"data": "0"}),
        replace(plan, about=plan.about | {"device": "cuda"}),
    ]
    assert len({key_of(one) for one in (plan, *others)}) == 8
    assert key_of(replace(plan, deadline=1.0)) == key_of(plan)
    assert json.loads(json.dumps(describe(plan))) == describe(plan)


# ------------------------------------------------------------------------- the table


def test_the_table_holds_curves_costs_and_proxies(plan, table):
    assert table.architectures.tolist() == [list(arch) for arch in plan.architectures]
    assert list(table.schedules) == [("mnist1d", "2")]
    known = table.schedules["mnist1d", "2"]
    assert (known.epochs.tolist(), known.seeds.tolist()) == ([1, 2], [0, 1])
    for split in "train", "valid", "test":
        errors = known.columns[f"{split}_error"]
        assert errors.shape == (14, 2, 2)
        assert ((errors >= 0) & (errors <= 1)).all()
        assert np.isnan(known.columns[f"{split}_f1_error"][:, 0]).all()
        assert not np.isnan(known.columns[f"{split}_f1_error"][:, 1]).any()
    for name in "train_seconds", "latency", "flops", "parameters":
        assert (known.columns[name] > 0).all()
        assert known.columns[name].shape == (14,)
    proxies = {name for name in known.columns if name.startswith("proxy_")}
    assert {"proxy_synflow", "proxy_snip", "proxy_grad_norm", "proxy_nwot"} <= proxies
    assert known.columns["proxy_synflow"].shape == (14, 2)
    assert table.provenance["source_sha256"] == key_of(plan)


def test_parameters_and_flops_are_those_of_the_formula(plan, table):
    """Convolutions of width 4 without biases, two numbers a norm, and 10 classes."""
    known = table.schedules["mnist1d", "2"]
    for row, arch in enumerate(plan.architectures):
        kernels = [int(word) for word in plan.space.to_string(arch).split("-")]
        weights = [4 * kernel * (1 if depth == 0 else 4) for depth, kernel in enumerate(kernels)]
        assert known.columns["parameters"][row] == sum(weights) + 8 * len(kernels) + 50
        length, flops = 56, 4 * 10
        for depth, kernel in enumerate(kernels):
            length -= kernel - 1
            flops += weights[depth] * length
        assert known.columns["flops"][row] == flops


def test_a_row_is_what_training_it_alone_gives(plan, table):
    """In this process, without supervision."""
    from bench.training.loop import train

    data = plan.trainer.load()
    arch = plan.architectures[3]
    name = plan.space.to_string(arch)
    _, outcome = train(
        plan.trainer.builder(arch, data),
        data,
        plan.trainer.recipe,
        seed=1,
        splits=("train", "valid", "test"),
        name=name,
    )
    known = table.schedules["mnist1d", "2"]
    for split in "train", "valid", "test":
        told = known.columns[f"{split}_error"][3, :, 1]
        assert np.allclose(told, outcome.errors[split], atol=0.02)


class Answers:
    """A supervisor of which the answers to trainings are known."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def ask(self, request, deadline, answers=1):
        self.asked.append(request)
        if request["kind"] == "costs":
            return {"status": "ok", "parameters": 9, "flops": None, "proxy_snip": 0.5, "odd": 3} | {
                "epoch_seconds": 40.0
            }
        return self.answers.pop(0)


def good(**changes):
    curves = {split: [0.5, 0.25] for split in ("train", "valid", "test")}
    f1 = dict.fromkeys(curves, 0.75)
    answer = {"status": "ok", "errors": curves, "f1": f1, "epochs": 2, "seconds": 3.0}
    return answer | {"parameters": 7} | changes


def sealed_by(plan, folder, *answers, costs=False):
    """What is read back after a shard was trained with these answers, two for each row."""
    small = replace(plan, architectures=plan.architectures[: len(answers) // 2], costs=costs)
    supervisor = Answers(*answers)
    folder.mkdir(exist_ok=True)
    build._train_shard(small, folder, range(small.trainings), supervisor, bool)
    return small, supervisor, collect(small, folder)


def test_what_answers_become(plan, tmp_path):
    small, supervisor, built = sealed_by(plan, tmp_path, good(), good(), costs=True)
    assert built.failures == []
    assert built.columns["errors"].shape == (1, 2, 3, 2)
    assert (built.columns["errors"] == [0.5, 0.25]).all()
    assert built.columns["epoch_seconds"].tolist() == [[1.5, 1.5]]
    assert built.columns["parameters"].tolist() == [[9, 9]]
    assert built.columns["proxy_snip"].tolist() == [[0.5, 0.5]]
    assert not built.columns.keys() & {"odd", "flops"}
    asked = [(one["kind"], one["seed"]) for one in supervisor.asked]
    assert asked == [("train", 0), ("costs", 0), ("train", 1), ("costs", 1)]
    assert {one["architecture"] for one in supervisor.asked} == set(small.architectures)


def test_failed_trainings_are_missing_and_listed(plan, tmp_path):
    curves = {"train": [0.5], "valid": [0.75], "test": [0.25]}
    broken = good(status="diverged", errors=curves, epochs=1, f1={})
    late = {"status": "timeout", "message": "no answer within 5 seconds"}
    small, _, built = sealed_by(plan, tmp_path, good(), broken, late, late)
    names = [small.space.to_string(arch) for arch in small.architectures]
    (shard,) = tmp_path.glob("trials-*")
    assert built.failures == [
        (names[0], 1, "diverged", "", shard),
        (names[1], 0, "timeout", "no answer within 5 seconds", shard),
        (names[1], 1, "timeout", "no answer within 5 seconds", shard),
    ]
    texts = dict.fromkeys(("source", "licence", "citation", "notes"), "")
    known = to_table(small, built, texts).schedules["mnist1d", "2"]
    valid = known.columns["valid_error"]
    assert valid[0, 0].tolist() == [0.5, 0.75]  # what it had reached stays
    assert valid[0, 1, 0] == 0.25
    assert np.isnan(valid[0, 1, 1])
    assert np.isnan(valid[1]).all()
    assert np.isnan(known.columns["train_seconds"]).tolist() == [False, True]
    assert "3 of 4 trainings failed and are missing" in notes(small, built, "two")


@pytest.mark.parametrize(
    "changes",
    [
        {"errors": {"train": [2.0, 0.1], "valid": [0.1, 0.1], "test": [0.1, 0.1]}},
        {"errors": {"train": [0.1], "valid": [0.1], "test": [0.1]}},
        {"errors": {}},
        {"errors": {"train": "many", "valid": [0.1, 0.1], "test": [0.1, 0.1]}},
        {"f1": {"train": 0.5}},
        {"f1": {"train": 0.5, "valid": 1.5, "test": 0.5}},
        {"seconds": None},
        {"data": "another"},
    ],
)
def test_strange_answers_are_failures(plan, tmp_path, changes):
    _, _, built = sealed_by(plan, tmp_path, good(**changes), good())
    assert [one.status for one in built.failures] == ["bad_result"]
    assert np.isnan(built.columns["errors"][0, 0]).all()
    assert np.isnan(built.columns["f1"][0, 0]).all()
    assert not np.isnan(built.columns["errors"][0, 1]).any()


@pytest.mark.parametrize(("status", "tries"), [("signal", 2), ("exit", 2), ("exception", 1)])
def test_what_may_be_the_machines_doing_is_tried_once_more(plan, tmp_path, status, tries):
    failed = {"status": status, "message": "…"}
    answers = [failed, good(), good()] if tries == 2 else [failed, good()]
    supervisor = Answers(*answers)
    small = replace(plan, architectures=plan.architectures[:1], costs=False)
    build._train_shard(small, tmp_path, range(2), supervisor, bool)
    assert len(collect(small, tmp_path).failures) == 2 - tries
    assert not supervisor.answers


def test_a_shard_is_asked_as_a_population(joined, tmp_path):
    joint = {"status": "ok", "answers": [good(together=2), good(status="diverged", together=2)]}
    supervisor = Answers(joint)
    small = replace(joined, architectures=joined.architectures[:1])
    build._train_shard(small, tmp_path, range(2), supervisor, bool)
    assert [one["kind"] for one in supervisor.asked] == ["together", "costs", "costs"]
    assert [one["seed"] for one in supervisor.asked[0]["trainings"]] == [0, 1]
    built = collect(small, tmp_path)
    assert [one.status for one in built.failures] == ["diverged"]
    assert built.columns["epoch_seconds"][0, 0] == 40.0  # alone, and not its share


def test_a_population_too_is_tried_once_more(joined, tmp_path):
    joint = {"status": "ok", "answers": [good(together=2), good(together=2)]}
    _, supervisor, built = sealed_by(joined, tmp_path, {"status": "signal"}, joint)
    assert [one["kind"] for one in supervisor.asked] == ["together", "together"]
    assert built.failures == []


def test_the_code_is_that_of_the_beginning(plan, monkeypatch):
    monkeypatch.setattr(build, "_code", lambda space: {"space": "other"})
    assert describe(plan)["code"] == plan.code
    assert key_of(plan) != key_of(replace(plan, code={"space": "other"}))


@pytest.mark.parametrize(
    "joint",
    [
        {"status": "timeout", "message": "…"},
        {"status": "ok", "answers": [good()]},
        {"status": "ok", "answers": "two"},
        {"status": "ok"},
    ],
)
def test_a_population_that_fails_is_trained_one_at_a_time(joined, tmp_path, joint):
    small, supervisor, built = sealed_by(joined, tmp_path, joint, good(), good())
    assert [one["kind"] for one in supervisor.asked] == ["together", "train", "train"]
    assert built.failures == []
    assert built.columns["epoch_seconds"].tolist() == [[1.5, 1.5]]
    told = "up to 12 networks were trained at a time, as a population; their train_seconds are "
    assert told + "shares of its time" in notes(small, built, "one")
    assert told + "of ten steps alone" in notes(replace(small, costs=True), built, "one")


def test_what_divides_the_best():
    """Two architectures of twenty: means 0.2 and 0.3, seeds 0.02 and 0.04 apart."""
    errors = np.full((20, 2), 0.9)
    errors[3], errors[8] = (0.19, 0.21), (0.28, 0.32)
    noise, spread = discrimination(errors)
    assert spread == pytest.approx(0.1)
    assert noise == pytest.approx(np.sqrt((0.02**2 + 0.04**2) / 4))
    for few in errors[:19], errors[:, :1]:
        with pytest.raises(ValueError, match=r"allowed: from 20 architectures and 2 seeds"):
            discrimination(few)


def test_nothing_but_failures_is_no_table(plan, tmp_path):
    failed = {"status": "oom_cuda", "message": "out of memory"}
    small, _, built = sealed_by(plan, tmp_path, failed, failed)
    with pytest.raises(TableError, match=r"^every training failed; the first: oom_cuda out of m"):
        to_table(small, built, {})


def test_a_process_that_dies_is_said(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_work", dies)
    with pytest.raises(BuildError, match=r"^28 of 28 trainings are not done: processes ended with"):
        build.train_all(plan, tmp_path)


def dies(plan, folder, job, pipe):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_cannot_start_is_said(plan, tmp_path):
    """The data are gone after the plan was made."""
    broken = replace(plan, trainer=replace(plan.trainer, load=no_data))
    with pytest.raises(BuildError, match=r"not done: ChildProcessError: .*no such data"):
        build.train_all(broken, tmp_path)


def no_data():
    raise ValueError("no such data")


# ---------------------------------------------------------------------- the command


def test_as_many_processes_as_suit(monkeypatch):
    monkeypatch.setattr(run, "cores", lambda: 7)
    problems = []
    found = [training._jobs({"jobs": jobs}, on, problems) for jobs, on in PROCESSES]
    assert found == [7, 1, 3]
    assert problems == []
    training._jobs({"jobs": "0"}, "cpu", problems)
    assert problems == ["jobs is '0'; allowed: whole numbers from 1 to 1,024"]


PROCESSES = [("", "cpu"), ("", "cuda"), ("3", "cuda")]


def test_the_command(call, data):
    words = [*WORDS, "architectures=random:2", "seeds=1", "name=mine", "licence=MIT", "note=Why."]
    status, out, err = call("build", *words)
    assert (status, told(err)) == (0, ["0 of 2", "2 of 2"])
    assert "mine.h5: 2 architectures of chain, 1 training seed\n" in out
    table = read_table(data / "mine.h5")
    assert table.provenance["licence"] == "MIT"
    assert table.provenance["notes"].startswith("2 of 1,360 networks (random:2), each trained")
    assert table.provenance["notes"].endswith(" Why.")
    assert "architectures=random:2 seeds=1" in table.provenance["source"]
    status, _, err = call("build", *words)
    assert (status, told(err)) == (0, ["0 of 2", "2 of 2"])
    status, out, _ = call("space", "chain", "table=mine", "out=view")
    assert status == 0
    assert "2 architectures with a number" in out
    status, _, err = call("run", *WORDS[:2], "objective.table=mine", "budget.limit=2")
    assert status == 2
    status, _, err = call("build", *WORDS, "architectures=random:3", "seeds=1", "name=mine")
    assert status == 2
    assert re.search(r"mine\.h5 is another table; choose a name= of its own", err)


def test_failures_are_listed(call, data, tmp_path):
    """Kernels that reach beyond a signal; a file has all, where the screen shows the first ones."""
    listed = tmp_path / "chains.txt"
    listed.write_text("3-3\n6-6-6-6-6\n")
    write_signals(data, length=24)
    words = [*WORDS, f"architectures={listed}", "seeds=2", "name=cut", "dataset.load.length=24"]
    status, out, err = call("build", *words)
    assert status == 1
    assert "2 architectures of chain, 2 training seeds" in out
    (path,) = (tmp_path / "results/build").glob("*/failures.txt")
    assert f"2 trainings failed; {path} lists all" in err
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"6-6-6-6-6, seed {seed}" for seed in range(2)
    ]
    assert all("signals have 24 positions; allowed" in line for line in lines)


def told(err):
    """What is said of progress where nobody watches a bar: done and all."""
    lines = [line for line in map(str.strip, err.splitlines()) if line]
    found = [re.fullmatch(r"(\d+ of \d+) trainings, (\d\d:\d\d|\?) left", line) for line in lines]
    return list(dict.fromkeys(some[1] for some in found))


@pytest.mark.parametrize(
    ("done", "steps"),
    [([1, 1, 1], []), ([2, 1], ["2 of 5"]), ([3], [])],  # what is there at the start is said
    ids=str,
)
def test_progress_is_told_in_a_log(done, steps, capsys):
    with training._trainings_bar(5) as tick:
        for count in done:
            tick(count)
    assert told(capsys.readouterr().err) == ["0 of 5", *steps, "3 of 5"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("space=chain", "dataset= is not given; a build takes hours"),
        ("dataset=mnist1d", "space= is not given; a build takes hours"),
        ("seeds=0", "seeds is '0'; allowed: whole numbers from 1 to 1,000"),
        ("jobs=many", "jobs is 'many'; allowed"),
        ("shard=0", "shard is '0'; allowed: whole numbers from 1 to 10,000"),
        ("name=a/b", "name is 'a/b'; allowed: letters"),
        ("space=chian", "did you mean chain?"),
        ("space=transnas_micro", "has no networks to train; allowed: chain, darts,"),
        ("dataset=ptb", "dataset=ptb cannot be loaded for training; allowed: "),
        ("space=nb_asr recipe=chain", "space nb_asr has no networks to train"),
        ("strategy=random_search", "strategy is unknown here; allowed: space, dataset, recipe"),
        ("recipe=chain,recurrent", "has several values; allowed: one"),
        ("recipe.epoch=3", "recipe has no key epoch"),
        ("recipe.network.width=x", "recipe.network.width is 'x'; allowed: whole number"),
        ("recipe.epochs=0", "epochs is 0; allowed: above 0"),
        ("space=chain dataset=mnist1d architectures=nothing", "architectures is 'nothing'"),
        ("space=chain dataset=mnist1d device=abacus", "device is 'abacus'; allowed here: auto, c"),
        ("dataset.load._target_=os.system", "is refused"),
    ],
)
def test_what_is_refused(call, words, why):
    status, out, err = call("build", *words.split())
    assert (status, out) == (2, "")
    assert why in err
    assert "Traceback" not in err


def test_help(call):
    status, out, _ = call("build", "--help")
    assert status == 0
    assert "architectures=all" in out
    assert "  chain " in out
    assert "transnas" not in out
