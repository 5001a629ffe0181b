"""Every rule of the loop, each by a case that comes out otherwise where the rule is dropped."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product
from math import inf, nan
from random import Random

import numpy as np
import pytest
from conftest import CONF, build
from contracts import assert_proportions
from objectives import PROTOCOL, Additive, AlwaysFails, CostsNothing, Diverges
from scipy.stats import chi2_contingency

from bench.search import (
    CLOCKS,
    FAILED_ERROR,
    Budget,
    Evaluation,
    Query,
    Strategy,
    search,
    stream,
)
from bench.table import TableObjective
from spaces.nb201.space import NB201
from strategies.random_search import RandomSearch
from strategies.regularized_evolution import RegularizedEvolution

SPACE = NB201()
A, B, C = (0,) * 6, (1,) * 6, (2,) * 6


class Script(Strategy):
    """Asks what it was given, over and over."""

    def __init__(self, *queries):
        super().__init__(SPACE, Random(0), (1,))
        self.queries, self.asked, self.told = queries, 0, []

    def ask(self):
        self.asked += 1
        return Query(*self.queries[(self.asked - 1) % len(self.queries)])

    def tell(self, trial):
        self.told.append(trial)


class Priced(Additive):
    """Seconds by architecture and epochs still to be trained."""

    def __init__(self, **prices):
        super().__init__(SPACE)
        self.prices, self.questions = {A: 1.0, B: 1.0, C: 1.0} | prices, []

    def evaluate(self, query, noise, trained):
        self.questions.append((query, trained))
        price = self.prices[query.architecture] * (query.fidelity - trained)
        return Evaluation(self.error(query.architecture), price)


class OnGpu(Priced):
    """It holds two GPUs for as long as it says it takes."""

    holds_gpu = True

    def evaluate(self, query, noise, trained):
        answer = super().evaluate(query, noise, trained)
        return answer._replace(gpu_seconds=2 * answer.seconds)


class Untimed(Priced):
    """It has no clock; what is expected and evaluated stands in one log with asks and tells."""

    timed = False

    def __init__(self, log):
        super().__init__()
        self.log = log

    def expect(self, queries, noise):
        self.log.append(("expect", list(queries), noise))

    def evaluate(self, query, noise, trained):
        self.log.append(("evaluate", query, trained))
        return super().evaluate(query, noise, trained)._replace(seconds=0.0)


class Logged(Script):
    """A script whose asks and tells are written down."""

    def __init__(self, log, *queries):
        super().__init__(*queries)
        self.log = log

    def ask(self):
        self.log.append("ask")
        return super().ask()

    def tell(self, trial):
        self.log.append(("tell", trial.query))
        super().tell(trial)


class Thinks:
    """A timer that moves only while someone looks: a second a reading."""

    def __init__(self):
        self.now = -1.0

    def __call__(self):
        self.now += 1
        return self.now


def go(strategy, objective, limit, clock="evaluations", workers=1, timer=None, **rules):
    protocol = replace(PROTOCOL, **rules)
    options = {"timer": timer} if timer else {}
    budget = Budget(clock, limit)
    return list(search(strategy, objective, protocol, budget, noise=0, workers=workers, **options))


def readings(trials, clock):
    return [getattr(trial, clock) for trial in trials]


# ------------------------------------------------------------------------------ overshoot


@pytest.mark.parametrize(
    ("rule", "limit", "seconds"),
    [
        ("drop", 7, [2, 4, 6]),
        ("drop", 6, [2, 4, 6]),  # ends exactly at the budget
        ("keep_last", 7, [2, 4, 6, 8]),
        ("keep_last", 6, [2, 4, 6]),
    ],
)
def test_overshoot(rule, limit, seconds):
    script = Script((A, 2))
    trials = go(script, Priced(), limit, "simulated_seconds", overshoot=rule)
    assert readings(trials, "simulated_seconds") == seconds
    assert script.told == trials  # a dropped trial is not told


@pytest.mark.parametrize("clock", CLOCKS)
def test_every_clock_ends_a_run(clock):
    trials = go(Script((A, 2)), OnGpu(), 10, clock, timer=Thinks(), overshoot="keep_last")
    spent = readings(trials, clock)
    assert all(reading < 10 for reading in spent[:-1])
    assert spent[-1] >= 10


def test_max_trials_stops_a_loop_that_costs_nothing():
    objective = CostsNothing(SPACE)
    assert len(go(Script((A, 3)), objective, 1, "simulated_seconds", max_trials=50)) == 50
    assert len(go(Script((A, 3)), objective, 1, duplicates="cached", max_trials=50)) == 1


# ----------------------------------------------------------------------------- duplicates


def test_duplicates_are_charged():
    trials = go(Script((A, 2), (B, 2)), objective := Priced(), 4)
    assert readings(trials, "simulated_seconds") == [2, 4, 6, 8]
    assert readings(trials, "epochs") == [2, 4, 6, 8]
    assert len(objective.questions) == 4


def test_cached_duplicates_move_no_clock():
    script = Script((A, 2), (A, 2), (B, 2), (A, 2), (C, 2))
    trials = go(script, objective := Priced(), 3, duplicates="cached")
    assert readings(trials, "evaluations") == [1, 1, 2, 2, 3]
    assert readings(trials, "epochs") == [2, 2, 4, 4, 6]
    assert readings(trials, "simulated_seconds") == [2, 2, 4, 4, 6]
    assert trials[1].evaluation == trials[0].evaluation._replace(seconds=0.0)
    assert [query.architecture for query, _ in objective.questions] == [A, B, C]


def test_another_fidelity_is_no_duplicate():
    trials = go(Script((A, 1), (A, 3)), Priced(), 2, duplicates="cached", fidelities=(1, 3))
    assert readings(trials, "epochs") == [1, 3]


# ------------------------------------------------------------------------------ promotion


@pytest.mark.parametrize(("rule", "cost"), [("resume", 18), ("restart", 27)])
def test_promotion(rule, cost):
    script = Script((A, 9), (A, 27))
    trials = go(script, Priced(), 2, fidelities=(9, 27), promotion=rule)
    assert readings(trials, "epochs") == [9, 9 + cost]
    assert readings(trials, "simulated_seconds") == [9, 9 + cost]


def test_a_repeat_or_a_step_back_is_trained_anew():
    script = Script((A, 9), (A, 9), (A, 27), (A, 9), (A, 27))
    trials = go(script, Priced(), 5, fidelities=(9, 27))
    assert np.diff(readings(trials, "epochs"), prepend=0).tolist() == [9, 9, 18, 9, 27]


def test_a_step_back_is_no_loss():
    trials = go(Script((A, 27), (A, 9), (A, 81)), Priced(), 3, fidelities=(9, 27, 81))
    assert np.diff(readings(trials, "epochs"), prepend=0).tolist() == [27, 9, 54]


def test_others_progress_is_no_promotion():
    trials = go(Script((A, 9), (B, 27)), Priced(), 2, fidelities=(9, 27))
    assert readings(trials, "epochs") == [9, 36]


# ------------------------------------------------------------------------------- overhead


@pytest.mark.parametrize(("rule", "seconds"), [("free", [5, 10, 15]), ("charged", [6, 13, 20])])
def test_overhead_is_measured_and_charged(rule, seconds):
    # An ask takes one second by this timer, a tell another one: after the trial's reading.
    trials = go(Script((A, 5)), Priced(), 3, timer=Thinks(), overhead=rule)
    assert readings(trials, "overhead_seconds") == [1, 3, 5]
    assert readings(trials, "simulated_seconds") == seconds
    assert readings(trials, "wall_seconds") == [3, 7, 11]


def test_what_ends_while_the_strategy_thinks_is_told_afterwards():
    # A round is asked in a second. Both begin at 1; the first ends at 2 and is told until 3; the
    # second, which ended at 3, is told until 4; then comes the next round, which begins at 5.
    script = Script((A, 1), (B, 1))
    objective = Priced()
    objective.prices = {A: 1.0, B: 2.0}
    trials = go(script, objective, 4, workers=2, timer=Thinks(), overhead="charged")
    assert readings(trials, "simulated_seconds") == [2, 3, 6, 7]
    assert readings(trials, "overhead_seconds") == [1, 2, 4, 5]


# -------------------------------------------------------------------------------- workers


def test_workers_are_told_in_the_order_of_finishing():
    prices = {A: 10.0, B: 3.0, C: 4.0}
    script, objective = Script((A, 1), (B, 1), (C, 1)), Priced()
    objective.prices = prices
    trials = go(script, objective, 4, workers=2)
    # A and B at 0; B ends at 3 and C follows, to 7; A again, to 17; A at 10; B follows, to 13.
    assert [(t.query.architecture, t.simulated_seconds) for t in trials] == [
        (B, 3),
        (C, 7),
        (A, 10),
        (B, 13),
    ]


def test_ties_end_in_the_order_of_asking():
    trials = go(Script((C, 1), (A, 1), (B, 1)), Priced(), 6, workers=3)
    assert [trial.query.architecture for trial in trials] == [C, A, B] * 2
    assert readings(trials, "simulated_seconds") == [1, 1, 1, 2, 2, 2]


def test_workers_keep_that_many_in_flight():
    script, objective = Script((A, 1), (B, 1), (C, 1)), Priced()
    objective.prices = {A: 10.0, B: 3.0, C: 4.0}
    loop = search(script, objective, PROTOCOL, Budget("evaluations", 9), noise=0, workers=4)
    next(loop)  # B at 3
    assert (script.asked, len(script.told)) == (4, 1)
    next(loop)  # C at 4
    assert (script.asked, len(script.told)) == (5, 2)
    next(loop)  # B again, at 6
    assert (script.asked, len(script.told)) == (6, 3)


def test_ties_are_told_before_others_are_asked():
    """A and B end at 2, C at 3: one ask fills the place of C, two those of A and B."""
    log = []
    script, objective = Logged(log, (A, 1), (B, 1), (C, 1)), Priced()
    objective.prices = {A: 2.0, B: 2.0, C: 3.0}
    trials = go(script, objective, 5, workers=3)
    told = [("tell", trial.query) for trial in trials]
    assert [query.architecture for _, query in told] == [A, B, C, A, B]
    asks = ["ask"] * 3
    assert log == [*asks, *told[:2], "ask", "ask", told[2], "ask", *told[3:]]
    assert readings(trials, "simulated_seconds") == [2, 2, 3, 4, 4]


def rounds_of(log):
    """What was expected, cut where something else was done in between."""
    return [entry[1] for entry in log if entry[0] == "expect"]


def test_an_untimed_objective_is_asked_in_rounds():
    log = []
    queries = [Query(arch, 1) for arch in (A, B, C)]
    trials = go(Logged(log, *queries), Untimed(log), 6, workers=3)
    a_round = [
        *["ask"] * 3,
        ("expect", [(query, 0) for query in queries], 0),
        *(("evaluate", query, 0) for query in queries),
        *(("tell", query) for query in queries),
    ]
    assert log == a_round * 2
    assert readings(trials, "evaluations") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("duplicates", ["charged", "cached"])
@pytest.mark.parametrize("promotion", ["resume", "restart"])
@pytest.mark.parametrize(("timed", "clock"), [(0, "epochs"), (0, "evaluations"), (1, "epochs")])
def test_what_is_expected_is_what_is_evaluated(workers, duplicates, promotion, timed, clock):
    """In the same order, with the same starts; whatever is asked twice or promoted in a round."""
    for seed in range(20):
        rng, log = Random(seed), []
        queries = [(rng.choice((A, B)), rng.choice((1, 3, 9))) for _ in range(40)]
        objective = Untimed(log)
        objective.timed = bool(timed)
        rules = {"fidelities": (1, 3, 9), "duplicates": duplicates, "promotion": promotion}
        go(Script(*queries), objective, 30, clock, workers, max_trials=60, **rules)
        evaluated = [entry[1:] for entry in log if entry[0] == "evaluate"]
        if workers == 1:
            assert rounds_of(log) == []  # there is nothing to be known earlier
        else:
            assert [one for some in rounds_of(log) for one in some] == evaluated


def test_a_round_expects_repeats_only_where_they_are_charged():
    script = [(A, 1), (A, 1), (B, 1)]
    for rule, count in ("charged", 2), ("cached", 1):
        log = []
        trials = go(Script(*script), Untimed(log), 4, workers=3, duplicates=rule, max_trials=3)
        first, *_ = rounds_of(log)
        assert [query for query, _ in first] == [(A, 1)] * count + [(B, 1)]
        assert readings(trials, "evaluations") == ([1, 2, 3] if count == 2 else [1, 1, 2])


def test_promotions_in_a_round_go_on_from_each_other():
    log = []
    script = [(A, 3), (A, 9), (B, 9), (A, 27)]
    trials = go(Script(*script), Untimed(log), 4, workers=4, fidelities=(3, 9, 27))
    assert rounds_of(log) == [[((A, 3), 0), ((A, 9), 3), ((B, 9), 0), ((A, 27), 9)]]
    assert np.diff(readings(trials, "epochs"), prepend=0).tolist() == [3, 6, 9, 18]


@pytest.mark.parametrize(
    ("clock", "limit", "rule", "told", "evaluated"),
    [
        ("evaluations", 5, "drop", 5, 5),
        ("evaluations", 5, "keep_last", 5, 5),
        ("epochs", 14, "drop", 4, 5),  # the fifth crosses it
        ("epochs", 14, "keep_last", 5, 5),
        ("epochs", 15, "drop", 5, 5),
        ("wall_seconds", 5, "keep_last", 2, 3),  # read when told; the third is lost
    ],
)
def test_a_budget_that_ends_within_a_round(clock, limit, rule, told, evaluated):
    log = []
    script = Script((A, 3), (B, 3), (C, 3))
    timer = Thinks()
    trials = go(script, Untimed(log), limit, clock, 3, timer, overshoot=rule)
    assert len(trials) == told == len(script.told)
    assert sum(entry[0] == "evaluate" for entry in log) == evaluated
    assert sum(len(some) for some in rounds_of(log)) == evaluated


def test_a_cached_repeat_spends_nothing_of_a_round():
    log = []
    script = Script((A, 1), (A, 1), (B, 1), (C, 1))
    trials = go(script, Untimed(log), 2, workers=4, duplicates="cached")
    assert [trial.query.architecture for trial in trials] == [A, A, B]
    assert rounds_of(log) == [[((A, 1), 0), ((B, 1), 0)]]


def test_max_trials_ends_a_round():
    script = Script((A, 1))
    assert len(go(script, Untimed([]), 100, workers=4, max_trials=6)) == 6
    assert len(script.told) == 6


def test_gpu_seconds_are_counted_where_a_gpu_is_held():
    trials = go(Script((A, 2), (A, 2), (B, 3)), OnGpu(), 2, duplicates="cached")
    assert readings(trials, "gpu_seconds") == [4, 4, 10]
    assert trials[1].evaluation.gpu_seconds == 0
    elsewhere = OnGpu()
    elsewhere.holds_gpu = False
    assert readings(go(Script((A, 2)), elsewhere, 2), "gpu_seconds") == [0, 0]


def test_one_worker_is_the_sequential_loop():
    strategy = RegularizedEvolution(SPACE, Random(3), (3,), population_size=10, sample_size=3)
    again = RegularizedEvolution(SPACE, Random(3), (3,), population_size=10, sample_size=3)
    objective, clock = Additive(SPACE), 0.0
    for trial in go(strategy, objective, 60, workers=1):
        query = again.ask()
        answer = objective.evaluate(query, 0, 0)
        clock += answer.seconds
        assert trial[:2] == (query, answer)
        assert trial.simulated_seconds == clock
        again.tell(trial)


def test_a_cached_answer_does_not_arrive_before_it_is_paid_for():
    """With two workers the second ask of A is open while the first still trains."""
    trials = go(Script((A, 9)), Priced(), 100, workers=2, duplicates="cached", max_trials=3)
    assert trials[0].simulated_seconds == 9


# ------------------------------------------------------------------- common random numbers


@pytest.fixture(scope="module")
def table():
    return TableObjective(SPACE, "cifar10", build(CONF / "protocol/nb201.yaml"))


def answers_of(strategy, table, seed, limit=300):
    strategy = strategy(SPACE, stream(seed, "strategy"), (200,))
    noise = stream(seed, "noise").getrandbits(64)
    trials = search(strategy, table, table.protocol, Budget("evaluations", limit), noise=noise)
    return {trial.query: trial.evaluation for trial in trials}


def test_the_same_question_has_the_same_answer_for_every_strategy(table):
    asked = [(0, 0, 0, 0, 0, op) for op in range(5)]
    evens = {table.evaluate(Query(arch, 200), 77, 0).error for arch in asked}
    found = [answers_of(s, table, 5, 2000) for s in (RandomSearch, RegularizedEvolution)]
    both = found[0].keys() & found[1].keys()
    assert len(both) > 50
    assert all(found[0][query] == found[1][query] for query in both)
    assert evens == {table.evaluate(Query(arch, 200), 77, 0).error for arch in reversed(asked)}


def test_another_run_seed_has_other_answers(table):
    queries = list(answers_of(RandomSearch, table, 0))
    one, other = (
        [table.evaluate(query, stream(seed, "noise").getrandbits(64), 0) for query in queries]
        for seed in (0, 1)
    )
    assert 0.3 < np.mean([a != b for a, b in zip(one, other, strict=True)]) < 0.8


def three_seeded(table, count):
    """Architectures with three training seeds of different errors, and those errors."""
    found = []
    for arch in SPACE:
        errors = {table.evaluate(Query(arch, 200), stream(n, "x").getrandbits(64), 0).error
                  for n in range(40)}  # fmt: skip
        if len(errors) == 3:
            found.append((arch, sorted(errors)))
        if len(found) == count:
            return found
    raise AssertionError


def test_the_choice_of_training_seed_is_uniform_and_independent(table):
    """χ² tests at one in a million: of each architecture's seeds, and of pairs of them."""
    noises = [stream(n, "noise").getrandbits(64) for n in range(1500)]
    picks = [
        [errors.index(table.evaluate(Query(arch, 200), noise, 0).error) for noise in noises]
        for arch, errors in three_seeded(table, 12)
    ]
    for one in picks:
        assert_proportions(np.bincount(one, minlength=3), [1, 1, 1])
    for index, one in enumerate(picks):
        for other in picks[:index]:
            pairs = Counter(zip(one, other, strict=True))
            counts = [[pairs[a, b] for b in range(3)] for a in range(3)]
            assert chi2_contingency(counts).pvalue > 1e-6
    within_runs = np.bincount(np.array(picks).ravel(), minlength=3)
    assert_proportions(within_runs, [1, 1, 1])


