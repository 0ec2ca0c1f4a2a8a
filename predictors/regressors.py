"""Regressions on plain arrays, as scikit-learn estimators: for pipelines and comparisons.

They take an `n x f` array of features and `n` values and keep to scikit-learn's conventions
(`fit`, `predict`, `get_params`, cloning, its checks of inputs), so that they stand in its
pipelines, searches and stacks. What a predictor of accuracies needs beyond this (a search space,
intervals, files) is in `predictors.stacked`. For a random forest take scikit-learn's own.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data

from predictors.kernel_ridge import KernelRidge
from predictors.pretraining import FOLLOWS, HEAD, Encoder, FineTuned

Vector = npt.NDArray[np.float64]


class PairwiseRidge(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression on standardised features and all their pairwise products.

    Args:
        degree: 1 for the features alone, 2 with their products.
        penalty: In units of the mean of the kernel's diagonal; None takes the one of least
            leave-one-out error.

    >>> x = np.random.default_rng(0).standard_normal((60, 3))
    >>> y = x[:, 0] * x[:, 1] - x[:, 2]
    >>> bool(PairwiseRidge().fit(x[:40], y[:40]).score(x[40:], y[40:]) > 0.95)
    True
    """

    def __init__(self, *, degree: int = 2, penalty: float | None = None) -> None:
        self.degree = degree
        self.penalty = penalty

    def fit(self, X: Any, y: Any) -> Self:
        """Fits an `n x f` array and `n` values.

        Raises:
            ValueError: Neither degree 1 nor 2, or arrays that scikit-learn refuses.
        """
        if self.degree not in (1, 2):
            raise ValueError(f"degree must be 1 or 2, got {self.degree!r}")
        x, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self.mean_ = x.mean(axis=0)
        self.scale_ = _spread(x) * np.sqrt(x.shape[1])
        rows = (x - self.mean_) / self.scale_
        self.fitted_ = KernelRidge.fit(
            rows, np.asarray(values, np.float64), self.degree, self.penalty
        )
        return self

    def predict(self, X: Any) -> Vector:
        """The values that are expected of an `n x f` array."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return self.fitted_.predict((x - self.mean_) / self.scale_)


class _Ensemble(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The mean of several estimators that differ by their seeds."""

    members: int
    random_state: Any

    def _member(self, seed: int) -> Any:
        raise NotImplementedError

    def fit(self, X: Any, y: Any) -> Self:
        """Fits an `n x f` array and `n` values.

        Raises:
            ValueError: No member, or arrays that scikit-learn refuses.
        """
        if self.members < 1:
            raise ValueError(f"members must be at least 1, got {self.members!r}")
        x, values = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2
        )
        values = np.asarray(values, np.float64)
        self.mean_, self.scale_ = x.mean(axis=0), _spread(x)
        self.level_, self.unit_ = float(values.mean()), float(values.std()) or 1.0
        random = check_random_state(self.random_state)
        rows, scaled = (x - self.mean_) / self.scale_, (values - self.level_) / self.unit_
        seeds = random.randint(2**31 - 1, size=self.members)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is meant
            self.estimators_ = [self._member(int(seed)).fit(rows, scaled) for seed in seeds]
        return self

    def predict(self, X: Any) -> Vector:
        """The values that are expected of an `n x f` array."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        rows = (x - self.mean_) / self.scale_
        scaled = np.mean([member.predict(rows) for member in self.estimators_], axis=0)
        return np.asarray(self.level_ + self.unit_ * scaled)


class BoostedEnsemble(_Ensemble):
    """The mean of gradient-boosted trees, each on other rows and columns (Friedman, 2002).

    Args:
        members: Boosted models.
        rounds: Trees of each.
        depth: Levels of splits.
        learning_rate: How much of each tree's fit is taken.
        random_state: A seed, a `RandomState`, or None.
    """

    def __init__(
        self,
        *,
        members: int = 3,
        rounds: int = 150,
        depth: int = 3,
        learning_rate: float = 0.06,
        random_state: Any = None,
    ) -> None:
        self.members = members
        self.rounds = rounds
        self.depth = depth
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _member(self, seed: int) -> Any:
        return GradientBoostingRegressor(
            n_estimators=self.rounds,
            learning_rate=self.learning_rate,
            max_depth=self.depth,
            subsample=0.7,
            max_features=0.3,
            random_state=seed,
        )


class MLPEnsemble(_Ensemble):
    """The mean of small multilayer perceptrons that differ by their first weights.

    Args:
        members: Networks.
        width: Units of each of two hidden layers.
        decay: The penalty on squared weights.
        steps: The most steps of L-BFGS; few keep the network simple.
        random_state: A seed, a `RandomState`, or None.
    """

    def __init__(
        self,
        *,
        members: int = 5,
        width: int = 32,
        decay: float = 0.3,
        steps: int = 100,
        random_state: Any = None,
    ) -> None:
        self.members = members
        self.width = width
        self.decay = decay
        self.steps = steps
        self.random_state = random_state

    def _member(self, seed: int) -> Any:
        return MLPRegressor(
            hidden_layer_sizes=(self.width, self.width),
            alpha=self.decay,
            solver="lbfgs",
            max_iter=self.steps,
            random_state=seed,
        )


class PretrainedMLP(_Ensemble):
    """The mean of multilayer perceptrons that learned statistics before values.

    Their two layers are trained to predict statistics of rows whose values nobody knows, and then
    move a little to the values (FBNetV3, arXiv 2006.02049; see `predictors.pretraining`). Without
    such rows they begin at random weights.

    Args:
        unlabelled: An `m x f` array of further rows, or None.
        statistics: An `m x s` array of what is known of them.
        members: Networks.
        width: Units of each of two hidden layers.
        follows: The penalty on how far the layers move from where they were.
        head: The penalty on the output's weights.
        steps: The most steps of L-BFGS.
        random_state: A seed, a `RandomState`, or None.

    >>> x = np.random.default_rng(0).standard_normal((500, 4))
    >>> product = x[:, :1] * x[:, 1:2]
    >>> y = product[:, 0] + 0.3 * x[:, 2]
    >>> plain = PretrainedMLP(random_state=0).fit(x[:20], y[:20])
    >>> model = PretrainedMLP(unlabelled=x[100:], statistics=product[100:], random_state=0)
    >>> bool(model.fit(x[:20], y[:20]).score(x[20:], y[20:]) > plain.score(x[20:], y[20:]) + 0.2)
    True
    """

    def __init__(
        self,
        *,
        unlabelled: Any = None,
        statistics: Any = None,
        members: int = 4,
        width: int = 48,
        follows: float = FOLLOWS,
        head: float = HEAD,
        steps: int = 60,
        random_state: Any = None,
    ) -> None:
        self.unlabelled = unlabelled
        self.statistics = statistics
        self.members = members
        self.width = width
        self.follows = follows
        self.head = head
        self.steps = steps
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fits an `n x f` array and `n` values.

        Raises:
            ValueError: No member, rows without statistics or the reverse, other columns, or
                arrays that scikit-learn refuses.
        """
        if (self.unlabelled is None) != (self.statistics is None):
            raise ValueError("give unlabelled rows and their statistics, or neither")
        return super().fit(X, y)

    def _member(self, seed: int) -> Any:
        return _PretrainedMember(self, seed)


