"""One search for several targets, each of which judges for itself."""

import numpy as np
import pytest
from scipy.special import ndtr

from strategies import (
    NSGA2,
    Bayesian,
    PredictorGuided,
    Problem,
    SensitivityBisection,
    check_feasible,
    expected_gain,
    hypervolume,
    search,
)
from strategies.allowances import allowances, ranked_objectives
from strategies.bayesian_round import Round
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost, Ridge, all_rows

LIMIT = {("latency_ms", "phone"): 1.5}


class Phone(LayerCost):
    """Parameters are dear."""

    def predict(self, genes):
        found = super().predict(genes)
        parameters = self.space.layer_table(genes).parameters
        return found | {"latency_ms": found["latency_ms"] + 5e-5 * parameters}


COSTS = (
    LayerCost(SPACE, "board"),
    Phone(SPACE, "phone"),
    LayerCost(SPACE, "camera", per_layer=0.3),
)


def problem(limits=None, costs=COSTS, **options):
    return Problem(SPACE, FormulaAccuracy(SPACE), costs, limits or {}, **options)


def guided(p, seed):
    return PredictorGuided(p, Ridge(SPACE), population_size=30, generations=3, seed=seed)


def evolution(p, seed):
    return NSGA2(SPACE, population_size=20, screen=p.violations, seed=seed)


def bayesian(p, seed):
    return Bayesian(p, pool_size=150, generations=2, seed=seed)


@pytest.mark.parametrize(
    ("make", "limits"),
    [
        (guided, {}),
        (evolution, LIMIT),
        pytest.param(evolution, {}, marks=pytest.mark.slow),
        pytest.param(guided, LIMIT, marks=pytest.mark.slow),
        pytest.param(bayesian, {}, marks=pytest.mark.slow),
        pytest.param(bayesian, LIMIT, marks=pytest.mark.slow),
    ],
    ids=[
        "guided-free",
        "nsga2-limited",
        "nsga2-free",
        "guided-limited",
        "bayes-free",
        "bayes-lim",
    ],
)
def test_one_search_does_for_each_target_what_three_of_a_third_each_do(make, limits):
    p = problem(limits)
    together = search(p, evaluations=60, strategy=make(p, 2), seed=2).result
    for t, cost in enumerate(COSTS):
        own = {key: limit for key, limit in limits.items() if key[1] == cost.target_name}
        alone = problem(own, [cost])
        found = search(alone, evaluations=20, strategy=make(alone, 2), seed=2).result
        assert together.history.hypervolumes[-1, t] >= 0.98 * found.history.hypervolumes[-1, 0]
    assert len(p.accuracy.seen) == len(set(p.accuracy.seen)) == 60


def test_what_one_target_forbids_counts_for_the_others_alone():
    p = problem(LIMIT)
    front = search(p, evaluations=40, strategy=evolution(p, 0), seed=0)
    genes = np.array([o.genes for o in front.result.observations])
    allowed = p.allows(genes)
    assert allowed[:, [0, 2]].all()
    assert 5 < allowed[:, 1].sum() < 40
    history = front.result.history
    objectives = p.objectives(genes, p.accuracy.values(genes))
    for t, (error, latency) in enumerate(history.references):
        counted = objectives[allowed[:, t]][:, [0, t + 1]]
        expected = hypervolume(counted, [error, latency]) / (error * latency)
        np.testing.assert_allclose(history.hypervolumes[-1, t], expected)
    assert history.references[1][1] == pytest.approx(1.1 * 1.5)
    assert {x.genes for x in front.for_target("board")} - {tuple(g) for g in genes[allowed[:, 1]]}


