"""A recipe is checked before it is used, and its learning rate is the one on paper."""

from dataclasses import fields
from math import cos, pi

import pytest
from omegaconf import OmegaConf

from bench import parts
from bench.training.recipe import Recipe

NEEDED = {"name": "x", "epochs": 8, "batch_size": 10, "learning_rate": 0.4}


def recipe(**changes):
    return Recipe(**(NEEDED | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": "adam"}, "optimizer is 'adam'; allowed: sgd, adamw"),
        ({"schedule": "step"}, "schedule is 'step'; allowed: cosine, one_cycle, constant"),
        ({"augmentation": "cutout"}, "augmentation is 'cutout'; allowed: none, crop_flip, shift"),
        ({"precision": "fp16"}, "precision is 'fp16'; allowed: auto, fp32, bf16"),
        ({"epochs": 0}, "epochs is 0; allowed: above 0"),
        ({"epochs": 2.5}, "epochs is 2.5; allowed: a whole number"),
        ({"batch_size": -1}, "batch_size is -1; allowed: above 0"),
        ({"batch_size": 0.5}, "batch_size is 0.5; allowed: a whole number"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; allowed: above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; allowed: above 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; allowed: above 0"),
        ({"momentum": 1.0}, "momentum is 1.0; allowed: from 0 to below 1"),
        ({"momentum": -0.1}, "momentum is -0.1; allowed: from 0 to below 1"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; allowed: from 0 to below 1"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; allowed: 0 and above"),
        ({"weight_decay": float("inf")}, "weight_decay is inf; allowed: 0 and above"),
        ({"clip": float("nan")}, "clip is nan; allowed: 0 and above"),
        ({"warm_up": 9.0}, "warm_up is 9.0; allowed: 0 to 8 epochs"),
        ({"warm_up": -1.0}, "warm_up is -1.0; allowed: 0 to 8 epochs"),
    ],
)
def test_a_wrong_recipe_is_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        recipe(**changes)


def test_all_that_is_wrong_comes_at_once():
    with pytest.raises(ValueError, match=r"optimizer is .*; epochs is .*; momentum is "):
        recipe(optimizer="x", epochs=0, momentum=2.0)


RATES = {
    ("cosine", 0.0): {0: 0.4, 2: 0.4 * (1 + cos(pi / 4)) / 2, 4: 0.2, 8: 0.0},
    ("cosine", 2.0): {0: 0.0, 1: 0.2, 1.5: 0.3, 2: 0.4, 5: 0.2, 8: 0.0},
    ("one_cycle", 0.0): {0: 0.0, 1: 0.2, 2: 0.4, 5: 0.2, 8: 0.0},
    ("one_cycle", 4.0): {2: 0.2, 4: 0.0, 4.5: 0.2, 5: 0.4, 6.5: 0.2, 8: 0.0},
    ("constant", 0.0): {0: 0.4, 7.9: 0.4, 8: 0.4},
    ("constant", 4.0): {0: 0.0, 1: 0.1, 4: 0.4, 8: 0.4},
    ("cosine", 8.0): {0: 0.0, 4: 0.2, 8: 0.4},
}


@pytest.mark.parametrize(("schedule", "warm_up"), RATES)
def test_rates_by_hand(schedule, warm_up):
    made = recipe(schedule=schedule, warm_up=warm_up)
    found = {epoch: made.rate(epoch) for epoch in RATES[schedule, warm_up]}
    assert found == pytest.approx(RATES[schedule, warm_up], abs=1e-12)


@pytest.mark.parametrize("name", parts.options("recipe"))
def test_a_yaml_states_everything(name):
    path = parts.conf_folder() / f"recipe/{name}.yaml"
    assert parts.build("recipe", name).name == name
    stated = {str(key) for key in OmegaConf.load(path)} - {"_target_"}
    assert stated == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize("name", ["chain", "recurrent"])
def test_a_recipe_and_the_protocol_of_its_name_agree(name):
    made, protocol = parts.build("recipe", name), parts.build("protocol", name)
    assert protocol.schedule == protocol.report_schedule == str(made.epochs)
    assert protocol.fidelities[-1] == made.epochs
