"""onnxruntime's arena, simulated for many networks at once.

What onnxruntime reports as in use is what its arena handed out, which is a little more than was
asked for. The rules (`core/framework/bfc_arena.cc`, read at version 1.31, after the best-fit
allocator of TensorFlow):

- sizes are rounded up to multiples of 256 bytes;
- the smallest free chunk that is large enough is taken, of equal ones the lowest;
- what is left of it becomes a chunk of its own only if the chunk is at least twice as large as
  asked (or 128 MiB larger); otherwise the whole chunk is in use;
- a chunk given back joins the free chunks beside it;
- if none is large enough, a region is added: 1 MiB at first, then twice the last one, doubled
  until the request fits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ROUNDING = 256
FIRST_REGION = 1 << 20
MOST_DEAD = 128 << 20
NO_CHUNK = -1

_FAR = np.int64(1) << 60
_BETWEEN_REGIONS = np.int64(1) << 44


class Arena:
    """The chunks of `n` arenas, each in its own state.

    Args:
        n: How many arenas.

    >>> arena = Arena(1)
    >>> all_of_it = np.array([True])
    >>> chunk = arena.take(np.array([1000]), all_of_it)
    >>> int(arena.in_use[0])
    1024
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.in_use: Counts = np.zeros(n, np.int64)
        self.peak: Counts = np.zeros(n, np.int64)
        self._regions = np.zeros(n, np.int64)
        self._next_region = np.full(n, FIRST_REGION, np.int64)
        self._start: Counts = np.zeros((16, n), np.int64)
        self._size: Counts = np.zeros((16, n), np.int64)  # 0: no chunk
        self._free: Mask = np.zeros((16, n), bool)

    def take(self, size: Counts, on: Mask) -> Counts:
        """Takes chunks of these sizes where `on`; their numbers, `NO_CHUNK` elsewhere."""
        wanted = -(-np.maximum(size, 1) // ROUNDING) * ROUNDING
        rows = np.flatnonzero(on)
        chunk = self._fitting(rows, wanted[rows])
        if (lacking := rows[chunk == NO_CHUNK]).size:
            self._extend(lacking, wanted[lacking])
            chunk = self._fitting(rows, wanted[rows])
        whole = self._size[chunk, rows]
        asked = wanted[rows]
        split = (whole >= 2 * asked) | (whole - asked >= MOST_DEAD)
        if split.any():
            at, part = rows[split], asked[split]
            start = self._start[chunk[split], at]
            rest = self._new_slots(at)
            self._set(rest, at, start + part, whole[split] - part)
            self._size[chunk[split], at] = part
        self._free[chunk, rows] = False
        self.in_use[rows] += self._size[chunk, rows]
        self.peak = np.maximum(self.peak, self.in_use)
        found = np.full(self.n, NO_CHUNK)
        found[rows] = chunk
        return found

    def give_back(self, chunk: Counts) -> None:
        """Gives back the chunks of these numbers; `NO_CHUNK` gives back nothing."""
        rows = np.flatnonzero(chunk != NO_CHUNK)
        mine = chunk[rows]
        self.in_use[rows] -= self._size[mine, rows]
        self._free[mine, rows] = True
        if not rows.size:
            return
        free = self._free[:, rows] & (self._size[:, rows] > 0)
        start, size = self._start[:, rows], self._size[:, rows]
        column = np.arange(len(rows))
        after = free & (start == start[mine, column] + size[mine, column])
        before = free & (start + size == start[mine, column])
        for neighbours in (after, before):
            there = neighbours.any(axis=0)
            at, other, own = rows[there], neighbours.argmax(axis=0)[there], mine[there]
            low = np.minimum(self._start[own, at], self._start[other, at])
            self._size[own, at] += self._size[other, at]
            self._start[own, at] = low
            self._size[other, at] = 0
            self._free[other, at] = False

    def _fitting(self, rows: Counts, wanted: Counts) -> Counts:
        """The smallest free chunk that is large enough, the lowest of equal ones."""
        size = self._size[:, rows]
        fits = self._free[:, rows] & (size >= wanted)
        least = np.where(fits, size, _FAR).min(axis=0)
        lowest = np.where(fits & (size == least), self._start[:, rows], _FAR).argmin(axis=0)
        return np.where(fits.any(axis=0), lowest, NO_CHUNK)

    def _extend(self, rows: Counts, wanted: Counts) -> None:
        """Adds a region that holds what is wanted."""
        region = self._next_region[rows]
        short = wanted > region
        doublings = np.ceil(np.log2(np.maximum(wanted, 1) / region)).clip(0).astype(np.int64)
        region = region << doublings
        self._next_region[rows] = np.where(short, region, 2 * region)
        self._regions[rows] += 1
        self._set(self._new_slots(rows), rows, self._regions[rows] * _BETWEEN_REGIONS, region)

    def _new_slots(self, rows: Counts) -> Counts:
        """A slot without a chunk for each arena."""
        empty = self._size[:, rows] == 0
        if not empty.any(axis=0).all():
            more = ((0, len(self._size)), (0, 0))
            self._start, self._size = np.pad(self._start, more), np.pad(self._size, more)
            self._free = np.pad(self._free, more)
            empty = self._size[:, rows] == 0
        return np.asarray(empty.argmax(axis=0))

    def _set(self, slots: Counts, rows: Counts, start: Counts, size: Counts) -> None:
        self._start[slots, rows] = start
        self._size[slots, rows] = size
        self._free[slots, rows] = True
