import numpy as np
import pytest

from records import BadInputError
from strategies import LocalSearch
from strategies.known_rows import row_keys
from strategies.neighbourhood import neighbours
from tests.strategies.contract import StrategyContract
from tests.strategies.doubles import SPACE, TINY, all_rows


class TestLocalSearch(StrategyContract):
    def make(self, problem, **options):
        return LocalSearch(problem.space, starts=8, **options)


def by_hand(space, row):
    """All rows of a small space whose genes differ in one place, but for what that switches."""
    found = set()
    for j, size in enumerate(space.gene_space.sizes):
        for value in range(size):
            other = row.copy()
            other[j] = value
            found.add(tuple(space.canonical(other[None])[0].tolist()))
    return found - {tuple(row.tolist())}


def test_neighbours_are_all_that_differ_in_one_choice():
    for row in all_rows(TINY):
        rows = neighbours(TINY, row)
        assert len(np.unique(rows, axis=0)) == len(rows)
        assert {tuple(r) for r in rows.tolist()} == by_hand(TINY, row)


def test_what_a_change_switches_on_begins_as_told():
    smallest = SPACE.extremes("smallest")[0]
    fill = np.array(SPACE.gene_space.sizes - 1, np.int16)
    plain, filled = (neighbours(SPACE, smallest, fill=f) for f in (None, fill))
    grown = SPACE.active(filled).sum(axis=1) > SPACE.active(smallest[None]).sum()
    assert grown.any()
    assert (filled[grown].sum(axis=1) > plain[grown].sum(axis=1)).any()
    np.testing.assert_array_equal(filled[~grown], plain[~grown])


def test_downwards_numbers_take_one_step_and_names_any():
    largest = SPACE.extremes("largest")[0]
    rows = neighbours(SPACE, largest, downwards=True)
    names = sum(len(c.values) - 1 for c in SPACE.choices if c.is_categorical)
    numbers = sum(not c.is_categorical for c in SPACE.choices)
    active = SPACE.active(largest[None])[0]
    inactive = sum(
        (len(c.values) - 1) if c.is_categorical else 1
        for c, on in zip(SPACE.choices, active, strict=True)
        if not on
    )
    assert len(rows) == names + numbers - inactive
    assert len(neighbours(SPACE, SPACE.extremes("smallest")[0], downwards=True)) < len(rows)


def told(strategy, rows, values):
    strategy.tell(rows, np.asarray(values, float).reshape(len(rows), -1))


def test_the_whole_neighbourhood_of_the_best_comes_first():
    strategy = LocalSearch(SPACE, starts=1)
    rows = SPACE.sample(5, np.random.default_rng(0))
    told(strategy, rows, [3, 1, 2, 4, 5])
    expected = neighbours(SPACE, rows[1])
    asked = strategy.ask(len(expected))
    assert set(row_keys(asked).tolist()) == set(row_keys(expected).tolist())


def test_it_looks_farther_when_nothing_near_is_better_and_returns_when_it_moves():
    strategy = LocalSearch(SPACE, starts=1)
    best = SPACE.sample(1, np.random.default_rng(0))
    told(strategy, best, [0])
    near = strategy.ask(len(neighbours(SPACE, best[0])))
    told(strategy, near, np.ones(len(near)))
    assert strategy.reach == 1
    far = strategy.ask(10)
    assert strategy.reach == 2
    assert not np.isin(row_keys(far), row_keys(near)).any()
    two_away = {k for row in near for k in row_keys(neighbours(SPACE, row)).tolist()}
    steps = [k in two_away for k in row_keys(far).tolist()]
    assert np.mean(steps) > 0.5  # others switched choices on, which begin anywhere
    told(strategy, far, -np.ones(len(far)))
    assert strategy.reach == 1
    moved = {k for row in far for k in row_keys(neighbours(SPACE, row)).tolist()}
    assert set(row_keys(strategy.ask(10)).tolist()) <= moved


def test_it_climbs_to_the_best_of_a_separable_problem():
    """One peak, so steps of one gene suffice; one random row in 20,000 would be as good."""
    weights = np.random.default_rng(1).normal(size=len(SPACE.choices))
    weights *= [c.condition_key is True for c in SPACE.choices]
    sizes = SPACE.gene_space.sizes
    best = np.minimum(weights * (sizes - 1), 0).sum()
    assert np.prod(sizes[weights != 0].astype(float)) > 200
    strategy = LocalSearch(SPACE, starts=1, seed=3)
    for _ in range(60):
        genes = strategy.ask(4)
        told(strategy, genes, genes @ weights)
    assert (strategy.front @ weights).min() == pytest.approx(best)


def test_the_front_is_bounded_and_keeps_the_loneliest():
    strategy = LocalSearch(SPACE, front_size=4)
    rows = SPACE.sample(40, np.random.default_rng(0))
    x = np.linspace(0, 1, 40)
    told(strategy, rows, np.column_stack([x, 1 - x]))
    assert len(strategy.front) == 4
    keys = set(row_keys(strategy.front).tolist())
    assert {int(row_keys(rows[i : i + 1])[0]) for i in (0, 39)} <= keys


@pytest.mark.parametrize("option", ["starts", "front_size"])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(BadInputError, match=f"{option} must be at least 1"):
        LocalSearch(SPACE, **{option: 0})
