"""Systolic arrays, output- and weight-stationary, in closed form.

A convolution is a matrix product of `pixels x depth` inputs and `depth x filters` weights; an
array of `R x C` PEs computes it fold by fold. Operands enter at the edges, skewed by one cycle a
row and column, and move on by one PE a cycle.

Output-stationary: a fold is `R` pixels by `C` filters. Each PE sums its own output over `depth`
cycles; the last PE begins `R + C - 2` cycles after the first; then `R` cycles shift the outputs
out:

    cycles of a fold = 2 R + C + depth - 2

Weight-stationary: a fold is `R` of the depth by `C` filters. `R` cycles load the weights, pixels
stream through, sums go down the columns into the output buffer, where the folds of the depth add
up:

    cycles of a fold = 2 R + C + pixels - 2

(Samajdar et al., SCALE-Sim, arXiv 1811.02883 and ISPASS 2020.) A fold begins when the one before
has ended, and takes the same time if it does not fill the array.

Memory. The pixels are worked off in tiles of whole output rows, all channels at once. A tile has
as many rows as fit: its window of inputs in the input buffer, and, weight-stationary, its sums
for `C` filters in the output buffer. With large buffers there is one tile. DRAM is read in the
better of two orders of the loops:

- filters outside: the weights of `C` filters are fetched once if they fit in the weight buffer,
  else once a tile of rows; the inputs once if all of a group fit, else once for each `C` filters;
- rows outside: the inputs are fetched once (windows overlap, rows that are held are not fetched
  again); the weights once if all of a group fit, else once a tile of rows.

Sums never leave the chip. Groups, and so the channels of a depthwise convolution, run one after
the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latency_models.accelerator.counts import (
    FITS,
    LIMITS,
    Counts,
    Device,
    Integers,
    divide_up,
    lesser_traffic,
)
from latency_models.accelerator.product import Product


def systolic(p: Product, device: Device, is_weight: npt.NDArray[np.bool_]) -> Counts:
    """Counts nests on systolic arrays.

    Args:
        p: Nests.
        device: Columns of the device.
        is_weight: Whether weights stay in the PEs; elsewhere outputs do.
    """
    height, width = device["rows"], device["columns"]
    tile_rows, lacks = _tile_rows(p, device, is_weight)
    tiles = divide_up(p.rows, tile_rows)
    last = p.rows - (tiles - 1) * tile_rows
    filter_folds = divide_up(p.filters, width)
    depth_folds = divide_up(p.depth, height)
    pixel_folds = (tiles - 1) * divide_up(tile_rows * p.columns, height) + divide_up(
        last * p.columns, height
    )
    fill = 2 * height + width - 2
    cycles = p.groups * filter_folds * np.where(
        is_weight, depth_folds * (tiles * fill + p.pixels), pixel_folds * (fill + p.depth)
    )  # fmt: skip
    macs = p.macs
    weight_reads = p.groups * p.weights * np.where(is_weight, tiles, pixel_folds)
    handed_down = p.outputs * (p.depth - depth_folds)  # sums that come from the PE above
    array = np.where(is_weight, macs + handed_down + weight_reads, 2 * macs)
    sums = p.outputs * np.where(is_weight, 2 * depth_folds - 1, 1)
    dram_weights, dram_inputs = _fetched(p, device, tiles, filter_folds)
    return Counts(
        macs=macs,
        cycles=cycles,
        registers=4 * macs,
        array=array,
        weight_buffer=weight_reads + dram_weights,
        input_buffer=p.groups * p.pixels * p.depth * filter_folds + dram_inputs,
        output_buffer=sums + p.outputs,
        dram_weights=dram_weights,
        dram_inputs=dram_inputs,
        dram_outputs=p.outputs + 0 * dram_inputs,
        lacks=lacks,
    )


def _tile_rows(
    p: Product, device: Device, is_weight: npt.NDArray[np.bool_]
) -> tuple[Integers, Integers]:
    """Output rows of a tile (at least 1), and what is too small for a tile of one row."""
    height, width = device["rows"], device["columns"]
    held = p.most_rows(device["input_buffer_bytes"] // device["bytes_per_value"])
    sums = device["output_buffer_bytes"] // device["psum_bytes"]
    filters = np.minimum(p.filters, width)
    summed = np.where(
        is_weight,
        np.minimum(sums // (filters * p.columns), p.rows),
        np.where(sums >= filters * np.minimum(height, p.pixels), p.rows, 0),
    )
    lacks = np.where(
        held < 1,
        LIMITS.index("input_buffer_bytes"),
        np.where(summed < 1, LIMITS.index("output_buffer_bytes"), FITS),
    )
    return np.maximum(np.minimum(held, summed), 1), lacks


def _fetched(
    p: Product, device: Device, tiles: Integers, filter_folds: Integers
) -> tuple[Integers, Integers]:
    """Weights and inputs fetched from DRAM."""
    width, size = device["columns"], device["bytes_per_value"]
    room_weights = device["weight_buffer_bytes"] // size
    room_inputs = device["input_buffer_bytes"] // size
    weights, inputs = p.groups * p.weights, p.groups * p.inputs
    held = p.depth * np.minimum(p.filters, width) <= room_weights
    filters_outside = (
        weights * np.where(held, 1, tiles),
        inputs * np.where(p.inputs <= room_inputs, 1, filter_folds),
    )
    rows_outside = (weights * np.where(p.weights <= room_weights, 1, tiles), inputs + 0 * tiles)
    return lesser_traffic(filters_outside, rows_outside)
