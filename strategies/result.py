"""What a search tells: while it runs, and about its course afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from records import Observation
from strategies.dominance import hypervolume, is_non_dominated
from strategies.feasibility import Feasibility
from strategies.held_out import PredictorQuality
from strategies.problem import Problem
from strategies.protocols import LATENCY, Floats, Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a search is, told whenever something was measured.

    Attributes:
        evaluations: How many are done, failed ones included.
        total: How many there will be at most.
        failed: How many failed.
        reused: How many were taken from the ledger instead of being measured again.
        best_accuracy: The highest measured among architectures that keep the limits, of one
            target at least; None without any.
        hypervolume: For each target the share of the reference box that is dominated.
        seconds: Since the search began.
        pending: How many are in flight.
        by_worker: How many networks each worker measured; "" is this process.
    """

    evaluations: int
    total: int
    failed: int
    reused: int
    best_accuracy: float | None
    hypervolume: Mapping[str, float]
    seconds: float
    pending: int = 0
    by_worker: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHistory:
    """How the fronts grew.

    Attributes:
        targets: The targets, in the order of the columns.
        references: For each target the (error, latency_ms) up to which volume counts, fixed for
            the whole search: the error of guessing, and 1.1 times the limit or, without one, the
            highest reachable latency.
        hypervolumes: A `evaluations x targets` array: after each evaluation, the share of the box
            from zero to the reference that the front dominates.
        seconds: After each evaluation, the seconds that all evaluations took so far.
    """

    targets: tuple[str, ...]
    references: tuple[tuple[float, float], ...]
    hypervolumes: Floats
    seconds: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """How a search went.

    Attributes:
        observations: Everything evaluated, in order, failed evaluations included.
        history: How the fronts grew.
        feasibility: What was known beforehand: reachable ranges, feasible architectures.
        predictor: The predictor as last fitted; None if none was used.
        quality: How well it predicted accuracies before they were measured; None without one.
        reused: How many observations came from the ledger.
        strategy: The class of the strategy that proposed what followed the design.
    """

    observations: tuple[Observation, ...]
    history: SearchHistory
    feasibility: Feasibility
    predictor: Predictor | None
    quality: PredictorQuality | None
    reused: int = 0
    strategy: str = ""


def reference_points(
    problem: Problem, feasibility: Feasibility
) -> tuple[tuple[float, float], ...]:
    """For each target the (error, latency_ms) that `SearchHistory` measures volume from."""
    limits = {(c.metric, c.target): c.limit for c in problem.constraints}
    guessing = 1 - 1 / problem.space.num_classes
    slowest = [
        limits.get((LATENCY, target), feasibility.range(LATENCY, target).highest)
        for target in problem.targets
    ]
    return tuple((guessing, 1.1 * latency) for latency in slowest)


@dataclass(slots=True)
class HistoryRecorder:
    """Keeps the front of each target and its hypervolume, one evaluation after the other."""

    targets: tuple[str, ...]
    references: Sequence[tuple[float, float]]
    _fronts: list[Floats] = field(init=False)
    _rows: list[list[float]] = field(init=False, default_factory=list)
    _seconds: list[float] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._fronts = [np.zeros((0, 2)) for _ in self.targets]

    def add(
        self, objectives: Floats, *, counts: bool | npt.NDArray[np.bool_], seconds: float
    ) -> None:
        """Takes in one evaluation.

        Args:
            objectives: Its error and latencies, an array of length `1 + targets`.
            counts: Whether it succeeded and keeps the limits, for each target or for all;
                where not, the front stays.
            seconds: How long it took.
        """
        counted = np.broadcast_to(counts, (1, len(self.targets)))
        self.extend(objectives[None], counted, [seconds])

    def extend(
        self, objectives: Floats, counts: npt.NDArray[np.bool_], seconds: Sequence[float]
    ) -> None:
        """Takes in a group of evaluations as if they came one after the other.

        Args:
            objectives: An `n x (1 + targets)` array.
            counts: An `n x targets` array; see `add`.
            seconds: How long each took.
        """
        first = list(self._rows[-1]) if self._rows else [0.0] * len(self.targets)
        volumes = np.tile(first, (len(objectives), 1))
        for t, (error, latency) in enumerate(self.references):
            points = objectives[:, [0, t + 1]]
            is_new = counts[:, t] & ~_is_covered(points, self._fronts[t])
            for i in np.flatnonzero(is_new).tolist():
                point, front = points[i], self._fronts[t]
                if _is_covered(point[None], front)[0]:
                    continue
                front = np.concatenate([front, point[None]])
                self._fronts[t] = front[is_non_dominated(front)]
                volume = hypervolume(self._fronts[t], [error, latency])
                volumes[i:, t] = volume / (error * latency)
        self._rows += volumes.tolist()
        total = self._seconds[-1] if self._seconds else 0.0
        self._seconds += list(itertools.accumulate(seconds, initial=total))[1:]

    @property
    def latest(self) -> dict[str, float]:
        """The hypervolume of each target now."""
        return dict(zip(self.targets, self._rows[-1], strict=True)) if self._rows else {}

    def history(self) -> SearchHistory:
        """Everything so far."""
        return SearchHistory(
            targets=self.targets,
            references=tuple(self.references),
            hypervolumes=np.array(self._rows).reshape(-1, len(self.targets)),
            seconds=np.array(self._seconds),
        )


def _is_covered(points: Floats, front: Floats) -> npt.NDArray[np.bool_]:
    """Marks the rows of `points` that some row of `front` equals or dominates."""
    is_better: npt.NDArray[np.bool_] = np.all(front[None] <= points[:, None], axis=2)
    return np.asarray(np.any(is_better, axis=1))
