"""The least and the greatest value of a sum over table rows, exactly.

A metric that is a sum over the rows of a tabulation (MACs, parameters, a latency that adds up
kernels) is a sum of small tables over few genes each. Its minimum over all architectures is found
without visiting them: genes are eliminated one by one, each step joining the tables that read the
gene and minimising over it (bucket elimination, Dechter, Artificial Intelligence 113, 1999). The
cost is exponential only in the number of genes that a joined table reads, small for chains of
stages.

What is not allowed is a sum of infinity: so the minimum over the architectures in which a choice
is active with a given value takes two more small tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError, HwnasError, unknown_name
from search_spaces.choice import Value
from search_spaces.genes import Genes, GeneSpace
from search_spaces.space import SearchSpace
from search_spaces.tabulate import Tabulation

MAX_JOINED = 1 << 24
"""Entries of the largest table that is joined."""

LAYER_METRICS = ("macs", "parameters", "elements")
"""Columns of the layer table that add up over the layers."""


class InfeasibleLimitError(HwnasError, ValueError):
    """No architecture has a metric within the limits.

    Attributes:
        nearest: The value nearest to the limits that was reached.
    """

    def __init__(self, message: str, nearest: float) -> None:
        super().__init__(message)
        self.nearest = nearest


@dataclass(frozen=True, slots=True)
class Factor:
    """A table over a few genes, one axis a gene."""

    genes: tuple[int, ...]
    values: npt.NDArray[np.float64]


def layer_values(space: SearchSpace, metric: str) -> tuple[Tabulation, npt.NDArray[np.float64]]:
    """The layer table of a space and a column that adds up: `macs`, `parameters`, `elements`.

    Raises:
        UnknownNameError: Another name.
    """
    if metric not in LAYER_METRICS:
        raise unknown_name("metric of the layers", metric, LAYER_METRICS)
    return space.layers, space.layers.columns[metric].astype(np.float64)


def least(
    space: SearchSpace,
    table: Tabulation,
    values: npt.NDArray[np.float64],
    *,
    having: Mapping[str, Value] | None = None,
) -> tuple[float, Genes]:
    """The least sum over the rows of a table, and an architecture that has it.

    Args:
        space: The space whose genes the table reads.
        table: The tabulation.
        values: The summand of every variant, an array like the table's flat columns. Negate it to
            find the greatest sum.
        having: Only architectures in which these choices are active, with these values.

    Returns:
        The least sum, and its genes as a canonical row; infinity and any row where no
        architecture is as `having` says.

    Raises:
        BadInputError: The rows hang together too tightly to be eliminated in memory; a choice or
            value that the space does not have.
    """
    sizes = [int(s) for s in space.gene_space.sizes]
    factors = factors_of(table, values, sizes)
    if having:
        factors = merged([*factors, *_having(space.gene_space, having)])
    total, row = eliminate(factors, sizes)
    return total, space.canonical(row[None])[0]


def eliminate(factors: Sequence[Factor], sizes: Sequence[int]) -> tuple[float, Genes]:
    """The least sum of tables over the genes that they share, and a row of genes that has it."""
    left = list(factors)
    neighbours: list[set[int]] = [set() for _ in sizes]
    for factor in left:
        for gene in factor.genes:
            neighbours[gene].update(factor.genes)
    eliminated: list[tuple[int, Factor]] = []
    genes = {g for f in left for g in f.genes}
    while genes:
        gene = min(genes, key=lambda g: (len(neighbours[g]), g))
        genes.remove(gene)
        table = joined([f for f in left if gene in f.genes], gene, sizes)
        eliminated.append((gene, table))
        left = [f for f in left if gene not in f.genes]
        left.append(Factor(table.genes[:-1], table.values.min(axis=-1)))
        for other in table.genes[:-1]:
            neighbours[other].update(table.genes)
            neighbours[other].remove(gene)
    row = np.zeros(len(sizes), np.int16)
    for gene, table in reversed(eliminated):
        row[gene] = table.values[tuple(row[list(table.genes[:-1])])].argmin()
    return math.fsum(float(f.values) for f in left), row


def factors_of(
    table: Tabulation, values: npt.NDArray[np.float64], sizes: Sequence[int]
) -> list[Factor]:
    """The sum over a table's rows as small tables, one for each set of genes that rows read.

    Raises:
        BadInputError: Values that are not one finite number for each variant.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (table.variants,) or not np.isfinite(values).all():
        raise BadInputError(
            f"a sum over table rows needs a finite value for each of its {table.variants} "
            f"variants, got an array of shape {values.shape}"
        )
    return merged(_rows(table, values, sizes))


