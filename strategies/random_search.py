"""Random search: the baseline that every other strategy has to beat.

References:
    Li and Talwalkar, Random search and reproducibility for neural architecture search, UAI 2019,
    arXiv 1902.07638.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from search_spaces import Genes, SearchSpace
from search_spaces.genes import Measure
from strategies.protocols import Floats
from strategies.strategy import Strategy


class RandomSearch(Strategy):
    """Draws distinct architectures at random, whatever it is told.

    Args:
        space: The space.
        measure: Uniform per choice, or uniform over architectures; see `GeneSpace.sample`.
        seed: See `Strategy`.
        initial: See `Strategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        measure: Measure = "choices",
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(space, seed=seed, initial=initial)
        self.measure = measure

    def _propose(self, n: int) -> Genes:
        return self.space.sample(n, self.rng, self.measure)

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        pass

    def _learned(self) -> dict[str, Any]:
        return {}

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        pass
