"""A small search that faults are injected to, in a process of its own that can be killed.

The space is digits' (2.6e6 networks), the accuracy a formula that takes some time. Whenever a
network is evaluated a line is written to a file first: who paid, and for what.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from experiments.benchmarks.synthetic_accuracy import SyntheticAccuracy
from hardware_profiles import Target, device
from latency_models import RooflineCostModel
from records import HwnasError, Ledger, Measured, Observation, ledger, sqlite_file
from search_spaces import Architecture, Genes, HybridSpace, SearchSpace
from strategies import (
    NSGA2,
    Executor,
    InProcess,
    LocalProcesses,
    Problem,
    RayWorkers,
    search,
)
from strategies.known_rows import row_keys

REPORTED_S = 0.01
"""What an evaluation says it took, so that equal searches have equal ledgers."""

_DAYS = (0, -400, 3650, 0, -20_000, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultySearch:
    """One search, to be run by `start` again and again until it is done.

    Attributes:
        folder: Its ledger, what was paid, what it said.
        evaluations: How many.
        executor: `in process`, `processes` or `ray`.
        address: The Ray cluster.
        workers: How many, but for `in process`.
        seconds: How long an evaluation takes.
        ledger: Where the ledger is; in the folder by default.
        nan_share: The share of networks whose accuracy is not a number.
        clock_jumps: Whether the clock of the wall jumps by days and years, back and forth.
        patience_s: How long a locked ledger is waited for; None leaves the default.
        largest_bytes: What a file may grow to; None for no limit.
    """

    folder: Path
    evaluations: int
    executor: str = "in process"
    address: str = "auto"
    workers: int = 2
    seconds: float = 0.02
    ledger: Path | None = None
    nan_share: float = 0.0
    clock_jumps: bool = False
    patience_s: float | None = None
    largest_bytes: int | None = None

    @property
    def path(self) -> Path:
        """The ledger."""
        return self.ledger or self.folder / "run.sqlite"

    @property
    def paid(self) -> Path:
        """A line for each evaluation that was begun: the process, then the genes."""
        return self.folder / "paid.txt"

    @property
    def said(self) -> Path:
        """What the user sees: warnings, and the error that ended it."""
        return self.folder / "said.txt"

    def start(self) -> Any:
        """The search in a process of its own, begun or continued."""
        self.folder.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        process = context.Process(target=_drive, args=(self,))
        process.start()
        return process

    def committed(self) -> list[Observation]:
        """What the ledger has."""
        if not self.path.exists():
            return []
        with Ledger.open(self.path, read_only=True) as opened:
            return opened.observations()

    def payments(self) -> list[tuple[int, tuple[int, ...]]]:
        """Who evaluated what, in order."""
        if not self.paid.exists():
            return []
        lines = self.paid.read_text().splitlines()
        return [(int(pid), _row(genes)) for pid, genes in (line.split(",") for line in lines)]

    def words(self) -> str:
        """What was said last, without the name of the folder."""
        lines = self.said.read_text().splitlines() if self.said.exists() else []
        return lines[-1].replace(str(self.path), "LEDGER") if lines else ""


def small_space() -> SearchSpace:
    """The space of all these searches."""
    return HybridSpace(image_size=8, channels=1, stem_stride=1)


class PaidAccuracy:
    """A formula that takes time and notes what it is asked; some networks give no number."""

    metric = "accuracy"

    def __init__(self, space: SearchSpace, task: FaultySearch) -> None:
        self.formula = SyntheticAccuracy(space, low=0.5, high=0.9)
        self.weights_hash = self.formula.weights_hash
        self.task = task

    def evaluate(self, genes: Genes) -> list[Measured]:
        return [self._evaluate(row) for row in genes]

    def _evaluate(self, row: Genes) -> Measured:
        line = f"{os.getpid()},{'-'.join(map(str, row.tolist()))}\n".encode()
        file = os.open(self.task.paid, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line)
        finally:
            os.close(file)
        time.sleep(self.task.seconds)
        if _is_nan(row, self.task.nan_share):
            return Measured(value=float("nan"), seconds=REPORTED_S)
        value = float(self.formula.measured(row[None])[0])
        return Measured(value=value, seconds=REPORTED_S)

    def subnet(self, architecture: Architecture) -> Any:
        """There are no networks.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError


def _is_nan(row: Genes, share: float) -> bool:
    number = int(row_keys(row[None])[0]) * 0x9E3779B97F4A7C15 % 2**64  # spread evenly
    return number < share * 2**64


def _row(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("-")))


# ---- in its process ----------------------------------------------------------------------------


def _drive(task: FaultySearch) -> None:
    """Runs the search; the last line said is its error, if it ended by one."""
    with (task.folder / "printed.txt").open("ab") as file:  # Ray prints pages when a node is lost
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    logging.basicConfig(filename=task.said, format="%(message)s", level=logging.WARNING)
    if task.patience_s is not None:
        sqlite_file._BUSY_SECONDS = task.patience_s
    if task.clock_jumps:
        let_the_clock_jump()
    if task.largest_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (task.largest_bytes, task.largest_bytes))
    try:
        run_search(task)
    except HwnasError as error:
        logging.error("%s: %s", type(error).__name__, error)
        raise SystemExit(1) from error


def run_search(task: FaultySearch) -> None:
    """The search, begun or continued with what its ledger has."""
    space = small_space()
    costs = RooflineCostModel(space, Target(profile=device("raspberry-pi-4"), batch_size=1))
    problem = Problem(space, PaidAccuracy(space, task), [costs])
    path = task.path
    with Ledger.open(path) if path.exists() else Ledger.create(path, {}) as opened:
        search(
            problem,
            evaluations=task.evaluations,
            strategy=NSGA2(space, population_size=20, seed=0),
            executor=_executor(task),
            ledger=opened,
        )


def _executor(task: FaultySearch) -> Executor:
    if task.executor == "in process":
        return InProcess()
    if task.executor == "processes":
        return LocalProcesses(workers=task.workers)
    return RayWorkers(workers=task.workers, address=task.address)


class _JumpingClock(datetime):
    """A wall clock that somebody sets to and fro."""

    looks = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        cls.looks += 1
        return datetime.now(tz) + timedelta(days=_DAYS[cls.looks % len(_DAYS)])


def let_the_clock_jump() -> None:
    """Lets the time of day jump for everything of ours that reads it; monotonic clocks do not."""
    ledger.datetime = _JumpingClock  # type: ignore[attr-defined]
    real = time.time
    time.time = lambda: real() + 86400 * _DAYS[_JumpingClock.looks % len(_DAYS)]
