"""Values as the normal scores of their ranks: how a predictor sees accuracies.

Accuracies have a long lower tail: some networks fail to learn, and how badly says nothing about
the order of the good ones. A score keeps the order and drops the distances,

    z_i = Phi^-1((rank_i - 1/2) / n),

with mean ranks for ties (a Gaussian copula; Salinas et al., A quantile-based approach for
hyperparameter transfer learning, ICML 2020). Between the values that were seen, scores are turned
back by straight lines; beyond them by the line from the outer quarter to the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormalScores:
    """The monotone map between `m` distinct values and their scores.

    Attributes:
        values: The distinct values, ascending.
        scores: The score of each, ascending.
        slope_below: Value for score below the least value, at least 0.
        slope_above: The same above the greatest.
    """

    values: Vector
    scores: Vector
    slope_below: float
    slope_above: float

    @staticmethod
    def of(values: Vector) -> NormalScores:
        """The map of `n` values, `n >= 1`.

        >>> known = NormalScores.of(np.array([70.0, 10.0, 71.0]))
        >>> known.transform(np.array([10.0, 70.0])).round(2).tolist()
        [-0.97, 0.0]
        """
        z = ndtri((rankdata(values) - 0.5) / len(values))
        distinct, first = np.unique(values, return_index=True)
        scores = z[first]
        if len(distinct) == 1:
            return NormalScores(values=distinct, scores=scores, slope_below=0.0, slope_above=0.0)
        quarter, rest = np.interp([-0.6745, 0.6745], scores, distinct)
        below = (quarter - distinct[0]) / max(-0.6745 - scores[0], 0.1)
        above = (distinct[-1] - rest) / max(scores[-1] - 0.6745, 0.1)
        least = (distinct[-1] - distinct[0]) / (scores[-1] - scores[0])
        return NormalScores(
            values=distinct,
            scores=scores,
            slope_below=float(below or least),
            slope_above=float(above or least),
        )

    def transform(self, values: Vector) -> Vector:
        """The scores of values, those beyond the ends clipped to these."""
        return np.interp(values, self.values, self.scores)

    def restore(self, scores: Vector) -> Vector:
        """The values that belong to scores."""
        inside = np.interp(scores, self.scores, self.values)
        below = np.minimum(scores - self.scores[0], 0) * self.slope_below
        above = np.maximum(scores - self.scores[-1], 0) * self.slope_above
        return np.asarray(inside + below + above)
