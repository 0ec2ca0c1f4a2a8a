"""Networks that learn free statistics of architectures first, and accuracies after.

An encoder, two layers of tanh units, is trained to predict statistics of many random
architectures that cost no training: multiply-accumulates, parameters, numbers of layers, and what
a user adds, such as predicted latencies or zero-cost scores. A head on its output then learns the
few accuracies that there are, and the encoder follows, held to where it was:

    min_{W, v}  sum_i huber(y_i - v . h_W(x_i) - c) + (a / 2) |W - W_0|^2 + (b / 2) |v|^2

with `W_0` the pretrained weights. The head begins as ridge regression with the encoder frozen; all
is then minimised together by L-BFGS.

References:
    Dai et al., FBNetV3: Joint Architecture-Recipe Search using Predictor Pretraining, CVPR 2021,
    arXiv 2006.02049 (the statistics, the two steps, the Huber loss; there by gradient descent at
    two learning rates, in place of which stands the penalty here); Li et al., Explicit Inductive
    Bias for Transfer Learning, ICML 2018, arXiv 1802.01483 (the penalty, L2-SP).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

FOLLOWS = 3.0
"""The penalty `a` on how far the encoder moves; infinite would freeze it."""
HEAD = 3.0
"""The penalty `b` on the head's weights."""
_EPOCHS, _BATCH = 20, 128


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoder:
    """Two layers of tanh units.

    Attributes:
        first: Weights of `f` inputs on `w` units, an `f x w` array.
        first_bias: An array of length `w`.
        second: A `w x w` array.
        second_bias: An array of length `w`.
    """

    first: Matrix
    first_bias: Vector
    second: Matrix
    second_bias: Vector

    @staticmethod
    def pretrained(rows: Matrix, statistics: Matrix, width: int, seed: int) -> Encoder:
        """Trained to predict the statistics of `n` architectures.

        Args:
            rows: How they are described, an `n x f` array of standardised columns.
            statistics: An `n x s` array of standardised columns.
            width: Units of each layer.
            seed: Of the first weights and the order of the rows.
        """
        from sklearn.exceptions import ConvergenceWarning  # predicting does without it
        from sklearn.neural_network import MLPRegressor

        model = MLPRegressor(
            hidden_layer_sizes=(width, width),
            activation="tanh",
            batch_size=min(_BATCH, len(rows)),
            learning_rate_init=3e-3,
            max_iter=_EPOCHS,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are few by intention
            model.fit(rows, statistics if statistics.shape[1] > 1 else statistics[:, 0])
        (first, second, _), (first_bias, second_bias, _) = model.coefs_, model.intercepts_
        return Encoder(first=first, first_bias=first_bias, second=second, second_bias=second_bias)

    @staticmethod
    def drawn(columns: int, width: int, rng: np.random.Generator) -> Encoder:
        """Random weights as they are before any training (Glorot & Bengio, 2010)."""

        def uniform(inputs: int) -> Matrix:
            bound = np.sqrt(6 / (inputs + width))
            return rng.uniform(-bound, bound, (inputs, width))

        nothing = np.zeros(width)
        return Encoder(
            first=uniform(columns), first_bias=nothing, second=uniform(width), second_bias=nothing
        )

    def __call__(self, rows: Matrix) -> Matrix:
        """The encoding of `n` rows, an `n x w` array of values between -1 and 1."""
        inner = np.tanh(rows @ self.first + self.first_bias)
        return np.asarray(np.tanh(inner @ self.second + self.second_bias))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FineTuned:
    """An encoder with a linear head.

    Attributes:
        encoder: The encoder.
        head: An array of length `w`.
        level: What is added.
    """

    encoder: Encoder
    head: Vector
    level: float

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        rows: Matrix,
        values: Vector,
        *,
        follows: float = FOLLOWS,
        head: float = HEAD,
        steps: int = 60,
    ) -> Self:
        """Learns `n` values of about unit variance, beginning at an encoder.

        Args:
            encoder: Where its weights are drawn to.
            rows: An `n x f` array.
            values: An array of length `n`.
            follows: The penalty on the distance from there.
            head: The penalty on the head's weights.
            steps: The most steps; 0 leaves the encoder as it is.
        """
        hidden = encoder(rows)
        level, centre = float(values.mean()), hidden.mean(axis=0)
        gram = (hidden - centre).T @ (hidden - centre) + head * np.eye(hidden.shape[1])
        weights = np.linalg.solve(gram, (hidden - centre).T @ (values - level))
        level -= float(centre @ weights)
        start = cls(encoder=encoder, head=weights, level=level)
        return start._moved(rows, values, follows, head, steps) if steps else start

    def predict(self, rows: Matrix) -> Vector:
        """The values that are expected of an `n x f` array, an array of length `n`."""
        return np.asarray(self.encoder(rows) @ self.head + self.level)

    def _moved(
        self, rows: Matrix, values: Vector, follows: float, head: float, steps: int
    ) -> Self:
        """The minimum of the penalised loss that is reached from here."""
        from scipy.optimize import minimize

        start = self._flat()
        penalty = np.full(len(start), follows)
        penalty[-len(self.head) - 1 :] = [*[head] * len(self.head), 0.0]
        centre = np.where(np.arange(len(start)) < len(start) - len(self.head) - 1, start, 0.0)

        def loss(flat: Vector) -> tuple[float, Vector]:
            value, slope = self._with(flat)._huber(rows, values)
            away = flat - centre
            return value + float(penalty @ away**2) / 2, slope + penalty * away

        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
        return self._with(np.asarray(found.x))

    def _huber(self, rows: Matrix, values: Vector) -> tuple[float, Vector]:
        """The sum of Huber losses and its gradient by all weights, in the order of `_flat`."""
        e = self.encoder
        inner = np.tanh(rows @ e.first + e.first_bias)
        outer = np.tanh(inner @ e.second + e.second_bias)
        error = outer @ self.head + self.level - values
        slope = error.clip(-1, 1)
        total = float((slope * (error - slope / 2)).sum())
        by_outer = slope[:, None] * self.head * (1 - outer**2)
        by_inner = by_outer @ e.second.T * (1 - inner**2)
        parts = (
            rows.T @ by_inner, by_inner.sum(axis=0), inner.T @ by_outer, by_outer.sum(axis=0),
            outer.T @ slope, slope.sum(),
        )  # fmt: skip
        return total, np.concatenate([np.ravel(part) for part in parts])

    def _flat(self) -> Vector:
        """All weights in one array; the last is the level."""
        e = self.encoder
        parts = (e.first, e.first_bias, e.second, e.second_bias, self.head, self.level)
        return np.concatenate([np.ravel(part) for part in parts])

    def _with(self, flat: Vector) -> Self:
        """The same shapes with other weights."""
        columns, width = self.encoder.first.shape
        ends = np.cumsum([columns * width, width, width**2, width, width])
        first, first_bias, second, second_bias, head, level = np.split(flat, ends)
        encoder = Encoder(
            first=first.reshape(columns, width),
            first_bias=first_bias,
            second=second.reshape(width, width),
            second_bias=second_bias,
        )
        return type(self)(encoder=encoder, head=head, level=float(level[0]))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All weights."""
        e = self.encoder
        return {
            "first": e.first, "first_bias": e.first_bias, "second": e.second,
            "second_bias": e.second_bias, "head": self.head, "level": np.array([self.level]),
        }  # fmt: skip

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What wrote `arrays`."""
        names = ("first", "first_bias", "second", "second_bias")
        encoder = Encoder(**{name: arrays[name] for name in names})
        return cls(encoder=encoder, head=arrays["head"], level=float(arrays["level"][0]))
