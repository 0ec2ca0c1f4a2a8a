"""Whether a fully-int8 `.tflite` file fits a microcontroller: its flash and its memory.

Flash holds the file (weights, graph). Memory holds the tensors that are alive at the same time, in
one piece that the interpreter plans beforehand: tensors are placed from the largest to the
smallest, each at the lowest place that is free for as long as it is used (the greedy planner of
TensorFlow Lite for Microcontrollers, `memory_planner/greedy_memory_planner.cc`; after Pisarchyk
and Lee, Efficient Memory Management for Deep Neural Net Inference, arXiv 2001.03288).

Not counted, because they depend on the build: the interpreter's own code (some 50 to 150 KB of
flash with the kernels that a network needs), scratch buffers of kernels, and the interpreter's
records of tensors and nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hardware_profiles import Profile
from records import BadInputError

ALIGNMENT = 16
"""Bytes that the interpreter aligns tensors to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """A tensor of activations.

    Attributes:
        size_bytes: Its size.
        first: The operation that writes it; -1 for the input.
        last: The last one that reads it; the number of operations for the output.
    """

    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a file needs of a microcontroller, and what there is.

    Attributes:
        device: The profile's name.
        flash_bytes: Of the file.
        flash_limit_bytes: Of the device; None where the profile does not say.
        ram_bytes: Of the tensors, as the interpreter places them.
        ram_limit_bytes: Of the device; None where the profile does not say.
    """

    device: str
    flash_bytes: int
    flash_limit_bytes: int | None
    ram_bytes: int
    ram_limit_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether both are within what is known."""
        return not self.excess

    @property
    def excess(self) -> tuple[str, ...]:
        """What is too much, in words."""
        pairs = (
            ("flash", self.flash_bytes, self.flash_limit_bytes),
            ("memory", self.ram_bytes, self.ram_limit_bytes),
        )
        return tuple(
            f"{what}: {needed / 1024:.0f} KB needed, {limit / 1024:.0f} KB there"
            for what, needed, limit in pairs
            if limit is not None and needed > limit
        )


def fit_of(profile: Profile, file_bytes: int, tensors: Sequence[Lifetime]) -> Fit:
    """Whether a file fits a device.

    Args:
        profile: The device, with `flash_bytes` and `ram_bytes`.
        file_bytes: Size of the file.
        tensors: Its activations.

    Raises:
        BadInputError: The profile tells neither its flash nor its memory.
    """
    if profile.flash_bytes is None and profile.ram_bytes is None:
        raise BadInputError(
            f"the profile of {profile.name!r} tells neither its flash_bytes nor its ram_bytes: "
            "add them, or choose a microcontroller"
        )
    flash, ram = profile.flash_bytes, profile.ram_bytes
    return Fit(
        device=profile.name,
        flash_bytes=file_bytes,
        flash_limit_bytes=None if flash is None else int(flash.value),
        ram_bytes=planned_bytes(tensors),
        ram_limit_bytes=None if ram is None else int(ram.value),
    )


def planned_bytes(tensors: Sequence[Lifetime]) -> int:
    """The memory that tensors need when they are placed from the largest to the smallest.

    >>> a = Lifetime(size_bytes=64, first=-1, last=0)
    >>> b = Lifetime(size_bytes=32, first=0, last=1)
    >>> c = Lifetime(size_bytes=64, first=1, last=2)
    >>> planned_bytes([a, b, c])
    96
    """
    placed: list[tuple[int, int, Lifetime]] = []  # start, end, tensor
    for tensor in sorted(tensors, key=lambda t: (-t.size_bytes, t.first)):
        size = -(-tensor.size_bytes // ALIGNMENT) * ALIGNMENT
        start = 0
        for other_start, other_end, other in sorted(placed, key=lambda p: p[:2]):
            if other.first > tensor.last or tensor.first > other.last:
                continue  # never alive together
            if other_start - start >= size:
                break
            start = max(start, other_end)
        placed.append((start, start + size, tensor))
    return max((end for _, end, _ in placed), default=0)


def alive_bytes(tensors: Sequence[Lifetime]) -> int:
    """The most that is alive at once: what no plan can stay below."""
    steps = range(-1, max((t.last for t in tensors), default=-1) + 1)
    return max(sum(t.size_bytes for t in tensors if t.first <= step <= t.last) for step in steps)
