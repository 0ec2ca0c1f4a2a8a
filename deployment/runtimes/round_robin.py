"""Timing open networks of different runtimes in turns, as `deployment.runners.runner` times files.

All are visited in shuffled rounds, so that drift and load fall on all alike. A visit begins with a
run that is not timed; of each network's samples the least is the latency.

Threads of one runtime may keep spinning after its runs and then slow the next one. With more than
one thread a visit therefore begins with a pause, long enough for them to go to sleep, and with
runs that wake its own; sessions of onnxruntime that spin for longer are open for their visits
alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from deployment.kit.measure import MAX_ROUNDS, PREEMPTED, ROUNDS, RUNS
from deployment.runners.timing import Timing
from deployment.runtimes.runtime import Opened
from records import BadInputError

PAUSE_S = 0.02
"""Before each visit where there are threads; the usual ones spin for a few milliseconds."""

WARM_S = 0.01
"""For so long a network runs untimed at the start of a visit where there are threads: those that
were asleep take several runs to be back on their cores."""

MOST_WARM_RUNS = 100

FEWEST_ROUNDS = 3


def time_in_turns(
    networks: Sequence[Opened],
    *,
    rounds: int = ROUNDS,
    runs: int = RUNS,
    min_seconds: float = 0.0,
    max_seconds: float = math.inf,
    seed: int = 0,
    pause_s: float | None = None,
    on_round: Callable[[int, int], None] | None = None,
) -> list[Timing]:
    """Times open networks, each on random images of its own shape, interleaved.

    Args:
        networks: All with the same number of threads.
        rounds: Visits to each network, at least (but see `max_seconds`).
        runs: Timed runs a visit, after one that is not timed.
        min_seconds: Spreads the visits over at least this time.
        max_seconds: After this time no further round begins, once there are 3.
        seed: Derives the images and the order.
        pause_s: Before each visit; by default none for one thread, else `PAUSE_S`.
        on_round: Called with (rounds done, rounds in all).

    Raises:
        BadInputError: No network, different numbers of threads, no rounds or runs.
    """
    if rounds < 1 or runs < 1:
        raise BadInputError(f"rounds and runs must be >= 1, got {rounds} and {runs}")
    threads = {network.threads for network in networks}
    if len(threads) != 1:
        raise BadInputError(
            "networks that are timed in turns have one number of threads, got "
            f"{sorted(threads) or 'no network'}"
        )
    if pause_s is None:
        pause_s = PAUSE_S if threads != {1} else 0.0
    rng = np.random.default_rng(seed)
    samples = [_Samples(network) for network in networks]
    began, done = time.perf_counter(), 0
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(network.running())
            network.bind(rng.standard_normal(network.shape).astype(np.float32))
            with network.visiting():
                network.run()  # the first run allocates
        while _goes_on(done, time.perf_counter() - began, rounds, min_seconds, max_seconds):
            for index in rng.permutation(len(samples)):
                time.sleep(pause_s)
                samples[index].visit(runs, WARM_S if pause_s else 0.0)
            done += 1
            if on_round is not None:
                on_round(min(done, rounds), rounds)
            late = done * min_seconds / MAX_ROUNDS - (time.perf_counter() - began)
            if late > 0:
                time.sleep(late)
    return [one.timing(done) for one in samples]


def _goes_on(done: int, passed: float, rounds: int, shortest: float, longest: float) -> bool:
    """Whether a further round begins."""
    if passed >= longest and done >= min(rounds, FEWEST_ROUNDS):
        return False
    return done < rounds or (passed < shortest and done < MAX_ROUNDS)


class _Samples:
    """The samples of one open network."""

    def __init__(self, network: Opened) -> None:
        self.network = network
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def visit(self, runs: int, warm_s: float) -> None:
        run = self.network.run
        with self.network.visiting():
            run()  # warms the caches after other networks' runs
            began = time.perf_counter()
            for _ in range(MOST_WARM_RUNS):
                if time.perf_counter() - began >= warm_s:
                    break
                run()
            for _ in range(runs):
                cpu, wall = time.thread_time(), time.perf_counter()
                run()
                self.wall.append(time.perf_counter() - wall)
                self.cpu.append(time.thread_time() - cpu)

    def timing(self, rounds: int) -> Timing:
        wall, cpu = np.array(self.wall), np.array(self.cpu)
        is_seen = self.network.threads == 1 and self.network.in_caller
        preempted = float((wall > PREEMPTED * cpu).mean()) if is_seen else math.nan
        samples = tuple((1e3 * wall).tolist())
        return Timing(samples_ms=samples, rounds=rounds, preempted=preempted)
