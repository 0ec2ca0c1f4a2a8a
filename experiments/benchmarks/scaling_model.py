"""How searches would scale to 1,000 workers: a discrete-event MODEL, not a measurement of workers.

Real are the search loop, the strategies, the SQLite ledger and the time that these take for each
result, which counts: a driver that is too slow leaves workers idle. Modelled are the workers
(`virtual_workers`): evaluation times are drawn from measured ones of a real supernet evaluation,
one in a hundred straggles (a Pareto tail, up to 20 times as long), one in a thousand kills its
worker, which is back after ten evaluations' time. Networks are Once-for-All's (5e20) with a
synthetic accuracy and modelled latency.

First table: results a second that the driver takes in when every worker is always done (NSGA-II,
loop, strategy and ledger), and with the real pool of executors between, whose workers answer at
once. Others, for each strategy with 10 to 1,000 workers: utilisation (the
share of the workers' time in which they evaluate while there is work), asynchronous beside
synchronous generations of one network a worker; virtual seconds until the front is as good as that
of a thousand random networks; the driver's milliseconds a result, and so the number of workers
that it keeps busy: mean evaluation time / driver's time per result. A strategy is not tried with
more workers once it leaves half of them idle. Runs end after some seconds of real time: such a run
is marked as cut, and judged by what it did.

`--slower 100` has evaluations take 100 times as long as the measured ones: larger networks and
more images. Both are run by default.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from experiments.benchmarks.harness import benchmark_main, show
from experiments.benchmarks.idle_evaluator import IdleEvaluator
from experiments.benchmarks.instant_workers import InstantWorkers
from experiments.benchmarks.search_cases import SyntheticCase
from experiments.benchmarks.supernet_evaluation import measured_seconds
from experiments.benchmarks.virtual_workers import HeavyTailed, VirtualWorkers
from hardware_profiles import Target, device
from records import BadInputError, Ledger
from strategies import NSGA2, Feasibility, Problem, RandomSearch, check_feasible, search
from strategies.by_name import STRATEGIES, strategy_by_name
from strategies.result import Progress
from strategies.strategy import Strategy

Floats = npt.NDArray[np.float64]

WORKERS = (10, 100, 1000)
EVALUATIONS_A_WORKER = 5
FEWEST = 300
DEATHS = 0.001
AS_GOOD_AS = 1000
DRIVER_RESULTS = 20_000
IDLE = 0.5


class _EnoughError(Exception):
    """The run's real time is up."""


