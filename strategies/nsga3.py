"""NSGA-III: evolution for three and more objectives, spread along reference directions.

With many objectives almost everything is non-dominated and crowding tells little. Here the last
front that fits is cut by niches: each point belongs to the reference direction it is nearest to,
and the directions with the fewest survivors are served first.

Deviations: those of `Evolution`. The extreme points of the normalisation come from the points at
hand, as in the paper; where they span no hyperplane, the worst of the first front scale instead.

References:
    Deb and Jain, An evolutionary many-objective optimization algorithm using
    reference-point-based nondominated sorting approach, part I, IEEE Transactions on Evolutionary
    Computation 18(4), 2014; part II (Jain and Deb) for constraints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import SearchSpace
from strategies.dominance import constrained_rank
from strategies.early_exit import Screen
from strategies.evolution import Evolution, Indices
from strategies.protocols import Floats
from strategies.reference_directions import directions_for
from strategies.strategy import floats_from_json, floats_to_json

_AXIS_WEIGHT = 1e-6
_LEAST_SPAN = 1e-12


class NSGA3(Evolution):
    """Evolves a population towards all parts of the front of three and more objectives.

    Args:
        space: The space.
        population_size: See `Evolution`.
        directions: Reference directions, a `k x m` array of numbers of at least 0, no row all 0;
            by default as many Das-Dennis directions as the population can serve.
        crossover_probability: See `Evolution`.
        mutation_probability: See `Evolution`.
        screen: See `Evolution`.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: See `Evolution`; directions that are none; later, objectives whose number
            does not fit the directions.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population_size: int = 92,
        directions: npt.ArrayLike | None = None,
        crossover_probability: float = 0.9,
        mutation_probability: float = 0.1,
        screen: Screen | None = None,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(
            space,
            population_size=population_size,
            crossover_probability=crossover_probability,
            mutation_probability=mutation_probability,
            screen=screen,
            seed=seed,
            initial=initial,
        )
        self._directions = None if directions is None else _checked(directions)
        if self._directions is not None:
            self._columns = self._directions.shape[1]
        self._ideal: Floats = np.zeros(0)

    def _parents(self, n: int) -> Indices:
        """Uniform, as in the paper; of two rows the one that misses the limits by less."""
        first, second = self.rng.integers(len(self._population), size=(2, n))
        missed = self._violations
        winners: Indices = np.where(missed[second] < missed[first], second, first)
        return winners

    def _survivors(self, objectives: Floats, violations: Floats) -> Indices:
        rank = constrained_rank(objectives, violations)
        order = np.argsort(rank, kind="stable")
        size = self.population_size
        usable = (violations <= 0) & ~np.isnan(objectives).any(axis=1)
        if usable.any():
            lowest = objectives[usable].min(axis=0)
            self._ideal = np.minimum(self._ideal, lowest) if len(self._ideal) else lowest
        if len(rank) <= size:
            return order
        last = rank[order[size - 1]]
        certain, splitting = np.flatnonzero(rank < last), np.flatnonzero(rank == last)
        certain = certain[np.argsort(rank[certain], kind="stable")]
        if len(certain) + len(splitting) == size or not usable[splitting[0]]:
            return order[:size]
        both = np.concatenate([certain, splitting])
        points = normalised(objectives[both], self._ideal, rank[both] == 0)
        niche, distance = associated(points, self._directions_for(objectives.shape[1]))
        c = len(certain)
        counts = np.bincount(niche[:c], minlength=niche.max() + 1)
        picks = served(counts, niche[c:], distance[c:], size - c, self.rng)
        return np.concatenate([certain, splitting[picks]])

    def _directions_for(self, objectives: int) -> Floats:
        if self._directions is None:
            self._directions = directions_for(objectives, self.population_size)
        return self._directions

    def _learned(self) -> dict[str, Any]:
        return super()._learned() | {"ideal": floats_to_json(self._ideal)}

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        super()._relearn(learned)
        self._ideal = floats_from_json(learned["ideal"])


