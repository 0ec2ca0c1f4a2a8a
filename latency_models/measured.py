"""The cost model that is calibrated on whole networks timed on the target.

The time of a kernel comes from `latency_models.kernel_fit`, fitted to networks of this space and,
where there are any, of other spaces on the same target. Kinds of kernels that occur in no timed
network fall back to their roofline, scaled as the others turned out, but to no less than the
cheapest timed kernel. The interval comes from cross-validation (`latency_models.intervals`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deployment import KINDS, Runner, Timing
from deployment.kernel_tables.descriptions import DescribedLowering
from deployment.quantisation.quantised import DYNAMIC_KINDS
from hardware_profiles import Target
from latency_models.cost_records import Values
from latency_models.costs import CostModel, channel_block
from latency_models.inputs import check_space, check_target, measured_values, quantisation_of
from latency_models.intervals import ratios_for
from latency_models.kernel_fit import FOLDS, MIN_NETWORKS, KernelFit, Measurements
from latency_models.measurement_files import FORMAT, read_measurements, write_measurements
from latency_models.quality import LatencyQuality, latency_quality
from search_spaces import Genes, SearchSpace, WithBlockPrecision

__all__ = ["FOLDS", "FORMAT", "MIN_NETWORKS", "MeasuredCostModel"]

logger = logging.getLogger(__name__)


class MeasuredCostModel(CostModel):
    """Costs whose latency is fitted to timed networks.

    Args:
        space: The search space.
        target: The target.
        genes: The timed networks, an `n x d` array; at least 10 rows together with `others`.
        latencies_ms: Their latencies for one run of the whole batch, length `n`.
        runner: Times exported files on the target.
        others: Networks of other spaces that were timed on the same target.
        quantisation: How the files were made where the target's precision is int8, "dynamic" or
            "static" (`deployment.quantisation.quantised`); by default as a space with precision by
            block says, and "dynamic" for others.
        lowering: The space lowered for the target, where it is at hand.

    Raises:
        BadInputError: Too few networks, or latencies that are no positive numbers.
    """

    lowering: DescribedLowering

    def __init__(
        self,
        space: SearchSpace,
        target: Target,
        genes: Genes,
        latencies_ms: npt.ArrayLike,
        runner: Runner | None = None,
        *,
        others: Sequence[Measurements] = (),
        quantisation: str | None = None,
        lowering: DescribedLowering | None = None,
    ) -> None:
        check_space(space)
        check_target(target)
        quantisation = quantisation_of([space], quantisation)
        super().__init__(space, target, runner, lowering or lowered(space, target))
        self.timings: tuple[Timing, ...] = ()  # raw, where `calibrate` took them
        self.quantisation = quantisation
        self.others = tuple(others)
        self.genes = space.gene_space.check(genes)
        self.measured_ms: Values = measured_values("latencies", latencies_ms)
        own = Measurements(lowering=self.lowering, genes=self.genes, latencies_ms=self.measured_ms)
        self.fit = KernelFit((own, *self.others))

    @property
    def base_ms(self) -> float:
        return self.fit.base_ms

    @property
    def first_ms(self) -> Values:
        return self.fit.first_ms

    @cached_property
    def kernel_ms(self) -> Values:
        latency = self.fit.kernel_ms(self.lowering)
        unseen = self._is_unseen
        if unseen.any():
            ceiling = self.ceiling.latency_ms
            known = ceiling[~unseen & (ceiling > 0)].sum()
            slowdown = max(1.0, float(latency[~unseen].sum() / known)) if known else 1.0
            timed = latency[~unseen & (latency > 0)]
            cheapest = timed.min() if len(timed) else 0.0  # a ceiling may be 0: not known
            latency = np.where(unseen, np.maximum(ceiling * slowdown, cheapest), latency)
        return np.asarray(latency)

    @property
    def _is_unseen(self) -> npt.NDArray[np.bool_]:
        flat = self.lowering.tabulation.columns
        return np.asarray(~self.fit.is_seen(self.lowering) & (flat["active"] > 0))

    @cached_property
    def origin(self) -> npt.NDArray[np.int8]:
        origin = np.ones(self.lowering.tabulation.variants, np.int8)
        origin[np.unique(self.lowering.tabulation.codes(self.genes))] = 0
        origin[self._is_unseen] = 2
        return origin

    @cached_property
    def ratios(self) -> Values:
        return ratios_for(0, self.fit.log_ratios)

    @property
    def quality(self) -> LatencyQuality:
        """How well networks left out of the fit are predicted: this space's, or all if few."""
        if len(self.genes) >= MIN_NETWORKS:
            return latency_quality(self.fit.left_out_ms[0], self.fit.left_out_measured_ms[0])
        measured = np.concatenate(self.fit.left_out_measured_ms)
        return latency_quality(np.concatenate(self.fit.left_out_ms), measured)

    @property
    def latency_source(self) -> str:
        shared = self.fit.networks - len(self.genes)
        return (
            f"predicted: fitted to {len(self.genes)} networks timed on {self.target.name}, "
            + (f"and {shared} of other spaces, " if shared else "")
            + f"cross-validated error {self.quality.mape:.1%}"
            + (f"; {self.numerics}" if self.target.precision == "int8" else "")
            + self.runtime_note
        )

    @property
    def weight_bytes(self) -> npt.NDArray[np.int64]:
        """What weights take; dynamic int8 keeps those of all but linear maps in fp32."""
        if not self._is_dynamic or isinstance(self.space, WithBlockPrecision):
            return super().weight_bytes
        columns = self.lowering.tabulation.columns
        whole = np.isin(columns["kind"], [KINDS.index(kind) for kind in DYNAMIC_KINDS])
        return np.asarray(np.where(whole, 1, 4) * columns["weight_elements"])

    @property
    def activation_bytes(self) -> int:
        """4 with dynamic int8, where kernels pass on fp32 values; else as the precision says."""
        return 4 if self._is_dynamic else super().activation_bytes

    @property
    def _is_dynamic(self) -> bool:
        return self.target.precision == "int8" and self.quantisation == "dynamic"

    def in_space(self, space: SearchSpace) -> MeasuredCostModel:
        """The model of another space from the same measurements.

        Kernels are the same in every space, so networks that were timed for one serve another.
        Where none of the other space was timed, ranks can be trusted more than milliseconds: what
        a run costs at first (base and first kernels) is then extrapolated. Add a few of its
        networks with `refitted`.
        """
        everything = self.fit.measurements
        mine = [m for m in everything if m.space.hash == space.hash]
        genes = [m.genes for m in mine] or [np.zeros((0, len(space.choices)), np.int16)]
        return MeasuredCostModel(
            space,
            self.target,
            np.concatenate(genes),
            np.concatenate([np.zeros(0), *(m.latencies_ms for m in mine)]),
            self.runner,
            others=[m for m in everything if m.space.hash != space.hash and len(m.genes)],
            quantisation=self.quantisation,
            lowering=mine[0].lowering if mine else None,
        )

    def refitted(
        self, genes: Genes, latencies_ms: npt.ArrayLike, drift: float = 1.0
    ) -> MeasuredCostModel:
        """The model fitted to these networks as well; this one stays as it is.

        Args:
            genes: The newly timed networks, an `n x d` array.
            latencies_ms: Their latencies, length `n`.
            drift: How much slower the machine runs now than when it was calibrated; the earlier
                latencies are multiplied by it.
        """
        return self._with(
            np.concatenate([self.genes, self.space.gene_space.check(genes)]),
            np.concatenate([drift * self.measured_ms, np.asarray(latencies_ms, np.float64)]),
            drift,
        )

    def without(self, row: Genes) -> MeasuredCostModel:
        """The model that one would have had without timing this network.

        It is this model where the network was not timed, or where too few would be left.

        Args:
            row: Genes of one architecture.
        """
        others = (self.genes != row).any(axis=1)
        left = self.fit.networks - int((~others).sum())
        if others.all() or left < MIN_NETWORKS:
            return self
        return self._with(self.genes[others], self.measured_ms[others])

    def _with(self, genes: Genes, latencies_ms: Values, drift: float = 1.0) -> MeasuredCostModel:
        return MeasuredCostModel(
            self.space,
            self.target,
            genes,
            latencies_ms,
            self.runner,
            others=[
                Measurements(
                    lowering=m.lowering, genes=m.genes, latencies_ms=drift * m.latencies_ms
                )
                for m in self.others
            ],
            quantisation=self.quantisation,
            lowering=self.lowering,
        )

    def save(self, path: str | Path) -> None:
        """Writes what was measured; `load` fits again.

        A network that was timed more than once is written once, with the mean of its latencies.
        """
        write_measurements(path, self.target, self.fit.measurements, self.quantisation)

    @staticmethod
    def load(
        path: str | Path,
        space: SearchSpace,
        target: Target,
        runner: Runner | None = None,
        *,
        others: Sequence[SearchSpace] = (),
    ) -> MeasuredCostModel:
        """The model that `save` wrote.

        Args:
            path: The file.
            space: The space that it was measured for.
            target: The target that it was measured on.
            runner: Times exported files on the target.
            others: Further spaces; networks of theirs in the file join the fit. Networks of
                spaces that are not given are left out, with a warning.

        Raises:
            CorruptFileError: Another kind of file, measured for another space or target, or with
                latencies that cannot be; names the row or field.
        """
        quantisation, found, left_out = read_measurements(path, (space, *others), target)
        if left_out:
            logger.warning("%s: %d networks of other spaces are left out", path, left_out)
        (genes, latencies_ms), *rest = found
        shared = [
            Measurements(lowering=lowered(other, target), genes=g, latencies_ms=y)
            for other, (g, y) in zip(others, rest, strict=True)
            if len(g)
        ]
        return MeasuredCostModel(
            space,
            target,
            genes,
            latencies_ms,
            runner,
            others=shared,
            quantisation=quantisation,
        )


def lowered(space: SearchSpace, target: Target) -> DescribedLowering:
    """A space lowered for a target, with all that the features need."""
    return DescribedLowering.of(
        space, batch_size=target.batch_size, channel_block=channel_block(target)
    )
