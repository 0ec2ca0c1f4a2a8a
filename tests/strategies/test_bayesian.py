import logging

import numpy as np
import pytest

from records import BadInputError
from search_spaces.standard import NASBenchMacro
from strategies import Bayesian, Problem, RandomSearch, hypervolume, search
from strategies.bayesian_candidates import Candidates
from strategies.bayesian_models import Belief, ErrorScale, log_latency
from strategies.known_rows import row_keys
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost, all_rows

MACRO = NASBenchMacro()


class TestBayesian(StrategyContract):
    proposes_what_misses_limits = False
    state_bytes_a_row = 150

    def make(self, problem, **options):
        return Bayesian(problem, pool_size=20, generations=1, **options)


class Unknown(LayerCost):
    """Costs that nobody may ask for."""

    def predict(self, genes):
        raise AssertionError("latency is not known")


def macro_problem(**limits):
    return Problem(MACRO, FormulaAccuracy(MACRO, noise=0.001), [LayerCost(MACRO)], limits)


def run(strategy, problem, evaluations, n=1):
    """The objectives that a strategy has found, an `evaluations x 2` array, and the genes."""
    asked, found = [], []
    while sum(map(len, asked)) < evaluations:
        genes = strategy.ask(n)
        objectives = problem.objectives(genes, problem.accuracy.values(genes))
        strategy.tell(genes, objectives)
        asked.append(genes)
        found.append(objectives)
    return np.concatenate(found), np.concatenate(asked)


@pytest.fixture(scope="module")
def volume():
    """What tells the hypervolume that objectives have, in log latency."""
    problem = macro_problem()
    rows = MACRO.sample(2000, np.random.default_rng(0))
    latency = problem.cheap_objectives(rows)[:, 0]
    return lambda found: hypervolume(
        np.column_stack([found[:, 0], np.log(found[:, 1])]), [0.4, np.log(latency.max())]
    )


@pytest.mark.parametrize("learns_latency", [False, True], ids=["known", "learned"])
def test_20_evaluations_find_more_than_random_ones_five_times_as_many(volume, learns_latency):
    problem = macro_problem()
    costs = [Unknown(MACRO)] if learns_latency else problem.costs
    asked = Problem(MACRO, problem.accuracy, costs)
    rows = MACRO.sample(1500, np.random.default_rng(1))
    strategy = Bayesian(asked, learns_latency=learns_latency, candidates=rows)
    found, genes = run(strategy, problem, 20)
    at_random, _ = run(RandomSearch(MACRO, seed=5), problem, 100, n=100)
    assert volume(found) > volume(at_random)
    assert np.isin(row_keys(genes), row_keys(rows)).all()


def test_all_proposals_keep_the_limits():
    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)], {"latency_ms": LIMIT_MS})
    strategy = Bayesian(problem, pool_size=30, generations=2)
    _, genes = run(strategy, problem, 24, n=8)
    np.testing.assert_array_equal(problem.violations(genes), 0)


def test_a_limit_on_a_latency_that_is_learned_is_kept_more_often_than_by_chance():
    problem = macro_problem()
    rows = MACRO.sample(600, np.random.default_rng(2))
    latency = problem.cheap_objectives(rows)[:, 0]
    limit = float(np.quantile(latency, 0.3))
    asked = Problem(MACRO, problem.accuracy, [Unknown(MACRO)], {"latency_ms": limit})
    strategy = Bayesian(asked, learns_latency=True, candidates=rows)
    found = []
    for _ in range(20):
        genes = strategy.ask(1)
        objectives = problem.objectives(genes, problem.accuracy.values(genes))
        strategy.tell(genes, objectives, np.maximum(0, objectives[:, 1] / limit - 1))
        found.append(objectives[0, 1] <= limit)
    assert np.mean(found[8:]) >= 0.7


def test_a_large_space_begins_on_the_front_of_latency_and_work():
    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)])
    rows = Bayesian(problem).ask(8)
    others = SPACE.sample(2000, np.random.default_rng(5))

    def points(genes):
        work = SPACE.layer_table(genes).macs
        return np.column_stack([problem.cheap_objectives(genes)[:, 0], -work])

    found, theirs = points(rows), points(others)
    beaten = (theirs[:, None] < found[None]).all(axis=2).any(axis=0)
    assert beaten.mean() <= 0.25
    assert found[:, 0].min() < np.quantile(theirs[:, 0], 0.1)
    assert found[:, 0].max() > np.quantile(theirs[:, 0], 0.9)


