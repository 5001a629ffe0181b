"""The objective that trains: what it refuses and answers, and that killing it costs nothing."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")

import small  # noqa: E402

from bench import compose, parts  # noqa: E402
from bench.commands.run import run as run_command  # noqa: E402
from bench.protocol import Protocol  # noqa: E402
from bench.run import Cell, execute, run_seed  # noqa: E402
from bench.search import Budget, Evaluation, Query, stream  # noqa: E402
from bench.store import read_trials, sealed  # noqa: E402
from bench.training import trainer  # noqa: E402
from bench.training.data import derive  # noqa: E402
from bench.training.objective import TrainingObjective  # noqa: E402
from bench.training.supervise import LONGEST_ANSWER, Supervisor  # noqa: E402
from bench.training.trainer import Trainer, choose_device, network_builder, on  # noqa: E402
from bench.training.worker import Worker  # noqa: E402
from spaces.chain.space import Chain  # noqa: E402
from spaces.recurrent.space import Recurrent  # noqa: E402
from strategies.random_search import RandomSearch  # noqa: E402
from strategies.regularized_evolution import RegularizedEvolution  # noqa: E402

ROOT = Path(__file__).parent.parent
SPACE = Chain()
PROTOCOL = Protocol(
    name="small",
    schedule="4",
    metric="valid_error",
    fidelities=(2, 4),
    report_schedule="4",
    report=("test_error", "test_f1_error", "valid_error", "valid_f1_error"),
)
RECIPE = small.recipe(network={"width": 4})
LOAD = partial(small.signals, length=26)  # long enough for every chain


def objective(protocol=PROTOCOL, space=SPACE, **changes):
    settings = {"load": LOAD, "recipe": RECIPE, "device": "cpu"}
    return TrainingObjective(space, "signals", protocol, **(settings | changes))


@pytest.fixture(scope="module")
def trained():
    """One objective for the module, whose process is started once."""
    one = objective()
    yield one
    one._supervisor.close()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schedule": "5"}, "protocol.schedule is '5'; recipe small trains for 4 epochs"),
        ({"report_schedule": "x"}, "protocol.report_schedule is 'x'; recipe small trains for 4"),
        ({"fidelities": (2,)}, "fidelities ends at 2; recipe small trains for 4 epochs, after"),
        ({"fidelities": (4, 8)}, "fidelities ends at 8; recipe small trains for 4 epochs, after"),
        ({"metric": "valid_loss"}, "protocol.metric is 'valid_loss'; training gives valid_error"),
        ({"report": ("test_loss",)}, "protocol.report has test_loss; training gives valid_error,"),
        ({"noise": "mean"}, "protocol.noise is 'mean' and validation_pass 'free'; training has"),
        ({"validation_pass": "charged"}, "and validation_pass 'charged'; training has one_seed"),
        ({"overhead": "charged"}, "protocol.overhead is 'charged'; training has no simulated"),
    ],
)
def test_a_protocol_that_does_not_fit_is_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        objective(replace(PROTOCOL, **changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"deadline": 0.0}, "deadline is 0.0; allowed: seconds above 0"),
        ({"deadline": float("nan")}, "deadline is nan; allowed: seconds above 0"),
        ({"deadline": float("inf")}, "deadline is inf; allowed: seconds above 0"),
        ({"device": "gpu"}, "device is 'gpu'; allowed here: auto, cpu"),
        ({"device": "cuda:99"}, "device is 'cuda:99'; allowed here: auto, cpu"),
        ({"recipe": small.recipe(network={"wdth": 4})}, "wdth is no key; allowed: width, strided"),
        ({"recipe": small.recipe(network={"width": "4"})}, "width is '4'; allowed: whole number"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        objective(**changes)


def test_all_that_is_wrong_comes_at_once():
    with pytest.raises(ValueError, match=r"protocol\.schedule is .*; protocol\.noise is .*; deadl"):
        objective(replace(PROTOCOL, schedule="5", noise="mean"), deadline=-1.0)


class Elsewhere(Chain):
    name = "elsewhere"


Elsewhere.__module__ = "strategies.random_search"


def test_a_space_without_networks_is_named():
    with pytest.raises(LookupError, match="space elsewhere has no networks to train"):
        objective(space=Elsewhere())


def test_a_network_module_that_is_broken_is_no_absent_one(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'flash'", name="flash")

    monkeypatch.setattr(trainer.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="flash"):
        network_builder(SPACE)


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    there = torch.cuda.is_available()
    assert choose_device("auto").type == ("cuda" if there else "cpu")


@pytest.mark.parametrize(
    ("device", "can", "wanted"),
    [
        ("cpu", {"avx512_bf16": True}, "bf16"),
        ("cpu", {"bf16": True}, "bf16"),
        ("cpu", {"avx512_bf16": False, "avx2": True}, "fp32"),
        ("cpu", {}, "fp32"),
        ("cuda:1", {}, "bf16"),
    ],
)
def test_bf16_is_for_what_computes_in_it(device, can, wanted, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    recipe, there = replace(RECIPE, precision="auto"), torch.device(device)
    assert on(recipe, there) == replace(RECIPE, precision=wanted)
    for given in "fp32", "bf16":
        assert on(replace(RECIPE, precision=given), there).precision == given


def test_a_run_records_the_precision_it_has(monkeypatch):
    digests = {}
    for native, precision in (True, "bf16"), (False, "fp32"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"bf16": native})
        made = objective(recipe=replace(RECIPE, precision="auto"))
        assert made.recipe.precision == precision
        assert made.notes == f"trained in {precision}"  # stands in the cell and under figures
        sent = pickle.loads(pickle.dumps(made))  # as to a process with some seeds
        assert (sent.recipe, sent.notes, sent.digest) == (made.recipe, made.notes, made.digest)
        assert objective(recipe=replace(RECIPE, precision=precision)).digest == made.digest
        digests[precision] = made.digest
    assert digests["bf16"] != digests["fp32"]


def test_digests_tell_objectives_apart(monkeypatch):
    load = partial(small.signals, length=30)
    made = [
        objective(),
        objective(recipe=replace(RECIPE, learning_rate=0.06)),
        objective(recipe=replace(RECIPE, network={"width": 5})),
        objective(load=load),
        objective(load=partial(small.signals, length=34)),
        objective(load=small.images),
        objective(space=Recurrent(), recipe=small.recipe()),
    ]
    monkeypatch.setattr(torch, "__version__", "9.9")
    made.append(objective())
    assert len({one.digest for one in made}) == len(made)
    monkeypatch.undo()
    assert objective().digest == made[0].digest
    assert objective(deadline=5.0).digest == made[0].digest  # it moves no number that is one
    assert not made[0].timed
    assert made[0].journalled


def test_it_is_sent_to_other_processes(trained):
    trained.evaluate(Query((0, 0, 4, 4, 4), 2), 7, 0)  # while it holds a process
    again = pickle.loads(pickle.dumps(trained))
    assert again.digest == trained.digest
    assert again._supervisor is None
    assert vars(again).keys() == vars(trained).keys()
    assert (again.protocol, again.recipe, again.deadline) == (PROTOCOL, RECIPE, 3600.0)


def read(path):
    """The records of a journal."""
    return [json.loads(line[9:]) for line in path.read_text().splitlines()]


def test_an_answer(trained, tmp_path):
    run = trained.open(tmp_path / "journal-000000.jsonl")
    arch = SPACE.from_string("3-5-4")
    first = run.evaluate(Query(arch, 2), 7, 0)
    assert isinstance(first, Evaluation)
    assert (first.status, first.seconds) == ("ok", 0.0)
    counted = 4 * 3 + 16 * (5 + 4) + 3 * 8 + 5 * 3
    assert first.metrics == {"parameters": counted}
    checkpoints = tmp_path / "journal-000000"
    assert len(list(checkpoints.glob("*.pt"))) == 1
    second = run.evaluate(Query(arch, 4), 7, 2)
    assert list(checkpoints.glob("*.pt*")) == []  # nothing goes on from there
    records = read(tmp_path / "journal-000000.jsonl")
    assert [record["record"]["epochs"] for record in records[1:]] == [2, 4]
    curves = [record["record"]["errors"]["valid"] for record in records[1:]]
    assert curves[1][:2] == curves[0]
    assert [first.error, second.error] == [curves[0][-1], curves[1][-1]]
    told = run.report([arch, arch])
    assert told.keys() == set(PROTOCOL.report)
    assert told["valid_error"].tolist() == [second.error] * 2
    assert told["test_error"][0] == records[2]["record"]["errors"]["test"][0]
    assert told["test_f1_error"][0] == 1 - records[2]["record"]["f1"]["test"]
    assert "3-5-4: ok, 4 epochs" in (checkpoints / "training.log").read_text()
    run.close()
    whole = trained.open(tmp_path / "journal-000001.jsonl")
    assert whole.evaluate(Query(arch, 4), 7, 0) == second  # a promotion equals the whole
    assert whole.evaluate(Query(arch, 2), 7, 0) == first  # and a step back the part
    assert whole.evaluate(Query(arch, 4), 8, 0) != second  # another run has other luck
    whole.close()


def test_what_is_not_to_be_had_is_no_failed_training(trained):
    for query in Query((0, 4, 0, 0, 0), 4), Query((0,) * 5, 3):
        with pytest.raises(LookupError, match="was asked for; chain trains its architectures for"):
            trained.evaluate(query, 7, 0)
    with pytest.raises(LookupError, match="belong to a run"):
        trained.report([(0,) * 5])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"load": small.broken}, "FileNotFoundError: folder data/photos is not there"),
        (
            {"recipe": replace(RECIPE, augmentation="crop_flip")},
            "ValueError: augmentation crop_flip is not for signals",
        ),
        (
            {"space": Recurrent(), "recipe": small.recipe(), "load": small.images},
            r"ValueError: an input has shape \[3, 8, 8\]; recurrent networks read signals",
        ),
    ],
)
def test_what_no_architecture_can_help_ends_the_run(changes, sentence, tmp_path):
    one = objective(**changes)
    run = one.open(tmp_path / "journal.jsonl")
    genes = tuple(0 for _ in one.space.choices)
    with pytest.raises(ChildProcessError, match=f"no training can start: {sentence}"):
        run.evaluate(Query(genes, 4), 7, 0)
    run.close()
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 1  # nobody's failure


class Answers:
    """A supervisor whose answers are known."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def ask(self, request, deadline, answers=1):
        return self.answers.pop(0)

    def close(self):
        return None


