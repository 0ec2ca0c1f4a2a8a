"""The regressions that a stacked predictor weighs: how each learns, and how it is written down.

All learn normal scores of accuracies from the same described rows. They differ in what they take
to be alike: a Gaussian process that compares networks group by group of features, a ridge
regression on the features and one on their pairwise products, and gradient-boosted trees. Which
is best depends on the space and on how many rows there are: with 20 rows the simple ones, with
200 those that can bend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from predictors.gaussian_process_fit import Hyperparameters, Posterior
from predictors.kernel_ridge import KernelRidge
from predictors.kernels import Groups, squared_distances
from predictors.trees import Trees, export_trees

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Described:
    """`n` architectures as the members read them.

    Attributes:
        groups: The scaled features of each group, and all together as a last one.
        columns: All features in one `n x f` array, each group of the same weight.
    """

    groups: Groups
    columns: Matrix

    def rows(self, index: npt.NDArray[Any] | slice) -> Described:
        """Some of the architectures."""
        return Described(
            groups=tuple(group[index] for group in self.groups), columns=self.columns[index]
        )

    def __len__(self) -> int:
        return len(self.columns)


class Member(ABC):
    """A fitted regression; `fit` makes one, `refit` another of the same settings."""

    @classmethod
    @abstractmethod
    def fit(cls, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        """Learns `n` scores and finds its settings."""

    @abstractmethod
    def refit(self, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        """Learns other rows with the settings that were found."""

    @abstractmethod
    def predict(self, rows: Described) -> Vector:
        """The scores that are expected, an array of length `n`."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that it knows."""

    @classmethod
    @abstractmethod
    def of(cls, arrays: Arrays) -> Self:
        """The member that wrote `arrays`."""


@dataclass(frozen=True, slots=True, eq=False)
class Process(Member):
    """A Gaussian process: a sum of kernels, one a group of features and one for all."""

    posterior: Posterior
    seen: Groups

    @classmethod
    def fit(cls, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        squared = squared_distances(rows.groups, rows.groups)
        return cls(Posterior.of(squared, scores, steps=60), rows.groups)

    def refit(self, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        squared = squared_distances(rows.groups, rows.groups)
        posterior = Posterior.of(squared, scores, self.posterior.known, steps=0)
        return type(self)(posterior, rows.groups)

    def predict(self, rows: Described) -> Vector:
        covariance = self.posterior.known.kernel(squared_distances(rows.groups, self.seen))
        return np.asarray(
            self.posterior.centre + self.posterior.unit * (covariance @ self.posterior.weights)
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        p = self.posterior
        return {
            "hyperparameters": p.known.logarithms(),
            "place": np.array([p.centre, p.unit]),
            "weights": p.weights,
            "whitening": p.whitening,
            **{f"seen{g}": group for g, group in enumerate(self.seen)},
        }

    @classmethod
    def of(cls, arrays: Arrays) -> Self:
        posterior = Posterior(
            known=Hyperparameters.of(arrays["hyperparameters"]),
            centre=float(arrays["place"][0]),
            unit=float(arrays["place"][1]),
            weights=arrays["weights"],
            whitening=arrays["whitening"],
        )
        count = sum(name.startswith("seen") for name in arrays)
        return cls(posterior, tuple(arrays[f"seen{g}"] for g in range(count)))


@dataclass(frozen=True, slots=True, eq=False)
class Linear(Member):
    """Ridge regression on the features."""

    fitted: KernelRidge

    @classmethod
    def _degree(cls) -> int:
        return 1

    @classmethod
    def fit(cls, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        return cls(KernelRidge.fit(rows.columns, scores, cls._degree()))

    def refit(self, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        fitted = KernelRidge.fit(rows.columns, scores, self._degree(), self.fitted.penalty)
        return type(self)(fitted)

    def predict(self, rows: Described) -> Vector:
        return self.fitted.predict(rows.columns)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        f = self.fitted
        return {
            "seen": f.seen,
            "weights": f.weights,
            "place": np.array([f.level, f.penalty]),
        }

    @classmethod
    def of(cls, arrays: Arrays) -> Self:
        level, penalty = map(float, arrays["place"])
        return cls(
            KernelRidge(
                seen=arrays["seen"],
                weights=arrays["weights"],
                level=level,
                penalty=penalty,
                degree=cls._degree(),
            )
        )


class Pairwise(Linear):
    """Ridge regression on the features and their pairwise products."""

    __slots__ = ()

    @classmethod
    def _degree(cls) -> int:
        return 2


@dataclass(frozen=True, slots=True, eq=False)
class Boosted(Member):
    """Gradient-boosted trees (Friedman, 2002), the mean of a few that differ by chance."""

    trees: Trees
    base: float

    @classmethod
    def fit(cls, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        return cls._grow(rows, scores, rng, 3)

    def refit(self, rows: Described, scores: Vector, rng: np.random.Generator) -> Self:
        return self._grow(rows, scores, rng, 1)

    @classmethod
    def _grow(cls, rows: Described, scores: Vector, rng: np.random.Generator, runs: int) -> Self:
        from sklearn import config_context  # predicting does without it
        from sklearn.ensemble import GradientBoostingRegressor

        base, rate, depth = float(scores.mean()), 0.06, 3
        trees: list[Any] = []
        for _ in range(runs):
            model = GradientBoostingRegressor(
                n_estimators=150,
                learning_rate=rate,
                max_depth=depth,
                subsample=0.7,
                max_features=0.3,
                init="zero",
                random_state=int(rng.integers(2**31)),
            )
            with config_context(skip_parameter_validation=True, assume_finite=True):
                model.fit(rows.columns.astype(np.float32), scores - base)
            trees += list(model.estimators_[:, 0])
        return cls(export_trees(trees, depth, rate / runs), base)

    def predict(self, rows: Described) -> Vector:
        return np.asarray(self.base + self.trees.predict(rows.columns.astype(np.float32))[0])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        t = self.trees
        return {
            "feature": t.feature,
            "threshold": t.threshold,
            "value": t.value,
            "base": np.array([self.base]),
        }

    @classmethod
    def of(cls, arrays: Arrays) -> Self:
        trees = Trees(
            feature=arrays["feature"], threshold=arrays["threshold"], value=arrays["value"]
        )
        return cls(trees, float(arrays["base"][0]))


MEMBERS: Mapping[str, type[Member]] = {
    "process": Process,
    "pairwise": Pairwise,
    "linear": Linear,
    "boosted": Boosted,
}
"""The members by the name under which they are written down."""
