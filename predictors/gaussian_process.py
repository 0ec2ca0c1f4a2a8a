"""`GaussianProcess`: accuracy from 5 to 500 rows, with the uncertainty that a search needs.

A sum of Matern kernels (`predictors.kernels`), one for each group of graph features
(`predictors.graph_features`; in spaces of more than 65,536 networks, where these take long, of
`predictors.features`), with amplitudes, lengths and noise by their marginal likelihood
(`predictors.gaussian_process_fit`). Values are learned as `t = asinh((y - median) / IQR)`, which
keeps the middle of them and draws in the tails (networks that fail to learn); the ends of the
90 % interval are transformed back, so that `std` fits the unit of the values. Intervals are scaled
such that they hold 90 % of the rows when each is left out.

References:
    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006; White et al., BANANAS,
    AAAI 2021, arXiv 1910.11858 (paths as features); Ru et al., Interpretable neural architecture
    search via Bayesian optimisation with Weisfeiler-Lehman kernels, ICLR 2021, arXiv 2006.07556
    (a Gaussian process on the structure of cells).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from predictors.array_file import read_arrays, write_arrays
from predictors.features import feature_names, features
from predictors.gaussian_process_fit import Hyperparameters, Posterior
from predictors.graph_features import graph_feature_groups, graph_feature_names, graph_features
from predictors.kernels import FeatureGroups, Groups, squared_distances
from predictors.prediction import (
    NORMAL_90,
    NotFittedError,
    Prediction,
    Predictor,
    checked_values,
)
from records import BadInputError, CorruptFileError, UnknownNameError, versions
from search_spaces import Genes, SearchSpace

_KIND, _FORMAT = "gaussian process", 1
_MOST_GRAPHS = 1 << 16
_SAMPLE = 2000
_CHUNK = 384
"""Rows are predicted in blocks of one size, so that a row's prediction is the same to the last
bit whatever rows are asked for with it; it is a multiple of the tiles that matrix products use."""
_MOST_GAIN = 3.0
_FARTHEST = 3.0
"""Predictions stay within this many units of the transformed values that were seen."""
GROUPS = ("choices", "values", "numerics", "paths", "counts", "shape", "sizes")
"""The groups that networks are compared by, where a space has them."""


@lru_cache(maxsize=16)
def feature_groups(space: SearchSpace) -> FeatureGroups:
    """The groups of a space's `grouped_columns`, scaled by a sample of its networks."""
    rows = space.sample(_SAMPLE, np.random.default_rng(0))
    columns = grouped_columns(space, rows)
    groups = network_groups(space)
    own = np.arange(sum(map(len, groups.values())), columns.shape[1])
    return FeatureGroups.of(columns, {**groups, "genes": own})


