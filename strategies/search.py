"""The search: measures what a strategy proposes, and gives the Pareto front.

It first makes sure that the limits can be kept, then measures an initial design, then what the
strategy proposes, batch by batch. Only architectures that keep the limits are measured: costs are
known beforehand, so an infeasible proposal goes back to the strategy without an evaluation (but
for a strategy that says that it needs them measured). With several targets a network is measured
once and counts for every target whose limits it keeps.

An executor does the measuring. While it has room it is given batches; whatever is done is
committed to the ledger as one group, and then the strategy hears of it.

In this process one batch is done before the next is asked for. So all proposals follow from the
problem, the seed and the measured values; a search that is started again with the ledger of an
interrupted one asks for the same architectures, finds them in the ledger, and goes on as if it had
never stopped. Where several workers measure, results come in the order of their time; a search
that is started again then begins with all that the ledger has, told at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from records import BadInputError, Ledger, Observation, generator
from search_spaces import Genes
from strategies.allowances import Marks
from strategies.bayesian import Bayesian
from strategies.design import initial_design
from strategies.evaluations import Evaluations
from strategies.executor import Executor, InProcess, Session
from strategies.executor_evaluation import EvaluationError
from strategies.feasibility import Feasibility, known_or_checked
from strategies.front import Front, pareto_front
from strategies.known_rows import KnownRows
from strategies.limited_strategy import LimitedStrategy
from strategies.nsga2 import NSGA2
from strategies.predictor_guided import PredictorGuided
from strategies.problem import Problem
from strategies.protocols import Predictor
from strategies.result import HistoryRecorder, Progress, SearchResult, reference_points
from strategies.strategy import Strategy

logger = logging.getLogger(__name__)

DESIGN_SIZE = 16
"""How many architectures are measured before a strategy is asked that has no design of its own;
independent of how many there will be in all: a longer search begins like a shorter one."""

_HOPELESS_BATCHES = 2
_MOST_AT_ONCE = 256  # rows that workers wait for while a strategy is asked


def search(
    problem: Problem,
    *,
    evaluations: int,
    strategy: Strategy | None = None,
    predictor: Predictor | None = None,
    use_predictor: bool = True,
    ledger: Ledger | None = None,
    executor: Executor | None = None,
    batch_size: int | None = None,
    initial: npt.ArrayLike | None = None,
    seed: int = 0,
    feasibility: Feasibility | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Front:
    """Searches for the networks that trade accuracy against latency best, within the limits.

    Args:
        problem: What to search for.
        evaluations: How many architectures to measure, failed ones included; fewer where no
            further one that keeps the limits is found.
        strategy: What to try next; `Bayesian` by default.
        predictor: A predictor of accuracy to be guided by, with `PredictorGuided`.
        use_predictor: Whether anything is predicted where no strategy is given; without, it is
            `NSGA2`.
        ledger: Where to commit every observation, and to take them from when it already has them.
        executor: Where evaluations run; in this process by default.
        batch_size: How many architectures a worker is given at once; in this process, how many
            are measured before the strategy is asked again. None leaves it to the executor.
        initial: Genes to measure first, in this order, even if they miss the limits.
        seed: In this process, the same seed, problem and measured values give the same search.
        feasibility: What `check_feasible` found for this problem and seed, where it is known.
        on_progress: Called whenever something was measured.

    Returns:
        The front; its `result` has the observations, the history and the predictor's quality.

    Raises:
        InfeasibleConstraintError: The limits cannot be kept; raised within seconds.
        EvaluationError: Everything measured in the first two batches failed, the evaluator
            returned a wrong number of results, or no worker can be started.
        BadInputError: Arguments that do not fit, or a ledger of another space or other weights.
    """
    executor = executor or InProcess()
    batch_size = executor.batch_size if batch_size is None else batch_size
    for name, number in (("evaluations", evaluations), ("batch_size", batch_size)):
        if number < 1:
            raise BadInputError(f"{name} must be at least 1, got {number}")
    if strategy is not None and predictor is not None:
        raise BadInputError("give a strategy or a predictor to be guided by, not both")
    if predictor is not None and not use_predictor:
        raise BadInputError("a predictor was given, but use_predictor is False")
    if strategy is not None and strategy.space.hash != problem.space.hash:
        raise BadInputError("the strategy was made with another space than the problem")
    feasibility = known_or_checked(problem, seed, feasibility)
    if predictor is not None:
        strategy = PredictorGuided(problem, predictor, seed=seed)
    elif strategy is None and use_predictor:
        strategy = Bayesian(problem, seed=seed)
    rng = generator(seed, "strategies", "search")
    size = 0 if strategy is not None and strategy.has_design else DESIGN_SIZE
    design = initial_design(problem, size, rng, feasible=feasibility.feasible_genes, first=initial)
    run = _Search(
        problem=problem,
        strategy=strategy or NSGA2(problem.space, population_size=20, seed=seed),
        evaluations=Evaluations(problem, ledger),
        executor=executor,
        feasibility=feasibility,
        design=design,
        rng=rng,
        total=evaluations,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    return run.run()


class _Search:
    """One running search."""

    def __init__(
        self,
        *,
        problem: Problem,
        strategy: Strategy,
        evaluations: Evaluations,
        executor: Executor,
        feasibility: Feasibility,
        design: Genes,
        rng: np.random.Generator,
        total: int,
        batch_size: int,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.problem = problem
        self.strategy = strategy
        self.limited = LimitedStrategy(problem, strategy, feasibility)
        self.evaluations = evaluations
        self.executor = executor
        self.in_order = executor.in_order and not evaluations.is_out_of_order
        self.feasibility = feasibility
        self.design = design
        self.surplus = design[:0]
        self.rng = rng
        self.total = total
        self.batch_size = batch_size
        self.on_progress = on_progress
        self.batches = 0
        self.best_accuracy: float | None = None
        self.known = KnownRows()
        self.recorder = HistoryRecorder(problem.targets, reference_points(problem, feasibility))
        self.began = time.monotonic()

    def run(self) -> Front:
        if not self.in_order:
            self._recall()
        if self.evaluations.count < self.total:
            with self.executor.open(self.problem.accuracy) as session:
                self._run(session)
        self._check_hope(at_least=1)
        return pareto_front(self.problem, self.evaluations.observations, self._result())

    def _run(self, session: Session) -> None:
        try:
            while self._submit(session):
                self._take_in(self.evaluations.settle(session.wait()))
        except BaseException:
            if done := session.ready():  # paid for, so the ledger shall have it
                self.evaluations.settle(done)
            raise

    def _submit(self, session: Session) -> bool:
        """Submits batches while there is room; whether anything is in flight then."""
        while (room := session.room) and (missing := self._missing) > 0:
            batch = self._next_batch(room)[:missing]
            if len(batch) == 0:
                self._say_why_not()
                break
            submitted = self.evaluations.ask(batch, self.batches, session.submit)
            self.batches += 1
            if not submitted:  # all of it is in the ledger, or will be known with others
                self._take_in(self.evaluations.settle([]))
            is_to_ask = len(self.design) == 0 and len(self.surplus) < self.batch_size
            if is_to_ask and (done := session.ready()):  # the strategy hears of it first
                self._take_in(self.evaluations.settle(done))
        return self.evaluations.pending > 0

    @property
    def _missing(self) -> int:
        """How many rows are still to be asked for."""
        return self.total - self.evaluations.count

    def _recall(self) -> None:
        """Begins with what the ledger has, where its order is not the order of asking."""
        self.evaluations.note_out_of_order(self.executor.name)
        self.design = self.design[~self.evaluations.is_recorded(self.design)]
        self._take_in(self.evaluations.recall(self.total))

    def _say_why_not(self) -> None:
        """Logs why nothing more is submitted, unless what is in flight may change that."""
        done = len(self.evaluations.observations)
        if self.evaluations.pending:
            return
        if self.strategy.finished:
            logger.info("%d evaluations: %s", done, self.strategy.finished)
            return
        logger.warning(
            "no further architecture within the limits was found after %d of %d evaluations",
            done,
            self.total,
        )

    # ---- choosing ----------------------------------------------------------------------------

    def _next_batch(self, room: int) -> Genes:
        """The next rows to measure: the design, then what the strategy proposes.

        A strategy is asked at once for many of the batches that there is room for: a thousand free
        workers do not wait for five hundred evolutions of two rows each.
        """
        if len(self.design):
            batch, self.design = np.split(self.design, [self.batch_size])
            if not self.in_order:
                self.strategy.expect(batch)
            return batch
        if len(self.surplus) < self.batch_size:
            wanted = min(room * self.batch_size, self._missing, _MOST_AT_ONCE)
            self.surplus = self._ask(max(self.batch_size, wanted))
        batch, self.surplus = np.split(self.surplus, [self.batch_size])
        return batch

    def _ask(self, wanted: int) -> Genes:
        """Rows that keep the limits, the surplus first; none if no further one was found."""
        found = self.limited.ask(wanted, self.surplus)
        if len(found) or self.strategy.finished or self.evaluations.pending:
            return found
        starts = np.array([o.genes for o in self.evaluations.observations], np.int16)
        found = self.limited.random_rows(self.batch_size, self.known, starts, self.rng)
        if not self.in_order:
            self.strategy.expect(found)
        return found

    # ---- learning ----------------------------------------------------------------------------

    def _take_in(self, observations: Sequence[Observation]) -> None:
        """Tells everybody of what was committed."""
        if not observations:
            return
        self._check_hope(at_least=_HOPELESS_BATCHES * self.batch_size)
        self._tell(observations)
        if self.on_progress is not None:
            self.on_progress(self._progress())

    def _check_hope(self, at_least: int) -> None:
        observations = self.evaluations.observations
        if not at_least <= self.evaluations.failed == len(observations):
            return
        reasons = list(dict.fromkeys(o.reason for o in observations))[:3]
        raise EvaluationError(
            f"all of the first {len(observations)} evaluations failed: {'; '.join(reasons)}. "
            "Mend the evaluator, or give it more time, and start with a fresh ledger"
        )

    def _tell(self, observations: Sequence[Observation]) -> None:
        genes = np.array([o.genes for o in observations], np.int16)
        values = [np.nan if o.value is None else o.value for o in observations]
        accuracy = np.array(values, np.float64)
        objectives = self.problem.objectives(genes, accuracy)
        missed = self.problem.target_violations(genes)
        self.known.add(genes)
        self.limited.report(genes, objectives, missed)
        counts: Marks = (missed <= 0) & ~np.isnan(accuracy)[:, None]
        self.recorder.extend(objectives, counts, [o.seconds for o in observations])
        if counts.any():
            best = float(accuracy[counts.any(axis=1)].max())
            self.best_accuracy = max(best, self.best_accuracy or best)

    def _progress(self) -> Progress:
        return Progress(
            evaluations=len(self.evaluations.observations),
            total=self.total,
            failed=self.evaluations.failed,
            reused=self.evaluations.reused,
            pending=self.evaluations.pending,
            by_worker=dict(self.evaluations.by_worker),
            best_accuracy=self.best_accuracy,
            hypervolume=self.recorder.latest,
            seconds=time.monotonic() - self.began,
        )

    def _result(self) -> SearchResult:
        guided = self.strategy if isinstance(self.strategy, PredictorGuided) else None
        return SearchResult(
            observations=tuple(self.evaluations.observations),
            history=self.recorder.history(),
            feasibility=self.feasibility,
            predictor=guided.predictor if guided else None,
            quality=self.strategy.quality,
            reused=self.evaluations.reused,
            strategy=type(self.strategy).__name__,
        )
