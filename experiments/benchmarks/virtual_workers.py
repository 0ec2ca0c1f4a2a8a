"""Workers in virtual time: a discrete-event model of an executor, for a search that is real.

No worker exists. The search loop, the strategy, the ledger and the values are real; what is
modelled is how long evaluations take and which of them kill their worker. The clock runs on while
the search thinks and commits, by the time that this really takes, and jumps to the next result
while it waits. So a strategy or a ledger that is too slow leaves virtual workers idle, as it would
real ones.

Workers take batches from one queue, as those of `strategies.executor_pool` do. They evaluate the
rows of a batch one after the other and answer for all of them together. A worker that dies loses
its batch, whose rows are tried again, each alone; after a while another worker stands in its
place. A row alone that lost `1 + retries` workers has failed. Messages take no time.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from records import BadInputError, Measured
from search_spaces import Genes
from strategies.executor import Finished, Session, check_count, nothing_in_flight
from strategies.executor_evaluation import Fault, outcomes
from strategies.protocols import Evaluator

Floats = npt.NDArray[np.float64]


class Durations(Protocol):
    """Draws how long evaluations take."""

    def __call__(self, n: int, rng: np.random.Generator) -> Floats:
        """The seconds of `n` evaluations."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeavyTailed:
    """Times drawn from measured ones, of which some straggle.

    A straggler takes its measured time `min(2 u^(-1 / tail), longest)` times, u uniform in 0..1: a
    Pareto distribution that begins at 2 and is cut off.

    Attributes:
        seconds: What was measured, an array of any length.
        stragglers: The share that straggle.
        tail: The exponent, above 1; the smaller, the heavier the tail.
        longest: How many times as long a straggler takes at most.
    """

    seconds: Floats
    stragglers: float = 0.01
    tail: float = 1.5
    longest: float = 20.0

    def __call__(self, n: int, rng: np.random.Generator) -> Floats:
        drawn = rng.choice(self.seconds, n)
        factor = np.minimum(2 * (1 - rng.random(n)) ** (-1 / self.tail), self.longest)
        return np.asarray(np.where(rng.random(n) < self.stragglers, drawn * factor, drawn))

    @property
    def mean(self) -> float:
        """The expected seconds, stragglers included."""
        a, cut = self.tail, 2 / self.longest
        factor = 2 * (a - cut ** (a - 1)) / (a - 1)  # the integral of the above over u
        return float(self.seconds.mean() * (1 + self.stragglers * (factor - 1)))


