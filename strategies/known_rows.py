"""A set of rows of genes, for telling new architectures from known ones a population at a time.

A row is known by a 64-bit number, `sum_j genes[j] * weight[j] mod 2^64`, with odd pseudo-random
weights (Dietzfelbinger et al., A reliable randomized algorithm for the closest-pair problem,
1997). Two rows share a number with a chance of about 2^-60: among a million rows any two do with a
chance below 10^-6, and then one of them is not proposed.

The numbers are kept in sorted arrays, each at least four times as long as the next, which are
merged as they grow (Bentley and Saxe, Decomposable searching problems, 1980): 8 bytes a row,
looked up by bisection.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces import Genes

Keys = npt.NDArray[np.uint64]

_RATIO = 4


def row_keys(genes: Genes) -> Keys:
    """A 64-bit number for each row of an `n x d` array; the same in every process."""
    return genes.astype(np.uint64) @ _weights(genes.shape[1])


@cache
def _weights(d: int) -> Keys:
    """Odd numbers by SplitMix64 (Steele et al., Fast splittable generators, OOPSLA 2014)."""
    z = np.arange(1, d + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


class KnownRows:
    """The rows met so far.

    >>> known = KnownRows()
    >>> known.add(np.array([[0, 1], [0, 1], [1, 1]], np.int16))
    array([0, 2])
    >>> known.add(np.array([[1, 1], [1, 0]], np.int16))
    array([1])
    """

    def __init__(self) -> None:
        self._levels: list[Keys] = []

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def add(self, genes: Genes, limit: int | None = None) -> npt.NDArray[np.intp]:
        """Adds rows, and returns the indices of those that were new, each at its first place.

        Args:
            genes: An `n x d` array.
            limit: Adds no more than this many new rows, the first ones.
        """
        keys = row_keys(genes)
        fresh = self._new(keys)[:limit]
        self._insert(np.sort(keys[fresh]))
        return fresh

    def update(self, keys: Keys) -> None:
        """Adds rows by their numbers."""
        distinct = np.unique(keys)
        self._insert(distinct[~self._holds(distinct)])

    def is_new(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Marks the rows that are not known and do not repeat an earlier row of `genes`."""
        marks = np.zeros(len(genes), np.bool_)
        marks[self._new(row_keys(genes))] = True
        return marks

    def holds(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Marks the rows, given by their numbers, that are known."""
        return self._holds(keys)

    def _new(self, keys: Keys) -> npt.NDArray[np.intp]:
        distinct, first = np.unique(keys, return_index=True)
        return np.sort(first[~self._holds(distinct)])

    def _holds(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Marks the numbers that are known."""
        marks = np.zeros(len(keys), np.bool_)
        for level in self._levels:
            place = level.searchsorted(keys)
            place[place == len(level)] = 0
            marks |= level[place] == keys
        return marks

    def _insert(self, keys: Keys) -> None:
        """Adds sorted numbers, none of them known."""
        if len(keys) == 0:
            return
        while self._levels and len(self._levels[-1]) < _RATIO * len(keys):
            keys = np.sort(np.concatenate([self._levels.pop(), keys]), kind="stable")
        self._levels.append(keys)

    def to_text(self) -> str:
        """The numbers of all rows as hexadecimal text."""
        levels = self._levels or [np.zeros(0, np.uint64)]
        return np.sort(np.concatenate(levels)).astype("<u8").tobytes().hex()

    @classmethod
    def from_text(cls, text: str) -> KnownRows:
        """The set that `to_text` wrote."""
        known = cls()
        known._insert(np.frombuffer(bytes.fromhex(text), "<u8").astype(np.uint64))
        return known
