"""Timing the networks of a calibration, for as long as it needs to repeat.

Networks are timed together in shuffled rounds and the least sample of each counts. Another program
on the machine, or on the same processor of its host, can slow a part of the samples by half; where
some networks were never seen undisturbed, the fit takes the disturbance for a property of theirs
and its interval is wide. So the least samples of even and odd rounds are compared
(`deployment.noise_floor`): while they differ by more than `MAX_NOISE`, everything is timed again
and the samples are put together, within the budget. All networks are treated alike, so that those
left out of a fit stay exchangeable with the next one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from deployment import Runner, Timing, noise_floor
from hardware_profiles import Target
from latency_models.calibration_file import CalibrationFile
from latency_models.kernel_fit import MIN_NETWORKS
from search_spaces import Genes, SearchSpace

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

MIN_ROUNDS, MAX_ROUNDS = 7, 25
ROUNDS_A_PASS = 5
"""With a file, so many rounds are timed before what is known is written."""
MIN_SECONDS = 2.5
"""Over how long a timing is spread at least."""
MAX_NOISE = 0.015
"""Above it a timing is repeated; a quiet machine stays below 1 %."""
MOST_REPEATS = 3


def time_models(
    runner: Runner,
    models: list[bytes],
    target: Target,
    seed: int,
    budget_s: float,
    on_progress: Progress | None = None,
) -> list[Timing]:
    """Times models with as many rounds as the budget allows, at least 7 and at most 25.

    While their least samples do not repeat, and the budget lasts, they are timed again, at most
    three times.
    """
    began = time.perf_counter()
    rounds = rounds_within(runner, models, target, seed, budget_s)
    timings: list[Timing] = []
    for repeat in range(1 + MOST_REPEATS):
        start = time.perf_counter()
        found = runner.time(
            models,
            threads=target.threads,
            rounds=rounds,
            min_seconds=min(MIN_SECONDS, budget_s),
            seed=seed + repeat,
            on_round=None if on_progress is None else lambda i, n: on_progress("timing", i, n),
        )
        timings = [a.joined(b) for a, b in zip(timings, found, strict=True)] if timings else found
        now = time.perf_counter()
        if is_repeatable(timings) or now - began + (now - start) > budget_s:
            break
    return timings


def time_in_passes(
    runner: Runner,
    models: list[bytes],
    rows: Sequence[tuple[SearchSpace, Genes]],
    target: Target,
    seed: int,
    budget_s: float,
    on_progress: Progress | None,
    file: CalibrationFile,
) -> tuple[Timing, ...]:
    """Times pass by pass and writes after each, going on where the file ends.

    Further passes follow as in `time_models`. A file that holds the rounds it asks for is
    complete, so that those are not made up for when it is read again.
    """
    began = time.perf_counter()
    if file.rows is None:
        file.start(rows, rounds_within(runner, models, target, seed, budget_s))

    def one_pass(rounds: int) -> float:
        start, done = time.perf_counter(), file.rounds_done
        file.append(
            runner.time(
                models,
                threads=target.threads,
                rounds=rounds,
                min_seconds=min(MIN_SECONDS, budget_s) * rounds / file.rounds,
                seed=seed + done,
            )
        )
        if on_progress is not None:
            on_progress("timing", min(file.rounds_done, file.rounds), file.rounds)
        return time.perf_counter() - start

    took = 0.0
    while not file.is_complete:
        took = one_pass(min(ROUNDS_A_PASS, file.rounds - file.rounds_done))
    while (
        not is_repeatable(file.timings)
        and file.rounds_done < (1 + MOST_REPEATS) * file.rounds
        and time.perf_counter() - began + took <= budget_s
    ):
        took = one_pass(min(ROUNDS_A_PASS, file.rounds))
    return file.timings


def is_repeatable(timings: Sequence[Timing]) -> bool:
    """Whether the least samples repeat; what cannot be told, of a single round, does."""
    noise = noise_floor(timings)
    if noise > MAX_NOISE:
        logger.info("the least samples differ by %.1f %% when repeated", 100 * noise)
    return not noise > MAX_NOISE


def rounds_within(
    runner: Runner, models: list[bytes], target: Target, seed: int, budget_s: float
) -> int:
    """How many rounds the budget allows, from one round of ten networks."""
    start = time.perf_counter()
    runner.time(models[:MIN_NETWORKS], threads=target.threads, rounds=1, seed=seed)
    per_round = (time.perf_counter() - start) * len(models) / min(len(models), MIN_NETWORKS)
    return int(np.clip(budget_s / max(per_round, 1e-6), MIN_ROUNDS, MAX_ROUNDS))
