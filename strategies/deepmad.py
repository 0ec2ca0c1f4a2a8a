"""Mathematical design: the networks of most entropy at every latency, found without any data.

An evolution maximises the entropy of networks, which is read off their layers alone, against their
latency, within the limits and the bound on the effectiveness

    rho = depth / mean width <= rho_0

that keeps out networks too deep and narrow to be trained. Its cost is that of the formulas: some
thousand networks a second. The latencies met are divided into levels, and the networks of most
entropy of each level are proposed, the best of all levels first. When they are told, the search
goes on around the best of them.

Deviations from the paper: one evolution on two objectives in the place of one for each limit, so
that one run designs a whole front; and `rho_0` may be fitted to the space.

Reference:
    Shen et al., DeepMAD: Mathematical Architecture Design for Deep Convolutional Neural Network,
    CVPR 2023, arXiv 2303.02165.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from predictors import entropy
from records import BadInputError
from search_spaces import Genes, SearchSpace
from strategies.feasibility import sample_feasible
from strategies.local_search import LocalSearch
from strategies.nsga2 import NSGA2
from strategies.problem import Problem
from strategies.protocols import Floats


class Design(Protocol):
    """What is known of `n` networks by their layers alone; `predictors.Entropy` has it."""

    @property
    def score(self) -> Floats:
        """What is maximised, an array of length `n`; NaN for what is no network."""
        ...

    @property
    def effectiveness(self) -> Floats:
        """The depth by the mean width, an array of length `n`."""
        ...


Formula: TypeAlias = Callable[[Genes], Design]

_USUAL_BOUND = 0.5


class DeepMAD(LocalSearch):
    """Proposes the networks of most entropy at each level of latency, then searches around them.

    Args:
        problem: The space, costs and limits.
        formula: The entropy of networks, from their genes; `predictors.entropy` by default.
        max_effectiveness: The bound `rho_0`; the paper has 0.3 to 0.5 for ResNets and 0.1 to 2 in
            all. None takes 0.5, or the median of random networks that keep the limits where it is
            above: depthwise convolutions are narrow.
        levels: Into how many parts the range of latencies is divided, on a logarithmic scale.
        designs: How many networks are proposed at most, over all levels.
        population_size: Of the evolution.
        generations: Of the evolution.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: Numbers out of range. The first `ask` raises it where no network that was
            found keeps `max_effectiveness`, and names the lowest.
    """

    def __init__(
        self,
        problem: Problem,
        formula: Formula | None = None,
        *,
        max_effectiveness: float | None = None,
        levels: int = 16,
        designs: int = 32,
        population_size: int = 100,
        generations: int = 30,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        for name, number in (
            ("levels", levels),
            ("designs", designs),
            ("generations", generations),
        ):
            if number < 1:
                raise BadInputError(f"{name} must be at least 1, got {number}")
        if max_effectiveness is not None and not max_effectiveness > 0:
            raise BadInputError(f"max_effectiveness must be above 0, got {max_effectiveness}")
        super().__init__(problem.space, starts=1, seed=seed, initial=initial)
        self.problem = problem
        self.formula = formula or _formula(problem.space)
        self.max_effectiveness = max_effectiveness
        self.levels = levels
        self.designs = designs
        self.population_size = population_size
        self.generations = generations
        self._designed: Genes | None = None

    @property
    def has_design(self) -> bool:
        """It begins with the networks of most entropy."""
        return True

    @property
    def designed(self) -> Genes:
        """The networks that were designed, in the order in which they are proposed.

        Empty before the first `ask` that goes beyond `initial`.
        """
        return self._no_rows() if self._designed is None else self._designed.copy()

    def _propose(self, n: int) -> Genes:
        if self._designed is None:
            self._designed = self._design()
        rows = self._designed[self._known.is_new(self._designed)]
        return rows[:n] if len(rows) else super()._propose(n)

    def _design(self) -> Genes:
        """The best rows of each level, the best of all levels first."""
        rows, scores = self._evolved()
        if len(rows) == 0:
            return rows
        cost = np.log(np.maximum(self.problem.cheap_objectives(rows), 1e-300)).mean(axis=1)
        return rows[best_of_levels(scores, cost, self.levels)[: self.designs]]

    def _evolved(self) -> tuple[Genes, Floats]:
        """Networks that keep limits and bound, met by an evolution, and their scores."""
        drawn = sample_feasible(self.problem, self.population_size, self.rng, self._ends())
        bound = self.max_effectiveness or max(_USUAL_BOUND, self._median_effectiveness(drawn))
        evolution = NSGA2(
            self.space,
            population_size=self.population_size,
            seed=int(self.rng.integers(2**62)),
            initial=drawn,
        )
        met, scores, lowest = [self._no_rows()], [np.zeros(0)], np.inf
        for _ in range(self.generations):
            genes = evolution.ask(self.population_size)
            if len(genes) == 0:
                break
            found, missed = self.formula(genes), self.problem.violations(genes)
            known = np.isfinite(found.score)
            excess = np.where(known, np.maximum(0.0, found.effectiveness / bound - 1), np.inf)
            score = np.where(known, found.score, np.nan)
            latency = self.problem.cheap_objectives(genes)
            evolution.tell(genes, np.column_stack([-score, latency]), missed + excess)
            kept = (missed <= 0) & (excess <= 0) & np.isfinite(latency).all(axis=1)
            met.append(genes[kept])
            scores.append(score[kept])
            lowest = min(lowest, *found.effectiveness[known & (missed <= 0)].tolist(), np.inf)
        rows = np.concatenate(met)
        if len(rows) == 0 and self.max_effectiveness is not None and np.isfinite(lowest):
            raise BadInputError(
                f"no architecture of {self.space.name!r} within the limits was found with an "
                f"effectiveness of at most {bound:g}: the lowest found is {lowest:.3g}; raise "
                "max_effectiveness, or leave it out to fit it to the space"
            )
        return rows, np.concatenate(scores)

    def _median_effectiveness(self, drawn: Genes) -> float:
        """Of networks that keep the limits; infinity, which bounds nothing, without any."""
        found = self.formula(drawn) if len(drawn) else None
        known = np.zeros(0) if found is None else found.effectiveness[np.isfinite(found.score)]
        return float(np.median(known)) if len(known) else np.inf

    def _ends(self) -> Genes:
        ends = [self.space.extremes(which) for which in ("smallest", "largest")]
        return np.concatenate(ends)

    def _learned(self) -> dict[str, Any]:
        designed = None if self._designed is None else self._designed.tolist()
        return super()._learned() | {"designed": designed}

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        super()._relearn(learned)
        designed = learned["designed"]
        self._designed = None if designed is None else self._rows(designed)


def best_of_levels(scores: Floats, cost: Floats, levels: int) -> npt.NDArray[np.intp]:
    """All indices, the best score of each level of cost first, then the second of each, and so on.

    Levels are equal parts of the range of the cost; among those of one rank the cheaper level
    comes first.

    >>> best_of_levels(np.array([1.0, 2.0, 5.0, 4.0]), np.array([0.0, 0.1, 0.9, 1.0]), 2)
    array([1, 2, 0, 3])
    """
    span = float(np.ptp(cost))
    share = (cost - cost.min()) / span if span > 0 else np.zeros(len(cost))
    level = np.minimum((share * levels).astype(np.intp), levels - 1)
    order = np.lexsort((-scores, level))
    ranks = np.zeros(len(scores), np.intp)
    begins = np.searchsorted(level[order], level[order], side="left")
    ranks[order] = np.arange(len(scores)) - begins
    return np.lexsort((level, ranks))


def _formula(space: SearchSpace) -> Formula:
    def formula(genes: Genes) -> Design:
        return entropy(space.layer_table(genes))

    return formula