WELL = {
    "status": "ok",
    "errors": {"train": [0.4], "valid": [0.5], "test": [0.6]},
    "f1": {"train": 0.6, "valid": 0.5, "test": 0.4},
    "parameters": 3,
}
BAD = {
    "diverged": {"status": "diverged"},
    "timeout": {"status": "timeout", "message": "late"},
    "no errors": {"status": "ok"},
    "no curve": WELL | {"errors": WELL["errors"] | {"valid": []}},
    "no test": WELL | {"errors": {"train": [0.4], "valid": [0.5]}},
    "no F1": WELL | {"f1": {}},
    "text": WELL | {"errors": WELL["errors"] | {"valid": ["0.5"]}},
    "null": WELL | {"errors": WELL["errors"] | {"valid": [None]}},
    "percent": WELL | {"errors": WELL["errors"] | {"valid": [50.0]}},
    "negative": WELL | {"f1": WELL["f1"] | {"test": 1.5}},
    "no parameters": {key: value for key, value in WELL.items() if key != "parameters"},
    "list": WELL | {"errors": []},
}


@pytest.mark.parametrize("case", BAD)
def test_a_training_that_failed_is_charged_and_the_run_goes_on(case, tmp_path):
    one = objective(replace(PROTOCOL, fidelities=(4,)))
    one._supervisor = Answers(WELL, BAD[case], WELL)
    cell = Cell({}, {}, RandomSearch, SPACE, one, one.protocol, Budget("evaluations", 3))
    columns, _ = run_seed(cell, 0, folder=tmp_path)
    assert columns["error"].tolist() == [0.5, 1.0, 0.5]
    assert columns["failed"].tolist() == [False, True, False]
    assert columns["evaluations"].tolist() == [1, 2, 3]
    assert columns["epochs"].tolist() == [4, 8, 12]
    assert columns["report_test_f1_error"].tolist()[::2] == [0.6, 0.6]
    assert np.isnan([columns[f"report_{name}"][1] for name in PROTOCOL.report]).all()
    status = read(tmp_path / "journal-000000.jsonl")[2]
    assert status["evaluation"]["status"] == (
        case if case in ("diverged", "timeout") else "bad_result"
    )


