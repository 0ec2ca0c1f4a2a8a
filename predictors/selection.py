"""`select_predictor`: the predictor that the rows at hand speak for.

Every candidate predicts each row by a fit that has not seen it, and what a candidate chooses by
itself (penalties, weights, lengths) it chooses within the rows that it sees: nested
cross-validation. The candidate of the greatest Kendall's tau is taken, but only where it is ahead
of the first one by more than tau's standard error under independence,

    sqrt(2 (2 n + 5) / (9 n (n - 1)))    (Kendall, Rank Correlation Methods, 1948),

divided by `CAUTION`, since two candidates on the same rows differ by less than either varies: with
few rows the first stands, for it is the better one on tables where all rows are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictors.boosted_trees import BoostedTrees
from predictors.prediction import Predictor, checked_values
from predictors.quality import Quality, cross_validated, quality
from predictors.stacked import StackedPredictor
from records import BadInputError, generator
from search_spaces import SearchSpace

CAUTION = 4.0

Candidates = Mapping[str, Callable[[], Predictor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was selected, and what speaks for it.

    Attributes:
        name: The selected candidate.
        predictor: It, fitted on all rows.
        qualities: What each candidate was worth on rows that it had not seen.
    """

    name: str
    predictor: Predictor
    qualities: Mapping[str, Quality]


def select_predictor(
    space: SearchSpace,
    genes: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    candidates: Candidates | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Selection:
    """Compares predictors on the rows at hand, and fits the one to take.

    Args:
        space: The search space.
        genes: An `n x d` array of evaluated architectures, with at least `folds` distinct ones.
        values: An array of length `n`, larger is better.
        candidates: By name, what makes each; the first is taken in doubt. By default the stacked
            predictor and boosted trees.
        folds: In how many parts the rows are held out.
        seed: Deals them out, and is the default candidates' seed.

    Raises:
        BadInputError: No candidates, values that cannot be fitted, too few rows for the folds.
    """
    rows = space.canonical(space.gene_space.check(genes))
    known = checked_values(values, len(rows))
    if candidates is None:
        candidates = {
            "stacked": lambda: StackedPredictor(space, seed=seed),
            "boosted": lambda: BoostedTrees(space, seed=seed),
        }
    if not candidates:
        raise BadInputError("give at least one candidate")
    qualities = {
        name: quality(
            cross_validated(make, rows, known, folds, generator(seed, "selection")), known
        )
        for name, make in candidates.items()
    }
    name = _best(qualities)
    return Selection(name=name, predictor=candidates[name]().fit(rows, known), qualities=qualities)


def _best(qualities: Mapping[str, Quality]) -> str:
    """The name of the best, or the first where the lead could be chance or nothing is known."""
    first = next(iter(qualities))
    tau = {name: q.kendall_tau for name, q in qualities.items() if not np.isnan(q.kendall_tau)}
    if first not in tau:
        return max(tau, key=tau.__getitem__, default=first)
    n = qualities[first].n
    error = math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
    best = max(tau, key=tau.__getitem__)
    return best if tau[best] > tau[first] + error / CAUTION else first
