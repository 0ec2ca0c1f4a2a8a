"""`BoostedTrees`: gradient-boosted trees for 10 to 500 rows, with honest intervals.

Gradient boosting (Friedman, Stochastic Gradient Boosting, 2002) as a *cross-bagged* ensemble: the
rows are split in `FOLDS` folds again and again, and each member leaves one fold out.

**Rows.** `graph_features` describe spaces of up to 65,536 networks, `features` larger ones. Graph
features raise Kendall's tau from 50 / 200 rows of NAS-Bench-201 from 0.56 / 0.66 to 0.72 / 0.82,
of NAS-Bench-Macro from 0.82 / 0.88 to 0.85 / 0.89 (2 seeds); in larger spaces they take longer and
make no difference.

**Target.** Members learn `t = asinh((y - median) / IQR)`, which keeps the middle of the values as
it is and draws in the tails; each member's prediction is transformed back before averaging. On
`features`, against the raw values this raises Kendall's tau from 100 / 200 rows of NAS-Bench-201
(cifar100, with its many failed cells) from 0.594 / 0.630 to 0.610 / 0.651 and leaves
NAS-Bench-Macro alone (0.864 / 0.890 against 0.863 / 0.891). Clipping at the 10th percentile
reaches 0.610 / 0.650 and 0.854 / 0.881, must know which end is bad, and cannot be undone (means
over 8 seeds).

**Interval.** Let `s(x)` be the members' standard deviation, `r_i` the error of the mean of those
members that did not see row `i`, and `s_i` their standard deviation. With `b^2` the mean of
`s_i^2`, the interval is locally weighted conformal prediction on held-out residuals (Lei et al.,
Distribution-Free Predictive Inference for Regression, 2018, sec. 5.2; out-of-bag as in Johansson
et al., 2014):

    std(x) = g sqrt(b^2 + s(x)^2),   g = Q_90( |r_i| / sqrt(b^2 + s_i^2) ) / 1.645

with `Q_90` the `ceil(0.9 (n + 1))`-th smallest (the largest below 9 rows). A constant width
covers as well but says nothing about where to look; weighted, the likelihood of the true values is
clearly higher on both tables. Coverage of nominal 90 % from 20 to 200 rows: 0.90 to 0.95.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from predictors.array_file import read_arrays, write_arrays
from predictors.features import feature_names, features
from predictors.folds import assign_folds, distinct
from predictors.graph_features import graph_feature_names, graph_features
from predictors.prediction import (
    NORMAL_90,
    NotFittedError,
    Prediction,
    Predictor,
    checked_values,
)
from predictors.trees import MAX_DEPTH, Trees, export_trees
from records import BadInputError, CorruptFileError, UnknownNameError, generator, versions
from search_spaces import SearchSpace

Featurize: TypeAlias = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

FOLDS = 4
"""Members leave a quarter out: with 12 members a row is held out by 3, enough for a spread."""
_MOST_GRAPHS = 1 << 16
"""In a space of more networks graph features cannot be averaged over equal ones."""
_ROWS_PER_TREE = 0.8  # as in GBDT-NAS (Luo et al., 2020, arXiv 2007.04785)
_COLUMNS_PER_SPLIT = 0.5
_KIND, _FORMAT = "boosted trees", 1


@dataclass(frozen=True, slots=True)
class _Target:
    """The transformation of the values, and how far predictions may leave the seen range."""

    centre: float
    width: float
    lowest: float
    highest: float

    @staticmethod
    def of(values: npt.NDArray[np.float64]) -> _Target:
        least, low, centre, high, most = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
        width = (high - low) or (most - least) or values.std() or 1.0
        raw = _Target(float(centre), float(width), -math.inf, math.inf)
        t = raw.transform(values)
        return _Target(raw.centre, raw.width, float(t.min()) - 0.5, float(t.max()) + 0.5)

    def transform(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        t: npt.NDArray[np.float64] = np.arcsinh((values - self.centre) / self.width)
        return t

    def restore(self, t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        stretched: npt.NDArray[np.float64] = np.sinh(t.clip(self.lowest, self.highest))
        return self.centre + self.width * stretched


@dataclass(frozen=True, slots=True)
class _Calibration:
    """`std = gain * sqrt(offset^2 + spread^2)`, and never below `least`."""

    gain: float
    offset: float
    least: float

    @staticmethod
    def of(
        residuals: npt.NDArray[np.float64], variances: npt.NDArray[np.float64], size: float
    ) -> _Calibration:
        """Calibrates on held-out absolute residuals and variances, two arrays of length `n`."""
        # members that agree by chance on very few rows must not make every distance look huge
        variance = max(float(variances.mean()), 0.1 * float((residuals**2).mean()))
        least = 1e-9 * max(size, 1e-9)
        if variance == 0:
            return _Calibration(0.0, 0.0, least)
        scores = np.sort(residuals / np.sqrt(variance + variances))
        rank = min(math.ceil(0.9 * (len(scores) + 1)), len(scores))
        return _Calibration(float(scores[rank - 1]) / NORMAL_90, math.sqrt(variance), least)

    def std(self, spread: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.maximum(self.gain * np.hypot(self.offset, spread), self.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    trees: Trees
    bases: npt.NDArray[np.float64]
    target: _Target
    calibration: _Calibration
    columns: int
    rows: int

    def members(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Every member's prediction, a `members x n` array."""
        t = self.trees.predict(rows, groups=len(self.bases)) + self.bases[:, None]
        return self.target.restore(t)


