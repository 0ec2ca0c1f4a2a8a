"""Drivers and workers that are killed, and evaluators whose values are no numbers."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

from experiments.benchmarks.fault_rows import (
    FaultRow,
    Moment,
    ended,
    finish,
    has_paid,
    random_delays,
    row_of,
    soon,
    uninterrupted,
)
from experiments.benchmarks.faulty_search import FaultySearch

FEW = 3
FIRST = 10
"""How many evaluations workers begin before their driver is killed, so that some are committed."""
_STORM = 0.4


def killed_drivers(folder: Path, kills: int) -> list[FaultRow]:
    """The driver of a search in process, killed again and again.

    Half of the times evaluations take long, so that it dies in one; else they take next to
    nothing, so that it dies while it commits, tells and asks.
    """
    rows = []
    for name, evaluations, seconds, count in (
        ("evaluating", 240, 0.02, kills // 2),
        ("committing", 2000, 0.0, kills - kills // 2),
    ):
        task = FaultySearch(folder=folder / name, evaluations=evaluations, seconds=seconds)
        expected = uninterrupted(folder / f"whole-{name}", evaluations)
        fault = f"kill -9 of the driver, mostly {name}"
        rows.append(killed_driver(fault, task, count, expected))
    return rows


def killed_driver(
    fault: str,
    task: FaultySearch,
    kills: int,
    expected: FaultySearch | None = None,
    *,
    after: int = 1,
) -> FaultRow:
    """Starts a search and kills it at a random moment, again and again; then lets it end.

    Args:
        fault: What the row is called.
        task: The search.
        kills: How often.
        expected: See `row_of`.
        after: How many evaluations it begins each time before it may be killed.
    """
    moments = []
    for delay in random_delays(kills, longest_s=0.4):
        process = task.start()
        if not has_paid(task, after, process):
            break
        process.join(delay)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        moments.append(Moment.of(task))
    finish(task)
    return row_of(fault, task, moments, expected, seen="nothing: it is dead")


def killed_local_workers(folder: Path, kills: int) -> list[FaultRow]:
    """Processes that evaluate, killed in the middle of it; then their driver."""
    task = FaultySearch(
        folder=folder / "workers", evaluations=60, executor="processes", seconds=0.1
    )
    few = min(kills, FEW)
    return [
        killed_workers("kill -9 of a worker, processes", task, few),
        killed_driver(
            "kill -9 of the driver, with processes",
            replace(task, folder=folder / "drivers"),
            few,
            after=FIRST,
        ),
    ]


def killed_workers(fault: str, task: FaultySearch, kills: int) -> FaultRow:
    """Kills whoever began to evaluate last, some times in one search."""
    process = task.start()
    moments: list[Moment] = []
    while len(moments) < kills and has_paid(task, 6, process):
        moments.append(Moment.of(task))
        os.kill(task.payments()[-1][0], signal.SIGKILL)
    process.join()
    return row_of(fault, task, moments)


def nan_storms(folder: Path) -> list[FaultRow]:
    """Accuracies that are no numbers: in process, with workers, in all networks."""
    task = FaultySearch(folder=folder / "storm", evaluations=80, nan_share=_STORM)
    expected = uninterrupted(folder / "whole", task.evaluations, nan_share=_STORM)
    fault = "NaN in 40 % of networks, and kill -9"
    own = killed_driver(fault, task, 1, expected, after=30)
    failed = [o.reason for o in task.committed() if o.status == "failed"]
    pooled = replace(task, folder=folder / "pooled", evaluations=40, executor="processes")
    process = pooled.start()
    soon(lambda: len(pooled.committed()) >= pooled.evaluations // 2 or not process.is_alive())
    moment = Moment.of(pooled)
    process.join()
    count = sum(o.status == "failed" for o in pooled.committed())
    hopeless = replace(task, folder=folder / "hopeless", nan_share=1.0)
    said = ended(hopeless)
    return [
        replace(own, times=len(failed), seen=f"recorded as failed: {failed[0]}"),
        row_of("NaN in 40 % of networks, with processes", pooled, [moment], times=count),
        row_of("NaN in all networks", hopeless, [Moment.of(hopeless)], seen=said, times=16),
    ]
