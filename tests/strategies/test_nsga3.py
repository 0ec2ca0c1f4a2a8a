import numpy as np
import pytest

from records import BadInputError
from strategies import NSGA3
from strategies.nsga3 import associated, normalised, served
from tests.strategies.contract import StrategyContract
from tests.strategies.doubles import SPACE


class TestNSGA3(StrategyContract):
    def make(self, problem, **options):
        return NSGA3(problem.space, population_size=30, **options)


# ---- niching ---------------------------------------------------------------------------------


def served_one_by_one(counts, niche, distance, size, rng):
    """The paper's algorithm 4 as it is written."""
    counts, left, chosen = counts.copy(), set(range(len(niche))), []
    while len(chosen) < size:
        open_niches = {int(niche[i]) for i in left}
        fewest = min(counts[j] for j in open_niches)
        j = rng.choice(sorted(k for k in open_niches if counts[k] == fewest))
        members = sorted(i for i in left if niche[i] == j)
        if counts[j] == 0:
            pick = min(members, key=lambda i: distance[i])
        else:
            pick = rng.choice(members)
        left.remove(pick)
        chosen.append(pick)
        counts[j] += 1
    return chosen


@pytest.mark.parametrize("seed", range(20))
def test_niches_are_served_as_by_the_loop_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    n, niches = int(rng.integers(5, 60)), int(rng.integers(1, 15))
    counts = rng.integers(0, 4, niches)
    niche, distance = rng.integers(0, niches, n), rng.random(n)
    size = int(rng.integers(1, n + 1))
    quick = served(counts, niche, distance, size, np.random.default_rng(seed))
    slow = served_one_by_one(counts, niche, distance, size, np.random.default_rng(seed))
    assert len(set(quick.tolist())) == size
    after = [counts + np.bincount(niche[list(c)], minlength=niches) for c in (quick, slow)]
    np.testing.assert_array_equal(np.sort(after[0]), np.sort(after[1]))
    for chosen in (quick, slow):  # an empty niche takes its nearest
        for j in np.unique(niche[list(chosen)]):
            if counts[j] == 0:
                members = np.flatnonzero(niche == j)
                assert members[distance[members].argmin()] in chosen


def test_ties_between_niches_are_drawn_evenly():
    rng = np.random.default_rng(0)
    firsts = [served(np.zeros(3, int), np.arange(3), np.zeros(3), 1, rng)[0] for _ in range(3000)]
    np.testing.assert_allclose(np.bincount(firsts) / 3000, 1 / 3, atol=0.04)


def test_a_point_belongs_to_the_line_it_is_nearest_to():
    rng = np.random.default_rng(0)
    points, directions = rng.random((50, 3)), rng.random((20, 3))
    nearest, distance = associated(points, directions)
    for point, j, d in zip(points, nearest, distance, strict=True):
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        from_lines = [np.linalg.norm(point - (point @ u) * u) for u in unit]
        assert j == np.argmin(from_lines)
        assert d == pytest.approx(min(from_lines), abs=1e-7)


def test_a_plane_is_normalised_to_the_simplex():
    rng = np.random.default_rng(0)
    simplex = np.concatenate([np.eye(3), rng.dirichlet(np.ones(3), 30)])
    ideal, spans = np.array([5.0, -2.0, 0.5]), np.array([1e3, 1e-2, 7.0])
    points = ideal + simplex * spans
    found = normalised(points, ideal, np.ones(len(points), bool))
    np.testing.assert_allclose(found, simplex, atol=1e-9)


def test_points_that_span_no_plane_are_scaled_by_the_worst_of_the_front():
    points = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 3.0], [0.0, 0.0, 9.0]])
    found = normalised(points, np.zeros(3), np.array([True, True, False]))
    np.testing.assert_allclose(found, points / [1, 1, 3])


# ---- the strategy ----------------------------------------------------------------------------


def test_every_direction_keeps_a_point():
    """Clusters at the corners crowd the front; a point for each direction must survive."""
    rng = np.random.default_rng(0)
    strategy = NSGA3(SPACE, population_size=15)
    directions = strategy._directions_for(3)
    crowd = rng.dirichlet([0.1, 0.1, 0.1], 200)
    points = np.concatenate([directions, crowd])
    points = points[rng.permutation(len(points))]
    rows = SPACE.sample(4 * len(points), rng)
    rows = np.unique(rows, axis=0)[: len(points)]
    strategy.tell(rows, points)
    kept = strategy._objectives
    assert len(directions) == 15
    nearest, distance = associated(kept, directions)
    assert len(np.unique(nearest)) == 15
    np.testing.assert_allclose(distance, 0, atol=1e-7)


def test_lower_fronts_and_those_that_keep_the_limits_come_first():
    strategy = NSGA3(SPACE, population_size=3)
    rows = SPACE.sample(6, np.random.default_rng(1))
    points = np.array([[0.0, 1], [1, 0], [2, 2], [0, 0], [np.nan, 0], [9, 9]])
    strategy.tell(rows, points, np.array([0, 0, 0, 0.1, 0, 0.0]))
    assert {tuple(r) for r in strategy.population.tolist()} == {
        tuple(r) for r in rows[:3].tolist()
    }
    strategy = NSGA3(SPACE, population_size=3)
    strategy.tell(rows, points, np.array([0.3, 0.2, 0, 0.1, 0.5, 0.6]))
    np.testing.assert_array_equal(strategy.population, rows[[2, 3, 1]])


def test_of_two_parents_the_one_that_misses_less_wins():
    strategy = NSGA3(SPACE, population_size=2)
    rows = SPACE.sample(2, np.random.default_rng(1))
    strategy.tell(rows, np.zeros((2, 3)), np.array([0.0, 1.0]))
    share = (strategy._parents(8000) == 0).mean()
    assert share == pytest.approx(3 / 4, abs=0.02)


def test_directions_are_checked():
    for bad in ([1.0, 2.0], [[-1.0, 2.0]], [[np.nan, 1.0]], np.zeros((0, 3))):
        with pytest.raises(BadInputError, match="k x m array"):
            NSGA3(SPACE, directions=bad)
    with pytest.raises(BadInputError, match="points nowhere"):
        NSGA3(SPACE, directions=[[0.0, 0.0]])
    strategy = NSGA3(SPACE, directions=np.eye(3))
    with pytest.raises(BadInputError, match="2 objectives, 3 before or when"):
        strategy.tell(strategy.ask(2), np.zeros((2, 2)))
