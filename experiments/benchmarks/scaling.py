"""What executors cost on this machine: evaluations a second, overhead, time to the first result.

Whole searches (loop, SQLite ledger, executor) of the quickstart's hybrid space on digits.

- Evaluations a second of a real supernet evaluation with 1 and 2 workers, one thread each: Ray's
  actors and local processes, beside plain processes without any engine, each pinned to a core,
  which evaluate the same rows by the same evaluator in the same batches. All are there the whole
  time and take turns of some seconds, since what else a machine does changes its speed by more
  than an engine costs: shares are of turns next to each other. The rate of a turn is the sum over
  its workers of (rows - first batch) / (last result - first result), so that neither its start
  nor its end count; rows are of about the same size.
- Overhead: the time of an evaluation by an evaluator that does nothing, with one worker, at
  batches of 1 and of 32 rows, from the first result to the last; of several rounds the best and
  the median.
- From the call of `search` to its first result, with the supernet. Ray runs already; its own
  start is told apart.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from experiments.benchmarks.harness import benchmark_main, show
from experiments.benchmarks.idle_evaluator import IdleEvaluator
from experiments.benchmarks.pinned_processes import PinnedProcesses
from experiments.benchmarks.ray_here import ray_of_its_own
from experiments.benchmarks.supernet_evaluation import digits_evaluator
from hardware_profiles import local_target
from latency_models import RooflineCostModel
from records import Ledger
from search_spaces import Genes, SearchSpace
from strategies import (
    Executor,
    Feasibility,
    InProcess,
    LocalProcesses,
    Problem,
    RandomSearch,
    RayWorkers,
    Strategy,
    check_feasible,
    search,
)
from strategies.protocols import Evaluator
from strategies.result import Progress

PLAIN = "no engine, pinned"
POOLS: Mapping[str, Callable[..., Executor]] = {"Ray": RayWorkers, "processes": LocalProcesses}
WORKERS = (1, 2)
BATCH = 2
WARM_ROWS = 8
"""Evaluations of each worker before any turn counts."""

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

    def search(
        self, evaluator: Evaluator, executor: Executor, strategy: Strategy, count: int
    ) -> Arrivals:
        """Has `count` rows evaluated by a whole search, with a ledger on the disk."""
        arrivals = Arrivals()
        self.search_told(evaluator, executor, strategy, count, arrivals.note)
        return arrivals

    def search_told(
        self,
        evaluator: Evaluator,
        executor: Executor,
        strategy: Strategy,
        count: int,
        note: Callable[[Progress], None],
    ) -> None:
        """The same, telling its progress."""
        problem = Problem(self.costs.space, evaluator, [self.costs])
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as folder,
            Ledger.create(Path(folder) / "run.sqlite", {}) as ledger,
        ):
            search(
                problem,
                evaluations=count,
                strategy=strategy,
                executor=executor,
                ledger=ledger,
                feasibility=self.feasibility,
                on_progress=note,
            )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints everything."""
    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        bench = Bench.made(Path(folder))
        began = time.perf_counter()
        with ray_of_its_own(sum(WORKERS)):
            started = time.perf_counter() - began
            figures: dict[str, Any] = {"start of Ray, s": started}
            figures |= supernet_rates(bench, arguments.rows, arguments.turns)
            figures["overhead, ms"] = overheads(bench, arguments.rounds, arguments.idle_rows)
    return figures


# ---- a real evaluation -------------------------------------------------------------------------


class Turns(RandomSearch):
    """Proposes given rows, some in each turn; between turns the search waits in `ask`.

    Args:
        space: The space.
        rows: What to propose, in this order.
        left: How many of them before the search waits for the first time.
    """

    waits: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, rows: Genes, left: int = 0) -> None:
        super().__init__(space, initial=rows)
        self.left = left
        self.begins, self.drained = threading.Event(), threading.Event()
        self.stops = False

    @property
    def has_design(self) -> bool:
        """True: the search makes none."""
        return True

    def ask(self, n: int) -> Genes:
        """Some of the rows of this turn; none while those are measured, then it waits."""
        if self.left == 0:
            if len(self.pending):
                return self._no_rows()
            self.drained.set()  # all workers are idle
            self.begins.wait()
            self.begins.clear()
            if self.stops:
                raise _StoppedError
        rows = super().ask(min(n, self.left))
        self.left -= len(rows)
        return rows


class _StoppedError(Exception):
    """A search is not wanted any more."""


