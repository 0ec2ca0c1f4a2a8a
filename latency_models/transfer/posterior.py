"""From a handful of measured latencies to all others: averages over what the prior leaves open.

Strengths of the parts and of the noise are not fitted, for a handful of latencies does not decide
them. They are drawn from a fixed log-normal prior with a Sobol sequence, and the draws are
weighted by their marginal likelihood (importance sampling, so the same every time):

    f(x) = sum_cg w_cg f_cg(x),    w_cg ~ N(y; m_c, K_cg + N_g).

The centres `c` of the prior, all equally likely, are weighted with them: Bayesian model averaging
over which known device the new one is like. Each draw holds one Gaussian process without a
disturbed measurement and one for each measured row where that row is disturbed (its noise is ten
times the usual one), which bounds what a single bad reading can do. Where latencies are whole
multiples of a step (a phone that reports milliseconds) the noise is no less than that of
rounding, step^2 / 12.

All kernels have low rank: predicting costs n x columns^2, whatever the number of centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag
from scipy.special import ndtri
from scipy.stats import qmc

from latency_models.transfer.features import Matrix
from latency_models.transfer.prior import PARTS, DevicePrior, base

STRENGTHS = {
    "devices": 0.5,
    "counts": 0.25,
    "work": 0.25,
    "more_counts": 0.4,
    "more_work": 0.4,
    "choices": 0.15,
}
"""The median of each part's strength, in spreads of the mean."""

NOISE = 0.2
"""The same of the noise of one measured row."""

STRENGTH_FACTOR, NOISE_FACTOR = 5.0, 2.5
"""One standard deviation of the logarithm, as a factor, of strengths and of the noise."""

_DRAWS = 128
_DISTURBED = 0.02  # prior probability that a given row is disturbed
_DISTURBANCE = 10.0  # times the noise
_LEAST_WEIGHT = 0.003  # a centre less likely than this, relative to the best, is left out


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
    medians = np.array([*(STRENGTHS[name] for name in parts), NOISE])
    factors = np.array([STRENGTH_FACTOR] * len(parts) + [NOISE_FACTOR])
    points = qmc.Sobol(len(medians), scramble=True, rng=0).random(draws)
    values = medians * factors ** ndtri(points)
    return values[:, :-1], values[:, -1]


def predict(prior: DevicePrior, rows: npt.NDArray[np.intp], measured_ms: Matrix) -> Prediction:
    """Latencies of all `n` architectures from those measured.

    Args:
        prior: Over the `n` architectures.
        rows: Which were measured, `k` positions.
        measured_ms: Their latencies, length `k`.
    """
    settings = strength_draws()
    kernels = [part[rows] @ part[rows].T for part in prior.parts]  # k x k each
    centres = [
        _Centre(prior, rows, measured_ms, kernels, mean, strength, settings)
        for mean, strength in prior.centres
    ]
    evidence = np.array([centre.draws.log_evidence for centre in centres])
    evidence -= len(rows) * np.log([centre.unit for centre in centres])  # densities in ms
    weights = np.exp(evidence - evidence.max())
    weights[weights < _LEAST_WEIGHT] = 0
    weights /= weights.sum()
    kept = [(float(w), c) for w, c in zip(weights, centres, strict=True) if w > 0]
    return _mixture(prior, kept)


