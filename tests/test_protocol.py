from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from conftest import CONF, build
from hypothesis import given
from hypothesis import strategies as st
from objectives import PROTOCOL

from bench.protocol import Protocol

OTHER = {
    "name": "other",
    "schedule": "12",
    "metric": "train_error",
    "fidelities": (1, 3),
    "report_schedule": "12",
    "report": ("test_error",),
    "noise": "mean",
    "validation_pass": "charged",
    "promotion": "restart",
    "duplicates": "cached",
    "overshoot": "keep_last",
    "overhead": "charged",
    "incumbent": "any_fidelity",
    "read_out": "linear",
    "max_trials": 7,
    "test_signal": "declared",
}


def test_digests_are_golden():
    assert PROTOCOL.digest == "4fb3a87b54be"
    found = {path.stem: build(path).digest for path in CONF.glob("protocol/*.yaml")}
    assert found.items() >= {"nats_tss": "b98f22b6939d", "nb201": "b70a53f7c208"}.items()


@pytest.mark.parametrize("field", [field.name for field in fields(Protocol)])
def test_digest_changes_with_every_field(field):
    declared = {"metric": "test_error"} if field == "test_signal" else {}
    changed = replace(PROTOCOL, **{field: OTHER[field]} | declared)
    assert getattr(changed, field) != getattr(PROTOCOL, field)
    assert changed.digest != PROTOCOL.digest


def test_equal_however_it_was_written():
    listed = replace(PROTOCOL, fidelities=[3], report=["valid_error"])
    assert listed == PROTOCOL
    assert listed.digest == PROTOCOL.digest
    with pytest.raises(FrozenInstanceError):
        listed.noise = "mean"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"noise": "some"}, "noise is 'some'; allowed: one_seed, mean"),
        ({"validation_pass": "x"}, "validation_pass is 'x'; allowed: charged, free"),
        ({"promotion": "x"}, "promotion is 'x'; allowed: resume, restart"),
        ({"duplicates": "x"}, "duplicates is 'x'; allowed: charged, cached"),
        ({"overshoot": "x"}, "overshoot is 'x'; allowed: drop, keep_last"),
        ({"overhead": "x"}, "overhead is 'x'; allowed: free, charged"),
        ({"incumbent": "x"}, "incumbent is 'x'; allowed: highest_fidelity, any_fidelity"),
        ({"read_out": "x"}, "read_out is 'x'; allowed: step, linear"),
        ({"fidelities": ()}, r"fidelities is \[\]; allowed: ascending epochs"),
        ({"fidelities": (9, 3)}, r"fidelities is \[9, 3\]; allowed: ascending epochs"),
        ({"fidelities": (3, 3)}, r"fidelities is \[3, 3\]; allowed: ascending epochs"),
        ({"fidelities": (0, 3)}, "fidelities starts at 0; allowed: 1 epoch and more"),
        ({"report": ()}, "report is empty; allowed: one metric or more"),
        (
            {"metric": "test_error"},
            "metric is 'test_error' and test_signal 'refused'; a strategy s",
        ),
        ({"metric": "valtest_error"}, "metric is 'valtest_error' and test_signal 'refused'"),
        ({"test_signal": "declared"}, "metric is 'valid_error' and test_signal 'declared'"),
        ({"metric": "valid_accuracy"}, "metric is 'valid_accuracy'; allowed: names that end in"),
        ({"max_trials": 0}, "max_trials is 0; allowed: 1 and more"),
        ({"report": (), "noise": "x"}, "noise is 'x'.*; report is empty"),
    ],
)
def test_what_is_wrong_is_said(change, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        replace(PROTOCOL, **change)


@pytest.mark.parametrize(
    ("rule", "errors", "fidelities", "expected"),
    [
        ("highest_fidelity", [0.5, 0.3, 0.4, 0.2], [9, 9, 9, 9], [0, 1, 1, 3]),
        ("highest_fidelity", [0.3, 0.3, 0.2, 0.2], [9, 9, 9, 9], [0, 0, 2, 2]),  # ties: earliest
        ("highest_fidelity", [0.1, 0.5, 0.2, 0.4], [3, 9, 3, 9], [0, 1, 1, 3]),  # 0.1 was cheap
        ("any_fidelity", [0.1, 0.5, 0.2, 0.05], [3, 9, 3, 9], [0, 0, 0, 3]),
        ("any_fidelity", [0.2, 0.2, 0.1, 0.1], [3, 9, 9, 3], [0, 0, 2, 2]),
        ("highest_fidelity", [1.0, 1.0], [3, 3], [0, 0]),
        ("any_fidelity", [], [], []),
    ],
)
def test_incumbents_by_hand(rule, errors, fidelities, expected):
    protocol = replace(PROTOCOL, incumbent=rule)
    found = protocol.incumbents(np.array(errors, float), np.array(fidelities, int))
    assert found.tolist() == expected


@given(
    rule=st.sampled_from(["highest_fidelity", "any_fidelity"]),
    trials=st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 1.0]), st.sampled_from([3, 9, 27]))),
)
def test_incumbents_by_the_words_of_the_rule(rule, trials):
    errors = np.array([error for error, _ in trials])
    fidelities = np.array([fidelity for _, fidelity in trials], dtype=int)
    expected = []
    for end in range(1, len(trials) + 1):
        top = max(fidelity for _, fidelity in trials[:end])
        allowed = [
            (error, index)
            for index, (error, fidelity) in enumerate(trials[:end])
            if rule == "any_fidelity" or fidelity == top
        ]
        expected.append(min(allowed)[1])
    found = replace(PROTOCOL, incumbent=rule).incumbents(errors, fidelities)
    assert found.tolist() == expected
