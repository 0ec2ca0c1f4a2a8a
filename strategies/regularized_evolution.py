"""Regularized evolution: the oldest die, not the worst.

The parent of a child is the best of some members drawn from the population; the child differs from
it in one choice. The youngest `population_size` live on, whatever they are worth, so that a
network that was measured too well by luck is forgotten.

Deviations: "best" means the lower front, then the larger crowding distance, under constrained
domination, so it works for several objectives and limits. While fewer rows than the population
size keep the limits, those that miss them by least fill it up. Otherwise those of `Evolution`.

References:
    Real et al., Regularized evolution for image classifier architecture search, AAAI 2019,
    arXiv 1802.01548, algorithm 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import SearchSpace
from strategies.dominance import constrained_rank, crowding_distance
from strategies.early_exit import Screen
from strategies.evolution import Evolution, Indices
from strategies.protocols import Floats


class RegularizedEvolution(Evolution):
    """Varies the best of a few, and lets the oldest die.

    The population is kept from the youngest to the oldest of those that keep the limits, then
    those that do not; rows told together are of one age.

    Args:
        space: The space.
        population_size: See `Evolution`.
        tournament_size: Among how many members, drawn with replacement, the parent is the best.
        mutation_probability: With which each active gene changes; 0 changes exactly one.
        screen: See `Evolution`.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: See `Evolution`; a tournament of none.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population_size: int = 100,
        tournament_size: int = 25,
        mutation_probability: float = 0.0,
        screen: Screen | None = None,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        if tournament_size < 1:
            raise BadInputError(f"tournament_size must be at least 1, got {tournament_size}")
        super().__init__(
            space,
            population_size=population_size,
            crossover_probability=0.0,
            mutation_probability=mutation_probability,
            screen=screen,
            seed=seed,
            initial=initial,
        )
        self.tournament_size = tournament_size

    def _parents(self, n: int) -> Indices:
        size = len(self._population)
        rank = constrained_rank(self._objectives, self._violations)
        crowding = crowding_distance(self._objectives, rank)
        place = np.empty(size, np.intp)
        place[np.lexsort((-crowding, rank))] = np.arange(size)
        drawn = self.rng.integers(size, size=(self.tournament_size, n))
        winners: Indices = drawn[place[drawn].argmin(axis=0), np.arange(n)]
        return winners

    def _survivors(self, objectives: Floats, violations: Floats) -> Indices:
        usable = (violations <= 0) & ~np.isnan(objectives).any(axis=1)
        youngest = np.flatnonzero(usable)[: self.population_size]
        others = np.flatnonzero(~usable)
        missed = np.where(violations[others] <= 0, np.inf, violations[others])  # failed: last
        others = others[np.argsort(missed, kind="stable")]
        return np.concatenate([youngest, others])[: self.population_size]
