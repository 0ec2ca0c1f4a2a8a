import numpy as np
import pytest

from experiments.benchmarks.virtual_workers import HeavyTailed, VirtualWorkers
from records import BadInputError, Ledger, Measured
from strategies import NSGA2, RandomSearch, search
from strategies.problem import Problem
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost


def problem(**options):
    return Problem(SPACE, FormulaAccuracy(SPACE, **options), [LayerCost(SPACE)])


def constant(seconds):
    return lambda n, rng: np.full(n, seconds)


def scripted(*seconds):
    """Each evaluation that begins takes the next of these times."""
    left = list(seconds)
    return lambda n, rng: np.array([left.pop(0) for _ in range(n)])


def workers(count, durations, **options):
    """Virtual workers whose driver takes no time, unless its stopwatch is given."""
    return VirtualWorkers(
        workers=count, durations=durations, **({"stopwatch": lambda: 0.0} | options)
    )


def rows(count):
    rng = np.random.default_rng(0)
    found = np.unique(SPACE.sample(3 * count, rng, "architectures"), axis=0)
    return rng.permutation(found)[:count]


def drained(session, batches):
    """Submits as there is room: when each row came, in the order of coming."""
    batches, came = list(batches), []
    while batches or session.room < session._settings.most_in_flight:
        while batches and session.has_room:
            session.submit(batches.pop(0))
        for finished in session.wait():
            came += [(session.now, tuple(row)) for row in finished.genes.tolist()]
    return came


def searched(executor, count=40, strategy=None, ledger=None):
    p = problem()
    result = search(
        p,
        evaluations=count,
        strategy=strategy or RandomSearch(SPACE),
        executor=executor,
        ledger=ledger,
    ).result
    return result.observations


# ---- time ------------------------------------------------------------------------------------


def test_with_constant_times_and_a_driver_of_no_time_all_workers_are_always_busy():
    executor = workers(4, constant(2.0))
    searched(executor, 40)
    assert executor.session.now == 20.0
    assert executor.session.utilisation() == 1.0
    assert executor.session.utilisation(until=40.0) == 0.5
    assert executor.session.thought_s == 0.0


def test_the_time_of_the_driver_is_added_and_leaves_workers_idle():
    clock = iter(np.arange(10**6) * 0.5)  # each look at the stopwatch is half a second later
    executor = workers(1, constant(1.0), queued=0, stopwatch=lambda: float(next(clock)))
    with executor.open(FormulaAccuracy(SPACE)) as session:
        came = drained(session, [row[None] for row in rows(10)])
    # Half a second before each submission and each waiting; of the latter the worker works.
    assert [when for when, _ in came] == [1.5 * (i + 1) for i in range(10)]
    assert session.thought_s == 10.0
    assert session.utilisation(until=session.now) == pytest.approx(1 / 1.5)


def test_a_straggler_holds_up_a_generation_and_nobody_else():
    times = [8.0, *[1.0] * 99]
    alone = workers(2, scripted(*times), queued=1)
    together = workers(2, scripted(*times), in_generations=True)
    batches = [row[None] for row in rows(12)]
    with alone.open(FormulaAccuracy(SPACE)) as session:
        came = drained(session, batches)
    assert session.now == 10.0  # 8 and 2 beside 8 and 2: eleven short ones after another
    assert sorted(when for when, _ in came) == [*range(1, 9), 8, 9, 9, 10]
    with together.open(FormulaAccuracy(SPACE)) as session:
        came = drained(session, batches)
    assert [when for when, _ in came] == [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13]
    assert session.utilisation(until=13.0) == pytest.approx((8 + 11) / (2 * 13))


@pytest.mark.parametrize("count", [3, 17])
def test_workers_that_wait_for_nobody_are_never_less_busy_than_generations(count):
    durations = HeavyTailed(seconds=np.array([0.8, 1.0, 1.3]), stragglers=0.1)
    busy = []
    for in_generations in (False, True):
        executor = workers(count, durations, in_generations=in_generations, seed=3)
        searched(executor, 10 * count)
        busy.append(executor.session.utilisation())
    assert busy[0] == pytest.approx(1.0)
    assert busy[1] < 0.9


