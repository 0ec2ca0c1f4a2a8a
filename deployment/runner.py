"""Runners: files in, raw timings out.

A `Runner` times ONNX files the way a target runs them. All files of a call are open together and
timed in shuffled round-robin, so that drift and load fall on all alike; of each file's samples the
least is the latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from deployment.runtime import open_session
from records import BadInputError


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

    def joined(self, other: Timing) -> Timing:
        """The samples of both, of the same file."""
        ours, theirs = len(self.samples_ms), len(other.samples_ms)
        preempted = (self.preempted * ours + other.preempted * theirs) / (ours + theirs)
        return Timing(
            samples_ms=self.samples_ms + other.samples_ms,
            rounds=self.rounds + other.rounds,
            preempted=preempted,
        )

    def quantile_ms(self, q: float) -> float:
        """A quantile of all samples, load and all."""
        return float(np.quantile(self.samples_ms, q))


MAX_ROUNDS = 100
"""Rounds that a minimum time is filled with at most; pauses fill the rest."""


class Runner(Protocol):
    """Times files on a device; brought by whoever has the device."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    def time(
        self,
        models: Sequence[bytes],
        *,
        threads: int,
        rounds: int = 7,
        runs: int = 3,
        min_seconds: float = 0.0,
        seed: int = 0,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """Times serialised models, each on inputs of its own shape, interleaved.

        Args:
            models: ONNX models with one float32 input of fixed shape.
            threads: Threads inside an operator.
            rounds: Visits to each model, at least.
            runs: Timed runs a visit, after one that is not timed.
            min_seconds: Spreads the visits over at least this time, with further rounds and
                pauses between them, so that a disturbance of a moment does not fall on all.
            seed: Derives the inputs and the order.
            on_round: Called with (rounds done, rounds in all).
        """
        ...


class LocalRunner:
    """Times files in this process with onnxruntime on the CPU."""

    name = "local process, onnxruntime CPU"

    def time(
        self,
        models: Sequence[bytes],
        *,
        threads: int,
        rounds: int = 7,
        runs: int = 3,
        min_seconds: float = 0.0,
        seed: int = 0,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """See `Runner.time`."""
        if rounds < 1 or runs < 1:
            raise BadInputError(f"rounds and runs must be >= 1, got {rounds} and {runs}")
        rng = np.random.default_rng(seed)
        opened = [_Opened(open_session(model, threads), rng) for model in models]
        for model in opened:
            model.run()  # the first run allocates
        began = time.perf_counter()
        done = 0
        while done < rounds or (time.perf_counter() - began < min_seconds and done < MAX_ROUNDS):
            for index in rng.permutation(len(opened)):
                opened[index].visit(runs)
            done += 1
            if on_round is not None:
                on_round(min(done, rounds), rounds)
            late = done * min_seconds / MAX_ROUNDS - (time.perf_counter() - began)
            if late > 0:
                time.sleep(late)
        return [model.timing(done, threads) for model in opened]


class _Opened:
    """An open session with its input and its samples."""

    def __init__(self, session: ort.InferenceSession, rng: np.random.Generator) -> None:
        self.session = session
        entry = session.get_inputs()[0]
        if not all(isinstance(size, int) for size in entry.shape):
            raise BadInputError(f"the input's shape must be fixed to be timed, got {entry.shape}")
        values: npt.NDArray[np.float32] = rng.standard_normal(entry.shape).astype(np.float32)
        self.feed = {entry.name: values}
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def run(self) -> None:
        self.session.run(None, self.feed)

    def visit(self, runs: int) -> None:
        self.run()  # warms the caches after other models' runs
        for _ in range(runs):
            cpu, wall = time.thread_time(), time.perf_counter()
            self.run()
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.thread_time() - cpu)

    def timing(self, rounds: int, threads: int) -> Timing:
        wall, cpu = np.array(self.wall), np.array(self.cpu)
        preempted = float((wall > 1.05 * cpu).mean()) if threads == 1 else float("nan")
        samples = tuple((1e3 * wall).tolist())
        return Timing(samples_ms=samples, rounds=rounds, preempted=preempted)