@dataclass(slots=True)
class Course:
    """One modelled run.

    Attributes:
        strategy: Its name.
        workers: How many virtual workers.
        in_generations: Whether it was synchronous.
        results: How many were taken in.
        is_whole: Whether it came to its end in its real time.
        utilisation: The share of the workers' time in which they evaluated.
        driver_ms: The driver's real milliseconds per result.
        seconds: Virtual seconds when each group of results was in.
        hypervolumes: The hypervolume then.
    """

    strategy: str
    workers: int
    in_generations: bool
    results: int = 0
    is_whole: bool = True
    utilisation: float = 0.0
    driver_ms: float = 0.0
    seconds: list[float] = field(default_factory=list)
    hypervolumes: list[float] = field(default_factory=list)

    def reached(self, hypervolume: float) -> float | None:
        """Virtual seconds until a hypervolume was reached; None if it was not."""
        for seconds, volume in zip(self.seconds, self.hypervolumes, strict=True):
            if volume >= hypervolume:
                return seconds
        return None


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures, models and prints everything."""
    with threadpool_limits(1), tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        seconds = measured_seconds(arguments.rows)
        figures: dict[str, Any] = {"measured_s": seconds.tolist()}
        model = Model.made(Path(folder), arguments.run_s)
        figures["driver"] = driver_table(model)
        for slower in arguments.slower or (1.0, 100.0):
            durations = HeavyTailed(seconds=slower * seconds)
            counts = arguments.workers or (WORKERS if slower == 1 else WORKERS[-1:])
            courses = model_strategies(model, durations, arguments.strategy, counts)
            figures[f"{slower:g} times the measured times"] = show_courses(
                model, durations, courses
            )
    return figures


@dataclass(frozen=True, slots=True)
class Model:
    """What all runs share.

    Attributes:
        problem: The space with its synthetic accuracy and a device.
        feasibility: What is known of it beforehand.
        goal: The hypervolume of a thousand random networks.
        folder: For ledgers.
        run_s: Real seconds that a run may take.
    """

    problem: Problem
    feasibility: Feasibility
    goal: float
    folder: Path
    run_s: float

    @classmethod
    def made(cls, folder: Path, run_s: float) -> Model:
        """Once-for-All's space on a phone."""
        target = Target(profile=device("pixel-3"), batch_size=1)
        case = SyntheticCase(family="ofa", target=target, limited=False, folder=folder)
        return cls.of(case.problem(0), folder, run_s)

    @classmethod
    def of(cls, problem: Problem, folder: Path, run_s: float) -> Model:
        """For any problem."""
        feasibility = check_feasible(problem)
        result = search(
            problem,
            evaluations=AS_GOOD_AS,
            strategy=RandomSearch(problem.space),
            feasibility=feasibility,
            batch_size=AS_GOOD_AS,
        ).result
        assert result is not None, "a search has a result"
        goal = float(result.history.hypervolumes[-1, 0])
        return cls(problem, feasibility, goal, folder, run_s)

    def run(
        self, name: str, strategy: Strategy, executor: VirtualWorkers, evaluations: int
    ) -> Course:
        """Searches with virtual workers and a ledger on the disk."""
        course = Course(name, executor.workers, executor.in_generations)
        end = time.perf_counter() + self.run_s

        def note(progress: Progress) -> None:
            assert executor.session is not None, "the search has opened it"
            course.results = progress.evaluations
            course.seconds.append(executor.session.now)
            course.hypervolumes.append(max(progress.hypervolume.values()))
            if time.perf_counter() > end and progress.evaluations < progress.total:
                raise _EnoughError

        path = self.folder / "run.sqlite"
        path.unlink(missing_ok=True)
        with Ledger.create(path, {}) as ledger:
            try:
                search(
                    self.problem,
                    evaluations=evaluations,
                    strategy=strategy,
                    executor=executor,
                    ledger=ledger,
                    feasibility=self.feasibility,
                    on_progress=note,
                )
            except _EnoughError:
                course.is_whole = False
        session = executor.session
        assert session is not None, "the search has opened it"
        course.utilisation = session.utilisation()
        course.driver_ms = 1000 * session.thought_s / max(course.results, 1)
        return course


# ---- the driver --------------------------------------------------------------------------------


def driver_table(model: Model, results: int = DRIVER_RESULTS) -> list[dict[str, float]]:
    """Results a second that loop, NSGA-II and ledger take in, whatever the workers do."""
    figures = []
    for workers in WORKERS:
        wanted = min(results, max(1000, 20 * workers))
        courses = [driver_course(model, workers, wanted) for _ in range(3)]
        rates = [1000 / course.driver_ms for course in courses]
        pooled = [pool_rate(model, workers, wanted) for _ in range(3)]
        figures.append(
            {
                "workers": workers,
                "rows a commit": courses[0].results / len(courses[0].seconds),
                "best": max(rates),
                "median": float(np.median(rates)),
                "best with the pool": max(pooled),
                "median with the pool": float(np.median(pooled)),
            }
        )
    columns = list(figures[0])
    show(
        "results a second of the driver, real: NSGA-II, loop and SQLite ledger; every worker is "
        "always done",
        columns,
        [[f"{figure[column]:,.0f}" for column in columns] for figure in figures],
    )
    return figures


def driver_course(model: Model, workers: int, results: int) -> Course:
    """A run in which evaluations take no time, so that the driver is what is waited for."""
    strategy = NSGA2(model.problem.space, population_size=100, seed=0)
    executor = VirtualWorkers(workers=workers, durations=_at_once, batch_size=2)
    return model.run("nsga2", strategy, executor, results)


