"""What a subnet costs on a target, and how well that is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deployment import KINDS, Bundle, Interface, Lowering, Runner, deploy, select_kernels
from deployment.kernel_tables.kernels import RUNTIMES
from deployment.network_blocks import is_within
from deployment.quantisation.kernel_precision import in_int8
from hardware_profiles import Target
from latency_models.ceiling import BYTES_PER_VALUE, Ceiling
from latency_models.cost_records import Costs, Part, Values, recorded
from latency_models.inputs import (
    check_precision,
    check_probability,
    check_space,
    check_target,
    checked_genes,
)
from latency_models.intervals import conformal_quantile
from latency_models.kernel_features import kind_bits
from latency_models.kind_extremes import KindCosts
from latency_models.lookup import JointLookup
from latency_models.memory import MemoryModel, value_bytes
from latency_models.on_demand import OnDemand
from records import unknown_name
from search_spaces import Architecture, Genes, SearchSpace, WithBlockPrecision
from supernet import ImageData, Subnet

METRICS = ("latency_ms", "energy_mj", "peak_memory_bytes", "flash_bytes")


class CostModel(ABC):
    """Costs of the subnets of a space on a target.

    The latency is a sum over kernels, plus, where a model says so (`first_ms`), a cost for the
    first kernel of each kind that occurs.

    Args:
        space: The search space.
        target: The target.
        runner: Times exported files on the target; None leaves them "costs only".
        lowering: The space lowered for the target, where it is at hand.

    Genes that are asked for are an `n x d` array; one row of `d` is taken as `1 x d`.

    Raises:
        BadInputError: No search space or no target.
    """

    metrics = METRICS
    quantisation: str = "static"
    """How int8 files are made where the target's precision is int8
    (`deployment.quantisation.quantised`)."""

    def __init__(
        self,
        space: SearchSpace,
        target: Target,
        runner: Runner | None = None,
        lowering: Lowering | None = None,
    ) -> None:
        check_space(space)
        check_target(target)
        check_precision(space, target)
        if isinstance(space, WithBlockPrecision):
            self.quantisation = space.quantisation
        self.space = space
        self.target = target
        self.runner = runner
        self.lowering: Lowering = lowering or Lowering.of(
            space, batch_size=target.batch_size, channel_block=channel_block(target)
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
    def first_ms(self) -> Values:
        """What the first kernel of each kind costs more than the next, length `len(KINDS)`."""
        return np.zeros(len(KINDS))

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

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The metrics that no measurement supports, so that a limit on them proves little."""
        return () if self.ceiling.energy_ratios else ("energy_mj",)

    @property
    def numerics(self) -> str:
        """In which numbers the files of an int8 target compute, in words for reports."""
        if not isinstance(self.space, WithBlockPrecision):
            return f"{self.quantisation} int8"
        return f"{self.quantisation} int8 or fp32 by {self.space.by}"

    @property
    def runtime_note(self) -> str:
        """A warning for reports where the target's runtime is not the one that is lowered for."""
        if self.target.runtime in RUNTIMES:
            return ""
        return (
            f"; kernels as {RUNTIMES[0]} fuses them, which {self.target.runtime} may do otherwise"
        )

    def latency_ms(self, genes: Genes) -> Values:
        """The latency alone, length `n`: the quick way, by joint look-ups (`lookup`).

        Raises:
            BadInputError: Genes that are none of the space's.
        """
        genes = checked_genes(self.space, genes)
        added, kinds = self._latency_lookup(genes)
        return np.asarray(self.base_ms + added + self._first_table[kinds])

    def kernel_sum_ms(self, genes: Genes) -> Values:
        """The same latency kernel by kernel: a look-up for each instead of one for many."""
        genes = checked_genes(self.space, genes)
        total = np.full(len(genes), self.base_ms)
        kinds = np.zeros(len(genes), np.uint16)
        has_first = bool(self.first_ms.any())
        for codes in self.lowering.tabulation.codes(genes):
            total += self._flat_ms.take(codes)
            if has_first:
                kinds |= self._bits.take(codes)
        return np.asarray(total + self._first_table[kinds])

    @property
    def lookups(self) -> int:
        """How many look-ups the latency of one architecture takes."""
        return self._latency_lookup.groups

    @cached_property
    def _latency_lookup(self) -> JointLookup:
        sizes = self.space.gene_space.sizes
        bits = self._bits if self.first_ms.any() else np.zeros_like(self._bits)
        return JointLookup(self.lowering.tabulation, sizes, self._flat_ms.astype(np.float64), bits)

    @cached_property
    def _energy_lookup(self) -> JointLookup:
        """The dynamic energy of the kernels."""
        sizes, energy = self.space.gene_space.sizes, self.ceiling.energy_mj
        return JointLookup(self.lowering.tabulation, sizes, energy, np.zeros_like(self._bits))

    @cached_property
    def _flat_ms(self) -> npt.NDArray[np.float32]:
        return self.kernel_ms.astype(np.float32)

    @cached_property
    def _bits(self) -> npt.NDArray[np.uint16]:
        return kind_bits(self.lowering)

    @cached_property
    def _first_table(self) -> Values:
        """For every set of kinds what their first kernels cost."""
        table = np.zeros(1)
        for first in self.first_ms:
            table = np.concatenate([table, table + first])
        return table

    def _parts_of_ms(self, genes: Genes, codes: npt.NDArray[np.intp]) -> Values:
        """The latency of each kernel of each network, where it may depend on the others."""
        return self._parts_ms(codes)

    def _parts_ms(self, codes: npt.NDArray[np.intp]) -> Values:
        """The latency of each kernel of each network, `kernels x n`; first ones pay for it."""
        parts = self._flat_ms[codes].astype(np.float64)
        bits = self._bits[codes]
        for kind in np.flatnonzero(self.first_ms):
            of_kind = (bits >> kind) & 1 > 0
            there = np.flatnonzero(of_kind.any(axis=0))
            parts[of_kind.argmax(axis=0)[there], there] += self.first_ms[kind]
        return parts

    def costs(self, genes: Genes) -> Costs:
        """All costs of an `n x d` array of genes.

        Raises:
            BadInputError: Genes that are none of the space's.
        """
        genes = checked_genes(self.space, genes)
        codes = self.lowering.tabulation.codes(genes)
        parts = self._parts_of_ms(genes, codes)
        latency = self.base_ms + parts.sum(axis=0)
        origin = self.origin[codes]
        shares = [(parts * (origin == k)).sum(axis=0) / parts.sum(axis=0) for k in range(3)]
        low, high = (conformal_quantile(self.ratios, p) for p in (0.05, 0.95))
        energy = self._energy_mj(genes, latency)
        energy_low, energy_high = self.ceiling.energy_interval_mj(energy, latency)
        return Costs(
            latency_ms=latency,
            latency_low_ms=latency * low,
            latency_high_ms=latency * high,
            energy_mj=energy,
            energy_low_mj=energy_low,
            energy_high_mj=energy_high,
            peak_memory_bytes=self.peak_memory_bytes(genes),
            flash_bytes=self.flash_bytes(genes),
            measured=shares[0],
            interpolated=shares[1],
            analytic=shares[2],
        )

    def predict(self, genes: Genes) -> Mapping[str, Values]:
        """The metrics by name, arrays of length `n`, each computed when it is asked for."""
        genes = checked_genes(self.space, genes)
        return OnDemand({
            "latency_ms": lambda: self.latency_ms(genes),
            "energy_mj": lambda: self._energy_mj(genes, self.latency_ms(genes)),
            "peak_memory_bytes": lambda: self.peak_memory_bytes(genes),
            "flash_bytes": lambda: self.flash_bytes(genes),
        })  # fmt: skip

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Values:
        """The value that a measurement stays below with the given probability.

        For a latency that rests on measurements it comes from the ratios of measured to predicted
        latency of networks that were not fitted on (split conformal prediction, Vovk et al.,
        2005). Where nothing was measured, and for the other metrics, it is the prediction itself.

        Raises:
            UnknownNameError: No such metric.
            BadInputError: A probability that is not within 0 and 1.
        """
        check_probability(probability)
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        if metric == "latency_ms":
            factor = conformal_quantile(self.ratios, probability) if len(self.ratios) else 1.0
            return self.latency_ms(genes) * factor
        if metric == "peak_memory_bytes":
            return self.peak_memory_bytes(genes)
        if metric == "flash_bytes":
            return self.flash_bytes(genes)
        genes = checked_genes(self.space, genes)
        return self._energy_mj(genes, self.latency_ms(genes))

    def extremes(self, metric: str) -> tuple[tuple[float, Genes], tuple[float, Genes]] | None:
        """The least and greatest predicted value over all architectures, exact, with their genes.

        None for the peak memory, which is not a sum over kernels.
        """
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        if metric == "peak_memory_bytes":
            return None
        # The values that predictions add up, so that no prediction lies beyond them.
        values, base, first = self._flat_ms.astype(np.float64), self.base_ms, self.first_ms
        if metric == "energy_mj":
            power = self.ceiling.static_power_w
            values = self.ceiling.energy_mj + power * values
            base, first = power * base, power * first
        if metric == "flash_bytes":
            values, base, first = self.weight_bytes.astype(np.float64), 0.0, np.zeros(len(KINDS))
        sums = KindCosts(
            space=self.space,
            table=self.lowering.tabulation,
            values=values,
            bits=self._bits,
            first=first,
        )
        (low, low_genes), (high, high_genes) = sums.least(), sums.greatest()
        return (base + low, low_genes), (base + high, high_genes)

    def peak_memory_bytes(self, genes: Genes) -> Values:
        """Weights plus the activations that are alive at once.

        The images count too; on a microcontroller weights do not, they lie in flash
        (`latency_models.memory`). Every value takes as many bytes as the target's precision says,
        in onnxruntime's int8 files as in fp32; a model that knows better what runs says so in
        `weight_bytes` and `activation_bytes`.
        """
        genes = checked_genes(self.space, genes)
        return self.memory.ram_bytes(genes, self._weights(genes)).astype(np.float64)

    @cached_property
    def memory(self) -> MemoryModel:
        """What activations take."""
        block, width = self.lowering.channel_block, self.activation_bytes
        return MemoryModel(self.space, self.target, block, width)

    def flash_bytes(self, genes: Genes) -> Values:
        """What the weights take, in flash on a microcontroller and in the file elsewhere."""
        return self._weights(checked_genes(self.space, genes)).astype(np.float64)

    def _weights(self, genes: Genes) -> npt.NDArray[np.int64]:
        codes = self.lowering.tabulation.codes(genes)
        return np.asarray(self.weight_bytes[codes].sum(axis=0))

    @property
    def weight_bytes(self) -> npt.NDArray[np.int64]:
        """What the weights of every variant of every kernel take."""
        table = self.lowering.tabulation
        small, width = in_int8(table), BYTES_PER_VALUE[self.target.precision]
        each = width if small is None else np.where(small, width, BYTES_PER_VALUE["fp32"])
        return np.asarray(each * table.columns["weight_elements"])

    @property
    def activation_bytes(self) -> int:
        """What a value between kernels takes; 4 where some blocks may be in fp32."""
        if isinstance(self.space, WithBlockPrecision):
            return BYTES_PER_VALUE["fp32"]
        return value_bytes(self.target)

    def parts(self, row: Genes) -> list[Part]:
        """Where the latency of one architecture goes, kernel by kernel, beside the ceiling.

        Args:
            row: Genes of one architecture.
        """
        row = checked_genes(self.space, row)
        codes = self.lowering.tabulation.codes(row)
        latencies = self._parts_of_ms(row, codes)[:, 0]
        flat = self.lowering.tabulation.columns
        return [
            Part(
                name=kernel.name,
                kind=KINDS[flat["kind"][code]],
                latency_ms=float(latency),
                compute_ms=float(self.ceiling.compute_ms[code]),
                memory_ms=float(self.ceiling.memory_ms[code]),
            )
            for kernel, code, latency in zip(
                self.lowering.kernels, codes[:, 0], latencies, strict=True
            )
            if flat["active"][code]
        ]

    def deploy(
        self,
        subnet: Subnet,
        architecture: Architecture,
        folder: str | Path,
        facts: Mapping[str, Any],
        *,
        data: ImageData | None = None,
        seconds: float = 0.0,
        images: torch.Tensor | None = None,
        calibration_images: torch.Tensor | None = None,
    ) -> Bundle:
        """Exports a subnet into a bundle, with what was predicted before it is measured.

        For an int8 target the file is in int8, made as `quantisation` says, except for the blocks
        that the architecture has in fp32.

        Args:
            subnet: The network.
            architecture: Its choices.
            folder: A new folder.
            facts: Whatever else belongs on the record (accuracy, weights hash, seeds).
            data: Gives the images for all that follows, and the test split that the file's
                accuracy is read on.
            seconds: How long the fastest kernels are looked for (`select_kernels`); 0 takes the
                default ones. What changes accuracy is judged on the search-validation images of
                `data`: without them an fp32 target gets exact forms in fp32 alone, and the notes
                of the bundle's selection say so.
            images: Real images for the comparison with torch.
            calibration_images: Training images for static int8.

        Raises:
            BadInputError: Static int8 without calibration images.
        """
        interface, selection = Interface(), None
        if data is not None:
            interface = Interface(class_names=data.class_names, normalisation=data.normalisation)
            images = data.validation.images[:128] if images is None else images
            if calibration_images is None:
                calibration_images = data.train.images[:256]
        if seconds:
            selection = select_kernels(
                subnet,
                self.target,
                runner=self.runner,
                validation=None if data is None else data.validation,
                calibration_images=calibration_images,
                seconds=seconds,
                quantisation=self.quantisation,
                fp32_blocks=self.fp32_blocks(subnet, architecture),
            )
        return deploy(
            subnet,
            folder,
            target=self.target,
            architecture=architecture.to_json(),
            space=self.space.to_json(),
            predicted=self.record(self.space.encode(architecture)),
            facts=facts,
            runner=self.runner,
            images=images,
            quantisation=self.quantisation,
            calibration_images=calibration_images,
            fp32_blocks=self.fp32_blocks(subnet, architecture),
            selection=selection,
            interface=interface,
            test=None if data is None else data.test,
        )

    def fp32_blocks(self, subnet: Subnet, architecture: Architecture) -> tuple[str, ...]:
        """The stages or blocks of a network that stay in fp32 in an int8 target's file."""
        if not isinstance(self.space, WithBlockPrecision):
            return ()
        names = [layer.name for layer in subnet.graph.layers]
        chosen = self.space.fp32_blocks(self.space.encode(architecture))
        return tuple(b for b in chosen if any(is_within(name, b) for name in names))

    def record(self, genes: Genes) -> dict[str, Any]:
        """The costs of one architecture as JSON-ready values with their sources."""
        return recorded(self.costs(genes), self.latency_source, self.energy_source)

    def _energy_mj(self, genes: Genes, latency_ms: Values) -> Values:
        dynamic, _ = self._energy_lookup(genes)
        return np.asarray(dynamic + self.ceiling.static_power_w * latency_ms)


def channel_block(target: Target) -> int:
    """Channels that the runtime's convolutions handle together on the target."""
    wide = any(name.startswith("avx512") for name in target.profile.instruction_sets)
    return 16 if wide else 8
