"""`PretrainedPredictor`: networks that know what an architecture costs before its accuracy.

Their encoders learn free statistics of random architectures (`predictors.pretraining`): how many
layers of which kind, how deep, how large at each resolution, the entropy (`predictors.entropy`),
and what a user adds. The few accuracies, as normal scores (`predictors.normal_scores`), then move
them a little. From 20 to 100 rows this gives a network what it lacks to keep up with regressions
that need no pretraining; without it, it is far behind (figures in docs/benchmarks.md).

**Members.** Each of `encoders` encoders is fine-tuned once without each of `FOLDS` folds of the
rows. **Intervals** are locally weighted conformal on the errors of those members that have not
seen a row, in units of their spread, as in `predictors.boosted_trees`.

Reference:
    Dai et al., FBNetV3: Joint Architecture-Recipe Search using Predictor Pretraining, CVPR 2021,
    arXiv 2006.02049.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from predictors.array_file import read_arrays, write_arrays
from predictors.entropy import entropy
from predictors.folds import assign_folds, distinct
from predictors.graph_features import graph_feature_groups, graph_feature_names, graph_features
from predictors.normal_scores import NormalScores
from predictors.prediction import (
    NORMAL_90,
    NotFittedError,
    Prediction,
    Predictor,
    checked_values,
)
from predictors.pretraining import Encoder, FineTuned
from predictors.space_of_file import space_of_file
from records import BadInputError, generator, versions
from search_spaces import Genes, SearchSpace

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Statistics: TypeAlias = Callable[[Genes], npt.ArrayLike]
"""Free statistics of `n` rows of genes: an array of length `n`, or `n x s`."""

FOLDS = 4
_LEARNED = ("counts", "shape", "sizes", "numerics")
"""The groups of features that encoders learn to predict; a recipe must not be lost on the way."""
_RECIPE = 4.0
"""How much larger the columns of a recipe are: a few among the many of the network."""
_FARTHEST = 5.0
"""Standardised columns are clipped here: a rare operator must not outweigh all others."""
_BLOCK = 384  # rows predicted at once: of one size, so that the last bit does not depend on it
_KIND, _FORMAT = "pretrained predictor", 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pretrained:
    """Encoders and how the columns that they read are standardised."""

    shift: Vector
    scale: Vector
    encoders: tuple[Encoder, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fitted:
    shift: Vector
    scale: Vector
    members: tuple[FineTuned, ...]
    target: NormalScores
    offset: float
    gain: float

    def scores(self, rows: Matrix) -> tuple[Vector, Vector]:
        """The mean score of standardised rows and half the interval, arrays of length `n`."""
        mean, half = np.zeros(len(rows)), np.zeros(len(rows))
        for start in range(0, len(rows), _BLOCK):
            place = np.arange(start, start + _BLOCK) % len(rows)
            part = slice(start, min(start + _BLOCK, len(rows)))
            each = np.stack([member.predict(rows[place]) for member in self.members])
            each = each[:, : part.stop - start]
            mean[part] = each.mean(axis=0)
            half[part] = self.gain * np.hypot(self.offset, each.std(axis=0, ddof=1))
        return mean, half


class PretrainedPredictor(Predictor):
    """A predictor for spaces of which more can be learned free of cost than from few accuracies.

    Args:
        space: The search space.
        statistics: What to pretrain on besides the usual: a function from genes to an array of
            length `n` or `n x s`, such as a cost model's latency or zero-cost scores. A network
            for which it is not finite is left out.
        networks: How many random architectures to pretrain on.
        encoders: How many encoders to pretrain; each is fine-tuned `FOLDS` times.
        width: Units of each of the two layers.
        steps: The most steps of fine-tuning.
        seed: Equal seeds and data give equal predictions.

    Raises:
        BadInputError: Fewer than 8 networks or 2 encoders, no unit or step.

    >>> import numpy as np
    >>> from search_spaces import CNNSpace
    >>> space = CNNSpace()
    >>> genes = space.sample(60, np.random.default_rng(0))
    >>> accuracy = 0.9 + 0.01 * np.log(space.layer_table(genes).macs)
    >>> model = PretrainedPredictor(space, networks=300, encoders=2, width=16)
    >>> found = model.fit(genes[:40], accuracy[:40]).predict(genes[40:])
    >>> float(abs(found.mean - accuracy[40:]).mean() / accuracy[40:].std()) < 0.5
    True
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        statistics: Statistics | None = None,
        networks: int = 3000,
        encoders: int = 3,
        width: int = 48,
        steps: int = 60,
        seed: int = 0,
    ) -> None:
        given = {"networks": networks, "encoders": encoders, "width": width, "steps": steps}
        for name, value in given.items():
            least = {"networks": 8, "encoders": 2}.get(name, 1)
            if value < least:
                raise BadInputError(f"{name} must be at least {least}, got {value}")
        self.space = space
        self.statistics = statistics
        self.networks = networks
        self.encoders = encoders
        self.width = width
        self.steps = steps
        self.seed = seed
        self._lacks_statistics = False
        self._fitted: _Fitted | None = None

    def fit(self, genes: npt.ArrayLike, values: npt.ArrayLike) -> Self:
        columns = graph_features(self.space, genes)
        y = checked_values(values, len(columns))
        known = self._pretrained()
        rows = _standardised(columns, known.shift, known.scale)
        target = NormalScores.of(y)
        z = target.transform(y)
        members, held_out = self._fine_tuned(known.encoders, rows, z)
        offset, gain = _calibrated(members, held_out, rows, z)
        self._fitted = _Fitted(
            shift=known.shift,
            scale=known.scale,
            members=members,
            target=target,
            offset=offset,
            gain=gain,
        )
        return self

    def predict(self, genes: npt.ArrayLike) -> Prediction:
        fitted = self._require_fit()
        columns = graph_features(self.space, genes)
        z, half = fitted.scores(_standardised(columns, fitted.shift, fitted.scale))
        restore, values = fitted.target.restore, fitted.target.values
        least = 1e-9 * max(float(np.abs(values).max()), 1e-9)
        std = (restore(z + half) - restore(z - half)) / (2 * NORMAL_90)
        return Prediction(mean=restore(z), std=np.maximum(std, least))

    def save(self, path: str | Path) -> None:
        fitted = self._require_fit()
        content = {
            "space": self.space.to_json(),
            "space_hash": self.space.hash,
            "features": list(graph_feature_names(self.space)),
            "parameters": {
                "networks": self.networks,
                "encoders": self.encoders,
                "width": self.width,
                "steps": self.steps,
                "seed": self.seed,
            },
            "statistics": self.statistics is not None or self._lacks_statistics,
            "offset": fitted.offset,
            "gain": fitted.gain,
            "slopes": [fitted.target.slope_below, fitted.target.slope_above],
            "versions": versions(),
        }
        each = [member.arrays() for member in fitted.members]
        arrays = {name: np.stack([arrays[name] for arrays in each]) for name in each[0]}
        arrays |= {
            "shift": fitted.shift,
            "scale": fitted.scale,
            "values": fitted.target.values,
            "scores": fitted.target.scores,
        }
        write_arrays(path, _KIND, _FORMAT, content, arrays)

    @classmethod
    def load(
        cls,
        path: str | Path,
        space: SearchSpace | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> Self:
        """Reads what `save` wrote; scikit-learn is not needed for it.

        Args:
            path: The file.
            space: As in `Predictor.load`.
            statistics: The same function, for a predictor that is to be fitted again.

        Raises:
            MissingFileError: There is no such file.
            CorruptFileError: It is damaged, foreign, of another space or of other features.
            BadInputError: The space is not imported.
        """
        content, arrays = read_arrays(path, _KIND, _FORMAT)
        space = space_of_file(path, content, space)
        loaded = cls(space, statistics=statistics, **content["parameters"])
        loaded._lacks_statistics = content["statistics"] and statistics is None
        below, above = content["slopes"]
        target = NormalScores(
            values=arrays.pop("values"),
            scores=arrays.pop("scores"),
            slope_below=below,
            slope_above=above,
        )
        shift, scale = arrays.pop("shift"), arrays.pop("scale")
        count = len(arrays["level"])
        members = tuple(
            FineTuned.of_arrays({name: array[m] for name, array in arrays.items()})
            for m in range(count)
        )
        loaded._fitted = _Fitted(
            shift=shift,
            scale=scale,
            members=members,
            target=target,
            offset=content["offset"],
            gain=content["gain"],
        )
        return loaded

    def _pretrained(self) -> _Pretrained:
        if self._lacks_statistics:
            raise BadInputError(
                "the predictor was pretrained on statistics of yours: load it with the same "
                "function as statistics, then fit it"
            )
        return _pretrain(
            self.space, self.statistics, self.networks, self.encoders, self.width, self.seed
        )

    def _fine_tuned(
        self, encoders: tuple[Encoder, ...], rows: Matrix, z: Vector
    ) -> tuple[tuple[FineTuned, ...], npt.NDArray[np.bool_]]:
        """The members, and which rows each has not seen: a `members x n` mask."""
        rng = generator(self.seed, "pretrained predictor")
        folds = min(FOLDS, int(distinct(rows).max()) + 1)
        members, held_out = [], []
        for encoder in encoders:
            fold = assign_folds(rows, folds, rng)
            for k in range(folds):
                seen = fold != k
                members.append(FineTuned.of(encoder, rows[seen], z[seen], steps=self.steps))
                held_out.append(~seen)
        return tuple(members), np.stack(held_out)

    def _require_fit(self) -> _Fitted:
        if self._fitted is None:
            raise NotFittedError("call fit before predict or save")
        return self._fitted


@lru_cache(maxsize=16)
def _pretrain(
    space: SearchSpace,
    statistics: Statistics | None,
    networks: int,
    encoders: int,
    width: int,
    seed: int,
) -> _Pretrained:
    """The encoders of a space, trained once."""
    rng = generator(seed, "pretraining")
    genes = space.sample(networks, rng)
    columns = graph_features(space, genes)
    groups = graph_feature_groups(space)
    known = np.nan_to_num(entropy(space.layer_table(genes)).entropy)  # no path, no entropy
    learned = [columns[:, np.concatenate([groups[g] for g in _LEARNED])], known[:, None]]
    if statistics is not None:
        learned.append(_checked_statistics(statistics(genes), networks))
    targets = np.concatenate(learned, axis=1)
    finite = np.isfinite(targets).all(axis=1)
    if finite.sum() < 2:
        raise BadInputError("statistics are finite for fewer than 2 networks")
    shift, scale = columns.mean(axis=0), _spread(columns)
    rows = _standardised(columns, shift, scale)[finite]
    targets = targets[finite]
    targets = _standardised(targets, targets.mean(axis=0), _spread(targets))
    beside = sum(len(groups[g]) for g in _LEARNED[:-1]) + np.arange(len(groups["numerics"]))
    targets[:, beside] *= _RECIPE
    seeds = rng.integers(2**31, size=encoders).tolist()
    return _Pretrained(
        shift=shift,
        scale=scale,
        encoders=tuple(Encoder.pretrained(rows, targets, width, s) for s in seeds),
    )


def _checked_statistics(found: npt.ArrayLike, rows: int) -> Matrix:
    array = np.asarray(found)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != rows or array.dtype.kind not in "biuf":
        raise BadInputError(
            f"statistics must return numbers for each of {rows} networks, an array of length n "
            f"or n x s; got {array.dtype} of shape {np.shape(found)}"
        )
    return array.astype(np.float64)


def _standardised(columns: Matrix, shift: Vector, scale: Vector) -> Matrix:
    return np.asarray(((columns - shift) / scale).clip(-_FARTHEST, _FARTHEST))


def _spread(columns: Matrix) -> Vector:
    """Standard deviations, 1 where a column does not vary."""
    spread = columns.std(axis=0)
    varies = spread > 1e-9 * np.maximum(np.abs(columns).max(axis=0), 1e-300)
    return np.where(varies, spread, 1.0)


def _calibrated(
    members: tuple[FineTuned, ...], held_out: npt.NDArray[np.bool_], rows: Matrix, z: Vector
) -> tuple[float, float]:
    """The offset of the spread, and how many units hold 90 % of the rows not seen.

    Every row is held out by as many members as there are encoders.
    """
    each = np.stack([member.predict(rows) for member in members])
    count = held_out.sum(axis=0)
    unseen = (each * held_out).sum(axis=0) / count
    variance = ((each - unseen) ** 2 * held_out).sum(axis=0) / (count - 1)
    error = np.abs(unseen - z)
    # members that agree by chance on very few rows must not make every distance look huge
    offset = math.sqrt(max(float(variance.mean()), 0.1 * float((error**2).mean())))
    unit = np.sqrt(offset**2 + variance)
    errors = np.sort(error / np.where(unit > 0, unit, 1.0))
    rank = min(math.ceil(0.9 * (len(errors) + 1)), len(errors))
    return offset, float(errors[rank - 1])