class BoostedTrees(Predictor):
    """An ensemble of gradient-boosted trees that fits in a third of a second.

    >>> import numpy as np
    >>> from search_spaces import CNNSpace
    >>> space = CNNSpace()
    >>> genes = space.sample(60, np.random.default_rng(0))
    >>> accuracy = 0.9 + 0.01 * genes[:, 1]
    >>> model = BoostedTrees(space).fit(genes[:40], accuracy[:40])
    >>> float(abs(model.predict(genes[40:]).mean - accuracy[40:]).max()) < 0.002
    True
    """

    def __init__(
        self,
        space: SearchSpace | None = None,
        *,
        featurize: Featurize | None = None,
        graph: bool | None = None,
        seed: int = 0,
        members: int = 12,
        rounds: int = 50,
        depth: int = 3,
        learning_rate: float = 0.15,
    ) -> None:
        """Configures the predictor; nothing is computed yet.

        Args:
            space: The search space whose features describe the genes.
            featurize: Instead of a space: a function from an `n x d` array of genes to an `n x f`
                array of finite numbers.
            graph: Whether `graph_features` describe the genes, in place of `features`; by default
                in spaces of up to 65,536 networks. What single choices do (`pruning_advice`) is
                read from a model without them.
            seed: Equal seeds and data give equal predictions.
            members: Boosted ensembles to average, at least `2 * FOLDS`.
            rounds: Trees of each member.
            depth: Levels of splits of each tree, 1 to `MAX_DEPTH`.
            learning_rate: How much of each tree's fit is taken, above 0 and up to 1.

        Raises:
            BadInputError: Not exactly one of `space` and `featurize`, or a number out of range.
        """
        if (space is None) == (featurize is None):
            raise BadInputError("give either a space or featurize, and not both")
        for name, value, least, most in (
            ("members", members, 2 * FOLDS, 1000),
            ("rounds", rounds, 1, 10_000),
            ("depth", depth, 1, MAX_DEPTH),
        ):
            if not least <= value <= most:
                raise BadInputError(f"{name} must be {least} to {most}, got {value}")
        if not 0 < learning_rate <= 1:
            raise BadInputError(f"learning_rate must be above 0 and up to 1, got {learning_rate}")
        self.space = space
        self.graph = graph if graph is not None else space is not None and _has_graph(space)
        self.seed = seed
        self.member_count = members
        self.rounds = rounds
        self.depth = depth
        self.learning_rate = learning_rate
        self._featurize = featurize
        self._fitted: _Fitted | None = None

    def fit(self, genes: npt.ArrayLike, values: npt.ArrayLike) -> Self:
        x = self._features(genes)
        y = checked_values(values, len(x))
        target = _Target.of(y)
        t = target.transform(y)
        rng = generator(self.seed, "boosted trees")
        folds = min(FOLDS, int(distinct(x).max()) + 1)
        held_out = np.zeros((self.member_count, len(x)), np.bool_)
        bases = np.zeros(self.member_count)
        trees: list[Any] = []
        for m in range(self.member_count):
            if m % folds == 0:
                fold = assign_folds(x, folds, rng)
            held_out[m] = fold == m % folds
            seen = ~held_out[m]
            bases[m] = t[seen].mean()
            trees += self._boost(x[seen], t[seen] - bases[m], int(rng.integers(2**31)))
        fitted = _Fitted(
            trees=export_trees(trees, self.depth, self.learning_rate),
            bases=bases,
            target=target,
            calibration=_Calibration(0.0, 0.0, 0.0),
            columns=x.shape[1],
            rows=len(x),
        )
        calibration = _calibrate(fitted.members(x), held_out, y)
        self._fitted = replace(fitted, calibration=calibration)
        return self

    def predict(self, genes: npt.ArrayLike) -> Prediction:
        fitted = self._require_fit()
        members = self.member_predictions(genes)
        spread = members.std(axis=0, ddof=1)
        return Prediction(mean=members.mean(axis=0), std=fitted.calibration.std(spread))

    def member_predictions(self, genes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What each member predicts, a `members x n` array whose mean `predict` gives.

        Each run of `FOLDS` members has left each part of the fitted rows out once; how they differ
        says how much rests on which rows were evaluated (`predictors.pruning_advice`).

        Raises:
            NotFittedError: Nothing is fitted yet.
            BadInputError: As in `predict`.
        """
        fitted = self._require_fit()
        rows = self._features(genes)
        if rows.shape[1] != fitted.columns:
            raise BadInputError(
                f"featurize returned {rows.shape[1]} columns; {fitted.columns} were fitted"
            )
        return fitted.members(rows)

    def save(self, path: str | Path) -> None:
        fitted = self._require_fit()
        content = {
            "space": None if self.space is None else self.space.to_json(),
            "space_hash": None if self.space is None else self.space.hash,
            "features": None if self.space is None else _names(self.space, self.graph),
            "columns": fitted.columns,
            "rows": fitted.rows,
            "parameters": {
                "graph": self.graph,
                "seed": self.seed,
                "members": self.member_count,
                "rounds": self.rounds,
                "depth": self.depth,
                "learning_rate": self.learning_rate,
            },
            "target": asdict(fitted.target),
            "calibration": asdict(fitted.calibration),
            "versions": versions(),
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "feature": fitted.trees.feature,
            "threshold": fitted.trees.threshold,
            "value": fitted.trees.value,
            "bases": fitted.bases,
        }
        write_arrays(path, _KIND, _FORMAT, content, arrays)

    @classmethod
    def load(
        cls,
        path: str | Path,
        space: SearchSpace | None = None,
        *,
        featurize: Featurize | None = None,
    ) -> Self:
        """Reads what `save` wrote; scikit-learn is not needed for it.

        Args:
            path: The file.
            space: The search space that the file must belong to. Without it the space is made
                from the file, which works for spaces whose class is imported.
            featurize: For a predictor that was made with `featurize`: the same function.

        Raises:
            MissingFileError: There is no such file.
            CorruptFileError: It is damaged, foreign, of another space or of other features.
            BadInputError: A `featurize` is missing or not wanted, or the space is not imported.
        """
        content, arrays = read_arrays(path, _KIND, _FORMAT)
        content["parameters"].setdefault("graph", False)  # as it was before there was a choice
        if content["space"] is None:
            if space is not None:
                raise CorruptFileError(f"{path} belongs to no space: it was made with featurize")
            if featurize is None:
                raise BadInputError(f"{path} was made with featurize: give the same function")
        elif featurize is not None:
            raise BadInputError(f"{path} was made for a space: leave featurize out")
        else:
            space = _space_of(path, content, space)
        loaded = cls(space, featurize=featurize, **content["parameters"])
        loaded._fitted = _Fitted(
            trees=Trees(
                feature=arrays["feature"], threshold=arrays["threshold"], value=arrays["value"]
            ),
            bases=arrays["bases"],
            target=_Target(**content["target"]),
            calibration=_Calibration(**content["calibration"]),
            columns=content["columns"],
            rows=content["rows"],
        )
        return loaded

    def _boost(
        self, x: npt.NDArray[np.float32], t: npt.NDArray[np.float64], seed: int
    ) -> list[Any]:
        """The fitted trees of one member, in order."""
        from sklearn.ensemble import GradientBoostingRegressor  # predicting does without it

        model = GradientBoostingRegressor(
            n_estimators=self.rounds,
            max_depth=self.depth,
            learning_rate=self.learning_rate,
            subsample=_ROWS_PER_TREE if len(x) > 1 else 1.0,
            max_features=_COLUMNS_PER_SPLIT,
            init="zero",
            random_state=seed,
        )
        return list(model.fit(x, t).estimators_[:, 0])

    def _features(self, genes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The genes as an `n x f` array."""
        if self._featurize is None:
            assert self.space is not None
            describe = graph_features if self.graph else features
            return describe(self.space, genes).astype(np.float32)
        rows = np.asarray(self._featurize(np.array(genes)))
        if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind not in "biuf":
            raise BadInputError(
                "featurize must return an n x f array of numbers, "
                f"got {rows.dtype} of shape {rows.shape}"
            )
        rows = rows.astype(np.float32)
        if not np.isfinite(rows).all():
            i, j = np.argwhere(~np.isfinite(rows))[0]
            raise BadInputError(f"featurize returned {rows[i, j]} in row {i}, column {j}")
        return rows

    def _require_fit(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("call fit before predict or save")
        return self._fitted


def _has_graph(space: SearchSpace) -> bool:
    """Whether networks are described by their live graph."""
    return space.cardinality <= _MOST_GRAPHS


def _names(space: SearchSpace, graph: bool) -> tuple[str, ...]:
    """What the columns are."""
    return graph_feature_names(space) if graph else feature_names(space)


def _calibrate(
    members: npt.NDArray[np.float64],
    held_out: npt.NDArray[np.bool_],
    values: npt.NDArray[np.float64],
) -> _Calibration:
    """Calibrates on what members say about the rows that they have not seen.

    Args:
        members: A `members x n` array of predictions.
        held_out: A `members x n` mask with at least two True a column.
        values: An array of length `n`.
    """
    count = held_out.sum(axis=0)
    mean = (members * held_out).sum(axis=0) / count
    variance = ((members - mean) ** 2 * held_out).sum(axis=0) / (count - 1)
    return _Calibration.of(np.abs(mean - values), variance, float(np.abs(values).max()))


def _space_of(path: str | Path, content: dict[str, Any], space: SearchSpace | None) -> SearchSpace:
    """The space that a file belongs to, checked against the one that is wanted."""
    saved = content["space"]
    if space is None:
        try:
            space = SearchSpace.from_json(saved)
        except UnknownNameError as error:
            raise BadInputError(
                f"{path} belongs to the space {saved['space']!r}: import its class, or give space"
            ) from error
    if space.hash != content["space_hash"]:
        raise CorruptFileError(
            f"{path} belongs to another space: {saved['space']!r} version {saved['version']} with "
            f"parameters {saved['parameters']}, hash {content['space_hash']}; wanted "
            f"{space.name!r}, hash {space.hash}"
        )
    if content["features"] != list(_names(space, content["parameters"]["graph"])):
        raise CorruptFileError(
            f"{path} was fitted on other features of {space.name!r} than this version computes: "
            "fit it again"
        )
    return space
