import numpy as np

from strategies import Problem, check_feasible, hypervolume
from strategies.result import HistoryRecorder, reference_points
from tests.strategies.doubles import SPACE, FormulaAccuracy, LayerCost


def test_history_is_the_hypervolume_of_what_counts_so_far():
    rng = np.random.default_rng(0)
    objectives = rng.random((40, 3))
    counts = rng.random(40) < 0.7
    references = [(0.9, 0.8), (0.9, 0.5)]
    recorder = HistoryRecorder(("a", "b"), references)
    for row, does_count in zip(objectives, counts, strict=True):
        recorder.add(row, counts=bool(does_count), seconds=0.5)
    history = recorder.history()
    for i in range(40):
        so_far = objectives[: i + 1][counts[: i + 1]]
        for t, (error, latency) in enumerate(references):
            expected = hypervolume(so_far[:, [0, t + 1]], [error, latency]) / (error * latency)
            np.testing.assert_allclose(history.hypervolumes[i, t], expected)
    np.testing.assert_allclose(history.seconds, 0.5 * np.arange(1, 41))
    assert recorder.latest == dict(zip("ab", history.hypervolumes[-1], strict=True))


def test_a_group_is_taken_in_as_if_its_evaluations_came_one_by_one():
    rng = np.random.default_rng(1)
    objectives = rng.integers(0, 6, (60, 3)) / 6  # many are equal
    objectives[::7, 0] = np.nan
    counts = (rng.random((60, 2)) < 0.7) & ~np.isnan(objectives[:, :1])
    seconds = rng.random(60).tolist()
    alone, together = (HistoryRecorder(("a", "b"), [(0.9, 0.8), (0.9, 0.5)]) for _ in range(2))
    for i in range(60):
        alone.add(objectives[i], counts=counts[i], seconds=seconds[i])
    for part in np.split(np.arange(60), [1, 20, 20, 59]):
        together.extend(objectives[part], counts[part], [seconds[i] for i in part])
    np.testing.assert_allclose(together.history().hypervolumes, alone.history().hypervolumes)
    np.testing.assert_allclose(together.history().seconds, np.cumsum(seconds))
    assert together.latest == alone.latest


def test_references_are_the_limit_or_the_slowest_and_guessing():
    costs = [LayerCost(SPACE, "board"), LayerCost(SPACE, "phone")]
    problem = Problem(SPACE, FormulaAccuracy(SPACE), costs, {("latency_ms", "board"): 0.5})
    feasibility = check_feasible(problem)
    board, phone = reference_points(problem, feasibility)
    np.testing.assert_allclose(board, (0.9, 0.55))
    np.testing.assert_allclose(phone, (0.9, 1.1 * feasibility.ranges[1].highest))
