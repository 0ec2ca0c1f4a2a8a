"""The problem: a space, an expensive objective, costs on targets, and limits to keep.

The objectives are the error (1 - accuracy, expensive) and the latency on each target (cheap). A
limit holds for the *bound* of a cost, the value that the measured one stays below with a stated
probability, so that it still holds when the exported network is measured.

With several targets each judges for itself: a network that is too large for one of them still
counts for the others, and is worth measuring as long as one target allows it; a target without
limits allows all. With `together` one network is wanted that keeps every limit of every target.

A target need not run every network: where its cost model says which it `runs`, the others are not
allowed there (`strategies.precision`: networks in a precision that the target does not have).
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
from strategies.protocols import LATENCY, CostModel, Evaluator, Floats, SelectiveCostModel

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
        together: Whether a network must keep the limits of all targets to count for any; by
            default it counts for each target whose own limits it keeps.
        weights: How much a target's front counts where a search or a compromise has to choose
            between targets, by target name; 1 where not given.
        constraints: The limits, one for each metric and target.

    Raises:
        BadInputError: No cost model, two of one target, a cost model without latency, a limit
            that is no positive number, or one on a metric that a target does not have; weights
            that are negative or all 0.
        UnknownNameError: A limit on an unknown metric or target, or a weight of one; the valid
            names are listed.
    """

    space: SearchSpace
    accuracy: Evaluator
    costs: Sequence[CostModel]
    limits: Limits = field(default_factory=dict)
    probability: float = 0.95
    together: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", tuple(self.costs))
        object.__setattr__(self, "limits", dict(self.limits))
        self._check_costs()
        if not 0 < self.probability < 1:
            raise BadInputError(f"probability must be within 0 and 1, got {self.probability}")
        object.__setattr__(self, "weights", dict(self.weights))
        target_weights(self.targets, self.weights)
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

    @property
    def is_apart(self) -> bool:
        """Whether a network may be allowed by one target and not by another."""
        return len(self.target_groups) > 0 and not self.together and len(self.targets) > 1

    @property
    def selective_targets(self) -> tuple[str, ...]:
        """The targets that do not run every network, by what their cost models say."""
        return tuple(c.target_name for c in self.costs if isinstance(c, SelectiveCostModel))

    @property
    def target_groups(self) -> tuple[tuple[str, ...], ...]:
        """The targets that one network must suit at once: each that has limits or does not run
        every network, or all targets where limits hold `together`."""
        asking = {*(c.target for c in self.constraints), *self.selective_targets}
        if self.together:
            return (self.targets,) if asking else ()
        return tuple((target,) for target in self.targets if target in asking)

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

    def runs(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which targets run which networks at all, an `n x targets` array."""
        marks = np.ones((len(genes), len(self.costs)), np.bool_)
        for column, cost in enumerate(self.costs):
            if isinstance(cost, SelectiveCostModel):
                marks[:, column] = cost.runs(genes)
        return marks

    def misses(self, genes: Genes, targets: Sequence[str]) -> Floats:
        """What keeps networks from some targets, an `n x m` array of which 0 is nothing.

        A column is the `excesses` of one of their limits, or is 1 where one of them does not run
        the network.
        """
        limits = [i for i, c in enumerate(self.constraints) if c.target in targets]
        places = [self.targets.index(t) for t in self.selective_targets if t in targets]
        excesses = self.excesses(genes)[:, limits]
        return np.hstack([excesses, ~self.runs(genes)[:, places]]) if places else excesses

    def target_violations(self, genes: Genes) -> Floats:
        """By how much each target's limits are missed, an `n x targets` array.

        It is the sum of what a target `misses`, or of what all of them do where limits hold
        `together`; 0 where the target allows the network.
        """
        groups = [self.targets if self.together else (target,) for target in self.targets]
        return np.column_stack([self.misses(genes, group).sum(axis=1) for group in groups])

    def allows(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which targets allow which networks, an `n x targets` array."""
        marks: npt.NDArray[np.bool_] = self.target_violations(genes) <= 0
        return marks

    def violations(self, genes: Genes) -> Floats:
        """By how much the nearest target's limits are missed, an array of length `n`.

        It is 0 where at least one target allows the network, so that it is worth measuring.
        """
        least: Floats = self.target_violations(genes).min(axis=1)
        return least

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


def target_weights(targets: Sequence[str], weights: Mapping[str, float]) -> Floats:
    """The weight of each target, 1 where none is given, in the order of the targets.

    Raises:
        BadInputError: Weights that are negative, not finite or all 0.
        UnknownNameError: A weight of an unknown target.
    """
    for name in weights:
        if name not in targets:
            raise unknown_name("target", name, targets)
    found = np.array([float(weights.get(target, 1.0)) for target in targets])
    if not (np.isfinite(found).all() and (found >= 0).all() and found.any()):
        raise BadInputError(
            f"weights of targets must be at least 0 and one above it, got {dict(weights)}"
        )
    return found


def _limit(key: str | tuple[str, str], limit: float) -> float:
    try:
        number = float(limit)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise BadInputError(f"the limit on {key!r} must be a positive number, got {limit!r}")
    return number
