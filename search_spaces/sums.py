"""How many architectures have which sum over table rows: counted, and drawn from, exactly.

Genes are eliminated one by one. A step joins all tables that read a gene, adds them to the sums so
far, and forgets the genes that nothing reads any more (bucket elimination, Dechter, Artificial
Intelligence 113, 1999, along a path: what a step leaves is one table over the genes still alive).
An entry of this table is not a number but a histogram: how many settings of the forgotten genes
give which sum. Adding a number to a sum shifts a histogram, forgetting a gene adds histograms.
Walking back from a sum to the genes, each drawn in proportion to its count, gives uniform draws.

Sums are counted on levels of equal steps. Where all summands are integers with a common divisor
and few enough levels, the levels are the sums; otherwise each step of the elimination is rounded
once, and the error is known. Inactive genes are held at 0, so every architecture counts once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.additive import factors_of, merged
from search_spaces.elimination import Step, canonical_factors, elimination, entries
from search_spaces.genes import Genes
from search_spaces.space import SearchSpace
from search_spaces.tabulate import Tabulation

MAX_ENTRIES = 1 << 25
"""Counts that are kept at once, 8 bytes each."""

MAX_ADDITIONS = 1 << 29
"""Additions, about half a second, that are spent to make levels of exact sums."""

_OBJECT_COST = 64
"""How much longer Python's integers take than machine numbers, about."""

_OBJECT_LEVELS = 1 << 15
"""Rounded levels on which Python's integers are counted."""

_CHUNK = 1 << 22
"""Weights that are looked at at once when drawing."""

_LARGEST_FLOAT = 1e300
"""Settings that float64 counts without overflow."""


