"""Loop nests run one by one: what the closed formulas of accelerators must agree with.

Nothing here is a formula. The systolic arrays move numbers from PE to PE, cycle by cycle, and
must give the right product. The memories hold sets of addresses and count what has to be fetched.
"""

from collections import Counter
from itertools import product as pairs

import numpy as np


def chunks(items, size):
    """Lists of at most `size` items in order."""
    items = list(items)
    return [items[i : i + size] for i in range(0, len(items), size)]


# ---- one fold of a systolic array, with numbers -------------------------------------------------


def output_stationary_fold(inputs, weights, rows, columns):
    """Multiplies `pixels x depth` by `depth x filters` on a `rows x columns` array of PEs.

    Returns:
        The product, the cycles, and how many operands PEs received.
    """
    pixels, depth = inputs.shape
    filters = weights.shape[1]
    east = np.full((rows, columns), np.nan)  # what a PE got from the left
    south = np.full((rows, columns), np.nan)
    sums = np.zeros((rows, columns))
    cycle = received = 0
    while True:
        east[:, 1:], south[1:] = east[:, :-1].copy(), south[:-1].copy()
        for i in range(rows):
            k = cycle - i
            east[i, 0] = inputs[i, k] if i < pixels and 0 <= k < depth else np.nan
        for j in range(columns):
            k = cycle - j
            south[0, j] = weights[k, j] if j < filters and 0 <= k < depth else np.nan
        works = ~np.isnan(east) & ~np.isnan(south)
        sums[works] += (east * south)[works]
        received += 2 * int(works.sum())
        cycle += 1
        if cycle == rows + columns + depth - 2:  # the last PE of a full array is done
            break
    out = np.zeros((pixels, filters))
    for shift in range(rows):  # every cycle the lowest row leaves
        row = rows - 1 - shift
        if row < pixels:
            out[row] = sums[-1, :filters]
        sums[1:] = sums[:-1].copy()
        cycle += 1
    return out, cycle, received


def weight_stationary_fold(inputs, weights, rows, columns):
    """The same with weights that stay; `depth` is at most `rows`.

    Returns:
        The product, the cycles, and how many values PEs received: inputs, and sums from above.
    """
    pixels, depth = inputs.shape
    filters = weights.shape[1]
    held = np.full((rows, columns), np.nan)
    cycle = 0
    for shift in range(rows):  # weights are pushed down, the last row first
        held[1:] = held[:-1].copy()
        k = rows - 1 - shift
        held[0] = np.nan
        if k < depth:
            held[0, :filters] = weights[k]
        cycle += 1
    east = np.full((rows, columns), np.nan)
    sums = np.zeros((rows, columns))
    out = np.zeros((pixels, filters))
    received = 0
    for step in range(pixels + rows + columns - 2):
        east[:, 1:] = east[:, :-1].copy()
        for i in range(rows):
            pixel = step - i
            east[i, 0] = inputs[pixel, i] if i < depth and 0 <= pixel < pixels else np.nan
        above = np.vstack([np.zeros((1, columns)), sums[:-1]])
        works = ~np.isnan(east) & ~np.isnan(held)
        sums = np.where(works, above + np.nan_to_num(east * held), above)
        received += int(works.sum()) + int(works[1:].sum())
        cycle += 1
        for j in range(filters):
            pixel = step - (rows - 1) - j
            if 0 <= pixel < pixels:
                out[pixel, j] = sums[-1, j]
    return out, cycle, received


# ---- addresses ----------------------------------------------------------------------------------


def depths(nest):
    """All (channel, kernel row, kernel column) of a filter."""
    return list(pairs(range(nest["channels"]), range(nest["kernel"]), range(nest["kernel"])))


def input_rows(nest, rows, taps):
    """Input rows under output rows, for each from its first to its last tap."""
    first, last = taps[0] * nest["dilation"], taps[-1] * nest["dilation"]
    return {e * nest["stride"] + i for e in rows for i in range(first, last + 1)}


def whole_input(nest):
    """All addresses of a group's input."""
    return set(pairs(range(nest["in_rows"]), range(nest["in_columns"]), range(nest["channels"])))


def window_values(nest, e):
    """Values that the window of `e` output rows holds."""
    rows = len(input_rows(nest, range(e), range(nest["kernel"])))
    return min(rows, nest["in_rows"]) * nest["in_columns"] * nest["channels"]


