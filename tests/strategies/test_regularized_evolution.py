import numpy as np
import pytest

from records import BadInputError
from strategies import RegularizedEvolution
from tests.strategies.contract import StrategyContract
from tests.strategies.doubles import SPACE


class TestRegularizedEvolution(StrategyContract):
    def make(self, problem, **options):
        return RegularizedEvolution(
            problem.space, population_size=30, tournament_size=8, **options
        )


def grown(values, violations=None, size=4, **options):
    strategy = RegularizedEvolution(SPACE, population_size=size, **options)
    rows = SPACE.sample(len(values), np.random.default_rng(0))
    for i in range(len(values)):
        missed = None if violations is None else np.array(violations[i : i + 1], float)
        strategy.tell(rows[i : i + 1], np.array([[values[i]]], float), missed)
    return strategy, rows


def test_the_oldest_die_and_not_the_worst():
    strategy, rows = grown([0.0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(strategy.population, rows[[5, 4, 3, 2]])


def test_those_that_miss_limits_least_fill_up_and_give_way():
    strategy, rows = grown([1.0] * 5, [0.5, 0, 0.1, 0.2, 0.9])
    np.testing.assert_array_equal(strategy.population, rows[[1, 2, 3, 0]])
    strategy, rows = grown([1.0] * 7, [0.5, 0, 0.1, 0, 0, 0, 0])
    np.testing.assert_array_equal(strategy.population, rows[[6, 5, 4, 3]])


def test_failed_rows_are_the_last_to_stay():
    strategy, rows = grown([np.nan, 1, 1, np.nan, 1], [0, 0.5, 0, 0, 0])
    np.testing.assert_array_equal(strategy.population, rows[[4, 2, 1, 3]])


def test_a_child_differs_from_the_best_of_the_tournament_in_one_choice():
    strategy, rows = grown([3.0, 2, 0, 1], tournament_size=200)
    children = strategy.ask(20)
    both_active = SPACE.active(children) & SPACE.active(rows[2:3])
    changed = ((children != rows[2]) & both_active).sum(axis=1)
    assert (changed == 1).all()


def test_a_small_tournament_lets_worse_parents_win_as_often_as_they_should():
    """Of two drawn with replacement the best of four wins with 1 - (3/4)^2 = 7/16."""
    strategy, rows = grown([0.0, 1, 2, 3], tournament_size=2)
    parents = strategy.population[strategy._parents(20_000)]
    share = (parents == rows[0]).all(axis=1).mean()
    assert share == pytest.approx(7 / 16, abs=0.02)


def test_a_tournament_of_none_is_refused():
    with pytest.raises(BadInputError, match="tournament_size must be at least 1"):
        RegularizedEvolution(SPACE, tournament_size=0)
