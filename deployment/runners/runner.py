"""Runners: files in, raw timings out.

A `Runner` times ONNX files the way a target runs them. All files of a call are open together and
timed in shuffled round-robin, so that drift and load fall on all alike; of each file's samples the
least is the latency. The numbers of that procedure are those of `deployment.kit.measure`, the
script that times files on other devices.

Sessions whose threads sleep between runs do not disturb each other. One whose threads spin takes
the processor from all others, which then read two to three times too slow; so such a file is
opened for its visit alone, in the same shuffled rounds, and closed after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from deployment.kit.measure import (
    MAX_ROUNDS,
    PREEMPTED,
    ROUNDS,
    RUNS,
    WARM_RUNS,
    WARM_S,
)
from deployment.runners.timing import Timing
from deployment.runtime import open_session, random_input
from deployment.session_settings import SessionSettings
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
        settings: Sequence[SessionSettings] | None = None,
        rounds: int = ROUNDS,
        runs: int = RUNS,
        min_seconds: float = 0.0,
        seed: int = 0,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """Times serialised models, each on inputs of its own shape, interleaved.

        Args:
            models: ONNX models with one input of fixed shape, of floats or of bytes.
            threads: Threads inside an operator, where a model's settings do not say.
            settings: How each model is opened; the defaults for all unless told. The runner need
                not take them where they are not given.
            rounds: Visits to each model, at least.
            runs: Timed runs a visit, after one that is not timed.
            min_seconds: Spreads the visits over at least this time, with further rounds and
                pauses between them, so that a disturbance of a moment does not fall on all.
            seed: Derives the inputs and the order.
            on_round: Called with (rounds done, rounds in all).
        """
        ...


class LocalRunner:
    """Times files in this process with onnxruntime, on the CPU unless their settings say other."""

    name = "local process, onnxruntime CPU"

    def time(
        self,
        models: Sequence[bytes],
        *,
        threads: int,
        settings: Sequence[SessionSettings] | None = None,
        rounds: int = ROUNDS,
        runs: int = RUNS,
        min_seconds: float = 0.0,
        seed: int = 0,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """See `Runner.time`.

        Files whose settings let threads spin are opened for each visit and closed after it.
        """
        if rounds < 1 or runs < 1:
            raise BadInputError(f"rounds and runs must be >= 1, got {rounds} and {runs}")
        rng = np.random.default_rng(seed)
        opened = [
            _Model(model, threads, how, rng)
            for model, how in zip(models, settings_of_each(models, settings), strict=True)
        ]
        for one in opened:
            one.open()
        began = time.perf_counter()
        done, has_slept = 0, False
        while done < rounds or (time.perf_counter() - began < min_seconds and done < MAX_ROUNDS):
            order = rng.permutation(len(opened))
            if has_slept:
                opened[order[0]].warm()
            for index in order:
                opened[index].visit(runs)
            done += 1
            if on_round is not None:
                on_round(min(done, rounds), rounds)
            late = done * min_seconds / MAX_ROUNDS - (time.perf_counter() - began)
            has_slept = late > 0
            if has_slept:
                time.sleep(late)
        return [one.timing(done) for one in opened]


def settings_of_each(
    models: Sequence[bytes], settings: Sequence[SessionSettings] | None
) -> Sequence[SessionSettings]:
    """The settings of every model, the defaults where none are given.

    Raises:
        BadInputError: Another number of settings than of models.
    """
    if settings is None:
        return [SessionSettings()] * len(models)
    if len(settings) != len(models):
        raise BadInputError(
            f"settings must be one for each model, got {len(settings)} for {len(models)} models"
        )
    return settings


class _Model:
    """A file with its input and its samples; open all the time, or for its visits alone."""

    def __init__(
        self, model: bytes, threads: int, settings: SessionSettings, rng: np.random.Generator
    ) -> None:
        self.model = model
        self.settings = settings
        self.threads = settings.threads_of(threads)
        self.is_alone = settings.must_be_alone(threads)
        self.rng = rng
        self.session: ort.InferenceSession | None = None
        self.feed: dict[str, npt.NDArray[Any]] = {}
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def open(self) -> None:
        """Opens it for the first time; one that must be alone is closed again."""
        session = self._opened()
        entry = session.get_inputs()[0]
        self.feed = {entry.name: random_input(entry, self.rng)}
        session.run(None, self.feed)  # the first run allocates
        self.session = None if self.is_alone else session

    def _opened(self) -> ort.InferenceSession:
        return open_session(self.model, self.threads, self.settings)

    def warm(self) -> None:
        """Runs until the processor is awake again, where the file is open."""
        awake = time.perf_counter() + WARM_S
        while self.session is not None and time.perf_counter() < awake:
            self.session.run(None, self.feed)

    def visit(self, runs: int) -> None:
        session = self.session
        if session is None:
            session = self._opened()
            for _ in range(WARM_RUNS):
                session.run(None, self.feed)
        session.run(None, self.feed)  # warms the caches after other models' runs
        for _ in range(runs):
            cpu, wall = time.thread_time(), time.perf_counter()
            session.run(None, self.feed)
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.thread_time() - cpu)

    def timing(self, rounds: int) -> Timing:
        wall, cpu = np.array(self.wall), np.array(self.cpu)
        is_known = self.threads == 1 and self.settings.provider == "cpu"
        preempted = float((wall > PREEMPTED * cpu).mean()) if is_known else float("nan")
        samples = tuple((1e3 * wall).tolist())
        return Timing(samples_ms=samples, rounds=rounds, preempted=preempted)
