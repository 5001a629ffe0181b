"""Bad input of every kind: refused in one sentence; never a hang, a crash or a wrong number."""

from collections import Counter
from random import Random

import fuzzing
import pytest
from fuzzing import Child, complaint

CASES = fuzzing.cases()
MUTANTS = 96  # of each form of a file


@pytest.fixture(scope="module")
def tally(request):
    """How often a file was refused, read as it was, and so on, by form; printed at the end."""
    rows = {}
    yield rows
    if not rows:
        return
    kinds = ("refused", "unchanged", "fewer", "altered")
    lines = [f"{'mutants of':32}" + "".join(f"{kind:>11}" for kind in kinds)]
    for name, counts in [*rows.items(), ("all", sum(rows.values(), Counter()))]:
        lines.append(f"{name:32}" + "".join(f"{counts[kind]:11}" for kind in kinds))
    lines.append("fewer (with --partial) and altered are undetectable without a digest: a file is")
    lines.append("refused by the one that its recipe records; of a folder only the digest differs")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *lines, sep="\n")


def test_every_reader_has_files_to_be_tried_on():
    known = fuzzing.catalogue.recipes()
    tried = {case.recipe for case in CASES.values() if isinstance(case.recipe, str)}
    targets = {
        name: (recipe.get("reader") or recipe["extra"])["_target_"]
        for name, recipe in known.items()
        if "reader" in recipe or "extra" in recipe
    }
    covered = {targets[name] for name in tried}
    assert {name for name, target in targets.items() if target not in covered} == set()
    assert len(CASES) * MUTANTS >= 2000


def fresh(folder):
    folder.mkdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_mutants(name, tmp_path, tally):
    good, source = (CASES[name].write(fresh(tmp_path / part)) for part in ("good", "bad"))
    counts, wrong = Counter(), []
    opening = {"do": "open", "case": name, "source": str(good), "good": True}
    with Child(tmp_path / "empty", opening) as child:
        for number, (names, checked) in enumerate(fuzzing.mutants(source, Random(name), MUTANTS)):
            answer = child.ask("read", source)
            if found := complaint(answer, [source.name, *names]):
                wrong.append((number, found))
            counts[answer["outcome"]] += 1
            counts["silent"] += checked and answer["outcome"] in ("fewer", "altered")
        assert child.ask("read", source)["outcome"] == "unchanged"
        assert list((tmp_path / "empty").iterdir()) == []
    tally[name] = counts
    assert wrong == []
    assert counts["silent"] == 0
    assert sum(counts.values()) == MUTANTS