def test_streams_depend_on_seed_and_purpose_alone():
    drawn = {
        (seed, purpose): stream(seed, purpose).random()
        for seed, purpose in product(range(50), ["strategy", "noise"])
    }
    assert len(set(drawn.values())) == 100
    assert stream(7, "noise").random() == drawn[7, "noise"]
    assert stream(0, "strategy").random() == 0.9523961591260016


# ------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("error", [nan, inf, -inf])
def test_what_is_no_number_is_a_failure(error):
    class Odd(Priced):
        def evaluate(self, query, noise, trained):
            return super().evaluate(query, noise, trained)._replace(error=error)

    (trial,) = go(Script((A, 2)), Odd(), 1)
    assert trial.evaluation == Evaluation(FAILED_ERROR, 2.0, {}, "diverged")
    assert trial.simulated_seconds == 2  # and it was charged


def test_failures_are_charged_and_kept():
    trials = go(Script((A, 2)), AlwaysFails(SPACE), 5)
    assert [trial.evaluation.status for trial in trials] == ["failed"] * 5
    assert readings(trials, "simulated_seconds") == [1, 2, 3, 4, 5]


def test_a_diverged_training_is_cached_as_such():
    arch = (1, 0, 0, 0, 0, 0)
    trials = go(Script((arch, 3)), Diverges(SPACE), 9, duplicates="cached", max_trials=2)
    assert [trial.evaluation.status for trial in trials] == ["diverged"] * 2