def test_what_is_pending_is_believed():
    problem = macro_problem()
    rows = MACRO.sample(500, np.random.default_rng(3))
    first, second = (Bayesian(problem, candidates=rows) for _ in range(2))
    for strategy in (first, second):
        run(strategy, problem, 10)
    batch = first.ask(3)
    apart = np.concatenate([second.ask(1) for _ in range(3)])
    for asked in (batch, apart):
        assert len(np.unique(asked, axis=0)) == 3
    np.testing.assert_array_equal(batch[0], apart[0])
    gains = np.ptp(np.log(problem.cheap_objectives(batch)[:, 0]))
    assert gains > 0.01  # not three neighbours of one place


def test_it_ends_where_the_gain_is_too_small_and_says_so(caplog):
    problem = Problem(TINY, FormulaAccuracy(TINY), [LayerCost(TINY)])
    strategy = Bayesian(problem, least_gain=0.05)
    with caplog.at_level(logging.INFO):
        front = search(problem, evaluations=100, strategy=strategy, batch_size=2)
    assert 8 <= len(front.result.observations) < min(100, TINY.cardinality)
    assert "is below 0.05 of the volume found" in strategy.finished
    assert strategy.finished in caplog.text
    assert strategy.ask(3).shape == (0, len(TINY.choices))
    rest = all_rows(TINY)[-1:]
    strategy.tell(rest, problem.objectives(rest, [0.99]))
    assert strategy.finished == ""


def test_equal_errors_leave_the_faster_networks():
    problem = macro_problem()
    rows = MACRO.sample(300, np.random.default_rng(4))
    strategy = Bayesian(problem, candidates=rows)
    for _ in range(12):
        genes = strategy.ask(1)
        strategy.tell(genes, problem.objectives(genes, [0.5]))
    assert len(strategy.state()["learned"]["genes"]) == 12


def test_where_all_evaluations_fail_others_are_tried():
    problem = macro_problem()
    rows = MACRO.sample(30, np.random.default_rng(4))
    strategy = Bayesian(problem, candidates=np.concatenate([rows, rows]))
    asked = []
    for _ in range(40):
        genes = strategy.ask(2)
        strategy.tell(genes, problem.objectives(genes, np.full(len(genes), np.nan)))
        asked.append(genes)
    found = np.concatenate(asked)
    np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(rows, axis=0))
    assert len(found) == len(np.unique(rows, axis=0))


def test_many_rows_are_learned_from_in_part(monkeypatch):
    monkeypatch.setattr("strategies.bayesian_round._MOST_LEARNED", 12)
    problem = macro_problem()
    rows = MACRO.sample(60, np.random.default_rng(5))
    strategy = Bayesian(problem, candidates=rows)
    strategy.tell(rows[:40], problem.objectives(rows[:40], problem.accuracy.values(rows[:40])))
    assert len(strategy.ask(2)) == 2


def test_bad_options_are_refused():
    problem = macro_problem()
    for options in ({"design_size": 1}, {"pool_size": 1}, {"generations": 0}):
        with pytest.raises(BadInputError, match=next(iter(options))):
            Bayesian(problem, **options)
    for share in (-0.1, 1.0):
        with pytest.raises(BadInputError, match="least_gain"):
            Bayesian(problem, least_gain=share)


def test_the_design_is_spread_over_the_front_of_latency_and_size():
    problem = macro_problem()
    rows = np.unique(MACRO.sample(400, np.random.default_rng(6)), axis=0)
    pool = Candidates(problem, rows, costs_known=True)
    free = np.arange(0, len(rows), 2)
    places = pool.design(free, np.random.default_rng(0), 6)
    assert len(np.unique(places)) == 6
    assert np.isin(places, free).all()
    assert pool.log_macs[places].max() == pool.log_macs[free].max()
    assert len(pool.design(free[:0], np.random.default_rng(0), 6)) == 0
    macs, latency = np.exp(pool.log_macs), pool.latency_ms[:, 0]
    beaten = [((macs[free] > macs[p]) & (latency[free] < latency[p])).any() for p in places]
    assert not any(beaten)
    assert np.ptp(np.log(latency[places])) > 0.3 * np.ptp(np.log(latency[free]))
    assert len(pool.design(free[:3], np.random.default_rng(0), 6)) == 3
    blind = Candidates(problem, rows, costs_known=False)
    middles = np.sort(blind.log_macs[blind.design(free, np.random.default_rng(0), 6)])
    ends = np.quantile(blind.log_macs[free], np.arange(7) / 6)
    assert ((middles >= ends[:-1] - 0.05) & (middles <= ends[1:] + 0.05)).all()


