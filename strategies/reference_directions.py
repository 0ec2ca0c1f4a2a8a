"""Directions spread evenly over the simplex, for populations with many objectives.

References:
    1. Das and Dennis, Normal-boundary intersection, SIAM Journal on Optimization 8(3), 1998.
    2. Deb and Jain, An evolutionary many-objective optimization algorithm using
       reference-point-based nondominated sorting approach, part I, IEEE Transactions on
       Evolutionary Computation 18(4), 2014, sec. IV-A and V (the two layers).
"""

from __future__ import annotations

import math

import numpy as np

from records import BadInputError
from strategies.protocols import Floats

_INNER_SCALE = 0.5


def das_dennis(objectives: int, divisions: int) -> Floats:
    """All points of the simplex whose coordinates are multiples of `1 / divisions`.

    Args:
        objectives: The number of coordinates, at least 1.
        divisions: Into how many parts each edge is divided; 0 gives the centre alone.

    Returns:
        A `k x objectives` array in lexicographic order, with `k = C(objectives + divisions - 1,
        divisions)`; rows sum to 1.

    Raises:
        BadInputError: No objective, or a negative number of divisions.

    >>> das_dennis(2, 2)
    array([[0. , 1. ],
           [0.5, 0.5],
           [1. , 0. ]])
    """
    if objectives < 1 or divisions < 0:
        raise BadInputError(
            f"directions need an objective and 0 divisions or more, got {objectives} and "
            f"{divisions}"
        )
    if divisions == 0:
        return np.full((1, objectives), 1 / objectives)
    rows = np.zeros((1, 0), np.int64)
    for _ in range(objectives - 1):
        left = divisions - rows.sum(axis=1)
        repeated = np.repeat(rows, left + 1, axis=0)
        starts = np.repeat(np.cumsum(left + 1) - (left + 1), left + 1)
        rows = np.column_stack([repeated, np.arange(len(repeated)) - starts])
    rest = divisions - rows.sum(axis=1)
    directions: Floats = np.column_stack([rows, rest]) / divisions
    return directions


def reference_directions(objectives: int, divisions: int, inner_divisions: int = 0) -> Floats:
    """Directions in one layer, or in two: the second lies half way to the centre.

    With many objectives a single layer that reaches the inside of the simplex has too many
    points: for 8 objectives, 3 and 2 divisions give 120 + 36.

    Args:
        objectives: The number of objectives.
        divisions: Of the outer layer.
        inner_divisions: Of the inner layer; 0 for none.

    Returns:
        A `k x objectives` array of distinct rows that sum to 1, the outer layer first.
    """
    outer = das_dennis(objectives, divisions)
    if inner_divisions == 0:
        return outer
    inner = das_dennis(objectives, inner_divisions)
    inner = _INNER_SCALE * inner + (1 - _INNER_SCALE) / objectives
    near = np.abs(outer[:, None] - inner[None]).max(axis=2).min(axis=0) < 1e-9
    return np.concatenate([outer, inner[~near]])


def directions_for(objectives: int, population_size: int) -> Floats:
    """The most directions that a population can serve, in two layers where one stays outside.

    A layer has points inside the simplex only if it has at least as many divisions as there are
    objectives. Where a population is too small for that, the layer gets a second one inside it.
    """
    if objectives == 1:
        return np.ones((1, 1))
    divisions = _most_divisions(objectives, population_size)
    if divisions >= objectives:
        return das_dennis(objectives, divisions)
    for outer in range(divisions, 0, -1):
        left = population_size - math.comb(objectives + outer - 1, outer)
        inner = min(_most_divisions(objectives, left), max(1, outer - 1))
        if inner >= 1:
            return reference_directions(objectives, outer, inner)
    return das_dennis(objectives, divisions)


def _most_divisions(objectives: int, points: int) -> int:
    """The most divisions that give at most so many points; 0 if 1 gives more."""
    divisions = 0
    while math.comb(objectives + divisions, divisions + 1) <= points:
        divisions += 1
    return divisions
