import numpy as np
import pytest

from strategies import NSGA2, NSGA3, RegularizedEvolution
from strategies.early_exit import sample_screened
from tests.strategies.doubles import SPACE


def misses(share):
    """A screen on parameters that the given share of random networks passes."""
    drawn = SPACE.layer_table(SPACE.sample(4000, np.random.default_rng(0))).parameters
    limit = float(np.quantile(drawn, share))
    return lambda genes: np.maximum(0.0, SPACE.layer_table(genes).parameters / limit - 1)


@pytest.mark.parametrize("share", [0.9, 0.3, 0.02, 0.0005])
def test_the_first_population_keeps_the_cheap_limits(share):
    screen = misses(share)
    rng = np.random.default_rng(1)
    rows = sample_screened(SPACE, 200, rng, screen)
    assert (screen(rows) <= 0).all()
    np.testing.assert_array_equal(rows, SPACE.canonical(rows))
    assert len(np.unique(rows, axis=0)) >= (100 if share > 0.1 else 1)


def test_where_nothing_keeps_them_the_nearest_is_taken():
    rows = sample_screened(SPACE, 50, np.random.default_rng(0), lambda g: 1.0 + g.sum(axis=1))
    assert (rows.sum(axis=1) == 0).all()


def test_an_unknown_cost_is_a_miss():
    def screen(genes):
        return np.where(genes[:, 0] == 0, np.nan, 0.0)

    rows = sample_screened(SPACE, 50, np.random.default_rng(0), screen)
    assert (rows[:, 0] != 0).all()


def test_a_screen_costs_a_bounded_number_of_draws():
    calls = []

    def screen(genes):
        calls.append(len(genes))
        return np.ones(len(genes))

    sample_screened(SPACE, 100, np.random.default_rng(0), screen)
    assert len(calls) <= 20
    assert sum(calls) <= 2000


@pytest.mark.parametrize("make", [NSGA2, NSGA3, RegularizedEvolution])
def test_it_is_an_option_of_the_evolutionary_strategies(make):
    screen = misses(0.1)
    screened = make(SPACE, population_size=40, screen=screen, seed=2)
    asked = screened.ask(40)
    assert (screen(asked) <= 0).all()
    assert (screen(make(SPACE, population_size=40, seed=2).ask(40)) > 0).mean() > 0.5
    screened.tell(asked, np.random.default_rng(0).random((40, 2)))
    assert (screen(screened.ask(200)) > 0).any()  # children are judged by what they are told
