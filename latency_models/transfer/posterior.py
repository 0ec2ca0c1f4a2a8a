"""From a handful of measured latencies to all others: the prior's strengths averaged over.

Strengths of the parts and of the noise are not fitted, for a handful of latencies does not decide
them. They are drawn from a fixed log-normal prior with a Sobol sequence, and the draws are
weighted by their marginal likelihood (importance sampling, so the same every time):

    f(x) = sum_g w_g f_g(x),    w_g ~ N(y; m, K_g + N_g).

Each draw holds one Gaussian process without a disturbed measurement and one for each measured row
where that row is disturbed (its noise is ten times the usual one), which bounds what a single bad
reading can do. Where latencies are whole multiples of a step (a phone that reports milliseconds)
the noise is no less than that of rounding, step^2 / 12.

All kernels have low rank: predicting costs n x parts x measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import qmc

from latency_models.transfer.features import Matrix
from latency_models.transfer.prior import PARTS, DevicePrior

STRENGTHS = {
    "devices": (0.5, 2.5),
    "counts": (0.25, 3.0),
    "work": (0.25, 3.0),
    "more_counts": (0.4, 3.0),
    "more_work": (0.4, 3.0),
    "choices": (0.15, 2.5),
}
"""Median and one-sigma factor of each part's strength, in spreads of the mean."""

NOISE = (0.12, 3.0)
"""The same of the noise of one measured row."""

_DRAWS = 512
_DISTURBED = 0.02  # prior probability that a given row is disturbed
_DISTURBANCE = 10.0  # times the noise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """Latencies of `n` architectures in ms.

    Attributes:
        mean_ms: Expected values, length `n`.
        deviation_ms: Standard deviations of a measurement, its noise included, length `n`.
    """

    mean_ms: Matrix
    deviation_ms: Matrix


def strength_draws(parts: tuple[str, ...] = PARTS, draws: int = _DRAWS) -> tuple[Matrix, Matrix]:
    """Draws of the strengths (`draws x parts`) and of the noise (`draws`)."""
    settings = np.log([*(STRENGTHS[name] for name in parts), NOISE])
    points = qmc.Sobol(len(settings), scramble=True, rng=0).random(draws)
    values = np.exp(settings[:, 0] + settings[:, 1] * ndtri(points))
    return values[:, :-1], values[:, -1]


def predict(prior: DevicePrior, rows: npt.NDArray[np.intp], measured_ms: Matrix) -> Prediction:
    """Latencies of all `n` architectures from those measured.

    Args:
        prior: Over the `n` architectures.
        rows: Which were measured, `k` positions.
        measured_ms: Their latencies, length `k`.
    """
    unit = float(measured_ms.mean() / prior.mean[rows].mean())
    kernels = [factor @ factor[rows].T for factor in prior.factors]  # n x k each
    measured = np.stack([kernel[rows] for kernel in kernels])
    strengths, noise = strength_draws()
    squared = np.concatenate([np.ones((len(noise), 1)), strengths**2], axis=1)
    rounding = _step(measured_ms) ** 2 / 12 / unit**2
    noise_variance = noise**2 * prior.variance + rounding
    difference = measured_ms / unit - prior.mean[rows]
    draws = _Draws(squared, noise_variance, measured, difference)
    mean = prior.mean.copy()
    for kernel, coefficients in zip(kernels, draws.coefficients, strict=True):
        mean += kernel @ coefficients
    together = np.concatenate(kernels, axis=1)
    scale = draws.prior_scale
    variance = sum(
        s * (factor**2).sum(axis=1) for s, factor in zip(scale, prior.factors, strict=True)
    )
    variance = variance - ((together @ draws.known) * together).sum(axis=1)
    variance = np.maximum(variance, 0) + draws.noise
    return Prediction(mean_ms=mean * unit, deviation_ms=np.sqrt(variance) * unit)


class _Draws:
    """The Gaussian processes of all draws on the `k` measured rows, weighted.

    With one row disturbed the inverse `B` of the covariance changes by a matrix of rank one, so
    these `k` further processes cost next to nothing:
    `B - c B_i B_i'` with `c = d / (1 + d B_ii)`, where `d` is the added variance.

    Args:
        squared: Squared strengths, `draws x parts`.
        noise_variance: Length `draws`.
        kernels: `parts x k x k`.
        difference: Measured less mean, length `k`.
    """

    def __init__(
        self, squared: Matrix, noise_variance: Matrix, kernels: Matrix, difference: Matrix
    ) -> None:
        k = len(difference)
        covariance = np.einsum("gp,pij->gij", squared, kernels)
        covariance += noise_variance[:, None, None] * np.eye(k)
        inverse = np.linalg.inv(covariance)
        alpha = inverse @ difference  # draws x k
        diagonal = np.diagonal(inverse, axis1=1, axis2=2)
        added = noise_variance[:, None] * (_DISTURBANCE**2 - 1)
        change = added / (1 + added * diagonal)  # c, draws x k
        plain = -0.5 * (alpha @ difference) - 0.5 * np.linalg.slogdet(covariance)[1]
        disturbed = plain[:, None] + 0.5 * change * alpha**2 - 0.5 * np.log1p(added * diagonal)
        prior = np.log([1 - _DISTURBED * k] + [_DISTURBED] * k)
        evidence = np.concatenate([plain[:, None], disturbed], axis=1) + prior
        weights = np.exp(evidence - evidence.max())
        weights /= weights.sum()
        per_draw, shift = weights.sum(axis=1), weights[:, 1:] * change * alpha
        mean_alpha = per_draw[:, None] * alpha - np.einsum("gik,gk->gi", inverse, shift)
        self.coefficients = np.einsum("gp,gi->pi", squared, mean_alpha)
        self.prior_scale = per_draw @ squared
        self.noise = float(per_draw @ noise_variance)
        self.known = self._known(squared, inverse, alpha, weights, change)

    def _known(
        self, squared: Matrix, inverse: Matrix, alpha: Matrix, weights: Matrix, change: Matrix
    ) -> Matrix:
        """The matrix that takes variance away: explained, less how far the draws disagree.

        A `(parts k) x (parts k)` array.
        """
        draws, parts = squared.shape
        k = alpha.shape[1]
        share = weights.sum(axis=1)[:, None, None]
        taken = share * inverse - (inverse * (weights[:, 1:] * change)[:, None, :]) @ inverse
        # `alpha` with each row disturbed in turn, draws x disturbed x k
        vectors = alpha[:, None, :] - (change * alpha)[:, :, None] * inverse
        spread = weights[:, 0, None, None] * alpha[:, :, None] * alpha[:, None, :]
        spread += (vectors * weights[:, 1:, None]).transpose(0, 2, 1) @ vectors
        both = (squared[:, :, None] * squared[:, None, :]).reshape(draws, parts**2)
        blocks = both.T @ (taken - spread).reshape(draws, k**2)
        matrix = blocks.reshape(parts, parts, k, k).transpose(0, 2, 1, 3)
        mean = self.coefficients.reshape(-1)
        return np.asarray(matrix.reshape(parts * k, parts * k) + np.outer(mean, mean))


def _step(measured_ms: Matrix) -> float:
    """The step of which all latencies are whole multiples: 1 ms, or 0 where there is none."""
    return 1.0 if (measured_ms % 1 == 0).all() else 0.0
