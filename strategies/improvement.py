"""Expected hypervolume improvement where one objective is uncertain and the other is known.

With a known latency `l` and an error that is normal with mean `m` and standard deviation `s`, the
front's staircase splits the latency axis into pieces with a best error `t` each, and the expected
gain of a candidate is

    sum over pieces of  width(piece, right of l) * E[max(0, t - error)],
    E[max(0, t - error)] = s * (z * Phi(z) + phi(z)),   z = (t - m) / s.

This is exact; no sampling is needed. Latency counts in logarithms, so that ten percent are worth
the same on fast and on slow networks.

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
    worst_error, worst_latency = reference
    inside = (front[:, 0] < worst_error) & (front[:, 1] < worst_latency)
    stairs = front[inside]
    stairs = stairs[is_non_dominated(stairs)]
    stairs = stairs[np.argsort(stairs[:, 1])]
    starts = np.log(stairs[:, 1])
    begins = np.append(-np.inf, starts)
    ends = np.append(starts, np.log(worst_latency))
    best = np.append(worst_error, stairs[:, 0])
    width = np.maximum(0.0, ends - np.maximum(begins, np.log(latency_ms)[:, None]))
    scale = np.maximum(std, _LEAST_STD)[:, None]
    z = (best - mean[:, None]) / scale
    gain = scale * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
    total: Floats = (width * np.maximum(gain, 0.0)).sum(axis=1)
    return total
