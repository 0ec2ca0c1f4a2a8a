"""Ridge regression on features and on all their pairwise products, through its kernel.

With `k(x, x') = x.x' + (x.x')^2 / 2` the features and the products of every two are weighed
without ever being written out: 87 features have 3,828 products, but 50 networks only 50 x 50
values of the kernel. The penalty is the one of least leave-one-out error, which has a closed form
(the PRESS of Allen, 1974): `e_i = a_i / C_ii`, where `a = C z` and `C` is the inverse of the
penalised kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

PENALTIES = np.logspace(-3, 2, 16)
"""The penalties that are tried, in units of the mean of the kernel's diagonal."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KernelRidge:
    """A fitted ridge regression on `n` rows of `f` features.

    Attributes:
        seen: The rows, an `n x f` array.
        weights: The dual weights, an array of length `n`.
        level: What is predicted where nothing is known.
        penalty: In units of the mean of the kernel's diagonal.
        degree: 1 for the features alone, 2 with their products.
    """

    seen: Matrix
    weights: Vector
    level: float
    penalty: float
    degree: int

    @staticmethod
    def fit(
        rows: Matrix, values: Vector, degree: int, penalty: float | None = None
    ) -> KernelRidge:
        """Fits `n` values; without a penalty, that of least leave-one-out error is taken."""
        level = float(values.mean())
        size, vectors = np.linalg.eigh(kernel(rows, rows, degree))
        size = size.clip(0)
        unit = float(size.mean()) or 1.0
        turned = vectors.T @ (values - level)
        best: tuple[float, float, Vector] | None = None
        for candidate in PENALTIES if penalty is None else [penalty]:
            shrink = 1 / (size + candidate * unit)
            weights = vectors @ (turned * shrink)
            error = weights / ((vectors**2) @ shrink)
            score = float((error**2).mean())
            if best is None or score < best[0]:
                best = score, float(candidate), weights
        assert best is not None
        return KernelRidge(seen=rows, weights=best[2], level=level, penalty=best[1], degree=degree)

    def predict(self, rows: Matrix) -> Vector:
        """What is expected of `m` rows, an array of length `m`."""
        return self.level + kernel(rows, self.seen, self.degree) @ self.weights


def kernel(rows: Matrix, others: Matrix, degree: int) -> Matrix:
    """How alike rows are to others: their inner product and, of degree 2, half its square."""
    product: Matrix = rows @ others.T
    return product + product**2 / 2 if degree == 2 else product