def activity_factors(space: GeneSpace) -> dict[int, Factor]:
    """For every conditional gene a table that is 1 where it is active and else 0."""
    sizes = [int(s) for s in space.sizes]
    conditional, table = space.activity
    if len(conditional) == 0:
        return {}
    rows = _rows(table, table.columns["active"].astype(np.float64), sizes)
    return dict(zip(conditional.tolist(), rows, strict=True))


def _rows(
    table: Tabulation, values: npt.NDArray[np.float64], sizes: Sequence[int]
) -> list[Factor]:
    """One small table a row, its axes the genes that the row reads."""
    ends = np.append(table.offsets[1:], table.variants)
    factors = []
    for strides, start, end in zip(table.strides, table.offsets, ends, strict=True):
        genes = sorted(np.flatnonzero(strides).tolist(), key=lambda j: -strides[j])
        shape = [sizes[j] for j in genes]
        factors.append(Factor(tuple(genes), values[start:end].reshape(shape)))
    return factors


def _having(space: GeneSpace, having: Mapping[str, Value]) -> list[Factor]:
    """Infinity wherever a choice is inactive or has another value."""
    position = {c.name: j for j, c in enumerate(space.choices)}
    active = activity_factors(space)
    factors = []
    for name, value in having.items():
        if name not in position:
            raise unknown_name("choice", name, position)
        gene = position[name]
        values = space.choices[gene].values
        if value not in values:
            raise BadInputError(f"choice {name!r} is never {value!r}; allowed: {values}")
        excess = np.array([0.0 if v == value else math.inf for v in values])
        factors.append(Factor((gene,), excess))
        if gene in active:
            missing = np.where(active[gene].values > 0, 0.0, math.inf)
            factors.append(Factor(active[gene].genes, missing))
    return factors


def merged(factors: Iterable[Factor]) -> list[Factor]:
    """The same sum with one table for each set of genes, its axes in ascending order."""
    sums: dict[tuple[int, ...], npt.NDArray[np.float64]] = {}
    for factor in factors:
        order = np.argsort(factor.genes).tolist()
        genes = tuple(factor.genes[k] for k in order)
        aligned = factor.values.transpose(order)
        sums[genes] = sums[genes] + aligned if genes in sums else aligned
    return [Factor(genes, values) for genes, values in sums.items()]


def joined(factors: Sequence[Factor], gene: int, sizes: Sequence[int]) -> Factor:
    """The sum of tables over the union of their genes, the given gene last.

    Raises:
        BadInputError: The table would have more than `MAX_JOINED` entries.
    """
    genes = (*sorted({g for f in factors for g in f.genes} - {gene}), gene)
    return Factor(genes, summed(factors, genes, sizes))


def summed(
    factors: Sequence[Factor], genes: Sequence[int], sizes: Sequence[int]
) -> npt.NDArray[np.float64]:
    """The sum of tables as an array over the given genes, which include theirs.

    Raises:
        BadInputError: The array would have more than `MAX_JOINED` entries.
    """
    shape = [sizes[g] for g in genes]
    if math.prod(shape) > MAX_JOINED:
        raise BadInputError(
            f"the exact result needs a table over {len(genes)} choices at once; use a search "
            "instead"
        )
    place = {g: k for k, g in enumerate(genes)}
    total = np.zeros(shape)
    for factor in factors:
        order = sorted(range(len(factor.genes)), key=lambda k: place[factor.genes[k]])
        aligned = factor.values.transpose(order)
        total += aligned.reshape(
            [s if g in factor.genes else 1 for g, s in zip(genes, shape, strict=True)]
        )
    return total
