import json
import re

import pytest
from trainings import WORDS, write_signals

pytest.importorskip("torch", reason="PyTorch is absent")

import torch

from bench import cli, compose
from bench.store import read_trials, sealed
from bench.training import final
from bench.training.final import FinalError, Incumbent, incumbent, retrain, sentences
from bench.training.trainer import Trainer
from bench.training.worker import Joined, about
from spaces.chain.space import Chain

PROTOCOL = ("protocol.fidelities=[2]", "protocol.schedule='2'", "protocol.report_schedule='2'")


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_signals(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_ARENA_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def made():
    return compose.training(WORDS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three trainings under each of two seeds; returns its folder."""
    results = tmp_path_factory.mktemp("results")
    words = [*WORDS, *PROTOCOL, "objective=train", "budget.limit=3", "seeds=2"]
    with pytest.raises(SystemExit) as raised:
        cli.main(["run", *words, f"results={results}"])
    assert not raised.value.code
    (folder,) = (results / "runs").iterdir()
    return folder


@pytest.fixture(scope="module")
def done(made, tmp_path_factory):
    """A chain trained under two seeds."""
    out = tmp_path_factory.mktemp("out")
    trainer = Trainer(made.space, made.load, made.recipe, "cpu")
    arch = made.space.from_string("3-5-4")
    return retrain(trainer, arch, range(2), out, deadline=300.0)


# -------------------------------------------------------------------- the last training


def test_training_and_validation_data_are_joined(made):
    apart, joined = made.load(), Joined(made.load)()
    assert len(joined.train[1]) == len(apart.train[1]) + len(apart.valid[1]) == 300
    assert torch.equal(joined.train[0][200:], apart.valid[0])
    assert torch.equal(joined.test[0], apart.test[0])


def test_it_trained_on_both_and_tells_of_them(done, made):
    joined = Joined(made.load)()
    assert done.about == {"population": False, **about(joined)}
    assert done.about["examples"]["train"] == 300
    assert done.costs["parameters"] == 4 * 3 + 16 * 5 + 16 * 4 + 24 + 50
    assert done.costs["flops"] > 0
    assert [len(one.train_errors) for one in done.runs] == [2, 2]
    assert [one.seed for one in done.runs] == [0, 1]


def test_the_weights_give_the_reported_test_error(done, made):
    data = Joined(made.load)()
    for one in done.runs:
        network = done.trainer.builder(done.architecture, data)()
        network.load_state_dict(torch.load(one.weights, weights_only=True))
        network.eval()
        with torch.no_grad():
            found = network(data.prepare(data.test[0])).argmax(1)
        assert 1 - float((found == data.test[1]).double().mean()) == one.test_error


def test_nothing_else_is_left(done):
    names = {path.name for path in done.runs[0].weights.parent.iterdir()}
    assert names == {"weights-0.pt", "weights-1.pt", "training.log"}


def test_it_goes_on_where_it_was_killed(done, made, tmp_path):
    """With a checkpoint of the first epoch; the weights are the same in the end."""
    from bench.training.loop import train

    trainer = Trainer(made.space, Joined(made.load), made.recipe, "cpu")
    data = trainer.read()
    train(
        trainer.builder(done.architecture, data),
        data,
        made.recipe,
        seed=0,
        epochs=1,
        splits=("train",),
        checkpoint=tmp_path / "checkpoint-0.pt",
        name="3-5-4",
    )
    again = retrain(done.trainer, done.architecture, range(1), tmp_path, deadline=300.0)
    assert again.runs[0].sha256 == done.runs[0].sha256
    assert again.runs[0].train_errors == done.runs[0].train_errors


def test_the_words(done):
    runs = tuple(
        one._replace(test_error=error) for one, error in zip(done.runs, (0.1, 0.2), strict=True)
    )
    text = sentences(final.replace(done, runs=runs))
    assert text[0].startswith(
        "test accuracy 85.00 ± 7.07 %, mean and standard deviation over 2 training seeds "
        "(90.00, 80.00); macro F1 0."
    )
    assert "trained for 2 epochs of recipe chain on 300 examples" in text[1]
    assert re.fullmatch(r"230 parameters, [\d,]+ multiply-adds for one input", text[2])
    one = sentences(final.replace(done, runs=runs[:1]))
    assert one[0].startswith("test accuracy 90.00 % with one training seed;")


def test_the_summary_loads_the_network_by_its_own_words(done, tmp_path, monkeypatch):
    for one in done.runs:
        (tmp_path / one.weights.name).write_bytes(one.weights.read_bytes())
    files = final.write_final(done, tmp_path, {"run": "that", "seed": 3})
    assert [path.name for path in files[-3:]] == ["retrain.json", "architecture.png", "retrain.md"]
    text = files[-1].read_text()
    assert "- from run that, seed 3" in text
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    assert not names["network"].training
    told = json.loads(files[-3].read_text())
    assert told["architecture"] == "3-5-4"
    assert told["origin"] == {"run": "that", "seed": 3}
    assert [one["weights"] for one in told["runs"]] == ["weights-0.pt", "weights-1.pt"]
    assert told["provenance"]["torch"]
    assert files[-2].read_bytes().startswith(b"\x89PNG")


def test_a_training_that_fails_is_said(made, tmp_path, monkeypatch):
    answers = [
        {"status": "ok"},
        {"status": "ok", "parameters": 3},
        {"status": "timeout", "message": "no answer within 5 seconds"},
    ]
    monkeypatch.setattr(final.Supervisor, "ask", lambda *_: answers.pop(0))
    trainer = Trainer(made.space, made.load, made.recipe, "cpu")
    arch = made.space.from_string("3-5")
    with pytest.raises(FinalError, match=r"^3-5, seed 0: timeout no answer within 5 seconds$"):
        retrain(trainer, arch, range(1), tmp_path, deadline=5.0)


# ------------------------------------------------------------------------------- runs


def test_the_incumbent_of_a_run_is_its_lowest_error(run):
    for shard in sealed(run):
        columns = read_trials(shard)
        found = incumbent(run, shard.first)
        assert isinstance(found, Incumbent)
        assert found.error == columns["error"].min()
        best = columns["error"].argmin()
        assert found.architecture == tuple(columns["architecture"][best].tolist())
    assert incumbent(run).seed == 0


def test_no_such_run(run, tmp_path):
    with pytest.raises(FinalError, match=r"^seed is 7; sealed in .*: 0-1$"):
        incumbent(run, 7)
    with pytest.raises(FinalError, match="is no folder of a run"):
        incumbent(tmp_path)
    (tmp_path / run.name).mkdir()
    (tmp_path / run.name / "cell.json").write_bytes((run / "cell.json").read_bytes())
    with pytest.raises(FinalError, match="no run is sealed in"):
        incumbent(tmp_path / run.name)


def test_a_run_is_retrained_as_it_was(run, call, tmp_path):
    status, out, err = call("retrain", str(run), "seed=1", "seeds=1", "out=here")
    assert (status, "nas-arena:" in err) == (0, False)
    told = json.loads((tmp_path / "here/retrain.json").read_text())
    assert told["origin"] == {"run": run.name, "seed": 1}
    assert told["genes"] == list(incumbent(run, 1).architecture)
    assert out.startswith(Chain().to_string(tuple(told["genes"])) + "\n  test accuracy ")
    assert told["recipe"]["epochs"] == 2  # of the run, not of the yaml
    assert told["recipe"]["network"] == {"width": 4, "strided": 0}
    assert told["data"]["examples"] == {"train": 300, "valid": 100, "test": 100}


def test_words_count_more_than_the_run(run):
    stored = final.stored_parts(incumbent(run).cell)
    made = compose.training(["recipe.epochs=3"], stored)
    assert made.recipe.epochs == 3
    assert made.recipe.network == {"width": 4, "strided": 0}
    made = compose.training(["recipe=chain"], stored)
    assert made.recipe.network == {"width": 16, "strided": 0}
    assert made.load.keywords["train"] == 200


def test_code_that_a_run_names_is_not_called(run):
    stored = final.stored_parts(incumbent(run).cell)
    stored["dataset"][1]["load"] = {"_target_": "os.system", "command": "ls"}
    with pytest.raises(
        compose.ConfigError, match=r"dataset\.load was os\.system in the run; it is"
    ):
        compose.training([], stored)


# ----------------------------------------------------------------------------- command


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "name one folder of results/runs, or an architecture="),
        ("one two", "name one folder of results/runs, or an architecture="),
        ("some architecture=3-5", "name one folder of results/runs, or an architecture="),
        ("architecture=3-5 seed=2", "seed= is that of a run"),
        ("nowhere", "is no folder of a run; those lie in results/runs"),
        ("architecture=3-9 space=chain", "'3-9' is no chain"),
        ("architecture=3-5 space=chain dataset=ptb", "dataset=ptb cannot be loaded"),
        ("architecture=3-5 seeds=0", "seeds is '0'; allowed"),
    ],
)
def test_what_is_refused(call, words, why):
    status, out, err = call("retrain", *words.split())
    assert (status, out) == (2, "")
    assert why in err
    assert "Traceback" not in err


def test_help(call):
    status, out, _ = call("retrain", "--help")
    assert status == 0
    assert "nas-arena retrain RUN" in out