class Together:
    """A supervisor that answers by the architecture alone, and writes down what it is asked.

    `joint` changes what it answers to a round.
    """

    def __init__(self, joint=lambda answer: answer, lives=10**9):
        self.joint, self.lives, self.asked = joint, lives, []

    def ask(self, request, deadline, answers=1):
        self.asked.append((request, deadline, answers))
        if request["kind"] == "train":
            return self.answer(request)
        return self.joint({"status": "ok", "answers": [*map(self.answer, request["trainings"])]})

    def answer(self, training):
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        error = (1 + sum(training["architecture"])) / 100
        errors = {"train": [0.4], "valid": [error], "test": [error + 0.1]}
        return WELL | {"errors": errors, "gpu_seconds": 2.5}

    def close(self):
        return None

    @property
    def kinds(self):
        """What was asked, in short: with a round, how many were in it."""
        return [
            request["kind"] if request["kind"] == "train" else len(request["trainings"])
            for request, _, _ in self.asked
        ]


CALLED = dict.fromkeys(("strategy", "space", "dataset", "protocol"), "x")


def in_rounds(supervisor, limit=10, workers=4, strategy=RandomSearch, fidelities=(4,), **rules):
    """A cell whose trainings that supervisor answers."""
    one = objective(replace(PROTOCOL, fidelities=fidelities, **rules))
    one._supervisor, one.populations = supervisor, True  # as on a GPU
    budget = Budget("evaluations", limit)
    return Cell(CALLED, {}, strategy, SPACE, one, one.protocol, budget, workers)