def test_straggling_times_have_the_mean_that_is_told():
    durations = HeavyTailed(seconds=np.array([1.0, 3.0]), stragglers=0.3, tail=1.5, longest=20.0)
    drawn = durations(400_000, np.random.default_rng(0))
    assert durations.mean == pytest.approx(drawn.mean(), rel=0.01)
    assert drawn.max() == 60.0
    share = np.mean(drawn > 3.0)  # all stragglers, but those of 1 s that take up to 3 times it
    assert share == pytest.approx(0.15 + 0.15 * (2 / 3) ** 1.5, rel=0.02)


# ---- faults ----------------------------------------------------------------------------------


def test_a_batch_that_killed_its_worker_is_tried_row_by_row_by_others():
    executor = workers(2, constant(1.0), batch_size=2, deaths=0.5, retries=50, seed=1)
    batches = np.split(rows(20), 10)
    with executor.open(FormulaAccuracy(SPACE)) as session:
        came = drained(session, batches)
    assert session.deaths > 3
    assert sorted(row for _, row in came) == sorted(map(tuple, rows(20).tolist()))
    assert session.utilisation(until=session.now) < 0.9, "dead workers do not work"


def test_rows_that_always_kill_their_worker_fail():
    executor = workers(3, constant(1.0), deaths=1.0, retries=1, restart_s=2.0)
    with executor.open(FormulaAccuracy(SPACE)) as session:
        session.submit(rows(1))
        (finished,) = session.wait()
    assert finished.results == (Measured(value=None, status="failed", reason="its workers died"),)
    assert session.deaths == 2


def test_what_the_evaluator_says_is_what_comes_and_takes_the_virtual_time():
    accuracy = FormulaAccuracy(SPACE)
    accuracy.values = lambda genes: np.where(genes[:, 0] == 1, 87.5, genes[:, 1] / 10)
    with workers(2, constant(1.5)).open(accuracy) as session:
        session.submit(rows(20))
        (finished,) = session.wait()
    for row, result in zip(rows(20), finished.results, strict=True):
        assert result.seconds == 1.5
        assert result.value == (None if row[0] == 1 else row[1] / 10)
    assert {r.status for r in finished.results} == {"ok", "failed"}


# ---- in a search -----------------------------------------------------------------------------


@pytest.mark.parametrize("in_generations", [False, True])
def test_a_search_loses_and_repeats_nothing(in_generations):
    executor = workers(
        5,
        HeavyTailed(seconds=np.array([1.0, 2.0])),
        batch_size=3,
        deaths=0.05,
        retries=9,
        in_generations=in_generations,
    )
    with Ledger.create("sqlite://", {}) as ledger:
        found = searched(executor, 60, NSGA2(SPACE, population_size=10), ledger)
        assert ledger.observations() == list(found)
    assert len({o.genes for o in found}) == 60
    accuracy = FormulaAccuracy(SPACE)
    expected = accuracy.values(np.array([o.genes for o in found]))
    np.testing.assert_allclose([o.value for o in found], expected)


def test_wrong_use_is_refused():
    executor = workers(1, constant(1.0), queued=1)
    assert executor.name == "1 virtual workers"
    assert not executor.in_order
    with executor.open(FormulaAccuracy(SPACE)) as session:
        with pytest.raises(BadInputError, match="nothing is in flight"):
            session.wait()
        assert session.utilisation() == 0.0
        for row in rows(2):
            session.submit(row[None])
        with pytest.raises(BadInputError, match="2 batches are in flight"):
            session.submit(rows(1))
    with pytest.raises(BadInputError, match="workers must be a whole number"):
        workers(0, constant(1.0))