def fetched_weights(nest, filter_tiles, row_tiles, room, filters_outside):
    """Weights of a group that come from DRAM when tiles are worked off in this order."""
    depth = depths(nest)
    held, fetched = set(), 0
    for filters, _ in in_order(filter_tiles, row_tiles, filters_outside):
        tile = set(pairs(filters, depth))
        largest = len(filter_tiles[0]) if filters_outside else nest["filters"]
        if largest * len(depth) > room and len(row_tiles) > 1:
            fetched += len(tile)  # goes through, is not held
            continue
        fetched += len(tile - held)
        held = tile if filters_outside else held | tile
    return fetched


def in_order(filter_tiles, row_tiles, filters_outside):
    if filters_outside:
        return list(pairs(filter_tiles, row_tiles))
    return [(filters, rows) for rows, filters in pairs(row_tiles, filter_tiles)]


def finish(nest, counts, orders):
    """Adds what goes through the buffers to and from DRAM, in the order that fetches less."""
    outputs = nest["groups"] * nest["filters"] * nest["rows"] * nest["columns"]
    weights, inputs = min(orders, key=sum)
    counts["dram_weights"] = nest["groups"] * weights
    counts["dram_inputs"] = nest["groups"] * inputs
    counts["dram_outputs"] = outputs
    counts["weight_buffer"] += counts["dram_weights"]
    counts["input_buffer"] += counts["dram_inputs"]
    counts["output_buffer"] += outputs
    counts["registers"] = 4 * counts["macs"]
    return counts


# ---- systolic arrays ----------------------------------------------------------------------------


def run_systolic(nest, device, flow):
    """Runs a nest tile by tile and fold by fold; None where a tile of one row does not fit."""
    e = most_rows(nest, device, flow)
    if e == 0:
        return None
    room_weights = device["weight_buffer_bytes"] // device["bytes_per_value"]
    room_inputs = device["input_buffer_bytes"] // device["bytes_per_value"]
    row_tiles = chunks(range(nest["rows"]), e)
    filter_tiles = chunks(range(nest["filters"]), device["columns"])
    counts = Counter()
    for _ in range(nest["groups"]):
        for filters, rows in pairs(filter_tiles, row_tiles):
            run_tile(nest, device, flow, len(rows) * nest["columns"], len(filters), counts)
    orders = []
    for outside in (True, False):
        weights = fetched_weights(nest, filter_tiles, row_tiles, room_weights, outside)
        held, inputs, sweep = set(), 0, None
        everything = whole_input(nest)
        for filters, _ in in_order(filter_tiles, row_tiles, outside):
            now = filters if outside else "one sweep"
            if now != sweep:  # the window slides over all rows, each is fetched once
                inputs += len(everything - held)
            sweep = now
            held = everything if len(everything) <= room_inputs else set()
        orders.append((weights, inputs))
    return finish(nest, counts, orders)


def most_rows(nest, device, flow):
    """The most rows of a tile that the buffers hold, found by trying; 0 where not even one."""
    filters = min(nest["filters"], device["columns"])
    found = 0
    for e in range(1, nest["rows"] + 1):
        sums = e * nest["columns"] * filters
        if flow == "output":
            sums = min(device["rows"], nest["rows"] * nest["columns"]) * filters
        fits_inputs = (
            window_values(nest, e) * device["bytes_per_value"] <= device["input_buffer_bytes"]
        )
        if fits_inputs and sums * device["psum_bytes"] <= device["output_buffer_bytes"]:
            found = e
    return found


def run_tile(nest, device, flow, pixels, filters, counts):
    """All folds of a tile, moving numbers through the array."""
    rng = np.random.default_rng(pixels * 31 + filters)
    depth = len(depths(nest))
    inputs = rng.integers(-9, 9, (pixels, depth)).astype(float)
    weights = rng.integers(-9, 9, (depth, filters)).astype(float)
    size = device["rows"], device["columns"]
    total = np.zeros((pixels, filters))
    folds = chunks(range(pixels if flow == "output" else depth), device["rows"])
    for k, some in enumerate(folds):
        if flow == "output":
            out, cycles, received = output_stationary_fold(inputs[some], weights, *size)
            total[some] = out
            read, loaded, summed = len(some) * depth, depth * filters, out.size
        else:
            out, cycles, received = weight_stationary_fold(inputs[:, some], weights[some], *size)
            total += out
            read, loaded = pixels * len(some), len(some) * filters
            received += loaded
            summed = out.size * (1 if k == 0 else 2)  # read, added, written back
        counts.update(
            cycles=cycles, array=received, input_buffer=read, weight_buffer=loaded,
            output_buffer=summed,
        )  # fmt: skip
    np.testing.assert_array_equal(total, inputs @ weights)
    counts["macs"] += pixels * depth * filters


