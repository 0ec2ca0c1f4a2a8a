"""The order in which genes are eliminated along a path, and the tables that each step joins.

A sum of small tables over few genes each is walked through gene by gene. A step joins the tables
that read a gene to what is alive, and forgets the genes that nothing reads any more. What is
alive between two steps is one table; its size, which the order decides, is the cost. An order is
found greedily (the next gene is a near one that leaves the smallest table), from a few starts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.additive import Factor, activity_factors, summed
from search_spaces.genes import GeneSpace

_STARTS = 6
"""Genes from which an order of elimination is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the elimination.

    Attributes:
        before: The genes alive before.
        after: The genes alive after.
        forgotten: The genes that are forgotten; the arrays below are over `after + forgotten`.
        values: What is added to the sum, infinity where the setting is not canonical.
        source: The entry of the table before.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    forgotten: tuple[int, ...]
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


def elimination(factors: Sequence[Factor], sizes: Sequence[int]) -> list[Step]:
    """The steps of the cheapest of a few greedy orders."""
    reads = [frozenset(f.genes) for f in factors if f.genes]
    neighbours = [frozenset[int]().union(*(r for r in reads if g in r)) for g in range(len(sizes))]
    starts = sorted(range(len(sizes)), key=lambda g: (entries(neighbours[g], sizes), g))
    tried = [*starts[:_STARTS], 0, len(sizes) - 1]
    orders = [_order(start, neighbours, sizes) for start in dict.fromkeys(tried)]
    order = min(orders, key=lambda o: _cost(o, neighbours, sizes))
    return _along(order, [f for f in factors if f.genes], sizes)


def entries(genes: Collection[int], sizes: Sequence[int]) -> int:
    """The number of settings of some genes."""
    return math.prod(sizes[g] for g in genes)


def _order(start: int, neighbours: Sequence[frozenset[int]], sizes: Sequence[int]) -> list[int]:
    """Eliminates the gene next that leaves the fewest settings alive, from those nearby."""
    order, alive, left = list[int](), frozenset[int](), frozenset(range(len(sizes)))
    near = frozenset({start})
    while left:
        unions = {g: alive | (neighbours[g] & left) for g in near}
        gene = min(
            near, key=lambda g: (entries(unions[g] - {g}, sizes), entries(unions[g], sizes), g)
        )
        order.append(gene)
        alive, left = unions[gene] - {gene}, left - {gene}
        near = frozenset(g for g in left if neighbours[g] & alive) or left
    return order


def _cost(order: Sequence[int], neighbours: Sequence[frozenset[int]], sizes: Sequence[int]) -> int:
    """The settings that all steps of an order look at together."""
    total, alive, done = 0, frozenset[int](), frozenset[int]()
    for gene in order:
        union = alive | (neighbours[gene] - done)
        total += entries(union, sizes)
        alive, done = union - {gene}, done | {gene}
    return total


def _along(order: Sequence[int], factors: Sequence[Factor], sizes: Sequence[int]) -> list[Step]:
    """The steps of an order: a gene whose tables are all joined is forgotten with it."""
    left, before = list(factors), tuple[int, ...]()
    steps: list[Step] = []
    for gene in order:
        joining = [f for f in left if gene in f.genes]
        if not joining and gene not in before:
            continue  # forgotten with an earlier one
        left = [f for f in left if gene not in f.genes]
        union = sorted(set(before).union(*(f.genes for f in joining)))
        read = {g for f in left for g in f.genes}
        after = tuple(g for g in union if g in read)
        forgotten = tuple(g for g in union if g not in read)
        values = summed(joining, (*after, *forgotten), sizes)
        places = np.arange(entries(before, sizes)).reshape([sizes[g] for g in before])
        spread = summed([Factor(before, places.astype(np.float64))], (*after, *forgotten), sizes)
        steps.append(
            Step(
                before=before,
                after=after,
                forgotten=forgotten,
                values=values.ravel(),
                source=spread.ravel().astype(np.int64),
            )
        )
        before = after
    return steps
