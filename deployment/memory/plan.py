"""Which tensors lie where and for how long: the plan of onnxruntime, for many networks at once.

The rules of onnxruntime's allocation planner (`core/framework/allocation_planner.cc`, read at
version 1.31), for one stream of execution:

- a kernel that may write over an input does so if nothing else reads that buffer later;
- otherwise the buffer freed last among those of the same shape is used again; from its first use
  to its last it is never given back;
- otherwise a new buffer is allocated, and given back after its last use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deployment.memory.arena import NO_CHUNK, ROUNDING, Arena
from deployment.memory.order import Schedule
from deployment.memory.writing import NOBODY

Counts = npt.NDArray[np.int64]

_MOST_INPUTS = 1 << 10


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The buffers of `n` networks; buffer `b` is the one that step `b` allocated.

    Attributes:
        sizes: A `steps x n` array of bytes, rounded as the arena does; 0 where nothing was new.
        ends: A `steps x n` array with the step after which the buffer is given back.
        scratch: A `pieces x steps x n` array of bytes that are needed while a step runs.
    """

    sizes: Counts
    ends: Counts
    scratch: Counts

    @property
    def peak_bytes(self) -> Counts:
        """The most that is needed at once, an array of length `n`."""
        steps, n = self.sizes.shape
        change = np.zeros((steps + 1, n), np.int64)
        change[:steps] = self.sizes
        column = np.arange(n)
        for step in range(steps):
            change[self.ends[step] + 1, column] -= self.sizes[step]
        held = np.cumsum(change[:steps], axis=0)
        held += (-(-self.scratch // ROUNDING) * ROUNDING).sum(axis=0)
        return np.asarray(held.max(axis=0, initial=0))

    @property
    def arena_peak_bytes(self) -> Counts:
        """The most that onnxruntime's arena holds at once, an array of length `n`."""
        steps, n = self.sizes.shape
        arena = Arena(n)
        chunks = np.full((steps, n), NO_CHUNK)
        for step in range(steps):
            chunks[step] = arena.take(self.sizes[step], self.sizes[step] > 0)
            taken = [arena.take(piece, piece > 0) for piece in self.scratch[:, step]]
            for chunk in taken:
                arena.give_back(chunk)
            for old in range(step + 1):
                over = (self.ends[old] == step) & (chunks[old] != NO_CHUNK)
                if over.any():
                    arena.give_back(np.where(over, chunks[old], NO_CHUNK))
        return arena.peak


def planned(schedule: Schedule, *, keeps_buffers: bool = True) -> MemoryPlan:
    """Plans the buffers; the last step of each network writes its output.

    Args:
        schedule: The steps in the order in which they run.
        keeps_buffers: Whether a buffer is kept for a later tensor of the same shape, and sizes
            are rounded, as onnxruntime does. Otherwise each tensor takes what it takes, from the
            step that writes it to the last that reads it.
    """
    count, n = schedule.on.shape
    column = np.arange(n)
    on, shape = schedule.on, schedule.shape
    rounding = ROUNDING if keeps_buffers else 1
    uses = _uses(schedule)
    buffer = np.full((count, n), NOBODY)
    freed = np.zeros((count, n), np.int64)
    sizes = np.zeros((count, n), np.int64)
    ends = np.zeros((count, n), np.int64)
    last = count - 1 - on[::-1].argmax(axis=0)  # the output's step
    for s in range(count):
        inner = on[s] & (last != s)  # the output is never put where something else was
        over = schedule.over[s]
        old = np.where(over >= 0, buffer[over, column], NOBODY)
        fits = inner & (old >= 0) & (uses[old, column] == 1)
        mine = np.where(fits, old, NOBODY)
        free = freed[:s] * ((shape[:s] == shape[s]) & inner & (mine < 0))
        if s and keeps_buffers:
            best = free.argmax(axis=0)
            again = free[best, column] > 0
            mine = np.where(again, best, mine)
            freed[best[again], column[again]] = 0
        new = on[s] & (mine < 0)
        sizes[s] = np.where(new, -(-schedule.size[s] // rounding) * rounding, 0)
        taken = on[s] & ~new
        uses[mine[taken], column[taken]] += uses[s, taken]
        buffer[s] = np.where(new, s, mine)
        own = np.where(on[s], s, NOBODY)
        for place, read in enumerate((*schedule.reads[:, s], own)):
            there = np.flatnonzero(read >= 0)
            b = buffer[read[there], there]
            uses[b, there] -= 1
            ends[b, there] = s
            gone = uses[b, there] == 0
            freed[b[gone], there[gone]] = (s + 1) * _MOST_INPUTS + place
    if count:
        ends[buffer[last, column], column] = count - 1
    return MemoryPlan(sizes, ends, schedule.scratch)


def _uses(schedule: Schedule) -> Counts:
    """How often each step's tensor is used: written once, and read."""
    uses = schedule.on.astype(np.int64)
    for reads in schedule.reads:
        for read in reads:
            there = np.flatnonzero(read >= 0)
            uses[read[there], there] += 1
    return uses
