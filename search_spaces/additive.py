"""The least and the greatest value of a sum over table rows, exactly.

A metric that is a sum over the rows of a tabulation (MACs, parameters, a latency that adds up
kernels) is a sum of small tables over few genes each. Its minimum over all architectures is found
without visiting them: genes are eliminated one by one, each step joining the tables that read the
gene and minimising over it (bucket elimination, Dechter, Artificial Intelligence 113, 1999). The
cost is exponential only in the number of genes that a joined table reads, small for chains of
stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.genes import Genes
from search_spaces.space import SearchSpace
from search_spaces.tabulate import Tabulation

MAX_JOINED = 1 << 24
"""Entries of the largest table that is joined."""


@dataclass(frozen=True, slots=True)
class _Factor:
    genes: tuple[int, ...]
    values: npt.NDArray[np.float64]


def least(
    space: SearchSpace, table: Tabulation, values: npt.NDArray[np.float64]
) -> tuple[float, Genes]:
    """The least sum over the rows of a table, and an architecture that has it.

    Args:
        space: The space whose genes the table reads.
        table: The tabulation.
        values: The summand of every variant, an array like the table's flat columns. Negate it to
            find the greatest sum.

    Returns:
        The least sum, and its genes as a canonical row.

    Raises:
        BadInputError: The rows hang together too tightly to be eliminated in memory.
    """
    sizes = [int(s) for s in space.gene_space.sizes]
    factors = _factors(table, np.asarray(values, np.float64), sizes)
    eliminated: list[tuple[int, _Factor]] = []
    left = set(range(len(sizes)))
    while left:
        gene = min(left, key=lambda g: (len(_neighbours(factors, g)), g))
        left.remove(gene)
        touching = [f for f in factors if gene in f.genes]
        if not touching:
            continue
        joined = _join(touching, gene, sizes)
        eliminated.append((gene, joined))
        factors = [f for f in factors if gene not in f.genes]
        factors.append(_Factor(joined.genes[:-1], joined.values.min(axis=-1)))
    row = np.zeros(len(sizes), np.int16)
    for gene, joined in reversed(eliminated):
        row[gene] = joined.values[tuple(row[list(joined.genes[:-1])])].argmin()
    total = sum(float(f.values) for f in factors)
    return total, space.canonical(row[None])[0]


def _factors(
    table: Tabulation, values: npt.NDArray[np.float64], sizes: list[int]
) -> list[_Factor]:
    """One small table a row, its axes the genes that the row reads."""
    ends = np.append(table.offsets[1:], table.variants)
    factors = []
    for strides, start, end in zip(table.strides, table.offsets, ends, strict=True):
        genes = sorted(np.flatnonzero(strides), key=lambda j: -strides[j])
        shape = [sizes[j] for j in genes]
        factors.append(_Factor(tuple(int(j) for j in genes), values[start:end].reshape(shape)))
    return factors


def _neighbours(factors: list[_Factor], gene: int) -> set[int]:
    return {g for f in factors if gene in f.genes for g in f.genes} - {gene}


def _join(touching: list[_Factor], gene: int, sizes: list[int]) -> _Factor:
    """The sum of tables over the union of their genes, the given gene last."""
    genes = (*sorted({g for f in touching for g in f.genes} - {gene}), gene)
    shape = [sizes[g] for g in genes]
    if np.prod(shape, dtype=np.float64) > MAX_JOINED:
        raise BadInputError(
            f"the exact bound needs a table over {len(genes)} choices at once; use a search "
            f"instead"
        )
    total = np.zeros(shape)
    for factor in touching:
        order = sorted(range(len(factor.genes)), key=lambda k: genes.index(factor.genes[k]))
        aligned = factor.values.transpose(order)
        total += aligned.reshape([sizes[g] if g in factor.genes else 1 for g in genes])
    return _Factor(genes, total)