def test_errors_are_clipped_and_stretched_towards_the_best():
    errors = np.concatenate([np.linspace(0.1, 0.3, 90), np.full(10, 0.9)])
    scale = ErrorScale.of(errors)
    z = scale.transform(np.array([0.1, 0.11, 0.29, 0.3, 0.9, np.nan]))
    assert (np.diff(z[:4]) > 0).all()
    assert z[1] - z[0] > 2 * (z[3] - z[2])
    assert z[4] == z[5] == scale.transform(np.array([scale.clip]))[0]
    assert np.isfinite(ErrorScale.of(np.full(3, 0.2)).transform(np.array([0.0, 0.2]))).all()


def test_a_clock_that_yields_zero_is_no_infinite_gain():
    logs = log_latency(np.array([0.0, 1e-9, 1.0]), 1.0)
    np.testing.assert_allclose(logs, [np.log(0.02), np.log(0.02), 0])
    assert np.isfinite(log_latency(np.zeros(2), 0.0)).all()


def test_batches_in_a_large_space_whose_latencies_are_learned():
    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)])
    asked = Problem(SPACE, problem.accuracy, [Unknown(SPACE)])
    strategy = Bayesian(asked, learns_latency=True, pool_size=20, generations=2)
    _, genes = run(strategy, problem, 12, n=4)
    assert len(np.unique(genes, axis=0)) == 12
    pending = strategy.ask(2)
    assert not np.isin(row_keys(strategy.ask(2)), row_keys(pending)).any()


def test_rows_with_equal_features_are_predicted_alike_wherever_they_stand():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(9, 3)), rng.normal(size=(9, 2)))
    belief = Belief((0, 1))
    belief.fit(rows, np.arange(9.0))
    order = np.array([4, 1, 4, 0, 8, 1])
    mean, std = belief.predict(rows)
    again = belief.predict(tuple(group[order] for group in rows))
    np.testing.assert_allclose(again[0], mean[order])
    np.testing.assert_allclose(again[1], std[order])
    assert np.ptp(mean) > 1


def test_settings_tell_apart_what_proposes_otherwise(monkeypatch):
    problem = macro_problem()
    texts = [
        Bayesian(problem, **options).settings
        for options in ({}, {"seed": 3}, {"learns_latency": True}, {"design_size": 9})
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
    monkeypatch.setattr("strategies.bayesian.RECIPE", 0)
    assert Bayesian(problem).settings not in texts


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("learns_latency", [False, True], ids=["known", "learned"])
def test_networks_without_a_latency_are_borne_and_come_last(learns_latency):
    rows = np.unique(MACRO.sample(60, np.random.default_rng(7)), axis=0)
    slow = row_keys(rows)[: 2 * len(rows) // 3]

    class Partly(LayerCost):
        def predict(self, genes):
            found = super().predict(genes)["latency_ms"]
            return {"latency_ms": np.where(np.isin(row_keys(genes), slow), np.inf, found)}

    problem = Problem(MACRO, FormulaAccuracy(MACRO, noise=0.001), [Partly(MACRO)])
    asked = Problem(MACRO, problem.accuracy, [Unknown(MACRO)]) if learns_latency else problem
    strategy = Bayesian(asked, candidates=rows, learns_latency=learns_latency)
    start = rows[[0, 1, *range(len(slow), len(slow) + 6)]]
    strategy.tell(start, problem.objectives(start, problem.accuracy.values(start)))
    found, _ = run(strategy, problem, 10)
    if not learns_latency:
        assert np.isfinite(found).all()


@pytest.mark.filterwarnings("error")
def test_equal_latencies_and_a_limit_are_borne():
    problem = macro_problem()
    limited = Problem(MACRO, problem.accuracy, [Unknown(MACRO)], {"latency_ms": 1.0})
    rows = np.unique(MACRO.sample(40, np.random.default_rng(8)), axis=0)
    strategy = Bayesian(limited, candidates=rows, learns_latency=True)
    strategy.tell(rows[:9], np.column_stack([np.linspace(0.1, 0.3, 9), np.ones(9)]))
    assert len(strategy.ask(3)) == 3
