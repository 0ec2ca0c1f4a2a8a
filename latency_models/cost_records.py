"""What cost models answer with: the costs of a population, the parts of one network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of `n` subnets on one target, arrays of length `n`.

    Attributes:
        latency_ms: For one run of the whole batch.
        latency_low_ms: Ends of the 90 % interval of the measured latency; NaN where nothing was
            measured to base an interval on.
        latency_high_ms: See `latency_low_ms`.
        energy_mj: For one run; modelled unless measured networks were given.
        energy_low_mj: Ends of its interval, from idle to peak power over the latency or from
            measured networks; NaN where unknown.
        energy_high_mj: See `energy_low_mj`.
        peak_memory_bytes: Images, weights and the activations that are alive at once; on a
            microcontroller without the weights, which are in flash.
        flash_bytes: The weights.
        measured: Share of the latency from kernels that were timed with these very sizes.
        interpolated: Share from kernels whose kind was timed with other sizes.
        analytic: Share from data-sheet numbers alone.
    """

    latency_ms: Values
    latency_low_ms: Values
    latency_high_ms: Values
    energy_mj: Values
    energy_low_mj: Values
    energy_high_mj: Values
    peak_memory_bytes: Values
    flash_bytes: Values
    measured: Values
    interpolated: Values
    analytic: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A kernel's share of a subnet's latency."""

    name: str
    kind: str
    latency_ms: float
    compute_ms: float
    memory_ms: float


def recorded(costs: Costs, latency_source: str, energy_source: str) -> dict[str, Any]:
    """The costs of the first network as JSON-ready values with their sources."""
    one = {name: float(getattr(costs, name)[0]) for name in Costs.__slots__}
    interval = [one.pop("latency_low_ms"), one.pop("latency_high_ms")]
    energies = [one.pop("energy_low_mj"), one.pop("energy_high_mj")]
    coverage = {name: one.pop(name) for name in ("measured", "interpolated", "analytic")}
    return {
        **one,
        "latency_interval_90_ms": interval if np.isfinite(interval).all() else None,
        "energy_interval_mj": energies if np.isfinite(energies).all() else None,
        "coverage": coverage,
        "latency_source": latency_source,
        "energy_source": energy_source,
    }
