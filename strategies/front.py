"""The Pareto front: the networks worth choosing from, each ready to be exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError, Observation, unknown_name
from search_spaces import Architecture, Genes
from strategies.compromise import Compromise
from strategies.compromise import compromise as choose_compromise
from strategies.dominance import is_non_dominated
from strategies.problem import Problem
from strategies.protocols import LATENCY, Floats
from strategies.result import SearchResult


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """One architecture on one target.

    Attributes:
        architecture: The architecture.
        genes: Its row of genes.
        target: The target that the costs belong to.
        accuracy: As measured by the evaluator, a share in 0..1.
        accuracy_dispersion: Its standard error, if known.
        costs: The predicted costs by metric; latency is under `latency_ms`.
        cost_bounds: What the measured costs stay below with the problem's probability.
        problem: Where the point comes from.
    """

    architecture: Architecture
    genes: tuple[int, ...]
    target: str
    accuracy: float
    accuracy_dispersion: float | None
    costs: Mapping[str, float]
    cost_bounds: Mapping[str, float]
    problem: Problem = field(repr=False, compare=False)

    def __str__(self) -> str:
        """The measured accuracy, the predicted costs, and the architecture below them."""
        costs = ", ".join(f"{metric} {value:.4g}" for metric, value in self.costs.items())
        title = f"{self.problem.accuracy.metric} {self.accuracy:.4f} on {self.target!r}: {costs}"
        return f"{title} (predicted)\n{self.architecture}"

    @property
    def latency_ms(self) -> float:
        """The predicted latency."""
        return self.costs[LATENCY]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known about the point, as JSON-ready values; the bundle keeps it."""
        problem = self.problem
        return {
            "metric": problem.accuracy.metric,
            "accuracy": self.accuracy,
            "accuracy_dispersion": self.accuracy_dispersion,
            "weights_hash": problem.accuracy.weights_hash,
            "space": problem.space.to_json(),
            "space_hash": problem.space.hash,
            "genes": list(self.genes),
            "target": self.target,
            "predicted_costs": dict(self.costs),
            "predicted_cost_bounds": dict(self.cost_bounds),
            "bound_probability": problem.probability,
            "limits": {c.metric: c.limit for c in problem.constraints if c.target == self.target},
        }

    def export(self, folder: str | Path, **options: Any) -> Any:
        """Writes the network for its target into a folder; returns what the cost model gives.

        Args:
            folder: A new folder.
            options: For the cost model's `deploy`, such as `calibration_images=` for static int8.
        """
        subnet = self.problem.accuracy.subnet(self.architecture)
        deploy: Any = self.problem.cost(self.target).deploy  # which options it has is its own
        return deploy(subnet, self.architecture, Path(folder), self.facts, **options)


