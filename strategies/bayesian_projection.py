"""What a Gaussian process says of a fixed list of rows, kept from round to round of a search.

With the covariance of the `n` measured rows `K + noise = L L^T`, all that is needed of the `m`
rows of a list is `V = L^-1 k`, an `n x m` array (Rasmussen & Williams, 2006, algorithm 2.1): means
are `V^T L^-1 (y - level)`, and variances are less by the sums of the squares of its columns.
`V` does not depend on the values measured. So while hyperparameters stay, a further measured row
adds one row to `V`, for a small part of the effort of making it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from predictors.gaussian_process_fit import Hyperparameters, Posterior
from predictors.kernels import Groups, Matrix, matern
from strategies.protocols import Floats

Places: TypeAlias = npt.NDArray[np.intp]

_CHUNK = 1024
_LEAST_VARIANCE = 1e-9
_LEAST_ROOM = 32


class Projection:
    """The rows of a list as seen from measured rows, in single precision.

    Args:
        rows: The groups of features of the `m` rows of the list.
    """

    def __init__(self, rows: Groups) -> None:
        first, self._inverse = distinct_rows(rows)
        self._rows = [np.ascontiguousarray(group[first].T, np.float32) for group in rows]
        self._sizes = [np.einsum("ij,ij->j", group, group) for group in self._rows]
        self._length = len(first)
        self._seen: Groups = ()
        self._logarithms: Floats = np.zeros(0)
        self._whitening: Floats = np.zeros((0, 0))
        self._whitened = np.zeros((0, self._length), np.float32)
        self._explained = np.zeros(self._length, np.float32)

    def predict(self, posterior: Posterior, seen: Groups) -> tuple[Floats, Floats]:
        """Means and standard deviations at the `m` rows, the noise left out.

        Args:
            posterior: What is believed.
            seen: The groups of features of the `n` rows that it was learned from.
        """
        whitening = posterior.whitening
        n, kept = len(whitening), self._kept(posterior, seen)
        self._make_room(n, kept)
        # the new rows of L^-1 k are (new rows of L^-1) k, where the first of k are L (kept V)
        lower = solve_triangular(whitening[:kept, :kept], np.eye(kept), lower=True)
        projected = posterior.projected()
        carried = np.vstack([whitening[kept:, :kept] @ lower, projected[:kept]])
        carried = carried.astype(np.float32)
        corner = whitening[kept:, kept:].astype(np.float32)
        toward = projected[kept:].astype(np.float32)
        new = tuple(group[kept:].astype(np.float32) for group in seen)
        mean = np.empty(self._length, np.float32)
        for start in range(0, self._length, _CHUNK):
            part = slice(start, start + _CHUNK)
            found = carried @ self._whitened[:kept, part]
            mean[part] = found[-1]
            if n > kept:
                added = found[:-1] + corner @ self._covariance(posterior.known, new, part)
                self._whitened[kept:n, part] = added
                self._explained[part] += np.einsum("ij,ij->j", added, added)
                mean[part] += toward @ added
        self._seen, self._whitening = seen, whitening
        self._logarithms = posterior.known.logarithms()
        left = posterior.known.amplitudes.sum() - self._explained.astype(np.float64)
        std = posterior.unit * np.sqrt(np.maximum(left, _LEAST_VARIANCE))
        means = posterior.centre + posterior.unit * mean.astype(np.float64)
        return means[self._inverse], std[self._inverse]

    def _kept(self, posterior: Posterior, seen: Groups) -> int:
        """How many of the first measured rows are those of the last call, seen as then."""
        if not np.array_equal(posterior.known.logarithms(), self._logarithms):
            return 0
        count = min(len(self._seen[0]), len(seen[0]))
        same = np.ones(count + 1, np.bool_)
        same[-1] = False
        for group, before in zip(seen, self._seen, strict=True):
            same[:-1] &= (group[:count] == before[:count]).all(axis=1)
        kept = int(same.argmin())
        now, then = posterior.whitening[:kept, :kept], self._whitening[:kept, :kept]
        return kept if np.allclose(now, then, rtol=1e-6, atol=1e-6) else 0

    def _make_room(self, n: int, kept: int) -> None:
        """Room for `n` rows of `V`, of which the first stay; what is explained by these."""
        have = len(self._whitened)
        if have < n:
            larger = np.empty((max(n, 2 * have, _LEAST_ROOM), self._length), np.float32)
            larger[:kept] = self._whitened[:kept]
            self._whitened = larger
        if kept < len(self._whitening):
            rows = self._whitened[:kept]
            self._explained = np.einsum("ij,ij->j", rows, rows)

    def _covariance(self, known: Hyperparameters, new: Groups, part: slice) -> Matrix:
        """The covariances of `r` measured rows and a part of the list."""
        total = np.zeros((len(new[0]), len(self._sizes[0][part])), np.float32)
        for group, rows, sizes, amplitude, length in zip(
            new, self._rows, self._sizes, known.amplitudes, known.lengths, strict=True
        ):
            squared = (-2 * group) @ rows[:, part]
            squared += np.einsum("ij,ij->i", group, group)[:, None]
            squared += sizes[part]
            np.maximum(squared, 0, out=squared)
            covariance = matern(squared, length)
            covariance *= np.float32(amplitude)
            total += covariance
        return total


def distinct_rows(groups: Sequence[Matrix]) -> tuple[Places, Places]:
    """The first of all rows that are equal, and for each row which of these it equals.

    Rows are told apart by a sum of their columns with fixed random weights.
    """
    rng = np.random.default_rng(0)
    key = np.zeros(len(groups[0]))
    for group in groups:
        weights = rng.normal(size=group.shape[1])
        key += np.einsum("ij,j->i", group, weights)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)
