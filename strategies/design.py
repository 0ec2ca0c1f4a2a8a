"""What a search measures first: the ends of the space, and a spread between them.

The smallest and the largest networks of each kind bound the front; a sample spread evenly over the
quantiles of latency tells a predictor about everything between.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search_spaces import Genes
from strategies.feasibility import sample_feasible
from strategies.known_rows import KnownRows
from strategies.problem import Problem

_POOL = 512


def initial_design(
    problem: Problem,
    size: int,
    rng: np.random.Generator,
    *,
    feasible: Genes,
    first: npt.ArrayLike | None = None,
) -> Genes:
    """Chooses the architectures to begin with.

    Args:
        problem: The space, its costs and limits.
        size: How many; if `first` has more, all of these.
        rng: The source of randomness.
        feasible: Known architectures that keep the limits, a `k x d` array.
        first: Architectures to begin with, in this order, whether they keep the limits or not.

    Returns:
        An array of distinct canonical rows: `first`, the feasible extremes of the space, then a
        feasible sample spread over latency. Fewer than `size` where no more were found.
    """
    space = problem.space
    known = KnownRows()
    parts = [] if first is None else [space.gene_space.check(first)]
    ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    parts.append(ends[problem.violations(ends) <= 0])
    given = np.concatenate(parts)
    chosen = given[known.add(given)]
    asked = 0 if first is None else len(parts[0])
    chosen = chosen[: max(size, asked)]
    if len(chosen) < size:
        pool = sample_feasible(problem, _POOL, rng, feasible)
        pool = pool[known.is_new(pool)]
        chosen = np.concatenate([chosen, _spread(problem, pool, size - len(chosen))])
    return chosen


def _spread(problem: Problem, pool: Genes, count: int) -> Genes:
    """Picks rows at the middles of `count` equal groups in the order of latency."""
    if len(pool) <= count:
        return pool
    latency = np.log(problem.cheap_objectives(pool)).sum(axis=1)
    order = np.argsort(latency, kind="stable")
    middles = ((np.arange(count) + 0.5) * len(pool) / count).astype(np.intp)
    return pool[order[middles]]
