"""What was kept of a search that something happened to: counted in its ledger and its payments."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.faulty_search import FaultySearch
from records import Observation

HEAD = ("fault", "times", "committed", "lost", "repeated", "equal", "seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """One row of the table.

    Attributes:
        fault: What happened.
        times: How often; 0 where it could not be injected here.
        committed: Observations that were committed when it happened last.
        lost: How many of the committed ones are not there, as they were, at the end.
        repeated: How many are there twice, or were paid for again after they were committed.
        equal: Whether it ended as if nothing had happened: `yes`, `NO`, empty where results come
            in the order of time, so that no two runs are equal.
        seen: The first words that the user sees.
    """

    fault: str
    times: int
    committed: int | None = None
    lost: int | None = None
    repeated: int | None = None
    equal: str = ""
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """How things stood when a fault was injected.

    Attributes:
        committed: What the ledger had.
        payments: How many evaluations had been begun.
    """

    committed: Sequence[Observation]
    payments: int

    @classmethod
    def of(cls, task: FaultySearch) -> Moment:
        """Now."""
        return cls(task.committed(), len(task.payments()))


def row_of(
    fault: str,
    task: FaultySearch,
    moments: Sequence[Moment],
    expected: FaultySearch | None = None,
    *,
    seen: str | None = None,
    times: int | None = None,
) -> FaultRow:
    """What was kept, now that a search has been continued to its end.

    Args:
        fault: What happened.
        task: The search.
        moments: When it happened.
        expected: A search in process that nothing happened to; None where none can be equal.
        seen: What the user saw; None takes what the search said last.
        times: How often it happened; None is once a moment.
    """
    after = task.committed()
    payments = [genes for _, genes in task.payments()]
    equal = ""
    if expected is not None:
        equal = "yes" if untimed(after) == untimed(expected.committed()) else "NO"
    return FaultRow(
        fault=fault,
        times=len(moments) if times is None else times,
        committed=len(moments[-1].committed) if moments else 0,
        lost=lost(moments, after),
        repeated=repeated(moments, payments, after),
        equal=equal,
        seen=first_words(task.words() if seen is None else seen),
    )


def lost(moments: Sequence[Moment], after: Sequence[Observation]) -> int:
    """How many of what was committed at some moment are not at their place as they were."""
    longest = max((moment.committed for moment in moments), key=len, default=())
    missing = {i for i, o in enumerate(longest) if o not in after[i : i + 1]}
    for moment in moments:
        missing |= {i for i, o in enumerate(moment.committed) if o not in after[i : i + 1]}
    return len(missing)


def repeated(
    moments: Sequence[Moment],
    payments: Sequence[tuple[int, ...]],
    after: Sequence[Observation],
) -> int:
    """How many networks are recorded twice, or were paid for after they were committed."""
    found = {genes for genes, count in Counter(o.genes for o in after).items() if count > 1}
    for moment in moments:
        found |= {o.genes for o in moment.committed} & set(payments[moment.payments :])
    return len(found)


def untimed(observations: Sequence[Observation]) -> list[Observation]:
    """Observations without the seconds that they took."""
    return [replace(observation, seconds=0.0) for observation in observations]


def first_words(text: str, longest: int = 100) -> str:
    """As much of a message as a table bears."""
    return text if len(text) <= longest else text[: longest - 3].rsplit(" ", 1)[0] + "..."


# ---- running -----------------------------------------------------------------------------------


def uninterrupted(folder: Path, evaluations: int, **options: Any) -> FaultySearch:
    """A search in process that nothing happens to, quickly."""
    task = FaultySearch(folder=folder, evaluations=evaluations, seconds=0.0, **options)
    finish(task)
    return task


def finish(task: FaultySearch) -> None:
    """Runs a search to its end.

    Raises:
        RuntimeError: It did not come there.
    """
    process = task.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"the search ended with {process.exitcode}: {task.words()}")


def ended(task: FaultySearch) -> str:
    """Runs a search to the error that ends it; gives that.

    Raises:
        RuntimeError: There was none.
    """
    process = task.start()
    process.join()
    return error_of(task, process)


def error_of(task: FaultySearch, process: Any) -> str:
    """The error of a process that has ended.

    Raises:
        RuntimeError: It ended well, or by something else than an error of ours.
    """
    if process.exitcode != 1:
        raise RuntimeError(f"the search ended with {process.exitcode}, not with an error of ours")
    return task.words()


def soon(is_so: Callable[[], bool], within_s: float = 300.0) -> bool:
    """Waits until something is so; whether it came to be."""
    end = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def has_paid(task: FaultySearch, more: int, process: Any) -> bool:
    """Waits until a running search has begun more evaluations; whether it still runs then."""
    goal = len(task.payments()) + more
    soon(lambda: len(task.payments()) >= goal or not process.is_alive())
    return bool(process.is_alive())


def random_delays(count: int, longest_s: float) -> list[float]:
    """Moments to strike at, in seconds after the start of evaluating."""
    delays: list[float] = (np.random.default_rng(0).random(count) * longest_s).tolist()
    return delays