def same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_a_round_is_one_request(tmp_path):
    cell = in_rounds(supervisor := Together(), limit=9)
    columns, _ = run_seed(cell, 0, folder=tmp_path)
    assert supervisor.kinds == [4, 4, "train"]  # a round of one is trained as ever
    request, deadline, answers = supervisor.asked[0]
    assert request.keys() == {"kind", "trainings", "epochs", "splits", "final"}
    assert (request["kind"], request["epochs"]) == ("together", 4)
    assert (request["splits"], request["final"]) == (("train", "valid"), ("test",))
    assert (deadline, answers) == (4 * 3600.0, 4)
    alone = run_seed(in_rounds(single := Together(), limit=9, workers=1), 0, folder=tmp_path / "1")
    assert single.kinds == ["train"] * 9
    assert [deadline for _, deadline, _ in single.asked] == [3600.0] * 9
    same(columns, alone[0])  # random search learns nothing, so its queries are the same
    noise = stream(0, "noise").getrandbits(64)
    folder = tmp_path / "journal-000000"
    for training, arch in zip(request["trainings"], columns["architecture"].tolist(), strict=False):
        assert training.keys() == {"architecture", "seed", "checkpoint"}
        assert list(training["architecture"]) == arch
        seed = derive("training", noise, SPACE.to_string(tuple(arch)))
        assert training["seed"] == seed
        assert training["checkpoint"] == str(folder / f"{seed:016x}.pt")
    one, of_round = single.asked[0][0], request["trainings"][0]
    settings = {"kind": "train", "epochs": 4, "splits": ("train", "valid"), "final": ("test",)}
    assert one == of_round | settings | {"checkpoint": one["checkpoint"]}
    assert one["checkpoint"] == str(
        tmp_path / "1" / folder.name / Path(of_round["checkpoint"]).name
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: {"status": "timeout", "message": "late"},
        lambda answer: {"status": "oom_cuda", "message": "full"},
        lambda answer: {"status": "ok"},
        lambda answer: {"status": "ok", "answers": 3},
        lambda answer: answer | {"answers": answer["answers"][1:]},
        lambda answer: answer | {"answers": [None, "x", {}, {"status": 3}]},
        lambda answer: (
            answer | {"answers": [one | {"x": "x" * LONGEST_ANSWER} for one in answer["answers"]]}
        ),
    ],
)
def test_a_round_that_fails_is_trained_one_by_one(tmp_path, spoil):
    well, _ = run_seed(in_rounds(Together(), limit=4), 0, folder=tmp_path / "well")
    cell = in_rounds(supervisor := Together(spoil), limit=4)
    columns, _ = run_seed(cell, 0, folder=tmp_path / "ill")
    assert supervisor.kinds == [4, *["train"] * 4]
    same(well, columns)


