"""Which kernel to time next: the one after which the latencies of networks are known best.

The uncertainty of a network is that of its kernels, weighted by their shares of its latency: with
`S` the covariance of the logarithms of kernels' latencies and `w_n` the shares, its relative
variance is `w_n' S w_n`. Timing a file that shows `j' g` with relative noise `s` lowers the sum of
these over random networks by

    sum_n (w_n' S j)^2 / (j' S j + s^2),

whatever the result will be, since a Gaussian's variance does not depend on it. Files are taken
greedily, `S` being updated after each (the A-optimal design of Bayesian regression, Chaloner &
Verdinelli, Statistical Science, 1995).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from deployment.kernel_tables.descriptions import (
    DescribedLowering,
    KernelDescription,
    as_descriptions,
    one_network,
)
from deployment.kernel_tables.files import COPIES, KernelFileError, kernel_network
from hardware_profiles import Target
from latency_models.costs import channel_block
from latency_models.kernel_costs.model import rooflines_ms
from latency_models.kernel_costs.regression import KernelRegression, Rows, Values, covariance
from latency_models.kernel_costs.table import KERNEL, MeasuredKernels, tuple_of
from records import BadInputError
from search_spaces import SearchSpace

logger = logging.getLogger(__name__)

MOST_KERNELS = 1000
"""Of several spaces together, those that matter most; so that a choice takes a fraction of a
second. Others are interpolated."""

MOST_FILES = 1000
"""That a choice is based on."""

SAMPLE = 200
"""Random architectures of each space that the uncertainty is averaged over."""

SHORTLIST = 64
"""Files of the kernels with the most uncertain shares, which are compared exactly."""

UNKNOWN_KIND, LAUNCH_MS = 9.0, 1e-3
"""Of kinds that were never timed: the factor on the prior variance, and the least latency."""

NOISE = 0.02

COPIES_TRIED = (COPIES, 1)
"""Between them a kernel is told from what stands around it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be timed.

    Attributes:
        kernel: What it is about.
        copies: How often it was asked to run.
        kernels: All that runs in it.
    """

    kernel: KernelDescription
    copies: int
    kernels: tuple[KernelDescription, ...]


@dataclass(frozen=True, slots=True)
class Tuned:
    """Length and noise that were found best with so many files."""

    files: int = 0
    length: float = 3.0
    noise: float = NOISE


class Candidates:
    """The kernels of some spaces, how much random architectures use them, and their files.

    Args:
        spaces: The spaces.
        target: What the files are to be timed on.
        rng: Draws the architectures.
    """

    def __init__(
        self, spaces: Sequence[SearchSpace], target: Target, rng: np.random.Generator
    ) -> None:
        self.target = target
        self.block = channel_block(target)
        self.refused: dict[KernelDescription, str] = {}
        self.tuned = Tuned()
        self._lowerings: dict[int, DescribedLowering] = {}
        usage = [self._usage(space, rng) for space in spaces]
        rows = np.concatenate([r for r, _ in usage])
        distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
        counts = np.zeros((sum(len(c) for _, c in usage), len(distinct)))
        start, column = 0, 0
        for r, c in usage:
            places = inverse.ravel()[column : column + len(r)]
            counts[start : start + len(c), places] = c
            start, column = start + len(c), column + len(r)
        share = (counts * self._guess_ms(distinct)).sum(axis=0)
        keep = np.sort(np.argsort(-share, kind="stable")[:MOST_KERNELS])
        self.rows: Rows = distinct[keep]
        """The kernels, `kernels x len(DESCRIPTION)`."""
        self.counts: Values = counts[:, keep]
        """How often each random architecture runs each, `architectures x kernels`."""
        self._files: dict[tuple[KernelDescription, int], Candidate | None] = {}

    @cached_property
    def kernels(self) -> list[KernelDescription]:
        """The kernels, as `rows`."""
        return as_descriptions(self.rows)

    def choose(self, table: MeasuredKernels, files: int, timed: Timed) -> list[Candidate]:
        """The files to time next, at most so many, the most useful first."""
        state = self.state(table)
        candidates = self._shortlist(state, timed)
        if not candidates:
            return []
        rows, place = self._with_surroundings(candidates)
        latency, s = state.joint(rows)
        n = len(self.rows)
        weights = state.shares(latency[:n])
        reach = weights @ s[:n]  # architectures x kernels
        design = np.zeros((len(candidates), len(rows)))
        for i, candidate in enumerate(candidates):
            np.add.at(design[i], [place[k] for k in candidate.kernels], 1.0)
        design = design * latency
        design /= state.base_ms + design.sum(axis=1, keepdims=True)
        chosen: list[Candidate] = []
        free = np.ones(len(candidates), bool)
        projected, across = design @ s, reach @ design.T
        for _ in range(min(files, len(candidates))):
            variance = np.maximum((projected * design).sum(axis=1), 0) + NOISE**2
            gain = np.where(free, (across**2).sum(axis=0) / variance, -1.0)
            best = int(np.argmax(gain))
            chosen.append(candidates[best])
            free[best] = False
            v = projected[best].copy()
            along = design @ v / variance[best]
            across = across - np.outer(across[:, best], along)
            projected = projected - np.outer(along, v)
        return chosen

    def choose_randomly(
        self, files: int, timed: Timed, rng: np.random.Generator
    ) -> list[Candidate]:
        """Files of kernels drawn at random, for comparison."""
        chosen: list[Candidate] = []
        for index in rng.permutation(len(self.kernels)):
            copies = int(rng.choice(COPIES_TRIED))
            kernel = self.kernels[index]
            if (kernel, copies) not in timed and (found := self.file(kernel, copies)):
                chosen.append(found)
            if len(chosen) == files:
                break
        return chosen

    def state(self, table: MeasuredKernels) -> State:
        """What is known so far."""
        return State.of(self, table)

    def file(self, kernel: KernelDescription, copies: int) -> Candidate | None:
        """The file around a kernel; None where none can be built, which is remembered."""
        key = (kernel, copies)
        if kernel in self.refused:
            return None
        if key not in self._files:
            try:
                nodes = kernel_network(kernel, copies)
                kernels = one_network(
                    nodes, batch_size=self.target.batch_size, channel_block=self.block
                )
            except (KernelFileError, BadInputError) as error:
                self.refused[kernel] = str(error)
                logger.warning("%s", error)
                return None
            known = [c for c in self._files.values() if c is not None and c.kernel == kernel]
            same = any(c.kernels == tuple(kernels) for c in known)  # it cannot be repeated
            self._files[key] = None if same else Candidate(kernel, copies, tuple(kernels))
        return self._files[key]

    def lowering(self, space: SearchSpace) -> DescribedLowering:
        """One of the spaces, lowered for the target."""
        if id(space) not in self._lowerings:
            self._lowerings[id(space)] = DescribedLowering.of(
                space, batch_size=self.target.batch_size, channel_block=self.block
            )
        return self._lowerings[id(space)]

    def _usage(self, space: SearchSpace, rng: np.random.Generator) -> tuple[Rows, Values]:
        lowering = self.lowering(space)
        genes = space.sample(SAMPLE, rng)
        place = lowering.description_of_variant[lowering.tabulation.codes(genes)].T
        rows = lowering.descriptions
        counts = np.zeros((len(genes), len(rows) + 1))
        np.add.at(counts, (np.arange(len(genes))[:, None], place), 1.0)
        return rows, counts[:, :-1]  # the last column took those that are absent

    def _guess_ms(self, rows: Rows) -> Values:
        return LAUNCH_MS + rooflines_ms(self.target, rows)

    def _shortlist(self, state: State, timed: Timed) -> list[Candidate]:
        importance = state.importance()
        found: list[Candidate] = []
        around: dict[KernelDescription, None] = {}
        mine = set(self.kernels)
        for index in np.argsort(-importance, kind="stable"):
            if len(found) >= 2 * SHORTLIST or importance[index] <= 0:
                break
            for copies in COPIES_TRIED:
                candidate = self.file(self.kernels[index], copies)
                if candidate is None:
                    continue
                if (candidate.kernel, copies) not in timed:
                    found.append(candidate)
                around.update(dict.fromkeys(k for k in candidate.kernels if k not in mine))
        for kernel in list(around)[: SHORTLIST // 4]:  # what stands around them may be timed too
            for copies in COPIES_TRIED:
                if (kernel, copies) not in timed and (candidate := self.file(kernel, copies)):
                    found.append(candidate)
        return found

    def _with_surroundings(
        self, candidates: Sequence[Candidate]
    ) -> tuple[Rows, dict[KernelDescription, int]]:
        """All kernels that matter, those of the spaces first, and their places."""
        place = {kernel: i for i, kernel in enumerate(self.kernels)}
        for candidate in candidates:
            for kernel in candidate.kernels:
                place.setdefault(kernel, len(place))
        return np.array([tuple_of(k) for k in place], np.int64), place


Timed = set[tuple[KernelDescription, int]]
"""Kernels with the number of copies that files were timed with."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the kernels of some candidates."""

    candidates: Candidates
    regression: KernelRegression | None

    @staticmethod
    def of(candidates: Candidates, table: MeasuredKernels) -> State:
        sums = table.sums(KERNEL, candidates.kernels, MOST_FILES)
        n = len(sums.latencies_ms)
        if n == 0:
            return State(candidates, None)
        if n > 1.5 * candidates.tuned.files:  # length and noise change slowly
            regression = KernelRegression(sums)
            candidates.tuned = Tuned(n, regression.length, regression.noise)
        else:
            tuned = candidates.tuned
            regression = KernelRegression(sums, length=tuned.length, noise=tuned.noise)
        return State(candidates, regression)

    @property
    def base_ms(self) -> float:
        return 10 * LAUNCH_MS if self.regression is None else self.regression.base_ms

    def joint(self, rows: Rows) -> tuple[Values, npt.NDArray[np.float64]]:
        """Latencies of kernels and the covariance of their logarithms."""
        latency = self.candidates._guess_ms(rows)
        if self.regression is None:
            return latency, UNKNOWN_KIND * covariance(rows, rows, 3.0)
        s = self.regression.posterior(rows)
        known = np.isin(rows[:, 0], list(self.regression.kinds))
        factor = np.where(known, 1.0, np.sqrt(UNKNOWN_KIND))
        latency = np.where(known, self.regression.known(rows).latency_ms, latency)
        return latency, factor[:, None] * s * factor

    def shares(self, latency_ms: Values) -> Values:
        """The share of each kernel in each random architecture's latency."""
        parts = self.candidates.counts * latency_ms
        return np.asarray(parts / (self.base_ms + parts.sum(axis=1, keepdims=True)))

    def importance(self) -> Values:
        """For each kernel its mean squared uncertain share of a network."""
        latency, s = self.joint(self.candidates.rows)
        return np.asarray((self.shares(latency) ** 2).mean(axis=0) * np.diag(s))

    def expected_spread(self) -> float:
        """The mean relative uncertainty of a random architecture's latency, before calibration."""
        latency, s = self.joint(self.candidates.rows)
        shares = self.shares(latency)
        variance = ((shares @ s) * shares).sum(axis=1)
        return float(np.sqrt(np.maximum(variance, 0).mean()))