class SumChain:
    """The order of elimination and the joined tables of a sum; the levels are not yet chosen.

    Args:
        space: The space.
        table: The tabulation over whose rows the metric is a sum.
        values: The summand of every variant, as in `search_spaces.additive.least`.

    Raises:
        BadInputError: Rows that hang together too tightly for tables in memory.
    """

    def __init__(
        self, space: SearchSpace, table: Tabulation, values: npt.NDArray[np.float64]
    ) -> None:
        self.sizes = [int(s) for s in space.gene_space.sizes]
        self.cardinality = space.cardinality
        factors = factors_of(table, values, self.sizes) + canonical_factors(space.gene_space)
        factors = merged(factors)
        self.steps = elimination(table, factors, self.sizes)
        finite = [step.values[np.isfinite(step.values)] for step in self.steps]
        self.first = math.fsum(
            [*(float(f.values) for f in factors if not f.genes), *(v.min() for v in finite)]
        )
        self.range = math.fsum(v.max() - v.min() for v in finite)
        """The greatest sum exceeds the least by no more than this."""
        whole = not (np.asarray(values) % 1 != 0).any()
        self.divisor = _divisor(finite) if whole else 0
        """The greatest common divisor of all differences of sums; 0 where they are no integers."""

    def count_all(self, levels: int) -> SumCounts:
        """Counts all architectures in integers without rounding; see `count`.

        Args:
            levels: As in `count`; fewer where counts do not fit in 64 bits, which is slow.
        """
        largest = 2 * max(entries(step.after, self.sizes) for step in self.steps)
        if self.cardinality < 1 << 64:
            # numbers on the way may wrap around; the final ones are right modulo 2^64
            return SumCounts(self, self._width(levels, largest), np.dtype(np.uint64), keep=False)
        width = self._width(min(levels, _OBJECT_LEVELS), 5 * largest, _OBJECT_COST)
        return SumCounts(self, width, np.dtype(object), keep=False)

    def count(self, levels: int) -> SumCounts:
        """Counts all architectures so that they can be drawn, in float64.

        Args:
            levels: At most so many are used where sums have to be rounded; fewer if the counts
                would not fit in memory.

        Raises:
            BadInputError: Too many genes are alive at once, or too many settings for floats.
        """
        settings = math.prod(self.sizes)
        if settings > _LARGEST_FLOAT:
            raise BadInputError(
                f"a space with 10^{math.log10(settings):.0f} settings is too large to draw from "
                "by counting; use a search instead"
            )
        kept = sum(entries(step.after, self.sizes) for step in self.steps)
        return SumCounts(self, self._width(levels, kept), np.dtype(np.float64), keep=True)

    def _width(self, levels: int, kept: int, cost: int = 1) -> float:
        """The distance of two levels: of sums if these are affordable, otherwise of the range."""
        most = MAX_ENTRIES // kept
        if most < 4 * len(self.steps):
            raise BadInputError(
                f"counting needs tables over {kept} settings of choices at once; use a search "
                "instead"
            )
        additions = cost * sum(len(step.values) for step in self.steps)
        exact = min(most, MAX_ADDITIONS // additions)
        if self.divisor and self.range / self.divisor < exact:
            return float(self.divisor)
        # rounding up adds a level a step at most
        levels = max(min(levels, most), 4 * len(self.steps)) - len(self.steps)
        return self.range / levels or 1.0


class SumCounts:
    """How many canonical architectures have a sum on each level.

    Attributes:
        width: The distance of two levels.
        first: The sum that level 0 stands for.
        is_exact: Whether the levels are sums.
        error: An architecture's sum differs from that of its level by no less than `error[0]` and
            no more than `error[1]`, apart from rounding; (0, 0) where levels are sums.
        counts: An array with a count for each level.
    """

    def __init__(self, chain: SumChain, width: float, dtype: Any, *, keep: bool) -> None:
        self.width = width
        self.first = chain.first
        self.is_exact = width == chain.divisor
        self._slack = 0.0 if self.is_exact else 1e-12 * (abs(chain.first) + chain.range)
        self._sizes = chain.sizes
        self._steps = chain.steps
        self._shifts: list[npt.NDArray[np.int64]] = []
        self._tables = [np.ones((1, 1), dtype)]
        low, high = 0.0, 0.0
        for step in chain.steps:
            there = np.isfinite(step.values)
            above = np.where(there, step.values - step.values.min(), 0.0)
            shifts = np.rint(above / width).astype(np.int64)
            missed = above - shifts * width
            low, high = low + float(missed.min()), high + float(missed.max())
            self._shifts.append(np.where(there, shifts, -1))
            self._tables.append(self._count(step, self._shifts[-1], self._tables[-1]))
            if not keep:
                del self._tables[:-1]
        self.error = (low, high)
        self.counts = self._tables[-1][0]

    def _count(
        self, step: Step, shifts: npt.NDArray[np.int64], before: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        entries = math.prod(self._sizes[g] for g in step.after)
        levels = before.shape[1]
        table = np.zeros((entries, levels + int(shifts.max())), before.dtype)
        many = len(shifts) // entries
        for place in np.flatnonzero(shifts >= 0):
            shift = shifts[place]
            table[place // many, shift : shift + levels] += before[step.source[place]]
        return table

    @property
    def sums(self) -> npt.NDArray[np.float64]:
        """The sum that each level stands for, an array like `counts`."""
        return np.float64(self.first) + np.arange(len(self.counts), dtype=np.float64) * self.width

    def levels(self, low: float, high: float, *, surely: bool = False) -> slice:
        """The levels on which an architecture with a sum from `low` to `high` can be.

        With `surely`, those on which no other architecture is.
        """
        least, most = self.error if surely else self.error[::-1]
        slack = -self._slack if surely else self._slack
        begin = (low - self.first - least - slack) / self.width
        end = (high - self.first - most + slack) / self.width
        start = math.ceil(min(max(begin, 0.0), float(len(self.counts))))
        stop = math.floor(min(max(end, -1.0), len(self.counts) - 1.0)) + 1
        return slice(start, max(start, stop))

    def draw(self, n: int, rng: np.random.Generator, levels: slice) -> Genes:
        """Draws `n` architectures, uniform over all those on the levels, an `n x d` array.

        Raises:
            BadInputError: No architecture is on these levels.
        """
        weights = self.counts[levels].astype(np.float64)
        if not weights.any():
            raise BadInputError(
                f"no architecture is on the levels from {levels.start} up to {levels.stop}"
            )
        total = weights.cumsum()
        drawn = np.searchsorted(total, rng.random(n) * total[-1], side="right")
        drawn = levels.start + np.minimum(drawn, np.flatnonzero(weights)[-1])
        chunk = max(_CHUNK // max(self._sizes), 1)
        parts = [self._back(drawn[i : i + chunk], rng) for i in range(0, n, chunk)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self._sizes)), np.int16)

    def _back(self, level: npt.NDArray[np.int64], rng: np.random.Generator) -> Genes:
        """Draws an architecture for each of the given levels, walking back to the genes."""
        n = len(level)
        genes = np.zeros((len(self._sizes), n), np.int16).T
        entry = np.zeros(n, np.int64)
        for step, shifts, before in zip(
            self._steps[::-1], self._shifts[::-1], self._tables[-2::-1], strict=True
        ):
            many = self._sizes[step.gene]
            places = entry[:, None] * many + np.arange(many)
            left = level[:, None] - shifts[places]
            inside = (shifts[places] >= 0) & (left >= 0) & (left < before.shape[1])
            counts = before[step.source[places], np.where(inside, left, 0)]
            picked = _pick(np.where(inside, counts, 0.0).cumsum(axis=1), rng)
            place = places[np.arange(n), picked]
            genes[:, step.gene] = picked
            level = level - shifts[place]
            entry = step.source[place]
        return genes


def _pick(cumulated: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """For each row of an `n x k` array of cumulated weights a place, in proportion to them."""
    drawn = rng.random(len(cumulated)) * cumulated[:, -1]
    place = (cumulated <= drawn[:, None]).sum(axis=1)
    # rounding can reach the end: the last place that has a weight
    last = (cumulated < cumulated[:, -1:]).sum(axis=1)
    return np.asarray(np.minimum(place, last), np.int64)


def _divisor(parts: Sequence[npt.NDArray[np.float64]]) -> int:
    """The greatest common divisor of all differences of integers; 0 where floats lose some."""
    if math.fsum(np.abs(part).max() for part in parts) > 1 << 53:
        return 0
    apart = np.concatenate([part - part.min() for part in parts])
    return max(int(np.gcd.reduce(apart.astype(np.int64))), 1)