def test_of_a_round_only_what_is_amiss_is_trained_again(tmp_path):
    def spoil(answer):
        one, _, *rest = answer["answers"]
        return answer | {
            "answers": [one, None, {"status": "diverged", "gpu_seconds": 1.0}, *rest[1:]]
        }

    cell = in_rounds(supervisor := Together(spoil), limit=4)
    columns, _ = run_seed(cell, 0, folder=tmp_path)
    assert supervisor.kinds == [4, "train"]
    assert columns["failed"].tolist() == [False, False, True, False]


class Asks(RandomSearch):
    """What it asks is known."""

    queries = ()

    def __init__(self, space, rng, fidelities):
        super().__init__(space, rng, fidelities)
        self.left = [Query(SPACE.from_string(name), epochs) for name, epochs in self.queries]

    def ask(self):
        return self.left.pop(0)


class Promotes(Asks):
    queries = (("3-3", 2), ("3-3", 4), ("4-4", 4), ("5-5", 2), ("5-5", 2), ("6-6", 4))


def test_a_round_of_several_fidelities(tmp_path):
    """Each trained together; what goes on from another of the round, or repeats it, alone."""
    cell = in_rounds(
        supervisor := Together(), limit=6, workers=6, strategy=Promotes, fidelities=(2, 4)
    )
    run_seed(cell, 0, folder=tmp_path)
    assert supervisor.kinds == [2, "train", 2, "train"]
    told = [
        [SPACE.to_string(tuple(one["architecture"])) for one in request.get("trainings", [request])]
        for request, _, _ in supervisor.asked
    ]
    assert told == [["3-3", "5-5"], ["3-3"], ["4-4", "6-6"], ["5-5"]]
    assert [request["epochs"] for request, _, _ in supervisor.asked] == [2, 4, 4, 2]
    records = read(tmp_path / "journal-000000.jsonl")[1:]
    assert [record["trained"] for record in records] == [0, 2, 0, 0, 0, 0]


class Strays(Asks):
    queries = (("3-3", 4), ("4-4", 3), ("5-5", 4))


def test_a_stranger_in_a_round_is_named_when_it_is_asked_for(tmp_path):
    cell = in_rounds(supervisor := Together(), limit=3, workers=3, strategy=Strays)
    with pytest.raises(LookupError, match="at 3 epochs was asked for; chain trains"):
        run_seed(cell, 0, folder=tmp_path)
    assert supervisor.kinds == [2]
    assert len(read(tmp_path / "journal-000000.jsonl")) == 2  # the first was answered