@dataclass(slots=True)
class _PretrainedMember:
    """One network, on rows that are standardised."""

    of: PretrainedMLP
    seed: int
    fitted: FineTuned | None = None

    def fit(self, rows: Vector, scaled: Vector) -> Self:
        of = self.of
        if of.unlabelled is None:
            rng = np.random.default_rng(self.seed)
            encoder = Encoder.drawn(rows.shape[1], of.width, rng)
        else:
            others, known = check_X_y(
                of.unlabelled, of.statistics, multi_output=True, y_numeric=True, dtype=np.float64
            )
            if others.shape[1] != rows.shape[1]:
                wanted = f"{others.shape[1]} features, but {rows.shape[1]} are fitted"
                raise ValueError(f"unlabelled rows have {wanted}")
            known = known.reshape(len(known), -1)
            known = (known - known.mean(axis=0)) / _spread(known)
            others = (others - of.mean_) / of.scale_
            encoder = Encoder.pretrained(others, known, of.width, self.seed)
        self.fitted = FineTuned.of(
            encoder, rows, scaled, follows=of.follows, head=of.head, steps=of.steps
        )
        return self

    def predict(self, rows: Vector) -> Vector:
        assert self.fitted is not None
        return self.fitted.predict(rows)


def _spread(x: Vector) -> Vector:
    """The columns' standard deviations, 1 where a column does not vary."""
    spread = x.std(axis=0)
    return np.where(spread > 1e-12 * np.maximum(np.abs(x).max(axis=0), 1e-300), spread, 1.0)
