"""How well a predictor did on values that it had not seen when it predicted them.

Every prediction is made before its network is measured, so these numbers are out of sample. The
rank correlation of multiply-accumulates alone stands beside them: a predictor that does not beat
it is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import kendalltau

from search_spaces import Genes, SearchSpace
from strategies.protocols import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorQuality:
    """Predictions against what was measured afterwards.

    Attributes:
        count: The number of pairs.
        kendall_tau: Kendall's tau-b between predicted and measured accuracy; NaN for fewer than
            two pairs, or where either is constant.
        mean_absolute_percentage_error: In percent of the measured accuracy; NaN without pairs.
        macs_kendall_tau: Kendall's tau-b between multiply-accumulates and measured accuracy on the
            same networks.
        predicted: The predictions, in the order in which they were measured.
        measured: The measured values.
    """

    count: int
    kendall_tau: float
    mean_absolute_percentage_error: float
    macs_kendall_tau: float
    predicted: Floats = field(repr=False, compare=False)
    measured: Floats = field(repr=False, compare=False)

    def __str__(self) -> str:
        return (
            f"{self.count} predictions before measuring: Kendall tau {self.kendall_tau:.2f} "
            f"(MACs alone {self.macs_kendall_tau:.2f}), "
            f"mean error {self.mean_absolute_percentage_error:.1f} %"
        )


def predictor_quality(
    space: SearchSpace, genes: Genes, predicted: Floats, measured: Floats
) -> PredictorQuality:
    """Compares predictions with measured values of the same `n` architectures."""
    above_zero = measured > 0
    relative = np.abs(predicted - measured)[above_zero] / measured[above_zero]
    macs = space.layer_table(genes).macs if len(genes) else np.zeros(0)
    return PredictorQuality(
        count=len(measured),
        kendall_tau=_tau(predicted, measured),
        mean_absolute_percentage_error=100 * float(relative.mean()) if len(relative) else np.nan,
        macs_kendall_tau=_tau(macs.astype(np.float64), measured),
        predicted=predicted,
        measured=measured,
    )


def _tau(first: Floats, second: Floats) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(kendalltau(first, second).statistic)