def pool_rate(model: Model, workers: int, results: int) -> float:
    """Results a second of a search with the real pool, whose workers answer at once."""
    problem = replace(model.problem, accuracy=IdleEvaluator())
    came: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        came.append((time.perf_counter(), progress.evaluations))

    path = model.folder / "run.sqlite"
    path.unlink(missing_ok=True)
    with Ledger.create(path, {}) as ledger:
        search(
            problem,
            evaluations=results,
            strategy=NSGA2(problem.space, population_size=100, seed=0),
            executor=InstantWorkers(workers=workers, batch_size=2),
            ledger=ledger,
            feasibility=model.feasibility,
            on_progress=note,
        )
    (began, first), (ended, last) = came[0], came[-1]
    return (last - first) / max(ended - began, 1e-9)


def _at_once(n: int, rng: np.random.Generator) -> Floats:
    return np.full(n, 1e-9)


# ---- strategies --------------------------------------------------------------------------------


def model_strategies(
    model: Model, durations: HeavyTailed, names: Sequence[str] | None, counts: Sequence[int]
) -> list[Course]:
    """Every strategy with more and more workers, until it leaves half of them idle."""
    courses = []
    for name in names or STRATEGIES:
        for workers in counts:
            pair = []
            for in_generations in (False, True):
                try:
                    strategy = strategy_by_name(name, model.problem)
                except BadInputError as error:  # its library is not installed
                    print(f"{name} is left out: {error}")
                    break
                executor = VirtualWorkers(
                    workers=workers,
                    durations=durations,
                    deaths=DEATHS,
                    restart_s=10 * float(durations.seconds.mean()),
                    in_generations=in_generations,
                )
                wanted = max(FEWEST, EVALUATIONS_A_WORKER * workers)
                pair.append(model.run(name, strategy, executor, wanted))
            courses += pair
            if not pair or pair[0].utilisation < IDLE:
                break
    return courses


def show_courses(model: Model, durations: HeavyTailed, courses: Sequence[Course]) -> Any:
    """Prints the table; gives its rows, and the courses in full."""
    rows = rows_of(courses, durations.mean, model.goal)
    show(
        f"MODEL of workers in virtual time, evaluations of {durations.mean:.3g} s in the mean; "
        f"goal: a hypervolume of {model.goal:.3f}; cut: its real time was up",
        list(HEAD),
        [[row[name] for name in HEAD] for row in rows],
    )
    return {"rows": rows, "courses": [asdict(course) for course in courses]}


HEAD = (
    "strategy",
    "workers",
    "busy",
    "busy (gen.)",
    "s to goal",
    "s (gen.)",
    "ms a result",
    "keeps busy",
    "results",
)
"""The columns; `gen.` is of synchronous generations."""


def rows_of(
    courses: Sequence[Course], evaluation_s: float, goal: float
) -> list[dict[str, str | int]]:
    """The table: a row for each strategy and number of workers.

    Args:
        courses: The runs.
        evaluation_s: The mean time of an evaluation.
        goal: The hypervolume whose time is told.
    """
    rows = []
    by_case: dict[tuple[str, int], dict[bool, Course]] = {}
    for course in courses:
        by_case.setdefault((course.strategy, course.workers), {})[course.in_generations] = course
    for (name, workers), pair in by_case.items():
        own = pair[False]
        row: dict[str, str | int] = {"strategy": name, "workers": workers}
        for mark, one in (("", own), (" (gen.)", pair.get(True))):
            seconds = one.reached(goal) if one else None
            row[f"busy{mark}"] = f"{100 * one.utilisation:.0f} %" if one else ""
            row[f"s{mark}" if mark else "s to goal"] = "-" if seconds is None else f"{seconds:.3g}"
        row["ms a result"] = f"{own.driver_ms:.3g}"
        row["keeps busy"] = f"{1000 * evaluation_s / own.driver_ms:,.0f}" if own.driver_ms else "-"
        row["results"] = f"{own.results}{'' if own.is_whole else ' (cut)'}"
        rows.append({column: row[column] for column in HEAD})
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strategy", nargs="+", choices=STRATEGIES, help="these alone")
    parser.add_argument("--workers", type=int, nargs="+", help="how many virtual workers")
    parser.add_argument(
        "--slower", type=float, nargs="+", help="how many times as long evaluations take"
    )
    parser.add_argument("--rows", type=int, default=24, help="evaluations that are timed first")
    parser.add_argument(
        "--run-s", type=float, default=3.0, help="real seconds that a run may take"
    )


if __name__ == "__main__":
    benchmark_main("scaling_model", run, add_arguments)
