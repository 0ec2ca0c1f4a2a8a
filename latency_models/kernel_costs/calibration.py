"""From the sum of kernels to the latency of a network: base, scale, and a scale for each kind.

    y = b + sum over kinds k of (s + d_k) P_k

with `P_k` the summed latency of a network's kernels of a kind. The fit is least squares on
relative errors with priors: `b` near the base of the kernel files, `s` near 1, `d_k` near 0. So
ten networks suffice, one corrects the scale, and none leaves the sum as it is. The interval comes
from leaving out every network once (Barber et al., Predictive inference with the jackknife+, 2021;
here its ratios, see `latency_models.intervals`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear

Values = npt.NDArray[np.float64]

NOISE = 0.01
"""Relative, of a network's latency and of the sum itself; the priors are weighed against it."""

BASE, SCALE, KIND = 0.5, 0.5, 0.05
"""Relative standard deviations of the priors of `b`, `s` and `d_k`."""

LEAST_BASE = 0.05
"""The base's prior is at least as wide as if it were this share of the fastest network."""

MOST = 3.0
"""A kind's scale differs from the common one by so many of its standard deviations at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How sums of kernels become latencies.

    Attributes:
        base_ms: What a run costs apart from its kernels.
        scales: For each kind what its kernels are multiplied by.
        ratios: Sorted ratios of measured to predicted latency of left-out networks.
    """

    base_ms: float
    scales: Values
    ratios: Values


def calibrated(per_kind_ms: Values, latencies_ms: Values, base_ms: float) -> Calibration:
    """Fits base and scales.

    Args:
        per_kind_ms: For each network and kind the sum of its kernels, `networks x kinds`.
        latencies_ms: What the networks took, length `networks`; any number of them.
        base_ms: The base of the kernel files.
    """
    n = len(latencies_ms)
    base, scales = _fit(per_kind_ms, latencies_ms, base_ms)
    left_out = np.empty(n)
    for i in range(n):
        others = np.arange(n) != i
        b, s = _fit(per_kind_ms[others], latencies_ms[others], base_ms)
        left_out[i] = b + per_kind_ms[i] @ s
    ratios = np.sort(latencies_ms / left_out) if n >= 2 else np.empty(0)
    return Calibration(base_ms=base, scales=scales, ratios=ratios)


def _fit(per_kind_ms: Values, latencies_ms: Values, base_ms: float) -> tuple[float, Values]:
    n, kinds = per_kind_ms.shape
    if n == 0:
        return base_ms, np.ones(kinds)
    total = per_kind_ms.sum(axis=1)
    size = max(base_ms, LEAST_BASE * float(latencies_ms.min()))
    columns = np.column_stack([np.full(n, size), total, per_kind_ms]) / latencies_ms[:, None]
    weight = NOISE / np.array([BASE, SCALE] + [KIND] * kinds)
    center = np.array([base_ms / size, 1.0] + [0.0] * kinds)
    rows = np.concatenate([columns, np.diag(weight)])
    wanted = np.concatenate([np.ones(n), weight * center])
    low = np.array([0.0, 0.1] + [-MOST * KIND] * kinds)
    high = np.array([np.inf, 10.0] + [MOST * KIND] * kinds)
    found = lsq_linear(rows, wanted, bounds=(low, high)).x
    return float(found[0] * size), np.maximum(found[1] + found[2:], 0.05)
