"""Search from a distribution over architectures that was learned elsewhere.

What a differentiable search over a supernet leaves is how probable each value of each choice
should be. A penalty on the expected latency keeps no limit, so this strategy does: the most likely
network and samples of the distribution are proposed as far as they keep the limits, unseen ones
only, and after some of them the search goes on around the best.

Reference:
    Cai et al., ProxylessNAS: direct neural architecture search on target task and hardware,
    ICLR 2019, arXiv 1812.00332 (which takes the most likely network alone).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from search_spaces import Genes
from strategies.known_rows import KnownRows
from strategies.local_search import LocalSearch
from strategies.neighbourhood import wander
from strategies.problem import Problem

_DRAWS = 6
_MOST_DRAWN = 4096


class Distribution(Protocol):
    """A distribution over the architectures of a space; `supernet.ChoiceDistribution` is one."""

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        """Draws `n` canonical architectures, an `n x d` array; repeats are possible."""
        ...

    def most_likely(self) -> Genes:
        """The row that is proposed first, an array of length `d`."""
        ...


class FromDistribution(LocalSearch):
    """Samples a distribution, then searches around the best.

    Args:
        problem: The space and its limits.
        distribution: Over architectures of the space.
        samples: How many networks are told before the search goes on around the best.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: Fewer than 1 sample, or a distribution over another space.
    """

    def __init__(
        self,
        problem: Problem,
        distribution: Distribution,
        *,
        samples: int = 30,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(problem.space, starts=samples, seed=seed, initial=initial)
        self.problem = problem
        self.distribution = distribution
        self._mode = self.space.gene_space.check(distribution.most_likely())

    @property
    def has_design(self) -> bool:
        """It begins with samples of the distribution."""
        return True

    def _start(self, n: int) -> Genes:
        """The most likely row and draws, those that keep the limits before those that do not.

        Where the distribution has no unseen rows left to give, draws take random steps away.
        """
        known = KnownRows()
        rows = self._unseen(self._mode, known)
        kept = rows[self.problem.violations(rows) <= 0]
        for attempt in range(_DRAWS):
            if len(kept) >= n:
                break
            drawn = self.distribution.sample(min(4 * n * 2**attempt, _MOST_DRAWN), self.rng)
            steps = max(0, attempt - _DRAWS // 2 + 1)
            fresh = self._unseen(wander(self.space, drawn, steps, self.rng), known)
            rows = np.concatenate([rows, fresh])
            kept = np.concatenate([kept, fresh[self.problem.violations(fresh) <= 0]])
        if len(kept) >= n:
            return kept[:n]
        order = np.argsort(self.problem.violations(rows), kind="stable")
        return rows[order][:n]

    def _unseen(self, rows: Genes, known: KnownRows) -> Genes:
        """The rows that are neither known to the strategy nor met in this call."""
        rows = rows[self._known.is_new(rows)]
        return rows[known.add(rows)]