def test_a_strategy_is_told_of_a_useless_latency_as_one_that_wins_nothing():
    told = []

    class Listening(NSGA2):
        def tell(self, genes, objectives, violations=None):
            told.append((genes, objectives, violations))
            super().tell(genes, objectives, violations)

    p = problem(LIMIT)
    search(p, evaluations=24, strategy=Listening(SPACE, population_size=10, seed=0), seed=0)
    genes, objectives, violations = (np.concatenate(part) for part in zip(*told, strict=True))
    np.testing.assert_array_equal(violations, 0)
    allowed = p.allows(genes)
    cheap = p.cheap_objectives(genes)
    np.testing.assert_array_equal(objectives[:, 1:][allowed], cheap[allowed])
    assert objectives[~allowed[:, 1], 2].min() >= 1.1 * 1.5
    assert 0 < allowed[:, 1].sum() < len(genes)


def test_ranked_objectives_leave_alone_what_counts_and_what_no_target_allows():
    objectives = np.array([[0.1, 1.0, 2.0], [0.2, 1.0, 9.0], [0.3, 1.0, 2.0], [np.nan, 1.0, 2.0]])
    allowed = np.array([[True, True], [True, False], [False, False], [False, True]])
    found = ranked_objectives(objectives, allowed, np.array([5.0, 6.0]))
    expected = [[0.1, 1.0, 2.0], [0.2, 1.0, 9.0], [0.3, 1.0, 2.0], [np.nan, 5.0, 2.0]]
    np.testing.assert_array_equal(found, expected)


def test_a_row_that_misses_something_is_allowed_nowhere():
    genes = SPACE.sample(20, np.random.default_rng(0))
    missed = np.arange(20) % 2.0
    p = problem(LIMIT)
    found = allowances(p, genes, missed)
    np.testing.assert_array_equal(found, p.allows(genes) & (missed == 0)[:, None])
    both = allowances(problem(LIMIT, together=True), genes, missed)
    np.testing.assert_array_equal(both, (missed == 0)[:, None] * [[True] * 3])


def told_phone(strategies, p):
    """Tells the same 12 networks, which the phone allows, each with its problem's objectives."""
    genes = check_feasible(problem(LIMIT)).feasible_genes
    genes = genes[p.allows(genes)[:, 1]][:12]
    for strategy in strategies:
        own = strategy.problem
        objectives = own.objectives(genes, own.accuracy.values(genes))
        strategy.tell(genes, objectives, own.violations(genes))
    return genes


ONLY_PHONE = {"board": 0.0, "camera": 0.0}


def test_with_weight_on_one_target_bayesian_search_asks_as_for_it_alone():
    p = problem(LIMIT, weights=ONLY_PHONE)
    rows = SPACE.sample(300, np.random.default_rng(4))
    assert 0 < p.allows(rows)[:, 1].mean() < 0.9
    many = Bayesian(p, candidates=rows)
    alone = Bayesian(problem(LIMIT, COSTS[1:2]), candidates=rows)
    told_phone([many, alone], p)
    np.testing.assert_array_equal(many.ask(4), alone.ask(4))
    equal = Bayesian(problem(LIMIT), candidates=rows)
    told_phone([equal], p)
    assert not np.array_equal(equal.ask(4), alone._genes[:4])


def test_where_a_target_allows_no_candidate_the_others_gain():
    p = problem(LIMIT, weights={"phone": 100.0})
    rows = SPACE.sample(200, np.random.default_rng(4))
    rows = rows[~p.allows(rows)[:, 1]]
    strategies = [Bayesian(q, candidates=rows) for q in (p, problem(costs=COSTS[::2]))]
    for strategy in strategies:
        own = strategy.problem
        objectives = own.objectives(rows[:12], own.accuracy.values(rows[:12]))
        strategy.tell(rows[:12], objectives, own.violations(rows[:12]))
    many, others = (strategy.ask(4) for strategy in strategies)
    np.testing.assert_array_equal(many, others)