# ---- row-stationary -----------------------------------------------------------------------------


def run_rows(nest, device, m):
    """Runs a nest pass by pass on row-stationary PEs that are laid out as `m` says."""
    counts = Counter()
    parts = chunks(range(nest["kernel"]), m["kernel_rows"])
    filter_tiles = chunks(range(nest["filters"]), m["p"] * m["t"])
    row_tiles = chunks(range(nest["rows"]), m["e"])
    channel_tiles = chunks(range(nest["channels"]), m["q"] * m["r"])
    for groups in chunks(range(nest["groups"]), m["g"]):
        for filters, rows in pairs(filter_tiles, row_tiles):
            for k, (channels, part) in enumerate(pairs(channel_tiles, parts)):
                run_pass(nest, m, len(groups), filters, rows, channels, part, k == 0, counts)
    room_weights, room_inputs = (
        device[f"{name}_buffer_bytes"] // device["bytes_per_value"] // m["g"]
        for name in ("weight", "input")
    )
    orders = []
    for outside in (True, False):
        weights = fetched_weights(nest, filter_tiles, row_tiles, room_weights, outside)
        everything = len(whole_input(nest))
        held, inputs, sweep = False, 0, None
        for filters, rows in in_order(filter_tiles, row_tiles, outside):
            now = filters if outside else "one sweep"
            if everything <= room_inputs:
                inputs, held = inputs + (0 if held else everything), True
            elif window_values(nest, m["e"]) <= room_inputs:  # slides
                inputs += everything if now != sweep else 0
            else:
                inputs += sum(
                    len(input_rows(nest, rows, part)) * nest["in_columns"] * len(channels)
                    for channels, part in pairs(channel_tiles, parts)
                )
            sweep = now
        orders.append((weights, inputs))
    return finish(nest, counts, orders)


def run_pass(nest, m, groups, filters, rows, channels, part, is_first, counts):
    """MACs of every PE, what buffers deliver and PEs receive, and sums, of one pass."""
    filter_sets = [filters[s :: m["t"]] for s in range(m["t"])]  # dealt one by one
    channel_sets = [channels[s :: m["r"]] for s in range(m["r"])]
    pes = groups * len(part) * len(rows)  # of one set, in all groups
    ends = []
    for mine, own in pairs(filter_sets, channel_sets):
        macs = len(mine) * len(own) * nest["columns"] * nest["kernel"]
        counts["macs"] += pes * macs
        if mine and own:
            counts["array"] += pes * len(own) * nest["in_columns"]
            counts["array"] += pes * len(mine) * len(own) * nest["kernel"]
        ends.append(macs)
    # sums go down through the rows of all sets with other channels, each a cycle later
    counts["cycles"] += max(ends) + m["kernel_rows"] * m["r"] - 1
    taken = input_rows(nest, rows, part)
    counts["input_buffer"] += groups * len(channels) * len(taken) * nest["in_columns"]
    loaded = len(filters) * len(channels) * len(part) * nest["kernel"]
    counts["weight_buffer"] += groups * loaded
    sums = groups * len(filters) * len(rows) * nest["columns"]
    counts["output_buffer"] += sums * (1 if is_first else 2)
    chain = len(part) * sum(1 for own in channel_sets if own)
    counts["array"] += sums * (chain - 1)


def sets_on_the_array(height, width, kernel_rows, e):
    """How many sets of `kernel_rows x e` PEs can be laid on an array, laying one by one."""
    free = [width] * (height // kernel_rows)  # columns left on each strip
    count = 0
    while True:
        if e <= width:
            strip = next((s for s, left in enumerate(free) if left >= e), None)
            if strip is None:
                return count
            free[strip] -= e
        else:
            empty = [s for s, left in enumerate(free) if left == width]
            needed = -(-e // width)
            if len(empty) < needed:
                return count
            for s in empty[:needed]:
                free[s] = 0
        count += 1
