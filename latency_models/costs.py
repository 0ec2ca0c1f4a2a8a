"""What a subnet costs on a target, and how well that is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deployment import KINDS, Bundle, Lowering, Runner, deploy
from hardware_profiles import Target
from latency_models.ceiling import Ceiling
from records import unknown_name
from search_spaces import Architecture, Genes, SearchSpace, least
from supernet import Subnet

Values = npt.NDArray[np.float64]

METRICS = ("latency_ms", "energy_mj", "peak_memory_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of `n` subnets on one target, arrays of length `n`.

    Attributes:
        latency_ms: For one run of the whole batch.
        latency_low_ms: Ends of the 90 % interval of the measured latency; NaN where nothing was
            measured to base an interval on.
        latency_high_ms: See `latency_low_ms`.
        energy_mj: For one run, modelled.
        peak_memory_bytes: Weights plus the activations that are alive at once.
        measured: Share of the latency from kernels that were timed with these very sizes.
        interpolated: Share from kernels whose kind was timed with other sizes.
        analytic: Share from data-sheet numbers alone.
    """

    latency_ms: Values
    latency_low_ms: Values
    latency_high_ms: Values
    energy_mj: Values
    peak_memory_bytes: Values
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


class CostModel(ABC):
    """Costs of the subnets of a space on a target; the latency is a sum over kernels.

    Args:
        space: The search space.
        target: The target.
        runner: Times exported files on the target; None leaves them "costs only".
    """

    metrics = METRICS

    def __init__(self, space: SearchSpace, target: Target, runner: Runner | None = None) -> None:
        self.space = space
        self.target = target
        self.runner = runner
        wide = any(name.startswith("avx512") for name in target.profile.instruction_sets)
        self.lowering = Lowering(
            space, batch_size=target.batch_size, channel_block=16 if wide else 8
        )

    @property
    def target_name(self) -> str:
        return self.target.name

    @property
    @abstractmethod
    def base_ms(self) -> float:
        """What a run costs apart from its kernels."""

    @property
    @abstractmethod
    def kernel_ms(self) -> Values:
        """The latency of every variant of every kernel, like the lowering's flat columns."""

    @property
    @abstractmethod
    def ratios(self) -> Values:
        """Sorted ratios of measured to predicted latency of left-out networks; may be empty."""

    @property
    @abstractmethod
    def origin(self) -> npt.NDArray[np.int8]:
        """For every variant: is its latency measured (0), interpolated (1) or analytic (2)?"""

    @property
    @abstractmethod
    def latency_source(self) -> str:
        """What the latency rests on, in words for reports."""

    @cached_property
    def ceiling(self) -> Ceiling:
        """The roofline and energy of every kernel from the profile alone."""
        return Ceiling.of(self.target, self.lowering)

    @property
    def energy_source(self) -> str:
        """What the energy rests on, in words for reports."""
        return self.ceiling.energy_source

    def latency_ms(self, genes: Genes) -> Values:
        """The latency alone, length `n`."""
        codes = self.lowering.tabulation.codes(genes)
        return np.asarray(self.base_ms + self._flat_ms[codes].sum(axis=0, dtype=np.float64))

    @cached_property
    def _flat_ms(self) -> npt.NDArray[np.float32]:
        return self.kernel_ms.astype(np.float32)

    def costs(self, genes: Genes) -> Costs:
        """All costs of an `n x d` array of genes."""
        codes = self.lowering.tabulation.codes(genes)
        parts = self._flat_ms[codes].astype(np.float64)
        latency = self.base_ms + parts.sum(axis=0)
        origin = self.origin[codes]
        shares = [(parts * (origin == k)).sum(axis=0) / parts.sum(axis=0) for k in range(3)]
        low, high = self._ratio(0.05), self._ratio(0.95)
        return Costs(
            latency_ms=latency,
            latency_low_ms=latency * low,
            latency_high_ms=latency * high,
            energy_mj=self._energy_mj(codes, latency),
            peak_memory_bytes=self.peak_memory_bytes(genes),
            measured=shares[0],
            interpolated=shares[1],
            analytic=shares[2],
        )

    def predict(self, genes: Genes) -> Mapping[str, Values]:
        """The metrics by name, arrays of length `n`."""
        codes = self.lowering.tabulation.codes(genes)
        latency = self.base_ms + self._flat_ms[codes].sum(axis=0, dtype=np.float64)
        return {
            "latency_ms": latency,
            "energy_mj": self._energy_mj(codes, latency),
            "peak_memory_bytes": self.peak_memory_bytes(genes),
        }

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Values:
        """The value that a measurement stays below with the given probability.

        For a latency that rests on measurements it comes from the ratios of measured to predicted
        latency of networks that were not fitted on (split conformal prediction, Vovk et al.,
        2005). Where nothing was measured, and for the other metrics, it is the prediction itself.
        """
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        if metric == "latency_ms":
            factor = self._ratio(probability) if len(self.ratios) else 1.0
            return self.latency_ms(genes) * factor
        if metric == "peak_memory_bytes":
            return self.peak_memory_bytes(genes)
        return self.predict(genes)[metric]

    def extremes(self, metric: str) -> tuple[tuple[float, Genes], tuple[float, Genes]] | None:
        """The least and greatest predicted value over all architectures, exact, with their genes.

        None for the peak memory, which is not a sum over kernels.
        """
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        if metric == "peak_memory_bytes":
            return None
        # The values that predictions add up, so that no prediction lies beyond them.
        values, base = self._flat_ms.astype(np.float64), self.base_ms
        if metric == "energy_mj":
            power = self.ceiling.static_power_w
            values, base = self.ceiling.energy_mj + power * values, power * base
        low, low_genes = least(self.space, self.lowering.tabulation, values)
        high, high_genes = least(self.space, self.lowering.tabulation, -values)
        return (base + low, low_genes), (base - high, high_genes)

    def peak_memory_bytes(self, genes: Genes) -> Values:
        """Weights plus the activations that are alive at once, at 4 bytes a value."""
        weights = 4 * self.lowering.table(genes).total("weight_elements")
        return (weights + self.lowering.peak_activation_bytes(genes)).astype(np.float64)

    def parts(self, row: Genes) -> list[Part]:
        """Where the latency of one architecture goes, kernel by kernel, beside the ceiling.

        Args:
            row: Genes of one architecture.
        """
        codes = self.lowering.tabulation.codes(np.atleast_2d(row))[:, 0]
        flat = self.lowering.tabulation.columns

        return [
            Part(
                name=kernel.name,
                kind=KINDS[flat["kind"][code]],
                latency_ms=float(self.kernel_ms[code]),
                compute_ms=float(self.ceiling.compute_ms[code]),
                memory_ms=float(self.ceiling.memory_ms[code]),
            )
            for kernel, code in zip(self.lowering.kernels, codes, strict=True)
            if flat["active"][code]
        ]

    def deploy(
        self,
        subnet: Subnet,
        architecture: Architecture,
        folder: str | Path,
        facts: Mapping[str, Any],
    ) -> Bundle:
        """Exports a subnet into a bundle, with what was predicted before it is measured.

        Args:
            subnet: The network.
            architecture: Its choices.
            folder: A new folder.
            facts: Whatever else belongs on the record (accuracy, weights hash, seeds).
        """
        return deploy(
            subnet,
            folder,
            target=self.target,
            architecture=architecture.to_json(),
            space=self.space.to_json(),
            predicted=self.record(self.space.encode(architecture)),
            facts=facts,
            runner=self.runner,
        )

    def record(self, genes: Genes) -> dict[str, Any]:
        """The costs of one architecture as JSON-ready values with their sources."""
        costs = self.costs(np.atleast_2d(genes))
        one = {name: float(getattr(costs, name)[0]) for name in Costs.__slots__}
        interval = [one.pop("latency_low_ms"), one.pop("latency_high_ms")]
        coverage = {name: one.pop(name) for name in ("measured", "interpolated", "analytic")}
        return {
            **one,
            "latency_interval_90_ms": interval if np.isfinite(interval).all() else None,
            "coverage": coverage,
            "latency_source": self.latency_source,
            "energy_source": self.energy_source,
        }

    def _ratio(self, probability: float) -> float:
        """The quantile of the ratios, widened for the finite number of them; NaN without any."""
        n = len(self.ratios)
        if n == 0:
            return float("nan")
        rank = (
            np.ceil((n + 1) * probability)
            if probability > 0.5
            else np.floor((n + 1) * probability)
        )
        return float(self.ratios[int(np.clip(rank, 1, n)) - 1])

    def _energy_mj(self, codes: npt.NDArray[np.intp], latency_ms: Values) -> Values:
        dynamic = self.ceiling.energy_mj[codes].sum(axis=0)
        return np.asarray(dynamic + self.ceiling.static_power_w * latency_ms)
