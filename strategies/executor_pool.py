"""A pool of workers that evaluate batches: who does what, what is tried again, who is replaced.

The pool's state belongs to one thread. It takes one event after the other (a batch was submitted,
a worker is ready, has answered, has died) and hands each batch to a worker that is free, so that
slow rows hold nobody up and the workers go on while the search thinks. How a worker is started and
reached is the business of the executors.

A row whose evaluation raises, is NaN or out of range, takes too long or kills its worker is tried
again, by another worker where one is ready; after so many tries it has failed, with the reason.
Of a batch that took too long or killed its worker each row is tried alone. A worker that died or
was too slow is replaced.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from records import BadInputError, Measured
from search_spaces import Genes
from strategies.executor import Finished, Session, nothing_in_flight
from strategies.executor_evaluation import EvaluationError, Fault, Outcome, described
from strategies.executor_workers import (
    Answered,
    Event,
    PooledExecutor,
    Ready,
    Start,
    Useless,
    Worker,
)

logger = logging.getLogger(__name__)

START_TRIES = 2
"""How often in a row a worker may fail to start, or die idle, before its place stays empty."""

CLOSE_S = 10.0
"""How long closing waits for the workers to be ended."""


@dataclass(frozen=True, slots=True)
class _Submitted:
    task: _Task


@dataclass(frozen=True, slots=True)
class _Closed:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Rows to evaluate together.

    Attributes:
        batch: The number of the batch that they were submitted in.
        genes: The rows.
        faults: What went wrong with the row so far; empty for several rows.
        seconds: How long that took.
        avoid: The place where the last try was, whose worker lives on; -1 for none.
    """

    batch: int
    genes: Genes
    faults: tuple[str, ...] = ()
    seconds: float = 0.0
    avoid: int = -1


@dataclass(slots=True, eq=False)
class _Place:
    """Where one worker follows another."""

    number: int
    worker: Worker | None = None
    is_ready: bool = False
    task: _Task | None = None
    began: float = 0.0
    deadline: float = math.inf
    lives: int = 0
    failures: int = field(default=0)


