import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strategies import (
    constrained_rank,
    crowding_distance,
    hypervolume,
    is_non_dominated,
    non_dominated_rank,
)

few_values = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan])
points = st.tuples(st.integers(0, 14), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=few_values)
)


def dominates(a, b):
    return (a <= b).all() and (a < b).any()


def brute_force_rank(objectives):
    """Peels fronts off, one after the other, by the definition; NaN rows last."""
    n = len(objectives)
    rank = np.full(n, -1)
    bad = np.isnan(objectives).any(axis=1)
    left = [i for i in range(n) if not bad[i]]
    front = 0
    while left:
        best = [i for i in left if not any(dominates(objectives[j], objectives[i]) for j in left)]
        rank[best] = front
        left = [i for i in left if i not in best]
        front += 1
    rank[bad] = front
    return rank


def brute_force_crowding(objectives, rank):
    distance = np.zeros(len(rank))
    for front in np.unique(rank):
        members = np.flatnonzero(rank == front)
        if len(members) == 1:
            distance[members] = np.inf
            continue
        for column in objectives.T:
            ordered = members[np.argsort(column[members], kind="stable")]
            span = column[ordered[-1]] - column[ordered[0]]
            if span == 0:
                continue
            distance[ordered[[0, -1]]] = np.inf
            for k in range(1, len(ordered) - 1):
                gap = column[ordered[k + 1]] - column[ordered[k - 1]]
                distance[ordered[k]] += gap / span
    return distance


@given(points)
def test_rank_equals_brute_force_with_ties_duplicates_and_nan(objectives):
    rank = non_dominated_rank(objectives)
    np.testing.assert_array_equal(rank, brute_force_rank(objectives))
    complete = ~np.isnan(objectives).any(axis=1)
    np.testing.assert_array_equal(is_non_dominated(objectives), (rank == 0) & complete)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_rank_of_many_points_equals_brute_force(m):
    rng = np.random.default_rng(m)
    objectives = rng.integers(0, 12, (150, m)).astype(np.float64)
    np.testing.assert_array_equal(non_dominated_rank(objectives), brute_force_rank(objectives))


def test_crowding_equals_brute_force():
    rng = np.random.default_rng(0)
    for m in (2, 3):
        objectives = np.column_stack([rng.permutation(200) * 1.0 for _ in range(m)])
        rank = non_dominated_rank(objectives)
        expected = brute_force_crowding(objectives, rank)
        np.testing.assert_allclose(crowding_distance(objectives, rank), expected)


def test_crowding_of_special_fronts():
    same = np.zeros((3, 2))
    np.testing.assert_array_equal(crowding_distance(same, np.zeros(3, int)), [0, 0, 0])
    np.testing.assert_array_equal(crowding_distance(same, np.arange(3)), [np.inf] * 3)
    line = np.array([[0.0, 5], [1, 5], [4, 5]])
    np.testing.assert_array_equal(crowding_distance(line, np.zeros(3, int)), [np.inf, 1, np.inf])
    unknown = np.array([[0.0, np.nan], [1, 2], [4, 1]])
    assert not np.isnan(crowding_distance(unknown, np.zeros(3, int))).any()
    assert crowding_distance(np.zeros((0, 2)), np.zeros(0, int)).shape == (0,)


@given(points, st.integers(0, 2**32))
def test_constrained_rank_follows_debs_definition(objectives, seed):
    n = len(objectives)
    violations = np.random.default_rng(seed).choice([0.0, 0.0, 0.5, 1.0], n)
    rank = constrained_rank(objectives, violations)
    complete = ~np.isnan(objectives).any(axis=1)
    for i in range(n):
        for j in range(n):
            if violations[i] == violations[j] == 0:
                if complete[i] and complete[j]:
                    assert not dominates(objectives[i], objectives[j]) or rank[i] < rank[j]
                elif complete[i]:
                    assert rank[i] < rank[j]
            elif violations[i] < violations[j] and (complete[i] or violations[i] > 0):
                assert rank[i] < rank[j]
            elif violations[i] == violations[j]:
                assert rank[i] == rank[j]
    feasible = (violations == 0) & complete
    np.testing.assert_array_equal(rank[feasible], brute_force_rank(objectives[feasible]))


def test_unknown_violation_is_the_worst():
    rank = constrained_rank(np.zeros((3, 2)), np.array([np.nan, 5.0, 0.0]))
    np.testing.assert_array_equal(rank, [2, 1, 0])


def test_hypervolume_equals_the_area_of_the_staircase():
    front = np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0]])
    expected = (5 - 1) * (5 - 4) + (5 - 2) * (4 - 2) + (5 - 4) * (2 - 1)
    assert hypervolume(front, [5, 5]) == expected
    noise = np.array([[3.0, 3.0], [9.0, 0.1], [np.nan, 0.0]])
    assert hypervolume(np.concatenate([front, noise]), [5, 5]) == expected
    assert hypervolume(np.zeros((0, 2)), [5, 5]) == 0


@pytest.mark.parametrize("function", [is_non_dominated, non_dominated_rank])
def test_arrays_of_other_shapes_are_refused(function):
    with pytest.raises(ValueError, match=r"n x m, got shape \(3,\)"):
        function(np.zeros(3))
