"""Surrogates: honest about what they have not seen, and otherwise objectives like any other."""

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import contracts
import numpy as np
import pytest
from conftest import CONF, build
from published import nb301
from scipy.stats import kendalltau, kstest

from bench import surrogate
from bench.compose import ConfigError, plan
from bench.data import silent
from bench.run import execute
from bench.search import Query
from bench.surrogate import LEAST, SurrogateObjective, divide, fit
from bench.table import PROVENANCE, Schedule, Table, TableError, read_table, write_table
from spaces.darts.official import training_logs
from spaces.darts.space import DARTS
from spaces.nb201.space import NB201

SPACE, PROTOCOL = NB201(), build(CONF / "protocol/nb201.yaml")
SHIPPED = Path(__file__).parent.parent / "spaces/nb201/tables/nb201.h5"
DARTS_SPACE, NB301 = DARTS(), build(CONF / "protocol/darts.yaml")
small = partial(SurrogateObjective, SPACE, "cifar10", PROTOCOL, rows=400, members=2)


@pytest.fixture(scope="module")
def shipped():
    """Of the table that ships, 400 architectures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_ARENA_DATA", "absent")
        return small()


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_ARENA_DATA", str(tmp_path))
    return tmp_path


def some(count, space=SPACE, seed=0):
    rng = Random(seed)
    drawn = {space.sample(rng): None for _ in range(3 * count)}
    return list(drawn)[:count]


def make(data, columns, *, name="made", epochs=(200,), space=SPACE, count=300, dataset="cifar10"):
    """A table in which `columns` gives each value of 300 architectures, or is the values."""
    genes = np.array(some(count, space), np.int8)
    values = {key: np.asarray(value, np.float32) for key, value in columns(genes).items()}
    seeds = next(v.shape[2] for v in values.values() if v.ndim == 3)
    schedule = Schedule(np.array(epochs, np.int32), np.arange(seeds, dtype=np.int32), values)
    provenance = dict.fromkeys(PROVENANCE, "") | {"space": space.name}
    table = Table(provenance, genes, {(dataset, "200"): schedule})
    write_table(table, space, data / f"{name}.h5")
    return name


def simple(genes, epochs=1, seeds=1):
    """An error that falls with the epochs, and grows with the edges that have operation 4."""
    error = 0.1 + 0.1 * (genes == 4).sum(1)
    error = error[:, None, None] * (1 + np.arange(epochs)[::-1])[None, :, None]
    return np.repeat(error, seeds, axis=2)


def the_rows():
    """The architectures of the table that ships."""
    return list(map(tuple, read_table(SHIPPED).architectures.tolist()))


# ------------------------------------------------------------------------------- promises


@pytest.mark.parametrize("promise", contracts.OBJECTIVE, ids=lambda f: f.__name__)
def test_promises_kept(promise, shipped):
    promise(shipped, SPACE)


def test_the_optimum_is_not_known(shipped):
    assert shipped.optimum == {}


def test_what_it_tells_of_itself(shipped):
    fitted, held_out = (shipped.quality[f"signal@200 {side}"] for side in ("fitted", "held_out"))
    chosen, apart = divide(SPACE, the_rows(), rows=400, held_out=0.2, seed=0)
    assert (fitted, held_out) == ((~apart).sum(), apart.sum())
    assert 380 < len(chosen) <= 400
    assert shipped.quality["valid_error r2"] == shipped.quality["signal@200 r2"]
    assert (
        f"2 regressors fitted to {fitted:.0f} architectures of table nb201; on {held_out:.0f} that "
        "none of them saw: signal R²"
    ) in shipped.notes
    for what in ("r2", "kendall_tau"):
        assert f"{shipped.quality[f'signal@200 {what}']:.3f}" in shipped.notes
    assert f"{100 * shipped.quality['signal@200 noise']:.1f} % of it" in shipped.notes


def test_its_digest_tells_settings_and_tables_apart(shipped, data):
    make(data, lambda genes: {"valid_error": simple(genes)})
    digests = {
        objective.digest
        for objective in (
            shipped,
            small(seed=1),
            small(rows=300),
            small(members=1),
            small(held_out=0.3),
            small(table="made", rows=None),
        )
    }
    assert len(digests) == 6
    assert small().digest == shipped.digest


# -------------------------------------------------------------------- what none of them saw


def assert_honest(fit, features, held_out):
    """Of pure chance nobody explains anything; who has seen the answers does."""
    chance = np.random.default_rng(0).normal(1, 0.1, len(features))
    quality = fit(features, chance, held_out, "chance", members=2, seed=0).quality
    assert quality["r2"] < 0.2
    assert abs(quality["kendall_tau"]) < 0.2


def sees_all(features, values, held_out, what, *, members, seed):
    """A culprit: its members are fitted to what is held out, too."""
    honest = fit(features, values, held_out, what, members=members, seed=seed)
    boosters = surrogate._boosters(features, np.log(values), members=members, seed=seed)
    unseen = values[held_out].astype(np.float32)[:, None]
    leaking = replace(honest, members=boosters)
    return replace(leaking, quality=surrogate._quality(leaking, features[held_out], unseen))


def test_the_quality_is_of_what_none_of_them_saw():
    architectures = some(1000)
    chosen, held_out = divide(SPACE, architectures, rows=None, held_out=0.2, seed=0)
    features = np.array([SPACE.features(architectures[row]) for row in chosen])
    assert_honest(fit, features, held_out)
    with pytest.raises(AssertionError):
        assert_honest(sees_all, features, held_out)


def sides_of(space, architectures, **settings):
    """The networks that are fitted to, and those that are held out, row by row."""
    defaults = {"rows": None, "held_out": 0.2, "seed": 0}
    chosen, apart = divide(space, architectures, **defaults | settings)
    networks = [SPACE.canonical(architectures[row]) for row in chosen]
    return [
        [network for network, aside in zip(networks, apart, strict=True) if aside == side]
        for side in (False, True)
    ]


def test_no_network_is_on_both_sides():
    seen, unseen = sides_of(SPACE, some(3000), rows=2000)
    assert not set(seen) & set(unseen)
    assert len(unseen) == len(set(unseen)) == pytest.approx(len({*seen, *unseen}) / 5, abs=1)

    class ForgetsTwins(NB201):
        def canonical(self, arch):
            return arch

    seen, unseen = sides_of(ForgetsTwins(), some(3000), rows=2000)
    assert set(seen) & set(unseen)


def test_all_is_used_but_the_twins_of_what_is_held_out():
    seen, unseen = sides_of(SPACE, the_rows())
    counts = Counter(map(SPACE.canonical, SPACE))
    assert len(seen) == 15_625 - sum(counts[network] for network in unseen)
    assert len({*seen, *unseen}) == len(counts) == 6_466


def test_what_is_held_out_is_a_matter_of_the_seed():
    sides = [sides_of(SPACE, some(500), seed=seed) for seed in (0, 0, 1)]
    assert sides[0] == sides[1]
    assert len(set(sides[0][1]) & set(sides[2][1])) < 0.5 * len(sides[0][1])


def test_the_stated_quality_is_met_outside_the_rows_that_were_used():
    """By networks that took no part in anything; on these it may be better, not worse."""
    table = read_table(SHIPPED)
    architectures = the_rows()
    objective = SurrogateObjective(SPACE, "cifar100", PROTOCOL, rows=3000)
    chosen, _ = divide(SPACE, architectures, rows=3000, held_out=0.2, seed=0)
    used = {SPACE.canonical(architectures[row]) for row in chosen}
    outside = [row for row, arch in enumerate(architectures) if SPACE.canonical(arch) not in used]
    errors = table.schedules["cifar100", "200"].columns["valid_error"][outside, 0]
    answers = objective.report(table.architectures[outside])["valid_error"]
    tau = kendalltau(answers, np.nanmean(errors, 1)).statistic
    misses = np.abs(np.log(errors / answers[:, None]))[~np.isnan(errors)]
    assert len(outside) > 3000
    assert -0.03 < tau - objective.quality["signal@200 kendall_tau"] < 0.1
    assert 0.65 < (misses < objective.quality["signal@200 noise"]).mean() < 0.9


def test_it_learns():
    architectures = some(600)
    genes = np.array(architectures)
    features = np.array([SPACE.features(arch) for arch in architectures])
    held_out = np.arange(600) % 5 == 0
    law = fit(features, simple(genes)[:, 0], held_out, "law", members=2, seed=0)
    assert law.quality["r2"] > 0.95
    noisy = simple(genes, seeds=3)[:, 0] * np.exp(np.random.default_rng(0).normal(0, 0.3, (600, 3)))
    noise = fit(features, noisy, held_out, "law", members=2, seed=0).quality["noise"]
    assert noise == pytest.approx(0.3, abs=0.06)


# ---------------------------------------------------------------------------------- noise


def draws(objective, architecture, runs=4000):
    query = Query(architecture, 200)
    rng = Random(5)
    answers = [objective.evaluate(query, rng.getrandbits(64), 0).error for _ in range(runs)]
    (mean,) = objective.report([architecture])["valid_error"]
    return np.log(np.array(answers) / mean) / objective.quality["signal@200 noise"]


def test_answers_are_normal_draws_as_wide_as_stated(shipped):
    for architecture in some(3):
        mean = shipped.report([architecture])["valid_error"][0]
        assert mean * np.exp(5 * shipped.quality["signal@200 noise"]) < 1  # nothing is cut off
        assert kstest(draws(shipped, architecture), "norm").pvalue > 1e-4


def test_draws_of_two_architectures_are_independent(shipped):
    one, other = (draws(shipped, architecture) for architecture in some(2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.07
    in_one_run = [shipped.evaluate(Query(arch, 200), 7, 0).error for arch in some(400)]
    means = shipped.report(some(400))["valid_error"]
    marks = np.log(np.array(in_one_run) / means) / shipped.quality["signal@200 noise"]
    assert kstest(marks, "norm").pvalue > 1e-4


def test_the_mean_is_asked_for(shipped):
    objective = SurrogateObjective(
        SPACE, "cifar10", replace(PROTOCOL, noise="mean"), rows=400, members=2
    )
    for architecture in some(5):
        answers = {objective.evaluate(Query(architecture, 200), run, 0).error for run in range(5)}
        assert answers == set(objective.report([architecture])["valid_error"])
        assert answers == set(shipped.report([architecture])["valid_error"])


def test_a_promoted_architecture_goes_on_with_its_luck(data):
    make(data, lambda genes: {"valid_error": simple(genes, 2, 2) * 0.3}, epochs=(10, 200))
    protocol = replace(PROTOCOL, fidelities=(10, 200))
    objective = SurrogateObjective(SPACE, "cifar10", protocol, table="made", members=2)
    marks = []
    for place, epoch in enumerate((10, 200)):
        ensemble = objective._signal[place]
        ensemble.quality["noise"] = 0.1  # the law has none
        mean = np.exp(ensemble(SPACE.features(some(1)[0])[None]))[0]
        errors = [objective.evaluate(Query(some(1)[0], epoch), run, 0).error for run in range(20)]
        marks.append(np.log(np.array(errors) / mean))
    np.testing.assert_allclose(marks[0], marks[1], atol=1e-9)
    assert np.std(marks[0]) > 0.03


# -------------------------------------------------------------- what may not be seen


def nb301_table(data, change=lambda table: None):
    table = training_logs(
        nb301.write(data / "logs", 250, curves=False),
        space=DARTS_SPACE,
        provenance=dict.fromkeys(PROVENANCE, "") | {"space": "darts"},
        progress=silent,
    )
    change(table.schedules["cifar10", "100"].columns)
    write_table(table, DARTS_SPACE, data / "nb301.h5")
    return SurrogateObjective(DARTS_SPACE, "cifar10", NB301, table="nb301", members=2)


def scramble(columns):
    columns["test_error"] = np.random.default_rng(0).permuted(columns["test_error"], axis=0)


def test_no_test_score_moves_what_a_strategy_is_told(data):
    honest = nb301_table(data)
    other = nb301_table(data, scramble)
    architectures = some(20, DARTS_SPACE, 1)
    told = [
        [objective.evaluate(Query(arch, 100), 3, 0) for arch in architectures]
        for objective in (honest, other)
    ]
    assert told[0] == told[1]
    assert all(answer.metrics == {} for answer in told[0])
    assert honest.digest != other.digest
    one, two = (objective.report(architectures) for objective in (honest, other))
    assert (one["valid_error"] == two["valid_error"]).all()
    assert (one["test_error"] != two["test_error"]).any()
    assert other.quality["test_error r2"] < 0.2 < honest.quality["test_error r2"]
    assert "; test_error R²" in honest.notes


def test_a_promise_holds_on_a_sample_of_a_large_space(data):
    objective = nb301_table(data)
    for promise in contracts.OBJECTIVE:
        promise(objective, DARTS_SPACE)
    with pytest.raises(LookupError, match="is not in darts"):
        objective.report([(99,) * 22])


# ---------------------------------------------------------------------------- seconds


def test_without_seconds_there_is_no_clock(data):
    make(data, lambda genes: {"valid_error": simple(genes)})
    objective = small(table="made", rows=None)
    assert not objective.timed
    assert objective.evaluate(Query(some(1)[0], 200), 0, 0).seconds == 0
    with pytest.raises(ConfigError, match="surrogate made knows no seconds"):
        plan(["objective=surrogate", "objective.table=made", "budget=simulated_seconds"])


def with_seconds(genes):
    """Training up to epoch 10 and 200, in a table with 2 training seeds."""
    of_epoch = 1.0 + (genes == 3).sum(1)
    elapsed = of_epoch[:, None, None] * np.array([10, 200])[None, :, None] * [[[1.0, 1.02]]]
    return {"valid_error": simple(genes, 2, 2) * 0.3, "elapsed_seconds": elapsed,
            "valid_seconds": of_epoch / 10}  # fmt: skip


def test_seconds_up_to_every_fidelity(data):
    make(data, with_seconds, epochs=(10, 200))
    protocol = replace(PROTOCOL, fidelities=(10, 200), validation_pass="charged")
    objective = SurrogateObjective(SPACE, "cifar10", protocol, table="made", members=2)
    ratios = []
    for architecture in some(50, seed=1):
        of_epoch = 1.0 + architecture.count(3)
        short, long, rest = (
            objective.evaluate(Query(architecture, epoch), 0, trained).seconds
            for epoch, trained in ((10, 0), (200, 0), (200, 10))
        )
        passed = objective._known[architecture][1][0]
        assert rest == pytest.approx(long - (short - passed))
        ratios += [short / (10.1 * of_epoch + of_epoch / 10), long / (202 * of_epoch),
                   passed / (of_epoch / 10)]  # fmt: skip
    assert np.exp(np.abs(np.log(ratios))).mean() < 1.1


def test_one_fidelity_with_elapsed_seconds(data):
    make(data, with_seconds, epochs=(10, 200))
    objective = small(table="made", rows=None)
    seconds = [objective.evaluate(Query((3,) * 6, 200), 0, 0).seconds]
    assert 200 < seconds[0] < 1500


# ------------------------------------------------------------------------------ losses


def test_losses_may_be_below_zero(data):
    make(data, lambda genes: {"valid_loss": simple(genes) * 4 - 1.5})
    protocol = replace(PROTOCOL, metric="valid_loss", report=("valid_loss",))
    objective = SurrogateObjective(SPACE, "cifar10", protocol, table="made", members=2)
    answers = objective.report(some(100))["valid_loss"]
    assert answers.min() < -0.5
    assert answers.max() > 0.3
    assert objective.worst == pytest.approx(float((simple(np.array(some(300))) * 4 - 1.5).max()))
    assert " %" not in objective.notes


# ----------------------------------------------------------------- the same everywhere

ASK = """
import json
from contracts import pickle, sys
objective, queries = pickle.loads(sys.stdin.buffer.read())
print(json.dumps([[objective.digest, objective.notes]]
                 + [objective.evaluate(query, 11, 0)[:2] for query in queries]))