def grouped_columns(space: SearchSpace, genes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The features of `n` networks, and after them the features of the genes themselves.

    The latter tell apart rows that are one network but are written, and perhaps executed,
    differently: a device may run what no output depends on. Genes of the platform are in the
    latter alone.
    """
    rows = space.gene_space.check(genes)
    describe = graph_features if _has_graph(space) else _with_values
    network = describe(space, space.without_platform(rows))
    return np.concatenate([network, features(space, rows)], axis=1)


def network_names(space: SearchSpace) -> tuple[str, ...]:
    """The names of the first of `grouped_columns`: those of the network."""
    if _has_graph(space):
        return graph_feature_names(space)
    return (*feature_names(space), *_value_names(space))


def network_groups(space: SearchSpace) -> Mapping[str, npt.NDArray[np.intp]]:
    """The groups of these columns: of `graph_features`, or choices and sizes of `features`."""
    if _has_graph(space):
        return graph_feature_groups(space)
    names = np.array(feature_names(space))
    is_size = np.array([name.startswith(("log_", "layers")) for name in names])
    values = len(names) + np.arange(len(_value_names(space)))
    return {
        "choices": np.flatnonzero(~is_size),
        "sizes": np.flatnonzero(is_size),
        "values": values,
    }


def _value_names(space: SearchSpace) -> list[str]:
    """The values of all ordered choices, which need not act in the order of their size."""
    return [f"{c.name}={v}" for c in space.choices if not c.is_categorical for v in c.values]


def _with_values(space: SearchSpace, genes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """`features`, and a column for each value of an ordered choice."""
    rows = space.gene_space.check(genes)
    active = space.active(rows)
    columns = [
        (rows[:, j] == value) & active[:, j]
        for j, choice in enumerate(space.choices)
        if not choice.is_categorical
        for value in range(len(choice.values))
    ]
    return np.column_stack([features(space, rows), *columns])


def _has_graph(space: SearchSpace) -> bool:
    """Whether a space is small enough for graph features, which take longer in larger ones, and
    has layers at all."""
    return space.cardinality <= _MOST_GRAPHS and len(space.nodes) > 1


class GaussianProcess(Predictor):
    """A Gaussian process on the groups of features of a space.

    Args:
        space: The search space.
        groups: The groups to compare networks by, of `network_groups` and `genes`; by
            default those of the network alone, without how it is written.
        steps: The most steps of the search for hyperparameters.

    Raises:
        BadInputError: No group left, or fewer than one step.

    >>> import numpy as np
    >>> from search_spaces import CNNSpace
    >>> space = CNNSpace()
    >>> genes = space.sample(60, np.random.default_rng(0))
    >>> accuracy = 0.9 + 0.01 * genes[:, 1]
    >>> model = GaussianProcess(space).fit(genes[:40], accuracy[:40])
    >>> float(abs(model.predict(genes[40:]).mean - accuracy[40:]).max()) < 0.003
    True
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        groups: tuple[str, ...] = GROUPS,
        steps: int = 60,
    ) -> None:
        if steps < 1:
            raise BadInputError(f"steps must be at least 1, got {steps}")
        self.space = space
        self.steps = steps
        self.groups = tuple(groups)
        self._used = _used(space, self.groups)
        self._fitted: tuple[Posterior, Groups, _Target] | None = None

    def fit(self, genes: npt.ArrayLike, values: npt.ArrayLike) -> Self:
        rows = self.space.gene_space.check(genes)
        y = checked_values(values, len(rows))
        target = _Target.of(y)
        seen = self._describe(rows)
        distances = squared_distances(seen, seen)
        posterior = Posterior.of(distances, target.transform(y), steps=self.steps)
        target.gain = _gain(posterior)
        self._fitted = posterior, seen, target
        return self

    def predict(self, genes: npt.ArrayLike) -> Prediction:
        posterior, seen, target = self._require_fit()
        rows = self.space.gene_space.check(genes)
        columns = self._describe(rows)
        mean, std = np.zeros(len(rows)), np.zeros(len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(rows)))
            block = [np.resize(group[part], (_CHUNK, group.shape[1])) for group in columns]
            found = posterior.predict(squared_distances(block, seen))
            mean[part], std[part] = (values[: part.stop - start] for values in found)
        return target.restore(mean, target.gain * np.hypot(std, posterior.noise_std))

    def save(self, path: str | Path) -> None:
        posterior, seen, target = self._require_fit()
        content = {
            "space": self.space.to_json(),
            "space_hash": self.space.hash,
            "features": network_names(self.space),
            "parameters": {"groups": self.groups, "steps": self.steps},
            "target": target.to_json(),
            "posterior": posterior.to_json(),
            "versions": versions(),
        }
        arrays = {
            "hyperparameters": posterior.known.logarithms(),
            "weights": posterior.weights,
            "whitening": posterior.whitening,
            **{f"seen_{g}": group for g, group in enumerate(seen)},
        }
        write_arrays(path, _KIND, _FORMAT, content, arrays)

    @classmethod
    def load(cls, path: str | Path, space: SearchSpace | None = None) -> Self:
        content, arrays = read_arrays(path, _KIND, _FORMAT)
        space = _space_of(path, content, space)
        parameters = content["parameters"]
        loaded = cls(space, groups=tuple(parameters["groups"]), steps=parameters["steps"])
        seen = tuple(arrays[f"seen_{g}"] for g in range(len(loaded._used)))
        posterior = Posterior(
            known=Hyperparameters.of(arrays["hyperparameters"]),
            weights=arrays["weights"],
            whitening=arrays["whitening"],
            **content["posterior"],
        )
        loaded._fitted = posterior, seen, _Target(**content["target"])
        return loaded

    def _describe(self, rows: Genes) -> Groups:
        columns = grouped_columns(self.space, rows)
        scaled = feature_groups(self.space).scale(columns)
        return tuple(scaled[g] for g in self._used)

    def _require_fit(self) -> tuple[Posterior, Groups, _Target]:
        if self._fitted is None:
            raise NotFittedError("call fit before predict or save")
        return self._fitted


