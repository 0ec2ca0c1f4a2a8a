"""What executors cost on this machine: evaluations a second, overhead, time to the first result.

Whole searches (loop, SQLite ledger, executor) of the quickstart's hybrid space on digits.

- Evaluations a second of a real supernet evaluation with 1 and 2 workers, one thread each: Ray's
  actors and local processes, beside plain processes without any engine, each pinned to a core,
  which evaluate the same rows by the same evaluator in the same batches. A search's rate is the
  sum over its workers of (rows - first batch) / (last result - first result), so that neither
  start nor end count; rows are of about the same size.
- Overhead: the time of an evaluation by an evaluator that does nothing, with one worker, at
  batches of 1 and of 32 rows, from the first result to the last.
- From the call of `search` to its first result, with the supernet. Ray runs already; its own
  start is told apart.

All take turns; of several rounds the best and the median are told.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.harness import benchmark_main, show
from experiments.benchmarks.idle_evaluator import IdleEvaluator
from experiments.benchmarks.pinned_processes import PinnedProcesses
from experiments.benchmarks.ray_here import ray_of_its_own
from experiments.benchmarks.supernet_evaluation import digits_evaluator
from hardware_profiles import local_target
from latency_models import RooflineCostModel
from records import Ledger
from search_spaces import Genes
from strategies import (
    Executor,
    Feasibility,
    InProcess,
    LocalProcesses,
    Problem,
    RandomSearch,
    RayWorkers,
    check_feasible,
    search,
)
from strategies.protocols import Evaluator
from strategies.result import Progress

POOLS: Mapping[str, Callable[..., Executor]] = {"Ray": RayWorkers, "processes": LocalProcesses}
WORKERS = (1, 2)
BATCHES = {1: 5.0, 32: 0.5}
"""Rows in a batch, and how many milliseconds an evaluation may cost then."""


@dataclass(slots=True)
class Arrivals:
    """When results came, by worker.

    Attributes:
        began: When the search was called.
        counts: By worker how many results had come each time that some came.
        times: By worker when that was.
    """

    began: float = field(default_factory=time.perf_counter)
    counts: dict[str, list[int]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)

    def note(self, progress: Progress) -> None:
        """Takes in what a search tells."""
        now = time.perf_counter()
        for worker, count in progress.by_worker.items():
            counts = self.counts.setdefault(worker, [])
            if not counts or counts[-1] < count:
                counts.append(count)
                self.times.setdefault(worker, []).append(now)

    @property
    def first_s(self) -> float:
        """From the call of the search to its first result."""
        return min(times[0] for times in self.times.values()) - self.began

    @property
    def rate(self) -> float:
        """Results a second, all workers together, each from its first to its last."""
        return sum(
            (counts[-1] - counts[0]) / (times[-1] - times[0])
            for counts, times in zip(self.counts.values(), self.times.values(), strict=True)
            if len(counts) > 1
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """What all searches share."""

    evaluator: Evaluator
    costs: RooflineCostModel
    feasibility: Feasibility
    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Bench:
        """The quickstart's space; the local machine's roofline stands for a device."""
        evaluator = digits_evaluator()
        space = evaluator.supernet.space
        costs = RooflineCostModel(space, local_target())
        return cls(evaluator, costs, check_feasible(Problem(space, evaluator, [costs])), folder)

    def search(self, evaluator: Evaluator, executor: Executor, rows: Genes) -> Arrivals:
        """Has rows evaluated by a whole search, with a ledger on the disk."""
        problem = Problem(self.costs.space, evaluator, [self.costs])
        path = self.folder / "run.sqlite"
        path.unlink(missing_ok=True)
        with Ledger.create(path, {}) as ledger:
            arrivals = Arrivals()
            search(
                problem,
                evaluations=len(rows),
                strategy=RandomSearch(problem.space),
                initial=rows,
                executor=executor,
                ledger=ledger,
                feasibility=self.feasibility,
                on_progress=arrivals.note,
            )
        return arrivals


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints everything."""
    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        bench = Bench.made(Path(folder))
        began = time.perf_counter()
        with ray_of_its_own(max(WORKERS)):
            started = time.perf_counter() - began
            figures: dict[str, Any] = {"start of Ray, s": started}
            figures |= supernet_rates(bench, arguments.rows, arguments.rounds)
            figures["overhead, ms"] = overheads(bench, arguments.rounds, arguments.idle_rows)
    return figures


# ---- a real evaluation -------------------------------------------------------------------------