class SearchInTurns:
    """A search in a thread, whose workers are idle between turns; use it in a `with` statement.

    Args:
        bench: What searches share.
        executor: Has the workers.
        rows: What will be evaluated in all turns together.
    """

    def __init__(self, bench: Bench, executor: Executor, rows: Genes) -> None:
        self.strategy = Turns(bench.costs.space, rows)
        self.error: BaseException | None = None
        self.arrivals = Arrivals()
        self.thread = threading.Thread(target=self._search, args=(bench, executor), daemon=True)
        self.count = len(rows)
        self.thread.start()

    def turn(self, count: int) -> Arrivals:
        """Has the next rows evaluated.

        Raises:
            Exception: That of the search.
        """
        self.strategy.drained.wait()
        self.strategy.drained.clear()
        self.arrivals, self.strategy.left = Arrivals(self.arrivals.began), count
        self.strategy.begins.set()
        self.strategy.drained.wait()
        if self.error is not None:
            raise self.error
        return self.arrivals

    def _search(self, bench: Bench, executor: Executor) -> None:
        def note(progress: Progress) -> None:
            self.arrivals.note(progress)

        try:
            bench.search_told(bench.evaluator, executor, self.strategy, self.count, note)
        except _StoppedError:
            pass
        except BaseException as error:  # it is raised in the main thread
            self.error = error
        finally:
            self.strategy.drained.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.strategy.stops = True
        self.strategy.begins.set()
        self.thread.join(60)


def supernet_rates(bench: Bench, count: int, rounds: int) -> dict[str, Any]:
    """Evaluations a second and the time to the first, of every executor and of plain processes."""
    rows = similar_rows(bench, max(WORKERS) * (count * rounds + WARM_ROWS))
    rates: dict[tuple[str, int], list[float]] = {}
    firsts: dict[tuple[str, int], float] = {}
    with contextlib.ExitStack() as stack:
        searches = {}
        for workers in WORKERS:
            for name, make in POOLS.items():  # one after the other: each start is timed
                own = rows[: workers * (count * rounds + WARM_ROWS)]
                made = SearchInTurns(bench, make(workers=workers), own)
                searches[name, workers] = stack.enter_context(made)
                firsts[name, workers] = made.turn(workers * WARM_ROWS).first_s
        plain = stack.enter_context(PinnedProcesses(max(WORKERS)))
        plain.rate(rows[: 2 * WARM_ROWS], BATCH, max(WORKERS))
        for number in range(rounds):
            for workers in WORKERS:
                first = workers * (WARM_ROWS + number * count)
                own = rows[first : first + workers * count]
                rates.setdefault((PLAIN, workers), []).append(plain.rate(own, BATCH, workers))
                for name in POOLS:
                    arrivals = searches[name, workers].turn(len(own))
                    rates.setdefault((name, workers), []).append(arrivals.rate)
    table = rate_rows(rates, firsts)
    show(
        f"evaluations a second of a supernet, whole searches; batches of {BATCH}, {rounds} turns",
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
    rates: Mapping[tuple[str, int], list[float]], firsts: Mapping[tuple[str, int], float]
) -> list[dict[str, str]]:
    """The table: what stands first for a number of workers is what the others are compared to.

    The share is the median of those of each round, with the quartiles, and that of the best.
    """
    rows = []
    ceilings: dict[int, list[float]] = {}
    for (name, workers), found in sorted(rates.items(), key=lambda item: item[0][1]):
        ceiling = ceilings.setdefault(workers, found)
        shares = 100 * np.divide(found, ceiling)
        low, middle, high = np.percentile(shares, [25, 50, 75])
        best = 100 * max(found) / max(ceiling)
        seconds = firsts.get((name, workers))
        share = f"{middle:.1f} % ({low:.0f} to {high:.0f}; best of each {best:.1f})"
        rows.append(
            {
                "name": name,
                "workers": str(workers),
                "best": f"{max(found):.2f}",
                "median": f"{statistics.median(found):.2f}",
                "share": "" if found is ceiling else share,
                "first": "" if seconds is None else f"{seconds:.1f}",
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
                own = Turns(space, rng.permutation(rows)[:wanted], wanted)
                arrivals = bench.search(idle, make(size), own, wanted)
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
    parser.add_argument("--rows", type=int, default=24, help="evaluations of each worker a turn")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3, help="for the overhead")
    parser.add_argument("--idle-rows", type=int, default=400, help="evaluations that do nothing")


if __name__ == "__main__":
    benchmark_main("scaling", run, add_arguments)
