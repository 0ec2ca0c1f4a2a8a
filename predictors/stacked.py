"""`StackedPredictor`: several regressions on graph features, weighed by what each is worth.

**Rows.** Networks are described by `graph_features`, so that equal networks get equal predictions,
and by nothing of the genes beyond it. **Values** are learned as normal scores
(`predictors.normal_scores`). **Members** (`predictors.stack_members`) are fitted on all rows and,
with the settings found there, once more without each of `FOLDS` folds. **Weights** minimise the
squared error of the held-out scores,

    min_w  mean_i (z_i - sum_m w_m p_im)^2 + (TRUST / n) |w - w0|^2,   w >= 0, sum w = 1,

drawn towards fixed ones `w0`, which with few rows is most of what can be known (stacked
regressions, Breiman, Machine Learning 24, 1996).

**Intervals** are locally weighted conformal (Lei et al., Distribution-Free Predictive Inference
for Regression, 2018, sec. 5.2) on the held-out scores: `z +- q_a sqrt(b^2 + s(x)^2)` with `s` the
members' spread, `b^2` its mean over the held-out rows, and `q_a` the quantile of the held-out
errors in this unit. They are turned back with the values, and so are wider downwards where
networks may fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from predictors.array_file import read_arrays, write_arrays
from predictors.folds import assign_folds, distinct
from predictors.graph_features import graph_feature_groups, graph_feature_names, graph_features
from predictors.kernels import FeatureGroups
from predictors.normal_scores import NormalScores
from predictors.prediction import (
    NORMAL_90,
    NotFittedError,
    Prediction,
    Predictor,
    checked_values,
)
from predictors.space_of_file import space_of_file
from predictors.stack_members import MEMBERS, Described, Member
from records import (
    BadInputError,
    generator,
    unknown_name,
    versions,
)
from search_spaces import SearchSpace

Vector = npt.NDArray[np.float64]

FOLDS = 8
TRUST = 10.0
"""How many rows of unit error the fixed weights are worth."""
WEIGHTS = {"process": 0.4, "pairwise": 0.2, "linear": 0.2, "boosted": 0.2}
"""The weights that stand where the data say nothing."""

_LEAST_FOR_TREES = 12  # fewer rows are split by chance
_SAMPLE = 2000
_BLOCK = 384  # rows predicted at once: of one size, so that the last bit does not depend on it
_KIND, _FORMAT = "stacked predictor", 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fitted:
    members: dict[str, Member]
    weights: Vector
    target: NormalScores
    offset: float
    errors: Vector
    """The held-out errors in units of the spread, ascending."""

    def scores(self, rows: Described) -> tuple[Vector, Vector]:
        """The mean score of the members and the unit of its error, two arrays of length `n`."""
        each = np.stack([member.predict(rows) for member in self.members.values()])
        return _mean_and_unit(each, self.weights, self.offset)

    def half_width(self, coverage: float) -> float:
        """How many units hold the truth in a share `coverage` of all cases."""
        rank = min(math.ceil(coverage * (len(self.errors) + 1)), len(self.errors))
        return float(self.errors[max(rank, 1) - 1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interval:
    """Predicted values with ends that need not be equally far away: arrays of length `n`."""

    mean: Vector
    lower: Vector
    upper: Vector


class StackedPredictor(Predictor):
    """The predictor to take where nothing speaks for another one.

    Args:
        space: The search space.
        seed: Equal seeds and data give equal predictions.
        members: The regressions to weigh, of `MEMBERS`.

    Raises:
        UnknownNameError: No such member.
        BadInputError: No member.

    >>> import numpy as np
    >>> from search_spaces import CNNSpace
    >>> space = CNNSpace()
    >>> genes = space.sample(60, np.random.default_rng(0))
    >>> accuracy = 0.9 + 0.01 * genes[:, 1]
    >>> model = StackedPredictor(space, members=("process", "linear")).fit(genes, accuracy)
    >>> sorted(model.weights)
    ['linear', 'process']
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        members: tuple[str, ...] = tuple(MEMBERS),
    ) -> None:
        for name in members:
            if name not in MEMBERS:
                raise unknown_name("member", name, MEMBERS)
        if not members:
            raise BadInputError(f"name at least one member of {', '.join(MEMBERS)}")
        self.space = space
        self.seed = seed
        self.member_names = tuple(dict.fromkeys(members))
        self._fitted: _Fitted | None = None

    @property
    def weights(self) -> dict[str, float]:
        """What each member counts for."""
        fitted = self._require_fit()
        return dict(zip(fitted.members, map(float, fitted.weights), strict=True))

    def fit(self, genes: npt.ArrayLike, values: npt.ArrayLike) -> Self:
        rows = self._describe(genes)
        y = checked_values(values, len(rows))
        target = NormalScores.of(y)
        z = target.transform(y)
        rng = generator(self.seed, "stacked predictor")
        names = [n for n in self.member_names if n != "boosted" or len(z) >= _LEAST_FOR_TREES]
        members = {name: MEMBERS[name].fit(rows, z, rng) for name in names or self.member_names}
        held_out = _held_out(list(members.values()), rows, z, rng)
        prior = np.array([WEIGHTS[name] for name in members])
        weights = stacking_weights(held_out, z, prior / prior.sum())
        spread = _mean_and_unit(held_out, weights, 0.0)[1]
        error = np.abs(weights @ held_out - z)
        # members that agree by chance on very few rows must not make every distance look huge
        offset = math.sqrt(max(float((spread**2).mean()), 0.1 * float((error**2).mean())))
        unit = np.hypot(offset, spread)
        errors = np.sort(error / np.where(unit > 0, unit, 1.0))
        self._fitted = _Fitted(
            members=members, weights=weights, target=target, offset=offset, errors=errors
        )
        return self

    def predict(self, genes: npt.ArrayLike) -> Prediction:
        found = self.interval(genes)
        values = self._require_fit().target.values
        least = 1e-9 * max(float(np.abs(values).max()), 1e-9)
        half = (found.upper - found.lower) / (2 * NORMAL_90)
        return Prediction(mean=found.mean, std=np.maximum(half, least))

    def interval(self, genes: npt.ArrayLike, coverage: float = 0.9) -> Interval:
        """Predicts with an interval that is meant to hold a share `coverage` of all values.

        Raises:
            NotFittedError: Nothing was fitted yet.
            BadInputError: The genes are not of the space, or a coverage that is no share.
        """
        fitted = self._require_fit()
        if not 0 < coverage < 1:
            raise BadInputError(f"coverage must be between 0 and 1, got {coverage}")
        rows = self._describe(genes)
        z, unit = np.zeros(len(rows)), np.zeros(len(rows))
        for start in range(0, len(rows), _BLOCK):
            place = np.arange(start, start + _BLOCK) % len(rows)
            part = slice(start, min(start + _BLOCK, len(rows)))
            found = fitted.scores(rows.rows(place))
            z[part], unit[part] = (f[: part.stop - start] for f in found)
        half = fitted.half_width(coverage) * unit
        restore = fitted.target.restore
        return Interval(mean=restore(z), lower=restore(z - half), upper=restore(z + half))

    def save(self, path: str | Path) -> None:
        fitted = self._require_fit()
        content = {
            "space": self.space.to_json(),
            "space_hash": self.space.hash,
            "features": list(graph_feature_names(self.space)),
            "parameters": {"seed": self.seed, "members": list(self.member_names)},
            "fitted": list(fitted.members),
            "offset": fitted.offset,
            "slopes": [fitted.target.slope_below, fitted.target.slope_above],
            "versions": versions(),
        }
        arrays = {
            "weights": fitted.weights,
            "errors": fitted.errors,
            "values": fitted.target.values,
            "scores": fitted.target.scores,
        }
        for name, member in fitted.members.items():
            arrays |= {f"{name}.{key}": array for key, array in member.arrays().items()}
        write_arrays(path, _KIND, _FORMAT, content, arrays)

    @classmethod
    def load(cls, path: str | Path, space: SearchSpace | None = None) -> Self:
        content, arrays = read_arrays(path, _KIND, _FORMAT)
        space = space_of_file(path, content, space)
        parameters = content["parameters"]
        loaded = cls(space, seed=parameters["seed"], members=tuple(parameters["members"]))
        members = {name: MEMBERS[name].of(_part(arrays, f"{name}.")) for name in content["fitted"]}
        below, above = content["slopes"]
        loaded._fitted = _Fitted(
            members=members,
            weights=arrays["weights"],
            target=NormalScores(
                values=arrays["values"],
                scores=arrays["scores"],
                slope_below=below,
                slope_above=above,
            ),
            offset=content["offset"],
            errors=arrays["errors"],
        )
        return loaded

    def _describe(self, genes: npt.ArrayLike) -> Described:
        groups = _scaling(self.space).scale(graph_features(self.space, genes))
        columns = np.concatenate(groups, axis=1).astype(np.float64)
        return Described(groups=(*groups, columns / math.sqrt(len(groups))), columns=columns)

    def _require_fit(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("call fit before predict or save")
        return self._fitted


def stacking_weights(held_out: Vector, scores: Vector, prior: Vector) -> Vector:
    """Weights of members that predict best together, drawn towards prior ones.

    Args:
        held_out: An `m x n` array: what each member says of rows that it has not seen.
        scores: What is true, an array of length `n`.
        prior: An array of length `m`, at least 0 and of sum 1.

    Returns:
        An array of length `m`, at least 0 and of sum 1.
    """
    from scipy.optimize import nnls

    n = len(scores)
    trust = math.sqrt(TRUST * max(float(scores.var()), 1e-12) / n)
    sum_is_one = 1e3 * math.sqrt(n)
    design = np.concatenate(
        [
            held_out.T / math.sqrt(n),
            trust * np.eye(len(prior)),
            sum_is_one * np.ones((1, len(prior))),
        ]
    )
    wanted = np.concatenate([scores / math.sqrt(n), trust * prior, [sum_is_one]])
    weights = np.asarray(nnls(design, wanted)[0], np.float64)
    return np.asarray(weights / weights.sum())


def _mean_and_unit(each: Vector, weights: Vector, offset: float) -> tuple[Vector, Vector]:
    """The weighted mean of `m x n` predictions, and the unit of its error."""
    mean = (weights[:, None] * each).sum(axis=0)
    variance = (weights[:, None] * (each - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(offset**2 + variance)


def _held_out(
    members: list[Member], rows: Described, z: Vector, rng: np.random.Generator
) -> Vector:
    """What each member says of every row without having seen it, an `m x n` array."""
    folds = min(FOLDS, int(distinct(rows.columns).max()) + 1)
    fold = assign_folds(rows.columns, folds, rng)
    found = np.zeros((len(members), len(z)))
    for k in range(folds):
        out = fold == k
        for m, member in enumerate(members):
            found[m, out] = member.refit(rows.rows(~out), z[~out], rng).predict(rows.rows(out))
    return found


def _part(arrays: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


@lru_cache(maxsize=16)
def _scaling(space: SearchSpace) -> FeatureGroups:
    """How the features of a space are scaled: by a sample of its networks."""
    sample = space.sample(_SAMPLE, np.random.default_rng(0))
    return FeatureGroups.of(graph_features(space, sample), graph_feature_groups(space))
