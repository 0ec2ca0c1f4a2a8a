"""How good a predictor is: rank correlation, relative error, and whether its intervals hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, rankdata

from predictors.folds import assign_folds
from predictors.prediction import NORMAL_90, Prediction, Predictor
from records import BadInputError

_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a prediction of `n` values was worth. NaN means that a figure is not defined.

    Attributes:
        n: How many values were predicted.
        kendall_tau: Kendall's tau-b, -1 to 1. NaN for fewer than 3 values, or if all predictions
            or all values are tied.
        spearman: Spearman's rank correlation with mean ranks for ties; NaN as for `kendall_tau`.
        mape: The mean of `|prediction - value| / |value|`, a fraction (0.02 is 2 %). NaN if a
            value is 0.
        share_within_5_percent: The share of predictions less than 5 % of the value away from it.
            NaN if a value is 0.
        coverage_90: The share of values inside the nominal 90 % interval, `mean +- 1.645 std`.
    """

    n: int
    kendall_tau: float
    spearman: float
    mape: float = _NAN
    share_within_5_percent: float = _NAN
    coverage_90: float = _NAN


def quality(prediction: Prediction, values: npt.ArrayLike) -> Quality:
    """Compares a prediction with the true values, an array of length `n`.

    A NaN among means, standard deviations or values makes every figure NaN but `n`: rows that
    have no value are left out by the caller, who then knows how many they were.

    Raises:
        BadInputError: The lengths differ.

    >>> prediction = Prediction(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.1, 0.1]))
    >>> round(quality(prediction, [1.0, 2.0, 3.0]).coverage_90, 2)
    0.67
    """
    ranks = rank_quality(prediction.mean, values)
    true = np.asarray(values, np.float64)
    if ranks.n == 0 or np.isnan(prediction.mean + prediction.std + true).any():
        return Quality(n=ranks.n, kendall_tau=_NAN, spearman=_NAN)
    error = np.abs(prediction.mean - true)
    relative = error / np.abs(true) if (true != 0).all() else np.full(ranks.n, _NAN)
    defined = not np.isnan(relative).any()
    return Quality(
        n=ranks.n,
        kendall_tau=ranks.kendall_tau,
        spearman=ranks.spearman,
        mape=float(relative.mean()),
        share_within_5_percent=float((relative < 0.05).mean()) if defined else _NAN,
        coverage_90=float((error <= NORMAL_90 * prediction.std).mean()),
    )


def rank_quality(scores: npt.ArrayLike, values: npt.ArrayLike) -> Quality:
    """Compares an order with the true one: what a score such as "MACs alone" is worth.

    Args:
        scores: An array of length `n`, larger for larger values; the unit does not matter.
        values: The true values, an array of length `n`.

    Returns:
        The two rank correlations; the other figures are NaN. All are NaN if an input is.

    Raises:
        BadInputError: The two are not vectors of one length.
    """
    first, second = np.asarray(scores, np.float64), np.asarray(values, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise BadInputError(
            "predictions and values must be vectors of one length, "
            f"got shapes {first.shape} and {second.shape}"
        )
    n = len(first)
    if n < 3 or np.isnan(first + second).any() or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Quality(n=n, kendall_tau=_NAN, spearman=_NAN)
    return Quality(
        n=n,
        kendall_tau=float(kendalltau(first, second).statistic),
        spearman=float(np.corrcoef(rankdata(first), rankdata(second))[0, 1]),
    )


def top_k_regret(scores: npt.ArrayLike, values: npt.ArrayLike, k: int) -> float:
    """How much is lost by looking only at the `k` networks that are predicted to be best.

    Args:
        scores: An array of length `n`, larger for networks predicted to be better; of equal
            scores the earlier come first.
        values: The true values, an array of length `n`, larger is better.
        k: How many are looked at, at least 1.

    Returns:
        The best of all values less the best of those `k`: 0 where the best was among them. NaN if
        an input has a NaN.

    Raises:
        BadInputError: The two are not vectors of one length, nothing to look at, or `k` below 1.

    >>> top_k_regret([3, 2, 1], [90.0, 92.0, 95.0], k=2)
    3.0
    """
    predicted, true = np.asarray(scores, np.float64), np.asarray(values, np.float64)
    if predicted.ndim != 1 or predicted.shape != true.shape or len(true) == 0:
        raise BadInputError(
            "scores and values must be vectors of one length of at least 1, "
            f"got shapes {predicted.shape} and {true.shape}"
        )
    if k < 1:
        raise BadInputError(f"k must be at least 1, got {k}")
    if np.isnan(predicted + true).any():
        return _NAN
    seen = np.argsort(-predicted, kind="stable")[:k]
    return float(true.max() - true[seen].max())


def cross_validated(
    predictor_factory: Callable[[], Predictor],
    genes: npt.ArrayLike,
    values: npt.ArrayLike,
    folds: int,
    rng: np.random.Generator,
) -> Prediction:
    """Predicts every row by a predictor that was fitted without it.

    `quality(cross_validated(...), values)` is what the predictor is worth on this data, at a
    training size of `n (folds - 1) / folds`. Equal rows are held out together.

    Args:
        predictor_factory: Makes a new, unfitted predictor; called once a fold.
        genes: An `n x d` array in canonical form.
        values: An array of length `n`.
        folds: How many folds, 2 to the number of distinct rows.
        rng: Deals the rows out to the folds.

    Raises:
        BadInputError: Shapes that disagree, or folds that leave fewer than two rows to fit.
    """
    rows, true = np.asarray(genes), np.asarray(values, np.float64)
    if rows.ndim != 2 or true.shape != (len(rows),):
        raise BadInputError(
            f"genes must be n x d and values of length n, got {rows.shape} and {true.shape}"
        )
    fold = assign_folds(rows, folds, rng)
    mean, std = np.empty(len(rows)), np.empty(len(rows))
    for k in range(folds):
        out = fold == k
        prediction = predictor_factory().fit(rows[~out], true[~out]).predict(rows[out])
        mean[out], std[out] = prediction.mean, prediction.std
    return Prediction(mean=mean, std=std)
