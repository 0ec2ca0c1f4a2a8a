"""A study's objectives as a problem, for strategies that are made with one.

A study knows nothing of its objectives before a trial has ended. So the first objective stands
where errors do, and each further one where a target's latency does, to be learned from trials; to
ask for it beforehand is an error. A study with one objective has one target on which everything
costs the same.

Strategies take logarithms of latencies, and objectives of a study may be negative. `told_values`
puts them on a scale of positive numbers,

    exp(min((y - best) / s, 6)),   s the standard deviation of the values so far,

so that the logarithm is the objective itself, its worst values clipped. Dominance stays as it is
but for values beyond the clip. The scale follows the trials, so a strategy is told all values
again when it moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from records import BadInputError, Measured
from search_spaces import Architecture, Genes, SearchSpace
from strategies.problem import Problem
from strategies.protocols import LATENCY, Extreme, Floats

_WORST = 6.0  # standard deviations beyond the best


def study_problem(space: SearchSpace, objectives: int) -> Problem:
    """The problem that a study of one objective or several stands for."""
    names = [f"objective {k}" for k in range(1, objectives)]
    costs = [StudyCosts(name, is_known=False) for name in names]
    accuracy = StudyAccuracy()
    return Problem(space, accuracy, costs or [StudyCosts("study", is_known=True)])


def told_values(values: Floats) -> Floats:
    """A study's objectives as a strategy with a problem takes them.

    Args:
        values: An `n x m` array, all minimised, NaN where a trial gave none.

    Returns:
        An `n x max(m, 2)` array: the first column as it is, the others on a scale of positive
        numbers; a single objective gets a second column of ones.
    """
    if values.shape[1] == 1:
        return np.hstack([values, np.ones_like(values)])
    return np.column_stack([values[:, 0], *(_positive(column) for column in values.T[1:])])


def _positive(values: Floats) -> Floats:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.where(np.isfinite(values), values, np.nan)
    spread = float(known.std()) or 1.0
    distance = (values - known.min()) / spread
    return np.where(np.isfinite(values), np.exp(np.minimum(distance, _WORST)), np.nan)


class StudyAccuracy:
    """Stands for what the user's function evaluates."""

    metric = "objective"
    weights_hash = "study"

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """The study evaluates, not the problem.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("a study's trials are evaluated by its own function")

    def subnet(self, architecture: Architecture) -> Any:
        """There are no networks.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("a study has no networks")


class StudyCosts:
    """An objective of a study in the place of a latency, or no second objective at all."""

    metrics = (LATENCY,)

    def __init__(self, target_name: str, *, is_known: bool) -> None:
        self.target_name = target_name
        self._is_known = is_known

    def predict(self, genes: Genes) -> Mapping[str, Floats]:
        """Ones where there is no second objective.

        Raises:
            BadInputError: There is one, and it is not known before a trial.
        """
        if not self._is_known:
            raise BadInputError(
                f"{self.target_name} of a study is not known before a trial has ended"
            )
        return {LATENCY: np.ones(len(genes))}

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Floats:
        """As `predict`: nothing is uncertain about a constant."""
        return np.asarray(self.predict(genes)[metric])

    def extremes(self, metric: str) -> tuple[Extreme, Extreme] | None:
        """Not known without looking."""
        return None

    def deploy(
        self, subnet: Any, architecture: Architecture, folder: Path, facts: Mapping[str, Any]
    ) -> Any:
        """There is nothing to deploy.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("the trials of a study cannot be deployed")
