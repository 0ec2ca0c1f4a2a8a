"""The order in which onnxruntime runs the steps of a network.

Depth first from the output, of several inputs the one declared last first; what it adds to the
graph when it goes over to blocks of channels, and after that, comes later among equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deployment.memory.writing import NOBODY, Counts, Mask, Step


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of `n` networks in the order in which they run, as arrays.

    Attributes:
        on: A `steps x n` mask.
        size: A `steps x n` array of bytes.
        shape: A `steps x n` array, equal for equal shapes.
        over: A `steps x n` array of steps that may be written over.
        reads: An `inputs x steps x n` array of steps; `NOBODY` where there is no such input.
        scratch: A `pieces x steps x n` array of bytes.
    """

    on: Mask
    size: Counts
    shape: Counts
    over: Counts
    reads: Counts
    scratch: Counts


def in_order(steps: Sequence[Step]) -> Schedule:
    """The steps as onnxruntime runs them.

    Where every step reads the one before it, as in a chain with shortcuts, the order of
    declaration is kept; other networks are sorted one by one.
    """
    inputs = max(len(s.reads) for s in steps)
    pieces = max(1, *(len(s.scratch) for s in steps))
    none, nothing = np.full_like(steps[0].size, NOBODY), np.zeros_like(steps[0].size)
    schedule = Schedule(
        on=np.stack([s.on for s in steps]),
        size=np.stack([s.size for s in steps]),
        shape=np.stack([s.shape for s in steps]),
        over=np.stack([s.over for s in steps]),
        reads=np.stack([[*s.reads, *[none] * (inputs - len(s.reads))] for s in steps], axis=1),
        scratch=np.stack(
            [[*s.scratch, *[nothing] * (pieces - len(s.scratch))] for s in steps], axis=1
        ),
    )
    summand = np.stack([s.summand for s in steps])
    place = np.stack([s.place for s in steps])
    late = np.stack([s.late for s in steps])
    for i in np.flatnonzero(_forks(schedule)):
        _sort(schedule, int(i), summand[:, i].tolist(), place[:, i].tolist(), late[:, i])
    return schedule


def _forks(schedule: Schedule) -> Mask:
    """Which networks have a step that does not read the one before it."""
    n = schedule.on.shape[1]
    before = np.full(n, NOBODY)
    forks = np.zeros(n, bool)
    for s, on in enumerate(schedule.on):
        reads = schedule.reads[:, s]
        chained = (reads == before).any(axis=0) & (reads < s).all(axis=0)
        forks |= on & ~chained
        before = np.where(on, s, before)
    return forks


def _sort(schedule: Schedule, i: int, summand: list[int], place: list[int], late: Counts) -> None:
    """Brings one network's steps into the order in which they run, in place.

    onnxruntime goes depth first from the output, of several inputs to the node added last first.
    Going over to blocks of channels it adds new nodes in the order that the old ones have, with
    their sums still apart; the final order is that of the new numbers.
    """
    on = np.flatnonzero(schedule.on[:, i])
    reads = [[r for r in row if r != NOBODY] for row in schedule.reads[:, :, i].T.tolist()]
    last = int(on[-1])
    before = _depth_first(last, reads, place, summand)
    number = dict(zip(before, range(len(before)), strict=True))
    final = [
        place[s] if not late[s] else (1 << 20) * int(late[s]) + number.get(s, 0)
        for s in range(len(reads))
    ]
    order = _depth_first(last, reads, final)
    _permute(schedule, i, order, sorted(set(on.tolist()) - set(order)))


def _depth_first(
    last: int,
    reads: Sequence[Sequence[int]],
    number: Sequence[int],
    summand: Sequence[int] | None = None,
) -> list[int]:
    """The steps that the last one depends on, each behind what it reads.

    Args:
        last: Where to begin.
        reads: For each step what it reads.
        number: Of several inputs that with the largest number comes first.
        summand: For each step the input that it adds; None counts it among the others.
    """
    order: list[int] = []
    entered: set[tuple[int, int]] = set()
    enter, leave, add = range(3)
    stack = [(last, add if summand is not None else enter)]
    while stack:
        step, what = stack.pop()
        if what == leave:
            order.append(step)
            continue
        if (step, what) in entered:
            continue
        entered.add((step, what))
        if what == add and summand is not None:
            other = summand[step]
            if other != NOBODY and other > step:
                stack += [(step, enter), (other, add)]
            elif other != NOBODY:
                stack += [(other, add), (step, enter)]
            else:
                stack.append((step, enter))
            continue
        stack.append((step, leave))
        below = sorted(
            {r for r in reads[step] if summand is None or r != summand[step]},
            key=lambda r: number[r],
        )
        stack += [(r, enter if summand is None else add) for r in below]
    return order


def _permute(schedule: Schedule, i: int, order: Sequence[int], unread: Sequence[int]) -> None:
    """Puts one network's steps in that order; those that nothing reads do not run."""
    for array in (schedule.size, schedule.shape):
        array[unread, i] = 0
    schedule.on[unread, i] = False
    schedule.scratch[:, unread, i] = 0
    schedule.reads[:, unread, i] = NOBODY
    places = sorted(order)
    target = np.full(len(schedule.on) + 1, NOBODY)
    target[list(order)] = places
    for array in (schedule.size, schedule.shape, schedule.over):
        array[places, i] = array[order, i]
    for stacked in (schedule.reads, schedule.scratch):
        stacked[:, places, i] = stacked[:, order, i]
    schedule.over[:, i] = target[schedule.over[:, i]]
    schedule.reads[:, :, i] = target[schedule.reads[:, :, i]]
