"""Published facts of the cells of NAS-Bench-NLP, and of how they are written."""

import json
from collections import Counter
from itertools import product
from random import Random

import numpy as np
import pytest
from contracts import assert_proportions
from published.nb_nlp import RNN, SAME_TWO_STATES, TWO_STATES

from spaces.nb_nlp import space as module
from spaces.nb_nlp.generator import generate
from spaces.nb_nlp.space import NBNLP

SPACE = NBNLP()
# data/recepies_example.json, fmsnew/nas-bench-nlp-release@b67171b
GRU = {
    "r": {"op": "linear", "input": ["x", "h_prev_0"]},
    "r_act": {"op": "activation_sigm", "input": ["r"]},
    "z": {"op": "linear", "input": ["x", "h_prev_0"]},
    "z_act": {"op": "activation_sigm", "input": ["z"]},
    "rh": {"op": "elementwise_prod", "input": ["r_act", "h_prev_0"]},
    "h_tilde": {"op": "linear", "input": ["x", "rh"]},
    "h_tilde_act": {"op": "activation_tanh", "input": ["h_tilde"]},
    "h_new_0": {"op": "blend", "input": ["z_act", "h_prev_0", "h_tilde_act"]},
}
LSTM = {
    **{gate: {"op": "linear", "input": ["x", "h_prev_0"]} for gate in "ijfo"},
    "i_act": {"op": "activation_tanh", "input": ["i"]},
    "j_act": {"op": "activation_sigm", "input": ["j"]},
    "f_act": {"op": "activation_sigm", "input": ["f"]},
    "o_act": {"op": "activation_tanh", "input": ["o"]},
    "h_new_1_part1": {"op": "elementwise_prod", "input": ["f_act", "h_prev_1"]},
    "h_new_1_part2": {"op": "elementwise_prod", "input": ["i_act", "j_act"]},
    "h_new_1": {"op": "elementwise_sum", "input": ["h_new_1_part1", "h_new_1_part2"]},
    "h_new_1_act": {"op": "activation_tanh", "input": ["h_new_1"]},
    "h_new_0": {"op": "elementwise_prod", "input": ["h_new_1_act", "o_act"]},
}
PUBLISHED = {"rnn": RNN, "gru": GRU, "lstm": LSTM, "two states": TWO_STATES}


def of(recipe):
    return SPACE.from_string(json.dumps(recipe))


