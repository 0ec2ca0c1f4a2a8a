"""The problem: a space, an expensive objective, costs on targets, and limits to keep.

The objectives are the error (1 - accuracy, expensive) and the latency on each target (cheap). A
limit holds for the *bound* of a cost, the value that the measured one stays below with a stated
probability, so that it still holds when the exported network is measured.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces import Genes, SearchSpace
from strategies.protocols import LATENCY, CostModel, Evaluator, Floats

logger = logging.getLogger(__name__)

UNMEASURED = (
    "this cost is modelled and no measurement supports it, so the limit says which networks need "
    "less, not that they need that"
)

Limits: TypeAlias = Mapping[str | tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A limit on one metric of one target.

    Attributes:
        metric: The cost, e.g. `latency_ms`.
        target: The target's name.
        limit: The largest value allowed, above 0.
    """

    metric: str
    target: str
    limit: float

    def __str__(self) -> str:
        return f"{self.metric} <= {self.limit:g} on {self.target!r}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a search is about.

    Attributes:
        space: The architectures to choose from.
        accuracy: Measures accuracy as a share in 0..1.
        costs: A cost model for each target.
        limits: The largest values allowed, by metric (holds on every target) or by
            (metric, target name), which comes before a limit given by metric alone.
        probability: With which a cost stays below its bound when it is measured.
        constraints: The limits, one for each metric and target.

    Raises:
        BadInputError: No cost model, two of one target, a cost model without latency, a limit
            that is no positive number, or one on a metric that a target does not have.
        UnknownNameError: A limit on an unknown metric or target; the valid names are listed.
    """

    space: SearchSpace
    accuracy: Evaluator
    costs: Sequence[CostModel]
    limits: Limits = field(default_factory=dict)
    probability: float = 0.95
    constraints: tuple[Constraint, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", tuple(self.costs))
        object.__setattr__(self, "limits", dict(self.limits))
        self._check_costs()
        if not 0 < self.probability < 1:
            raise BadInputError(f"probability must be within 0 and 1, got {self.probability}")
        by_key: dict[tuple[str, str], float] = {}
        for key, limit in sorted(self.limits.items(), key=lambda item: isinstance(item[0], tuple)):
            for metric, target in self._keys(key):
                by_key[metric, target] = _limit(key, limit)
        constraints = [Constraint(metric=m, target=t, limit=v) for (m, t), v in by_key.items()]
        object.__setattr__(self, "constraints", tuple(constraints))
        for constraint in self.unmeasured_limits:
            logger.warning("%s: %s", constraint, UNMEASURED)

    @property
    def unmeasured_limits(self) -> tuple[Constraint, ...]:
        """The limits on costs that no measurement supports."""
        return tuple(
            c
            for c in self.constraints
            if c.metric in getattr(self.cost(c.target), "unmeasured", ())
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets' names, in the order of the cost models."""
        return tuple(cost.target_name for cost in self.costs)

    def cost(self, target: str) -> CostModel:
        """The cost model of a target.

        Raises:
            UnknownNameError: There is no such target.
        """
        for cost in self.costs:
            if cost.target_name == target:
                return cost
        raise unknown_name("target", target, self.targets)

    def cheap_objectives(self, genes: Genes) -> Floats:
        """The expected latency in ms on each target, an `n x targets` array."""
        columns = [np.asarray(cost.predict(genes)[LATENCY], np.float64) for cost in self.costs]
        return np.column_stack(columns)

    def objectives(self, genes: Genes, accuracy: npt.ArrayLike) -> Floats:
        """The error and the latencies, an `n x (1 + targets)` array, all minimised.

        A NaN accuracy (a failed evaluation) gives a NaN error, which ranks last.
        """
        error = 1 - np.asarray(accuracy, np.float64)
        return np.column_stack([error, self.cheap_objectives(genes)])

    def bounds(self, genes: Genes) -> Floats:
        """What each constrained cost stays below, an `n x constraints` array."""
        columns = [
            np.asarray(self.cost(c.target).bound(c.metric, genes, self.probability), np.float64)
            for c in self.constraints
        ]
        return np.column_stack(columns) if columns else np.zeros((len(genes), 0))

    def excesses(self, genes: Genes) -> Floats:
        """How far each limit is missed: `max(0, bound / limit - 1)`, an `n x constraints` array.

        It is infinite where a cost is NaN.
        """
        limits = np.array([c.limit for c in self.constraints])
        excess: Floats = np.maximum(0.0, self.bounds(genes) / limits - 1)
        return np.where(np.isnan(excess), np.inf, excess)

    def violations(self, genes: Genes) -> Floats:
        """The sum of the `excesses`, an array of length `n`; 0 where every limit is kept."""
        total: Floats = self.excesses(genes).sum(axis=1)
        return total

    def _check_costs(self) -> None:
        if not self.costs:
            raise BadInputError("a problem needs at least one cost model, got none")
        if len(set(self.targets)) != len(self.targets):
            raise BadInputError(f"each target needs a name of its own, got {self.targets}")
        for cost in self.costs:
            if LATENCY not in cost.metrics:
                raise BadInputError(
                    f"the cost model of {cost.target_name!r} must tell {LATENCY}; "
                    f"it tells {', '.join(cost.metrics) or 'nothing'}"
                )

    def _keys(self, key: str | tuple[str, str]) -> list[tuple[str, str]]:
        """The (metric, target) pairs that a limit's key means, checked."""
        if isinstance(key, tuple):
            if len(key) != 2:
                raise BadInputError(f"a limit is of a metric or (metric, target), got {key!r}")
            metric, target = key
            known = self.cost(target).metrics
            if metric not in known:
                raise unknown_name(f"metric of {target!r}", metric, known)
            return [(metric, target)]
        having = [cost.target_name for cost in self.costs if key in cost.metrics]
        if not having:
            raise unknown_name("metric", key, [m for cost in self.costs for m in cost.metrics])
        lacking = [target for target in self.targets if target not in having]
        if lacking:
            raise BadInputError(
                f"a limit on {key} holds on every target, but {', '.join(map(repr, lacking))} "
                f"has no {key}; give it as ({key!r}, {having[0]!r})"
            )
        return [(key, target) for target in having]


def _limit(key: str | tuple[str, str], limit: float) -> float:
    try:
        number = float(limit)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise BadInputError(f"the limit on {key!r} must be a positive number, got {limit!r}")
    return number
