"""A fit of kernel times to whole networks, from any number of search spaces together.

The latency of a network is modelled as

    latency = base + sum over kernels of x(kernel) . w(kind) + sum over kinds that occur of f(kind)

with the features `x` of `latency_models.kernel_features`, and `w`, `f` and `base` >= 0. `f` is
what the first kernel of a kind costs more than the next ones in a run: its code and tables are not
in the caches yet. A network whose stages mix convolutions and attention pays it for both.

The weights come from non-negative least squares on relative errors,

    minimise  sum_i ((X w - y)_i / y_i)^2  +  ridge,

so that a small network counts as much as a large one and no kernel is negative. The slight ridge
shares the time among features that always come together, so that no kind of kernel seems free.

How well it predicts comes from cross-validation. A calibration times a space's smallest and
largest networks on purpose (`SearchSpace.extremes`); left out, they are extrapolated to, which
nothing between them ever is, and one of them among twenty networks would decide how wide the
interval is. So they stay in every fold's fit, and the others are left out in turns.

A boosted or Gaussian-process model of the left-out errors on top of this was tried and is not
used: chosen by nested cross-validation it was never taken with 80 networks, because the features
and first kernels explain what it could have learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from deployment import KINDS
from deployment.kernel_tables.descriptions import DescribedLowering
from latency_models.kernel_features import (
    column_of_kind,
    columns_of,
    kernel_features,
    kind_bits,
)
from records import BadInputError
from search_spaces import Genes, SearchSpace

Values = npt.NDArray[np.float64]

FOLDS = 10
RIDGE = 1e-6
"""Found by cross-validation: a hundred times more costs accuracy, none leaves kinds at zero."""
MIN_NETWORKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Timed networks of one space.

    Attributes:
        lowering: The space, lowered for the target.
        genes: The networks, an `n x d` array, possibly of no rows.
        latencies_ms: Their latencies for one run of the whole batch, length `n`.

    Raises:
        BadInputError: A latency that is no positive number; the message names the row.
    """

    lowering: DescribedLowering
    genes: Genes
    latencies_ms: Values

    def __post_init__(self) -> None:
        if self.latencies_ms.shape != (len(self.genes),):
            raise BadInputError(
                f"a fit needs a latency for each network, got {len(self.genes)} networks and "
                f"latencies of shape {self.latencies_ms.shape}"
            )
        wrong = np.flatnonzero(~(np.isfinite(self.latencies_ms) & (self.latencies_ms > 0)))
        if len(wrong):
            row = int(wrong[0])
            raise BadInputError(
                f"latencies must be positive and finite, row {row} is {self.latencies_ms[row]:g}"
            )

    @property
    def space(self) -> SearchSpace:
        return self.lowering.space

    def design(self) -> Values:
        """A row a network: 1, the summed features of its kernels, and which kinds occur."""
        codes = self.lowering.tabulation.codes(self.genes)
        features = kernel_features(self.lowering)
        summed = np.zeros((len(self.genes), features.shape[1]))
        for row_codes in codes:
            summed += features[row_codes]
        bits = np.bitwise_or.reduce(kind_bits(self.lowering)[codes], axis=0)
        occurs = (bits[:, None] >> np.arange(len(KINDS))) & 1
        return np.concatenate([np.ones((len(summed), 1)), summed, occurs], axis=1)


