from dataclasses import dataclass

import numpy as np
import pytest
from pymoo.algorithms.moo import nsga2 as pymoo_nsga2

from records import BadInputError, Ledger, Measured
from strategies import (
    NSGA2,
    Bayesian,
    EvaluationError,
    Finished,
    InProcess,
    PredictorGuided,
    Problem,
    RandomSearch,
    Slimming,
    search,
)
from strategies.executor_evaluation import Fault, outcomes
from strategies.pymoo_strategy import PymooStrategy
from strategies.search import DESIGN_SIZE
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost, Ridge
from tests.strategies.threads_executor import Threads


def problem(space=SPACE, limits=None, **options):
    return Problem(space, FormulaAccuracy(space, **options), [LayerCost(space)], limits or {})


def by_genes(observations):
    """What was observed; the formula's last digits depend on how many rows come together."""
    return {o.genes: (o.value and round(o.value, 12), o.status, o.reason) for o in observations}


def raises_on(condition):
    """An accuracy that raises for some rows, also when they come with others."""

    class Raising(FormulaAccuracy):
        def evaluate(self, genes):
            if any(condition(row) for row in genes):
                raise MemoryError("no room")
            return super().evaluate(genes)

    return Raising(SPACE)


# ---- one batch -------------------------------------------------------------------------------


def test_only_the_rows_at_fault_fail():
    rows = SPACE.sample(12, np.random.default_rng(0))
    evaluator = raises_on(lambda row: row[0] == 1)
    found = outcomes(evaluator, rows)
    for row, outcome in zip(rows, found, strict=True):
        if row[0] == 1:
            assert isinstance(outcome, Fault)
            assert outcome.reason == "MemoryError: no room"
        else:
            assert outcome.value == evaluator.values(row[None])[0]
    assert {type(outcome) for outcome in found} == {Fault, Measured}


@dataclass
class Plain:
    """A result of a foreign class, which checks nothing."""

    value: float
    seconds: float = 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.5, 87.5])
def test_a_value_that_is_no_share_is_a_fault(value):
    evaluator = FormulaAccuracy(SPACE)
    evaluator.evaluate = lambda genes: [Plain(value) for _ in genes]
    fault = outcomes(evaluator, SPACE.extremes("largest"))[0]
    assert f"accuracy {value:g}; it must be a share in 0..1" in fault.reason
    assert ("percentages" in fault.reason) == (value in (1.5, 87.5))
    assert fault.failed().seconds == 0.5


def test_a_reason_of_any_length_can_be_recorded():
    assert len(Fault(reason="x" * 10**6).failed().reason) == 2000


def test_this_process_takes_one_batch_at_a_time():
    rows = SPACE.sample(3, np.random.default_rng(0))
    with InProcess().open(FormulaAccuracy(SPACE)) as session:
        with pytest.raises(BadInputError, match="nothing is in flight"):
            session.wait()
        session.submit(rows)
        assert not session.has_room
        with pytest.raises(BadInputError, match="in flight already"):
            session.submit(rows)
        (finished,) = session.wait()
        assert isinstance(finished, Finished)
        np.testing.assert_array_equal(finished.genes, rows)
        assert session.has_room
        assert session.ready() == []
    with pytest.raises(BadInputError, match="batch_size must be a whole number"):
        InProcess(batch_size=0)


# ---- searches --------------------------------------------------------------------------------


def test_evaluations_that_raise_are_recorded_and_the_search_goes_on():
    accuracy = raises_on(lambda row: row[0] == 1)
    p = Problem(SPACE, accuracy, [LayerCost(SPACE)], {})
    result = search(p, evaluations=24, strategy=RandomSearch(SPACE)).result
    failed = [o for o in result.observations if o.status == "failed"]
    assert 0 < len(failed) < 24
    assert all(o.genes[0] == 1 and o.reason == "MemoryError: no room" for o in failed)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_fixed_design_gives_the_same_observations_with_many_workers(batch_size):
    rows = SPACE.sample(40, np.random.default_rng(1), "architectures")
    rows = np.unique(rows, axis=0)
    results = [
        search(
            problem(fails=lambda row: row[1] == 1),
            evaluations=len(rows),
            initial=rows,
            strategy=RandomSearch(SPACE),
            executor=executor,
        ).result
        for executor in (None, Threads(workers=4, batch_size=batch_size))
    ]
    assert by_genes(results[0].observations) == by_genes(results[1].observations)
    assert len(results[1].observations) == len(rows)
    assert {o.status for o in results[1].observations} == {"ok", "failed"}


class Asked(RandomSearch):
    """Notes how many rows it is asked for."""

    def __init__(self, space):
        super().__init__(space)
        self.numbers = []

    def ask(self, n):
        self.numbers.append(n)
        return super().ask(n)


