"""The search: measures what a strategy proposes, and gives the Pareto front.

It first makes sure that the limits can be kept, then measures an initial design, then what the
strategy proposes, batch by batch. Only architectures that keep the limits are measured: costs are
known beforehand, so an infeasible proposal goes back to the strategy without an evaluation (but
for a strategy that says that it needs them measured). With several targets a network is measured
once and counts for every target whose limits it keeps.

Every batch is committed to the ledger before the strategy hears of it. All proposals follow from
the problem, the seed and the measured values; so a search that is started again with the ledger of
an interrupted one asks for the same architectures, finds them in the ledger, and goes on as if it
had never stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from records import BadInputError, HwnasError, Ledger, Measured, Observation, generator
from search_spaces import Genes
from strategies.allowances import Marks, ranked_objectives
from strategies.design import initial_design
from strategies.feasibility import Feasibility, check_feasible, sample_feasible
from strategies.front import Front, pareto_front
from strategies.known_rows import KnownRows
from strategies.nsga2 import NSGA2
from strategies.predictor_guided import PredictorGuided
from strategies.problem import Problem
from strategies.protocols import Floats, Predictor
from strategies.result import HistoryRecorder, Progress, SearchResult, reference_points
from strategies.strategy import Strategy

logger = logging.getLogger(__name__)

DESIGN_SIZE = 16
"""How many architectures are measured before a strategy is asked that has no design of its own;
independent of how many there will be in all: a longer search begins like a shorter one."""

_HOPELESS_BATCHES = 2
_FEASIBLE_ATTEMPTS = 24
_LARGEST_ASK = 1024


class EvaluationError(HwnasError, RuntimeError):
    """The evaluator cannot be used: everything fails, or its answers make no sense."""


def search(
    problem: Problem,
    *,
    evaluations: int,
    strategy: Strategy | None = None,
    predictor: Predictor | None = None,
    use_predictor: bool = True,
    ledger: Ledger | None = None,
    batch_size: int = 8,
    initial: npt.ArrayLike | None = None,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Front:
    """Searches for the networks that trade accuracy against latency best, within the limits.

    Args:
        problem: What to search for.
        evaluations: How many architectures to measure, failed ones included; fewer where no
            further one that keeps the limits is found.
        strategy: What to try next; `PredictorGuided` by default.
        predictor: The default strategy's predictor of accuracy; boosted trees by default.
        use_predictor: Whether the default strategy uses a predictor; without, it is `NSGA2`.
        ledger: Where to commit every observation, and to take them from when it already has them.
        batch_size: How many architectures are measured before the strategy is asked again.
        initial: Genes to measure first, in this order, even if they miss the limits.
        seed: The same seed, problem and measured values give the same search.
        on_progress: Called after every batch.

    Returns:
        The front; its `result` has the observations, the history and the predictor's quality.

    Raises:
        InfeasibleConstraintError: The limits cannot be kept; raised within seconds.
        EvaluationError: Everything measured in the first two batches failed, the evaluator
            returned a wrong number of results, or a value that is no share.
        BadInputError: Arguments that do not fit, or a ledger of another space or other weights.
    """
    for name, number in (("evaluations", evaluations), ("batch_size", batch_size)):
        if number < 1:
            raise BadInputError(f"{name} must be at least 1, got {number}")
    if strategy is not None and predictor is not None:
        raise BadInputError("give a strategy or a predictor for the default strategy, not both")
    if predictor is not None and not use_predictor:
        raise BadInputError("a predictor was given, but use_predictor is False")
    if strategy is not None and strategy.space.hash != problem.space.hash:
        raise BadInputError("the strategy was made with another space than the problem")
    feasibility = check_feasible(problem, seed)
    if strategy is None and use_predictor:
        strategy = PredictorGuided(problem, predictor, seed=seed)
    rng = generator(seed, "strategies", "search")
    size = 0 if strategy is not None and strategy.has_design else DESIGN_SIZE
    design = initial_design(problem, size, rng, feasible=feasibility.feasible_genes, first=initial)
    run = _Search(
        problem=problem,
        strategy=strategy or NSGA2(problem.space, population_size=20, seed=seed),
        ledger=ledger,
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
        ledger: Ledger | None,
        feasibility: Feasibility,
        design: Genes,
        rng: np.random.Generator,
        total: int,
        batch_size: int,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.problem = problem
        self.strategy = strategy
        self.ledger = ledger
        self.feasibility = feasibility
        self.design = design
        self.surplus = design[:0]
        self.rng = rng
        self.total = total
        self.batch_size = batch_size
        self.on_progress = on_progress
        self.recorded = _recorded(problem, ledger)
        self.measured = _measured(problem, self.recorded)
        self.observations: list[Observation] = []
        self.reused = 0
        self.best_accuracy: float | None = None
        self.known = KnownRows()
        references = reference_points(problem, feasibility)
        self.slowest = np.array([latency for _, latency in references])
        self.recorder = HistoryRecorder(problem.targets, references)
        self.began = time.monotonic()

    def run(self) -> Front:
        step = 0
        while len(self.observations) < self.total:
            batch = self._next_batch()[: self.total - len(self.observations)]
            if len(batch) == 0 and self.strategy.finished:
                logger.info("%d evaluations: %s", len(self.observations), self.strategy.finished)
                break
            if len(batch) == 0:
                logger.warning(
                    "no further architecture within the limits was found after %d of %d "
                    "evaluations",
                    len(self.observations),
                    self.total,
                )
                break
            observations = self._evaluate(batch, step)
            step += 1
            self._check_hope(step)
            self._tell(batch, observations)
            if self.on_progress is not None:
                self.on_progress(self._progress())
        self._check_hope(_HOPELESS_BATCHES)
        return pareto_front(self.problem, self.observations, self._result())

    # ---- choosing ----------------------------------------------------------------------------

    def _next_batch(self) -> Genes:
        """The next rows to measure: the design, then what the strategy proposes."""
        if len(self.design):
            batch, self.design = np.split(self.design, [self.batch_size])
        else:
            batch, self.surplus = np.split(self._ask(), [self.batch_size])
        return batch

    def _ask(self) -> Genes:
        """Asks for rows that keep the limits; the strategy learns at once of those that do not.

        Returns:
            At least `batch_size` rows, as a rule; none if no further one was found.
        """
        found = self.surplus
        for attempt in range(_FEASIBLE_ATTEMPTS):
            missing = self.batch_size - len(found)
            if missing <= 0:
                break
            asked = min(missing * 2**attempt, max(missing, _LARGEST_ASK))
            rows = self.strategy.ask(asked)
            missed = self.problem.target_violations(rows)
            violations = missed.min(axis=1)
            misses = (violations > 0) & (not self.strategy.measures_infeasible)
            if misses.any():
                unknown = np.full(int(misses.sum()), np.nan)
                objectives = self.problem.objectives(rows[misses], unknown)
                self._report(rows[misses], objectives, missed[misses])
            found = np.concatenate([found, rows[~misses]])
            if len(rows) == 0 or (len(rows) < asked and not self.strategy.waits):
                break
        if len(found) == 0 and not self.strategy.finished:
            starts = np.array([o.genes for o in self.observations], np.int16)
            count = self.batch_size + min(len(self.known), 1024)
            rows = sample_feasible(self.problem, count, self.rng, starts)
            found = rows[self.known.is_new(rows)][: self.batch_size]
        return found

    # ---- measuring ---------------------------------------------------------------------------

    def _evaluate(self, genes: Genes, step: int) -> list[Observation]:
        """Measures a batch, or takes it from the ledger; what is new is committed first."""
        keys = [tuple(row) for row in genes.tolist()]
        missing = np.array([key not in self.recorded for key in keys])
        if missing.any():
            new = self._measure_networks(genes[missing], step)
            if self.ledger is not None:
                self.ledger.append(new)
            self.recorded.update({o.genes: o for o in new})
        self.reused += int((~missing).sum())
        found = [self.recorded[key] for key in keys]
        self.observations += found
        return found

    def _measure_networks(self, genes: Genes, step: int) -> list[Observation]:
        """Measures each network once: rows that differ in the platform alone share a result."""
        names = [tuple(row) for row in self.problem.space.without_platform(genes).tolist()]
        first = {name: i for i, name in reversed(list(enumerate(names)))}
        unknown = sorted(i for name, i in first.items() if name not in self.measured)
        results = self._measure(genes[unknown]) if unknown else ()
        fresh = dict(zip(unknown, results, strict=True))
        self.measured.update({names[i]: result for i, result in fresh.items()})
        return [
            self._observation(
                tuple(row), fresh.get(i) or replace(self.measured[name], seconds=0.0), step
            )
            for i, (row, name) in enumerate(zip(genes.tolist(), names, strict=True))
        ]

    def _measure(self, genes: Genes) -> Sequence[Measured]:
        results = list(self.problem.accuracy.evaluate(genes))
        if len(results) != len(genes):
            raise EvaluationError(
                f"the evaluator was given {len(genes)} architectures and returned {len(results)} "
                "results; it must return one for each, in order"
            )
        for result in results:
            if result.value is not None and not 0 <= result.value <= 1:
                raise EvaluationError(
                    f"the evaluator returned {self.problem.accuracy.metric} {result.value:g}; "
                    "it must be a share in 0..1 (divide percentages by 100)"
                )
        return results

    def _observation(self, genes: tuple[int, ...], measured: Measured, step: int) -> Observation:
        return Observation(
            genes=genes,
            metric=self.problem.accuracy.metric,
            value=measured.value,
            dispersion=measured.dispersion,
            status=measured.status,
            reason=measured.reason,
            step=step,
            seconds=measured.seconds,
            weights_hash=self.problem.accuracy.weights_hash,
            space_hash=self.problem.space.hash,
        )

    def _check_hope(self, batches: int) -> None:
        if batches != _HOPELESS_BATCHES or any(o.status == "ok" for o in self.observations):
            return
        reasons = list(dict.fromkeys(o.reason for o in self.observations))[:3]
        raise EvaluationError(
            f"all of the first {len(self.observations)} evaluations failed: {'; '.join(reasons)}. "
            "Mend the evaluator and start with a fresh ledger"
        )

    # ---- learning ----------------------------------------------------------------------------

    def _tell(self, genes: Genes, observations: Sequence[Observation]) -> None:
        values = [np.nan if o.value is None else o.value for o in observations]
        accuracy = np.array(values, np.float64)
        objectives = self.problem.objectives(genes, accuracy)
        missed = self.problem.target_violations(genes)
        self.known.add(genes)
        self._report(genes, objectives, missed)
        counts: Marks = (missed <= 0) & ~np.isnan(accuracy)[:, None]
        for i, observation in enumerate(observations):
            self.recorder.add(objectives[i], counts=counts[i], seconds=observation.seconds)
        if counts.any():
            best = float(accuracy[counts.any(axis=1)].max())
            self.best_accuracy = max(best, self.best_accuracy or best)

    def _report(self, genes: Genes, objectives: Floats, missed: Floats) -> None:
        """Tells the strategy of rows, given by how much they miss each target's limits."""
        if not self.strategy.judges_targets:
            objectives = ranked_objectives(objectives, missed <= 0, self.slowest)
        self.strategy.tell(genes, objectives, missed.min(axis=1))

    def _progress(self) -> Progress:
        return Progress(
            evaluations=len(self.observations),
            total=self.total,
            failed=sum(o.status == "failed" for o in self.observations),
            reused=self.reused,
            best_accuracy=self.best_accuracy,
            hypervolume=self.recorder.latest,
            seconds=time.monotonic() - self.began,
        )

    def _result(self) -> SearchResult:
        guided = self.strategy if isinstance(self.strategy, PredictorGuided) else None
        return SearchResult(
            observations=tuple(self.observations),
            history=self.recorder.history(),
            feasibility=self.feasibility,
            predictor=guided.predictor if guided else None,
            quality=guided.quality if guided else None,
            reused=self.reused,
            strategy=type(self.strategy).__name__,
        )


