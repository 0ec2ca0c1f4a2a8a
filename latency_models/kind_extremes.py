"""The least and the greatest of a sum over kernels plus a cost for every kind that occurs.

The sum alone is minimised exactly by eliminating genes (`search_spaces.least`). What the first
kernel of a kind costs on top is no sum over kernels, but only few kinds are in some networks and
not in others. So this is branch and bound over those: a branch says that a kind does not occur
(its variants are forbidden), or that it is paid for. Where the best network of a branch has just
the kinds that are paid for, the bound is reached and the result is exact.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_models.lookup import Bits
from search_spaces import Genes, SearchSpace, Tabulation, least

logger = logging.getLogger(__name__)

Values = npt.NDArray[np.float64]

MOST_BRANCHES = 2000
"""More are not looked at; a warning says so, and the result is the best that was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCosts:
    """Costs of networks that are sums over kernels plus a cost for every kind that occurs.

    Attributes:
        space: The search space.
        table: The tabulation of the kernels.
        values: A summand for every variant.
        bits: For every variant the bit of its kind, 0 where it is absent.
        first: For every kind its cost, at least 0.
    """

    space: SearchSpace
    table: Tabulation
    values: Values
    bits: Bits
    first: Values

    def least(self) -> tuple[float, Genes]:
        """The least cost and a network that has it."""
        return self._search(1)

    def greatest(self) -> tuple[float, Genes]:
        """The greatest cost and a network that has it."""
        value, row = self._search(-1)
        return -value, row

    def _search(self, sign: int) -> tuple[float, Genes]:
        """Branch and bound for the least of `sign` times the cost, best branch first."""
        order = itertools.count()
        heap: list[tuple[float, int, _Branch, Genes, float]] = []

        def push(branch: _Branch) -> None:
            added, row = self._least_sum(branch, sign)
            if added < self._forbidden / 2:
                credited = branch.paid if sign > 0 else ~branch.banned & self._any
                bound = added + sign * self._paid(credited)
                heapq.heappush(heap, (bound, next(order), branch, row, added))

        push(_Branch())
        best, best_row = np.inf, np.zeros(0, np.int16)
        for _ in range(MOST_BRANCHES):
            if not heap or heap[0][0] >= best:
                break
            bound, _, branch, row, added = heapq.heappop(heap)
            occurs = self._kinds_of(row)
            value = added + sign * self._paid(occurs)
            if value < best:
                best, best_row = value, row
            if sign > 0:
                open_bits = occurs & ~branch.paid
            else:
                open_bits = self._any & ~branch.banned & ~occurs
            kind = self._dearest(open_bits)
            if value <= bound or kind is None:
                continue
            for child in self._children(branch, kind, sign):
                push(child)
        else:
            logger.warning(
                "%s: the extreme is the best of %d branches", self.space.name, MOST_BRANCHES
            )
        return float(best), best_row

    def _children(self, branch: _Branch, kind: int, sign: int) -> Iterator[_Branch]:
        """Networks without the kind, and those with it."""
        bit = 1 << kind
        yield _Branch(banned=branch.banned | bit, paid=branch.paid, forced=branch.forced)
        if sign > 0:
            yield _Branch(banned=branch.banned, paid=branch.paid | bit, forced=branch.forced)
            return
        rows = self.table.row_of_variant()
        for row in np.unique(rows[(self.bits & bit) > 0]).tolist():
            forced = (*branch.forced, (row, bit))
            yield _Branch(banned=branch.banned, paid=branch.paid, forced=forced)

    def _least_sum(self, branch: _Branch, sign: int) -> tuple[float, Genes]:
        values = sign * self.values
        values[(self.bits & branch.banned) > 0] = self._forbidden
        if branch.forced:
            rows = self.table.row_of_variant()
            for row, bit in branch.forced:
                values[(rows == row) & ((self.bits & bit) == 0)] = self._forbidden
        return least(self.space, self.table, values)

    @property
    def _forbidden(self) -> float:
        """A finite number that no sum of allowed values reaches."""
        return 1e3 * (float(np.abs(self.values).max(initial=0.0)) + 1.0) * self.table.rows

    @property
    def _any(self) -> int:
        return int(np.bitwise_or.reduce(self.bits, initial=0))

    def _kinds_of(self, row: Genes) -> int:
        codes = self.table.codes(row[None])[:, 0]
        return int(np.bitwise_or.reduce(self.bits[codes], initial=0))

    def _paid(self, bits: int) -> float:
        return float(sum(f for k, f in enumerate(self.first.tolist()) if bits >> k & 1))

    def _dearest(self, bits: int) -> int | None:
        """The kind of those that costs most; None where none costs anything."""
        costs = [(f, k) for k, f in enumerate(self.first.tolist()) if bits >> k & 1 and f > 0]
        return max(costs)[1] if costs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """Kinds that must not occur, kinds that are paid for, rows that must be of a kind."""

    banned: int = 0
    paid: int = 0
    forced: tuple[tuple[int, int], ...] = ()
