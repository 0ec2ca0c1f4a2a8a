"""What a subnet needs of a target's memory: weights, and activations by the runtime's own plan.

On onnxruntime in fp32 the activations are those that it reports itself
(`deployment.memory.reading` reads them): its order of execution, its reuse of buffers, the padding
of channels, the scratch space of attention and of convolutions with groups, and the rounding of
its arena are followed (`deployment.memory.plan`).

Its int8 files are counted as if they were in fp32, because bytes exist beside float32 and hardly
in its place: in dynamic files every value between kernels is float32, so the plan is what they
take; in static ones a convolution writes bytes, which are brought back to float32 for activations,
sums and whatever else is not in 8 bits, and it needs scratch space that is not known here. Twelve
static files of the own spaces, mixed ones among them, took 0.87 to 1.5 times the plan.

Elsewhere, where
no such plan is known, every kernel writes a tensor that lives from the kernel that writes it to
the last that reads it, without padding; a folded sum is written in place. A value takes as many
bytes as the target's precision says: one for int8.

The images stay in memory while the network runs, so they count. On a microcontroller weights lie
in flash and everything else in RAM, so its peak memory is without the weights.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from deployment.memory.order import in_order
from deployment.memory.plan import planned
from deployment.memory.steps import MemorySteps
from hardware_profiles import Target
from latency_models.ceiling import BYTES_PER_VALUE
from latency_models.inputs import check_target
from records import BadInputError
from search_spaces import Genes, SearchSpace

Counts = npt.NDArray[np.int64]

CHUNK = 512
"""Networks that are planned together; more do not fit a cache."""


def device_limits(target: Target) -> dict[str, float]:
    """What a target's memories hold, as `limits=` of a problem takes it.

        Problem(space, accuracy, [costs], limits={**device_limits(target), "latency_ms": 50})

    On a microcontroller `peak_memory_bytes` is all of its RAM and `flash_bytes` all of its flash;
    elsewhere `peak_memory_bytes` is the main memory. The program and the runtime need their share
    of it too: take it off where it counts. A limit by metric alone holds on every target of a
    problem; for one of several, use the pair (metric, target name) as the key.

    Raises:
        BadInputError: The profile knows the size of neither.
    """
    check_target(target)
    profile = target.profile
    ram = profile.ram_bytes
    if ram is None and profile.main_memory is not None:
        ram = profile.main_memory.size_bytes
    known = {"peak_memory_bytes": ram, "flash_bytes": profile.flash_bytes}
    limits = {metric: size.value for metric, size in known.items() if size is not None}
    if not limits:
        raise BadInputError(
            f"the profile of {profile.name!r} tells the size of no memory: add ram_bytes, "
            "flash_bytes or the size of its main memory"
        )
    return limits


def value_bytes(target: Target) -> int:
    """What a value between kernels takes: as the precision says, 4 in onnxruntime's int8 files."""
    if target.precision == "int8" and target.runtime == "onnxruntime":
        return BYTES_PER_VALUE["fp32"]
    return BYTES_PER_VALUE[target.precision]


class MemoryModel:
    """The activations of a space's networks on a target.

    Args:
        space: The search space.
        target: The target.
        channel_block: Channels that the runtime's convolutions handle together.
        bytes_per_value: Of a value between kernels; `value_bytes` of the target unless given.
    """

    def __init__(
        self,
        space: SearchSpace,
        target: Target,
        channel_block: int = 8,
        bytes_per_value: int | None = None,
    ) -> None:
        self.space = space
        self.target = target
        self.bytes_per_value = bytes_per_value or value_bytes(target)
        self.is_planned = target.runtime == "onnxruntime" and self.bytes_per_value == 4
        """Whether onnxruntime's own plan is followed."""
        self._steps = MemorySteps(
            space,
            batch_size=target.batch_size,
            channel_block=channel_block if self.is_planned else 1,
            threads=target.threads if self.is_planned else None,
        )

    @property
    def weights_in_flash(self) -> bool:
        """Whether weights take no RAM."""
        return self.target.profile.kind == "microcontroller"

    @property
    def source(self) -> str:
        """What the peak rests on, in words for reports."""
        if self.is_planned:
            return "planned as onnxruntime does, arena included"
        return f"planned by liveness, {self.bytes_per_value} bytes a value, without padding"

    @cached_property
    def image_bytes(self) -> int:
        """The images of one run."""
        values = self.space.channels * self.space.image_size**2
        return self.target.batch_size * self.bytes_per_value * values

    def activation_bytes(self, genes: Genes) -> Counts:
        """The most that tensors and scratch space take at once, images apart, length `n`."""
        parts = [
            self._activations(genes[start : start + CHUNK])
            for start in range(0, len(genes), CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _activations(self, genes: Genes) -> Counts:
        schedule = in_order(self._steps.steps(genes))
        if self.is_planned:
            return planned(schedule).arena_peak_bytes
        return planned(schedule, keeps_buffers=False).peak_bytes * self.bytes_per_value // 4

    def ram_bytes(self, genes: Genes, weight_bytes: Counts) -> Counts:
        """Images, activations and, unless they lie in flash, weights, an array of length `n`.

        Args:
            genes: An `n x d` array.
            weight_bytes: What the weights of each take, length `n`.
        """
        needed = self.activation_bytes(genes) + self.image_bytes
        return needed if self.weights_in_flash else needed + weight_bytes
