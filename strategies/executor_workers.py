"""The workers of a pool: what they are asked, what they report, and the settings they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from search_spaces import Genes
from strategies.executor import check_count, check_seconds
from strategies.executor_evaluation import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledExecutor:
    """The settings that all executors with several workers have.

    Attributes:
        workers: How many there are.
        threads: How many threads an evaluation uses.
        batch_size: Rows that travel together.
        timeout_s: How long the evaluation of one row may take; a batch of rows as many times that.
        retries: How often a row is tried again whose evaluation raised, was no share, took too
            long or ended its worker.
        start_s: How long a worker may take until it has its evaluator.
        queued: How many batches wait for a free worker, at most; None is a quarter of the workers.

    Raises:
        BadInputError: A number that cannot be used.
    """

    workers: int = 2
    threads: int = 1
    batch_size: int = 2
    timeout_s: float = 600.0
    retries: int = 2
    start_s: float = 300.0
    queued: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "batch_size"):
            check_count(name, getattr(self, name))
        check_count("retries", self.retries, least=0)
        check_count("queued", self.most_queued, least=0)
        check_seconds("timeout_s", self.timeout_s)
        check_seconds("start_s", self.start_s)

    @property
    def in_order(self) -> bool:
        """Results come in the order of their time."""
        return False

    @property
    def most_queued(self) -> int:
        """How many batches wait for a free worker, at most."""
        return max(1, self.workers // 4) if self.queued is None else self.queued


class Worker(ABC):
    """One worker, as an executor started it; it reports to the pool's events."""

    name: str

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for room to run in, which is no fault of its own."""
        return False

    @abstractmethod
    def evaluate(self, genes: Genes) -> None:
        """Begins to evaluate a batch; ends in `Answered` or `Died`."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it at once; may be called twice, and when it is dead."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has its evaluator."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class Answered:
    """A worker has evaluated its batch; `outcomes` has one for each row."""

    worker: Worker
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Died:
    """A worker has ended, or could not make its evaluator."""

    worker: Worker
    reason: str


@dataclass(frozen=True, slots=True)
class Useless:
    """The evaluator's answers make no sense; no other try mends that."""

    worker: Worker
    reason: str


Event: TypeAlias = Ready | Answered | Died | Useless
Report: TypeAlias = Callable[[Event], None]
Start: TypeAlias = Callable[[str, Report], Worker]