def supernet_rates(bench: Bench, count: int, rounds: int) -> dict[str, Any]:
    """Evaluations a second and the time to the first, of every executor and of plain processes."""
    rows = similar_rows(bench, max(WORKERS) * count)
    rates: dict[tuple[str, int], list[float]] = {}
    firsts: dict[tuple[str, int], list[float]] = {}
    with PinnedProcesses(max(WORKERS)) as plain:
        plain.rate(rows[:4], 2, max(WORKERS))  # warms up
        for _ in range(rounds):
            for workers in WORKERS:
                own = rows[: workers * count]
                rates.setdefault(("no engine, pinned", workers), []).append(
                    plain.rate(own, 2, workers)
                )
                for name, make in POOLS.items():
                    arrivals = bench.search(bench.evaluator, make(workers=workers), own)
                    rates.setdefault((name, workers), []).append(arrivals.rate)
                    firsts.setdefault((name, workers), []).append(arrivals.first_s)
    table = rate_rows(rates, firsts)
    show(
        "evaluations a second of a supernet, whole searches; batches of 2",
        ["", "workers", "best", "median", "share of no engine", "first result after, s"],
        [list(row.values()) for row in table],
    )
    return {
        "rates": [{"executor": k[0], "workers": k[1], "rates": v} for k, v in rates.items()],
        "first results, s": [
            {"executor": k[0], "workers": k[1], "seconds": v} for k, v in firsts.items()
        ],
    }


def similar_rows(bench: Bench, count: int) -> Genes:
    """Distinct networks of about the same size: the middle of many, in random order."""
    space = bench.costs.space
    rng = np.random.default_rng(0)
    rows = np.unique(space.sample(20 * count, rng, "architectures"), axis=0)
    order = np.argsort(space.layer_table(rows).macs, kind="stable")
    begin = (len(rows) - count) // 2
    return np.asarray(rows[rng.permutation(order[begin : begin + count])])


def rate_rows(
    rates: Mapping[tuple[str, int], list[float]], firsts: Mapping[tuple[str, int], list[float]]
) -> list[dict[str, str]]:
    """The table: what stands first for a number of workers is what the others are compared to.

    Shares are of the best of each, and of the medians; the median of the ratios of each round
    would compare neighbours in time, but an executor starts between them.
    """
    rows = []
    ceilings: dict[int, list[float]] = {}
    for (name, workers), found in sorted(rates.items(), key=lambda item: item[0][1]):
        ceiling = ceilings.setdefault(workers, found)
        best, middle = (
            f"{100 * of(found) / of(ceiling):.1f} %" for of in (max, statistics.median)
        )
        seconds = firsts.get((name, workers))
        rows.append(
            {
                "name": name,
                "workers": str(workers),
                "best": f"{max(found):.2f}",
                "median": f"{statistics.median(found):.2f}",
                "share": "" if found is ceiling else f"{best} (medians {middle})",
                "first": f"{min(seconds):.1f}" if seconds else "",
            }
        )
    return rows


# ---- overhead ----------------------------------------------------------------------------------


def overheads(bench: Bench, rounds: int, count: int) -> list[dict[str, Any]]:
    """Milliseconds that an evaluation costs beyond itself, by executor and batch."""
    idle = IdleEvaluator()
    executors: dict[str, Callable[[int], Executor]] = {
        "Ray": lambda size: RayWorkers(workers=1, batch_size=size),
        "processes": lambda size: LocalProcesses(workers=1, batch_size=size),
        "in process": lambda size: InProcess(batch_size=size),
    }
    found: dict[tuple[str, int], list[float]] = {}
    rng = np.random.default_rng(1)
    space = bench.costs.space
    for _ in range(rounds):
        for size in BATCHES:
            wanted = count * (1 if size == 1 else 8)
            rows = np.unique(space.sample(2 * wanted, rng, "architectures"), axis=0)
            for name, make in executors.items():
                arrivals = bench.search(idle, make(size), rng.permutation(rows)[:wanted])
                found.setdefault((name, size), []).append(1000 / arrivals.rate)
    show(
        "overhead of an evaluation in ms: loop, ledger, executor, one worker",
        ["", "rows in a batch", "best", "median", "at most, Ray"],
        [
            [name, size, f"{min(ms):.3f}", f"{statistics.median(ms):.3f}", BATCHES[size]]
            for (name, size), ms in found.items()
        ],
    )
    return [{"executor": k[0], "batch": k[1], "ms": v} for k, v in found.items()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=60, help="evaluations of each worker a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-rows", type=int, default=400, help="evaluations that do nothing")


if __name__ == "__main__":
    benchmark_main("scaling", run, add_arguments)