# --------------------------------------------------------------------------------- others


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("overhead", ["free", "charged"])
def test_clocks_never_go_back(workers, overhead):
    strategy = RandomSearch(SPACE, Random(0), (3,))
    # By this timer thinking takes longer than some evaluations of other workers.
    options = {"workers": workers, "overhead": overhead, "timer": Thinks()}
    trials = go(strategy, Additive(SPACE), 200, **options)
    for before, after in pairwise(trials):
        assert all(a <= b for a, b in zip(before[2:], after[2:], strict=True))


def test_the_loop_never_asks_for_the_report():
    class Secretive(Additive):
        def report(self, architectures):
            raise AssertionError("the report is for what is sealed")

    assert len(go(RandomSearch(SPACE, Random(0), (3,)), Secretive(SPACE), 20)) == 20


def test_strangers_end_the_run(table):
    with pytest.raises(LookupError, match=r"was asked for; nb201 on cifar10 has 15,625"):
        list(
            search(
                Script(((9,) * 6, 200)), table, table.protocol, Budget("evaluations", 1), noise=0
            )
        )


@pytest.mark.parametrize("limit", [0, -1, inf, nan])
def test_budget_limits_are_checked(limit):
    with pytest.raises(ValueError, match="allowed: a number of evaluations above 0"):
        Budget("evaluations", limit)


def test_budget_clocks_are_checked():
    with pytest.raises(ValueError, match="clock is 'years'; allowed: evaluations, epochs, sim"):
        Budget("years", 1)


def test_every_clock_has_its_budget_in_conf():
    assert {build(path).clock for path in CONF.glob("budget/*.yaml")} == set(CLOCKS)