def test_it_ends_where_the_gain_over_all_fronts_is_small():
    p = problem(LIMIT)
    rows = SPACE.sample(60, np.random.default_rng(4))
    strategy = Bayesian(p, candidates=rows, least_gain=0.5)
    genes = rows[:20]
    assert 0 < p.allows(genes)[:, 1].sum() < 20
    objectives = p.objectives(genes, p.accuracy.values(genes))
    strategy.tell(genes, objectives, p.violations(genes))
    assert len(strategy.ask(2)) == 0
    counted = Round(strategy, rows[:0])
    counted._gains(counted._pool())
    volumes = [
        hypervolume(counted.front[p.allows(genes)[:, t]][:, [0, t + 1]], reference)
        for t, reference in enumerate(counted.references)
    ]
    assert f"of the volume found, {sum(volumes):.3g}" in strategy.finished


@pytest.mark.parametrize("weights", [{}, ONLY_PHONE, {"board": 0.2, "phone": 5.0}])
def test_predictor_guided_search_sums_gains_where_they_count(weights):
    p = problem(LIMIT, weights=weights)
    strategy = PredictorGuided(p, Ridge(SPACE))
    genes = told_phone([strategy], p)
    strategy._fit()
    pool = SPACE.sample(200, np.random.default_rng(4))
    chosen = strategy._greedy(pool, 1)
    predicted = strategy.predictor.predict(pool)
    objectives = p.objectives(genes, p.accuracy.values(genes))
    worst = float(np.quantile(objectives[:, 0], 0.9)) + 1e-6
    latency = p.cheap_objectives(pool)
    total = np.zeros(len(pool))
    for t, name in enumerate(p.targets):
        keeps = p.allows(pool)[:, t]
        slowest = 1.1 * max(objectives[:, t + 1].max(), latency[keeps, t].max())
        gain = expected_gain(
            objectives[:, [0, t + 1]], 1 - predicted.mean, predicted.std, latency[:, t],
            (worst, slowest),
        )  # fmt: skip
        total += weights.get(name, 1.0) * keeps * gain
    np.testing.assert_array_equal(chosen[0], pool[total.argmax()])


@pytest.mark.parametrize("together", [False, True])
def test_latencies_that_are_learned_count_as_far_as_limits_are_likely_kept(together):
    limits = {("latency_ms", "phone"): 1.5, ("latency_ms", "board"): 1.0}
    p = problem(limits, together=together)
    rows = SPACE.sample(60, np.random.default_rng(4))
    strategy = Bayesian(p, learns_latency=True, candidates=rows)
    genes = rows[:20]
    objectives = p.objectives(genes, p.accuracy.values(genes))
    strategy.tell(genes, objectives, p.violations(genes))
    batch = Round(strategy, rows[:0])
    mean, std = np.random.default_rng(0).normal(0, 1, (2, 3, 5))
    learned = [(m, np.abs(s)) for m, s in zip(mean, std, strict=True)]
    board, phone = (
        ndtr((np.log(limit) - m) / s)
        for limit, (m, s) in zip((1.0, 1.5), learned[:2], strict=True)
    )
    own = [board, phone, np.ones(5)]
    for t in range(3):
        expected = board * phone if together else own[t]
        np.testing.assert_allclose(batch._chance(t, learned), expected)
    kept = np.isfinite(batch.front[:, 1:])
    counted = p.violations(genes) <= 0
    if together:
        assert kept.all()
    else:
        limit = np.array([1.0, 1.5, np.inf])
        np.testing.assert_array_equal(kept, objectives[counted, 1:] <= limit)
        assert not kept[:, 1].all()


def test_a_way_down_from_the_largest_network_reaches_every_target():
    costs = [LayerCost(TINY, "board"), Phone(TINY, "phone")]
    cheap = np.concatenate([cost.predict(all_rows(TINY))["latency_ms"] for cost in costs[1:]])
    limit = float(np.quantile(cheap, 0.2))
    p = Problem(TINY, FormulaAccuracy(TINY), costs, {("latency_ms", "phone"): limit})
    front = search(p, evaluations=40, strategy=SensitivityBisection(p), seed=0)
    assert len(front.for_target("phone")) >= 2
    assert max(x.accuracy for x in front.for_target("board")) >= max(
        x.accuracy for x in front.for_target("phone")
    )
