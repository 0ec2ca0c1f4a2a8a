"""The inference of a Gaussian process on given distances: its likelihood and its posterior.

The values are `y = m + f(x) + noise` with an unknown constant `m`, for which its generalised
least-squares estimate stands. Amplitudes and lengths of the groups and the variance of the noise
are those of the greatest posterior density: the marginal likelihood (Rasmussen & Williams, 2006,
eq. 5.8 and 5.9, gradients included) times wide log-normal priors, without which a few rows would
allow any length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from predictors.kernels import Matrix, matern

Vector = npt.NDArray[np.float64]

_LEAST_NOISE, _TYPICAL_NOISE = 1e-3, 0.05  # variances; the values have variance 1
_UNPROVEN_NOISE = 0.5  # over n: that there is less noise than this, n values cannot tell
_AMPLITUDES, _LENGTHS = (-6.0, 3.0), (-2.5, 3.0)  # bounds of logarithms
_WIDE, _NARROW = 1.5, 1.0  # standard deviations of the priors of logarithms
_JITTER = 1e-8
_MOST_JITTER = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hyperparameters:
    """What the marginal likelihood decides, for values of mean 0 and variance 1.

    Attributes:
        amplitudes: The variance that each of `g` groups explains.
        lengths: The distance in each group over which values change.
        noise: The variance of the noise.
    """

    amplitudes: Vector
    lengths: Vector
    noise: float

    @staticmethod
    def typical(groups: int) -> Hyperparameters:
        """The centres of the priors."""
        return Hyperparameters(
            amplitudes=np.full(groups, 1 / groups), lengths=np.ones(groups), noise=_TYPICAL_NOISE
        )

    def logarithms(self) -> Vector:
        """All in one vector of `2 g + 1` logarithms."""
        values = np.concatenate([self.amplitudes, self.lengths, [self.noise]])
        return np.asarray(np.log(values), np.float64)

    @staticmethod
    def of(logarithms: Vector) -> Hyperparameters:
        """The inverse of `logarithms`."""
        values = np.exp(logarithms)
        groups = len(values) // 2
        return Hyperparameters(
            amplitudes=values[:groups], lengths=values[groups:-1], noise=float(values[-1])
        )

    def kernel(self, squared: Matrix) -> Matrix:
        """The covariances that belong to a `g x m x n` array of squared distances."""
        total = squared.dtype.type(self.amplitudes[0]) * matern(squared[0], self.lengths[0])
        for a, length, group in zip(
            self.amplitudes[1:], self.lengths[1:], squared[1:], strict=True
        ):
            part = matern(group, length)
            part *= squared.dtype.type(a)
            total += part
        return total


def most_likely(
    squared: Matrix, values: Vector, start: Hyperparameters | None = None, steps: int = 30
) -> Hyperparameters:
    """The hyperparameters of greatest posterior density, found from `start` on.

    Args:
        squared: A `g x n x n` array of squared distances.
        values: An array of length `n` of mean 0 and variance 1.
        start: Where to begin; the centres of the priors by default.
        steps: The most steps of L-BFGS.
    """
    centre = Hyperparameters.typical(len(squared)).logarithms()
    groups = len(squared)
    least = np.log(max(_LEAST_NOISE, min(_UNPROVEN_NOISE / len(values), 0.5)))
    bounds = [_AMPLITUDES] * groups + [_LENGTHS] * groups + [(least, 0.0)]
    low, high = np.array(bounds).T
    begin = centre if start is None else start.logarithms()
    found = minimize(
        negative_log_density,
        np.clip(begin, low, high),
        args=(Pairs.of(squared), values, centre),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": steps},
    )
    return Hyperparameters.of(found.x)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """The distances of `p = n (n - 1) / 2` pairs of `n` rows, each pair once.

    Attributes:
        scaled: The distances times `sqrt(5)`, as the Matern function takes them, a `g x p` array.
        rows: The later row of each pair.
        columns: The earlier one.
    """

    scaled: Matrix
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]

    @staticmethod
    def of(squared: Matrix) -> Pairs:
        """The pairs of a `g x n x n` array of squared distances."""
        rows, columns = np.tril_indices(squared.shape[1], -1)
        scaled = np.sqrt(5 * squared[:, rows, columns].astype(np.float64))
        return Pairs(scaled=scaled, rows=rows, columns=columns)


def negative_log_density(
    logarithms: Vector, pairs: Pairs, values: Vector, centre: Vector
) -> tuple[float, Vector]:
    """The negative logarithm of likelihood times prior, up to a constant, and its gradient."""
    known = Hyperparameters.of(logarithms)
    amplitudes, noise = known.amplitudes, known.noise
    groups, n = len(amplitudes), len(values)
    s = pairs.scaled / known.lengths[:, None]
    decay = np.exp(-s)
    slopes = s * s
    slopes *= decay  # s^2 e^-s; of this (1 + s) / 3 is the Matern function's slope
    kernels = slopes / 3
    s += 1
    kernels += np.multiply(s, decay, out=decay)
    slopes *= s
    covariance = np.zeros((n, n))
    covariance[pairs.rows, pairs.columns] = amplitudes @ kernels
    np.fill_diagonal(covariance, amplitudes.sum() + noise)
    lower = safe_cholesky(covariance)
    inverse, _ = dpotri(lower, lower=1)
    solved = cho_solve((lower, True), np.column_stack([values, np.ones(n)]), check_finite=False)
    weights = solved[:, 0] - solved[:, 0].sum() / solved[:, 1].sum() * solved[:, 1]
    value = 0.5 * values @ weights + np.log(np.diag(lower)).sum()
    apart = inverse[pairs.rows, pairs.columns] - weights[pairs.rows] * weights[pairs.columns]
    alone = 0.5 * float(np.trace(inverse) - weights @ weights)
    gradient = np.empty(2 * groups + 1)
    gradient[:groups] = amplitudes * (kernels @ apart + alone)
    gradient[groups:-1] = amplitudes * (slopes @ apart) / 3
    gradient[-1] = noise * alone
    widths = np.full(2 * groups + 1, _WIDE)
    widths[groups:-1] = _NARROW
    away = (logarithms - centre) / widths
    return float(value + 0.5 * away @ away), gradient + away / widths


def safe_cholesky(covariance: Vector) -> Vector:
    """The lower factor; as much is added to the diagonal as rounding errors ask for.

    Raises:
        LinAlgError: It is no covariance, whatever is added (it has a NaN, say).
    """
    size = float(np.trace(covariance)) / max(len(covariance), 1)
    jitter = _JITTER
    while jitter <= _MOST_JITTER:
        raised = covariance.copy()
        raised[np.diag_indices(len(raised))] += jitter * size
        try:
            lower: Vector = cholesky(raised, lower=True, check_finite=False)
        except LinAlgError:
            lower = np.full((1, 1), np.nan)
        if np.isfinite(lower).all():
            return lower
        jitter *= 10
    raise LinAlgError("the covariance of the measured rows has no Cholesky factor")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """What `n` measured values say about all others.

    Attributes:
        known: The hyperparameters.
        centre: What is added to all predictions, in the unit of the values.
        unit: The standard deviation of the values; 0 where all were equal.
        weights: How much each measured row's covariance moves a mean, an array of length `n`.
        whitening: The inverse of the covariance's lower Cholesky factor, an `n x n` array.
    """

    known: Hyperparameters
    centre: float
    unit: float
    weights: Vector
    whitening: Vector

    @staticmethod
    def of(
        squared: Matrix,
        values: Vector,
        start: Hyperparameters | None = None,
        *,
        steps: int = 30,
    ) -> Posterior:
        """Learns from `n` values at a `g x n x n` array of squared distances.

        With `steps` of 0 the hyperparameters are those of `start`.
        """
        mean, unit = float(values.mean()), float(values.std())
        if unit <= 1e-12 * max(abs(mean), 1e-300):
            unit = 0.0
        scaled = (values - mean) / (unit or 1.0)
        known = start or Hyperparameters.typical(len(squared))
        if steps and unit:
            known = most_likely(squared, scaled, start, steps)
        covariance = known.kernel(squared).astype(np.float64)
        covariance[np.diag_indices(len(values))] += known.noise
        lower = safe_cholesky(covariance)
        whitening = solve_triangular(lower, np.eye(len(values)), lower=True, check_finite=False)
        ones = whitening.sum(axis=1)
        level = float(ones @ (whitening @ scaled) / (ones @ ones))
        weights = whitening.T @ (whitening @ (scaled - level))
        return Posterior(
            known=known,
            centre=mean + unit * level,
            unit=unit,
            weights=weights,
            whitening=whitening,
        )

    @property
    def noise_std(self) -> float:
        """The standard deviation of the noise, in the unit of the values."""
        return self.unit * float(np.sqrt(self.known.noise))

    def projected(self) -> Vector:
        """The values less their level, times the inverse of the Cholesky factor: `L^-1 (y - m)`.

        In units of `unit`; an array of length `n`.
        """
        found: Vector = solve_triangular(self.whitening, self.weights, lower=True, trans="T")
        return found

    def left_out_scores(self) -> Vector:
        """Each value's distance from what the others predict, in standard deviations.

        In closed form with the hyperparameters kept (Rasmussen & Williams, 2006, eq. 5.12); an
        array of length `n`.
        """
        precision = np.einsum("ij,ij->j", self.whitening, self.whitening)
        scores: Vector = np.abs(self.weights) / np.sqrt(precision)
        return scores

    def predict(self, squared: Matrix) -> tuple[Matrix, Matrix]:
        """Means and standard deviations, without noise, at a `g x m x n` array of distances.

        Computed in the type of the distances.
        """
        covariance = self.known.kernel(squared)
        kind = covariance.dtype
        mean = covariance @ self.weights.astype(kind)
        projected = covariance @ self.whitening.T.astype(kind)
        explained = np.einsum("ij,ij->i", projected, projected)
        variance = np.maximum(self.known.amplitudes.sum() - explained, 1e-9)
        return self.centre + self.unit * mean, self.unit * np.sqrt(variance)

    def to_json(self) -> dict[str, Any]:
        """All but the arrays."""
        return {"centre": self.centre, "unit": self.unit}
