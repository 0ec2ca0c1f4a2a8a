"""A target that runs the first layers of every network patch by patch.

What a microcontroller with little RAM does with maps that are too large for it (Lin et al.,
MCUNetV2, NeurIPS 2021): `latency_models.memory_patches` counts what is alive and what is computed
twice; here both reach the costs that a search sees, so that limits on memory and latency are held
against the network as it will run:

    costs = PatchedCosts(RooflineCostModel(space, small), until="stage1.layer0.depthwise.conv",
                         patches=4)
    Problem(space, accuracy, [costs], limits=device_limits(small))

The latency of a kernel inside the patches grows in proportion to the positions that it computes,
and each patch starts it once more, which takes the profile's launch time where that is known. This
is computed, not measured, whatever the other model rests on, and `latency_source` says so. A
network that cannot be cut there (`PatchPlan.can_be_cut`) runs as a whole.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from latency_models.ceiling import Ceiling
from latency_models.cost_records import Values
from latency_models.costs import CostModel
from latency_models.inputs import checked_genes
from latency_models.memory_patches import PatchPlan
from records import BadInputError
from search_spaces import Genes


class PatchedCosts(CostModel):
    """The costs of networks whose first layers run in patches.

    Args:
        costs: The cost model of networks that run as a whole.
        until: The name of the last layer that is computed in patches.
        patches: Patches along either side: 4 means 4 x 4.

    Raises:
        UnknownNameError: No such layer.
        BadInputError: No cost model of a network on a target, fewer than one patch, or a layer
            before `until` that needs the whole map.
    """

    def __init__(self, costs: CostModel, until: str, patches: int) -> None:
        if not isinstance(costs, CostModel) or isinstance(costs, PatchedCosts):
            raise BadInputError(
                "the cost model of a network that runs as a whole is needed, got "
                f"{type(costs).__name__}"
            )
        super().__init__(costs.space, costs.target, costs.runner, costs.lowering)
        self.whole = costs
        self.quantisation = costs.quantisation
        self.plan = PatchPlan(costs.space, until, patches, costs.activation_bytes)
        self._is_inside = np.array(
            [bool(set(kernel.nodes) & set(self.plan.inside)) for kernel in costs.lowering.kernels]
        )

    @property
    def base_ms(self) -> float:
        return self.whole.base_ms

    @property
    def kernel_ms(self) -> Values:
        return self.whole.kernel_ms

    @property
    def first_ms(self) -> Values:
        return self.whole.first_ms

    @property
    def ratios(self) -> Values:
        return self.whole.ratios

    @property
    def origin(self) -> npt.NDArray[np.int8]:
        return self.whole.origin

    @cached_property
    def ceiling(self) -> Ceiling:
        """That of the networks as a whole, the energy of a measured one included."""
        return self.whole.ceiling

    @property
    def latency_source(self) -> str:
        return f"{self.whole.latency_source}; {self._note}"

    @property
    def energy_source(self) -> str:
        return f"{self.whole.energy_source}; {self._note}"

    @property
    def _note(self) -> str:
        plan, until = self.plan, self.space.nodes[self.plan.cut].name
        return (
            f"modelled: up to {until} in {plan.patches} x {plan.patches} patches, what overlaps "
            "computed twice"
        )

    @property
    def weight_bytes(self) -> npt.NDArray[np.int64]:
        return self.whole.weight_bytes

    @property
    def activation_bytes(self) -> int:
        return self.whole.activation_bytes

    def latency_ms(self, genes: Genes) -> Values:
        """The latency with the overlap of the patches, length `n`."""
        genes = checked_genes(self.space, genes)
        return self.whole.latency_ms(genes) + self.overlap_ms(genes)

    def kernel_sum_ms(self, genes: Genes) -> Values:
        genes = checked_genes(self.space, genes)
        return self.whole.kernel_sum_ms(genes) + self.overlap_ms(genes)

    def overlap_ms(self, genes: Genes) -> Values:
        """What the patches add to the latency: positions computed again, kernels started again."""
        genes = checked_genes(self.space, genes)
        return np.asarray(self._added_ms(genes, self.lowering.tabulation.codes(genes)).sum(axis=0))

    def extremes(self, metric: str) -> tuple[tuple[float, Genes], tuple[float, Genes]] | None:
        """Exact for the flash; None for what depends on how layers overlap."""
        found = super().extremes(metric)
        return found if metric == "flash_bytes" else None

    def peak_memory_bytes(self, genes: Genes) -> Values:
        """Images, the patches or what comes behind them, and weights where they take RAM."""
        genes = checked_genes(self.space, genes)
        found = self.whole.peak_memory_bytes(genes)
        cut = self._is_cut(genes)
        if cut.any():
            alive = self.plan.costs(genes[cut]).peak_activation_bytes
            needed = self.target.batch_size * alive
            if not self.memory.weights_in_flash:
                needed = needed + self._weights(genes[cut])
            found[cut] = needed
        return found

    def _is_cut(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which networks run in patches: none in a single one."""
        if self.plan.patches == 1:
            return np.zeros(len(genes), bool)
        return self.plan.can_be_cut(genes)

    def _parts_of_ms(self, genes: Genes, codes: npt.NDArray[np.intp]) -> Values:
        return self._parts_ms(codes) + self._added_ms(genes, codes)

    def _added_ms(self, genes: Genes, codes: npt.NDArray[np.intp]) -> Values:
        """What the patches add to each kernel of each network, `kernels x n`."""
        again, started = self._repetition(genes)
        launch = self.ceiling.launch_ms[codes]
        work = np.maximum(self._flat_ms[codes] - launch, 0.0)
        return np.asarray(again * work + started * launch)

    def _repetition(self, genes: Genes) -> tuple[Values, Values]:
        """How often each kernel computes its positions, and is started, beyond once."""
        kernels = self.lowering.kernels
        again, started = np.zeros((2, len(kernels), len(genes)))
        cut = np.flatnonzero(self._is_cut(genes))
        if len(cut):
            times = self.plan.times_computed(genes[cut])
            for index in np.flatnonzero(self._is_inside):
                again[index, cut] = times[list(kernels[index].nodes)].max(axis=0) - 1
                started[index, cut] = self.plan.patches**2 - 1
        return again, started

    def _energy_mj(self, genes: Genes, latency_ms: Values) -> Values:
        again, _ = self._repetition(genes)
        codes = self.lowering.tabulation.codes(genes)
        added = (again * self.ceiling.energy_mj[codes]).sum(axis=0)
        return np.asarray(super()._energy_mj(genes, latency_ms) + added)
