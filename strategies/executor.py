"""Where evaluations run: the interface of executors, and the one that uses this process.

An executor is a setting of a search. It is opened with the evaluator and gives a session, which
takes batches of genes while it has room and hands results out as they come. It neither chooses
what to evaluate nor writes anything down.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from records import BadInputError, Measured
from search_spaces import Genes
from strategies.executor_evaluation import Fault, outcomes
from strategies.protocols import Evaluator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finished:
    """Rows that were evaluated.

    Attributes:
        genes: An `n x d` array.
        results: One for each row, in order.
        worker: Who did it; empty for this process.
    """

    genes: Genes
    results: tuple[Measured, ...]
    worker: str = ""


class Session(ABC):
    """Workers, ready to evaluate for one search; `close` it, or use it in a `with` statement."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether another batch may be submitted now; what is in flight is bounded."""

    @property
    def room(self) -> int:
        """How many batches may be submitted now."""
        return int(self.has_room)

    @abstractmethod
    def submit(self, genes: Genes) -> None:
        """Has an `n x d` array of distinct rows evaluated, as one batch."""

    @abstractmethod
    def wait(self) -> list[Finished]:
        """Waits until some row in flight is done.

        Returns:
            All that are done by now and were not handed out before: rows of any batch, in any
            order. Every row that was submitted comes back once, failed or not.

        Raises:
            EvaluationError: Nothing can be evaluated any more.
            BadInputError: Nothing is in flight.
        """

    def ready(self) -> list[Finished]:
        """What `wait` would hand out, without waiting; maybe nothing."""
        return []

    def close(self) -> None:  # noqa: B027  # most have something to close
        """Ends the workers, also in the middle of an evaluation; a second call does nothing."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Executor(Protocol):
    """Settings of how evaluations run."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    @property
    def in_order(self) -> bool:
        """Whether each batch is done before the next is asked for, so that a search with the same
        seed and the same measured values is the same search, row by row."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows in a batch where the search does not say."""
        ...

    def open(self, evaluator: Evaluator) -> Session:
        """Starts the workers.

        Raises:
            BadInputError: A setting that cannot be used here.
            EvaluationError: No worker can be started.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcess:
    """Evaluates batch by batch in this process: the default, which repeats exactly.

    An evaluation that raises is recorded as failed. One that hangs hangs the search, and one that
    kills its process kills it: use a pool of processes where that may happen.

    Attributes:
        batch_size: Rows in a batch.
    """

    batch_size: int = 8

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)

    @property
    def name(self) -> str:
        return "in process"

    @property
    def in_order(self) -> bool:
        return True

    def open(self, evaluator: Evaluator) -> Session:
        return _InProcessSession(evaluator)


class _InProcessSession(Session):
    """Evaluates when it is waited for."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._submitted: Genes | None = None

    @property
    def has_room(self) -> bool:
        return self._submitted is None

    def submit(self, genes: Genes) -> None:
        if not self.has_room:
            raise BadInputError("a batch is in flight already: wait for it")
        self._submitted = genes

    def wait(self) -> list[Finished]:
        if self._submitted is None:
            raise nothing_in_flight()
        genes, self._submitted = self._submitted, None
        found = outcomes(self._evaluator, genes)
        results = tuple(o.failed() if isinstance(o, Fault) else o for o in found)
        return [Finished(genes=genes, results=results)]


def nothing_in_flight() -> BadInputError:
    """The error for waiting without having submitted."""
    return BadInputError("nothing is in flight, so nothing can be waited for: submit a batch")


def check_count(name: str, number: object, least: int = 1) -> None:
    """Refuses what is no whole number of at least `least`.

    Raises:
        BadInputError: Says so.
    """
    if type(number) is not int or number < least:
        raise BadInputError(f"{name} must be a whole number of at least {least}, got {number!r}")


def check_seconds(name: str, seconds: object) -> None:
    """Refuses what is no positive number of seconds; infinity is one.

    Raises:
        BadInputError: Says so.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise BadInputError(f"{name} must be positive, in seconds, got {seconds!r}")
