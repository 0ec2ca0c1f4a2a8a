"""A strategy that is asked only for rows within a problem's limits.

Costs are known before anything is measured, so a row that misses the limits is told to the
strategy at once, as one without an accuracy, and the strategy is asked again; but for a strategy
that says that it needs such rows measured.
"""

from __future__ import annotations

import numpy as np

from search_spaces import Genes
from strategies.allowances import ranked_objectives
from strategies.feasibility import Feasibility, sample_feasible
from strategies.known_rows import KnownRows
from strategies.problem import Problem
from strategies.protocols import Floats
from strategies.result import reference_points
from strategies.strategy import Strategy

_ATTEMPTS = 24
_LARGEST_ASK = 1024
_MOST_KNOWN = 1024  # drawn beside what is wanted, in place of rows that are known


class LimitedStrategy:
    """A problem's strategy, asked for rows that keep the limits.

    Args:
        problem: What is searched for.
        strategy: What proposes.
        feasibility: What `check_feasible` found for the problem.
    """

    def __init__(self, problem: Problem, strategy: Strategy, feasibility: Feasibility) -> None:
        self.problem = problem
        self.strategy = strategy
        references = reference_points(problem, feasibility)
        self._slowest = np.array([latency for _, latency in references])

    def ask(self, wanted: int, surplus: Genes) -> Genes:
        """Asks for rows until enough keep the limits; the strategy hears of those that do not.

        Args:
            wanted: How many.
            surplus: Rows that are left from an earlier call; they come first.

        Returns:
            At least `wanted` rows, as a rule; fewer, or none, if no further one was found.
        """
        found = surplus
        for attempt in range(_ATTEMPTS):
            missing = wanted - len(found)
            if missing <= 0:
                break
            asked = min(missing * 2**attempt, max(missing, _LARGEST_ASK))
            rows = self.strategy.ask(asked)
            found = np.concatenate([found, self._kept(rows)])
            if len(rows) == 0 or (len(rows) < asked and not self.strategy.waits):
                break
        return found

    def random_rows(
        self, wanted: int, known: KnownRows, starts: Genes, rng: np.random.Generator
    ) -> Genes:
        """New rows that keep the limits, where the strategy knows none; at most `wanted`.

        Args:
            wanted: How many.
            known: Rows that are not new.
            starts: Rows to begin at where few keep the limits, see `sample_feasible`.
            rng: Draws them.
        """
        count = wanted + min(len(known), _MOST_KNOWN)
        rows = sample_feasible(self.problem, count, rng, starts)
        return rows[known.is_new(rows)][:wanted]

    def report(self, genes: Genes, objectives: Floats, missed: Floats) -> None:
        """Tells the strategy of rows.

        Args:
            genes: An `n x d` array.
            objectives: As `Problem.objectives` gives them, NaN where nothing was measured.
            missed: By how much they miss each target's limits, as `Problem.target_violations`.
        """
        if not self.strategy.judges_targets:
            objectives = ranked_objectives(objectives, missed <= 0, self._slowest)
        self.strategy.tell(genes, objectives, missed.min(axis=1))

    def _kept(self, rows: Genes) -> Genes:
        """The rows that are to be measured; the strategy is told of the others."""
        if self.strategy.measures_infeasible:
            return rows
        missed = self.problem.target_violations(rows)
        misses = missed.min(axis=1) > 0
        if misses.any():
            unknown = np.full(int(misses.sum()), np.nan)
            objectives = self.problem.objectives(rows[misses], unknown)
            self.report(rows[misses], objectives, missed[misses])
        kept: Genes = rows[~misses]
        return kept
