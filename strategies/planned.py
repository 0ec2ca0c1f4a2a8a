"""Strategies that follow a plan from the largest networks, and search around its outcome after.

Such a strategy needs certain networks measured, in groups: it asks for a group, waits until all
of it is told, and decides from it what the next group is. Networks that miss the limits are
measured too, for the way begins at the largest. When the plan is at its end, the strategy goes on
as a `LocalSearch` around everything that was told.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from search_spaces import Genes
from strategies.known_rows import row_keys
from strategies.local_search import LocalSearch
from strategies.problem import Problem
from strategies.protocols import Floats


class Planned(LocalSearch):
    """Asks for what a plan needs, then searches around it.

    What it is told is kept: one number for each measured row.

    Args:
        problem: The space, its costs and limits. The first objective that is told is the error.
        seed: See `Strategy`.
        initial: See `Strategy`.
    """

    waits: ClassVar[bool] = True

    def __init__(
        self, problem: Problem, *, seed: int = 0, initial: npt.ArrayLike | None = None
    ) -> None:
        super().__init__(problem.space, starts=1, seed=seed, initial=initial)
        self.problem = problem
        self._errors: dict[int, float] = {}

    @property
    def measures_infeasible(self) -> bool:
        """As long as the plan is not at its end."""
        return len(self._needed()) > 0

    @abstractmethod
    def _needed(self) -> Genes:
        """The distinct rows that the plan needs next and was not told of; none at its end."""

    def _propose(self, n: int) -> Genes:
        needed = self._needed()
        if len(needed) == 0:
            return super()._propose(n)
        return needed[self._known.is_new(needed)][:n]

    def _must_wait(self) -> bool:
        needed = self._needed()
        return len(needed) > 0 and not self._known.is_new(needed).any()

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        super()._learn(genes, objectives, violations)
        keys = row_keys(genes).tolist()
        self._errors.update(zip(keys, objectives[:, 0].tolist(), strict=True))

    def _error(self, rows: Genes) -> Floats:
        """The errors that rows were told with, NaN where the evaluation failed."""
        return np.array([self._errors[key] for key in row_keys(rows).tolist()], np.float64)

    def _untold(self, rows: Genes) -> Genes:
        """The rows that were not told of, each once."""
        keys = row_keys(rows)
        first = np.sort(np.unique(keys, return_index=True)[1])
        return rows[[i for i in first.tolist() if int(keys[i]) not in self._errors]]

    def _log_cost(self, rows: Genes, missed: npt.NDArray[np.bool_] | None = None) -> Floats:
        """The mean logarithm of the latencies, or of the bounds of the limits that are missed.

        Args:
            rows: An `n x d` array.
            missed: Which of the problem's limits count, a mask; if none, the latencies do.

        Returns:
            An array of length `n`; NaN where a cost is unknown.
        """
        if missed is not None and missed.any():
            costs = self.problem.bounds(rows)[:, missed]
        else:
            costs = self.problem.cheap_objectives(rows)
        logarithms: Floats = np.log(np.maximum(costs, 1e-300)).mean(axis=1)
        return logarithms

    def _learned(self) -> dict[str, Any]:
        errors = [[key, None if e != e else e] for key, e in self._errors.items()]
        return super()._learned() | {"errors": errors}

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        super()._relearn(learned)
        self._errors = {int(k): np.nan if e is None else float(e) for k, e in learned["errors"]}
