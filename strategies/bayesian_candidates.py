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
from search_spaces import Genes, SearchSpace
from strategies.dominance import is_non_dominated
from strategies.known_rows import row_keys
from strategies.problem import Problem
from strategies.protocols import Floats

Places: TypeAlias = npt.NDArray[np.intp]

_CHUNK = 8192
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
        self.is_feasible = np.ones(len(genes), np.bool_)
        if costs_known:
            parts = [genes[i : i + _CHUNK] for i in range(0, len(genes), _CHUNK)]
            none = np.zeros((0, len(problem.targets)))
            costs = [problem.cheap_objectives(part) for part in parts]
            self.latency_ms = np.concatenate([none, *costs])
            kept = [problem.violations(part) <= 0 for part in parts]
            self.is_feasible = np.concatenate([self.is_feasible[:0], *kept])

    def __len__(self) -> int:
        return len(self.genes)

    def part(self, rows: Places) -> tuple[Genes, Floats | None, Groups]:
        """The genes, latencies and features of some of the candidates."""
        latency_ms = None if self.latency_ms is None else self.latency_ms[rows]
        return self.genes[rows], latency_ms, tuple(group[rows] for group in self.features)

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

        Where latencies are known, they are spread over the front of least latency and most MACs:
        the networks that do most work in their time are the ones to expect on the front that is
        sought. Where there are too few of these, and where latencies are not known, rows are
        spread over MACs.
        """
        chosen = np.zeros(0, np.intp)
        if self.latency_ms is not None and len(free):
            latency = np.log(np.maximum(self.latency_ms[free], 1e-12)).sum(axis=1)
            points = np.column_stack([latency, -self.log_macs[free]])
            best = np.flatnonzero(is_non_dominated(points))
            chosen = _spread(latency[best], free[best], rng, size)
        rest = free[~np.isin(free, chosen)]
        more = _spread(self.log_macs[rest], rest, rng, size - len(chosen))
        return np.concatenate([chosen, more])


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
