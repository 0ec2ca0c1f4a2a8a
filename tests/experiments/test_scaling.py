import numpy as np
import pytest

from experiments.benchmarks import scaling, scaling_model
from experiments.benchmarks.idle_evaluator import IdleEvaluator
from experiments.benchmarks.scaling import Arrivals, SearchInTurns, rate_rows
from experiments.benchmarks.scaling_model import Course, Model, rows_of
from experiments.benchmarks.virtual_workers import HeavyTailed, VirtualWorkers
from records import Ledger
from strategies import (
    NSGA2,
    InProcess,
    LocalProcesses,
    Problem,
    Progress,
    RandomSearch,
    check_feasible,
)
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost

DURATIONS = HeavyTailed(seconds=np.array([0.9, 1.1]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    problem = Problem(SPACE, FormulaAccuracy(SPACE), [LayerCost(SPACE)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling_model, "AS_GOOD_AS", 50)
        return Model.of(problem, tmp_path_factory.mktemp("model"), 60.0)


# ---- real workers ----------------------------------------------------------------------------


def told(by_worker):
    return Progress(
        evaluations=sum(by_worker.values()), total=99, failed=0, reused=0, best_accuracy=None,
        hypervolume={}, seconds=0.0, by_worker=by_worker,
    )  # fmt: skip


def test_the_rate_of_a_search_is_the_sum_of_its_workers_between_first_and_last(monkeypatch):
    clock = iter([13.0, 14.0, 15.0, 18.0])
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: next(clock))
    arrivals = Arrivals(began=10.0)
    for by_worker in ({"a": 2}, {"a": 2, "b": 2}, {"a": 6, "b": 2}, {"a": 6, "b": 4, "c": 2}):
        arrivals.note(told(by_worker))
    assert arrivals.first_s == 3.0
    assert arrivals.rate == pytest.approx(4 / 2 + 2 / 4)  # c had one batch, which says nothing


def test_executors_are_compared_to_what_stands_first_for_as_many_workers():
    rates = {
        ("none", 1): [10.0, 8.0, 9.0], ("ray", 1): [9.5, 8.0, 8.1],
        ("none", 2): [20.0, 20.0], ("ray", 2): [18.0, 19.0],
    }  # fmt: skip
    rows = rate_rows(rates, {("ray", 1): 3.04})
    assert [(row["name"], row["workers"]) for row in rows] == [
        ("none", "1"), ("ray", "1"), ("none", "2"), ("ray", "2")
    ]  # fmt: skip
    assert [row["share"] for row in rows] == [
        "", "95.0 % (92 to 98; best of each 95.0)", "", "92.5 % (91 to 94; best of each 95.0)"
    ]  # fmt: skip
    assert [row["first"] for row in rows] == ["", "3.0", "", ""]


@pytest.fixture
def bench(tmp_path):
    costs = LayerCost(SPACE)
    problem = Problem(SPACE, IdleEvaluator(), [costs])
    return scaling.Bench(problem.accuracy, costs, check_feasible(problem), tmp_path)


def test_a_search_measures_its_rows_in_turns_and_waits_between(bench):
    rows = np.unique(SPACE.sample(100, np.random.default_rng(0), "architectures"), axis=0)[:30]
    with SearchInTurns(bench, LocalProcesses(workers=2, batch_size=2), rows) as found:
        for number in (1, 2):
            arrivals = found.turn(10)
            assert sum(counts[-1] for counts in arrivals.counts.values()) == 10 * number
            assert arrivals.rate > 0
            assert len(found.strategy.pending) == 0  # nothing is under way between turns
        (path,) = bench.folder.glob("*/run.sqlite")
        with Ledger.open(path, read_only=True) as ledger:
            measured = {o.genes for o in ledger.observations()}
        assert measured == {tuple(row) for row in rows[:20].tolist()}
    assert not found.thread.is_alive()  # it was stopped before its last turn


def test_the_last_turn_ends_the_search_and_an_error_is_raised_in_the_turn(bench, monkeypatch):
    rows = np.unique(SPACE.sample(100, np.random.default_rng(0), "architectures"), axis=0)[:8]
    with SearchInTurns(bench, InProcess(batch_size=2), rows) as found:
        found.turn(4)
        found.turn(4)
        found.thread.join(60)
        assert not found.thread.is_alive()
    with SearchInTurns(bench, InProcess(batch_size=2), rows) as found:
        found.turn(4)
        monkeypatch.setattr(found.strategy, "tell", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            found.turn(4)


# ---- the model -------------------------------------------------------------------------------


def test_a_run_of_the_model_is_a_search_to_its_end(model):
    executor = VirtualWorkers(workers=8, durations=DURATIONS, deaths=0.02, restart_s=5.0)
    course = model.run("nsga2", NSGA2(SPACE, population_size=10), executor, 60)
    assert (course.results, course.is_whole) == (60, True)
    assert course.seconds == sorted(course.seconds)
    assert course.hypervolumes == sorted(course.hypervolumes)
    assert len(course.seconds) == len(course.hypervolumes)
    assert course.driver_ms > 0
    assert 0 < course.utilisation <= 1
    assert course.reached(course.hypervolumes[-1]) in course.seconds
    assert course.reached(1.1) is None


def test_a_run_ends_when_its_real_time_is_up(model):
    short = Model(model.problem, model.feasibility, model.goal, model.folder, run_s=0.0)
    executor = VirtualWorkers(workers=2, durations=DURATIONS)
    course = short.run("random", RandomSearch(SPACE), executor, 500)
    assert not course.is_whole
    assert 0 < course.results < 500


def test_the_driver_is_measured_with_groups_of_at_most_what_is_in_flight(model):
    course = scaling_model.driver_course(model, 10, 96)
    assert course.results == 96
    assert 8 <= course.results / len(course.seconds) <= (10 + 2) * 2


def test_the_real_pool_is_measured_by_workers_that_answer_at_once(model):
    assert scaling_model.pool_rate(model, 5, 80) > 0
    with Ledger.open(model.folder / "run.sqlite", read_only=True) as ledger:
        found = ledger.observations()
    assert len({o.genes for o in found}) == 80
    assert {o.value for o in found} == {0.5}


def test_more_workers_are_tried_until_half_of_them_idle(model, monkeypatch):
    tried = []

    def run(name, strategy, executor, evaluations):
        tried.append((executor.workers, executor.in_generations))
        return Course(
            name, executor.workers, executor.in_generations, evaluations,
            utilisation=0.9 if executor.workers < 100 else 0.4,
        )  # fmt: skip

    class Fixed:
        problem = model.problem

    fixed = Fixed()
    fixed.run = run
    courses = scaling_model.model_strategies(fixed, DURATIONS, ["random"], (10, 100, 1000))
    assert tried == [(10, False), (10, True), (100, False), (100, True)]
    assert [course.results for course in courses] == [300, 300, 500, 500]


def test_the_table_of_the_model():
    whole = Course("a", 10, False, 300, True, 0.9, 2.0, [1.0, 2.0, 5.0], [0.1, 0.3, 0.4])
    together = Course("a", 10, True, 300, True, 0.55, 2.0, [2.0, 8.0], [0.2, 0.3])
    cut = Course("b", 100, False, 20, False, 0.1, 500.0, [1.0], [0.1])
    first, second = rows_of([whole, together, cut], evaluation_s=1.0, goal=0.3)
    assert list(first.values()) == ["a", 10, "90 %", "55 %", "2", "8", "2", "500", "300"]
    assert tuple(first) == scaling_model.HEAD
    assert list(second.values()) == ["b", 100, "10 %", "", "-", "-", "500", "2", "20 (cut)"]
