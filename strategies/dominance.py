"""Which points dominate which: ranks, crowding, constraints, hypervolume; all minimised.

A point dominates another if it is nowhere worse and somewhere better. Sorting and hypervolume are
`moocore`'s (López-Ibáñez et al., https://multi-objective.github.io/moocore).

References:
    Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE Transactions on
    Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import numpy.typing as npt

from strategies.protocols import Floats

Ranks = npt.NDArray[np.intp]


def is_non_dominated(objectives: Floats) -> npt.NDArray[np.bool_]:
    """Marks the points that no other point dominates.

    Args:
        objectives: An `n x m` array; row `i` is one architecture, e.g. (error, latency_ms).
            A row with a NaN is dominated. Equal rows are all kept.

    Returns:
        A boolean array of length `n`.

    Raises:
        ValueError: `objectives` is not two-dimensional.

    >>> is_non_dominated(np.array([[1.0, 4.0], [2.0, 2.0], [2.0, 5.0]]))
    array([ True,  True, False])
    """
    complete = ~np.isnan(_checked(objectives)).any(axis=1)
    marks = np.zeros(len(objectives), np.bool_)
    if complete.any():
        points = objectives[complete]
        if points.shape[1] == 1:
            marks[complete] = points[:, 0] == points.min()
        else:
            marks[complete] = moocore.is_nondominated(points, keep_weakly=True)
    return marks


def non_dominated_rank(objectives: Floats) -> Ranks:
    """The number of the front that each point belongs to; 0 for the non-dominated.

    Args:
        objectives: An `n x m` array. Equal rows share a rank. Rows with a NaN share the last one.

    Returns:
        An integer array of length `n`.

    Raises:
        ValueError: `objectives` is not two-dimensional.

    >>> non_dominated_rank(np.array([[1.0, 4.0], [2.0, 2.0], [2.0, 5.0]]))
    array([0, 0, 1])
    """
    complete = ~np.isnan(_checked(objectives)).any(axis=1)
    rank = np.zeros(len(objectives), np.intp)
    if complete.any():
        points = objectives[complete]
        if points.shape[1] == 1:
            rank[complete] = np.unique(points[:, 0], return_inverse=True)[1]
        else:
            rank[complete] = moocore.pareto_rank(points)
        rank[~complete] = rank[complete].max() + 1
    return rank


def crowding_distance(objectives: Floats, rank: Ranks) -> Floats:
    """How far the neighbours of each point are within its front (Deb et al., sec. III-B).

    For each objective the points of a front are sorted, and each gains
    `(f_next - f_previous) / (f_max - f_min)`; the ends of a front gain infinity. An objective that
    is the same all over a front, or not finite, adds nothing there. A front of one is infinite.

    Args:
        objectives: An `n x m` array.
        rank: The front of each point, of length `n`.

    Returns:
        An array of length `n`; larger is lonelier.
    """
    n = len(_checked(objectives))
    distance = np.zeros(n)
    if n == 0:
        return distance
    for column in objectives.T:
        order = np.lexsort((column, rank))
        value, front = column[order], rank[order]
        begins = np.empty(n, np.bool_)
        begins[0] = True
        np.not_equal(front[1:], front[:-1], out=begins[1:])
        ends = np.append(begins[1:], True)
        number = np.cumsum(begins) - 1
        gap = np.zeros(n)
        with np.errstate(invalid="ignore", divide="ignore"):
            span = (value[ends] - value[begins])[number]
            gap[1:-1] = (value[2:] - value[:-2]) / span[1:-1]
        gap[begins | ends] = np.inf
        gap[~(np.isfinite(span) & (span > 0))] = 0
        gap[begins & ends] = np.inf
        distance[order] += np.where(np.isnan(gap), 0, gap)
    return distance


def constrained_rank(objectives: Floats, violations: Floats) -> Ranks:
    """Fronts under Deb's constrained domination (sec. VI).

    A feasible point comes before an infeasible one, feasible points are ranked by their
    objectives, infeasible ones by their violation alone (their objectives may be unknown).

    Args:
        objectives: An `n x m` array. A feasible row with a NaN comes last of all.
        violations: An array of length `n`; 0 where feasible. NaN counts as infinite.

    Returns:
        An integer array of length `n`; 0 is the first front.

    >>> constrained_rank(np.array([[2.0, 2.0], [1.0, 1.0], [3.0, 3.0]]), np.array([0.0, 0.5, 0.0]))
    array([0, 2, 1])
    """
    missed = np.where(np.isnan(violations), np.inf, violations)
    complete = ~np.isnan(_checked(objectives)).any(axis=1)
    feasible = missed <= 0
    rank = np.zeros(len(objectives), np.intp)
    good = feasible & complete
    base = 0
    if good.any():
        rank[good] = non_dominated_rank(objectives[good])
        base = int(rank[good].max()) + 1
    if not feasible.all():
        levels, place = np.unique(missed[~feasible], return_inverse=True)
        rank[~feasible] = base + place
        base += len(levels)
    rank[feasible & ~complete] = base
    return rank


def hypervolume(objectives: Floats, reference: Sequence[float] | Floats) -> float:
    """The volume that the points dominate, up to a reference point.

    Args:
        objectives: An `n x m` array. Rows with a NaN or beyond the reference add nothing.
        reference: The reference point, `m` numbers; keep it fixed to compare volumes.

    Returns:
        At least 0; 0 for no points.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), [3.0, 3.0])
    3.0
    """
    points = _checked(objectives)
    points = points[~np.isnan(points).any(axis=1)]
    return float(moocore.hypervolume(points, ref=reference)) if len(points) else 0.0


def _checked(objectives: Floats) -> Floats:
    if objectives.ndim != 2:
        raise ValueError(f"objectives must be n x m, got shape {objectives.shape}")
    return objectives
