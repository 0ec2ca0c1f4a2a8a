"""The expected value of a sum over table rows under independent choices, and its gradient.

A metric that adds up over the rows of a tabulation (MACs, parameters, a latency that adds up
kernels) is a sum of small tables over few genes each. Where every choice is drawn on its own, the
expectation of a table is its product with the probabilities of its genes, so that the expectation
of the sum is exact without drawing anything: the expected latency of ProxylessNAS (equation 8),
for choices of any kind and for layers that read several of them.

Reference:
    Cai et al., ProxylessNAS: direct neural architecture search on target task and hardware,
    ICLR 2019, arXiv 1812.00332, sec. 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes, SearchSpace
from search_spaces.additive import Factor, factors_of
from search_spaces.tabulate import Tabulation

Vector: TypeAlias = npt.NDArray[np.float64]

_CHECKED_ROWS = 512


class ExpectedSum:
    """A cost that adds up over the rows of a table; to be given as the cost of a learner.

    >>> from search_spaces import CNNSpace, layer_values
    >>> space = CNNSpace()
    >>> macs = ExpectedSum(space, *layer_values(space, "macs"), reference=1e6)
    >>> float(macs(space.extremes("largest"))[0]) > 1
    True

    Args:
        space: The space whose genes the table reads.
        table: The tabulation.
        values: The summand of every variant, an array like the table's flat columns.
        constant: What every architecture costs beside them.
        reference: What the sum is divided by.

    Raises:
        BadInputError: Values that do not fit the table, a reference that is not positive, or a
            table in which choices count that are not active.
    """

    def __init__(
        self,
        space: SearchSpace,
        table: Tabulation,
        values: npt.ArrayLike,
        *,
        constant: float = 0.0,
        reference: float = 1.0,
    ) -> None:
        if not 0 < reference < np.inf:
            raise BadInputError(f"reference must be a positive number, got {reference}")
        self.space = space
        self.table = table
        self.values = np.asarray(values, np.float64) / reference
        self.constant = constant / reference
        self.factors = factors_of(table, self.values, [int(s) for s in space.gene_space.sizes])
        drawn = space.gene_space.uniform(_CHECKED_ROWS, np.random.default_rng(0))
        if not np.allclose(self(drawn), self(space.canonical(drawn)), rtol=1e-9, atol=0):
            raise BadInputError(
                "the sum reads choices where they are not active, so that its expectation is not "
                "that of the architectures; give the cost as a function instead"
            )

    def __call__(self, genes: Genes) -> Vector:
        """The cost of an `n x d` array of genes, by the reference."""
        summed: Vector = self.constant + self.values[self.table.codes(genes)].sum(axis=0)
        return summed

    def expectation(self, probabilities: Sequence[Vector]) -> tuple[float, list[Vector]]:
        """The expected cost, and its derivative by each probability; see `expectation`."""
        value, slopes = expectation(self.factors, probabilities)
        return self.constant + value, slopes


def expectation(
    factors: Sequence[Factor], probabilities: Sequence[Vector]
) -> tuple[float, list[Vector]]:
    """The expected sum of tables where every gene is drawn on its own.

    Args:
        factors: Tables over a few genes each.
        probabilities: For each gene an array over its values.

    Returns:
        The expectation, and for each gene its derivative by the probabilities, taken as if they
        were free to move: an array over the gene's values.
    """
    total = 0.0
    slopes = [np.zeros(len(p)) for p in probabilities]
    for factor in factors:
        if not factor.genes:
            total += float(factor.values)
            continue
        for axis, gene in enumerate(factor.genes):
            slope = _contracted(factor, axis, probabilities)
            slopes[gene] += slope
        total += float(slope @ probabilities[gene])
    return total, slopes


def _contracted(factor: Factor, kept: int, probabilities: Sequence[Vector]) -> Vector:
    """A table summed over all its genes but one, weighted with their probabilities."""
    values: Vector = np.moveaxis(factor.values, kept, 0)
    others = [gene for axis, gene in enumerate(factor.genes) if axis != kept]
    for gene in reversed(others):
        values = values @ probabilities[gene]
    return values