def test_a_strategy_is_asked_at_once_for_all_batches_that_there_is_room_for():
    p, strategy = problem(), Asked(SPACE)
    executor = Threads(workers=6, batch_size=3, queued=2)
    result = search(
        p, evaluations=40, strategy=strategy, executor=executor, initial=SPACE.extremes("largest")
    ).result
    assert len(result.observations) == len(set(p.accuracy.seen)) == 40
    # Six batches of the design fill six of eight places; for the other two it is asked at once.
    assert strategy.numbers[0] == 2 * 3
    assert sum(strategy.numbers) == 40 - DESIGN_SIZE, "and for no row too many"

    in_order = Asked(SPACE)
    search(problem(), evaluations=40, strategy=in_order, executor=InProcess(batch_size=3))
    assert set(in_order.numbers) == {3}, "in process it hears of each batch before the next"


@pytest.mark.parametrize(
    "make",
    [
        lambda p: RandomSearch(p.space),
        lambda p: NSGA2(p.space, population_size=12),
        lambda p: PredictorGuided(p, Ridge(p.space), population_size=30, generations=3),
        lambda p: Slimming(p),
        lambda p: PymooStrategy(p, pymoo_nsga2.NSGA2(pop_size=12)),
        pytest.param(lambda p: Bayesian(p), marks=pytest.mark.slow),
    ],
)
def test_no_row_is_measured_twice_and_none_is_lost(make):
    p = problem(limits={"latency_ms": 0.6})
    steps = []
    with Ledger.create("sqlite://", {}) as ledger:
        result = search(
            p,
            evaluations=45,
            strategy=make(p),
            executor=Threads(workers=3),
            ledger=ledger,
            on_progress=steps.append,
        ).result
        assert ledger.observations() == list(result.observations)
    assert len(p.accuracy.seen) == len(set(p.accuracy.seen)) == 45
    assert {o.genes for o in result.observations} == set(p.accuracy.seen)
    assert steps[-1].evaluations == 45
    assert steps[-1].pending == 0
    assert sum(steps[-1].by_worker.values()) == 45
    assert max(s.pending for s in steps) <= (3 + 1) * 2


def test_a_small_space_is_searched_to_its_end_by_many_workers():
    p = problem(TINY)
    result = search(
        p, evaluations=10 * TINY.cardinality, strategy=NSGA2(TINY), executor=Threads(workers=3)
    ).result
    assert len(result.observations) == len(set(p.accuracy.seen)) == TINY.cardinality


def test_a_hopeless_search_with_workers_says_why():
    accuracy = raises_on(lambda row: True)
    p = Problem(SPACE, accuracy, [LayerCost(SPACE)], {})
    with pytest.raises(EvaluationError, match=r"evaluations failed: MemoryError: no room \(2"):
        search(p, evaluations=500, executor=Threads(workers=2, retries=1), use_predictor=False)


class Stopping(RandomSearch):
    """Interrupts the search after a number of observations."""

    def __init__(self, space, after):
        super().__init__(space)
        self.after = after

    def tell(self, genes, objectives, violations=None):
        super().tell(genes, objectives, violations)
        self.after -= len(genes)
        if self.after <= 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("continued", [Threads(workers=2), InProcess()])
def test_a_search_that_broke_off_continues_without_loss_or_repetition(tmp_path, continued):
    path = tmp_path / "run.sqlite"
    with Ledger.create(path, {}) as ledger, pytest.raises(KeyboardInterrupt):
        search(
            problem(),
            evaluations=60,
            strategy=Stopping(SPACE, 21),
            executor=Threads(workers=3),
            ledger=ledger,
        )
    with Ledger.open(path) as ledger:
        before = ledger.observations()
        assert 21 <= len(before) < 60
        p = problem()
        strategy = NSGA2(SPACE, population_size=12)
        result = search(p, evaluations=60, strategy=strategy, executor=continued, ledger=ledger)
        assert ledger.observations() == list(result.result.observations)
    assert list(result.result.observations)[: len(before)] == before
    assert not {o.genes for o in before} & set(p.accuracy.seen)
    assert len(p.accuracy.seen) == 60 - len(before)
    assert result.result.reused == len(before)


def test_a_run_that_is_complete_starts_no_worker():
    with Ledger.create("sqlite://", {}) as ledger:
        options = {"evaluations": 12, "use_predictor": False, "ledger": ledger}
        first = search(problem(), executor=Threads(), **options).result

        class Forbidden(Threads):
            def open(self, evaluator):
                raise AssertionError("nothing is left to do")

        again = search(problem(), executor=Forbidden(), **options).result
    assert again.observations == first.observations


def test_rows_that_others_chose_are_pending_and_not_proposed():
    strategy = RandomSearch(TINY)
    rows = np.unique(TINY.sample(30, np.random.default_rng(0), "architectures"), axis=0)
    strategy.expect(rows)
    strategy.expect(rows[:2])
    np.testing.assert_array_equal(strategy.pending, rows)
    asked = strategy.ask(TINY.cardinality)
    assert len(asked) == TINY.cardinality - len(rows)
    restored = RandomSearch(TINY)
    restored.restore(strategy.state())
    np.testing.assert_array_equal(restored.pending, strategy.pending)
    strategy.tell(rows, np.ones((len(rows), 2)))
    assert len(strategy.pending) == len(asked)
