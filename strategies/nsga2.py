"""NSGA-II: evolution by fronts and crowding, on whole populations.

Each generation, children of tournament winners join their parents, and the best of both survive:
lower fronts first, the last one cut by crowding distance (mu + lambda). Constraints follow Deb's
constrained domination.

Deviations: equal rows are kept once (duplicates would take the population over), no row is ever
proposed twice, and `tell` takes any number of rows, so that results may come in small groups.

References:
    Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE Transactions on
    Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes, SearchSpace
from strategies.dominance import constrained_rank, crowding_distance
from strategies.known_rows import row_keys
from strategies.protocols import Floats
from strategies.strategy import Strategy, floats_from_json, floats_to_json


class NSGA2(Strategy):
    """Evolves a population towards the Pareto front of any number of objectives.

    Args:
        space: The space.
        population_size: How many survive a generation. Until so many rows are told, proposals are
            random.
        crossover_probability: The share of children that mix two parents; the others begin as a
            copy of one.
        mutation_probability: With which each active gene of a child changes; at least one does.
        seed: See `Strategy`.
        initial: The first proposals and so the start of the population; see `Strategy`.

    Raises:
        BadInputError: A population of less than 2, a probability outside 0..1.

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
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        if population_size < 2:
            raise BadInputError(f"population_size must be at least 2, got {population_size}")
        for name, probability in (
            ("crossover_probability", crossover_probability),
            ("mutation_probability", mutation_probability),
        ):
            if not 0 <= probability <= 1:
                raise BadInputError(f"{name} must be within 0 and 1, got {probability}")
        super().__init__(space, seed=seed, initial=initial)
        self.population_size = population_size
        self.crossover_probability = crossover_probability
        self.mutation_probability = mutation_probability
        self._population = self._no_rows()
        self._objectives: Floats = np.zeros((0, 0))
        self._violations: Floats = np.zeros(0)

    @property
    def population(self) -> Genes:
        """The survivors, an array of at most `population_size` rows, the best first."""
        return self._population.copy()

    def _propose(self, n: int) -> Genes:
        size = len(self._population)
        if size < self.population_size:
            return self.space.sample(n, self.rng)
        # The population is sorted, so the winner of a binary tournament is the smaller index.
        winners = self.rng.integers(size, size=(2, 2 * n), dtype=np.int32).min(axis=0)
        first, second = self._population[winners[:n]], self._population[winners[n:]]
        children = self.space.crossover(first, second, self.rng)
        copied = self.rng.random(n) >= self.crossover_probability
        children[copied] = first[copied]
        return self.space.mutate(children, self.rng, self.mutation_probability)

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        if len(self._population):
            if objectives.shape[1] != self._objectives.shape[1]:
                raise BadInputError(
                    f"told {objectives.shape[1]} objectives, {self._objectives.shape[1]} before"
                )
            genes = np.concatenate([genes, self._population])
            objectives = np.concatenate([objectives, self._objectives])
            violations = np.concatenate([violations, self._violations])
        first = np.unique(row_keys(genes), return_index=True)[1]
        if len(first) < len(genes):  # told again: the later value, which stands first, counts
            genes, objectives, violations = genes[first], objectives[first], violations[first]
        rank = constrained_rank(objectives, violations)
        survivors = np.arange(len(rank))
        if len(rank) > self.population_size:
            last = np.partition(rank, self.population_size - 1)[self.population_size - 1]
            survivors = np.flatnonzero(rank <= last)
        crowding = crowding_distance(objectives[survivors], rank[survivors])
        order = np.lexsort((-crowding, rank[survivors]))[: self.population_size]
        best = survivors[order]
        self._population = genes[best]
        self._objectives = objectives[best]
        self._violations = violations[best]

    def _learned(self) -> dict[str, Any]:
        return {
            "population": self._population.tolist(),
            "objectives": floats_to_json(self._objectives),
            "violations": floats_to_json(self._violations),
        }

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        self._population = self._rows(learned["population"])
        self._objectives = floats_from_json(learned["objectives"]).reshape(
            len(self._population), -1
        )
        self._violations = floats_from_json(learned["violations"], missing=np.inf)
