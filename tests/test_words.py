"""Counts, near names and words for a shell."""

from bench.words import many, nearest, override


def test_one_is_no_plural():
    assert many(1, "architecture") == "1 architecture"
    assert many(0, "architecture") == "0 architectures"
    assert many(1360, "architecture") == "1,360 architectures"
    assert many(2, "optimum", "optima") == "2 optima"
    assert many(1, "optimum", "optima") == "1 optimum"


def test_a_near_name_is_asked_for():
    assert nearest("cifr10", ["cifar100", "cifar10"]) == "; did you mean cifar10?"
    assert nearest("moon", ["cifar100", "cifar10"]) == ""


def test_words_for_a_shell():
    assert override("space", "nb_asr") == "space=nb_asr"
    assert override("dataset.name", "10") == "\"dataset.name='10'\""
    assert override("a.b", (1, 2)) == '"a.b=[1,2]"'
