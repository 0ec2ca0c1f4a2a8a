"""Architectures whose metric lies in a band, looked for where the metric is no sum over tables.

An evolution with a bounded number of evaluations; what it finds is not uniform over the band. For
metrics that are sums over table rows `search_spaces.band` draws uniformly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.additive import InfeasibleLimitError
from search_spaces.band import check_band
from search_spaces.genes import Genes
from search_spaces.space import SearchSpace

_BATCH = 1024
"""Architectures of a round."""

_PARENTS = 256
"""Architectures that a round keeps to vary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundInBand:
    """Architectures in a band that a search found; they are not drawn uniformly.

    Attributes:
        genes: A `k x d` array of distinct architectures; `k` may be less than was asked for.
        values: Their metric, an array of length `k`.
        evaluated: How many architectures the search looked at.
    """

    genes: Genes
    values: npt.NDArray[np.float64]
    evaluated: int


def search_in_band(
    space: SearchSpace,
    metric: Callable[[Genes], npt.NDArray[np.float64]],
    n: int,
    rng: np.random.Generator,
    low: float,
    high: float,
    *,
    evaluations: int = 50_000,
) -> FoundInBand:
    """Looks for `n` distinct architectures with a metric in `[low, high]`, by evolution.

    Half of the architectures looked at are random draws of the space, the others crossovers and
    mutations of those nearest to the band.

    Args:
        space: The space.
        metric: The metric of an `n x d` array of canonical genes, an array of length `n`; a NaN
            is in no band.
        n: How many.
        rng: The source of randomness.
        low: The least metric.
        high: The greatest metric.
        evaluations: At most so many architectures are looked at (rounded up to a thousand).

    Raises:
        InfeasibleLimitError: None was found; the nearest metric found is named.
        BadInputError: A band that is none.
    """
    check_band(low, high)
    parents, away = np.zeros((0, len(space.choices)), np.int16), np.zeros(0)
    closest, evaluated = math.nan, 0
    found: dict[bytes, tuple[Genes, float]] = {}
    genes = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    while len(found) < n and evaluated < evaluations:
        values = np.asarray(metric(genes), np.float64)
        evaluated += len(genes)
        distance = np.maximum(np.maximum(low - values, values - high), 0.0)
        distance = np.where(np.isnan(values), np.inf, distance)
        found |= {genes[i].tobytes(): (genes[i], values[i]) for i in np.flatnonzero(distance == 0)}
        if distance.min() < away.min(initial=math.inf):
            closest = float(values[distance.argmin()])
        parents, away = _nearest(
            np.concatenate([parents, genes]), np.concatenate([away, distance]), rng
        )
        pick = rng.integers(len(parents), size=(2, _BATCH // 2))
        children = space.crossover(parents[pick[0]], parents[pick[1]], rng)
        children = space.mutate(children, rng, float(rng.choice([0.0, 0.05, 0.2])))
        genes = np.concatenate([space.sample(_BATCH // 2, rng), children])
    if not found and n > 0:
        raise InfeasibleLimitError(
            f"no architecture of {space.name!r} was found from {low:g} to {high:g} among "
            f"{evaluated}: the nearest found has {closest:g}; widen the band or allow more "
            "evaluations",
            closest,
        )
    kept = list(found.values())[:n]
    return FoundInBand(
        genes=np.array([row for row, _ in kept], np.int16).reshape(-1, len(space.choices)),
        values=np.array([value for _, value in kept]),
        evaluated=evaluated,
    )


def _nearest(
    genes: Genes, distance: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[Genes, npt.NDArray[np.float64]]:
    """The distinct rows nearest to the band; which of those inside stay is drawn."""
    _, first = np.unique(genes, axis=0, return_index=True)
    first = rng.permutation(first)
    first = first[np.argsort(distance[first], kind="stable")[:_PARENTS]]
    return genes[first], distance[first]