class _Target:
    """The transformation of the values, and how much wider the intervals are made."""

    def __init__(
        self,
        centre: float,
        width: float,
        *,
        low: float = 0.0,
        high: float = 0.0,
        least: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        self.centre, self.width = centre, width
        self.low, self.high = low, high
        self.least = least
        self.gain = gain

    @staticmethod
    def of(values: npt.NDArray[np.float64]) -> _Target:
        low, centre, high = np.quantile(values, [0.25, 0.5, 0.75])
        size = float(np.abs(values).max()) or 1.0
        width = float(high - low or values.std())
        if width <= 1e-12 * size:
            width = 1e-9 * size
        target = _Target(float(centre), width, least=1e-9 * size)
        t = target.transform(values)
        target.low, target.high = float(t.min()) - _FARTHEST, float(t.max()) + _FARTHEST
        return target

    def transform(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        t: npt.NDArray[np.float64] = np.arcsinh((values - self.centre) / self.width)
        return t

    def restore(self, mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]) -> Prediction:
        """The prediction whose 90 % interval is as wide as that of `mean` and `std`."""
        low, middle, high = (
            self.width * np.sinh((mean + sign * NORMAL_90 * std).clip(self.low, self.high))
            for sign in (-1, 0, 1)
        )
        half = (high - low) / (2 * NORMAL_90)
        return Prediction(mean=self.centre + middle, std=np.maximum(half, self.least))

    def to_json(self) -> dict[str, float]:
        return {
            "centre": self.centre,
            "width": self.width,
            "low": self.low,
            "high": self.high,
            "least": self.least,
            "gain": self.gain,
        }


def _gain(posterior: Posterior) -> float:
    """The factor by which intervals hold 90 % of the rows that were left out, at least 1.

    The rows left out were seen by the hyperparameters, two a group, the noise and the mean; the
    factor makes up for these, as a residual variance does for fitted coefficients.
    """
    scores = np.sort(posterior.left_out_scores())
    n = len(scores)
    rank = min(math.ceil(0.9 * (n + 1)), n)
    fitted = 2 * len(posterior.known.lengths) + 2
    gain = max(1.0, float(scores[rank - 1]) / NORMAL_90) * math.sqrt(1 + fitted / n)
    return min(gain, _MOST_GAIN)


def _used(space: SearchSpace, groups: tuple[str, ...]) -> tuple[int, ...]:
    """The places of the wanted groups among those of the space."""
    known = feature_groups(space).names
    used = tuple(known.index(name) for name in groups if name in known)
    if not used:
        raise BadInputError(
            f"none of the groups {', '.join(groups) or '()'} varies in {space.name}: "
            f"it has {', '.join(known)}"
        )
    return used


def _space_of(path: str | Path, content: dict[str, Any], space: SearchSpace | None) -> SearchSpace:
    """The space that a file belongs to, checked against the one that is wanted."""
    if space is None:
        try:
            space = SearchSpace.from_json(content["space"])
        except UnknownNameError as error:
            raise BadInputError(f"{path} is of an unknown space; import its class") from error
    if space.hash != content["space_hash"]:
        raise CorruptFileError(f"{path} belongs to another space than {space.name}")
    if list(network_names(space)) != list(content["features"]):
        raise CorruptFileError(f"{path} was fitted on other features: fit and save it again")
    return space
