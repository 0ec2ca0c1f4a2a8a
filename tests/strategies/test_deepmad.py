from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from predictors import entropy
from records import BadInputError
from strategies import DeepMAD, search
from strategies.deepmad import best_of_levels
from strategies.known_rows import row_keys
from tests.strategies.contract import LIMIT_MS, StrategyContract
from tests.strategies.doubles import SPACE, TINY, all_rows
from tests.strategies.test_slimming import problem_of

ROWS = all_rows(TINY)
KNOWN = entropy(TINY.layer_table(ROWS))
BOUND = float(np.quantile(KNOWN.effectiveness, 0.6))


class TestDeepMAD(StrategyContract):
    def make(self, problem, **options):
        return DeepMAD(problem, designs=12, population_size=24, generations=4, **options)


@dataclass
class Formula:
    score: np.ndarray
    effectiveness: np.ndarray


def untouched(problem):
    """A problem whose accuracy must not be asked for."""
    problem.accuracy.evaluate = None
    return problem


def asked_first(strategy, n=1):
    strategy.ask(n)
    return strategy.designed


def by_hand(rows, latency, score, levels):
    """The best of each level, one level after the other."""
    edges = np.linspace(np.log(latency.min()), np.log(latency.max()), levels + 1)
    found = []
    for k, (low, high) in enumerate(pairwise(edges)):
        inside = (np.log(latency) >= low - 1e-12) & (np.log(latency) < high - 1e-12)
        if k == levels - 1:
            inside |= np.log(latency) >= high - 1e-12
        if inside.any():
            best = score[inside].max()
            found.append({tuple(r) for r in rows[inside & np.isclose(score, best)].tolist()})
    return found


@pytest.mark.parametrize("limits", [{}, {"latency_ms": 0.24}], ids=["free", "limited"])
def test_the_first_designs_are_the_best_of_every_level_of_latency(limits):
    problem = untouched(problem_of(TINY, **limits))
    designed = asked_first(
        DeepMAD(problem, max_effectiveness=BOUND, levels=4, designs=200, generations=100)
    )
    kept = (problem.violations(ROWS) <= 0) & (KNOWN.effectiveness <= BOUND)
    assert 5 < kept.sum() < len(ROWS)
    assert set(row_keys(designed).tolist()) == set(row_keys(ROWS[kept]).tolist())
    latency = problem.cheap_objectives(ROWS[kept])[:, 0]
    best = by_hand(ROWS[kept], latency, KNOWN.score[kept], 4)
    for row, rows in zip(designed.tolist(), best, strict=False):
        assert tuple(row) in rows
    assert len(best) >= 2


def test_designs_keep_limits_and_bound_and_beat_drawn_networks():
    problem = untouched(problem_of(latency_ms=LIMIT_MS))
    designed = asked_first(DeepMAD(problem, max_effectiveness=0.3, levels=4, designs=8))
    found = entropy(SPACE.layer_table(designed))
    assert (problem.violations(designed) <= 0).all()
    assert found.effectiveness.max() <= 0.3
    drawn = SPACE.sample(6000, np.random.default_rng(0))
    other = entropy(SPACE.layer_table(drawn))
    kept = (problem.violations(drawn) <= 0) & (other.effectiveness <= 0.3)
    latency, seen = (problem.cheap_objectives(r)[:, 0] for r in (designed, drawn[kept]))
    for score, ms in zip(found.score[:4], latency, strict=False):
        rivals = other.score[kept][(seen <= ms) & (seen >= 0.8 * ms)]
        assert len(rivals) > 5
        assert score >= np.quantile(rivals, 0.97)


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_without_a_bound_it_is_a_half_or_the_median_of_the_space(scale):
    def formula(genes):
        found = entropy(SPACE.layer_table(genes))
        return Formula(found.score, scale * found.effectiveness)

    drawn = formula(SPACE.sample(3000, np.random.default_rng(0))).effectiveness
    median, highest = np.median(drawn), drawn.max()
    assert (median > 0.5) == (scale == 4.0)
    assert highest > max(0.5, median) or scale == 0.5
    designed = asked_first(DeepMAD(untouched(problem_of()), formula, generations=8))
    bound = max(0.5, 1.25 * median)  # the median is that of few
    assert 0.5 * bound < formula(designed).effectiveness.max() <= bound


def test_a_bound_that_nothing_keeps_is_an_error_that_names_the_lowest():
    strategy = DeepMAD(problem_of(TINY), max_effectiveness=1e-3)
    lowest = f"{KNOWN.effectiveness.min():.3g}"
    with pytest.raises(BadInputError, match=f"lowest found is {lowest}"):
        strategy.ask(1)


def test_another_formula_counts_and_what_is_no_network_is_not_designed():
    def formula(genes):
        score = 1.0 - genes.sum(axis=1)
        return Formula(np.where(genes[:, 0] == 1, score, np.nan), np.ones(len(genes)))

    strategy = DeepMAD(problem_of(TINY), formula, levels=1, designs=500, generations=100)
    designed = asked_first(strategy)
    assert (designed[:, 0] == 1).all()
    assert len(designed) == (ROWS[:, 0] == 1).sum()
    assert (np.diff(designed.sum(axis=1)) >= 0).all()
    nothing = DeepMAD(
        problem_of(TINY), lambda g: Formula(np.full(len(g), np.nan), np.ones(len(g)))
    )
    assert len(nothing.ask(5)) == 5
    assert len(nothing.designed) == 0


def test_designs_come_in_their_order_and_local_search_after():
    problem = problem_of()
    strategy = DeepMAD(problem, designs=10, generations=4)
    rows = np.concatenate([strategy.ask(4), strategy.ask(6)])
    np.testing.assert_array_equal(rows, strategy.designed)
    strategy.tell(rows, problem.objectives(rows, problem.accuracy.values(rows)))
    near = strategy.ask(5)
    front = strategy.front
    apart = [
        (SPACE.active(row[None]) & SPACE.active(front) & (row != front)).sum(axis=1).min()
        for row in near
    ]
    assert max(apart) <= 1


def test_a_search_measures_the_designs_first():
    problem = problem_of()
    strategy = DeepMAD(problem, designs=8, generations=4)
    front = search(problem, evaluations=8, strategy=strategy)
    measured = np.array([o.genes for o in front.result.observations], np.int16)
    np.testing.assert_array_equal(measured, strategy.designed)


def test_levels_are_equal_parts_of_the_cost_and_ties_keep_their_order():
    cost = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    scores = np.array([1.0, 1.0, 7.0, 9.0, 3.0])
    np.testing.assert_array_equal(best_of_levels(scores, cost, 2), [0, 3, 1, 2, 4])
    np.testing.assert_array_equal(best_of_levels(scores, np.zeros(5), 3), [3, 2, 4, 0, 1])


@pytest.mark.parametrize(
    "options",
    [{"levels": 0}, {"designs": 0}, {"generations": 0}, {"max_effectiveness": 0.0}],
    ids=lambda o: next(iter(o)),
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BadInputError, match=next(iter(options))):
        DeepMAD(problem_of(), **options)
    with pytest.raises(BadInputError, match="population_size"):
        DeepMAD(problem_of(), population_size=1).ask(1)
