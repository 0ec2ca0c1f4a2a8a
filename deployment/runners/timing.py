"""The raw timings of one file, whoever took them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DISTURBED = 0.5
"""Nine in ten samples of a file lie within this of the least, relative, where nothing disturbs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Raw timings of one file.

    Attributes:
        samples_ms: All samples in milliseconds for one run of the whole batch, in the order taken.
        rounds: How many visits they come from, in equal parts.
        preempted: Share of the samples in which the process was off the processor for more than
            5 % of the time (one thread only; NaN otherwise).
    """

    samples_ms: tuple[float, ...]
    rounds: int
    preempted: float

    @property
    def latency_ms(self) -> float:
        """The least sample: what the file takes when nothing disturbs it."""
        return min(self.samples_ms)

    @property
    def dispersion_ms(self) -> float:
        """Half the difference between the least samples of the first and the second half.

        It says how well the least sample repeats; drift and noise both show in it.
        """
        half = len(self.samples_ms) // 2
        if half == 0:
            return float("nan")
        return abs(min(self.samples_ms[:half]) - min(self.samples_ms[half:])) / 2

    @property
    def spread(self) -> float:
        """How far nine in ten of all samples lie above the least at most, relative."""
        return self.quantile_ms(0.9) / self.latency_ms - 1

    def explains(self, change: float, smallest: float) -> bool:
        """Whether the noise of these samples may be what changed a latency.

        It may where the machine was disturbed and the change is within the spread of the samples,
        or where the least samples of the two halves differ by more than what counts as a change.
        What is larger than all that is no noise.

        Args:
            change: Of the least sample, relative.
            smallest: The smallest change that counts.
        """
        if self.spread > DISTURBED and abs(change) <= self.spread:
            return True
        apart = 2 * self.dispersion_ms / self.latency_ms  # NaN of a single sample: not known
        return apart > smallest and abs(change) <= apart

    def joined(self, other: Timing) -> Timing:
        """The samples of both, of the same file."""
        ours, theirs = len(self.samples_ms), len(other.samples_ms)
        preempted = (self.preempted * ours + other.preempted * theirs) / (ours + theirs)
        return Timing(
            samples_ms=self.samples_ms + other.samples_ms,
            rounds=self.rounds + other.rounds,
            preempted=preempted,
        )

    @property
    def least_by_round_ms(self) -> npt.NDArray[np.float64]:
        """The least sample of every round."""
        rounds = min(self.rounds, len(self.samples_ms))
        runs = len(self.samples_ms) // rounds
        samples = np.array(self.samples_ms[: runs * rounds])
        return np.asarray(samples.reshape(rounds, runs).min(axis=1))

    def quantile_ms(self, q: float) -> float:
        """A quantile of all samples, load and all."""
        return float(np.quantile(self.samples_ms, q))


def noise_floor(timings: Sequence[Timing]) -> float:
    """What repeating changes: how far the least samples of two halves of the rounds differ.

    Even and odd rounds are the halves, so that drift falls on both almost alike. The mean of the
    relative differences of all files; NaN for a single round.

    Args:
        timings: Of files that were timed together, at least one.
    """
    each = [timing.least_by_round_ms for timing in timings]
    rounds = min(len(least) for least in each)
    if rounds < 2:
        return math.nan
    least = np.array([own[:rounds] for own in each]).T  # rounds x files
    even, odd = least[0::2].min(axis=0), least[1::2].min(axis=0)
    return float(np.mean(np.abs(even - odd) / np.minimum(even, odd)))
