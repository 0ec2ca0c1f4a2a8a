"""The cost model that rests on kernels measured one by one, whatever space they occur in."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from deployment import KINDS, Runner
from deployment.kernel_tables.descriptions import DESCRIPTION, DescribedLowering, as_descriptions
from hardware_profiles import Target
from latency_models.cost_records import Values
from latency_models.costs import CostModel, channel_block
from latency_models.inputs import check_space, check_target
from latency_models.kernel_costs.calibration import Calibration, calibrated
from latency_models.kernel_costs.regression import MOST_SUMS, KernelRegression, Known, Rows
from latency_models.kernel_costs.table import KERNEL, NETWORK, MeasuredKernels
from latency_models.quality import LatencyQuality, latency_quality
from records import BadInputError
from search_spaces import SearchSpace


class KernelTableCostModel(CostModel):
    """Costs from a table of measured kernels, which serves every space on its target.

    Kernels that were timed have their latency, others of the same kinds are interpolated
    (`latency_models.kernel_costs.regression`), and kinds that never were fall back to their
    roofline, scaled as the others turned out, but to no less than the cheapest timed kernel. The
    sum is calibrated on the whole networks in the table, of any space; without any it is the raw
    sum, and there is no interval.

    Args:
        space: The search space.
        target: The target, for which the table was measured.
        table: The measured kernels.
        runner: Times exported files on the target.

    Raises:
        BadInputError: A table of another target, or one without kernels.
    """

    def __init__(
        self,
        space: SearchSpace,
        target: Target,
        table: MeasuredKernels,
        runner: Runner | None = None,
    ) -> None:
        check_space(space)
        check_target(target)
        table.check(target)
        if not table.rows(KERNEL):
            raise BadInputError("the kernel table has no kernels yet: run measure_kernels first")
        self.described = DescribedLowering.of(
            space, batch_size=target.batch_size, channel_block=channel_block(target)
        )
        super().__init__(space, target, runner, self.described)
        self.table = table
        self._timed = table.kernels  # as of now: a growing table does not change a model
        self._kernels = table.sums(KERNEL, as_descriptions(self.described.descriptions), MOST_SUMS)
        self._networks = table.sums(NETWORK)

    @cached_property
    def regression(self) -> KernelRegression:
        """What kernels take, learned from the table."""
        return KernelRegression(self._kernels)

    @cached_property
    def known(self) -> Known:
        """Latency and uncertainty of every distinct kernel of the space, before calibration."""
        return self._estimates(self.described.descriptions)

    @cached_property
    def calibration(self) -> Calibration:
        """How the sum becomes a latency, from the networks in the table."""
        rows, counts = self._networks.rows, self._networks.counts
        latency = self._network_kernels_ms if len(rows) else np.empty(0)
        of_kind = rows[:, _KIND, None] == np.arange(len(KINDS))[None]
        per_kind = counts @ (latency[:, None] * of_kind)
        occurs = (counts @ of_kind.astype(np.float64)) > 0
        per_kind = per_kind + occurs * self.regression.first_ms
        return calibrated(per_kind, self._networks.latencies_ms, self.regression.base_ms)

    @property
    def base_ms(self) -> float:
        return self.calibration.base_ms

    @property
    def first_ms(self) -> Values:
        return self.regression.first_ms * self.calibration.scales

    @cached_property
    def kernel_ms(self) -> Values:
        latency = self.known.latency_ms * self.calibration.scales[self._kinds]
        return self._spread_out(latency)

    @cached_property
    def kernel_spread(self) -> Values:
        """Relative uncertainty of every variant, like `kernel_ms`; NaN where it is analytic."""
        return self._spread_out(self.known.spread)

    @cached_property
    def origin(self) -> npt.NDArray[np.int8]:
        rows = as_descriptions(self.described.descriptions)
        one = np.array([0 if row in self._timed else 1 for row in rows], np.int8)
        one[self._is_unknown(self.described.descriptions)] = 2
        return self._spread_out(one.astype(np.float64)).astype(np.int8)

    @property
    def ratios(self) -> Values:
        return self.calibration.ratios

    @property
    def quality(self) -> LatencyQuality:
        """How well the networks in the table are predicted by a calibration without them.

        Raises:
            BadInputError: Fewer than two networks were timed.
        """
        if not len(self.ratios):
            raise BadInputError("the table has fewer than two networks: nothing to judge by")
        return latency_quality(np.ones(len(self.ratios)), self.ratios)

    @property
    def latency_source(self) -> str:
        refused = len(self.table.refused)
        text = (
            f"predicted: {len(self._timed)} kernels timed on {self.target.name} in "
            f"{len(self._kernels.latencies_ms)} files, others interpolated"
        )
        if refused:
            text += f", {refused} refused by the runtime"
        n = len(self._networks.latencies_ms)
        if not len(self.ratios):
            return f"{text}; not calibrated on whole networks{self.runtime_note}"
        error = self.quality.mape
        return f"{text}; calibrated on {n} networks, left-out error {error:.1%}{self.runtime_note}"

    # ---- parts --------------------------------------------------------------------------------

    @property
    def _kinds(self) -> npt.NDArray[np.int64]:
        return self.described.descriptions[:, _KIND]

    @cached_property
    def _network_kernels_ms(self) -> Values:
        return self._estimates(self._networks.rows).latency_ms

    def _is_unknown(self, rows: Rows) -> npt.NDArray[np.bool_]:
        return np.asarray(~np.isin(rows[:, _KIND], list(self.regression.kinds)))

    def _estimates(self, rows: Rows) -> Known:
        """Estimates for kernels, the roofline for unknown kinds."""
        known = self.regression.known(rows)
        unknown = self._is_unknown(rows)
        if not unknown.any():
            return known
        latency, spread = known.latency_ms.copy(), known.spread.copy()
        roofline = rooflines_ms(self.target, rows)
        timed = self._kernels.rows
        timed_ms = self.regression.known(timed).latency_ms
        bound = rooflines_ms(self.target, timed).sum()
        slowdown = max(1.0, float(timed_ms.sum() / bound)) if bound > 0 else 1.0
        latency[unknown] = np.maximum(roofline[unknown] * slowdown, timed_ms.min())
        spread[unknown] = np.nan
        return Known(latency_ms=latency, spread=spread)

    def _spread_out(self, of_description: Values) -> Values:
        """Values of the distinct kernels for every variant, 0 where there is no kernel."""
        place = self.described.description_of_variant
        return np.asarray(np.append(of_description, 0.0)[place])


def rooflines_ms(target: Target, rows: Rows) -> Values:
    """The least time of kernels that the profile alone tells, without a memory hierarchy."""
    column = {name: rows[:, place].astype(np.float64) for place, name in enumerate(DESCRIPTION)}
    compute = 2 * column["padded_macs"] / (target.peak_gflops().value * 1e6)
    moved = 4 * sum(column[f"{what}_elements"] for what in ("read", "write", "weight"))
    bandwidth = target.main_memory_bandwidth()
    memory = moved / (bandwidth.value * 1e6) if bandwidth is not None else np.zeros(len(rows))
    return np.maximum(compute, memory)


_KIND = DESCRIPTION.index("kind")
