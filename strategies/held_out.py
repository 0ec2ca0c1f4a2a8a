"""How well a predictor did on values that it had not seen when it predicted them.

Every prediction is made before its network is measured, so these figures are out of sample. The
rank correlation of multiply-accumulates alone stands beside them: a predictor that does not beat
it is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from predictors import Prediction, Quality, quality, rank_quality
from search_spaces import Genes, SearchSpace
from strategies.protocols import Floats

ENOUGH = 20
"""From fewer networks a rank correlation says little: tau is uncertain by more than 0.15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorQuality:
    """Predictions against what was measured afterwards.

    Attributes:
        predictor: The figures of the predictor; NaN where they are not defined.
        macs: The rank correlations of multiply-accumulates on the same networks.
        predicted: The predictions, in the order in which the networks were measured.
        measured: The measured values.
    """

    predictor: Quality
    macs: Quality
    predicted: Floats = field(repr=False, compare=False)
    measured: Floats = field(repr=False, compare=False)

    @property
    def count(self) -> int:
        """The number of pairs."""
        return self.predictor.n

    @property
    def kendall_tau(self) -> float:
        """Kendall's tau-b between predicted and measured values."""
        return self.predictor.kendall_tau

    @property
    def mape(self) -> float:
        """The mean absolute error as a share of the measured value (0.02 is 2 %)."""
        return self.predictor.mape

    @property
    def macs_kendall_tau(self) -> float:
        """Kendall's tau-b between multiply-accumulates and measured values."""
        return self.macs.kendall_tau

    def __str__(self) -> str:
        if self.count < 3:
            return f"{self.count} predictions before measuring: too few to judge"
        few = ", too few to tell" if self.count < ENOUGH else ""
        return (
            f"{self.count} predictions before measuring{few}: "
            f"Kendall tau {self.kendall_tau:.2f} (MACs alone {self.macs_kendall_tau:.2f}), "
            f"mean relative error {100 * self.mape:.1f} %"
        )


def predictor_quality(
    space: SearchSpace, genes: Genes, mean: Floats, std: Floats, measured: Floats
) -> PredictorQuality:
    """Compares predictions (mean and std) with measured values of the same `n` architectures."""
    macs = space.layer_table(genes).macs if len(genes) else np.zeros(0)
    return PredictorQuality(
        predictor=quality(Prediction(mean, std), measured),
        macs=rank_quality(macs, measured),
        predicted=mean,
        measured=measured,
    )
