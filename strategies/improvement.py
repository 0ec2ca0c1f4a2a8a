"""Expected hypervolume improvement over a front of two objectives, one or both uncertain.

With a known cost `l` and an error that is normal with mean `m` and standard deviation `s`, the
front's staircase splits the cost axis into pieces with a best error `t` each, and the expected
gain of a candidate is

    sum over pieces of  width(piece, right of l) * E[max(0, t - error)],
    E[max(0, t - error)] = s * (z * Phi(z) + phi(z)),   z = (t - m) / s.

This is exact; no sampling is needed. Where the cost is normal too, and independent of the error,
the two factors are independent, and the expected width of a piece from `b` to `e` is
`E[max(0, e - cost)] - E[max(0, b - cost)]`, by the same formula. So the gain stays exact.

Latency counts in logarithms, so that ten percent are worth the same on fast and on slow networks.

References:
    Emmerich et al., Hypervolume-based expected improvement: monotonicity properties and exact
    computation, CEC 2011 (the general case); Jones et al., Efficient global optimization of
    expensive black-box functions, 1998 (the formula for one piece).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from strategies.dominance import is_non_dominated
from strategies.protocols import Floats

_LEAST_STD = 1e-9


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
    logarithmic = np.column_stack([front[:, 0], np.log(front[:, 1])])
    worst = (reference[0], float(np.log(reference[1])))
    return staircase_gain(logarithmic, mean, std, np.log(latency_ms), worst)


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
    """
    worst_error, worst_cost = reference
    stairs = front[(front[:, 0] < worst_error) & (front[:, 1] < worst_cost)]
    stairs = stairs[is_non_dominated(stairs)]
    stairs = stairs[np.argsort(stairs[:, 1])]
    best = np.append(worst_error, stairs[:, 0])
    ends = np.append(stairs[:, 1], worst_cost)
    if cost_std is None:
        right = np.maximum(0.0, ends - cost[:, None])
    else:
        right = _expected_excess(ends - cost[:, None], cost_std[:, None])
    width = np.diff(right, axis=1, prepend=0.0)
    total = np.zeros(len(mean))
    row, piece = np.nonzero(width > 0)
    gain = _expected_excess(best[piece] - mean[row], std[row])
    total += np.bincount(row, width[row, piece] * gain, minlength=len(mean))
    return total


def _expected_excess(distance: Floats, std: Floats) -> Floats:
    """`E[max(0, distance - x)]` for a normal `x` of mean 0."""
    scale = np.maximum(std, _LEAST_STD)
    z = distance / scale
    excess: Floats = scale * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
    return np.maximum(excess, 0.0)
