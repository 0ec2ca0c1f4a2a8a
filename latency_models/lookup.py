"""Sums over kernels as few look-ups: kernels that depend on the same few genes share one table.

A cost that is a sum over kernels takes one look-up a kernel. Most kernels of a block depend on the
same genes (the width of the stage, the depth, the kernel size), so their values for all
combinations of these genes can be added up once. What remains is one look-up for each group of
genes, a tenth of the kernels, with the same result up to the order of the additions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search_spaces import Genes, Tabulation

Values = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint16]

MOST_ENTRIES = 1 << 12
"""Of a joint table: 32 KB of 64-bit numbers. Larger ones leave the nearest cache."""


class JointLookup:
    """For any number of architectures the sum of a value and the union of bits over all kernels.

    Args:
        table: The tabulation of the kernels.
        sizes: For each gene how many values it has.
        values: A summand for every variant.
        bits: Flags for every variant.
        most_entries: Of a joint table. A kernel that alone has more keeps its own.
    """

    def __init__(
        self,
        table: Tabulation,
        sizes: npt.NDArray[np.integer],
        values: Values,
        bits: Bits,
        *,
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        self._sizes = sizes.astype(np.int64)
        groups = _groups(table, self._sizes, most_entries)
        self.base = 0.0
        self.flags = 0
        self._strides = np.zeros((len(groups), len(sizes)), np.float32)
        self._offsets = np.zeros((len(groups), 1), np.int32)
        sums: list[Values] = [np.zeros(0)]
        flags: list[Bits] = [np.zeros(0, np.uint16)]
        total = 0
        kept = 0
        for genes, rows in groups:
            strides, codes = self._grid(table, genes, rows)
            added, united = values[codes].sum(axis=0), np.bitwise_or.reduce(bits[codes], axis=0)
            if not genes:
                self.base += float(added[0])
                self.flags |= int(united[0])
                continue
            self._strides[kept] = strides
            self._offsets[kept, 0] = total
            sums.append(added)
            flags.append(united)
            total += len(added)
            kept += 1
        self._strides, self._offsets = self._strides[:kept], self._offsets[:kept]
        self._sums, self._flags = np.concatenate(sums), np.concatenate(flags)
        always = np.uint16(self.flags)
        self._has_flags = bool((self._flags & ~always).any())

    @property
    def groups(self) -> int:
        """How many look-ups an architecture takes."""
        return len(self._strides)

    def __call__(self, genes: Genes) -> tuple[Values, Bits]:
        """The sums and the united flags of an `n x d` array of genes, arrays of length `n`."""
        codes = (self._strides @ genes.T.astype(np.float32)).astype(np.int32)
        codes += self._offsets
        total = np.full(len(genes), self.base)
        united = np.full(len(genes), self.flags, np.uint16)
        for row in codes:
            total += self._sums.take(row, mode="clip")
            if self._has_flags:
                united |= self._flags.take(row, mode="clip")
        return total, united

    def _grid(
        self, table: Tabulation, genes: tuple[int, ...], rows: list[int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
        """The strides of a group and its rows' codes for all combinations of its genes."""
        strides = np.zeros(len(self._sizes), np.float32)
        count = 1
        for gene in genes:
            strides[gene] = count
            count *= int(self._sizes[gene])
        grid = np.zeros((count, len(self._sizes)), np.float32)
        for gene in genes:
            grid[:, gene] = (np.arange(count) // int(strides[gene])) % self._sizes[gene]
        codes = table.strides[rows] @ grid.T
        return strides, codes.astype(np.intp) + table.offsets[rows, None]


def _groups(
    table: Tabulation, sizes: npt.NDArray[np.int64], most: int
) -> list[tuple[tuple[int, ...], list[int]]]:
    """Rows put together while the combinations of their genes stay few enough.

    Rows with the most combinations come first; each joins the group that it widens least.
    """
    reads = [frozenset(np.flatnonzero(s).tolist()) for s in table.strides]
    entries = [int(np.prod(sizes[list(r)], dtype=np.int64)) if r else 1 for r in reads]
    groups: list[tuple[frozenset[int], list[int]]] = []
    for row in sorted(range(len(reads)), key=lambda r: (-entries[r], r)):
        best, cost = -1, float(most)
        for place, (genes, _) in enumerate(groups):
            if not reads[row] and genes:
                continue  # what depends on nothing is no look-up
            union = genes | reads[row]
            count = float(np.prod(sizes[list(union)], dtype=np.float64)) if union else 1.0
            limit = max(float(most), float(np.prod(sizes[list(genes)], dtype=np.float64)))
            if (union == genes or count <= limit) and (best < 0 or count < cost):
                best, cost = place, count
        if best < 0:
            groups.append((reads[row], [row]))
        else:
            genes, rows = groups[best]
            groups[best] = (genes | reads[row], [*rows, row])
    return [(tuple(sorted(genes)), rows) for genes, rows in groups]
