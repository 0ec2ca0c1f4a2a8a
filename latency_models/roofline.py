"""The cost model that needs a profile alone: every kernel at its roofline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latency_models.cost_records import Values
from latency_models.costs import CostModel


class RooflineCostModel(CostModel):
    """Latency, energy and memory from data-sheet numbers (`latency_models.ceiling`).

    The latency is a lower bound: no kernel reaches the roofline, and nothing was measured. It
    ranks networks and shows where time must go; it carries no interval and its coverage is all
    analytic.
    """

    @property
    def base_ms(self) -> float:
        return 0.0

    @property
    def kernel_ms(self) -> Values:
        return self.ceiling.latency_ms

    @property
    def ratios(self) -> Values:
        return np.empty(0)

    @property
    def origin(self) -> npt.NDArray[np.int8]:
        return np.full(self.lowering.tabulation.variants, 2, np.int8)

    @property
    def latency_source(self) -> str:
        lacking = f"; unknown: {', '.join(self.ceiling.missing)}" if self.ceiling.missing else ""
        share = self.target.profile.share_read
        return (
            f"modelled: roofline, a lower bound; {share:.0%} of the profile read{lacking}"
            f"{self.runtime_note}"
        )
