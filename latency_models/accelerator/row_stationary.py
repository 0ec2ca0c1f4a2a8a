"""Row-stationary arrays after Eyeriss, in closed form.

A PE keeps a row of a filter and slides it along a row of the input: one output row takes
`columns * kernel` MACs. A set of `kernel x e` PEs makes `e` output rows: filter rows lie in the
rows of the set, output rows in its columns, and the sums of a column go from PE to PE. The array
holds several sets (Chen et al., JSSC 2017, section IV, and ISCA 2016):

    strips = floor(R / kernel)          sets one above the other (a kernel higher than the array
                                        is folded in ceil(kernel / R) parts)
    e      <= C or <= C * strips        a set wider than the array is cut and laid on strips;
                                        of the two limits the one with fewer cycles
    sets   = strips * floor(C / e), or floor(strips / ceil(e / C)) where e > C
    t = min(sets, filters)              sets with other filters
    r = min(sets / t, channels)         sets with other channels, whose sums are added up
    g = min(sets / (t r), groups)       sets with other groups

A PE works on `p` filters and `q` channels in turn, as many as its registers and the output buffer
hold. One pass covers `e` rows, `p t` filters, `q r` channels and `g` groups:

    for group tile: for filter tile: for row tile (or these two the other way round):
        for channel tile: for part of the kernel: one pass

Each PE of a set begins a cycle after the one above it, so a pass takes `kernel rows * r - 1`
cycles more than its MACs. Filters and channels are dealt to the sets one by one, so that

    cycles = group tiles * row tiles * parts * (ceil(filters / t) ceil(channels / r) columns kernel
             + filter tiles * channel tiles * (kernel rows * r - 1))

In a pass the buffers deliver each input row and each weight once, whatever number of PEs takes
them; sums are read from the output buffer and written back. Padding is delivered like inputs.
DRAM is read in the better of the two orders as in `systolic`; inputs that are not held with all
their channels are fetched again, with the rows that windows share, for each tile of filters.

Deviations from the chip: it chooses p, q, r, t and e for each layer by hand or search; zeros are
not skipped and DRAM traffic not compressed; `bandwidth` of a chip's network of wires is only that
of the buffers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """How nests lie on the array, integer arrays; the letters are those of Eyeriss.

    Attributes:
        kernel_rows: Filter rows of a set.
        parts: Parts that the kernel is folded in.
        e: Output rows of a pass.
        t: Sets with other filters.
        r: Sets with other channels.
        g: Sets with other groups.
        p: Filters that a PE holds.
        q: Channels that a PE holds.
        lacks: Which memory is too small, an index of `LIMITS`.
    """

    kernel_rows: Integers
    parts: Integers
    e: Integers
    t: Integers
    r: Integers
    g: Integers
    p: Integers
    q: Integers
    lacks: Integers

    @property
    def active(self) -> Integers:
        """PEs with something to do in a full pass."""
        return self.kernel_rows * self.e * self.t * self.r * self.g


def mapping(n: Product, device: Device) -> Mapping:
    """Lays nests on row-stationary arrays, with wide or narrow sets, whichever is faster."""
    strips = device["rows"] // np.minimum(n.kernel, device["rows"])
    wide = _lay(n, device, strips * device["columns"])
    narrow = _lay(n, device, device["columns"])
    faster = _cycles(n, narrow) < _cycles(n, wide)
    return Mapping(
        **{
            f.name: np.where(faster, getattr(narrow, f.name), getattr(wide, f.name))
            for f in fields(Mapping)
        }
    )


def _lay(n: Product, device: Device, most: Integers) -> Mapping:
    """Lays nests with sets of at most so many output rows."""
    height, width = device["rows"], device["columns"]
    sums = device["output_buffer_bytes"] // device["psum_bytes"]
    kernel_rows = np.minimum(n.kernel, height)
    strips = height // kernel_rows
    e = np.minimum(np.minimum(n.rows, most), np.maximum(sums // n.columns, 1))
    sets = np.where(e <= width, strips * (width // e), strips // divide_up(e, width))
    room = np.maximum(sums // (e * n.columns), 1)  # filters whose sums the output buffer holds
    t = np.minimum(np.minimum(sets, n.filters), room)
    r = np.minimum(sets // t, n.channels)
    g = np.minimum(np.minimum(sets // (t * r), n.groups), room // t)
    g = np.maximum(g, 1)
    inputs, weights = device["register_inputs"], device["register_weights"]
    window = n.window(e, n.span) * n.in_columns
    held = device["input_buffer_bytes"] // device["bytes_per_value"] // (window * r * g)
    q = np.minimum(np.minimum(inputs, weights) // n.kernel, np.minimum(n.channels, held))
    q = np.maximum(q, 1)
    p = np.minimum(weights // (q * n.kernel), device["register_psums"])
    p = np.maximum(np.minimum(np.minimum(p, n.filters), room // (t * g)), 1)
    lacks = np.select(
        [inputs < n.kernel, weights < n.kernel, sums < n.columns, held < 1],
        [
            LIMITS.index(name)
            for name in (
                "register_inputs",
                "register_weights",
                "output_buffer_bytes",
                "input_buffer_bytes",
            )
        ],
        FITS,
    )
    parts = divide_up(n.kernel, kernel_rows)
    return Mapping(kernel_rows=kernel_rows, parts=parts, e=e, t=t, r=r, g=g, p=p, q=q, lacks=lacks)


def _cycles(n: Product, m: Mapping) -> Integers:
    filter_tiles = divide_up(n.filters, m.p * m.t)
    channel_tiles = divide_up(n.channels, m.q * m.r)
    work = divide_up(n.filters, m.t) * divide_up(n.channels, m.r) * n.columns * n.kernel
    fill = filter_tiles * channel_tiles * (m.kernel_rows * m.r - 1)
    passes = divide_up(n.groups, m.g) * divide_up(n.rows, m.e) * m.parts
    return np.asarray(passes * (work + fill))


def row_stationary(n: Product, device: Device) -> Counts:
    """Counts nests on row-stationary arrays."""
    m = mapping(n, device)
    filter_tiles = divide_up(n.filters, m.p * m.t)
    channel_tiles = divide_up(n.channels, m.q * m.r)
    row_tiles = divide_up(n.rows, m.e)
    # input rows that all passes over one filter tile and one channel deliver
    last = n.kernel - (m.parts - 1) * m.kernel_rows
    part_span, last_span = ((k - 1) * n.dilation + 1 for k in (m.kernel_rows, last))
    overlap = [np.maximum(span - n.stride, 0) for span in (part_span, last_span)]
    step = [np.minimum(span, n.stride) for span in (part_span, last_span)]
    rows = (m.parts - 1) * (n.rows * step[0] + row_tiles * overlap[0])
    rows = rows + n.rows * step[1] + row_tiles * overlap[1]
    delivered = n.groups * n.channels * n.in_columns * rows
    weight_reads = n.groups * n.weights * row_tiles
    sums = n.outputs * (2 * channel_tiles * m.parts - 1)
    dram_weights, dram_inputs = _fetched(n, m, device, delivered, filter_tiles, row_tiles)
    macs = n.macs
    return Counts(
        macs=macs,
        cycles=_cycles(n, m),
        registers=4 * macs,
        array=_received(n, m, channel_tiles),
        weight_buffer=weight_reads + dram_weights,
        input_buffer=delivered * filter_tiles + dram_inputs,
        output_buffer=sums + n.outputs,
        dram_weights=dram_weights,
        dram_inputs=dram_inputs,
        dram_outputs=n.outputs + 0 * dram_inputs,
        lacks=m.lacks,
    )


def _received(n: Product, m: Mapping, channel_tiles: Integers) -> Integers:
    """Values that PEs receive: input rows, weights, and sums from the PE above."""
    filter_sets = _sets_used(n.filters, m.p, m.t)
    channel_sets = _sets_used(n.channels, m.q, m.r)
    inputs = n.groups * n.channels * n.in_columns * n.rows * n.kernel * filter_sets
    weights = n.groups * n.weights * n.rows
    hops = channel_sets * n.kernel - channel_tiles * m.parts
    return np.asarray(inputs + weights + n.outputs * hops)


def _sets_used(items: Integers, held: Integers, sets: Integers) -> Integers:
    """Over all tiles of `held * sets` items, the sets that get one or more."""
    full, rest = np.divmod(items, held * sets)
    return np.asarray(full * sets + np.minimum(sets, rest))


def _fetched(
    n: Product,
    m: Mapping,
    device: Device,
    delivered: Integers,
    filter_tiles: Integers,
    row_tiles: Integers,
) -> tuple[Integers, Integers]:
    """Weights and inputs fetched from DRAM."""
    size = device["bytes_per_value"]
    room_weights = device["weight_buffer_bytes"] // size // m.g
    room_inputs = device["input_buffer_bytes"] // size // m.g
    weights, inputs = n.groups * n.weights, n.groups * n.inputs
    window = np.minimum(n.window(m.e, n.span), n.in_rows) * n.in_columns * n.channels
    slides: npt.NDArray[np.bool_] = window <= room_inputs
    all_held: npt.NDArray[np.bool_] = n.inputs <= room_inputs
    once = np.where(slides, inputs, delivered)
    filters_held = np.minimum(n.filters, m.p * m.t) * n.depth <= room_weights
    filters_outside = (
        weights * np.where(filters_held, 1, row_tiles),
        np.where(all_held, inputs, once * filter_tiles),
    )
    rows_outside = (
        weights * np.where(n.weights <= room_weights, 1, row_tiles),
        np.where(all_held | slides, inputs, delivered * filter_tiles),
    )
    return lesser_traffic(filters_outside, rows_outside)
