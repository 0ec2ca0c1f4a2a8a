import numpy as np
import pytest

from records import Ledger, Measured, StorageError
from search_spaces import WithPlatform
from strategies import Finished, Problem
from strategies.evaluations import Evaluations
from tests.strategies.doubles import SPACE, TINY, FormulaAccuracy, LayerCost

PLATFORM = WithPlatform(base=TINY, platform=(("device.rows", (8, 16, 32)),))


def problem(space=SPACE):
    return Problem(space, FormulaAccuracy(SPACE), [LayerCost(space)], {})


def fixed_rows(n):
    rows = np.unique(SPACE.sample(2 * n, np.random.default_rng(0), "architectures"), axis=0)
    return rows[:n]


def keys(rows):
    return [tuple(row) for row in rows.tolist()]


def finished(rows, values, worker="w"):
    results = tuple(Measured(value=value, seconds=2.0) for value in values)
    return Finished(genes=rows, results=results, worker=worker)


def test_rows_are_observed_in_the_order_of_asking_whatever_the_order_of_finishing():
    evaluations, submitted = Evaluations(problem(), None), []
    rows = fixed_rows(6)
    assert evaluations.ask(rows[:3], 0, submitted.append)
    assert evaluations.ask(rows[3:], 1, submitted.append)
    np.testing.assert_array_equal(np.concatenate(submitted), rows)
    assert (evaluations.pending, evaluations.count) == (6, 6)
    assert evaluations.settle([]) == []
    parts = [finished(rows[[5, 1]], [0.6, 0.2]), finished(rows[[0]], [0.1], "v")]
    observed = evaluations.settle(parts)
    assert [o.genes for o in observed] == keys(rows[[0, 1, 5]])
    assert [(o.value, o.step, o.seconds) for o in observed] == [
        (0.1, 0, 2.0), (0.2, 0, 2.0), (0.6, 1, 2.0)
    ]  # fmt: skip
    assert (evaluations.pending, evaluations.count) == (3, 6)
    assert evaluations.by_worker == {"w": 2, "v": 1}


def test_a_network_in_flight_is_not_submitted_again_for_another_platform():
    evaluations, submitted = Evaluations(problem(PLATFORM), None), []
    base = TINY.extremes("largest")
    rows = np.array([[*base[0], device] for device in range(3)], np.int16)
    assert evaluations.ask(rows[:2], 0, submitted.append)
    assert not evaluations.ask(rows[2:], 1, submitted.append)
    assert len(submitted) == 1
    np.testing.assert_array_equal(submitted[0], rows[:1])
    assert evaluations.pending == 3
    observed = evaluations.settle([finished(rows[:1], [0.7])])
    assert [o.genes for o in observed] == keys(rows)
    assert [o.value for o in observed] == [0.7] * 3
    assert [o.seconds for o in observed] == [2.0, 0.0, 0.0], "only one was paid for"


def test_what_the_ledger_has_is_not_submitted():
    rows = fixed_rows(4)
    with Ledger.create("sqlite://", {}) as ledger:
        first = Evaluations(problem(), ledger)
        first.ask(rows[:2], 0, lambda genes: None)
        first.settle([finished(rows[:2], [0.1, 0.2])])
        second, submitted = Evaluations(problem(), ledger), []
        assert second.is_recorded(rows).tolist() == [True, True, False, False]
        assert not second.ask(rows[:2], 0, submitted.append)
        assert [o.value for o in second.settle([])] == [0.1, 0.2]
        assert second.ask(rows, 1, submitted.append)
        np.testing.assert_array_equal(submitted[0], rows[2:])
        assert second.reused == 2
        third = Evaluations(problem(), ledger)
        assert third.recall(1) == ledger.observations()[:1]
        assert third.count == third.reused == 1


def test_whether_results_came_out_of_order_is_kept_in_the_ledger():
    with Ledger.create("sqlite://", {}) as ledger:
        assert not Evaluations(problem(), ledger).is_out_of_order
        for executor in ("4 processes", "9 Ray workers"):
            Evaluations(problem(), ledger).note_out_of_order(executor)
        assert ledger.notes("search out of order") == ["4 processes"]
        assert Evaluations(problem(), ledger).is_out_of_order
    without = Evaluations(problem(), None)
    without.note_out_of_order("4 processes")
    assert not without.is_out_of_order


def test_a_group_that_cannot_be_committed_does_not_count(monkeypatch):
    rows = fixed_rows(2)
    with Ledger.create("sqlite://", {}) as ledger:
        evaluations = Evaluations(problem(), ledger)
        evaluations.ask(rows, 0, lambda genes: None)

        def refuse(observations):
            raise StorageError("the disk is full")

        monkeypatch.setattr(ledger, "append", refuse)
        with pytest.raises(StorageError):
            evaluations.settle([finished(rows, [0.1, 0.2])])
        assert evaluations.observations == []
        assert evaluations.pending == 2
        monkeypatch.undo()
        assert [o.value for o in evaluations.settle([])] == [0.1, 0.2]
        assert len(ledger) == 2