"""


@pytest.mark.parametrize("threads", ["1", "3"])
def test_equal_in_another_process(shipped, threads):
    """Handed over, and fitted anew: with another hash seed, and more threads than wanted."""
    here = os.environ.get("PYTHONHASHSEED")
    tests = Path(__file__).parent
    queries = [Query(arch, 200) for arch in some(10)]
    expected = [[shipped.digest, shipped.notes]]
    expected += [list(shipped.evaluate(query, 11, 0)[:2]) for query in queries]
    for what in (shipped, small):
        child = subprocess.run(
            [sys.executable, "-c", ASK if what is shipped else ASK.replace(
                "print(", "objective = objective()\nprint(")],
            input=pickle.dumps((what, queries)),
            env=os.environ
            | {
                "PYTHONHASHSEED": "2" if here == "1" else "1",
                "OMP_NUM_THREADS": threads,
                "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
                "NAS_ARENA_DATA": "absent",
            },
            capture_output=True,
            check=True,
        )  # fmt: skip
        assert json.loads(child.stdout) == expected


def test_one_by_one_or_together(shipped):
    """The answers of a run are those that are reported, to the last bit."""
    architectures = some(60)
    together = shipped.report([*architectures, *architectures[:7]])["valid_error"]
    one_by_one = [shipped.report([arch])["valid_error"][0] for arch in architectures]
    assert together.tolist() == one_by_one + one_by_one[:7]


def test_what_was_asked_is_not_handed_over(shipped):
    before = len(pickle.dumps(shipped))
    for arch in some(50, seed=3):
        shipped.evaluate(Query(arch, 200), 0, 0)
    assert abs(len(pickle.dumps(shipped)) - before) < 1000


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rows": LEAST - 1}, "rows is 99; allowed: 100 and more, or null for all"),
        ({"members": 0}, "members is 0; allowed: 1 to 100"),
        ({"held_out": 0.0}, "held_out is 0.0; allowed: a share of 0.05 to 0.9"),
        ({"held_out": float("nan")}, "held_out is nan; allowed: a share"),
        ({"seed": -1}, "seed is -1; allowed: 0 and more"),
        ({"rows": 100, "held_out": 0.05}, "5 of them held out; a surrogate needs 100 or more"),
        ({"table": "absent"}, "table 'absent' is neither in"),
    ],
)
def test_settings_are_checked(settings, sentence):
    with pytest.raises(TableError, match=sentence):
        small(**settings)


def test_a_table_with_too_few_rows_is_refused(data):
    make(data, lambda genes: {"valid_error": simple(genes)}, count=LEAST - 1)
    with pytest.raises(
        TableError, match=r"made\.h5, cifar10, schedule 200: valid_error is known of 99 arch"
    ):
        small(table="made", rows=None)


def test_a_reported_metric_with_too_few_rows_is_refused(data):
    def columns(genes):
        test = simple(genes)
        test[60:] = np.nan
        return {"valid_error": simple(genes), "test_error": test}

    make(data, columns)
    protocol = replace(PROTOCOL, report=("test_error",))
    with pytest.raises(TableError, match="reported test_error is known of 59 architectures, 11 of"):
        SurrogateObjective(SPACE, "cifar10", protocol, table="made")


def test_rows_without_a_signal_are_no_rows(data):
    def columns(genes):
        error = simple(genes, seeds=2)
        error[::2, :, 0] = np.nan  # one training seed is missing: fine
        error[:50] = np.nan
        return {"valid_error": error}

    make(data, columns)
    quality = small(table="made", rows=None).quality
    for side, networks in zip(("fitted", "held_out"), sides_of(SPACE, some(300)[50:]), strict=True):
        assert quality[f"signal@200 {side}"] == len(networks)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"report": ("test_error",)}, "test_error is not in table nb201.h5"),
        ({"report_schedule": "12"}, "schedule '12' is not in table nb201.h5"),
        ({"fidelities": (12,)}, r"epochs \[12\] are not in table nb201.h5"),
        ({"validation_pass": "charged"}, "valid_seconds is not in table nb201.h5"),
    ],
)
def test_what_a_table_lacks_is_named(change, sentence):
    with pytest.raises(TableError, match=sentence):
        SurrogateObjective(SPACE, "cifar10", replace(PROTOCOL, **change), rows=400)


def test_a_table_of_another_space_is_refused(data):
    make(data, lambda genes: {"valid_error": simple(genes)})
    with pytest.raises(TableError, match="is of space nb201, not darts"):
        SurrogateObjective(DARTS_SPACE, "cifar10", PROTOCOL, table="made")


def test_without_lightgbm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(TableError, match=r"pip install 'nas-arena\[predictors\]'"):
        small()


# ----------------------------------------------------------------------------- whole runs


def sealed(cell, results, seeds=1, jobs=1):
    """The names of the files of trials, which hold digests, after a run without failures."""
    assert execute([cell], range(seeds), results, jobs=jobs) == []
    described = json.loads((cell.folder(results) / "cell.json").read_text())
    assert described["notes"] == cell.objective.notes != ""
    assert described["objective_digest"] == cell.objective.digest
    return sorted(path.name for path in cell.folder(results).glob("trials-*.npz"))


def test_a_run_on_the_table_that_ships(tmp_path):
    words = ["objective=surrogate", "objective.rows=400", "objective.members=1"]
    (cell,) = plan([*words, "strategy=local_search", "budget.limit=30"]).cells
    alone = sealed(cell, tmp_path / "alone", 100)
    assert len(alone) == 2
    assert alone == sealed(cell, tmp_path / "together", 100, jobs=2)


def test_a_run_on_a_sample(data):
    nb301_table(data)
    words = ["objective=surrogate", "objective.table=nb301", "space=darts", "protocol=darts"]
    (cell,) = plan([*words, "strategy=regularized_evolution", "budget.limit=60"]).cells
    assert len(sealed(cell, data / "results")) == 1
    assert "of table nb301" in cell.objective.notes


def test_bad_words_are_named():
    for words, sentence in (
        ("objective.rows=5", "objective=surrogate: rows is 5; allowed: 100 and more"),
        ("objective.members=x", "objective.members is 'x'; allowed: whole number"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            plan(["objective=surrogate", words])
