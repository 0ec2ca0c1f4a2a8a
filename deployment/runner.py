"""Runners: files in, raw timings out.

A `Runner` times ONNX files the way a target runs them. All files of a call are open together and
timed in shuffled round-robin, so that drift and load fall on all alike; of each file's samples the
least is the latency. The numbers of that procedure are those of `deployment.kit.measure`, the
script that times files on other devices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from deployment.kit.measure import MAX_ROUNDS, PREEMPTED, ROUNDS, RUNS
from deployment.runtime import open_session
from deployment.timing import Timing
from records import BadInputError

__all__ = ["MAX_ROUNDS", "LocalRunner", "Runner", "Timing"]


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
        rounds: int = ROUNDS,
        runs: int = RUNS,
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
        rounds: int = ROUNDS,
        runs: int = RUNS,
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
        preempted = float((wall > PREEMPTED * cpu).mean()) if threads == 1 else float("nan")
        samples = tuple((1e3 * wall).tolist())
        return Timing(samples_ms=samples, rounds=rounds, preempted=preempted)
