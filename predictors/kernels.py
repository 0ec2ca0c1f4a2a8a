"""Kernels over groups of features: what a Gaussian process takes to be alike.

Two networks are compared group by group (their choices, their paths, their sizes, ...), and the
kernel is the sum over groups of a Matern function of the distance,

    k(x, x') = sum_g a_g m(|x_g - x'_g| / l_g),   m(r) = (1 + s + s^2 / 3) e^-s,   s = sqrt(5) r

(Matern 5/2; Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eq. 4.17). A sum
lets every group contribute by itself, so that a network unlike all others in its paths can still
be judged by its size. Each group is scaled such that two random networks are at a mean squared
distance of 1: a length of 1 means the same in every group and every space.

Within a group of *choices* or *paths* the columns stay as they are. A choice of names is one-hot,
so different names are equally far apart; an ordered choice is a share of its largest value and -1
where it is inactive, so that being inactive is a value further away. The other groups hold
quantities of different units, and each column is brought to standard deviation 1 first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError

Matrix = npt.NDArray[np.floating]
Groups = tuple[Matrix, ...]

_ALIKE = ("choices", "genes", "paths")
"""Groups whose columns have one unit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureGroups:
    """How columns of features fall into groups, and how each group is scaled.

    Attributes:
        names: The groups' names.
        columns: For each group the columns that belong to it.
        shift: For each column what is taken off.
        factor: For each column what it is then multiplied by.
    """

    names: tuple[str, ...]
    columns: tuple[npt.NDArray[np.intp], ...]
    shift: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]

    @staticmethod
    def of(features: Matrix, groups: Mapping[str, npt.NDArray[np.intp]]) -> FeatureGroups:
        """Scales by an `n x f` array of typical networks; a group that never varies is left out.

        Raises:
            BadInputError: No group varies.
        """
        spread = features.std(axis=0)
        varies = spread > 1e-9 * np.maximum(np.abs(features).max(axis=0), 1e-300)
        shift = features.mean(axis=0)
        factor = np.zeros(features.shape[1])
        names: list[str] = []
        columns: list[npt.NDArray[np.intp]] = []
        for name, members in groups.items():
            kept = members[varies[members]]
            if len(kept) == 0:
                continue
            unit = np.ones(len(kept)) if name in _ALIKE else 1 / spread[kept]
            # the mean of |x - x'|^2 over random pairs is twice the total variance
            factor[kept] = unit / np.sqrt(2 * ((spread[kept] * unit) ** 2).sum())
            names.append(name)
            columns.append(kept)
        if not names:
            raise BadInputError("all networks have the same features: there is nothing to learn")
        return FeatureGroups(
            names=tuple(names), columns=tuple(columns), shift=shift, factor=factor
        )

    def scale(self, features: Matrix, kind: type[np.floating] = np.float64) -> Groups:
        """The scaled columns of each group, a tuple of `n x f_g` arrays."""
        scaled = ((features - self.shift) * self.factor).astype(kind)
        return tuple(np.ascontiguousarray(scaled[:, members]) for members in self.columns)


def squared_distances(rows: Sequence[Matrix], others: Sequence[Matrix]) -> Matrix:
    """The squared distances of `m` rows to `n` others in each group, a `g x m x n` array."""
    kind = rows[0].dtype
    found = np.empty((len(rows), len(rows[0]), len(others[0])), kind)
    for out, a, b in zip(found, rows, others, strict=True):
        b = b.astype(kind, copy=False)
        np.matmul(a, -2 * b.T, out=out)
        out += (a * a).sum(axis=1)[:, None]
        out += (b * b).sum(axis=1)
        np.maximum(out, 0, out=out)
    return found


def matern(squared: Matrix, length: float) -> Matrix:
    """The Matern 5/2 function of squared distances, in the type that these have.

    >>> float(matern(np.array([0.0]), 1.0)[0])
    1.0
    """
    s = np.sqrt(squared * squared.dtype.type(5 / length**2))
    value = s * s
    value /= 3
    value += s
    value += 1
    np.negative(s, out=s)
    value *= np.exp(s, out=s)
    return value


def matern_slope(squared: Matrix, length: float) -> Matrix:
    """The derivative of `matern` by the logarithm of the length."""
    s = np.sqrt(squared * (5 / length**2))
    slope: Matrix = s * s * (1 + s) * np.exp(-s) / 3
    return slope
