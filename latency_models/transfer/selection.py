"""Which networks to measure: those after which least is unknown of all others.

Greedy A-optimal design on the prior, before anything is measured: the next row is the candidate
that takes most variance away from a random sample of all rows,

    argmax_c  sum_t k(t, c)^2 / (k(c, c) + noise),

after which the covariance is conditioned on it. It depends on architectures and known devices
only, and a first part of a longer choice is the shorter choice.

References:
    Krause, Singh & Guestrin, Near-Optimal Sensor Placements in Gaussian Processes, JMLR 2008.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latency_models.transfer.posterior import NOISE, STRENGTHS
from latency_models.transfer.prior import PARTS, DevicePrior

_CANDIDATES = 1500
_JUDGES = 1000


def choose_rows(
    prior: DevicePrior, samples: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """The rows to measure, most telling first, an array of length `samples`.

    Args:
        prior: Over the architectures.
        samples: How many, at most the number of architectures.
        rng: Draws the candidates and the rows that judge them.
    """
    n = len(prior.mean)
    candidates = np.sort(rng.choice(n, min(max(_CANDIDATES, samples), n), replace=False))
    judges = np.sort(rng.choice(n, min(_JUDGES, n), replace=False))
    strengths = [1.0] + [STRENGTHS[name][0] for name in PARTS]
    factor = np.concatenate(
        [s * part for s, part in zip(strengths, prior.factors, strict=True)], axis=1
    )
    noise = NOISE[0] ** 2 * prior.variance
    own = factor[candidates] @ factor[candidates].T
    between = factor[judges] @ factor[candidates].T
    chosen: list[int] = []
    for _ in range(samples):
        gain = (between**2).sum(axis=0) / (np.diagonal(own) + noise)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        row, scale = own[best].copy(), own[best, best] + noise
        between -= np.outer(between[:, best], row) / scale
        own -= np.outer(row, row) / scale
    return candidates[chosen]