def _mixture(prior: DevicePrior, weighted: Sequence[tuple[float, _Centre]]) -> Prediction:
    """Mean and deviation of a weighted mixture of what each centre says.

    All centres share the columns of the parts, so what takes most time, a quadratic form in
    them, is computed once for the sum of their matrices.
    """
    columns = np.concatenate(prior.parts, axis=1)
    lengths = np.stack([(part**2).sum(axis=1) for part in prior.parts], axis=1)  # n x parts
    means = columns @ np.stack([centre.coefficients[2:] for _, centre in weighted], axis=1)
    shared, scales = np.zeros((columns.shape[1],) * 2), np.zeros(len(prior.parts))
    variance, noise = np.zeros(len(columns)), 0.0
    for j, (weight, centre) in enumerate(weighted):
        own, taken = centre.base, weight * centre.explained()
        means[:, j] += centre.unit * centre.mean + own @ centre.coefficients[:2]
        scale = weight * centre.unit**2 * centre.draws.prior_scale
        variance += scale[0] * (own**2).sum(axis=1)
        variance -= ((own @ taken[:2, :2] + 2 * columns @ taken[2:, :2]) * own).sum(axis=1)
        shared += taken[2:, 2:]
        scales += scale[1:]
        noise += weight * centre.unit**2 * centre.draws.noise
    variance += lengths @ scales - ((columns @ shared) * columns).sum(axis=1)
    shares = np.array([weight for weight, _ in weighted])
    mean = means @ shares
    between = (means - mean[:, None]) ** 2 @ shares
    return Prediction(
        mean_ms=mean, deviation_ms=np.sqrt(np.maximum(variance, 0) + noise + between)
    )


class _Centre:
    """One centre of the prior and what it makes of the measured rows.

    A Gaussian process of low rank is a regression on the columns of its factors: those of `base`
    and of all parts.

    Args:
        prior: Over the `n` architectures.
        rows: The `k` measured ones.
        measured_ms: Their latencies.
        kernels: Of each part a `k x k` array.
        mean: The centre, length `n`.
        strength: How strong the parts are around it.
        settings: Draws of strengths and of the noise.
    """

    def __init__(
        self,
        prior: DevicePrior,
        rows: npt.NDArray[np.intp],
        measured_ms: Matrix,
        kernels: Sequence[Matrix],
        mean: Matrix,
        strength: float,
        settings: tuple[Matrix, Matrix],
    ) -> None:
        self.mean = mean
        self.base = base(mean)
        self.unit = float(measured_ms.mean() / mean[rows].mean())
        own = self.base[rows]
        strengths, noise = settings
        squared = (strength * strengths) ** 2
        self.draws = _Draws(
            np.concatenate([np.ones((len(noise), 1)), squared], axis=1),
            noise**2 * prior.variance + _step(measured_ms) ** 2 / 12 / self.unit**2,
            np.stack([own @ own.T, *kernels]),
            measured_ms / self.unit - mean[rows],
        )
        self._measured = [own, *(part[rows] for part in prior.parts)]  # k x columns each

    @property
    def coefficients(self) -> Matrix:
        """Those of all columns in ms: two of `base`, then those of the parts."""
        parts = zip(self.draws.coefficients, self._measured, strict=True)
        return np.asarray(self.unit * np.concatenate([c @ columns for c, columns in parts]))

    def explained(self) -> Matrix:
        """How much less the coefficients vary than before measuring: a square matrix in ms^2."""
        columns = block_diag(*self._measured)
        return np.asarray(self.unit**2 * columns.T @ self.draws.known() @ columns)


class _Draws:
    """The Gaussian processes of all draws around one centre on the `k` measured rows, weighted.

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
        self.log_evidence = float(evidence.max() + np.log(weights.sum() / len(weights)))
        weights /= weights.sum()
        per_draw, shift = weights.sum(axis=1), weights[:, 1:] * change * alpha
        mean_alpha = per_draw[:, None] * alpha - np.einsum("gik,gk->gi", inverse, shift)
        self.coefficients = np.einsum("gp,gi->pi", squared, mean_alpha)
        self.prior_scale = per_draw @ squared
        self.noise = float(per_draw @ noise_variance)
        self._squared, self._inverse, self._alpha = squared, inverse, alpha
        self._weights, self._change = weights, change

    def known(self) -> Matrix:
        """The matrix that takes variance away: explained, less how far the draws disagree.

        A `(parts k) x (parts k)` array.
        """
        squared, inverse, alpha = self._squared, self._inverse, self._alpha
        weights, change = self._weights, self._change
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
