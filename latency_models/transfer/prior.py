"""What one believes of a device before measuring on it: a Gaussian process over architectures.

The latency of architecture x, divided by its mean over what was measured, is

    f(x) = m(x) + a + b (m(x) - 1) + sum over parts p of  s_p g_p(x),    g_p ~ GP(0, F_p F_p'),

where `m`, the *centre*, is one of several: the mean of the known devices, each smoothed and
divided by its own mean (the mean of all counts and all work where no device is known); all counts
alone, all work alone and each of the guesses (so long a layer, a multiply-accumulate, ...), for a
device like no other; and, where two or more are known, any one of
them, for a new device is often a near relative of a known one. Around one device the parts are
a twentieth as strong, for such a relative follows it closely. The parts, each scaled so that it
varies over architectures as much as the mean of the devices does when `s_p = 1`:

- `devices`: how each known device departs from their mean: the covariance of their latencies;
- `counts`, `work`: any linear function of the layers of each kind, and of the work in them;
- `more_counts`, `more_work`: all counts, all work together, for no kind of layer is free;
- `choices`: any linear function of the choices themselves.

Which centre it is and how much each part counts is learnt from what is measured
(`latency_models.transfer.posterior`).

References:
    Bonilla, Chai & Williams, Multi-task Gaussian Process Prediction, NeurIPS 2007: the covariance
    between tasks; Lee et al., HELP, NeurIPS 2021, arXiv 2106.08630, and Akhauri & Abdelfattah,
    NASFLAT, MLSys 2024, arXiv 2403.02446, whose task this is, both with neural networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latency_models.transfer.features import ArchitectureFeatures, Matrix

PARTS = ("devices", "counts", "work", "more_counts", "more_work", "choices")

OFFSET, SLOPE = 0.1, 0.3
"""Standard deviations of `a` and `b`."""

NEAR = 0.05
"""How strong the parts are around a single device, in terms of those around the mean."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DevicePrior:
    """The prior over `n` architectures.

    Attributes:
        mean: The mean of the known devices, an array of length `n` with mean 1.
        physics: All counts, all work, and the guesses, `n x columns`, with mean 1.
        devices: Each known device, `n x d`, with mean 1; none where fewer than two are known.
        variance: The variance of `mean` over the architectures: the unit of the parts.
        parts: `F_p` of each part, `n x columns`; a part of which nothing is known has none.
    """

    mean: Matrix
    physics: Matrix
    devices: Matrix
    variance: float
    parts: tuple[Matrix, ...]

    @property
    def centres(self) -> tuple[tuple[Matrix, float], ...]:
        """The centres, each of length `n`, and how strong the parts are around it."""
        wide = [self.mean, *self.physics.T]
        return (*((c, 1.0) for c in wide), *((c, NEAR) for c in self.devices.T))

    @property
    def factors(self) -> tuple[Matrix, ...]:
        """`base` of the mean, and the parts."""
        return (base(self.mean), *self.parts)


def base(centre: Matrix) -> Matrix:
    """The columns of offset and slope, `n x 2`, scaled so that their weights are `N(0, 1)`."""
    return np.stack([OFFSET * np.ones_like(centre), SLOPE * (centre - 1)], axis=1)


def device_prior(features: ArchitectureFeatures, smooth_ms: Matrix) -> DevicePrior:
    """The prior that `d` known devices and the architectures give.

    Args:
        features: The `n` architectures.
        smooth_ms: Their smoothed latencies on the known devices, `n x d`; `d` may be 0.
    """
    counts, work = _relative(features.counts), _relative(features.work)
    every = [columns.mean(axis=1) for columns in (counts, work) if columns.shape[1]]
    if smooth_ms.shape[1]:
        known = _relative(smooth_ms)
        mean = known.mean(axis=1)
    else:
        known = np.zeros((len(features), 0))
        mean = np.stack([np.ones(len(features)), *every]).mean(axis=0)
    physics = np.stack([*every, *features.guesses.T], axis=1) if every else features.guesses
    mean = np.asarray(mean / mean.mean())
    variance = float(mean.var()) or 1.0
    parts = (
        known - mean[:, None],
        _standardised(features.counts),
        _standardised(features.work),
        counts.mean(axis=1, keepdims=True) if counts.shape[1] else counts,
        work.mean(axis=1, keepdims=True) if work.shape[1] else work,
        np.concatenate([features.choices, features.numbers], axis=1),
    )
    return DevicePrior(
        mean=mean,
        physics=physics / physics.mean(axis=0),
        devices=known if known.shape[1] > 1 else known[:, :0],
        variance=variance,
        parts=tuple(_scaled(part, variance) for part in parts),
    )


def _relative(columns: Matrix) -> Matrix:
    """Each column divided by its mean."""
    means = columns.mean(axis=0)
    return np.asarray(columns / np.where(means > 0, means, 1.0))


def _standardised(columns: Matrix) -> Matrix:
    spread = columns.std(axis=0)
    return np.asarray(columns / np.where(spread > 0, spread, 1.0))


def _scaled(columns: Matrix, variance: float) -> Matrix:
    """Centred columns whose rows have that squared length in the mean; none where all are 0."""
    centred = columns - columns.mean(axis=0)
    length = float((centred**2).sum(axis=1).mean())
    if length <= 1e-12 * variance:
        return np.zeros((len(columns), 0))
    return np.asarray(centred * np.sqrt(variance / length))