@pytest.mark.parametrize("rules", [{}, {"duplicates": "cached"}])
@pytest.mark.parametrize(
    "strategy", [RandomSearch, partial(RegularizedEvolution, population_size=3, sample_size=2)]
)
def test_rounds_that_are_cut_off_end_as_uninterrupted_ones(tmp_path, strategy, rules):
    """Killed while any training of a round goes on, and while its answers are written down."""
    whole, _ = run_seed(
        in_rounds(Together(), 7, 3, strategy, **rules), 0, folder=tmp_path / "whole"
    )
    for lives in range(7):
        folder = tmp_path / f"{lives}"
        with pytest.raises(KeyboardInterrupt):
            run_seed(in_rounds(Together(lives=lives), 7, 3, strategy, **rules), 0, folder=folder)
        cell = in_rounds(supervisor := Together(), 7, 3, strategy, **rules)
        pieces, _ = run_seed(cell, 0, folder=folder)
        same(whole, pieces)
        assert supervisor.kinds == [[3, 3, "train"], [3, "train"], ["train"]][lives // 3]
    lines = (tmp_path / "whole/journal-000000.jsonl").read_bytes().splitlines(keepends=True)
    rest = [[3, 3, 1], [2, 3, 1], [1, 3, 1], [3, 1], [2, 1], [1, 1], [1], []]
    for count, kinds in enumerate(rest, 1):  # the answers of a round come at once; cut among them
        folder = tmp_path / f"lines-{count}"
        folder.mkdir()
        (folder / "journal-000000.jsonl").write_bytes(b"".join(lines[:count]))
        cell = in_rounds(supervisor := Together(), 7, 3, strategy, **rules)
        pieces, _ = run_seed(cell, 0, folder=folder)
        same(whole, pieces)
        assert supervisor.kinds == ["train" if kind == 1 else kind for kind in kinds]


def test_gpu_seconds_go_to_the_ledger_on_a_gpu(tmp_path):
    cell = in_rounds(Together(), limit=6)
    assert not cell.objective.holds_gpu  # this one is on a CPU
    assert "gpu_seconds" not in run_seed(cell, 0, folder=tmp_path / "cpu")[1]
    cell.objective.holds_gpu = True
    columns, measured = run_seed(cell, 0, folder=tmp_path / "gpu")
    assert measured["gpu_seconds"].tolist() == [2.5 * n for n in range(1, 7)]
    assert "gpu_seconds" not in columns
    cell = in_rounds(Together())
    cell.objective.holds_gpu = True
    by_gpu = replace(cell, budget=Budget("gpu_seconds", 12))
    columns, measured = run_seed(by_gpu, 0, folder=tmp_path / "budget")
    assert measured["gpu_seconds"].tolist() == [2.5, 5.0, 7.5, 10.0]  # the fifth is dropped


def test_gpu_seconds_of_a_training_that_was_ended_are_measured_here(tmp_path):
    one = objective(replace(PROTOCOL, fidelities=(4,)))
    one.holds_gpu = True
    late, odd = {"status": "timeout", "message": "late"}, WELL | {"gpu_seconds": "many"}
    one._supervisor = Answers(late, odd, WELL | {"gpu_seconds": -1.0}, WELL)
    seconds = [one.evaluate(Query((0,) * 5, 4), 7, 0).gpu_seconds for _ in range(4)]
    assert seconds[0] > 0
    assert seconds[1:3] == [0, 0]
    assert seconds[3] > 0
    one._supervisor = Answers(WELL | {"parameters": None, "gpu_seconds": 3.0})
    answer = one.evaluate(Query((0,) * 5, 4), 7, 0)
    assert (answer.status, answer.gpu_seconds) == ("bad_result", 3.0)


def test_a_joint_training_that_failed_is_paid_for_by_all(tmp_path):
    def late(answer):
        time.sleep(0.2)
        return {"status": "timeout", "message": "late"}

    cell = in_rounds(Together(late), limit=4)
    cell.objective.holds_gpu = True
    _, measured = run_seed(cell, 0, folder=tmp_path)
    shares = np.diff(measured["gpu_seconds"], prepend=0) - 2.5
    assert shares.min() >= 0.05
    assert shares == pytest.approx(shares[0], rel=1e-9)


def test_checkpoints_go_when_the_run_has_its_answers(tmp_path):
    folder = tmp_path / "journal-000000"
    folder.mkdir()
    for name in "a.pt", "a.pt.before", "b.pt.before", "training.log", "notes":
        (folder / name).write_text("x")
    cell = in_rounds(Together(lives=2), limit=4)
    with pytest.raises(KeyboardInterrupt):
        run_seed(cell, 0, folder=tmp_path)
    assert len(list(folder.iterdir())) == 5
    run_seed(in_rounds(Together(), limit=4), 0, folder=tmp_path)
    assert {path.name for path in folder.iterdir()} == {"training.log", "notes"}


def test_a_process_is_made_ready_and_let_go(tmp_path):
    one = objective()
    one.close()  # none yet
    one.prepare()
    process = one._supervisor._process
    one.prepare()
    assert one._supervisor._process is process
    one.close()
    assert one._supervisor._process is None
    with pytest.raises(ChildProcessError, match="no training can start: FileNotFoundError: folder"):
        objective(load=small.broken).prepare()


def test_trainings_that_diverge_or_are_late_fail(tmp_path):
    wild = objective(recipe=replace(RECIPE, learning_rate=1e30))
    assert wild.evaluate(Query((0,) * 5, 4), 7, 0) == Evaluation(1.0, 0.0, {}, "diverged")
    wild._supervisor.close()
    late = objective(deadline=1e-9)
    assert late.evaluate(Query((0,) * 5, 4), 7, 0) == Evaluation(1.0, 0.0, {}, "timeout")


def test_a_process_that_trains_is_set_up(monkeypatch):
    """One thread, deterministic operations, and cuBLAS told so before CUDA starts."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    try:
        answer = Worker(Trainer(SPACE, LOAD, RECIPE, "cpu")).prepare()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.equal(before, torch.get_rng_state())
        request = {"architecture": [0] * 5, "seed": 1, "epochs": 1, "splits": ["valid"]}
        request["kind"] = "train"
        found = answer({**request, "final": [], "checkpoint": None})
        assert json.loads(json.dumps(found)) == found
        assert found["data"] == LOAD().digest
        assert torch.equal(before, torch.get_rng_state())
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_seeds_of_a_cell_in_two_processes(tmp_path):
    """Sealed one by one, the same bytes as in one process."""
    one = objective(replace(PROTOCOL, fidelities=(4,)))
    names = dict.fromkeys(("strategy", "space", "dataset", "protocol"), "x")
    cell = Cell(names, {}, RandomSearch, SPACE, one, one.protocol, Budget("evaluations", 2))
    for jobs in 1, 2:
        assert execute([cell], range(2), tmp_path / str(jobs), jobs=jobs) == []
    first, second = (
        [shard.path.name for shard in sealed(cell.folder(tmp_path / str(jobs)))] for jobs in (1, 2)
    )
    assert first == second
    assert len(first) == 2
    one._supervisor.close()


COMMAND = [
    *("objective=train", "space=chain", "dataset=mnist1d", "strategy=regularized_evolution"),
    *("strategy.population_size=3", "strategy.sample_size=2", "budget.limit=8", "seeds=2"),
    *("recipe.epochs=2", "protocol.fidelities=[2]", "protocol.schedule='2'"),
    *("protocol.report_schedule='2'", "recipe.network.width=4"),
    *("dataset.load.train=300", "dataset.load.valid=100", "dataset.load.test=100"),
]


def command(results, tmp_path, *words):
    return {
        "args": [sys.executable, "-m", "bench.cli", "run", *COMMAND, f"results={results}", *words],
        "cwd": tmp_path,
        "env": os.environ | {"PYTHONPATH": str(ROOT), "NAS_ARENA_DATA": str(tmp_path / "data")},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def gone(results):
    """Wait until no process has a file of this folder open; none may outlive its parent."""
    end = time.monotonic() + 10
    while any(str(results) in link for link in links()):
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.05)


def links():
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            yield str(entry.readlink())
        except OSError:
            continue


def lines(results):
    """How many records the journals hold."""
    return sum(path.read_bytes().count(b"\n") for path in results.glob("runs/*/*.jsonl"))


@pytest.mark.parametrize(
    ("jobs", "kills"),
    [
        (1, 1),
        pytest.param(1, 6, marks=pytest.mark.slow),
        pytest.param(2, 4, marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_as_uninterrupted_ones(tmp_path, jobs, kills):
    """Killed with SIGKILL, at new records; then the sealed files are the same bytes."""
    pytest.importorskip("mnist1d", reason="MNIST-1D is made by the package mnist1d")
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    done = subprocess.run(**command(whole, tmp_path))
    assert done.returncode == 0, done.stdout
    for number in range(kills):
        before = lines(pieces)
        process = subprocess.Popen(**command(pieces, tmp_path, f"jobs={jobs}"))
        while process.poll() is None and lines(pieces) <= before + number % 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        gone(pieces)
    cut = sum(1 for _ in pieces.glob("runs/*/trials-*"))
    done = subprocess.run(**command(pieces, tmp_path, f"jobs={jobs}"))
    assert done.returncode == 0, done.stdout
    assert "regularized_evolution" in done.stdout
    first, second = (
        sorted(path.name for path in folder.glob("runs/*/trials-*")) for folder in (whole, pieces)
    )
    assert first == second
    assert len(first) == 2
    assert cut < 2, "it was never cut off"
    (folder,) = pieces.glob("runs/*")
    for shard in sealed(folder):
        assert len(read_trials(shard)["error"]) == 8
    for path in pieces.glob("runs/*/*.jsonl"):
        assert path.read_bytes().count(b"\n") == 9
    tabular = [
        "space=chain",
        "dataset=mnist1d",
        "strategy=random_search",
        "budget.limit=8",
        "seeds=2",
    ]
    for words in ["run", *tabular], ["report"]:
        rest = command(pieces, tmp_path)
        rest["args"] = [sys.executable, "-m", "bench.cli", *words, f"results={pieces}"]
        done = subprocess.run(**rest)
        assert done.returncode == 0, done.stdout
    text = (pieces / "report/all/leaderboard.md").read_text(encoding="utf-8")
    assert len({line for line in text.splitlines() if line.startswith("## ")}) == 2
    assert "regularized_evolution" in text
    assert "random_search" in text
    assert len(list(pieces.glob("report/all/*.png"))) >= 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["space=chain", "dataset=photo"], "needs dataset.load, which dataset=photo does not have"),
        (["space=nb_asr", "dataset=mnist1d"], "space=nb_asr has no networks to train; "),
        (
            ["space=chain", "dataset=mnist1d", "recipe.epochs=3"],
            "; recipe chain trains for 3 epochs; ",
        ),
        (
            ["space=chain", "dataset=mnist1d", "budget=simulated_seconds", "budget.limit=9"],
            "budget is on simulated_seconds; train chain knows no seconds",
        ),
        (["space=chain", "dataset=mnist1d", "recipe.batch_size=x"], "batch_size is 'x'; allowed"),
        (["space=chain", "dataset=mnist1d", "dataset.load.train=x"], "load.train is 'x'; allowed"),
    ],
)
def test_commands_that_cannot_be_are_refused(words, sentence):
    with pytest.raises(compose.ConfigError) as raised:
        compose.plan(["objective=train", *words])
    (problem,) = raised.value.problems
    assert sentence in problem


@pytest.mark.parametrize("jobs", [1, 2])
def test_data_that_are_not_there_are_named_once(tmp_path, monkeypatch, capsys, jobs):
    """Not once a seed and strategy; nothing is begun."""
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path / "data"))
    words = ["-m", "objective=train", "space=chain", "dataset=cifar10", "seeds=3", f"jobs={jobs}"]
    words += ["strategy=random_search,local_search", f"results={tmp_path / 'results'}"]
    assert run_command([*words, "budget.limit=2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("nas-arena: no training can start: FileNotFoundError: CIFAR10 is in ")
    assert not (tmp_path / "results").exists()


def test_a_device_that_is_not_there_is_named_once(tmp_path, capsys):
    words = ["-m", "objective=train", "space=chain", "dataset=mnist1d", "objective.device=cuda:99"]
    words += ["strategy=random_search,local_search", "seeds=3", f"results={tmp_path / 'results'}"]
    assert run_command(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nas-arena: objective=train: device is 'cuda:99'; allowed here: auto, ")
    assert not (tmp_path / "results").exists()


def test_the_recipe_is_part_of_the_cell():
    words = ["objective=train", "space=chain", "dataset=mnist1d"]
    keys = {
        compose.plan([*words, *more]).cells[0].key
        for more in (
            [],
            ["recipe.learning_rate=0.2"],
            ["dataset.load.noise=0.3"],
            ["recipe.network.width=5"],
        )
    }
    assert len(keys) == 4
    assert set(parts.options("recipe")) >= {"chain", "recurrent"}


def test_a_supervisor_is_shared_by_the_runs_of_an_objective(trained, tmp_path):
    runs = [trained.open(tmp_path / f"journal-{seed}.jsonl") for seed in (0, 1)]
    for seed, run in enumerate(runs):
        run.evaluate(Query((0, 0, 4, 4, 4), 2), seed, 0)
    assert isinstance(trained._supervisor, Supervisor)
    for run in runs:
        run.close()