def normalised(points: Floats, ideal: Floats, is_first: npt.NDArray[np.bool_]) -> Floats:
    """Moves the ideal point to 0 and the front's intercepts with the axes to 1 (sec. IV-C).

    Args:
        points: An `n x m` array without NaN.
        ideal: The lowest value of each objective so far, of length `m`.
        is_first: Marks the points of the first front, at least one; its worst values scale where
            the extreme points span no hyperplane, or one that meets an axis at or below 0.

    Returns:
        An `n x m` array; an objective without any span stays 0.
    """
    shifted = points - ideal
    m = shifted.shape[1]
    weights = np.full((m, m), _AXIS_WEIGHT)
    np.fill_diagonal(weights, 1.0)
    farthest = [int((shifted / w).max(axis=1).argmin()) for w in weights]
    worst: Floats = shifted[is_first].max(axis=0)
    try:
        intercepts = 1 / np.linalg.solve(shifted[farthest], np.ones(m))
    except np.linalg.LinAlgError:
        intercepts = worst
    if not (np.isfinite(intercepts).all() and (intercepts > _LEAST_SPAN).all()):
        intercepts = worst
    scale = np.where(intercepts > _LEAST_SPAN, intercepts, 1.0)
    spread: Floats = shifted / scale
    return spread


def associated(points: Floats, directions: Floats) -> tuple[Indices, Floats]:
    """The nearest direction of each point, and its distance from that line (sec. IV-D).

    Args:
        points: An `n x m` array of normalised points.
        directions: A `k x m` array.

    Returns:
        Indices and perpendicular distances, arrays of length `n`.
    """
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    along = points @ unit.T
    nearest = along.argmax(axis=1)  # the largest projection leaves the least distance
    rest = (points**2).sum(axis=1) - along[np.arange(len(points)), nearest] ** 2
    return nearest, np.sqrt(np.maximum(rest, 0.0))


def served(
    counts: npt.NDArray[np.intp],
    niche: Indices,
    distance: Floats,
    size: int,
    rng: np.random.Generator,
) -> Indices:
    """Chooses points one after the other for the niche that has the fewest (sec. IV-E).

    An empty niche takes the point nearest to its direction, others take any of theirs; ties
    between niches are drawn. A point that is taken as the `s`-th of its niche is taken when the
    niche has `counts + s` points, so all are sorted by that number at once.

    Args:
        counts: How many points each niche has already.
        niche: The niche of each candidate, an array of length `n`.
        distance: The distance of each candidate from its direction.
        size: How many to choose, at most `n`.
        rng: The source of randomness.

    Returns:
        The indices of the chosen candidates, in the order in which they are chosen.
    """
    n = len(niche)
    turn = rng.random(n)
    by_distance = np.lexsort((turn, distance, niche))
    begins = np.append(True, np.diff(niche[by_distance]) > 0)
    nearest = by_distance[begins]
    turn[nearest[counts[niche[nearest]] == 0]] = -1.0
    order = np.lexsort((turn, niche))
    group = np.append(True, np.diff(niche[order]) > 0)
    place = np.arange(n) - np.maximum.accumulate(np.where(group, np.arange(n), 0))
    level = np.empty(n, np.intp)
    level[order] = counts[niche[order]] + place
    chosen: Indices = np.lexsort((rng.random(n), level))[:size]
    return chosen


def _checked(directions: npt.ArrayLike) -> Floats:
    array = np.asarray(directions, np.float64)
    if array.ndim != 2 or not len(array) or not np.isfinite(array).all() or (array < 0).any():
        raise BadInputError(
            f"directions must be a k x m array of finite numbers >= 0, got shape {array.shape}"
        )
    if (array.sum(axis=1) == 0).any():
        raise BadInputError("a direction must not be all 0: it points nowhere")
    return array
