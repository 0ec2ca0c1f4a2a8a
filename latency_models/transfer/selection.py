"""Which networks to measure: those after which least is unknown of all others.

Greedy A-optimal design on the prior, before anything is measured: the next row is the candidate
that takes most variance away from a random sample of all rows,

    argmax_c  sum_t k(t, c)^2 / (k(c, c) + noise),

after which the covariance is conditioned on it. In this prior the ways in which known devices
differ count for more, and all else for less, than in the one that predicts: the first rows must
tell which known device the new one is like. It depends on architectures and known devices
only, and a first part of a longer choice is the shorter choice.

References:
    Krause, Singh & Guestrin, Near-Optimal Sensor Placements in Gaussian Processes, JMLR 2008.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latency_models.transfer.posterior import STRENGTHS
from latency_models.transfer.prior import PARTS, DevicePrior

DEVICES, OTHERS = 2.0, 0.25
"""What strengths of the part of known devices, and of other parts, are multiplied by."""

NOISE = 0.25
"""Standard deviation of the noise of one measured row, in spreads of the mean."""

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
    factor = np.concatenate(
        [s * part for s, part in zip(design_strengths(), prior.factors, strict=True)], axis=1
    )
    noise = NOISE**2 * prior.variance
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


def design_strengths() -> tuple[float, ...]:
    """How strong the base and each of the parts are while rows are chosen."""
    return (
        1.0,
        *(STRENGTHS[name] * (DEVICES if name == "devices" else OTHERS) for name in PARTS),
    )