class Pool(Session):
    """A session with several workers.

    Args:
        start: Starts a worker of a name that reports its events; it must not wait for it.
        settings: Numbers and limits.
        clean: Called when the workers have been ended.
    """

    def __init__(
        self, start: Start, settings: PooledExecutor, clean: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._most = settings.workers + settings.most_queued
        self._events: queue.SimpleQueue[Event | _Submitted | _Closed] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[tuple[int, Finished] | EvaluationError] = (
            queue.SimpleQueue()
        )
        self._left: Counter[int] = Counter()  # rows in flight of each batch
        self._numbers = itertools.count()
        self._clean = clean
        self._server = _Server(start, settings, self._events, self._finished)
        self._server.start()

    @property
    def has_room(self) -> bool:
        return self.room > 0

    @property
    def room(self) -> int:
        return self._most - len(self._left)

    def submit(self, genes: Genes) -> None:
        if not self.has_room:
            raise BadInputError(f"{self._most} batches are in flight already: wait for one")
        number = next(self._numbers)
        self._left[number] = len(genes)
        self._events.put(_Submitted(_Task(number, genes)))

    def wait(self) -> list[Finished]:
        if not self._left:
            raise nothing_in_flight()
        first = self._finished.get()
        if isinstance(first, EvaluationError):
            raise first
        self._finished_rows(first)
        return [first[1], *self.ready()]

    def ready(self) -> list[Finished]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._finished.get_nowait()
                if isinstance(item, EvaluationError):
                    self._finished.put(item)  # what was found is told first
                    break
                self._finished_rows(item)
                found.append(item[1])
        return found

    def close(self) -> None:
        self._events.put(_Closed())
        self._server.join(CLOSE_S)
        clean, self._clean = self._clean, lambda: None
        clean()

    def _finished_rows(self, item: tuple[int, Finished]) -> None:
        number, finished = item
        self._left[number] -= len(finished.genes)
        if self._left[number] <= 0:
            del self._left[number]


class _Server(threading.Thread):
    """The thread that everything of a pool belongs to."""

    def __init__(
        self,
        start: Start,
        settings: PooledExecutor,
        events: queue.SimpleQueue[Event | _Submitted | _Closed],
        finished: queue.SimpleQueue[tuple[int, Finished] | EvaluationError],
    ) -> None:
        super().__init__(name="hwnas workers", daemon=True)
        self.settings = settings
        self.events = events
        self.finished = finished
        self._start_worker = start
        self._places = [_Place(i) for i in range(settings.workers)]
        self._by_worker: dict[Worker, _Place] = {}
        self._free: dict[int, _Place] = {}  # by number; in the order of becoming free
        self._waiting: deque[_Task] = deque()
        self._nearest = math.inf  # no deadline is before it

    def run(self) -> None:
        try:
            for place in self._places:
                self._begin(place)
            while not isinstance(event := self._next_event(), _Closed):
                if event is None:
                    self._end_the_slow()
                    self._nearest = min(place.deadline for place in self._places)
                else:
                    self._handle(event)
                self._hand_out()
        except EvaluationError as error:
            self.finished.put(error)
        except Exception as error:
            fault = EvaluationError(f"the pool of workers broke down: {described(error)}")
            fault.__cause__ = error
            self.finished.put(fault)
        finally:
            for place in self._places:
                if place.worker is not None:
                    place.worker.kill()

    def _next_event(self) -> Event | _Submitted | _Closed | None:
        """What happens next; None where a worker's time may be up before anything does."""
        timeout = None
        if self._nearest < math.inf:
            timeout = max(0.0, self._nearest - time.monotonic())
        try:
            return self.events.get(timeout=timeout)
        except queue.Empty:
            return None

    def _handle(self, event: Event | _Submitted | _Closed) -> None:
        if isinstance(event, _Submitted):
            self._waiting.append(event.task)
            return
        if isinstance(event, _Closed):
            return
        place = self._by_worker.get(event.worker)
        if place is None:
            return  # the last words of one that was replaced
        if isinstance(event, Ready):
            place.is_ready, place.deadline = True, math.inf
            self._free[place.number] = place
        elif isinstance(event, Answered):
            self._take_answer(place, event.outcomes)
        elif isinstance(event, Useless):
            raise EvaluationError(event.reason)
        else:
            self._replace(place, event.reason)

    def _hand_out(self) -> None:
        if not self._waiting:
            return
        for place in list(self._free.values()):
            if (task := self._next_task(place)) is not None:
                assert place.worker is not None, "a free place has a worker"
                del self._free[place.number]
                place.task, place.began = task, time.monotonic()
                self._allow(place, place.began + self.settings.timeout_s * len(task.genes))
                place.worker.evaluate(task.genes)

    def _allow(self, place: _Place, deadline: float) -> None:
        """Gives a worker until some time."""
        place.deadline = deadline
        self._nearest = min(self._nearest, deadline)

    def _next_task(self, place: _Place) -> _Task | None:
        """The first that this worker may do; another try is for another one, if any is ready."""
        for i, task in enumerate(self._waiting):
            if task.avoid != place.number or sum(p.is_ready for p in self._places) == 1:
                del self._waiting[i]
                return task
        return None

    # ---- answers and faults ------------------------------------------------------------------

    def _take_answer(self, place: _Place, outcomes: Sequence[Outcome]) -> None:
        task, place.task, place.deadline = place.task, None, math.inf
        assert task is not None, "only who has a task answers"
        assert place.worker is not None, "a worker answered"
        place.failures = 0
        self._free[place.number] = place
        good = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Measured)]
        self._finish(
            task, good, [o for o in outcomes if isinstance(o, Measured)], place.worker.name
        )
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, Fault):
                self._try_again(task, i, outcome, place, avoid=place.number)

    def _try_again(
        self, task: _Task, i: int, fault: Fault, place: _Place, *, avoid: int = -1
    ) -> None:
        """Queues a row once more, before the others, or gives it up."""
        faults = (*task.faults, fault.reason)
        seconds = task.seconds + fault.seconds
        worker = "" if place.worker is None else place.worker.name
        logger.warning("%s: an evaluation failed: %s", worker, fault.reason)
        if len(faults) <= self.settings.retries:
            genes = task.genes[i : i + 1]
            self._waiting.appendleft(_Task(task.batch, genes, faults, seconds, avoid))
            return
        reason = "; then ".join(dict.fromkeys(faults))
        tries = f" ({len(faults)} tries)" if len(faults) > 1 else ""
        lost = Fault(reason=f"{reason}{tries}", seconds=seconds)
        self._finish(task, [i], [lost.failed()], worker)

    def _finish(
        self, task: _Task, rows: Sequence[int], results: Sequence[Measured], worker: str
    ) -> None:
        if rows:
            genes = task.genes[np.asarray(rows, np.intp)]
            finished = Finished(genes=genes, results=tuple(results), worker=worker)
            self.finished.put((task.batch, finished))

    # ---- workers -----------------------------------------------------------------------------

    def _begin(self, place: _Place) -> None:
        """Starts a worker in a place."""
        place.lives += 1
        life = f" ({place.lives})" if place.lives > 1 else ""
        place.is_ready, place.task = False, None
        self._allow(place, time.monotonic() + self.settings.start_s)
        place.worker = self._start_worker(f"worker {place.number + 1}{life}", self.events.put)
        self._by_worker[place.worker] = place

    def _end_the_slow(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.deadline > now or place.worker is None:
                continue
            allowed = place.deadline - place.began
            start_s = self.settings.start_s
            if place.is_ready:
                self._replace(place, f"no answer within {allowed:.3g} s")
            elif not place.worker.is_waiting:
                self._replace(place, f"not ready within {start_s:.3g} s")
            elif any(p.is_ready for p in self._places):  # the others go on meanwhile
                logger.info("%s: no room for it yet", place.worker.name)
                place.deadline = now + start_s
            else:
                self._replace(place, f"no room for it, or not up, within {start_s:.3g} s")

    def _replace(self, place: _Place, reason: str) -> None:
        """Ends a worker, sees to what it had, and starts another one."""
        assert place.worker is not None, "only a place with a worker loses one"
        place.worker.kill()
        del self._by_worker[place.worker]
        self._free.pop(place.number, None)
        task, place.task, place.deadline = place.task, None, math.inf
        if task is None:
            place.failures += 1
            logger.warning("%s: %s", place.worker.name, reason)
        elif len(task.genes) == 1:
            fault = Fault(reason=reason, seconds=time.monotonic() - place.began)
            self._try_again(task, 0, fault, place)
        else:
            logger.warning("%s: %s; its rows are tried one by one", place.worker.name, reason)
            alone = [_Task(task.batch, task.genes[i : i + 1]) for i in range(len(task.genes))]
            self._waiting.extendleft(reversed(alone))
        if place.failures < START_TRIES:
            self._begin(place)
            return
        place.worker, place.is_ready = None, False
        if all(p.worker is None for p in self._places):
            raise EvaluationError(f"no worker can be started: {reason}")
        logger.warning("place %d stays empty: %s", place.number + 1, reason)
