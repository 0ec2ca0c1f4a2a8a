"""A hand-made network as a space with one choice, the factor of all its widths.

So it is costed, exported and measured like anything else. Widths are rounded to multiples of 8,
on which kernels work; two neighbouring factors may therefore give the same network.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_models import CostModel, MeasuredCostModel
from search_spaces import Dim, Genes, NetworkBuilder, SearchSpace

MULTIPLIERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0)


@dataclass(frozen=True, kw_only=True)
class Scaled(SearchSpace):
    """A known network and its sizes.

    Attributes:
        multipliers: The factors to choose from, rising.
    """

    multipliers: tuple[float, ...] = MULTIPLIERS

    @property
    @abstractmethod
    def label(self) -> str:
        """The network's name, without its size."""

    def multiplier(self, net: NetworkBuilder) -> Dim:
        """The chosen factor: the only choice."""
        return net.choice("multiplier", self.multipliers)

    def title(self, row: Genes) -> str:
        """How reports name one of them, e.g. `ResNet-8 x0.5`."""
        return f"{self.label} x{self.multipliers[int(row[0])]:g}"


def scaled_to(costs: CostModel, latency_ms: float) -> Genes:
    """The genes of the size whose measured latency is nearest, as a ratio.

    Args:
        costs: A cost model of a `Scaled` network, calibrated on all its sizes; where none of them
            was timed, the predicted latencies count.
        latency_ms: The latency to match.
    """
    if isinstance(costs, MeasuredCostModel) and len(costs.genes):
        rows, latencies = costs.genes, costs.measured_ms
    else:
        rows = np.unique(costs.space.enumerate(), axis=0)
        latencies = costs.latency_ms(rows)
    index = nearest_size(latencies, latency_ms)
    assert index is not None  # without a bound one is always nearest
    return np.asarray(rows[index])


def nearest_size(
    latencies_ms: npt.ArrayLike, latency_ms: float, most: float = float("inf")
) -> int | None:
    """The position of the latency that is nearest as a ratio, the first of equally near ones.

    Args:
        latencies_ms: Measured latencies of the sizes, above 0, in any order.
        latency_ms: The latency to match.
        most: How many times as slow a size may be to count.

    Returns:
        The position, or None where all are slower than that.
    """
    ratios = np.asarray(latencies_ms, np.float64) / latency_ms
    distance = np.where(ratios <= most, np.abs(np.log(ratios)), np.inf)
    index = int(distance.argmin())
    return index if np.isfinite(distance[index]) else None
