"""How fast this machine computes and moves data: the two numbers of a roofline, measured.

Compute is the best rate of a square fp32 matrix product (2 n^3 operations) through the BLAS that
numpy uses. Main memory is a copy (bytes read + bytes written, without the read that a write to
uncached memory costs, as STREAM counts it). A cache is read over and over by a reduction; its time
includes numpy's share, so a cache's bandwidth is a lower bound.

Each is the best of several rounds: noise only ever makes a round slower. One thread and all
threads take turns, so that a busy moment does not hit only one of them.

References:
    Williams et al., Roofline: an insightful visual performance model, CACM 2009.
    McCalpin, Memory bandwidth and machine balance in current high performance computers, 1995.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import threadpoolctl

_GEMM_SIZES = (512, 768, 1024)
_MIN_ROUNDS = 2
_CACHE_TRAFFIC_BYTES = 32 << 20  # a call of about a millisecond, far above starting it
_COPY_BYTES = (64 << 20, 256 << 20)  # smallest and largest array that stands for main memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The best rate with one thread and with all, in GFLOP/s or GB/s."""

    one_thread: float
    all_threads: float


def gemm_gflops(*, threads: int, seconds: float, seed: int = 0) -> Rates:
    """Measures fp32 matrix products with one thread and with `threads`.

    Args:
        threads: How many threads count as all.
        seconds: About how long; a slow machine takes longer, for at least two rounds.
        seed: Of the matrices' random entries, which do not change the speed.
    """
    random = np.random.default_rng(seed)
    largest = _GEMM_SIZES[-1]
    left = random.standard_normal((largest, largest), dtype=np.float32)
    right = random.standard_normal((largest, largest), dtype=np.float32)

    def run(size: int, limit: int) -> float:
        a, b = left[:size, :size].copy(), right[:size, :size].copy()
        out = np.empty((size, size), dtype=np.float32)
        with threadpoolctl.threadpool_limits(limits=limit, user_api="blas"):
            np.matmul(a, b, out=out)
            start = time.perf_counter()
            np.matmul(a, b, out=out)
            return 2e-9 * size**3 / (time.perf_counter() - start)

    sizes = iter(_GEMM_SIZES * 1000)
    return _best_in_turns(
        lambda limit, size: run(size, limit), threads, seconds, lambda: next(sizes)
    )


def cache_gbps(cache_bytes: int, *, threads: int, seconds: float, sharers: int = 1) -> Rates:
    """Measures how fast a cache is read, with one thread and with `threads`.

    Args:
        cache_bytes: The cache's size; half of it is read over and over.
        threads: How many threads count as all.
        seconds: About how long.
        sharers: How many of the threads share one such cache, so that each reads its part.
    """
    entries = max(cache_bytes // 2 // min(sharers, threads) // 4, 256)
    repeats = max(_CACHE_TRAFFIC_BYTES // (4 * entries), 1)
    views, outs = [], []
    for _ in range(threads):
        array = np.arange(entries, dtype=np.int32)
        # (repeats, entries), all rows the same memory: one call reads the array many times.
        views.append(np.lib.stride_tricks.as_strided(array, (repeats, entries), (0, 4)))
        outs.append(np.empty(repeats, dtype=np.int32))

    def task(i: int) -> None:
        np.maximum.reduce(views[i], axis=1, out=outs[i])

    return _threaded_gbps(task, 4 * entries * repeats, threads, seconds)


def copy_gbps(*, last_cache_bytes: int, threads: int, seconds: float) -> Rates:
    """Measures a copy in main memory, with one thread and with `threads`.

    Args:
        last_cache_bytes: The last cache's size, 0 if unknown; the arrays are four times as large,
            between 64 and 256 MB (on a machine with more cache part of them stays in it).
        threads: How many threads count as all.
        seconds: About how long.
    """
    size = min(max(4 * last_cache_bytes, _COPY_BYTES[0]), _COPY_BYTES[1])
    source = np.ones(size // 4, dtype=np.float32)
    target = np.zeros_like(source)
    target[:] = source  # touches every page, so that none is first touched while timed
    parts: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = list(
        zip(np.array_split(source, threads), np.array_split(target, threads), strict=True)
    )

    def task(i: int) -> None:
        np.copyto(parts[i][1], parts[i][0])

    return _threaded_gbps(task, 2 * parts[0][0].nbytes, threads, seconds)


def _threaded_gbps(
    task: Callable[[int], None], bytes_per_task: int, threads: int, seconds: float
) -> Rates:
    """Times task 0 alone and tasks 0 to `threads - 1` at once; numpy frees the interpreter."""
    with ThreadPoolExecutor(max_workers=threads) as pool:

        def run(limit: int, _: int) -> float:
            start = time.perf_counter()
            if limit == 1:
                task(0)
            else:
                list(pool.map(task, range(limit)))
            return 1e-9 * bytes_per_task * limit / (time.perf_counter() - start)

        return _best_in_turns(run, threads, seconds, lambda: 0)


def _best_in_turns(
    run: Callable[[int, int], float], threads: int, seconds: float, size: Callable[[], int]
) -> Rates:
    """Runs with one thread and with all in turns until the time is up; returns the best rates.

    One thread is one way to use the machine, so all threads are never reported below it.
    """
    best = {1: 0.0, threads: 0.0}
    deadline = time.perf_counter() + seconds
    rounds = 0
    while rounds < _MIN_ROUNDS or (rounds < 1000 and time.perf_counter() < deadline):
        this_size = size()
        for limit in best:
            best[limit] = max(best[limit], run(limit, this_size))
        rounds += 1
    return Rates(one_thread=best[1], all_threads=max(best.values()))
