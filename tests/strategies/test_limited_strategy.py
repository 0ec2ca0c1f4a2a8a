"""Asking a strategy for rows within limits, against all rows of a space that keep them."""

import numpy as np
import pytest

from strategies import Problem, RandomSearch, check_feasible
from strategies.known_rows import KnownRows
from strategies.limited_strategy import LimitedStrategy
from tests.strategies.doubles import TINY, FormulaAccuracy, LayerCost, all_rows


class Noted(RandomSearch):
    """Notes what it is told; whether it judges targets or measures all, a test says."""

    judges_targets = True
    needs_all = False

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.told = []
        self.asked = []

    @property
    def measures_infeasible(self):
        return self.needs_all

    def ask(self, n):
        self.asked.append(n)
        return super().ask(n)

    def _learn(self, genes, objectives, violations):
        self.told += list(zip(map(tuple, genes), objectives, violations, strict=True))


ROWS = all_rows(TINY)
COST = LayerCost(TINY)
LIMIT = float(np.quantile(COST.bound("latency_ms", ROWS), 0.3))
PROBLEM = Problem(TINY, FormulaAccuracy(TINY), [COST], limits={"latency_ms": LIMIT})
ALLOWED = {tuple(row) for row in ROWS[COST.bound("latency_ms", ROWS) <= LIMIT]}


@pytest.fixture(scope="module")
def feasibility():
    return check_feasible(PROBLEM, 0)


def limited(feasibility, kind=Noted):
    return LimitedStrategy(PROBLEM, kind(TINY, seed=3), feasibility)


def test_rows_keep_the_limits_and_the_others_are_told_without_an_accuracy(feasibility):
    asking = limited(feasibility)
    found = asking.ask(5, ROWS[:0])
    assert len(found) >= 5
    assert {tuple(row) for row in found} <= ALLOWED
    told = asking.strategy.told
    assert told
    for genes, objectives, missed in told:
        assert genes not in ALLOWED
        assert np.isnan(objectives[0])
        assert missed > 0
    assert len(found) + len(told) == len(asking.strategy.pending) + len(told)
    assert len(asking.strategy.pending) == len(found)


def test_a_surplus_comes_first_and_counts(feasibility):
    asking = limited(feasibility)
    surplus = ROWS[:3]
    np.testing.assert_array_equal(asking.ask(3, surplus), surplus)
    assert asking.strategy.asked == []
    more = asking.ask(4, surplus)
    np.testing.assert_array_equal(more[:3], surplus)
    assert asking.strategy.asked[0] == 1


def test_every_row_within_the_limits_is_found_and_then_none(feasibility):
    asking = limited(feasibility)
    found = asking.ask(len(ROWS), ROWS[:0])
    assert {tuple(row) for row in found} == ALLOWED
    assert len(asking.ask(1, ROWS[:0])) == 0


def test_a_strategy_that_needs_rows_measured_gets_them_all(feasibility):
    class NeedsAll(Noted):
        needs_all = True

    asking = limited(feasibility, NeedsAll)
    found = asking.ask(len(ROWS), ROWS[:0])
    assert {tuple(row) for row in found} == {tuple(row) for row in ROWS}
    assert asking.strategy.told == []


def test_random_rows_are_new_and_keep_the_limits(feasibility):
    asking = limited(feasibility)
    known = KnownRows()
    known.add(ROWS[::2])
    rng = np.random.default_rng(0)
    found = asking.random_rows(4, known, ROWS[:0], rng)
    assert 1 <= len(found) <= 4
    assert {tuple(row) for row in found} <= ALLOWED - {tuple(row) for row in ROWS[::2]}
    known.add(ROWS)
    assert len(asking.random_rows(4, known, ROWS[:0], rng)) == 0


def test_a_strategy_that_does_not_judge_targets_hears_one_ranking_of_them(feasibility):
    class Plain(Noted):
        judges_targets = False

    judging, plain = limited(feasibility), limited(feasibility, Plain)
    genes = ROWS[:6]
    objectives = PROBLEM.objectives(genes, np.linspace(0.4, 0.9, 6))
    missed = PROBLEM.target_violations(genes)
    for asking in (judging, plain):
        asking.report(genes, objectives, missed)
        assert [row for row, _, _ in asking.strategy.told] == [tuple(row) for row in genes]
        np.testing.assert_array_equal([m for _, _, m in asking.strategy.told], missed.min(axis=1))
    np.testing.assert_array_equal([o for _, o, _ in judging.strategy.told], objectives)
