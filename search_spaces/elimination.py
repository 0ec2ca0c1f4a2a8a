"""The order in which genes are eliminated along a path, and the tables that each step joins.

A sum of small tables over few genes each is walked through gene by gene. A step joins the tables
that read a gene to what is alive, and forgets the genes that nothing reads any more. What is
alive between two steps is one table; its size, which the order decides, is the cost. Networks are
chains of layers, so the order in which layers run, or its reverse, keeps it small: a gene is
forgotten after the last layer that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.additive import Factor, activity_factors, summed
from search_spaces.genes import GeneSpace
from search_spaces.tabulate import Tabulation


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the elimination.

    Attributes:
        before: The genes alive before.
        after: The genes alive after.
        gene: The gene that is forgotten; the arrays below are over `(*after, gene)`.
        values: What is added to the sum, infinity where the setting is not canonical.
        source: The entry of the table before.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    gene: int
    values: npt.NDArray[np.float64]
    source: npt.NDArray[np.int64]


def canonical_factors(space: GeneSpace) -> list[Factor]:
    """Tables of 0 and infinity that leave every architecture one row: inactive genes are 0."""
    active = activity_factors(space)
    factors = []
    for gene, size in enumerate(space.sizes):
        factors.append(Factor((gene,), np.zeros(size)))  # every gene is counted
        if gene in active:
            # the gene's own axis, after those of its conditions
            off = active[gene].values[..., None] == 0
            excess = np.where(off & (np.arange(size) > 0), math.inf, 0.0)
            factors.append(Factor((*active[gene].genes, gene), excess))
    return factors


def elimination(table: Tabulation, factors: Sequence[Factor], sizes: Sequence[int]) -> list[Step]:
    """The steps of the cheaper of two orders: along the rows of a table, and against them.

    Args:
        table: The tabulation, its rows in the order in which layers run.
        factors: The tables to join; every gene has one of its own.
        sizes: The number of values of each gene.
    """
    reads = [frozenset(f.genes) for f in factors if f.genes]
    neighbours = [frozenset[int]().union(*(r for r in reads if g in r)) for g in range(len(sizes))]
    along = _order([r[-1] if len(r) else None for r in _rows_of(table)], neighbours)
    against = _order([-r[0] if len(r) else None for r in _rows_of(table)], neighbours)
    order = min(along, against, key=lambda o: _cost(o, neighbours, sizes))
    return _along(order, [f for f in factors if f.genes], sizes)


def entries(genes: Collection[int], sizes: Sequence[int]) -> int:
    """The number of settings of some genes."""
    return math.prod(sizes[g] for g in genes)


def _rows_of(table: Tabulation) -> list[list[int]]:
    """For each gene the rows of a table that read it, ascending."""
    return [np.flatnonzero(column).tolist() for column in table.strides.T]


def _order(last: Sequence[int | None], neighbours: Sequence[frozenset[int]]) -> list[int]:
    """The genes by the time at which they are read last; None where no row reads a gene.

    Such a gene goes just before the first of those that its condition reads.
    """
    place: list[float] = []
    for gene, time in enumerate(last):
        near = (t for n in neighbours[gene] if (t := last[n]) is not None)
        place.append(min(near, default=-math.inf) - 0.5 if time is None else time)
    return sorted(range(len(last)), key=lambda g: (place[g], g))


def _cost(order: Sequence[int], neighbours: Sequence[frozenset[int]], sizes: Sequence[int]) -> int:
    """The settings that all steps of an order look at together."""
    total, alive, done = 0, frozenset[int](), frozenset[int]()
    for gene in order:
        union = alive | (neighbours[gene] - done)
        total += entries(union, sizes)
        alive, done = union - {gene}, done | {gene}
    return total


def _along(order: Sequence[int], factors: Sequence[Factor], sizes: Sequence[int]) -> list[Step]:
    """The steps of an order: each joins the tables that read a gene and are left."""
    left, before = list(factors), tuple[int, ...]()
    steps: list[Step] = []
    for gene in order:
        joining = [f for f in left if gene in f.genes]
        left = [f for f in left if gene not in f.genes]
        after = tuple(sorted(set(before).union(*(f.genes for f in joining)) - {gene}))
        values = summed(joining, (*after, gene), sizes)
        places = np.arange(entries(before, sizes)).reshape([sizes[g] for g in before])
        spread = summed([Factor(before, places.astype(np.float64))], (*after, gene), sizes)
        steps.append(
            Step(
                before=before,
                after=after,
                gene=gene,
                values=values.ravel(),
                source=spread.ravel().astype(np.int64),
            )
        )
        before = after
    return steps
