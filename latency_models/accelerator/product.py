"""The loop nest that an array runs, and how it is counted.

A convolution, a linear map and each product of attention are one nest:

    for group, filter m, output row e, output column f:
        sum over channel c, kernel row i, kernel column j of
            weight[m, c, i, j] * input[c, e * stride + i * dilation, f * stride + j * dilation]

The images of a batch are stacked: `rows` are those of all images. A linear map is a nest with a
kernel of 1; of a vector an image, the rows are the images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from hardware_profiles import DATAFLOWS
from latency_models.accelerator.counts import Counts, Device, Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A nest, or many: integer arrays that broadcast against each other and a device.

    Attributes:
        groups: Nests of this kind, each with operands of its own.
        filters: Output channels of a group.
        channels: Input channels of a group.
        kernel: Side of the kernel.
        dilation: Distance of two taps.
        stride: Distance of two windows.
        rows: Output rows of all images.
        columns: Output columns.
        in_rows: Input rows of all images.
        in_columns: Input columns.
    """

    groups: Integers
    filters: Integers
    channels: Integers
    kernel: Integers
    dilation: Integers
    stride: Integers
    rows: Integers
    columns: Integers
    in_rows: Integers
    in_columns: Integers

    @classmethod
    def of(cls, **sizes: npt.ArrayLike) -> Self:
        """A nest from plain numbers or arrays; 1 unless given, inputs as large as outputs."""
        given = {f.name: sizes.get(f.name, 1) for f in fields(cls)}
        for outputs, inputs in (("rows", "in_rows"), ("columns", "in_columns")):
            if inputs not in sizes:
                given[inputs] = sizes.get(outputs, 1)
        return cls(**{name: np.asarray(value, np.int64) for name, value in given.items()})

    def at(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Self:
        """The nests at some places of one-dimensional arrays."""
        shape = np.broadcast_shapes(*(getattr(self, f.name).shape for f in fields(self)))
        whole = {f.name: np.broadcast_to(getattr(self, f.name), shape) for f in fields(self)}
        return type(self)(**{name: value[index] for name, value in whole.items()})

    @property
    def depth(self) -> Integers:
        """Products that one output sums."""
        return self.channels * self.kernel * self.kernel

    @property
    def span(self) -> Integers:
        """Input rows from the first to the last tap."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def pixels(self) -> Integers:
        """Output positions of all images."""
        return self.rows * self.columns

    @property
    def macs(self) -> Integers:
        return self.groups * self.filters * self.depth * self.pixels

    @property
    def weights(self) -> Integers:
        """Weights of one group."""
        return self.filters * self.depth

    @property
    def inputs(self) -> Integers:
        """Input values of one group, without padding."""
        return self.in_rows * self.in_columns * self.channels

    @property
    def outputs(self) -> Integers:
        """Output values of all groups."""
        return self.groups * self.filters * self.pixels

    def window(self, rows: Integers, span: Integers) -> Integers:
        """Input rows under `rows` output rows and `span` taps; gaps are left out."""
        window = rows * np.minimum(self.stride, span) + np.maximum(span - self.stride, 0)
        return np.asarray(window)

    def most_rows(self, input_values: Integers) -> Integers:
        """Output rows whose window with all channels fits in so many values; 0 for none."""
        held = input_values // (self.channels * self.in_columns)
        fit = (held - np.maximum(self.span - self.stride, 0)) // np.minimum(self.stride, self.span)
        return np.where(held >= self.in_rows, self.rows, np.clip(fit, 0, self.rows))


def count(product: Product, device: Device) -> Counts:
    """Counts nests on a device, each with the device's dataflow.

    Args:
        product: Nests.
        device: The columns of an `Accelerator`, integer arrays that broadcast with the nests.
    """
    from latency_models.accelerator.row_stationary import row_stationary
    from latency_models.accelerator.systolic import systolic

    dataflow = np.asarray(device["dataflow"])
    row = dataflow == DATAFLOWS.index("row")
    if row.all():
        return row_stationary(product, device)
    arrays = systolic(product, device, dataflow == DATAFLOWS.index("weight"))
    return row_stationary(product, device).where(row, arrays) if row.any() else arrays
