"""A set of rows of genes, for telling new architectures from known ones a population at a time.

A row is known by a 64-bit number, `sum_j genes[j] * weight[j] mod 2^64`, with odd pseudo-random
weights (Dietzfelbinger et al., A reliable randomized algorithm for the closest-pair problem,
1997). Two rows share a number with a chance of about 2^-60: among a million rows any two do with a
chance below 10^-6, and then one of them is not proposed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from search_spaces import Genes

Keys = npt.NDArray[np.uint64]


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
        self._keys: set[int] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, genes: Genes, limit: int | None = None) -> npt.NDArray[np.intp]:
        """Adds rows, and returns the indices of those that were new, each at its first place.

        Args:
            genes: An `n x d` array.
            limit: Adds no more than this many new rows, the first ones.
        """
        keys = row_keys(genes)
        fresh = self._new(keys)[:limit]
        self._keys.update(keys[fresh].tolist())
        return fresh

    def update(self, keys: Keys) -> None:
        """Adds rows by their numbers."""
        self._keys.update(keys.tolist())

    def is_new(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Marks the rows that are not known and do not repeat an earlier row of `genes`."""
        marks = np.zeros(len(genes), np.bool_)
        marks[self._new(row_keys(genes))] = True
        return marks

    def _new(self, keys: Keys) -> npt.NDArray[np.intp]:
        distinct, first = np.unique(keys, return_index=True)
        new = np.fromiter((key not in self._keys for key in distinct.tolist()), np.bool_)
        return np.sort(first[new])

    def to_text(self) -> str:
        """The numbers of all rows as hexadecimal text."""
        return np.array(sorted(self._keys), "<u8").tobytes().hex()

    @classmethod
    def from_text(cls, text: str) -> KnownRows:
        """The set that `to_text` wrote."""
        known = cls()
        known._keys = set(np.frombuffer(bytes.fromhex(text), "<u8").tolist())
        return known
