"""NSGA-II: evolution by fronts and crowding, on whole populations.

Each generation, children of tournament winners join their parents, and the best of both survive:
lower fronts first, the last one cut by crowding distance (mu + lambda). Constraints follow Deb's
constrained domination.

Deviations: those of `Evolution`.

References:
    Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE Transactions on
    Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search_spaces import SearchSpace
from strategies.dominance import constrained_rank, crowding_distance
from strategies.early_exit import Screen
from strategies.evolution import Evolution, Indices
from strategies.protocols import Floats


class NSGA2(Evolution):
    """Evolves a population towards the Pareto front of any number of objectives.

    The population is kept from the best to the worst. The arguments are those of `Evolution`.

    >>> from search_spaces import ViTSpace
    >>> space = ViTSpace(image_size=8)
    >>> strategy = NSGA2(space, population_size=20)
    >>> for generation in range(5):
    ...     genes = strategy.ask(20)
    ...     table = space.layer_table(genes)
    ...     strategy.tell(genes, np.column_stack([table.macs, -table.parameters]))
    >>> strategy.population.shape
    (20, 15)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population_size: int = 50,
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

    def _parents(self, n: int) -> Indices:
        # The population is sorted, so the winner of a binary tournament is the smaller index.
        size = len(self._population)
        winners: Indices = self.rng.integers(size, size=(2, n), dtype=np.int32).min(axis=0)
        return winners

    def _survivors(self, objectives: Floats, violations: Floats) -> Indices:
        rank = constrained_rank(objectives, violations)
        candidates = np.arange(len(rank))
        if len(rank) > self.population_size:
            last = np.partition(rank, self.population_size - 1)[self.population_size - 1]
            candidates = np.flatnonzero(rank <= last)
        crowding = crowding_distance(objectives[candidates], rank[candidates])
        order = np.lexsort((-crowding, rank[candidates]))[: self.population_size]
        return candidates[order]
