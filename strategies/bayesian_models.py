"""What a Bayesian search believes of objectives: scales of their values, and Gaussian processes.

Errors of networks are skewed: many are near the best, and a tail of networks hardly learns. The
tail is clipped, for how bad a bad network is says nothing about good ones, and the rest is
stretched towards the best,

    z = log(min(error, q) - best + c (median - best)),   q the 90th percentile of the errors seen,

so that a given share of the distance to the best counts the same near it as far from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictors.gaussian_process_fit import Hyperparameters, Posterior
from predictors.kernels import Groups, squared_distances
from strategies.bayesian_projection import Projection, distinct_rows
from strategies.protocols import Floats

_CLIPPED = 0.9
_SOFTNESS = 0.4
_LEAST_SHARE = 0.02
_CHUNK = 2048
_STEPS = 20
_FEW, _GROWTH = 48, 0.1

SETTINGS = {
    "clipped": _CLIPPED,
    "softness": _SOFTNESS,
    "least_share": _LEAST_SHARE,
    "steps": _STEPS,
    "few": _FEW,
    "growth": _GROWTH,
}
"""The numbers that decide what is believed."""


@dataclass(frozen=True, slots=True)
class ErrorScale:
    """How errors are seen: `log(min(error, clip) - origin)`; smaller is better."""

    clip: float
    origin: float

    @staticmethod
    def of(errors: Floats) -> ErrorScale:
        """The scale for the errors seen, at least one; where all are equal, it is any."""
        best, median, clip = np.quantile(errors, [0.0, 0.5, _CLIPPED])
        softness = _SOFTNESS * (median - best) or _SOFTNESS * (clip - best)
        return ErrorScale(float(clip), float(best - (softness or 1.0)))

    def transform(self, errors: Floats) -> Floats:
        """The scaled errors; a NaN, a failed evaluation, counts as the clip."""
        known = np.where(np.isnan(errors), self.clip, np.minimum(errors, self.clip))
        scaled: Floats = np.log(np.maximum(known - self.origin, np.finfo(np.float64).tiny))
        return scaled

    def errors(self, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
        """The median errors, and their standard deviations to first order, of scaled normals."""
        above: Floats = np.exp(mean)
        return self.origin + above, above * std


def log_latency(latency_ms: Floats, typical_ms: float) -> Floats:
    """Logarithms of latencies; below a fiftieth of the typical one all are alike.

    Clocks yield zeros, and what takes next to no time is not worth making ten times faster.
    """
    least = _LEAST_SHARE * typical_ms if typical_ms > 0 else 1e-9
    logarithms: Floats = np.log(np.maximum(latency_ms, least))
    return logarithms


class Belief:
    """A Gaussian process for one objective, which goes on from its last hyperparameters.

    These are learned again with each further row, and of more than `_FEW` rows where there are a
    tenth more than the last time; between, they stay as they are.

    Args:
        groups: The places of the groups of features to compare networks by.

    Attributes:
        known: The hyperparameters.
        learned_from: How many rows they were learned from.
    """

    def __init__(self, groups: Sequence[int]) -> None:
        self.groups = tuple(groups)
        self.known: Hyperparameters | None = None
        self.learned_from = 0
        self._posterior: Posterior | None = None
        self._seen: Groups = ()
        self._list: Groups = ()
        self._projection: Projection | None = None

    def fit(self, features: Groups, values: Floats) -> None:
        """Learns from `n` values, at least one."""
        n, before = len(values), self.learned_from
        least = before + (_GROWTH * before if n > _FEW else 0)
        if self.known is None or n < before or n > least:
            self.learned_from = n
            self._condition(features, values, _STEPS)
        else:
            self._condition(features, values, 0)

    def believe(self, features: Groups, values: Floats) -> None:
        """Takes `n` values for measured, without learning hyperparameters from them."""
        self._condition(features, values, 0)

    def predict(self, features: Groups) -> tuple[Floats, Floats]:
        """Means and standard deviations at `m` rows, the noise left out.

        Rows with the same features, of cells that are one network, are predicted once.
        """
        assert self._posterior is not None
        used = [features[g] for g in self.groups]
        first, inverse = distinct_rows(used)
        mean, std = np.zeros(len(first)), np.zeros(len(first))
        for start in range(0, len(first), _CHUNK):
            part = slice(start, start + _CHUNK)
            rows = [group[first[part]] for group in used]
            mean[part], std[part] = self._posterior.predict(squared_distances(rows, self._seen))
        return mean[inverse], std[inverse]

    def predict_list(self, features: Groups) -> tuple[Floats, Floats]:
        """`predict`, for rows that are asked for again and again."""
        assert self._posterior is not None
        if self._projection is None or self._list is not features:
            self._list = features
            self._projection = Projection(tuple(features[g] for g in self.groups))
        return self._projection.predict(self._posterior, self._seen)

    def _condition(self, features: Groups, values: Floats, steps: int) -> None:
        self._seen = tuple(features[g] for g in self.groups)
        exact = [group.astype(np.float64) for group in self._seen]
        distances = squared_distances(exact, exact)
        self._posterior = Posterior.of(distances, values, self.known, steps=steps)
        self.known = self._posterior.known
