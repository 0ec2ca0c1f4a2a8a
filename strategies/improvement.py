"""Expected hypervolume improvement over a front of two objectives, one or both uncertain.

With a known cost `l` and an error that is normal with mean `m` and standard deviation `s`, the
front's staircase splits the cost axis into pieces with a best error `t` each, and the expected
gain of a candidate is

    sum over pieces of  width(piece, right of l) * E[max(0, t - error)],
    E[max(0, t - error)] = s * (z * Phi(z) + phi(z)),   z = (t - m) / s.

This is exact; no sampling is needed. Where the cost is normal too, and independent of the error,
the two factors are independent, and the expected width of a piece from `b` to `e` is
`E[max(0, e - cost)] - E[max(0, b - cost)]`, by the same formula. So the gain stays exact.

A candidate of which something is not finite, as a latency on a target that cannot run it, gains
nothing; such points of the front are passed over.

Latency counts in logarithms, so that ten percent are worth the same on fast and on slow networks.

References:
    Emmerich et al., Hypervolume-based expected improvement: monotonicity properties and exact
    computation, CEC 2011 (the general case); Jones et al., Efficient global optimization of
    expensive black-box functions, 1998 (the formula for one piece).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from records import BadInputError
from strategies.dominance import is_non_dominated
from strategies.protocols import Floats

_LEAST_STD = 1e-9
_FAR = 8.0  # standard deviations
_CHUNK = 1024  # candidates at a time, so that what belongs to them stays in the cache


def expected_gain(
    front: Floats, mean: Floats, std: Floats, latency_ms: Floats, reference: tuple[float, float]
) -> Floats:
    """The expected gain in hypervolume over (error, log latency) of each candidate alone.

    Args:
        front: A `k x 2` array of (error, latency_ms) to improve on; it may hold dominated points.
        mean: The candidates' expected errors, an array of length `n`.
        std: Their standard deviations.
        latency_ms: Their latencies, above 0.
        reference: The (error, latency_ms) up to which volume counts.

    Returns:
        An array of length `n`, at least 0.
    """
    costs, latencies = _logarithms(front[:, 1]), _logarithms(latency_ms)
    worst = (reference[0], float(_logarithms(np.array(reference[1]))))
    return staircase_gain(np.column_stack([front[:, 0], costs]), mean, std, latencies, worst)


def staircase_gain(
    front: Floats,
    mean: Floats,
    std: Floats,
    cost: Floats,
    reference: tuple[float, float],
    cost_std: Floats | None = None,
) -> Floats:
    """The expected gain in hypervolume over (error, cost) of each candidate alone.

    Args:
        front: A `k x 2` array of (error, cost) to improve on; it may hold dominated points.
        mean: The candidates' expected errors, an array of length `n`.
        std: Their standard deviations.
        cost: Their costs, or what these are expected to be.
        reference: The (error, cost) up to which volume counts.
        cost_std: The standard deviations of the costs; None where they are known.

    Returns:
        An array of length `n`, at least 0.

    Raises:
        BadInputError: A reference that is not finite.
    """
    worst_error, worst_cost = reference
    if not np.isfinite(reference).all():
        raise BadInputError(f"the reference must be finite, got {reference}")
    usable = np.isfinite(mean) & np.isfinite(std) & np.isfinite(cost)
    if cost_std is not None:
        usable &= np.isfinite(cost_std)
    stairs = front[(front[:, 0] < worst_error) & (front[:, 1] < worst_cost)]
    stairs = stairs[is_non_dominated(stairs)]
    stairs = stairs[np.argsort(stairs[:, 1])]
    best = np.append(worst_error, stairs[:, 0])
    ends = np.append(stairs[:, 1], worst_cost)
    total = np.zeros(len(mean))
    rows = np.flatnonzero(usable)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        spread = None if cost_std is None else cost_std[part]
        total[part] = _sum_of_pieces(best, ends, mean[part], std[part], cost[part], spread)
    return total


def _logarithms(latency_ms: Floats) -> Floats:
    """Logarithms, that of 0 being that of the smallest number above it."""
    found: Floats = np.log(np.maximum(latency_ms, np.finfo(np.float64).tiny))
    return found


def _sum_of_pieces(
    best: Floats, ends: Floats, mean: Floats, std: Floats, cost: Floats, cost_std: Floats | None
) -> Floats:
    """The gain over a staircase of errors `best` up to costs `ends`, for each candidate."""
    if cost_std is None:
        right = np.maximum(0.0, ends - cost[:, None])
    else:
        right = _expected_excess(ends - cost[:, None], cost_std[:, None])
    width = np.diff(right, axis=1, prepend=0.0)
    distance = best - mean[:, None]
    counts = np.flatnonzero((width > 0) & (distance > -_FAR * std[:, None]))
    row = counts // len(best)
    gain = _expected_excess(distance.ravel()[counts], std[row])
    total = np.bincount(row, width.ravel()[counts] * gain, minlength=len(mean))
    return np.asarray(total, np.float64)


def _expected_excess(distance: Floats, std: Floats) -> Floats:
    """`E[max(0, distance - x)]` for a normal `x` of mean 0.

    What it is above `max(0, distance)` is left out beyond `_FAR` standard deviations, where it is
    smaller than rounding errors.
    """
    scale = np.broadcast_to(np.maximum(std, _LEAST_STD), distance.shape)
    excess: Floats = np.maximum(distance, 0.0)
    z = np.abs(distance / scale)
    near = z < _FAR
    z = z[near]
    excess[near] += scale[near] * (np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) - z * ndtr(-z))
    return excess
