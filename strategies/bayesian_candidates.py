"""The networks that a Bayesian search chooses from, described once.

Where a space is small enough, or rows are given, the candidates are a fixed list with known costs.
Elsewhere they are made anew each time, from the best networks measured and from random ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from predictors.gaussian_process import feature_groups, grouped_columns, network_names
from predictors.kernels import Groups
from records import generator
from search_spaces import Genes, SearchSpace
from strategies.bayesian_pool import Pool
from strategies.dominance import is_non_dominated
from strategies.feasibility import sample_feasible
from strategies.known_rows import row_keys
from strategies.nsga2 import NSGA2
from strategies.problem import Problem
from strategies.protocols import Floats

Places: TypeAlias = npt.NDArray[np.intp]

_CHUNK = 8192
_POPULATION = 100
_GENERATIONS = 20
_LEAST_MS = 1e-12
_MACS = ("log macs", "log_macs")  # of live layers, or of all


class Candidates:
    """Rows with their features, their sizes, costs and whether they keep the limits.

    Args:
        problem: The space, costs and limits.
        genes: An `n x d` array of distinct canonical rows.
        costs_known: Whether costs may be asked for.
    """

    def __init__(self, problem: Problem, genes: Genes, *, costs_known: bool) -> None:
        self.genes = genes
        self.keys = row_keys(genes)
        self._order = np.argsort(self.keys)
        self.features, self.log_macs = _described(problem.space, genes)
        self.latency_ms: Floats | None = None
        self.counted_ms: Floats | None = None
        """The latencies, infinite on a target that does not allow a row which another allows."""
        self.is_feasible = np.ones(len(genes), np.bool_)
        if costs_known:
            parts = [genes[i : i + _CHUNK] for i in range(0, len(genes), _CHUNK)]
            none = np.zeros((0, len(problem.targets)))
            costs = [problem.cheap_objectives(part) for part in parts]
            self.latency_ms = np.concatenate([none, *costs])
            kept = [problem.allows(part) for part in parts]
            allowed = np.concatenate([np.zeros(none.shape, np.bool_), *kept])
            self.is_feasible = np.asarray(allowed.any(axis=1))
            useless = ~allowed & self.is_feasible[:, None]
            self.counted_ms = np.where(useless, np.inf, self.latency_ms)

    def __len__(self) -> int:
        return len(self.genes)

    def pool(self, wanted: npt.NDArray[np.bool_]) -> Pool:
        """Those of the candidates that are marked."""
        rows = np.flatnonzero(wanted)
        return Pool(
            genes=self.genes[rows],
            latency_ms=None if self.counted_ms is None else self.counted_ms[rows],
            features=self.features,
            places=rows,
        )

    def places(self, genes: Genes) -> Places:
        """The place of each row among the candidates, -1 where it is none of them."""
        keys = row_keys(genes)
        if len(self) == 0:
            return np.full(len(genes), -1, np.intp)
        found = np.searchsorted(self.keys, keys, sorter=self._order)
        place = self._order[np.minimum(found, len(self) - 1)]
        return np.where(self.keys[place] == keys, place, -1)

    def design(self, free: Places, rng: np.random.Generator, size: int) -> Places:
        """The places of up to `size` rows to begin with, of those at the places `free`.

        The row with the most MACs is among them: it bounds the front, and where a supernet is
        trained for a short time it is ahead of all others by far. Where latencies are known, the
        others are spread over the front of least latency and most MACs:
        the networks that do most work in their time are the ones to expect on the front that is
        sought. Where there are too few of these, and where latencies are not known, rows are
        spread over MACs.
        """
        if len(free) == 0 or size < 1:
            return free[:0]
        largest = int(self.log_macs[free].argmax())
        chosen, rest = free[[largest]], np.delete(free, largest)
        if self.latency_ms is not None:
            latency = np.log(np.maximum(self.latency_ms[free], _LEAST_MS)).sum(axis=1)
            points = np.column_stack([latency, -self.log_macs[free]])
            best = np.flatnonzero(is_non_dominated(points))
            best = best[best != largest]
            spread = _spread(latency[best], free[best], rng, size - 1)
            chosen = np.concatenate([chosen, spread])
        rest = rest[~np.isin(rest, chosen)]
        more = _spread(self.log_macs[rest], rest, rng, size - len(chosen))
        return np.concatenate([chosen, more])


def cheap_front(problem: Problem, seed: int, *, costs_known: bool) -> Genes:
    """Rows of a space that is not listed: those that do most work in their time, and others.

    Where costs are known, a short evolution seeks the front of least latency and most MACs within
    the limits; all rows that it meets are given, the ends of the space among them. Where they are
    not, random rows and the ends.
    """
    space = problem.space
    rng = generator(seed, "strategies", "cheap front")
    ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    if not costs_known:
        rows = np.concatenate([ends, space.sample(_POPULATION, rng, "architectures")])
        return rows[np.sort(np.unique(row_keys(rows), return_index=True)[1])]
    ends = ends[problem.violations(ends) <= 0]
    starts = np.concatenate([ends, sample_feasible(problem, _POPULATION, rng, ends)])
    evolution = NSGA2(
        space, population_size=_POPULATION, seed=int(rng.integers(2**62)), initial=starts
    )
    met = [space.gene_space.check(starts)[:0]]
    for _ in range(_GENERATIONS):
        genes = evolution.ask(_POPULATION)
        if len(genes) == 0:
            break
        latency = np.log(np.maximum(problem.cheap_objectives(genes), _LEAST_MS)).sum(axis=1)
        work = np.log(np.maximum(space.layer_table(genes).macs, 1))
        violations = problem.violations(genes)
        evolution.tell(genes, np.column_stack([latency, -work]), violations)
        met.append(genes[violations <= 0])
    return np.concatenate(met)


def describe(space: SearchSpace, genes: Genes) -> Groups:
    """The scaled groups of features of `n` rows, in single precision."""
    return _described(space, genes)[0]


def _described(space: SearchSpace, genes: Genes) -> tuple[Groups, Floats]:
    """The scaled groups of features, and the logarithms of MACs."""
    groups = feature_groups(space)
    if len(genes) == 0:
        none = tuple(np.zeros((0, len(members)), np.float32) for members in groups.columns)
        return none, np.zeros(0)
    columns = grouped_columns(space, genes)
    macs = [j for j, name in enumerate(network_names(space)) if name in _MACS]
    log_macs = columns[:, macs[0]] if macs else np.zeros(len(genes))  # else they do not vary
    return groups.scale(columns, np.float32), log_macs


def _spread(keys: Floats, places: Places, rng: np.random.Generator, count: int) -> Places:
    """One random place of each of up to `count` equal groups in the order of the keys."""
    order = np.lexsort((rng.random(len(keys)), keys))
    edges = np.linspace(0, len(order), min(max(count, 0), len(order)) + 1).astype(np.intp)
    picks = [rng.integers(begin, end) for begin, end in pairwise(edges)]
    return places[order[np.array(picks, np.intp)]]
