"""Latency tables of other devices without their noise: what the architecture explains of them.

Published latencies are noisy: one image on a large GPU repeats to 2 to 5 %, a phone's clock
changes while the table is measured. As prior knowledge of another device that noise is worse than
useless, for it is never shared. So each column is replaced by a ridge regression on the choices,
on their pairs where choices are few, and on the work and its squares. The ridge is chosen for
each column by the leave-one-out error,

    e_i = (y_i - f_i) / (1 - h_ii),    h = X (X'X + l I)^-1 X',

which needs one eigendecomposition for all columns and ridges. Values that lie further from it
than 2.5 robust standard deviations are drawn in to that, twice.
"""

from __future__ import annotations

import numpy as np

from latency_models.transfer.features import ArchitectureFeatures, Matrix

_RIDGES = 10.0 ** np.arange(-1.0, 4.5, 0.5)
_CLIP = 2.5
_ROUNDS = 2


def smoothing_basis(features: ArchitectureFeatures) -> Matrix:
    """The columns on which latencies are regressed, an `n x b` array."""
    work = _standardised(np.concatenate([features.counts, features.work], axis=1))
    numbers = features.numbers
    columns = [features.choices, work, _standardised(work**2), numbers, numbers**2]
    columns += [features.choices * number[:, None] for number in (numbers**2).T]
    return np.concatenate([*columns, features.pairs], axis=1)


def smooth(basis: Matrix, latencies_ms: Matrix) -> Matrix:
    """What a basis explains of `d` devices' latencies.

    Args:
        basis: An `n x b` array.
        latencies_ms: An `n x d` array.

    Returns:
        An `n x d` array of fitted latencies.
    """
    return _robust_fit(basis, latencies_ms)[0]


def left_out(basis: Matrix, latencies_ms: Matrix) -> Matrix:
    """For each row and device what a regression on all other rows says, an `n x d` array."""
    return _robust_fit(basis, latencies_ms)[1]


def _robust_fit(basis: Matrix, latencies_ms: Matrix) -> tuple[Matrix, Matrix]:
    """The fit and what it says of each row left out, values far from it drawn in."""
    vectors, values = _rotated(basis - basis.mean(axis=0))
    fitted, without = _best_fit(vectors, values, latencies_ms)
    for _ in range(_ROUNDS):
        error = latencies_ms - without
        limit = _CLIP * 1.4826 * np.median(np.abs(error), axis=0)
        fitted, without = _best_fit(vectors, values, without + np.clip(error, -limit, limit))
    return fitted, without


def _rotated(centred: Matrix) -> tuple[Matrix, Matrix]:
    """The columns turned to be orthogonal, of unit length, and their squared lengths."""
    n, columns = centred.shape
    if n < columns:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        keep = values > 1e-9 * max(values.max(initial=0.0), 1e-300)
        return vectors[:, keep], values[keep]
    values, rotation = np.linalg.eigh(centred.T @ centred)
    keep = values > 1e-9 * max(values.max(initial=0.0), 1e-300)
    return centred @ rotation[:, keep] / np.sqrt(values[keep]), values[keep]


def _best_fit(vectors: Matrix, values: Matrix, targets: Matrix) -> tuple[Matrix, Matrix]:
    """The fit with the best ridge for each column, and what it says of each row left out."""
    n = len(targets)
    mean = targets.mean(axis=0)
    centred = targets - mean
    weights = vectors.T @ centred
    best = np.full(targets.shape[1], np.inf)
    fitted = np.empty_like(targets)
    without = np.empty_like(targets)
    squared = vectors**2
    for ridge in _RIDGES:
        shrink = values / (values + ridge)
        fit = vectors @ (shrink[:, None] * weights)
        leverage = np.minimum(squared @ shrink + 1 / n, 1 - 1e-6)
        error = (centred - fit) / (1 - leverage)[:, None]
        score = (error**2).mean(axis=0)
        better = score < best
        best = np.where(better, score, best)
        fitted[:, better] = (fit + mean)[:, better]
        without[:, better] = (targets - error)[:, better]
    return fitted, without


def _standardised(columns: Matrix) -> Matrix:
    spread = columns.std(axis=0)
    return np.asarray((columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
