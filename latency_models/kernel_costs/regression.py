"""What single kernels take, learned from the latencies of sums of kernels.

Nobody can time a kernel alone as it runs inside a network; what is timed are files whose kernels
are known, and a file's latency is

    y_i = base + sum over kinds that occur of first_kind + sum over kernels k of  n_ik f(x_k),
    log f(x) = log m(x) + g(x),

with `n_ik` how often kernel `k` runs in file `i`. The first kernel of a kind costs more than the
next, since its code is not in the caches yet. The mean `m` is, for every kind of kernel, a
non-negative combination of its work (1, padded MACs, values read and written, weights, scores),
fitted to the same sums on relative errors. What it misses is a Gaussian process `g` over the
logarithms of the kernel's sizes, independent between kinds,

    cov(g(x), g(x')) = c^2 + s^2 exp(-|x - x'|^2 / (2 l^2)) + t^2 [x = x'],

so that what was timed is known as well as it was timed, its neighbours are interpolated, and the
uncertainty grows with the distance in ratios of sizes. Since `f` is an exponential and is seen in
sums, the posterior is found by Gauss-Newton steps: around the present estimate the sums are linear
in `g`, and each step is an ordinary Gaussian process with linear observations (Rasmussen &
Williams, Gaussian Processes for Machine Learning, 2006, sec. 2.7 and 3.4). `l` and the noise are
those of greatest marginal likelihood among a few.

nn-Meter (Zhang et al., MobiSys 2021) learns random forests from single kernels instead; they give
no uncertainty and cannot learn from sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls
from scipy.sparse import csr_array

from deployment.kernel_tables.descriptions import DESCRIPTION
from deployment.kernel_tables.rows import KINDS
from records import BadInputError

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
"""Descriptions of kernels, an array `kernels x len(DESCRIPTION)`."""

WORK = ("padded_macs", "read_elements", "write_elements", "weight_elements", "score_elements")
SIZES = (
    "padded_macs", "read_elements", "write_elements", "weight_elements", "in_channels", "channels",
    "height", "kernel", "stride", "groups", "heads", "qk_dim", "window", "score_elements",
)  # fmt: skip
"""Whose logarithms say how near kernels are to each other."""

FLAGS = ("activation", "has_sum", "inputs", "reads_plain", "writes_plain", "operator", "mixing")
"""Kernels that differ in one of these are a step of `FLAG_STEP` apart."""

FLAG_STEP = 1.0
RIDGE = 1e-4
FIRST_RIDGE = 5.0
"""What every file holds once is rather a part of the base than of a kind."""

CONSTANT, SMOOTH, OWN = 0.3, 0.25, 0.03
"""Standard deviations of `g`, as ratios: of a kind as a whole, along sizes, of a kernel alone."""

LENGTHS = (1.5, 3.0, 6.0)
NOISES = (0.005, 0.01, 0.02, 0.04)
"""Lengths in powers of two of sizes, and relative noises of a latency, that are tried."""

STEPS = 4
MOST_SUMS = 2000
TUNED_ON = 400
"""Files that are learned from, and those that length and noise are chosen with, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Timed files.

    Attributes:
        rows: The distinct kernels that run in them.
        counts: How often each kernel runs in each file, `files x kernels`.
        latencies_ms: Of the files, positive.
    """

    rows: Rows
    counts: csr_array
    latencies_ms: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the latencies of kernels.

    Attributes:
        latency_ms: The estimates, geometric means.
        spread: Standard deviations of their logarithms: 0.1 is about 10 %.
    """

    latency_ms: Values
    spread: Values