class KernelFit:
    """Kernel times fitted to the timed networks of one or more spaces on one target.

    Args:
        measurements: The timed networks of each space, together at least 10.

    Raises:
        BadInputError: Fewer networks.
    """

    def __init__(self, measurements: Sequence[Measurements]) -> None:
        self.measurements = tuple(measurements)
        self.networks = sum(len(m.genes) for m in self.measurements)
        if self.networks < MIN_NETWORKS:
            raise BadInputError(
                f"a fit needs at least {MIN_NETWORKS} networks, got {self.networks}"
            )
        if len({columns_of(m.lowering) for m in self.measurements}) > 1:
            raise BadInputError(
                "spaces with and without precision by block share no fit: without it all kernels "
                "of an int8 file are taken for one precision; calibrate them apart"
            )
        self._columns = columns_of(self.measurements[0].lowering)

    @cached_property
    def _design(self) -> Values:
        return np.concatenate([m.design() for m in self.measurements])

    @cached_property
    def _measured_ms(self) -> Values:
        return np.concatenate([m.latencies_ms for m in self.measurements])

    @cached_property
    def _weights(self) -> Values:
        return fit_relative(self._design, self._measured_ms)

    @property
    def base_ms(self) -> float:
        """What a run costs apart from its kernels."""
        return float(self._weights[0])

    @property
    def first_ms(self) -> Values:
        """What the first kernel of each kind costs more than the next, length `len(KINDS)`."""
        return np.asarray(self._weights[1 + self._columns :])

    def is_seen(self, lowering: DescribedLowering) -> npt.NDArray[np.bool_]:
        """For every variant whether its kind, in its precision, occurs in the timed networks."""
        timed = np.asarray(self._design[:, 1 : 1 + self._columns].any(axis=0))
        return np.asarray(timed[column_of_kind(lowering)])

    def kernel_ms(self, lowering: DescribedLowering) -> Values:
        """The latency of every variant of every kernel; 0 for kinds that were not seen."""
        return np.asarray(kernel_features(lowering) @ self._weights[1 : 1 + self._columns])

    @cached_property
    def is_left_out(self) -> tuple[npt.NDArray[np.bool_], ...]:
        """For each space which of its networks are left out in turns: all but the extremes.

        All where more than a third of the networks are extremes.
        """
        inner = [~_are_extremes(m) for m in self.measurements]
        if 3 * sum(int((~own).sum()) for own in inner) > self.networks:
            inner = [np.ones(len(own), bool) for own in inner]
        return tuple(inner)

    @cached_property
    def left_out_ms(self) -> tuple[Values, ...]:
        """For each space the latencies of those left out, predicted by fits without them."""
        inner = np.concatenate(self.is_left_out)
        fold = np.concatenate([_folds(m.genes) for m in self.measurements])
        fold[~inner] = FOLDS
        predicted = np.empty(self.networks)
        for f in range(FOLDS):
            if (fold == f).any():
                weights = fit_relative(self._design[fold != f], self._measured_ms[fold != f])
                predicted[fold == f] = self._design[fold == f] @ weights
        ends = np.cumsum([len(m.genes) for m in self.measurements])[:-1]
        parts = zip(np.split(predicted, ends), self.is_left_out, strict=True)
        return tuple(own[left_out] for own, left_out in parts)

    @cached_property
    def left_out_measured_ms(self) -> tuple[Values, ...]:
        """For each space what the networks of `left_out_ms` took."""
        parts = zip(self.measurements, self.is_left_out, strict=True)
        return tuple(m.latencies_ms[left_out] for m, left_out in parts)

    @cached_property
    def log_ratios(self) -> tuple[Values, ...]:
        """For each space the logarithms of measured over left-out predicted latency."""
        return tuple(
            np.log(measured / np.maximum(predicted, 1e-12))
            for measured, predicted in zip(
                self.left_out_measured_ms, self.left_out_ms, strict=True
            )
        )


def _are_extremes(measurements: Measurements) -> npt.NDArray[np.bool_]:
    """Which networks are the smallest or largest of their space."""
    space = measurements.space
    ends = np.concatenate([space.extremes("smallest"), space.extremes("largest")])
    known = {row.tobytes() for row in np.ascontiguousarray(ends, np.int16)}
    rows = np.ascontiguousarray(measurements.genes, np.int16)
    return np.array([row.tobytes() in known for row in rows], bool)


def _folds(genes: Genes) -> npt.NDArray[np.intp]:
    """The fold of each network; one that was timed twice is left out as one."""
    if not len(genes):
        return np.empty(0, np.intp)
    _, first, group = np.unique(genes, axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[group.ravel()] % FOLDS)


def fit_relative(design: Values, latencies_ms: Values) -> Values:
    """Non-negative least squares on relative errors, with a slight ridge."""
    n, features = design.shape
    used = np.flatnonzero(design.any(axis=0))
    scale = design[:, used].max(axis=0)
    ridge = np.sqrt(RIDGE * n) / np.median(latencies_ms) * np.eye(len(used))
    rows = np.concatenate([design[:, used] / scale / latencies_ms[:, None], ridge])
    wanted = np.concatenate([np.ones(n), np.zeros(len(used))])
    found, _ = nnls(rows, wanted, maxiter=100 * len(used))
    weights = np.zeros(features)
    weights[used] = found / scale
    return weights
