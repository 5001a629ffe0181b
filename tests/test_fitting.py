"""Protocols for trainings: every space has one, and who chose another is told which."""

import re
import shlex
from dataclasses import replace

import pytest
from objectives import PROTOCOL

from bench import parts
from bench.compose import ConfigError, plan
from bench.fitting import remedy

EPOCHS = 4
FITTING = replace(PROTOCOL, name="fitting", schedule="4", report_schedule="4", fidelities=(EPOCHS,))


def takes(protocol):
    """As an objective that trains for four epochs and reports no loss."""
    return (
        (protocol.schedule, protocol.report_schedule) == ("4", "4")
        and protocol.fidelities[-1] == EPOCHS
        and protocol.validation_pass == "free"
        and not any(name.endswith("_loss") for name in protocol.report)
    )


def test_a_protocol_that_fits_is_chosen():
    known = {"unfit": replace(FITTING, schedule="5"), "fitting": FITTING}
    assert remedy(PROTOCOL, EPOCHS, known, takes) == "choose protocol=fitting"


def test_what_was_set_by_hand_is_set_back():
    changed = replace(FITTING, validation_pass="charged", name="fitting+validation_pass=charged")
    told = remedy(changed, EPOCHS, {"fitting": FITTING}, takes)
    assert told == "set protocol.validation_pass=free"


@pytest.mark.parametrize(
    ("fidelities", "words"), [((200,), "[4]"), ((1, 2, 9), "[1,2,4]"), ((4, 9), "[4]")]
)
def test_overrides_that_belong_together(fidelities, words):
    changed = replace(FITTING, schedule="200", report_schedule="200", fidelities=fidelities)
    assert remedy(changed, EPOCHS, {}, takes) == (
        "set together \"protocol.schedule='4'\" \"protocol.report_schedule='4'\" "
        f'"protocol.fidelities={words}"'
    )


def test_a_report_that_training_does_not_give():
    told = remedy(replace(FITTING, report=("valid_loss",)), EPOCHS, {}, takes)
    assert told == 'set "protocol.report=[valid_error,test_error]"'


def test_where_no_protocol_helps_nothing_is_said():
    assert remedy(FITTING, EPOCHS, {"fitting": FITTING}, lambda protocol: False) == ""


def data_for(space):
    return "mnist1d" if space in ("chain", "recurrent", "mlp") else "cifar10"


def problem(*words):
    with pytest.raises(ConfigError) as raised:
        plan(words)
    (line,) = raised.value.problems
    return line


@pytest.mark.parametrize("space", parts.trainable("space"))
def test_every_space_with_networks_can_be_trained(space):
    """By the protocol of its name, or by one that the sentence names."""
    pytest.importorskip("torch", reason="training needs PyTorch")
    words = ["objective=train", f"space={space}", f"dataset={data_for(space)}", "budget.limit=2"]
    try:
        composed = plan(words)
    except ConfigError as error:
        (line,) = error.problems
        (choice,) = re.findall(r"; choose (protocol=\w+)$", line)
        composed = plan([*words, choice])
    (cell,) = composed.cells
    assert cell.protocol.schedule == str(cell.config["objective"]["recipe"]["epochs"])


@pytest.mark.parametrize(
    "words",
    [
        ("space=chain", "dataset=mnist1d", "recipe.epochs=1"),
        ("space=chain", "dataset=mnist1d", "recipe.epochs=30", "protocol.fidelities=[5,20]"),
        ("space=darts", "dataset=cifar10", "recipe=darts_retrain"),
        ("space=nats_sss", "dataset=cifar10", "recipe.epochs=12"),
        ("space=mlp", "dataset=mnist1d", "protocol.noise=mean"),
    ],
    ids=" ".join,
)
def test_the_words_that_are_named_help(words):
    pytest.importorskip("torch", reason="training needs PyTorch")
    line = problem("objective=train", *words)
    given = shlex.split(re.split("; set (?:together )?", line)[1])
    kept = [word for word in words if word.split("=")[0] not in {w.split("=")[0] for w in given}]
    assert plan(["objective=train", *kept, *given]).cells


def test_what_is_no_matter_of_the_protocol_has_no_such_words():
    pytest.importorskip("torch", reason="training needs PyTorch")
    words = ("objective=train", "space=chain", "dataset=mnist1d")
    assert problem(*words, "objective.deadline=-1").endswith("allowed: seconds above 0")


def test_a_number_where_a_text_is_meant():
    line = problem("space=nb201", "protocol.schedule=12")
    assert line == "protocol.schedule is 12; allowed: text; write \"protocol.schedule='12'\""


def test_spaces_and_data_that_cannot_be_trained():
    line = problem("objective=train", "space=nb_asr", "dataset=mnist1d")
    assert line.startswith("objective=train: space=nb_asr has no networks to train; allowed: chain")
    line = problem("objective=train", "space=chain", "dataset=cora")
    assert "which dataset=cora does not have; allowed: cifar10, cifar100, digits" in line