def test_genes_of_the_plain_cell():
    assert of(RNN) == (1, 0, 0, *(0, 1, 2, 0), *(0, 5, 0, 0), *[0] * 92)
    assert SPACE.to_string(of(RNN)) == (
        '{"node_0": {"op": "linear", "input": ["x", "h_prev_0"]}, '
        '"h_new_0": {"op": "activation_tanh", "input": ["node_0"]}}'
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cells_keep_their_graph(name):
    recipe = PUBLISHED[name]
    arch = of(recipe)
    assert SPACE.contains(arch)
    ours = json.loads(SPACE.to_string(arch))
    order = list(ours)
    waiting, names = dict(recipe), {}
    for ours_name in order:  # theirs, each after those it takes from, otherwise as they stand
        theirs = next(
            name
            for name, node in waiting.items()
            if all(source not in recipe or source in names for source in node["input"])
        )
        names[theirs] = ours_name
        node = waiting.pop(theirs)
        inputs = [names.get(source, source) for source in node["input"]]
        assert ours[ours_name] == {"op": node["op"], "input": inputs}
    assert all(names[name] == name for name in recipe if name in ("h_new_0", "h_new_1"))


def test_the_first_node_by_hand():
    """With one state: an activation of h_prev_0, or linear of x and h_prev_0, in two orders."""
    slots = product(range(3), range(5), range(5), range(5))
    assert {slot for slot in slots if module._is_node(slot, 1)} == {
        *((kind, 2, 0, 0) for kind in range(3)),
        *((0, 1, 2, 0), (0, 2, 1, 0)),
    }
    assert module._ways(0, 1) == 5


@pytest.mark.parametrize(("node", "states"), [(0, 1), (0, 3), (1, 1), (1, 2), (3, 3), (4, 2)])
def test_the_ways_of_a_node_are_those_that_are_members(node, states):
    """All genes of one node put behind a good beginning, against the closed formula."""
    width = 5 + node
    found = sum(
        module._is_node(slot, states)
        for slot in product(range(3), range(width), range(width), range(width))
    )
    assert found == module._ways(node, states)


def test_the_size_of_small_spaces(monkeypatch):
    """The formula against a listing, with at most two nodes, and by hand: one state and one or two
    nodes, then two states and two nodes.
    """

    class Small(NBNLP):
        choices = (2, 3, 3, 3, 5, 5, 5, 3, 6, 6, 6)

    monkeypatch.setattr(module, "NODES", 2)
    small = Small()
    members = list(small)
    assert len(set(members)) == len(members) == small.size == 5 + 5 * 22 * 2 + 22 * 63 * 2
    assert members == sorted(members)
    assert all(map(small.contains, members))
    by_trying = (arch for arch in product(*map(range, small.choices[:7])))
    ones = {arch[:7] for arch in members if not any(arch[7:])}
    assert {arch for arch in by_trying if small.contains((*arch, 0, 0, 0, 0))} == ones


def test_size():
    assert SPACE.networks == SPACE.size > 10**90


def test_keys_do_not_depend_on_how_a_cell_is_written():
    one, other = of(TWO_STATES), of(SAME_TWO_STATES)
    assert one != other
    assert SPACE.key(one) == SPACE.key(other)
    assert SPACE.canonical(one) == SPACE.canonical(other)
    shuffled = {name: LSTM[name] for name in reversed(LSTM)}
    assert SPACE.key(of(shuffled)) == SPACE.key(of(LSTM))
    genes = np.array([one, other, of(LSTM)], dtype=np.int8)
    assert SPACE.keys(genes).tolist() == [SPACE.key(one), SPACE.key(other), SPACE.key(of(LSTM))]


def changed(recipe, name, **node):
    return recipe | {name: recipe[name] | node}


@pytest.mark.parametrize(
    "other",
    [
        changed(TWO_STATES, "node_4", input=["h_prev_1", "node_1", "node_0"]),
        changed(TWO_STATES, "node_4", input=["node_1", "h_prev_0", "node_0"]),
        changed(TWO_STATES, "node_1", op="activation_tanh"),
        changed(TWO_STATES, "node_0", input=["h_prev_1", "x"]),
        changed(TWO_STATES, "h_new_0", input=["node_6", "node_0"]),
    ],
)
def test_other_cells_have_other_keys(other):
    assert SPACE.key(of(other)) != SPACE.key(of(TWO_STATES))


def test_twins_are_not_one_node():
    """Two linears of the same inputs have weights of their own."""
    shared = {
        "a": {"op": "linear", "input": ["x", "h_prev_0"]},
        "s": {"op": "activation_sigm", "input": ["a"]},
        "t": {"op": "activation_tanh", "input": ["a"]},
        "h_new_0": {"op": "elementwise_prod", "input": ["s", "t"]},
    }
    apart = changed(shared | {"b": shared["a"]}, "t", input=["b"])
    assert SPACE.key(of(shared)) != SPACE.key(of(apart))


def test_hidden_states_but_the_first_have_no_names():
    def with_states(first, second):
        return {
            "a": {"op": "linear", "input": ["x", "h_prev_0", f"h_prev_{first}"]},
            "h_new_0": {"op": "blend", "input": ["a", f"h_prev_{second}", f"h_prev_{first}"]},
            f"h_new_{first}": {"op": "activation_tanh", "input": ["a"]},
            f"h_new_{second}": {"op": "activation_sigm", "input": ["a"]},
        }

    assert SPACE.key(of(with_states(1, 2))) == SPACE.key(of(with_states(2, 1)))
    swapped = changed(with_states(1, 2), "h_new_0", input=["a", "h_prev_1", "h_prev_2"])
    assert SPACE.key(of(swapped)) != SPACE.key(of(with_states(1, 2)))


def test_nodes_that_nothing_needs_do_not_count():
    further = RNN | {"spare": {"op": "elementwise_sum", "input": ["f", "h_new_0"]}}
    assert of(further) != of(RNN)
    assert SPACE.key(of(further)) == SPACE.key(of(RNN))


def test_one_gene_adds_a_node_an_input_and_a_state():
    near = set(SPACE.neighbours(of(RNN)))
    spare = RNN | {"spare": {"op": "activation_tanh", "input": ["f"]}}
    summed = RNN | {"h_new_0": {"op": "linear", "input": ["f", "h_prev_0"]}}
    state = RNN | {"h_new_1": RNN["f"]}
    assert {of(spare), of(summed)} <= near
    two = (of(RNN)[0], 1, *of(RNN)[2:])
    assert two in near
    assert json.loads(SPACE.to_string(two)) == {
        "h_new_1": state["h_new_1"],
        "h_new_0": {"op": "activation_tanh", "input": ["h_new_1"]},
    }


def test_neighbours_are_all_that_differ_in_one_gene():
    for arch in of(RNN), of(TWO_STATES):
        apart = module._one_gene_apart(arch, SPACE.choices, len(arch))
        assert list(SPACE.neighbours(arch)) == list(filter(SPACE.contains, apart))


def test_mutation_is_a_uniform_neighbour():
    rng, arch = Random(0), of(RNN)
    near = list(SPACE.neighbours(arch))
    counts = Counter(SPACE.mutate(arch, rng) for _ in range(50 * len(near)))
    assert_proportions([counts[one] for one in near], np.ones(len(near)))


def test_how_a_cell_is_drawn():
    further = RNN | {"spare": {"op": "elementwise_sum", "input": ["f", "h_new_0"]}}
    for recipe in RNN, further:
        assert SPACE.graph(of(recipe)) == [
            ("x", "linear#0", ""),
            ("h_prev_0", "linear#0", ""),
            ("linear#0", "activation_tanh#1", ""),
            ("activation_tanh#1", "h_new_0", ""),
        ]
    labels = SPACE.labels()
    assert [len(values) for _, values in labels] == list(SPACE.choices)
    assert labels[4] == ("node 0, input 1", ["none", "x", "h_prev_0", "h_prev_1", "h_prev_2"])
    assert labels[10][1][of(RNN)[8]] == "node 0"


# --------------------------------------------------------------------------- the generator


def test_samples_obey_the_published_rules():
    rng, states, counts = Random(0), Counter(), []
    for _ in range(300):
        recipe = json.loads(SPACE.to_string(SPACE.sample(rng)))
        new = [name for name in recipe if name.startswith("h_new")]
        previous = {f"h_prev_{name[-1]}" for name in new}
        used = {source for node in recipe.values() for source in node["input"]}
        assert {"x", *previous} <= used
        assert not any(previous & set(recipe[name]["input"]) for name in new)
        activations = {name for name, node in recipe.items() if "activation" in node["op"]}
        for node in recipe.values():
            if node["op"] == "linear":
                assert set(node["input"]) <= {"x", *previous, *activations}
            elif "activation" in node["op"]:
                assert recipe[node["input"][0]]["op"] == "linear"
            else:
                assert "x" not in node["input"]
        assert used >= set(recipe) - set(new)  # no node that nothing needs
        states[len(new)] += 1
        counts.append(len(recipe))
    assert set(states) == {1, 2, 3}
    assert 2 <= min(counts) <= max(counts) <= 25


def test_states_are_alike_likely():
    rng = Random(1)
    counts = Counter(len(generate(rng)[0]) for _ in range(900))
    assert_proportions([counts[states] for states in (1, 2, 3)], [1, 1, 1])


# ------------------------------------------------------------------------- what is refused


def test_too_fine_mutation_weights_are_refused():
    with pytest.raises(ValueError, match="mutation_weights of nb_nlp make too many different"):
        NBNLP(mutation_weights=[1] * 103)
    with pytest.raises(ValueError, match="nb_nlp needs 103 whole numbers from 0 up"):
        NBNLP(mutation_weights=[1])


BAD_GENES = {
    "no output": (0, 0, 0),
    "output behind the nodes": (2, 0, 0),
    "third state without a second": (1, 0, 1),
    "one node as two states": (1, 2, 0),
}


@pytest.mark.parametrize("what", BAD_GENES)
def test_bad_states_are_no_members(what):
    good = of(RNN)
    nodes = good[3:] if what != "no output" else (0,) * 100
    assert SPACE.contains(good)
    assert not SPACE.contains((*BAD_GENES[what], *nodes))


@pytest.mark.parametrize(
    "slot",
    [
        (0, 0, 5, 0),  # a gap among the inputs
        (0, 5, 0, 2),
        (0, 5, 5, 0),  # the same twice
        (1, 1, 2, 0),  # x in a product
        (0, 1, 0, 0),  # x in an activation
        (0, 3, 0, 0),  # a state that is not there
        (2, 5, 2, 1),  # no third operation of three inputs
        (1, 0, 0, 0),  # an operation without inputs
    ],
)
def test_bad_nodes_are_no_members(slot):
    good = of(RNN)
    assert not SPACE.contains((*good[:7], *slot, *good[11:]))
    assert not SPACE.contains((*good[:11], *slot, *good[15:])) or slot == (1, 0, 0, 0)


def test_a_gap_among_the_nodes_is_no_member():
    good = of(RNN)
    assert not SPACE.contains((*good[:11], 0, 0, 0, 0, 0, 5, 0, 0, *good[19:]))


BAD_TEXTS = {
    "": "Expecting value",
    "[]": "not a JSON object of 1 to 25 nodes",
    "{}": "not a JSON object of 1 to 25 nodes",
    "[" * 10_000: "nested too deep",
    " " * 30_000: "30,000 characters",
    '{"a": 1}': "has not just op and input",
    '{"a": {"op": "linear"}}': "has not just op and input",
    '{"a": {"op": "linear", "input": "x"}}': "is no list of names",
    '{"a": {"op": "linear", "input": [1, 2]}}': "is no list of names",
    '{"x": {"op": "linear", "input": ["x", "h_prev_0"]}}': "x is an input",
    '{"a": {"op": "linear", "input": ["x", "b"]}}': "takes from b, which is not there",
    '{"a": {"op": "linear", "input": ["x", "x"]}}': "takes the same twice",
    '{"a": {"op": "linear", "input": ["x"]}}': "a is linear of 1 inputs; allowed",
    '{"a": {"op": "gru", "input": ["x"]}}': "a is an unknown operation; allowed",
    '{"a": {"op": [], "input": ["x"]}}': "a is an unknown operation; allowed",
    '{"a": {"op": "activation_tanh", "input": ["x"]}}': "takes x, which only linear may",
    '{"a": {"op": "linear", "input": ["x", "h_prev_0"]}}': "next hidden states are not",
    '{"h_new_1": {"op": "linear", "input": ["x", "h_prev_0"]}}': "next hidden states are not",
    '{"h_new_0": {"op": "linear", "input": ["x", "h_prev_1"]}}': "h_prev_1 has no h_new",
    '{"h_new_0": {"op": "linear", "input": ["x", "h_new_0"]}}': "h_new_0 stands on a cycle",
    '{"a": {"op": 1, "op": 2, "input": []}}': "it has a name twice",
    '{"a\\n\\ud800": 1}': r"node 'a\n\ud800' has not just op and input",
}


@pytest.mark.parametrize("text", BAD_TEXTS, ids=range(len(BAD_TEXTS)))
def test_foreign_strings_are_refused(text):
    with pytest.raises(ValueError, match="is no cell of nb_nlp, such as") as raised:
        SPACE.from_string(text)
    assert BAD_TEXTS[text] in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_too_many_nodes_are_refused():
    chain = dict(RNN)
    for node in range(24):
        chain[f"n{node}"] = {"op": "activation_tanh", "input": ["f"]}
    with pytest.raises(ValueError, match="1 to 25 nodes"):
        of(chain)
    del chain["n0"]
    assert SPACE.contains(of(chain))