def _recorded(problem: Problem, ledger: Ledger | None) -> dict[tuple[int, ...], Observation]:
    """What the ledger already has of this problem, by genes.

    Raises:
        BadInputError: It has observations of another space or with other weights.
    """
    found: dict[tuple[int, ...], Observation] = {}
    if ledger is None:
        return found
    evaluator = problem.accuracy
    for observation in ledger.observations(metric=evaluator.metric, target=""):
        for name, got, own in (
            ("space", observation.space_hash, problem.space.hash),
            ("weights", observation.weights_hash, evaluator.weights_hash),
        ):
            if got != own:
                raise BadInputError(
                    f"the ledger {ledger.location} holds {evaluator.metric} of another {name} "
                    f"({name} hash {got or 'unknown'}, this problem's is {own}); search with a "
                    "fresh ledger, or with what that one was made with"
                )
        found.setdefault(observation.genes, observation)
    return found


def _measured(
    problem: Problem, recorded: Mapping[tuple[int, ...], Observation]
) -> dict[tuple[int, ...], Measured]:
    """The results of an earlier search by network, which is the genes without the platform."""
    if not recorded:
        return {}
    networks = problem.space.without_platform(np.array(list(recorded), np.int16))
    found: dict[tuple[int, ...], Measured] = {}
    for row, observation in zip(networks.tolist(), recorded.values(), strict=True):
        result = Measured(
            value=observation.value,
            dispersion=observation.dispersion,
            status=observation.status,
            reason=observation.reason,
        )
        found.setdefault(tuple(row), result)
    return found
