"""What a machine can do without any engine: plain processes, each pinned to a core.

Each makes the evaluator of `supernet_evaluation` itself and evaluates its share of the rows in
batches, on one thread. They begin together.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection

from experiments.benchmarks.supernet_evaluation import digits_evaluator, worker_evaluator
from search_spaces import Genes


class PinnedProcesses:
    """Processes that live until `close`; use them in a `with` statement.

    Args:
        count: How many; process `i` is pinned to the core `i`, where the system can do that.
    """

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for core in cores(count):
            pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, core), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(pipe)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()  # it is ready

    def rate(self, rows: Genes, batch_size: int, processes: int) -> float:
        """Evaluations a second of the first `processes` of them together, without first batches.

        Args:
            rows: What to evaluate; each process takes every `processes`-th row.
            batch_size: Rows in a call of the evaluator.
            processes: How many take part.
        """
        parts = [rows[i::processes] for i in range(processes)]
        for pipe, part in zip(self._pipes, parts, strict=False):
            pipe.send((part, batch_size))
        taken: list[float] = [pipe.recv() for pipe, _ in zip(self._pipes, parts, strict=False)]
        return sum(
            (len(part) - batch_size) / seconds
            for part, seconds in zip(parts, taken, strict=True)
            if len(part) > batch_size
        )

    def close(self) -> None:
        """Ends the processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with contextlib.suppress(OSError):
                pipe.send(None)
            process.join(10)
            process.kill()

    def __enter__(self) -> PinnedProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cores(count: int) -> list[int]:
    """A core for each of `count` processes, -1 where processes cannot be pinned."""
    if sys.platform != "linux":
        return [-1] * count
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[i % len(allowed)] for i in range(count)]


def _serve(pipe: Connection, core: int) -> None:
    """Evaluates what comes, and tells how long all but the first batch took."""
    if core >= 0 and sys.platform == "linux":
        os.sched_setaffinity(0, {core})
    evaluator = worker_evaluator(digits_evaluator())
    pipe.send("ready")
    while (task := pipe.recv()) is not None:
        rows, batch_size = task
        evaluator.evaluate(rows[:batch_size])
        began = time.perf_counter()
        for start in range(batch_size, len(rows), batch_size):
            evaluator.evaluate(rows[start : start + batch_size])
        pipe.send(time.perf_counter() - began)