class KernelRegression:
    """Latencies of kernels from timed sums; see the module.

    Args:
        sums: The timed files, at least one.
        length: Of the process, in powers of two; chosen by likelihood unless given.
        noise: Relative noise of a file's latency; likewise.
    """

    def __init__(
        self, sums: Sums, *, length: float | None = None, noise: float | None = None
    ) -> None:
        if len(sums.latencies_ms) == 0:
            raise BadInputError("nothing was timed: give at least one file")
        self.sums = sums
        self._counts = csr_array(sums.counts)
        weights = _mean_fit(sums.rows, self._counts, sums.latencies_ms)
        self.base_ms = float(weights[0])
        self.first_ms: Values = weights[1 : 1 + len(KINDS)]
        self._weights = weights[1 + len(KINDS) :].reshape(len(KINDS), len(WORK) + 1)
        self._fixed = self.base_ms + _occurs(sums.rows, self._counts) @ self.first_ms
        self.kinds = frozenset(int(k) for k in np.unique(sums.rows[:, _KIND]))
        """Kinds that occur in a timed file; of others nothing is known."""
        self._mean = self.mean_ms(sums.rows)
        length, noise = self._tuned(length, noise)
        self.length, self.noise = length, noise
        self._solve()

    def _tuned(self, length: float | None, noise: float | None) -> tuple[float, float]:
        """Length and noise of greatest likelihood, where they are not given."""
        tried = [
            (one, other)
            for one in (LENGTHS if length is None else (length,))
            for other in (NOISES if noise is None else (noise,))
        ]
        if len(tried) == 1:
            return tried[0]
        some = self.sums
        if len(some.latencies_ms) > TUNED_ON:  # every so many of them tell as well as all
            step = -(-len(some.latencies_ms) // TUNED_ON)
            few = Sums(
                rows=some.rows,
                counts=csr_array(self._counts[::step]),
                latencies_ms=some.latencies_ms[::step],
            )
            tuned = KernelRegression(few, length=length, noise=noise)
            return tuned.length, tuned.noise
        likelihoods = [self._step(np.zeros(len(self._mean)), *pair)[2] for pair in tried]
        return tried[int(np.argmax(likelihoods))]

    def mean_ms(self, rows: Rows) -> Values:
        """The formula's latencies, without what the process adds."""
        work = _work(rows)
        return np.asarray(np.maximum((work * self._weights[rows[:, _KIND]]).sum(axis=1), LEAST_MS))

    def known(self, rows: Rows, chunk: int = 2048) -> Known:
        """Estimates with their uncertainty for kernels, `kernels x len(DESCRIPTION)`."""
        mean, spread = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            cross = self._covariance(rows[part], self.sums.rows)
            shift = cross @ self._alpha
            reach = cross @ self._design.T
            explained = (reach * cho_solve(self._factor, reach.T).T).sum(axis=1)
            prior = CONSTANT**2 + SMOOTH**2 + OWN**2
            mean[part] = self.mean_ms(rows[part]) * np.exp(shift)
            spread[part] = np.sqrt(np.maximum(prior - explained, 1e-8))
        return Known(latency_ms=mean, spread=spread)

    def posterior(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The joint covariance of the logarithms of kernels' latencies, `kernels x kernels`."""
        reach = self._covariance(rows, self.sums.rows) @ self._design.T
        explained = reach @ cho_solve(self._factor, reach.T)
        return np.asarray(self._covariance(rows, rows) - explained)

    def _covariance(self, rows: Rows, others: Rows) -> npt.NDArray[np.float64]:
        return covariance(rows, others, self.length)

    def _solve(self) -> None:
        g = np.zeros(len(self._mean))
        for _ in range(STEPS):
            g, self._alpha, _ = self._step(g, self.length, self.noise)

    def _step(self, g: Values, length: float, noise: float) -> tuple[Values, Values, float]:
        """One Gauss-Newton step: the new `g`, its weights, and the log likelihood."""
        y = self.sums.latencies_ms
        latency = self._mean * np.exp(g)
        predicted = self._fixed + self._counts @ latency
        # relative errors, linear around g:  (y - predicted) / y + J g = J g_new + noise
        design = csr_array(self._counts.multiply(latency[None, :]).multiply(1 / y[:, None]))
        target = (y - predicted) / y + design @ g
        prior = covariance(self.sums.rows, self.sums.rows, length)
        inner = design @ (design @ prior).T
        inner[np.diag_indices_from(inner)] += noise**2
        factor = cho_factor(inner, lower=True)
        solved = cho_solve(factor, target)
        alpha = design.T @ solved
        likelihood = -0.5 * target @ solved - np.log(np.diag(factor[0])).sum()
        self._design, self._factor = design, factor
        step = prior @ alpha
        return np.clip(step, g - 1, g + 1), np.asarray(alpha), float(likelihood)


LEAST_MS = 1e-6

_COLUMN = {name: place for place, name in enumerate(DESCRIPTION)}
_KIND = _COLUMN["kind"]


def covariance(rows: Rows, others: Rows, length: float) -> npt.NDArray[np.float64]:
    """The prior covariance of `g` between kernels."""
    a, b = _points(rows) / length, _points(others) / length
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    squared = np.maximum(squared, 0)
    same_kind = rows[:, _KIND, None] == others[None, :, _KIND]
    own = OWN**2 * (squared < 1e-9)
    return np.asarray(same_kind * (CONSTANT**2 + SMOOTH**2 * np.exp(-0.5 * squared) + own))


def _points(rows: Rows) -> Values:
    """Kernels as points: logarithms of sizes, and flags."""
    sizes = [np.log2(1.0 + rows[:, _COLUMN[name]]) for name in SIZES]
    parts = [np.stack(sizes, axis=1)]
    for name in FLAGS:
        values = rows[:, _COLUMN[name]]
        parts.append(FLAG_STEP * (values[:, None] == np.arange(32)[None]))
    return np.concatenate(parts, axis=1)


def _work(rows: Rows) -> Values:
    columns = [np.ones(len(rows)), *(rows[:, _COLUMN[name]] for name in WORK)]
    return np.stack(columns, axis=1).astype(np.float64)


def _mean_fit(rows: Rows, counts: csr_array, latencies_ms: Values) -> Values:
    """Base, first kernels of kinds, weights of each kind's work: non-negative, relative errors."""
    work = _work(rows)
    blocks = [counts @ (work * (rows[:, _KIND] == kind)[:, None]) for kind in range(len(KINDS))]
    ones = np.ones((len(latencies_ms), 1))
    design = np.concatenate([ones, _occurs(rows, counts), *blocks], axis=1)
    n, features = design.shape
    scale = np.maximum(design.max(axis=0), 1e-30)
    weight = np.ones(features)
    weight[1 : 1 + len(KINDS)] = FIRST_RIDGE
    ridge = np.sqrt(RIDGE * n) / np.median(latencies_ms) * np.diag(weight)
    stacked = np.concatenate([design / scale / latencies_ms[:, None], ridge])
    weights, _ = nnls(stacked, np.concatenate([np.ones(n), np.zeros(features)]))
    return np.asarray(weights / scale)


def _occurs(rows: Rows, counts: csr_array) -> Values:
    """For each file which kinds occur in it, `files x kinds` of 0 and 1."""
    of_kind = rows[:, _KIND, None] == np.arange(len(KINDS))[None]
    return np.asarray((counts @ of_kind.astype(np.float64)) > 0, np.float64)


def sums_of(files: Sequence[Sequence[Sequence[int]]], latencies_ms: npt.ArrayLike) -> Sums:
    """Timed files, each a list of descriptions of its kernels."""
    place: dict[tuple[int, ...], int] = {}
    entries: list[tuple[int, int]] = []
    for i, kernels in enumerate(files):
        for kernel in kernels:
            entries.append((i, place.setdefault(tuple(kernel), len(place))))
    index = np.array(entries, np.int64).reshape(-1, 2)
    counts = csr_array(
        (np.ones(len(index)), (index[:, 0], index[:, 1])), shape=(len(files), len(place))
    )
    counts.sum_duplicates()
    rows = np.array(list(place), np.int64).reshape(-1, len(DESCRIPTION))
    return Sums(rows=rows, counts=counts, latencies_ms=np.asarray(latencies_ms, np.float64))
