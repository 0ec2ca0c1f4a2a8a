"""Local search: the neighbours of the best networks, all of them, then those farther away.

The members of the front are taken one after the other, and all architectures that differ from
one in a single choice are proposed. Where no member has an unknown neighbour left, the search
looks two choices away at random, then three, and so on, until the front moves.

Deviations from the papers: a bounded front; steps beyond the first neighbourhood in the place of
restarts; proposals of whole batches.

References:
    1. White et al., Exploring the loss landscape in neural architecture search, UAI 2021,
       arXiv 2005.02960 (local search for architectures).
    2. Paquete et al., Pareto local optimum sets in the biobjective traveling salesman problem,
       2004 (for several objectives).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes, SearchSpace
from strategies.dominance import constrained_rank, crowding_distance
from strategies.known_rows import KnownRows, row_keys
from strategies.neighbourhood import neighbours, wander
from strategies.protocols import Floats
from strategies.strategy import Strategy, floats_from_json, floats_to_json


class LocalSearch(Strategy):
    """Explores around the non-dominated networks, nearest first.

    Args:
        space: The space.
        starts: How many random networks to begin with, beside `initial`.
        front_size: How many non-dominated networks are kept at most, the loneliest.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: Fewer than 1 start, or a front of less than 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        starts: int = 10,
        front_size: int = 200,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        for name, number in (("starts", starts), ("front_size", front_size)):
            if number < 1:
                raise BadInputError(f"{name} must be at least 1, got {number}")
        super().__init__(space, seed=seed, initial=initial)
        self.starts = starts
        self.front_size = front_size
        self.reach = 1
        self._told = 0
        self._front = self._no_rows()
        self._objectives: Floats = np.zeros((0, 0))
        self._violations: Floats = np.zeros(0)
        self._explored = KnownRows()

    @property
    def front(self) -> Genes:
        """The non-dominated rows; while none keeps the limits, those that miss them by least."""
        return self._front.copy()

    def _propose(self, n: int) -> Genes:
        if self._told < self.starts or len(self._front) == 0:
            return self._start(n)
        parts = self._nearest(n)
        missing = n - sum(map(len, parts))
        if missing > 0:
            self.reach = max(self.reach, 2)
            picks = self.rng.integers(len(self._front), size=4 * missing)
            rows = wander(self.space, self._front[picks], self.reach, self.rng)
            rows = rows[self._known.is_new(rows)]
            if len(rows) < missing:
                self.reach = min(self.reach + 1, len(self.space.choices))
            parts.append(rows)
        return np.concatenate(parts)

    def _start(self, n: int) -> Genes:
        """What is proposed before there is a front to search around: random rows."""
        return self.space.sample(n, self.rng)

    def _nearest(self, n: int) -> list[Genes]:
        """Unknown neighbours of members of the front, at least `n` if there are so many."""
        found: list[Genes] = []
        unexplored = self._front[self._explored.is_new(self._front)]
        order = np.argsort(row_keys(unexplored))  # as good as random, and stays as it is
        for row in unexplored[order]:
            rows = neighbours(self.space, row)
            rows = rows[self._known.is_new(rows)]
            if len(rows) == 0:
                self._explored.update(row_keys(row[None]))
                continue
            found.append(self.rng.permutation(rows))
            if sum(map(len, found)) >= n:
                break
        return found

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        self._told += len(genes)
        before = row_keys(self._front)
        known = ~np.isin(before, row_keys(genes))  # told again: the later value counts
        if len(before):
            genes = np.concatenate([self._front[known], genes])
            objectives = np.concatenate([self._objectives[known], objectives])
            violations = np.concatenate([self._violations[known], violations])
        usable = ~np.isnan(objectives).any(axis=1) | (violations > 0)
        genes, objectives, violations = genes[usable], objectives[usable], violations[usable]
        rank = constrained_rank(objectives, violations)
        kept = np.flatnonzero(rank == 0)
        if len(kept) > self.front_size:
            crowding = crowding_distance(objectives[kept], rank[kept])
            kept = np.sort(kept[np.argsort(-crowding, kind="stable")[: self.front_size]])
        self._front = genes[kept]
        self._objectives = objectives[kept]
        self._violations = violations[kept]
        if not np.isin(row_keys(self._front), before).all():
            self.reach = 1

    def _learned(self) -> dict[str, Any]:
        return {
            "front": self._front.tolist(),
            "objectives": floats_to_json(self._objectives),
            "violations": floats_to_json(self._violations),
            "explored": self._explored.to_text(),
            "reach": self.reach,
            "told": self._told,
        }

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        self._front = self._rows(learned["front"])
        shape = (len(self._front), -1) if len(self._front) else (0, 0)
        self._objectives = floats_from_json(learned["objectives"]).reshape(shape)
        self._violations = floats_from_json(learned["violations"], missing=np.inf)
        self._explored = KnownRows.from_text(learned["explored"])
        self.reach = int(learned["reach"])
        self._told = int(learned["told"])
