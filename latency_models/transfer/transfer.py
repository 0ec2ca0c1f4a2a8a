"""`LatencyTransfer`: a handful of measured networks and other devices' tables give a new device.

>>> import numpy as np
>>> from search_spaces.standard import FBNetSpace
>>> space = FBNetSpace.cifar100()
>>> genes = space.sample(200, np.random.default_rng(0))
>>> transfer = LatencyTransfer(space_features(space, genes), genes)
>>> rows = transfer.choose(20, seed=0)
>>> macs = space.layer_table(genes).macs / 1e6
>>> predicted = transfer.predict(rows, 0.1 * macs[rows])
>>> bool(np.corrcoef(predicted.latency_ms, macs)[0, 1] > 0.95)
True
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from latency_models.transfer.features import ArchitectureFeatures, Matrix, space_features
from latency_models.transfer.posterior import predict
from latency_models.transfer.prior import device_prior
from latency_models.transfer.selection import choose_rows
from latency_models.transfer.smoothing import smooth, smoothing_basis
from records import BadInputError, generator
from search_spaces import Genes

LEAST_SAMPLES = 3

__all__ = ["LEAST_SAMPLES", "LatencyTransfer", "TransferredLatencies", "space_features"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransferredLatencies:
    """Predicted latencies of `n` architectures.

    Attributes:
        latency_ms: Expected values, positive, length `n`.
        lower_ms: Lower ends of the interval of one measurement, at least 0.
        upper_ms: Upper ends.
    """

    latency_ms: Matrix
    lower_ms: Matrix
    upper_ms: Matrix


class LatencyTransfer:
    """Predicts latencies on a device of which only a handful of networks were measured.

    The order of the rows makes no difference to what is chosen and predicted.

    Args:
        features: `n` architectures, at least 3.
        genes: Their genes, `n x d`, which tell them apart.
        sources_ms: Their latencies on other devices, `n x devices`; none by default.

    Raises:
        BadInputError: Arrays that do not fit each other, or a latency that is negative, not
            finite, or 0 for all rows of a device.
    """

    def __init__(
        self,
        features: ArchitectureFeatures,
        genes: Genes,
        sources_ms: npt.ArrayLike | None = None,
    ) -> None:
        n = len(features)
        sources = np.zeros((n, 0)) if sources_ms is None else np.array(sources_ms, np.float64)
        if n < LEAST_SAMPLES or len(genes) != n or sources.ndim != 2 or len(sources) != n:
            raise BadInputError(
                f"at least {LEAST_SAMPLES} architectures are needed, with genes and latencies for "
                f"each; got {n}, {len(genes)} and {sources.shape}"
            )
        _check_sources(sources)
        self._order = np.lexsort(tuple(genes.T[::-1]))
        self._place = np.argsort(self._order)
        self._features = features.rows(self._order)
        self._smooth = sources[self._order]
        if sources.shape[1]:
            self._smooth = smooth(smoothing_basis(self._features), self._smooth)
        self._prior = device_prior(self._features, self._smooth)

    def with_sources(self, columns: Sequence[int]) -> LatencyTransfer:
        """The same with some of the other devices only; nothing is smoothed anew."""
        other = copy.copy(self)
        other._smooth = self._smooth[:, list(columns)]
        other._prior = device_prior(self._features, other._smooth)
        return other

    @property
    def smoothed_ms(self) -> Matrix:
        """The other devices' latencies without their noise, `n x devices`."""
        return self._smooth[self._place]

    def choose(self, samples: int, seed: int) -> npt.NDArray[np.intp]:
        """The rows to measure, most telling first, an array of length `samples`.

        Raises:
            BadInputError: Fewer than 3 samples or more than there are rows.
        """
        if not LEAST_SAMPLES <= samples <= len(self._order):
            raise BadInputError(
                f"samples must be {LEAST_SAMPLES} to {len(self._order)}, got {samples}"
            )
        chosen = choose_rows(self._prior, samples, generator(seed, "transfer", "rows"))
        return np.asarray(self._order[chosen])

    def predict(
        self, rows: npt.ArrayLike, measured_ms: npt.ArrayLike, *, coverage: float = 0.9
    ) -> TransferredLatencies:
        """Latencies of all rows from those of a few.

        Args:
            rows: Which were measured, at least 3 different positions.
            measured_ms: Their latencies, positive and not all equal.
            coverage: The share of measurements that should lie within the interval.

        Raises:
            BadInputError: Rows or latencies that are none of these.
        """
        index, measured = self._checked(rows, measured_ms)
        order = np.argsort(self._place[index])  # sums do not depend on the order either
        found = predict(self._prior, self._place[index][order], measured[order])
        mean, deviation = found.mean_ms[self._place], found.deviation_ms[self._place]
        wide = float(ndtri(0.5 + coverage / 2))
        latency = _positive(mean, float(measured.min()))
        return TransferredLatencies(
            latency_ms=latency,
            lower_ms=np.clip(mean - wide * deviation, 0.0, latency),
            upper_ms=np.maximum(mean + wide * deviation, latency),
        )

    def _checked(
        self, rows: npt.ArrayLike, measured_ms: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.intp], Matrix]:
        index, measured = np.asarray(rows), np.asarray(measured_ms, np.float64)
        n = len(self._order)
        if index.ndim != 1 or measured.shape != index.shape:
            raise BadInputError(
                f"each measured row needs one latency, got shapes {index.shape} and "
                f"{measured.shape}"
            )
        if len(index) < LEAST_SAMPLES:
            raise BadInputError(
                f"at least {LEAST_SAMPLES} measured rows are needed, got {len(index)}"
            )
        if index.dtype.kind not in "iu":
            raise BadInputError("rows must be integers below 2^63")
        outside = index[(index < 0) | (index >= n)]
        if len(outside):
            raise BadInputError(f"row {outside[0]} is not in the table: rows are 0 to {n - 1}")
        values, times = np.unique(index, return_counts=True)
        if (times > 1).any():
            raise BadInputError(f"row {values[times > 1][0]} is measured twice: give it once")
        wrong = ~(np.isfinite(measured) & (measured > 0))
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise BadInputError(
                f"latency_ms of row {index[first]} is {measured[first]:g}: it must be positive "
                "and finite"
            )
        if np.ptp(measured) == 0:
            raise BadInputError(
                f"latency_ms is {measured[0]:g} for all measured rows: networks that differ must "
                "differ in latency; measure with a finer clock"
            )
        return index.astype(np.intp), measured


def _check_sources(sources: Matrix) -> None:
    wrong = np.argwhere(~(np.isfinite(sources) & (sources >= 0)))
    if len(wrong):
        row, column = wrong[0]
        raise BadInputError(
            f"source {column} of row {row} is {sources[row, column]:g}: latencies must be finite "
            "and at least 0"
        )
    empty = np.flatnonzero(~(sources > 0).any(axis=0))
    if len(empty):
        raise BadInputError(f"source {empty[0]} is 0 for all rows: leave it out")


def _positive(latency_ms: Matrix, smallest_ms: float) -> Matrix:
    """Values bent so that none is 0 or less, in the same order.

    Below a tenth of the smallest measured value they fall towards 0 as a hyperbola.
    """
    floor = smallest_ms / 10
    bent = floor**2 / (2 * floor - np.minimum(latency_ms, floor))
    return np.where(latency_ms > floor, latency_ms, bent)