@dataclass(frozen=True)
class Front:
    """The non-dominated points of each target, by error and latency.

    Attributes:
        points: The points by target, each from the fastest to the slowest; dominated ones are
            dropped when the front is made.
        problem: What was searched for.
        result: How the search went; None for a front that was not searched for.
        shared: What compromises are chosen from: the points, by target, of each network that all
            targets allow, unless another such is nowhere worse and somewhere better. Empty for
            the front of one target of several.
    """

    points: Sequence[FrontPoint]
    problem: Problem
    result: SearchResult | None = None
    shared: Sequence[Mapping[str, FrontPoint]] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        kept: list[FrontPoint] = []
        for target in self.problem.targets:
            points = [p for p in self.points if p.target == target]
            marks = is_non_dominated(_objectives(points))
            best = [p for p, mark in zip(points, marks, strict=True) if mark]
            kept += sorted(best, key=lambda p: (p.latency_ms, -p.accuracy, p.genes))
        object.__setattr__(self, "points", tuple(kept))

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    def __getitem__(self, index: int) -> FrontPoint:
        return self.points[index]

    def for_target(self, name: str) -> Front:
        """The front of one target.

        Raises:
            UnknownNameError: There is no such target.
        """
        if name not in self.problem.targets:
            raise unknown_name("target", name, self.problem.targets)
        points = [p for p in self.points if p.target == name]
        shared = self.shared if len(self.problem.targets) == 1 else ()
        return Front(points, self.problem, self.result, shared)

    def compromise(
        self,
        n: int = 3,
        *,
        weights: Mapping[str, float] | None = None,
        rule: str = "worst",
    ) -> Compromise:
        """Picks up to `n` networks that are good on all targets at once.

        Args:
            n: How many networks, at least 1; fewer where no more are allowed by all targets.
            weights: How much each target counts, 1 where not given; the problem's by default.
            rule: `worst` makes the largest loss against any target's own front small,
                `hypervolume` the sum of the shares of the fronts' hypervolumes large (see
                `strategies.compromise_rules`).

        Raises:
            BadInputError: No network is allowed by all targets, the front is of one of several
                targets, or a number is out of range.
            UnknownNameError: Another rule or target.
        """
        return choose_compromise(self, n, weights=weights, rule=rule)

    def knee(self) -> FrontPoint:
        """The point where more accuracy begins to cost much more latency.

        It is the point farthest from the line between the fastest and the most accurate point, on
        the side of the ideal, with both objectives scaled to 0..1. Of equally far points it is the
        most accurate. Where no point lies on that side, as with one or two points, there is no
        knee (`has_knee`) and it is the fastest.

        Raises:
            BadInputError: The front is empty, or of several targets (take `for_target` first).
        """
        distance = self._distances("knee")
        if not (distance > 0).any():
            return self.points[0]
        points = _objectives(self.points)
        order = np.lexsort((points[:, 1], points[:, 0], -distance))
        return self.points[int(order[0])]

    def has_knee(self) -> bool:
        """Whether a point lies on the side of the ideal of the line between the front's ends.

        Raises:
            BadInputError: The front is empty, or of several targets (take `for_target` first).
        """
        return bool((self._distances("has_knee") > 0).any())

    def _distances(self, method: str) -> Floats:
        """How far each point is from the line between the ends; 0 on its far side."""
        self._check_single(method)
        points = _objectives(self.points)
        span = np.ptp(points, axis=0)
        if not span.all():
            return np.zeros(len(points))
        scaled = (points - points.min(axis=0)) / span
        # The line runs from (error 1, latency 0) to (0, 1): below it, their sum is less than 1.
        return np.asarray(np.round(np.maximum(1 - scaled.sum(axis=1), 0), 12), np.float64)

    def spread(self, k: int) -> tuple[FrontPoint, ...]:
        """Picks `k` points far from each other in latency, from the fastest to the slowest.

        The most accurate comes first into the choice, then the fastest, then always the point
        whose latency, as a ratio, is farthest from those picked. All points where there are fewer.

        Raises:
            BadInputError: `k` is below 1, or the front is empty or of several targets.
        """
        self._check_single("spread")
        if k < 1:
            raise BadInputError(f"k must be at least 1, got {k}")
        points = _objectives(self.points)
        latency = np.log(points[:, 1])
        picked = [int(np.lexsort((latency, points[:, 0]))[0])]
        while len(picked) < min(k, len(points)):
            distance = np.abs(latency[:, None] - latency[picked]).min(axis=1)
            if len(picked) == 1:
                distance = -latency - latency.min() + 1
            distance[picked] = -np.inf
            picked.append(int(distance.argmax()))
        return tuple(self.points[i] for i in sorted(picked))

    def __str__(self) -> str:
        """A table for each target, a line a point."""
        return "\n\n".join(self._table(target) for target in self.problem.targets)

    def _table(self, target: str) -> str:
        points = [p for p in self.points if p.target == target]
        title = f"{target}: {len(points)} networks"
        if not points:
            return title
        metrics = list(points[0].costs)
        metrics.sort(key=lambda metric: metric != LATENCY)
        genes = np.array([p.genes for p in points], np.int16)
        table = self.problem.space.layer_table(genes)
        head = ["", self.problem.accuracy.metric, "+-", *metrics, "MACs", "parameters"]
        rows = [head]
        for i, point in enumerate(points):
            spread = point.accuracy_dispersion
            rows.append(
                [
                    str(i),
                    f"{point.accuracy:.4f}",
                    "" if spread is None else f"{spread:.4f}",
                    *(f"{point.costs[metric]:.4g}" for metric in metrics),
                    f"{int(table.macs[i]):,}",
                    f"{int(table.parameters[i]):,}",
                ]
            )
        widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
        lines = ["  ".join(t.rjust(w) for t, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([title, *lines])

    def _check_single(self, what: str) -> None:
        targets = sorted({p.target for p in self.points})
        if not targets:
            raise BadInputError(f"an empty front has no {what}: nothing that was evaluated fits")
        if len(targets) > 1:
            raise BadInputError(
                f"a {what} is of one target and this front has {', '.join(targets)}; "
                f"use front.for_target({targets[0]!r}).{what}(...)"
            )


def pareto_front(
    problem: Problem, observations: Sequence[Observation], result: SearchResult | None = None
) -> Front:
    """The front of what was observed: successful evaluations that keep a target's limits."""
    ok = [o for o in observations if o.value is not None]
    if not ok:
        return Front((), problem, result)
    genes = np.array([o.genes for o in ok], np.int16)
    values = np.array([o.value for o in ok], np.float64)
    objectives = problem.objectives(genes, values)
    allowed = problem.allows(genes)
    best = [_best(objectives[:, [0, t + 1]], marks) for t, marks in enumerate(allowed.T)]
    shared = _best(objectives, np.asarray(allowed.all(axis=1)))
    _, first = np.unique(objectives[shared], axis=0, return_index=True)
    shared = shared[np.sort(first)]  # each outcome once
    # Only for these is everything told: all costs and bounds of all that was measured take long.
    told = np.unique(np.concatenate([*best, shared]))
    by_target = _points(problem, [ok[i] for i in told.tolist()], genes[told])
    return Front(
        [
            points[i]
            for points, rows in zip(by_target, best, strict=True)
            for i in np.searchsorted(told, rows).tolist()
        ],
        problem,
        result,
        tuple(
            {target: points[i] for target, points in zip(problem.targets, by_target, strict=True)}
            for i in np.searchsorted(told, shared).tolist()
        ),
    )


def _best(objectives: Floats, allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The indices of the rows that are allowed and that no other of these dominates."""
    rows = np.flatnonzero(allowed)
    return rows[is_non_dominated(objectives[rows])]


def _points(
    problem: Problem, observations: Sequence[Observation], genes: Genes
) -> list[list[FrontPoint]]:
    """For each target a point for each observation."""
    if not observations:
        return [[] for _ in problem.costs]
    architectures = problem.space.decode(genes)
    by_target = []
    for cost in problem.costs:
        points = []
        expected = cost.predict(genes)
        bounds = {m: cost.bound(m, genes, problem.probability) for m in cost.metrics}
        for i, observation in enumerate(observations):
            assert observation.value is not None
            points.append(
                FrontPoint(
                    architecture=architectures[i],
                    genes=observation.genes,
                    target=cost.target_name,
                    accuracy=observation.value,
                    accuracy_dispersion=observation.dispersion,
                    costs={m: float(expected[m][i]) for m in cost.metrics},
                    cost_bounds={m: float(bounds[m][i]) for m in cost.metrics},
                    problem=problem,
                )
            )
        by_target.append(points)
    return by_target


def _objectives(points: Sequence[FrontPoint]) -> Floats:
    """(error, latency_ms) of each point, an `n x 2` array."""
    return np.array([(1 - p.accuracy, p.latency_ms) for p in points], np.float64).reshape(-1, 2)