@dataclass(slots=True, kw_only=True)
class VirtualWorkers:
    """An executor in virtual time; the session that it opened tells how it went.

    Attributes:
        workers: How many.
        durations: Draws how long evaluations take.
        batch_size: Rows that travel together.
        queued: Batches that wait for a worker, at most; None is a quarter of the workers.
        deaths: With which chance an evaluation kills its worker, at a random moment of it.
        restart_s: How long until another worker stands in the place of a dead one.
        retries: How often a row alone is tried again.
        in_generations: Whether one batch a worker is submitted, and nothing is handed out before
            all of them are done: synchronous generations of `workers * batch_size` rows.
        stopwatch: What the search's own time is read from; a constant leaves it out.
        seed: Draws times and deaths.
        session: The last one opened.
    """

    workers: int
    durations: Durations
    batch_size: int = 1
    queued: int | None = None
    deaths: float = 0.0
    restart_s: float = 10.0
    retries: int = 2
    in_generations: bool = False
    stopwatch: Callable[[], float] = time.perf_counter
    seed: int = 0
    session: VirtualSession | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        check_count("workers", self.workers)
        check_count("batch_size", self.batch_size)

    @property
    def name(self) -> str:
        return f"{self.workers} virtual workers"

    @property
    def in_order(self) -> bool:
        return False

    @property
    def most_in_flight(self) -> int:
        """How many batches may be in flight."""
        waiting = max(1, self.workers // 4) if self.queued is None else self.queued
        return self.workers + (0 if self.in_generations else waiting)

    def open(self, evaluator: Evaluator) -> VirtualSession:
        self.session = VirtualSession(self, evaluator)
        return self.session


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Rows that one worker evaluates; `faults` workers died of them while they were alone."""

    batch: int
    genes: Genes
    faults: int = 0


@dataclass(frozen=True, slots=True, order=True)
class _Event:
    """What becomes of a worker: it answers or dies with its task, or has been started again."""

    seconds: float
    order: int
    worker: int = field(compare=False)
    task: _Task | None = field(compare=False, default=None)
    each: Floats | None = field(compare=False, default=None)  # None: the worker dies


class VirtualSession(Session):
    """The virtual workers of one search.

    Attributes:
        now: The virtual seconds since the session was opened.
        thought_s: The seconds of these that the search itself took, which are real ones.
        last_submitted: When the last batch was submitted.
        deaths: How many workers died.
    """

    def __init__(self, settings: VirtualWorkers, evaluator: Evaluator) -> None:
        self.now = 0.0
        self.thought_s = 0.0
        self.last_submitted = 0.0
        self.deaths = 0
        self._settings = settings
        self._evaluator = evaluator
        self._rng = np.random.default_rng(settings.seed)
        self._free = list(range(settings.workers))  # a heap
        self._queue: deque[_Task] = deque()
        self._events: list[_Event] = []  # a heap
        self._order = itertools.count()
        self._batches = itertools.count()
        self._left: Counter[int] = Counter()  # rows of each batch that were not handed out
        self._done: list[tuple[_Task, str, Floats | None]] = []
        self._unvalued: list[Genes] = []
        self._values: dict[bytes, Measured] = {}  # of rows in flight
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._looked = settings.stopwatch()

    @property
    def has_room(self) -> bool:
        return self.room > 0

    @property
    def room(self) -> int:
        return self._settings.most_in_flight - len(self._left)

    def submit(self, genes: Genes) -> None:
        if not self.has_room:
            raise BadInputError(f"{len(self._left)} batches are in flight already: wait for one")
        self._think()
        batch = next(self._batches)
        self._left[batch] = len(genes)
        self._queue.append(_Task(batch, genes))
        self._unvalued.append(genes)
        self._hand_out(self.now)
        self.last_submitted = self.now
        self._looked = self._settings.stopwatch()

    def wait(self) -> list[Finished]:
        if not self._left:
            raise nothing_in_flight()
        self._think()
        while not self._is_due():
            self.now = max(self.now, self._events[0].seconds)
            self._pass()
        found = self._collected()
        self._looked = self._settings.stopwatch()
        return found

    def ready(self) -> list[Finished]:
        if self._settings.in_generations:
            return []  # a generation may not be complete yet
        self._think()
        found = self._collected()
        self._looked = self._settings.stopwatch()
        return found

    def utilisation(self, until: float | None = None) -> float:
        """The share of the workers' time in which they evaluated.

        Args:
            until: Up to when; None is until the last batch was submitted, so that the end, where
                nothing is left to do, does not count.
        """
        end = self.last_submitted if until is None else until
        if end <= 0:
            return 0.0
        begins, ends = np.array(self._begins), np.array(self._ends)
        busy = np.maximum(np.minimum(ends, end) - begins, 0).sum()
        return float(busy / (end * self._settings.workers))

    # ---- time --------------------------------------------------------------------------------

    def _think(self) -> None:
        """Adds the time that the search took since it was last here; the workers go on."""
        seconds = self._settings.stopwatch() - self._looked
        self.thought_s += seconds
        self.now += seconds
        self._pass()

    def _pass(self) -> None:
        """Lets everything happen that has its time by now, in order."""
        while self._events and self._events[0].seconds <= self.now:
            event = heapq.heappop(self._events)
            if event.task is None:
                heapq.heappush(self._free, event.worker)
            elif event.each is None:
                self._lose(event.task, event)
            else:
                self._done.append((event.task, f"worker {event.worker + 1}", event.each))
                heapq.heappush(self._free, event.worker)
            self._hand_out(event.seconds)

    def _hand_out(self, seconds: float) -> None:
        while self._free and self._queue:
            self._begin(heapq.heappop(self._free), self._queue.popleft(), seconds)

    def _begin(self, worker: int, task: _Task, seconds: float) -> None:
        """Draws what becomes of a task."""
        each = self._settings.durations(len(task.genes), self._rng)
        dies = self._rng.random(len(each)) < self._settings.deaths
        takes = float(each.sum())
        if dies.any():
            first = int(dies.argmax())
            takes = float(each[:first].sum() + self._rng.random() * each[first])
        end = seconds + takes
        self._begins.append(seconds)
        self._ends.append(end)
        kept = None if dies.any() else each
        heapq.heappush(self._events, _Event(end, next(self._order), worker, task, kept))

    def _lose(self, task: _Task, event: _Event) -> None:
        """A worker died with its task: its rows are tried again, and it is started again."""
        self.deaths += 1
        back = event.seconds + self._settings.restart_s
        heapq.heappush(self._events, _Event(back, next(self._order), event.worker))
        faults = task.faults + (len(task.genes) == 1)
        if faults > self._settings.retries:
            self._done.append((task, f"worker {event.worker + 1}", None))
            return
        alone = [_Task(task.batch, task.genes[i : i + 1], faults) for i in range(len(task.genes))]
        self._queue.extendleft(reversed(alone))

    # ---- results -----------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Whether there is something to hand out now."""
        if self._settings.in_generations:
            done = sum(len(task.genes) for task, _, _ in self._done)
            return done == self._left.total()
        return bool(self._done)

    def _collected(self) -> list[Finished]:
        """What was done and not handed out."""
        done, self._done = self._done, []
        found = []
        for task, worker, each in done:
            results = [self._value(row) for row in task.genes]
            seconds = [None] * len(results) if each is None else each.tolist()
            timed = tuple(_timed(r, s) for r, s in zip(results, seconds, strict=True))
            found.append(Finished(genes=task.genes, results=timed, worker=worker))
            self._left[task.batch] -= len(task.genes)
            if self._left[task.batch] <= 0:
                del self._left[task.batch]
        return found

    def _value(self, row: Genes) -> Measured:
        """What the evaluator says; it is asked for all rows in flight at once, to be quick."""
        if row.tobytes() not in self._values:
            genes, self._unvalued = np.concatenate(self._unvalued), []
            for one, outcome in zip(genes, outcomes(self._evaluator, genes), strict=True):
                result = outcome.failed() if isinstance(outcome, Fault) else outcome
                self._values[one.tobytes()] = result
        return self._values.pop(row.tobytes())


def _timed(result: Measured, seconds: float | None) -> Measured:
    """A result with its virtual seconds; None: its workers died."""
    if seconds is None:
        return Measured(value=None, status="failed", reason="its workers died")
    return replace(result, seconds=seconds)
