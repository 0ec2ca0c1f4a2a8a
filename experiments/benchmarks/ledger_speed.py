"""What the ledger costs: a commit by the size of its group, and its share of a run's time.

- The time of `Ledger.append` for groups of 1, 8, 32 and 1,000 observations of 40 genes: a SQLite
  file with its write-ahead log, as ledgers are; the same with the rollback journal, as on a disk
  that other machines read; PostgreSQL where `--url` names a database. All take turns. A commit
  waits for the disk, so that the medians are the disk's, and the least times those of the code.
- The share of a search's time that passes in `append` and `note`, where an evaluation takes 50 ms
  (it sleeps, so that the disk alone is in its way): in process, row by row and in batches of 8,
  and with 4 processes, whose results are committed as they come together. The rest of the loop is
  the random strategy's.

The folder of the files is `--folder`, whose disk is what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from experiments.benchmarks.harness import benchmark_main, show
from experiments.benchmarks.idle_evaluator import IdleEvaluator
from experiments.datasets import load_dataset
from experiments.spaces import make_space
from hardware_profiles import Target, device
from latency_models import RooflineCostModel
from records import Json, Ledger, Measured, Observation
from search_spaces import Genes
from strategies import Executor, InProcess, LocalProcesses, Problem, RandomSearch, search

GROUPS = (1, 8, 32, 1000)
EVALUATION_S = 0.05
GENES = 40
DEVICE = "raspberry-pi-4"


class SleepingEvaluator(IdleEvaluator):
    """Says after 50 ms that the accuracy is a half."""

    def evaluate(self, genes: Genes) -> list[Measured]:
        """Sleeps for each row."""
        time.sleep(EVALUATION_S * len(genes))
        return super().evaluate(genes)


class TimedLedger:
    """Adds up how long a ledger takes to write; the rest is the ledger's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.seconds = 0.0
        self.groups: list[int] = []

    def append(self, observations: Sequence[Observation]) -> None:
        """Appends, and looks at the clock."""
        began = time.perf_counter()
        self._ledger.append(observations)
        self.seconds += time.perf_counter() - began
        self.groups.append(len(observations))

    def note(self, name: str, value: Json) -> None:
        """Notes, and looks at the clock."""
        began = time.perf_counter()
        self._ledger.note(name, value)
        self.seconds += time.perf_counter() - began

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


def commits(ledgers: Mapping[str, Ledger], rounds: int) -> list[dict[str, Any]]:
    """How long appending takes, by ledger and size of the group."""
    rows = observations(max(GROUPS))
    taken: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for group in GROUPS:
            for name, ledger in ledgers.items():
                began = time.perf_counter()
                ledger.append(rows[:group])
                taken[name, group].append(time.perf_counter() - began)
    return [
        {
            "ledger": name,
            "group": group,
            "least_ms": 1e3 * min(seconds),
            "median_ms": 1e3 * statistics.median(seconds),
            "p90_ms": 1e3 * float(np.quantile(seconds, 0.9)),
            "observations_per_s": group / statistics.median(seconds),
        }
        for (name, group), seconds in taken.items()
    ]


def observations(count: int) -> list[Observation]:
    """Observations like those of a search."""
    return [
        Observation(
            genes=tuple((7 * i + j) % 5 for j in range(GENES)),
            metric="accuracy",
            value=0.5 + i * 1e-5,
            dispersion=0.01,
            step=i,
            seconds=EVALUATION_S,
            weights_hash="0123456789abcdef",
            space_hash="fedcba9876543210",
        )
        for i in range(count)
    ]


def shares(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The ledger's share of searches whose evaluations take 50 ms, each in a new ledger."""
    evaluations = arguments.evaluations
    executors: dict[str, tuple[Executor, int]] = {
        "in process, row by row": (InProcess(batch_size=1), evaluations),
        "in process, batches of 8": (InProcess(), evaluations),
        "4 processes": (LocalProcesses(workers=4, batch_size=1), 4 * evaluations),
    }
    found = []
    for name, (executor, count) in executors.items():
        with new_ledgers(arguments.folder, arguments.url) as ledgers:
            for kind, ledger in ledgers.items():
                found.append({"run": name, "ledger": kind, **share(ledger, executor, count)})
    return found


def share(ledger: Ledger, executor: Executor, evaluations: int) -> dict[str, float]:
    """One search; its time is counted from its first result on, when the workers are there."""
    problem = small_problem()
    timed = TimedLedger(ledger)
    began: list[tuple[float, float, int]] = []

    def on_progress(progress: Any) -> None:
        if not began:
            began.append((time.perf_counter(), timed.seconds, progress.evaluations))

    search(
        problem,
        evaluations=evaluations,
        strategy=RandomSearch(problem.space, seed=secrets.randbits(32)),
        ledger=timed,  # type: ignore[arg-type]  # a ledger in all that a search asks of one
        executor=executor,
        on_progress=on_progress,
    )
    start, before, first = began[0]
    seconds = time.perf_counter() - start
    return {
        "evaluations_per_s": (evaluations - first) / seconds,
        "group": statistics.mean(timed.groups),
        "share": (timed.seconds - before) / seconds,
    }


def small_problem() -> Problem:
    """The quickstart's hybrid space on digits, on a device of the catalogue."""
    data = load_dataset("digits", seed=0)
    space = make_space("hybrid", data)
    evaluator = SleepingEvaluator()
    evaluator.weights_hash = secrets.token_hex(8)
    return Problem(space, evaluator, [RooflineCostModel(space, Target(profile=device(DEVICE)))])


@contextlib.contextmanager
def new_ledgers(folder: Path, url: str | None) -> Iterator[dict[str, Ledger]]:
    """Empty ledgers of each kind."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        ledgers = {"SQLite": Ledger.create(place / "log.db", {})}
        with mock.patch("records.ledger_store.begin_log"):
            ledgers["SQLite, no log"] = Ledger.create(place / "journal.db", {})
        if url is not None:
            mark = "&" if "?" in url else "?"
            named = f"{url}{mark}run=speed-{secrets.token_hex(4)}"
            ledgers["PostgreSQL"] = Ledger.create(named, {})
        for ledger in ledgers.values():
            stack.enter_context(ledger)
        yield ledgers


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints both tables."""
    with new_ledgers(arguments.folder, arguments.url) as ledgers:
        appended = commits(ledgers, arguments.rounds)
    show(
        "Appending a group of observations",
        ["ledger", "group", "least ms", "median ms", "90 % ms", "observations/s"],
        [
            [
                row["ledger"],
                row["group"],
                f"{row['least_ms']:.2f}",
                f"{row['median_ms']:.2f}",
                f"{row['p90_ms']:.2f}",
                f"{row['observations_per_s']:,.0f}",
            ]
            for row in appended
        ],
    )
    runs = shares(arguments)
    show(
        "The ledger's share of a search whose evaluations take 50 ms",
        ["run", "ledger", "evaluations/s", "mean group", "share %"],
        [
            [
                row["run"],
                row["ledger"],
                f"{row['evaluations_per_s']:.1f}",
                f"{row['group']:.1f}",
                f"{100 * row['share']:.2f}",
            ]
            for row in runs
        ],
    )
    return {"append": appended, "share": runs}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to measure, and how long."""
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure")
    parser.add_argument("--url", help="a PostgreSQL database to measure as well")
    parser.add_argument("--rounds", type=int, default=100, help="of appending")
    parser.add_argument("--evaluations", type=int, default=160, help="of each search")


if __name__ == "__main__":
    benchmark_main("ledger_speed", run, add_arguments)
