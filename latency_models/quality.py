"""How good predicted latencies are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr

from records import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyQuality:
    """Agreement of predicted and measured latencies.

    Attributes:
        networks: How many were compared.
        mape: Mean relative error.
        median_error: Median relative error.
        within_5_percent: Share of networks with at most 5 % error.
        spearman: Rank correlation; NaN for fewer than three networks.
        kendall_tau: Rank correlation by pairs; NaN for fewer than three networks.
    """

    networks: int
    mape: float
    median_error: float
    within_5_percent: float
    spearman: float
    kendall_tau: float


def latency_quality(predicted_ms: npt.ArrayLike, measured_ms: npt.ArrayLike) -> LatencyQuality:
    """Compares predicted with measured latencies, arrays of length `n`.

    Raises:
        BadInputError: Arrays of different or zero length.
    """
    predicted = np.asarray(predicted_ms, np.float64)
    measured = np.asarray(measured_ms, np.float64)
    if predicted.shape != measured.shape or predicted.ndim != 1 or len(predicted) == 0:
        raise BadInputError(
            f"one prediction per measurement is needed, got {predicted.shape}, {measured.shape}"
        )
    error = np.abs(predicted / measured - 1)
    ranked = len(predicted) >= 3 and np.ptp(predicted) > 0 and np.ptp(measured) > 0
    return LatencyQuality(
        networks=len(predicted),
        mape=float(error.mean()),
        median_error=float(np.median(error)),
        within_5_percent=float((error <= 0.05).mean()),
        spearman=float(spearmanr(predicted, measured).statistic) if ranked else float("nan"),
        kendall_tau=float(kendalltau(predicted, measured).statistic) if ranked else float("nan"),
    )
