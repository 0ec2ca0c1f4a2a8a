"""The roofline of every kernel: what a data sheet says that it must take at least.

    time = launch + max(operations / peak, bytes / bandwidth)

(Williams et al., Roofline, CACM 2009), an operation being half a MAC. The bandwidth is that of the
nearest memory level that holds the kernel's inputs, outputs and weights. The energy is

    energy = operations * pJ/op + bytes * pJ/byte + static power * latency

with the energy of the same level. Numbers that a profile does not have are left out, and the
sources say so: no number is made up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deployment import Lowering
from deployment.quantisation.kernel_precision import in_int8
from hardware_profiles import MemoryLevel, Profile, Target, with_reference_energy

Values = npt.NDArray[np.float64]
BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "bf16": 2, "int16": 2, "int8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """For every variant of every kernel of a lowering its least time and its energy.

    Attributes:
        launch_ms: Fixed time of a kernel; 0 where the profile has none.
        compute_ms: Operations over the peak rate.
        memory_ms: Bytes over the bandwidth of the level that holds them; 0 where unknown.
        energy_mj: Dynamic energy.
        static_power_w: Power that flows as long as the network runs; 0 where unknown.
        energy_source: What the energy rests on, in words.
        missing: What the profile does not tell.
        power_range_w: Idle and peak power of the device; NaN where unknown.
        energy_ratios: Sorted ratios of measured to predicted energy of left-out networks; empty
            where no energy was measured.
    """

    launch_ms: Values
    compute_ms: Values
    memory_ms: Values
    energy_mj: Values
    static_power_w: float
    energy_source: str
    missing: tuple[str, ...]
    power_range_w: tuple[float, float] = (math.nan, math.nan)
    energy_ratios: tuple[float, ...] = ()

    @property
    def latency_ms(self) -> Values:
        """The roofline of every variant."""
        return np.asarray(self.launch_ms + np.maximum(self.compute_ms, self.memory_ms))

    def energy_interval_mj(self, energy_mj: Values, latency_ms: Values) -> tuple[Values, Values]:
        """Between what the energies lie, arrays of length `n`; NaN where unknown.

        From measured networks, the range of the ratios of those left out; otherwise from idle to
        peak power over the latency.
        """
        if self.energy_ratios:
            return energy_mj * self.energy_ratios[0], energy_mj * self.energy_ratios[-1]
        idle, peak = self.power_range_w
        return latency_ms * idle, latency_ms * peak

    def with_energy(
        self, *, energy_mj: Values, static_power_w: float, source: str, ratios: tuple[float, ...]
    ) -> Ceiling:
        """The same with an energy that was fitted to measurements."""
        return replace(
            self,
            energy_mj=energy_mj,
            static_power_w=static_power_w,
            energy_source=source,
            energy_ratios=ratios,
        )

    @staticmethod
    def of(target: Target, lowering: Lowering) -> Ceiling:
        """Computes it from the target's profile.

        Where the precision of each block is a choice, kernels in fp32 have the ceiling of the
        same target in fp32.

        Raises:
            BadInputError: The device has no peak for fp32, and some blocks may be in fp32.
        """
        own = Ceiling._of(target, lowering)
        small = in_int8(lowering.tabulation)
        if small is None:
            return own
        fp32 = Ceiling._of(replace(target, precision="fp32"), lowering)
        names = ("launch_ms", "compute_ms", "memory_ms", "energy_mj")
        both = {n: np.where(small, getattr(own, n), getattr(fp32, n)) for n in names}
        source = own.energy_source
        if fp32.energy_source != source:
            source = f"{source}; kernels in fp32: {fp32.energy_source}"
        missing = (*own.missing, *(m for m in fp32.missing if m not in own.missing))
        return replace(own, **both, energy_source=source, missing=missing)

    @staticmethod
    def _of(target: Target, lowering: Lowering) -> Ceiling:
        """All kernels in the target's own precision."""
        flat = lowering.tabulation.columns
        missing: list[str] = []
        width = BYTES_PER_VALUE[target.precision]
        moved = width * (flat["read_elements"] + flat["write_elements"] + flat["weight_elements"])
        operations = 2.0 * flat["macs"]
        launch = target.profile.kernel_launch_us
        if launch is None:
            missing.append("kernel launch time")
        memory_ms, pj_per_byte = _memory(target, moved.astype(np.float64), missing)
        energetic = with_reference_energy(target.profile)
        per_op = energetic.pj_per_op.get(target.precision)
        if per_op is None:
            missing.append(f"energy per {target.precision} operation")
        energy_pj = operations * (per_op.value if per_op else 0.0) + moved * pj_per_byte
        idle = target.profile.idle_power_w
        if idle is None:
            missing.append("idle power")
        own = target.precision in target.profile.pj_per_op
        origin = "the profile's energies" if own else "45 nm reference energies"
        return Ceiling(
            launch_ms=flat["active"] * (launch.value * 1e-3 if launch else 0.0),
            compute_ms=operations / (target.peak_gflops().value * 1e6),
            memory_ms=memory_ms,
            energy_mj=energy_pj * 1e-9,
            static_power_w=idle.value if idle else 0.0,
            energy_source=f"modelled: {origin}"
            + ("" if per_op else f", without {target.precision} operations (unknown)")
            + ("" if idle else ", without static power (unknown)"),
            missing=tuple(missing),
            power_range_w=(
                idle.value if idle else math.nan,
                peak.value if (peak := target.profile.peak_power_w) else math.nan,
            ),
        )


def _memory(target: Target, moved: Values, missing: list[str]) -> tuple[Values, Values]:
    """Time and pJ per byte for moving bytes from the nearest level that holds them."""
    profile: Profile = with_reference_energy(target.profile)
    time_ms = np.zeros_like(moved)
    pj_per_byte = np.zeros_like(moved)
    if not profile.memory:
        missing.append("memory")
    missing += [f"size of {level.name}" for level in profile.memory[:-1] if not level.size_bytes]
    for level, here in held_by(profile, moved):
        bandwidth = target.bandwidth(level)
        if bandwidth is None:
            missing.append(f"bandwidth of {level.name}")
        else:
            time_ms[here] = moved[here] / (bandwidth.value * 1e6)
        energy = profile.pj_per_byte.get(level.name)
        if energy is None:
            missing.append(f"energy per byte of {level.name}")
        else:
            pj_per_byte[here] = energy.value
    return time_ms, pj_per_byte


def held_by(
    profile: Profile, working_set: Values
) -> Iterator[tuple[MemoryLevel, npt.NDArray[np.bool_]]]:
    """The memory levels of a device, each with the working sets that it is the nearest to hold.

    Levels of unknown size hold nothing; the last one holds whatever is left.

    Args:
        profile: The device.
        working_set: Bytes, an array.

    Yields:
        A level, and a mask of the same length.
    """
    left = np.ones(len(working_set), bool)
    for level in profile.memory:
        if level is profile.memory[-1]:
            yield level, left
        elif level.size_bytes is not None:
            here = left & (working_set <= level.size_bytes.value)
            yield level, here
            left = left & ~here
