"""What is counted of a layer on an accelerator, and the memory that it needs at least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError

Integers: TypeAlias = npt.NDArray[np.int64]
Device: TypeAlias = Mapping[str, npt.NDArray[Any]]

FITS = 0
LIMITS = (
    "",
    "input_buffer_bytes",
    "output_buffer_bytes",
    "register_inputs",
    "register_weights",
)
"""What can be too small for the smallest tile of a layer; `Counts.lacks` holds the index."""


class DoesNotFitError(BadInputError):
    """A layer's smallest tile is larger than a memory of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Cycles and accesses of layers, integer arrays of one shape.

    Accesses are to single values. A value that goes between DRAM and the array passes a buffer;
    the buffers' accesses include that (one a value).

    Attributes:
        macs: Multiply-accumulates in the array.
        cycles: From the first operand to the last output, if no memory makes the array wait.
        registers: Accesses to registers of PEs: four a MAC (two operands, sum read and written).
        array: Values that PEs receive from a neighbour or a buffer.
        weight_buffer: Reads and fills.
        input_buffer: Reads and fills.
        output_buffer: Writes and reads of sums, and outputs read on their way to DRAM.
        dram_weights: Values fetched; second operands of attention count as weights.
        dram_inputs: Values fetched.
        dram_outputs: Values written.
        lacks: Which memory is too small for the smallest tile, an index of `LIMITS`; 0 for none.
    """

    macs: Integers
    cycles: Integers
    registers: Integers
    array: Integers
    weight_buffer: Integers
    input_buffer: Integers
    output_buffer: Integers
    dram_weights: Integers
    dram_inputs: Integers
    dram_outputs: Integers
    lacks: Integers

    @property
    def dram(self) -> Integers:
        """All values from and to DRAM."""
        return self.dram_weights + self.dram_inputs + self.dram_outputs

    @property
    def buffers(self) -> Integers:
        """All accesses to buffers."""
        return self.weight_buffer + self.input_buffer + self.output_buffer

    def where(self, mask: npt.NDArray[np.bool_], other: Self) -> Self:
        """These counts where the mask holds, the other ones elsewhere."""
        return type(self)(
            **{
                f.name: np.where(mask, getattr(self, f.name), getattr(other, f.name))
                for f in fields(self)
            }
        )


def divide_up(a: Any, b: Any) -> Any:
    """`ceil(a / b)` of whole numbers."""
    return -(-a // b)


def lesser_traffic(
    weights_outer: tuple[Integers, Integers], rows_outer: tuple[Integers, Integers]
) -> tuple[Integers, Integers]:
    """The (weights, inputs) fetched from DRAM in the loop order that fetches less in all."""
    first = sum(weights_outer) <= sum(rows_outer)
    return (
        np.where(first, weights_outer[0], rows_outer[0]),
        np.where(first, weights_outer[1], rows_outer[1]),
    )
