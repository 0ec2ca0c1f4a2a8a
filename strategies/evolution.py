"""What evolutionary strategies share: a population, its children, and merging what was told.

Each generation, children of chosen parents are proposed; what becomes of them joins the
population, and a rule of each strategy says who survives. No row is ever proposed twice, equal
rows are kept once (duplicates would take the population over), and `tell` takes any number of
rows, so that results may come in small groups.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes, SearchSpace
from strategies.early_exit import Screen, sample_screened
from strategies.known_rows import row_keys
from strategies.protocols import Floats
from strategies.strategy import Strategy, floats_from_json, floats_to_json

Indices = npt.NDArray[np.intp]


class Evolution(Strategy):
    """A population that varies and survives.

    Args:
        space: The space.
        population_size: How many survive. Until so many rows are told, proposals are random.
        crossover_probability: The share of children that mix two parents; the others begin as a
            copy of one.
        mutation_probability: With which each active gene of a child changes; at least one does.
        screen: Tells by how much the random rows of the start miss cheap limits, so that those
            that do are drawn again before anything is measured; see `sample_screened`.
        seed: See `Strategy`.
        initial: The first proposals and so the start of the population; see `Strategy`.

    Raises:
        BadInputError: A population of less than 2, a probability outside 0..1.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population_size: int,
        crossover_probability: float,
        mutation_probability: float,
        screen: Screen | None,
        seed: int,
        initial: npt.ArrayLike | None,
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
        self.screen = screen
        self._population = self._no_rows()
        self._objectives: Floats = np.zeros((0, 0))
        self._violations: Floats = np.zeros(0)

    @property
    def population(self) -> Genes:
        """The survivors, an array of at most `population_size` rows."""
        return self._population.copy()

    def _propose(self, n: int) -> Genes:
        if len(self._population) < self.population_size:
            if self.screen is None:
                return self.space.sample(n, self.rng)
            return sample_screened(self.space, n, self.rng, self.screen)
        parents = self._parents(2 * n)
        first, second = self._population[parents[:n]], self._population[parents[n:]]
        children = self.space.crossover(first, second, self.rng)
        copied = self.rng.random(n) >= self.crossover_probability
        children[copied] = first[copied]
        return self.space.mutate(children, self.rng, self.mutation_probability)

    @abstractmethod
    def _parents(self, n: int) -> Indices:
        """Chooses `n` indices into the population, which is full."""

    @abstractmethod
    def _survivors(self, objectives: Floats, violations: Floats) -> Indices:
        """Chooses who survives, at most `population_size`.

        Args:
            objectives: An `n x m` array: the rows just told, then the population in its order.
            violations: An array of length `n`.

        Returns:
            Their indices, in the order in which the population is to be kept.
        """

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        if len(self._population):
            genes = np.concatenate([genes, self._population])
            objectives = np.concatenate([objectives, self._objectives])
            violations = np.concatenate([violations, self._violations])
        first = np.unique(row_keys(genes), return_index=True)[1]
        if len(first) < len(genes):  # told again: the later value, which stands first, counts
            first = np.sort(first)
            genes, objectives, violations = genes[first], objectives[first], violations[first]
        kept = self._survivors(objectives, violations)
        self._population = genes[kept]
        self._objectives = objectives[kept]
        self._violations = violations[kept]

    def _learned(self) -> dict[str, Any]:
        return {
            "population": self._population.tolist(),
            "objectives": floats_to_json(self._objectives),
            "violations": floats_to_json(self._violations),
        }

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        self._population = self._rows(learned["population"])
        shape = (len(self._population), -1) if len(self._population) else (0, 0)
        self._objectives = floats_from_json(learned["objectives"]).reshape(shape)
        self._violations = floats_from_json(learned["violations"], missing=np.inf)
